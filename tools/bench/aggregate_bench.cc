#include "tools/bench/aggregate_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "aggregation/reference/mean.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "kernels/peak_flops.h"
#include "tools/bench/aggregate_check.h"
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

// The updates of one case, and rules over them.
class Subject {
 public:
  static absl::StatusOr<std::unique_ptr<Subject>> Create(AggregateCase size) {
    const size_t n = size.updates, P = size.parameters;
    auto subject = std::make_unique<Subject>();
    subject->size_ = size;
    ABSL_ASSIGN_OR_RETURN(subject->memory_, SharedFloats::Create((n + 1) * P));
    subject->result_.resize(P);
    ABSL_RETURN_IF_ERROR(subject->Fill());
    return subject;
  }

  absl::Span<const float> row(size_t i) const {
    return memory_->values().subspan(i * size_.parameters, size_.parameters);
  }
  absl::Span<const float> inputs() const {
    return memory_->values().first(size_.updates * size_.parameters);
  }
  absl::Span<const float> rivals_answer() const { return row(size_.updates); }
  const SharedFloats* memory() const { return memory_.get(); }
  const Times& weights() const { return weights_; }
  const AggregateCase& size() const { return size_; }

  absl::StatusOr<v1::AggregationReport> Aggregate(
      const aggregation::Aggregator& rule, ThreadPool* pool) {
    aggregation::AggregationContext context;
    context.pool = pool;
    aggregation::MemorySink sink(absl::MakeSpan(result_));
    return rule.Aggregate(*set_, context, &sink);
  }
  absl::Status Validate(const aggregation::Aggregator& rule) const {
    return rule.Validate(*set_);
  }

  // The largest error of the result, or INTERNAL.
  absl::StatusOr<double> Check(const BenchRule& rule,
                               const v1::AggregationReport& report) const {
    if (rule.name == "fedavg") return CheckMean();
    AggregateAnswer answer;
    answer.n = size_.updates;
    answer.P = size_.parameters;
    answer.value = [this](size_t i, size_t j) { return row(i)[j]; };
    answer.weights = weights_;
    answer.report = &report;
    answer.result = [this](size_t j) { return result_[j]; };
    return CheckAggregate(rule, answer);
  }

  // Of NumPy's answer from ours.
  double LargestDifference() const {
    double largest = 0;
    for (size_t j = 0; j < result_.size(); ++j) {
      const double difference = std::fabs(result_[j] - rivals_answer()[j]);
      if (!(difference <= largest)) largest = difference;  // NaN too
    }
    return largest;
  }

 private:
  // Every coordinate.
  absl::StatusOr<double> CheckMean() const {
    std::vector<absl::Span<const float>> rows;
    for (size_t i = 0; i < size_.updates; ++i) rows.push_back(row(i));
    const auto reference = aggregation::MeanReference(rows, weights_);
    double largest = 0;
    for (size_t j = 0; j < result_.size(); ++j) {
      const double error = std::fabs(result_[j] - reference.mean[j]);
      if (!(error <= aggregation::MeanTolerance(reference, j))) {
        return absl::InternalError(
            absl::StrFormat("element %d of the mean is %.9g, expected %.9g", j,
                            result_[j], reference.mean[j]));
      }
      largest = std::max(largest, error);
    }
    return largest;
  }

  absl::Status Fill() {
    const size_t P = size_.parameters;
    for (size_t i = 0; i < size_.updates; ++i) {
      for (size_t j = 0; j < P; ++j) {
        memory_->values()[i * P + j] = BenchValue(size_, i, j);
      }
    }
    weights_ = BenchWeights(size_);
    ABSL_ASSIGN_OR_RETURN(
        aggregation::UpdateSet set, BenchUpdateSet(size_, [this](size_t i) {
          return std::make_unique<aggregation::MemorySource>(row(i));
        }));
    set_.emplace(std::move(set));
    return absl::OkStatus();
  }

  AggregateCase size_;
  std::unique_ptr<SharedFloats> memory_;
  Times weights_;
  std::vector<float> result_;
  std::optional<aggregation::UpdateSet> set_;
};

