#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/env.h"
#include "base/signing.h"
#include "base/status_macros.h"
#include "dht/records/signed.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"
#include "tools/cli/client_peer.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/dht_view.h"
#include "tools/cli/proto_json.h"
#include "tools/cli/text.h"

namespace koinon::cli {
namespace {

using dht::Node;
using dht::Peer;

struct Options {
  ConnectionOptions connection;
  std::vector<std::string> bootstrap;
  double patience_seconds = 10;
  bool json = false;
  std::string key;
  std::string owner = "server";
  std::string file;
  std::string output;
  std::string name;
  uint64_t epoch = 0;
  uint64_t sequence = 0;
  double ttl_hours = 24;
  size_t paths = 1;
  std::string signer;  // hex
};

absl::StatusOr<std::unique_ptr<ClientPeer>> Join(const Options& options) {
  ClientPeer::Options client;
  client.connection = options.connection;
  client.bootstrap = options.bootstrap;
  if (!options.connection.coordinator.empty()) {
    client.bootstrap.push_back(options.connection.coordinator);
  }
  client.patience = absl::Seconds(options.patience_seconds);
  return ClientPeer::Join(client);
}

absl::StatusOr<dht::Key> KeyOf(const Options& options, Peer* peer) {
  return ParseDhtKey(options.key, peer->local().federation, options.owner);
}

// What the first node of those that were given says of itself.
absl::StatusOr<v1::NodeStatus> AskStatus(const Options& options, Peer* peer) {
  const std::string& address = options.bootstrap.empty()
                                   ? options.connection.coordinator
                                   : options.bootstrap.front();
  const auto stub = v1::PeerService::NewStub(peer->ChannelTo(address));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(
      absl::Now() + absl::Seconds(options.patience_seconds)));
  v1::NodeStatus status;
  const grpc::Status asked =
      stub->GetNodeStatus(&context, v1::NodeStatusRequest(), &status);
  if (asked.ok()) return status;
  return absl::Status(static_cast<absl::StatusCode>(asked.error_code()),
                      absl::StrCat(address, ": ", asked.error_message()));
}

absl::Status ShowStatus(const Options& options, Peer* peer) {
  ABSL_ASSIGN_OR_RETURN(const v1::NodeStatus status, AskStatus(options, peer));
  std::printf("%s", options.json ? ToJson(status).c_str()
                                 : NodeStatusText(status).c_str());
  return absl::OkStatus();
}

absl::Status ShowPeers(const Options& options, Peer* peer) {
  ABSL_ASSIGN_OR_RETURN(const v1::NodeStatus status, AskStatus(options, peer));
  std::vector<dht::Contact> contacts;
  for (const v1::Contact& contact : status.contacts()) {
    ABSL_ASSIGN_OR_RETURN(contacts.emplace_back(),
                          dht::ContactFromProto(contact));
  }
  if (options.json) {
    std::printf("%s\n", ContactsJson(contacts).c_str());
  } else {
    std::printf("%s%zu nodes\n", ContactsText(contacts).c_str(),
                contacts.size());
  }
  return absl::OkStatus();
}

absl::Status LookUp(const Options& options, Peer* peer) {
  ABSL_ASSIGN_OR_RETURN(const dht::Key key, KeyOf(options, peer));
  ABSL_ASSIGN_OR_RETURN(const Node::Closest closest, peer->FindClosestNow(key));
  if (options.json) {
    std::printf(R"({"key":"%s","closest":%s,"caps":%u,"path":%s})"
                "\n",
                key.ToHex().c_str(), ContactsJson(closest.nodes).c_str(),
                closest.caps, PathJson(closest.path).c_str());
    return absl::OkStatus();
  }
  std::printf("%s\nclosest to %s, the closest first:\n%s",
              PathText(closest.path).c_str(), key.ToHex().c_str(),
              ContactsText(closest.nodes).c_str());
  return absl::OkStatus();
}

absl::Status Get(const Options& options, Peer* peer) {
  ABSL_ASSIGN_OR_RETURN(const dht::Key key, KeyOf(options, peer));
  Node::GetOptions get;
  get.newest = true;
  get.paths = options.paths;
  if (!options.signer.empty()) {
    const auto signer = PublicKey::FromHex(options.signer);
    if (!signer.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--signer: ", signer.status().message()));
    }
    get.signer = *signer;
  }
  ABSL_ASSIGN_OR_RETURN(const Node::GetResult result, peer->GetNow(key, get));
  if (get.signer.has_value() && result.opened.is_mutable &&
      result.opened.signing_key != *get.signer) {
    return absl::NotFoundError(
        absl::StrCat("the record that was found is signed by ",
                     result.opened.signing_key.ToHex(), ", not by --signer"));
  }
  if (!options.output.empty()) {
    ABSL_RETURN_IF_ERROR(
        WriteFileAtomically(RealEnv(), options.output, result.opened.value));
  }
  if (options.json) {
    std::printf("%s\n", RecordJson(key, result).c_str());
  } else {
    std::printf("%s\n%s", PathText(result.path).c_str(),
                RecordText(key, result).c_str());
  }
  return absl::OkStatus();
}

// The record to put, and its key: of the value itself, or under a name that is
// this client's own.
absl::StatusOr<std::pair<dht::Key, v1::Record>> NewRecord(
    const Options& options, Peer* peer) {
  ABSL_ASSIGN_OR_RETURN(std::string value, ReadFile(RealEnv(), options.file,
                                                    dht::kMaxRecordBytes));
  if (options.name.empty()) {
    const dht::Key key = dht::ImmutableKey(value);
    return std::make_pair(key, dht::ImmutableRecord(std::move(value)));
  }
  const LocalNode& local = peer->local();
  if (local.owner.empty()) {
    return absl::InvalidArgumentError(
        "--name is for those who have a certificate: in plaintext nobody owns "
        "a name");
  }
  v1::MutableRecord record;
  record.set_name(options.name);
  record.set_epoch(options.epoch);
  record.set_sequence(options.sequence);
  record.set_expires_ms(
      absl::ToUnixMillis(peer->clock().Now() + absl::Hours(options.ttl_hours)));
  record.set_value(std::move(value));
  ABSL_ASSIGN_OR_RETURN(v1::Record signed_record,
                        dht::SignRecord(std::move(record), local));
  return std::make_pair(
      dht::MutableKey(local.federation, local.owner, options.name),
      std::move(signed_record));
}

absl::Status Put(const Options& options, Peer* peer) {
  ABSL_ASSIGN_OR_RETURN(auto record, NewRecord(options, peer));
  // Whoever has not been asked when this command ends is not asked any more.
  ABSL_ASSIGN_OR_RETURN(
      const Node::PutResult result,
      peer->PutToAllNow(record.first, std::move(record.second)));
  if (options.json) {
    std::printf("%s\n", PutJson(record.first, result).c_str());
    return absl::OkStatus();
  }
  std::printf("%s\nkey   %s\nkept  by %zu of %zu nodes that were asked\n",
              PathText(result.path).c_str(), record.first.ToHex().c_str(),
              result.kept, result.asked);
  for (const auto& [reason, count] : result.rejections) {
    std::printf("refused by %zu: %s\n", count, Printable(reason).c_str());
  }
  return absl::OkStatus();
}

absl::Status ShowProviders(const Options& options, Peer* peer) {
  constexpr size_t kMost = 64;
  // A file has no name that somebody owns.
  ABSL_ASSIGN_OR_RETURN(const dht::Key key, dht::Key::FromHex(options.key));
  ABSL_ASSIGN_OR_RETURN(const std::vector<dht::Contact> providers,
                        peer->FindProvidersNow(key, kMost));
  if (options.json) {
    std::printf("%s\n", ContactsJson(providers).c_str());
  } else {
    std::printf("%s%zu providers\n", ContactsText(providers).c_str(),
                providers.size());
  }
  return absl::OkStatus();
}

using Action = absl::Status (*)(const Options&, Peer*);

ExitCode Run(const Options& options, Action action) {
  const auto client = Join(options);
  if (!client.ok()) return Report(client.status());
  return Report(action(options, (*client)->peer()));
}

CLI::App* AddAction(CLI::App* group, const char* name, const char* description,
                    const std::shared_ptr<Options>& options, Action action,
                    ExitCode* exit_code) {
  CLI::App* command = group->add_subcommand(name, description);
  AddConnectionFlags(command, &options->connection);
  command
      ->add_option("--bootstrap", options->bootstrap,
                   "HOST:PORT of a node that is in the DHT; repeatable")
      ->allow_extra_args(false)
      ->group("Connection");
  command
      ->add_option("--patience", options->patience_seconds,
                   "Seconds to wait for a node to answer")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str()
      ->group("Connection");
  command->add_flag("--json", options->json, "Print JSON, for programs");
  command->callback(
      [options, action, exit_code] { *exit_code = Run(*options, action); });
  return command;
}

void AddKey(CLI::App* command, Options* options, const char* what) {
  command->add_option("key", options->key, what)->required();
  command
      ->add_option("--owner", options->owner,
                   "Who writes the record of that name: server, client/NAME, "
                   "...")
      ->capture_default_str();
}

void AddPutOptions(CLI::App* command, Options* options) {
  command->add_option("file", options->file, "The value, at most 16 KiB")
      ->required()
      ->check(CLI::ExistingFile);
  CLI::Option* const name = command->add_option(
      "--name", options->name,
      "Sign it as this client's record of this name, which a later one "
      "replaces (without it: the key is the value's SHA-256)");
  command
      ->add_option("--epoch", options->epoch,
                   "Of a named record: the larger (epoch, sequence) replaces "
                   "the smaller")
      ->needs(name);
  command->add_option("--sequence", options->sequence, "See --epoch")
      ->needs(name);
  command
      ->add_option("--ttl-hours", options->ttl_hours,
                   "How long a named record stands")
      ->check(CLI::Range(0.001, 24.0 * 365))
      ->capture_default_str()
      ->needs(name);
}

}  // namespace

