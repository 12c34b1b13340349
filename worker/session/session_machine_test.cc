#include "worker/session/session_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/version.h"

namespace koinon::worker {
namespace {

using ::testing::HasSubstr;

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

SessionMachine::Config NewConfig() {
  SessionMachine::Config config;
  config.worker = "site-a";
  config.seed = 5;
  for (const char* name : {"digits", "faces"}) {
    auto* dataset = config.capabilities.add_datasets();
    dataset->set_name(name);
    dataset->set_examples(100);
    dataset->set_held_out_examples(20);
  }
  auto* unlabelled = config.capabilities.add_datasets();
  unlabelled->set_name("untested");
  unlabelled->set_examples(100);
  return config;
}

v1::TaskRef Ref(const std::string& job, int64_t round,
                v1::TaskRef::Kind kind = v1::TaskRef::TRAIN) {
  v1::TaskRef ref;
  ref.set_job(job);
  ref.set_round(round);
  ref.set_kind(kind);
  return ref;
}

v1::CoordinatorMessage Offer(const v1::TaskRef& task, char base = 'b',
                             const std::string& dataset = "digits") {
  v1::CoordinatorMessage message;
  auto* offer = message.mutable_offer_task();
  *offer->mutable_task() = task;
  offer->set_dataset(dataset);
  offer->set_base_version(task.round() - 1);
  offer->set_base_digest(std::string(32, base));
  offer->set_deadline_seconds(60);
  return message;
}

v1::CoordinatorMessage Welcome(double lease = 15) {
  v1::CoordinatorMessage message;
  message.mutable_welcome()->mutable_protocol()->set_major(kProtocolMajor);
  message.mutable_welcome()->set_software_version("0.1.0");
  message.mutable_welcome()->set_lease_seconds(lease);
  message.mutable_welcome()->set_max_chunk_bytes(1 << 20);
  message.mutable_welcome()->set_epoch(1);
  return message;
}

v1::CoordinatorMessage Grant(const v1::TaskRef& task, int64_t offset,
                             double expires = 30) {
  v1::CoordinatorMessage message;
  *message.mutable_grant_upload()->mutable_task() = task;
  message.mutable_grant_upload()->set_offset(offset);
  message.mutable_grant_upload()->set_expires_seconds(expires);
  return message;
}

v1::CoordinatorMessage Settled(const v1::TaskRef& task,
                               v1::UpdateSettled::Outcome outcome) {
  v1::CoordinatorMessage message;
  *message.mutable_update_settled()->mutable_task() = task;
  message.mutable_update_settled()->set_outcome(outcome);
  return message;
}

v1::CoordinatorMessage Withdraw(const v1::TaskRef& task) {
  v1::CoordinatorMessage message;
  *message.mutable_withdraw_task()->mutable_task() = task;
  return message;
}

v1::UpdateHeader Header(const v1::TaskRef& task, char base = 'b') {
  v1::UpdateHeader header;
  *header.mutable_task() = task;
  header.set_base_digest(std::string(32, base));
  header.set_size_bytes(1000);
  header.set_digest(std::string(32, 'u'));
  return header;
}

// The actions of one type, in order.
template <typename T>
std::vector<T> Of(const Actions& actions) {
  std::vector<T> found;
  for (const Action& action : actions) {
    if (const T* match = std::get_if<T>(&action)) found.push_back(*match);
  }
  return found;
}

// The messages of one kind, in order.
std::vector<v1::WorkerMessage> Sent(const Actions& actions,
                                    v1::WorkerMessage::MessageCase kind) {
  std::vector<v1::WorkerMessage> found;
  for (const SendMessage& send : Of<SendMessage>(actions)) {
    if (send.message.message_case() == kind) found.push_back(send.message);
  }
  return found;
}

class SessionMachineTest : public ::testing::Test {
 protected:
  // Connects; returns what followed Welcome.
  Actions Connect(SessionMachine& machine, double lease = 15) {
    const Actions opened = machine.Tick(now_);
    const auto sessions = Of<OpenSession>(opened);
    EXPECT_EQ(sessions.size(), 1u);
    session_ = sessions.at(0).session;
    hello_ = sessions.at(0).hello;
    return machine.OnMessage(now_, session_, Welcome(lease));
  }
  Actions Say(SessionMachine& machine, const v1::CoordinatorMessage& message) {
    return machine.OnMessage(now_, session_, message);
  }
  // Accepts, fetches and trains; returns what followed.
  Actions TrainToTheEnd(SessionMachine& machine, const v1::TaskRef& task) {
    const auto fetches = Of<FetchModel>(Say(machine, Offer(task)));
    EXPECT_EQ(fetches.size(), 1u);
    const uint64_t run = fetches.at(0).run;
    EXPECT_EQ(
        Of<RunTask>(machine.OnFetched(now_, run, v1::SwarmTraffic())).size(),
        1u);
    return machine.OnTrained(now_, run, Header(task));
  }

