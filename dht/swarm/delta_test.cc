#include "dht/swarm/delta.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::SizeIs;

constexpr size_t kHeader = 24;
constexpr size_t kBlock = 1 << 20;
constexpr int64_t kNoBound = int64_t{1} << 40;

class DeltaTest : public ::testing::Test {
 protected:
  std::unique_ptr<File> FileOf(const std::string& bytes) {
    auto file =
        env_.Open(absl::StrCat("/file", next_++), Env::OpenMode::kCreate);
    EXPECT_THAT(file, IsOk());
    EXPECT_THAT((*file)->WriteAt(0, bytes.data(), bytes.size()), IsOk());
    return *std::move(file);
  }

  std::string DeltaOf(const std::string& from, const std::string& to) {
    const auto out = FileOf("");
    const auto size =
        WriteDelta(*FileOf(from), *FileOf(to), out.get(), kNoBound);
    EXPECT_THAT(size, IsOk());
    std::string delta(**size, '\0');
    EXPECT_THAT(out->Size(), IsOkAndHolds(delta.size()));
    EXPECT_THAT(out->ReadAt(0, delta.size(), delta.data()), IsOk());
    return delta;
  }

  absl::StatusOr<std::string> Apply(const std::string& from,
                                    const std::string& delta, int64_t size) {
    std::string to;
    parts_.clear();
    ABSL_RETURN_IF_ERROR(ApplyDelta(*FileOf(from), *FileOf(delta), delta.size(),
                                    size, [&](absl::Span<const uint8_t> bytes) {
                                      to.append(bytes.begin(), bytes.end());
                                      parts_.push_back(bytes.size());
                                      return absl::OkStatus();
                                    }));
    return to;
  }

  MemoryEnv env_;
  int next_ = 0;
  std::vector<size_t> parts_;  // what Apply gave, by its sizes
};

// floats, and how they move in a step of training.
std::string Weights(size_t count, uint64_t seed, float step) {
  Random random(seed);
  Random moves(seed + 1);
  std::string bytes(4 * count, '\0');
  for (size_t i = 0; i < count; ++i) {
    const float value = 0.05f * static_cast<float>(random.NextNormal()) +
                        step * static_cast<float>(moves.NextNormal());
    std::memcpy(&bytes[4 * i], &value, sizeof(value));
  }
  return bytes;
}

std::string RandomBytes(size_t count, uint64_t seed) {
  Random random(seed);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.NextUint64());
  return bytes;
}

std::string Le32(uint32_t value) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

std::string Header(uint64_t size) {
  return "koinondl" + Le32(1) + Le32(kBlock) +
         Le32(static_cast<uint32_t>(size)) +
         Le32(static_cast<uint32_t>(size >> 32));
}

std::string Frame(const std::string& bytes) {
  std::string frame(ZSTD_compressBound(bytes.size()), '\0');
  frame.resize(
      ZSTD_compress(frame.data(), frame.size(), bytes.data(), bytes.size(), 3));
  return frame;
}

TEST_F(DeltaTest, WriteDelta_TenBytes_GivesTheBytesOfTheFormat) {
  // XORed: 01 02 03 04 05 06 07 08 09 0a; in planes: 01 05 02 06 03 07 04 08,
  // and the two that are no whole word. zstd would need more bytes.
  const std::string from = "\x10\x20\x30\x40\x50\x60\x70\x80\x90\xa0";
  const std::string to = "\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa";
  const std::string delta = DeltaOf(from, to);
  EXPECT_EQ(delta,
            Header(10) + Le32(10) + "\x01\x05\x02\x06\x03\x07\x04\x08\x09\x0a");
  EXPECT_THAT(Apply(from, delta, 10), IsOkAndHolds(to));
}

TEST_F(DeltaTest, ApplyDelta_ManySizes_GivesTheFileBack) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{3}, size_t{4}, size_t{5}, size_t{4093},
        kBlock - 1, kBlock, kBlock + 1, kBlock + 7, 2 * kBlock + 4}) {
    SCOPED_TRACE(size);
    const std::string from = Weights(size / 4 + 1, 3, 0).substr(0, size);
    const std::string to = Weights(size / 4 + 1, 3, 1e-4).substr(0, size);
    EXPECT_THAT(Apply(from, DeltaOf(from, to), size), IsOkAndHolds(to));
    EXPECT_THAT(parts_, SizeIs((size + kBlock - 1) / kBlock));
    EXPECT_THAT(parts_, Each(Le(kBlock)));
  }
}

