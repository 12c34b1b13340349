#ifndef KOINON_TOOLS_CLI_PULL_H_
#define KOINON_TOOLS_CLI_PULL_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/env.h"
#include "proto/client.pb.h"

namespace koinon::cli {

// "JOB" or "JOB@VERSION"; without a version, the newest (-1).
struct ModelRef {
  std::string job;
  int64_t version = -1;
};
// INVALID_ARGUMENT for anything else.
absl::StatusOr<ModelRef> ParseModelRef(absl::string_view text);

// Whoever sends a model version: Client::PullModel, or a test.
using ModelSource = std::function<absl::Status(
    const v1::PullModelRequest&,
    const std::function<bool(const v1::PullModelReply&)>&)>;

// done_bytes of total_bytes are verified and in the file.
using PullProgress =
    std::function<void(int64_t done_bytes, int64_t total_bytes)>;

// Whether the manifest that the source sends first is to be believed; what it
// says against it ends the pull before any byte is kept.
using ManifestCheck = std::function<absl::Status(const v1::ModelManifest&)>;

// Fetches a model version into the file `path`, verifying every chunk and then
// the whole against the manifest, with one chunk in memory.
//
// What has arrived is kept in `path`.partial: a later call checks it and goes
// on after its last good chunk, for the same version or any other that starts
// with the same bytes. A stream that breaks off is taken up again where it
// stopped, as long as each attempt brings at least one chunk. `path` appears,
// whole and durable, only at the end.
//
// DATA_LOSS if bytes are not what the manifest says (which chunk); the source's
// and the check's errors; RESOURCE_EXHAUSTED if the model is larger than
// `max_bytes`.
absl::StatusOr<v1::ModelManifest> PullModelToFile(
    Env* env, const ModelSource& source, const ModelRef& model,
    const std::string& path, int64_t max_bytes, const PullProgress& progress,
    const ManifestCheck& check);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_PULL_H_
