#include "tools/cli/traffic.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/cli/text.h"

namespace koinon::cli {

std::string DescribeTraffic(const v1::SwarmTraffic& traffic) {
  const int64_t peers = traffic.from_peers();
  const int64_t origin = traffic.from_origin();
  std::string text = absl::StrCat(FormatBytes(peers), " from peers, ",
                                  FormatBytes(origin), " from the coordinator");
  if (peers > 0 && origin > 0) {
    absl::StrAppendFormat(
        &text, " (%.1f %% from peers)",
        100 * static_cast<double>(peers) /
            (static_cast<double>(peers) + static_cast<double>(origin)));
  }
  if (traffic.wasted() > 0) {
    absl::StrAppend(&text, ", ", FormatBytes(traffic.wasted()), " wasted");
  }
  return text;
}

void AddTraffic(const v1::SwarmTraffic& more, v1::SwarmTraffic* total) {
  total->set_from_peers(total->from_peers() + more.from_peers());
  total->set_from_origin(total->from_origin() + more.from_origin());
  total->set_to_peers(total->to_peers() + more.to_peers());
  total->set_wasted(total->wasted() + more.wasted());
}

}  // namespace koinon::cli
