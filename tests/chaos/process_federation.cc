#include "tests/chaos/process_federation.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "grpcpp/grpcpp.h"

namespace koinon::testing {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(5);
constexpr absl::Duration kPoll = absl::Milliseconds(20);
constexpr int kExamples = 400;
constexpr int kFeatures = 4;
constexpr int kClasses = 3;

std::string Runfile(const std::string& path) {
  const char* root = getenv("TEST_SRCDIR");
  return absl::StrCat(root == nullptr ? "." : root, "/koinon/", path);
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

// A free port that nobody is given while the descriptor is open, for it is
// bound; who asks for this one by its number, with SO_REUSEADDR, may listen on
// it.
absl::StatusOr<std::pair<int, int>> ReservePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const at = reinterpret_cast<sockaddr*>(&address);
  if (fd < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      bind(fd, at, size) != 0 || getsockname(fd, at, &size) != 0) {
    return absl::ErrnoToStatus(errno, "no port");
  }
  return std::make_pair(fd, int{ntohs(address.sin_port)});
}

void SetDeadline(grpc::ClientContext* context) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
}

}  // namespace

ProcessFederation::ProcessFederation(std::string dir, int workers)
    : dir_(std::move(dir)), workers_(workers) {
  std::filesystem::remove_all(dir_);
  std::filesystem::create_directories(dir_);
}

ProcessFederation::~ProcessFederation() {
  running_.clear();
  coordinator_ = nullptr;
  if (reserved_ >= 0) close(reserved_);
}

absl::Status ProcessFederation::WriteData() const {
  const std::string path = dir_ + "/data.csv";
  if (std::filesystem::exists(path)) return absl::OkStatus();
  std::ofstream out(path);
  out << "a,b,c,d,label\n";
  Random random(11);
  for (int i = 0; i < kExamples; ++i) {
    const int label = i % kClasses;
    for (int f = 0; f < kFeatures; ++f) {
      out << random.NextNormal() + (f == label ? 2.0 : 0.0) << ",";
    }
    out << label << "\n";
  }
  return absl::OkStatus();
}

absl::Status ProcessFederation::StartCoordinator() {
  const std::string port_file = dir_ + "/port";
  std::filesystem::remove(port_file);
  // Later starts take the same port again.
  if (reserved_ < 0) {
    ABSL_ASSIGN_OR_RETURN(std::tie(reserved_, port_), ReservePort());
  }
  ABSL_ASSIGN_OR_RETURN(
      coordinator_,
      cli::ChildProcess::Start(
          {Runfile("coordinator/koinon-coordinator"), "--listen",
           absl::StrCat("127.0.0.1:", port_), "--state-dir", dir_ + "/state",
           "--insecure", "--port-file", port_file, "--lease-seconds", "10"},
          dir_ + "/coordinator.log"));
  const absl::Time until = absl::Now() + kPatience;
  while (!absl::SimpleAtoi(ReadAll(port_file), &port_)) {
    const auto ended = coordinator_->Wait(kPoll);
    if (ended.has_value() || absl::Now() > until) {
      return absl::UnavailableError(absl::StrCat(
          "the coordinator did not start: ", ended.value_or("time-out"), "\n",
          ReadAll(dir_ + "/coordinator.log")));
    }
  }
  return absl::OkStatus();
}

void ProcessFederation::KillCoordinator() { coordinator_ = nullptr; }

std::string ProcessFederation::StopCoordinator() {
  coordinator_->Signal(SIGTERM);
  return coordinator_->Wait(kPatience).value_or("still running");
}

bool ProcessFederation::CoordinatorRuns() {
  return coordinator_ != nullptr && !coordinator_->Poll().has_value();
}

absl::Status ProcessFederation::StartWorker(int index) {
  ABSL_RETURN_IF_ERROR(WriteData());
  const std::string name = absl::StrCat("site-", index);
  const std::string dataset = absl::StrCat(
      "name: \"data\" source { csv { path: \"", dir_,
      "/data.csv\" label: \"label\" } } partition { sites: ", workers_,
      " site: ", index, " iid {} } seed: 5");
  ABSL_ASSIGN_OR_RETURN(
      running_[index],
      cli::ChildProcess::Start(
          {Runfile("worker/koinon-worker"), "--name", name, "--coordinator",
           absl::StrCat("127.0.0.1:", port_), "--state-dir",
           absl::StrCat(dir_, "/", name), "--dataset", dataset, "--insecure",
           "--threads", "1", "--peer-listen", "127.0.0.1:0"},
          absl::StrCat(dir_, "/", name, ".log")));
  return absl::OkStatus();
}

void ProcessFederation::KillWorker(int index) { running_.erase(index); }

std::unique_ptr<v1::ClientService::Stub> ProcessFederation::Client() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::ClientService::NewStub(
      grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port_),
                                grpc::InsecureChannelCredentials(), arguments));
}

v1::JobSpec ProcessFederation::MakeJob(const std::string& name,
                                       int64_t rounds) const {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->add_input_shape(kFeatures);
  spec.mutable_model()->mutable_mlp()->add_hidden(8);
  spec.mutable_model()->mutable_mlp()->set_classes(kClasses);
  spec.set_dataset("data");
  spec.set_rounds(rounds);
  spec.set_seed(3);
  // Some 50 ms, so that a kill may come in the middle.
  spec.mutable_training()->set_steps(2000);
  spec.mutable_cohort()->set_target(workers_);
  spec.mutable_cohort()->set_minimum(workers_);
  spec.mutable_cohort()->set_deadline_seconds(3600);
  spec.mutable_evaluation()->set_every_rounds(-1);
  return spec;
}

absl::Status ProcessFederation::Submit(const v1::JobSpec& spec) const {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::SubmitJobRequest request;
  *request.mutable_spec() = spec;
  v1::SubmitJobReply reply;
  return FromGrpc(Client()->SubmitJob(&context, request, &reply));
}

absl::StatusOr<v1::JobStatus> ProcessFederation::Get(
    const std::string& job) const {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::GetJobRequest request;
  request.set_name(job);
  v1::JobStatus status;
  const grpc::Status got = Client()->GetJob(&context, request, &status);
  if (!got.ok()) return FromGrpc(got);
  return status;
}

absl::StatusOr<std::vector<v1::RoundReport>> ProcessFederation::Rounds(
    const std::string& job) const {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::ListRoundsRequest request;
  request.set_job(job);
  v1::ListRoundsReply reply;
  const grpc::Status got = Client()->ListRounds(&context, request, &reply);
  if (!got.ok()) return FromGrpc(got);
  return std::vector<v1::RoundReport>(reply.rounds().begin(),
                                      reply.rounds().end());
}

absl::StatusOr<v1::JobStatus> ProcessFederation::AwaitEnd(
    const std::string& job) const {
  const absl::Time until = absl::Now() + kPatience;
  while (absl::Now() < until) {
    const auto status = Get(job);
    if (status.ok() &&
        (status->state() == v1::SUCCEEDED || status->state() == v1::FAILED ||
         status->state() == v1::CANCELLED)) {
      return status;
    }
    absl::SleepFor(kPoll);
  }
  return absl::DeadlineExceededError(
      absl::StrCat("job ", job, " has not ended"));
}

}  // namespace koinon::testing
