#include "tools/cli/swarm_pull.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_macros.h"
#include "dht/key.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/fetcher.h"
#include "proto/dht.pb.h"

namespace koinon::cli {
namespace {

constexpr size_t kProviders = 20;
// Liars can lead one path astray, where there is no newer version.
constexpr size_t kRecordPaths = 2;

// Where the mutable record says that the manifest is.
absl::StatusOr<dht::Key> ManifestKeyFrom(const dht::OpenedRecord& record,
                                         bool is_head) {
  std::string key;
  bool parsed = false;
  if (is_head) {
    v1::HeadValue head;
    parsed = head.ParseFromString(record.value);
    key = head.manifest();
  } else {
    v1::VersionValue version;
    parsed = version.ParseFromString(record.value);
    key = version.manifest();
  }
  if (!parsed || key.size() != Digest::kSizeBytes) {
    return absl::DataLossError(absl::StrCat(
        "the record ", record.name, " does not say where its manifest is"));
  }
  return Digest::FromBytes(key);
}

// With an authority any of the federation's servers may have signed it.
absl::StatusOr<dht::Node::GetResult> GetNamed(dht::Peer* peer,
                                              const std::string& name,
                                              const SignerTrust& trust) {
  dht::Node::GetOptions options;
  options.newest = true;
  options.paths = kRecordPaths;
  options.signer = trust.signer;
  auto record = peer->GetNow(
      dht::MutableKey(peer->local().federation, dht::kServerOwner, name),
      options);
  if (!absl::IsFailedPrecondition(record.status())) return record;
  return absl::FailedPreconditionError(absl::StrCat(
      record.status().message(), ". --signer KEY takes one of them: the ",
      "coordinator's is what koinon pull without --bootstrap prints"));
}

absl::StatusOr<Digest> DigestOfFile(Env* env, const std::string& path,
                                    int64_t size) {
  constexpr int64_t kPortion = 1 << 20;
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kRead));
  Sha256 hash;
  std::string bytes;
  for (int64_t at = 0; at < size; at += kPortion) {
    bytes.resize(static_cast<size_t>(std::min(kPortion, size - at)));
    ABSL_RETURN_IF_ERROR(
        file->ReadAt(static_cast<uint64_t>(at), bytes.size(), bytes.data()));
    hash.Update(bytes);
  }
  return hash.Finish();
}

absl::Status CheckWhole(Env* env, const std::string& path,
                        const v1::VersionManifest& manifest) {
  ABSL_ASSIGN_OR_RETURN(
      const Digest found,
      DigestOfFile(env, path, manifest.content().size_bytes()));
  if (found.ToBytes() == manifest.digest()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("every leaf of ", manifest.job(), "@", manifest.version(),
                   " is good, but the whole has SHA-256 ", found.ToHex(),
                   ": the manifest contradicts itself"));
}

// Says what was looked for, which a key does not tell anybody. Code and reason
// stay.
absl::Status NotGot(absl::string_view what, const absl::Status& status) {
  absl::Status said(status.code(),
                    absl::StrCat(absl::IsNotFound(status) ? "no " : "the ",
                                 what, " in the DHT: ", status.message()));
  status.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
    said.SetPayload(type, payload);
  });
  return said;
}

}  // namespace

absl::StatusOr<FoundVersion> FindVersion(dht::Peer* peer, const ModelRef& model,
                                         const SignerTrust& trust,
                                         absl::Time now) {
  FoundVersion found;
  found.newest = model.version < 0;
  const std::string name = found.newest
                               ? dht::HeadName(model.job)
                               : dht::VersionName(model.job, model.version);
  const std::string named =
      found.newest ? absl::StrCat("the newest version of ", model.job)
                   : absl::StrCat(model.job, "@", model.version);
  const auto record = GetNamed(peer, name, trust);
  if (!record.ok()) {
    return NotGot(absl::StrCat("record of ", named), record.status());
  }
  ABSL_ASSIGN_OR_RETURN(const dht::Key key,
                        ManifestKeyFrom(record->opened, found.newest));
  const auto manifest = peer->GetNow(key);
  if (!manifest.ok()) {
    return NotGot(absl::StrCat("manifest of ", named), manifest.status());
  }
  SignerTrust of_record = trust;
  if (trust.authority == nullptr) {
    const PublicKey& by = record->opened.signing_key;
    if (trust.signer.value_or(by) != by) {
      return dht::RejectedError(
          dht::Rejection::kUntrustedSigner,
          absl::StrCat("the record of ", named, " in the DHT is signed by ",
                       by.ToHex(), ", expected ", trust.signer->ToHex()));
    }
    // Else anybody could name an old version of somebody else's.
    of_record.signer = by;
  }
  ABSL_ASSIGN_OR_RETURN(
      found.opened, OpenSignedManifest(manifest->opened.value, of_record, now));
  const int64_t version =
      found.newest ? found.opened.manifest.version() : model.version;
  ABSL_RETURN_IF_ERROR(dht::CheckManifestIs(found.opened.manifest, model.job,
                                            version,
                                            found.opened.manifest.digest()));
  return found;
}

absl::StatusOr<v1::SwarmTraffic> PullFromSwarm(
    Env* env, dht::Peer* peer, const v1::VersionManifest& manifest,
    const std::string& path, int64_t max_bytes, const PullProgress& progress) {
  const int64_t size = manifest.content().size_bytes();
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("model ", manifest.job(), "@", manifest.version(), " has ",
                     size, " bytes, --max-bytes is ", max_bytes));
  }
  dht::SwarmFetch::Options options;
  ABSL_ASSIGN_OR_RETURN(options.file_digest,
                        Digest::FromBytes(manifest.digest()));
  ABSL_ASSIGN_OR_RETURN(
      options.peers, peer->FindProvidersNow(options.file_digest, kProviders));
  if (options.peers.empty()) {
    return absl::NotFoundError(absl::StrCat("no node serves ", manifest.job(),
                                            "@", manifest.version(), " (",
                                            options.file_digest.ToHex(), ")"));
  }
  const std::string partial = path + ".partial";
  ABSL_ASSIGN_OR_RETURN(
      options.file, dht::ContentFile::Resume(env, partial, manifest.content()));
  options.content = manifest.content();
  options.on_progress = progress;
  const std::shared_ptr<dht::ContentFile> file = options.file;
  dht::SwarmFetch fetch(peer, std::move(options));
  ABSL_RETURN_IF_ERROR(fetch.Run());
  const std::string leaves = path + ".leaves";
  ABSL_RETURN_IF_ERROR(CheckWhole(env, partial, manifest));
  ABSL_RETURN_IF_ERROR(file->MoveWhole(path, leaves));
  ABSL_RETURN_IF_ERROR(env->Remove(leaves));
  return fetch.traffic();
}

}  // namespace koinon::cli