  absl::Time now_ = kStart;
  uint64_t session_ = 0;
  v1::Hello hello_;
};

TEST_F(SessionMachineTest, Hello_NamesVersionWorkerAndHeldUpdates) {
  SessionMachine machine(NewConfig(), {Header(Ref("digits-1", 3))});
  Connect(machine);
  EXPECT_EQ(hello_.worker(), "site-a");
  EXPECT_EQ(hello_.protocol().major(), kProtocolMajor);
  EXPECT_EQ(hello_.capabilities().datasets_size(), 3);
  ASSERT_EQ(hello_.held_updates_size(), 1);
  EXPECT_EQ(hello_.held_updates(0).task().round(), 3);
}

TEST_F(SessionMachineTest, Welcome_OfAnotherMajorVersion_ClosesAndSaysBoth) {
  SessionMachine machine(NewConfig(), {});
  const auto opened = Of<OpenSession>(machine.Tick(now_));
  v1::CoordinatorMessage welcome = Welcome();
  welcome.mutable_welcome()->mutable_protocol()->set_major(9);
  const auto closed =
      Of<CloseSession>(machine.OnMessage(now_, opened.at(0).session, welcome));
  ASSERT_EQ(closed.size(), 1u);
  EXPECT_THAT(closed[0].reason, HasSubstr("protocol 9.0"));
  EXPECT_THAT(
      closed[0].reason,
      HasSubstr(absl::StrCat("speaks ", kProtocolMajor, ".", kProtocolMinor)));
  EXPECT_GE(machine.next_deadline(), now_ + absl::Seconds(15));
}

TEST_F(SessionMachineTest, Welcome_WithImpossibleLease_Closes) {
  for (double lease : {0.0, -1.0, std::nan(""), 1e300}) {
    SessionMachine machine(NewConfig(), {});
    const auto opened = Of<OpenSession>(machine.Tick(now_));
    const auto actions =
        machine.OnMessage(now_, opened.at(0).session, Welcome(lease));
    EXPECT_EQ(Of<CloseSession>(actions).size(), 1u) << lease;
  }
}

TEST_F(SessionMachineTest, SessionRefusedForGood_WaitsLong) {
  SessionMachine machine(NewConfig(), {});
  const auto opened = Of<OpenSession>(machine.Tick(now_));
  machine.OnSessionClosed(now_, opened.at(0).session,
                          absl::PermissionDeniedError("not your name"));
  EXPECT_GE(machine.next_deadline(), now_ + absl::Seconds(15));
}

TEST_F(SessionMachineTest, Lease_Unanswered_Reconnects) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  size_t renewals = 0;
  for (int s = 1; s < 15; ++s) {
    renewals += Sent(machine.Tick(kStart + absl::Seconds(s)),
                     v1::WorkerMessage::kRenewLease)
                    .size();
  }
  EXPECT_EQ(renewals, 2u);
  EXPECT_EQ(Of<CloseSession>(machine.Tick(kStart + absl::Seconds(15))).size(),
            1u);
  EXPECT_EQ(machine.connection_state(), Connection::State::kIdle);
  const auto again = Of<OpenSession>(machine.Tick(machine.next_deadline()));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].session, 2u);
}

