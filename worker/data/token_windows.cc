#include "worker/data/token_windows.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace koinon::worker {

size_t TokenWindows::size() const {
  const uint64_t length = end - begin;
  const uint64_t window = static_cast<uint64_t>(context) + 1;
  if (tokens == nullptr || length < window) return 0;
  return (length - window) / static_cast<uint64_t>(stride) + 1;
}

void TokenWindows::Copy(size_t index, absl::Span<float> inputs,
                        absl::Span<int32_t> labels) const {
  const uint16_t* window =
      tokens->values().data() + begin + index * static_cast<uint64_t>(stride);
  for (int64_t i = 0; i < context; ++i) {
    inputs[i] = window[i];
    labels[i] = window[i + 1];
  }
}

void TokenWindows::WillCopy(size_t index) const {
  tokens->WillRead(begin + index * static_cast<uint64_t>(stride),
                   static_cast<uint64_t>(context) + 1);
}

absl::StatusOr<TokenWindows> TokenWindows::Share(int64_t sites,
                                                 int64_t site) const {
  // In parts, for the product of a length and a site may be too large.
  const uint64_t each = (end - begin) / static_cast<uint64_t>(sites);
  const uint64_t rest = (end - begin) % static_cast<uint64_t>(sites);
  const auto edge = [&](uint64_t index) {
    return begin + each * index + std::min(index, rest);
  };
  TokenWindows share = *this;
  share.begin = edge(static_cast<uint64_t>(site));
  share.end = edge(static_cast<uint64_t>(site) + 1);
  if (share.size() > 0) return share;
  return absl::InvalidArgumentError(absl::StrFormat(
      "partition.sites: expected at least %d tokens for each site (a context "
      "and one more), found %d tokens for %d sites",
      context + 1, end - begin, sites));
}

absl::StatusOr<std::pair<TokenWindows, TokenWindows>> TokenWindows::HoldOutTail(
    double fraction) const {
  const auto held_out = static_cast<uint64_t>(
      std::llround(fraction * static_cast<double>(end - begin)));
  TokenWindows head = *this;
  TokenWindows tail = *this;
  head.end = tail.begin = end - held_out;
  tail.stride = context;
  if (fraction == 0) tail = TokenWindows();
  if (head.size() > 0 && (fraction == 0 || tail.size() > 0)) {
    return std::pair(std::move(head), std::move(tail));
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("held_out_fraction: expected at least %d tokens on "
                      "either side (a context "
                      "and one more), found %d to train on and %d held out",
                      context + 1, end - begin - held_out, held_out));
}

}  // namespace koinon::worker
