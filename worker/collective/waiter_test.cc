#include "worker/collective/waiter.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::worker {
namespace {

using ::testing::HasSubstr;

Waiter::Options Impatient() {
  Waiter::Options options;
  options.limit = absl::Milliseconds(200);
  options.name = [](int rank) { return absl::StrCat("rank ", rank); };
  return options;
}

TEST(WaiterTest, Await_ReachedFlag_IsOk) {
  Waiter waiter(Impatient());
  SharedFlag flag;
  EXPECT_OK(waiter.Await(flag, 0, 3));
}

TEST(WaiterTest, Await_FlagReachedLater_IsOk) {
  Waiter::Options options = Impatient();
  options.limit = absl::Seconds(60);
  Waiter waiter(options);
  SharedFlag flag;
  std::thread other([&flag] { flag.Publish(1); });
  EXPECT_OK(waiter.Await(flag, 1, 3));
  other.join();
}

TEST(WaiterTest, Await_NoProgress_NamesTheRank) {
  Waiter waiter(Impatient());
  SharedFlag flag;
  EXPECT_THAT(waiter.Await(flag, 1, 3),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("rank 3 made no progress for 200ms")));
}

TEST(WaiterTest, Await_DeadRank_IsNoticedBeforeTheLimit) {
  Waiter::Options options = Impatient();
  options.limit = absl::InfiniteDuration();
  options.alive = [](int rank) { return rank != 2; };
  Waiter waiter(options);
  SharedFlag flag;
  EXPECT_THAT(waiter.Await(flag, 1, 2), StatusIs(absl::StatusCode::kUnavailable,
                                                 HasSubstr("rank 2 died")));
}

TEST(WaiterTest, Await_WhileMessagesAreUnderWay_LetsThemMove) {
  Waiter::Options options = Impatient();
  int calls = 0;
  SharedFlag flag;
  options.progress = [&] {
    if (++calls == 3) flag.Publish(1);
    return true;
  };
  Waiter waiter(options);
  EXPECT_OK(waiter.Await(flag, 1, 0));
  EXPECT_EQ(calls, 3);
}

TEST(WaiterTest, AwaitPoll_DoneAfterAWhile_IsOk) {
  Waiter waiter(Impatient());
  int calls = 0;
  EXPECT_OK(
      waiter.AwaitPoll([&]() -> absl::StatusOr<bool> { return ++calls == 205; },
                       [] { return std::string("nobody"); }));
  EXPECT_EQ(calls, 205);
}

TEST(WaiterTest, AwaitPoll_NeverDone_NamesWhom) {
  Waiter waiter(Impatient());
  EXPECT_THAT(waiter.AwaitPoll([]() -> absl::StatusOr<bool> { return false; },
                               [] { return std::string("rank 7"); }),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("rank 7 made no progress")));
}

TEST(WaiterTest, AwaitPoll_AskingFails_IsThatError) {
  Waiter waiter(Impatient());
  EXPECT_THAT(waiter.AwaitPoll(
                  []() -> absl::StatusOr<bool> {
                    return absl::InternalError("broken");
                  },
                  [] { return std::string("rank 7"); }),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("broken")));
}

}  // namespace
}  // namespace koinon::worker
