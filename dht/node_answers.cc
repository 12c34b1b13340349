#include "dht/node_answers.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"

namespace koinon::dht {
namespace {

constexpr size_t kMaxProvidersInAnswer = 64;

absl::StatusOr<Key> KeyOf(absl::string_view field, const std::string& bytes) {
  const absl::StatusOr<Key> key = Key::FromBytes(bytes);
  if (key.ok()) return key;
  return absl::InvalidArgumentError(absl::StrCat(
      field, ": expected ", Key::kSizeBytes, " bytes, found ", bytes.size()));
}

// Who asks, and what it says that it knows.
struct Asker {
  const Contact& contact;
  uint64_t closest;  // AskRequest.closest
};

// Who is closer, without the asker, unless it knows them.
void AddCloser(const NodeCore& core, const Asker& from, const Key& target,
               size_t count, v1::AskReply* reply) {
  if (from.closest != 0 && from.closest == core.DigestOfClosest(target)) return;
  for (const Contact& contact : core.table().Closest(target, count + 1)) {
    if (contact.id == from.contact.id) continue;
    if (reply->closer_size() == static_cast<int>(count)) break;
    *reply->add_closer() = ContactToProto(contact);
  }
}

// A refusal is an answer; a broken disk is not.
absl::Status Refused(const absl::Status& status, v1::AskReply* reply) {
  const std::optional<Rejection> reason = RejectionOf(status);
  if (!reason.has_value()) return status;
  reply->set_rejection(std::string(RejectionName(*reason)));
  return absl::OkStatus();
}

absl::StatusOr<v1::AskReply> AnswerFindNode(const NodeCore& core,
                                            const Asker& from,
                                            const v1::FindNode& question) {
  ABSL_ASSIGN_OR_RETURN(const Key target,
                        KeyOf("find_node.target", question.target()));
  if (question.count() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "find_node.count: expected zero or more, found ", question.count()));
  }
  const size_t count =
      question.count() == 0 ? core.options().k : question.count();
  v1::AskReply reply;
  AddCloser(core, from, target, std::min(count, kMaxContactsInAnswer), &reply);
  return reply;
}

absl::StatusOr<v1::AskReply> AnswerGetRecord(NodeCore* core, const Asker& from,
                                             const v1::GetRecord& question) {
  ABSL_ASSIGN_OR_RETURN(const Key key, KeyOf("get_record.key", question.key()));
  v1::AskReply reply;
  AddCloser(*core, from, key, core->options().k, &reply);
  auto stored = core->store().Get(key, core->Now());
  if (stored.has_value()) *reply.mutable_record() = std::move(stored->record);
  return reply;
}

absl::StatusOr<v1::AskReply> AnswerPutRecord(NodeCore* core, const Asker& from,
                                             const v1::PutRecord& question) {
  ABSL_ASSIGN_OR_RETURN(const Key key, KeyOf("put_record.key", question.key()));
  v1::AskReply reply;
  AddCloser(*core, from, key, core->options().k, &reply);
  ABSL_RETURN_IF_ERROR(Refused(
      core->KeepRecord(key, question.record(), from.contact.id), &reply));
  return reply;
}

absl::StatusOr<v1::AskReply> AnswerAddProvider(
    NodeCore* core, const Asker& from, const v1::AddProvider& question) {
  ABSL_ASSIGN_OR_RETURN(const Key key,
                        KeyOf("add_provider.key", question.key()));
  v1::AskReply reply;
  AddCloser(*core, from, key, core->options().k, &reply);
  if (from.contact.address.empty()) {
    // A node announces only itself, and who cannot be reached serves nobody.
    core->Count("refused_client_provider");
    reply.set_rejection(std::string(RejectionName(Rejection::kNotSelf)));
    return reply;
  }
  ABSL_RETURN_IF_ERROR(Refused(
      core->store().AddProvider(key, from.contact, core->Now()), &reply));
  return reply;
}

absl::StatusOr<v1::AskReply> AnswerGetProviders(
    NodeCore* core, const Asker& from, const v1::GetProviders& question) {
  ABSL_ASSIGN_OR_RETURN(const Key key,
                        KeyOf("get_providers.key", question.key()));
  v1::AskReply reply;
  AddCloser(*core, from, key, core->options().k, &reply);
  const absl::Time now = core->Now();
  for (const RecordStore::ProviderUntil& provider : core->store().Providers(
           key, kMaxProvidersInAnswer, now, from.contact.site)) {
    v1::Provider* proto = reply.add_providers();
    *proto->mutable_contact() = ContactToProto(provider.contact);
    proto->set_expires_seconds(absl::ToDoubleSeconds(provider.expires - now));
  }
  return reply;
}

}  // namespace

absl::StatusOr<v1::AskReply> AnswerQuestion(NodeCore* core,
                                            const Contact& asker,
                                            const v1::AskRequest& question) {
  // A client is in no table.
  if (!asker.address.empty()) core->Heard(asker, /*itself=*/true);
  const Asker from = {asker, question.closest()};
  switch (question.question_case()) {
    case v1::AskRequest::kPing:
      return v1::AskReply();
    case v1::AskRequest::kFindNode:
      return AnswerFindNode(*core, from, question.find_node());
    case v1::AskRequest::kGetRecord:
      return AnswerGetRecord(core, from, question.get_record());
    case v1::AskRequest::kPutRecord:
      return AnswerPutRecord(core, from, question.put_record());
    case v1::AskRequest::kAddProvider:
      return AnswerAddProvider(core, from, question.add_provider());
    case v1::AskRequest::kGetProviders:
      return AnswerGetProviders(core, from, question.get_providers());
    case v1::AskRequest::QUESTION_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "question: expected one of ping, find_node, get_record, put_record, "
      "add_provider and get_providers, found none that this version knows");
}

}  // namespace koinon::dht
