// The layers that are our own kernels, on plain formats.

#include <cstring>

#include "absl/types/span.h"
#include "kernels/dropout_mask.h"
#include "kernels/onednn/layer_node.h"
#include "kernels/onednn/norm_kernel.h"
#include "kernels/onednn/openmp.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;

size_t ElementCount(const std::vector<int64_t>& shape) {
  size_t count = 1;
  for (int64_t extent : shape) count *= static_cast<size_t>(extent);
  return count;
}

class FlattenNode final : public LayerNode {
 public:
  explicit FlattenNode(const ModelGraph::Layer& layer) : layer_(layer) {}

  memory Forward(const memory& input, Builder* builder) override {
    // Whatever its type: only the order matters.
    const memory::data_type type = input.get_desc().data_type();
    return builder->Reshape(
        builder->InFormat(input,
                          PlainDesc(builder->batch(), layer_.input_shape, type),
                          &builder->forward()),
        PlainDesc(builder->batch(), layer_.output_shape, type));
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    if (!wants_input_gradient) return memory();
    const memory::data_type type = output_gradient.get_desc().data_type();
    return View(builder->InFormat(
                    output_gradient,
                    PlainDesc(builder->batch(), layer_.output_shape, type),
                    &builder->backward()),
                PlainDesc(builder->batch(), layer_.input_shape, type));
  }

 private:
  const ModelGraph::Layer& layer_;
};

// Inverted dropout; the identity in evaluation.
class DropoutNode final : public LayerNode {
 public:
  DropoutNode(const ModelGraph::Layer& layer, size_t place)
      : layer_(layer), place_(place), rate_(layer.spec.dropout().rate()) {}

  memory Forward(const memory& input, Builder* builder) override {
    desc_ = PlainDesc(builder->batch(), layer_.input_shape);
    count_ = builder->batch() * ElementCount(layer_.input_shape);
    const memory plain = builder->InFormat(input, desc_, &builder->forward());
    if (!builder->training()) return plain;
    memory output = builder->NewMemory(desc_);
    keep_ = memory(memory::desc({static_cast<int64_t>(count_)},
                                memory::data_type::u8, memory::format_tag::x),
                   builder->engine());
    const float* from = Data(plain);
    float* to = Data(output);
    uint8_t* keep = static_cast<uint8_t*>(keep_.get_data_handle());
    builder->forward().AddKernel(
        // The memories are named so that the kernel keeps them alive.
        [rate = rate_, place = place_, count = count_, from, to, keep, plain,
         output, mask = keep_](const StepContext& context) {
          if (!context.training) {
            std::memcpy(to, from, count * sizeof(float));
            return;
          }
          const uint64_t seed = DropoutSeed(context.step_seed, place);
          ParallelFor(context.threads, count, [&](size_t begin, size_t end) {
            DrawDropoutMask(seed, rate, begin,
                            absl::MakeSpan(keep + begin, end - begin));
            Apply(rate, keep, from, to, begin, end);
          });
        });
    return output;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    if (!wants_input_gradient) return memory();
    const memory gradient =
        builder->InFormat(output_gradient, desc_, &builder->backward());
    float* values = Data(gradient);
    const uint8_t* keep = static_cast<uint8_t*>(keep_.get_data_handle());
    builder->backward().AddKernel([rate = rate_, count = count_, values, keep,
                                   gradient,
                                   mask = keep_](const StepContext& context) {
      ParallelFor(context.threads, count, [&](size_t begin, size_t end) {
        Apply(rate, keep, values, values, begin, end);
      });
    });
    return gradient;
  }

 private:
  static void Apply(double rate, const uint8_t* keep, const float* from,
                    float* to, size_t begin, size_t end) {
    const float scale = static_cast<float>(1 / (1 - rate));
    for (size_t i = begin; i < end; ++i) to[i] = keep[i] ? from[i] * scale : 0;
  }

  const ModelGraph::Layer& layer_;
  const size_t place_;
  const double rate_;
  size_t count_ = 0;
  memory::desc desc_;
  memory keep_;  // u8: [B * size]
};

class NormNode final : public LayerNode {
 public:
  explicit NormNode(const ModelGraph::Layer& layer) : layer_(layer) {}

  bool OverwritesOutputGradient() const override { return false; }

  memory Forward(const memory& input, Builder* builder) override {
    Describe(builder->batch());
    input_ = builder->InFormat(input, desc_, &builder->forward());
    memory output = builder->NewMemory(desc_);
    const memory::desc moments(
        {static_cast<int64_t>(shape_.batch * shape_.groups)},
        memory::data_type::f32, memory::format_tag::x);
    mean_ = builder->NewMemory(moments);
    inverse_ = builder->NewMemory(moments);
    builder->forward().AddKernel(
        [shape = shape_, input = input_, output, mean = mean_,
         inverse = inverse_, scale = builder->ParameterData(layer_.weight),
         shift =
             builder->ParameterData(layer_.bias)](const StepContext& context) {
          ForwardNorm(shape, context.threads, Data(input), scale, shift,
                      Data(output), Data(mean), Data(inverse));
        });
    return output;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    const memory gradient =
        builder->InFormat(output_gradient, desc_, &builder->backward());
    memory input_gradient;
    if (wants_input_gradient) input_gradient = builder->NewMemory(desc_);
    builder->backward().AddKernel(
        [shape = shape_, input = input_, mean = mean_, inverse = inverse_,
         gradient, input_gradient,
         scale = builder->ParameterData(layer_.weight),
         scale_gradient = builder->GradientData(layer_.weight),
         shift_gradient =
             builder->GradientData(layer_.bias)](const StepContext& context) {
          BackwardNorm(shape, context.threads, Data(input), scale, Data(mean),
                       Data(inverse), Data(gradient),
                       input_gradient ? Data(input_gradient) : nullptr,
                       scale_gradient, shift_gradient);
        });
    return input_gradient;
  }

 private:
  void Describe(int64_t batch) {
    desc_ = PlainDesc(batch, layer_.input_shape);
    const size_t size = ElementCount(layer_.input_shape);
    shape_.batch = static_cast<size_t>(batch);
    if (layer_.spec.has_layer_norm()) {
      shape_.channels = size;
      shape_.epsilon = layer_.spec.layer_norm().epsilon();
    } else {
      shape_.groups = layer_.spec.group_norm().groups();
      shape_.channels = layer_.input_shape[0];
      shape_.spatial = size / shape_.channels;
      shape_.epsilon = layer_.spec.group_norm().epsilon();
    }
    shape_.row = size / shape_.groups;
  }

  const ModelGraph::Layer& layer_;
  memory::desc desc_;
  NormShape shape_;
  memory input_, mean_, inverse_;
};

}  // namespace

std::unique_ptr<LayerNode> NewDropoutNode(const ModelGraph::Layer& layer,
                                          size_t place) {
  return std::make_unique<DropoutNode>(layer, place);
}

std::unique_ptr<LayerNode> NewNormNode(const ModelGraph::Layer& layer) {
  return std::make_unique<NormNode>(layer);
}

std::unique_ptr<LayerNode> NewFlattenNode(const ModelGraph::Layer& layer) {
  return std::make_unique<FlattenNode>(layer);
}

}  // namespace koinon::kernels::onednn
