#include "dht/transport/simulated.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/random.h"

namespace koinon::dht {
namespace {

// What is written into the event log.
enum class EventKind : uint64_t {
  kQuestionSent = 1,
  kQuestionLost = 2,
  kQuestionArrived = 3,
  kAnswerSent = 4,
  kAnswerLost = 5,
  kAnswerArrived = 6,
  kTimedOut = 7,
  kTimer = 8,
  kCrash = 9,
  kGroup = 10,
};

// A hash over records of numbers, taken block by block, so that the digest so
// far can be read at any time.
class EventLog {
 public:
  void Add(absl::Time now, EventKind kind, uint64_t a, uint64_t b, uint64_t c) {
    std::array<char, 5 * sizeof(uint64_t)> line;
    size_t at = 0;
    for (uint64_t value : {static_cast<uint64_t>(absl::ToUnixNanos(now)),
                           static_cast<uint64_t>(kind), a, b, c}) {
      for (int i = 0; i < 8; ++i) {
        line[at++] = static_cast<char>(value >> (8 * i));
      }
    }
    block_.append(line.data(), line.size());
    if (block_.size() < kBlockBytes) return;
    so_far_ = DigestSoFar();
    block_.clear();
  }
  Digest DigestSoFar() const {
    Sha256 hash;
    hash.Update(so_far_.ToBytes());
    hash.Update(block_);
    return hash.Finish();
  }

 private:
  static constexpr size_t kBlockBytes = 40'000;
  Digest so_far_;
  std::string block_;
};

// What is to run, in the order of its time, and of being made where that is the
// same. What a heap moves about is small, and what runs stays where it is. What
// is to run after whole seconds (most ticks, all deadlines) is due in the order
// in which it is made: it waits in line, one for each such delay, and the heap
// has little but the messages that are on their way.
class EventQueue {
 public:
  bool empty() const {
    return heap_.empty() &&
           std::all_of(lines_.begin(), lines_.end(),
                       [](const Line& line) { return line.events.empty(); });
  }
  // Requires that it is not empty.
  absl::Time next() const { return First().when; }

  // `now` never goes back.
  void Push(absl::Time now, absl::Duration delay, std::function<void()> run) {
    size_t place = runs_.size();
    if (free_.empty()) {
      runs_.push_back(std::move(run));
    } else {
      place = free_.back();
      free_.pop_back();
      runs_[place] = std::move(run);
    }
    const Event event = {now + delay, next_order_++, place};
    if (std::deque<Event>* const line = LineOf(delay); line != nullptr) {
      line->push_back(event);
    } else {
      heap_.push_back(event);
      std::push_heap(heap_.begin(), heap_.end(), Later());
    }
  }
  std::function<void()> Pop() {
    const Event event = First();
    if (!heap_.empty() && heap_.front().order == event.order) {
      std::pop_heap(heap_.begin(), heap_.end(), Later());
      heap_.pop_back();
    } else {
      for (Line& line : lines_) {
        if (line.events.empty()) continue;
        if (line.events.front().order != event.order) continue;
        line.events.pop_front();
        break;
      }
    }
    free_.push_back(event.place);
    return std::exchange(runs_[event.place], nullptr);
  }

 private:
  struct Event {
    absl::Time when;
    uint64_t order;
    size_t place;  // in runs_
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.when != b.when ? a.when > b.when : a.order > b.order;
    }
  };
  struct Line {
    absl::Duration delay;
    std::deque<Event> events;
  };

  const Event& First() const {
    const Event* first = heap_.empty() ? nullptr : &heap_.front();
    for (const Line& line : lines_) {
      if (line.events.empty()) continue;
      if (first == nullptr || Later()(*first, line.events.front())) {
        first = &line.events.front();
      }
    }
    return *first;
  }
  // Null: what has this delay goes into the heap.
  std::deque<Event>* LineOf(absl::Duration delay) {
    for (Line& line : lines_) {
      if (line.delay == delay) return &line.events;
    }
    const int64_t seconds = absl::ToInt64Seconds(delay);
    if (seconds == 0 || absl::Seconds(seconds) != delay) return nullptr;
    if (lines_.size() >= kMaxLines) return nullptr;
    lines_.push_back({delay, {}});
    return &lines_.back().events;
  }

  static constexpr size_t kMaxLines = 4;
  std::vector<Event> heap_;
  std::vector<Line> lines_;
  uint64_t next_order_ = 0;
  std::vector<std::function<void()>> runs_;
  std::vector<size_t> free_;  // places in it
};

}  // namespace

