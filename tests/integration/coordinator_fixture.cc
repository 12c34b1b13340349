#include "tests/integration/coordinator_fixture.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/safetensors.h"

namespace koinon::testing {
namespace {

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

}  // namespace

void CoordinatorFixture::SetUp() {
  spec_.listen = "127.0.0.1:0";
  spec_.state_dir = absl::StrCat(
      ::testing::TempDir(), "/",
      ::testing::UnitTest::GetInstance()->current_test_info()->name());
  std::filesystem::remove_all(spec_.state_dir);
  spec_.insecure = true;
  spec_.drain_patience = absl::ZeroDuration();
}

void CoordinatorFixture::Start() {
  coordinator::Server::Options options;
  options.clock = &clock_;
  options.on_fatal = [](absl::Status status) {
    ADD_FAILURE() << "fatal: " << status;
  };
  auto server = coordinator::Server::Start(spec_, std::move(options));
  ASSERT_THAT(server, IsOk());
  server_ = *std::move(server);
  client_ = v1::ClientService::NewStub(NewChannel());
}

void CoordinatorFixture::Stop() {
  client_ = nullptr;
  server_ = nullptr;
}

std::shared_ptr<grpc::Channel> CoordinatorFixture::NewChannel() const {
  return NewChannel(grpc::InsecureChannelCredentials());
}

std::shared_ptr<grpc::Channel> CoordinatorFixture::NewChannel(
    const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port()),
                                   credentials, arguments);
}

std::unique_ptr<TestWorker> CoordinatorFixture::NewWorker(
    const std::string& name) const {
  return std::make_unique<TestWorker>(NewChannel(), name);
}

v1::JobSpec CoordinatorFixture::SmallJob(const std::string& name,
                                         int64_t rounds, int64_t workers) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->add_input_shape(3);
  auto* dense = spec.mutable_model()->mutable_layers()->add_layers();
  dense->mutable_dense()->set_units(2);
  dense->mutable_dense()->set_no_bias(true);
  spec.set_dataset("data");
  spec.set_rounds(rounds);
  spec.set_seed(1);
  spec.mutable_cohort()->set_target(workers);
  spec.mutable_cohort()->set_minimum(workers);
  spec.mutable_evaluation()->set_every_rounds(-1);
  return spec;
}

absl::StatusOr<v1::SubmitJobReply> CoordinatorFixture::Submit(
    const v1::JobSpec& spec) const {
  grpc::ClientContext context;
  v1::SubmitJobRequest request;
  *request.mutable_spec() = spec;
  v1::SubmitJobReply reply;
  const grpc::Status status = client_->SubmitJob(&context, request, &reply);
  if (!status.ok()) return FromGrpc(status);
  return reply;
}

absl::StatusOr<v1::JobStatus> CoordinatorFixture::Get(
    const std::string& name) const {
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_name(name);
  v1::JobStatus reply;
  const grpc::Status status = client_->GetJob(&context, request, &reply);
  if (!status.ok()) return FromGrpc(status);
  return reply;
}

absl::StatusOr<v1::JobEvent> CoordinatorFixture::AwaitEvent(
    const std::string& name,
    const std::function<bool(const v1::JobEvent&)>& done) const {
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  request.set_from_start(true);
  const auto reader = client_->WatchJob(&context, request);
  v1::JobEvent event;
  while (reader->Read(&event)) {
    if (!done(event)) continue;
    context.TryCancel();
    reader->Finish();
    return event;
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return FromGrpc(status);
  return absl::NotFoundError("the job ended before the event came");
}

absl::StatusOr<v1::JobStatus> CoordinatorFixture::AwaitEnd(
    const std::string& name) const {
  const auto event = AwaitEvent(name, [](const v1::JobEvent& e) {
    return e.has_status() && (e.status().state() == v1::SUCCEEDED ||
                              e.status().state() == v1::FAILED ||
                              e.status().state() == v1::CANCELLED);
  });
  if (!event.ok()) return event.status();
  return event->status();
}

std::vector<v1::RoundReport> CoordinatorFixture::Rounds(
    const std::string& name) const {
  grpc::ClientContext context;
  v1::ListRoundsRequest request;
  request.set_job(name);
  v1::ListRoundsReply reply;
  const grpc::Status status = client_->ListRounds(&context, request, &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return {reply.rounds().begin(), reply.rounds().end()};
}

std::vector<float> CoordinatorFixture::Values(const std::string& job,
                                              int64_t version) const {
  TestWorker puller(NewChannel(), "puller");
  v1::ModelManifest manifest;
  const auto bytes = puller.Pull(job, version, 0, &manifest);
  EXPECT_THAT(bytes, IsOk());
  if (!bytes.ok()) return {};
  EXPECT_EQ(Sha256Of(*bytes).ToBytes(), manifest.digest());
  const auto header = ParseSafetensorsHeader(*bytes, bytes->size());
  EXPECT_THAT(header, IsOk());
  std::vector<float> values(header->layout.total_elements());
  std::memcpy(values.data(), bytes->data() + header->data_offset_bytes,
              values.size() * sizeof(float));
  return values;
}

}  // namespace koinon::testing
