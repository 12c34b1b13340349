#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::algorithm;
using dnnl::memory;
using PrimitiveDesc = dnnl::eltwise_forward::primitive_desc;

algorithm AlgorithmOf(int kind) {
  switch (kind) {
    case v1::Layer::GELU:
      return algorithm::eltwise_gelu_tanh;
    case v1::Layer::TANH:
      return algorithm::eltwise_tanh;
    case v1::Layer::SIGMOID:
      return algorithm::eltwise_logistic;
    case v1::Layer::HARD_SWISH:
      return algorithm::eltwise_hardswish;
    default:  // RELU: ModelGraph lets no other through
      return algorithm::eltwise_relu;
  }
}

// The form whose slope is computed from the result.
algorithm AlgorithmByResult(int kind) {
  switch (kind) {
    case v1::Layer::TANH:
      return algorithm::eltwise_tanh_use_dst_for_bwd;
    case v1::Layer::SIGMOID:
      return algorithm::eltwise_logistic_use_dst_for_bwd;
    default:
      return algorithm::eltwise_relu_use_dst_for_bwd;
  }
}

class ActivationNode final : public LayerNode {
 public:
  explicit ActivationNode(const ModelGraph::Layer& layer)
      : name_(layer.name), algorithm_(AlgorithmOf(layer.spec.activation())) {}

  memory Forward(const memory& input, Builder* builder) override {
    input_ = input;
    hint_ = PrimitiveDesc(
        {builder->forward_kind(), algorithm_, input.get_desc(), 0, 0},
        builder->attributes(), builder->engine());
    memory output = builder->NewMemory(input.get_desc());
    builder->Add<dnnl::eltwise_forward>(
        name_, hint_, {{DNNL_ARG_SRC, input}, {DNNL_ARG_DST, output}},
        &builder->forward());
    if (algorithm_ == algorithm::eltwise_relu) builder->MarkRectified(output);
    return output;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    if (!wants_input_gradient) return memory();
    if (algorithm_ == algorithm::eltwise_relu &&
        builder->IsMasked(output_gradient)) {
      return output_gradient;
    }
    const memory gradient = builder->InFormat(
        output_gradient, input_.get_desc(), &builder->backward());
    const dnnl::eltwise_backward::primitive_desc description(
        {algorithm_, input_.get_desc(), input_.get_desc(), 0, 0},
        builder->attributes(), builder->engine(), hint_);
    builder->Add<dnnl::eltwise_backward>(name_, description,
                                         {{DNNL_ARG_SRC, input_},
                                          {DNNL_ARG_DIFF_DST, gradient},
                                          {DNNL_ARG_DIFF_SRC, gradient}},
                                         &builder->backward());
    return gradient;
  }

 private:
  const std::string name_;
  const algorithm algorithm_;
  PrimitiveDesc hint_;
  memory input_;
};

// clamp(x / 6 + 1 / 2, 0, 1): oneDNN has its two halves.
class HardSigmoidNode final : public LayerNode {
 public:
  explicit HardSigmoidNode(const ModelGraph::Layer& layer)
      : name_(layer.name) {}

  memory Forward(const memory& input, Builder* builder) override {
    output_ = builder->NewMemory(input.get_desc());
    line_ = Describe(algorithm::eltwise_linear, 1.0f / 6, 0.5f, *builder);
    clip_ =
        Describe(algorithm::eltwise_clip_v2_use_dst_for_bwd, 0, 1, *builder);
    builder->Add<dnnl::eltwise_forward>(
        name_, line_, {{DNNL_ARG_SRC, input}, {DNNL_ARG_DST, output_}},
        &builder->forward());
    builder->Add<dnnl::eltwise_forward>(
        name_, clip_, {{DNNL_ARG_SRC, output_}, {DNNL_ARG_DST, output_}},
        &builder->forward());
    return output_;
  }

