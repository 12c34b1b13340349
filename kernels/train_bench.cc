#include "kernels/train_bench.h"

#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/peak_flops.h"

namespace koinon::kernels {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr char kFloat32[] = "fp32";
constexpr char kBfloat16[] = "bf16";

// Multiply-adds of one layer on one example.
double ProductsOf(const ModelGraph::Layer& layer) {
  double outputs = 1;
  for (int64_t extent : layer.output_shape) outputs *= extent;
  switch (layer.spec.kind_case()) {
    case v1::Layer::kDense:
    case v1::Layer::kUnembedding:
      return outputs * layer.input_shape.back();
    case v1::Layer::kConv2D: {
      const auto& conv = layer.spec.conv2d();
      return outputs * layer.input_shape[0] / conv.groups() * conv.kernel() *
             conv.kernel();
    }
    case v1::Layer::kCausalAttention:
      // Each position meets itself and those before it, twice: scores, and
      // sums of values.
      return outputs * (layer.input_shape[0] + 1);
    case v1::Layer::kSqueezeExcite:
      return 2.0 * layer.input_shape[0] * layer.spec.squeeze_excite().hidden();
    default:
      return 0;
  }
}

// A product is two operations; it is done forward and, in training, for the
// weights' gradient and, but where nothing before it learns, for the input's.
double OperationsPerExample(const ModelGraph& graph, bool training) {
  double operations = 0;
  bool wants_input_gradient = graph.vocabulary() > 0;
  for (const ModelGraph::Layer& layer : graph.layers()) {
    const double products = ProductsOf(layer);
    if (products == 0) continue;
    const int times = !training ? 1 : wants_input_gradient ? 3 : 2;
    operations += 2 * products * times;
    wants_input_gradient = true;
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
  std::vector<double> floor_seconds;
  std::vector<double> times_floor;
};

template <typename Run>  // absl::Status()
absl::StatusOr<double> SecondsPerRun(absl::Duration block, const Run& run) {
  // The first one meets cold caches and sleeping threads.
  ABSL_RETURN_IF_ERROR(run());
  const auto start = SteadyClock::now();
  const auto end = start + absl::ToChronoNanoseconds(block);
  int64_t steps = 0;
  do {
    ABSL_RETURN_IF_ERROR(run());
    ++steps;
  } while (SteadyClock::now() < end);
  return std::chrono::duration<double>(SteadyClock::now() - start).count() /
         static_cast<double>(steps);
}

absl::Status MeasureOnce(const TrainBenchOptions& options, Series* series) {
  const double peak =
      MeasurePeakFlops(series->figure.threads, options.block * 0.2,
                       series->figure.precision == kBfloat16);
  ABSL_ASSIGN_OR_RETURN(double seconds, SecondsPerRun(options.block, [&] {
                          return series->step.Run();
                        }));
  series->seconds_per_step.push_back(seconds);
  series->peak.push_back(peak);
  series->fraction.push_back(series->step.operations() / seconds / peak);
  if (!options.floor) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(double floor, SecondsPerRun(options.block, [&] {
                          return series->step.RunFloor();
                        }));
  series->floor_seconds.push_back(floor);
  series->times_floor.push_back(seconds / floor);
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
  if (series.floor_seconds.empty()) return figure;
  figure.floor_ms = Median(series.floor_seconds) * 1e3;
  figure.times_floor = Median(series.times_floor);
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
  for (const std::string& precision : options.precisions) {
    if (precision == kFloat32 || precision == kBfloat16) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("precision: expected fp32 or bf16, found ", precision));
  }
  return absl::OkStatus();
}

v1::ModelSpec SpecOf(std::initializer_list<int64_t> input_shape) {
  v1::ModelSpec spec;
  for (int64_t extent : input_shape) spec.add_input_shape(extent);
  return spec;
}

// The networks' specs; nullopt for another name.
std::optional<v1::ModelSpec> FindSpec(const std::string& name) {
  if (name == "cnn") {
    v1::ModelSpec spec = SpecOf({1, 28, 28});
    spec.mutable_cnn()->set_classes(10);
    spec.mutable_cnn()->set_kernel(3);
    spec.mutable_cnn()->set_dense(128);
    return spec;
  }
  if (name == "mlp") {
    v1::ModelSpec spec = SpecOf({784});
    spec.mutable_mlp()->set_classes(10);
    spec.mutable_mlp()->add_hidden(512);
    spec.mutable_mlp()->add_hidden(256);
    return spec;
  }
  if (name == "resnet20") {
    v1::ModelSpec spec = SpecOf({3, 32, 32});
    spec.mutable_resnet()->set_classes(10);
    return spec;
  }
  if (name == "mobilenet_v3_small") {
    v1::ModelSpec spec = SpecOf({3, 224, 224});
    spec.mutable_mobilenet_v3_small()->set_classes(1000);
    spec.mutable_mobilenet_v3_small()->set_norm(v1::BATCH_NORM);
    return spec;
  }
  if (name == "gpt2-124m") {
    v1::ModelSpec spec = SpecOf({64});
    spec.mutable_gpt()->set_vocabulary(50257);
    spec.mutable_gpt()->set_layers(12);
    spec.mutable_gpt()->set_heads(12);
    spec.mutable_gpt()->set_width(768);
    return spec;
  }
  return std::nullopt;
}

// Tensors that training sets by itself, as ranges of the flat model.
std::vector<std::pair<size_t, size_t>> Buffers(const ModelGraph& graph) {
  std::vector<std::pair<size_t, size_t>> ranges;
  const ModelLayout& layout = graph.layout();
  for (size_t i = 0; i < layout.tensors().size(); ++i) {
    if (!graph.is_buffer(i)) continue;
    const size_t begin = layout.offset_bytes(i) / sizeof(float);
    ranges.emplace_back(begin, begin + layout.element_count(i));
  }
  return ranges;
}

}  // namespace

