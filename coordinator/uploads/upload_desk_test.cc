#include "coordinator/uploads/upload_desk.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(30);

class UploadDeskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path =
        std::string(::testing::TempDir()) + "/" +
        ::testing::UnitTest::GetInstance()->current_test_info()->name();
    auto spool = Spool::Open(RealEnv(), path, {.max_bytes = 1 << 20}, {});
    ASSERT_THAT(spool, IsOk());
    spool_ = *std::move(spool);
    layout_ = *ModelLayout::Create({{"w", DType::kF32, {4}}});
  }

  static std::string Bytes(std::vector<float> values) {
    std::string bytes(values.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }

  static v1::UpdateHeader HeaderOf(const std::string& bytes) {
    v1::UpdateHeader header;
    header.set_size_bytes(static_cast<int64_t>(bytes.size()));
    header.set_digest(Sha256Of(bytes).ToBytes());
    return header;
  }

  UploadDesk Desk(uint64_t window) {
    return UploadDesk(spool_.get(), {.window_bytes = window,
                                     .stream_charge_bytes = 16,
                                     .patience = kPatience});
  }

  std::vector<UploadKey> Admitted(UploadDesk* desk) {
    absl::Status full;
    std::vector<UploadKey> keys;
    for (const auto& grant : desk->Admit(now_, &full))
      keys.push_back(grant.key);
    return keys;
  }

  static std::shared_ptr<Upload> UploadOf(const UploadDesk& desk,
                                          const UploadKey& key) {
    const auto granted = desk.Find(key);
    EXPECT_THAT(granted, IsOk());
    return granted.ok() ? granted->upload : nullptr;
  }

  const UploadKey a_{"job", 1, "a"}, b_{"job", 1, "b"}, c_{"job", 1, "c"};
  const std::string bytes_ = Bytes({1, 2, 3, 4});
  absl::Time now_ = absl::FromUnixSeconds(1000);
  std::unique_ptr<Spool> spool_;
  ModelLayout layout_;
};

TEST_F(UploadDeskTest, Admit_WindowForTwo_GrantsInOrderAndRefillsOnReturn) {
  UploadDesk desk = Desk(32);
  for (const UploadKey& key : {a_, b_, c_}) {
    desk.Announce(key, HeaderOf(bytes_), layout_);
  }
  EXPECT_EQ(Admitted(&desk), (std::vector<UploadKey>{a_, b_}));
  EXPECT_TRUE(Admitted(&desk).empty());
  ASSERT_OK_AND_ASSIGN(const auto first, desk.Find(a_));
  desk.Return(a_, first.grant);
  EXPECT_EQ(Admitted(&desk), (std::vector<UploadKey>{c_}));
}

TEST_F(UploadDeskTest, Admit_WindowSmallerThanOneUpload_StillGrantsOne) {
  UploadDesk desk = Desk(1);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  desk.Announce(b_, HeaderOf(bytes_), layout_);
  EXPECT_EQ(Admitted(&desk), (std::vector<UploadKey>{a_}));
}

TEST_F(UploadDeskTest, Admit_SpoolFull_KeepsUploadQueuedAndSaysWhy) {
  UploadDesk desk = Desk(64);
  v1::UpdateHeader huge = HeaderOf(bytes_);
  huge.set_size_bytes(2 << 20);
  desk.Announce(a_, huge, layout_);
  absl::Status full;
  EXPECT_TRUE(desk.Admit(now_, &full).empty());
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(desk.queued(), 1u);
}

// What they wait for may be that another job's round gets its last update.
TEST_F(UploadDeskTest, Admit_NoRoomForOneJob_LetsOthersInAndKeepsTheOrder) {
  UploadDesk desk = Desk(1000);
  v1::UpdateHeader huge = HeaderOf(bytes_);
  huge.set_size_bytes(2 << 20);
  const UploadKey x{"huge", 1, "x"}, y{"huge", 1, "y"};
  desk.Announce(x, huge, layout_);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  desk.Announce(y, HeaderOf(bytes_), layout_);
  desk.Announce(b_, HeaderOf(bytes_), layout_);
  absl::Status full;
  const auto grants = desk.Admit(now_, &full);
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_EQ(grants.size(), 2u);
  EXPECT_EQ(grants[0].key, a_);
  EXPECT_EQ(grants[1].key, b_);
  // y would fit, but not before x.
  EXPECT_TRUE(Admitted(&desk).empty());
  EXPECT_EQ(desk.queued(), 2u);
  desk.Forget(x);
  EXPECT_EQ(Admitted(&desk), std::vector<UploadKey>{y});
}