TEST_F(SessionMachineTest, Offer_GoesFromFetchToPushToSettlement) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const v1::TaskRef task = Ref("digits-1", 1);
  const Actions ready = TrainToTheEnd(machine, task);
  EXPECT_EQ(Sent(ready, v1::WorkerMessage::kUpdateReady).size(), 1u);
  EXPECT_EQ(Of<EndTask>(ready).size(), 1u);
  const auto pushes = Of<StartPush>(Say(machine, Grant(task, 256)));
  ASSERT_EQ(pushes.size(), 1u);
  EXPECT_EQ(pushes[0].offset, 256);
  EXPECT_EQ(pushes[0].chunk_bytes, 1 << 20);
  PushOutcome outcome;
  outcome.accepted = true;
  machine.OnPushed(now_, pushes[0].push, outcome);
  EXPECT_EQ(machine.held_updates(), 1u);  // accepted means keep
  const auto forgotten = Of<ForgetUpdate>(
      Say(machine, Settled(task, v1::UpdateSettled::INCLUDED)));
  EXPECT_EQ(forgotten.size(), 1u);
  EXPECT_EQ(machine.held_updates(), 0u);
}

TEST_F(SessionMachineTest, Offer_UnknownDataset_IsRefusedWithTheKnownOnes) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const auto refusals =
      Sent(Say(machine, Offer(Ref("digits-1", 1), 'b', "cats")),
           v1::WorkerMessage::kRefuseTask);
  ASSERT_EQ(refusals.size(), 1u);
  EXPECT_THAT(
      refusals[0].refuse_task().reason(),
      HasSubstr("unknown dataset cats; this worker has: digits, faces"));
}

TEST_F(SessionMachineTest, Offer_EvaluationWithoutHeldOutData_IsRefused) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const auto refusals = Sent(
      Say(machine, Offer(Ref("j", 1, v1::TaskRef::EVALUATE), 'b', "untested")),
      v1::WorkerMessage::kRefuseTask);
  ASSERT_EQ(refusals.size(), 1u);
  EXPECT_THAT(refusals[0].refuse_task().reason(), HasSubstr("held-out"));
}

TEST_F(SessionMachineTest, Offer_UnknownExternalTrainer_IsRefused) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  v1::CoordinatorMessage offer = Offer(Ref("j", 1));
  offer.mutable_offer_task()->mutable_training()->set_external_trainer("mine");
  const auto refusals =
      Sent(Say(machine, offer), v1::WorkerMessage::kRefuseTask);
  ASSERT_EQ(refusals.size(), 1u);
  EXPECT_THAT(refusals[0].refuse_task().reason(), HasSubstr("mine"));
}

TEST_F(SessionMachineTest, Offer_ThatTheCheckDislikes_IsRefused) {
  SessionMachine::Config config = NewConfig();
  config.check_offer = [](const v1::OfferTask&) {
    return absl::InvalidArgumentError("model takes [784], data has [64]");
  };
  SessionMachine machine(config, {});
  Connect(machine);
  const auto refusals =
      Sent(Say(machine, Offer(Ref("j", 1))), v1::WorkerMessage::kRefuseTask);
  ASSERT_EQ(refusals.size(), 1u);
  EXPECT_THAT(refusals[0].refuse_task().reason(), HasSubstr("[784]"));
}

TEST_F(SessionMachineTest, Offer_OfAnotherJobWhileTraining_IsRefusedAsBusy) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  Say(machine, Offer(Ref("one", 1)));
  const auto refusals =
      Sent(Say(machine, Offer(Ref("two", 1))), v1::WorkerMessage::kRefuseTask);
  ASSERT_EQ(refusals.size(), 1u);
  EXPECT_THAT(refusals[0].refuse_task().reason(),
              HasSubstr("busy with one/r1"));
}

