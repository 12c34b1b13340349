#include "coordinator/distribution/recovery.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/server/server_optimizer.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "coordinator/distribution/version_records.h"
#include "coordinator/jobs/job_spec.h"
#include "coordinator/models/version_contents.h"
#include "dht/records/signed.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/fetcher.h"
#include "dht/swarm/merkle.h"
#include "kernels/graph/control_variates.h"
#include "kernels/graph/model_graph.h"

namespace koinon::coordinator {
namespace {

// What a safetensors file has beside its values is small.
constexpr int64_t kHeaderBytes = int64_t{64} << 20;
constexpr size_t kProviders = 20;

absl::Status Of(const JobId& job, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat("--recover ", job, ": ", status.message()));
}

absl::Status Contradiction(absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("what the DHT has does not belong together: ", what));
}

}  // namespace

absl::StatusOr<std::string> LostStateOf(const v1::JobSpec& spec,
                                        int64_t version) {
  // The first round begins from nothing.
  if (version == 0) return std::string();
  std::vector<std::string> lost;
  ABSL_ASSIGN_OR_RETURN(
      const auto optimizer,
      aggregation::MakeServerOptimizer(spec.aggregation().server_optimizer()));
  if (optimizer != nullptr && !optimizer->state_names().empty()) {
    lost.push_back(
        absl::StrCat(optimizer->name(), "'s ",
                     absl::StrJoin(optimizer->state_names(), " and ")));
  }
  ABSL_ASSIGN_OR_RETURN(const auto rule,
                        aggregation::MakeAggregator(spec.aggregation(), {}));
  if (rule->KeepsAggregate()) lost.push_back("the last round's aggregate");
  if (spec.training().has_scaffold()) {
    lost.push_back("who has taken part and has a control variate");
  }
  return absl::StrJoin(lost, ", ");
}

absl::StatusOr<std::vector<Mutation>> JobRecovery::Recover(
    const JobId& job, const JournalContents& contents) {
  ABSL_RETURN_IF_ERROR(Of(job, ValidateId("job name", job)));
  if (contents.jobs.contains(job)) {
    return Of(job, absl::AlreadyExistsError(
                       "the journal has this job: it needs no recovery, and "
                       "would lose what it has"));
  }
  const absl::Status joined = peer_->WaitUntilJoined(options_.join_patience);
  if (!joined.ok()) {
    return Of(job, absl::UnavailableError(absl::StrCat(
                       "no node of --bootstrap answers: ", joined.message())));
  }
  auto found = Find(job);
  if (!found.ok()) return Of(job, found.status());
  ABSL_RETURN_IF_ERROR(Of(job, CheckSpec(*found)));
  const std::string path = absl::StrCat(
      store_->PathOf(job, found->version.version()), ".recovering");
  ABSL_RETURN_IF_ERROR(Of(job, Fetch(*found, path)));
  auto manifest = Adopt(*found, path);
  if (!manifest.ok()) return Of(job, manifest.status());
  auto rows = MakeRows(*found, *std::move(manifest));
  if (!rows.ok()) return Of(job, rows.status());
  return rows;
}

absl::StatusOr<dht::OpenedRecord> JobRecovery::GetRecord(
    const dht::Key& key, const std::string& what) {
  dht::Node::GetOptions options;
  options.newest = true;
  options.paths = 2;
  options.signer =
      options_.head_signer.value_or(signer_->node().key.public_key());
  auto got = peer_->GetNow(key, options);
  if (got.ok()) return std::move(got->opened);
  return absl::Status(
      got.status().code(),
      absl::StrCat(absl::IsNotFound(got.status()) ? "no " : "the ", what, ": ",
                   got.status().message()));
}

absl::StatusOr<dht::OpenedRecord> JobRecovery::GetHead(const JobId& job) {
  const LocalNode& local = signer_->node();
  auto head = GetRecord(
      dht::MutableKey(local.federation, local.owner, dht::HeadName(job)),
      "head of the job in the DHT");
  if (!head.ok()) {
    if (!absl::IsFailedPrecondition(head.status())) return head.status();
    return absl::FailedPreconditionError(absl::StrCat(
        head.status().message(), ". --recover-signer KEY takes one of them"));
  }
  const bool plaintext = peer_->trust().authority == nullptr;
  if (plaintext && options_.head_signer.has_value() &&
      head->signing_key != *options_.head_signer) {
    return absl::NotFoundError(absl::StrCat(
        "no head of the job in the DHT that is signed by --recover-signer ",
        options_.head_signer->ToHex(), "; one is by ",
        head->signing_key.ToHex()));
  }
  if (plaintext) {
    LogWarning("plaintext: a job is recovered from whoever has signed its head",
               {{"job", job}, {"signer", head->signing_key.ToHex()}});
  }
  return head;
}

