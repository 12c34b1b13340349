#include "tools/cli/watch_view.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/cli/watch_detail.h"

namespace koinon::cli {
namespace {

constexpr size_t kBarWidth = 30;

}  // namespace

std::string JobStateName(v1::JobState state) {
  return absl::AsciiStrToLower(v1::JobState_Name(state));
}

WatchView::WatchView(bool detail)
    : table_({{"round", TextTable::kRight, 5},
              {"workers", TextTable::kRight, 7},
              {"accuracy", TextTable::kRight, 8},
              {"loss", TextTable::kRight, 8},
              {"spread", TextTable::kLeft, 15},
              {"seconds", TextTable::kRight, 7}}),
      detail_(detail) {}

bool WatchView::ended() const {
  return status_.state() == v1::SUCCEEDED || status_.state() == v1::FAILED ||
         status_.state() == v1::CANCELLED;
}

bool WatchView::WillBeEvaluated(int64_t round) const {
  // The meaning of EvaluationSpec.every_rounds; the coordinator sends the spec
  // with its defaults filled in.
  const int64_t every = status_.spec().evaluation().every_rounds();
  if (every < 0) return false;
  return every == 0 || round % every == 0 || round == status_.spec().rounds();
}

std::vector<std::string> WatchView::Apply(const v1::JobEvent& event) {
  std::vector<std::string> out;
  switch (event.event_case()) {
    case v1::JobEvent::kStatus:
      ApplyStatus(event.status());
      break;
    case v1::JobEvent::kRoundClosed: {
      const v1::RoundReport& report = event.round_closed();
      if (report.round() <= last_printed_) break;
      if (report.has_evaluation() || !WillBeEvaluated(report.round())) {
        FlushBefore(report.round(), &out);
        PrintRow(report, &out);
      } else {
        waiting_[report.round()] = report;
      }
      break;
    }
    case v1::JobEvent::kEvaluated:
      if (event.evaluated().round() <= last_printed_) break;
      FlushBefore(event.evaluated().round(), &out);
      PrintRow(event.evaluated(), &out);
      break;
    case v1::JobEvent::kWorker:
      if (event.worker().kind() == v1::WorkerEvent::PROGRESS) {
        fractions_[event.worker().worker()] = event.worker().fraction();
      }
      if (std::string note = DescribeWorker(event.worker()); !note.empty()) {
        out.push_back(std::move(note));
      }
      break;
    case v1::JobEvent::EVENT_NOT_SET:
      break;  // a newer coordinator's kind of event
  }
  return out;
}

std::vector<std::string> WatchView::Finish() {
  std::vector<std::string> out;
  while (!waiting_.empty()) {
    const v1::RoundReport report = waiting_.begin()->second;
    PrintRow(report, &out);
  }
  return out;
}

void WatchView::ApplyStatus(const v1::JobStatus& status) {
  if (status.round() != status_.round()) fractions_.clear();
  status_ = status;
}

void WatchView::FlushBefore(int64_t round, std::vector<std::string>* out) {
  while (!waiting_.empty() && waiting_.begin()->first < round) {
    const v1::RoundReport report = waiting_.begin()->second;
    PrintRow(report, out);
  }
}

void WatchView::PrintRow(const v1::RoundReport& report,
                         std::vector<std::string>* out) {
  std::string accuracy = "-";
  std::string spread = "-";
  std::string loss = "-";
  if (report.training().has_loss()) {
    loss = FormatFraction(report.training().loss().mean());
  }
  if (report.has_evaluation()) {
    const v1::MetricsSummary& evaluation = report.evaluation();
    const auto& spread_of =
        evaluation.has_accuracy() ? evaluation.accuracy() : evaluation.loss();
    loss = FormatFraction(evaluation.loss().mean());
    spread = absl::StrCat(FormatFraction(spread_of.min()), " - ",
                          FormatFraction(spread_of.max()));
    if (evaluation.has_accuracy()) {
      last_accuracy_ = evaluation.accuracy().mean();
      accuracy = FormatFraction(last_accuracy_);
    }
  }
  out->push_back(table_.RenderRow(
      {absl::StrCat(report.round()), absl::StrCat(report.included_size()),
       accuracy, loss, spread, FormatSeconds(report.seconds())}));
  if (detail_) {
    for (std::string& line : DetailLines(report)) {
      out->push_back(std::move(line));
    }
  }
  last_printed_ = report.round();
  waiting_.erase(report.round());
}

std::string WatchView::DescribeWorker(const v1::WorkerEvent& event) const {
  const char* what = nullptr;
  switch (event.kind()) {
    case v1::WorkerEvent::JOINED:
      what = "joined";
      break;
    case v1::WorkerEvent::LOST:
      what = "lost";
      break;
    case v1::WorkerEvent::REFUSED_TASK:
      what = "refused its task";
      break;
    case v1::WorkerEvent::UPDATE_REFUSED:
      what = "sent an update that was refused";
      break;
    case v1::WorkerEvent::FAILED_TASK:
      what = "failed";
      break;
    default:
      return "";
  }
  return Printable(absl::StrCat("    * ", event.worker(), " ", what,
                                event.detail().empty() ? "" : ": ",
                                event.detail()));
}

std::vector<std::string> WatchView::LiveLines() const {
  std::vector<std::string> lines;
  if (ended()) return lines;
  const int64_t rounds = status_.spec().rounds();
  lines.push_back(Printable(
      absl::StrFormat("%s  %s  round %d of %d%s%s", status_.name(),
                      JobStateName(status_.state()), status_.round(), rounds,
                      status_.reason().empty() ? "" : "  ", status_.reason())));
  if (status_.cohort_size() > 0) {
    double done = 0;
    for (const auto& [worker, fraction] : fractions_) done += fraction;
    const auto cohort = static_cast<double>(status_.cohort_size());
    lines.push_back(absl::StrFormat("  training %s",
                                    ProgressBar(done / cohort, kBarWidth)));
    // A buffer takes so many of those at work.
    const int64_t wanted = status_.spec().has_buffer()
                               ? status_.spec().buffer().size()
                               : status_.cohort_size();
    const int64_t accepted = status_.updates_accepted();
    lines.push_back(absl::StrFormat(
        "  updates  %s %d of %d",
        ProgressBar(static_cast<double>(accepted) / wanted, kBarWidth),
        accepted, wanted));
  }
  return lines;
}

std::string WatchView::Summary() const {
  std::string text = absl::StrCat(
      status_.name(), ": ", JobStateName(status_.state()), " after ",
      status_.version(), status_.version() == 1 ? " round" : " rounds");
  if (last_accuracy_ >= 0) {
    absl::StrAppend(&text, ", accuracy ", FormatFraction(last_accuracy_));
  }
  if (!status_.reason().empty()) {
    absl::StrAppend(&text, " (", status_.reason(), ")");
  }
  return Printable(text);
}

}  // namespace koinon::cli
