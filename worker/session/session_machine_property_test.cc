#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/random.h"
#include "worker/session/session_machine.h"

// Random schedules of everything that can happen to a worker: offers, grants,
// withdrawals, settlements, broken sessions, failing I/O, kill -9. What must
// hold whatever happens is checked at each action; what must happen in the end
// is checked after a calm time. A failing seed is printed and can be run alone.

namespace koinon::worker {
namespace {

constexpr uint64_t kSeeds = 4000;
constexpr int kSteps = 150;

// A simulated world around one machine: its disk, its I/O, a coordinator.
class World {
 public:
  explicit World(uint64_t seed) : random_(seed), seed_(seed) { Restart(); }

  void Run() {
    for (int i = 0; i < kSteps && !::testing::Test::HasFailure(); ++i) Step();
    Calm();
  }

 private:
  struct Work {
    uint64_t run;
    v1::OfferTask offer;
  };

  static SessionMachine::Config NewConfig(uint64_t seed) {
    SessionMachine::Config config;
    config.worker = "w";
    config.seed = seed;
    config.max_held_updates = 4;
    auto* dataset = config.capabilities.add_datasets();
    dataset->set_name("d");
    dataset->set_examples(1);
    dataset->set_held_out_examples(1);
    return config;
  }

  bool Chance(double p) { return random_.NextDouble() < p; }

  // kill -9 and a new start: only the disk survives.
  void Restart() {
    std::vector<v1::UpdateHeader> held;
    for (const auto& [task, header] : disk_) held.push_back(header);
    machine_ = std::make_unique<SessionMachine>(NewConfig(random_.NextUint64()),
                                                std::move(held));
    fetching_.reset();
    running_.reset();
    pushing_.reset();
    session_ = 0;
    welcomed_ = false;
    live_runs_.clear();
    Perform(machine_->Tick(now_));
  }

  void Perform(const Actions& actions) {
    for (const Action& action : actions) {
      std::visit([this](const auto& a) { Do(a); }, action);
    }
    ASSERT_LE(machine_->held_updates(), 4u) << "seed " << seed_;
  }

  void Do(const OpenSession& a) {
    EXPECT_EQ(session_, 0u) << "two sessions, seed " << seed_;
    session_ = a.session;
    welcomed_ = false;
    EXPECT_EQ(static_cast<size_t>(a.hello.held_updates_size()), disk_.size())
        << "seed " << seed_;
  }
  void Do(const SendMessage& a) {
    EXPECT_TRUE(welcomed_) << "sent before Welcome, seed " << seed_;
    EXPECT_EQ(a.session, session_) << "sent to a dead session, seed " << seed_;
    if (a.message.has_update_ready()) {
      const TaskId task =
          *TaskIdFromRef(a.message.update_ready().header().task());
      EXPECT_TRUE(disk_.contains(task)) << "announced nothing, seed " << seed_;
    }
  }
  void Do(const CloseSession& a) {
    EXPECT_EQ(a.session, session_) << "seed " << seed_;
    session_ = 0;
    welcomed_ = false;
  }
  void Do(const UseWelcome&) { EXPECT_TRUE(welcomed_) << "seed " << seed_; }
  void Do(const FetchModel& a) {
    EXPECT_FALSE(fetching_.has_value()) << "two fetches, seed " << seed_;
    fetching_ = Work{a.run, a.offer};
    live_runs_.insert(a.run);
  }
  void Do(const CancelFetch& a) {
    ASSERT_TRUE(fetching_.has_value()) << "seed " << seed_;
    EXPECT_EQ(a.run, fetching_->run) << "seed " << seed_;
  }
  void Do(const RunTask& a) {
    EXPECT_FALSE(running_.has_value()) << "two runs, seed " << seed_;
    running_ = Work{a.run, a.offer};
    const TaskId task = *TaskIdFromRef(a.offer.task());
    const auto held = disk_.find(task);
    EXPECT_FALSE(held != disk_.end() &&
                 held->second.base_digest() == a.offer.base_digest())
        << "trained what it holds: " << task.ToString() << ", seed " << seed_;
  }
  void Do(const StopTask& a) {
    ASSERT_TRUE(running_.has_value()) << "seed " << seed_;
    EXPECT_EQ(a.run, running_->run) << "seed " << seed_;
  }
  void Do(const EndTask& a) { live_runs_.erase(a.run); }
  void Do(const StartPush& a) {
    EXPECT_FALSE(pushing_.has_value()) << "two pushes, seed " << seed_;
    const TaskId task = *TaskIdFromRef(a.header.task());
    EXPECT_TRUE(disk_.contains(task)) << "pushed nothing, seed " << seed_;
    EXPECT_TRUE(granted_.contains(task)) << "no grant, seed " << seed_;
    pushing_ = a;
    granted_.erase(task);
  }
  void Do(const CancelPush& a) {
    ASSERT_TRUE(pushing_.has_value()) << "seed " << seed_;
    EXPECT_EQ(a.push, pushing_->push) << "seed " << seed_;
  }
  void Do(const ForgetUpdate& a) {
    disk_.erase(a.task);
    granted_.erase(a.task);
  }
  void Do(const Warn&) {}

