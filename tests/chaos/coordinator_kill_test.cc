// The coordinator is killed once one copy of a new version is out: workers,
// real processes in the middle of fetching it, complete it among themselves.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/status_matchers.h"
#include "grpcpp/grpcpp.h"
#include "proto/client.grpc.pb.h"
#include "proto/dht.grpc.pb.h"
#include "tests/e2e/coordinator_process.h"
#include "tools/cli/process.h"

namespace koinon::testing {
namespace {

constexpr int kWorkers = 5;
constexpr int kUnits = 4096;
constexpr double kModelBytes = 4.0 * kUnits * kUnits;  // 64 MiB, and a header
// For all of the test: it ends with a reason before Bazel ends it (300 s), even
// if what CoordinatorProcess waits for by itself (a minute each) comes last.
constexpr absl::Duration kPatience = absl::Minutes(3);
constexpr absl::Duration kPoll = absl::Milliseconds(1);

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

class CoordinatorKillTest : public ::testing::Test {
 protected:
  void Start() {
    workers_.clear();
    coordinator_.reset();
    dir_ = FreshDir("coordinator_kill");
    ASSERT_OK_AND_ASSIGN(
        coordinator_,
        CoordinatorProcess::Start({.dir = dir_, .flags = {"--insecure"}}));
    channel_ = grpc::CreateChannel(coordinator_->address(),
                                   grpc::InsecureChannelCredentials());
    for (int i = 0; i < kWorkers; ++i) StartWorker(absl::StrCat("w", i));
  }

  bool TimeIsLeft() const { return absl::Now() < until_; }
  void SetDeadline(grpc::ClientContext* context) const {
    context->set_deadline(absl::ToChronoTime(until_));
  }

  void StartWorker(const std::string& name) {
    auto process = cli::ChildProcess::Start(
        {Runfile("worker/koinon-worker"), "--name", name, "--coordinator",
         coordinator_->address(), "--state-dir", PathOf(name), "--insecure",
         "--peer-listen", "127.0.0.1:0", "--threads", "1", "--dataset",
         R"(name: "records" source { external { examples: 10 } })",
         "--external-trainer",
         absl::StrCat("poke=/usr/bin/python3 ",
                      Runfile("tests/large/poke_trainer.py"))},
        PathOf(name) + ".log");
    ASSERT_OK(process.status());
    workers_.push_back(*std::move(process));
  }

  // All of them in the first round.
  void Submit() {
    v1::SubmitJobRequest request;
    v1::JobSpec* const spec = request.mutable_spec();
    spec->set_name("large");
    spec->set_dataset("records");
    spec->mutable_model()->add_input_shape(kUnits);
    auto* const dense =
        spec->mutable_model()->mutable_layers()->add_layers()->mutable_dense();
    dense->set_units(kUnits);
    dense->set_no_bias(true);
    spec->mutable_training()->set_external_trainer("poke");
    spec->mutable_cohort()->set_target(kWorkers);
    spec->mutable_cohort()->set_minimum(kWorkers);
    spec->mutable_evaluation()->set_every_rounds(-1);
    spec->set_rounds(1);
    spec->set_seed(1);
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::SubmitJobReply reply;
    const grpc::Status submitted =
        v1::ClientService::NewStub(channel_)->SubmitJob(&context, request,
                                                        &reply);
    EXPECT_TRUE(submitted.ok()) << submitted.error_message();
  }

  // Waits until a worker serves; a channel to where.
  std::shared_ptr<grpc::Channel> ChannelTo(int i) {
    constexpr char kText[] = "serving model versions to others";
    constexpr char kField[] = " address=";
    while (TimeIsLeft()) {
      const std::string log = ReadAll(LogOf(i));
      const size_t line = log.find(kText);
      const size_t at = log.find(kField, line);
      const size_t end = log.find(' ', at + 1);
      if (line != log.npos && at != log.npos && end != log.npos) {
        const size_t begin = at + sizeof(kField) - 1;
        return grpc::CreateChannel(log.substr(begin, end - begin),
                                   grpc::InsecureChannelCredentials());
      }
      absl::SleepFor(kPoll);
    }
    ADD_FAILURE() << "it does not serve: " << ReadAll(LogOf(i));
    return channel_;
  }

  // Waits until the coordinator has the version to give; its Merkle root.
  std::string AwaitRoot() {
    while (TimeIsLeft()) {
      grpc::ClientContext context;
      SetDeadline(&context);
      v1::NodeStatus status;
      const grpc::Status asked =
          v1::PeerService::NewStub(channel_)->GetNodeStatus(
              &context, v1::NodeStatusRequest(), &status);
      if (!asked.ok()) {
        ADD_FAILURE() << "no version: " << asked.error_message();
        return "";
      }
      if (status.contents_size() > 0) {
        return Digest::FromHex(status.contents(0))->ToBytes();
      }
      absl::SleepFor(kPoll);
    }
    ADD_FAILURE() << "no version in " << kPatience;
    return "";
  }

