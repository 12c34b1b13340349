#include "tools/bench/dht_bench.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "dht/records/signed.h"
#include "tools/bench/dht_fleet.h"
#include "tools/bench/json_string.h"
#include "tools/bench/opendht_rival.h"

namespace koinon::tools {
namespace {

constexpr absl::Duration kJoinPatience = absl::Minutes(5);
constexpr size_t kWarmUp = 200;
constexpr size_t kChecked = 8;

// A folder of its own that goes with it.
class ScratchDir {
 public:
  ScratchDir() {
    std::string path = std::filesystem::temp_directory_path() / "koinon-XXXXXX";
    if (mkdtemp(path.data()) != nullptr) path_ = path;
  }
  ~ScratchDir() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string ValueOf(uint64_t seed, uint64_t index, size_t bytes) {
  Random random(DeriveSeed(seed, index));
  std::string value(bytes, '\0');
  for (char& byte : value) byte = static_cast<char>(random.NextBelow(256));
  return value;
}

// How long operations took, and what became of them.
class Tally {
 public:
  void Add(absl::Duration took, const absl::Status& status) {
    ms_.push_back(absl::ToDoubleMilliseconds(took));
    if (!status.ok() && failed_++ == 0) first_failure_ = status.ToString();
  }
  DhtLatencies Summary() && {
    DhtLatencies summary = Summarize(std::move(ms_), failed_);
    summary.first_failure = std::move(first_failure_);
    return summary;
  }

 private:
  std::vector<double> ms_;
  size_t failed_ = 0;
  std::string first_failure_;
};

// One fleet and what is asked of it.
class Course {
 public:
  Course(const DhtBenchOptions& options, DhtFleet* fleet)
      : options_(options), fleet_(fleet), random_(options.seed) {}

  // Whatever one node puts, others get.
  absl::Status CheckAnswers();
  absl::StatusOr<DhtLatencies> Puts(size_t count);
  // Of the values that Puts has put.
  absl::StatusOr<DhtLatencies> Gets(size_t count);
  size_t Kill();

 private:
  dht::Peer* AnyAsker();
  std::string Value(size_t i) const {
    return ValueOf(options_.seed, i, options_.value_bytes);
  }

