#include "kernels/onednn/onednn_network.h"

#include <algorithm>
#include <dnnl.hpp>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "kernels/bfloat16.h"
#include "kernels/loss.h"
#include "kernels/onednn/builder.h"
#include "kernels/onednn/graph_compiler.h"
#include "kernels/onednn/openmp.h"

namespace koinon::kernels {
namespace {

using dnnl::memory;
using onednn::Builder;

// Values of one batch between two layers.
constexpr int64_t kMaxBatchValues = int64_t{1} << 40;

absl::Status CheckMemory(const ModelGraph& graph, size_t batch_size) {
  int64_t largest = graph.input_size();
  for (const ModelGraph::Layer& layer : graph.layers()) {
    int64_t size = 1;
    for (int64_t extent : layer.output_shape) size *= extent;
    largest = std::max(largest, size);
  }
  if (largest <= kMaxBatchValues / static_cast<int64_t>(batch_size)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrFormat(
      "network: a batch of %d examples of up to %d values each; at most %d "
      "values are possible",
      batch_size, largest, kMaxBatchValues));
}

// A flat model's memory, aligned to cache lines, zeros at first.
memory NewFlat(size_t count, const dnnl::engine& engine) {
  memory flat(memory::desc({static_cast<int64_t>(count)},
                           memory::data_type::f32, memory::format_tag::x),
              engine);
  std::fill_n(onednn::Data(flat), count, 0.0f);
  return flat;
}

class OneDnnNetwork final : public Network {
 public:
  // Throws dnnl::error and std::bad_alloc. `*at` names the layer being
  // compiled.
  OneDnnNetwork(const ModelGraph& graph, const Options& options,
                Bfloat16Products products, std::string* at)
      : graph_(graph),
        options_(options),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        parameters_(NewFlat(graph.layout().total_elements(), engine_)) {
    // oneDNN plans for the number of threads at the time of planning.
    const onednn::ThreadScope threads(options.threads);
    Builder::Options building;
    building.batch = static_cast<int64_t>(options.batch_size);
    building.threads = options.threads;
    building.training = options.training;
    building.bfloat16 = options.bfloat16;
    building.rounds = products == Bfloat16Products::kSinglePrecision;
    building.parameters = onednn::Data(parameters_);
    if (options.training) {
      gradients_ = NewFlat(graph.layout().total_elements(), engine_);
      building.gradients = onednn::Data(gradients_);
    }
    builder_ = std::make_unique<Builder>(engine_, graph_.layout(), building);
    compiler_ = std::make_unique<onednn::GraphCompiler>(graph_, builder_.get());
    Compile(at);
    builder_->Finish();
  }

  absl::Span<float> parameters() override {
    packed_ = false;
    return absl::MakeSpan(onednn::Data(parameters_),
                          graph_.layout().total_elements());
  }
  absl::Span<float> gradients() override {
    if (!options_.training) return {};
    return absl::MakeSpan(onednn::Data(gradients_),
                          graph_.layout().total_elements());
  }
  absl::Span<const float> outputs() const override {
    return absl::MakeConstSpan(onednn::Data(output_),
                               latest_size_ * output_size());
  }

  absl::StatusOr<BatchMetrics> Evaluate(const Batch& batch) override {
    ABSL_RETURN_IF_ERROR(Check(batch));
    const onednn::ThreadScope threads(options_.threads);
    ABSL_RETURN_IF_ERROR(Forward(batch, Context(batch, /*training=*/false)));
    return ComputeLoss<float>(options_.loss, RowsOf(graph_, batch),
                              graph_.output_size(), onednn::Data(output_),
                              nullptr, options_.threads);
  }

