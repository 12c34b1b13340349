#include "dht/swarm/content_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/swarm/testing_content.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::IsOkAndHolds;
using ::absl_testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr char kPath[] = "/model";

class ContentFileTest : public testing::Test {
 protected:
  ContentFileTest() : faulty_(&env_) {}

  std::shared_ptr<ContentFile> Resume(const TestContent& test) {
    auto file = ContentFile::Resume(&faulty_, kPath, test.content());
    EXPECT_THAT(file, IsOk());
    EXPECT_THAT((*file)->SetPieceLayer(test.tree.pieces), IsOk());
    return *std::move(file);
  }

  static absl::StatusOr<bool> Put(ContentFile* file, const TestContent& test,
                                  uint32_t piece) {
    auto incoming = file->Begin(piece, test.LeavesOf(piece));
    if (!incoming.ok()) return incoming.status();
    const absl::Status appended = (*incoming)->Append(test.Piece(piece));
    if (!appended.ok()) return appended;
    return (*incoming)->Finish();
  }

  static std::vector<uint8_t> BytesOf(const ContentFile& file, uint32_t piece) {
    std::vector<uint8_t> bytes(file.map().PieceBytes(piece));
    EXPECT_THAT(file.Read(piece, 0, bytes.size(), bytes.data()), IsOk());
    return bytes;
  }

  static void ExpectPiecesAreSound(const ContentFile& file,
                                   const TestContent& test) {
    for (uint32_t i = 0; i < file.map().pieces(); ++i) {
      if (!file.Has(i)) continue;
      const auto piece = test.Piece(i);
      ASSERT_EQ(BytesOf(file, i),
                std::vector<uint8_t>(piece.begin(), piece.end()));
      ASSERT_THAT(file.LeavesOf(i), IsOkAndHolds(test.LeavesOf(i)));
    }
  }

  MemoryEnv env_;
  FaultInjectingEnv faulty_;
};

// The last leaf and the last piece are short.
TestContent Uneven() { return RandomContent(1, 5 * 65536 + 20000, 65536); }

TEST_F(ContentFileTest, Pieces_InAnyOrder_AreServedOnceTheyAreThere) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  EXPECT_FALSE(file->complete());
  EXPECT_THAT(file->LeavesOf(5), StatusIs(absl::StatusCode::kNotFound));
  for (const uint32_t piece : {5, 0, 3, 1, 4, 2}) {
    EXPECT_THAT(Put(file.get(), test, piece), IsOkAndHolds(true));
  }
  EXPECT_TRUE(file->complete());
  ExpectPiecesAreSound(*file, test);
}

TEST_F(ContentFileTest, Piece_ThatCameTwice_IsToldApart) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  EXPECT_THAT(Put(file.get(), test, 2), IsOkAndHolds(true));
  EXPECT_THAT(Put(file.get(), test, 2), IsOkAndHolds(false));
  EXPECT_EQ(file->have().count(), 1);
}

