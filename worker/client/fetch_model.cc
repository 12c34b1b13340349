#include "worker/client/fetch_model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "worker/store/model_download.h"

namespace koinon::worker {
namespace {

// Pulls of one fetch that end in damaged bytes before it is given up.
constexpr int kMaxDamagedPulls = 3;

// A peer's or the network's failure in the machine's terms: what may pass is
// UNAVAILABLE. The peer's RESOURCE_EXHAUSTED is not this disk's.
absl::Status FromPeer(const absl::Status& status, const Cancellation& cancel) {
  if (cancel.cancelled()) return absl::CancelledError("cancelled");
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kAborted:
      return absl::UnavailableError(
          absl::StrCat("pull: ", absl::StatusCodeToString(status.code()), ": ",
                       status.message()));
    default:
      return absl::Status(status.code(),
                          absl::StrCat("pull: ", status.message()));
  }
}

// One call, from where the download stands.
absl::Status PullOnce(const v1::OfferTask& offer, CoordinatorClient* client,
                      ModelDownload* download, Cancellation* cancellation) {
  v1::PullModelRequest request;
  request.set_job(offer.task().job());
  request.set_version(offer.base_version());
  request.set_offset(download->offset());
  absl::Status sunk;
  const auto sink = [&](const v1::PullModelReply& reply) {
    sunk = reply.has_manifest() ? download->OnManifest(reply.manifest())
                                : download->OnChunk(reply.chunk());
    return sunk;
  };
  download->Rewind();
  const absl::Status status = client->PullModel(request, sink, cancellation);
  if (!sunk.ok()) return sunk;
  if (!status.ok()) return FromPeer(status, *cancellation);
  if (download->complete()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("pull: the stream ended early, at ", download->offset()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelCache::Lease>> FetchModelFor(
    const v1::OfferTask& offer, CoordinatorClient* client, Env* env,
    ModelCache* cache, const FetchBounds& bounds, Cancellation* cancellation) {
  ModelDownload::Spec spec;
  ABSL_ASSIGN_OR_RETURN(spec.digest, Digest::FromBytes(offer.base_digest()));
  if (auto lease = cache->Find(spec.digest); lease != nullptr) return lease;
  spec.layout_hash = offer.layout_hash();
  spec.max_model_bytes = bounds.max_model_bytes;
  spec.max_chunk_bytes = bounds.max_chunk_bytes;
  const Digest digest = spec.digest;
  const auto download =
      ModelDownload::Start(env, cache->PartialPath(digest),
                           cache->ManifestPath(digest), std::move(spec));
  int damaged = 0;
  while (!download->complete()) {
    const absl::Status status =
        PullOnce(offer, client, download.get(), cancellation);
    if (status.ok()) break;
    const bool again = absl::IsDataLoss(status) || absl::IsAborted(status);
    if (!again || ++damaged == kMaxDamagedPulls) return status;
    LogWarning("model arrived damaged and is pulled again",
               {{"job", offer.task().job()}, {"reason", status}});
  }
  ABSL_RETURN_IF_ERROR(download->Finish());
  return cache->Adopt(digest);
}

}  // namespace koinon::worker
