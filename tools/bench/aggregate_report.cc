#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/bench/aggregate_bench.h"

namespace koinon::tools {
namespace {

std::string RivalColumns(const std::optional<RivalFigure>& rival) {
  if (!rival.has_value()) return absl::StrFormat(" %10s %9s", "-", "-");
  return absl::StrFormat(" %9.2fx %9.1e", rival->speedup,
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
  std::string table =
      absl::StrFormat("%7s %10s %7s %9s %8s %8s %8s %10s %9s %10s %9s\n",
                      "updates", "parameters", "threads", "ms", "GB/s", "read",
                      "of read", "np.average", "differ", "BLAS w@S", "differ");
  for (const AggregateFigure& f : figures) {
    absl::StrAppendFormat(&table, "%7d %10d %7d %9.3f %8.1f %8.1f %7.0f%%",
                          f.size.updates, f.size.parameters, f.threads,
                          1e3 * f.seconds, f.input_gb_per_s, f.read_gb_per_s,
                          100 * f.of_read);
    absl::StrAppend(&table, RivalColumns(f.average), RivalColumns(f.matvec),
                    "\n");
  }
  absl::StrAppend(
      &table,
      "GB/s: bytes of the updates; read: the same bytes only read, on the same "
      "threads;\nnp.average, BLAS: NumPy's time over FedAvg's, on the same "
      "bytes; differ: largest\ndifference of the answers. Medians over "
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
        R"(%s{"updates":%d,"parameters":%d,"threads":%d,"seconds":%.9g,)"
        R"("input_gb_per_s":%.6g,"read_gb_per_s":%.6g,"of_read":%.6g,)"
        R"("largest_error":%.6g,"np_average":%s,"blas_matvec":%s,"rival":%s})",
        json.size() > 1 ? ",\n" : "", f.size.updates, f.size.parameters,
        f.threads, f.seconds, f.input_gb_per_s, f.read_gb_per_s, f.of_read,
        f.largest_error, RivalJson(f.average), RivalJson(f.matvec),
        JsonString(f.rival));
  }
  return absl::StrCat(json, "]\n");
}

}  // namespace koinon::tools