  v1::TaskRef RandomTask() {
    v1::TaskRef ref;
    ref.set_job(Chance(0.7) ? "a" : "b");
    ref.set_round(1 + static_cast<int64_t>(random_.NextBelow(6)));
    ref.set_kind(Chance(0.75) ? v1::TaskRef::TRAIN : v1::TaskRef::EVALUATE);
    return ref;
  }
  v1::TaskRef RandomHeld() {
    if (disk_.empty() || Chance(0.1)) return RandomTask();
    auto it = disk_.begin();
    std::advance(it, random_.NextBelow(disk_.size()));
    return it->second.task();
  }

  v1::CoordinatorMessage RandomMessage() {
    v1::CoordinatorMessage m;
    switch (random_.NextBelow(10)) {
      case 0:
      case 1:
      case 2:
      case 3:
        *m.mutable_offer_task()->mutable_task() =
            Chance(0.3) ? RandomHeld() : RandomTask();
        m.mutable_offer_task()->set_dataset(Chance(0.95) ? "d" : "unknown");
        m.mutable_offer_task()->set_base_digest(
            std::string(32, Chance(0.95) ? 'x' : 'y'));
        m.mutable_offer_task()->set_deadline_seconds(100);
        break;
      case 4:
      case 5:
        *m.mutable_grant_upload()->mutable_task() = RandomHeld();
        m.mutable_grant_upload()->set_offset(
            static_cast<int64_t>(random_.NextBelow(101)));
        m.mutable_grant_upload()->set_expires_seconds(Chance(0.3) ? 0.5 : 30);
        break;
      case 6:
        *m.mutable_withdraw_task()->mutable_task() =
            Chance(0.5) ? RandomHeld() : RandomTask();
        break;
      case 7:
      case 8:
        *m.mutable_update_settled()->mutable_task() = RandomHeld();
        m.mutable_update_settled()->set_outcome(
            static_cast<v1::UpdateSettled::Outcome>(random_.NextBelow(4)));
        break;
      default:
        m.mutable_lease_renewed();
    }
    return m;
  }

  void Deliver(const v1::CoordinatorMessage& m) {
    if (m.has_welcome()) welcomed_ = true;
    if (m.has_grant_upload()) {
      granted_.insert(*TaskIdFromRef(m.grant_upload().task()));
    }
    const std::map<TaskId, v1::UpdateHeader> before = disk_;
    Perform(machine_->OnMessage(now_, session_, m));
    // Finished work is not thrown away for being asked for again.
    if (m.has_offer_task()) {
      const TaskId task = *TaskIdFromRef(m.offer_task().task());
      const auto held = before.find(task);
      if (held != before.end() &&
          held->second.base_digest() == m.offer_task().base_digest()) {
        EXPECT_TRUE(disk_.contains(task)) << "seed " << seed_;
      }
    }
    // INCLUDED and NOT_INCLUDED are the end: nothing of it may be left.
    if (m.has_update_settled() &&
        (m.update_settled().outcome() == v1::UpdateSettled::INCLUDED ||
         m.update_settled().outcome() == v1::UpdateSettled::NOT_INCLUDED)) {
      const TaskId task = *TaskIdFromRef(m.update_settled().task());
      if (task.kind == TaskId::Kind::kTrain) {
        EXPECT_FALSE(disk_.contains(task)) << "seed " << seed_;
      }
    }
  }

  void Welcome() {
    v1::CoordinatorMessage m;
    m.mutable_welcome()->mutable_protocol()->set_major(1);
    m.mutable_welcome()->set_lease_seconds(10);
    m.mutable_welcome()->set_max_chunk_bytes(64);
    Deliver(m);
  }

  void EndFetch(bool ok) {
    if (!fetching_.has_value()) return;
    const Work run = *fetching_;
    fetching_.reset();
    absl::StatusOr<v1::SwarmTraffic> fetched = absl::DataLossError("");
    if (ok) {
      fetched = v1::SwarmTraffic();
      fetched->set_from_peers(Chance(0.5) ? 0 : 100);
    } else if (Chance(0.7)) {
      fetched = absl::UnavailableError("");
    }
    Perform(machine_->OnFetched(now_, run.run, fetched));
  }

