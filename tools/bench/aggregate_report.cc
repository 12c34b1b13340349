#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/bench/aggregate_bench.h"

namespace koinon::tools {
namespace {

std::string RivalColumns(const std::optional<RivalFigure>& rival) {
  if (!rival.has_value()) return absl::StrFormat(" %10s %8s", "-", "-");
  return absl::StrFormat(" %9.2fx %8.1e", rival->speedup,
                         rival->largest_difference);
}

std::string RivalJson(const std::optional<RivalFigure>& rival) {
  if (!rival.has_value()) return "null";
  return absl::StrFormat(
      R"({"seconds":%.9g,"speedup":%.6g,"largest_difference":%.6g})",
      rival->seconds, rival->speedup, rival->largest_difference);
}

std::string JsonString(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&escaped, "\\", std::string(1, c));
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&escaped, "\\u%04x", c);
    } else {
      escaped.push_back(c);
    }
  }
  return absl::StrCat("\"", escaped, "\"");
}

}  // namespace

std::string AggregateTable(absl::Span<const AggregateFigure> figures) {
  std::string table = absl::StrFormat(
      "%7s %10s %7s %8s %6s %6s %7s %10s %8s %10s %8s %10s %8s\n", "updates",
      "parameters", "threads", "ms", "GB/s", "read", "of read", "np.average",
      "differ", "fp32", "differ", "BLAS", "differ");
  for (const AggregateFigure& f : figures) {
    absl::StrAppendFormat(&table, "%7d %10d %7d %8.3f %6.1f %6.1f %6.0f%%",
                          f.size.updates, f.size.parameters, f.threads,
                          1e3 * f.seconds, f.input_gb_per_s, f.read_gb_per_s,
                          100 * f.of_read);
    absl::StrAppend(&table, RivalColumns(f.average),
                    RivalColumns(f.average_fp32), RivalColumns(f.matvec), "\n");
  }
  absl::StrAppend(
      &table,
      "GB/s: bytes of the updates in a second; read: the same bytes only read, "
      "on the same\nthreads. np.average, fp32, BLAS: time over FedAvg's, on "
      "the "
      "same bytes, of np.average\nwith example counts as weights, of it with "
      "fp32 weights, and of w @ S in fp32;\ndiffer: largest difference of the "
      "answers. Medians over interleaved repetitions.\n");
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
        R"(%s{"updates":%d,"parameters":%d,"threads":%d,"seconds":%.9g,)"
        R"("input_gb_per_s":%.6g,"read_gb_per_s":%.6g,"of_read":%.6g,)"
        R"("largest_error":%.6g,"np_average":%s,"np_average_fp32":%s,"blas_matvec":%s,"rival":%s})",
        json.size() > 1 ? ",\n" : "", f.size.updates, f.size.parameters,
        f.threads, f.seconds, f.input_gb_per_s, f.read_gb_per_s, f.of_read,
        f.largest_error, RivalJson(f.average), RivalJson(f.average_fp32),
        RivalJson(f.matvec), JsonString(f.rival));
  }
  return absl::StrCat(json, "]\n");
}

}  // namespace koinon::tools
