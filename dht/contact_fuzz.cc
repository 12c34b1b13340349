#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "dht/key.h"

namespace koinon::dht {
namespace {

// Refused with a reason, or written as it was read.
void ReadAny(const v1::Contact& proto) {
  const auto contact = ContactFromProto(proto);
  if (!contact.ok()) {
    KOINON_CHECK(absl::IsInvalidArgument(contact.status()));
    KOINON_CHECK(!contact.status().message().empty());
    return;
  }
  const v1::Contact again = ContactToProto(*contact);
  KOINON_CHECK(again.node_id() == proto.node_id());
  KOINON_CHECK(again.address() == proto.address());
  KOINON_CHECK(again.site() == proto.site());
}

}  // namespace
}  // namespace koinon::dht

// The contacts and providers in any answer of another node.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  koinon::v1::AskReply reply;
  if (!reply.ParseFromArray(data, static_cast<int>(size))) return 0;
  koinon::dht::ReadAny(reply.sender());
  for (const auto& contact : reply.closer()) koinon::dht::ReadAny(contact);
  for (const auto& provider : reply.providers()) {
    koinon::dht::ReadAny(provider.contact());
  }
  return 0;
}
