#include "worker/train/training_run.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/status_matchers.h"
#include "kernels/graph/model_graph.h"
#include "kernels/reference/reference_network.h"
#include "worker/train/testtask.h"

namespace koinon::worker {
namespace {

using testing::HasSubstr;

// What the members of a site share in a test: each step's gradients wait here
// until all have come, and are summed in the members' order.
class Meeting {
 public:
  explicit Meeting(size_t members)
      : weighted(members), statuses(members), members_(members) {}

  // Blocks until all members have called. The last one to come runs `combine`.
  template <typename Combine>
  void Meet(const Combine& combine) {
    MutexLock lock(&mutex_);
    const int64_t turn = turn_;
    if (++arrived_ == members_) {
      combine();
      arrived_ = 0;
      ++turn_;
      changed_.SignalAll();
    }
    while (turn_ == turn) changed_.Wait(&mutex_);
  }

  // Written by each member before it comes, by the last one for all.
  std::vector<std::vector<float>> weighted;
  std::vector<absl::Status> statuses;
  std::vector<float> sum;

 private:
  const size_t members_;
  Mutex mutex_;
  CondVar changed_;
  size_t arrived_ = 0;
  int64_t turn_ = 0;
};

class MeetingExchange final : public GradientExchange {
 public:
  MeetingExchange(size_t index, Meeting* meeting)
      : index_(index), meeting_(meeting) {}

  void Start(int64_t step, double weight,
             absl::Span<float> gradients) override {
    EXPECT_EQ(step, steps_++);
    weight_ = weight;
    gradients_ = gradients;
    told_.assign(gradients.size(), 0);
  }
  void Ready(size_t begin, size_t end) override {
    for (size_t i = begin; i < end; ++i) ++told_[i];
  }
  absl::Status Finish(const absl::Status& own) override {
    if (own.ok()) {
      for (int times : told_) EXPECT_EQ(times, 1);
    }
    std::vector<float>& mine = meeting_->weighted[index_];
    mine.assign(gradients_.begin(), gradients_.end());
    for (float& value : mine) value = static_cast<float>(value * weight_);
    meeting_->statuses[index_] = own;
    meeting_->Meet([this] {
      meeting_->sum.assign(gradients_.size(), 0);
      for (const auto& part : meeting_->weighted) {
        for (size_t i = 0; i < part.size(); ++i) meeting_->sum[i] += part[i];
      }
    });
    std::copy(meeting_->sum.begin(), meeting_->sum.end(), gradients_.begin());
    absl::Status all;
    for (const absl::Status& status : meeting_->statuses) all.Update(status);
    meeting_->Meet([] {});  // everyone has read
    return all;
  }
  absl::Status Stepped(int64_t step, absl::Span<float>) override {
    EXPECT_EQ(step, steps_ - 1);
    return absl::OkStatus();
  }

 private:
  const size_t index_;
  Meeting* const meeting_;
  int64_t steps_ = 0;
  double weight_ = 0;
  absl::Span<float> gradients_;
  std::vector<int> told_;
};

// A small model with what one run of it needs.
class TrainingRunTest : public testing::Test {
 protected:
  struct Result {
    absl::Status status;
    std::vector<float> parameters;
    TrainingTotals totals;
  };

  TrainingRunTest() {
    spec_ = testtask::BlobOffer().training();
    spec_.mutable_optimizer()->mutable_adam()->set_learning_rate(0.01);
    model_.add_input_shape(2);
    model_.mutable_mlp()->add_hidden(5);
    model_.mutable_mlp()->set_classes(3);
  }

  std::unique_ptr<kernels::Network> MakeNetwork() {
    const auto graph = kernels::ModelGraph::Build(model_);
    EXPECT_OK(graph);
    auto network = kernels::NewReferenceNetwork(*graph, {.batch_size = 32});
    EXPECT_OK(network);
    graph->InitializeParameters(3, 0, (*network)->parameters());
    return *std::move(network);
  }
  TrainingRun::Options RunOptions() {
    const auto plan = PlanTraining(spec_, data_.size());
    EXPECT_OK(plan);
    TrainingRun::Options options;
    options.spec = &spec_;
    options.plan = *plan;
    options.data = &data_;
    options.seed = 7;
    return options;
  }
  std::unique_ptr<kernels::LocalOptimizer> MakeOptimizer(
      kernels::Network* network) {
    auto optimizer = kernels::LocalOptimizer::Create(
        spec_.optimizer(), network->parameters().size());
    EXPECT_OK(optimizer);
    return *std::move(optimizer);
  }
  Result Run(const TrainingRun::Options& options,
             const std::atomic<bool>& stop) {
    const auto network = MakeNetwork();
    const auto optimizer = MakeOptimizer(network.get());
    TrainingRun run(options, network.get(), optimizer.get());
    const auto totals = run.Finish(nullptr, stop);
    Result result;
    result.status = totals.status();
    if (totals.ok()) result.totals = *totals;
    result.parameters.assign(network->parameters().begin(),
                             network->parameters().end());
    return result;
  }
  // `members` threads, each a member of one site; `stop` is the last one's.
  std::vector<Result> RunSite(size_t members, const std::atomic<bool>& stop) {
    Meeting meeting(members);
    std::vector<Result> results(members);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < members; ++i) {
      threads.emplace_back([&, i] {
        MeetingExchange exchange(i, &meeting);
        TrainingRun::Options options = RunOptions();
        options.exchange = &exchange;
        options.shard = {.index = i, .count = members};
        results[i] = Run(options, i + 1 == members ? stop : never_);
      });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }

