#include "tools/bench/round_bench.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "proto/client.grpc.pb.h"
#include "tools/bench/coordinator_process.h"
#include "tools/bench/swarm.h"

namespace koinon::bench {
namespace {

constexpr char kDataset[] = "bench";
constexpr char kJob[] = "bench";

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + middle, values.end());
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle] +
          *std::max_element(values.begin(), values.begin() + middle)) /
         2;
}

// One dense layer with exactly `parameters` values: the largest divisor up to
// 1,000 as its units, the rest as inputs.
v1::ModelSpec ModelOf(size_t parameters) {
  size_t units = 1;
  for (size_t d = 1; d <= 1000 && d < parameters; ++d) {
    if (parameters % d == 0) units = d;
  }
  v1::ModelSpec model;
  model.add_input_shape(static_cast<int64_t>(parameters / units));
  auto* dense = model.mutable_layers()->add_layers()->mutable_dense();
  dense->set_units(static_cast<int64_t>(units));
  dense->set_no_bias(true);
  return model;
}

v1::JobSpec JobOf(const RoundBenchOptions& options, size_t workers,
                  size_t parameters, size_t rounds) {
  v1::JobSpec spec;
  spec.set_name(kJob);
  *spec.mutable_model() = ModelOf(parameters);
  spec.set_dataset(kDataset);
  spec.set_rounds(static_cast<int64_t>(rounds));
  spec.set_seed(1);
  spec.mutable_cohort()->set_target(static_cast<int64_t>(workers));
  spec.mutable_cohort()->set_minimum(static_cast<int64_t>(workers));
  spec.mutable_cohort()->set_deadline_seconds(3600);
  spec.mutable_evaluation()->set_every_rounds(-1);
  spec.mutable_aggregation()->mutable_fedavg()->set_arithmetic(
      options.arithmetic);
  return spec;
}

struct Watched {
  std::vector<absl::Time> published;
  std::vector<double> cpu;
};

absl::Status RunJob(const CoordinatorProcess& coordinator,
                    const v1::JobSpec& spec, absl::Duration patience,
                    Watched* watched) {
  const auto channel = grpc::CreateChannel(coordinator.address(),
                                           grpc::InsecureChannelCredentials());
  const auto stub = v1::ClientService::NewStub(channel);
  {
    grpc::ClientContext context;
    v1::SubmitJobRequest request;
    *request.mutable_spec() = spec;
    v1::SubmitJobReply reply;
    const grpc::Status status = stub->SubmitJob(&context, request, &reply);
    if (!status.ok()) return absl::InternalError(status.error_message());
  }
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + patience));
  v1::WatchJobRequest request;
  request.set_name(kJob);
  const auto reader = stub->WatchJob(&context, request);
  v1::JobEvent event;
  while (reader->Read(&event)) {
    if (event.has_round_closed()) {
      watched->published.push_back(absl::Now());
      watched->cpu.push_back(coordinator.cpu_seconds());
    }
    if (event.has_status() && event.status().state() == v1::FAILED) {
      return absl::InternalError(
          absl::StrCat("the job failed: ", event.status().reason()));
    }
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return absl::InternalError(status.error_message());
  if (watched->published.size() != static_cast<size_t>(spec.rounds())) {
    return absl::InternalError(absl::StrCat(watched->published.size(), " of ",
                                            spec.rounds(), " rounds ran"));
  }
  return absl::OkStatus();
}

struct RivalRun {
  double round_seconds = 0;
  double peak_rss_mib = 0;
};

// The number that follows `before` in `text`.
absl::StatusOr<double> NumberAfter(const std::string& text,
                                   const std::string& before) {
  const size_t at = text.find(before);
  double number = 0;
  if (at != std::string::npos) {
    const size_t start = at + before.size();
    const size_t end = text.find_first_not_of("0123456789.", start);
    if (absl::SimpleAtod(text.substr(start, end - start), &number)) {
      return number;
    }
  }
  return absl::UnavailableError(
      absl::StrCat("the rival printed no '", before, "NUMBER': ", text));
}

absl::StatusOr<RivalRun> RunRival(const std::string& rival, size_t workers,
                                  size_t parameters, size_t rounds) {
  const std::string command =
      absl::StrCat("/usr/bin/python3 '", rival, "' ", workers, " ", parameters,
                   " ", rounds, " inplace 2>&1");
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return absl::UnavailableError("cannot start the rival");
  std::string output;
  std::array<char, 4096> buffer;
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.append(buffer.data(), n);
  }
  pclose(pipe);
  RivalRun run;
  ABSL_ASSIGN_OR_RETURN(run.round_seconds, NumberAfter(output, ": round "));
  ABSL_ASSIGN_OR_RETURN(run.peak_rss_mib, NumberAfter(output, "RSS peak "));
  return run;
}

}  // namespace