TEST_F(SessionMachineTest, Offer_OfWhatIsBeingTrained_IsAcceptedAgainOnce) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  Say(machine, Offer(Ref("one", 1)));
  const Actions again = Say(machine, Offer(Ref("one", 1)));
  EXPECT_EQ(Sent(again, v1::WorkerMessage::kAcceptTask).size(), 1u);
  EXPECT_EQ(Of<FetchModel>(again).size(), 0u);
}

TEST_F(SessionMachineTest, Offer_OfANewerRound_ReplacesTheOlder) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(Ref("one", 1))));
  const Actions next = Say(machine, Offer(Ref("one", 2)));
  EXPECT_EQ(Of<CancelFetch>(next).size(), 1u);
  EXPECT_EQ(Sent(next, v1::WorkerMessage::kAcceptTask).size(), 1u);
  EXPECT_EQ(Of<FetchModel>(next).size(), 0u);  // until the first has ended
  const auto second = Of<FetchModel>(machine.OnFetched(
      now_, fetch.at(0).run, absl::CancelledError("withdrawn")));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].offer.task().round(), 2);
}

TEST_F(SessionMachineTest,
       Offer_AfterReconnect_ReplacesWhatNobodyWantsAnyMore) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  Say(machine, Offer(Ref("one", 1)));
  machine.OnSessionClosed(now_, session_, absl::UnavailableError("gone"));
  now_ = machine.next_deadline();
  Connect(machine);
  EXPECT_EQ(
      Sent(Say(machine, Offer(Ref("two", 1))), v1::WorkerMessage::kAcceptTask)
          .size(),
      1u);
}

TEST_F(SessionMachineTest, Offer_OfAHeldUpdate_IsAnnouncedNotRetrained) {
  const v1::TaskRef task = Ref("digits-1", 3);
  SessionMachine machine(NewConfig(), {Header(task)});
  Connect(machine);
  const Actions actions = Say(machine, Offer(task));
  EXPECT_EQ(Sent(actions, v1::WorkerMessage::kUpdateReady).size(), 1u);
  EXPECT_EQ(Of<FetchModel>(actions).size(), 0u);
}

TEST_F(SessionMachineTest, Offer_OfAHeldTaskFromAnotherBase_IsTrainedAnew) {
  const v1::TaskRef task = Ref("digits-1", 3);
  SessionMachine machine(NewConfig(), {Header(task, 'x')});
  Connect(machine);
  const Actions actions = Say(machine, Offer(task, 'b'));
  EXPECT_EQ(Of<ForgetUpdate>(actions).size(), 1u);
  EXPECT_EQ(Of<FetchModel>(actions).size(), 1u);
}

TEST_F(SessionMachineTest, Fetch_Unavailable_IsTriedAgainUntilTheDeadline) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine, /*lease=*/3600);
  auto fetch = Of<FetchModel>(Say(machine, Offer(Ref("one", 1))));
  Actions last;
  size_t attempts = 0;
  while (attempts < 1000) {
    ++attempts;
    last = machine.OnFetched(now_, fetch.at(0).run, absl::UnavailableError(""));
    if (!Sent(last, v1::WorkerMessage::kTaskFailed).empty()) break;
    now_ = machine.next_deadline();
    fetch = Of<FetchModel>(machine.Tick(now_));
  }
  // Full jitter under 30 s: the offer's 60 s take at least three attempts.
  EXPECT_GE(attempts, 3u);
  EXPECT_LT(attempts, 1000u);
  EXPECT_GE(now_, kStart + absl::Seconds(60));
}

v1::SwarmTraffic SomeTraffic() {
  v1::SwarmTraffic traffic;
  traffic.set_from_peers(300);
  traffic.set_from_origin(100);
  return traffic;
}

TEST_F(SessionMachineTest, Fetched_HowTheBytesCameIsSaidOnce) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(Ref("one", 1))));
  const auto said =
      Sent(machine.OnFetched(now_, fetch.at(0).run, SomeTraffic()),
           v1::WorkerMessage::kTaskProgress);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].task_progress().fetched().from_peers(), 300);
  EXPECT_EQ(said[0].task_progress().fetched().from_origin(), 100);
  const auto later = Sent(machine.OnProgress(now_, fetch[0].run, 0.5, 1),
                          v1::WorkerMessage::kTaskProgress);
  ASSERT_EQ(later.size(), 1u);
  EXPECT_FALSE(later[0].task_progress().has_fetched());
}

