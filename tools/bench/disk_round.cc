#include "tools/bench/disk_round.h"

#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "coordinator/spool/spool.h"
#include "tools/bench/aggregate_check.h"
#include "tools/bench/bench_rules.h"
#include "tools/bench/json_string.h"

namespace koinon::tools {
namespace {

constexpr size_t kBlockElements = size_t{1} << 18;

// A folder that is removed in the end.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& parent) {
    path_ = absl::StrCat(parent.empty()
                             ? std::filesystem::temp_directory_path().string()
                             : parent,
                         "/koinon-disk-round-XXXXXX");
    if (::mkdtemp(path_.data()) == nullptr) {
      status_ = absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", path_));
      path_.clear();
    }
  }
  ~ScratchFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const absl::Status& status() const { return status_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  absl::Status status_;
};

// To a file, through one window, as a new version goes.
class FileSink final : public aggregation::UpdateSink {
 public:
  explicit FileSink(File* file) : file_(file) {}
  float* Window(size_t, size_t count) override {
    if (window_.size() < count) window_.resize(count);
    return window_.data();
  }
  absl::Status Commit(size_t offset, size_t count) override {
    return file_->WriteAt(offset * sizeof(float), window_.data(),
                          count * sizeof(float));
  }

 private:
  File* const file_;
  std::vector<float> window_;
};

// Of /proc/self/status, such as "VmHWM:".
absl::StatusOr<int64_t> StatusBytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    int64_t kilobytes = 0;
    if (word == key && status >> kilobytes) return 1024 * kilobytes;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("/proc/self/status does not have ", key));
}

// From now on VmHWM is the peak since now.
absl::Status ResetPeak() {
  std::ofstream clear("/proc/self/clear_refs");
  clear << "5" << std::flush;
  if (clear.good()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "cannot reset the peak of this process by /proc/self/clear_refs");
}

class DiskRounds {
 public:
  DiskRounds(const AggregateCase& size, std::string folder)
      : size_(size), folder_(std::move(folder)) {}

  absl::Status Fill() {
    ABSL_ASSIGN_OR_RETURN(
        spool_,
        coordinator::Spool::Open(
            RealEnv(), absl::StrCat(folder_, "/spool"),
            {.max_bytes = size_.updates * (size_.parameters * sizeof(float) +
                                           coordinator::Spool::kBlockBytes)},
            {}));
    std::vector<float> block(std::min(kBlockElements, size_.parameters));
    for (size_t i = 0; i < size_.updates; ++i) {
      ABSL_ASSIGN_OR_RETURN(extents_.emplace_back(),
                            spool_->Allocate(size_.parameters * sizeof(float)));
      for (size_t j = 0; j < size_.parameters; j += block.size()) {
        const size_t count = std::min(block.size(), size_.parameters - j);
        for (size_t k = 0; k < count; ++k) {
          block[k] = BenchValue(size_, i, j + k);
        }
        ABSL_RETURN_IF_ERROR(spool_->Write(extents_[i], j * sizeof(float),
                                           block.data(),
                                           count * sizeof(float)));
      }
    }
    return spool_->Sync();
  }

  absl::StatusOr<DiskRoundFigure> Run(const BenchRule& rule, int threads) {
    ABSL_ASSIGN_OR_RETURN(const auto aggregator,
                          aggregation::MakeAggregator(rule.spec));
    ABSL_ASSIGN_OR_RETURN(const aggregation::UpdateSet set,
                          BenchUpdateSet(size_, [&](size_t i) {
                            return spool_->Source(extents_[i]);
                          }));
    ABSL_RETURN_IF_ERROR(aggregator->Validate(set));
    ABSL_ASSIGN_OR_RETURN(const auto file,
                          RealEnv()->Open(absl::StrCat(folder_, "/result"),
                                          Env::OpenMode::kCreate));
    DiskRoundFigure figure;
    figure.rule = rule.name;
    figure.size = size_;
    figure.threads = threads;
    ThreadPool pool(threads);
    ABSL_RETURN_IF_ERROR(ResetPeak());
    ABSL_ASSIGN_OR_RETURN(figure.before_bytes, StatusBytes("VmRSS:"));
    const absl::Time start = absl::Now();
    v1::AggregationReport report;
    {
      FileSink sink(file.get());
      aggregation::AggregationContext context;
      context.pool = &pool;
      ABSL_ASSIGN_OR_RETURN(report, aggregator->Aggregate(set, context, &sink));
    }
    figure.seconds = absl::ToDoubleSeconds(absl::Now() - start);
    ABSL_ASSIGN_OR_RETURN(figure.peak_bytes, StatusBytes("VmHWM:"));
    ABSL_ASSIGN_OR_RETURN(figure.largest_error, Check(rule, report, *file));
    return figure;
  }

