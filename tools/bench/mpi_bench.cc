#include "tools/bench/mpi_bench.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "kernels/network.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/optimizer.h"
#include "kernels/train_bench.h"
#include "worker/collective/bare_allreduce.h"
#include "worker/collective/site_exchange.h"

namespace koinon::bench {
namespace {

using worker::Communicator;
using worker::SiteExchange;

constexpr size_t kRivalChunk = size_t{128} << 10;
constexpr int64_t kMostBytes = int64_t{1} << 32;

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::Status CheckOptions(const MpiBenchOptions& options) {
  for (const int64_t bytes : options.sizes) {
    if (bytes < 4 || bytes > kMostBytes || bytes % 4 != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--size: expected a multiple of 4 up to ", kMostBytes,
                       ", found ", bytes));
    }
  }
  if (options.repetitions < 1) {
    return absl::InvalidArgumentError("--repetitions: expected at least 1");
  }
  return absl::OkStatus();
}

// Seconds of `work` on the slowest rank.
template <typename Work>
absl::StatusOr<double> Time(const Clock& clock, Communicator* site,
                            const Work& work) {
  ABSL_RETURN_IF_ERROR(site->Barrier());
  const absl::Time start = clock.Now();
  ABSL_RETURN_IF_ERROR(work());
  const double seconds = absl::ToDoubleSeconds(clock.Now() - start);
  const std::string mine(reinterpret_cast<const char*>(&seconds),
                         sizeof(seconds));
  ABSL_ASSIGN_OR_RETURN(const auto all, site->AllGather(mine));
  double longest = 0;
  for (const std::string& one : all) {
    double other = 0;
    std::copy_n(one.data(), sizeof(other), reinterpret_cast<char*>(&other));
    longest = std::max(longest, other);
  }
  return longest;
}