TEST_F(SessionMachineTest, Fetched_WithoutASession_IsSaidInTheNext) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(Ref("one", 1))));
  machine.OnSessionClosed(now_, session_, absl::UnavailableError("gone"));
  machine.OnFetched(now_, fetch.at(0).run, SomeTraffic());
  now_ = machine.next_deadline();
  Connect(machine);
  Say(machine, Offer(Ref("one", 1)));
  const auto said = Sent(machine.OnProgress(now_, fetch[0].run, 0.5, 1),
                         v1::WorkerMessage::kTaskProgress);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].task_progress().fetched().from_peers(), 300);
}

TEST_F(SessionMachineTest, Fetched_WasHereAlready_SaysNothing) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(Ref("one", 1))));
  EXPECT_EQ(Sent(machine.OnFetched(now_, fetch.at(0).run, v1::SwarmTraffic()),
                 v1::WorkerMessage::kTaskProgress)
                .size(),
            0u);
}

TEST_F(SessionMachineTest, Welcome_IsHandedOn) {
  SessionMachine machine(NewConfig(), {});
  const Actions actions = Connect(machine);
  ASSERT_EQ(Of<UseWelcome>(actions).size(), 1u);
  EXPECT_EQ(Of<UseWelcome>(actions)[0].welcome.epoch(), 1);
}

TEST_F(SessionMachineTest, Hello_SaysWhereOthersReachTheWorker) {
  SessionMachine::Config config = NewConfig();
  SessionMachine silent(config, {});
  EXPECT_FALSE(Of<OpenSession>(silent.Tick(now_)).at(0).hello.has_peer());
  config.peer.emplace().set_address("10.0.0.5:7171");
  SessionMachine machine(config, {});
  EXPECT_EQ(Of<OpenSession>(machine.Tick(now_)).at(0).hello.peer().address(),
            "10.0.0.5:7171");
}

TEST_F(SessionMachineTest, Fetch_CorruptModel_FailsTheTask) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(Ref("one", 1))));
  const auto failed = Sent(
      machine.OnFetched(now_, fetch.at(0).run, absl::DataLossError("chunk 3")),
      v1::WorkerMessage::kTaskFailed);
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_THAT(failed[0].task_failed().reason(), HasSubstr("chunk 3"));
}

TEST_F(SessionMachineTest, Training_Fails_SaysWhyAndIsFreeAgain) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(Ref("one", 1))));
  machine.OnFetched(now_, fetch.at(0).run, v1::SwarmTraffic());
  const auto failed =
      Sent(machine.OnTrained(now_, fetch[0].run,
                             absl::ResourceExhaustedError("the disk is full")),
           v1::WorkerMessage::kTaskFailed);
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_THAT(failed[0].task_failed().reason(), HasSubstr("the disk is full"));
  EXPECT_EQ(
      Sent(Say(machine, Offer(Ref("two", 1))), v1::WorkerMessage::kAcceptTask)
          .size(),
      1u);
}

TEST_F(SessionMachineTest, Withdrawn_WhileTraining_StopsAndForgetsALateUpdate) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const v1::TaskRef task = Ref("one", 1);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(task)));
  machine.OnFetched(now_, fetch.at(0).run, v1::SwarmTraffic());
  EXPECT_EQ(Of<StopTask>(Say(machine, Withdraw(task))).size(), 1u);
  const Actions late = machine.OnTrained(now_, fetch[0].run, Header(task));
  EXPECT_EQ(Of<ForgetUpdate>(late).size(), 1u);
  EXPECT_EQ(Sent(late, v1::WorkerMessage::kUpdateReady).size(), 0u);
}

