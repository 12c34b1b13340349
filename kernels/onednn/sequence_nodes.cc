// The layers of sequences that are our own kernels, on plain formats:
// embedding, layer norm of each position, causal attention.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/onednn/attention_kernel.h"
#include "kernels/onednn/layer_node.h"
#include "kernels/onednn/layer_norm_kernel.h"
#include "kernels/onednn/openmp.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;

// tokens: [B, T], weight: [V, C], positions: [T, C] or none, y: [B, T, C].
class EmbeddingNode final : public LayerNode {
 public:
  EmbeddingNode(const ModelGraph::Layer& layer, bool adds)
      : layer_(layer), adds_(adds) {}

  bool OverwritesOutputGradient() const override { return false; }

  memory Forward(const memory& input, Builder* builder) override {
    tokens_ = builder->InFormat(input,
                                PlainDesc(builder->batch(), layer_.input_shape),
                                &builder->forward());
    desc_ = PlainDesc(builder->batch(), layer_.output_shape);
    memory output = builder->NewMemory(desc_);
    builder->forward().AddKernel(
        [T = positions(), C = width(), rows = rows(*builder), tokens = tokens_,
         output, weight = builder->ParameterData(layer_.weight),
         place =
             layer_.bias < 0 ? nullptr : builder->ParameterData(layer_.bias)](
            const StepContext& context) {
          ParallelFor(context.threads, rows, [&](size_t begin, size_t end) {
            for (size_t row = begin; row < end; ++row) {
              const float* from =
                  weight + static_cast<size_t>(Data(tokens)[row]) * C;
              float* to = Data(output) + row * C;
              if (place == nullptr) {
                std::copy_n(from, C, to);
                continue;
              }
              const float* offset = place + row % T * C;
              for (size_t c = 0; c < C; ++c) to[c] = from[c] + offset[c];
            }
          });
        });
    return output;
  }

  // Each thread has its columns and goes over all rows: no two write to one
  // place, and sums have one order.
  memory Backward(const memory& output_gradient, bool /*wants_input_gradient*/,
                  Builder* builder) override {
    const memory gradient =
        builder->InFormat(output_gradient, desc_, &builder->backward());
    builder->backward().AddKernel(
        [T = positions(), C = width(), rows = rows(*builder), adds = adds_,
         vocabulary = static_cast<size_t>(layer_.spec.embedding().vocabulary()),
         tokens = tokens_, gradient,
         weight = builder->GradientData(layer_.weight),
         place =
             layer_.bias < 0 ? nullptr : builder->GradientData(layer_.bias)](
            const StepContext& context) {
          if (!adds) std::fill_n(weight, vocabulary * C, 0.0f);
          if (place != nullptr) std::fill_n(place, T * C, 0.0f);
          ParallelFor(context.threads, C, [&](size_t begin, size_t end) {
            for (size_t row = 0; row < rows; ++row) {
              const float* from = Data(gradient) + row * C;
              float* to = weight + static_cast<size_t>(Data(tokens)[row]) * C;
              for (size_t c = begin; c < end; ++c) to[c] += from[c];
              if (place == nullptr) continue;
              float* offset = place + row % T * C;
              for (size_t c = begin; c < end; ++c) offset[c] += from[c];
            }
          });
        });
    return memory();
  }

 private:
  size_t positions() const { return layer_.output_shape[0]; }
  size_t width() const { return layer_.output_shape[1]; }
  size_t rows(const Builder& builder) const {
    return static_cast<size_t>(builder.batch()) * positions();
  }

  const ModelGraph::Layer& layer_;
  const bool adds_;
  memory::desc desc_;
  memory tokens_;
};

class SequenceNormNode final : public LayerNode {
 public:
  explicit SequenceNormNode(const ModelGraph::Layer& layer) : layer_(layer) {}

  bool OverwritesOutputGradient() const override { return false; }

  memory Forward(const memory& input, Builder* builder) override {
    Describe(builder);
    input_ = builder->InFormat(input, desc_, &builder->forward());
    return AddForward(input_, memory(), builder);
  }

  memory ForwardSum(const memory& input, const memory& other, memory* sum,
                    Builder* builder) override {
    Describe(builder);
    input_ = builder->NewMemory(desc_);
    *sum = input_;
    return AddForward(builder->InFormat(input, desc_, &builder->forward()),
                      builder->InFormat(other, desc_, &builder->forward()),
                      builder);
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    memory input_gradient;
    if (wants_input_gradient) input_gradient = builder->NewMemory(desc_);
    AddBackward(output_gradient, false, input_gradient, builder);
    return input_gradient;
  }

  bool BackwardAdding(const memory& output_gradient, const memory& sum,
                      Builder* builder) override {
    if (sum.get_desc() != desc_) return false;
    AddBackward(output_gradient, true, sum, builder);
    return true;
  }

 private:
  void Describe(Builder* builder) {
    desc_ = PlainDesc(builder->batch(), layer_.input_shape);
    shape_.rows = static_cast<size_t>(builder->batch() * layer_.input_shape[0]);
    shape_.features = static_cast<size_t>(layer_.input_shape[1]);
    shape_.epsilon = static_cast<float>(layer_.spec.layer_norm().epsilon());
    const memory::desc moments = PlainDesc({static_cast<int64_t>(shape_.rows)});
    mean_ = builder->NewMemory(moments);
    inverse_ = builder->NewMemory(moments);
  }

