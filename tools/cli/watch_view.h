#ifndef KOINON_TOOLS_CLI_WATCH_VIEW_H_
#define KOINON_TOOLS_CLI_WATCH_VIEW_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/client.pb.h"
#include "tools/cli/text.h"

namespace koinon::cli {

// What a person sees of a running job: a table of rounds that grows, notes
// about workers, and a few live lines below. Turns events into text; whoever
// owns it prints. Pure; not thread-safe.
//
//   WatchView view;
//   Print(view.Header());
//   for (event : events) { PrintAll(view.Apply(event));
//   Redraw(view.LiveLines()); } PrintAll(view.Finish());
//
// A round's row appears once its evaluation is in, or at its closing if it will
// not be evaluated. Events that were applied before change nothing, so that a
// stream that broke off may start over.
class WatchView {
 public:
  // detail: below each round's row, what its rule decided (watch_detail.h).
  explicit WatchView(bool detail = false);

  std::string Header() const { return table_.RenderHeader(); }
  // Lines to print for good.
  std::vector<std::string> Apply(const v1::JobEvent& event);
  // The rows of rounds whose evaluation never came.
  std::vector<std::string> Finish();
  // The round being run: bars for its updates and for the training itself.
  std::vector<std::string> LiveLines() const;

  bool ended() const;
  const v1::JobStatus& status() const { return status_; }
  // "digits: succeeded after 12 rounds: accuracy 0.9712"
  std::string Summary() const;

 private:
  bool WillBeEvaluated(int64_t round) const;
  void ApplyStatus(const v1::JobStatus& status);
  void PrintRow(const v1::RoundReport& report, std::vector<std::string>* out);
  void FlushBefore(int64_t round, std::vector<std::string>* out);
  std::string DescribeWorker(const v1::WorkerEvent& event) const;

  const TextTable table_;
  const bool detail_;
  v1::JobStatus status_;
  std::map<int64_t, v1::RoundReport> waiting_;  // closed, evaluation to come
  int64_t last_printed_ = -1;
  double last_accuracy_ = -1;
  std::map<std::string, double> fractions_;  // of training, by worker
};

// "succeeded", "running", ...
std::string JobStateName(v1::JobState state);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_WATCH_VIEW_H_
