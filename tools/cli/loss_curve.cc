#include "tools/cli/loss_curve.h"

#include <cerrno>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/env.h"
#include "base/status_macros.h"

namespace koinon::cli {
namespace {

constexpr size_t kMaxFileBytes = size_t{64} << 20;

// The header and the rows up to `last_step` of an earlier run's file; the
// header alone if there is none. A row that a kill cut short is left out.
absl::StatusOr<std::string> EarlierRows(const std::string& path,
                                        const std::string& header,
                                        int64_t last_step) {
  if (last_step == 0 || !RealEnv()->Exists(path)) return header;
  ABSL_ASSIGN_OR_RETURN(const std::string text,
                        ReadFile(RealEnv(), path, kMaxFileBytes));
  std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  lines.pop_back();  // what no newline ends
  if (lines.empty() || absl::StrCat(lines[0], "\n") != header) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: expected the curve of the training that goes on, found another "
        "first line",
        path));
  }
  std::string kept = header;
  for (size_t i = 1; i < lines.size(); ++i) {
    const absl::string_view cell = lines[i].substr(0, lines[i].find(','));
    int64_t step = 0;
    if (!absl::SimpleAtoi(cell, &step)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: line %d: expected a row that starts with its step, found "
          "\"%s\"",
          path, i + 1, cell));
    }
    if (step <= last_step) absl::StrAppend(&kept, lines[i], "\n");
  }
  return kept;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LossCurve>> LossCurve::Open(
    const std::string& path, absl::string_view unit, int64_t after_step) {
  const std::string header =
      absl::StrCat("step,seconds,loss,held_out_loss,held_out_accuracy,", unit,
                   "_per_second\n");
  ABSL_ASSIGN_OR_RETURN(const std::string rows,
                        EarlierRows(path, header, after_step));
  const bool goes_on = rows.size() > header.size();
  // A kill must not take the rows of hours of training.
  if (goes_on) ABSL_RETURN_IF_ERROR(WriteFileAtomically(RealEnv(), path, rows));
  std::FILE* file = std::fopen(path.c_str(), goes_on ? "ae" : "we");
  if (file == nullptr) return absl::ErrnoToStatus(errno, path);
  auto curve = absl::WrapUnique(new LossCurve(path, file));
  if (!goes_on) ABSL_RETURN_IF_ERROR(curve->Append(rows));
  return curve;
}

absl::Status LossCurve::Add(const worker::SoloTraining::Report& report) {
  std::string row = absl::StrFormat("%d,%.2f,", report.step, report.seconds);
  if (report.training.examples > 0) {
    absl::StrAppendFormat(&row, "%.6f", report.training.MeanLoss());
  }
  if (report.held_out.has_value()) {
    absl::StrAppendFormat(&row, ",%.6f,%.6f,", report.held_out->MeanLoss(),
                          report.held_out->Accuracy());
  } else {
    absl::StrAppend(&row, ",,,");
  }
  if (report.labels_per_second > 0) {
    absl::StrAppendFormat(&row, "%.6g", report.labels_per_second);
  }
  return Append(absl::StrCat(row, "\n"));
}

absl::Status LossCurve::Append(absl::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) == text.size() &&
      std::fflush(file_.get()) == 0) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, path_);
}

}  // namespace koinon::cli
