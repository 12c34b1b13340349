#ifndef KOINON_BASE_STATUS_MATCHERS_H_
#define KOINON_BASE_STATUS_MATCHERS_H_

#include <gmock/gmock.h>

#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The GoogleMock matchers of newer Abseil releases, under their names
// (absl/status/status_matchers.h), because Debian's Abseil has none.

namespace absl_testing {
namespace internal {

inline const absl::Status& GetStatus(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& GetStatus(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}

}  // namespace internal

MATCHER(IsOk, "is OK") {
  *result_listener << internal::GetStatus(arg).ToString();
  return internal::GetStatus(arg).ok();
}

// Matches a status, or a StatusOr, whose code equals `code`.
MATCHER_P(StatusIs, code, "has status code " + absl::StatusCodeToString(code)) {
  *result_listener << internal::GetStatus(arg).ToString();
  return internal::GetStatus(arg).code() == code;
}

// As above; the message must match `message_matcher` too.
MATCHER_P2(StatusIs, code, message_matcher,
           "has status code " + absl::StatusCodeToString(code) +
               " and a matching message") {
  const absl::Status& status = internal::GetStatus(arg);
  *result_listener << status.ToString();
  return status.code() == code &&
         ::testing::ExplainMatchResult(
             message_matcher, std::string(status.message()), result_listener);
}

// Matches a StatusOr that is OK and whose value matches `value_matcher`.
MATCHER_P(IsOkAndHolds, value_matcher, "is OK and holds a matching value") {
  if (!arg.ok()) {
    *result_listener << arg.status().ToString();
    return false;
  }
  return ::testing::ExplainMatchResult(value_matcher, *arg, result_listener);
}

}  // namespace absl_testing

namespace koinon {
using absl_testing::IsOk;          // NOLINT(misc-unused-using-decls)
using absl_testing::IsOkAndHolds;  // NOLINT(misc-unused-using-decls)
using absl_testing::StatusIs;      // NOLINT(misc-unused-using-decls)
}  // namespace koinon

#define EXPECT_OK(expr) EXPECT_THAT((expr), ::absl_testing::IsOk())
#define ASSERT_OK(expr) ASSERT_THAT((expr), ::absl_testing::IsOk())

// Like ABSL_ASSIGN_OR_RETURN, for tests: a failure is fatal to the test.
#define ASSERT_OK_AND_ASSIGN(lhs, expr)                                       \
  KOINON_ASSERT_OK_AND_ASSIGN_(KOINON_TEST_CONCAT_(statusor_, __LINE__), lhs, \
                               expr)
#define KOINON_ASSERT_OK_AND_ASSIGN_(statusor, lhs, expr) \
  auto statusor = (expr);                                 \
  ASSERT_THAT(statusor, ::absl_testing::IsOk());          \
  lhs = *std::move(statusor)
#define KOINON_TEST_CONCAT_(a, b) KOINON_TEST_CONCAT_INNER_(a, b)
#define KOINON_TEST_CONCAT_INNER_(a, b) a##b

#endif  // KOINON_BASE_STATUS_MATCHERS_H_
