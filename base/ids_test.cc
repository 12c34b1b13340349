#include "base/ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/status_matchers.h"

namespace koinon {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(ValidateIdTest, ValidNames_Ok) {
  for (const char* id : {"a", "7", "worker-1", "a.b_c-d", "9lives"}) {
    EXPECT_OK(ValidateId("worker id", id)) << id;
  }
  EXPECT_OK(ValidateId("worker id", std::string(63, 'a')));
}

TEST(ValidateIdTest, InvalidNames_InvalidArgument) {
  for (const std::string& id :
       {std::string(), std::string(64, 'a'), std::string("-a"),
        std::string(".."), std::string("_a"), std::string("Worker"),
        std::string("a b"), std::string("a/b"), std::string("a\n"),
        std::string("a\0b", 3),
        std::string("gr\xc3\xb6\xc3\x9f"
                    "e")}) {
    EXPECT_THAT(
        ValidateId("worker id", id),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("worker id")))
        << id;
  }
}

TEST(ValidateIdTest, ControlCharacters_AreEscapedInTheMessage) {
  EXPECT_THAT(ValidateId("job id", "a\x1b[2J"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\\x1b"), Not(HasSubstr("\x1b")))));
}

TEST(TaskIdTest, ToString_NamesJobRoundAndKind) {
  EXPECT_EQ((TaskId{"digits-1", 3, TaskId::Kind::kTrain}).ToString(),
            "digits-1/r3/train");
  EXPECT_EQ((TaskId{"digits-1", 4, TaskId::Kind::kEvaluate}).ToString(),
            "digits-1/r4/evaluate");
}

TEST(TaskIdTest, Comparison_ByJobThenRoundThenKind) {
  const TaskId train{"a", 1, TaskId::Kind::kTrain};
  EXPECT_LT(train, (TaskId{"a", 1, TaskId::Kind::kEvaluate}));
  EXPECT_LT(train, (TaskId{"a", 2, TaskId::Kind::kTrain}));
  EXPECT_LT(train, (TaskId{"b", 0, TaskId::Kind::kTrain}));
  EXPECT_EQ(train, (TaskId{"a", 1, TaskId::Kind::kTrain}));
}

}  // namespace
}  // namespace koinon
