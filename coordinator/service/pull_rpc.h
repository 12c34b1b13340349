#ifndef KOINON_COORDINATOR_SERVICE_PULL_RPC_H_
#define KOINON_COORDINATOR_SERVICE_PULL_RPC_H_

#include "absl/status/status.h"
#include "coordinator/models/catalog.h"
#include "coordinator/service/model_chunks.h"
#include "grpcpp/grpcpp.h"

namespace koinon::coordinator {

// PullModel of both services: the manifest, then the version's chunks from the
// requested offset. Works on serialised messages, because the chunks are shared
// between streams. `allowed`: what the access policy says. The reactor deletes
// itself when the stream is over.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartPull(
    const ModelCatalog* catalog, ModelChunks* chunks,
    const absl::Status& allowed, const grpc::ByteBuffer& request);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVICE_PULL_RPC_H_
