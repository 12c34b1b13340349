#include "coordinator/publish/publish.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/server/server_optimizer.h"
#include "base/digest.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "coordinator/models/manifest_signer.h"
#include "coordinator/models/testing_signer.h"
#include "coordinator/models/version_contents.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr size_t kParameters = 8;  // 3 x 2 weights, 2 biases
const absl::Time kSubmitted = absl::FromUnixMillis(1'700'000'000'123);

v1::JobSpec Spec() {
  v1::JobSpec spec;
  spec.set_name("job");
  spec.set_seed(11);
  spec.mutable_model()->add_input_shape(3);
  spec.mutable_model()
      ->mutable_layers()
      ->add_layers()
      ->mutable_dense()
      ->set_units(2);
  return spec;
}

v1::JobSpec AdamSpec() {
  v1::JobSpec spec = Spec();
  spec.mutable_aggregation()->mutable_server_optimizer()->mutable_fedadam();
  return spec;
}

std::vector<float> UpdateOf(const std::string& worker, int64_t round,
                            size_t parameters = kParameters) {
  std::vector<float> values(parameters);
  for (size_t i = 0; i < parameters; ++i) {
    values[i] = static_cast<float>(static_cast<int64_t>(i % 5) - round) /
                (worker[0] - 'a' + 3);
  }
  return values;
}

// One machine's folders: what survives a process.
class Machine {
 public:
  explicit Machine(Env* env, uint64_t spool_bytes = 1 << 16)
      : env_(env), store_(env, "/data/models", 64) {
    EXPECT_OK(env->MakeDirs("/data"));
    EXPECT_OK(env->SyncDir("/"));
    auto spool =
        Spool::Open(env, "/data/spool", {.max_bytes = spool_bytes}, {});
    EXPECT_OK(spool);
    spool_ = *std::move(spool);
  }

  // Version 0.
  RoundInput Begin(const v1::JobSpec& spec) {
    auto manifest =
        PublishInitialModel(&store_, spec, kSubmitted, nullptr, options());
    EXPECT_OK(manifest);
    RoundInput input;
    input.spec = spec;
    input.submitted = kSubmitted;
    input.base = *manifest;
    return input;
  }

  // Puts the updates of round base + 1 into the spool.
  void Receive(RoundInput* input, size_t parameters = kParameters) {
    input->round = input->base.version() + 1;
    input->updates.clear();
    for (const char* worker : {"alice", "bob", "carol"}) {
      const std::vector<float> values =
          UpdateOf(worker, input->round, parameters);
      AcceptedRow row;
      row.worker = worker;
      row.task_round = input->round;
      row.metrics.set_examples(worker[0] - 'a' + 1);
      auto extent = spool_->Allocate(values.size() * sizeof(float));
      EXPECT_OK(extent);
      row.extent = *extent;
      row.extent.size = values.size() * sizeof(float);
      EXPECT_OK(spool_->Write(row.extent, 0, values.data(),
                              values.size() * sizeof(float)));
      input->updates.push_back(row);
    }
  }

  PublishedRound Publish(const RoundInput& input) {
    return PublishRound(&store_, *spool_, &pool_, input, options());
  }

  // Publishes `rounds` rounds as the engine does: the old state goes.
  RoundInput Run(RoundInput input, int rounds) {
    for (int i = 0; i < rounds; ++i) {
      Receive(&input);
      const PublishedRound published = Publish(input);
      EXPECT_OK(published.status);
      for (const StateFile& file : input.base_state) {
        EXPECT_OK(store_.RemoveState("job", input.base.version(), file.name));
      }
      input.base = published.manifest;
      input.base_state = published.state;
    }
    return input;
  }

  std::vector<float> Values(const std::string& file) {
    auto model = ReadModel(env_, "/data/models/job/" + file, 1 << 20);
    EXPECT_OK(model);
    return model.ok() ? model->values : std::vector<float>();
  }
  std::vector<std::string> Files() {
    auto files = env_->List("/data/models/job");
    EXPECT_OK(files);
    return *files;
  }