absl::StatusOr<JobRecovery::Found> JobRecovery::Find(const JobId& job) {
  ABSL_ASSIGN_OR_RETURN(const dht::OpenedRecord head_record, GetHead(job));
  v1::HeadValue head;
  if (!head.ParseFromString(head_record.value)) {
    return Contradiction("its head is none");
  }
  if (head.job_spec().empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "its specification was too large for the DHT; koinon pull ", job, "@",
        head.version(), " --bootstrap gets its model"));
  }
  ABSL_ASSIGN_OR_RETURN(const dht::Key manifest_key,
                        dht::Key::FromBytes(head.manifest()));
  ABSL_ASSIGN_OR_RETURN(const dht::Key spec_key,
                        dht::Key::FromBytes(head.job_spec()));
  Found found;
  found.signatures = SignaturesOf(head_record.sequence);
  found.epoch = head_record.epoch;
  if (found.epoch >= std::numeric_limits<int64_t>::max()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "its head has epoch ", found.epoch, ", and none can be after it"));
  }
  ABSL_ASSIGN_OR_RETURN(
      dht::OpenedRecord manifest,
      GetRecord(manifest_key, "manifest of its last version in the DHT"));
  found.signed_manifest = std::move(manifest.value);
  dht::RecordTrust trust = peer_->trust();
  // Else anybody could name an old version of the coordinator's.
  if (trust.authority == nullptr) trust.pinned = {head_record.signing_key};
  ABSL_ASSIGN_OR_RETURN(found.version, dht::OpenManifest(found.signed_manifest,
                                                         trust, clock_->Now()));
  if (found.version.job() != job || found.version.version() != head.version()) {
    return Contradiction(absl::StrCat(
        "the head names version ", head.version(), ", its manifest is of ",
        found.version.job(), "@", found.version.version()));
  }
  ABSL_ASSIGN_OR_RETURN(
      const dht::OpenedRecord spec,
      GetRecord(spec_key, "specification of the job in the DHT"));
  if (!found.spec.ParseFromString(spec.value) || found.spec.name() != job) {
    return Contradiction("the specification is not the job's");
  }
  return found;
}

absl::Status JobRecovery::CheckSpec(const Found& found) const {
  const auto filled = ValidateJobSpec(found.spec);
  if (!filled.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("this Koinon does not take its specification: ",
                     filled.status().message()));
  }
  ABSL_ASSIGN_OR_RETURN(const auto graph,
                        kernels::ModelGraph::Build(found.spec.model()));
  ABSL_ASSIGN_OR_RETURN(
      const ModelLayout layout,
      kernels::VersionLayout(graph.layout(), found.spec.training()));
  if (layout.hash().ToBytes() != found.version.layout_hash()) {
    return Contradiction("the version's layout is not the job's model's");
  }
  const int64_t bytes = found.version.content().size_bytes();
  const auto values = static_cast<int64_t>(layout.total_bytes());
  if (bytes < values || bytes - values > kHeaderBytes) {
    return Contradiction(absl::StrCat("the version has ", bytes,
                                      " bytes, its parameters have ", values));
  }
  if (values > options_.max_model_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("max_model_bytes: the model has ", values, " bytes, ",
                     options_.max_model_bytes, " are allowed"));
  }
  return absl::OkStatus();
}