TEST_F(UploadDeskTest, Find_WithoutGrant_IsRefused) {
  UploadDesk desk = Desk(64);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  EXPECT_THAT(desk.Find(a_), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr("worker a")));
}

// A stream that broke is noticed late: its worker has a new grant by then.
TEST_F(UploadDeskTest, Return_OfAnEarlierGrant_LeavesTheNewOne) {
  UploadDesk desk = Desk(64);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  ASSERT_EQ(Admitted(&desk).size(), 1u);
  ASSERT_OK_AND_ASSIGN(const auto broken, desk.Find(a_));
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  ASSERT_EQ(Admitted(&desk).size(), 1u);
  desk.Return(a_, broken.grant);
  ASSERT_OK_AND_ASSIGN(const auto resumed, desk.Find(a_));
  EXPECT_EQ(desk.granted(), 1u);
  desk.Return(a_, resumed.grant);
  EXPECT_EQ(desk.granted(), 0u);
}

TEST_F(UploadDeskTest, Upload_BrokenOff_ResumesWhereItStood) {
  UploadDesk desk = Desk(64);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  ASSERT_EQ(Admitted(&desk).size(), 1u);
  {
    ASSERT_OK_AND_ASSIGN(auto granted, desk.Find(a_));
    const uint64_t stream = granted.upload->Attach(nullptr);
    ASSERT_OK(granted.upload->Append(stream, 0, bytes_.substr(0, 5), now_));
    EXPECT_TRUE(granted.upload->Detach(stream));
    desk.Return(a_, granted.grant);
  }
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  absl::Status full;
  const auto grants = desk.Admit(now_, &full);
  ASSERT_EQ(grants.size(), 1u);
  EXPECT_EQ(grants[0].offset, 5u);
  const auto upload = UploadOf(desk, a_);
  const uint64_t stream = upload->Attach(nullptr);
  EXPECT_THAT(
      upload->Append(stream, 4, "x", now_),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected 5")));
  ASSERT_OK(upload->Append(stream, 5, bytes_.substr(5), now_));
  EXPECT_TRUE(upload->IsWhole());
  EXPECT_OK(upload->Verify());
}

TEST_F(UploadDeskTest, Upload_PastItsSize_IsRefused) {
  UploadDesk desk = Desk(64);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  Admitted(&desk);
  const auto upload = UploadOf(desk, a_);
  const uint64_t stream = upload->Attach(nullptr);
  EXPECT_THAT(upload->Append(stream, 0, bytes_ + "x", now_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("past")));
}

TEST_F(UploadDeskTest, Verify_WrongBytesOrNan_IsRefusedByName) {
  UploadDesk desk = Desk(64);
  const std::string nan =
      Bytes({1, 2, std::numeric_limits<float>::quiet_NaN(), 4});
  desk.Announce(a_, HeaderOf(nan), layout_);
  desk.Announce(b_, HeaderOf(bytes_), layout_);
  Admitted(&desk);
  const auto fill = [&](const UploadKey& key, const std::string& bytes) {
    auto upload = UploadOf(desk, key);
    EXPECT_OK(upload->Append(upload->Attach(nullptr), 0, bytes, now_));
    return upload->Verify();
  };
  EXPECT_THAT(fill(a_, nan),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("w[2]")));
  EXPECT_THAT(
      fill(b_, Bytes({1, 2, 3, 5})),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("digest")));
}

TEST_F(UploadDeskTest, Attach_Twice_CancelsAndSilencesTheFirstStream) {
  UploadDesk desk = Desk(64);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  Admitted(&desk);
  const auto upload = UploadOf(desk, a_);
  bool cancelled = false;
  const uint64_t first = upload->Attach([&] { cancelled = true; });
  const uint64_t second = upload->Attach(nullptr);
  EXPECT_TRUE(cancelled);
  EXPECT_THAT(upload->Append(first, 0, "x", now_),
              StatusIs(absl::StatusCode::kAborted));
  EXPECT_FALSE(upload->Detach(first));
  EXPECT_OK(upload->Append(second, 0, "x", now_));
}

