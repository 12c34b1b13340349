#include "worker/collective/testing_communicator.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "worker/collective/node_window.h"
#include "worker/collective/waiter.h"

namespace koinon::worker {
namespace {

constexpr size_t kChunk = 256;

// What the ranks share.
struct Site {
  explicit Site(const ThreadSiteOptions& options) : options(options) {
    shape.ranks = options.ranks;
    shape.chunk = kChunk;
    shape.depth = NodeWindow::MinDepth(false);
    const size_t size = NodeWindow::SizeBytes(shape);
    memory = static_cast<char*>(::operator new(size, std::align_val_t(64)));
    std::memset(memory, 0, size);
    announced.resize(static_cast<size_t>(options.ranks));
  }
  ~Site() { ::operator delete(memory, std::align_val_t(64)); }

  const ThreadSiteOptions options;
  NodeWindow::Shape shape;
  char* memory = nullptr;
  Mutex mutex;
  CondVar changed;
  std::vector<std::string> gathering ABSL_GUARDED_BY(mutex);
  std::vector<std::string> gathered ABSL_GUARDED_BY(mutex);
  int arrived ABSL_GUARDED_BY(mutex) = 0;
  int64_t gathers ABSL_GUARDED_BY(mutex) = 0;
  std::vector<std::deque<std::string>> announced ABSL_GUARDED_BY(mutex);
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(Site* site, int rank)
      : site_(site),
        waiter_(WaiterOptions(site->options)),
        window_(site->shape, rank, site->memory, &waiter_, nullptr) {
    place_.rank = place_.node_rank = rank;
    place_.size = place_.node_size = site->options.ranks;
    const std::vector<double>& cores = site->options.cores;
    const auto each = [&](int r) {
      return cores[static_cast<size_t>(r) % cores.size()];
    };
    place_.cores = place_.least_cores = each(rank);
    for (int r = 0; r < place_.size; ++r) {
      place_.least_cores = std::min(place_.least_cores, each(r));
    }
  }

  const Place& place() const override { return place_; }
  std::string NameOf(int rank) const override {
    return absl::StrCat("rank ", rank, " (thread)");
  }

  absl::Status AllReduce(absl::Span<float> values, float scale) override {
    return Timed(values.size() * sizeof(float),
                 [&] { return window_.Sum(values, scale); });
  }

  absl::Status Broadcast(absl::Span<char> bytes) override {
    return Timed(bytes.size(), [&] { return window_.Broadcast(bytes); });
  }

  absl::StatusOr<std::vector<std::string>> AllGather(
      absl::string_view mine) override {
    if (mine.size() > kMaxGatheredBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("gathered: expected at most ", kMaxGatheredBytes,
                       " bytes, found ", mine.size()));
    }
    MutexLock lock(&site_->mutex);
    site_->gathering.resize(static_cast<size_t>(place_.size));
    site_->gathering[static_cast<size_t>(place_.rank)] = std::string(mine);
    const int64_t gather = site_->gathers;
    if (++site_->arrived == place_.size) {
      site_->gathered = std::exchange(site_->gathering, {});
      site_->arrived = 0;
      ++site_->gathers;
      site_->changed.SignalAll();
    }
    while (site_->gathers == gather) {
      if (!site_->changed.WaitWithTimeout(&site_->mutex,
                                          site_->options.patience)) {
        continue;
      }
      if (site_->gathers == gather) {
        broken_ = true;
        return absl::UnavailableError("a rank made no progress");
      }
    }
    return site_->gathered;
  }

  absl::Status Announce(absl::string_view message) override {
    MutexLock lock(&site_->mutex);
    for (auto& queue : site_->announced) queue.emplace_back(message);
    site_->changed.SignalAll();
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> AwaitAnnouncement() override {
    MutexLock lock(&site_->mutex);
    auto& queue = site_->announced[static_cast<size_t>(place_.rank)];
    while (queue.empty()) site_->changed.Wait(&site_->mutex);
    std::string message = std::move(queue.front());
    queue.pop_front();
    return message;
  }

  Totals totals() const override { return totals_; }
  bool broken() const override { return broken_; }

  void Abort(absl::string_view reason) override {
    std::fprintf(stderr, "aborted: %s\n", std::string(reason).c_str());
    std::_Exit(1);
  }

 private:
  static Waiter::Options WaiterOptions(const ThreadSiteOptions& options) {
    Waiter::Options waiting;
    waiting.limit = options.patience;
    waiting.name = [](int rank) { return absl::StrCat("rank ", rank); };
    return waiting;
  }

  template <typename Work>
  absl::Status Timed(size_t bytes, Work work) {
    const absl::Time start = absl::Now();
    const absl::Status status = work();
    broken_ = broken_ || absl::IsUnavailable(status);
    totals_.time += absl::Now() - start;
    totals_.bytes += static_cast<int64_t>(bytes);
    return status;
  }

  Site* const site_;
  Waiter waiter_;
  NodeWindow window_;
  Place place_;
  Totals totals_;
  std::atomic<bool> broken_ = false;
};

}  // namespace

void RunRanks(const ThreadSiteOptions& options,
              const std::function<void(Communicator*)>& rank_main) {
  Site site(options);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < options.ranks; ++rank) {
    threads.emplace_back([&site, &rank_main, rank] {
      ThreadCommunicator communicator(&site, rank);
      rank_main(&communicator);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace koinon::worker
