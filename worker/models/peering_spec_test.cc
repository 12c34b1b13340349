#include "worker/models/peering_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(PeeringSpec_Validate, Nothing_IsAWorkerThatServesNobody) {
  const PeeringSpec spec;
  EXPECT_OK(spec.Validate());
  EXPECT_EQ(spec.AddressFor(7171), "");
}

TEST(PeeringSpec_Validate, EverythingSaid_IsOk) {
  PeeringSpec spec;
  spec.listen = "0.0.0.0:7171";
  spec.address = "ward.example:7171";
  spec.site = "north";
  spec.federation = "koinon";
  spec.bootstrap = {"10.0.0.1:7070", "[::1]:7070"};
  spec.keep_versions = 0;
  spec.keep_every = 10;
  spec.pinned = {"digits@0", "digits@12"};
  EXPECT_OK(spec.Validate());
}

TEST(PeeringSpec_Validate, BadFields_AreNamed) {
  const auto refuse = [](const std::function<void(PeeringSpec&)>& change,
                         const std::string& message) {
    PeeringSpec spec;
    change(spec);
    EXPECT_THAT(spec.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr(message)));
  };
  refuse([](auto& s) { s.listen = "7171"; }, "--peer-listen");
  refuse([](auto& s) { s.listen = "host:99999"; }, "--peer-listen");
  refuse([](auto& s) { s.address = "host:1"; }, "without --peer-listen");
  refuse([](auto& s) { s.listen = "host:1", s.address = "host:0"; },
         "--peer-address");
  refuse([](auto& s) { s.site = "North Wing"; }, "--site");
  refuse([](auto& s) { s.federation = "No Name"; }, "--federation");
  refuse([](auto& s) { s.bootstrap = {"host"}; }, "--bootstrap");
  refuse([](auto& s) { s.bootstrap = {"host:0"}; }, "--bootstrap");
  refuse([](auto& s) { s.bootstrap.assign(65, "host:1"); }, "--bootstrap");
  refuse([](auto& s) { s.keep_versions = -1; }, "--keep-versions");
  refuse([](auto& s) { s.keep_every = -1; }, "--keep-every");
  for (const char* pin :
       {"", "digits", "digits@", "digits@-1", "@1", "A b@1"}) {
    refuse([pin](auto& s) { s.pinned = {pin}; }, "--pin");
  }
}

TEST(PeeringSpec_Validate, WildcardWithoutAnAddress_IsRefused) {
  for (const char* listen : {"0.0.0.0:7171", "[::]:7171"}) {
    PeeringSpec spec;
    spec.listen = listen;
    EXPECT_THAT(spec.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--peer-address")))
        << listen;
    spec.address = "10.0.0.5:7171";
    EXPECT_OK(spec.Validate());
  }
}

TEST(PeeringSpec_Validate, AddressThatOthersRefuse_IsRefusedHere) {
  for (const char* address :
       {"::1:7172", "[fe80::1%eth0]:7172", "h\xc3\xb6henweg.example:7172",
        "0.0.0.0:7171", "[::]:7171"}) {
    PeeringSpec spec;
    spec.listen = "127.0.0.1:7171";
    spec.address = address;
    EXPECT_THAT(spec.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--peer-address")))
        << address;
  }
}

TEST(PeeringSpec_Validate, ListenThatOthersCannotBeTold_IsRefused) {
  for (const char* listen : {"::1:7172", "[fe80::1%eth0]:0"}) {
    PeeringSpec spec;
    spec.listen = listen;
    EXPECT_THAT(spec.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--peer-listen")))
        << listen;
    spec.address = "ward.example:7172";
    EXPECT_OK(spec.Validate());
  }
}

TEST(PeeringSpec_AddressFor, AnyPort_IsTheOneInUse) {
  PeeringSpec spec;
  spec.listen = "127.0.0.1:0";
  EXPECT_EQ(spec.AddressFor(4711), "127.0.0.1:4711");
  spec.listen = "[::1]:0";
  EXPECT_EQ(spec.AddressFor(4711), "[::1]:4711");
  spec.address = "10.0.0.5:80";
  EXPECT_EQ(spec.AddressFor(4711), "10.0.0.5:80");
}

TEST(PeeringSpec_Pinned, JobsAndVersions_AreRead) {
  PeeringSpec spec;
  spec.pinned = {"faces@3", "digits@12", "digits@12"};
  EXPECT_THAT(spec.Pinned(), ElementsAre(Pair("digits", 12), Pair("faces", 3)));
}

}  // namespace
}  // namespace koinon::worker
