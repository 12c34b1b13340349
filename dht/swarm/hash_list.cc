#include "dht/swarm/hash_list.h"

#include <cstddef>

#include "absl/strings/str_cat.h"

namespace koinon::dht {

std::string EncodeHashes(absl::Span<const Digest> hashes) {
  std::string bytes;
  bytes.reserve(hashes.size() * Digest::kSizeBytes);
  for (const Digest& hash : hashes) {
    bytes.append(reinterpret_cast<const char*>(hash.bytes().data()),
                 Digest::kSizeBytes);
  }
  return bytes;
}

absl::StatusOr<std::vector<Digest>> DecodeHashes(absl::string_view bytes) {
  if (bytes.size() % Digest::kSizeBytes != 0) {
    return absl::DataLossError(absl::StrCat("hashes of ", Digest::kSizeBytes,
                                            " bytes each expected, found ",
                                            bytes.size(), " bytes"));
  }
  std::vector<Digest> hashes;
  hashes.reserve(bytes.size() / Digest::kSizeBytes);
  for (size_t at = 0; at < bytes.size(); at += Digest::kSizeBytes) {
    hashes.push_back(*Digest::FromBytes(bytes.substr(at, Digest::kSizeBytes)));
  }
  return hashes;
}

}  // namespace koinon::dht