// Whether MPI and we come to the same: up to the order of the sum.
absl::Status CompareSums(Communicator* site, size_t n) {
  Random random(DeriveSeed(3, static_cast<uint64_t>(site->place().rank)));
  std::vector<float> values(n), theirs(n);
  for (float& value : values) value = static_cast<float>(random.NextDouble());
  ABSL_RETURN_IF_ERROR(worker::BareAllReduce(values, absl::MakeSpan(theirs)));
  ABSL_RETURN_IF_ERROR(site->AllReduce(absl::MakeSpan(values)));
  // Sums of `size` numbers in [0, 1), rounded to float32 at each.
  const float size = static_cast<float>(site->place().size);
  const float tolerance = size * size * 1e-7f;
  for (size_t i = 0; i < n; ++i) {
    if (std::abs(values[i] - theirs[i]) > tolerance) {
      return absl::InternalError(absl::StrCat("sum of ", n, " values: element ",
                                              i, " is ", values[i],
                                              ", MPI has ", theirs[i]));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SumFigure> MeasureSum(const MpiBenchOptions& options,
                                     const Clock& clock, Communicator* site,
                                     int64_t bytes) {
  const size_t n = static_cast<size_t>(bytes) / sizeof(float);
  ABSL_RETURN_IF_ERROR(CompareSums(site, n));
  std::vector<float> values(n, 1.0f), out(n);
  const absl::Span<float> span = absl::MakeSpan(values);
  std::vector<double> ours, bare, in_place, chunked, ratio, in_place_ratio;
  for (int i = 0; i < options.repetitions; ++i) {
    ABSL_ASSIGN_OR_RETURN(double seconds, Time(clock, site, [&] {
                            return site->AllReduce(span, 0.5f);
                          }));
    ours.push_back(seconds);
    ABSL_ASSIGN_OR_RETURN(seconds, Time(clock, site, [&] {
                            return worker::BareAllReduce(values,
                                                         absl::MakeSpan(out));
                          }));
    bare.push_back(seconds);
    std::fill(values.begin(), values.end(), 1.0f);
    ABSL_ASSIGN_OR_RETURN(seconds, Time(clock, site, [&] {
                            return worker::BareAllReduceInPlace(span);
                          }));
    in_place.push_back(seconds);
    ABSL_ASSIGN_OR_RETURN(seconds, Time(clock, site, [&] {
                            return worker::BareAllReduceInChunks(span,
                                                                 kRivalChunk);
                          }));
    chunked.push_back(seconds);
    std::fill(values.begin(), values.end(), 1.0f);
    ratio.push_back(bare.back() / ours.back());
    in_place_ratio.push_back(in_place.back() / ours.back());
  }
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  return SumFigure{.bytes = bytes,
                   .ours = gigabytes / Median(ours),
                   .bare = gigabytes / Median(bare),
                   .in_place = gigabytes / Median(in_place),
                   .chunked = gigabytes / Median(chunked),
                   .times_bare = Median(ratio),
                   .times_in_place = Median(in_place_ratio)};
}

// One rank's training on fixed random examples, alone or with the others.
class RankStep {
 public:
  static absl::StatusOr<std::unique_ptr<RankStep>> Create(
      const std::string& name, const MpiBenchOptions& options) {
    ABSL_ASSIGN_OR_RETURN(kernels::TrainBenchModel model,
                          kernels::FindTrainBenchModel(name));
    if (!model.training) {
      return absl::InvalidArgumentError(
          absl::StrCat("model ", name, ": is measured forward only"));
    }
    const size_t batch =
        options.batch_size > 0 ? options.batch_size : model.batch_size;
    auto step = std::unique_ptr<RankStep>(new RankStep);
    ABSL_ASSIGN_OR_RETURN(
        step->network_,
        kernels::NewOneDnnNetwork(
            model.graph,
            {.batch_size = batch, .threads = 1, .bfloat16 = options.bfloat16}));
    model.graph.InitializeParameters(1, 0, step->network_->parameters());
    ABSL_ASSIGN_OR_RETURN(
        step->optimizer_,
        kernels::LocalOptimizer::Create(model.optimizer,
                                        step->network_->parameters().size(),
                                        kernels::LocalOptimizer::Options{}));
    step->Draw(model.graph, batch);
    return step;
  }

  absl::Status Alone() {
    ABSL_RETURN_IF_ERROR(network_->ForwardBackward(batch_, 1).status());
    optimizer_->Step(1, network_->gradients(), network_->parameters());
    return absl::OkStatus();
  }

  absl::Status Together(SiteExchange* exchange, double weight) {
    exchange->Start(0, weight, network_->gradients());
    const auto metrics = network_->ForwardBackward(
        batch_, 1,
        [&](size_t begin, size_t end) { exchange->Ready(begin, end); });
    ABSL_RETURN_IF_ERROR(exchange->Finish(metrics.status()));
    optimizer_->Step(1, network_->gradients(), network_->parameters());
    return absl::OkStatus();
  }

  size_t batch_size() const { return batch_.size; }
  int64_t bytes() const {
    return static_cast<int64_t>(network_->gradients().size() * sizeof(float));
  }

 private:
  void Draw(const kernels::ModelGraph& graph, size_t batch) {
    Random random(1);
    const auto vocabulary = static_cast<uint64_t>(graph.vocabulary());
    inputs_.resize(batch * static_cast<size_t>(graph.input_size()));
    for (float& input : inputs_) {
      input = vocabulary > 0 ? static_cast<float>(random.NextBelow(vocabulary))
                             : static_cast<float>(random.NextNormal());
    }
    labels_.resize(batch * static_cast<size_t>(graph.output_positions()));
    for (int32_t& label : labels_) {
      label = static_cast<int32_t>(
          random.NextBelow(static_cast<uint64_t>(graph.output_size())));
    }
    batch_.size = batch;
    batch_.inputs = inputs_;
    batch_.labels = labels_;
  }

  std::unique_ptr<kernels::Network> network_;
  std::unique_ptr<kernels::LocalOptimizer> optimizer_;
  std::vector<float> inputs_;
  std::vector<int32_t> labels_;
  kernels::Batch batch_;
};

// How many steps take about `block`, as rank 0 finds: all must make as many.
absl::StatusOr<int64_t> AgreeOnSteps(const MpiBenchOptions& options,
                                     const Clock& clock, Communicator* site,
                                     RankStep* step) {
  int64_t steps = 0;
  ABSL_RETURN_IF_ERROR(step->Alone());  // meets cold caches
  if (site->place().rank == 0) {
    const absl::Time start = clock.Now();
    do {
      ABSL_RETURN_IF_ERROR(step->Alone());
      ++steps;
    } while (clock.Now() - start < options.block);
  }
  ABSL_RETURN_IF_ERROR(site->Broadcast(
      absl::MakeSpan(reinterpret_cast<char*>(&steps), sizeof(steps))));
  return steps;
}

absl::StatusOr<SiteFigure> MeasureSite(const MpiBenchOptions& options,
                                       const Clock& clock, Communicator* site,
                                       const std::string& model) {
  absl::StatusOr<std::unique_ptr<RankStep>> made =
      RankStep::Create(model, options);
  ABSL_RETURN_IF_ERROR(AgreeOnStatus(site, made.status()));
  RankStep& step = **made;
  const bool first = site->place().rank == 0;
  const int ranks = site->place().size;
  ABSL_ASSIGN_OR_RETURN(const int64_t steps,
                        AgreeOnSteps(options, clock, site, &step));
  const auto examples =
      static_cast<double>(step.batch_size()) * static_cast<double>(steps);
  std::vector<double> alone, together, speedup, rate, hidden, waited;
  for (int i = 0; i < options.repetitions; ++i) {
    const auto repeat = [&](const auto& work) {
      absl::Status status;
      for (int64_t s = 0; s < steps && status.ok(); ++s) status = work();
      return status;
    };
    ABSL_ASSIGN_OR_RETURN(double seconds, Time(clock, site, [&] {
                            if (!first) return absl::OkStatus();
                            return repeat([&] { return step.Alone(); });
                          }));
    alone.push_back(examples / seconds);
    SiteExchange exchange(site, {.clock = &clock, .steps = steps});
    const Communicator::Totals before = site->totals();
    ABSL_ASSIGN_OR_RETURN(
        seconds, Time(clock, site, [&] {
          return repeat([&] { return step.Together(&exchange, 1.0 / ranks); });
        }));
    const double busy =
        absl::ToDoubleSeconds(site->totals().time - before.time);
    const double wait = absl::ToDoubleSeconds(exchange.waited());
    together.push_back(ranks * examples / seconds);
    speedup.push_back(together.back() / alone.back());
    rate.push_back(static_cast<double>(site->totals().bytes - before.bytes) /
                   1e9 / busy);
    hidden.push_back(1 - std::min(1.0, wait / busy));
    waited.push_back(wait / seconds);
  }
  return SiteFigure{.model = model,
                    .batch_size = step.batch_size(),
                    .alone = Median(alone),
                    .together = Median(together),
                    .speedup = Median(speedup),
                    .step_bytes = step.bytes(),
                    .sum_rate = Median(rate),
                    .hidden = Median(hidden),
                    .waited = Median(waited)};
}

}  // namespace

absl::StatusOr<MpiBenchFigures> RunMpiBench(const MpiBenchOptions& options,
                                            const Clock& clock,
                                            Communicator* site) {
  ABSL_RETURN_IF_ERROR(CheckOptions(options));
  MpiBenchFigures figures;
  figures.place = site->place();
  for (const int64_t bytes : options.sizes) {
    ABSL_ASSIGN_OR_RETURN(const SumFigure figure,
                          MeasureSum(options, clock, site, bytes));
    figures.sums.push_back(figure);
  }
  for (const std::string& model : options.models) {
    ABSL_ASSIGN_OR_RETURN(SiteFigure figure,
                          MeasureSite(options, clock, site, model));
    figures.sites.push_back(std::move(figure));
  }
  return figures;
}

std::string MpiBenchTable(const MpiBenchFigures& figures) {
  std::string text = absl::StrFormat("%d ranks on %d nodes\n",
                                     figures.place.size, figures.place.nodes);
  if (!figures.sums.empty()) {
    absl::StrAppendFormat(&text, "\n%12s %11s %11s %11s %11s %11s %12s\n",
                          "bytes summed", "ours GB/s", "MPI", "in place",
                          "in chunks", "times MPI", "times in place");
  }
  for (const SumFigure& f : figures.sums) {
    absl::StrAppendFormat(
        &text, "%12d %11.2f %11.2f %11.2f %11.2f %11.2f %12.2f\n", f.bytes,
        f.ours, f.bare, f.in_place, f.chunked, f.times_bare, f.times_in_place);
  }
  if (!figures.sites.empty()) {
    absl::StrAppendFormat(&text, "\n%-12s %5s %12s %12s %8s %12s %9s %8s %8s\n",
                          "model", "batch", "1 rank /s", "all ranks /s",
                          "speedup", "bytes/step", "sum GB/s", "hidden",
                          "waiting");
  }
  for (const SiteFigure& f : figures.sites) {
    absl::StrAppendFormat(
        &text, "%-12s %5d %12.1f %12.1f %8.2f %12d %9.2f %6.1f %% %6.1f %%\n",
        f.model, f.batch_size, f.alone, f.together, f.speedup, f.step_bytes,
        f.sum_rate, 100 * f.hidden, 100 * f.waited);
  }
  return text;
}

std::string MpiBenchJson(const MpiBenchFigures& figures) {
  std::vector<std::string> sums, sites;
  for (const SumFigure& f : figures.sums) {
    sums.push_back(absl::StrFormat(
        R"({"bytes":%d,"gb_per_second":%g,"mpi":%g,"mpi_in_place":%g,)"
        R"("mpi_in_chunks":%g,"times_mpi":%g,"times_mpi_in_place":%g})",
        f.bytes, f.ours, f.bare, f.in_place, f.chunked, f.times_bare,
        f.times_in_place));
  }
  for (const SiteFigure& f : figures.sites) {
    sites.push_back(absl::StrFormat(
        R"({"model":"%s","batch_size":%d,"alone_per_second":%g,)"
        R"("together_per_second":%g,"speedup":%g,"step_bytes":%d,)"
        R"("sum_gb_per_second":%g,"hidden":%g,"waiting":%g})",
        f.model, f.batch_size, f.alone, f.together, f.speedup, f.step_bytes,
        f.sum_rate, f.hidden, f.waited));
  }
  return absl::StrFormat(
      "{\"ranks\":%d,\"nodes\":%d,\n \"sums\":[%s],\n \"sites\":[%s]}\n",
      figures.place.size, figures.place.nodes, absl::StrJoin(sums, ",\n  "),
      absl::StrJoin(sites, ",\n  "));
}

}  // namespace koinon::bench
