#include "tools/cli/watch_detail.h"

#include <algorithm>
#include <cstdint>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "tools/cli/text.h"
#include "tools/cli/traffic.h"

namespace koinon::cli {
namespace {

constexpr char kIndent[] = "    ";

std::string Number(double value) { return absl::StrFormat("%.4g", value); }
std::string Percent(double share) {
  return absl::StrFormat("%.1f %%", 100 * share);
}
std::string YesNo(bool yes) { return yes ? "yes" : "no"; }

// One column of the table; shown if any update has a value for it.
struct DetailColumn {
  TextTable::Column column;
  // The cell; empty: the rule says nothing of this update.
  std::string (*cell)(const v1::UpdateDecision& update);
};

std::vector<DetailColumn> AllColumns() {
  using Update = v1::UpdateDecision;
  constexpr auto kRight = TextTable::kRight;
  return {
      {{"coefficient", kRight},
       [](const Update& u) {
         return u.has_coefficient() ? Number(u.coefficient()) : "";
       }},
      {{"norm", kRight},
       [](const Update& u) { return u.has_norm() ? Number(u.norm()) : ""; }},
      {{"score", kRight},
       [](const Update& u) { return u.has_score() ? Number(u.score()) : ""; }},
      {{"selected"},
       [](const Update& u) {
         return u.has_selected() ? YesNo(u.selected()) : "";
       }},
      {{"clipped to", kRight},
       [](const Update& u) {
         return u.has_clip_factor() ? Percent(u.clip_factor()) : "";
       }},
      {{"outside", kRight},
       [](const Update& u) {
         return u.has_outside_share() ? Percent(u.outside_share()) : "";
       }},
      {{"staleness", kRight},
       [](const Update& u) {
         return u.has_staleness() ? absl::StrCat(u.staleness()) : "";
       }},
      {{"discount", kRight},
       [](const Update& u) {
         return u.has_discount() ? Number(u.discount()) : "";
       }},
      {{"dropped"}, [](const Update& u) { return u.dropped(); }},
  };
}

// n: updates that the rule got.
std::string RuleLine(const v1::AggregationReport& report, int n) {
  std::string line = report.rule();
  if (report.pre_aggregation_size() > 0) {
    absl::StrAppend(&line, " of ",
                    absl::StrJoin(report.pre_aggregation(), ", "));
  }
  if (!report.server_optimizer().empty()) {
    absl::StrAppend(&line, ", then ", report.server_optimizer());
  }
  absl::StrAppend(&line, "; ");
  if (report.has_f()) absl::StrAppend(&line, "f ", report.f(), " of ");
  absl::StrAppend(&line, n, n == 1 ? " update" : " updates");
  if (report.has_trimmed_per_side()) {
    absl::StrAppend(&line, ", ", report.trimmed_per_side(),
                    " trimmed on each side");
  }
  if (report.has_iterations()) {
    absl::StrAppend(&line, ", ", report.iterations(),
                    report.iterations() == 1 ? " iteration" : " iterations");
  }
  if (report.has_converged()) {
    absl::StrAppend(&line,
                    report.converged() ? ", converged" : ", not converged");
  }
  if (report.has_sampled_coordinates()) {
    absl::StrAppend(&line, ", outside in parts of ",
                    report.sampled_coordinates(), " coordinates");
  }
  if (!report.instruction_set().empty()) {
    absl::StrAppend(&line, ", ", report.instruction_set());
  }
  return line;
}

std::string MoreLine(size_t more, absl::string_view what) {
  return absl::StrCat(kIndent, "  and ", more, " more ", what,
                      " (--json has all)");
}

void AppendUpdates(const v1::AggregationReport& report, size_t max_rows,
                   std::vector<std::string>* lines) {
  std::vector<DetailColumn> shown;
  std::vector<TextTable::Column> columns = {{"worker"}};
  for (const DetailColumn& column : AllColumns()) {
    const bool present =
        std::any_of(report.updates().begin(), report.updates().end(),
                    [&](const auto& u) { return !column.cell(u).empty(); });
    if (!present) continue;
    shown.push_back(column);
    columns.push_back(column.column);
  }
  const size_t n = report.updates_size();
  TextTable table(columns);
  for (size_t i = 0; i < std::min(n, max_rows); ++i) {
    const v1::UpdateDecision& update = report.updates(static_cast<int>(i));
    std::vector<std::string> cells = {update.worker()};
    for (const DetailColumn& column : shown) {
      const std::string cell = column.cell(update);
      cells.push_back(cell.empty() ? "-" : cell);
    }
    table.AddRow(std::move(cells));
  }
  for (const absl::string_view line :
       absl::StrSplit(table.Render(), '\n', absl::SkipEmpty())) {
    lines->push_back(absl::StrCat(kIndent, "  ", line));
  }
  if (n > max_rows) lines->push_back(MoreLine(n - max_rows, "updates"));
}

std::string SiteLine(absl::string_view worker,
                     const v1::SiteCommunication& site) {
  std::string line = absl::StrCat(
      worker, ": ", site.ranks(),
      site.ranks() == 1 ? " rank on " : " ranks on ", site.nodes(),
      site.nodes() == 1 ? " node" : " nodes", ", ", FormatBytes(site.bytes()),
      " in ", FormatSeconds(site.seconds()), " s");
  if (site.seconds() > 0) {
    absl::StrAppendFormat(
        &line, " (%.3g GB/s)",
        static_cast<double>(site.bytes()) / 1e9 / site.seconds());
  }
  absl::StrAppend(&line, "; waited for ", FormatSeconds(site.waited_seconds()),
                  " s");
  if (site.seconds() > 0) {
    const double waited = std::min(1.0, site.waited_seconds() / site.seconds());
    absl::StrAppend(&line, ", ", Percent(1 - waited), " hidden");
  }
  // A worker of before says nothing of its steps.
  if (site.step_seconds() > 0) {
    absl::StrAppend(&line, "; steps of ", FormatSeconds(site.step_seconds()),
                    " s, ",
                    Percent(std::min(
                        1.0, site.step_waited_seconds() / site.step_seconds())),
                    " of them waiting");
  }
  return line;
}

// By name: a map of protobuf has no order of its own.
void AppendSites(const v1::RoundReport& report, size_t max_rows,
                 std::vector<std::string>* lines) {
  const std::map<std::string, v1::SiteCommunication> sites(
      report.communication().begin(), report.communication().end());
  size_t shown = 0;
  for (const auto& [worker, site] : sites) {
    if (shown++ == max_rows) break;
    lines->push_back(
        absl::StrCat(kIndent, "ranks of ", Printable(SiteLine(worker, site))));
  }
  if (sites.size() > max_rows) {
    lines->push_back(MoreLine(sites.size() - max_rows, "sites"));
  }
}

void AppendExcluded(const v1::RoundReport& report, size_t max_rows,
                    std::vector<std::string>* lines) {
  const size_t n = report.excluded_size();
  for (size_t i = 0; i < std::min(n, max_rows); ++i) {
    const auto& excluded = report.excluded(static_cast<int>(i));
    lines->push_back(absl::StrCat(kIndent, Printable(excluded.worker()),
                                  " left out: ", Printable(excluded.reason())));
  }
  if (n > max_rows) lines->push_back(MoreLine(n - max_rows, "left out"));
}

}  // namespace

std::vector<std::string> DetailLines(const v1::RoundReport& report,
                                     size_t max_rows) {
  std::vector<std::string> lines;
  if (report.has_aggregation()) {
    const v1::AggregationReport& aggregation = report.aggregation();
    // An old round's decisions are not kept.
    const bool forgotten =
        aggregation.updates_size() == 0 && report.included_size() > 0;
    lines.push_back(absl::StrCat(
        kIndent, Printable(RuleLine(aggregation,
                                    forgotten ? report.included_size()
                                              : aggregation.updates_size()))));
    if (forgotten) {
      lines.push_back(absl::StrCat(
          kIndent, "  what became of each is kept for the newest rounds only"));
    } else {
      AppendUpdates(aggregation, max_rows, &lines);
    }
  }
  if (report.has_distribution()) {
    lines.push_back(absl::StrCat(
        kIndent, "base version: ", DescribeTraffic(report.distribution())));
  }
  AppendSites(report, max_rows, &lines);
  AppendExcluded(report, max_rows, &lines);
  return lines;
}

}  // namespace koinon::cli