TEST_F(UploadDeskTest, Expire_NoProgress_FreesTheWindowAndCutsTheStream) {
  UploadDesk desk = Desk(16);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  desk.Announce(b_, HeaderOf(bytes_), layout_);
  Admitted(&desk);
  const auto upload = UploadOf(desk, a_);
  bool cancelled = false;
  const uint64_t stream = upload->Attach([&] { cancelled = true; });
  now_ += kPatience - absl::Seconds(1);
  ASSERT_OK(upload->Append(stream, 0, "x", now_));
  now_ += kPatience - absl::Seconds(1);
  desk.Expire(now_);
  EXPECT_FALSE(cancelled);
  now_ += absl::Seconds(1);
  desk.Expire(now_);
  EXPECT_TRUE(cancelled);
  EXPECT_EQ(Admitted(&desk), (std::vector<UploadKey>{b_}));
}

TEST_F(UploadDeskTest, Forget_GivesTheExtentBack_UnlessItWasTaken) {
  UploadDesk desk = Desk(64);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  desk.Announce(b_, HeaderOf(bytes_), layout_);
  Admitted(&desk);
  const uint64_t both = spool_->allocated_bytes();
  SpoolExtent taken;
  {
    const auto upload = UploadOf(desk, a_);
    taken = upload->TakeExtent();
  }
  desk.ForgetRound("job", 1);
  EXPECT_EQ(spool_->allocated_bytes(), both / 2);
  spool_->Release(taken);
  EXPECT_EQ(spool_->allocated_bytes(), 0u);
}

TEST_F(UploadDeskTest, Announce_AnotherDigest_StartsAnew) {
  UploadDesk desk = Desk(64);
  desk.Announce(a_, HeaderOf(bytes_), layout_);
  Admitted(&desk);
  const auto old = UploadOf(desk, a_);
  const uint64_t stream = old->Attach(nullptr);
  ASSERT_OK(old->Append(stream, 0, "xyz", now_));
  desk.Announce(a_, HeaderOf(Bytes({9, 9, 9, 9})), layout_);
  EXPECT_THAT(old->Append(stream, 3, "x", now_),
              StatusIs(absl::StatusCode::kAborted));
  absl::Status full;
  const auto grants = desk.Admit(now_, &full);
  ASSERT_EQ(grants.size(), 1u);
  EXPECT_EQ(grants[0].offset, 0u);
}

TEST_F(UploadDeskTest, Verify_BeyondTheTermsBound_IsRefusedByName) {
  UploadDesk desk = Desk(100);
  const UploadKey key = {"job", 1, "a"};
  const std::string bytes = Bytes({1, -3, 2, 0});
  UploadTerms terms;
  terms.bound = {.magnitude = 2.5f, .name = "the.range"};
  terms.folds = true;
  desk.Announce(key, HeaderOf(bytes), layout_, terms);
  ASSERT_EQ(Admitted(&desk).size(), 1u);
  const auto upload = UploadOf(desk, key);
  EXPECT_TRUE(upload->folds());
  const uint64_t stream = upload->Attach(nullptr);
  ASSERT_THAT(upload->Append(stream, 0, bytes, now_), IsOk());
  EXPECT_THAT(upload->Verify(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("w[1] is -3, expected at most 2.5")));
}

TEST_F(UploadDeskTest, Admit_TermsFindNoRoom_KeepsUploadQueuedAndSaysWhy) {
  UploadDesk desk = Desk(100);
  absl::Status room = absl::ResourceExhaustedError("no room for sums");
  UploadTerms terms;
  terms.make_room = [&room] { return room; };
  desk.Announce({"job", 1, "a"}, HeaderOf(Bytes({1, 2, 3, 4})), layout_, terms);
  absl::Status full;
  EXPECT_TRUE(desk.Admit(now_, &full).empty());
  EXPECT_EQ(full.message(), "no room for sums");
  EXPECT_EQ(spool_->allocated_bytes(), 0);
  room = absl::OkStatus();
  EXPECT_EQ(desk.Admit(now_, &full).size(), 1u);
  EXPECT_THAT(full, IsOk());
}

}  // namespace
}  // namespace koinon::coordinator
