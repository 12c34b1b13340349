#ifndef KOINON_WORKER_DATA_TOKEN_WINDOWS_H_
#define KOINON_WORKER_DATA_TOKEN_WINDOWS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/data/tokens.h"

namespace koinon::worker {

// Examples for models of sequences: windows on one run of a text's tokens. Each
// example is `context` successive tokens, its labels the tokens that follow
// each of them; the next example starts `stride` tokens later. Takes no memory
// for examples, however many there are. A value; thread-safe while nobody
// changes it.
struct TokenWindows {
  // Whose run this is. Shared with the other runs of the same text (another
  // site's, the held-out part): it may be a mapped file. Null: no windows.
  std::shared_ptr<const Tokens> tokens;
  uint64_t begin = 0;  // of the run, in tokens
  uint64_t end = 0;
  int64_t context = 0;     // >= 1
  int64_t stride = 0;      // >= 1
  int64_t vocabulary = 0;  // tokens are below it; 0: nobody has looked

  // Examples: all that lie in the run with their last label.
  size_t size() const;
  // inputs, labels: [context]. Requires index < size() and tokens that
  // Tokens::Check found whole.
  void Copy(size_t index, absl::Span<float> inputs,
            absl::Span<int32_t> labels) const;
  // A hint that Copy(index) is called soon. Requires index < size().
  void WillCopy(size_t index) const;

  // The run of one site of `sites`: runs of the same length, give or take one
  // token, in order. INVALID_ARGUMENT for a site that would have no example.
  absl::StatusOr<TokenWindows> Share(int64_t sites, int64_t site) const;

  // The run without its last tokens, `fraction` of them, and these, whose
  // examples do not overlap (stride = context): no example of the one holds a
  // token of the other. INVALID_ARGUMENT if either would have no example,
  // unless fraction is 0: then the second is empty. Requires 0 <= fraction < 1.
  absl::StatusOr<std::pair<TokenWindows, TokenWindows>> HoldOutTail(
      double fraction) const;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_TOKEN_WINDOWS_H_
