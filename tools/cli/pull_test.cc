#include "tools/cli/pull.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_matchers.h"

namespace koinon::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kChunk = 1000;
constexpr int64_t kNoBound = int64_t{1} << 40;

std::string Bytes(size_t size, int seed) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    bytes[i] =
        static_cast<char>((i * 31 + i / 7 + static_cast<size_t>(seed)) & 0xff);
  }
  return bytes;
}

// A coordinator in memory that can break off, lie and repeat.
struct FakeSource {
  explicit FakeSource(std::string content, int64_t version = 4)
      : bytes(std::move(content)) {
    manifest.set_job("digits");
    manifest.set_version(version);
    manifest.set_digest(Sha256Of(bytes).ToBytes());
    manifest.set_size_bytes(static_cast<int64_t>(bytes.size()));
    manifest.set_chunk_size_bytes(kChunk);
    for (size_t i = 0; i < bytes.size(); i += kChunk) {
      manifest.add_chunk_digests(Sha256Of(bytes.substr(i, kChunk)).ToBytes());
    }
  }

  ModelSource AsSource() {
    return [this](const v1::PullModelRequest& request,
                  const std::function<bool(const v1::PullModelReply&)>& take) {
      return Serve(request, take);
    };
  }

  absl::Status Serve(
      const v1::PullModelRequest& request,
      const std::function<bool(const v1::PullModelReply&)>& take) {
    requested_offsets.push_back(request.offset());
    v1::PullModelReply reply;
    *reply.mutable_manifest() = manifest;
    if (!take(reply)) return absl::OkStatus();
    int64_t sent = 0;
    for (auto at = static_cast<size_t>(request.offset()); at < bytes.size();
         at += piece) {
      if (sent++ == break_after) {
        break_after = break_again;
        return absl::UnavailableError("broken off");
      }
      v1::PullModelReply part;
      part.mutable_chunk()->set_offset(static_cast<int64_t>(at));
      part.mutable_chunk()->set_data(bytes.substr(at, piece));
      ++chunks_sent;
      if (!take(part)) return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  std::string bytes;
  v1::ModelManifest manifest;
  size_t piece = kChunk;
  int64_t break_after = -1;  // pieces of one stream
  int64_t break_again = -1;
  std::vector<int64_t> requested_offsets;
  int64_t chunks_sent = 0;
};

class PullModelToFileTest : public ::testing::Test {
 protected:
  PullModelToFileTest() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = absl::StrCat(::testing::TempDir(), "/", info->name());
  }

  absl::StatusOr<v1::ModelManifest> Pull(FakeSource& source,
                                         int64_t max_bytes = kNoBound) {
    return PullModelToFile(
        RealEnv(), source.AsSource(), {"digits", -1}, path_, max_bytes,
        [this](int64_t done, int64_t) { done_ = done; },
        [this](const v1::ModelManifest&) { return check_; });
  }
  std::string Content() { return *ReadFile(RealEnv(), path_, 1 << 20); }
  void WritePartial(const std::string& bytes) {
    ASSERT_OK(WriteFileAtomically(RealEnv(), path_ + ".partial", bytes));
  }

  std::string path_;
  int64_t done_ = 0;
  absl::Status check_;
};

TEST_F(PullModelToFileTest, WholeModel_LiesInTheFile) {
  FakeSource source(Bytes(3500, 1));
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest manifest, Pull(source));
  EXPECT_EQ(manifest.version(), 4);
  EXPECT_EQ(Content(), source.bytes);
  EXPECT_EQ(done_, 3500);
  EXPECT_FALSE(RealEnv()->Exists(path_ + ".partial"));
}

TEST_F(PullModelToFileTest, PiecesOfAnySize_MakeTheSameFile) {
  FakeSource source(Bytes(3500, 2));
  source.piece = 333;
  ASSERT_OK(Pull(source));
  EXPECT_EQ(Content(), source.bytes);
}

TEST_F(PullModelToFileTest, EmptyModel_IsAnEmptyFile) {
  FakeSource source("");
  ASSERT_OK(Pull(source));
  EXPECT_EQ(Content(), "");
}

TEST_F(PullModelToFileTest, PartialFile_IsNotFetchedAgain) {
  FakeSource source(Bytes(3500, 3));
  WritePartial(source.bytes.substr(0, 2400));  // two chunks and a piece
  ASSERT_OK(Pull(source));
  EXPECT_EQ(Content(), source.bytes);
  EXPECT_THAT(source.requested_offsets, ElementsAre(0, 2000));
  EXPECT_EQ(source.chunks_sent, 2);
}

TEST_F(PullModelToFileTest, PartialFileOfAnotherModel_IsOverwritten) {
  FakeSource source(Bytes(1500, 4));
  WritePartial(Bytes(9000, 99));
  ASSERT_OK(Pull(source));
  EXPECT_EQ(Content(), source.bytes);
}

