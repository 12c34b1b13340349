#include "tools/bench/dht_simulation.h"

#include <sys/resource.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "dht/simulation/scenarios.h"
#include "tools/bench/apart.h"
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

constexpr size_t kFloodNodes = 100;
constexpr char kBetweenFields = '\0';

// Each scenario's process may come to as much memory as the fleet takes.
constexpr size_t kMostAtOnce = 4;

double PeakRssMib(int who) {
  struct rusage usage = {};
  getrusage(who, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

class Simulation {
 public:
  struct Scenario {
    const char* name;
    void (Simulation::*run)();
  };
  // Those that take longest first.
  static std::vector<Scenario> Scenarios() {
    return {{"churn", &Simulation::Churn},
            {"split", &Simulation::Split},
            {"holders", &Simulation::Holders},
            {"walks", &Simulation::Lookups},
            {"half-dead", &Simulation::HalfDead},
            {"few-liars", &Simulation::FewLiars},
            {"half-liars", &Simulation::HalfLiars},
            {"half-collude", &Simulation::HalfCollude},
            {"few-name-false", &Simulation::FewNameFalse},
            {"half-name-false", &Simulation::HalfNameFalse},
            {"small-fleet", &Simulation::SmallFleet},
            {"flood", &Simulation::Flood},
            {"same-seed", &Simulation::Determinism}};
  }

  Simulation(const DhtSimulationOptions& options,
             const std::function<void(const DhtSimulationRow&)>& progress)
      : options_(options), progress_(progress) {}

  DhtSimulationReport Run() {
    DhtSimulationReport report;
    report.options = options_;
    Join();
    Tell(row_);
    report.rows.push_back(row_);
    if (fleet_ != nullptr) {
      for (DhtSimulationRow& row : RunScenarios()) {
        report.rows.push_back(std::move(row));
      }
    }
    report.peak_rss_mib =
        std::max(PeakRssMib(RUSAGE_SELF), PeakRssMib(RUSAGE_CHILDREN));
    return report;
  }

 private:
  void Tell(const DhtSimulationRow& row) {
    if (progress_) progress_(row);
  }

  bool IsWanted(const std::string& scenario) const {
    const std::vector<std::string>& wanted = options_.scenarios;
    return wanted.empty() ||
           std::find(wanted.begin(), wanted.end(), scenario) != wanted.end();
  }

  // All from the same fleet, as it is once all have joined.
  std::vector<DhtSimulationRow> RunScenarios() {
    std::vector<std::function<std::string()>> tasks;
    for (const Scenario& scenario : Scenarios()) {
      if (!IsWanted(scenario.name)) continue;
      tasks.push_back([this, scenario] {
        began_ = CpuSeconds();
        (this->*scenario.run)();
        return EncodeDhtSimulationRow(row_);
      });
    }
    std::vector<DhtSimulationRow> rows(tasks.size());
    const size_t processors = std::thread::hardware_concurrency();
    RunApart(tasks, std::clamp<size_t>(processors, 1, kMostAtOnce),
             [&](size_t i, const absl::StatusOr<std::string>& result) {
               auto row = result.ok() ? DecodeDhtSimulationRow(*result)
                                      : result.status();
               if (row.ok()) {
                 rows[i] = *std::move(row);
               } else {
                 rows[i].condition = absl::StrCat("scenario ", i + 1);
                 rows[i].figure = std::string(row.status().message());
                 rows[i].met = false;
               }
               Tell(rows[i]);
             });
    return rows;
  }

  void Add(std::string condition, size_t nodes, std::string figure,
           std::string target, bool met) {
    row_ = {std::move(condition), nodes, std::move(figure),
            std::move(target),    met,   CpuSeconds() - began_};
  }

  void Join() {
    began_ = CpuSeconds();
    fleet_ = dht::StartedFleet(options_.seed, options_.nodes);
    const auto nodes = static_cast<double>(options_.nodes);
    Add("nodes join, one after the other", options_.nodes,
        fleet_ == nullptr
            ? "not all could"
            : absl::StrFormat(
                  "all; messages of each %.0f",
                  static_cast<double>(fleet_->network().messages()) / nodes),
        "all", fleet_ != nullptr);
  }

  void Lookups() {
    const auto f = dht::LookUpAtRandom(fleet_.get(), kLookups);
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
    const GetFigures f = dht::HalfDeadScenario(fleet_.get(), kRecords, kGets);
    Add("half of the nodes die at once", options_.nodes,
        absl::StrFormat("gets %.2f %%, p50/p95 %.0f/%.0f ms",
                        Percent(f.found, f.gets), f.milliseconds.p50,
                        f.milliseconds.p95),
        "100 %, p95 300 ms",
        f.found == f.gets && f.wrong == 0 && f.milliseconds.p95 <= 300);
  }

  void FewLiars() { Liars(0.2, Lie::kMixed, "drop, collude or forge"); }
  void HalfLiars() { Liars(0.5, Lie::kMixed, "drop, collude or forge"); }
  void HalfCollude() { Liars(0.5, Lie::kCollude, "collude"); }
  void Liars(double share, Lie lie, const char* how) {
    const dht::LiarFigures f =
        dht::LiarScenario(fleet_.get(), share, lie, kRecords, kGets);
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

  void FewNameFalse() { NameFalse(0.2, 999); }
  void HalfNameFalse() { NameFalse(0.5, 900); }
  void NameFalse(double share, size_t per_thousand) {
    const dht::ProviderLiarFigures f = dht::ProviderLiarScenario(
        fleet_.get(), share, Lie::kCollude, kRecords, kGets);
    Add(absl::StrFormat("%.0f %% name false providers", 100 * share),
        options_.nodes,
        absl::StrFormat(
            "searches that find a true one %.2f %%, of what is announced while "
            "they lie %.2f %%; of those named %.0f %% false; p50/p95 %.0f/%.0f "
            "ms",
            Percent(f.announced.found, f.announced.searches),
            Percent(f.while_lying.found, f.while_lying.searches),
            Percent(f.announced.false_ones, f.announced.named),
            f.announced.milliseconds.p50, f.announced.milliseconds.p95),
        absl::StrFormat("%g %%, -", static_cast<double>(per_thousand) / 10),
        AtLeast(f.announced.found, f.announced.searches, per_thousand));
  }

  void Churn() {
    const auto f =
        dht::ChurnScenario(fleet_.get(), 0.1, absl::Minutes(60), kRecords);
    Add("10 % replaced each minute, an hour", options_.nodes,
        absl::StrFormat("gets %.2f %% of %d, lost %d of %d, found after "
                        "expiry %d of %d",
                        Percent(f.found, f.gets), f.gets, f.lost, f.stored,
                        f.outlived, f.expired_gets),
        "99.9 %, 0, 0",
        AtLeast(f.found, f.gets, 999) && f.lost == 0 && f.outlived == 0);
  }

  void Holders() {
    const auto f = dht::KilledHoldersScenario(fleet_.get(), 60);
    Add("a holder dies every 10 s", options_.nodes,
        absl::StrFormat("killed %d, of the first holders %d left; gets %d/%d; "
                        "fewest holders %d",
                        f.killed, f.first_holders_left, f.found, f.gets,
                        f.fewest_holders),
        "all gets", f.gets > 0 && f.found == f.gets);
  }

  void Split() {
    const auto f = dht::SplitScenario(fleet_.get(), absl::Minutes(10));
    Add("split for 10 minutes, healed", options_.nodes,
        absl::StrFormat("one again after %s; gets across %d/%d",
                        absl::FormatDuration(
                            absl::Trunc(f.until_one_again, absl::Seconds(1))),
                        f.found, f.gets),
        "one again, all gets",
        f.until_one_again < absl::InfiniteDuration() && f.found == f.gets);
  }

  void Flood() {
    const auto f = dht::FloodScenario(options_.seed, kFloodNodes);
    Add("one writer stores 10 x its quota", kFloodNodes,
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
  std::unique_ptr<dht::SimulatedFleet> fleet_;
  DhtSimulationRow row_;  // of the scenario that this process has run
  double began_ = 0;
};

}  // namespace

std::vector<std::string> DhtScenarios() {
  std::vector<std::string> names;
  for (const auto& scenario : Simulation::Scenarios()) {
    names.push_back(scenario.name);
  }
  return names;
}

std::string EncodeDhtSimulationRow(const DhtSimulationRow& row) {
  return absl::StrJoin(
      {row.condition, absl::StrCat(row.nodes), row.figure, row.target,
       std::string(row.met ? "1" : "0"), absl::StrCat(row.cpu_seconds)},
      absl::string_view(&kBetweenFields, 1));
}

absl::StatusOr<DhtSimulationRow> DecodeDhtSimulationRow(
    const std::string& text) {
  const std::vector<std::string> fields =
      absl::StrSplit(text, absl::ByChar(kBetweenFields));
  DhtSimulationRow row;
  if (fields.size() != 6 || !absl::SimpleAtoi(fields[1], &row.nodes) ||
      (fields[4] != "0" && fields[4] != "1") ||
      !absl::SimpleAtod(fields[5], &row.cpu_seconds)) {
    return absl::DataLossError("expected the six fields of a figure");
  }
  row.condition = fields[0];
  row.figure = fields[2];
  row.target = fields[3];
  row.met = fields[4] == "1";
  return row;
}

DhtSimulationReport RunDhtSimulation(
    const DhtSimulationOptions& options,
    const std::function<void(const DhtSimulationRow&)>& progress) {
  const std::vector<std::string> known = DhtScenarios();
  for (const std::string& wanted : options.scenarios) {
    KOINON_CHECK(std::find(known.begin(), known.end(), wanted) != known.end());
  }
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
