#include "tools/bench/swarm_mill.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/swarm/leaf_hashes.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::bench {
namespace {

using ::testing::HasSubstr;

// Not whole blocks, nor whole leaves.
constexpr size_t kBytes = (600 << 10) + 5;

std::vector<uint8_t> Drawn(size_t size) {
  Random random(7);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.NextUint64());
  return bytes;
}

absl::Status Nothing(absl::Span<const uint8_t>) { return absl::OkStatus(); }

std::vector<uint8_t> Content(Env* env, const std::string& path) {
  const auto file = env->Open(path, Env::OpenMode::kRead);
  EXPECT_THAT(file.status(), IsOk());
  std::vector<uint8_t> bytes(*(*file)->Size());
  EXPECT_THAT((*file)->ReadAt(0, bytes.size(), bytes.data()), IsOk());
  return bytes;
}

// One that serves, and a channel to it.
class Mill {
 public:
  Mill(int64_t size_bytes, std::unique_ptr<File> file)
      : service_(NewMillService(size_bytes, std::move(file))) {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                   grpc::InsecureChannelCredentials());
  }
  std::shared_ptr<grpc::Channel> channel() const { return channel_; }

 private:
  const std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

class SwarmMillTest : public ::testing::Test {
 protected:
  std::unique_ptr<File> Write(absl::Span<const uint8_t> bytes) {
    auto file = env_.Open("model", Env::OpenMode::kCreate);
    EXPECT_THAT(file.status(), IsOk());
    EXPECT_THAT((*file)->WriteAt(0, bytes.data(), bytes.size()), IsOk());
    return *std::move(file);
  }
  absl::Status Copy(const Mill& mill, std::vector<Digest> leaves) {
    auto copy = VerifiedCopy::Create(&env_, "copy", std::move(leaves));
    EXPECT_THAT(copy.status(), IsOk());
    const absl::Status pulled = PullThroughMill(
        mill.channel(), kBytes, [&](absl::Span<const uint8_t> bytes) {
          return (*copy)->Append(bytes);
        });
    return pulled.ok() ? (*copy)->Finish() : pulled;
  }

  MemoryEnv env_;
  const std::vector<uint8_t> bytes_ = Drawn(kBytes);
};

TEST_F(SwarmMillTest, FromMemory_GivesAsManyBytesAsAskedFor) {
  const Mill mill(kBytes, nullptr);
  size_t received = 0;
  EXPECT_THAT(PullThroughMill(mill.channel(), kBytes,
                              [&](absl::Span<const uint8_t> bytes) {
                                received += bytes.size();
                                return absl::OkStatus();
                              }),
              IsOk());
  EXPECT_EQ(received, kBytes);
}

TEST_F(SwarmMillTest, FromAFile_ItsCopyIsVerifiedAndTheSame) {
  const Mill mill(kBytes, Write(bytes_));
  EXPECT_THAT(Copy(mill, dht::LeafHashes(bytes_)), IsOk());
  EXPECT_EQ(Content(&env_, "copy"), bytes_);
}

TEST_F(SwarmMillTest, ALeafThatIsNotTheContents_EndsTheCopyBeforeItsBlock) {
  std::vector<uint8_t> other = bytes_;
  other[300 << 10] ^= 1;  // in the second block, leaf 18
  const Mill mill(kBytes, Write(other));
  const absl::Status status = Copy(mill, dht::LeafHashes(bytes_));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(std::string(status.message()), HasSubstr("leaf 18"));
  EXPECT_EQ(Content(&env_, "copy").size(), 256u << 10);
}

TEST_F(SwarmMillTest, MoreBytesThanLeavesAreKnown_AreNotTheContents) {
  std::vector<Digest> leaves = dht::LeafHashes(bytes_);
  leaves.pop_back();
  const Mill mill(kBytes, Write(bytes_));
  EXPECT_THAT(Copy(mill, leaves), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SwarmMillTest, FewerBytesThanLeaves_AreNoCopy) {
  std::vector<Digest> leaves = dht::LeafHashes(bytes_);
  leaves.push_back(leaves.back());
  const Mill mill(kBytes, Write(bytes_));
  EXPECT_THAT(Copy(mill, leaves), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SwarmMillTest, AFileThatEndsEarly_EndsTheStream) {
  const Mill mill(kBytes, Write(absl::MakeConstSpan(bytes_).first(300 << 10)));
  EXPECT_THAT(PullThroughMill(mill.channel(), kBytes, Nothing),
              StatusIs(absl::StatusCode::kInternal));
}

TEST_F(SwarmMillTest, AStreamThatEndsEarly_IsUnavailable) {
  const Mill mill(kBytes / 2, nullptr);
  EXPECT_THAT(PullThroughMill(mill.channel(), kBytes, Nothing),
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace koinon::bench