  ModelStore* store() { return &store_; }
  PublishOptions options() const {
    PublishOptions options;
    options.signer = signer_.get();
    options.delta_min_bytes = delta_min_bytes;
    return options;
  }

  int64_t delta_min_bytes = 0;

 private:
  Env* const env_;
  const TestSigner signer_;
  ModelStore store_;
  std::unique_ptr<Spool> spool_;
  ThreadPool pool_{1};
};

// The weighted mean that the default rule makes of the three.
std::vector<float> MeanOf(int64_t round) {
  std::vector<float> mean(kParameters);
  for (size_t i = 0; i < kParameters; ++i) {
    double sum = 0;
    for (const char* worker : {"alice", "bob", "carol"}) {
      sum += UpdateOf(worker, round)[i] * (worker[0] - 'a' + 1.0);
    }
    mean[i] = static_cast<float>(sum / 6);
  }
  return mean;
}

TEST(PublishTest, NoOptimizer_AddsTheMean) {
  MemoryEnv env;
  Machine machine(&env);
  RoundInput input = machine.Begin(Spec());
  machine.Receive(&input);
  const PublishedRound published = machine.Publish(input);
  ASSERT_OK(published.status);
  EXPECT_THAT(published.state, IsEmpty());
  EXPECT_THAT(machine.Files(), ElementsAre("0.leaves", "0.safetensors",
                                           "1.leaves", "1.safetensors"));
  const std::vector<float> before = machine.Values("0.safetensors");
  const std::vector<float> after = machine.Values("1.safetensors");
  const std::vector<float> mean = MeanOf(1);
  for (size_t i = 0; i < kParameters; ++i) {
    EXPECT_FLOAT_EQ(after[i], before[i] + mean[i]);
  }
  EXPECT_EQ(published.manifest.provenance().rule(), "fedavg");
  EXPECT_EQ(published.manifest.provenance().participants(), 3);
  EXPECT_EQ(published.manifest.provenance().examples(), 6);
  EXPECT_EQ(published.report.rule(), "fedavg");
  EXPECT_EQ(published.report.server_optimizer(), "");
}

TEST(PublishTest, FedAdam_StepsWithItsStateFromRoundToRound) {
  MemoryEnv env;
  Machine machine(&env);
  RoundInput input = machine.Begin(AdamSpec());
  ASSERT_OK_AND_ASSIGN(const auto optimizer,
                       aggregation::MakeServerOptimizer(
                           AdamSpec().aggregation().server_optimizer()));
  std::vector<float> model = machine.Values("0.safetensors");
  std::vector<float> v(kParameters, optimizer->InitialState(0));
  std::vector<float> m(kParameters, optimizer->InitialState(1));
  for (int64_t round = 1; round <= 4; ++round) {
    input = machine.Run(input, 1);
    std::vector<float> delta = MeanOf(round);
    float* const state[] = {v.data(), m.data()};
    optimizer->Step(round, absl::MakeSpan(delta), state);
    for (size_t i = 0; i < kParameters; ++i) model[i] += delta[i];
    const std::vector<float> published =
        machine.Values(absl::StrCat(round, ".safetensors"));
    for (size_t i = 0; i < kParameters; ++i) {
      EXPECT_FLOAT_EQ(published[i], model[i]) << round;
    }
    ASSERT_EQ(input.base_state.size(), 2);
    EXPECT_EQ(input.base_state[0].name, "second_moment");
    EXPECT_EQ(input.base_state[1].name, "momentum");
    EXPECT_EQ(input.base.provenance().rule(), "fedavg + fedadam");
  }
  EXPECT_EQ(machine.Values("4.momentum.safetensors").size(), kParameters);
  EXPECT_THAT(
      machine.Files(),
      ElementsAre("0.leaves", "0.safetensors", "1.leaves", "1.safetensors",
                  "2.leaves", "2.safetensors", "3.leaves", "3.safetensors",
                  "4.leaves", "4.momentum.safetensors", "4.safetensors",
                  "4.second_moment.safetensors"));
}

