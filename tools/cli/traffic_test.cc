#include "tools/cli/traffic.h"

#include <gtest/gtest.h>

namespace koinon::cli {
namespace {

TEST(DescribeTraffic, Nothing_IsSaidPlainly) {
  EXPECT_EQ(DescribeTraffic({}), "0 B from peers, 0 B from the coordinator");
}

TEST(DescribeTraffic, BothSources_HaveAShare) {
  v1::SwarmTraffic traffic;
  traffic.set_from_peers(3 << 20);
  traffic.set_from_origin(1 << 20);
  EXPECT_EQ(DescribeTraffic(traffic),
            "3.0 MiB from peers, 1.0 MiB from the coordinator (75.0 % from "
            "peers)");
}

TEST(DescribeTraffic, WastedBytes_AreNotHidden) {
  v1::SwarmTraffic traffic;
  traffic.set_from_peers(2048);
  traffic.set_wasted(1024);
  EXPECT_EQ(DescribeTraffic(traffic),
            "2.0 KiB from peers, 0 B from the coordinator, 1.0 KiB wasted");
}

}  // namespace
}  // namespace koinon::cli
