#include "worker/collective/core_share.h"

#include <sched.h>

#include <algorithm>
#include <map>

#include "base/status_macros.h"

namespace koinon::worker {
namespace {

// A rank's node and its processors, a bit for each, on the wire. A machine with
// more processors than there is room for has the first ones counted.
constexpr size_t kMaskBytes = 1024;

std::string Encode(int node, const std::vector<int>& cores) {
  std::string encoded(sizeof(node) + kMaskBytes, '\0');
  std::copy_n(reinterpret_cast<const char*>(&node), sizeof(node),
              encoded.data());
  for (const int core : cores) {
    const auto byte = static_cast<size_t>(core) / 8;
    if (byte >= kMaskBytes) continue;
    char& bits = encoded[sizeof(node) + byte];
    bits = static_cast<char>(bits | (1 << (core % 8)));
  }
  return encoded;
}

int NodeOf(const std::string& encoded) {
  int node = -1;
  if (encoded.size() == sizeof(node) + kMaskBytes) {
    std::copy_n(encoded.data(), sizeof(node), reinterpret_cast<char*>(&node));
  }
  return node;
}

std::vector<int> CoresOf(const std::string& encoded) {
  std::vector<int> cores;
  for (size_t byte = sizeof(int); byte < encoded.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      if ((encoded[byte] >> bit) & 1) {
        cores.push_back(static_cast<int>(byte - sizeof(int)) * 8 + bit);
      }
    }
  }
  return cores;
}

}  // namespace

std::vector<int> AllowedCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

int ShareOfCores(absl::Span<const int> own,
                 const std::vector<std::vector<int>>& neighbours) {
  std::map<int, int> users;
  for (const auto& cores : neighbours) {
    for (const int core : cores) ++users[core];
  }
  double share = 0;
  for (const int core : own) share += 1.0 / std::max(1, users[core]);
  // A third of three is one, whatever the rounding.
  return std::max(1, static_cast<int>(share + 1e-6));
}

absl::StatusOr<int> AgreeOnCores(Communicator* communicator) {
  const std::vector<int> own = AllowedCores();
  const int node = communicator->place().node;
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> all,
                        communicator->AllGather(Encode(node, own)));
  std::vector<std::vector<int>> neighbours;
  for (const std::string& one : all) {
    if (NodeOf(one) == node) neighbours.push_back(CoresOf(one));
  }
  return ShareOfCores(own, neighbours);
}

}  // namespace koinon::worker
