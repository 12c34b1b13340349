#include "worker/client/grpc_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/digest.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "base/tls.h"
#include "worker/testing/fake_coordinator.h"

namespace koinon::worker {
namespace {

using ::testing::HasSubstr;

std::string SomeBytes(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 131 >> 3);
  return bytes;
}

std::unique_ptr<GrpcClient> NewClient(
    const std::string& target,
    absl::Duration stall_timeout = absl::Seconds(20)) {
  GrpcClient::Options options;
  options.target = target;
  options.credentials = MakeInsecureChannelCredentials();
  options.stall_timeout = stall_timeout;
  options.reply_timeout = stall_timeout;
  auto client = GrpcClient::Create(std::move(options));
  EXPECT_THAT(client, IsOk());
  return *std::move(client);
}

// Collects what a session tells.
class SessionLog {
 public:
  CoordinatorClient::SessionCallbacks callbacks() {
    return {[this](const v1::CoordinatorMessage& message) {
              MutexLock lock(&mutex_);
              messages_.push_back(message);
              changed_.SignalAll();
            },
            [this](const absl::Status& status) {
              MutexLock lock(&mutex_);
              closed_ = status;
              is_closed_ = true;
              changed_.SignalAll();
            }};
  }
  v1::CoordinatorMessage WaitForMessage(size_t index) {
    MutexLock lock(&mutex_);
    while (messages_.size() <= index && !is_closed_) changed_.Wait(&mutex_);
    return messages_.at(index);
  }
  absl::Status WaitForClose() {
    MutexLock lock(&mutex_);
    while (!is_closed_) changed_.Wait(&mutex_);
    return closed_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<v1::CoordinatorMessage> messages_;
  bool is_closed_ = false;
  absl::Status closed_;
};

TEST(GrpcClient_Create, TargetWithoutPort_IsRefused) {
  for (const char* target :
       {"", "host", "host:", ":1", "host:0", "host:99999"}) {
    GrpcClient::Options options;
    options.target = target;
    options.credentials = MakeInsecureChannelCredentials();
    EXPECT_THAT(
        GrpcClient::Create(options),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("HOST:PORT")))
        << target;
  }
}

TEST(GrpcClient_Session, Welcomed_SendsAndReceivesInOrder) {
  FakeCoordinator coordinator({});
  const auto client = NewClient(coordinator.target());
  SessionLog log;
  v1::Hello hello;
  hello.set_worker("w");
  const auto session = client->OpenSession(hello, log.callbacks());
  EXPECT_TRUE(log.WaitForMessage(0).has_welcome());
  for (int i = 0; i < 3; ++i) {
    v1::WorkerMessage message;
    message.mutable_goodbye()->set_reason(std::to_string(i));
    session->Send(message);
  }
  session->FinishSending();
  EXPECT_OK(log.WaitForClose());
  const auto heard = coordinator.heard();
  ASSERT_EQ(heard.messages.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(heard.messages[i].goodbye().reason(), std::to_string(i));
  }
  EXPECT_EQ(heard.hellos.at(0).worker(), "w");
}

TEST(GrpcClient_Session, Refused_ClosesWithTheReason) {
  FakeCoordinator::Knobs knobs;
  knobs.refuse_session =
      absl::FailedPreconditionError("worker speaks 1.0, coordinator 2.0");
  FakeCoordinator coordinator(knobs);
  const auto client = NewClient(coordinator.target());
  SessionLog log;
  const auto session = client->OpenSession(v1::Hello(), log.callbacks());
  EXPECT_THAT(log.WaitForClose(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("worker speaks 1.0, coordinator 2.0")));
}

TEST(GrpcClient_Session, NobodyThere_IsUnavailable) {
  std::string target;
  {
    FakeCoordinator gone({});
    target = gone.target();
  }
  const auto client = NewClient(target);
  SessionLog log;
  const auto session = client->OpenSession(v1::Hello(), log.callbacks());
  EXPECT_THAT(log.WaitForClose(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST(GrpcClient_Session, Destroyed_EndsTheStream) {
  FakeCoordinator coordinator({});
  const auto client = NewClient(coordinator.target());
  SessionLog log;
  auto session = client->OpenSession(v1::Hello(), log.callbacks());
  log.WaitForMessage(0);
  session.reset();
  EXPECT_THAT(log.WaitForClose(), StatusIs(absl::StatusCode::kCancelled));
}

class PushTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(env_.MakeDirs("/d"));
    ASSERT_OK(WriteFileAtomically(&env_, "/d/u", update_));
    ASSERT_OK_AND_ASSIGN(file_, env_.Open("/d/u", Env::OpenMode::kRead));
    push_.header.mutable_task()->set_job("job");
    push_.header.mutable_task()->set_round(1);
    push_.header.set_size_bytes(static_cast<int64_t>(update_.size()));
    push_.header.set_digest(Sha256Of(update_).ToBytes());
    push_.chunk_bytes = 1024;
    push_.offset = 0;
  }

  const std::string update_ = SomeBytes(10'000);
  MemoryEnv env_;
  std::unique_ptr<File> file_;
  StartPush push_;
  Cancellation cancellation_;
};

TEST_F(PushTest, WholeUpdate_IsAccepted) {
  FakeCoordinator coordinator({});
  const auto client = NewClient(coordinator.target());
  const PushOutcome outcome = client->PushUpdate(push_, *file_, &cancellation_);
  ASSERT_OK(outcome.status);
  EXPECT_TRUE(outcome.accepted);
  EXPECT_EQ(coordinator.heard().updates.at("job/1"), update_);
}

TEST_F(PushTest, Broken_GoesOnFromTheGrantedOffset) {
  FakeCoordinator::Knobs knobs;
  knobs.break_pushes = 1;
  FakeCoordinator coordinator(knobs);
  const auto client = NewClient(coordinator.target());
  EXPECT_THAT(client->PushUpdate(push_, *file_, &cancellation_).status,
              StatusIs(absl::StatusCode::kUnavailable));
  push_.offset = 5 * 1024;  // the fake breaks after the chunk that passes half
  const PushOutcome outcome = client->PushUpdate(push_, *file_, &cancellation_);
  ASSERT_OK(outcome.status);
  EXPECT_EQ(coordinator.heard().updates.at("job/1"), update_);
}

TEST_F(PushTest, Refused_SaysWhy) {
  FakeCoordinator::Knobs knobs;
  knobs.refuse_update = true;
  FakeCoordinator coordinator(knobs);
  const auto client = NewClient(coordinator.target());
  const PushOutcome outcome = client->PushUpdate(push_, *file_, &cancellation_);
  ASSERT_OK(outcome.status);
  EXPECT_FALSE(outcome.accepted);
  EXPECT_EQ(outcome.reason, "not wanted");
}

TEST_F(PushTest, UnreadableFile_IsTheFilesFault) {
  FakeCoordinator coordinator({});
  const auto client = NewClient(coordinator.target());
  push_.header.set_size_bytes(20'000);
  const PushOutcome outcome = client->PushUpdate(push_, *file_, &cancellation_);
  EXPECT_OK(outcome.status);
  EXPECT_THAT(outcome.file_status, StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(PushTest, SilentCoordinator_IsGivenUp) {
  FakeCoordinator::Knobs knobs;
  knobs.stall_pushes = true;
  FakeCoordinator coordinator(knobs);
  const auto client = NewClient(coordinator.target(), absl::Milliseconds(50));
  EXPECT_THAT(
      client->PushUpdate(push_, *file_, &cancellation_).status,
      StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("no progress")));
}

TEST_F(PushTest, Cancelled_SaysSo) {
  FakeCoordinator coordinator({});
  const auto client = NewClient(coordinator.target());
  cancellation_.Cancel();
  EXPECT_THAT(client->PushUpdate(push_, *file_, &cancellation_).status,
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(PushTest, NobodyThere_IsUnavailable) {
  std::string target;
  {
    FakeCoordinator gone({});
    target = gone.target();
  }
  const auto client = NewClient(target);
  EXPECT_THAT(client->PushUpdate(push_, *file_, &cancellation_).status,
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace koinon::worker
