// A coordinator and scripted workers in one process, over real connections.

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/integration/coordinator_fixture.h"

namespace koinon::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CoordinatorTest : public CoordinatorFixture {
 protected:
  static constexpr size_t kParameters = 6;

  std::unique_ptr<TestWorker> JoinedWorker(const std::string& name) {
    auto worker = NewWorker(name);
    worker->Open();
    EXPECT_THAT(worker->Await(v1::CoordinatorMessage::kWelcome), IsOk());
    return worker;
  }
  static std::vector<float> Filled(float value) {
    return std::vector<float>(kParameters, value);
  }
};

TEST_F(CoordinatorTest, Round_TwoWorkers_PublishesBasePlusWeightedMean) {
  Start();
  auto a = JoinedWorker("a");
  auto b = JoinedWorker("b");
  ASSERT_OK(Submit(SmallJob("job", 1, 2)));
  ASSERT_OK_AND_ASSIGN(auto reply_a, a->TrainOnce(Filled(1), 30));
  EXPECT_TRUE(reply_a.accepted());
  ASSERT_OK_AND_ASSIGN(auto reply_b, b->TrainOnce(Filled(5), 10));
  EXPECT_TRUE(reply_b.accepted());
  ASSERT_OK_AND_ASSIGN(auto end, AwaitEnd("job"));
  EXPECT_EQ(end.state(), v1::SUCCEEDED);
  ASSERT_OK_AND_ASSIGN(auto settled,
                       a->Await(v1::CoordinatorMessage::kUpdateSettled));
  EXPECT_EQ(settled.update_settled().outcome(), v1::UpdateSettled::INCLUDED);

  const std::vector<float> before = Values("job", 0), after = Values("job", 1);
  ASSERT_EQ(before.size(), kParameters);
  for (size_t i = 0; i < kParameters; ++i) {
    // (30 * 1 + 10 * 5) / 40 = 2; one rounding of the sum at magnitude 4.
    EXPECT_NEAR(after[i] - before[i], 2.0f, 5e-7f);
  }
  const auto rounds = Rounds("job");
  ASSERT_EQ(rounds.size(), 1u);
  EXPECT_THAT(rounds[0].included(), ElementsAre("a", "b"));
  EXPECT_EQ(rounds[0].training().examples(), 40);
}

TEST_F(CoordinatorTest, Update_WithNan_IsRefusedByNameAndTheRoundGoesOn) {
  Start();
  auto good = JoinedWorker("good");
  auto bad = JoinedWorker("bad");
  v1::JobSpec spec = SmallJob("job", 1, 2);
  spec.mutable_cohort()->set_minimum(1);
  ASSERT_OK(Submit(spec));
  std::vector<float> poison = Filled(1);
  poison[4] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_OK_AND_ASSIGN(auto refused, bad->TrainOnce(poison, 1000));
  EXPECT_FALSE(refused.accepted());
  EXPECT_THAT(refused.reason(), HasSubstr("[4]"));
  EXPECT_THAT(refused.reason(), HasSubstr("bad"));
  ASSERT_OK_AND_ASSIGN(auto accepted, good->TrainOnce(Filled(1), 1));
  EXPECT_TRUE(accepted.accepted());
  ASSERT_OK_AND_ASSIGN(auto end, AwaitEnd("job"));
  EXPECT_EQ(end.state(), v1::SUCCEEDED);
  const auto rounds = Rounds("job");
  ASSERT_EQ(rounds.size(), 1u);
  EXPECT_THAT(rounds[0].included(), ElementsAre("good"));
  ASSERT_EQ(rounds[0].excluded_size(), 1);
  EXPECT_EQ(rounds[0].excluded(0).worker(), "bad");
}

TEST_F(CoordinatorTest, Update_HeaderThatDoesNotFit_IsSettledAsNotIncluded) {
  Start();
  auto worker = JoinedWorker("a");
  ASSERT_OK(Submit(SmallJob("job", 1, 1)));
  ASSERT_OK_AND_ASSIGN(auto offer,
                       worker->Await(v1::CoordinatorMessage::kOfferTask));
  v1::UpdateHeader header =
      worker->HeaderFor(offer.offer_task(), Filled(1), 10);
  header.set_layout_hash(std::string(32, 'x'));
  worker->Announce(header);
  ASSERT_OK_AND_ASSIGN(auto settled,
                       worker->Await(v1::CoordinatorMessage::kUpdateSettled));
  EXPECT_EQ(settled.update_settled().outcome(),
            v1::UpdateSettled::NOT_INCLUDED);
  EXPECT_THAT(settled.update_settled().reason(), HasSubstr("layout"));
}

