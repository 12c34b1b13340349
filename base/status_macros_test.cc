#include "base/status_macros.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "base/status_matchers.h"

namespace koinon {
namespace {

using testing::HasSubstr;
using testing::Not;

absl::Status ReturnIfError(const absl::Status& status, bool* went_on) {
  ABSL_RETURN_IF_ERROR(status);
  *went_on = true;
  return absl::OkStatus();
}

absl::StatusOr<int> AddOne(absl::StatusOr<std::unique_ptr<int>> value) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<int> number, std::move(value));
  return *number + 1;
}

TEST(StatusMacrosTest, ReturnIfError_Ok_GoesOn) {
  bool went_on = false;
  EXPECT_OK(ReturnIfError(absl::OkStatus(), &went_on));
  EXPECT_TRUE(went_on);
}

TEST(StatusMacrosTest, ReturnIfError_Error_Returns) {
  bool went_on = false;
  EXPECT_THAT(ReturnIfError(absl::AbortedError("stop"), &went_on),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("stop")));
  EXPECT_FALSE(went_on);
}

TEST(StatusMacrosTest, AssignOrReturn_MoveOnlyValue_IsMoved) {
  EXPECT_THAT(AddOne(std::make_unique<int>(1)), IsOkAndHolds(2));
}

TEST(StatusMacrosTest, AssignOrReturn_Error_Returns) {
  EXPECT_THAT(AddOne(absl::NotFoundError("none")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(StatusMatchersTest, Matchers_WrongCodeOrMessage_DoNotMatch) {
  const absl::Status status = absl::NotFoundError("none");
  EXPECT_THAT(status, Not(IsOk()));
  EXPECT_THAT(status, Not(StatusIs(absl::StatusCode::kAborted)));
  EXPECT_THAT(status,
              Not(StatusIs(absl::StatusCode::kNotFound, HasSubstr("some"))));
  EXPECT_THAT(absl::StatusOr<int>(3), Not(IsOkAndHolds(4)));
}

}  // namespace
}  // namespace koinon
