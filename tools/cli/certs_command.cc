#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "base/certs.h"
#include "base/clock.h"
#include "base/env.h"
#include "tools/cli/certs_folder.h"
#include "tools/cli/commands.h"

namespace koinon::cli {
namespace {

struct Options {
  CertsPlan plan;
  int workers = 0;
};

// "1 worker", "3 workers".
std::string CountOf(const std::vector<std::string>& names,
                    absl::string_view what) {
  return absl::StrCat(names.size(), " ", what, names.size() == 1 ? "" : "s");
}

ExitCode RunCerts(Options options) {
  CertsPlan& plan = options.plan;
  for (int i = 1; i <= options.workers; ++i) {
    plan.workers.push_back(absl::StrCat("worker-", i));
  }
  if (!plan.extend) {
    if (plan.hosts.empty()) plan.hosts = {"localhost", "127.0.0.1", "::1"};
    if (plan.clients.empty()) plan.clients = {"operator"};
  }
  if (plan.hosts.empty() && plan.workers.empty() && plan.nodes.empty() &&
      plan.clients.empty()) {
    return Report(absl::InvalidArgumentError(
        "nothing to add: give --worker, --node, --client or --host"));
  }
  const absl::Status status =
      MakeCertsFolder(RealEnv(), plan, RealClock().Now());
  if (!status.ok()) return Report(status);
  std::vector<std::string> made;
  if (!plan.extend) made.push_back("authority");
  if (!plan.hosts.empty()) made.push_back("server");
  made.push_back(CountOf(plan.workers, "worker"));
  if (!plan.nodes.empty()) made.push_back(CountOf(plan.nodes, "node"));
  made.push_back(CountOf(plan.clients, "client"));
  std::printf("%s: %s\n", plan.dir.c_str(), absl::StrJoin(made, ", ").c_str());
  return ExitCode::kOk;
}

}  // namespace

void AddCertsCommand(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  CertsPlan& plan = options->plan;
  plan.federation = "koinon";
  plan.days = 365;
  plan.authority_days = 3650;
  CLI::App* command = app->add_subcommand(
      "certs", "Makes a federation's authority and certificates");
  command->add_option("DIR", plan.dir, "The folder to make them in")
      ->required();
  command->add_option("--federation", plan.federation, "The federation's name")
      ->capture_default_str();
  command
      ->add_option(
          "--host", plan.hosts,
          "What the coordinator is called by: a name or an address; repeatable "
          "(without it: localhost, 127.0.0.1, ::1)")
      ->allow_extra_args(false);
  command
      ->add_option("--workers", options->workers,
                   "So many workers, worker-1 to worker-N")
      ->check(CLI::Range(0, 100'000));
  command
      ->add_option("--worker", plan.workers,
                   "One worker, as NAME or NAME@SITE; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--node", plan.nodes,
                   "One koinon-dht, as NAME or NAME@SITE; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--client", plan.clients,
                   "A person or program that submits jobs; repeatable "
                   "(without it: operator)")
      ->allow_extra_args(false);
  command->add_option("--days", plan.days, "How long certificates are valid")
      ->check(CLI::Range(1, kMaxCertificateDays))
      ->capture_default_str();
  command
      ->add_option("--ca-days", plan.authority_days,
                   "How long the authority is valid")
      ->check(CLI::Range(1, kMaxCertificateDays))
      ->capture_default_str();
  command->add_flag("--extend", plan.extend,
                    "Add to DIR under the authority that lies there");
  command->footer(
      "Nothing is ever overwritten. Keys (*.key) can be read by their owner\n"
      "only; ca.key signs everything: keep it, and hand out the rest. Each\n"
      "certificate says which node of the model distribution its owner is, "
      "and\n"
      "in which SITE: models go from a site to another only where both allow "
      "it\n"
      "(--cross-site).\n"
      "Examples:\n"
      "  koinon certs certs --host fl.lab --worker ward-a --worker ward-b\n"
      "  koinon certs certs --extend --worker ward-c@east --client alice\n"
      "  koinon certs certs --extend --node storage-1@north");
  command->callback([options, exit_code] { *exit_code = RunCerts(*options); });
}

}  // namespace koinon::cli
