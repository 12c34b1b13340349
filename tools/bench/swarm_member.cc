#include "tools/bench/swarm_member.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/rpc_server.h"
#include "base/status_macros.h"
#include "base/trust.h"
#include "dht/peer.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/fetcher.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"
#include "tools/bench/swarm_mill.h"

namespace koinon::bench {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(2);
constexpr std::chrono::seconds kConnectPatience(60);
constexpr char kOrigin[] = "origin";
constexpr size_t kPeers = 10;  // that a task names

// From /proc, in KiB.
int64_t StatusKib(absl::string_view key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, key)) continue;
    absl::ConsumeSuffix(&rest, " kB");
    int64_t kib = 0;
    if (absl::SimpleAtoi(absl::StripAsciiWhitespace(rest), &kib)) return kib;
  }
  return 0;
}

// From now on, VmHWM is the peak since now.
void ResetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

// How the memory grew over what it was before.
class MemoryGrowth {
 public:
  MemoryGrowth() : before_((ResetPeak(), StatusKib("VmRSS:"))) {}
  double mib() const {
    return static_cast<double>(StatusKib("VmHWM:") - before_) / 1024;
  }

 private:
  const int64_t before_;
};

absl::StatusOr<dht::Contact> ContactOf(const std::string& text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, ' ');
  ABSL_ASSIGN_OR_RETURN(const Digest id, Digest::FromHex(parts.first));
  return dht::Contact{.id = id, .address = parts.second, .site = ""};
}

class Member {
 public:
  explicit Member(SwarmMemberOptions options) : options_(std::move(options)) {}

  absl::Status Run() {
    ABSL_RETURN_IF_ERROR(Start());
    ABSL_RETURN_IF_ERROR(
        WriteSwarmFile(PathOf(".contact"), {{"address", peer_->self().address},
                                            {"id", peer_->self().id.ToHex()}}));
    if (options_.role == SwarmMemberOptions::Role::kOrigin) return Serve();
    ABSL_ASSIGN_OR_RETURN(const SwarmFile peers, Await("peers"));
    ABSL_RETURN_IF_ERROR(FindSources(peers));
    ABSL_RETURN_IF_ERROR(ConnectAll());
    ABSL_RETURN_IF_ERROR(WriteSwarmFile(PathOf(".ready"), {}));
    ABSL_RETURN_IF_ERROR(Await("go").status());
    SwarmFile result;
    const absl::Status status = is_mill() ? Pull(&result) : Fetch(&result);
    result["error"] = status.ok() ? "" : status.ToString();
    ABSL_RETURN_IF_ERROR(WriteSwarmFile(PathOf(".result"), result));
    return Serve();
  }

 private:
  std::string PathOf(absl::string_view suffix) const {
    return absl::StrCat(options_.dir, "/", options_.name, suffix);
  }

  // Of plain streams, not of the swarm.
  bool is_mill() const {
    return options_.role == SwarmMemberOptions::Role::kMill ||
           options_.role == SwarmMemberOptions::Role::kCopy;
  }

  absl::Status Start();
  absl::StatusOr<LocalNode> Identity();
  absl::Status Listen();
  absl::Status Serve();
  absl::StatusOr<SwarmFile> Await(absl::string_view name) const;
  absl::Status FindSources(const SwarmFile& peers);
  absl::Status ConnectAll();
  absl::StatusOr<std::shared_ptr<dht::ContentFile>> Origin() const;
  absl::StatusOr<v1::Content> Content() const;
  absl::Status Fetch(SwarmFile* result);
  absl::StatusOr<std::unique_ptr<grpc::Service>> Mill() const;
  absl::StatusOr<std::vector<Digest>> Leaves() const;
  absl::Status Pull(SwarmFile* result);

  const SwarmMemberOptions options_;
  const RealClock clock_;
  std::unique_ptr<FederationTrust> authority_;
  std::unique_ptr<dht::Peer> peer_;
  std::unique_ptr<grpc::Service> mill_;  // of one
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<dht::ContentFile> file_;  // and the board
  std::optional<dht::Contact> origin_;
  std::vector<dht::Contact> sources_;
};

absl::StatusOr<LocalNode> Member::Identity() {
  if (options_.tls) {
    return LoadLocalNode(RealEnv(), SwarmTlsFiles(options_.dir, options_.name),
                         clock_.Now());
  }
  return LoadOrMakeLocalNode(RealEnv(), PathOf(".key"), kSwarmFederation,
                             "node/" + options_.name, "");
}

dht::Peer::Options OptionsOf(LocalNode local) {
  return {.local = std::move(local)};
}

