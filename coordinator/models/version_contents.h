#ifndef KOINON_COORDINATOR_MODELS_VERSION_CONTENTS_H_
#define KOINON_COORDINATOR_MODELS_VERSION_CONTENTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "coordinator/models/model_store.h"
#include "dht/swarm/content_file.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// A store's versions as contents that others fetch piece by piece: their
// files, and the deltas between two. Blocks only: memory does not grow with the
// model, but for 2 bytes a KiB of hashes. Thread-safe for different versions.

// The version's file, to be served. Hashes that are lost or damaged are made
// anew from the file. NOT_FOUND without a file; DATA_LOSS if it is not the
// content.
absl::StatusOr<std::shared_ptr<dht::ContentFile>> OpenVersionContent(
    const ModelStore& store, const v1::ModelManifest& manifest,
    const v1::Content& content);
// As above, of the version's delta.
absl::StatusOr<std::shared_ptr<dht::ContentFile>> OpenDeltaContent(
    const ModelStore& store, const JobId& job, int64_t version,
    const v1::Content& content);

// Writes the delta that leads from one version of a job to another and returns
// what a manifest says of it; nullopt if it would not be smaller than nine
// tenths of the file, or if the versions have different sizes. After a failure,
// as after nullopt, nothing is left.
absl::StatusOr<std::optional<v1::Delta>> WriteVersionDelta(
    const ModelStore& store, const v1::ModelManifest& from,
    const v1::ModelManifest& to);

// The digests and hashes of a file in the store's format.
struct FileHashes {
  Digest digest;
  std::vector<Digest> chunks;  // of the store's chunk size
  v1::Content content;
  std::vector<Digest> leaves;
};
absl::StatusOr<FileHashes> HashFile(const ModelStore& store,
                                    const std::string& path);

// The content of a version that was written without one: by an older Koinon.
// Its hashes are kept beside it. DATA_LOSS if the file is not the manifest's.
absl::StatusOr<v1::Content> MakeContent(const ModelStore& store,
                                        const v1::ModelManifest& manifest);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_MODELS_VERSION_CONTENTS_H_
