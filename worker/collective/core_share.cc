#include "worker/collective/core_share.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace koinon::worker {

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

double ShareOfCores(absl::Span<const int> own,
                    const std::vector<std::vector<int>>& neighbours) {
  std::map<int, int> users;
  for (const auto& cores : neighbours) {
    for (const int core : cores) ++users[core];
  }
  double share = 0;
  for (const int core : own) share += 1.0 / std::max(1, users[core]);
  // Three thirds are one, whatever the rounding of each.
  return std::round(share * 1e6) / 1e6;
}

int ThreadsOn(double cores) { return std::max(1, static_cast<int>(cores)); }

std::string EncodeCores(absl::Span<const int> cores) {
  std::string mask(kCoreMaskBytes, '\0');
  for (const int core : cores) {
    const auto byte = static_cast<size_t>(core) / 8;
    if (byte >= kCoreMaskBytes) continue;
    mask[byte] = static_cast<char>(mask[byte] | (1 << (core % 8)));
  }
  return mask;
}

std::vector<int> DecodeCores(absl::string_view mask) {
  std::vector<int> cores;
  for (size_t byte = 0; byte < mask.size(); ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      if ((mask[byte] >> bit) & 1) {
        cores.push_back(static_cast<int>(byte) * 8 + bit);
      }
    }
  }
  return cores;
}

}  // namespace koinon::worker
