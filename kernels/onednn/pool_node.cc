#include <cstdint>
#include <optional>

#include "kernels/onednn/image_format.h"
#include "kernels/onednn/layer_node.h"
#include "kernels/onednn/max_pool_kernel.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;
using PrimitiveDesc = dnnl::pooling_forward::primitive_desc;

v1::Layer::Pool PoolOf(const ModelGraph::Layer& layer) {
  return layer.spec.has_max_pool() ? layer.spec.max_pool()
                                   : layer.spec.average_pool();
}

// Pooling by oneDNN.
class PoolNode final : public LayerNode {
 public:
  explicit PoolNode(const ModelGraph::Layer& layer)
      : name_(layer.name),
        output_shape_(layer.output_shape),
        algorithm_(layer.spec.has_max_pool()
                       ? dnnl::algorithm::pooling_max
                       : dnnl::algorithm::pooling_avg_include_padding) {
    const v1::Layer::Pool pool = PoolOf(layer);
    kernel_ = {pool.kernel(), pool.kernel()};
    strides_ = {pool.stride(), pool.stride()};
    padding_ = {pool.padding(), pool.padding()};
    for (int axis = 0; axis < 2; ++axis) {
      // Extents are rounded down: where the last window ends before the
      // padded edge, there is less padding on that side.
      end_padding_.push_back((output_shape_[axis + 1] - 1) * pool.stride() +
                             pool.kernel() - layer.input_shape[axis + 1] -
                             pool.padding());
    }
  }

  memory Forward(const memory& input, Builder* builder) override {
    input_desc_ = input.get_desc();
    hint_ = PrimitiveDesc({builder->forward_kind(), algorithm_, input_desc_,
                           AnyFormat(PlainDesc(builder->batch(), output_shape_,
                                               input_desc_.data_type())),
                           strides_, kernel_, padding_, end_padding_},
                          builder->attributes(), builder->engine());
    memory output = builder->NewMemory(hint_.dst_desc());
    PrimitiveOperation::Arguments arguments = {{DNNL_ARG_SRC, input},
                                               {DNNL_ARG_DST, output}};
    if (HasWorkspace(*builder)) {
      workspace_ = builder->NewMemory(hint_.workspace_desc());
      arguments.emplace_back(DNNL_ARG_WORKSPACE, workspace_);
    }
    builder->Add<dnnl::pooling_forward>(name_, hint_, std::move(arguments),
                                        &builder->forward());
    return output;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    if (!wants_input_gradient) return memory();
    const memory gradient = builder->InFormat(output_gradient, hint_.dst_desc(),
                                              &builder->backward());
    const dnnl::pooling_backward::primitive_desc description(
        {algorithm_, input_desc_, hint_.dst_desc(), strides_, kernel_, padding_,
         end_padding_},
        builder->attributes(), builder->engine(), hint_);
    memory input_gradient = builder->NewMemory(input_desc_);
    PrimitiveOperation::Arguments arguments = {
        {DNNL_ARG_DIFF_DST, gradient}, {DNNL_ARG_DIFF_SRC, input_gradient}};
    if (HasWorkspace(*builder)) {
      arguments.emplace_back(DNNL_ARG_WORKSPACE, workspace_);
    }
    builder->Add<dnnl::pooling_backward>(
        name_, description, std::move(arguments), &builder->backward());
    return input_gradient;
  }

 private:
  // Where each maximum came from.
  bool HasWorkspace(const Builder& builder) const {
    return algorithm_ == dnnl::algorithm::pooling_max && builder.training();
  }

  const std::string name_;
  const std::vector<int64_t> output_shape_;
  const dnnl::algorithm algorithm_;
  memory::dims kernel_, strides_, padding_, end_padding_;
  memory::desc input_desc_;
  PrimitiveDesc hint_;
  memory workspace_;
};

// Max pooling by our own kernel where the windows do not overlap, else by
// oneDNN's: which it is shows when the input's format is known.
class MaxPoolNode final : public LayerNode {
 public:
  MaxPoolNode(const ModelGraph::Layer& layer, RoundedResults rounded)
      : layer_(layer), rounded_(rounded), other_(layer) {}

