#ifndef KOINON_DHT_SWARM_HASH_LIST_H_
#define KOINON_DHT_SWARM_HASH_LIST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/digest.h"

namespace koinon::dht {

// Hashes in order, as messages and files carry them: 32 bytes each, nothing
// else.
std::string EncodeHashes(absl::Span<const Digest> hashes);
// DATA_LOSS, saying how many bytes there are, unless they are whole hashes.
absl::StatusOr<std::vector<Digest>> DecodeHashes(absl::string_view bytes);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_HASH_LIST_H_