// The rule's last result is state too, and stands beside the optimizer's: it is
// the aggregate before the step.
TEST(PublishTest, CenteredClipping_BeginsFromItsLastAggregate) {
  MemoryEnv env;
  Machine machine(&env);
  v1::JobSpec spec = Spec();
  auto* aggregation = spec.mutable_aggregation();
  aggregation->mutable_centered_clipping()->set_tau(1e-3);
  aggregation->mutable_server_optimizer()->mutable_fedavgm()->set_learning_rate(
      10);
  RoundInput input = machine.Run(machine.Begin(spec), 1);
  ASSERT_EQ(input.base_state.size(), 2);
  EXPECT_EQ(input.base_state[0].name, "momentum");
  EXPECT_EQ(input.base_state[1].name, kKeptAggregate);
  EXPECT_EQ(input.base.provenance().rule(), "centered_clipping + fedavgm");
  const std::vector<float> first = machine.Values("1.aggregate.safetensors");
  EXPECT_EQ(machine.Values("1.momentum.safetensors"), first);

  machine.Receive(&input);
  const PublishedRound again = machine.Publish(input);
  ASSERT_OK(again.status);
  const std::vector<float> second = machine.Values("2.aggregate.safetensors");
  double moved = 0;
  for (size_t i = 0; i < kParameters; ++i) {
    moved += (second[i] - first[i]) * (second[i] - first[i]);
  }
  // Each of the updates pulls by tau at most.
  EXPECT_GT(moved, 0);
  EXPECT_LT(std::sqrt(moved), 1.0001e-3);
  EXPECT_EQ(again.state.size(), 2);
}

TEST(PublishTest, SameRoundAgain_GivesTheSameBytes) {
  MemoryEnv env;
  Machine machine(&env);
  RoundInput input = machine.Run(machine.Begin(AdamSpec()), 2);
  machine.Receive(&input);
  const PublishedRound once = machine.Publish(input);
  const PublishedRound again = machine.Publish(input);
  ASSERT_OK(once.status);
  ASSERT_OK(again.status);
  EXPECT_EQ(once.manifest.digest(), again.manifest.digest());
  EXPECT_EQ(once.state, again.state);
}

TEST(PublishTest, StateMissingOrCorrupt_IsDataLossAndLeavesNothing) {
  MemoryEnv env;
  Machine machine(&env);
  RoundInput input = machine.Run(machine.Begin(AdamSpec()), 2);
  machine.Receive(&input);
  const std::vector<std::string> files = machine.Files();
  const auto expect_loss = [&](const RoundInput& round, const char* what) {
    EXPECT_THAT(machine.Publish(round).status,
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(what)));
  };

  RoundInput unnamed = input;
  unnamed.base_state.pop_back();
  expect_loss(unnamed, "no state \"momentum\" for version 2 of job job");
  EXPECT_EQ(machine.Files(), files);

  const std::string path =
      machine.store()->StatePathOf("job", 2, "second_moment");
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(&env, path, 1 << 20));
  std::string bad = bytes;
  bad[bad.size() - 3] ^= 0x10;
  ASSERT_OK(WriteFileAtomically(&env, path, bad));
  expect_loss(input, "2.second_moment.safetensors: digest");
  EXPECT_EQ(machine.Files(), files);
  ASSERT_OK(WriteFileAtomically(&env, path, bytes.substr(0, 100)));
  expect_loss(input, "2.second_moment.safetensors: 100 bytes");
  ASSERT_OK(env.Remove(path));
  expect_loss(input, "2.second_moment.safetensors");
  ASSERT_OK(WriteFileAtomically(&env, path, bytes));
  EXPECT_OK(machine.Publish(input).status);
}

