#include "coordinator/distribution/distributor.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "coordinator/models/manifest_signer.h"
#include "coordinator/models/version_contents.h"

namespace koinon::coordinator {
namespace {

// A failure is logged when it begins, and then each time that it has been tried
// so often again.
constexpr int kLogEvery = 10;

}  // namespace

Distributor::Distributor(Options options, const ModelStore* store,
                         dht::ContentBoard* board, RecordNetwork* network,
                         const LocalNode* signer, const Clock* clock)
    : options_(std::move(options)),
      store_(store),
      board_(board),
      network_(network),
      clock_(clock),
      schedule_(options_.schedule),
      writer_(network, signer) {
  board_->SetOthers([this](const Digest& root) { return OthersOf(root); });
}

Distributor::~Distributor() {
  Stop();
  board_->SetOthers(nullptr);
}

void Distributor::Start() {
  if (network_ != nullptr) thread_ = std::thread([this] { Run(); });
}

void Distributor::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

std::optional<v1::Contact> Distributor::Self() {
  return network_ == nullptr ? std::nullopt : network_->Self();
}

void Distributor::AddToBoard(
    const v1::ModelManifest& manifest, const Digest& file_digest,
    std::vector<std::shared_ptr<dht::ContentFile>> contents) {
  RemoveFromBoard(manifest.job(), manifest.version());
  Served served;
  served.file_digest = file_digest;
  for (const auto& content : contents) {
    const auto root = Digest::FromBytes(content->content().root());
    if (!root.ok()) continue;  // none that was opened
    served.roots.push_back(*root);
    served.hash_bytes += static_cast<int64_t>(content->map().leaves()) *
                         static_cast<int64_t>(Digest::kSizeBytes);
  }
  {
    MutexLock lock(&mutex_);
    for (const Digest& root : served.roots) {
      job_of_root_[root] = manifest.job();
    }
    hash_bytes_ += served.hash_bytes;
    served_[{manifest.version(), manifest.job()}] = std::move(served);
  }
  for (auto& content : contents) board_->Add(std::move(content), file_digest);
  MakeRoom();
}

// Each job's newest version is what its workers begin from: it stays, whatever
// its number.
std::optional<std::pair<int64_t, JobId>> Distributor::LowestOldVersion() const {
  std::map<JobId, int64_t> newest;
  for (const auto& [version, served] : served_) {
    newest[version.second] = version.first;  // they come in their order
  }
  for (const auto& [version, served] : served_) {
    if (newest[version.second] != version.first) return version;
  }
  return std::nullopt;
}

void Distributor::MakeRoom() {
  while (true) {
    std::pair<int64_t, JobId> lowest;
    Digest file_digest;
    {
      MutexLock lock(&mutex_);
      if (hash_bytes_ <= options_.max_hash_bytes &&
          served_.size() <= options_.max_served) {
        return;
      }
      const auto found = LowestOldVersion();
      if (!found.has_value()) return;
      lowest = *found;
      file_digest = served_.at(lowest).file_digest;
      if (!std::exchange(said_no_room_, true)) {
        LogInfo("old versions are served to those who pull them only",
                {{"up_to", absl::StrCat(lowest.second, "@", lowest.first)}});
      }
    }
    RemoveFromBoard(lowest.second, lowest.first);
    if (network_ != nullptr) network_->StopProviding(file_digest);
  }
}

void Distributor::RemoveFromBoard(const JobId& job, int64_t version) {
  Served served;
  {
    MutexLock lock(&mutex_);
    const auto it = served_.find({version, job});
    if (it == served_.end()) return;
    served = std::move(it->second);
    served_.erase(it);
    hash_bytes_ -= served.hash_bytes;
    for (const Digest& root : served.roots) job_of_root_.erase(root);
  }
  for (const Digest& root : served.roots) board_->Remove(root);
}

void Distributor::Serve(const v1::ModelManifest& manifest) {
  const auto cannot = [&](absl::string_view what, const absl::Status& why) {
    LogWarning("a version cannot be fetched piece by piece",
               {{"job", manifest.job()},
                {"version", manifest.version()},
                {"what", what},
                {"error", why}});
  };
  const auto version = SignedVersionOf(manifest);
  if (!version.ok()) return cannot("manifest", version.status());
  const auto digest = Digest::FromBytes(manifest.digest());
  if (!digest.ok()) return cannot("manifest", digest.status());
  auto content = OpenVersionContent(*store_, manifest, version->content());
  if (!content.ok()) return cannot("file", content.status());
  std::vector<std::shared_ptr<dht::ContentFile>> contents = {
      *std::move(content)};
  for (const v1::Delta& delta : version->deltas()) {
    auto opened = OpenDeltaContent(*store_, manifest.job(), manifest.version(),
                                   delta.content());
    if (opened.ok()) {
      contents.push_back(*std::move(opened));
    } else if (!absl::IsNotFound(opened.status())) {
      // Those of older versions are removed.
      cannot("delta", opened.status());
    }
  }
  AddToBoard(manifest, *digest, std::move(contents));
}

void Distributor::Announce(const JobRow& job, const v1::ModelManifest& manifest,
                           bool newest) {
  if (network_ == nullptr || manifest.signed_manifest().empty()) return;
  auto spec = std::make_shared<const v1::JobSpec>(job.spec);
  // What names and signs it; not its chunks.
  auto kept = std::make_shared<v1::ModelManifest>();
  kept->set_job(manifest.job());
  kept->set_version(manifest.version());
  kept->set_digest(manifest.digest());
  kept->set_signed_manifest(manifest.signed_manifest());
  kept->set_signatures(manifest.signatures());
  kept->set_pinned(manifest.pinned());
  MutexLock lock(&mutex_);
  if (!schedule_.Add(clock_->Now(), std::move(spec), std::move(kept), newest,
                     static_cast<uint64_t>(job.records_epoch)) &&
      !std::exchange(said_full_, true)) {
    LogWarning(
        "more versions are kept than the DHT is told of again and again; of "
        "those that are not pinned the lowest are stored once, and found for "
        "a month at most",
        {{"most", options_.schedule.max_versions}});
  }
  changed_.SignalAll();
}

void Distributor::Withdraw(const v1::ModelManifest& manifest) {
  {
    MutexLock lock(&mutex_);
    schedule_.Remove(manifest.job(), manifest.version());
  }
  RemoveFromBoard(manifest.job(), manifest.version());
  const auto digest = Digest::FromBytes(manifest.digest());
  if (network_ != nullptr && digest.ok()) network_->StopProviding(*digest);
}

void Distributor::WithdrawDelta(const v1::ModelManifest& manifest) {
  std::vector<Digest> deltas;
  {
    MutexLock lock(&mutex_);
    const auto it = served_.find({manifest.version(), manifest.job()});
    if (it == served_.end() || it->second.roots.size() <= 1) return;
    std::vector<Digest>& roots = it->second.roots;
    deltas.assign(roots.begin() + 1, roots.end());
    roots.resize(1);
    for (const Digest& root : deltas) job_of_root_.erase(root);
  }
  for (const Digest& root : deltas) board_->Remove(root);
}

void Distributor::SetPeers(const JobId& job, std::vector<dht::Contact> peers) {
  auto contacts =
      std::make_shared<const std::vector<dht::Contact>>(std::move(peers));
  MutexLock lock(&mutex_);
  peers_[job] = std::move(contacts);
}

void Distributor::OnGone(const dht::Key& node) { board_->OnGone(node); }

// Different ones each time, so that not all come to the same.
std::vector<dht::Contact> Distributor::OthersOf(const Digest& root) {
  Contacts peers;
  uint64_t seed;
  {
    MutexLock lock(&mutex_);
    const auto job = job_of_root_.find(root);
    if (job == job_of_root_.end()) return {};
    const auto known = peers_.find(job->second);
    if (known == peers_.end()) return {};
    peers = known->second;
    seed = asked_++;
  }
  std::vector<dht::Contact> others = *peers;
  Random(seed).Shuffle(&others);
  if (others.size() > options_.others) others.resize(options_.others);
  return others;
}

void Distributor::Run() {
  while (const auto entry = AwaitEntry()) {
    Finish(*entry, Publish(*entry));
    if (!Rest()) return;
  }
}

std::optional<PublishSchedule::Entry> Distributor::AwaitEntry() {
  MutexLock lock(&mutex_);
  while (!stopping_) {
    const absl::Time now = clock_->Now();
    auto entry = schedule_.Next(now);
    if (entry.has_value()) return entry;
    const absl::Time due = schedule_.next_due();
    if (due == absl::InfiniteFuture()) {
      changed_.Wait(&mutex_);
    } else {
      changed_.WaitWithTimeout(&mutex_, due - now);
    }
  }
  return std::nullopt;
}

absl::Status Distributor::Publish(const PublishSchedule::Entry& entry) {
  ABSL_ASSIGN_OR_RETURN(const Digest digest,
                        Digest::FromBytes(entry.manifest->digest()));
  if (IsServed(*entry.manifest)) network_->Provide(digest);
  return writer_.Store(*entry.spec, *entry.manifest, entry.newest,
                       entry.least_epoch);
}

bool Distributor::IsServed(const v1::ModelManifest& manifest) const {
  MutexLock lock(&mutex_);
  const auto it = served_.find({manifest.version(), manifest.job()});
  return it != served_.end() &&
         it->second.file_digest.ToBytes() == manifest.digest();
}

void Distributor::Finish(const PublishSchedule::Entry& entry,
                         const absl::Status& status) {
  const v1::ModelManifest& manifest = *entry.manifest;
  if (!status.ok() && entry.failures % kLogEvery == 0) {
    LogWarning("a version's records are not in the DHT yet",
               {{"job", manifest.job()},
                {"version", manifest.version()},
                {"failures", entry.failures + 1},
                {"error", status}});
  } else if (status.ok() && entry.failures > 0) {
    LogInfo("a version's records are in the DHT",
            {{"job", manifest.job()}, {"version", manifest.version()}});
  }
  {
    MutexLock lock(&mutex_);
    schedule_.Done(clock_->Now(), entry, status.ok());
  }
  // If it was withdrawn while it was being announced, that was too early. One
  // that the schedule alone has given up goes on being served.
  const auto digest = Digest::FromBytes(manifest.digest());
  if (digest.ok() && !IsServed(manifest)) network_->StopProviding(*digest);
}

// False once it is to stop.
bool Distributor::Rest() {
  MutexLock lock(&mutex_);
  const absl::Time until = clock_->Now() + options_.pause;
  while (!stopping_) {
    const absl::Duration left = until - clock_->Now();
    if (left <= absl::ZeroDuration()) return true;
    changed_.WaitWithTimeout(&mutex_, left);
  }
  return false;
}

}  // namespace koinon::coordinator