TEST_F(DeltaTest, WriteDelta_AStepOfTraining_IsSmaller) {
  constexpr size_t kCount = 1 << 19;
  const std::string from = Weights(kCount, 7, 0);
  // What a value moves by, over what it is: 1/50 and 1/500. Of the 32 bits of
  // a float the upper 6 to 14 stay what they were, most of the time.
  const std::string far = Weights(kCount, 7, 1e-3);
  const std::string near = Weights(kCount, 7, 1e-4);
  const double size = static_cast<double>(from.size());
  EXPECT_LT(DeltaOf(from, far).size() / size, 0.75);
  EXPECT_LT(DeltaOf(from, near).size() / size, 0.65);
  EXPECT_LT(DeltaOf(from, from).size() / size, 0.001);
}

TEST_F(DeltaTest, WriteDelta_RandomBytes_CostsOnlyTheLengths) {
  const size_t size = 2 * kBlock + 1001;
  const std::string from = RandomBytes(size, 1);
  const std::string to = RandomBytes(size, 2);
  const std::string delta = DeltaOf(from, to);
  EXPECT_EQ(delta.size(), kHeader + 3 * 4 + size);
  EXPECT_THAT(Apply(from, delta, size), IsOkAndHolds(to));
}

TEST_F(DeltaTest, WriteDelta_Again_GivesTheSameBytes) {
  const std::string from = Weights(300001, 9, 0);
  const std::string to = Weights(300001, 9, 1e-3);
  EXPECT_EQ(DeltaOf(from, to), DeltaOf(from, to));
}

TEST_F(DeltaTest, WriteDelta_LargerThanAllowed_SaysSo) {
  const std::string from = Weights(400000, 9, 0);
  const std::string to = Weights(400000, 9, 1e-3);
  const int64_t needed = DeltaOf(from, to).size();
  const auto out = FileOf("");
  const auto write = [&](int64_t max_bytes) {
    return WriteDelta(*FileOf(from), *FileOf(to), out.get(), max_bytes);
  };
  EXPECT_THAT(write(needed), IsOkAndHolds(std::optional<int64_t>(needed)));
  for (const int64_t bound :
       {needed - 1, int64_t{24}, int64_t{23}, int64_t{0}, int64_t{-1}}) {
    EXPECT_THAT(write(bound), IsOkAndHolds(std::nullopt)) << bound;
  }
}

