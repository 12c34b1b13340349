#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/records/testing_signers.h"

namespace koinon::dht {
namespace {

// Refused with a reason, or a record that is as new as itself.
bool OpenAny(const Key& key, const v1::Record& record,
             const RecordTrust& trust) {
  const auto opened = OpenRecord(key, record, trust, VectorTime());
  if (!opened.ok()) {
    KOINON_CHECK(RejectionOf(opened.status()).has_value());
    KOINON_CHECK(!opened.status().message().empty());
    return false;
  }
  KOINON_CHECK(Compare(*opened, *opened) == Newer::kSame);
  KOINON_CHECK(opened->value.size() <= kMaxRecordBytes);
  return true;
}

// A body that is signed: if it opens, its signer would have written it so.
void OpenBody(const std::string& body, const LocalNode& signer,
              const RecordTrust& trust) {
  v1::MutableRecord parsed;
  if (!parsed.ParseFromString(body)) return;
  v1::Record record;
  record.set_signed_record(
      SignBody("koinon record 1", body, signer).SerializeAsString());
  const Key key =
      MutableKey(parsed.federation(), parsed.owner(), parsed.name());
  if (!OpenAny(key, record, trust) || parsed.owner() != signer.owner) return;
  const auto again = SignRecord(parsed, signer);
  KOINON_CHECK(again.ok());
  KOINON_CHECK(again->signed_record() == record.signed_record());
}

}  // namespace
}  // namespace koinon::dht

// A key and a serialised Record, which also is taken for the body of one.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kKeyBytes = koinon::dht::Key::kSizeBytes;
  static const auto* const kSigner =
      new koinon::LocalNode(koinon::dht::PlainNode('\x01', "north", "server"));
  koinon::dht::RecordTrust trust;
  trust.federation = "north";
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  koinon::dht::OpenBody(bytes, *kSigner, trust);
  if (size < kKeyBytes) return 0;
  koinon::v1::Record record;
  if (!record.ParseFromString(bytes.substr(kKeyBytes))) return 0;
  koinon::dht::OpenAny(*koinon::dht::Key::FromBytes(bytes.substr(0, kKeyBytes)),
                       record, trust);
  return 0;
}
