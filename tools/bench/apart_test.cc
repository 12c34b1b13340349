#include "tools/bench/apart.h"

#include <unistd.h>

#include <csignal>
#include <map>

#include "absl/status/status.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::tools {
namespace {

using ::testing::HasSubstr;

std::map<size_t, absl::StatusOr<std::string>> ResultsOf(
    const std::vector<std::function<std::string()>>& tasks, size_t at_once) {
  std::map<size_t, absl::StatusOr<std::string>> results;
  RunApart(tasks, at_once, [&](size_t task, absl::StatusOr<std::string> r) {
    results.emplace(task, std::move(r));
  });
  return results;
}

TEST(RunApart, EachTaskSeesWhatWasBeforeAndNotWhatOthersDid) {
  int shared = 1;
  const auto task = [&shared] { return std::to_string(++shared); };
  const auto results = ResultsOf({task, task, task}, 2);
  ASSERT_EQ(results.size(), 3u);
  for (const auto& [i, result] : results) {
    EXPECT_THAT(result, IsOkAndHolds("2")) << i;
  }
  EXPECT_EQ(shared, 1);
}

TEST(RunApart, LongResults_ComeWhole) {
  const auto results =
      ResultsOf({[] { return std::string(1 << 20, 'a'); },
                 [] { return std::string(1 << 20, 'b') + "end"; }},
                2);
  EXPECT_THAT(results.at(0), IsOkAndHolds(std::string(1 << 20, 'a')));
  EXPECT_THAT(results.at(1), IsOkAndHolds(std::string(1 << 20, 'b') + "end"));
}

TEST(RunApart, ProcessThatDies_SaysSoAndTheOthersGoOn) {
  const auto results = ResultsOf(
      {[]() -> std::string {
         raise(SIGKILL);
         return "never";
       },
       []() -> std::string { _exit(3); }, [] { return std::string("well"); }},
      1);
  EXPECT_THAT(results.at(0),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("signal 9")));
  EXPECT_THAT(results.at(1),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("with 3")));
  EXPECT_THAT(results.at(2), IsOkAndHolds("well"));
}

}  // namespace
}  // namespace koinon::tools