absl::StatusOr<RoundFigure> MeasureRounds(const RoundBenchOptions& options,
                                          size_t workers, size_t parameters) {
  // No lease renewals in the middle of a measurement.
  ABSL_ASSIGN_OR_RETURN(
      const auto coordinator,
      CoordinatorProcess::Start(
          options.coordinator_binary, options.work_dir,
          {"--lease-seconds", "3600", "--keep-versions", "2"}));
  Swarm::Options swarm_options;
  swarm_options.address = coordinator->address();
  swarm_options.workers = workers;
  swarm_options.dataset = kDataset;
  swarm_options.parameters = parameters;
  ABSL_ASSIGN_OR_RETURN(const auto swarm,
                        Swarm::Connect(swarm_options, options.patience));
  const size_t rounds = options.rounds + 1;
  Watched watched;
  ABSL_RETURN_IF_ERROR(RunJob(*coordinator,
                              JobOf(options, workers, parameters, rounds),
                              options.patience, &watched));
  ABSL_RETURN_IF_ERROR(swarm->error());

  RoundFigure figure;
  figure.workers = workers;
  figure.parameters = parameters;
  figure.rounds = options.rounds;
  std::vector<double> seconds, cpu;
  for (size_t i = 1; i < rounds; ++i) {
    seconds.push_back(
        absl::ToDoubleSeconds(watched.published[i] - watched.published[i - 1]));
    cpu.push_back(watched.cpu[i] - watched.cpu[i - 1]);
  }
  figure.round_seconds = Median(seconds);
  figure.results_per_second =
      static_cast<double>(workers) / figure.round_seconds;
  figure.peak_rss_mib = coordinator->peak_rss_mib();
  figure.cpu_seconds = Median(cpu);
  figure.spool_mib = coordinator->spool_mib();
  constexpr double kMib = 1 << 20;
  const auto per_round = kMib * static_cast<double>(rounds);
  figure.pulled_mib = static_cast<double>(swarm->bytes_pulled()) / per_round;
  figure.pushed_mib = static_cast<double>(swarm->bytes_pushed()) / per_round;
  return figure;
}

absl::StatusOr<RivalFigure> CompareRounds(const RoundBenchOptions& options,
                                          const std::string& rival,
                                          size_t workers, size_t parameters,
                                          size_t pairs) {
  RivalFigure figure;
  figure.pairs = pairs;
  std::vector<double> rates, memories, rival_seconds, rival_rss;
  for (size_t i = 0; i < pairs; ++i) {
    ABSL_ASSIGN_OR_RETURN(figure.ours,
                          MeasureRounds(options, workers, parameters));
    ABSL_ASSIGN_OR_RETURN(
        const RivalRun run,
        RunRival(rival, workers, parameters, options.rounds + 1));
    rival_seconds.push_back(run.round_seconds);
    rival_rss.push_back(run.peak_rss_mib);
    rates.push_back(run.round_seconds / figure.ours.round_seconds);
    memories.push_back(figure.ours.peak_rss_mib / run.peak_rss_mib);
  }
  figure.rival_round_seconds = Median(rival_seconds);
  figure.rival_peak_rss_mib = Median(rival_rss);
  figure.round_rate_ratio = Median(rates);
  figure.memory_ratio = Median(memories);
  return figure;
}

absl::StatusOr<IdleFigure> MeasureIdle(const RoundBenchOptions& options,
                                       size_t workers) {
  ABSL_ASSIGN_OR_RETURN(
      const auto coordinator,
      CoordinatorProcess::Start(
          options.coordinator_binary, options.work_dir,
          {"--lease-seconds", "3600", "--max-workers", absl::StrCat(workers),
           "--max-connections", absl::StrCat(workers + 10)}));
  const double before = coordinator->rss_mib();
  const absl::Time start = absl::Now();
  Swarm::Options swarm_options;
  swarm_options.address = coordinator->address();
  swarm_options.workers = workers;
  swarm_options.dataset = kDataset;
  ABSL_ASSIGN_OR_RETURN(const auto swarm,
                        Swarm::Connect(swarm_options, options.patience));
  IdleFigure figure;
  figure.workers = workers;
  figure.connect_seconds = absl::ToDoubleSeconds(absl::Now() - start);
  figure.kib_per_worker =
      (coordinator->rss_mib() - before) * 1024 / static_cast<double>(workers);
  return figure;
}

}  // namespace koinon::bench
