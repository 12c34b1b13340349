#include "dht/swarm/fetch_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/status_matchers.h"
#include "dht/swarm/testing_host.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;

// Answers with what it is given, whatever is asked.
class Recital final
    : public grpc::ServerBidiReactor<v1::FetchRequest, v1::FetchReply> {
 public:
  explicit Recital(std::vector<v1::FetchReply> replies)
      : replies_(std::move(replies)) {
    OnWriteDone(true);
  }
  void OnWriteDone(bool ok) override {
    if (!ok || next_ == replies_.size()) return Finish(grpc::Status::OK);
    StartWrite(&replies_[next_++]);
  }
  void OnDone() override { delete this; }

 private:
  const std::vector<v1::FetchReply> replies_;
  size_t next_ = 0;
};

v1::FetchReply BlockOf(uint32_t piece, const std::string& data) {
  v1::FetchReply reply;
  reply.mutable_block()->set_piece(piece);
  reply.mutable_block()->set_data(data);
  return reply;
}

// A block whose length goes beyond its end.
v1::FetchReply NoReply() {
  v1::FetchReply reply;
  reply.GetReflection()->MutableUnknownFields(&reply)->AddLengthDelimited(
      v1::FetchReply::kBlockFieldNumber, "\x1a\x7f");
  return reply;
}

class FetchStreamTest : public testing::Test {
 protected:
  void Start(const std::vector<v1::FetchReply>& replies) {
    host_ = std::make_unique<TestHost>(TestHost::Options{
        .name = "host",
        .serve_instead = [replies] { return new Recital(replies); }});
    stream_ = FetchStream::Start(
        host_->ChannelTo(host_->self().address), v1::FetchRequest(),
        [this] { Set(&ready_); }, [this] { Set(&gone_); });
  }
  void TearDown() override {
    stream_->Cancel();
    MutexLock lock(&mutex_);
    while (!gone_) changed_.Wait(&mutex_);
  }

  // All that can be taken until the stream is over.
  std::vector<v1::FetchReply> TakeAll() {
    std::vector<v1::FetchReply> taken;
    v1::FetchReply reply;
    std::string spare;
    while (!stream_->over()) {
      if (stream_->Take(&reply, &spare)) {
        taken.push_back(reply);
        continue;
      }
      MutexLock lock(&mutex_);
      while (!std::exchange(ready_, false)) changed_.Wait(&mutex_);
    }
    return taken;
  }

  void Set(bool* what) {
    MutexLock lock(&mutex_);
    *what = true;
    changed_.Signal();
  }

  std::unique_ptr<TestHost> host_;
  std::shared_ptr<FetchStream> stream_;
  Mutex mutex_;
  CondVar changed_;
  bool ready_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
};

TEST_F(FetchStreamTest, Replies_ComeInOrderAndAsTheyWereSent) {
  v1::FetchReply have;
  have.mutable_have()->add_pieces(5);
  const std::vector<v1::FetchReply> sent = {
      BlockOf(0, std::string(100'000, 'a')), have, BlockOf(1, "b"),
      v1::FetchReply(), BlockOf(2, std::string(200'000, 'c'))};
  Start(sent);
  const std::vector<v1::FetchReply> taken = TakeAll();
  ASSERT_EQ(taken.size(), sent.size());
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ(taken[i].SerializeAsString(), sent[i].SerializeAsString()) << i;
  }
  EXPECT_THAT(stream_->status(), IsOk());
}

TEST_F(FetchStreamTest, BytesThatAreNoReply_EndTheCall) {
  Start({BlockOf(0, "a"), NoReply(), BlockOf(1, "b")});
  const std::vector<v1::FetchReply> taken = TakeAll();
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].block().data(), "a");
  EXPECT_THAT(stream_->status(), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace koinon::dht
