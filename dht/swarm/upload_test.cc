#include "dht/swarm/upload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/swarm/testing_content.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

constexpr int64_t kPiece = 64 << 10;

class UploadTest : public testing::Test {
 protected:
  UploadTest() : faulty_(&env_), test_(RandomContent(3, 9 * kPiece, kPiece)) {
    EXPECT_THAT(WriteContent(&env_, "/whole", test_), IsOk());
  }

  std::shared_ptr<ContentFile> Whole() {
    auto file = ContentFile::OpenWhole(&faulty_, "/whole", test_.content(),
                                       test_.tree.leaves);
    EXPECT_THAT(file, IsOk());
    return *std::move(file);
  }
  std::shared_ptr<ContentFile> Growing() {
    auto file = ContentFile::Resume(&faulty_, "/growing", test_.content());
    EXPECT_THAT(file, IsOk());
    EXPECT_THAT((*file)->SetPieceLayer(test_.tree.pieces), IsOk());
    return *std::move(file);
  }
  void Put(ContentFile* file, uint32_t piece) {
    auto incoming = file->Begin(piece, test_.LeavesOf(piece));
    ASSERT_THAT(incoming, IsOk());
    ASSERT_THAT((*incoming)->Append(test_.Piece(piece)), IsOk());
    ASSERT_THAT((*incoming)->Finish(), IsOk());
  }

  std::unique_ptr<Upload> NewUpload(std::shared_ptr<ContentFile> file,
                                    OriginBook* book = nullptr,
                                    Bitmap have = Bitmap(9)) {
    Upload::Options options;
    options.max_wants = 4;
    options.block_bytes = 32 << 10;
    options.on_lost = [this] { ++lost_; };
    options.others = [] {
      return std::vector<Contact>{
          {.id = Sha256Of("a"), .address = "a:1", .site = ""}};
    };
    return std::make_unique<Upload>(std::move(file), std::move(have), book,
                                    OriginBook::Caller{.serves = true},
                                    options);
  }

  static std::vector<v1::FetchReply> Drain(Upload* upload) {
    std::vector<v1::FetchReply> replies;
    v1::FetchReply reply;
    while (upload->NextReply(&reply)) replies.push_back(reply);
    return replies;
  }
  // Past the opening.
  static v1::ContentOpened Opened(Upload* upload) {
    const auto replies = Drain(upload);
    EXPECT_EQ(replies.size(), 1);
    EXPECT_TRUE(replies[0].has_opened());
    return replies[0].opened();
  }

  static v1::FetchRequest Want(const std::vector<uint32_t>& pieces,
                               bool last_resort = false) {
    v1::FetchRequest request;
    for (const uint32_t p : pieces) request.mutable_want()->add_pieces(p);
    request.mutable_want()->set_last_resort(last_resort);
    return request;
  }
  static v1::FetchRequest WantAny(uint32_t count) {
    v1::FetchRequest request;
    request.mutable_want_any()->set_count(count);
    return request;
  }
  static v1::FetchRequest Cancel(uint32_t piece) {
    v1::FetchRequest request;
    request.mutable_cancel()->add_pieces(piece);
    return request;
  }
  static v1::FetchRequest Have(uint32_t piece) {
    v1::FetchRequest request;
    request.mutable_have()->add_pieces(piece);
    return request;
  }

  // "start 3", "block 3 0", "refused 3", ...
  static std::vector<std::string> Words(
      const std::vector<v1::FetchReply>& replies) {
    std::vector<std::string> words;
    for (const v1::FetchReply& r : replies) {
      if (r.has_piece_start()) {
        words.push_back(absl::StrCat("start ", r.piece_start().piece()));
      } else if (r.has_block()) {
        words.push_back(
            absl::StrCat("block ", r.block().piece(), " ", r.block().offset()));
      } else if (r.has_refused()) {
        words.push_back(absl::StrCat("refused ", r.refused().piece()));
      } else if (r.has_none()) {
        words.push_back(absl::StrCat("none ", r.none().others_size()));
      } else if (r.has_have()) {
        words.push_back("have");
      }
    }
    return words;
  }

