#include "tools/cli/client.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/tls.h"
#include "proto/client.grpc.pb.h"
#include "tools/cli/watch.h"

namespace koinon::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Answers what a test tells it to.
class FakeCoordinator final : public v1::ClientService::Service {
 public:
  grpc::Status SubmitJob(grpc::ServerContext*,
                         const v1::SubmitJobRequest* request,
                         v1::SubmitJobReply* reply) override {
    if (request->spec().rounds() < 1) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "rounds: 0, must be >= 1"};
    }
    *reply->mutable_status()->mutable_spec() = request->spec();
    reply->mutable_status()->set_name(request->spec().name());
    return grpc::Status::OK;
  }
  grpc::Status ListRounds(grpc::ServerContext*,
                          const v1::ListRoundsRequest* request,
                          v1::ListRoundsReply* reply) override {
    // Ten rounds, at most three in a reply.
    int64_t left =
        request->limit() == 0 ? 3 : std::min<int64_t>(request->limit(), 3);
    for (int64_t round = request->after_round() + 1; round <= 10 && left > 0;
         ++round, --left) {
      reply->add_rounds()->set_round(round);
    }
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::JobEvent>* writer) override {
    const size_t call = watch_calls++;
    if (call >= streams.size()) {
      return {grpc::StatusCode::NOT_FOUND, "no job of this name"};
    }
    for (const v1::JobState state : streams[call]) {
      v1::JobEvent event;
      event.mutable_status()->set_state(state);
      writer->Write(event);
    }
    return call + 1 < streams.size()
               ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "stopping")
               : grpc::Status::OK;
  }
  grpc::Status PullModel(
      grpc::ServerContext* context, const v1::PullModelRequest* request,
      grpc::ServerWriter<v1::PullModelReply>* writer) override {
    v1::PullModelReply reply;
    reply.mutable_manifest()->set_job(request->job());
    writer->Write(reply);
    while (endless && !context->IsCancelled()) {
      reply.mutable_chunk()->set_data(std::string(1 << 20, 'x'));
      if (!writer->Write(reply)) break;
    }
    return grpc::Status::OK;
  }

  // The states that each WatchJob call tells before it breaks off; the last
  // ends well.
  std::vector<std::vector<v1::JobState>> streams;
  size_t watch_calls = 0;
  bool endless = false;
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", MakeInsecureServerCredentials(),
                             &port);
    builder.RegisterService(&coordinator_);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
    client_ = Client::Create(address_, MakeInsecureChannelCredentials());
  }

  absl::StatusOr<v1::JobStatus> Watch(int retries = 3) {
    return WatchUntilEnd(client_.get(), "digits",
                         {.from_start = true,
                          .retries = retries,
                          .retry_delay = absl::ZeroDuration()},
                         [this](const v1::JobEvent& event) {
                           states_.push_back(event.status().state());
                         });
  }

  FakeCoordinator coordinator_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::unique_ptr<Client> client_;
  std::vector<v1::JobState> states_;
};

TEST_F(ClientTest, SubmitJob_CarriesTheSpec) {
  v1::JobSpec spec;
  spec.set_name("digits");
  spec.set_rounds(3);
  ASSERT_OK_AND_ASSIGN(const v1::SubmitJobReply reply,
                       client_->SubmitJob(spec));
  EXPECT_EQ(reply.status().name(), "digits");
  EXPECT_EQ(reply.status().spec().rounds(), 3);
}

TEST_F(ClientTest, CoordinatorsError_KeepsCodeAndMessage) {
  EXPECT_THAT(
      client_->SubmitJob({}),
      StatusIs(absl::StatusCode::kInvalidArgument, "rounds: 0, must be >= 1"));
}

TEST_F(ClientTest, ListRounds_CarriesItsBounds) {
  ASSERT_OK_AND_ASSIGN(const auto reply, client_->ListRounds("digits", 4, 2));
  ASSERT_EQ(reply.rounds_size(), 2);
  EXPECT_EQ(reply.rounds(0).round(), 5);
}

TEST_F(ClientTest, ListRounds_MoreThanOneReplyHolds_AsksOn) {
  ASSERT_OK_AND_ASSIGN(const auto five, client_->ListRounds("digits", 4, 5));
  ASSERT_EQ(five.rounds_size(), 5);
  EXPECT_EQ(five.rounds(4).round(), 9);
  ASSERT_OK_AND_ASSIGN(const auto all, client_->ListRounds("digits", 0, 0));
  ASSERT_EQ(all.rounds_size(), 10);
  EXPECT_EQ(all.rounds(9).round(), 10);
}

