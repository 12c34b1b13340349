#include "coordinator/service/pull_rpc.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "coordinator/service/identity.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "grpcpp/support/slice.h"
#include "proto/worker.pb.h"

namespace koinon::coordinator {
namespace {

// Steps: 1. find the version; 2. write its manifest; 3. write chunk after
// chunk, each when the last is on its way; 4. Finish.
class Pull final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  Pull(const ModelCatalog* catalog, ModelChunks* chunks)
      : catalog_(catalog), chunks_(chunks) {}

  void Begin(const absl::Status& allowed, const grpc::ByteBuffer& request) {
    absl::Status status = allowed;
    if (status.ok()) status = Prepare(request);
    if (!status.ok()) return Finish(ToGrpcStatus(status));
    v1::PullModelReply first;
    *first.mutable_manifest() = *manifest_;
    const grpc::Slice slice(first.SerializeAsString());
    message_ = grpc::ByteBuffer(&slice, 1);
    StartWrite(&message_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    if (next_chunk_ >= manifest_->chunk_digests_size()) {
      return Finish(grpc::Status::OK);
    }
    auto chunk = chunks_->Get(*manifest_, next_chunk_);
    if (!chunk.ok()) return Finish(ToGrpcStatus(chunk.status()));
    ++next_chunk_;
    message_ = *std::move(chunk);
    StartWrite(&message_);
  }

  void OnDone() override { delete this; }

 private:
  absl::Status Prepare(const grpc::ByteBuffer& request) {
    grpc::ByteBuffer bytes = request;
    grpc::ProtoBufferReader reader(&bytes);
    v1::PullModelRequest pull;
    if (!pull.ParseFromZeroCopyStream(&reader)) {
      return absl::InvalidArgumentError("not a PullModelRequest");
    }
    ABSL_ASSIGN_OR_RETURN(manifest_,
                          catalog_->Find(pull.job(), pull.version()));
    if (pull.offset() < 0 || pull.offset() > manifest_->size_bytes() ||
        pull.offset() % manifest_->chunk_size_bytes() != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "offset ", pull.offset(), ": expected a multiple of ",
          manifest_->chunk_size_bytes(), " up to ", manifest_->size_bytes()));
    }
    next_chunk_ = pull.offset() / manifest_->chunk_size_bytes();
    return absl::OkStatus();
  }

  const ModelCatalog* const catalog_;
  ModelChunks* const chunks_;
  std::shared_ptr<const v1::ModelManifest> manifest_;  // and the catalog's
  int64_t next_chunk_ = 0;
  grpc::ByteBuffer message_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartPull(
    const ModelCatalog* catalog, ModelChunks* chunks,
    const absl::Status& allowed, const grpc::ByteBuffer& request) {
  auto* reactor = new Pull(catalog, chunks);
  reactor->Begin(allowed, request);
  return reactor;
}

}  // namespace koinon::coordinator