  // Which pieces somebody has, as a bitmap; empty if it has none of them.
  std::string HaveOf(const std::shared_ptr<grpc::Channel>& channel,
                     const std::string& root) const {
    grpc::ClientContext context;
    SetDeadline(&context);
    const auto stream = v1::PeerService::NewStub(channel)->Fetch(&context);
    v1::FetchRequest request;
    request.mutable_open()->set_root(root);
    v1::FetchReply reply;
    std::string have;
    if (stream->Write(request) && stream->Read(&reply)) {
      have = reply.opened().have();
    }
    context.TryCancel();
    stream->Finish();
    return have;
  }

  // Kills it once the workers together have one copy. How many had not got all
  // by then.
  int KillOnceOneCopyIsOut() {
    std::vector<std::shared_ptr<grpc::Channel>> workers;
    for (int i = 0; i < kWorkers; ++i) workers.push_back(ChannelTo(i));
    Submit();
    const std::string root = AwaitRoot();
    const std::string all = HaveOf(channel_, root);
    EXPECT_FALSE(all.empty());
    std::string out;
    while (out != all && TimeIsLeft()) {
      for (const auto& worker : workers) {
        const std::string have = HaveOf(worker, root);
        out.resize(std::max(out.size(), have.size()));
        for (size_t i = 0; i < have.size(); ++i) out[i] |= have[i];
      }
      if (out != all) absl::SleepFor(kPoll);
    }
    EXPECT_TRUE(out == all)
        << "no copy is out in " << kPatience << ": " << ReadAll(LogOf(0));
    kill(coordinator_->pid(), SIGKILL);
    EXPECT_EQ(coordinator_->Wait(), "signal 9");
    int fetching = 0;
    for (int i = 0; i < kWorkers; ++i) fetching += !HasFetched(i);
    std::cout << "killed with " << fetching << " of " << kWorkers
              << " workers fetching\n";
    return fetching;
  }

  std::string PathOf(const std::string& name) const {
    return absl::StrCat(dir_, "/", name);
  }
  std::string LogOf(int i) const {
    return PathOf(absl::StrCat("w", i, ".log"));
  }
  bool HasFetched(int i) const {
    return absl::StrContains(ReadAll(LogOf(i)), " model fetched ");
  }
  // From the coordinator, by the worker's own account.
  double FromCoordinator(int i) const {
    const std::string log = ReadAll(LogOf(i));
    constexpr char kField[] = " from_coordinator=";
    const size_t at = log.find(kField) + sizeof(kField) - 1;
    double bytes = -1;
    EXPECT_TRUE(absl::SimpleAtod(
        log.substr(at, log.find_first_of(" \n", at) - at), &bytes))
        << log;
    return bytes;
  }
  // The digests of the versions that a worker keeps, each checked.
  std::set<std::string> Kept(int i) const {
    std::set<std::string> digests;
    for (const auto& entry : std::filesystem::directory_iterator(
             PathOf(absl::StrCat("w", i, "/models")))) {
      const std::filesystem::path& path = entry.path();
      EXPECT_FALSE(absl::StrContains(path.string(), ".partial")) << path;
      if (path.extension() != ".safetensors") continue;
      EXPECT_EQ(Sha256Of(ReadAll(path)).ToHex(), path.stem().string());
      digests.insert(path.stem());
    }
    return digests;
  }

  const absl::Time until_ = absl::Now() + kPatience;
  std::string dir_;
  std::unique_ptr<CoordinatorProcess> coordinator_;
  std::vector<std::unique_ptr<cli::ChildProcess>> workers_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(CoordinatorKillTest, OneCopyIsOut_AllWorkersGetIt) {
  // On a machine that is slow at the wrong moment all may have it before it is
  // seen that one copy is out: then nothing was tried, and it is begun anew.
  int fetching = 0;
  for (int attempt = 0; attempt < 5 && fetching == 0 && TimeIsLeft();
       ++attempt) {
    ASSERT_NO_FATAL_FAILURE(Start());
    fetching = KillOnceOneCopyIsOut();
    ASSERT_FALSE(HasFailure());
  }
  ASSERT_GT(fetching, 0) << "nobody was fetching when it was killed, in all "
                            "attempts of "
                         << kPatience;

  double from_coordinator = 0;
  for (int i = 0; i < kWorkers; ++i) {
    while (!HasFetched(i) && TimeIsLeft()) {
      ASSERT_EQ(workers_[i]->Wait(absl::Milliseconds(20)), std::nullopt)
          << ReadAll(LogOf(i));
    }
    ASSERT_TRUE(HasFetched(i)) << ReadAll(LogOf(i));
    from_coordinator += FromCoordinator(i);
  }
  // It did not give all of them all of it.
  EXPECT_LT(from_coordinator, 2.5 * kModelBytes);
  const std::set<std::string> kept = Kept(0);
  EXPECT_EQ(kept.size(), 1u);
  for (int i = 1; i < kWorkers; ++i) EXPECT_EQ(Kept(i), kept);
}

}  // namespace
}  // namespace koinon::testing
