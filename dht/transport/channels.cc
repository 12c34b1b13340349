#include "dht/transport/channels.h"

#include <arpa/inet.h>

#include <climits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/tls.h"

namespace koinon::dht {
namespace {

// The largest messages are pieces' blocks and hashes (dht/swarm); answers to
// questions are far smaller.
constexpr int kMaxMessageBytes = 1 << 20;

grpc::ChannelArguments NewArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // A dead connection is found within half a minute, while calls are out.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  // As the worker's calls: a fixed window of a message or so keeps a fast line
  // busy, and memory flat.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1 << 20);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
  // The back-off of another channel's connection is not this one's.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // What fails is asked elsewhere, not again.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Questions are small and many: what looks at each call in vain is left out.
  arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0);
  arguments.SetInt(GRPC_ARG_CLIENT_IDLE_TIMEOUT_MS, INT_MAX);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  return arguments;
}

// A numeric address needs no resolver. Of others the scheme is said, or gRPC
// would take the host for one: "unix:7070" is a socket's file to it.
std::string TargetOf(const std::string& address) {
  const size_t colon = address.rfind(':');
  in_addr parsed;
  const bool numeric =
      colon != std::string::npos &&
      inet_pton(AF_INET, address.substr(0, colon).c_str(), &parsed) == 1;
  return absl::StrCat(numeric ? "ipv4:" : "dns:///", address);
}

}  // namespace

Channels::Channels(Options options) : options_(std::move(options)) {}

std::shared_ptr<Channels::Link> Channels::Open(
    const std::string& address) const {
  grpc::ChannelArguments arguments = NewArguments();
  if (options_.credentials != nullptr && address != options_.coordinator) {
    arguments.SetSslTargetNameOverride(kNodeDnsName);
  }
  auto link = std::make_shared<Link>();
  link->channel = grpc::CreateCustomChannel(
      TargetOf(address),
      options_.credentials != nullptr ? options_.credentials
                                      : MakeInsecureChannelCredentials(),
      arguments);
  link->stub = v1::PeerService::NewStub(link->channel);
  return link;
}

std::shared_ptr<Channels::Link> Channels::To(const std::string& address) {
  std::shared_ptr<Link> let_go;  // after the lock
  MutexLock lock(&mutex_);
  const auto found = entries_.find(address);
  if (found != entries_.end()) {
    by_use_.splice(by_use_.begin(), by_use_, found->second);
    std::shared_ptr<Link>& link = by_use_.front().link;
    if (link->channel->GetState(false) == GRPC_CHANNEL_TRANSIENT_FAILURE) {
      let_go = std::exchange(link, Open(address));
    }
    return link;
  }
  if (by_use_.size() >= options_.max_channels) {
    let_go = std::move(by_use_.back().link);
    entries_.erase(by_use_.back().address);
    by_use_.pop_back();
  }
  by_use_.push_front({address, Open(address)});
  entries_.emplace(address, by_use_.begin());
  return by_use_.front().link;
}

void Channels::Drop(const std::string& address, const Link* link) {
  std::shared_ptr<Link> let_go;  // after the lock
  MutexLock lock(&mutex_);
  const auto found = entries_.find(address);
  if (found == entries_.end() || found->second->link.get() != link) return;
  let_go = std::move(found->second->link);
  by_use_.erase(found->second);
  entries_.erase(found);
}

size_t Channels::size() const {
  MutexLock lock(&mutex_);
  return by_use_.size();
}

}  // namespace koinon::dht