struct SimulatedNetwork::State {
  class SimulatedHost;

  // A question that is out.
  struct Call {
    SimulatedHost* asker;
    Transport::Done done;
  };

  explicit State(Options options) : options(options), random(options.seed) {}

  void Schedule(absl::Duration delay, std::function<void()> run) {
    events.Push(now, std::max(delay, absl::ZeroDuration()), std::move(run));
  }
  void RunNext() {
    now = events.next();
    const std::function<void()> run = events.Pop();
    run();
  }
  // A message's way: how long it takes, or nullopt if it gets lost.
  std::optional<absl::Duration> Way() {
    ++messages;
    // Both are drawn for each message, so that what is lost does not change
    // when the others arrive.
    const double lost = random.NextDouble();
    const double time = -std::log1p(-random.NextDouble());
    if (lost < options.loss) return std::nullopt;
    return options.min_delay + time * options.mean_delay;
  }
  void Finish(uint64_t call, absl::StatusOr<v1::AskReply> reply);
  void Arrive(uint64_t call, SimulatedHost* from, const Contact& to,
              const v1::AskRequest& question);
  void SendBack(uint64_t call, SimulatedHost* from, SimulatedHost* to,
                absl::StatusOr<v1::AskReply> reply);

  const Options options;
  Random random;
  absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  EventQueue events;
  std::vector<std::unique_ptr<SimulatedHost>> hosts;
  absl::flat_hash_map<std::string, SimulatedHost*> at;  // by address
  absl::flat_hash_map<uint64_t, Call> calls;
  uint64_t next_call = 0;
  int64_t messages = 0;
  EventLog log;
};

class SimulatedNetwork::State::SimulatedHost final : public Host,
                                                     public Loop,
                                                     public Transport {
 public:
  SimulatedHost(State* network, Contact contact, uint64_t index)
      : network_(network), contact_(std::move(contact)), index_(index) {}

  Loop* loop() override { return this; }
  Transport* transport() override { return this; }
  const Contact& contact() const override { return contact_; }
  void Serve(Answer answer) override { answer_ = std::move(answer); }
  void Crash() override {
    network_->log.Add(network_->now, EventKind::kCrash, index_, 0, 0);
    crashed_ = true;
    answer_ = nullptr;
  }
  bool crashed() const override { return crashed_; }

  absl::Time Now() const override { return network_->now; }
  void After(absl::Duration delay, std::function<void()> run) override {
    if (crashed_) return;
    network_->Schedule(delay, [this, run = std::move(run)] {
      if (crashed_) return;
      network_->log.Add(network_->now, EventKind::kTimer, index_, 0, 0);
      run();
    });
  }

  void Ask(const Contact& to, v1::AskRequest question, absl::Duration deadline,
           Done done) override {
    if (crashed_) return;
    *question.mutable_sender() = ContactToProto(contact_);
    const uint64_t call = network_->next_call++;
    network_->calls.emplace(call, Call{this, std::move(done)});
    network_->Schedule(deadline, [network = network_, call] {
      network->Finish(call, absl::DeadlineExceededError("no answer in time"));
    });
    network_->log.Add(network_->now, EventKind::kQuestionSent, index_, call,
                      question.ByteSizeLong());
    const std::optional<absl::Duration> way = network_->Way();
    if (!way.has_value()) {
      network_->log.Add(network_->now, EventKind::kQuestionLost, index_, call,
                        0);
      return;
    }
    network_->Schedule(*way, [this, call, to, question = std::move(question)] {
      network_->Arrive(call, this, to, question);
    });
  }

  uint64_t index() const { return index_; }
  int group() const { return group_; }
  void set_group(int group) { group_ = group; }
  bool serves() const { return answer_ != nullptr; }
  absl::StatusOr<v1::AskReply> AnswerTo(const Contact& from,
                                        const v1::AskRequest& question) {
    // A copy: answering may crash this host, and end the function it runs in.
    const Answer answer = answer_;
    return answer(from, question);
  }

 private:
  State* const network_;
  const Contact contact_;
  const uint64_t index_;
  Answer answer_;
  bool crashed_ = false;
  int group_ = 0;
};

