#include "tools/cli/app.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/env.h"
#include "base/status_matchers.h"
#include "tools/cli/exit_code.h"

namespace koinon::cli {
namespace {

using ::testing::HasSubstr;

struct Result {
  ExitCode exit_code;
  std::string out;
  std::string err;
};

Result Koinon(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "koinon");
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  Result result;
  result.exit_code = static_cast<ExitCode>(
      RunCommandLine(static_cast<int>(arguments.size()), arguments.data()));
  result.out = ::testing::internal::GetCapturedStdout();
  result.err = ::testing::internal::GetCapturedStderr();
  return result;
}

TEST(RunCommandLine, Help_ListsCommandsWithExamples) {
  const Result result = Koinon({"--help"});
  EXPECT_EQ(result.exit_code, ExitCode::kOk);
  for (const char* text : {"up", "submit", "watch", "pull", "Examples:"}) {
    EXPECT_THAT(result.out, HasSubstr(text));
  }
}

TEST(RunCommandLine, UnknownCommandOrFlag_IsUsage) {
  EXPECT_EQ(Koinon({"fly"}).exit_code, ExitCode::kUsage);
  EXPECT_EQ(Koinon({"jobs", "--fly"}).exit_code, ExitCode::kUsage);
  EXPECT_EQ(Koinon({}).exit_code, ExitCode::kUsage);
}

TEST(RunCommandLine, NobodyThere_IsItsOwnExitCode) {
  // Port 1 of loopback: reserved, and bound by nobody.
  const Result result =
      Koinon({"jobs", "--insecure", "--coordinator", "127.0.0.1:1"});
  EXPECT_EQ(result.exit_code, ExitCode::kCannotConnect);
  EXPECT_THAT(result.err, HasSubstr("127.0.0.1:1"));
}

TEST(RunCommandLine, MissingJobFile_Fails) {
  const Result result = Koinon({"submit", "no/such.txtpb", "--insecure"});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, HasSubstr("no/such.txtpb"));
}

TEST(RunCommandLine, WrongJobFile_IsUsage) {
  const std::string path = ::testing::TempDir() + "/wrong.txtpb";
  ASSERT_OK(WriteFileAtomically(RealEnv(), path, "roundz: 3"));
  const Result result = Koinon({"submit", path.c_str(), "--insecure"});
  EXPECT_EQ(result.exit_code, ExitCode::kUsage);
  EXPECT_THAT(result.err, HasSubstr("did you mean \"rounds\"?"));
}

TEST(RunCommandLine, Certs_MakesAFederationsKeys) {
  const std::string dir = ::testing::TempDir() + "/certs";
  const Result result =
      Koinon({"certs", "--worker", "a", "--worker", "b", dir.c_str()});
  EXPECT_EQ(result.exit_code, ExitCode::kOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("authority, server, 2 workers, 1 client"));
  for (const char* name : {"ca.key", "server.pem", "worker-a.key",
                           "worker-b.pem", "client-operator.pem"}) {
    EXPECT_TRUE(RealEnv()->Exists(absl::StrCat(dir, "/", name))) << name;
  }
  EXPECT_EQ(Koinon({"certs", dir.c_str()}).exit_code, ExitCode::kFailed);
}

TEST(RunCommandLine, UpWithoutPartition_IsUsageAndStartsNothing) {
  const std::string dir = ::testing::TempDir() + "/up";
  const Result result = Koinon({"up", "--state-dir", dir.c_str(), "--bin-dir",
                                "no/such", "--dataset", "name: 'x'"});
  EXPECT_EQ(result.exit_code, ExitCode::kFailed);
  EXPECT_THAT(result.err, HasSubstr("no/such/koinon-coordinator"));
  EXPECT_FALSE(RealEnv()->Exists(dir));
}

TEST(RunCommandLine, BadKillPlan_SaysWhatIsExpected) {
  const std::string path = ::testing::TempDir() + "/job.txtpb";
  ASSERT_OK(WriteFileAtomically(RealEnv(), path, "rounds: 3"));
  const Result result =
      Koinon({"up", "--job", path.c_str(), "--kill-worker", "worker-1"});
  EXPECT_EQ(result.exit_code, ExitCode::kUsage);
  EXPECT_THAT(result.err, HasSubstr("NAME@ROUND"));
}

