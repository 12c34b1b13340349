#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/proto_json.h"
#include "tools/cli/text.h"

namespace koinon::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  bool json = false;
};

std::string DescribeDatasets(const v1::Capabilities& capabilities) {
  std::vector<std::string> parts;
  for (const auto& dataset : capabilities.datasets()) {
    parts.push_back(absl::StrCat(dataset.name(), " ", dataset.examples(), "+",
                                 dataset.held_out_examples()));
  }
  return absl::StrJoin(parts, ", ");
}

std::string DescribeTask(const v1::Node& node) {
  if (!node.has_task()) return "-";
  return absl::StrCat(
      node.task().job(), " round ", node.task().round(),
      node.task().kind() == v1::TaskRef::EVALUATE ? " evaluation" : "");
}

ExitCode RunNodes(const Options& options) {
  const auto client = Connect(options.connection);
  if (!client.ok()) return Report(client.status());
  const auto reply = (*client)->ListNodes();
  if (!reply.ok()) return Report(reply.status());
  if (options.json) {
    std::printf("%s", ToJson(*reply).c_str());
    return ExitCode::kOk;
  }
  TextTable table({{"worker"},
                   {"state"},
                   {"cores", TextTable::kRight},
                   {"memory", TextTable::kRight},
                   {"datasets (train+held out)"},
                   {"task"},
                   {"lease", TextTable::kRight},
                   {"version"},
                   {"address"}});
  for (const v1::Node& node : reply->nodes()) {
    table.AddRow({node.worker(),
                  absl::AsciiStrToLower(v1::Node::State_Name(node.state())),
                  absl::StrCat(node.capabilities().cores()),
                  FormatBytes(node.capabilities().memory_bytes()),
                  DescribeDatasets(node.capabilities()), DescribeTask(node),
                  absl::StrCat(FormatSeconds(node.lease_seconds_left()), " s"),
                  node.software_version(), node.address()});
  }
  std::printf("%s", table.Render().c_str());
  return ExitCode::kOk;
}

}  // namespace

void AddNodesCommand(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  CLI::App* command =
      app->add_subcommand("nodes", "Lists the workers and what they have");
  AddConnectionFlags(command, &options->connection);
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->callback([options, exit_code] { *exit_code = RunNodes(*options); });
}

}  // namespace koinon::cli
