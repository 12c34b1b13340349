#include "worker/collective/data_fingerprint.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace koinon::worker {
namespace {

constexpr size_t kSamples = 256;
constexpr size_t kSampleTokens = 2048;

// With its length before it, so that two fields cannot pass for one.
void AddBytes(const void* data, size_t size_bytes, Sha256* hash) {
  hash->Update(absl::StrCat(size_bytes, ":"));
  hash->Update(data, size_bytes);
}

template <typename T>
void AddValues(absl::Span<const T> values, Sha256* hash) {
  AddBytes(values.data(), values.size() * sizeof(T), hash);
}

void AddWindows(const TokenWindows& windows, Sha256* hash) {
  hash->Update(absl::StrCat(windows.begin, " ", windows.end, " ",
                            windows.context, " ", windows.stride, " ",
                            windows.vocabulary, ";"));
  if (windows.tokens == nullptr || !windows.tokens->Check().ok()) return;
  const absl::Span<const uint16_t> tokens = windows.tokens->values().subspan(
      windows.begin, windows.end - windows.begin);
  const size_t pace = std::max(kSampleTokens, tokens.size() / kSamples);
  for (size_t begin = 0; begin < tokens.size(); begin += pace) {
    AddValues(tokens.subspan(begin, kSampleTokens), hash);
  }
}

void AddDataset(const Dataset& data, Sha256* hash) {
  AddValues(absl::MakeConstSpan(data.shape), hash);
  AddValues(absl::MakeConstSpan(data.features), hash);
  AddValues(absl::MakeConstSpan(data.labels), hash);
  AddValues(absl::MakeConstSpan(data.targets), hash);
  AddWindows(data.windows, hash);
}

}  // namespace

Digest DataFingerprint(const LocalDatasets& datasets) {
  Sha256 hash;
  for (const auto& [name, data] : datasets) {
    AddBytes(name.data(), name.size(), &hash);
    AddDataset(data.train, &hash);
    hash.Update(absl::StrCat(data.external ? "external " : "read ",
                             data.examples(), ";"));
  }
  return hash.Finish();
}

Digest DataFingerprint(const Dataset& data) {
  Sha256 hash;
  AddDataset(data, &hash);
  return hash.Finish();
}

}  // namespace koinon::worker
