#include "kernels/train_bench.h"

#include <algorithm>
#include <chrono>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/peak_flops.h"

namespace koinon::kernels {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Multiply-adds of one layer on one example.
double ProductsOf(const ModelGraph::Layer& layer) {
  double products = 1;
  for (int64_t extent : layer.output_shape) products *= extent;
  switch (layer.spec.kind_case()) {
    case v1::Layer::kDense:
      return products * layer.input_shape[0];
    case v1::Layer::kConv2D: {
      const auto& conv = layer.spec.conv2d();
      return products * layer.input_shape[0] / conv.groups() * conv.kernel() *
             conv.kernel();
    }
    default:
      return 0;
  }
}

// A product is two operations; it is done forward, for the weights' gradient,
// and, but in the first layer, for the input's.
double OperationsPerExample(const ModelGraph& graph) {
  double operations = 0;
  bool first = true;
  for (const ModelGraph::Layer& layer : graph.layers()) {
    const double products = ProductsOf(layer);
    if (products == 0) continue;
    operations += 2 * products * (first ? 2 : 3);
    first = false;
  }
  return operations;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle]
                                : (values[middle - 1] + values[middle]) / 2;
}

// One configuration and what was measured of it, a value per repetition.
struct Series {
  TrainFigure figure;
  TrainingStep step;
  std::vector<double> seconds_per_step;
  std::vector<double> peak;
  std::vector<double> fraction;
};

absl::StatusOr<double> SecondsPerStep(absl::Duration block,
                                      TrainingStep* step) {
  // The first one meets cold caches and sleeping threads.
  ABSL_RETURN_IF_ERROR(step->Run());
  const auto start = SteadyClock::now();
  const auto end = start + absl::ToChronoNanoseconds(block);
  int64_t steps = 0;
  do {
    ABSL_RETURN_IF_ERROR(step->Run());
    ++steps;
  } while (SteadyClock::now() < end);
  return std::chrono::duration<double>(SteadyClock::now() - start).count() /
         static_cast<double>(steps);
}

absl::Status MeasureOnce(absl::Duration block, Series* series) {
  const double peak = MeasurePeakFlops(series->figure.threads, block * 0.2);
  ABSL_ASSIGN_OR_RETURN(double seconds, SecondsPerStep(block, &series->step));
  series->seconds_per_step.push_back(seconds);
  series->peak.push_back(peak);
  series->fraction.push_back(series->step.operations() / seconds / peak);
  return absl::OkStatus();
}

TrainFigure Summarize(const Series& series) {
  TrainFigure figure = series.figure;
  const double seconds = Median(series.seconds_per_step);
  figure.step_ms = seconds * 1e3;
  figure.samples_per_second = static_cast<double>(figure.batch_size) / seconds;
  figure.gflops = series.step.operations() / seconds * 1e-9;
  figure.peak_gflops = Median(series.peak) * 1e-9;
  figure.fraction_of_peak = Median(series.fraction);
  return figure;
}

absl::Status CheckBenchOptions(const TrainBenchOptions& options) {
  if (options.repetitions < 1 || options.repetitions > 1000) {
    return absl::InvalidArgumentError(absl::StrCat(
        "repetitions: expected 1 to 1000, found ", options.repetitions));
  }
  if (options.block <= absl::ZeroDuration() ||
      options.block > absl::Minutes(10)) {
    return absl::InvalidArgumentError(
        absl::StrCat("block: expected up to 10 minutes, found ",
                     absl::FormatDuration(options.block)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelGraph> TrainBenchModel(const std::string& name) {
  v1::ModelSpec spec;
  for (int64_t extent : {1, 28, 28}) spec.add_input_shape(extent);
  if (name == "cnn") {
    spec.mutable_cnn()->set_classes(10);
    spec.mutable_cnn()->set_kernel(3);
    spec.mutable_cnn()->set_dense(128);
  } else if (name == "mlp") {
    spec.mutable_mlp()->set_classes(10);
    spec.mutable_mlp()->add_hidden(512);
    spec.mutable_mlp()->add_hidden(256);
  } else {
    return absl::NotFoundError(
        absl::StrCat("benchmark model: expected cnn or mlp, found ", name));
  }
  return ModelGraph::Build(spec);
}

absl::StatusOr<TrainingStep> TrainingStep::Create(const std::string& model,
                                                  size_t batch_size,
                                                  int threads) {
  ABSL_ASSIGN_OR_RETURN(ModelGraph graph, TrainBenchModel(model));
  Network::Options options;
  options.batch_size = batch_size;
  options.threads = threads;
  TrainingStep step;
  ABSL_ASSIGN_OR_RETURN(step.network_, NewOneDnnNetwork(graph, options));
  graph.InitializeParameters(1, 0, step.network_->parameters());
  v1::Optimizer optimizer;
  optimizer.mutable_sgd()->set_learning_rate(0.01);
  optimizer.mutable_sgd()->set_momentum(0.9);
  ABSL_ASSIGN_OR_RETURN(
      step.optimizer_,
      LocalOptimizer::Create(optimizer, step.network_->parameters().size()));
  Random random(1);
  for (size_t i = 0; i < batch_size * graph.input_size(); ++i) {
    step.inputs_.push_back(static_cast<float>(random.NextNormal()));
  }
  for (size_t i = 0; i < batch_size; ++i) {
    step.labels_.push_back(
        static_cast<int32_t>(random.NextBelow(graph.output_size())));
  }
  step.batch_.size = batch_size;
  step.batch_.inputs = step.inputs_;
  step.batch_.labels = step.labels_;
  step.operations_ =
      OperationsPerExample(graph) * static_cast<double>(batch_size);
  return step;
}

absl::Status TrainingStep::Run() {
  ABSL_RETURN_IF_ERROR(network_->ForwardBackward(batch_, steps_++).status());
  optimizer_->Step(1, network_->gradients(), network_->parameters());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TrainFigure>> MeasureTraining(
    const TrainBenchOptions& options) {
  ABSL_RETURN_IF_ERROR(CheckBenchOptions(options));
  std::vector<Series> all;
  for (const std::string& model : options.models) {
    for (int threads : options.threads) {
      ABSL_ASSIGN_OR_RETURN(
          TrainingStep step,
          TrainingStep::Create(model, options.batch_size, threads));
      TrainFigure figure;
      figure.model = model;
      figure.threads = threads;
      figure.batch_size = options.batch_size;
      all.push_back({std::move(figure), std::move(step), {}, {}, {}});
    }
  }
  for (int repetition = 0; repetition < options.repetitions; ++repetition) {
    for (Series& series : all) {
      ABSL_RETURN_IF_ERROR(MeasureOnce(options.block, &series));
    }
  }
  std::vector<TrainFigure> figures;
  for (const Series& series : all) figures.push_back(Summarize(series));
  return figures;
}

}  // namespace koinon::kernels
