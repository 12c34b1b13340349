// A model of 3 GiB goes through a federation of real processes: made, fetched,
// trained, pushed, aggregated, published and pulled, with flat memory. Takes
// minutes and 20 GiB of disk in TEST_TMPDIR:
//
//   bazel test //tests/large:large_model_test --test_output=all

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/env.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "grpcpp/grpcpp.h"
#include "proto/client.grpc.pb.h"
#include "tests/e2e/coordinator_process.h"

namespace koinon::testing {
namespace {

constexpr int64_t kUnits = 28'672;  // squared, in fp32: 3.06 GiB
constexpr uint64_t kPokeBytes = 1 << 20;
// A twelfth of the model: nobody can have held a whole tensor, or a copy of
// what goes over the wire.
constexpr double kMaxRssMib = 256;
constexpr absl::Duration kPatience = absl::Minutes(40);

std::unique_ptr<v1::ClientService::Stub> ClientOf(
    const CoordinatorProcess& coordinator) {
  return v1::ClientService::NewStub(grpc::CreateChannel(
      coordinator.address(), grpc::InsecureChannelCredentials()));
}

v1::JobSpec LargeJob() {
  v1::JobSpec spec;
  spec.set_name("large");
  spec.mutable_model()->add_input_shape(kUnits);
  auto* dense =
      spec.mutable_model()->mutable_layers()->add_layers()->mutable_dense();
  dense->set_units(kUnits);
  dense->set_no_bias(true);
  spec.set_dataset("records");
  spec.set_rounds(1);
  spec.set_seed(1);
  spec.mutable_training()->set_external_trainer("poke");
  spec.mutable_cohort()->set_deadline_seconds(absl::ToDoubleSeconds(kPatience));
  spec.mutable_evaluation()->set_every_rounds(-1);
  return spec;
}

// The job's last status, once it has ended.
v1::JobStatus RunJob(v1::ClientService::Stub* client) {
  v1::SubmitJobRequest submit;
  *submit.mutable_spec() = LargeJob();
  v1::SubmitJobReply submitted;
  grpc::ClientContext submit_context;
  const grpc::Status status =
      client->SubmitJob(&submit_context, submit, &submitted);
  EXPECT_TRUE(status.ok()) << status.error_message();

  v1::WatchJobRequest watch;
  watch.set_name("large");
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
  const auto reader = client->WatchJob(&context, watch);
  v1::JobEvent event;
  v1::JobStatus last;
  while (reader->Read(&event)) {
    if (event.has_status()) last = event.status();
  }
  EXPECT_TRUE(reader->Finish().ok());
  return last;
}

// The trainer's values are in the file, and only in their places.
void ExpectPoked(const std::string& path) {
  ASSERT_OK_AND_ASSIGN(const auto header,
                       ReadSafetensorsHeader(RealEnv(), path));
  ASSERT_EQ(header.layout.total_bytes(), kUnits * kUnits * sizeof(float));
  ASSERT_OK_AND_ASSIGN(const auto file,
                       RealEnv()->Open(path, Env::OpenMode::kRead));
  for (uint64_t offset = 0; offset < header.layout.total_bytes();
       offset += kPokeBytes) {
    float values[2] = {0, 0};
    ASSERT_OK(file->ReadAt(header.data_offset_bytes + offset, sizeof(values),
                           reinterpret_cast<char*>(values)));
    // base + (0.5 - base), each rounded once at a magnitude below 1.
    ASSERT_NEAR(values[0], 0.5f, 1.2e-7f) << offset;
    // Initial values of a layer this wide are small.
    ASSERT_LT(std::abs(values[1]), 0.1f) << offset;
  }
}

// Pulls the newest version; the command's peak of resident memory.
double PullRssMib(const CoordinatorProcess& coordinator,
                  const std::string& dir) {
  auto pull =
      cli::ChildProcess::Start({Runfile("tools/koinon"), "pull", "large", "-o",
                                dir + "/pulled.safetensors", "--insecure",
                                "--coordinator", coordinator.address()},
                               dir + "/pull.log");
  EXPECT_THAT(pull, IsOk());
  if (!pull.ok()) return 0;
  EXPECT_EQ((*pull)->Wait(kPatience), "exit code 0");
  // Of all children that have ended, of which it is the only one.
  rusage usage = {};
  getrusage(RUSAGE_CHILDREN, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

TEST(LargeModelTest, ThreeGibibytes_GoThroughWithFlatMemory) {
  const std::string dir = FreshDir("large");
  const auto cleanup =
      absl::MakeCleanup([&dir] { std::filesystem::remove_all(dir); });
  ASSERT_OK_AND_ASSIGN(
      auto coordinator,
      CoordinatorProcess::Start({.dir = dir, .flags = {"--insecure"}}));
  ASSERT_OK_AND_ASSIGN(
      auto worker,
      cli::ChildProcess::Start(
          {Runfile("worker/koinon-worker"), "--name", "w", "--coordinator",
           coordinator->address(), "--state-dir", dir + "/worker", "--insecure",
           "--dataset",
           "name: \"records\" source { external { examples: 10 } }",
           "--external-trainer",
           absl::StrCat(
               "poke=/usr/bin/python3 ",
               std::filesystem::absolute(Runfile("tests/large/poke_trainer.py"))
                   .string())},
          dir + "/worker.log"));
  const auto client = ClientOf(*coordinator);

  const absl::Time start = absl::Now();
  const v1::JobStatus end = RunJob(client.get());
  ASSERT_EQ(end.state(), v1::SUCCEEDED) << end.ShortDebugString();
  const absl::Duration round = absl::Now() - start;
  const double pull_rss = PullRssMib(*coordinator, dir);
  const double coordinator_rss = PeakRssMib(coordinator->pid());
  const double worker_rss = PeakRssMib(worker->pid());
  std::cout << "job: " << round << ", with pull: " << absl::Now() - start
            << "\npeak RSS: coordinator " << coordinator_rss << " MiB, worker "
            << worker_rss << " MiB, pull " << pull_rss << " MiB" << std::endl;
  for (const double rss : {coordinator_rss, worker_rss, pull_rss}) {
    EXPECT_GT(rss, 0);
    EXPECT_LT(rss, kMaxRssMib);
  }
  ExpectPoked(dir + "/pulled.safetensors");
}

}  // namespace
}  // namespace koinon::testing
