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
#include "kernels/train_bench.h"
#include "tools/bench/rank_step.h"
#include "worker/collective/bare_allreduce.h"
#include "worker/collective/site_exchange.h"
#include "worker/train/batches.h"

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

// How many of `step` take about `block`, as rank 0 finds: all make as many.
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

// This rank's steps, with its part of the site's batch, and on rank 0 those
// that one rank alone makes; nothing in it where that is the same.
struct SiteSteps {
  size_t batch_size = 0;  // of one rank alone
  size_t site_batch_size = 0;
  size_t part = 0;  // of this rank
  std::unique_ptr<RankStep> of_part;
  std::unique_ptr<RankStep> of_whole;

  RankStep* alone() { return (of_whole ? of_whole : of_part).get(); }
  double weight() const {
    return static_cast<double>(part) / static_cast<double>(site_batch_size);
  }
};

absl::StatusOr<SiteSteps> MakeSteps(const MpiBenchOptions& options,
                                    const Communicator::Place& place,
                                    const std::string& name, BatchForm form) {
  ABSL_ASSIGN_OR_RETURN(const kernels::TrainBenchModel model,
                        kernels::FindTrainBenchModel(name));
  const worker::Shard shard = {.index = static_cast<size_t>(place.rank),
                               .count = static_cast<size_t>(place.size)};
  SiteSteps steps;
  steps.batch_size =
      options.batch_size > 0 ? options.batch_size : model.batch_size;
  steps.site_batch_size =
      steps.batch_size * (form == BatchForm::kPerRank ? shard.count : 1);
  steps.part =
      shard.End(steps.site_batch_size) - shard.Begin(steps.site_batch_size);
  const auto make = [&](size_t batch_size) {
    return RankStep::Create(
        name, {.batch_size = batch_size, .bfloat16 = options.bfloat16});
  };
  ABSL_ASSIGN_OR_RETURN(steps.of_part, make(steps.part));
  if (place.rank == 0 && steps.part != steps.batch_size) {
    ABSL_ASSIGN_OR_RETURN(steps.of_whole, make(steps.batch_size));
  }
  return steps;
}

// Every repetition's value of each.
struct SiteSeries {
  std::vector<double> alone, apart, together, speedup, ceiling, rate, hidden,
      waited;
};

// One repetition of `count` steps: alone, apart and together.
absl::Status MeasureSiteOnce(const Clock& clock, Communicator* site,
                             int64_t count, SiteSteps* steps,
                             SiteSeries* series) {
  const auto repeat = [&](const auto& work) {
    absl::Status status;
    for (int64_t i = 0; i < count && status.ok(); ++i) status = work();
    return status;
  };
  const auto rate = [&](size_t batch_size, double seconds) {
    return static_cast<double>(batch_size) * static_cast<double>(count) /
           seconds;
  };
  ABSL_ASSIGN_OR_RETURN(
      double seconds, Time(clock, site, [&] {
        if (site->place().rank != 0) return absl::OkStatus();
        return repeat([&] { return steps->alone()->Alone(); });
      }));
  series->alone.push_back(rate(steps->batch_size, seconds));
  ABSL_ASSIGN_OR_RETURN(
      seconds, Time(clock, site, [&] {
        return repeat([&] { return steps->of_part->Alone(); });
      }));
  series->apart.push_back(rate(steps->site_batch_size, seconds));
  SiteExchange exchange(
      site, {.clock = &clock,
             .steps = count,
             .parameters = static_cast<size_t>(
                 steps->of_part->gradient_bytes() / sizeof(float))});
  const Communicator::Totals before = site->totals();
  ABSL_ASSIGN_OR_RETURN(seconds, Time(clock, site, [&] {
                          return repeat([&] {
                            return steps->of_part->Together(&exchange,
                                                            steps->weight());
                          });
                        }));
  series->together.push_back(rate(steps->site_batch_size, seconds));
  const double busy = absl::ToDoubleSeconds(site->totals().time - before.time);
  const double wait = absl::ToDoubleSeconds(exchange.waited());
  series->speedup.push_back(series->together.back() / series->alone.back());
  series->ceiling.push_back(series->apart.back() / series->alone.back());
  series->rate.push_back(
      static_cast<double>(site->totals().bytes - before.bytes) / 1e9 / busy);
  series->hidden.push_back(1 - std::min(1.0, wait / busy));
  series->waited.push_back(wait / seconds);
  return absl::OkStatus();
}