  MemoryEnv env_;
  FaultInjectingEnv faulty_;
  const TestContent test_;
  int lost_ = 0;
};

TEST_F(UploadTest, Opening_SaysWhatIsHereAndWhoElseHasIt) {
  const auto upload = NewUpload(Whole());
  const v1::ContentOpened opened = Opened(upload.get());
  EXPECT_TRUE(Bitmap::FromBytes(opened.have(), 9)->full());
  EXPECT_FALSE(opened.origin());
  EXPECT_EQ(opened.others_size(), 1);
  OriginBook book(2);
  EXPECT_TRUE(Opened(NewUpload(Whole(), &book).get()).origin());
}

TEST_F(UploadTest, Pieces_AreSentInOrderWithTheirHashesAndBytes) {
  const auto upload = NewUpload(Whole());
  Opened(upload.get());
  ASSERT_THAT(upload->OnRequest(Want({8, 2})), IsOk());
  const auto replies = Drain(upload.get());
  ASSERT_THAT(Words(replies),
              ElementsAre("start 8", "block 8 0", "block 8 32768", "start 2",
                          "block 2 0", "block 2 32768"));
  std::string hashes;
  for (const Digest& leaf : test_.LeavesOf(8)) hashes += leaf.ToBytes();
  EXPECT_EQ(replies[0].piece_start().leaf_hashes(), hashes);
  const auto bytes = test_.Piece(8);
  EXPECT_EQ(replies[1].block().data() + replies[2].block().data(),
            std::string(bytes.begin(), bytes.end()));
  EXPECT_EQ(upload->counts().pieces, 2);
  EXPECT_EQ(upload->counts().bytes, 2 * kPiece);
}

TEST_F(UploadTest, PieceThatIsNotHere_IsRefused) {
  const auto file = Growing();
  Put(file.get(), 3);
  const auto upload = NewUpload(file);
  Opened(upload.get());
  ASSERT_THAT(upload->OnRequest(Want({4, 3})), IsOk());
  EXPECT_THAT(
      Words(Drain(upload.get())),
      ElementsAre("refused 4", "start 3", "block 3 0", "block 3 32768"));
  EXPECT_EQ(upload->counts().refused, 1);
}

