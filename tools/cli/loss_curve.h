#ifndef KOINON_TOOLS_CLI_LOSS_CURVE_H_
#define KOINON_TOOLS_CLI_LOSS_CURVE_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/train/solo_training.h"

namespace koinon::cli {

// A training's reports as a table in a file (CSV), for a plotting program:
//
//   step,seconds,loss,held_out_loss,held_out_accuracy,tokens_per_second
//   50,12.31,2.6312,,,10512
//   100,24.80,2.4105,2.4401,0.2763,10498
//
// A cell is empty where nothing was measured. Each row is in the file once it
// was added, whatever becomes of the program. Not thread-safe.
class LossCurve {
 public:
  // Opens the file: empty but for its header, or, for a training that goes on
  // after `after_step` > 0, with the rows up to that step, which are in the
  // file at any time, even if the program is killed meanwhile. `unit`: what is
  // trained on, "tokens" or "samples". INVALID_ARGUMENT for a file that holds
  // something else; the errors of opening and writing.
  static absl::StatusOr<std::unique_ptr<LossCurve>> Open(
      const std::string& path, absl::string_view unit, int64_t after_step);

  absl::Status Add(const worker::SoloTraining::Report& report);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  LossCurve(std::string path, std::FILE* file) : path_(path), file_(file) {}
  absl::Status Append(absl::string_view text);

  const std::string path_;
  const std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_LOSS_CURVE_H_