TEST_F(SessionMachineTest, Withdrawn_OfferedAgainWhileItEnds_KeepsTheUpdate) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const v1::TaskRef task = Ref("one", 1);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(task)));
  machine.OnFetched(now_, fetch.at(0).run, v1::SwarmTraffic());
  Say(machine, Withdraw(task));
  Say(machine, Offer(task));
  const Actions done = machine.OnTrained(now_, fetch[0].run, Header(task));
  EXPECT_EQ(Sent(done, v1::WorkerMessage::kUpdateReady).size(), 1u);
  EXPECT_EQ(Of<RunTask>(done).size(), 0u);
}

TEST_F(SessionMachineTest, Progress_IsSentAtMostTwiceASecond) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(Ref("one", 1))));
  machine.OnFetched(now_, fetch.at(0).run, v1::SwarmTraffic());
  size_t sent = 0;
  for (int ms = 0; ms < 2000; ms += 10) {
    sent += Sent(machine.OnProgress(kStart + absl::Milliseconds(ms),
                                    fetch[0].run, 0.5, 1.0),
                 v1::WorkerMessage::kTaskProgress)
                .size();
  }
  EXPECT_EQ(sent, 4u);
}

TEST_F(SessionMachineTest, Push_Broken_IsAnnouncedAgainAfterBackoff) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const v1::TaskRef task = Ref("one", 1);
  TrainToTheEnd(machine, task);
  const auto push = Of<StartPush>(Say(machine, Grant(task, 0)));
  PushOutcome broken;
  broken.status = absl::UnavailableError("connection reset");
  EXPECT_TRUE(Sent(machine.OnPushed(now_, push.at(0).push, broken),
                   v1::WorkerMessage::kUpdateReady)
                  .empty());
  now_ = machine.next_deadline();
  EXPECT_LE(now_, kStart + absl::Milliseconds(200));
  EXPECT_EQ(Sent(machine.Tick(now_), v1::WorkerMessage::kUpdateReady).size(),
            1u);
  const auto resumed = Of<StartPush>(Say(machine, Grant(task, 512)));
  ASSERT_EQ(resumed.size(), 1u);
  EXPECT_EQ(resumed[0].offset, 512);
}

TEST_F(SessionMachineTest, Push_RefusedForGood_ForgetsTheUpdate) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const v1::TaskRef task = Ref("one", 1);
  TrainToTheEnd(machine, task);
  const auto push = Of<StartPush>(Say(machine, Grant(task, 0)));
  PushOutcome refused;
  refused.reason = "not finite: fc1.weight[3]";
  const auto forgotten =
      Of<ForgetUpdate>(machine.OnPushed(now_, push.at(0).push, refused));
  ASSERT_EQ(forgotten.size(), 1u);
  EXPECT_THAT(forgotten[0].reason, HasSubstr("fc1.weight[3]"));
}

TEST_F(SessionMachineTest, Push_FileUnreadable_FailsTheTask) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const v1::TaskRef task = Ref("one", 1);
  TrainToTheEnd(machine, task);
  const auto push = Of<StartPush>(Say(machine, Grant(task, 0)));
  PushOutcome outcome;
  outcome.file_status = absl::DataLossError("input/output error");
  const Actions actions = machine.OnPushed(now_, push.at(0).push, outcome);
  EXPECT_EQ(Sent(actions, v1::WorkerMessage::kTaskFailed).size(), 1u);
  EXPECT_EQ(Of<ForgetUpdate>(actions).size(), 1u);
}

TEST_F(SessionMachineTest, Grant_Expired_IsAskedForAgainBeforePushing) {
  SessionMachine machine(NewConfig(),
                         {Header(Ref("one", 1)), Header(Ref("two", 1))});
  Connect(machine);
  const auto first = Of<StartPush>(Say(machine, Grant(Ref("one", 1), 0)));
  ASSERT_EQ(first.size(), 1u);
  EXPECT_TRUE(Of<StartPush>(Say(machine, Grant(Ref("two", 1), 0, 2))).empty());
  now_ += absl::Seconds(3);
  PushOutcome outcome;
  outcome.accepted = true;
  const Actions actions = machine.OnPushed(now_, first[0].push, outcome);
  EXPECT_TRUE(Of<StartPush>(actions).empty());
  EXPECT_EQ(Sent(actions, v1::WorkerMessage::kUpdateReady).size(), 1u);
}