  absl::StatusOr<BatchMetrics> ForwardBackward(const Batch& batch,
                                               uint64_t step_seed,
                                               GradientsReady ready) override {
    if (!options_.training) {
      return absl::FailedPreconditionError(
          "network: made without `training`, asked for a training step");
    }
    ABSL_RETURN_IF_ERROR(Check(batch));
    const onednn::ThreadScope threads(options_.threads);
    onednn::StepContext context = Context(batch, /*training=*/true);
    context.step_seed = step_seed;
    context.ready = &ready;
    ABSL_RETURN_IF_ERROR(Forward(batch, context));
    float* gradient = onednn::Data(output_gradient_);
    const BatchMetrics metrics = ComputeLoss<float>(
        options_.loss, RowsOf(graph_, batch), graph_.output_size(),
        onednn::Data(output_), gradient, options_.threads);
    // The examples that fill up a small batch have no part in the loss.
    std::fill(gradient + batch.size * output_size(),
              gradient + options_.batch_size * output_size(), 0.0f);
    ABSL_RETURN_IF_ERROR(builder_->backward().Run(context));
    return metrics;
  }

 private:
  void Compile(std::string* at) {
    input_ = builder_->NewMemory(
        onednn::PlainDesc(builder_->batch(), graph_.input_shape()));
    output_ = builder_->InFormat(
        compiler_->CompileForward(input_, at),
        onednn::PlainDesc(builder_->batch(),
                          graph_.layers().back().output_shape),
        &builder_->forward());
    if (!options_.training) return;
    output_gradient_ = builder_->NewMemory(output_.get_desc());
    compiler_->CompileBackward(output_gradient_, at);
  }

  // Of one example, at all its positions.
  size_t output_size() const {
    return static_cast<size_t>(graph_.output_positions() *
                               graph_.output_size());
  }

  absl::Status Check(const Batch& batch) const {
    return CheckBatch(graph_, options_, batch);
  }

  onednn::StepContext Context(const Batch& batch, bool training) const {
    onednn::StepContext context;
    context.stream = stream_.get();
    context.threads = options_.threads;
    context.training = training;
    context.examples = batch.size;
    return context;
  }

  absl::Status Forward(const Batch& batch, const onednn::StepContext& context) {
    if (!options_.training && !packed_) {
      ABSL_RETURN_IF_ERROR(builder_->packing().Run(context));
      packed_ = true;
    }
    latest_size_ = batch.size;
    float* input = onednn::Data(input_);
    std::copy(batch.inputs.begin(), batch.inputs.end(), input);
    std::fill(input + batch.inputs.size(),
              input + options_.batch_size * graph_.input_size(), 0.0f);
    return builder_->forward().Run(context);
  }

  const ModelGraph graph_;
  const Options options_;
  const dnnl::engine engine_;
  const dnnl::stream stream_;
  memory parameters_;
  memory gradients_;
  std::unique_ptr<Builder> builder_;
  std::unique_ptr<onednn::GraphCompiler> compiler_;
  memory input_;
  memory output_;
  memory output_gradient_;
  size_t latest_size_ = 0;
  bool packed_ = false;  // weights are as products of a forward network read
};

}  // namespace

absl::StatusOr<std::unique_ptr<Network>> NewOneDnnNetwork(
    const ModelGraph& graph, const Network::Options& options) {
  return NewOneDnnNetworkWith(graph, options, Bfloat16Products::kFastest);
}

absl::StatusOr<std::unique_ptr<Network>> NewOneDnnNetworkWith(
    const ModelGraph& graph, const Network::Options& options,
    Bfloat16Products products) {
  ABSL_RETURN_IF_ERROR(CheckOptions(graph, options));
  ABSL_RETURN_IF_ERROR(CheckMemory(graph, options.batch_size));
  if (options.bfloat16) ABSL_RETURN_IF_ERROR(CheckBfloat16());
  if (products == Bfloat16Products::kFastest) {
    products = onednn::SinglePrecisionIsFaster()
                   ? Bfloat16Products::kSinglePrecision
                   : Bfloat16Products::kProcessor;
  }
  std::string at = "the model's parameters";
  try {
    return std::make_unique<OneDnnNetwork>(graph, options, products, &at);
  } catch (const dnnl::error& error) {
    const std::string message =
        absl::StrFormat("network: oneDNN, at %s: %s (status %d)", at,
                        error.what(), static_cast<int>(error.status));
    return error.status == dnnl_out_of_memory
               ? absl::ResourceExhaustedError(message)
               : absl::InternalError(message);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("network: out of memory at ", at));
  }
}

}  // namespace koinon::kernels