 private:
  absl::StatusOr<double> Check(const BenchRule& rule,
                               const v1::AggregationReport& report,
                               const File& file) const {
    const std::vector<double> weights = BenchWeights(size_);
    absl::Status read;
    AggregateAnswer answer;
    answer.n = size_.updates;
    answer.P = size_.parameters;
    answer.value = [this](size_t i, size_t j) {
      return BenchValue(size_, i, j);
    };
    answer.weights = weights;
    answer.report = &report;
    answer.result = [&](size_t j) {
      float value = 0;
      read.Update(file.ReadAt(j * sizeof(float), sizeof(float), &value));
      return value;
    };
    const auto error = CheckAggregate(rule, answer);
    ABSL_RETURN_IF_ERROR(read);
    return error;
  }

  const AggregateCase size_;
  const std::string folder_;
  std::unique_ptr<coordinator::Spool> spool_;
  std::vector<coordinator::SpoolExtent> extents_;
};

double Megabytes(int64_t bytes) { return 1e-6 * static_cast<double>(bytes); }

}  // namespace

absl::StatusOr<std::vector<DiskRoundFigure>> MeasureDiskRounds(
    const DiskRoundOptions& options) {
  if (options.size.updates == 0 || options.size.parameters == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a case of ", options.size.updates, " updates of ",
        options.size.parameters, " parameters, expected at least 1 of 1"));
  }
  for (const int threads : options.threads) {
    if (threads < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(threads, " threads, expected at least 1"));
    }
  }
  std::vector<BenchRule> rules;
  for (const std::string& name : options.rules) {
    ABSL_ASSIGN_OR_RETURN(rules.emplace_back(),
                          MakeBenchRule(name, options.size.updates));
  }
  const ScratchFolder folder(options.dir);
  ABSL_RETURN_IF_ERROR(folder.status());
  DiskRounds rounds(options.size, folder.path());
  ABSL_RETURN_IF_ERROR(rounds.Fill());
  std::vector<DiskRoundFigure> figures;
  for (const int threads : options.threads) {
    for (const BenchRule& rule : rules) {
      ABSL_ASSIGN_OR_RETURN(figures.emplace_back(), rounds.Run(rule, threads));
    }
  }
  return figures;
}

std::string DiskRoundTable(absl::Span<const DiskRoundFigure> figures) {
  std::string table = absl::StrFormat(
      "%-20s %7s %10s %7s %8s %9s %9s\n", "rule", "updates", "parameters",
      "threads", "seconds", "before MB", "peak MB");
  for (const DiskRoundFigure& f : figures) {
    absl::StrAppendFormat(&table, "%-20s %7d %10d %7d %8.2f %9.1f %9.1f\n",
                          f.rule, f.size.updates, f.size.parameters, f.threads,
                          f.seconds, Megabytes(f.before_bytes),
                          Megabytes(f.peak_bytes));
  }
  absl::StrAppend(&table,
                  "Peak: the process's largest resident set during the rule "
                  "(the page cache is not part\nof it); before: its resident "
                  "set when the rule began. 1 MB is 1e6 bytes.\n");
  return table;
}

std::string DiskRoundJson(absl::Span<const DiskRoundFigure> figures) {
  std::string json = "[";
  for (const DiskRoundFigure& f : figures) {
    absl::StrAppendFormat(
        &json,
        R"(%s{"rule":%s,"updates":%d,"parameters":%d,"threads":%d,)"
        R"("seconds":%.6g,"before_bytes":%d,"peak_bytes":%d,)"
        R"("largest_error":%.6g})",
        json.size() > 1 ? ",\n" : "", JsonString(f.rule), f.size.updates,
        f.size.parameters, f.threads, f.seconds, f.before_bytes, f.peak_bytes,
        f.largest_error);
  }
  return absl::StrCat(json, "]\n");
}

}  // namespace koinon::tools
