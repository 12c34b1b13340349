#ifndef KOINON_DHT_SWARM_REPLY_BYTES_H_
#define KOINON_DHT_SWARM_REPLY_BYTES_H_

#include <memory>
#include <string>

#include "dht/swarm/spare_blocks.h"
#include "grpcpp/support/byte_buffer.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// Replies of Fetch as gRPC carries them. The bytes are those of protobuf; but a
// block's data, nearly all of what is moved, is neither copied when it is sent
// nor given memory of its own each time that some arrives.

// The bytes that `reply` serialises to. A block's data is taken out of it, and
// given to `spare` once gRPC is done with it.
grpc::ByteBuffer EncodeReply(v1::FetchReply* reply,
                             const std::shared_ptr<SpareBlocks>& spare);

// As ParseFromString; false if the bytes are no reply. What `reply` was before
// does not matter: the data of a block that it had is kept in `spare`, whose
// memory that of the next one takes. Allocates no more than the bytes are long.
bool DecodeReply(grpc::ByteBuffer* bytes, std::string* spare,
                 v1::FetchReply* reply);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_REPLY_BYTES_H_
