#ifndef KOINON_TOOLS_CLI_SWARM_PULL_H_
#define KOINON_TOOLS_CLI_SWARM_PULL_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/env.h"
#include "dht/peer.h"
#include "proto/model.pb.h"
#include "tools/cli/manifest_signer.h"
#include "tools/cli/pull.h"

namespace koinon::cli {

// A model version out of the DHT and from whichever nodes have it, without the
// coordinator: its manifest by the records head/JOB or version/JOB/VERSION, the
// signature checked, then its pieces, each verified on arrival.

struct FoundVersion {
  OpenedManifest opened;
  // The newest that the DHT knows of the job, if no version was asked for: the
  // coordinator may have published another since.
  bool newest = false;
};
// NOT_FOUND: the DHT knows no such version, or what it has is refused, which it
// says. FAILED_PRECONDITION, naming the keys: in plaintext several have signed
// which it is, and trust.signer is none of them. RejectedErrors for a manifest
// that does not verify, is of another version, or in plaintext of another key
// than the record that names it.
absl::StatusOr<FoundVersion> FindVersion(dht::Peer* peer, const ModelRef& model,
                                         const SignerTrust& trust,
                                         absl::Time now);

// Fetches it into `path`, which appears, whole and durable, only at the end;
// what has arrived is kept in `path`.partial and what belongs to it, and a
// later call goes on there. The bytes from whom. NOT_FOUND if no node that can
// be asked has the version; otherwise as dht::SwarmFetch; RESOURCE_EXHAUSTED if
// it is larger than `max_bytes`.
absl::StatusOr<v1::SwarmTraffic> PullFromSwarm(
    Env* env, dht::Peer* peer, const v1::VersionManifest& manifest,
    const std::string& path, int64_t max_bytes, const PullProgress& progress);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_SWARM_PULL_H_