TEST_F(DeltaTest, WriteDelta_OtherSize_IsRefused) {
  const auto out = FileOf("");
  EXPECT_THAT(WriteDelta(*FileOf("12345"), *FileOf("1234"), out.get(), 100),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found 5 and 4 bytes")));
}

TEST_F(DeltaTest, WriteDelta_FullDisk_IsTheFilesError) {
  FaultInjectingEnv faulty(&env_);
  const auto out = faulty.Open("/full", Env::OpenMode::kCreate);
  ASSERT_THAT(out, IsOk());
  faulty.FailAt(FaultInjectingEnv::Operation::kWrite, 2,
                absl::ResourceExhaustedError("/full: disk full"));
  EXPECT_THAT(WriteDelta(*FileOf("1234"), *FileOf("1235"), out->get(), 100),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(DeltaTest, ApplyDelta_HeaderOfAnother_IsRefusedByField) {
  const std::string good = Header(4) + Le32(4) + "abcd";
  ASSERT_THAT(Apply("1234", good, 4), IsOk());
  const auto refuses = [&](const std::string& delta, int64_t size,
                           const char* what) {
    EXPECT_THAT(Apply("1234", delta, size),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(what)));
  };
  std::string bad = good;
  bad[0] = 'K';
  refuses(bad, 4, "begins with \"koinondl\"");
  bad = good;
  bad[8] = 2;
  refuses(bad, 4, "format 1 expected, found 2");
  bad = good;
  bad[12] = 1;
  refuses(bad, 4, "blocks of 1048576 bytes expected, found 1048577");
  refuses(good, 5, "file of 5 bytes expected, found one for 4");
  bad = good;
  bad[23] = '\x80';
  refuses(bad, 4, "found one for 9223372036854775812");
}

TEST_F(DeltaTest, ApplyDelta_CutAnywhere_IsRefused) {
  const std::string from = Weights(1000, 9, 0);
  const std::string delta = DeltaOf(from, Weights(1000, 9, 1e-4));
  for (size_t size = 0; size < delta.size(); ++size) {
    EXPECT_THAT(Apply(from, delta.substr(0, size), from.size()),
                StatusIs(absl::StatusCode::kDataLoss))
        << size;
  }
}

TEST_F(DeltaTest, ApplyDelta_BytesAfterTheEnd_IsRefused) {
  EXPECT_THAT(Apply("1234", Header(4) + Le32(4) + "abcde", 4),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("1 bytes after its last block")));
  EXPECT_THAT(Apply("", Header(0) + "x", 0),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(DeltaTest, ApplyDelta_BlockLongerThanItsBytes_IsRefusedUnread) {
  for (const uint32_t length : {5u, 1u << 20, 0xffffffffu}) {
    EXPECT_THAT(Apply("1234", Header(4) + Le32(length) + "abcd", 4),
                StatusIs(absl::StatusCode::kDataLoss,
                         HasSubstr(absl::StrCat("at most 4 bytes expected, "
                                                "found ",
                                                length))));
  }
}

TEST_F(DeltaTest, ApplyDelta_FrameOfAnotherLength_IsRefused) {
  const std::string from(1000, 'x');
  const auto apply = [&](const std::string& frame) {
    return Apply(
        from, Header(1000) + Le32(static_cast<uint32_t>(frame.size())) + frame,
        1000);
  };
  ASSERT_THAT(apply(Frame(std::string(1000, 'y'))), IsOk());
  // A gigabyte in a few bytes, were it let.
  EXPECT_THAT(apply(Frame(std::string(1 << 20, '\0'))),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("too small")));
  EXPECT_THAT(apply(Frame(std::string(999, 'y'))),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("1000 bytes expected, found 999")));
  EXPECT_THAT(apply(Frame("")), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(DeltaTest, ApplyDelta_NoFrameOrMoreThanOne_IsRefused) {
  const std::string from(1000, 'x');
  const std::string half = Frame(std::string(500, 'y'));
  const std::string skipped = Le32(0x184D2A50) + Le32(0);
  const std::string legacy = Le32(0xFD2FB527) + std::string(20, '\0');
  for (const std::string& body :
       {half + half, skipped + Frame(std::string(1000, 'y')),
        Frame(std::string(1000, 'y')) + skipped, legacy, std::string(),
        std::string("abc"), half.substr(0, half.size() - 1)}) {
    EXPECT_THAT(
        Apply(from,
              Header(1000) + Le32(static_cast<uint32_t>(body.size())) + body,
              1000),
        StatusIs(absl::StatusCode::kDataLoss, HasSubstr("block 0")));
  }
}

TEST_F(DeltaTest, ApplyDelta_AnyFlippedByte_NeverGivesTheFileAsItWas) {
  const std::string from = Weights(500, 9, 0);
  const std::string to = Weights(500, 9, 1e-4);
  const std::string delta = DeltaOf(from, to);
  for (size_t i = 0; i < delta.size(); ++i) {
    std::string bad = delta;
    bad[i] = static_cast<char>(bad[i] ^ 0x55);
    const auto result = Apply(from, bad, to.size());
    if (result.ok()) {
      EXPECT_NE(*result, to) << i;  // the root would tell
      EXPECT_EQ(result->size(), to.size());
    } else {
      EXPECT_THAT(result, StatusIs(absl::StatusCode::kDataLoss)) << i;
    }
  }
}

TEST_F(DeltaTest, ApplyDelta_ToAShorterFile_IsTheFilesError) {
  EXPECT_THAT(Apply("123", Header(4) + Le32(4) + "abcd", 4),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(DeltaTest, ApplyDelta_WriteFails_StopsThere) {
  const std::string from = Weights(kBlock, 9, 0);
  const std::string delta = DeltaOf(from, Weights(kBlock, 9, 1e-4));
  int calls = 0;
  EXPECT_THAT(
      ApplyDelta(*FileOf(from), *FileOf(delta), delta.size(), from.size(),
                 [&](absl::Span<const uint8_t>) {
                   return ++calls == 2 ? absl::ResourceExhaustedError("full")
                                       : absl::OkStatus();
                 }),
      StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace koinon::dht
