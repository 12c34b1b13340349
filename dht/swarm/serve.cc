#include "dht/swarm/serve.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dht/swarm/serve_state.h"
#include "dht/swarm/serve_stream.h"

namespace koinon::dht {

absl::Status Seeder::State::CheckRoomFor(const Caller& caller) {
  if (streams.size() >= options.max_streams) {
    return absl::ResourceExhaustedError(
        absl::StrCat("max_streams: ", streams.size(), " fetch here already"));
  }
  if (caller.member.IsZero()) return absl::OkStatus();  // it may be anybody
  const size_t own =
      std::count_if(streams.begin(), streams.end(), [&](const auto& stream) {
        return stream.second->caller().member == caller.member;
      });
  if (own < options.max_streams_per_caller) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("max_streams_per_caller: ", own,
                   " streams of this caller's are here already"));
}

absl::Status Seeder::State::Enter(uint64_t id, std::shared_ptr<Stream> stream) {
  MutexLock lock(&mutex);
  if (stopping) return absl::UnavailableError("this node is stopping");
  if (const absl::Status room = CheckRoomFor(stream->caller()); !room.ok()) {
    ++past.refused;
    return room;
  }
  streams[id] = std::move(stream);
  wake.Signal();
  return absl::OkStatus();
}

void Seeder::State::Leave(uint64_t id, const Upload* upload) {
  const Upload::Counts counts =
      upload == nullptr ? Upload::Counts() : upload->counts();
  std::shared_ptr<Stream> left;  // not to die under the lock
  MutexLock lock(&mutex);
  const auto it = streams.find(id);
  if (it == streams.end()) return;
  left = std::move(it->second);
  streams.erase(it);
  past.pieces += counts.pieces;
  past.last_resort += counts.last_resort;
  past.refused += counts.refused;
}

bool Seeder::State::ChangeSlots(const std::function<void(SendSlots*)>& change,
                                uint64_t asking) {
  std::vector<uint64_t> given;
  {
    MutexLock lock(&slots_mutex);
    change(&slots);
    while (const auto next = slots.Next()) given.push_back(*next);
  }
  bool is_given = false;
  for (const uint64_t id : given) {
    std::shared_ptr<Stream> stream;
    if (id == asking) {
      is_given = true;
      continue;
    }
    {
      MutexLock lock(&mutex);
      // One that is leaving gives its slot back in a moment.
      if (const auto it = streams.find(id); it != streams.end()) {
        stream = it->second;
      }
    }
    if (stream != nullptr) stream->OnSlot();
  }
  return is_given;
}

void Seeder::State::WantPulse() {
  MutexLock lock(&mutex);
  if (std::exchange(pulse_wanted, true)) return;
  wake.Signal();
}

// Tells streams of new pieces, at once but not too often, and ends those that
// are idle.
void Seeder::State::Pulse() {
  MutexLock lock(&mutex);
  // Shorter than it was, never longer: a stream may live too long for idling.
  absl::Duration passed;
  while (!stopping) {
    if (streams.empty()) {
      passed = absl::ZeroDuration();
      wake.Wait(&mutex);
      continue;
    }
    if (!pulse_wanted) {
      const absl::Duration sweep =
          std::min(absl::Seconds(1), options.idle / 20);
      if (wake.WaitWithTimeout(&mutex, sweep)) passed += sweep;
    }
    pulse_wanted = false;
    mutex.Unlock();
    ChangeSlots([&](SendSlots* slots) { slots->Pass(passed); });
    for (const auto& stream : AllStreams()) stream->OnPulse(passed);
    mutex.Lock();
    // What comes meanwhile is told together.
    passed = absl::ZeroDuration();
    if (!stopping && stopped.WaitWithTimeout(&mutex, options.have_every)) {
      passed = options.have_every;
    }
  }
}

std::vector<std::shared_ptr<Seeder::Stream>> Seeder::State::AllStreams() {
  MutexLock lock(&mutex);
  std::vector<std::shared_ptr<Stream>> all;
  for (const auto& [id, stream] : streams) all.push_back(stream);
  return all;
}

Seeder::Seeder(ContentBoard* board, Options options)
    : state_(std::make_shared<State>(board, options)) {
  state_->pulse = std::thread([state = state_.get()] { state->Pulse(); });
  board->ListenToGone([state = std::weak_ptr<State>(state_)](const Key& node) {
    if (const auto alive = state.lock()) alive->book.OnGone(node);
  });
}

Seeder::~Seeder() {
  Stop();
  state_->pulse.join();
}

Seeder::Reactor* Seeder::Serve(const absl::Status& allowed, Caller caller) {
  uint64_t id = 0;
  {
    MutexLock lock(&state_->mutex);
    id = state_->next_id++;
    if (!allowed.ok()) ++state_->past.refused;
  }
  const auto stream = std::make_shared<Stream>(state_, id, std::move(caller));
  stream->Begin(allowed.ok() ? state_->Enter(id, stream) : allowed);
  return stream.get();
}

void Seeder::Stop() {
  {
    MutexLock lock(&state_->mutex);
    state_->stopping = true;
    state_->wake.SignalAll();
    state_->stopped.SignalAll();
  }
  for (const auto& stream : state_->AllStreams()) {
    stream->Close(absl::UnavailableError("this node is stopping"));
  }
}

Seeder::Counts Seeder::counts() const {
  Counts counts;
  {
    MutexLock lock(&state_->mutex);
    counts = state_->past;
    counts.streams = static_cast<int64_t>(state_->streams.size());
  }
  for (const auto& stream : state_->AllStreams()) {
    const Upload::Counts open = stream->counts();
    counts.pieces += open.pieces;
    counts.last_resort += open.last_resort;
    counts.refused += open.refused;
  }
  return counts;
}

}  // namespace koinon::dht