  memory Backward(const memory& output_gradient, bool wants_input_gradient,
                  Builder* builder) override {
    if (!wants_input_gradient) return memory();
    const memory gradient = builder->InFormat(
        output_gradient, output_.get_desc(), &builder->backward());
    // Neither slope needs the input.
    AddBackward(algorithm::eltwise_clip_v2_use_dst_for_bwd, 0, 1, clip_,
                DNNL_ARG_DST, gradient, builder);
    AddBackward(algorithm::eltwise_linear, 1.0f / 6, 0.5f, line_, DNNL_ARG_SRC,
                gradient, builder);
    return gradient;
  }

 private:
  PrimitiveDesc Describe(algorithm kind, float alpha, float beta,
                         const Builder& builder) const {
    return PrimitiveDesc(
        {builder.forward_kind(), kind, output_.get_desc(), alpha, beta},
        builder.attributes(), builder.engine());
  }

  void AddBackward(algorithm kind, float alpha, float beta,
                   const PrimitiveDesc& hint, int role, const memory& gradient,
                   Builder* builder) const {
    const dnnl::eltwise_backward::primitive_desc description(
        {kind, output_.get_desc(), output_.get_desc(), alpha, beta},
        builder->attributes(), builder->engine(), hint);
    builder->Add<dnnl::eltwise_backward>(name_, description,
                                         {{role, output_},
                                          {DNNL_ARG_DIFF_DST, gradient},
                                          {DNNL_ARG_DIFF_SRC, gradient}},
                                         &builder->backward());
  }

  const std::string name_;
  PrimitiveDesc line_, clip_;
  memory output_;
};

}  // namespace

bool FusedActivation::CanFuse(const v1::Layer& layer) {
  return layer.activation() == v1::Layer::RELU ||
         layer.activation() == v1::Layer::TANH ||
         layer.activation() == v1::Layer::SIGMOID;
}

bool FusedActivation::CanFuseForward(const v1::Layer& layer) {
  return CanFuse(layer) || layer.activation() == v1::Layer::GELU ||
         layer.activation() == v1::Layer::HARD_SWISH;
}

dnnl::primitive_attr FusedActivation::Attributes(const Builder& builder) const {
  if (kind == v1::Layer::ACTIVATION_UNSPECIFIED) return builder.attributes();
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops operations;
  operations.append_eltwise(1, AlgorithmOf(kind), 0, 0);
  attributes.set_post_ops(operations);
  return attributes;
}

void FusedActivation::AddForward(const std::string& name, const memory& value,
                                 Builder* builder) const {
  const PrimitiveDesc description(
      {builder->forward_kind(), AlgorithmByResult(kind), value.get_desc(), 0,
       0},
      builder->attributes(), builder->engine());
  builder->Add<dnnl::eltwise_forward>(
      name, description, {{DNNL_ARG_SRC, value}, {DNNL_ARG_DST, value}},
      &builder->forward());
}

void FusedActivation::AddBackward(const std::string& name, const memory& output,
                                  const memory& gradient,
                                  Builder* builder) const {
  const algorithm by_result = AlgorithmByResult(kind);
  const PrimitiveDesc hint(
      {builder->forward_kind(), by_result, output.get_desc(), 0, 0},
      builder->attributes(), builder->engine());
  const dnnl::eltwise_backward::primitive_desc description(
      {by_result, output.get_desc(), output.get_desc(), 0, 0},
      builder->attributes(), builder->engine(), hint);
  builder->Add<dnnl::eltwise_backward>(name, description,
                                       {{DNNL_ARG_DST, output},
                                        {DNNL_ARG_DIFF_DST, gradient},
                                        {DNNL_ARG_DIFF_SRC, gradient}},
                                       &builder->backward());
}

std::unique_ptr<LayerNode> NewActivationNode(const ModelGraph::Layer& layer) {
  if (layer.spec.activation() == v1::Layer::HARD_SIGMOID) {
    return std::make_unique<HardSigmoidNode>(layer);
  }
  return std::make_unique<ActivationNode>(layer);
}

}  // namespace koinon::kernels::onednn
