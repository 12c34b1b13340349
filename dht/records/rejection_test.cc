#include "dht/records/rejection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/status_matchers.h"

namespace koinon::dht {
namespace {

using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(RejectionTest, EveryReason_HasANameOfItsOwnThatReadsBack) {
  std::set<std::string> names;
  for (size_t i = 0; i < kRejections; ++i) {
    const auto rejection = static_cast<Rejection>(i);
    EXPECT_EQ(RejectionFromName(RejectionName(rejection)), rejection);
    names.insert(std::string(RejectionName(rejection)));
  }
  EXPECT_EQ(names.size(), kRejections);
  EXPECT_EQ(RejectionFromName(""), std::nullopt);
  EXPECT_EQ(RejectionFromName("forgery"), std::nullopt);
}

TEST(RejectionTest, Names_AreThoseOfTheWire) {
  EXPECT_EQ(RejectionName(Rejection::kOversize), "oversize");
  EXPECT_EQ(RejectionName(Rejection::kUntrustedSigner), "untrusted_signer");
  EXPECT_EQ(RejectionName(Rejection::kMismatch), "mismatch");
}

TEST(RejectedErrorTest, EveryReason_IsRemembered) {
  for (size_t i = 0; i < kRejections; ++i) {
    const auto rejection = static_cast<Rejection>(i);
    const absl::Status status = RejectedError(rejection, "why");
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status.message(), "why");
    EXPECT_EQ(RejectionOf(status), rejection);
  }
}

TEST(RejectedErrorTest, Codes_SayWhoMustAct) {
  const struct {
    Rejection rejection;
    absl::StatusCode code;
  } cases[] = {
      {Rejection::kOversize, absl::StatusCode::kResourceExhausted},
      {Rejection::kMalformed, absl::StatusCode::kInvalidArgument},
      {Rejection::kWrongKey, absl::StatusCode::kDataLoss},
      {Rejection::kWrongFederation, absl::StatusCode::kInvalidArgument},
      {Rejection::kForged, absl::StatusCode::kDataLoss},
      {Rejection::kUntrustedSigner, absl::StatusCode::kPermissionDenied},
      {Rejection::kExpired, absl::StatusCode::kFailedPrecondition},
      {Rejection::kRolledBack, absl::StatusCode::kFailedPrecondition},
      {Rejection::kEquivocation, absl::StatusCode::kDataLoss},
      {Rejection::kNotSelf, absl::StatusCode::kPermissionDenied},
      {Rejection::kQuota, absl::StatusCode::kResourceExhausted},
      {Rejection::kRate, absl::StatusCode::kResourceExhausted},
      {Rejection::kMismatch, absl::StatusCode::kInvalidArgument},
  };
  ASSERT_EQ(std::size(cases), kRejections);
  for (const auto& c : cases) {
    EXPECT_THAT(RejectedError(c.rejection, "why"), StatusIs(c.code))
        << RejectionName(c.rejection);
  }
}

TEST(RejectionOfTest, OtherErrors_HaveNone) {
  EXPECT_EQ(RejectionOf(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(RejectionOf(absl::DataLossError("disk")), std::nullopt);
}

TEST(RejectionCountsTest, Counts_AreByReasonAndLeaveOutZeros) {
  RejectionCounts counts;
  EXPECT_THAT(counts.ToMap(), IsEmpty());
  counts.Count(RejectedError(Rejection::kForged, "a"));
  counts.Count(RejectedError(Rejection::kForged, "b"));
  counts.Count(Rejection::kQuota);
  counts.Count(absl::OkStatus());
  counts.Count(absl::DataLossError("disk"));
  EXPECT_EQ(counts.count(Rejection::kForged), 2);
  EXPECT_EQ(counts.count(Rejection::kExpired), 0);
  EXPECT_THAT(counts.ToMap(),
              UnorderedElementsAre(Pair("forged", 2), Pair("quota", 1)));
}

TEST(RejectionCountsTest, FromSeveralThreads_NoneIsLost) {
  RejectionCounts counts;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&counts] {
      for (int j = 0; j < 1'000; ++j) counts.Count(Rejection::kRate);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counts.count(Rejection::kRate), 4'000);
}

}  // namespace
}  // namespace koinon::dht