TEST_F(SessionMachineTest, Grant_WithImpossibleOffset_IsNotFollowed) {
  SessionMachine machine(NewConfig(), {Header(Ref("one", 1))});
  Connect(machine);
  for (int64_t offset : {int64_t{-1}, int64_t{1001}}) {
    const Actions actions = Say(machine, Grant(Ref("one", 1), offset));
    EXPECT_TRUE(Of<StartPush>(actions).empty());
    EXPECT_EQ(Of<Warn>(actions).size(), 1u);
  }
}

TEST_F(SessionMachineTest, Grant_ForNothingHeld_IsAnswered) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  EXPECT_EQ(Sent(Say(machine, Grant(Ref("one", 1), 0)),
                 v1::WorkerMessage::kTaskFailed)
                .size(),
            1u);
}

TEST_F(SessionMachineTest, Grant_DuringItsOwnPush_RestartsFromTheNewOffset) {
  const v1::TaskRef task = Ref("one", 1);
  SessionMachine machine(NewConfig(), {Header(task)});
  Connect(machine);
  const auto first = Of<StartPush>(Say(machine, Grant(task, 0)));
  const Actions again = Say(machine, Grant(task, 100));
  EXPECT_EQ(Of<CancelPush>(again).size(), 1u);
  EXPECT_TRUE(Of<StartPush>(again).empty());
  PushOutcome cancelled;
  cancelled.status = absl::CancelledError("cancelled");
  const auto second =
      Of<StartPush>(machine.OnPushed(now_, first.at(0).push, cancelled));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].offset, 100);
}

TEST_F(SessionMachineTest, Finished_WhileDisconnected_IsToldByTheNextHello) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const v1::TaskRef task = Ref("one", 1);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(task)));
  machine.OnFetched(now_, fetch.at(0).run, v1::SwarmTraffic());
  machine.OnSessionClosed(now_, session_, absl::UnavailableError("gone"));
  EXPECT_TRUE(
      Of<SendMessage>(machine.OnTrained(now_, fetch[0].run, Header(task)))
          .empty());
  now_ = machine.next_deadline();
  Connect(machine);
  EXPECT_EQ(hello_.held_updates_size(), 1);
}

TEST_F(SessionMachineTest, Finished_BetweenHelloAndWelcome_IsAnnounced) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const v1::TaskRef task = Ref("one", 1);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(task)));
  machine.OnFetched(now_, fetch.at(0).run, v1::SwarmTraffic());
  machine.OnSessionClosed(now_, session_, absl::UnavailableError("gone"));
  now_ = machine.next_deadline();
  const auto opened = Of<OpenSession>(machine.Tick(now_));
  machine.OnTrained(now_, fetch[0].run, Header(task));
  const Actions welcomed =
      machine.OnMessage(now_, opened.at(0).session, Welcome());
  EXPECT_EQ(opened[0].hello.held_updates_size(), 0);
  EXPECT_EQ(Sent(welcomed, v1::WorkerMessage::kUpdateReady).size(), 1u);
}

TEST_F(SessionMachineTest, Evaluation_RunsBesideNothingAndIsReported) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  const v1::TaskRef evaluate = Ref("one", 1, v1::TaskRef::EVALUATE);
  const auto train = Of<FetchModel>(Say(machine, Offer(Ref("two", 1))));
  EXPECT_EQ(Sent(Say(machine, Offer(evaluate)), v1::WorkerMessage::kAcceptTask)
                .size(),
            1u);
  const Actions trained_starts =
      machine.OnFetched(now_, train.at(0).run, v1::SwarmTraffic());
  const auto fetch = Of<FetchModel>(trained_starts);
  ASSERT_EQ(fetch.size(), 1u);  // the second model, while the first trains
  EXPECT_TRUE(
      Of<RunTask>(machine.OnFetched(now_, fetch[0].run, v1::SwarmTraffic()))
          .empty());
  const auto evaluation =
      Of<RunTask>(machine.OnTrained(now_, train[0].run, Header(Ref("two", 1))));
  ASSERT_EQ(evaluation.size(), 1u);
  v1::Metrics metrics;
  metrics.set_accuracy(0.75);
  const auto done = Sent(machine.OnEvaluated(now_, evaluation[0].run, metrics),
                         v1::WorkerMessage::kEvaluationDone);
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].evaluation_done().metrics().accuracy(), 0.75);
  // Offered again: answered from memory.
  const Actions again = Say(machine, Offer(evaluate));
  EXPECT_EQ(Sent(again, v1::WorkerMessage::kEvaluationDone).size(), 1u);
  EXPECT_TRUE(Of<FetchModel>(again).empty());
}

