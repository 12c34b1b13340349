// A coordinator that is told to stop while an upload is under way.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/integration/coordinator_fixture.h"
#include "tests/integration/health.grpc.pb.h"

namespace koinon::testing {
namespace {

using ::grpc::health::v1::Health;
using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;
using ::testing::ElementsAre;

void SetPatience(grpc::ClientContext* context) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(1)));
}

// A push of which a test sends the two halves when it likes.
class HalvedPush {
 public:
  HalvedPush(const std::shared_ptr<grpc::Channel>& channel,
             const v1::UpdateHeader& header, const std::string& bytes)
      : stub_(v1::WorkerService::NewStub(channel)), bytes_(bytes) {
    SetPatience(&context_);
    writer_ = stub_->PushUpdate(&context_, &reply_);
    v1::PushUpdateRequest request;
    *request.mutable_header() = header;
    EXPECT_TRUE(writer_->Write(request));
    Send(0, bytes_.size() / 2);
  }
  // Sends the rest: the coordinator's answer, or the stream's error.
  absl::StatusOr<v1::PushUpdateReply> SendTheRest() {
    Send(bytes_.size() / 2, bytes_.size());
    return Finish();
  }
  absl::StatusOr<v1::PushUpdateReply> Finish() {
    const grpc::Status status = writer_->Finish();
    if (status.ok()) return reply_;
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                        status.error_message());
  }

 private:
  void Send(size_t from, size_t to) {
    v1::PushUpdateRequest request;
    request.mutable_chunk()->set_offset(static_cast<int64_t>(from));
    request.mutable_chunk()->set_data(bytes_.substr(from, to - from));
    writer_->Write(request);
  }

  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  const std::string bytes_;
  grpc::ClientContext context_;
  v1::PushUpdateReply reply_;
  std::unique_ptr<grpc::ClientWriter<v1::PushUpdateRequest>> writer_;
};

class DrainTest : public CoordinatorFixture {
 protected:
  std::unique_ptr<TestWorker> JoinedWorker(const std::string& name) {
    auto worker = NewWorker(name);
    worker->Open();
    EXPECT_THAT(worker->Await(v1::CoordinatorMessage::kWelcome), IsOk());
    return worker;
  }
  // Of worker "a", granted and half sent, in a round that also waits for "b".
  void BeginUpload() {
    auto b = JoinedWorker("b");
    a_ = JoinedWorker("a");
    v1::JobSpec spec = SmallJob("job", 1, 2);
    spec.mutable_model()->set_input_shape(0, kInputs);
    ASSERT_OK(Submit(spec));
    ASSERT_OK_AND_ASSIGN(auto offer,
                         a_->Await(v1::CoordinatorMessage::kOfferTask));
    header_ = a_->HeaderFor(offer.offer_task(), kValues, 10);
    a_->Announce(header_);
    ASSERT_OK(a_->Await(v1::CoordinatorMessage::kGrantUpload));
    push_ = std::make_unique<HalvedPush>(NewChannel(), header_,
                                         TestWorker::BytesOf(kValues));
  }
  // Tells the coordinator to stop; returns when it says that it does.
  void BeginStop() {
    const auto health = Health::NewStub(NewChannel());
    grpc::ClientContext context;
    SetPatience(&context);
    const auto reader = health->Watch(&context, HealthCheckRequest());
    HealthCheckResponse reply;
    ASSERT_TRUE(reader->Read(&reply));
    stopping_ = std::thread([this] { Stop(); });
    ASSERT_TRUE(reader->Read(&reply));
    EXPECT_EQ(reply.status(), HealthCheckResponse::NOT_SERVING);
    context.TryCancel();
    reader->Finish();
  }

  // Half of an update is more than a stream's window: once it is written, the
  // coordinator knows of the upload.
  static constexpr int kInputs = 200'000;
  const std::vector<float> kValues = std::vector<float>(2 * kInputs, 1.0f);
  v1::UpdateHeader header_;
  std::unique_ptr<TestWorker> a_;
  std::unique_ptr<HalvedPush> push_;
  std::thread stopping_;
};

TEST_F(DrainTest, Stop_UploadUnderWay_IsTakenAndKept) {
  spec_.drain_patience = absl::Minutes(1);
  Start();
  BeginUpload();
  BeginStop();
  ASSERT_OK_AND_ASSIGN(const auto reply, push_->SendTheRest());
  EXPECT_TRUE(reply.accepted());
  stopping_.join();

  Start();
  a_ = NewWorker("a");
  *a_->hello().add_held_updates() = header_;
  a_->Open();
  ASSERT_OK_AND_ASSIGN(auto settled,
                       a_->Await(v1::CoordinatorMessage::kUpdateSettled));
  EXPECT_EQ(settled.update_settled().outcome(), v1::UpdateSettled::ACCEPTED);
  auto b = JoinedWorker("b");
  ASSERT_OK(b->TrainOnce(kValues, 10));
  ASSERT_OK(AwaitEnd("job"));
  EXPECT_THAT(Rounds("job")[0].included(), ElementsAre("a", "b"));
}

TEST_F(DrainTest, Stop_UploadThatNeverEnds_IsCutOffAndTakenLater) {
  spec_.drain_patience = absl::Milliseconds(100);
  Start();
  BeginUpload();
  BeginStop();
  stopping_.join();
  EXPECT_FALSE(push_->Finish().ok());

  Start();
  a_ = JoinedWorker("a");
  ASSERT_OK(a_->TrainOnce(kValues, 10));
  auto b = JoinedWorker("b");
  ASSERT_OK(b->TrainOnce(kValues, 10));
  ASSERT_OK(AwaitEnd("job"));
  EXPECT_THAT(Rounds("job")[0].included(), ElementsAre("a", "b"));
}

}  // namespace
}  // namespace koinon::testing
