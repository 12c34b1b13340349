#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/job_file.h"
#include "tools/cli/proto_json.h"
#include "tools/cli/text.h"
#include "tools/cli/watch.h"
#include "tools/cli/watch_detail.h"

namespace koinon::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  std::string subject;  // a job's name, or a file
  bool json = false;
  bool watch = false;
  bool new_only = false;
  bool detail = false;
  int64_t after_round = 0;
  int64_t limit = 1000;
};

ExitCode WatchAndReport(Client* client, const std::string& job,
                        const Options& options) {
  WatchPrinter printer(stdout, WatchStyleFor(stdout, options.json),
                       options.detail);
  WatchOptions watch;
  watch.from_start = !options.new_only;
  const auto status =
      WatchUntilEnd(client, job, watch,
                    [&](const v1::JobEvent& event) { printer.OnEvent(event); });
  if (!status.ok()) return Report(status.status());
  printer.Finish();
  return status->state() == v1::SUCCEEDED ? ExitCode::kOk
                                          : ExitCode::kJobFailed;
}

ExitCode RunSubmit(const Options& options) {
  const auto spec = ReadJobFile(RealEnv(), options.subject);
  if (!spec.ok()) return Report(spec.status());
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  const auto reply = (*client)->SubmitJob(*spec);
  if (!reply.ok()) return Report(reply.status());
  for (const std::string& warning : reply->warnings()) {
    std::fprintf(stderr, "koinon: warning: %s\n", Printable(warning).c_str());
  }
  const std::string& name = reply->status().name();
  if (options.watch) return WatchAndReport(client->get(), name, options);
  std::printf("%s\n",
              options.json ? ToJson(*reply).c_str() : Printable(name).c_str());
  return ExitCode::kOk;
}

ExitCode RunWatch(const Options& options) {
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  return WatchAndReport(client->get(), options.subject, options);
}

ExitCode RunJobs(const Options& options) {
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  const auto reply = (*client)->ListJobs();
  if (!reply.ok()) return Report(reply.status());
  if (options.json) {
    std::printf("%s", ToJson(*reply).c_str());
    return ExitCode::kOk;
  }
  TextTable table({{"job"},
                   {"state"},
                   {"round", TextTable::kRight},
                   {"of", TextTable::kRight},
                   {"priority", TextTable::kRight},
                   {"submitted (UTC)"},
                   {"reason"}});
  for (const v1::JobStatus& job : reply->jobs()) {
    table.AddRow({job.name(), JobStateName(job.state()),
                  absl::StrCat(job.round()), absl::StrCat(job.spec().rounds()),
                  absl::StrCat(job.spec().priority()),
                  FormatTime(job.submitted_ms()), job.reason()});
  }
  std::printf("%s", table.Render().c_str());
  return ExitCode::kOk;
}

ExitCode RunRounds(const Options& options) {
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  const auto reply = (*client)->ListRounds(options.subject, options.after_round,
                                           options.limit);
  if (!reply.ok()) return Report(reply.status());
  if (options.json) {
    std::printf("%s", ToJson(*reply).c_str());
    return ExitCode::kOk;
  }
  TextTable table({{"round", TextTable::kRight},
                   {"attempts", TextTable::kRight},
                   {"included", TextTable::kRight},
                   {"excluded", TextTable::kRight},
                   {"accuracy", TextTable::kRight},
                   {"loss", TextTable::kRight},
                   {"received", TextTable::kRight},
                   {"seconds", TextTable::kRight}});
  for (const v1::RoundReport& round : reply->rounds()) {
    const v1::MetricsSummary& metrics =
        round.has_evaluation() ? round.evaluation() : round.training();
    table.AddRow({absl::StrCat(round.round()), absl::StrCat(round.attempts()),
                  absl::StrCat(round.included_size()),
                  absl::StrCat(round.excluded_size()),
                  round.has_evaluation() && metrics.has_accuracy()
                      ? FormatFraction(metrics.accuracy().mean())
                      : "-",
                  FormatFraction(metrics.loss().mean()),
                  FormatBytes(round.bytes_received()),
                  FormatSeconds(round.seconds())});
  }
  std::printf("%s", table.Render().c_str());
  if (!options.detail) return ExitCode::kOk;
  for (const v1::RoundReport& round : reply->rounds()) {
    std::printf("\nround %s\n", absl::StrCat(round.round()).c_str());
    for (const std::string& line : DetailLines(round)) {
      std::printf("%s\n", line.c_str());
    }
  }
  return ExitCode::kOk;
}

using JobCall =
    absl::StatusOr<v1::JobStatus> (Client::*)(const std::string& name);

