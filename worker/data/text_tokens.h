#ifndef KOINON_WORKER_DATA_TEXT_TOKENS_H_
#define KOINON_WORKER_DATA_TEXT_TOKENS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/data/dataset.pb.h"

namespace koinon::worker {

// A text, token by token.
struct TextTokens {
  std::vector<uint16_t> values;  // each below `vocabulary`
  int64_t vocabulary = 0;
};

// Turns a text into bytes or characters as `source` says. INVALID_ARGUMENT for
// bytes that are no UTF-8 (characters only) or outside the alphabet, with their
// offset, and for an alphabet with a character twice or more of them than
// uint16 holds; RESOURCE_EXHAUSTED if the tokens take more than `max_bytes`.
absl::StatusOr<TextTokens> DecodeTextTokens(absl::string_view what,
                                            absl::string_view bytes,
                                            const TextSource& source,
                                            uint64_t max_bytes);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_TEXT_TOKENS_H_