  // Of `first`, or of its sum with `second`, which goes to input_.
  memory AddForward(const memory& first, const memory& second,
                    Builder* builder) {
    memory output = builder->NewMemory(desc_);
    builder->forward().AddKernel(
        [shape = shape_, first, second, sum = input_, output, mean = mean_,
         inverse = inverse_, scale = builder->ParameterData(layer_.weight),
         shift =
             builder->ParameterData(layer_.bias)](const StepContext& context) {
          ForwardLayerNorm(shape, context.threads, Data(first),
                           second ? Data(second) : nullptr,
                           second ? Data(sum) : nullptr, scale, shift,
                           Data(output), Data(mean), Data(inverse));
        });
    return output;
  }

  void AddBackward(const memory& output_gradient, bool adds,
                   const memory& input_gradient, Builder* builder) {
    const memory gradient =
        builder->InFormat(output_gradient, desc_, &builder->backward());
    const auto sums =
        static_cast<int64_t>(kLayerNormRuns * 2 * shape_.features);
    memory scratch = builder->NewMemory(
        memory::desc({sums * static_cast<int64_t>(sizeof(double))},
                     memory::data_type::u8, memory::format_tag::x));
    builder->backward().AddKernel(
        [shape = shape_, input = input_, mean = mean_, inverse = inverse_,
         gradient, adds, input_gradient, scratch,
         scale = builder->ParameterData(layer_.weight),
         scale_gradient = builder->GradientData(layer_.weight),
         shift_gradient =
             builder->GradientData(layer_.bias)](const StepContext& context) {
          BackwardLayerNorm(shape, context.threads, Data(input), scale,
                            Data(mean), Data(inverse), Data(gradient), adds,
                            input_gradient ? Data(input_gradient) : nullptr,
                            scale_gradient, shift_gradient,
                            static_cast<double*>(scratch.get_data_handle()));
        });
  }

  const ModelGraph::Layer& layer_;
  memory::desc desc_;
  LayerNormShape shape_;
  memory input_, mean_, inverse_;
};

absl::Status Named(const std::string& name, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(name, ": ", status.message()));
}

class AttentionNode final : public LayerNode {
 public:
  explicit AttentionNode(const ModelGraph::Layer& layer) : layer_(layer) {}

  bool OverwritesOutputGradient() const override { return false; }

  memory Forward(const memory& input, Builder* builder) override {
    Describe(*builder);
    input_ = builder->InFormat(input, input_desc_, &builder->forward());
    memory output = builder->NewMemory(output_desc_);
    log_sums_ = builder->NewMemory(PlainDesc({static_cast<int64_t>(
        shape_.batch * shape_.heads * shape_.positions)}));
    scratch_ = builder->NewMemory(PlainDesc(
        {builder->threads(), static_cast<int64_t>(shape_.scratch())}));
    builder->forward().AddKernel(
        [shape = shape_, input = input_, output, log_sums = log_sums_,
         scratch = scratch_, name = layer_.name](const StepContext& context) {
          return Named(name, ForwardAttention(shape, context.threads,
                                              Data(input), Data(output),
                                              Data(log_sums), Data(scratch)));
        });
    return output;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    if (!wants_input_gradient) return memory();
    const memory gradient =
        builder->InFormat(output_gradient, output_desc_, &builder->backward());
    memory input_gradient = builder->NewMemory(input_desc_);
    builder->backward().AddKernel(
        [shape = shape_, input = input_, log_sums = log_sums_,
         scratch = scratch_, gradient, input_gradient,
         name = layer_.name](const StepContext& context) {
          return Named(name,
                       BackwardAttention(shape, context.threads, Data(input),
                                         Data(log_sums), Data(gradient),
                                         Data(input_gradient), Data(scratch)));
        });
    return input_gradient;
  }

 private:
  void Describe(const Builder& builder) {
    input_desc_ = PlainDesc(builder.batch(), layer_.input_shape);
    output_desc_ = PlainDesc(builder.batch(), layer_.output_shape);
    shape_.batch = static_cast<size_t>(builder.batch());
    shape_.positions = static_cast<size_t>(layer_.output_shape[0]);
    shape_.heads = static_cast<size_t>(layer_.spec.causal_attention().heads());
    shape_.size = static_cast<size_t>(layer_.output_shape[1]) / shape_.heads;
  }

  const ModelGraph::Layer& layer_;
  memory::desc input_desc_, output_desc_;
  AttentionShape shape_;
  memory input_, log_sums_, scratch_;
};

}  // namespace

std::unique_ptr<LayerNode> NewEmbeddingNode(const ModelGraph::Layer& layer,
                                            bool adds) {
  return std::make_unique<EmbeddingNode>(layer, adds);
}

std::unique_ptr<LayerNode> NewSequenceNormNode(const ModelGraph::Layer& layer) {
  return std::make_unique<SequenceNormNode>(layer);
}

std::unique_ptr<LayerNode> NewAttentionNode(const ModelGraph::Layer& layer) {
  return std::make_unique<AttentionNode>(layer);
}

}  // namespace koinon::kernels::onednn