absl::StatusOr<TrainBenchModel> FindTrainBenchModel(const std::string& name) {
  const std::optional<v1::ModelSpec> spec = FindSpec(name);
  if (!spec.has_value()) {
    return absl::NotFoundError(absl::StrCat(
        "benchmark model: expected cnn, mlp, resnet20, mobilenet_v3_small or "
        "gpt2-124m, found ",
        name));
  }
  ABSL_ASSIGN_OR_RETURN(ModelGraph graph, ModelGraph::Build(*spec));
  TrainBenchModel model{name, std::move(graph), 32, true, {}};
  if (name == "mobilenet_v3_small") {
    model.batch_size = 1;
    model.training = false;
  }
  if (name == "gpt2-124m") {
    model.batch_size = 4;
    model.optimizer.mutable_adamw()->set_learning_rate(1e-4);
    model.optimizer.mutable_adamw()->set_weight_decay(0.01);
  } else {
    model.optimizer.mutable_sgd()->set_learning_rate(0.01);
    model.optimizer.mutable_sgd()->set_momentum(0.9);
  }
  return model;
}

absl::StatusOr<TrainingStep> TrainingStep::Create(const std::string& name,
                                                  const Options& options) {
  ABSL_ASSIGN_OR_RETURN(TrainBenchModel model, FindTrainBenchModel(name));
  const ModelGraph& graph = model.graph;
  if (options.batch_size > 0) model.batch_size = options.batch_size;
  Network::Options making;
  making.batch_size = model.batch_size;
  making.threads = options.threads;
  making.training = model.training;
  making.bfloat16 = options.bfloat16;
  TrainingStep step;
  ABSL_ASSIGN_OR_RETURN(step.network_, NewOneDnnNetwork(graph, making));
  graph.InitializeParameters(1, 0, step.network_->parameters());
  const size_t size = step.network_->parameters().size();
  const auto new_optimizer = [&] {
    LocalOptimizer::Options stepping;
    stepping.threads = options.threads;
    stepping.frozen = Buffers(graph);
    return LocalOptimizer::Create(model.optimizer, size, stepping);
  };
  if (model.training) {
    ABSL_ASSIGN_OR_RETURN(step.optimizer_, new_optimizer());
  }
  if (options.floor) {
    ABSL_ASSIGN_OR_RETURN(step.floor_, NewBareProducts(graph, making));
    if (model.training) {
      ABSL_ASSIGN_OR_RETURN(step.floor_optimizer_, new_optimizer());
    }
  }
  step.DrawExamples(graph, model.batch_size);
  step.operations_ = OperationsPerExample(graph, model.training) *
                     static_cast<double>(model.batch_size);
  return step;
}

void TrainingStep::DrawExamples(const ModelGraph& graph, size_t batch_size) {
  Random random(1);
  const int64_t vocabulary = graph.vocabulary();
  for (size_t i = 0; i < batch_size * graph.input_size(); ++i) {
    inputs_.push_back(vocabulary > 0
                          ? static_cast<float>(random.NextBelow(vocabulary))
                          : static_cast<float>(random.NextNormal()));
  }
  for (size_t i = 0; i < batch_size * graph.output_positions(); ++i) {
    labels_.push_back(
        static_cast<int32_t>(random.NextBelow(graph.output_size())));
  }
  batch_.size = batch_size;
  batch_.inputs = inputs_;
  batch_.labels = labels_;
}

absl::Status TrainingStep::Run() {
  if (optimizer_ == nullptr) return network_->Evaluate(batch_).status();
  ABSL_RETURN_IF_ERROR(network_->ForwardBackward(batch_, steps_++).status());
  optimizer_->Step(1, network_->gradients(), network_->parameters());
  return absl::OkStatus();
}

absl::Status TrainingStep::RunFloor() {
  if (floor_ == nullptr) {
    return absl::FailedPreconditionError(
        "training step: made without its floor");
  }
  ABSL_RETURN_IF_ERROR(floor_->Run());
  if (floor_optimizer_ != nullptr) {
    // A rate of 0, so that a long benchmark's numbers stay numbers.
    floor_optimizer_->Step(0, floor_->gradients(), floor_->parameters());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TrainFigure>> MeasureTraining(
    const TrainBenchOptions& options) {
  ABSL_RETURN_IF_ERROR(CheckBenchOptions(options));
  std::vector<Series> all;
  for (const std::string& model : options.models) {
    for (const std::string& precision : options.precisions) {
      for (int threads : options.threads) {
        TrainingStep::Options making;
        making.batch_size = options.batch_size;
        making.threads = threads;
        making.bfloat16 = precision == kBfloat16;
        making.floor = options.floor;
        ABSL_ASSIGN_OR_RETURN(TrainingStep step,
                              TrainingStep::Create(model, making));
        TrainFigure figure;
        figure.model = model;
        figure.precision = precision;
        figure.threads = threads;
        figure.batch_size = step.batch_size();
        all.push_back({std::move(figure), std::move(step), {}, {}, {}, {}, {}});
      }
    }
  }
  for (int repetition = 0; repetition < options.repetitions; ++repetition) {
    for (Series& series : all) {
      ABSL_RETURN_IF_ERROR(MeasureOnce(options, &series));
    }
  }
  std::vector<TrainFigure> figures;
  for (const Series& series : all) figures.push_back(Summarize(series));
  return figures;
}

}  // namespace koinon::kernels