  void EndRun(bool ok) {
    if (!running_.has_value()) return;
    const Work run = *running_;
    running_.reset();
    if (run.offer.task().kind() == v1::TaskRef::EVALUATE) {
      v1::Metrics metrics;
      Perform(
          ok ? machine_->OnEvaluated(now_, run.run, metrics)
             : machine_->OnEvaluated(now_, run.run, absl::InternalError("")));
      return;
    }
    if (!ok) {
      Perform(machine_->OnTrained(now_, run.run, absl::InternalError("")));
      return;
    }
    v1::UpdateHeader header;
    *header.mutable_task() = run.offer.task();
    header.set_base_digest(run.offer.base_digest());
    header.set_size_bytes(100);
    disk_[*TaskIdFromRef(run.offer.task())] = header;
    if (Chance(0.1)) {  // killed between the disk and the report
      Restart();
      return;
    }
    Perform(machine_->OnTrained(now_, run.run, header));
  }

  void EndPush(int outcome) {
    if (!pushing_.has_value()) return;
    const uint64_t push = pushing_->push;
    pushing_.reset();
    PushOutcome result;
    if (outcome == 0) result.accepted = true;
    if (outcome == 1) result.status = absl::UnavailableError("");
    if (outcome == 2) result.reason = "refused";
    if (outcome == 3) result.file_status = absl::DataLossError("");
    Perform(machine_->OnPushed(now_, push, result));
  }

  void CloseSessionFromOutside() {
    if (session_ == 0) return;
    const uint64_t session = session_;
    session_ = 0;
    welcomed_ = false;
    granted_.clear();
    Perform(
        machine_->OnSessionClosed(now_, session, absl::UnavailableError("")));
  }

  void Tick(absl::Time until) {
    now_ = std::max(now_, until);
    Perform(machine_->Tick(now_));
    EXPECT_GT(machine_->next_deadline(), now_) << "would spin, seed " << seed_;
  }

  void Step() {
    switch (random_.NextBelow(16)) {
      case 0:
        Restart();
        break;
      case 1:
        CloseSessionFromOutside();
        break;
      case 2:
        Tick(now_ + absl::Seconds(3) * random_.NextDouble());
        break;
      case 3:
        Tick(std::min(machine_->next_deadline(), now_ + absl::Minutes(1)));
        break;
      case 4:
      case 5:
        EndFetch(Chance(0.8));
        break;
      case 6:
      case 7:
        EndRun(Chance(0.9));
        break;
      case 8:
      case 9:
        EndPush(Chance(0.6) ? 0 : static_cast<int>(random_.NextBelow(4)));
        break;
      default:
        if (session_ == 0) {
          Tick(std::min(machine_->next_deadline(), now_ + absl::Minutes(1)));
        } else if (!welcomed_) {
          Welcome();
        } else {
          Deliver(RandomMessage());
        }
    }
  }

  // From here on everything works: a new session, every I/O succeeds, and the
  // coordinator grants each update and then settles it. All must drain.
  void Calm() {
    CloseSessionFromOutside();
    std::set<TaskId> pushed;
    for (int i = 0; i < 400 && (machine_->busy() || !disk_.empty()); ++i) {
      if (::testing::Test::HasFailure()) return;
      if (session_ == 0) {
        Tick(machine_->next_deadline());
        continue;
      }
      if (!welcomed_) Welcome();
      EndFetch(true);
      EndRun(true);
      if (pushing_.has_value()) {
        pushed.insert(*TaskIdFromRef(pushing_->header.task()));
        EndPush(0);
      }
      v1::CoordinatorMessage m;
      m.mutable_lease_renewed();
      if (session_ != 0 && welcomed_) Deliver(m);
      if (disk_.empty() || session_ == 0 || !welcomed_) continue;
      const TaskId task = disk_.begin()->first;
      v1::CoordinatorMessage answer;
      if (pushed.contains(task)) {
        *answer.mutable_update_settled()->mutable_task() = RefFromTaskId(task);
        answer.mutable_update_settled()->set_outcome(
            v1::UpdateSettled::INCLUDED);
      } else if (!pushing_.has_value()) {
        *answer.mutable_grant_upload()->mutable_task() = RefFromTaskId(task);
        answer.mutable_grant_upload()->set_expires_seconds(30);
      } else {
        continue;
      }
      Deliver(answer);
    }
    EXPECT_FALSE(machine_->busy()) << "seed " << seed_;
    EXPECT_TRUE(disk_.empty()) << "stuck updates, seed " << seed_;
    Perform(machine_->Stop(now_, "end"));
    EXPECT_TRUE(live_runs_.empty()) << "a model stays in use, seed " << seed_;
    EXPECT_EQ(machine_->next_deadline(), absl::InfiniteFuture());
  }

  Random random_;
  const uint64_t seed_;
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  std::unique_ptr<SessionMachine> machine_;
  std::map<TaskId, v1::UpdateHeader> disk_;
  std::set<TaskId> granted_;  // in this session, not yet used
  uint64_t session_ = 0;
  bool welcomed_ = false;
  std::optional<Work> fetching_;
  std::optional<Work> running_;
  std::optional<StartPush> pushing_;
  std::set<uint64_t> live_runs_;
};

TEST(SessionMachineProperties, RandomSchedulesWithCrashes_KeepEveryPromise) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    World(seed).Run();
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace koinon::worker