TEST_F(ContentFileTest, Piece_WithAWrongLeaf_IsRefusedAndNamesTheLeaf) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  auto incoming = file->Begin(1, test.LeavesOf(1));
  ASSERT_THAT(incoming, IsOk());
  std::vector<uint8_t> bytes(test.Piece(1).begin(), test.Piece(1).end());
  bytes[2 * kLeafBytes + 7] ^= 1;
  EXPECT_THAT((*incoming)->Append(bytes),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("leaf 2")));
  EXPECT_THAT((*incoming)->Finish(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_FALSE(file->Has(1));
}

TEST_F(ContentFileTest, Leaves_OfAnotherPiece_AreRefused) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  EXPECT_THAT(file->Begin(1, test.LeavesOf(2)),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(file->Begin(1, test.LeavesOf(5)),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(file->Begin(6, {}), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ContentFileTest, Bytes_ThatAreNoWholeLeavesOrTooMany_AreRefused) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  auto incoming = file->Begin(5, test.LeavesOf(5));  // two leaves, one short
  ASSERT_THAT(incoming, IsOk());
  EXPECT_THAT((*incoming)->Append(test.Piece(5).subspan(0, 1000)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("whole leaves")));
  EXPECT_THAT((*incoming)->Append(test.Piece(5)), IsOk());
  EXPECT_EQ((*incoming)->left(), 0);
  EXPECT_THAT((*incoming)->Append(test.Piece(5).subspan(0, 1)),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(ContentFileTest, PieceLayer_OfAnotherContent_IsRefused) {
  const TestContent test = Uneven();
  const TestContent other = RandomContent(2, 5 * 65536 + 20000, 65536);
  auto file = ContentFile::Resume(&env_, kPath, test.content());
  ASSERT_THAT(file, IsOk());
  EXPECT_THAT((*file)->SetPieceLayer(other.tree.pieces),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT((*file)->SetPieceLayer({}),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT((*file)->Begin(0, test.LeavesOf(0)),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ContentFileTest, PieceLayer_OfOnePiece_IsItsRoot) {
  const TestContent test = RandomContent(3, 1000, 65536);
  auto file = ContentFile::Resume(&env_, kPath, test.content());
  ASSERT_THAT(file, IsOk());
  EXPECT_THAT(Put(file->get(), test, 0), IsOkAndHolds(true));
  EXPECT_TRUE((*file)->complete());
}

TEST_F(ContentFileTest, Content_ThatIsNone_IsRefused) {
  TestContent test = Uneven();
  test.tree.content.set_piece_size_bytes(1000);
  EXPECT_THAT(ContentFile::Resume(&env_, kPath, test.content()),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ContentFileTest, Resume_AfterASync_HasWhatWasSyncedAndTheLayer) {
  const TestContent test = Uneven();
  {
    const auto file = Resume(test);
    ASSERT_THAT(Put(file.get(), test, 1), IsOkAndHolds(true));
    ASSERT_THAT(file->Sync(), IsOk());
    ASSERT_THAT(Put(file.get(), test, 2), IsOkAndHolds(true));
  }
  env_.CrashAndLoseUnsynced();
  auto file = ContentFile::Resume(&env_, kPath, test.content());
  ASSERT_THAT(file, IsOk());
  EXPECT_TRUE((*file)->Has(1));
  EXPECT_FALSE((*file)->Has(2));
  EXPECT_EQ((*file)->piece_layer(), test.tree.pieces);
  ExpectPiecesAreSound(**file, test);
}

TEST_F(ContentFileTest, Resume_OfAnotherContentAtThePath_BeginsAnew) {
  const TestContent test = Uneven();
  const TestContent other = RandomContent(2, 5 * 65536 + 20000, 65536);
  {
    const auto file = Resume(test);
    ASSERT_THAT(Put(file.get(), test, 1), IsOkAndHolds(true));
    ASSERT_THAT(file->Sync(), IsOk());
  }
  const auto file = Resume(other);
  EXPECT_EQ(file->have().count(), 0);
}

// Every byte of the bitmap's file, torn or flipped.
TEST_F(ContentFileTest, Resume_WithATornBitmap_BelievesNothingOfIt) {
  const TestContent test = Uneven();
  {
    const auto file = Resume(test);
    ASSERT_THAT(Put(file.get(), test, 1), IsOkAndHolds(true));
    ASSERT_THAT(file->Sync(), IsOk());
  }
  const std::string saved = absl::StrCat(kPath, ".pieces");
  const auto whole = ReadFile(&env_, saved, 1 << 20);
  ASSERT_THAT(whole, IsOk());
  for (size_t i = 0; i < whole->size(); ++i) {
    std::string torn = i % 2 == 0 ? whole->substr(0, i) : *whole;
    if (i % 2 == 1) torn[i] ^= 0x10;
    ASSERT_THAT(WriteFileAtomically(&env_, saved, torn), IsOk());
    auto file = ContentFile::Resume(&env_, kPath, test.content());
    ASSERT_THAT(file, IsOk());
    EXPECT_EQ((*file)->have().count(), 0) << i;
  }
}

TEST_F(ContentFileTest, HashesThatTheDiskHasLost_AreNotGivenOut) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  for (const uint32_t piece : {0, 1}) {
    ASSERT_THAT(Put(file.get(), test, piece), IsOkAndHolds(true));
  }
  ASSERT_THAT(DamageFile(&env_, absl::StrCat(kPath, ".leaves"), 5), IsOk());
  EXPECT_THAT(file->LeavesOf(0, /*compare=*/true),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(file->LeavesOf(1, /*compare=*/true),
              IsOkAndHolds(test.LeavesOf(1)));
}

TEST_F(ContentFileTest, LostPiece_IsNotThereUntilItComesAgain) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  for (uint32_t piece = 0; piece < file->map().pieces(); ++piece) {
    ASSERT_THAT(Put(file.get(), test, piece), IsOkAndHolds(true));
  }
  ASSERT_THAT(file->Sync(), IsOk());
  EXPECT_TRUE(file->Lose(2));
  EXPECT_FALSE(file->Lose(2));
  EXPECT_FALSE(file->Lose(file->map().pieces()));
  EXPECT_FALSE(file->Has(2));
  EXPECT_FALSE(file->complete());
  EXPECT_THAT(file->LeavesOf(2), StatusIs(absl::StatusCode::kNotFound));
  ASSERT_THAT(file->Sync(), IsOk());
  EXPECT_FALSE(Resume(test)->Has(2));
  EXPECT_THAT(Put(file.get(), test, 2), IsOkAndHolds(true));
  EXPECT_TRUE(file->complete());
}

TEST_F(ContentFileTest, Doubt_IsTakenOnce) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  file->Doubt({1, 3, file->map().pieces()});
  EXPECT_FALSE(file->TakeDoubt(0));
  EXPECT_TRUE(file->TakeDoubt(3));
  EXPECT_FALSE(file->TakeDoubt(3));
  EXPECT_TRUE(file->TakeDoubt(1));
  EXPECT_FALSE(file->TakeDoubt(file->map().pieces()));
}

TEST_F(ContentFileTest, Resume_ForWantOfDescriptors_LosesNothing) {
  const TestContent test = Uneven();
  {
    const auto file = Resume(test);
    ASSERT_THAT(Put(file.get(), test, 1), IsOkAndHolds(true));
    ASSERT_THAT(file->Sync(), IsOk());
  }
  for (const int open : {1, 2, 3}) {  // the bitmap, the bytes, the leaves
    faulty_.FailAt(FaultInjectingEnv::Operation::kOpen, open,
                   absl::ResourceExhaustedError("too many open files"));
    EXPECT_THAT(ContentFile::Resume(&faulty_, kPath, test.content()),
                StatusIs(absl::StatusCode::kResourceExhausted))
        << open;
  }
  const auto file = Resume(test);
  EXPECT_TRUE(file->Has(1));
  ExpectPiecesAreSound(*file, test);
}

TEST_F(ContentFileTest, Resume_ThatIsCancelled_ReadsNoMoreAndLosesNothing) {
  const TestContent test = Uneven();
  {
    const auto file = Resume(test);
    for (const uint32_t piece : {0, 2, 3, 5}) {
      ASSERT_THAT(Put(file.get(), test, piece), IsOkAndHolds(true));
    }
    ASSERT_THAT(file->Sync(), IsOk());
  }
  int asked = 0;
  EXPECT_THAT(ContentFile::Resume(&env_, kPath, test.content(),
                                  [&asked] { return ++asked == 3; }),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(asked, 3);
  const auto file = Resume(test);
  EXPECT_EQ(file->have().count(), 4);
  ExpectPiecesAreSound(*file, test);
}

TEST_F(ContentFileTest, Resume_WithABitmapThatIsTooLong_BeginsAnew) {
  const TestContent test = Uneven();
  ASSERT_THAT(WriteFileAtomically(&env_, absl::StrCat(kPath, ".pieces"),
                                  std::string(100'000, 'x')),
              IsOk());
  EXPECT_EQ(Resume(test)->have().count(), 0);
}

TEST_F(ContentFileTest, Resume_WithDamagedLeaves_DropsTheirPieceOnly) {
  const TestContent test = Uneven();
  {
    const auto file = Resume(test);
    ASSERT_THAT(Put(file.get(), test, 1), IsOkAndHolds(true));
    ASSERT_THAT(Put(file.get(), test, 3), IsOkAndHolds(true));
    ASSERT_THAT(file->Sync(), IsOk());
  }
  auto leaves =
      env_.Open(absl::StrCat(kPath, ".leaves"), Env::OpenMode::kReadWrite);
  ASSERT_THAT(leaves, IsOk());
  ASSERT_THAT((*leaves)->WriteAt(4 * 32 + 5, "x", 1), IsOk());  // of piece 1
  auto file = ContentFile::Resume(&env_, kPath, test.content());
  ASSERT_THAT(file, IsOk());
  EXPECT_FALSE((*file)->Has(1));
  EXPECT_TRUE((*file)->Has(3));
}

// By a disk that said of bytes that they were safe, or by another's hand.
TEST_F(ContentFileTest, Resume_WithDamagedBytes_DropsTheirPieceOnly) {
  const TestContent test = Uneven();
  const uint32_t last = test.map().pieces() - 1;
  {
    const auto file = Resume(test);
    for (uint32_t i = 0; i <= last; ++i) {
      ASSERT_THAT(Put(file.get(), test, i), IsOkAndHolds(true));
    }
    ASSERT_THAT(file->Sync(), IsOk());
  }
  for (const uint32_t piece : {uint32_t{2}, last}) {
    const int64_t end =
        test.map().PieceOffset(piece) + test.map().PieceBytes(piece);
    const uint8_t other = test.bytes[end - 1] ^ 1;
    auto bytes = env_.Open(kPath, Env::OpenMode::kReadWrite);
    ASSERT_THAT(bytes, IsOk());
    ASSERT_THAT((*bytes)->WriteAt(end - 1, &other, 1), IsOk());
  }
  auto file = ContentFile::Resume(&env_, kPath, test.content());
  ASSERT_THAT(file, IsOk());
  EXPECT_FALSE((*file)->complete());
  for (uint32_t i = 0; i <= last; ++i) {
    EXPECT_EQ((*file)->Has(i), i != 2 && i != last) << "piece " << i;
  }
  ExpectPiecesAreSound(**file, test);
}

TEST_F(ContentFileTest, Crash_AtAnyMoment_LosesAtMost64MiB) {
  const TestContent test = RandomContent(4, 200 * kMiB, 4 * kMiB);
  auto file = Resume(test);
  // Eight streams, each half through a piece when another is finished.
  std::vector<std::unique_ptr<ContentFile::Incoming>> half;
  std::vector<uint32_t> of;
  int64_t received = 0;
  int64_t most_lost = 0;
  for (uint32_t next = 0; next < file->map().pieces() || !half.empty();) {
    if (half.size() < 8 && next < file->map().pieces()) {
      auto incoming = file->Begin(next, test.LeavesOf(next));
      ASSERT_THAT(incoming, IsOk());
      ASSERT_THAT((*incoming)->Append(test.Piece(next).subspan(0, 2 * kMiB)),
                  IsOk());
      received += 2 * kMiB;
      half.push_back(*std::move(incoming));
      of.push_back(next++);
    } else {
      ASSERT_THAT(half[0]->Append(test.Piece(of[0]).subspan(2 * kMiB)), IsOk());
      received += 2 * kMiB;
      ASSERT_THAT(half[0]->Finish(), IsOkAndHolds(true));
      half.erase(half.begin());
      of.erase(of.begin());
    }
    const auto saved = ReadFile(&env_, absl::StrCat(kPath, ".pieces"), 1 << 20);
    ASSERT_THAT(saved, IsOk());
    auto again = ContentFile::Resume(&env_, kPath, test.content());
    ASSERT_THAT(again, IsOk());
    const int64_t kept =
        static_cast<int64_t>((*again)->have().count()) * 4 * kMiB;
    most_lost = std::max(most_lost, received - kept);
  }
  EXPECT_LE(most_lost, 64 * kMiB);
  EXPECT_GE(most_lost, 32 * kMiB);  // and it does not sync all the time
  EXPECT_TRUE(file->complete());
}

TEST_F(ContentFileTest, DiskFullAtTheStart_IsSaidAndLeavesNothing) {
  const TestContent test = Uneven();
  faulty_.FillDisk();
  EXPECT_THAT(ContentFile::Resume(&faulty_, kPath, test.content()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(env_.List("/"), IsOkAndHolds(testing::IsEmpty()));
}

TEST_F(ContentFileTest, DiskFullLater_IsSaidAndTearsNothing) {
  const TestContent test = Uneven();
  auto file = Resume(test);
  ASSERT_THAT(Put(file.get(), test, 1), IsOkAndHolds(true));
  ASSERT_THAT(file->Sync(), IsOk());
  faulty_.FillDisk();
  EXPECT_THAT(Put(file.get(), test, 2),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_FALSE(file->Has(2));
  ExpectPiecesAreSound(*file, test);
  faulty_.StopFailing();
  file = Resume(test);
  EXPECT_TRUE(file->Has(1));
  EXPECT_FALSE(file->Has(2));
}

TEST_F(ContentFileTest, DiskThatFails_IsNotMistakenForALie) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  faulty_.FailAlways(FaultInjectingEnv::Operation::kWrite,
                     absl::DataLossError("broken disk"));
  EXPECT_THAT(Put(file.get(), test, 2), StatusIs(absl::StatusCode::kInternal));
}

TEST_F(ContentFileTest, SyncThatFailed_IsNeverTriedAgain) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  ASSERT_THAT(Put(file.get(), test, 2), IsOkAndHolds(true));
  faulty_.FailAt(FaultInjectingEnv::Operation::kSync, 1,
                 absl::DataLossError("broken disk"));
  EXPECT_THAT(file->Sync(), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(file->Sync(), StatusIs(absl::StatusCode::kInternal));
  EXPECT_THAT(Put(file.get(), test, 3), StatusIs(absl::StatusCode::kInternal));
}

TEST_F(ContentFileTest, PieceFromSeveralStreams_IsThereOnce) {
  const TestContent test = RandomContent(5, 8 * kMiB, 512 * 1024);
  const auto file = Resume(test);
  std::atomic<int> first = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (uint32_t i = 0; i < file->map().pieces(); ++i) {
        const auto put = Put(file.get(), test, i);
        ASSERT_THAT(put, IsOk());
        if (*put) ++first;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(first, 16);
  EXPECT_TRUE(file->complete());
  ExpectPiecesAreSound(*file, test);
}

TEST_F(ContentFileTest, AppendWhole_OfTheContentsBytes_CompletesIt) {
  const TestContent test = Uneven();
  auto file = ContentFile::Resume(&env_, kPath, test.content());
  ASSERT_THAT(file, IsOk());
  const absl::Span<const uint8_t> bytes = test.bytes;
  for (size_t at = 0; at < bytes.size(); at += 30'000) {
    ASSERT_THAT((*file)->AppendWhole(bytes.subspan(at, 30'000)), IsOk());
  }
  ASSERT_THAT((*file)->FinishWhole(), IsOk());
  EXPECT_TRUE((*file)->complete());
  ExpectPiecesAreSound(**file, test);
}

TEST_F(ContentFileTest, AppendWhole_OfOtherBytes_KeepsOnlyWhatWasVerified) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  ASSERT_THAT(Put(file.get(), test, 3), IsOkAndHolds(true));
  std::vector<uint8_t> wrong(test.bytes.size(), 7);
  ASSERT_THAT(file->AppendWhole(wrong), IsOk());
  EXPECT_THAT(file->FinishWhole(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(file->have().count(), 1);
  ExpectPiecesAreSound(*file, test);
  // And a second attempt, from the beginning, is another one.
  ASSERT_THAT(file->AppendWhole(test.bytes), IsOk());
  EXPECT_THAT(file->AppendWhole({wrong.data(), 1}),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(file->FinishWhole(), IsOk());
  EXPECT_TRUE(file->complete());
}

TEST_F(ContentFileTest, AppendWhole_OfTooFewBytes_IsRefused) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  ASSERT_THAT(file->AppendWhole(absl::MakeConstSpan(test.bytes).first(70'000)),
              IsOk());
  EXPECT_THAT(file->FinishWhole(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(file->have().count(), 0);
}

TEST_F(ContentFileTest, MoveWhole_LeavesTheFileAndItsHashesOnly) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  EXPECT_THAT(file->MoveWhole("/done", "/done.leaves"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  for (uint32_t i = 0; i < file->map().pieces(); ++i) {
    ASSERT_THAT(Put(file.get(), test, i), IsOkAndHolds(true));
  }
  ASSERT_THAT(file->MoveWhole("/done", "/done.leaves"), IsOk());
  EXPECT_EQ(file->path(), "/done");
  EXPECT_THAT(env_.List("/"),
              IsOkAndHolds(testing::ElementsAre("done", "done.leaves")));
  ExpectPiecesAreSound(*file, test);  // served on
  EXPECT_THAT(file->Begin(0, test.LeavesOf(0)),
              StatusIs(absl::StatusCode::kFailedPrecondition));

  env_.CrashAndLoseUnsynced();
  const auto leaves = ContentFile::ReadLeaves(&env_, "/done.leaves");
  ASSERT_THAT(leaves, IsOkAndHolds(test.tree.leaves));
  const auto whole =
      ContentFile::OpenWhole(&env_, "/done", test.content(), *leaves);
  ASSERT_THAT(whole, IsOk());
  EXPECT_TRUE((*whole)->complete());
  EXPECT_EQ((*whole)->piece_layer(), test.tree.pieces);
  ExpectPiecesAreSound(**whole, test);
}

TEST_F(ContentFileTest, OpenWhole_WithOtherLeavesOrSize_IsRefused) {
  const TestContent test = Uneven();
  ASSERT_THAT(WriteContent(&env_, "/whole", test), IsOk());
  std::vector<Digest> leaves = test.tree.leaves;
  std::swap(leaves[0], leaves[1]);
  EXPECT_THAT(ContentFile::OpenWhole(&env_, "/whole", test.content(), leaves),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("root")));
  leaves.pop_back();
  EXPECT_THAT(ContentFile::OpenWhole(&env_, "/whole", test.content(), leaves),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("leaves")));
  auto file = env_.Open("/whole", Env::OpenMode::kReadWrite);
  ASSERT_THAT(file, IsOk());
  ASSERT_THAT((*file)->WriteAt(test.bytes.size(), "x", 1), IsOk());
  EXPECT_THAT(
      ContentFile::OpenWhole(&env_, "/whole", test.content(), test.tree.leaves),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("bytes")));
}

TEST_F(ContentFileTest, Read_BeyondAPiece_IsRefused) {
  const TestContent test = Uneven();
  const auto file = Resume(test);
  ASSERT_THAT(Put(file.get(), test, 5), IsOkAndHolds(true));
  std::vector<uint8_t> bytes(30'000);
  EXPECT_THAT(file->Read(5, 0, 20'001, bytes.data()),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(file->Read(5, 0xffffffff, 2, bytes.data()),
              StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(file->Read(17, 0, 1, bytes.data()),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ContentFileTest, LeavesFile_ThatIsNone_IsRefused) {
  ASSERT_THAT(WriteFileAtomically(&env_, "/leaves", "too short"), IsOk());
  EXPECT_THAT(ContentFile::ReadLeaves(&env_, "/leaves"),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("/leaves")));
  const TestContent test = Uneven();
  ASSERT_THAT(ContentFile::WriteLeaves(&env_, "/leaves", test.tree.leaves),
              IsOk());
  EXPECT_THAT(ContentFile::ReadLeaves(&env_, "/leaves"),
              IsOkAndHolds(test.tree.leaves));
}

}  // namespace
}  // namespace koinon::dht
