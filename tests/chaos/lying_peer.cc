// A node of a federation, with a certificate of it, that fetches a job's
// versions one after another as anybody may, and serves them with one bit wrong
// in some of their leaves. Everything else about it is genuine.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/absl_mutexes.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/log.h"
#include "base/random.h"
#include "base/rpc_server.h"
#include "base/status_macros.h"
#include "base/tls.h"
#include "base/trust.h"
#include "dht/peer.h"
#include "dht/records/signed.h"
#include "dht/swarm/merkle.h"
#include "dht/swarm/version_cache.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::testing {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(50);

struct Flags {
  TlsFiles tls;
  std::string federation = "koinon";
  std::string coordinator;
  std::string state_dir;
  std::string job;
  int per_thousand = 10;  // of the leaves
  uint64_t seed = 1;
};

// Which leaves are lied about, and how often that was done.
struct Lies {
  int per_thousand = 0;
  uint64_t seed = 0;
  std::atomic<int64_t> told = 0;

  bool About(uint64_t leaf) const {
    return DeriveSeed(seed, leaf) % 1000 < static_cast<uint64_t>(per_thousand);
  }
};

class LyingFile final : public File {
 public:
  LyingFile(std::unique_ptr<File> base, Lies* lies)
      : base_(std::move(base)), lies_(lies) {}

  absl::Status ReadAt(uint64_t offset, size_t size, void* data) const override {
    ABSL_RETURN_IF_ERROR(base_->ReadAt(offset, size, data));
    constexpr uint64_t kLeaf = dht::kLeafBytes;
    for (uint64_t at = offset; at < offset + size;
         at = (at / kLeaf + 1) * kLeaf) {
      if (!lies_->About(at / kLeaf)) continue;
      static_cast<char*>(data)[at - offset] ^= 1;
      ++lies_->told;
    }
    return absl::OkStatus();
  }
  absl::Status WriteAt(uint64_t offset, const void* data,
                       size_t size) override {
    return base_->WriteAt(offset, data, size);
  }
  absl::Status Sync() override { return base_->Sync(); }
  absl::StatusOr<uint64_t> Size() const override { return base_->Size(); }
  absl::Status Resize(uint64_t size) override { return base_->Resize(size); }

 private:
  const std::unique_ptr<File> base_;
  Lies* const lies_;
};

// The machine's file system, but for models.
class LyingEnv final : public Env {
 public:
  explicit LyingEnv(Lies* lies) : lies_(lies) {}

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                             OpenMode mode) override {
    ABSL_ASSIGN_OR_RETURN(auto file, RealEnv()->Open(path, mode));
    const bool model = absl::EndsWith(path, ".partial") ||
                       absl::EndsWith(path, ".safetensors");
    if (!model) return file;
    return std::make_unique<LyingFile>(std::move(file), lies_);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return RealEnv()->Rename(from, to);
  }
  absl::Status Remove(const std::string& path) override {
    return RealEnv()->Remove(path);
  }
  absl::Status SyncDir(const std::string& dir) override {
    return RealEnv()->SyncDir(dir);
  }
  absl::Status MakeDirs(const std::string& dir) override {
    return RealEnv()->MakeDirs(dir);
  }
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) override {
    return RealEnv()->List(dir);
  }
  bool Exists(const std::string& path) override {
    return RealEnv()->Exists(path);
  }
  absl::StatusOr<bool> IsPrivate(const std::string& path) override {
    return RealEnv()->IsPrivate(path);
  }

 private:
  Lies* const lies_;
};

// As the DHT has it, signed by the federation's server.
absl::StatusOr<dht::VersionCache::Wanted> FindVersion(const Flags& flags,
                                                      int64_t number,
                                                      dht::Peer* peer) {
  ABSL_ASSIGN_OR_RETURN(
      const auto record,
      peer->GetNow(dht::MutableKey(flags.federation, "server",
                                   dht::VersionName(flags.job, number)),
                   {.newest = true}));
  v1::VersionValue version;
  version.ParseFromString(record.opened.value);
  ABSL_ASSIGN_OR_RETURN(const dht::Key key,
                        dht::Key::FromBytes(version.manifest()));
  ABSL_ASSIGN_OR_RETURN(const auto manifest, peer->GetNow(key));
  dht::VersionCache::Wanted wanted;
  wanted.signed_manifest = manifest.opened.value;
  ABSL_ASSIGN_OR_RETURN(wanted.manifest,
                        dht::OpenManifest(wanted.signed_manifest, peer->trust(),
                                          peer->clock().Now()));
  ABSL_ASSIGN_OR_RETURN(const dht::Key file,
                        dht::Key::FromBytes(wanted.manifest.digest()));
  ABSL_ASSIGN_OR_RETURN(wanted.peers, peer->FindProvidersNow(file, 20));
  if (wanted.peers.empty()) return absl::NotFoundError("nobody serves it yet");
  return wanted;
}

