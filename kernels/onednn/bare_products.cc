#include "kernels/onednn/bare_products.h"

#include <algorithm>
#include <cstring>
#include <dnnl.hpp>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "kernels/bfloat16.h"
#include "kernels/onednn/builder.h"
#include "kernels/onednn/openmp.h"

namespace koinon::kernels {
namespace {

using dnnl::memory;
using onednn::AnyFormat;
using onednn::Builder;
using onednn::PlainDesc;
using onednn::Program;

memory NewFlat(size_t count, const dnnl::engine& engine) {
  memory flat(PlainDesc({static_cast<int64_t>(count)}), engine);
  std::fill_n(onednn::Data(flat), count, 0.01f);
  return flat;
}

// What one layer's three products are, as oneDNN describes them.
template <typename Forward, typename BackwardWeights, typename BackwardData>
struct Descriptions {
  using ForwardPrimitive = Forward;
  using WeightsPrimitive = BackwardWeights;
  using DataPrimitive = BackwardData;
  typename Forward::primitive_desc forward;
  typename BackwardWeights::primitive_desc by_weights;
  typename BackwardData::primitive_desc by_inputs;
};
using DenseDescriptions = Descriptions<dnnl::inner_product_forward,
                                       dnnl::inner_product_backward_weights,
                                       dnnl::inner_product_backward_data>;
using ConvDescriptions =
    Descriptions<dnnl::convolution_forward, dnnl::convolution_backward_weights,
                 dnnl::convolution_backward_data>;

class OneDnnProducts final : public BareProducts {
 public:
  // Throws dnnl::error and std::bad_alloc.
  OneDnnProducts(const ModelGraph& graph, const Network::Options& options)
      : options_(options),
        layout_(graph.layout()),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        parameters_(NewFlat(layout_.total_elements(), engine_)) {
    const onednn::ThreadScope threads(options.threads);
    Builder::Options building;
    building.batch = static_cast<int64_t>(options.batch_size);
    building.threads = options.threads;
    building.training = options.training;
    building.bfloat16 = options.bfloat16;
    building.rounds = onednn::SinglePrecisionIsFaster();
    building.parameters = onednn::Data(parameters_);
    if (options.training) {
      gradients_ = NewFlat(layout_.total_elements(), engine_);
      building.gradients = onednn::Data(gradients_);
    }
    builder_ = std::make_unique<Builder>(engine_, layout_, building);
    // Nothing before the first product needs a gradient, but an embedding.
    bool wants_input_gradient = graph.vocabulary() > 0;
    for (const ModelGraph::Layer& layer : graph.layers()) {
      if (layer.spec.has_conv2d()) {
        AddLayer(layer, DescribeConvolution(layer), wants_input_gradient);
      } else if (layer.spec.has_dense() || layer.spec.has_unembedding()) {
        AddLayer(layer, DescribeDense(layer), wants_input_gradient);
      } else {
        continue;
      }
      wants_input_gradient = true;
    }
    builder_->Finish();
  }

  absl::Span<float> parameters() override {
    return absl::MakeSpan(onednn::Data(parameters_), layout_.total_elements());
  }
  absl::Span<float> gradients() override {
    if (!options_.training) return {};
    return absl::MakeSpan(onednn::Data(gradients_), layout_.total_elements());
  }

  absl::Status Run() override {
    const onednn::ThreadScope threads(options_.threads);
    onednn::StepContext context;
    context.stream = stream_.get();
    context.threads = options_.threads;
    ABSL_RETURN_IF_ERROR(builder_->forward().Run(context));
    return builder_->backward().Run(context);
  }

 private:
  DenseDescriptions DescribeDense(const ModelGraph::Layer& layer) const {
    const memory::data_type type = builder_->product_type();
    const int64_t in = layer.input_shape.back();
    const int64_t out = layer.output_shape.back();
    int64_t rows = builder_->batch();
    if (layer.input_shape.size() == 2) rows *= layer.input_shape[0];
    const memory::desc source = PlainDesc({rows, in}, type);
    const memory::desc weights = PlainDesc({out, in}, type);
    const memory::desc result = PlainDesc({rows, out}, type);
    DenseDescriptions all;
    all.forward = {{builder_->forward_kind(), source, weights, result},
                   builder_->attributes(),
                   engine_};
    if (!options_.training) return all;
    all.by_weights = {{source, PlainDesc({out, in}), result},
                      builder_->attributes(),
                      engine_,
                      all.forward};
    all.by_inputs = {{source, weights, result},
                     builder_->attributes(),
                     engine_,
                     all.forward};
    return all;
  }

