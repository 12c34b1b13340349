#ifndef KOINON_TOOLS_CLI_TRAIN_VIEW_H_
#define KOINON_TOOLS_CLI_TRAIN_VIEW_H_

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/time/time.h"
#include "base/clock.h"
#include "tools/cli/text.h"
#include "worker/train/solo_training.h"

namespace koinon::cli {

// What is trained, for those who look on.
struct TrainingFacts {
  int64_t steps = 0;
  int64_t first_step = 0;
  std::string unit = "samples";  // or "tokens"
  bool has_classes = true;
};

// How a training is shown: a table of its reports with a bar below it for a
// terminal, the table alone for a pipe or a file, or one JSON object for each
// report.
enum class TrainStyle { kTerminal, kPlain, kJson };

// Shows a training as it happens. Not thread-safe; out and clock must outlive
// it.
class TrainView {
 public:
  TrainView(std::FILE* out, TrainStyle style, const Clock* clock,
            const TrainingFacts& facts);

  void OnStep(int64_t step, const worker::TrainingTotals& totals);
  void OnReport(const worker::SoloTraining::Report& report);
  // A line of the caller's own; nothing in JSON.
  void Note(const std::string& line);
  // Removes the bar.
  void Finish();

 private:
  void Print(const std::string& line);
  std::string Bar(int64_t step, double loss, absl::Time now) const;

  std::FILE* const out_;
  const TrainStyle style_;
  const Clock* const clock_;
  const TrainingFacts facts_;
  const absl::Time start_;
  TextTable table_;
  bool header_printed_ = false;
  bool bar_shown_ = false;
  absl::Time last_draw_ = absl::InfinitePast();
};

// One line, without its end.
std::string ReportJson(const TrainingFacts& facts,
                       const worker::SoloTraining::Report& report);

// "45 s", "12 min", "3.2 h": what is left of something long.
std::string FormatRest(double seconds);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_TRAIN_VIEW_H_