void SimulatedNetwork::State::Arrive(uint64_t call, SimulatedHost* from,
                                     const Contact& to,
                                     const v1::AskRequest& question) {
  const auto found = at.find(to.address);
  SimulatedHost* host = found == at.end() ? nullptr : found->second;
  // Silence, rather than a refused connection: the harder case, that of a
  // machine that has gone.
  if (host == nullptr || !host->serves() || from->crashed() ||
      from->group() != host->group()) {
    log.Add(now, EventKind::kQuestionLost, from->index(), call, 0);
    return;
  }
  log.Add(now, EventKind::kQuestionArrived, host->index(), call, 0);
  if (!to.id.IsZero() && to.id != host->contact().id) {
    SendBack(call, host, from,
             absl::UnauthenticatedError(absl::StrCat(
                 to.address, " is node ", host->contact().id.ToShortHex(),
                 ", not ", to.id.ToShortHex())));
    return;
  }
  SendBack(call, host, from, host->AnswerTo(from->contact(), question));
}

void SimulatedNetwork::State::SendBack(uint64_t call, SimulatedHost* from,
                                       SimulatedHost* to,
                                       absl::StatusOr<v1::AskReply> reply) {
  if (from->crashed() || absl::IsCancelled(reply.status())) return;
  if (reply.ok()) *reply->mutable_sender() = ContactToProto(from->contact());
  log.Add(now, EventKind::kAnswerSent, from->index(), call,
          reply.ok() ? reply->ByteSizeLong() : 0);
  const std::optional<absl::Duration> way = Way();
  if (!way.has_value()) {
    log.Add(now, EventKind::kAnswerLost, from->index(), call, 0);
    return;
  }
  Schedule(*way, [this, call, from, to, reply = std::move(reply)]() mutable {
    if (from->group() != to->group()) {
      log.Add(now, EventKind::kAnswerLost, from->index(), call, 0);
      return;
    }
    Finish(call, std::move(reply));
  });
}

void SimulatedNetwork::State::Finish(uint64_t call,
                                     absl::StatusOr<v1::AskReply> reply) {
  const auto found = calls.find(call);
  if (found == calls.end()) return;  // it has ended already
  const Call ended = std::move(found->second);
  calls.erase(found);
  if (ended.asker->crashed()) return;
  log.Add(now,
          absl::IsDeadlineExceeded(reply.status()) ? EventKind::kTimedOut
                                                   : EventKind::kAnswerArrived,
          ended.asker->index(), call,
          static_cast<uint64_t>(reply.status().code()));
  ended.done(std::move(reply));
}

SimulatedNetwork::SimulatedNetwork(Options options)
    : state_(std::make_unique<State>(options)) {
  KOINON_CHECK(options.loss >= 0 && options.loss < 1);
}

SimulatedNetwork::~SimulatedNetwork() = default;

SimulatedNetwork::Host* SimulatedNetwork::AddHost(const Contact& self) {
  state_->hosts.push_back(std::make_unique<State::SimulatedHost>(
      state_.get(), self, state_->hosts.size()));
  State::SimulatedHost* host = state_->hosts.back().get();
  if (!self.address.empty()) {
    State::SimulatedHost*& place = state_->at[self.address];
    KOINON_CHECK(place == nullptr || place->crashed());
    place = host;
  }
  return host;
}

void SimulatedNetwork::SetGroup(Host* host, int group) {
  auto* simulated = static_cast<State::SimulatedHost*>(host);
  state_->log.Add(state_->now, EventKind::kGroup, simulated->index(),
                  static_cast<uint64_t>(group), 0);
  simulated->set_group(group);
}

absl::Time SimulatedNetwork::Now() const { return state_->now; }

void SimulatedNetwork::RunUntil(absl::Time until) {
  while (!state_->events.empty() && state_->events.next() <= until) {
    state_->RunNext();
  }
  state_->now = std::max(state_->now, until);
}

bool SimulatedNetwork::RunUntilTrue(const std::function<bool()>& done,
                                    absl::Duration limit) {
  const absl::Time until = state_->now + limit;
  while (!done()) {
    if (state_->events.empty() || state_->events.next() > until) {
      state_->now = until;
      return done();
    }
    state_->RunNext();
  }
  return true;
}

void SimulatedNetwork::After(absl::Duration delay, std::function<void()> run) {
  state_->Schedule(delay, std::move(run));
}

int64_t SimulatedNetwork::messages() const { return state_->messages; }

std::string SimulatedNetwork::log_digest() const {
  return state_->log.DigestSoFar().ToHex();
}

}  // namespace koinon::dht
