#ifndef KOINON_DHT_SWARM_DELTA_H_
#define KOINON_DHT_SWARM_DELTA_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/env.h"

namespace koinon::dht {

// A version as its difference to another of the same size: XOR, the bytes of
// each four put into planes, zstd, in blocks that stand alone
// (docs/formats/delta.md). Memory: a few blocks, whatever the model.

// Writes the delta that turns `from` into `to` to `out`, from offset 0, and
// returns its size; the same bytes for the same files. nullopt if it would be
// larger than `max_bytes`: what has been written is of no use then.
// INVALID_ARGUMENT if the sizes differ; otherwise the files' errors.
absl::StatusOr<std::optional<int64_t>> WriteDelta(const File& from,
                                                  const File& to, File* out,
                                                  int64_t max_bytes);

// Rebuilds `to` from `from` and the delta, in order, calling `write` with up to
// a block at a time. The result is not to be trusted before it is compared with
// what it should be. DATA_LOSS for a delta that is none, or that is not for a
// file of `size_bytes`; nothing is allocated on its word.
absl::Status ApplyDelta(
    const File& from, const File& delta, int64_t delta_bytes,
    int64_t size_bytes,
    const std::function<absl::Status(absl::Span<const uint8_t>)>& write);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_DELTA_H_