  ConvDescriptions DescribeConvolution(const ModelGraph::Layer& layer) const {
    const memory::data_type type = builder_->product_type();
    const auto& spec = layer.spec.conv2d();
    const int64_t groups = spec.groups(), kernel = spec.kernel();
    const int64_t in = layer.input_shape[0], out = layer.output_shape[0];
    const memory::dims weight_dims =
        groups == 1
            ? memory::dims{out, in, kernel, kernel}
            : memory::dims{groups, out / groups, in / groups, kernel, kernel};
    const auto image = [&](const std::vector<int64_t>& shape) {
      return AnyFormat(PlainDesc(builder_->batch(), shape, type));
    };
    const memory::desc source = image(layer.input_shape);
    const memory::desc result = image(layer.output_shape);
    const memory::desc weights = AnyFormat(PlainDesc(weight_dims, type));
    const memory::dims strides = {spec.stride(), spec.stride()};
    const memory::dims padding = {spec.padding(), spec.padding()};
    const auto direct = dnnl::algorithm::convolution_direct;
    ConvDescriptions all;
    all.forward = {{builder_->forward_kind(), direct, source, weights, result,
                    strides, padding, padding},
                   builder_->attributes(),
                   engine_};
    if (!options_.training) return all;
    all.by_weights = {{direct, source, AnyFormat(PlainDesc(weight_dims)),
                       result, strides, padding, padding},
                      builder_->attributes(),
                      engine_,
                      all.forward};
    all.by_inputs = {
        {direct, source, weights, result, strides, padding, padding},
        builder_->attributes(),
        engine_,
        all.forward};
    return all;
  }

  template <typename All>
  void AddLayer(const ModelGraph::Layer& layer, const All& all,
                bool wants_input_gradient) {
    using Forward = typename All::ForwardPrimitive;
    using Weights = typename All::WeightsPrimitive;
    using Data = typename All::DataPrimitive;
    builder_->Add<Forward>(
        layer.name, all.forward,
        {{DNNL_ARG_SRC, Ready(all.forward.src_desc())},
         {DNNL_ARG_WEIGHTS, WeightsOf(layer, all.forward.weights_desc())},
         {DNNL_ARG_DST, Ready(all.forward.dst_desc())}},
        &builder_->forward());
    if (!options_.training) return;
    const memory::desc gradient = all.by_weights.diff_weights_desc();
    builder_->Add<Weights>(
        layer.name, all.by_weights,
        {{DNNL_ARG_SRC, Ready(all.by_weights.src_desc())},
         {DNNL_ARG_DIFF_DST, Ready(all.by_weights.diff_dst_desc())},
         {DNNL_ARG_DIFF_WEIGHTS,
          IsFlat(layer, gradient) ? builder_->Gradient(layer.weight, gradient)
                                  : Ready(gradient)}},
        &builder_->backward());
    if (!wants_input_gradient) return;
    builder_->Add<Data>(
        layer.name, all.by_inputs,
        {{DNNL_ARG_DIFF_DST, Ready(all.by_inputs.diff_dst_desc())},
         {DNNL_ARG_WEIGHTS, WeightsOf(layer, all.by_inputs.weights_desc())},
         {DNNL_ARG_DIFF_SRC, Ready(all.by_inputs.diff_src_desc())}},
        &builder_->backward());
  }

  bool IsFlat(const ModelGraph::Layer& layer, const memory::desc& desc) const {
    return desc == PlainDesc(desc.dims()) &&
           desc.get_size() ==
               layout_.element_count(layer.weight) * sizeof(float);
  }

  // Those of the flat model if the products read these as they are.
  memory WeightsOf(const ModelGraph::Layer& layer, const memory::desc& desc) {
    return IsFlat(layer, desc) ? builder_->Parameter(layer.weight, desc)
                               : Ready(desc);
  }

  // Memory that has been written: what has not is one page of zeros.
  memory Ready(const memory::desc& desc) {
    memory made = builder_->NewMemory(desc);
    // About 0.01 in float32 and in bfloat16.
    std::memset(made.get_data_handle(), 0x3c, desc.get_size());
    return made;
  }

  const Network::Options options_;
  const ModelLayout layout_;
  const dnnl::engine engine_;
  const dnnl::stream stream_;
  memory parameters_;
  memory gradients_;
  std::unique_ptr<Builder> builder_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BareProducts>> NewBareProducts(
    const ModelGraph& graph, const Network::Options& options) {
  if (options.bfloat16) ABSL_RETURN_IF_ERROR(CheckBfloat16());
  try {
    return std::make_unique<OneDnnProducts>(graph, options);
  } catch (const dnnl::error& error) {
    return absl::InternalError(
        absl::StrCat("bare products: oneDNN: ", error.what()));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("bare products: out of memory");
  }
}

}  // namespace koinon::kernels
