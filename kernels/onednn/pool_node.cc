#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {
namespace {

using dnnl::memory;
using PrimitiveDesc = dnnl::pooling_forward::primitive_desc;

class PoolNode final : public LayerNode {
 public:
  explicit PoolNode(const ModelGraph::Layer& layer)
      : name_(layer.name),
        output_shape_(layer.output_shape),
        algorithm_(layer.spec.has_max_pool()
                       ? dnnl::algorithm::pooling_max
                       : dnnl::algorithm::pooling_avg_include_padding) {
    const v1::Layer::Pool& pool = layer.spec.has_max_pool()
                                      ? layer.spec.max_pool()
                                      : layer.spec.average_pool();
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
    hint_ = PrimitiveDesc(
        {builder->forward_kind(), algorithm_, input_desc_,
         memory::desc(PlainDesc(builder->batch(), output_shape_).dims(),
                      memory::data_type::f32, memory::format_tag::any),
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

}  // namespace

std::unique_ptr<LayerNode> NewPoolNode(const ModelGraph::Layer& layer) {
  return std::make_unique<PoolNode>(layer);
}

}  // namespace koinon::kernels::onednn