TEST_F(CoordinatorTest, Push_WithoutGrant_IsRefused) {
  Start();
  auto worker = JoinedWorker("a");
  ASSERT_OK(Submit(SmallJob("job", 1, 1)));
  ASSERT_OK_AND_ASSIGN(auto offer,
                       worker->Await(v1::CoordinatorMessage::kOfferTask));
  const auto header = worker->HeaderFor(offer.offer_task(), Filled(1), 10);
  EXPECT_THAT(worker->Push(header, TestWorker::BytesOf(Filled(1)), 0, 64),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(CoordinatorTest, Push_BrokenOff_GoesOnFromTheGrantedOffset) {
  Start();
  auto worker = JoinedWorker("a");
  ASSERT_OK(Submit(SmallJob("job", 1, 1)));
  ASSERT_OK_AND_ASSIGN(auto offer,
                       worker->Await(v1::CoordinatorMessage::kOfferTask));
  const auto header = worker->HeaderFor(offer.offer_task(), Filled(1), 10);
  const std::string bytes = TestWorker::BytesOf(Filled(1));
  worker->Announce(header);
  ASSERT_OK(worker->Await(v1::CoordinatorMessage::kGrantUpload));
  EXPECT_THAT(worker->Push(header, bytes, 0, 8, /*limit=*/2),
              StatusIs(absl::StatusCode::kAborted));
  worker->Announce(header);
  ASSERT_OK_AND_ASSIGN(auto grant,
                       worker->Await(v1::CoordinatorMessage::kGrantUpload));
  EXPECT_EQ(grant.grant_upload().offset(), 16);
  ASSERT_OK_AND_ASSIGN(auto reply, worker->Push(header, bytes, 16, 8));
  EXPECT_TRUE(reply.accepted());
}

TEST_F(CoordinatorTest, Update_AnnouncedAgainAfterAcceptance_IsCountedOnce) {
  Start();
  auto a = JoinedWorker("a");
  auto b = JoinedWorker("b");
  ASSERT_OK(Submit(SmallJob("job", 1, 2)));
  ASSERT_OK_AND_ASSIGN(auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  const auto header = a->HeaderFor(offer.offer_task(), Filled(1), 10);
  const std::string bytes = TestWorker::BytesOf(Filled(1));
  a->Announce(header);
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kGrantUpload));
  ASSERT_OK(a->Push(header, bytes, 0, 64));
  a->Announce(header);
  ASSERT_OK_AND_ASSIGN(auto settled,
                       a->Await(v1::CoordinatorMessage::kUpdateSettled));
  EXPECT_EQ(settled.update_settled().outcome(), v1::UpdateSettled::ACCEPTED);
  // Another update of the same worker: the first is kept.
  a->Announce(a->HeaderFor(offer.offer_task(), Filled(9), 10));
  ASSERT_OK_AND_ASSIGN(auto second,
                       a->Await(v1::CoordinatorMessage::kUpdateSettled));
  EXPECT_EQ(second.update_settled().outcome(), v1::UpdateSettled::NOT_INCLUDED);
  ASSERT_OK(b->TrainOnce(Filled(1), 10));
  ASSERT_OK(AwaitEnd("job"));
  const auto rounds = Rounds("job");
  ASSERT_EQ(rounds.size(), 1u);
  EXPECT_EQ(rounds[0].included_size(), 2);
  EXPECT_EQ(rounds[0].training().examples(), 20);
}

TEST_F(CoordinatorTest, Update_AfterTheRoundClosed_IsNotIncluded) {
  Start();
  auto fast = JoinedWorker("fast");
  auto slow = JoinedWorker("slow");
  v1::JobSpec spec = SmallJob("job", 1, 1);
  spec.mutable_cohort()->set_over_selection(2);
  ASSERT_OK(Submit(spec));
  ASSERT_OK_AND_ASSIGN(auto offer,
                       slow->Await(v1::CoordinatorMessage::kOfferTask));
  ASSERT_OK(fast->TrainOnce(Filled(1), 1));
  ASSERT_OK(AwaitEnd("job"));
  slow->Announce(slow->HeaderFor(offer.offer_task(), Filled(9), 9));
  ASSERT_OK_AND_ASSIGN(auto settled,
                       slow->Await(v1::CoordinatorMessage::kUpdateSettled));
  EXPECT_EQ(settled.update_settled().outcome(),
            v1::UpdateSettled::NOT_INCLUDED);
  EXPECT_THAT(Rounds("job")[0].included(), ElementsAre("fast"));
}

TEST_F(CoordinatorTest, Hello_UnknownMajorVersion_IsRefusedWithBothVersions) {
  Start();
  auto worker = NewWorker("a");
  worker->hello().mutable_protocol()->set_major(9);
  worker->Open();
  EXPECT_THAT(worker->Await(v1::CoordinatorMessage::kWelcome),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       ::testing::AllOf(HasSubstr("9.0"), HasSubstr("1.0"))));
}

