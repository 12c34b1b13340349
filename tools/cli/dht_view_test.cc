#include "tools/cli/dht_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "dht/records/signed.h"

namespace koinon::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Step = dht::Lookup::Step;

dht::Contact ContactAt(const std::string& address) {
  return {Sha256Of(address), address, ""};
}

Step StepTo(const std::string& address, size_t depth, Step::Outcome outcome) {
  Step step;
  step.contact = ContactAt(address);
  step.depth = depth;
  step.outcome = outcome;
  step.took = absl::Microseconds(1'500);
  return step;
}

TEST(DhtViewTest, Key_IsHexOrAName_AndNothingElse) {
  const dht::Key key = Sha256Of("x");
  EXPECT_THAT(ParseDhtKey(key.ToHex(), "north", "server"), IsOkAndHolds(key));
  EXPECT_THAT(ParseDhtKey("head/digits", "north", "server"),
              IsOkAndHolds(dht::MutableKey("north", "server", "head/digits")));
  for (const char* text : {"", "digits", "abcdef", "zz"}) {
    EXPECT_THAT(
        ParseDhtKey(text, "north", "server"),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("head/JOB")))
        << text;
  }
}

TEST(DhtViewTest, Path_ShowsEachHop) {
  const std::vector<Step> path = {StepTo("10.0.0.1:70", 1, Step::kAnswered),
                                  StepTo("10.0.0.2:70", 2, Step::kFailed),
                                  StepTo("10.0.0.3:70", 2, Step::kWaiting)};
  const std::string text = PathText(path);
  for (const Step& step : path) {
    EXPECT_THAT(text, HasSubstr(step.contact.id.ToShortHex()));
    EXPECT_THAT(text, HasSubstr(step.contact.address));
  }
  EXPECT_THAT(text, HasSubstr("1.50  answered"));
  EXPECT_THAT(text, HasSubstr("1.50  failed"));
  EXPECT_THAT(text, HasSubstr("-  not waited for"));
  const std::string json = PathJson(path);
  EXPECT_THAT(json,
              HasSubstr(R"("depth":2,"path":1,"outcome":"failed","ms":1.5)"));
  EXPECT_THAT(json, HasSubstr(R"("outcome":"not waited for"})"));
}

TEST(DhtViewTest, Head_ShowsItsVersionAndManifest) {
  v1::HeadValue head;
  head.set_version(7);
  head.set_manifest(std::string(32, '\xab'));
  dht::Node::GetResult result;
  result.opened.is_mutable = true;
  result.opened.owner = "server";
  result.opened.name = "head/digits";
  result.opened.sequence = 7;
  result.opened.value = head.SerializeAsString();
  result.from = ContactAt("10.0.0.1:70");
  const std::string text = RecordText(Sha256Of("k"), result);
  EXPECT_THAT(text, HasSubstr("version   7"));
  EXPECT_THAT(text, HasSubstr("abababab"));
  EXPECT_THAT(text, HasSubstr("owner     server"));
  EXPECT_THAT(RecordJson(Sha256Of("k"), result),
              HasSubstr(R"("name":"head/digits","epoch":0,"sequence":7)"));
}

TEST(DhtViewTest, PutJson_SaysWhoRefused) {
  dht::Node::PutResult result;
  result.kept = 11;
  result.asked = 20;
  result.rejections = {{"quota", 3}, {"rolled_back", 1}};
  EXPECT_THAT(
      PutJson(Sha256Of("k"), result),
      HasSubstr(R"("kept":11,"asked":20,)"
                R"("rejections":{"quota":3,"rolled_back":1},"path":[])"));
  result.rejections.clear();
  EXPECT_THAT(PutJson(Sha256Of("k"), result), HasSubstr(R"("rejections":{})"));
}

TEST(DhtViewTest, WhatPeersSay_CannotMoveTheCursor) {
  v1::NodeStatus status;
  status.mutable_self()->set_site("\x1b[2J");
  (*status.mutable_counters())["\x1b]evil"] = 1;
  dht::Node::GetResult result;
  result.opened.is_mutable = true;
  result.opened.owner = result.opened.name = "\x1b[2J";
  EXPECT_THAT(NodeStatusText(status), Not(HasSubstr("\x1b")));
  EXPECT_THAT(RecordText(Sha256Of("k"), result), Not(HasSubstr("\x1b")));
  EXPECT_THAT(RecordJson(Sha256Of("k"), result), Not(HasSubstr("\x1b")));
}

TEST(DhtViewTest, Status_ShowsWhatIsCounted) {
  v1::NodeStatus status;
  status.set_nodes(3);
  (*status.mutable_counters())["forged"] = 2;
  const std::string text = NodeStatusText(status);
  EXPECT_THAT(text, HasSubstr("3 nodes"));
  EXPECT_THAT(text, HasSubstr("forged: 2"));
}

// It may well serve whoever was told where it is: a coordinator without
// --peer-address does.
TEST(DhtViewTest, Status_NoAddress_IsInNobodysTable) {
  v1::NodeStatus status;
  status.set_client_only(true);
  EXPECT_THAT(NodeStatusText(status),
              HasSubstr("address     none: in nobody's table\n"));
  status.set_client_only(false);
  status.mutable_self()->set_address("10.0.0.1:70");
  EXPECT_THAT(NodeStatusText(status), HasSubstr("address     10.0.0.1:70\n"));
}

}  // namespace
}  // namespace koinon::cli