TEST(RunCommandLine, BenchAttacksWithoutData_NamesThePath) {
  const Result absent = Koinon({"bench", "attacks", "--data", "no/mnist"});
  EXPECT_EQ(absent.exit_code, ExitCode::kUsage);
  EXPECT_THAT(absent.err, HasSubstr("no/mnist"));
  const std::string dir = ::testing::TempDir();
  const Result empty = Koinon({"bench", "attacks", "--data", dir.c_str()});
  EXPECT_EQ(empty.exit_code, ExitCode::kFailed);
  EXPECT_THAT(empty.err, HasSubstr("train-images-idx3-ubyte.gz"));
}

TEST(RunCommandLine, BenchAggregate_RefusesWhatContradictsItself) {
  const Result rule =
      Koinon({"bench", "aggregate", "--rules", "mean", "--python", ""});
  EXPECT_EQ(rule.exit_code, ExitCode::kUsage);
  EXPECT_THAT(rule.err, HasSubstr("trimmed_mean"));
  EXPECT_EQ(
      Koinon({"bench", "aggregate", "--case", "5x5", "--n", "5"}).exit_code,
      ExitCode::kUsage);
  EXPECT_EQ(Koinon({"bench", "aggregate", "--dir", "/"}).exit_code,
            ExitCode::kUsage);
}

TEST(RunCommandLine, BenchAggregate_PrintsARowForEachRule) {
  const Result result = Koinon({"bench", "aggregate", "--rules", "median,krum",
                                "--n", "5", "--params", "100", "--threads", "1",
                                "--repetitions", "1", "--python", ""});
  EXPECT_EQ(result.exit_code, ExitCode::kOk) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\nmedian "));
  EXPECT_THAT(result.out, HasSubstr("\nkrum "));
}

TEST(RunCommandLine, AggregateWithAnUnknownRule_ListsTheRules) {
  const Result result = Koinon({"aggregate", "--rule", "krumm { f: 1 }",
                                "a.safetensors", "-o", "out.safetensors"});
  EXPECT_EQ(result.exit_code, ExitCode::kUsage);
  EXPECT_THAT(result.err, HasSubstr("did you mean \"krum\"?"));
  EXPECT_THAT(result.err, HasSubstr("fedavg"));
  EXPECT_THAT(result.err, HasSubstr("centered_clipping"));
}

TEST(RunCommandLine, AggregateWithNumbersThatAreNone_NamesThem) {
  const auto run = [](const char* flag, const char* value) {
    const Result result =
        Koinon({"aggregate", "--rule", "fedavg {}", flag, value,
                "a.safetensors", "b.safetensors", "-o", "out.safetensors"});
    EXPECT_EQ(result.exit_code, ExitCode::kUsage) << flag << " " << value;
    return result.err;
  };
  EXPECT_THAT(run("--weights", "1,,2"), HasSubstr("number 2 is \"\""));
  EXPECT_THAT(run("--weights", ""), HasSubstr("number 1 is \"\""));
  EXPECT_THAT(run("--weights", "3,many"), HasSubstr("number 2 is \"many\""));
  EXPECT_THAT(run("--weights", "1,2,3"), HasSubstr("3 numbers for 2 files"));
  EXPECT_THAT(run("--seed", "-1"), HasSubstr("--seed"));
}

TEST(RunCommandLine, Completion_KnowsEveryCommand) {
  const Result result = Koinon({"completion", "bash"});
  EXPECT_EQ(result.exit_code, ExitCode::kOk);
  EXPECT_THAT(result.out, HasSubstr("up submit jobs watch rounds cancel pause "
                                    "resume nodes models pull train evaluate "
                                    "aggregate dht certs"));
  EXPECT_EQ(Koinon({"completion", "tcsh"}).exit_code, ExitCode::kUsage);
}

}  // namespace
}  // namespace koinon::cli