absl::Status Member::Start() {
  ABSL_ASSIGN_OR_RETURN(LocalNode local, Identity());
  dht::Peer::Options options = OptionsOf(std::move(local));
  if (options_.tls) {
    const TlsFiles files = SwarmTlsFiles(options_.dir, options_.name);
    ABSL_ASSIGN_OR_RETURN(
        options.credentials,
        MakeChannelCredentials(RealEnv(), files, clock_.Now()));
    ABSL_ASSIGN_OR_RETURN(const std::string ca,
                          ReadFile(RealEnv(), files.ca, 1 << 20));
    ABSL_ASSIGN_OR_RETURN(authority_,
                          FederationTrust::Create(kSwarmFederation, ca));
    options.authority = authority_.get();
  }
  options.is_origin = options_.role == SwarmMemberOptions::Role::kOrigin;
  options.cross_site = true;
  options.clock = &clock_;
  ABSL_ASSIGN_OR_RETURN(peer_, dht::Peer::Create(std::move(options)));
  if (options_.role == SwarmMemberOptions::Role::kOrigin) {
    ABSL_ASSIGN_OR_RETURN(file_, Origin());
    peer_->board()->Add(file_, Digest());
  }
  return Listen();
}

absl::Status Member::Listen() {
  RpcServer::Options rpc;
  rpc.listen = "127.0.0.1:0";
  rpc.credentials = MakeInsecureServerCredentials();
  if (options_.tls) {
    ABSL_ASSIGN_OR_RETURN(
        rpc.credentials,
        MakeServerCredentials(RealEnv(),
                              SwarmTlsFiles(options_.dir, options_.name),
                              clock_.Now()));
  }
  if (is_mill()) {
    ABSL_ASSIGN_OR_RETURN(mill_, Mill());
  }
  grpc::Service* const service = is_mill() ? mill_.get() : peer_->service();
  ABSL_ASSIGN_OR_RETURN(
      server_,
      RpcServer::Start(std::move(rpc),
                       {{service, v1::PeerService::service_full_name()}}));
  peer_->Start(absl::StrCat("127.0.0.1:", server_->port()), {});
  return absl::OkStatus();
}

absl::StatusOr<v1::Content> Member::Content() const {
  ABSL_ASSIGN_OR_RETURN(
      const std::string bytes,
      ReadFile(RealEnv(), options_.dir + "/content", 1 << 20));
  v1::Content content;
  if (content.ParseFromString(bytes)) return content;
  return absl::DataLossError("content: not a Content");
}

absl::StatusOr<std::vector<Digest>> Member::Leaves() const {
  return dht::ContentFile::ReadLeaves(RealEnv(), options_.dir + "/leaves");
}

absl::StatusOr<std::shared_ptr<dht::ContentFile>> Member::Origin() const {
  ABSL_ASSIGN_OR_RETURN(const v1::Content content, Content());
  ABSL_ASSIGN_OR_RETURN(std::vector<Digest> leaves, Leaves());
  return dht::ContentFile::OpenWhole(RealEnv(), options_.dir + "/model",
                                     content, std::move(leaves));
}

// Until killed. The origin tells what has left it.
absl::Status Member::Serve() {
  const bool origin = options_.role == SwarmMemberOptions::Role::kOrigin;
  int64_t told = -1;
  while (true) {
    absl::SleepFor(origin ? absl::Milliseconds(20) : absl::Seconds(1));
    if (!origin) continue;
    const int64_t sent = peer_->board()->traffic().to_peers();
    const double copies = static_cast<double>(sent) /
                          static_cast<double>(file_->content().size_bytes());
    if (sent != std::exchange(told, sent)) {
      ABSL_RETURN_IF_ERROR(
          WriteSwarmFile(PathOf(".sent"), {{"bytes", absl::StrCat(sent)}}));
    }
    if (options_.die_after_copies > 0 && copies >= options_.die_after_copies) {
      kill(getpid(), SIGKILL);
    }
  }
}

absl::StatusOr<SwarmFile> Member::Await(absl::string_view name) const {
  const std::string path = absl::StrCat(options_.dir, "/", name);
  while (!RealEnv()->Exists(path)) absl::SleepFor(kPoll);
  return ReadSwarmFile(path);
}

// Those that come next in a ring, so that nobody has more to do than others; a
// mill has one.
absl::Status Member::FindSources(const SwarmFile& peers) {
  size_t others = peers.size() - 1;
  if (const auto origin = peers.find(kOrigin); origin != peers.end()) {
    ABSL_ASSIGN_OR_RETURN(origin_, ContactOf(origin->second));
    --others;
  }
  auto next = peers.find(options_.name);
  while (sources_.size() < std::min(is_mill() ? 1 : kPeers, others)) {
    if (++next == peers.end()) next = peers.begin();
    if (next->first == kOrigin) continue;
    ABSL_ASSIGN_OR_RETURN(dht::Contact peer, ContactOf(next->second));
    sources_.push_back(std::move(peer));
  }
  return absl::OkStatus();
}