TEST_F(CoordinatorTest, Hello_BadName_IsRefused) {
  Start();
  auto worker = NewWorker("../../etc");
  worker->Open();
  EXPECT_THAT(worker->Await(v1::CoordinatorMessage::kWelcome),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(CoordinatorTest, Hello_SameNameTwice_TheNewerSessionWins) {
  Start();
  auto first = JoinedWorker("a");
  auto second = JoinedWorker("a");
  EXPECT_THAT(first->Await(v1::CoordinatorMessage::kOfferTask),
              StatusIs(absl::StatusCode::kAborted));
  ASSERT_OK(Submit(SmallJob("job", 1, 1)));
  EXPECT_OK(second->TrainOnce(Filled(1), 1));
}

TEST_F(CoordinatorTest, Restart_MidRound_KeepsTheAcceptedUpdate) {
  Start();
  {
    auto a = JoinedWorker("a");
    auto b = JoinedWorker("b");
    ASSERT_OK(Submit(SmallJob("job", 1, 2)));
    ASSERT_OK_AND_ASSIGN(auto reply, a->TrainOnce(Filled(1), 10));
    EXPECT_TRUE(reply.accepted());
  }
  Stop();
  Start();
  auto a = JoinedWorker("a");
  auto b = JoinedWorker("b");
  ASSERT_OK_AND_ASSIGN(auto reply, b->TrainOnce(Filled(3), 10));
  EXPECT_TRUE(reply.accepted());
  ASSERT_OK_AND_ASSIGN(auto end, AwaitEnd("job"));
  EXPECT_EQ(end.state(), v1::SUCCEEDED);
  EXPECT_THAT(Rounds("job")[0].included(), ElementsAre("a", "b"));
  const auto before = Values("job", 0), after = Values("job", 1);
  EXPECT_NEAR(after[0] - before[0], 2.0f, 5e-7f);
}

TEST_F(CoordinatorTest, Restart_AfterPublication_ServesTheSameVersion) {
  Start();
  {
    auto a = JoinedWorker("a");
    ASSERT_OK(Submit(SmallJob("job", 1, 1)));
    ASSERT_OK(a->TrainOnce(Filled(1), 10));
    ASSERT_OK(AwaitEnd("job"));
  }
  const auto before = Values("job", 1);
  Stop();
  Start();
  EXPECT_EQ(Values("job", 1), before);
  ASSERT_OK_AND_ASSIGN(auto status, Get("job"));
  EXPECT_EQ(status.state(), v1::SUCCEEDED);
  EXPECT_EQ(status.version(), 1);
}

TEST_F(CoordinatorTest, HeldUpdate_ToldInHello_IsTakenWithoutTrainingAgain) {
  Start();
  v1::UpdateHeader header;
  {
    auto a = JoinedWorker("a");
    ASSERT_OK(Submit(SmallJob("job", 1, 1)));
    ASSERT_OK_AND_ASSIGN(auto offer,
                         a->Await(v1::CoordinatorMessage::kOfferTask));
    header = a->HeaderFor(offer.offer_task(), Filled(1), 10);
  }
  auto a = NewWorker("a");
  *a->hello().add_held_updates() = header;
  a->Open();
  ASSERT_OK_AND_ASSIGN(auto grant,
                       a->Await(v1::CoordinatorMessage::kGrantUpload));
  ASSERT_OK(a->Push(header, TestWorker::BytesOf(Filled(1)),
                    grant.grant_upload().offset(), 64));
  EXPECT_OK(AwaitEnd("job"));
}

TEST_F(CoordinatorTest, Refusal_ByEveryone_FailsTheJobWithTheReason) {
  Start();
  auto a = JoinedWorker("a");
  v1::JobSpec spec = SmallJob("job", 1, 1);
  spec.mutable_cohort()->set_deadline_seconds(1);
  spec.mutable_cohort()->set_retries(1);
  ASSERT_OK(Submit(spec));
  ASSERT_OK_AND_ASSIGN(auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  v1::WorkerMessage refuse;
  *refuse.mutable_refuse_task()->mutable_task() = offer.offer_task().task();
  refuse.mutable_refuse_task()->set_reason("no such data");
  a->Send(refuse);
  ASSERT_OK_AND_ASSIGN(auto end, AwaitEnd("job"));
  EXPECT_EQ(end.state(), v1::FAILED);
  EXPECT_FALSE(end.reason().empty());
}

TEST_F(CoordinatorTest, Evaluation_OfThePublishedVersion_IsInTheReport) {
  Start();
  auto a = JoinedWorker("a");
  v1::JobSpec spec = SmallJob("job", 1, 1);
  spec.mutable_evaluation()->set_every_rounds(1);
  ASSERT_OK(Submit(spec));
  ASSERT_OK(a->TrainOnce(Filled(1), 10));
  ASSERT_OK_AND_ASSIGN(auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  EXPECT_EQ(offer.offer_task().task().kind(), v1::TaskRef::EVALUATE);
  EXPECT_EQ(offer.offer_task().base_version(), 1);
  v1::WorkerMessage done;
  auto* evaluation = done.mutable_evaluation_done();
  *evaluation->mutable_task() = offer.offer_task().task();
  evaluation->set_version(1);
  evaluation->mutable_metrics()->set_examples(5);
  evaluation->mutable_metrics()->set_loss(0.5);
  evaluation->mutable_metrics()->set_accuracy(0.75);
  evaluation->mutable_metrics()->set_has_accuracy(true);
  a->Send(done);
  ASSERT_OK_AND_ASSIGN(auto end, AwaitEnd("job"));
  EXPECT_EQ(end.last_report().evaluation().accuracy().mean(), 0.75);
}

TEST_F(CoordinatorTest, Submit_WrongField_SaysWhichAndWhatIsAllowed) {
  Start();
  v1::JobSpec spec = SmallJob("job", 0, 1);
  EXPECT_THAT(Submit(spec), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("rounds")));
}

TEST_F(CoordinatorTest, Submit_SameJobTwice_IsOneJob_AnotherIsRefused) {
  Start();
  ASSERT_OK(Submit(SmallJob("job", 1, 1)));
  EXPECT_OK(Submit(SmallJob("job", 1, 1)));
  EXPECT_THAT(Submit(SmallJob("job", 2, 1)),
              StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(CoordinatorTest, Submit_OverTheBounds_NamesTheBound) {
  spec_.max_jobs = 1;
  spec_.max_model_bytes = 100;
  Start();
  ASSERT_OK(Submit(SmallJob("job", 1, 1)));
  EXPECT_THAT(
      Submit(SmallJob("other", 1, 1)),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("max_jobs")));
  Stop();
  spec_.max_jobs = 10;
  Start();
  v1::JobSpec large = SmallJob("large", 1, 1);
  large.mutable_model()->set_input_shape(0, 1000);
  EXPECT_THAT(Submit(large), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr("max_model_bytes")));
}

TEST_F(CoordinatorTest, Submit_NobodyHasTheData_WarnsAndWaits) {
  Start();
  ASSERT_OK_AND_ASSIGN(auto reply, Submit(SmallJob("job", 1, 1)));
  ASSERT_EQ(reply.warnings_size(), 1);
  EXPECT_THAT(reply.warnings(0), HasSubstr("waits"));
  ASSERT_OK_AND_ASSIGN(auto status, Get("job"));
  EXPECT_EQ(status.state(), v1::PENDING);
}

TEST_F(CoordinatorTest, Cancel_OpenRound_WithdrawsTheTaskAndEndsTheJob) {
  Start();
  auto a = JoinedWorker("a");
  ASSERT_OK(Submit(SmallJob("job", 1, 1)));
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kOfferTask));
  grpc::ClientContext context;
  v1::CancelJobRequest request;
  request.set_name("job");
  v1::JobStatus status;
  ASSERT_TRUE(client().CancelJob(&context, request, &status).ok());
  EXPECT_EQ(status.state(), v1::CANCELLED);
  EXPECT_OK(a->Await(v1::CoordinatorMessage::kWithdrawTask));
}

TEST_F(CoordinatorTest, Pause_BetweenRounds_HoldsTheNextRoundUntilResume) {
  Start();
  auto a = JoinedWorker("a");
  ASSERT_OK(Submit(SmallJob("job", 2, 1)));
  ASSERT_OK_AND_ASSIGN(auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  v1::JobStatus status;
  {
    grpc::ClientContext context;
    v1::PauseJobRequest request;
    request.set_name("job");
    ASSERT_TRUE(client().PauseJob(&context, request, &status).ok());
    EXPECT_EQ(status.state(), v1::PAUSED);
  }
  const auto header = a->HeaderFor(offer.offer_task(), Filled(1), 10);
  a->Announce(header);
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kGrantUpload));
  ASSERT_OK(a->Push(header, TestWorker::BytesOf(Filled(1)), 0, 64));
  ASSERT_OK(AwaitEvent("job", [](const v1::JobEvent& event) {
    return event.has_round_closed() || event.has_evaluated();
  }));
  ASSERT_OK_AND_ASSIGN(status, Get("job"));
  EXPECT_EQ(status.state(), v1::PAUSED);
  {
    grpc::ClientContext context;
    v1::ResumeJobRequest request;
    request.set_name("job");
    ASSERT_TRUE(client().ResumeJob(&context, request, &status).ok());
  }
  ASSERT_OK(a->TrainOnce(Filled(1), 10));
  ASSERT_OK_AND_ASSIGN(auto end, AwaitEnd("job"));
  EXPECT_EQ(end.version(), 2);
}

