#include "tools/bench/aggregate_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "aggregation/reference/mean.h"
#include "base/model_layout.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "tools/bench/numpy_rival.h"
#include "tools/bench/read_loop.h"
#include "tools/bench/shared_memory.h"

namespace koinon::tools {
namespace {

using Times = std::vector<double>;

double Median(Times values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle]
                                : (values[middle - 1] + values[middle]) / 2;
}

double MedianRatio(const Times& numerators, const Times& denominators) {
  Times ratios;
  for (size_t i = 0; i < numerators.size(); ++i) {
    ratios.push_back(numerators[i] / denominators[i]);
  }
  return Median(std::move(ratios));
}

// Seconds for one call, as the mean over `count` of them.
double Time(int count, const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) call();
  const std::chrono::duration<double> taken =
      std::chrono::steady_clock::now() - start;
  return taken.count() / count;
}

// How many calls of so many seconds each fill one measurement.
int CallsFor(double seconds_each, double seconds) {
  return static_cast<int>(
      std::clamp(std::ceil(seconds / seconds_each), 1.0, 1000.0));
}

// The BLAS threads of the child spin for a while after their work.
void LetRivalSettle() {
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

// The updates of one case, and FedAvg over them.
class Subject {
 public:
  static absl::StatusOr<std::unique_ptr<Subject>> Create(AggregateCase size) {
    const size_t n = size.updates, P = size.parameters;
    constexpr size_t kMost = size_t{1} << 40;
    if (n == 0 || P == 0 || P > kMost / (n + 1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a case of ", n, " updates of ", P,
                       " parameters, expected at least 1 of 1"));
    }
    auto subject = std::make_unique<Subject>();
    subject->size_ = size;
    ABSL_ASSIGN_OR_RETURN(subject->memory_, SharedFloats::Create((n + 1) * P));
    subject->mean_.resize(P);
    ABSL_RETURN_IF_ERROR(subject->Fill());
    ABSL_ASSIGN_OR_RETURN(subject->rule_, aggregation::MakeAggregator({}));
    return subject;
  }

  absl::Span<const float> row(size_t i) const {
    return memory_->values().subspan(i * size_.parameters, size_.parameters);
  }
  absl::Span<const float> inputs() const {
    return memory_->values().first(size_.updates * size_.parameters);
  }
  absl::Span<const float> rivals_answer() const { return row(size_.updates); }
  absl::Span<const float> mean() const { return mean_; }
  const SharedFloats* memory() const { return memory_.get(); }
  const Times& weights() const { return weights_; }
  const AggregateCase& size() const { return size_; }

  absl::Status Average(ThreadPool* pool) {
    aggregation::MemorySink sink(absl::MakeSpan(mean_));
    return rule_->Aggregate(*set_, {.pool = pool}, &sink).status();
  }

  // The largest error of the mean, or INTERNAL.
  absl::StatusOr<double> CheckMean() const {
    std::vector<absl::Span<const float>> rows;
    for (size_t i = 0; i < size_.updates; ++i) rows.push_back(row(i));
    const auto reference = aggregation::MeanReference(rows, weights_);
    double largest = 0;
    for (size_t j = 0; j < mean_.size(); ++j) {
      const double error = std::fabs(mean_[j] - reference.mean[j]);
      if (!(error <= aggregation::MeanTolerance(reference, j))) {
        return absl::InternalError(
            absl::StrFormat("element %d of the mean is %.9g, expected %.9g", j,
                            mean_[j], reference.mean[j]));
      }
      largest = std::max(largest, error);
    }
    return largest;
  }

  double LargestDifference() const {
    double largest = 0;
    for (size_t j = 0; j < mean_.size(); ++j) {
      largest =
          std::max<double>(largest, std::fabs(mean_[j] - rivals_answer()[j]));
    }
    return largest;
  }

 private:
  absl::Status Fill() {
    for (size_t i = 0; i < inputs().size(); ++i) {
      const auto bits = static_cast<int32_t>(RandomAt(1, i) >> 32);
      memory_->values()[i] = static_cast<float>(bits) * 0x1p-31f;
    }
    aggregation::UpdateSet::Expected expected;
    ABSL_ASSIGN_OR_RETURN(
        expected.layout,
        ModelLayout::Create({{"parameters",
                              DType::kF32,
                              {static_cast<int64_t>(size_.parameters)}}}));
    std::vector<aggregation::Update> updates;
    for (size_t i = 0; i < size_.updates; ++i) {
      weights_.push_back(100.0 + static_cast<double>(RandomAt(2, i) % 900));
      aggregation::Update update;
      update.worker = absl::StrFormat("w%06d", i);
      update.weight = weights_.back();
      update.layout_hash = expected.layout.hash();
      update.elements = size_.parameters;
      update.values = std::make_unique<aggregation::MemorySource>(row(i));
      updates.push_back(std::move(update));
    }
    std::vector<aggregation::Refusal> refusals;
    set_.emplace(aggregation::UpdateSet::Create(std::move(expected),
                                                std::move(updates), &refusals));
    return refusals.empty() ? absl::OkStatus() : refusals[0].reason;
  }

  AggregateCase size_;
  std::unique_ptr<SharedFloats> memory_;
  Times weights_;
  std::vector<float> mean_;
  std::optional<aggregation::UpdateSet> set_;
  std::unique_ptr<aggregation::Aggregator> rule_;
};

