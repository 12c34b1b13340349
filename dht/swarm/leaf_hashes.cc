#include "dht/swarm/leaf_hashes.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

// Without the names of its older interface, which are also OpenSSL's.
#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>

#include "absl/strings/string_view.h"
#include "base/check.h"

namespace koinon::dht {
namespace {

// Fewer leave most lanes empty: one after the other, with the processor's
// instructions for SHA-256, is as fast.
constexpr size_t kLeastJobs = 8;

struct FreeManager {
  void operator()(IMB_MGR* manager) const { free_mb_mgr(manager); }
};
using Manager = std::unique_ptr<IMB_MGR, FreeManager>;

// Chooses the widest instructions that the processor has.
Manager NewManager() {
  Manager manager(alloc_mb_mgr(0));
  if (manager == nullptr) throw std::bad_alloc();
  init_mb_mgr_auto(manager.get(), nullptr);
  return manager;
}

void Submit(absl::Span<const uint8_t> leaf, uint8_t* hash, IMB_MGR* manager) {
  IMB_JOB* const job = IMB_GET_NEXT_JOB(manager);
  *job = {};
  job->cipher_mode = IMB_CIPHER_NULL;
  job->cipher_direction = IMB_DIR_ENCRYPT;
  job->chain_order = IMB_ORDER_HASH_CIPHER;
  job->hash_alg = IMB_AUTH_SHA_256;
  job->src = leaf.data();
  job->msg_len_to_hash_in_bytes = leaf.size();
  job->auth_tag_output = hash;
  job->auth_tag_output_len_in_bytes = Digest::kSizeBytes;
  IMB_SUBMIT_JOB(manager);
  KOINON_CHECK(imb_get_errno(manager) == 0);
}

std::vector<absl::Span<const uint8_t>> LeavesOf(
    absl::Span<const uint8_t> bytes) {
  std::vector<absl::Span<const uint8_t>> leaves;
  leaves.reserve(bytes.size() / kLeafBytes + 1);
  for (; !bytes.empty(); bytes.remove_prefix(leaves.back().size())) {
    leaves.push_back(bytes.subspan(0, kLeafBytes));
  }
  return leaves;
}

}  // namespace

Digest LeafHash(absl::Span<const uint8_t> leaf) {
  thread_local Sha256 sha;  // a new context costs much beside one leaf
  sha.Update(leaf.data(), leaf.size());
  return sha.Finish();
}

std::vector<Digest> LeafHashes(absl::Span<const uint8_t> bytes) {
  const auto leaves = LeavesOf(bytes);
  std::vector<Digest> hashes;
  hashes.reserve(leaves.size());
  if (leaves.size() < kLeastJobs) {
    for (const auto leaf : leaves) hashes.push_back(LeafHash(leaf));
    return hashes;
  }
  thread_local const Manager manager = NewManager();
  std::vector<uint8_t> found(leaves.size() * Digest::kSizeBytes);
  for (size_t i = 0; i < leaves.size(); ++i) {
    Submit(leaves[i], found.data() + i * Digest::kSizeBytes, manager.get());
  }
  while (IMB_FLUSH_JOB(manager.get()) != nullptr) {
  }
  for (size_t i = 0; i < leaves.size(); ++i) {
    hashes.push_back(*Digest::FromBytes(absl::string_view(
        reinterpret_cast<const char*>(found.data()) + i * Digest::kSizeBytes,
        Digest::kSizeBytes)));
  }
  return hashes;
}

}  // namespace koinon::dht
