#ifndef KOINON_TESTS_INTEGRATION_COORDINATOR_FIXTURE_H_
#define KOINON_TESTS_INTEGRATION_COORDINATOR_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/status_matchers.h"
#include "coordinator/server.h"
#include "grpcpp/grpcpp.h"
#include "proto/client.grpc.pb.h"
#include "tests/integration/test_worker.h"

namespace koinon::testing {

// A coordinator in this process, on a free loopback port in plaintext, with its
// state in a temporary directory, and a client connected to it.
class CoordinatorFixture : public ::testing::Test {
 protected:
  void SetUp() override;

  coordinator::Server::Spec spec_;
  // Starts (again) with spec_.
  void Start();
  // Ends at once, as far as a process can without being killed.
  void Stop();

  int port() const { return server_->port(); }
  coordinator::Server* server() const { return server_.get(); }

  std::shared_ptr<grpc::Channel> NewChannel() const;
  // A connection of its own, as somebody else.
  std::shared_ptr<grpc::Channel> NewChannel(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials) const;
  std::unique_ptr<TestWorker> NewWorker(const std::string& name) const;

  // A job over the dataset "data" with a model of 2 x 3 weights "w", every
  // worker in every round, no evaluation.
  static v1::JobSpec SmallJob(const std::string& name, int64_t rounds,
                              int64_t workers);
  absl::StatusOr<v1::SubmitJobReply> Submit(const v1::JobSpec& spec) const;
  absl::StatusOr<v1::JobStatus> Get(const std::string& name) const;
  // Watches the job until it ends; its last status.
  absl::StatusOr<v1::JobStatus> AwaitEnd(const std::string& name) const;
  // Watches until `done` says so; the event that satisfied it.
  absl::StatusOr<v1::JobEvent> AwaitEvent(
      const std::string& name,
      const std::function<bool(const v1::JobEvent&)>& done) const;
  std::vector<v1::RoundReport> Rounds(const std::string& name) const;
  // The values of a published version.
  std::vector<float> Values(const std::string& job, int64_t version) const;

  v1::ClientService::Stub& client() const { return *client_; }

 private:
  const RealClock clock_;
  std::unique_ptr<coordinator::Server> server_;
  std::unique_ptr<v1::ClientService::Stub> client_;
};

}  // namespace koinon::testing

#endif  // KOINON_TESTS_INTEGRATION_COORDINATOR_FIXTURE_H_