absl::StatusOr<SiteFigure> MeasureSite(const MpiBenchOptions& options,
                                       const Clock& clock, Communicator* site,
                                       const std::string& model,
                                       BatchForm form) {
  absl::StatusOr<SiteSteps> made =
      MakeSteps(options, site->place(), model, form);
  ABSL_RETURN_IF_ERROR(AgreeOnStatus(site, made.status()));
  SiteSteps& steps = *made;
  ABSL_RETURN_IF_ERROR(steps.of_part->Alone());  // meets cold caches
  ABSL_ASSIGN_OR_RETURN(const int64_t count,
                        AgreeOnSteps(options, clock, site, steps.alone()));
  SiteSeries series;
  for (int i = 0; i < options.repetitions; ++i) {
    ABSL_RETURN_IF_ERROR(MeasureSiteOnce(clock, site, count, &steps, &series));
  }
  return SiteFigure{.model = model,
                    .form = form,
                    .batch_size = steps.batch_size,
                    .alone = Median(series.alone),
                    .apart = Median(series.apart),
                    .together = Median(series.together),
                    .speedup = Median(series.speedup),
                    .ceiling = Median(series.ceiling),
                    .step_bytes = steps.of_part->gradient_bytes(),
                    .sum_rate = Median(series.rate),
                    .hidden = Median(series.hidden),
                    .waited = Median(series.waited)};
}

const char* NameOf(BatchForm form) {
  return form == BatchForm::kPerRank ? "per rank" : "divided";
}

// Of a batch that is divided, every rank needs an example.
absl::Status CheckBatch(const MpiBenchOptions& options,
                        const Communicator::Place& place,
                        const std::string& name) {
  ABSL_ASSIGN_OR_RETURN(const kernels::TrainBenchModel model,
                        kernels::FindTrainBenchModel(name));
  const size_t batch_size =
      options.batch_size > 0 ? options.batch_size : model.batch_size;
  if (batch_size >= static_cast<size_t>(place.size)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: expected a batch of at least one example for each of %d ranks, "
      "found %d; choose another --batch or fewer --ranks",
      name, place.size, batch_size));
}

}  // namespace

absl::StatusOr<MpiBenchFigures> RunMpiBench(const MpiBenchOptions& options,
                                            const Clock& clock,
                                            Communicator* site) {
  ABSL_RETURN_IF_ERROR(CheckOptions(options));
  MpiBenchFigures figures;
  figures.place = site->place();
  for (const std::string& model : options.models) {
    ABSL_RETURN_IF_ERROR(CheckBatch(options, figures.place, model));
  }
  for (const int64_t bytes : options.sizes) {
    ABSL_ASSIGN_OR_RETURN(const SumFigure figure,
                          MeasureSum(options, clock, site, bytes));
    figures.sums.push_back(figure);
  }
  for (const std::string& model : options.models) {
    for (const BatchForm form : {BatchForm::kPerRank, BatchForm::kDivided}) {
      ABSL_ASSIGN_OR_RETURN(SiteFigure figure,
                            MeasureSite(options, clock, site, model, form));
      figures.sites.push_back(std::move(figure));
    }
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
    absl::StrAppendFormat(
        &text, "\n%-12s %5s %-8s %10s %10s %10s %7s %7s %11s %8s %8s %8s\n",
        "model", "batch", "form", "1 rank /s", "apart /s", "sums /s", "speedup",
        "ceiling", "bytes/step", "sum GB/s", "hidden", "waiting");
  }
  for (const SiteFigure& f : figures.sites) {
    absl::StrAppendFormat(&text,
                          "%-12s %5d %-8s %10.1f %10.1f %10.1f %7.2f %7.2f "
                          "%11d %8.2f %6.1f %% %6.1f %%\n",
                          f.model, f.batch_size, NameOf(f.form), f.alone,
                          f.apart, f.together, f.speedup, f.ceiling,
                          f.step_bytes, f.sum_rate, 100 * f.hidden,
                          100 * f.waited);
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
        R"({"model":"%s","batch_size":%d,"batch":"%s","alone_per_second":%g,)"
        R"("apart_per_second":%g,"together_per_second":%g,"speedup":%g,)"
        R"("ceiling":%g,"step_bytes":%d,"sum_gb_per_second":%g,"hidden":%g,)"
        R"("waiting":%g})",
        f.model, f.batch_size, NameOf(f.form), f.alone, f.apart, f.together,
        f.speedup, f.ceiling, f.step_bytes, f.sum_rate, f.hidden, f.waited));
  }
  return absl::StrFormat(
      "{\"ranks\":%d,\"nodes\":%d,\n \"sums\":[%s],\n \"sites\":[%s]}\n",
      figures.place.size, figures.place.nodes, absl::StrJoin(sums, ",\n  "),
      absl::StrJoin(sites, ",\n  "));
}

}  // namespace koinon::bench
