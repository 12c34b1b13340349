#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/bench/aggregate_bench.h"
#include "tools/bench/json_string.h"

namespace koinon::tools {
namespace {

std::string RivalText(const RivalFigure& rival) {
  return absl::StrFormat("%s %.3gx%s (%.0e)", rival.name, rival.speedup,
                         rival.runs == 1 ? "*" : "", rival.largest_difference);
}

std::string RivalJson(const RivalFigure& rival) {
  return absl::StrFormat(
      R"({"name":%s,"seconds":%.9g,"speedup":%.6g,"largest_difference":%.6g,)"
      R"("tolerance":%.6g,"runs":%d})",
      JsonString(rival.name), rival.seconds, rival.speedup,
      rival.largest_difference, rival.tolerance, rival.runs);
}

std::string FlopsColumns(const AggregateFigure& f) {
  if (f.peak_gflops == 0) return absl::StrFormat(" %7s %7s", "-", "-");
  return absl::StrFormat(" %7.1f %6.0f%%", f.gflops, 100 * f.of_peak);
}

}  // namespace

std::string AggregateTable(absl::Span<const AggregateFigure> figures) {
  std::string table = absl::StrFormat(
      "%-20s %7s %10s %7s %9s %6s %6s %7s %7s %7s  %s\n", "rule", "updates",
      "parameters", "threads", "ms", "GB/s", "read", "of read", "GFLOP/s",
      "of peak", "rivals: times ours (differ)");
  for (const AggregateFigure& f : figures) {
    absl::StrAppendFormat(
        &table, "%-20s %7d %10d %7d %9.3f %6.1f %6.1f %6.0f%%", f.rule,
        f.size.updates, f.size.parameters, f.threads, 1e3 * f.seconds,
        f.input_gb_per_s, f.read_gb_per_s, 100 * f.of_read);
    const std::string rivals =
        absl::StrJoin(f.rivals, ", ", [](std::string* out, const auto& r) {
          absl::StrAppend(out, RivalText(r));
        });
    absl::StrAppend(&table, FlopsColumns(f), "  ",
                    rivals.empty() ? "-" : rivals, "\n");
  }
  absl::StrAppend(
      &table,
      "GB/s: bytes of the updates in a second; read: the same bytes only read, "
      "on the same\nthreads. GFLOP/s: n (n+1) P operations of the Gram matrix "
      "over the whole rule's time; of\npeak: of fp32 multiply-adds in "
      "registers. Rivals: their time over the rule's, on the same\nbytes, and "
      "the largest difference of the answers; *: measured once; those that "
      "would "
      "take\nminutes are left out. Medians over "
      "interleaved repetitions.\n");
  if (!figures.empty()) {
    absl::StrAppend(&table, "NumPy: ", figures.back().rival, "\n");
  }
  return table;
}

std::string AggregateJson(absl::Span<const AggregateFigure> figures) {
  std::string json = "[";
  for (const AggregateFigure& f : figures) {
    absl::StrAppendFormat(
        &json,
        R"(%s{"rule":%s,"updates":%d,"parameters":%d,"threads":%d,)"
        R"("seconds":%.9g,"input_gb_per_s":%.6g,"read_gb_per_s":%.6g,)"
        R"("of_read":%.6g,"gflops":%.6g,"peak_gflops":%.6g,"of_peak":%.6g,)"
        R"("largest_error":%.6g,"rivals":[%s],"rival":%s})",
        json.size() > 1 ? ",\n" : "", JsonString(f.rule), f.size.updates,
        f.size.parameters, f.threads, f.seconds, f.input_gb_per_s,
        f.read_gb_per_s, f.of_read, f.gflops, f.peak_gflops, f.of_peak,
        f.largest_error,
        absl::StrJoin(f.rivals, ",",
                      [](std::string* out, const auto& r) {
                        absl::StrAppend(out, RivalJson(r));
                      }),
        JsonString(f.rival));
  }
  return absl::StrCat(json, "]\n");
}

}  // namespace koinon::tools