  const DhtBenchOptions options_;
  DhtFleet* const fleet_;
  const RealClock clock_;
  Random random_;
  size_t put_ = 0;
};

dht::Peer* Course::AnyAsker() {
  const size_t askers = std::min(DhtFleet::Options().askers, fleet_->size());
  for (;;) {
    dht::Peer* const peer = fleet_->peer(random_.NextBelow(askers));
    if (peer != nullptr) return peer;
  }
}

absl::Status Course::CheckAnswers() {
  for (size_t i = 0; i < kChecked; ++i) {
    const std::string value = ValueOf(~options_.seed, i, options_.value_bytes);
    const dht::Key key = dht::ImmutableKey(value);
    ABSL_RETURN_IF_ERROR(fleet_->peer(i % fleet_->size())
                             ->PutNow(key, dht::ImmutableRecord(value))
                             .status());
    dht::Peer* const other = fleet_->peer(random_.NextBelow(fleet_->size()));
    ABSL_ASSIGN_OR_RETURN(const auto got, other->GetNow(key));
    if (got.opened.value != value) {
      return absl::InternalError("a get returns another value than was put");
    }
  }
  const auto absent = fleet_->peer(0)->GetNow(Sha256Of("nobody put this"));
  if (!absl::IsNotFound(absent.status())) {
    return absl::InternalError(
        absl::StrCat("a get of what nobody put is not NOT_FOUND: ",
                     absent.status().ToString()));
  }
  return absl::OkStatus();
}

absl::StatusOr<DhtLatencies> Course::Puts(size_t count) {
  Tally tally;
  for (size_t i = 0; i < count; ++i) {
    std::string value = Value(put_++);
    const dht::Key key = dht::ImmutableKey(value);
    v1::Record record = dht::ImmutableRecord(std::move(value));
    dht::Peer* const asker = AnyAsker();
    const absl::Time started = clock_.Now();
    const auto put = asker->PutNow(key, std::move(record));
    tally.Add(clock_.Now() - started, put.status());
  }
  return std::move(tally).Summary();
}

absl::StatusOr<DhtLatencies> Course::Gets(size_t count) {
  Tally tally;
  for (size_t i = 0; i < count; ++i) {
    const std::string value = Value(random_.NextBelow(put_));
    const dht::Key key = dht::ImmutableKey(value);
    dht::Peer* const asker = AnyAsker();
    const absl::Time started = clock_.Now();
    const auto got = asker->GetNow(key);
    tally.Add(clock_.Now() - started, got.status());
    if (got.ok() && got->opened.value != value) {
      return absl::InternalError("a get returns another value than was put");
    }
  }
  return std::move(tally).Summary();
}

// At least one asker lives on.
size_t Course::Kill() {
  std::vector<size_t> order(fleet_->size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  random_.Shuffle(&order);
  std::erase(order, random_.NextBelow(
                        std::min(DhtFleet::Options().askers, fleet_->size())));
  const auto killed =
      static_cast<size_t>(options_.kill * static_cast<double>(fleet_->size()));
  order.resize(std::min(killed, order.size()));
  for (const size_t i : order) fleet_->Stop(i);
  return order.size();
}

absl::StatusOr<DhtFigure> MeasureFleet(const DhtBenchOptions& options,
                                       bool tls) {
  const ScratchDir scratch;
  if (scratch.path().empty()) {
    return absl::UnavailableError("cannot make a temporary folder");
  }
  DhtFleet::Options fleet_options;
  fleet_options.nodes = options.nodes;
  fleet_options.tls = tls;
  fleet_options.dir = scratch.path();
  ABSL_ASSIGN_OR_RETURN(const auto fleet,
                        DhtFleet::Start(fleet_options, kJoinPatience));
  Course course(options, fleet.get());
  ABSL_RETURN_IF_ERROR(course.CheckAnswers());
  ABSL_RETURN_IF_ERROR(course.Puts(kWarmUp).status());
  ABSL_RETURN_IF_ERROR(course.Gets(kWarmUp).status());
  DhtFigure figure;
  figure.what = tls ? "mutual TLS" : "plaintext";
  figure.nodes = options.nodes;
  ABSL_ASSIGN_OR_RETURN(figure.put, course.Puts(options.operations));
  ABSL_ASSIGN_OR_RETURN(figure.get, course.Gets(options.operations));
  if (options.kill > 0) {
    figure.killed = course.Kill();
    ABSL_ASSIGN_OR_RETURN(figure.get_after, course.Gets(options.operations));
  }
  return figure;
}

std::string LatencyJson(const DhtLatencies& l) {
  return absl::StrFormat(
      R"({"count":%d,"failed":%d,"mean_ms":%g,"p50_ms":%g,"p95_ms":%g,)"
      R"("p99_ms":%g,"first_failure":%s})",
      l.count, l.failed, l.mean_ms, l.p50_ms, l.p95_ms, l.p99_ms,
      JsonString(l.first_failure));
}

std::string Row(absl::string_view what, absl::string_view operation,
                const DhtLatencies& l) {
  if (l.count == 0) return "";
  std::string row = absl::StrFormat(
      "%-16s %-22s %8d %7d %8.3f %8.3f %8.3f %8.3f\n", what, operation, l.count,
      l.failed, l.mean_ms, l.p50_ms, l.p95_ms, l.p99_ms);
  if (!l.first_failure.empty()) {
    absl::StrAppend(&row, "  the first that failed: ", l.first_failure, "\n");
  }
  return row;
}

}  // namespace

DhtLatencies Summarize(std::vector<double> ms, size_t failed) {
  DhtLatencies summary;
  summary.count = ms.size();
  summary.failed = failed;
  if (ms.empty()) return summary;
  std::sort(ms.begin(), ms.end());
  // The smallest that so large a part of all does not exceed.
  const auto quantile = [&ms](double part) {
    const auto rank =
        static_cast<size_t>(part * static_cast<double>(ms.size() - 1) + 0.5);
    return ms[std::min(rank, ms.size() - 1)];
  };
  for (const double one : ms) summary.mean_ms += one;
  summary.mean_ms /= static_cast<double>(ms.size());
  summary.p50_ms = quantile(0.50);
  summary.p95_ms = quantile(0.95);
  summary.p99_ms = quantile(0.99);
  return summary;
}

absl::StatusOr<DhtBenchResult> MeasureDht(const DhtBenchOptions& options) {
  DhtBenchResult result;
  for (const bool tls : {false, true}) {
    if (!(tls ? options.tls : options.plaintext)) continue;
    ABSL_ASSIGN_OR_RETURN(DhtFigure figure, MeasureFleet(options, tls));
    result.figures.push_back(std::move(figure));
  }
  if (options.python.empty()) {
    result.rival_absent = "not asked for";
    return result;
  }
  absl::StatusOr<DhtFigure> rival = MeasureOpenDht(options);
  if (rival.ok()) {
    result.figures.push_back(*std::move(rival));
  } else if (absl::IsNotFound(rival.status())) {
    result.rival_absent = std::string(rival.status().message());
  } else {
    return rival.status();
  }
  return result;
}

std::string DhtTable(const DhtBenchResult& result) {
  std::string table =
      absl::StrFormat("%-16s %-22s %8s %7s %8s %8s %8s %8s\n", "", "", "count",
                      "failed", "mean ms", "p50", "p95", "p99");
  for (const DhtFigure& figure : result.figures) {
    const std::string after =
        absl::StrCat("get, ", figure.killed, " of ", figure.nodes, " dead");
    absl::StrAppend(&table, Row(figure.what, "put", figure.put),
                    Row(figure.what, "get", figure.get),
                    Row(figure.what, after, figure.get_after));
  }
  if (!result.rival_absent.empty()) {
    absl::StrAppend(&table, "OpenDHT: not measured: ", result.rival_absent,
                    "\n");
  }
  return table;
}

std::string DhtJson(const DhtBenchResult& result) {
  std::vector<std::string> figures;
  for (const DhtFigure& figure : result.figures) {
    figures.push_back(absl::StrCat(
        R"({"what":)", JsonString(figure.what), R"(,"nodes":)", figure.nodes,
        R"(,"put":)", LatencyJson(figure.put), R"(,"get":)",
        LatencyJson(figure.get), R"(,"killed":)", figure.killed,
        R"(,"get_after":)", LatencyJson(figure.get_after), "}"));
  }
  return absl::StrCat(R"({"figures":[)", absl::StrJoin(figures, ","),
                      R"(],"rival_absent":)", JsonString(result.rival_absent),
                      "}\n");
}

}  // namespace koinon::tools
