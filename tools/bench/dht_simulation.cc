#include "tools/bench/dht_simulation.h"

#include <sys/resource.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "dht/simulation/scenarios.h"
#include "tools/bench/json_string.h"

namespace koinon::tools {
namespace {

using dht::GetFigures;
using dht::Lie;

constexpr size_t kLookups = 2'000;
constexpr size_t kRecords = 100;
constexpr size_t kGets = 2'000;

double CpuSeconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

double Percent(size_t part, size_t whole) {
  return whole == 0
             ? 0
             : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

// At least so many of a thousand.
bool AtLeast(size_t part, size_t whole, size_t per_thousand) {
  return whole > 0 && 1'000 * part >= per_thousand * whole;
}

class Simulation {
 public:
  Simulation(const DhtSimulationOptions& options,
             const std::function<void(const DhtSimulationRow&)>& progress)
      : options_(options), progress_(progress) {
    report_.options = options;
  }

  DhtSimulationReport Run() {
    Lookups();
    SmallFleet();
    HalfDead();
    Liars(0.2, Lie::kMixed, "drop, collude or forge");
    Liars(0.5, Lie::kMixed, "drop, collude or forge");
    Liars(0.5, Lie::kCollude, "collude");
    Churn();
    Holders();
    Split();
    Flood();
    Determinism();
    struct rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    report_.peak_rss_mib = static_cast<double>(usage.ru_maxrss) / 1024;
    return std::move(report_);
  }

 private:
  size_t lasting() const {
    return std::min(options_.nodes, options_.lasting_nodes);
  }
  void Begin() { began_ = CpuSeconds(); }
  void Add(std::string condition, size_t nodes, std::string figure,
           std::string target, bool met) {
    report_.rows.push_back({std::move(condition), nodes, std::move(figure),
                            std::move(target), met, CpuSeconds() - began_});
    if (progress_) progress_(report_.rows.back());
    Begin();
  }

  void Lookups() {
    Begin();
    const auto f = dht::LookupScenario(options_.seed, options_.nodes, kLookups);
    Add("walks to the 20 closest", options_.nodes,
        absl::StrFormat("nearest %.2f %%, recall %.3f %%, depth p95 %g, "
                        "questions p95 %g, p50/p95 %.0f/%.0f ms",
                        Percent(f.closest_found, f.lookups), 100 * f.recall,
                        f.depth.p95, f.questions.p95, f.milliseconds.p50,
                        f.milliseconds.p95),
        "99.9 %, 99.9 %, 3, 25",
        AtLeast(f.closest_found, f.lookups, 999) && f.recall >= 0.999 &&
            f.depth.p95 <= 3 && f.questions.p95 <= 25);
  }

  void SmallFleet() {
    const auto f = dht::SmallFleetScenario(options_.seed, 128, kRecords, 500);
    Add("small fleet, full tables", f.nodes,
        absl::StrFormat("puts %d/%d, p50/p95 %.0f/%.0f ms; gets %d/%d, "
                        "%.0f/%.0f ms, in one step %d",
                        f.stored, f.puts, f.put_milliseconds.p50,
                        f.put_milliseconds.p95, f.gets.found, f.gets.gets,
                        f.gets.milliseconds.p50, f.gets.milliseconds.p95,
                        f.one_step_gets),
        "all, in one step",
        f.stored == f.puts && f.gets.found == f.gets.gets &&
            f.one_step_gets == f.gets.gets);
  }

  void HalfDead() {
    const GetFigures f =
        dht::HalfDeadScenario(options_.seed, options_.nodes, kRecords, kGets);
    Add("half of the nodes die at once", options_.nodes,
        absl::StrFormat("gets %.2f %%, p50/p95 %.0f/%.0f ms",
                        Percent(f.found, f.gets), f.milliseconds.p50,
                        f.milliseconds.p95),
        "100 %, p95 300 ms",
        f.found == f.gets && f.wrong == 0 && f.milliseconds.p95 <= 300);
  }

  void Liars(double share, Lie lie, const char* how) {
    const dht::LiarFigures f = dht::LiarScenario(options_.seed, options_.nodes,
                                                 share, lie, kRecords, kGets);
    const bool few = share < 0.5;
    Add(absl::StrFormat("%.0f %% %s", 100 * share, how), options_.nodes,
        absl::StrFormat(
            "gets by one path %.2f %%, in the end %.2f %%; stored while they "
            "lie %.2f %%; forged records refused %d, believed %d",
            Percent(f.stored.on_first_path, f.stored.gets),
            Percent(f.stored.found, f.stored.gets),
            Percent(f.while_lying.found, f.while_lying.gets),
            f.stored.refused + f.while_lying.refused,
            f.stored.wrong + f.while_lying.wrong),
        few ? "99.5 %, 100 %, -, 0" : "-, 99.9 %, -, 0",
        AtLeast(f.stored.found, f.stored.gets, few ? 1'000 : 999) &&
            (!few || AtLeast(f.stored.on_first_path, f.stored.gets, 995)) &&
            f.stored.wrong + f.while_lying.wrong == 0);
  }

  void Churn() {
    const auto f = dht::ChurnScenario(options_.seed, lasting(), 0.1,
                                      absl::Minutes(60), kRecords);
    Add("10 % replaced each minute, an hour", lasting(),
        absl::StrFormat("gets %.2f %% of %d, lost %d of %d, found after "
                        "expiry %d of %d",
                        Percent(f.found, f.gets), f.gets, f.lost, f.stored,
                        f.outlived, f.expired_gets),
        "99.9 %, 0, 0",
        AtLeast(f.found, f.gets, 999) && f.lost == 0 && f.outlived == 0);
  }

  void Holders() {
    const auto f = dht::KilledHoldersScenario(options_.seed, lasting(), 60);
    Add("a holder dies every 10 s", lasting(),
        absl::StrFormat("killed %d, of the first holders %d left; gets %d/%d; "
                        "fewest holders %d",
                        f.killed, f.first_holders_left, f.found, f.gets,
                        f.fewest_holders),
        "all gets", f.gets > 0 && f.found == f.gets);
  }

  void Split() {
    const auto f =
        dht::SplitScenario(options_.seed, lasting(), absl::Minutes(10));
    Add("split for 10 minutes, healed", lasting(),
        absl::StrFormat("one again after %s; gets across %d/%d",
                        absl::FormatDuration(
                            absl::Trunc(f.until_one_again, absl::Seconds(1))),
                        f.found, f.gets),
        "one again, all gets",
        f.until_one_again < absl::InfiniteDuration() && f.found == f.gets);
  }

  void Flood() {
    const size_t nodes = std::min<size_t>(lasting(), 100);
    const auto f = dht::FloodScenario(options_.seed, nodes);
    Add("one writer stores 10 x its quota", nodes,
        absl::StrFormat("refused %d; others: puts %d/%d, gets %d/%d; most in "
                        "one store %d of %d B",
                        f.refused, f.stored, f.puts, f.found, f.gets,
                        f.most_bytes, f.bound_bytes),
        "99.9 %, bounded",
        AtLeast(f.stored, f.puts, 999) && AtLeast(f.found, f.gets, 999) &&
            f.refused > 0 && f.most_bytes <= f.bound_bytes);
  }

  void Determinism() {
    const std::string log = dht::LogOfABusyFleet(options_.seed, 100);
    const bool same = log == dht::LogOfABusyFleet(options_.seed, 100);
    const bool differs = log != dht::LogOfABusyFleet(options_.seed + 1, 100);
    Add("the same seed twice, and another", 100,
        absl::StrFormat("event logs %s, %s; %s", same ? "equal" : "DIFFER",
                        differs ? "differ" : "EQUAL", log.substr(0, 16)),
        "equal, differ", same && differs);
  }

  const DhtSimulationOptions options_;
  const std::function<void(const DhtSimulationRow&)>& progress_;
  DhtSimulationReport report_;
  double began_ = 0;
};

}  // namespace

DhtSimulationReport RunDhtSimulation(
    const DhtSimulationOptions& options,
    const std::function<void(const DhtSimulationRow&)>& progress) {
  return Simulation(options, progress).Run();
}

std::string DhtSimulationHeading(const DhtSimulationOptions& options) {
  return absl::StrFormat(
      "seed %d; tables filled by joining; a message takes 5 ms and 20 ms more "
      "on average\n%-34s %6s %-6s %s",
      options.seed, "condition", "nodes", "", "measured (wanted)");
}

std::string DhtSimulationLine(const DhtSimulationRow& row) {
  return absl::StrFormat(
      "%-34s %6d %-6s %s%s  [%.0f s]", row.condition, row.nodes,
      row.met ? "ok" : "MISSED", row.figure,
      row.target.empty() ? "" : absl::StrCat(" (", row.target, ")"),
      row.cpu_seconds);
}

std::string DhtSimulationJson(const DhtSimulationReport& report) {
  std::string json =
      absl::StrFormat(R"({"seed":%d,"peak_rss_mib":%.0f,"rows":[)",
                      report.options.seed, report.peak_rss_mib);
  for (size_t i = 0; i < report.rows.size(); ++i) {
    const DhtSimulationRow& row = report.rows[i];
    absl::StrAppendFormat(
        &json,
        R"(%s{"condition":%s,"nodes":%d,"measured":%s,"wanted":%s,"met":%s,)"
        R"("cpu_seconds":%.1f})",
        i == 0 ? "" : ",\n", JsonString(row.condition), row.nodes,
        JsonString(row.figure), JsonString(row.target),
        row.met ? "true" : "false", row.cpu_seconds);
  }
  return absl::StrCat(json, "]}\n");
}

}  // namespace koinon::tools
