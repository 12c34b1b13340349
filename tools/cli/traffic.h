#ifndef KOINON_TOOLS_CLI_TRAFFIC_H_
#define KOINON_TOOLS_CLI_TRAFFIC_H_

#include <string>

#include "proto/model.pb.h"

namespace koinon::cli {

// "12.5 MiB from peers, 3.1 MiB from the coordinator (80.1 % from peers)", and
// what was thrown away, if anything was. Pure.
std::string DescribeTraffic(const v1::SwarmTraffic& traffic);

void AddTraffic(const v1::SwarmTraffic& more, v1::SwarmTraffic* total);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_TRAFFIC_H_