TEST(PublishTest, RoundThatFails_AdvancesNoState) {
  MemoryEnv env;
  Machine machine(&env);
  RoundInput input = machine.Run(machine.Begin(AdamSpec()), 1);
  machine.Receive(&input);
  const std::vector<std::string> files = machine.Files();
  RoundInput empty = input;
  empty.updates.clear();
  EXPECT_THAT(machine.Publish(empty).status,
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(machine.Files(), files);
  // What follows is what would have followed without it.
  const PublishedRound published = machine.Publish(input);
  ASSERT_OK(published.status);

  MemoryEnv other_env;
  Machine other(&other_env);
  RoundInput undisturbed = other.Run(other.Begin(AdamSpec()), 2);
  EXPECT_EQ(published.manifest.digest(), undisturbed.base.digest());
  EXPECT_EQ(published.state, undisturbed.base_state);
}

TEST(PublishTest, Overflow_NamesTheElementAndLeavesNothing) {
  MemoryEnv env;
  Machine machine(&env);
  v1::JobSpec spec = Spec();
  spec.mutable_aggregation()
      ->mutable_server_optimizer()
      ->mutable_fedavgm()
      ->set_learning_rate(1e39);
  RoundInput input = machine.Begin(spec);
  machine.Receive(&input);
  EXPECT_THAT(machine.Publish(input).status,
              StatusIs(absl::StatusCode::kInternal,
                       AllOf(HasSubstr("fedavgm's step overflows at "),
                             HasSubstr("["))));
  EXPECT_THAT(machine.Files(), ElementsAre("0.leaves", "0.safetensors"));
}

// The process dies at each operation in turn, then the machine loses power. The
// base and its state are untouched, and the round, done again from them, gives
// the bytes that it gives undisturbed.
TEST(PublishTest, DeathAtAnyOperation_TheRoundCanBeDoneAgain) {
  std::string expected;
  std::vector<StateFile> expected_state;
  for (int64_t k = 1;; ++k) {
    MemoryEnv memory;
    FaultInjectingEnv env(&memory);
    Machine machine(&env);
    RoundInput input = machine.Run(machine.Begin(AdamSpec()), 1);
    machine.Receive(&input);
    env.FailAllFrom(k, absl::DataLossError("dead"));
    const bool done = machine.Publish(input).status.ok();
    env.StopFailing();
    memory.CrashAndLoseUnsynced();

    Machine again(&memory);
    ASSERT_OK(again.store()->RemoveStrayState("job", {{1, input.base_state}}));
    EXPECT_THAT(again.Files(),
                Not(testing::Contains(testing::StartsWith("2.momentum"))))
        << "operation " << k;
    again.Receive(&input);
    const PublishedRound published = again.Publish(input);
    ASSERT_OK(published.status) << "operation " << k;
    if (k == 1) expected = published.manifest.digest();
    if (k == 1) expected_state = published.state;
    EXPECT_EQ(published.manifest.digest(), expected) << "operation " << k;
    EXPECT_EQ(published.state, expected_state) << "operation " << k;
    if (done) break;
    ASSERT_LT(k, 1000) << "never succeeds";
  }
}

// As FailAllFrom, but the process lives on: each single failure is cleared up
// at once.
TEST(PublishTest, FailureOfAnyWriteSyncOrRename_LeavesNothing) {
  using Operation = FaultInjectingEnv::Operation;
  for (const Operation operation :
       {Operation::kOpen, Operation::kResize, Operation::kWrite,
        Operation::kSync, Operation::kRename}) {
    for (int64_t k = 1;; ++k) {
      MemoryEnv memory;
      FaultInjectingEnv env(&memory);
      Machine machine(&env);
      RoundInput input = machine.Run(machine.Begin(AdamSpec()), 1);
      machine.Receive(&input);
      const std::vector<std::string> files = machine.Files();
      env.FailAt(operation, k, absl::ResourceExhaustedError("disk full"));
      const absl::Status status = machine.Publish(input).status;
      env.StopFailing();
      if (status.ok()) break;
      EXPECT_EQ(machine.Files(), files)
          << "operation " << static_cast<int>(operation) << ", " << k;
      ASSERT_LT(k, 100) << "never succeeds";
    }
  }
}

TEST(PublishTest, RemovePublished_TakesVersionAndState) {
  MemoryEnv env;
  Machine machine(&env);
  RoundInput input = machine.Run(machine.Begin(AdamSpec()), 1);
  const std::vector<std::string> files = machine.Files();
  machine.Receive(&input);
  const PublishedRound published = machine.Publish(input);
  ASSERT_OK(published.status);
  ASSERT_OK(RemovePublished(machine.store(), "job", 2, published.state));
  EXPECT_EQ(machine.Files(), files);
  EXPECT_OK(RemovePublished(machine.store(), "job", 2, published.state));
}

TEST(PublishTest, AnotherJobsModel_BeginsWithFreshState) {
  MemoryEnv env;
  Machine machine(&env);
  const RoundInput first = machine.Run(machine.Begin(AdamSpec()), 2);
  v1::JobSpec spec = AdamSpec();
  spec.set_name("next");
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest begun,
                       PublishInitialModel(machine.store(), spec, kSubmitted,
                                           &first.base, machine.options()));
  RoundInput input;
  input.spec = spec;
  input.base = begun;
  machine.Receive(&input);
  EXPECT_EQ(input.round, 1);
  EXPECT_OK(machine.Publish(input).status);
}