absl::Status JobRecovery::Fetch(const Found& found, const std::string& path) {
  const v1::VersionManifest& version = found.version;
  ABSL_ASSIGN_OR_RETURN(const Digest digest,
                        Digest::FromBytes(version.digest()));
  ABSL_ASSIGN_OR_RETURN(auto providers,
                        peer_->FindProvidersNow(digest, kProviders));
  if (providers.empty()) {
    return absl::NotFoundError(
        absl::StrCat("nobody that can be reached has version ",
                     version.version(), " (", digest.ToShortHex(), ")"));
  }
  LogInfo("recovering a job", {{"job", version.job()},
                               {"version", version.version()},
                               {"bytes", version.content().size_bytes()},
                               {"providers", providers.size()}});
  ABSL_RETURN_IF_ERROR(store_->env()->MakeDirs(DirectoryOf(path)));
  dht::SwarmFetch::Options options;
  options.content = version.content();
  options.file_digest = digest;
  ABSL_ASSIGN_OR_RETURN(
      options.file,
      dht::ContentFile::Resume(store_->env(), path, version.content()));
  options.peers = std::move(providers);
  options.patience = options_.fetch_patience;
  const auto file = options.file;
  dht::SwarmFetch fetch(peer_, std::move(options));
  ABSL_RETURN_IF_ERROR(fetch.Run());
  return file->Sync();
}

// From here on the file is one of the store's.
absl::StatusOr<v1::ModelManifest> JobRecovery::Adopt(const Found& found,
                                                     const std::string& path) {
  const v1::VersionManifest& version = found.version;
  Env* const env = store_->env();
  ABSL_ASSIGN_OR_RETURN(const FileHashes hashes, HashFile(*store_, path));
  if (hashes.digest.ToBytes() != version.digest()) {
    return Contradiction("the file has the manifest's root, not its digest");
  }
  const std::string final_path =
      store_->PathOf(version.job(), version.version());
  ABSL_RETURN_IF_ERROR(env->Rename(path, final_path));
  ABSL_RETURN_IF_ERROR(env->SyncDir(DirectoryOf(final_path)));
  ABSL_RETURN_IF_ERROR(env->SyncDir(DirectoryOf(DirectoryOf(final_path))));
  ABSL_RETURN_IF_ERROR(dht::ContentFile::WriteLeaves(
      env, store_->LeavesPathOf(version.job(), version.version()),
      hashes.leaves));
  for (const char* suffix : {".pieces", ".leaves"}) {
    const std::string left = absl::StrCat(path, suffix);
    if (env->Exists(left)) env->Remove(left).IgnoreError();
  }

  v1::ModelManifest manifest;
  manifest.set_job(version.job());
  manifest.set_version(version.version());
  manifest.set_digest(version.digest());
  manifest.set_parent_digest(version.parent_digest());
  manifest.set_layout_hash(version.layout_hash());
  manifest.set_size_bytes(version.content().size_bytes());
  manifest.set_chunk_size_bytes(store_->chunk_size_bytes());
  for (const Digest& chunk : hashes.chunks) {
    manifest.add_chunk_digests(chunk.ToBytes());
  }
  *manifest.mutable_provenance() = version.provenance();
  manifest.set_signed_manifest(found.signed_manifest);
  manifest.set_signatures(found.signatures);
  ABSL_RETURN_IF_ERROR(store_->Open(manifest).status());
  return manifest;
}

absl::StatusOr<std::vector<Mutation>> JobRecovery::MakeRows(
    const Found& found, v1::ModelManifest manifest) const {
  const v1::VersionManifest& version = found.version;
  JobRow job;
  job.spec = found.spec;
  job.submitted = absl::FromUnixMillis(version.job_submitted_ms());
  job.records_epoch = std::max(absl::ToUnixMillis(clock_->Now()),
                               static_cast<int64_t>(found.epoch) + 1);
  ABSL_ASSIGN_OR_RETURN(const std::string lost,
                        LostStateOf(found.spec, version.version()));
  if (!lost.empty()) {
    job.state = v1::FAILED;
    job.finished = clock_->Now();
    job.reason =
        absl::StrCat("recovered with version ", version.version(),
                     "; its next round would have begun from what is lost (",
                     lost, "). Submit another job with initial_model: \"",
                     version.job(), "@", version.version(), "\"");
  }
  LogInfo("job recovered", {{"job", version.job()},
                            {"version", version.version()},
                            {"goes_on", lost.empty()}});
  std::vector<Mutation> rows = {job};
  if (version.version() > 0) {
    RoundRow round;
    round.job = version.job();
    round.round = version.version();
    round.phase = RoundPhase::kDone;
    round.opened = absl::FromUnixMillis(version.created_ms());
    round.deadline = round.opened;
    round.report.set_round(round.round);
    round.report.set_model_digest(version.digest());
    round.report.set_seconds(version.provenance().seconds());
    rows.push_back(round);
  }
  rows.push_back(VersionRow{std::move(manifest), {}});
  return rows;
}

}  // namespace koinon::coordinator
