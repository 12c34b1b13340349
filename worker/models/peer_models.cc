#include "worker/models/peer_models.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"
#include "worker/models/identity.h"
#include "worker/models/offered_manifest.h"

namespace koinon::worker {
namespace {

// Peers of an offer that are looked at.
constexpr int kMaxOfferedPeers = 64;

class LeasedModel final : public LocalModel {
 public:
  explicit LeasedModel(std::unique_ptr<dht::VersionCache::Lease> lease)
      : lease_(std::move(lease)) {}
  const std::string& path() const override { return lease_->path(); }

 private:
  const std::unique_ptr<dht::VersionCache::Lease> lease_;
};

// What the coordinator says of others; contacts that are none are left out.
std::vector<dht::Contact> PeersOf(const v1::OfferTask& offer) {
  std::vector<dht::Contact> peers;
  const int count = std::min(offer.peers_size(), kMaxOfferedPeers);
  for (int i = 0; i < count; ++i) {
    auto contact = dht::ContactFromProto(offer.peers(i));
    if (contact.ok() && !contact->address.empty()) {
      peers.push_back(*std::move(contact));
    }
  }
  return peers;
}

dht::VersionCache::Options CacheOptions(const PeerModels::Spec& spec) {
  dht::VersionCache::Options options;
  options.max_bytes = spec.max_cache_bytes;
  options.max_model_bytes = spec.max_model_bytes;
  options.retention.newest = spec.peering.keep_versions;
  options.retention.every = spec.peering.keep_every;
  options.pinned = spec.peering.Pinned();
  options.use_deltas = !spec.peering.no_deltas;
  return options;
}

// Says, beside what is wrong, which version it is about and under which reason
// it has been counted.
absl::Status Refused(const v1::OfferTask& offer, const absl::Status& status) {
  const auto reason = dht::RejectionOf(status);
  if (!reason.has_value()) return status;
  return absl::Status(
      status.code(),
      absl::StrCat("the manifest of ", offer.task().job(), "@",
                   offer.base_version(), " is refused (",
                   dht::RejectionName(*reason), "): ", status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PeerModels>> PeerModels::Start(
    Spec spec, Env* env, const Clock* clock) {
  ABSL_RETURN_IF_ERROR(spec.peering.Validate());
  std::unique_ptr<PeerModels> models(
      new PeerModels(std::move(spec), env, clock));
  ABSL_RETURN_IF_ERROR(models->Open());
  return models;
}

absl::Status PeerModels::Open() {
  ABSL_RETURN_IF_ERROR(env_->MakeDirs(spec_.state_dir));
  ABSL_RETURN_IF_ERROR(env_->SyncDir(DirectoryOf(spec_.state_dir)));
  ABSL_ASSIGN_OR_RETURN(
      WorkerIdentity identity,
      LoadWorkerIdentity(env_, spec_.worker, spec_.state_dir, spec_.tls,
                         spec_.peering, clock_->Now()));
  has_node_ = identity.has_node;
  authority_ = std::move(identity.authority);
  if (!has_node_) {
    LogWarning(
        "the certificate is none for nodes (koinon certs makes such): model "
        "versions come from the coordinator only",
        {{"certificate", spec_.tls.certificate}});
  }
  dht::Peer::Options options{.local = std::move(identity.local)};
  if (!spec_.tls.empty()) {
    ABSL_ASSIGN_OR_RETURN(
        options.credentials,
        MakeChannelCredentials(env_, spec_.tls, clock_->Now()));
  }
  options.authority = authority_.get();
  options.state_dir = absl::StrCat(spec_.state_dir, "/dht");
  options.leech_only = spec_.peering.listen.empty();
  options.cross_site = spec_.peering.cross_site;
  options.coordinator = spec_.coordinator;
  options.has_node = has_node_;
  options.env = env_;
  options.clock = clock_;
  ABSL_ASSIGN_OR_RETURN(peer_, dht::Peer::Create(std::move(options)));
  ABSL_RETURN_IF_ERROR(Listen());
  std::vector<std::string> bootstrap = spec_.peering.bootstrap;
  bootstrap.push_back(spec_.coordinator);
  peer_->Start(
      server_ == nullptr ? "" : spec_.peering.AddressFor(server_->port()),
      std::move(bootstrap));
  ABSL_ASSIGN_OR_RETURN(
      cache_,
      dht::VersionCache::Open(env_, absl::StrCat(spec_.state_dir, "/models"),
                              CacheOptions(spec_), peer_.get()));
  MutexLock lock(&mutex_);
  origin_.address = spec_.coordinator;
  return absl::OkStatus();
}

absl::Status PeerModels::Listen() {
  if (spec_.peering.listen.empty()) return absl::OkStatus();
  RpcServer::Options options;
  options.listen = spec_.peering.listen;
  if (spec_.tls.empty()) {
    options.credentials = MakeInsecureServerCredentials();
  } else {
    ABSL_ASSIGN_OR_RETURN(
        options.credentials,
        MakeServerCredentials(env_, spec_.tls, clock_->Now()));
  }
  ABSL_ASSIGN_OR_RETURN(
      server_, RpcServer::Start(std::move(options),
                                {{peer_->service(), "koinon.v1.PeerService"}}));
  LogInfo("serving model versions to others",
          {{"listen", spec_.peering.listen},
           {"address", spec_.peering.AddressFor(server_->port())},
           {"node", peer_->local().id.ToShortHex()},
           {"site", peer_->local().identity.site},
           {"cross_site", spec_.peering.cross_site}});
  return absl::OkStatus();
}

PeerModels::~PeerModels() {
  if (peer_ != nullptr) peer_->Stop();
  if (server_ != nullptr) server_->Stop(absl::ZeroDuration());
}

std::optional<v1::Contact> PeerModels::contact() const {
  if (!has_node_) return std::nullopt;
  return dht::ContactToProto(peer_->self());
}

void PeerModels::OnWelcome(const v1::Welcome& welcome) {
  const std::string& own = peer_->local().federation;
  if (welcome.federation() != own) {
    LogError(
        "the coordinator is of another federation: none of its versions will "
        "verify (--federation says the worker's in plaintext)",
        {{"coordinator", welcome.federation()}, {"worker", own}});
  }
  dht::Contact origin;
  if (auto said = dht::ContactFromProto(welcome.peer()); said.ok()) {
    origin = *std::move(said);
  }
  origin.address = spec_.coordinator;  // where this worker reaches it
  const auto key = PublicKey::FromBytes(welcome.signing_key());
  bool is_new = false;
  {
    MutexLock lock(&mutex_);
    origin_ = std::move(origin);
    is_new = key.ok() && signing_key_ != *key;
    signing_key_.reset();
    if (key.ok()) signing_key_ = *key;
  }
  if (is_new) peer_->AddPinned(*key);
}

absl::StatusOr<dht::RecordTrust> PeerModels::SessionTrust() const {
  dht::RecordTrust trust = peer_->trust();
  trust.pinned.clear();
  MutexLock lock(&mutex_);
  if (signing_key_.has_value()) {
    trust.pinned.insert(*signing_key_);
  } else if (authority_ == nullptr) {
    // Without any, a signature would say nothing.
    return absl::FailedPreconditionError(
        "the coordinator does not say which key it signs with: it is older "
        "than this worker and has to be upgraded first");
  }
  return trust;
}

absl::StatusOr<v1::VersionManifest> PeerModels::OpenManifest(
    const v1::OfferTask& offer) const {
  ABSL_ASSIGN_OR_RETURN(const dht::RecordTrust trust, SessionTrust());
  return OpenOfferedManifest(offer, trust, clock_->Now());
}

absl::StatusOr<ModelSource::Fetched> PeerModels::Fetch(
    const v1::OfferTask& offer, const std::function<bool()>& cancelled) {
  dht::VersionCache::Wanted wanted;
  auto manifest = OpenManifest(offer);
  if (!manifest.ok()) {
    peer_->rejections()->Count(manifest.status());
    return Refused(offer, manifest.status());
  }
  wanted.signed_manifest = offer.signed_manifest();
  wanted.manifest = *std::move(manifest);
  wanted.peers = PeersOf(offer);
  {
    MutexLock lock(&mutex_);
    wanted.origin = origin_;
  }
  ABSL_ASSIGN_OR_RETURN(dht::VersionCache::Fetched fetched,
                        cache_->Fetch(wanted, cancelled));
  const v1::SwarmTraffic& traffic = fetched.traffic;
  if (traffic.from_peers() + traffic.from_origin() > 0) {
    LogInfo("model fetched", {{"job", offer.task().job()},
                              {"version", offer.base_version()},
                              {"from_peers", traffic.from_peers()},
                              {"from_coordinator", traffic.from_origin()},
                              {"wasted", traffic.wasted()},
                              {"by_delta", fetched.by_delta}});
  }
  return Fetched{
      .model = std::make_shared<LeasedModel>(std::move(fetched.lease)),
      .traffic = traffic};
}

v1::SwarmTraffic PeerModels::traffic() const {
  return peer_->board()->traffic();
}

}  // namespace koinon::worker
