#include "dht/simulation/liar.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/digest.h"

namespace koinon::dht {
namespace {

constexpr size_t kNamed = 20;  // as many as anybody listens to

std::string TargetOf(const v1::AskRequest& question) {
  switch (question.question_case()) {
    case v1::AskRequest::kFindNode:
      return question.find_node().target();
    case v1::AskRequest::kGetRecord:
      return question.get_record().key();
    case v1::AskRequest::kPutRecord:
      return question.put_record().key();
    case v1::AskRequest::kAddProvider:
      return question.add_provider().key();
    case v1::AskRequest::kGetProviders:
      return question.get_providers().key();
    default:
      return "";
  }
}

// As near to the target as somebody would be who could choose its id.
Contact Invented(const Key& target, Random* random) {
  const std::string name = absl::StrCat("x", random->NextUint64());
  const size_t bits = 8 + random->NextBelow(24);
  return {KeyInBucket(target, bits, Sha256Of(name)), absl::StrCat(name, ":1"),
          ""};
}

// As those that are closer, and, if providers are wanted, as providers.
void Name(const Contact& contact, const v1::AskRequest& question,
          v1::AskReply* reply) {
  *reply->add_closer() = ContactToProto(contact);
  if (!question.has_get_providers()) return;
  v1::Provider* const provider = reply->add_providers();
  *provider->mutable_contact() = ContactToProto(contact);
  provider->set_expires_seconds(600);
}

}  // namespace

std::vector<Contact> Colluders::Closest(const Key& target, size_t count) const {
  // The ids that share the most bits with the target stand beside it: of two
  // windows around it the closest are the closest of all, if the windows are as
  // long as what is wanted (those on the wrong side of a halving included, a
  // few may be missed, which liars can bear).
  std::vector<Contact> near;
  const auto middle = by_id_.lower_bound(target);
  auto up = middle;
  for (size_t i = 0; i < 2 * count && up != by_id_.end(); ++i, ++up) {
    near.push_back(up->second);
  }
  auto down = middle;
  for (size_t i = 0; i < 2 * count && down != by_id_.begin(); ++i) {
    near.push_back((--down)->second);
  }
  std::sort(near.begin(), near.end(), [&](const Contact& a, const Contact& b) {
    return Closer(target, a.id, b.id);
  });
  if (near.size() > count) near.resize(count);
  return near;
}

absl::StatusOr<v1::AskReply> AnswerFalsely(Lie lie, const Colluders& colluders,
                                           const v1::AskRequest& question,
                                           Random* random) {
  v1::AskReply reply;
  if (question.has_ping()) return reply;
  if (lie == Lie::kDrop) return absl::CancelledError();
  const absl::StatusOr<Key> target = Key::FromBytes(TargetOf(question));
  if (!target.ok()) return target.status();
  if (lie == Lie::kCollude) {
    for (const Contact& contact : colluders.Closest(*target, kNamed)) {
      Name(contact, question, &reply);
    }
    return reply;
  }
  for (size_t i = 0; i < kNamed; ++i) {
    Name(Invented(*target, random), question, &reply);
  }
  if (question.has_get_record()) {
    reply.mutable_record()->set_immutable(
        absl::StrCat("forged ", random->NextUint64()));
  }
  return reply;
}

}  // namespace koinon::dht