  memory Forward(const memory& input, Builder* builder) override {
    format_ = ImageFormat::Of(input.get_desc());
    if (!CanRun()) return other_.Forward(input, builder);
    return input.get_desc().data_type() == memory::data_type::bf16
               ? AddForward<uint16_t>(input, builder)
               : AddForward<float>(input, builder);
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    if (!CanRun()) {
      return other_.Backward(output_gradient, wants_input_gradient, builder);
    }
    if (!wants_input_gradient) return memory();
    return input_desc_.data_type() == memory::data_type::bf16
               ? AddBackward<uint16_t>(output_gradient, builder)
               : AddBackward<float>(output_gradient, builder);
  }

 private:
  bool CanRun() const {
    const v1::Layer::Pool pool = PoolOf(layer_);
    return format_.has_value() && format_->inner % kMaxPoolLanes == 0 &&
           pool.padding() == 0 && pool.stride() >= pool.kernel() &&
           pool.kernel() <= 15;
  }

  template <typename Value>
  memory AddForward(const memory& input, Builder* builder) {
    input_desc_ = input.get_desc();
    output_desc_ =
        format_->Desc(PlainDesc(builder->batch(), layer_.output_shape).dims(),
                      input_desc_.data_type());
    const v1::Layer::Pool pool = PoolOf(layer_);
    shape_.outer = format_->outer;
    shape_.height = format_->height;
    shape_.width = format_->width;
    shape_.inner = format_->inner;
    shape_.kernel = static_cast<size_t>(pool.kernel());
    shape_.stride = static_cast<size_t>(pool.stride());
    shape_.rectified = builder->IsRectified(input);
    shape_.rounds_output = rounded_.output;
    shape_.rounds_gradient = rounded_.input_gradient;
    memory output = builder->NewMemory(output_desc_);
    if (shape_.rounds_output) builder->MarkRounded(output);
    if (builder->training()) {
      const auto count =
          static_cast<int64_t>(output_desc_.get_size() / sizeof(Value));
      index_ = builder->NewMemory(
          memory::desc({count}, memory::data_type::u8, memory::format_tag::x));
    }
    builder->forward().AddKernel([shape = shape_, input, output,
                                  index = index_](const StepContext& context) {
      ForwardMaxPool(shape, context.threads, Values<Value>(input),
                     Values<Value>(output),
                     index ? Values<uint8_t>(index) : nullptr);
    });
    return output;
  }

  template <typename Value>
  memory AddBackward(const memory& output_gradient, Builder* builder) {
    const memory gradient =
        builder->InFormat(output_gradient, output_desc_, &builder->backward());
    memory input_gradient = builder->NewMemory(input_desc_);
    builder->backward().AddKernel([shape = shape_, gradient, input_gradient,
                                   index = index_](const StepContext& context) {
      BackwardMaxPool(shape, context.threads, Values<Value>(gradient),
                      Values<uint8_t>(index), Values<Value>(input_gradient));
    });
    if (shape_.rectified) builder->MarkMasked(input_gradient);
    if (shape_.rounds_gradient) builder->MarkRounded(input_gradient);
    return input_gradient;
  }

  template <typename Value>
  static Value* Values(const memory& memory) {
    return static_cast<Value*>(memory.get_data_handle());
  }

  const ModelGraph::Layer& layer_;
  const RoundedResults rounded_;
  PoolNode other_;
  std::optional<ImageFormat> format_;
  MaxPoolShape shape_;
  memory::desc input_desc_, output_desc_;
  memory index_;  // u8, as many as output values; empty if not training
};

}  // namespace

std::unique_ptr<LayerNode> NewPoolNode(const ModelGraph::Layer& layer,
                                       RoundedResults rounded) {
  if (layer.spec.has_max_pool()) {
    return std::make_unique<MaxPoolNode>(layer, rounded);
  }
  return std::make_unique<PoolNode>(layer);
}

}  // namespace koinon::kernels::onednn