void AddDhtCommand(CLI::App* app, ExitCode* exit_code) {
  // Shared with the callbacks.
  const auto options = std::make_shared<Options>();
  CLI::App* group = app->add_subcommand(
      "dht", "Asks the nodes that keep and find model versions");
  group->require_subcommand(1);
  constexpr char kKey[] =
      "64 hexadecimal digits, or a record's name: head/JOB, version/JOB/3";
  AddAction(group, "status", "What a node knows and has counted", options,
            ShowStatus, exit_code);
  AddAction(group, "peers", "The nodes that a node knows", options, ShowPeers,
            exit_code);
  AddKey(AddAction(group, "lookup",
                   "Walks to the nodes closest to a key, hop by hop", options,
                   LookUp, exit_code),
         options.get(), kKey);
  CLI::App* const get =
      AddAction(group, "get", "Finds a record, and shows the way to it",
                options, Get, exit_code);
  AddKey(get, options.get(), kKey);
  get->add_option("--signer", options->signer,
                  "In plaintext, where several keys have signed: whose record, "
                  "in hex");
  get->add_option("--paths", options->paths, "Disjoint paths to walk")
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  get->add_option("-o,--output", options->output, "Write the value to a file");
  AddPutOptions(AddAction(group, "put", "Stores a record, and shows the way",
                          options, Put, exit_code),
                options.get());
  AddAction(group, "providers", "Who serves a version's file", options,
            ShowProviders, exit_code)
      ->add_option("key", options->key, "SHA-256 of the file, in hexadecimal")
      ->required();
}

}  // namespace koinon::cli
