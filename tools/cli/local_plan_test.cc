#include "tools/cli/local_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/env.h"
#include "base/status_matchers.h"

namespace koinon::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kDigits[] =
    "name: 'digits' source { csv { path: 'd.csv' label: 'y' } }";

TEST(ParseDatasets, EachPartition_IsSet) {
  ASSERT_OK_AND_ASSIGN(auto sets, ParseDatasets({kDigits}, "iid", 3));
  EXPECT_TRUE(sets[0].partition().has_iid());
  EXPECT_EQ(sets[0].partition().sites(), 3);
  ASSERT_OK_AND_ASSIGN(sets, ParseDatasets({kDigits}, "dirichlet:0.5", 3));
  EXPECT_EQ(sets[0].partition().dirichlet().alpha(), 0.5);
  ASSERT_OK_AND_ASSIGN(sets, ParseDatasets({kDigits}, "shards:2", 3));
  EXPECT_EQ(sets[0].partition().shards().per_site(), 2);
  ASSERT_OK_AND_ASSIGN(sets, ParseDatasets({kDigits}, "column:site", 3));
  EXPECT_EQ(sets[0].partition().by_column().column(), "site");
  ASSERT_OK_AND_ASSIGN(sets, ParseDatasets({kDigits}, "none", 3));
  EXPECT_FALSE(sets[0].has_partition());
}

TEST(ParseDatasets, BadPartitions_AreRefusedAndListTheGood) {
  for (const char* text : {"random", "dirichlet", "dirichlet:0", "dirichlet:x",
                           "shards:-1", "column:", "iid:2"}) {
    EXPECT_THAT(ParseDatasets({kDigits}, text, 3),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("dirichlet:ALPHA")))
        << text;
  }
}

TEST(ParseDatasets, SeveralWorkersWithoutPartition_AreRefused) {
  EXPECT_THAT(
      ParseDatasets({kDigits}, "", 2),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"digits\"")));
  EXPECT_OK(ParseDatasets({kDigits}, "", 1));
}

TEST(ParseDatasets, OwnPartition_IsKept) {
  ASSERT_OK_AND_ASSIGN(
      const auto sets,
      ParseDatasets({absl::StrCat(kDigits, "partition { iid {} }")},
                    "dirichlet:1", 4));
  EXPECT_TRUE(sets[0].partition().has_iid());
  EXPECT_EQ(sets[0].partition().sites(), 4);
}

TEST(ParseDatasets, WrongField_SaysWhatIsAllowed) {
  EXPECT_THAT(ParseDatasets({"nam: 'x'"}, "iid", 2),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("--dataset:1:"),
                             HasSubstr("did you mean \"name\"?"))));
}

LocalPlan Plan() {
  LocalPlan plan;
  plan.coordinator_program = "bin/koinon-coordinator";
  plan.worker_program = "bin/koinon-worker";
  plan.state_dir = "state";
  plan.worker_threads = 2;
  plan.datasets = *ParseDatasets({kDigits}, "iid", 3);
  return plan;
}

TEST(CoordinatorCommand, Tls_NamesTheServersFiles) {
  EXPECT_EQ(
      absl::StrJoin(CoordinatorCommand(Plan(), "127.0.0.1:0"), " "),
      "bin/koinon-coordinator --listen 127.0.0.1:0 --federation local "
      "--state-dir state/coordinator --port-file state/coordinator.port "
      "--tls-cert state/certs/server.pem --tls-key state/certs/server.key "
      "--tls-ca state/certs/ca.pem");
}

TEST(WorkerCommand, EachWorker_IsItsOwnSite) {
  const std::string command =
      absl::StrJoin(WorkerCommand(Plan(), 3, "127.0.0.1:77"), " ");
  EXPECT_THAT(
      command,
      HasSubstr("bin/koinon-worker --name worker-3 --coordinator 127.0.0.1:77 "
                "--state-dir state/worker-3 --threads 2 --tls-cert "
                "state/certs/worker-worker-3.pem"));
  EXPECT_THAT(command, HasSubstr("sites: 3 site: 2"));
  EXPECT_THAT(command, HasSubstr(" --peer-listen 127.0.0.1:0 "));
  EXPECT_THAT(command, Not(HasSubstr("--federation")));
}

TEST(WorkerCommand, Insecure_IsSaidByName) {
  LocalPlan plan = Plan();
  plan.insecure = true;
  plan.external_trainers = {"numpy=python3 train.py"};
  plan.worker_flags = {"--log-level", "debug"};
  const std::string command =
      absl::StrJoin(WorkerCommand(plan, 1, "127.0.0.1:77"), " ");
  EXPECT_THAT(command, AllOf(HasSubstr(" --insecure "), Not(HasSubstr("--tls")),
                             HasSubstr(" --federation local "),
                             HasSubstr("--external-trainer numpy=python3 "),
                             HasSubstr(" --log-level debug")));
}

void WriteProgram(const std::string& dir, const std::string& name) {
  ASSERT_OK(RealEnv()->MakeDirs(dir));
  const std::string path = absl::StrCat(dir, "/", name);
  ASSERT_OK(WriteFileAtomically(RealEnv(), path, "#!/bin/sh\n"));
  ASSERT_EQ(chmod(path.c_str(), 0755), 0);
}

TEST(FindPrograms, NextToTheCommand_AreFound) {
  const std::string dir = ::testing::TempDir() + "/installed";
  WriteProgram(dir, "koinon-coordinator");
  WriteProgram(dir, "koinon-worker");
  ASSERT_OK_AND_ASSIGN(const Programs programs,
                       FindPrograms("", dir + "/koinon"));
  EXPECT_EQ(programs.worker, dir + "/koinon-worker");
}

TEST(FindPrograms, AsBazelBuildsThem_AreFound) {
  const std::string dir = ::testing::TempDir() + "/built";
  WriteProgram(dir + "/coordinator", "koinon-coordinator");
  WriteProgram(dir + "/worker", "koinon-worker");
  ASSERT_OK_AND_ASSIGN(const Programs programs,
                       FindPrograms("", dir + "/tools/koinon"));
  EXPECT_EQ(programs.coordinator, dir + "/coordinator/koinon-coordinator");
  EXPECT_OK(FindPrograms(dir, "/elsewhere/koinon"));
}

TEST(FindPrograms, Missing_ListsThePlaces) {
  EXPECT_THAT(FindPrograms("no/such", ""),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("no/such/koinon-coordinator"),
                             HasSubstr("--bin-dir"))));
}

}  // namespace
}  // namespace koinon::cli