// What stays the same for all rules of one case on one number of threads.
class Ring {
 public:
  Ring(const AggregateBenchOptions& options, int threads, Subject* subject)
      : options_(options), pool_(threads), subject_(*subject) {
    StartRival();
    PlanRead();
  }

  const AggregateBenchOptions& options() const { return options_; }
  Subject& subject() { return subject_; }
  ThreadPool* pool() { return &pool_; }
  NumpyRival* rival() { return rival_.get(); }  // null: absent
  const std::string& rival_name() const { return rival_name_; }

  double TimeRead() { return TimeRead(read_way_, read_calls_); }

 private:
  void StartRival() {
    if (options_.python.empty()) {
      rival_name_ = "not asked for";
      return;
    }
    NumpyRival::Options rival;
    rival.python = options_.python;
    rival.threads = pool_.threads();
    rival.memory = subject_.memory();
    rival.n = subject_.size().updates;
    rival.P = subject_.size().parameters;
    auto started = NumpyRival::Start(rival, subject_.weights());
    if (!started.ok()) {
      rival_name_ = absl::StrCat("absent: ", started.status().message());
      return;
    }
    rival_ = *std::move(started);
    rival_name_ = rival_->description();
  }

  // The fastest way to read, of three attempts each.
  void PlanRead() {
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

  double TimeRead(int way, int calls) {
    return Time(calls, [&] { ReadAll(subject_.inputs(), way, &pool_); });
  }

  const AggregateBenchOptions& options_;
  ThreadPool pool_;
  Subject& subject_;
  std::unique_ptr<NumpyRival> rival_;
  std::string rival_name_;
  int read_way_ = 0;
  int read_calls_ = 1;
};

// One rule against its rivals: warms every side up, compares the answers, then
// times them in turns.
class Duel {
 public:
  Duel(const BenchRule& rule, Ring* ring)
      : rule_(rule), ring_(*ring), subject_(ring->subject()) {
    figure_.rule = rule.name;
    figure_.size = subject_.size();
    figure_.threads = ring->pool()->threads();
    figure_.rival = ring->rival_name();
  }

  absl::StatusOr<AggregateFigure> Run() {
    ABSL_ASSIGN_OR_RETURN(own_.rule, aggregation::MakeAggregator(rule_.spec));
    ABSL_RETURN_IF_ERROR(subject_.Validate(*own_.rule));
    ABSL_RETURN_IF_ERROR(PlanBaseline());
    ABSL_RETURN_IF_ERROR(PlanOwn());
    if (ring_.rival() != nullptr) {
      for (const RivalForm& form : rule_.rivals) {
        ABSL_RETURN_IF_ERROR(PlanRival(form));
      }
    }
    const int turns = Turns();
    for (int i = 0; i < turns; ++i) ABSL_RETURN_IF_ERROR(RunOnce());
    Summarise();
    return figure_;
  }

 private:
  // Rivals that are slower are measured once: their ratios are large, and
  // nobody minds the second digit.
  static constexpr double kSlowSeconds = 2;
  // Rivals with more operations on all parameters are left out.
  static constexpr double kMostOperations = 4e11;
  // What the repetitions of one rule in one case may take.
  static constexpr double kBudgetSeconds = 20;
  static constexpr double kPeakSeconds = 0.01;

  struct Own {
    std::unique_ptr<aggregation::Aggregator> rule;
    int calls = 1;
    Times times;
  };
  struct Rival {
    RivalForm form;
    int calls = 1;
    Times times;
    double largest_difference = 0;
    bool slow = false;
  };

  absl::Status PlanBaseline() {
    if (rule_.baseline.empty()) return absl::OkStatus();
    ABSL_ASSIGN_OR_RETURN(
        const BenchRule baseline,
        MakeBenchRule(rule_.baseline, subject_.size().updates));
    ABSL_ASSIGN_OR_RETURN(baseline_.rule,
                          aggregation::MakeAggregator(baseline.spec));
    ABSL_ASSIGN_OR_RETURN(const auto report,
                          subject_.Aggregate(*baseline_.rule, ring_.pool()));
    ABSL_RETURN_IF_ERROR(subject_.Check(baseline, report).status());
    return Plan(&baseline_);
  }