// One case on one number of threads: warms every side up, then times them in
// turns.
class Duel {
 public:
  Duel(const AggregateBenchOptions& options, int threads, Subject* subject)
      : options_(options), pool_(threads), subject_(*subject) {
    figure_.size = subject->size();
    figure_.threads = threads;
  }

  absl::StatusOr<AggregateFigure> Run() {
    ABSL_RETURN_IF_ERROR(subject_.Average(&pool_));
    ABSL_ASSIGN_OR_RETURN(figure_.largest_error, subject_.CheckMean());
    StartRival();
    PlanOwn();
    if (rival_ != nullptr) {
      for (Form* form : {&average_, &average_fp32_, &matvec_}) {
        ABSL_RETURN_IF_ERROR(Plan(form));
      }
    }
    for (int i = 0; i < options_.repetitions; ++i) {
      ABSL_RETURN_IF_ERROR(RunOnce());
    }
    Summarise();
    return figure_;
  }

 private:
  struct Form {
    const char* name;
    int calls = 1;
    Times times;
    double largest_difference = 0;
  };

  void StartRival() {
    if (options_.python.empty()) {
      figure_.rival = "not asked for";
      return;
    }
    NumpyRival::Options rival;
    rival.python = options_.python;
    rival.threads = figure_.threads;
    rival.memory = subject_.memory();
    rival.n = figure_.size.updates;
    rival.P = figure_.size.parameters;
    auto started = NumpyRival::Start(rival, subject_.weights());
    if (!started.ok()) {
      figure_.rival = absl::StrCat("absent: ", started.status().message());
      return;
    }
    rival_ = *std::move(started);
    figure_.rival = rival_->description();
  }

  void PlanOwn() {
    own_calls_ = CallsFor(TimeOwn(1), options_.seconds);
    // The fastest way to read, of three attempts each.
    double best = HUGE_VAL;
    for (int attempt = 0; attempt < 3; ++attempt) {
      for (int way = 0; way < kReadWays; ++way) {
        const double seconds = TimeRead(way, 1);
        if (seconds >= best) continue;
        best = seconds;
        read_way_ = way;
      }
    }
    read_calls_ = CallsFor(best, options_.seconds);
  }

  absl::Status Plan(Form* form) {
    for (int warm_up = 0; warm_up < 2; ++warm_up) {
      ABSL_ASSIGN_OR_RETURN(const double seconds,
                            rival_->Measure(form->name, 1));
      form->calls = CallsFor(seconds, options_.seconds);
    }
    form->largest_difference = subject_.LargestDifference();
    return absl::OkStatus();
  }

  double TimeOwn(int calls) {
    return Time(calls, [&] { subject_.Average(&pool_).IgnoreError(); });
  }
  double TimeRead(int way, int calls) {
    return Time(calls, [&] { ReadAll(subject_.inputs(), way, &pool_); });
  }

  absl::Status RunOnce() {
    read_.push_back(TimeRead(read_way_, read_calls_));
    own_.push_back(TimeOwn(own_calls_));
    if (rival_ == nullptr) return absl::OkStatus();
    for (Form* form : {&average_, &average_fp32_, &matvec_}) {
      ABSL_ASSIGN_OR_RETURN(const double seconds,
                            rival_->Measure(form->name, form->calls));
      form->times.push_back(seconds);
    }
    LetRivalSettle();
    return absl::OkStatus();
  }

  void Summarise() {
    const double gigabytes =
        1e-9 * sizeof(float) * static_cast<double>(subject_.inputs().size());
    figure_.seconds = Median(own_);
    figure_.input_gb_per_s = gigabytes / figure_.seconds;
    figure_.read_gb_per_s = gigabytes / Median(read_);
    figure_.of_read = MedianRatio(read_, own_);
    if (rival_ == nullptr) return;
    figure_.average = Against(average_);
    figure_.average_fp32 = Against(average_fp32_);
    figure_.matvec = Against(matvec_);
  }

  RivalFigure Against(const Form& form) const {
    return {Median(form.times), MedianRatio(form.times, own_),
            form.largest_difference};
  }

  const AggregateBenchOptions& options_;
  ThreadPool pool_;
  Subject& subject_;
  AggregateFigure figure_;
  std::unique_ptr<NumpyRival> rival_;
  int own_calls_ = 1;
  int read_calls_ = 1;
  int read_way_ = 0;
  Times own_, read_;
  Form average_ = {"average", 1, {}, 0};
  Form average_fp32_ = {"average_fp32", 1, {}, 0};
  Form matvec_ = {"matvec", 1, {}, 0};
};

}  // namespace

absl::StatusOr<std::vector<AggregateFigure>> MeasureAggregate(
    const AggregateBenchOptions& options) {
  if (options.repetitions < 1 || !(options.seconds > 0)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d repetitions of %g seconds, expected at least 1 of more than 0",
        options.repetitions, options.seconds));
  }
  std::vector<AggregateFigure> figures;
  for (const AggregateCase& size : options.cases) {
    ABSL_ASSIGN_OR_RETURN(std::unique_ptr<Subject> subject,
                          Subject::Create(size));
    for (int threads : options.threads) {
      if (threads < 1) {
        return absl::InvalidArgumentError(
            absl::StrCat(threads, " threads, expected at least 1"));
      }
      ABSL_ASSIGN_OR_RETURN(figures.emplace_back(),
                            Duel(options, threads, subject.get()).Run());
    }
  }
  return figures;
}

}  // namespace koinon::tools