TEST_F(CoordinatorTest, TwoJobs_OneWorker_TheHigherPriorityGoesFirst) {
  Start();
  v1::JobSpec low = SmallJob("low", 1, 1), high = SmallJob("high", 1, 1);
  high.set_priority(5);
  ASSERT_OK(Submit(low));
  ASSERT_OK(Submit(high));
  // Both have their first model before anybody can be asked.
  for (const char* job : {"low", "high"}) {
    ASSERT_OK(AwaitEvent(job, [](const v1::JobEvent& event) {
      return event.has_status() &&
             event.status().reason().find("initial") == std::string::npos;
    }));
  }
  auto a = JoinedWorker("a");
  ASSERT_OK_AND_ASSIGN(auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  EXPECT_EQ(offer.offer_task().task().job(), "high");
}

TEST_F(CoordinatorTest, InitialModel_OfAnotherJob_IsWhereTheNewJobStarts) {
  Start();
  auto a = JoinedWorker("a");
  ASSERT_OK(Submit(SmallJob("first", 1, 1)));
  ASSERT_OK(a->TrainOnce(Filled(1), 10));
  ASSERT_OK(AwaitEnd("first"));
  v1::JobSpec spec = SmallJob("second", 1, 1);
  spec.set_initial_model("first@1");
  ASSERT_OK(Submit(spec));
  ASSERT_OK(a->TrainOnce(Filled(1), 10));
  ASSERT_OK(AwaitEnd("second"));
  EXPECT_EQ(Values("second", 0), Values("first", 1));
  spec = SmallJob("third", 1, 1);
  spec.set_initial_model("first@7");
  EXPECT_THAT(Submit(spec), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(CoordinatorTest, Pull_FromAnOffset_GivesTheRest) {
  spec_.chunk_bytes = 4096;
  Start();
  v1::JobSpec spec = SmallJob("job", 1, 1);
  spec.mutable_model()->set_input_shape(0, 5000);
  ASSERT_OK(Submit(spec));
  ASSERT_OK(AwaitEvent("job", [](const v1::JobEvent& event) {
    return event.has_status() &&
           event.status().reason().find("initial") == std::string::npos;
  }));
  auto worker = NewWorker("a");
  v1::ModelManifest manifest;
  ASSERT_OK_AND_ASSIGN(auto whole, worker->Pull("job", 0, 0, &manifest));
  EXPECT_GT(manifest.chunk_digests_size(), 5);
  ASSERT_OK_AND_ASSIGN(auto rest, worker->Pull("job", -1, 8192, &manifest));
  EXPECT_EQ(rest, whole.substr(8192));
  EXPECT_THAT(worker->Pull("job", 0, 5, &manifest),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(worker->Pull("job", 3, 0, &manifest),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(CoordinatorTest, Start_SecondOnTheSameState_IsRefused) {
  Start();
  const RealClock clock;
  coordinator::Server::Options options;
  options.clock = &clock;
  EXPECT_THAT(coordinator::Server::Start(spec_, std::move(options)),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("another coordinator")));
}

TEST_F(CoordinatorTest, Start_NeitherTlsNorInsecure_IsRefused) {
  spec_.insecure = false;
  const RealClock clock;
  coordinator::Server::Options options;
  options.clock = &clock;
  EXPECT_THAT(
      coordinator::Server::Start(spec_, std::move(options)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--insecure")));
}

}  // namespace
}  // namespace koinon::testing