TEST_F(UploadTest, PiecesThatAreNone_EndTheStream) {
  const auto upload = NewUpload(Whole());
  for (const auto& request : {Want({9}), Have(9), v1::FetchRequest()}) {
    EXPECT_THAT(upload->OnRequest(request),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  v1::FetchRequest open;
  open.mutable_open();
  EXPECT_THAT(upload->OnRequest(open),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(UploadTest, MoreWantsThanTheBound_EndTheStream) {
  const auto upload = NewUpload(Whole());
  Opened(upload.get());
  EXPECT_THAT(upload->OnRequest(Want({1, 2, 3})), IsOk());
  EXPECT_THAT(upload->OnRequest(Want({4, 5})),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("4")));
  EXPECT_THAT(upload->OnRequest(WantAny(0xffffffff)),
              StatusIs(absl::StatusCode::kResourceExhausted));
  // Refusals that are not read count like pieces.
  const auto growing = NewUpload(Growing());
  Opened(growing.get());
  EXPECT_THAT(growing->OnRequest(Want({1, 2, 3, 4})), IsOk());
  EXPECT_THAT(growing->OnRequest(Want({1})),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(growing->OnRequest(Cancel(0xffffffff)), IsOk());
}

TEST_F(UploadTest, CancelledPiece_IsNotSentOrBrokenOff) {
  const auto upload = NewUpload(Whole());
  Opened(upload.get());
  ASSERT_THAT(upload->OnRequest(Want({1, 2, 3})), IsOk());
  v1::FetchReply reply;
  ASSERT_TRUE(upload->NextReply(&reply));
  ASSERT_TRUE(upload->NextReply(&reply));
  ASSERT_TRUE(reply.has_block());
  ASSERT_THAT(upload->OnRequest(Cancel(1)), IsOk());
  ASSERT_THAT(upload->OnRequest(Cancel(2)), IsOk());
  EXPECT_THAT(Words(Drain(upload.get())),
              ElementsAre("refused 2", "refused 1", "start 3", "block 3 0",
                          "block 3 32768"));
}

TEST_F(UploadTest, NewPieces_AreToldTogetherAndOnlyOfUse) {
  const auto file = Growing();
  Bitmap caller(9);
  caller.Set(5);
  const auto upload = NewUpload(file, nullptr, caller);
  Put(file.get(), 1);
  EXPECT_TRUE(upload->CatchUp());
  EXPECT_FALSE(upload->OnPiece(1));  // told already
  EXPECT_FALSE(upload->OnPiece(5));  // the caller has it
  EXPECT_TRUE(upload->OnPiece(2));
  EXPECT_TRUE(upload->OnPiece(3));
  EXPECT_FALSE(upload->OnPiece(99));
  ASSERT_THAT(upload->OnRequest(Have(3)), IsOk());  // meanwhile
  Opened(upload.get());
  upload->FlushHaves();
  const auto replies = Drain(upload.get());
  ASSERT_THAT(Words(replies), ElementsAre("have"));
  EXPECT_THAT(replies[0].have().pieces(), ElementsAre(1, 2));
}

TEST_F(UploadTest, NextReply_MayNotBegin_OnlyFinishesWhatIsUnderWay) {
  const auto upload = NewUpload(Whole());
  Opened(upload.get());
  v1::FetchRequest want = Want({4, 5});
  want.mutable_want()->set_caller_has(3);
  EXPECT_EQ(upload->caller_has(), 0);
  ASSERT_THAT(upload->OnRequest(want), IsOk());
  EXPECT_DOUBLE_EQ(upload->caller_has(), 3.0 / 9);
  v1::FetchReply reply;
  EXPECT_FALSE(upload->NextReply(&reply, /*may_begin=*/false));
  EXPECT_TRUE(upload->wants_to_begin());
  ASSERT_TRUE(upload->NextReply(&reply, /*may_begin=*/true));
  EXPECT_TRUE(reply.has_piece_start());
  EXPECT_TRUE(upload->piece_under_way());
  EXPECT_FALSE(upload->wants_to_begin());
  ASSERT_TRUE(upload->NextReply(&reply, /*may_begin=*/false));
  ASSERT_TRUE(upload->NextReply(&reply, /*may_begin=*/false));
  EXPECT_FALSE(upload->piece_under_way());
  EXPECT_FALSE(upload->NextReply(&reply, /*may_begin=*/false));
  EXPECT_TRUE(upload->wants_to_begin());
  // More than there are.
  want.mutable_want()->set_caller_has(99);
  ASSERT_THAT(upload->OnRequest(want), IsOk());
  EXPECT_EQ(upload->caller_has(), 1);
}

TEST_F(UploadTest, PieceLayer_IsSentOnceItIsKnown) {
  v1::FetchRequest request;
  request.mutable_want_piece_layer();
  auto file = ContentFile::Resume(&env_, "/new", test_.content());
  ASSERT_THAT(file, IsOk());
  const auto upload = NewUpload(*file);
  Opened(upload.get());
  ASSERT_THAT(upload->OnRequest(request), IsOk());
  EXPECT_EQ(Drain(upload.get())[0].piece_layer().hashes(), "");
  ASSERT_THAT((*file)->SetPieceLayer(test_.tree.pieces), IsOk());
  ASSERT_THAT(upload->OnRequest(request), IsOk());
  std::string hashes;
  for (const Digest& hash : test_.tree.pieces) hashes += hash.ToBytes();
  EXPECT_EQ(Drain(upload.get())[0].piece_layer().hashes(), hashes);
}

TEST_F(UploadTest, Origin_ChoosesWhatTheCallerLacksUntilEnoughIsOut) {
  OriginBook book(/*copies=*/1);
  Bitmap half(9);
  for (uint32_t i = 0; i < 7; ++i) half.Set(i);
  const auto first = NewUpload(Whole(), &book, half);
  Opened(first.get());
  ASSERT_THAT(first->OnRequest(WantAny(3)), IsOk());
  const auto words = Words(Drain(first.get()));
  ASSERT_EQ(words.size(), 7);
  EXPECT_THAT((std::vector<std::string>{words[0], words[3]}),
              UnorderedElementsAre("start 7", "start 8"));
  EXPECT_EQ(words[6], "none 1");
  // One copy of each is out there.
  const auto second = NewUpload(Whole(), &book);
  Opened(second.get());
  ASSERT_THAT(second->OnRequest(WantAny(1)), IsOk());
  EXPECT_THAT(Words(Drain(second.get())), ElementsAre("none 1"));
}

TEST_F(UploadTest, Origin_ChoosesWhenItIsAboutToSend) {
  OriginBook book(2);
  Bitmap most(9);
  for (uint32_t i = 0; i < 7; ++i) most.Set(i);
  const auto upload = NewUpload(Whole(), &book, most);
  Opened(upload.get());
  ASSERT_THAT(upload->OnRequest(WantAny(2)), IsOk());
  ASSERT_THAT(upload->OnRequest(Have(7)), IsOk());  // from elsewhere, meanwhile
  EXPECT_THAT(Words(Drain(upload.get())),
              ElementsAre("start 8", "block 8 0", "block 8 32768", "none 1"));
}

TEST_F(UploadTest, NoneForYou_NamesOthersAnewAndEndsAllThatWasAsked) {
  OriginBook book(/*copies=*/0);
  const auto upload = NewUpload(Whole(), &book);
  Opened(upload.get());
  v1::FetchReply reply;
  for (int again = 0; again < 3; ++again) {
    ASSERT_THAT(upload->OnRequest(WantAny(2)), IsOk());
    ASSERT_TRUE(upload->NextReply(&reply));  // into the same message
    ASSERT_TRUE(reply.has_none());
    EXPECT_EQ(reply.none().others_size(), 1);
    EXPECT_FALSE(upload->NextReply(&reply));
  }
}

TEST_F(UploadTest, Origin_GivesACertainPieceAsALastResortOnly) {
  OriginBook book(2);
  const auto upload = NewUpload(Whole(), &book);
  Opened(upload.get());
  ASSERT_THAT(upload->OnRequest(Want({4})), IsOk());
  EXPECT_THAT(Words(Drain(upload.get())), ElementsAre("refused 4"));
  ASSERT_THAT(upload->OnRequest(Want({4}, /*last_resort=*/true)), IsOk());
  EXPECT_THAT(Words(Drain(upload.get())),
              ElementsAre("start 4", "block 4 0", "block 4 32768"));
  EXPECT_EQ(upload->counts().last_resort, 1);
}

TEST_F(UploadTest, PeerThatGoesWithWhatItHad_IsNotCounted) {
  OriginBook book(/*copies=*/1);
  Bitmap all(9);
  for (uint32_t i = 0; i < 9; ++i) all.Set(i);
  Bitmap most(9);
  for (uint32_t i = 0; i < 8; ++i) most.Set(i);
  NewUpload(Whole(), &book, most).reset();  // it broke off
  const auto upload = NewUpload(Whole(), &book);
  Opened(upload.get());
  ASSERT_THAT(upload->OnRequest(WantAny(1)), IsOk());
  EXPECT_EQ(Words(Drain(upload.get())).size(), 3);
  NewUpload(Whole(), &book, all).reset();  // it has finished, and serves
  ASSERT_THAT(upload->OnRequest(WantAny(1)), IsOk());
  EXPECT_THAT(Words(Drain(upload.get())), ElementsAre("none 1"));
}

TEST_F(UploadTest, PeersThatLeftWithAll_AreBelievedUpToABound) {
  Bitmap all(9);
  for (uint32_t i = 0; i < 9; ++i) all.Set(i);
  for (const size_t believed : {1, 2}) {
    OriginBook book(/*copies=*/2, /*max_finished=*/believed);
    for (int i = 0; i < 4; ++i) NewUpload(Whole(), &book, all).reset();
    const auto upload = NewUpload(Whole(), &book);
    Opened(upload.get());
    ASSERT_THAT(upload->OnRequest(WantAny(1)), IsOk());
    const size_t piece = 3;  // its start and two blocks
    const size_t none = 1;
    EXPECT_EQ(Words(Drain(upload.get())).size(), believed < 2 ? piece : none);
  }
}

TEST_F(UploadTest, DiskThatFails_RefusesThePiece) {
  const auto upload = NewUpload(Whole());
  Opened(upload.get());
  ASSERT_THAT(upload->OnRequest(Want({1, 2})), IsOk());
  faulty_.FailAt(FaultInjectingEnv::Operation::kRead, 2,
                 absl::DataLossError("broken disk"));
  EXPECT_THAT(Words(Drain(upload.get())),
              ElementsAre("start 1", "block 1 0", "refused 1", "start 2",
                          "block 2 0", "block 2 32768"));
}

TEST_F(UploadTest, Origin_SendsNothingThatTheDiskHasLost) {
  // In the second block of the piece.
  ASSERT_THAT(DamageFile(&env_, "/whole", 4 * kPiece + 40'000), IsOk());
  const auto file = Whole();
  OriginBook book(2);
  const auto upload = NewUpload(file, &book);
  Opened(upload.get());
  std::vector<std::string> words;
  for (int i = 0; i < 9; ++i) {
    ASSERT_THAT(upload->OnRequest(WantAny(1)), IsOk());
    for (const auto& word : Words(Drain(upload.get()))) words.push_back(word);
  }
  // All others; it gives one less than it was asked for, and once more none.
  EXPECT_EQ(std::count(words.begin(), words.end(), "start 4"), 1);
  EXPECT_EQ(std::count(words.begin(), words.end(), "block 4 32768"), 0);
  EXPECT_EQ(std::count(words.begin(), words.end(), "refused 4"), 1);
  EXPECT_EQ(upload->counts().pieces, 8);
  EXPECT_EQ(lost_, 1);
  EXPECT_FALSE(file->Has(4));
  EXPECT_FALSE(file->complete());
  EXPECT_TRUE(file->whole());
  ASSERT_THAT(upload->OnRequest(WantAny(1)), IsOk());
  EXPECT_THAT(Words(Drain(upload.get())), ElementsAre("none 1"));
  ASSERT_THAT(upload->OnRequest(Want({4}, /*last_resort=*/true)), IsOk());
  EXPECT_THAT(Words(Drain(upload.get())), ElementsAre("refused 4"));
  // Others hear of the rest only, and get that.
  const auto next = NewUpload(file, &book);
  const auto have = Bitmap::FromBytes(Opened(next.get()).have(), 9);
  ASSERT_THAT(have, IsOk());
  EXPECT_EQ(have->count(), 8);
  EXPECT_FALSE(have->Has(4));
  for (int i = 0; i < 9; ++i) {
    ASSERT_THAT(next->OnRequest(WantAny(1)), IsOk());
    Drain(next.get());
  }
  EXPECT_EQ(next->counts().pieces, 8);
  EXPECT_EQ(lost_, 1);
}

TEST_F(UploadTest, WhatIsInDoubt_IsComparedOnce) {
  ASSERT_THAT(DamageFile(&env_, "/whole", 4 * kPiece), IsOk());
  const auto file = Whole();
  const auto upload = NewUpload(file);
  Opened(upload.get());
  ASSERT_THAT(upload->OnRequest(Want({3, 4})), IsOk());
  EXPECT_THAT(Words(Drain(upload.get())),
              ElementsAre("start 3", "block 3 0", "block 3 32768", "start 4",
                          "block 4 0", "block 4 32768"));
  upload->DoubtLast();
  const auto next = NewUpload(file);
  Opened(next.get());
  ASSERT_THAT(next->OnRequest(Want({3, 4})), IsOk());
  EXPECT_THAT(Words(Drain(next.get())),
              ElementsAre("start 3", "block 3 0", "block 3 32768", "start 4",
                          "refused 4"));
  EXPECT_EQ(lost_, 1);
  EXPECT_FALSE(file->TakeDoubt(3));
  ASSERT_THAT(next->OnRequest(Want({4})), IsOk());
  EXPECT_THAT(Words(Drain(next.get())), ElementsAre("refused 4"));
}

}  // namespace
}  // namespace koinon::dht
