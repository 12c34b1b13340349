#include "tests/integration/test_worker.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_macros.h"

namespace koinon::testing {
namespace {

// A test that waits for longer than this has failed, however slow the machine.
constexpr int kPatienceSeconds = 120;

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

void SetPatience(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::seconds(kPatienceSeconds));
}

}  // namespace

TestWorker::TestWorker(std::shared_ptr<grpc::Channel> channel, std::string name)
    : channel_(std::move(channel)),
      stub_(v1::WorkerService::NewStub(channel_)),
      name_(std::move(name)) {
  hello_.mutable_protocol()->set_major(1);
  hello_.set_software_version("test");
  hello_.set_worker(name_);
  auto* dataset = hello_.mutable_capabilities()->add_datasets();
  dataset->set_name("data");
  dataset->set_examples(10);
  dataset->set_held_out_examples(5);
  SetPatience(&context_);
}

TestWorker::~TestWorker() {
  if (session_ == nullptr) return;
  context_.TryCancel();
  session_->Finish();
}

void TestWorker::Open() {
  session_ = stub_->Session(&context_);
  v1::WorkerMessage message;
  *message.mutable_hello() = hello_;
  Send(message);
}

void TestWorker::Send(const v1::WorkerMessage& message) {
  session_->Write(message);
}

absl::StatusOr<v1::CoordinatorMessage> TestWorker::Await(
    v1::CoordinatorMessage::MessageCase kind) {
  v1::CoordinatorMessage message;
  while (session_->Read(&message)) {
    if (message.message_case() == kind) return message;
  }
  const grpc::Status status = session_->Finish();
  session_ = nullptr;
  if (status.ok()) return absl::OutOfRangeError("the session ended");
  return FromGrpc(status);
}

std::string TestWorker::BytesOf(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

v1::UpdateHeader TestWorker::HeaderFor(const v1::OfferTask& offer,
                                       const std::vector<float>& values,
                                       int64_t examples) const {
  const std::string bytes = BytesOf(values);
  v1::UpdateHeader header;
  *header.mutable_task() = offer.task();
  header.set_base_version(offer.base_version());
  header.set_base_digest(offer.base_digest());
  header.set_layout_hash(offer.layout_hash());
  header.set_size_bytes(static_cast<int64_t>(bytes.size()));
  header.set_digest(Sha256Of(bytes).ToBytes());
  header.mutable_metrics()->set_examples(examples);
  header.mutable_metrics()->set_loss(1);
  header.set_worker(name_);
  return header;
}

void TestWorker::Announce(const v1::UpdateHeader& header) {
  v1::WorkerMessage message;
  *message.mutable_update_ready()->mutable_header() = header;
  Send(message);
}

absl::StatusOr<v1::PushUpdateReply> TestWorker::Push(
    const v1::UpdateHeader& header, const std::string& bytes, int64_t offset,
    size_t chunk, size_t limit) {
  grpc::ClientContext context;
  SetPatience(&context);
  v1::PushUpdateReply reply;
  const auto writer = stub_->PushUpdate(&context, &reply);
  v1::PushUpdateRequest request;
  *request.mutable_header() = header;
  writer->Write(request);
  size_t sent = 0;
  for (size_t at = offset; at < bytes.size() && sent < limit;
       at += chunk, ++sent) {
    request.mutable_chunk()->set_offset(static_cast<int64_t>(at));
    request.mutable_chunk()->set_data(bytes.substr(at, chunk));
    if (!writer->Write(request)) break;
  }
  writer->WritesDone();
  const grpc::Status status = writer->Finish();
  if (!status.ok()) return FromGrpc(status);
  return reply;
}

absl::StatusOr<v1::PushUpdateReply> TestWorker::TrainOnce(
    const std::vector<float>& values, int64_t examples) {
  ABSL_ASSIGN_OR_RETURN(const v1::CoordinatorMessage offer,
                        Await(v1::CoordinatorMessage::kOfferTask));
  const v1::UpdateHeader header =
      HeaderFor(offer.offer_task(), values, examples);
  Announce(header);
  ABSL_ASSIGN_OR_RETURN(const v1::CoordinatorMessage grant,
                        Await(v1::CoordinatorMessage::kGrantUpload));
  return Push(header, BytesOf(values), grant.grant_upload().offset(), 1 << 20);
}

absl::StatusOr<std::string> TestWorker::Pull(const std::string& job,
                                             int64_t version, int64_t offset,
                                             v1::ModelManifest* manifest) {
  grpc::ClientContext context;
  SetPatience(&context);
  v1::PullModelRequest request;
  request.set_job(job);
  request.set_version(version);
  request.set_offset(offset);
  const auto reader = stub_->PullModel(&context, request);
  v1::PullModelReply reply;
  std::string bytes;
  while (reader->Read(&reply)) {
    if (reply.has_manifest()) *manifest = reply.manifest();
    if (!reply.has_chunk()) continue;
    if (reply.chunk().offset() != offset + static_cast<int64_t>(bytes.size())) {
      return absl::DataLossError("a chunk is out of place");
    }
    bytes += reply.chunk().data();
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return FromGrpc(status);
  return bytes;
}

}  // namespace koinon::testing
