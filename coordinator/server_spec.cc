#include "coordinator/server_spec.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/acceptor.h"
#include "base/ids.h"
#include "base/signing.h"
#include "base/status_macros.h"
#include "coordinator/server.h"
#include "dht/key.h"
#include "dht/swarm/merkle.h"

namespace koinon::coordinator {
namespace {

absl::Status CheckAddress(absl::string_view flag, const std::string& address) {
  const auto parsed = ParseHostPort(address);
  if (parsed.ok() && parsed->second > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is '", address,
                   "', expected HOST:PORT of a node that can be reached"));
}

absl::Status CheckRecoverSigner(const Server::Spec& spec) {
  if (spec.recover_signer.empty()) return absl::OkStatus();
  if (spec.recover.empty() || !spec.insecure) {
    return absl::InvalidArgumentError(
        "--recover-signer is for --recover with --insecure: over TLS "
        "certificates say who may sign");
  }
  const auto key = PublicKey::FromHex(spec.recover_signer);
  if (key.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--recover-signer: ", key.status().message()));
}

absl::Status CheckDistribution(const Server::Spec& spec) {
  constexpr absl::Duration kDay = absl::Hours(24);
  constexpr int64_t kMostDays = 3'650;
  if (spec.manifest_lifetime < kDay ||
      spec.manifest_lifetime > kMostDays * kDay) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--manifest-days is ", absl::FDivDuration(spec.manifest_lifetime, kDay),
        ", expected 1 to ", kMostDays));
  }
  if (!spec.peer_address.empty()) {
    // What others refuse in a contact is to be known before they do.
    const absl::Status status = dht::ValidateAdvertised(spec.peer_address);
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--peer-address ", spec.peer_address, ": ", status.message()));
    }
  }
  for (const std::string& address : spec.bootstrap) {
    ABSL_RETURN_IF_ERROR(CheckAddress("bootstrap", address));
  }
  for (const std::string& job : spec.recover) {
    ABSL_RETURN_IF_ERROR(ValidateId("--recover", job));
  }
  if (!spec.recover.empty() && spec.bootstrap.empty()) {
    return absl::InvalidArgumentError(
        "--recover needs --bootstrap: a node that knows the job");
  }
  return CheckRecoverSigner(spec);
}

}  // namespace

// INVALID_ARGUMENT for a name that is none, or is not this processor's.
absl::StatusOr<aggregation::InstructionSet> ParseInstructionSet(
    const std::string& name) {
  auto set = aggregation::InstructionSetFromName(name);
  if (set.ok()) set = aggregation::ResolveInstructionSet(*set);
  if (set.ok()) return set;
  return absl::InvalidArgumentError(
      absl::StrCat("--instruction-set: ", set.status().message()));
}

absl::Status Server::Spec::Validate() const {
  // Beyond it, sums of such bounds would not be numbers any more.
  constexpr int64_t kMost = int64_t{1} << 50;
  const auto positive = [kMost](absl::string_view flag, int64_t value) {
    if (value > 0 && value <= kMost) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, " is ", value, ", expected 1 to ", kMost));
  };
  constexpr int kMostThreads = 1024;
  constexpr size_t kMostStreams = 1 << 20;
  if (threads > kMostThreads) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--threads is ", threads, ", expected at most ", kMostThreads));
  }
  if (max_streams_per_connection > kMostStreams) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--max-streams-per-connection is ", max_streams_per_connection,
        ", expected at most ", kMostStreams));
  }
  ABSL_ASSIGN_OR_RETURN(const auto address, ParseHostPort(listen));
  ABSL_RETURN_IF_ERROR(ValidateId("--federation", federation));
  if (state_dir.empty()) {
    return absl::InvalidArgumentError("--state-dir is required");
  }
  if (tls.empty() && !insecure) {
    return absl::InvalidArgumentError(
        "--tls-cert, --tls-key and --tls-ca are required (koinon certs makes "
        "them); plaintext has to be asked for with --insecure");
  }
  if (!tls.empty() && insecure) {
    return absl::InvalidArgumentError(
        "--insecure contradicts --tls-cert, --tls-key and --tls-ca");
  }
  for (const auto& [flag, value] : std::vector<std::pair<const char*, int64_t>>{
           {"max-connections", static_cast<int64_t>(max_connections)},
           {"max-streams-per-connection",
            static_cast<int64_t>(max_streams_per_connection)},
           {"max-workers", static_cast<int64_t>(max_workers)},
           {"max-jobs", static_cast<int64_t>(max_jobs)},
           {"max-watchers", static_cast<int64_t>(max_watchers)},
           {"max-model-bytes", max_model_bytes},
           {"max-spool-bytes", static_cast<int64_t>(max_spool_bytes)},
           {"upload-window-bytes", static_cast<int64_t>(upload_window_bytes)},
           {"threads", threads}}) {
    ABSL_RETURN_IF_ERROR(positive(flag, value));
  }
  // Workers could not fetch it.
  if (max_model_bytes > dht::kMaxContentBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-model-bytes is ", max_model_bytes,
                     ", expected at most ", dht::kMaxContentBytes));
  }
  ABSL_RETURN_IF_ERROR(ParseInstructionSet(instruction_set).status());
  constexpr int64_t kMinChunk = 4 << 10, kMaxChunk = 16 << 20;
  if (chunk_bytes < kMinChunk || chunk_bytes > kMaxChunk) {
    return absl::InvalidArgumentError(
        absl::StrCat("--chunk-bytes is ", chunk_bytes, ", expected ", kMinChunk,
                     " to ", kMaxChunk));
  }
  for (const auto& [flag, value] : std::vector<std::pair<const char*, int64_t>>{
           {"keep-versions", keep_versions},
           {"keep-every", keep_every},
           {"delta-min-bytes", delta_min_bytes}}) {
    if (value < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, " is ", value, ", expected at least 0"));
    }
  }
  ABSL_RETURN_IF_ERROR(CheckDistribution(*this));
  constexpr absl::Duration kLongest = absl::Hours(24);
  for (const auto& [flag, value] :
       std::vector<std::pair<const char*, absl::Duration>>{
           {"lease-seconds", lease},
           {"handshake-seconds", handshake_timeout},
           {"upload-patience-seconds", upload_patience}}) {
    if (value <= absl::ZeroDuration() || value > kLongest) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, " is ", absl::ToDoubleSeconds(value),
                       ", expected more than 0 and at most ",
                       absl::ToDoubleSeconds(kLongest)));
    }
  }
  if (drain_patience < absl::ZeroDuration() || drain_patience > kLongest) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--drain-seconds is ", absl::ToDoubleSeconds(drain_patience),
        ", expected 0 to ", absl::ToDoubleSeconds(kLongest)));
  }
  return absl::OkStatus();
}

}  // namespace koinon::coordinator