TEST_F(SessionMachineTest, HeldUpdates_OverTheBound_ForgetAcceptedOnesFirst) {
  SessionMachine::Config config = NewConfig();
  config.max_held_updates = 2;
  SessionMachine machine(config, {});
  Connect(machine);
  TrainToTheEnd(machine, Ref("one", 1));
  TrainToTheEnd(machine, Ref("one", 2));
  Say(machine, Settled(Ref("one", 2), v1::UpdateSettled::ACCEPTED));
  const auto forgotten =
      Of<ForgetUpdate>(TrainToTheEnd(machine, Ref("one", 3)));
  ASSERT_EQ(forgotten.size(), 1u);
  EXPECT_EQ(forgotten[0].task.round, 2);
}

TEST_F(SessionMachineTest, Stop_SaysGoodbyeAndStopsEverything) {
  SessionMachine machine(NewConfig(), {Header(Ref("two", 1))});
  Connect(machine);
  const auto fetch = Of<FetchModel>(Say(machine, Offer(Ref("one", 1))));
  machine.OnFetched(now_, fetch.at(0).run, v1::SwarmTraffic());
  const auto push = Of<StartPush>(Say(machine, Grant(Ref("two", 1), 0)));
  const Actions actions = machine.Stop(now_, "SIGTERM");
  EXPECT_EQ(Of<StopTask>(actions).size(), 1u);
  EXPECT_EQ(Of<CancelPush>(actions).size(), 1u);
  EXPECT_EQ(Sent(actions, v1::WorkerMessage::kGoodbye).size(), 1u);
  EXPECT_TRUE(Of<CloseSession>(actions).at(0).graceful);
  EXPECT_TRUE(machine.busy());
  machine.OnTrained(now_, fetch[0].run, absl::CancelledError("stopped"));
  PushOutcome cancelled;
  cancelled.status = absl::CancelledError("cancelled");
  machine.OnPushed(now_, push.at(0).push, cancelled);
  EXPECT_FALSE(machine.busy());
  EXPECT_EQ(machine.next_deadline(), absl::InfiniteFuture());
  EXPECT_TRUE(machine.Tick(absl::InfiniteFuture()).empty());
}

TEST_F(SessionMachineTest, Messages_AboutImpossibleTasks_AreIgnored) {
  SessionMachine machine(NewConfig(), {});
  Connect(machine);
  for (const v1::TaskRef& task :
       {Ref("", 1), Ref("../etc", 1), Ref("one", 0), Ref("one", -5),
        Ref("one", 1, v1::TaskRef::KIND_UNSPECIFIED)}) {
    const Actions actions = Say(machine, Offer(task));
    EXPECT_EQ(Of<Warn>(actions).size(), 1u) << task.ShortDebugString();
    EXPECT_EQ(actions.size(), 1u);
  }
}

TEST_F(SessionMachineTest, Validate_NamesTheField) {
  SessionMachine::Config config = NewConfig();
  EXPECT_OK(SessionMachine::Validate(config));
  config.worker = "Site A";
  EXPECT_THAT(
      SessionMachine::Validate(config),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("worker name")));
  config = NewConfig();
  config.max_held_updates = 0;
  EXPECT_THAT(SessionMachine::Validate(config),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("max_held_updates")));
}

}  // namespace
}  // namespace koinon::worker