// No read or write is longer than a window of the aggregator, whatever the
// model's size.
class BlockEnv final : public Env {
 public:
  explicit BlockEnv(Env* base) : base_(base) {}

  size_t longest() const { return longest_; }

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                             OpenMode mode) override {
    auto file = base_->Open(path, mode);
    if (!file.ok()) return file.status();
    return std::make_unique<BlockFile>(*std::move(file), &longest_);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return base_->Rename(from, to);
  }
  absl::Status Remove(const std::string& path) override {
    return base_->Remove(path);
  }
  absl::Status SyncDir(const std::string& dir) override {
    return base_->SyncDir(dir);
  }
  absl::Status MakeDirs(const std::string& dir) override {
    return base_->MakeDirs(dir);
  }
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) override {
    return base_->List(dir);
  }
  bool Exists(const std::string& path) override { return base_->Exists(path); }
  absl::StatusOr<bool> IsPrivate(const std::string& path) override {
    return base_->IsPrivate(path);
  }

 private:
  class BlockFile final : public File {
   public:
    BlockFile(std::unique_ptr<File> file, size_t* longest)
        : file_(std::move(file)), longest_(longest) {}
    absl::Status ReadAt(uint64_t offset, size_t size,
                        void* data) const override {
      *longest_ = std::max(*longest_, size);
      return file_->ReadAt(offset, size, data);
    }
    absl::Status WriteAt(uint64_t offset, const void* data,
                         size_t size) override {
      *longest_ = std::max(*longest_, size);
      return file_->WriteAt(offset, data, size);
    }
    absl::Status Sync() override { return file_->Sync(); }
    absl::StatusOr<uint64_t> Size() const override { return file_->Size(); }
    absl::Status Resize(uint64_t size) override { return file_->Resize(size); }

   private:
    const std::unique_ptr<File> file_;
    size_t* const longest_;
  };

  Env* const base_;
  size_t longest_ = 0;
};

TEST(PublishTest, LargeModel_GoesThroughInBlocks) {
  constexpr size_t kLarge = 2'400'002;  // 9.2 MiB
  MemoryEnv memory;
  Machine machine(&memory, 64 << 20);
  v1::JobSpec spec = AdamSpec();
  spec.mutable_model()->set_input_shape(0, 1'200'000);
  RoundInput input = machine.Begin(spec);
  machine.Receive(&input, kLarge);
  // Writing the updates was one call each; count from here.
  BlockEnv counted(&memory);
  ModelStore store(&counted, "/data/models", 64 << 10);
  auto spool = Spool::Open(&counted, "/data/spool", {.max_bytes = 64 << 20},
                           {input.updates[0].extent, input.updates[1].extent,
                            input.updates[2].extent});
  ASSERT_OK(spool);
  ThreadPool pool(1);
  const PublishedRound published =
      PublishRound(&store, **spool, &pool, input, machine.options());
  ASSERT_OK(published.status);
  EXPECT_EQ(published.state.size(), 2);
  EXPECT_LE(counted.longest(), 4u << 20);
}

}  // namespace
}  // namespace koinon::coordinator
