#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "kernels/onednn/group_norm_kernel.h"
#include "kernels/onednn/image_format.h"
#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;

// By the kernel for images whose channels lie side by side, with the value that
// is added and the ReLU, or by the one for everything else: which it is shows
// when the input's format is known.
class GroupNormNode final : public LayerNode {
 public:
  GroupNormNode(const ModelGraph::Layer& layer, FusedActivation fused,
                RoundedResults rounded)
      : layer_(layer), fused_(fused), rounded_(rounded) {}

  bool TakesGradientInParts() const override { return other_node_ == nullptr; }
  bool OverwritesOutputGradient() const override {
    return static_cast<bool>(fused_);
  }

  memory Forward(const memory& input, Builder* builder) override {
    if (!Describe(input.get_desc(), builder)) {
      other_node_ = NewNormNode(layer_);
      output_ = other_node_->Forward(input, builder);
      if (fused_) fused_.AddForward(layer_.name, output_, builder);
      return output_;
    }
    return AddOwn(input, memory(), builder);
  }

  memory ForwardPlus(const memory& input, const memory& other,
                     Builder* builder) override {
    // What is wider than the norm's own result stays so.
    if (input.get_desc().data_type() != other.get_desc().data_type() ||
        !Describe(input.get_desc(), builder)) {
      return memory();
    }
    return AddOwn(
        input, builder->InFormat(other, input.get_desc(), &builder->forward()),
        builder);
  }

  // Of the other node; our own kernel's way back is BackwardParts.
  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    const memory gradient = builder->InFormat(
        output_gradient, output_.get_desc(), &builder->backward());
    if (fused_ && !builder->IsMasked(output_gradient)) {
      fused_.AddBackward(layer_.name, output_, gradient, builder);
    }
    return other_node_->Backward(gradient, wants_input_gradient, builder);
  }

  memory BackwardParts(const OutputGradient& gradient,
                       bool wants_input_gradient, memory* other,
                       Builder* builder) override {
    Gradients gradients;
    gradients.first = builder->InFormat(gradient.first, output_.get_desc(),
                                        &builder->backward());
    if (gradient.second) {
      gradients.second = builder->InFormat(gradient.second, output_.get_desc(),
                                           &builder->backward());
    }
    // Memory that may be written to: what was reordered is nobody else's.
    memory free[] = {gradient.may_overwrite_first ||
                             gradients.first.get() != gradient.first.get()
                         ? gradients.first
                         : memory(),
                     gradients.second};
    const auto take = [&] {
      for (memory& candidate : free) {
        if (candidate) return std::exchange(candidate, memory());
      }
      return builder->NewMemory(output_.get_desc());
    };
    if (has_addend_ || gradients.second) gradients.whole = take();
    if (wants_input_gradient) gradients.input = take();
    for (const memory& written : {gradients.whole, gradients.input}) {
      if (written) builder->Unmark(written);
    }
    if (gradients.input && shape_.rounds_gradient) {
      builder->MarkRounded(gradients.input);
    }
    if (output_.get_desc().data_type() == memory::data_type::bf16) {
      AddBackward<uint16_t>(gradients, builder);
    } else {
      AddBackward<float>(gradients, builder);
    }
    if (other != nullptr) *other = gradients.whole;
    return gradients.input;
  }

 private:
  struct Gradients {
    memory first, second, whole, input;
  };

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
    shape_.rounds_output = rounded_.output;
    shape_.rounds_gradient = rounded_.input_gradient;
    const int64_t examples = builder->batch();
    const auto padded = static_cast<int64_t>(shape_.padded());
    mean_ = builder->NewMemory(
        PlainDesc({examples, layer_.spec.group_norm().groups()}));
    inverse_ = builder->NewMemory(mean_.get_desc());
    line_ = builder->NewMemory(PlainDesc({examples, 2, padded}));
    if (builder->training()) {
      coefficients_ = builder->NewMemory(PlainDesc({examples, 3, padded}));
    }
    // Doubles, which oneDNN does not know.
    sums_ = builder->NewMemory(PlainDesc(
        {examples * 2 * padded * static_cast<int64_t>(sizeof(double))},
        memory::data_type::u8));
    return true;
  }

  memory AddOwn(const memory& input, const memory& addend, Builder* builder) {
    input_ = input;
    has_addend_ = static_cast<bool>(addend);
    output_ = builder->NewMemory(input.get_desc());
    if (shape_.rectified) builder->MarkRectified(output_);
    if (shape_.rounds_output) builder->MarkRounded(output_);
    if (input.get_desc().data_type() == memory::data_type::bf16) {
      AddForward<uint16_t>(addend, builder);
    } else {
      AddForward<float>(addend, builder);
    }
    return output_;
  }

  GroupNormScratch Scratch() const {
    return {static_cast<double*>(sums_.get_data_handle()),
            coefficients_ ? Data(coefficients_) : nullptr};
  }

  GroupNormMoments Moments() const {
    return {Data(mean_), Data(inverse_), Data(line_)};
  }

  template <typename Value>
  static Value* Values(const memory& memory) {
    return memory ? static_cast<Value*>(memory.get_data_handle()) : nullptr;
  }

  // What a kernel's capture holds so that its memory lives.
  using Kept = std::array<memory, 5>;
  Kept KeptMemory() const {
    return {mean_, inverse_, line_, sums_, coefficients_};
  }

  template <typename Value>
  void AddForward(const memory& addend, Builder* builder) const {
    builder->forward().AddKernel(
        [shape = shape_, input = input_, addend, output = output_,
         scratch = Scratch(), moments = Moments(), kept = KeptMemory(),
         scale = builder->ParameterData(layer_.weight),
         shift =
             builder->ParameterData(layer_.bias)](const StepContext& context) {
          ForwardGroupNorm(shape, context.threads, Values<Value>(input),
                           Values<Value>(addend), scale, shift, scratch,
                           moments, Values<Value>(output));
        });
  }

  template <typename Value>
  void AddBackward(const Gradients& gradients, Builder* builder) const {
    builder->backward().AddKernel(
        [shape = shape_, input = input_, output = output_, gradients,
         scratch = Scratch(), moments = Moments(), kept = KeptMemory(),
         scale = builder->ParameterData(layer_.weight),
         scale_gradient = builder->GradientData(layer_.weight),
         shift_gradient =
             builder->GradientData(layer_.bias)](const StepContext& context) {
          BackwardGroupNorm<Value>(
              shape, context.threads, Values<Value>(input),
              Values<Value>(output), scale, moments,
              {Values<Value>(gradients.first), Values<Value>(gradients.second),
               Values<Value>(gradients.whole), Values<Value>(gradients.input)},
              scratch, scale_gradient, shift_gradient);
        });
  }

  const ModelGraph::Layer& layer_;
  const FusedActivation fused_;
  const RoundedResults rounded_;
  std::unique_ptr<LayerNode> other_node_;  // where our own kernel cannot run
  GroupNormShape shape_;
  bool has_addend_ = false;
  memory input_, output_;
  memory mean_, inverse_, line_;
  memory sums_, coefficients_;  // scratch
};

}  // namespace

std::unique_ptr<LayerNode> NewGroupNormNode(const ModelGraph::Layer& layer,
                                            FusedActivation fused,
                                            RoundedResults rounded) {
  return std::make_unique<GroupNormNode>(layer, fused, rounded);
}

}  // namespace koinon::kernels::onednn