dht::Peer::Options OptionsOf(LocalNode local) {
  return {.local = std::move(local)};
}

absl::Status Lie(const Flags& flags, Lies* lies) {
  const RealClock clock;
  LyingEnv env(lies);
  ABSL_ASSIGN_OR_RETURN(LocalNode local,
                        LoadLocalNode(&env, flags.tls, clock.Now()));
  ABSL_ASSIGN_OR_RETURN(const std::string ca,
                        ReadFile(&env, flags.tls.ca, 1 << 20));
  ABSL_ASSIGN_OR_RETURN(const auto authority,
                        FederationTrust::Create(flags.federation, ca));
  dht::Peer::Options options = OptionsOf(std::move(local));
  ABSL_ASSIGN_OR_RETURN(options.credentials,
                        MakeChannelCredentials(&env, flags.tls, clock.Now()));
  options.authority = authority.get();
  options.coordinator = flags.coordinator;
  options.clock = &clock;
  ABSL_ASSIGN_OR_RETURN(const auto peer, dht::Peer::Create(std::move(options)));
  RpcServer::Options rpc;
  rpc.listen = "127.0.0.1:0";
  ABSL_ASSIGN_OR_RETURN(rpc.credentials,
                        MakeServerCredentials(&env, flags.tls, clock.Now()));
  ABSL_ASSIGN_OR_RETURN(
      const auto server,
      RpcServer::Start(
          std::move(rpc),
          {{peer->service(), v1::PeerService::service_full_name()}}));
  peer->Start(absl::StrCat("127.0.0.1:", server->port()), {flags.coordinator});
  ABSL_ASSIGN_OR_RETURN(
      const auto cache,
      dht::VersionCache::Open(&env, flags.state_dir, {.use_deltas = false},
                              peer.get()));

  LogInfo("lying", {{"node", peer->self().id.ToShortHex()},
                    {"address", peer->self().address}});
  int64_t logged = 0;
  for (int64_t version = 0;; ++version) {
    auto wanted = FindVersion(flags, version, peer.get());
    for (; !wanted.ok(); wanted = FindVersion(flags, version, peer.get())) {
      const int64_t told = lies->told;
      if (std::exchange(logged, told) != told) {
        LogInfo("lied", {{"leaves", told}});
      }
      absl::SleepFor(kPoll);
    }
    const auto fetched = cache->Fetch(*wanted, [] { return false; });
    ABSL_RETURN_IF_ERROR(fetched.status());
    LogInfo("has a version", {{"version", version}});
  }
}

}  // namespace
}  // namespace koinon::testing

int main(int argc, char** argv) {
  using namespace koinon;           // NOLINT
  using namespace koinon::testing;  // NOLINT
  StopSearchForDeadlocks();
  signal(SIGPIPE, SIG_IGN);
  Flags flags;
  CLI::App app("Serves versions with a bit wrong in some of their leaves.");
  app.add_option("--tls-cert", flags.tls.certificate)->required();
  app.add_option("--tls-key", flags.tls.key)->required();
  app.add_option("--tls-ca", flags.tls.ca)->required();
  app.add_option("--coordinator", flags.coordinator)->required();
  app.add_option("--state-dir", flags.state_dir)->required();
  app.add_option("--job", flags.job)->required();
  app.add_option("--per-thousand", flags.per_thousand);
  app.add_option("--seed", flags.seed);
  CLI11_PARSE(app, argc, argv);
  InitLogging(LogFormat::kText, *LogLevelFromName("info"));
  Lies lies;
  lies.per_thousand = flags.per_thousand;
  lies.seed = flags.seed;
  const absl::Status status = Lie(flags, &lies);
  std::cerr << status << "\n";
  return 1;
}
