#include "worker/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

WorkerConfig Good() {
  WorkerConfig config;
  config.name = "site-a";
  config.coordinator = "host:7070";
  config.state_dir = "/state";
  config.datasets = {
      "name: \"digits\" source { csv { path: \"d.csv\" label: \"y\" } }"};
  config.insecure = true;
  return config;
}

TEST(WorkerConfig_Validate, Good_IsOk) { EXPECT_OK(Good().Validate()); }

TEST(WorkerConfig_Validate, BadFields_AreNamed) {
  const auto refuse = [](const std::function<void(WorkerConfig&)>& change,
                         const std::string& message) {
    WorkerConfig config = Good();
    change(config);
    EXPECT_THAT(config.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr(message)));
  };
  refuse([](auto& c) { c.name = "Site A"; }, "--name");
  refuse([](auto& c) { c.coordinator = ""; }, "--coordinator");
  refuse([](auto& c) { c.state_dir = ""; }, "--state-dir");
  refuse([](auto& c) { c.datasets.clear(); }, "--dataset");
  refuse([](auto& c) { c.insecure = false; }, "--insecure for plaintext");
  refuse([](auto& c) { c.tls.ca = "ca.pem"; }, "contradicts");
  refuse([](auto& c) { c.insecure = false, c.tls.ca = "ca.pem"; }, "all three");
  refuse([](auto& c) { c.peering.listen = "0.0.0.0:7171"; }, "--peer-address");
  refuse([](auto& c) { c.threads = -1; }, "--threads");
  refuse([](auto& c) { c.mpi = "yes"; }, "--mpi");
  refuse([](auto& c) { c.mpi_timeout_seconds = 0.5; }, "--mpi-timeout");
  refuse([](auto& c) { c.max_model_bytes = 0; }, "--max-model-bytes");
  refuse([](auto& c) { c.max_model_bytes = int64_t{1} << 40; },
         "--max-model-bytes");
  refuse([](auto& c) { c.max_chunk_bytes = 0; }, "--max-chunk-bytes");
  refuse([](auto& c) { c.max_chunk_bytes = int64_t{1} << 40; },
         "--max-chunk-bytes");
  refuse([](auto& c) { c.max_held_updates = 0; }, "--max-held-updates");
  refuse([](auto& c) { c.max_control_bytes = 0; }, "--max-control-bytes");
  refuse([](auto& c) { c.external_trainer_timeout_seconds = 0; },
         "--external-trainer-timeout");
}

TEST(DatasetConfigs, TextAndFile_AreRead) {
  MemoryEnv env;
  ASSERT_OK(env.MakeDirs("/etc"));
  ASSERT_OK(WriteFileAtomically(&env, "/etc/faces", "name: \"faces\""));
  WorkerConfig config = Good();
  config.datasets.push_back("@/etc/faces");
  ASSERT_OK_AND_ASSIGN(const auto datasets, DatasetConfigs(&env, config));
  ASSERT_EQ(datasets.size(), 2u);
  EXPECT_EQ(datasets[0].source().csv().path(), "d.csv");
  EXPECT_EQ(datasets[1].name(), "faces");
}

TEST(DatasetConfigs, BadText_SaysWhere) {
  MemoryEnv env;
  WorkerConfig config = Good();
  config.datasets = {"name: \"digits\"\n colour: 3"};
  EXPECT_THAT(DatasetConfigs(&env, config),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       ::testing::AllOf(HasSubstr("--dataset: line 2"),
                                        HasSubstr("colour"))));
  config.datasets = {"@/nowhere"};
  EXPECT_THAT(DatasetConfigs(&env, config),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere")));
}

TEST(ExternalTrainerConfigs, NameAndCommand_AreSplit) {
  MemoryEnv env;
  WorkerConfig config = Good();
  config.external_trainers = {"numpy=/usr/bin/python3  train.py --lr=0.1"};
  config.external_trainer_timeout_seconds = 60;
  ASSERT_OK_AND_ASSIGN(const auto trainers,
                       ExternalTrainerConfigs(&env, config));
  ASSERT_EQ(trainers.size(), 1u);
  EXPECT_EQ(trainers[0].name(), "numpy");
  EXPECT_THAT(trainers[0].command(),
              ElementsAre("/usr/bin/python3", "train.py", "--lr=0.1"));
  EXPECT_EQ(trainers[0].timeout_seconds(), 60);
}

TEST(PathsIn, EveryKindOfSource_IsThere) {
  MemoryEnv env;
  WorkerConfig config = Good();
  config.tls.key = "/etc/key.pem";
  config.external_trainers = {"mine=/opt/train --fast", "numpy=python3 t.py"};
  config.datasets = {
      R"(source { idx { images: "/i" labels: "/l" } }
         held_out_source { idx { images: "/hi" labels: "/hl" } })",
      R"(source { csv { path: "/c" label: "no" } }
         held_out_source { npz { path: "/z" labels: "no" } })",
      R"(source { npy { features: "/nf" labels: "/nl" } })",
      R"(source { text { path: "/t" } }
         held_out_source { tokens { path: "/k" } })"};
  EXPECT_THAT(PathsIn(&env, config),
              IsOkAndHolds(testing::IsSupersetOf(
                  {"/state", "/etc/key.pem", "/i", "/l", "/hi", "/hl", "/c",
                   "/z", "/nf", "/nl", "/t", "/k", "/opt/train"})));
  EXPECT_THAT(PathsIn(&env, config),
              IsOkAndHolds(testing::Each(testing::AllOf(
                  testing::Ne("no"), testing::Ne(""), testing::Ne("python3"),
                  testing::Ne("t.py")))));
}

TEST(PathsIn, RelativePath_IsThereAsAnAbsoluteOneToo) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(const auto paths, PathsIn(&env, Good()));
  EXPECT_THAT(paths, testing::Contains("d.csv"));
  EXPECT_THAT(paths,
              testing::Contains(testing::AllOf(testing::StartsWith("/"),
                                               testing::EndsWith("/d.csv"))));
}

TEST(ExternalTrainerConfigs, NoName_IsRefused) {
  MemoryEnv env;
  WorkerConfig config = Good();
  for (const char* value : {"", "python3", "=python3"}) {
    config.external_trainers = {value};
    EXPECT_THAT(
        ExternalTrainerConfigs(&env, config),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("NAME=COMMAND")))
        << value;
  }
}

}  // namespace
}  // namespace koinon::worker