ExitCode RunJobCall(const Options& options, JobCall call) {
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  const auto status = (client->get()->*call)(options.subject);
  if (!status.ok()) return Report(status.status());
  if (options.json) {
    std::printf("%s", ToJson(*status).c_str());
  } else {
    std::printf("%s: %s\n", Printable(status->name()).c_str(),
                JobStateName(status->state()).c_str());
  }
  return ExitCode::kOk;
}

// A command with the connection's flags and --json.
CLI::App* AddCommand(CLI::App* app, const std::string& name,
                     const std::string& description,
                     const std::shared_ptr<Options>& options) {
  CLI::App* command = app->add_subcommand(name, description);
  AddConnectionFlags(command, &options->connection);
  command->add_flag("--json", options->json, "Print JSON, for programs");
  return command;
}

void AddSubmit(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  CLI::App* command = AddCommand(app, "submit", "Submits a job", options);
  command
      ->add_option(
          "FILE", options->subject,
          "The job: protobuf text or JSON (docs/jobs.md); -: standard input")
      ->required();
  command->add_flag("--watch,-w", options->watch, "Watch it to its end");
  command->footer(
      "Examples:\n"
      "  koinon submit digits.txtpb --certs certs --coordinator fl.lab:7070\n"
      "  koinon submit digits.txtpb --watch && koinon pull digits -o m.st\n"
      "With --watch the exit code is 0 if the job succeeded, 4 if not.");
  command->callback([options, exit_code] { *exit_code = RunSubmit(*options); });
}

void AddWatch(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = AddCommand(
      app, "watch", "Shows a job's rounds as they happen, to its end", options);
  command->add_option("JOB", options->subject, "The job's name")->required();
  command->add_flag("--new", options->new_only,
                    "Leave out the rounds that are over");
  command->add_flag("--detail", options->detail,
                    "Also what the aggregation rule decided about each update "
                    "(--json always has it)");
  command->footer(
      "A live table in a terminal, plain lines in a pipe, with --json one\n"
      "event per line. The exit code is 0 if the job succeeded, 4 if not.\n"
      "--detail shows, below each round, its rule and for each update what "
      "the\n"
      "rule has of: coefficient in the result, L2 norm, score (Krum: squared\n"
      "distances to the nearest; geometric median: distance to the result),\n"
      "selected or not, what it was clipped to, part of the coordinates in\n"
      "which it was left out, staleness and its discount.\n"
      "Examples:\n"
      "  koinon watch digits --detail\n"
      "  koinon watch digits --json | jq -c .evaluated.evaluation.accuracy");
  command->callback([options, exit_code] { *exit_code = RunWatch(*options); });
}

void AddRounds(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      AddCommand(app, "rounds", "Lists a job's rounds", options);
  command->add_option("JOB", options->subject, "The job's name")->required();
  command->add_option("--after", options->after_round, "Only later rounds")
      ->capture_default_str();
  command->add_option("--limit", options->limit, "At most so many")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000}))
      ->capture_default_str();
  command->add_flag("--detail", options->detail,
                    "Also what the aggregation rule decided about each update "
                    "(--json always has it)");
  command->footer(
      "Examples: what the rule made of round 3's updates; who was left out, "
      "and why\n"
      "  koinon rounds digits --after 2 --limit 1 --detail\n"
      "  koinon rounds digits --after 2 --limit 1 --json | jq "
      ".rounds[].excluded");
  command->callback([options, exit_code] { *exit_code = RunRounds(*options); });
}

void AddJobCall(CLI::App* app, const std::string& name,
                const std::string& description, JobCall call,
                ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = AddCommand(app, name, description, options);
  command->add_option("JOB", options->subject, "The job's name")->required();
  command->callback(
      [options, call, exit_code] { *exit_code = RunJobCall(*options, call); });
}

}  // namespace

void AddJobCommands(CLI::App* app, ExitCode* exit_code) {
  AddSubmit(app, exit_code);
  const auto options = std::make_shared<Options>();
  AddCommand(app, "jobs", "Lists all jobs", options)
      ->callback([options, exit_code] { *exit_code = RunJobs(*options); });
  AddWatch(app, exit_code);
  AddRounds(app, exit_code);
  AddJobCall(app, "cancel", "Ends a job; its published versions stay",
             &Client::CancelJob, exit_code);
  AddJobCall(app, "pause", "Holds a job before its next round",
             &Client::PauseJob, exit_code);
  AddJobCall(app, "resume", "Lets a paused job go on", &Client::ResumeJob,
             exit_code);
}

}  // namespace koinon::cli