  absl::Status PlanOwn() {
    ABSL_ASSIGN_OR_RETURN(const auto report,
                          subject_.Aggregate(*own_.rule, ring_.pool()));
    ABSL_ASSIGN_OR_RETURN(figure_.largest_error, subject_.Check(rule_, report));
    return Plan(&own_);
  }

  absl::Status Plan(Own* own) {
    ABSL_ASSIGN_OR_RETURN(const double seconds, TimeOwn(own, 1));
    own->calls = CallsFor(seconds, ring_.options().seconds);
    turn_seconds_ += seconds * own->calls;
    return absl::OkStatus();
  }

  absl::Status PlanRival(const RivalForm& form) {
    const auto parameters = static_cast<double>(subject_.size().parameters);
    if (form.operations * parameters > kMostOperations) return absl::OkStatus();
    Rival rival;
    rival.form = form;
    double seconds = 0;
    for (int warm_up = 0; warm_up < 2 && !rival.slow; ++warm_up) {
      ABSL_ASSIGN_OR_RETURN(seconds, ring_.rival()->Measure(form.request, 1));
      rival.slow = seconds > kSlowSeconds;
    }
    rival.calls = CallsFor(seconds, ring_.options().seconds);
    if (rival.slow) {
      rival.times.push_back(seconds);
    } else {
      turn_seconds_ += seconds * rival.calls;
    }
    rival.largest_difference = subject_.LargestDifference();
    if (!(rival.largest_difference <= form.tolerance)) {
      return absl::InternalError(absl::StrFormat(
          "%s of %d x %d: the answer of %s differs by %g, at most %g allowed",
          rule_.name, subject_.size().updates, subject_.size().parameters,
          form.label, rival.largest_difference, form.tolerance));
    }
    rivals_.push_back(std::move(rival));
    return absl::OkStatus();
  }

  int Turns() const {
    const int affordable = static_cast<int>(
        std::clamp(kBudgetSeconds / std::max(turn_seconds_, 1e-9), 3.0, 1e4));
    return std::min(ring_.options().repetitions, affordable);
  }

  absl::StatusOr<double> TimeOwn(Own* own, int calls) {
    absl::Status status;
    const double seconds = Time(calls, [&] {
      status.Update(subject_.Aggregate(*own->rule, ring_.pool()).status());
    });
    ABSL_RETURN_IF_ERROR(status);
    return seconds;
  }

  absl::Status RunOnce() {
    read_.push_back(ring_.TimeRead());
    if (rule_.gram()) {
      peak_.push_back(kernels::MeasurePeakFlops(ring_.pool()->threads(),
                                                absl::Seconds(kPeakSeconds)));
    }
    for (Own* own : {&own_, &baseline_}) {
      if (own->rule == nullptr) continue;
      ABSL_ASSIGN_OR_RETURN(const double seconds, TimeOwn(own, own->calls));
      own->times.push_back(seconds);
    }
    for (Rival& rival : rivals_) {
      if (rival.slow) continue;
      ABSL_ASSIGN_OR_RETURN(
          const double seconds,
          ring_.rival()->Measure(rival.form.request, rival.calls));
      rival.times.push_back(seconds);
      LetRivalSettle();
    }
    return absl::OkStatus();
  }

  void Summarise() {
    const auto n = static_cast<double>(subject_.size().updates);
    const auto parameters = static_cast<double>(subject_.size().parameters);
    const double gigabytes = 1e-9 * sizeof(float) * n * parameters;
    figure_.seconds = Median(own_.times);
    figure_.input_gb_per_s = gigabytes / figure_.seconds;
    figure_.read_gb_per_s = gigabytes / Median(read_);
    figure_.of_read = MedianRatio(read_, own_.times);
    if (rule_.gram()) {
      const double operations = n * (n + 1) * parameters;
      Times speeds;
      for (const double seconds : own_.times) {
        speeds.push_back(operations / seconds);
      }
      figure_.gflops = 1e-9 * operations / figure_.seconds;
      figure_.peak_gflops = 1e-9 * Median(peak_);
      figure_.of_peak = MedianRatio(speeds, peak_);
    }
    if (baseline_.rule != nullptr) {
      RivalFigure baseline;
      baseline.name = rule_.baseline;
      baseline.seconds = Median(baseline_.times);
      baseline.speedup = MedianRatio(baseline_.times, own_.times);
      baseline.runs = static_cast<int>(baseline_.times.size());
      figure_.rivals.push_back(std::move(baseline));
    }
    for (const Rival& rival : rivals_) figure_.rivals.push_back(Against(rival));
  }