TEST_F(ClientTest, NoCoordinator_IsUnavailableAndNamesTheAddress) {
  server_->Shutdown();
  server_.reset();
  EXPECT_THAT(client_->ListJobs(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address_)));
}

TEST_F(ClientTest, CallbackThatHasEnough_EndsTheStream) {
  coordinator_.endless = true;
  int parts = 0;
  v1::PullModelRequest request;
  request.set_job("digits");
  EXPECT_OK(client_->PullModel(
      request, [&](const v1::PullModelReply&) { return ++parts < 3; }));
  EXPECT_EQ(parts, 3);
}

TEST_F(ClientTest, Watch_EndsWithTheJob) {
  coordinator_.streams = {{v1::PENDING, v1::RUNNING, v1::SUCCEEDED}};
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus status, Watch());
  EXPECT_EQ(status.state(), v1::SUCCEEDED);
  EXPECT_THAT(states_, ElementsAre(v1::PENDING, v1::RUNNING, v1::SUCCEEDED));
}

TEST_F(ClientTest, BrokenWatch_IsTakenUpAgain) {
  coordinator_.streams = {{v1::RUNNING}, {}, {v1::RUNNING, v1::FAILED}};
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus status, Watch());
  EXPECT_EQ(status.state(), v1::FAILED);
  EXPECT_EQ(coordinator_.watch_calls, 3u);
}

TEST_F(ClientTest, WatchThatNeverReturns_GivesUp) {
  coordinator_.streams = {{}, {}, {}, {}, {v1::SUCCEEDED}};
  EXPECT_THAT(Watch(/*retries=*/2),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("stopping")));
  EXPECT_EQ(coordinator_.watch_calls, 3u);
}

TEST_F(ClientTest, WatchOfUnknownJob_FailsAtOnce) {
  EXPECT_THAT(Watch(), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(coordinator_.watch_calls, 1u);
}

// What a WatchPrinter writes to something that is no terminal.
std::string Printed(WatchStyle style, const std::vector<v1::JobEvent>& events) {
  std::FILE* file = std::tmpfile();
  WatchPrinter printer(file, style);
  for (const v1::JobEvent& event : events) printer.OnEvent(event);
  printer.Note("a note");
  printer.Finish();
  std::string text(static_cast<size_t>(std::ftell(file)), '\0');
  std::rewind(file);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
  std::fclose(file);
  return text;
}

std::vector<v1::JobEvent> OneRound() {
  std::vector<v1::JobEvent> events(3);
  events[0].mutable_status()->set_name("digits");
  events[0].mutable_status()->set_state(v1::RUNNING);
  events[1].mutable_evaluated()->set_round(1);
  events[1].mutable_evaluated()->set_seconds(2);
  events[2].mutable_status()->set_name("digits");
  events[2].mutable_status()->set_state(v1::SUCCEEDED);
  events[2].mutable_status()->set_version(1);
  return events;
}

TEST(WatchPrinter, Plain_HasNoControlSequences) {
  EXPECT_EQ(Printed(WatchStyle::kPlain, OneRound()),
            "round  workers  accuracy      loss  spread           seconds\n"
            "    1        0         -         -  -                   2.00\n"
            "a note\n"
            "digits: succeeded after 1 round\n");
}

TEST(WatchPrinter, Terminal_RedrawsTheLiveLines) {
  EXPECT_THAT(Printed(WatchStyle::kTerminal, OneRound()),
              AllOf(HasSubstr("digits  running  round 0 of 0\n"),
                    HasSubstr("\x1b[1F\x1b[J")));
}

TEST(WatchPrinter, Json_IsOneObjectPerEventAndNothingElse) {
  const std::string text = Printed(WatchStyle::kJson, OneRound());
  EXPECT_THAT(text, HasSubstr("\"evaluated\":{\"round\":\"1\""));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
}

TEST(WatchStyleFor, NoTerminal_IsPlain) {
  std::FILE* file = std::tmpfile();
  EXPECT_EQ(WatchStyleFor(file, false), WatchStyle::kPlain);
  EXPECT_EQ(WatchStyleFor(file, true), WatchStyle::kJson);
  std::fclose(file);
}

}  // namespace
}  // namespace koinon::cli