TEST_F(PullModelToFileTest, BrokenStream_GoesOnWhereItStopped) {
  FakeSource source(Bytes(5000, 5));
  source.break_after = 2;
  ASSERT_OK(Pull(source));
  EXPECT_EQ(Content(), source.bytes);
  EXPECT_THAT(source.requested_offsets, ElementsAre(0, 2000));
}

TEST_F(PullModelToFileTest, StreamThatBringsNothing_IsAnError) {
  FakeSource source(Bytes(5000, 6));
  source.break_after = 2;
  source.break_again = 0;
  EXPECT_THAT(Pull(source), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_FALSE(RealEnv()->Exists(path_));
  EXPECT_TRUE(RealEnv()->Exists(path_ + ".partial"));
}

TEST_F(PullModelToFileTest, CorruptChunk_IsNamedAndNotKept) {
  FakeSource source(Bytes(3500, 7));
  source.bytes[1234] ^= 1;
  EXPECT_THAT(Pull(source), StatusIs(absl::StatusCode::kDataLoss,
                                     HasSubstr("chunk 1 of digits@4")));
  EXPECT_FALSE(RealEnv()->Exists(path_));
}

TEST_F(PullModelToFileTest, WrongDigestOfTheWhole_IsRefused) {
  FakeSource source(Bytes(2000, 8));
  source.manifest.set_digest(Sha256Of("else").ToBytes());
  EXPECT_THAT(Pull(source), StatusIs(absl::StatusCode::kDataLoss,
                                     HasSubstr("contradicts itself")));
  EXPECT_FALSE(RealEnv()->Exists(path_));
}

TEST_F(PullModelToFileTest, TooManyBytes_AreRefused) {
  FakeSource source(Bytes(2000, 9));
  // One stream holds more than the manifest's size.
  source.manifest.set_size_bytes(1500);
  source.manifest.set_chunk_digests(
      1, Sha256Of(source.bytes.substr(1000, 500)).ToBytes());
  source.piece = 2000;
  EXPECT_THAT(Pull(source),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("more bytes")));
}

TEST_F(PullModelToFileTest, SenselessManifests_AreRefused) {
  FakeSource no_chunks(Bytes(2000, 10));
  no_chunks.manifest.set_chunk_size_bytes(0);
  EXPECT_THAT(Pull(no_chunks), StatusIs(absl::StatusCode::kDataLoss));
  FakeSource huge_chunks(Bytes(2000, 10));
  huge_chunks.manifest.set_chunk_size_bytes(int64_t{1} << 40);
  EXPECT_THAT(Pull(huge_chunks), StatusIs(absl::StatusCode::kDataLoss));
  FakeSource few_digests(Bytes(2000, 10));
  few_digests.manifest.mutable_chunk_digests()->RemoveLast();
  EXPECT_THAT(Pull(few_digests), StatusIs(absl::StatusCode::kDataLoss,
                                          HasSubstr("1 chunk digests")));
}

TEST_F(PullModelToFileTest, ManifestThatIsNotBelieved_EndsIt) {
  FakeSource source(Bytes(2000, 12));
  check_ = absl::PermissionDeniedError("signed by somebody");
  EXPECT_THAT(Pull(source), StatusIs(absl::StatusCode::kPermissionDenied,
                                     HasSubstr("signed by somebody")));
  EXPECT_EQ(source.chunks_sent, 0);
  EXPECT_FALSE(RealEnv()->Exists(path_ + ".partial"));
}

TEST_F(PullModelToFileTest, ModelOverTheBound_IsRefusedBeforeItIsFetched) {
  FakeSource source(Bytes(2000, 11));
  EXPECT_THAT(Pull(source, 1999), StatusIs(absl::StatusCode::kResourceExhausted,
                                           HasSubstr("has 2000 bytes")));
  EXPECT_EQ(source.chunks_sent, 0);
}

TEST(ParseModelRef, JobAndVersion_AreRead) {
  ASSERT_OK_AND_ASSIGN(ModelRef ref, ParseModelRef("digits@12"));
  EXPECT_EQ(ref.job, "digits");
  EXPECT_EQ(ref.version, 12);
  ASSERT_OK_AND_ASSIGN(ref, ParseModelRef("digits"));
  EXPECT_EQ(ref.version, -1);
}

TEST(ParseModelRef, Nonsense_IsRefused) {
  for (const char* text :
       {"", "@3", "digits@", "digits@x", "digits@-1", "A/b"}) {
    EXPECT_THAT(ParseModelRef(text),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << text;
  }
}

}  // namespace
}  // namespace koinon::cli
