#include "tools/cli/certs_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/local_node.h"
#include "base/status_matchers.h"

namespace koinon::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MakeCertsFolderTest : public ::testing::Test {
 protected:
  MakeCertsFolderTest() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    plan_.dir = absl::StrCat(::testing::TempDir(), "/", info->name());
    plan_.federation = "north";
    plan_.hosts = {"localhost", "127.0.0.1", "::1"};
    plan_.workers = {"worker-1", "lab"};
    plan_.nodes = {"store"};
    plan_.clients = {"operator"};
    plan_.days = 30;
    plan_.authority_days = 300;
  }
  absl::Status Make() { return MakeCertsFolder(RealEnv(), plan_, now_); }
  absl::Status Check(const std::string& stem) {
    return CheckTlsFiles(RealEnv(), FilesInCertsFolder(plan_.dir, stem), now_);
  }

  CertsPlan plan_;
  const absl::Time now_ = RealClock().Now();
};

TEST_F(MakeCertsFolderTest, EveryMember_HasAGoodPair) {
  ASSERT_OK(Make());
  ASSERT_OK_AND_ASSIGN(const auto names, RealEnv()->List(plan_.dir));
  EXPECT_THAT(names, ElementsAre("ca.key", "ca.pem", "client-operator.key",
                                 "client-operator.pem", "node-store.key",
                                 "node-store.pem", "server.key", "server.pem",
                                 "worker-lab.key", "worker-lab.pem",
                                 "worker-worker-1.key", "worker-worker-1.pem"));
  for (const char* stem : {"server", "worker-lab", "worker-worker-1",
                           "node-store", "client-operator"}) {
    EXPECT_OK(Check(stem)) << stem;
  }
}

TEST_F(MakeCertsFolderTest, EveryMember_IsANode) {
  ASSERT_OK(Make());
  const struct {
    const char* stem;
    const char* owner;
  } cases[] = {{"server", "server"},
               {"worker-lab", "worker/lab"},
               {"node-store", "node/store"},
               {"client-operator", "client/operator"}};
  for (const auto& c : cases) {
    ASSERT_OK_AND_ASSIGN(
        const LocalNode node,
        LoadLocalNode(RealEnv(), FilesInCertsFolder(plan_.dir, c.stem), now_));
    EXPECT_EQ(node.owner, c.owner);
    EXPECT_EQ(node.federation, "north");
    EXPECT_EQ(node.identity.site, "");
  }
}

TEST_F(MakeCertsFolderTest, NameAtSite_IsInTheCertificateAndNotInTheFilesName) {
  plan_.workers = {"lab@east", "ward"};
  plan_.nodes = {"store@west"};
  ASSERT_OK(Make());
  const struct {
    const char* stem;
    const char* site;
  } cases[] = {
      {"worker-lab", "east"}, {"worker-ward", ""}, {"node-store", "west"}};
  for (const auto& c : cases) {
    ASSERT_OK_AND_ASSIGN(
        const LocalNode node,
        LoadLocalNode(RealEnv(), FilesInCertsFolder(plan_.dir, c.stem), now_));
    EXPECT_EQ(node.identity.site, c.site) << c.stem;
  }
}

TEST_F(MakeCertsFolderTest, OneNameTwice_InvalidArgument) {
  plan_.workers = {"lab@east", "lab@west"};
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("worker-lab: is asked for twice")));
}

TEST_F(MakeCertsFolderTest, BadSite_LeavesNothingBehind) {
  for (const char* worker :
       {"lab@", "lab@East", "lab@a@b", "@east", "lab@a/b"}) {
    plan_.workers = {worker};
    EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kInvalidArgument)) << worker;
    EXPECT_FALSE(RealEnv()->Exists(plan_.dir + "/ca.pem"));
  }
  plan_.workers.clear();
  plan_.clients = {"ann@east"};
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("ann@east")));
}

TEST_F(MakeCertsFolderTest, Keys_AreTheOwnersAlone) {
  ASSERT_OK(Make());
  for (const char* name : {"ca.key", "server.key", "worker-lab.key"}) {
    struct stat info;
    ASSERT_EQ(stat(absl::StrCat(plan_.dir, "/", name).c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u) << name;
  }
}

TEST_F(MakeCertsFolderTest, ExistingFile_IsNotOverwritten) {
  ASSERT_OK(Make());
  const std::string before =
      *ReadFile(RealEnv(), plan_.dir + "/ca.key", 1 << 16);
  EXPECT_THAT(Make(),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("ca.pem")));
  EXPECT_EQ(*ReadFile(RealEnv(), plan_.dir + "/ca.key", 1 << 16), before);
}

TEST_F(MakeCertsFolderTest, BadName_LeavesNothingBehind) {
  plan_.workers.push_back("../evil");
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("../evil")));
  EXPECT_FALSE(RealEnv()->Exists(plan_.dir + "/ca.pem"));
}

TEST_F(MakeCertsFolderTest, Extend_AddsAMemberUnderTheSameAuthority) {
  ASSERT_OK(Make());
  plan_.hosts.clear();
  plan_.workers = {"late"};
  plan_.nodes.clear();
  plan_.clients.clear();
  plan_.extend = true;
  ASSERT_OK(Make());
  EXPECT_OK(Check("worker-late"));
  EXPECT_OK(Check("server"));
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kAlreadyExists,
                               HasSubstr("worker-late")));
}

TEST_F(MakeCertsFolderTest, ExtendWithoutAnAuthority_IsAnError) {
  plan_.extend = true;
  EXPECT_THAT(Make(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("ca.pem")));
}

}  // namespace
}  // namespace koinon::cli