  const std::atomic<bool> never_{false};
  v1::ModelSpec model_;
  v1::TrainingSpec spec_;
  const Dataset data_ = testtask::Blobs(52, 3, 1);  // batches of 16: 4 are left
};

TEST_F(TrainingRunTest, MembersOfASite_MakeTheStepsOfOneAlone) {
  spec_.set_clip_norm(1);
  const Result alone = Run(RunOptions(), never_);
  ASSERT_OK(alone.status);
  for (size_t members : {2, 3, 5}) {
    const std::vector<Result> site = RunSite(members, never_);
    int64_t examples = 0;
    for (const Result& member : site) {
      ASSERT_OK(member.status);
      EXPECT_EQ(member.parameters, site[0].parameters);
      examples += member.totals.examples;
    }
    EXPECT_EQ(examples, alone.totals.examples);
    for (size_t i = 0; i < alone.parameters.size(); ++i) {
      // 20 steps of at most 0.01 (Adam), each off by the gradients' rounding:
      // a relative 1e-6 of values that Adam's quotient magnifies where a
      // gradient passes through zero.
      EXPECT_NEAR(site[0].parameters[i], alone.parameters[i], 1e-4);
    }
  }
}

TEST_F(TrainingRunTest, MoreMembersThanTheLastBatchHas_StillMakeItsStep) {
  const Result alone = Run(RunOptions(), never_);
  const std::vector<Result> site = RunSite(7, never_);
  for (const Result& member : site) {
    ASSERT_OK(member.status);
    EXPECT_EQ(member.parameters, site[0].parameters);
  }
  for (size_t i = 0; i < alone.parameters.size(); ++i) {
    EXPECT_NEAR(site[0].parameters[i], alone.parameters[i], 1e-4);
  }
}

TEST_F(TrainingRunTest, OneMemberStopped_EndsThemAll) {
  const std::atomic<bool> stopped{true};
  for (const Result& member : RunSite(3, stopped)) {
    EXPECT_THAT(member.status, StatusIs(absl::StatusCode::kCancelled));
  }
}

TEST_F(TrainingRunTest, StartedInTheMidst_GoesOnAsItWouldHave) {
  // No state of the optimizer: parameters are all that there is to carry over.
  spec_.mutable_optimizer()->mutable_sgd()->set_learning_rate(0.1);
  spec_.mutable_schedule()->mutable_cosine()->set_steps(20);
  const auto network = MakeNetwork();
  const auto optimizer = MakeOptimizer(network.get());
  TrainingRun whole(RunOptions(), network.get(), optimizer.get());
  // In the second epoch, after two of its batches.
  while (whole.steps() < 6) ASSERT_OK(whole.Step(never_).status());

  const auto other = MakeNetwork();
  const auto fresh = MakeOptimizer(other.get());
  std::copy(network->parameters().begin(), network->parameters().end(),
            other->parameters().begin());
  TrainingRun rest(RunOptions(), other.get(), fresh.get());
  rest.StartAt(whole.steps(), whole.rates());

  ASSERT_OK(whole.Finish(nullptr, never_).status());
  ASSERT_OK(rest.Finish(nullptr, never_).status());
  EXPECT_EQ(whole.rates(), rest.rates());
  EXPECT_TRUE(std::equal(network->parameters().begin(),
                         network->parameters().end(),
                         other->parameters().begin()));
}

TEST_F(TrainingRunTest, Totals_AreThoseOfTheLastEpoch) {
  const Result result = Run(RunOptions(), never_);
  ASSERT_OK(result.status);
  EXPECT_EQ(result.totals.examples, 52);
  EXPECT_EQ(result.totals.labels, 52);
  EXPECT_GT(result.totals.MeanLoss(), 0);
}

TEST(CheckTrainingTerms, FieldsOutOfRange_AreRefusedByName) {
  v1::TrainingSpec spec;
  EXPECT_OK(CheckTrainingTerms(spec));
  spec.set_clip_norm(-1);
  EXPECT_THAT(CheckTrainingTerms(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("training.clip_norm")));
  spec.set_clip_norm(std::nan(""));
  EXPECT_THAT(CheckTrainingTerms(spec),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("training.clip_norm")));
}

}  // namespace
}  // namespace koinon::worker
