#include <cstdint>
#include <optional>
#include <utility>

#include "kernels/onednn/group_norm_kernel.h"
#include "kernels/onednn/image_format.h"
#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;

// By the kernel for images whose channels lie side by side, ReLU included, or
// by the one for everything else: which it is shows when the input's format is
// known.
class GroupNormNode final : public LayerNode {
 public:
  GroupNormNode(const ModelGraph::Layer& layer, FusedActivation fused)
      : layer_(layer), fused_(fused) {}

  bool OverwritesOutputGradient() const override {
    return other_ != nullptr && static_cast<bool>(fused_);
  }

  memory Forward(const memory& input, Builder* builder) override {
    if (!Describe(input.get_desc(), builder)) {
      other_ = NewNormNode(layer_);
      output_ = other_->Forward(input, builder);
      if (fused_) fused_.AddForward(layer_.name, output_, builder);
      return output_;
    }
    input_ = input;
    output_ = builder->NewMemory(input.get_desc());
    if (shape_.rectified) builder->MarkRectified(output_);
    if (input.get_desc().data_type() == memory::data_type::bf16) {
      AddForward<uint16_t>(builder);
    } else {
      AddForward<float>(builder);
    }
    return output_;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    const memory gradient = builder->InFormat(
        output_gradient, output_.get_desc(), &builder->backward());
    if (other_ != nullptr) {
      if (fused_ && !builder->IsMasked(output_gradient)) {
        fused_.AddBackward(layer_.name, output_, gradient, builder);
      }
      return other_->Backward(gradient, wants_input_gradient, builder);
    }
    memory input_gradient;
    if (wants_input_gradient) {
      input_gradient = builder->NewMemory(input_.get_desc());
    }
    if (input_.get_desc().data_type() == memory::data_type::bf16) {
      AddBackward<uint16_t>(gradient, input_gradient, builder);
    } else {
      AddBackward<float>(gradient, input_gradient, builder);
    }
    return input_gradient;
  }

 private:
  // False: not for images like `input`.
  bool Describe(const memory::desc& input, Builder* builder) {
    const std::optional<ImageFormat> format = ImageFormat::Of(input);
    if (!format.has_value() || format->inner % kGroupNormLanes != 0) {
      return false;
    }
    shape_.batch = static_cast<size_t>(builder->batch());
    shape_.outer = format->outer / shape_.batch;
    shape_.spatial = format->height * format->width;
    shape_.inner = format->inner;
    shape_.channels = static_cast<size_t>(layer_.input_shape[0]);
    shape_.groups = static_cast<size_t>(layer_.spec.group_norm().groups());
    shape_.epsilon = layer_.spec.group_norm().epsilon();
    shape_.rectified = fused_.kind == v1::Layer::RELU;
    const int64_t examples = builder->batch();
    const auto padded = static_cast<int64_t>(shape_.padded());
    mean_ = builder->NewMemory(
        PlainDesc({examples, layer_.spec.group_norm().groups()}));
    inverse_ = builder->NewMemory(mean_.get_desc());
    coefficients_ = builder->NewMemory(PlainDesc({examples, 3, padded}));
    // Doubles, which oneDNN does not know.
    sums_ = builder->NewMemory(PlainDesc(
        {examples * 2 * padded * static_cast<int64_t>(sizeof(double))},
        memory::data_type::u8));
    return true;
  }

  GroupNormScratch Scratch() const {
    return {static_cast<double*>(sums_.get_data_handle()), Data(coefficients_)};
  }

  template <typename Value>
  static Value* Values(const memory& memory) {
    return memory ? static_cast<Value*>(memory.get_data_handle()) : nullptr;
  }

  // The memories are named so that the kernels keep them alive.
  template <typename Value>
  void AddForward(Builder* builder) const {
    builder->forward().AddKernel(
        [shape = shape_, input = input_, output = output_, mean = mean_,
         inverse = inverse_, scratch = Scratch(), sums = sums_,
         coefficients = coefficients_,
         scale = builder->ParameterData(layer_.weight),
         shift =
             builder->ParameterData(layer_.bias)](const StepContext& context) {
          ForwardGroupNorm(shape, context.threads, Values<Value>(input), scale,
                           shift, scratch, Data(mean), Data(inverse),
                           Values<Value>(output));
        });
  }

  template <typename Value>
  void AddBackward(const memory& gradient, const memory& input_gradient,
                   Builder* builder) const {
    builder->backward().AddKernel(
        [shape = shape_, input = input_, output = output_, mean = mean_,
         inverse = inverse_, gradient, input_gradient, scratch = Scratch(),
         sums = sums_, coefficients = coefficients_,
         scale = builder->ParameterData(layer_.weight),
         scale_gradient = builder->GradientData(layer_.weight),
         shift_gradient =
             builder->GradientData(layer_.bias)](const StepContext& context) {
          BackwardGroupNorm(shape, context.threads, Values<Value>(input),
                            Values<Value>(output), scale, Data(mean),
                            Data(inverse), Values<Value>(gradient), scratch,
                            Values<Value>(input_gradient), scale_gradient,
                            shift_gradient);
        });
  }

  const ModelGraph::Layer& layer_;
  const FusedActivation fused_;
  std::unique_ptr<LayerNode> other_;  // where our own kernel cannot run
  GroupNormShape shape_;
  memory input_, output_;
  memory mean_, inverse_;
  memory sums_, coefficients_;  // scratch
};

}  // namespace

std::unique_ptr<LayerNode> NewGroupNormNode(const ModelGraph::Layer& layer,
                                            FusedActivation fused) {
  return std::make_unique<GroupNormNode>(layer, fused);
}

}  // namespace koinon::kernels::onednn
