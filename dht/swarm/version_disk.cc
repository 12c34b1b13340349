// What a cache of versions finds on disk, and what it removes.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/swarm/version_cache_state.h"
#include "proto/dht.pb.h"

namespace koinon::dht {
namespace {

constexpr size_t kMaxManifestBytes = 64 << 10;

std::optional<Digest> DigestOf(absl::string_view name,
                               absl::string_view suffix) {
  if (!absl::EndsWith(name, suffix)) return std::nullopt;
  const auto digest = Digest::FromHex(absl::StripSuffix(name, suffix));
  if (!digest.ok()) return std::nullopt;
  return *digest;
}

absl::StatusOr<uint64_t> SizeOf(Env* env, const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kRead));
  return file->Size();
}

}  // namespace

std::string VersionCache::State::PathOf(const Digest& digest,
                                        absl::string_view suffix) const {
  return absl::StrCat(dir, "/", digest.ToHex(), suffix);
}

absl::Status VersionCache::State::Recover() {
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> names, env->List(dir));
  for (const std::string& name : names) {
    if (absl::EndsWith(name, kTemporary)) {
      RemoveIfThere(absl::StrCat(dir, "/", name));
    }
  }
  ABSL_RETURN_IF_ERROR(RecoverModels(names));
  ABSL_RETURN_IF_ERROR(RecoverPartials(names));
  RecoverDeltas(names);
  OrderByAge();
  MutexLock lock(&mutex);
  for (const std::string& name : names) {  // of models that are not there
    for (const char* suffix : {kManifest, kLeaves}) {
      const auto digest = DigestOf(name, suffix);
      if (!digest.has_value() || entries.contains(*digest)) continue;
      if (env->Exists(PathOf(*digest, kPartial))) continue;
      RemoveIfThere(absl::StrCat(dir, "/", name));
    }
  }
  Evict();  // nothing is on the board yet
  return absl::OkStatus();
}

// As if the newest had been used last.
void VersionCache::State::OrderByAge() {
  MutexLock lock(&mutex);
  std::vector<std::pair<int64_t, Digest>> all;
  for (const auto& [digest, entry] : entries) {
    all.emplace_back(entry.manifest.created_ms(), digest);
  }
  std::sort(all.begin(), all.end());
  for (const auto& [created, digest] : all) {
    entries[digest].last_use = ++uses;
  }
}

absl::Status VersionCache::State::RecoverModels(
    const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto digest = DigestOf(name, kModel);
    if (!digest.has_value()) continue;  // not ours
    auto manifest = ReadManifest(*digest);
    // For want of descriptors: that says nothing about the model.
    if (absl::IsResourceExhausted(manifest.status())) return manifest.status();
    ABSL_ASSIGN_OR_RETURN(const uint64_t size,
                          SizeOf(env, PathOf(*digest, kModel)));
    MutexLock lock(&mutex);
    if (manifest.ok() &&
        size != static_cast<uint64_t>(manifest->content().size_bytes())) {
      manifest = absl::DataLossError(
          absl::StrCat(name, ": ", manifest->content().size_bytes(),
                       " bytes expected, found ", size));
    }
    if (manifest.ok()) {
      entries[*digest].manifest = *std::move(manifest);
      continue;
    }
    LogWarning(
        "a model without its manifest is removed",
        {{"model", digest->ToShortHex()}, {"reason", manifest.status()}});
    RemoveModel(*digest);
  }
  return absl::OkStatus();
}

absl::Status VersionCache::State::RecoverPartials(
    const std::vector<std::string>& names) {
  MutexLock lock(&mutex);
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, kPartial)) continue;
    if (absl::EndsWith(name, kDeltaPartial)) continue;  // RecoverDeltas
    const auto digest = DigestOf(name, kPartial);
    if (digest.has_value()) {
      auto manifest = ReadManifest(*digest);
      if (absl::IsResourceExhausted(manifest.status())) {
        return manifest.status();
      }
      if (manifest.ok()) {
        partials[*digest] = *std::move(manifest);
        continue;
      }
    }
    RemovePartial(absl::StrCat(dir, "/", name));
  }
  return absl::OkStatus();
}

