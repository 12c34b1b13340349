#include "coordinator/distribution/own_node.h"

#include <gtest/gtest.h>

namespace koinon::coordinator {
namespace {

TEST(OwnAddress, Configured_IsTold) {
  EXPECT_EQ(OwnAddress("fl.lab:7070", "0.0.0.0", 1), "fl.lab:7070");
}

TEST(OwnAddress, WhatIsListenedOn_IsToldWithThePortInUse) {
  EXPECT_EQ(OwnAddress("", "127.0.0.1", 4711), "127.0.0.1:4711");
  EXPECT_EQ(OwnAddress("", "fl.lab", 4711), "fl.lab:4711");
  EXPECT_EQ(OwnAddress("", "::1", 4711), "[::1]:4711");
}

TEST(OwnAddress, WhatOthersDoNotTake_IsNotTold) {
  for (const char* host : {"", "0.0.0.0", "::", "0::0", "fe80::1%eth0",
                           "h\xc3\xb6henweg.example"}) {
    EXPECT_EQ(OwnAddress("", host, 4711), "") << host;
  }
}

}  // namespace
}  // namespace koinon::coordinator