absl::Status Member::ConnectAll() {
  std::vector<std::string> addresses;
  if (origin_.has_value()) addresses.push_back(origin_->address);
  for (const dht::Contact& peer : sources_) addresses.push_back(peer.address);
  for (const std::string& address : addresses) {
    const auto until = std::chrono::system_clock::now() + kConnectPatience;
    if (peer_->ChannelTo(address)->WaitForConnected(until)) continue;
    return absl::UnavailableError(absl::StrCat(address, ": no connection"));
  }
  return absl::OkStatus();
}

absl::Status Member::Fetch(SwarmFile* result) {
  ABSL_ASSIGN_OR_RETURN(const v1::Content content, Content());
  const MemoryGrowth memory;
  ABSL_ASSIGN_OR_RETURN(
      file_, dht::ContentFile::Resume(RealEnv(), PathOf(".partial"), content));
  peer_->board()->Add(file_, Digest());
  dht::SwarmFetch::Options options;
  options.content = content;
  options.file = file_;
  options.origin = origin_;
  options.peers = sources_;
  dht::SwarmFetch fetch(peer_.get(), std::move(options));
  const absl::Status status = fetch.Run();
  const int64_t finished = MonotonicNanoseconds();
  const v1::SwarmTraffic traffic = fetch.traffic();
  *result = {{"finished_ns", absl::StrCat(finished)},
             {"from_origin", absl::StrCat(traffic.from_origin())},
             {"from_peers", absl::StrCat(traffic.from_peers())},
             {"wasted", absl::StrCat(traffic.wasted())},
             {"memory_mib", absl::StrCat(memory.mib())}};
  return status;
}

absl::StatusOr<std::unique_ptr<grpc::Service>> Member::Mill() const {
  ABSL_ASSIGN_OR_RETURN(const v1::Content content, Content());
  std::unique_ptr<File> file;
  if (options_.role == SwarmMemberOptions::Role::kCopy) {
    ABSL_ASSIGN_OR_RETURN(
        file, RealEnv()->Open(options_.dir + "/model", Env::OpenMode::kRead));
  }
  return NewMillService(content.size_bytes(), std::move(file));
}

absl::Status Member::Pull(SwarmFile* result) {
  ABSL_ASSIGN_OR_RETURN(const v1::Content content, Content());
  std::unique_ptr<VerifiedCopy> copy;
  if (options_.role == SwarmMemberOptions::Role::kCopy) {
    ABSL_ASSIGN_OR_RETURN(std::vector<Digest> leaves, Leaves());
    ABSL_ASSIGN_OR_RETURN(copy, VerifiedCopy::Create(RealEnv(), PathOf(".copy"),
                                                     std::move(leaves)));
  }
  ABSL_RETURN_IF_ERROR(PullThroughMill(
      peer_->ChannelTo(sources_[0].address), content.size_bytes(),
      [&](absl::Span<const uint8_t> bytes) {
        return copy == nullptr ? absl::OkStatus() : copy->Append(bytes);
      }));
  if (copy != nullptr) ABSL_RETURN_IF_ERROR(copy->Finish());
  (*result)["finished_ns"] = absl::StrCat(MonotonicNanoseconds());
  return absl::OkStatus();
}

}  // namespace

absl::Status RunSwarmMember(const SwarmMemberOptions& options) {
  return Member(options).Run();
}

absl::Status WriteSwarmFile(const std::string& path, const SwarmFile& file) {
  std::string text;
  for (const auto& [key, value] : file) {
    absl::StrAppend(&text, key, " ", value, "\n");
  }
  const std::string temporary = path + ".new";
  std::ofstream(temporary) << text;
  return RealEnv()->Rename(temporary, path);
}

absl::StatusOr<SwarmFile> ReadSwarmFile(const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string text,
                        ReadFile(RealEnv(), path, 1 << 20));
  SwarmFile file;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<std::string, std::string> entry =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (!entry.first.empty()) file.insert(entry);
  }
  return file;
}

TlsFiles SwarmTlsFiles(const std::string& dir, const std::string& name) {
  return {.certificate = absl::StrCat(dir, "/", name, ".pem"),
          .key = absl::StrCat(dir, "/", name, ".key"),
          .ca = dir + "/ca.pem"};
}

int64_t MonotonicNanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace koinon::bench
