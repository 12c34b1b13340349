#include "tools/cli/train_view.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace koinon::cli {
namespace {

constexpr absl::Duration kRedrawInterval = absl::Milliseconds(100);
constexpr size_t kBarWidth = 30;

std::vector<TextTable::Column> Columns(const TrainingFacts& facts) {
  const size_t digits = absl::StrCat(facts.steps).size();
  std::vector<TextTable::Column> columns = {
      {"step", TextTable::kRight, 2 * digits + 1},
      {"loss", TextTable::kRight, 8},
      {"held-out loss", TextTable::kRight}};
  if (facts.has_classes) {
    columns.push_back({"held-out accuracy", TextTable::kRight});
  }
  columns.push_back({absl::StrCat(facts.unit, "/s"), TextTable::kRight, 10});
  columns.push_back({"seconds", TextTable::kRight, 8});
  return columns;
}

std::string Loss(const worker::TrainingTotals& totals) {
  return totals.examples == 0 ? "-"
                              : absl::StrFormat("%.4f", totals.MeanLoss());
}

std::string Rate(double per_second) {
  return per_second > 0 ? absl::StrFormat("%.0f", per_second) : "-";
}

std::vector<std::string> Row(const TrainingFacts& facts,
                             const worker::SoloTraining::Report& report) {
  std::vector<std::string> row = {
      absl::StrCat(report.step, "/", facts.steps), Loss(report.training),
      report.held_out.has_value() ? Loss(*report.held_out) : "-"};
  if (facts.has_classes) {
    row.push_back(report.held_out.has_value()
                      ? FormatFraction(report.held_out->Accuracy())
                      : "-");
  }
  row.push_back(Rate(report.labels_per_second));
  row.push_back(FormatSeconds(report.seconds));
  return row;
}

}  // namespace

TrainView::TrainView(std::FILE* out, TrainStyle style, const Clock* clock,
                     const TrainingFacts& facts)
    : out_(out),
      style_(style),
      clock_(clock),
      facts_(facts),
      start_(clock->Now()),
      table_(Columns(facts)) {}

void TrainView::Print(const std::string& line) {
  Finish();
  std::fprintf(out_, "%s\n", line.c_str());
  std::fflush(out_);
}

void TrainView::Finish() {
  // To the line's start, then clear it.
  if (bar_shown_) std::fprintf(out_, "\r\x1b[K");
  bar_shown_ = false;
}

void TrainView::Note(const std::string& line) {
  if (style_ != TrainStyle::kJson) Print(line);
}

std::string TrainView::Bar(int64_t step, double loss, absl::Time now) const {
  const int64_t made = step - facts_.first_step;
  const double each = absl::ToDoubleSeconds(now - start_) /
                      static_cast<double>(std::max<int64_t>(1, made));
  return absl::StrCat(
      ProgressBar(static_cast<double>(step) / static_cast<double>(facts_.steps),
                  kBarWidth),
      " ", step, "/", facts_.steps, "  loss ", absl::StrFormat("%.4f", loss),
      "  ", FormatRest(each * static_cast<double>(facts_.steps - step)),
      " left");
}

void TrainView::OnStep(int64_t step, const worker::TrainingTotals& totals) {
  if (style_ != TrainStyle::kTerminal) return;
  const absl::Time now = clock_->Now();
  if (bar_shown_ && now - last_draw_ < kRedrawInterval) return;
  Finish();
  std::fprintf(out_, "%s", Bar(step, totals.MeanLoss(), now).c_str());
  std::fflush(out_);
  bar_shown_ = true;
  last_draw_ = now;
}

void TrainView::OnReport(const worker::SoloTraining::Report& report) {
  if (style_ == TrainStyle::kJson) {
    Print(ReportJson(facts_, report));
    return;
  }
  if (!header_printed_) Print(table_.RenderHeader());
  header_printed_ = true;
  Print(table_.RenderRow(Row(facts_, report)));
}

std::string ReportJson(const TrainingFacts& facts,
                       const worker::SoloTraining::Report& report) {
  std::string json = absl::StrFormat("{\"step\":%d,\"steps\":%d,\"seconds\":%g",
                                     report.step, facts.steps, report.seconds);
  if (report.training.examples > 0) {
    absl::StrAppendFormat(&json, ",\"loss\":%.9g", report.training.MeanLoss());
  }
  if (report.held_out.has_value()) {
    absl::StrAppendFormat(&json, ",\"held_out_loss\":%.9g",
                          report.held_out->MeanLoss());
    if (facts.has_classes) {
      absl::StrAppendFormat(&json, ",\"held_out_accuracy\":%.9g",
                            report.held_out->Accuracy());
    }
  }
  if (report.labels_per_second > 0) {
    absl::StrAppendFormat(&json, ",\"%s_per_second\":%.6g", facts.unit,
                          report.labels_per_second);
  }
  return json + "}";
}

std::string FormatRest(double seconds) {
  if (seconds < 100) return absl::StrFormat("%.0f s", seconds);
  if (seconds < 100 * 60) return absl::StrFormat("%.0f min", seconds / 60);
  return absl::StrFormat("%.1f h", seconds / 3600);
}

}  // namespace koinon::cli