// Those of the newest versions are served; with those of what was being
// fetched, whole or not, the fetch goes on.
void VersionCache::State::RecoverDeltas(const std::vector<std::string>& names) {
  MutexLock lock(&mutex);
  std::map<Digest, DeltaFile> useful;
  const auto add = [&](const v1::VersionManifest& manifest) {
    for (const v1::Delta& delta : manifest.deltas()) {
      useful[RootOf(delta.content())] = {
          .version = *Digest::FromBytes(manifest.digest()),
          .size = delta.content().size_bytes()};
    }
  };
  for (const auto& [digest, entry] : entries) {
    if (IsNewest(entry.manifest)) add(entry.manifest);
  }
  for (const auto& [digest, manifest] : partials) {
    if (options.use_deltas) add(manifest);
  }
  for (const std::string& name : names) {
    if (const auto root = DigestOf(name, kDeltaPartial); root.has_value()) {
      const auto found = useful.find(*root);
      if (found != useful.end() && !entries.contains(found->second.version)) {
        continue;
      }
      RemovePartial(absl::StrCat(dir, "/", name));
    } else if (const auto root = DigestOf(name, kDelta); root.has_value()) {
      if (useful.contains(*root)) {
        deltas[*root] = useful[*root];
      } else {
        RemoveDelta(*root);
      }
    }
  }
}

// What this process, or an earlier one, has written: the signature was checked
// then, and may have expired since.
absl::StatusOr<v1::VersionManifest> VersionCache::State::ReadManifest(
    const Digest& digest) const {
  const std::string path = PathOf(digest, kManifest);
  const auto bytes = ReadFile(env, path, kMaxManifestBytes);
  if (absl::IsResourceExhausted(bytes.status())) {
    // One that is too long is none; anything else passes.
    ABSL_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(env, path));
    if (size > kMaxManifestBytes) {
      return absl::DataLossError(bytes.status().message());
    }
  }
  ABSL_RETURN_IF_ERROR(bytes.status());
  v1::Signed envelope;
  v1::VersionManifest manifest;
  if (!envelope.ParseFromString(*bytes) ||
      !manifest.ParseFromString(envelope.body()) ||
      manifest.digest() != digest.ToBytes()) {
    return absl::DataLossError(absl::StrCat(path, ": not its manifest"));
  }
  ABSL_RETURN_IF_ERROR(CheckContent(manifest.content()));
  for (const v1::Delta& delta : manifest.deltas()) {
    ABSL_RETURN_IF_ERROR(CheckContent(delta.content()));
  }
  return manifest;
}

void VersionCache::State::RemoveIfThere(const std::string& path) {
  const absl::Status status = env->Remove(path);
  if (status.ok() || absl::IsNotFound(status)) return;
  LogWarning("cannot remove a file of the cache", {{"reason", status}});
}

void VersionCache::State::RemoveModel(const Digest& digest) {
  for (const char* suffix : {kModel, kLeaves, kManifest}) {
    RemoveIfThere(PathOf(digest, suffix));
  }
}

void VersionCache::State::RemoveDelta(const Digest& root) {
  RemoveIfThere(PathOf(root, kDelta));
  RemoveIfThere(PathOf(root, absl::StrCat(kDelta, kLeaves)));
}

void VersionCache::State::RemovePartial(const Digest& digest,
                                        const v1::VersionManifest& manifest) {
  RemovePartial(PathOf(digest, kPartial));
  for (const v1::Delta& delta : manifest.deltas()) {
    RemovePartial(PathOf(RootOf(delta.content()), kDeltaPartial));
  }
  if (!entries.contains(digest)) RemoveIfThere(PathOf(digest, kManifest));
}

void VersionCache::State::RemovePartial(const std::string& path) {
  RemoveIfThere(path + ".pieces");  // first: nothing else is believed without
  RemoveIfThere(path + kLeaves);
  RemoveIfThere(path);
}

}  // namespace koinon::dht