  RivalFigure Against(const Rival& rival) const {
    RivalFigure figure;
    figure.name = rival.form.label;
    figure.seconds = Median(rival.times);
    figure.speedup = rival.slow ? figure.seconds / figure_.seconds
                                : MedianRatio(rival.times, own_.times);
    figure.largest_difference = rival.largest_difference;
    figure.tolerance = rival.form.tolerance;
    figure.runs = static_cast<int>(rival.times.size());
    return figure;
  }

  const BenchRule& rule_;
  Ring& ring_;
  Subject& subject_;
  AggregateFigure figure_;
  double turn_seconds_ = 0;  // of one repetition of all sides
  Own own_, baseline_;
  std::vector<Rival> rivals_;
  Times read_, peak_;
};

// Of /proc/meminfo; infinity where there is none.
double AvailableBytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  double kilobytes = 0;
  std::string unit;
  while (meminfo >> key >> kilobytes) {
    std::getline(meminfo, unit);
    if (key == "MemAvailable:") return 1024 * kilobytes;
  }
  return HUGE_VAL;
}

// Memory is promised before it is there: a case that is too large would not
// fail but end the process.
absl::Status CheckCase(const AggregateCase& size, bool rivals) {
  const auto n = static_cast<double>(size.updates);
  const auto parameters = static_cast<double>(size.parameters);
  if (size.updates == 0 || size.parameters == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a case of ", size.updates, " updates of ",
                     size.parameters, " parameters, expected at least 1 of 1"));
  }
  // NumPy sorts a copy; and some room for everybody else.
  const double needed =
      4 * parameters * (n * (rivals ? 2 : 1) + 4) * 1.1 + (1 << 20);
  const double available = AvailableBytes();
  if (needed <= available) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "%d updates of %d parameters need %.1f GiB of memory%s, %.1f are free",
      size.updates, size.parameters, needed / (1 << 30),
      rivals ? " (half of it NumPy's)" : "", available / (1 << 30)));
}

absl::Status CheckOptions(const AggregateBenchOptions& options) {
  if (options.repetitions < 1 || !(options.seconds > 0)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d repetitions of %g seconds, expected at least 1 of more than 0",
        options.repetitions, options.seconds));
  }
  for (const int threads : options.threads) {
    if (threads < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(threads, " threads, expected at least 1"));
    }
  }
  for (const AggregateCase& size : options.cases) {
    ABSL_RETURN_IF_ERROR(CheckCase(size, !options.python.empty()));
    for (const std::string& rule : options.rules) {
      ABSL_RETURN_IF_ERROR(MakeBenchRule(rule, size.updates).status());
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<AggregateFigure>> MeasureAggregate(
    const AggregateBenchOptions& options) {
  ABSL_RETURN_IF_ERROR(CheckOptions(options));
  std::vector<AggregateFigure> figures;
  for (const AggregateCase& size : options.cases) {
    ABSL_ASSIGN_OR_RETURN(std::unique_ptr<Subject> subject,
                          Subject::Create(size));
    for (const int threads : options.threads) {
      Ring ring(options, threads, subject.get());
      for (const std::string& name : options.rules) {
        ABSL_ASSIGN_OR_RETURN(const BenchRule rule,
                              MakeBenchRule(name, size.updates));
        ABSL_ASSIGN_OR_RETURN(figures.emplace_back(), Duel(rule, &ring).Run());
      }
    }
  }
  return figures;
}

}  // namespace koinon::tools
