#include "kernels/onednn/graph_compiler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace koinon::kernels::onednn {

using dnnl::memory;

namespace {

bool IsProductLayer(const ModelGraph::Layer& layer) {
  return layer.spec.has_dense() || layer.spec.has_conv2d() ||
         layer.spec.has_unembedding();
}

}  // namespace

GraphCompiler::GraphCompiler(const ModelGraph& graph, Builder* builder)
    : graph_(graph),
      builder_(builder),
      readers_(graph.layers().size() + 1),
      needs_gradient_(readers_.size()),
      makers_(readers_.size()),
      values_(readers_.size()),
      slots_(readers_.size()) {
  for (size_t i = 0; i < graph.layers().size(); ++i) {
    const ModelGraph::Layer& layer = graph.layers()[i];
    ++readers_[layer.input];
    if (layer.other >= 0) ++readers_[layer.other];
    needs_gradient_[i + 1] = layer.weight >= 0 ||
                             needs_gradient_[layer.input] ||
                             (layer.other >= 0 && needs_gradient_[layer.other]);
  }
  ++readers_.back();  // the loss
}

std::unique_ptr<LayerNode> GraphCompiler::NewNode(size_t i,
                                                  FusedActivation fused) const {
  const ModelGraph::Layer& layer = graph_.layers()[i];
  switch (layer.spec.kind_case()) {
    case v1::Layer::kDense:
    case v1::Layer::kUnembedding:
      return NewDenseNode(layer, fused);
    case v1::Layer::kConv2D:
      return NewConv2dNode(layer, fused);
    case v1::Layer::kMaxPool:
    case v1::Layer::kAveragePool:
      return NewPoolNode(layer,
                         RoundedFor(layer.input, static_cast<int>(i) + 1));
    case v1::Layer::kActivation:
      return NewActivationNode(layer);
    case v1::Layer::kDropout:
      return NewDropoutNode(layer, i);
    case v1::Layer::kGroupNorm:
      return NewGroupNormNode(
          layer, fused,
          RoundedFor(layer.input, static_cast<int>(fused ? i + 2 : i + 1)));
    case v1::Layer::kLayerNorm:
      return layer.input_shape.size() == 2 ? NewSequenceNormNode(layer)
                                           : NewNormNode(layer);
    case v1::Layer::kBatchNorm:
      return NewBatchNormNode(layer);
    case v1::Layer::kEmbedding:
      return NewEmbeddingNode(
          layer, std::any_of(graph_.layers().begin(), graph_.layers().end(),
                             [](const ModelGraph::Layer& other) {
                               return other.spec.has_unembedding();
                             }));
    case v1::Layer::kCausalAttention:
      return NewAttentionNode(layer);
    case v1::Layer::kGlobalAveragePool:
      return NewGlobalPoolNode(layer);
    case v1::Layer::kSqueezeExcite:
      return NewSqueezeExciteNode(layer);
    case v1::Layer::kResidual:
      return nullptr;
    case v1::Layer::kFlatten:
    case v1::Layer::KIND_NOT_SET:  // ModelGraph lets none through
      break;
  }
  return NewFlattenNode(layer);
}

bool GraphCompiler::IsOnlyReader(size_t reader, size_t of) const {
  const int value = static_cast<int>(of) + 1;
  return reader < graph_.layers().size() &&
         graph_.layers()[reader].input == value && readers_[value] == 1;
}

// The activation behind a product, and a ReLU behind a group norm, can be
// applied at once if nobody else reads what comes before it.
FusedActivation GraphCompiler::FusedBehind(size_t i, bool is_product) const {
  FusedActivation fused;
  if (!IsOnlyReader(i + 1, i)) return fused;
  const v1::Layer& next = graph_.layers()[i + 1].spec;
  const bool can_fuse =
      !is_product ? graph_.layers()[i].spec.has_group_norm() &&
                        next.activation() == v1::Layer::RELU
      : builder_->training() ? FusedActivation::CanFuse(next)
                             : FusedActivation::CanFuseForward(next);
  if (can_fuse) fused.kind = next.activation();
  return fused;
}

bool GraphCompiler::OnlyProductsRead(int value) const {
  const auto& layers = graph_.layers();
  if (value == static_cast<int>(layers.size())) return false;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].input != value && layers[i].other != value) continue;
    const bool passes_on = layers[i].spec.has_flatten() &&
                           OnlyProductsRead(static_cast<int>(i) + 1);
    if (!IsProductLayer(layers[i]) && !passes_on) return false;
  }
  return true;
}

bool GraphCompiler::IsProduct(int value) const {
  if (readers_[value] != 1) return false;
  for (const Step& step : steps_) {
    if (step.output != value) continue;
    const auto last = static_cast<size_t>(value - 1);
    return IsProductLayer(graph_.layers()[step.layer]) &&
           (last == step.layer ||
            graph_.layers()[last].spec.activation() == v1::Layer::RELU);
  }
  return false;
}

RoundedResults GraphCompiler::RoundedFor(int input, int output) const {
  if (!builder_->rounds()) return {};
  return {OnlyProductsRead(output), IsProduct(input)};
}

bool GraphCompiler::FoldsNorm(size_t i) const {
  return !builder_->training() && graph_.layers()[i].spec.has_conv2d() &&
         IsOnlyReader(i + 1, i) && graph_.layers()[i + 1].spec.has_batch_norm();
}

memory GraphCompiler::AddSum(const memory& input, const memory& other) {
  // In single precision if either is.
  const bool as_other =
      input.get_desc().data_type() != memory::data_type::f32 &&
      other.get_desc().data_type() == memory::data_type::f32;
  const memory::desc desc = (as_other ? other : input).get_desc();
  Program* program = &builder_->forward();
  memory sum = builder_->NewMemory(desc);
  const dnnl::binary::primitive_desc description(
      {dnnl::algorithm::binary_add, desc, desc, desc}, builder_->attributes(),
      builder_->engine());
  builder_->Add<dnnl::binary>(
      "sum", description,
      {{DNNL_ARG_SRC_0, builder_->InFormat(input, desc, program)},
       {DNNL_ARG_SRC_1, builder_->InFormat(other, desc, program)},
       {DNNL_ARG_DST, sum}},
      program);
  return sum;
}

memory GraphCompiler::CompileForward(const memory& input, std::string* at) {
  const auto& layers = graph_.layers();
  values_[0] = input;
  for (size_t i = 0; i < layers.size(); i += CompileStepForward(i)) {
    *at = layers[i].name;
  }
  return values_.back();
}

size_t GraphCompiler::CompileStepForward(size_t i) {
  const ModelGraph::Layer& layer = graph_.layers()[i];
  if (layer.spec.has_residual() && AddSumAndNorm(i)) return 2;
  if (layer.spec.has_group_norm()) {
    if (const size_t layers = AddNormAndSum(i); layers > 0) return layers;
  }
  // The layers that are computed together end with `last`.
  size_t last = FoldsNorm(i) ? i + 1 : i;
  const FusedActivation fused =
      FusedBehind(last, layer.spec.has_dense() || layer.spec.has_conv2d());
  Step step;
  step.layer = i;
  step.node =
      last > i ? NewFoldedConvolutionNode(layer, graph_.layers()[last], fused)
               : NewNode(i, fused);
  if (fused) ++last;
  step.output = static_cast<int>(last) + 1;
  const memory& read = values_[layer.input];
  values_[step.output] = step.node == nullptr
                             ? AddSum(read, values_[layer.other])
                             : step.node->Forward(read, builder_);
  makers_[step.output] = step.node.get();
  steps_.push_back(std::move(step));
  return last - i + 1;
}

size_t GraphCompiler::AddNormAndSum(size_t norm) {
  const auto& layers = graph_.layers();
  const size_t residual = norm + 1;
  const int value = static_cast<int>(residual);  // the norm's own result
  if (residual >= layers.size() || !layers[residual].spec.has_residual() ||
      readers_[value] != 1) {
    return 0;
  }
  const ModelGraph::Layer& sum = layers[residual];
  if (sum.input != value && sum.other != value) return 0;
  Step step;
  step.layer = norm;
  step.addend = sum.input == value ? sum.other : sum.input;
  size_t last = residual;
  FusedActivation fused;
  if (IsOnlyReader(residual + 1, residual) &&
      layers[residual + 1].spec.activation() == v1::Layer::RELU) {
    fused.kind = v1::Layer::RELU;
    ++last;
  }
  step.output = static_cast<int>(last) + 1;
  step.node = NewGroupNormNode(layers[norm], fused,
                               RoundedFor(layers[norm].input, step.output));
  const memory output = step.node->ForwardPlus(values_[layers[norm].input],
                                               values_[step.addend], builder_);
  if (!output) return 0;
  values_[step.output] = output;
  makers_[step.output] = step.node.get();
  steps_.push_back(std::move(step));
  return last - norm + 1;
}

bool GraphCompiler::AddSumAndNorm(size_t residual) {
  const auto& layers = graph_.layers();
  const size_t next = residual + 1;
  const int value = static_cast<int>(next);  // the sum
  if (next >= layers.size() || layers[next].input != value ||
      !layers[next].spec.has_layer_norm()) {
    return false;
  }
  std::unique_ptr<LayerNode> norm = NewNode(next, FusedActivation());
  const memory output = norm->ForwardSum(values_[layers[residual].input],
                                         values_[layers[residual].other],
                                         &values_[value], builder_);
  if (!output) return false;
  values_[value + 1] = output;
  steps_.push_back({residual, value, nullptr});
  steps_.push_back({next, value + 1, std::move(norm)});
  return true;
}

void GraphCompiler::CompileBackward(const memory& output_gradient,
                                    std::string* at) {
  slots_.back() = {output_gradient, std::make_shared<int>(1), memory()};
  for (size_t i = steps_.size(); i-- > 0;) {
    const Step& step = steps_[i];
    if (!needs_gradient_[step.output]) continue;
    const ModelGraph::Layer& layer = graph_.layers()[step.layer];
    *at = absl::StrCat("the way back of ", layer.name);
    CompileStepBackward(step);
    Release(step.output);
    TellReady(layer);
  }
}

void GraphCompiler::CompileStepBackward(const Step& step) {
  if (step.node != nullptr) {
    CompileNodeBackward(step);
    return;
  }
  const ModelGraph::Layer& layer = graph_.layers()[step.layer];
  AddSecond(step.output);
  // What is known of a sum's zeros says nothing of those of its inputs.
  builder_->Unmark(slots_[step.output].sum);
  if (needs_gradient_[layer.input]) Share(layer.input, slots_[step.output]);
  if (needs_gradient_[layer.other]) Share(layer.other, slots_[step.output]);
}

void GraphCompiler::CompilePartsBackward(const Step& step) {
  const int input = graph_.layers()[step.layer].input;
  const Slot& slot = slots_[step.output];
  const bool wants = needs_gradient_[input];
  memory other;
  const memory contribution = step.node->BackwardParts(
      {slot.sum, slot.second, *slot.holders == 1}, wants,
      step.addend >= 0 ? &other : nullptr, builder_);
  if (wants) AddTo(input, contribution);
  if (step.addend >= 0 && needs_gradient_[step.addend]) {
    AddTo(step.addend, other);
  }
}

void GraphCompiler::CompileNodeBackward(const Step& step) {
  if (step.node->TakesGradientInParts()) {
    CompilePartsBackward(step);
    return;
  }
  const int input = graph_.layers()[step.layer].input;
  const memory gradient =
      GradientOf(step.output, step.node->OverwritesOutputGradient());
  const bool wants = needs_gradient_[input];
  const Slot& slot = slots_[input];
  if (wants && slot.sum && *slot.holders == 1 &&
      step.node->BackwardAdding(gradient, slot.sum, builder_)) {
    builder_->Unmark(slot.sum);
    return;
  }
  const memory contribution = step.node->Backward(gradient, wants, builder_);
  if (wants) AddTo(input, contribution);
}

memory GraphCompiler::GradientOf(int value, bool overwrites) {
  AddSecond(value);
  Slot& slot = slots_[value];
  if (!overwrites || *slot.holders == 1) return slot.sum;
  memory copy = builder_->NewMemory(slot.sum.get_desc());
  builder_->AddReorder(slot.sum, copy, &builder_->backward());
  if (builder_->IsMasked(slot.sum)) builder_->MarkMasked(copy);
  --*slot.holders;
  slot = {copy, std::make_shared<int>(1), memory()};
  return slot.sum;
}

void GraphCompiler::Release(int value) {
  --*slots_[value].holders;
  slots_[value] = Slot();
}

void GraphCompiler::Share(int value, const Slot& from) {
  if (slots_[value].sum) {
    AddAtOnce(value, from.sum);
    return;
  }
  slots_[value] = from;
  ++*from.holders;
}

void GraphCompiler::AddTo(int value, const memory& contribution) {
  Slot& slot = slots_[value];
  if (!slot.sum) {
    slot = {contribution, std::make_shared<int>(1), memory()};
    return;
  }
  AddSecond(value);
  const bool can_wait = makers_[value] != nullptr &&
                        makers_[value]->TakesGradientInParts() &&
                        slot.sum.get_desc() == contribution.get_desc();
  if (can_wait) {
    slot.second = contribution;
  } else {
    AddAtOnce(value, contribution);
  }
}

void GraphCompiler::AddSecond(int value) {
  if (!slots_[value].second) return;
  AddAtOnce(value, std::exchange(slots_[value].second, memory()));
}

void GraphCompiler::AddAtOnce(int value, const memory& contribution) {
  Slot& slot = slots_[value];
  // In single precision if either is.
  const bool widens =
      slot.sum.get_desc().data_type() != memory::data_type::f32 &&
      contribution.get_desc().data_type() == memory::data_type::f32;
  const memory::desc desc = (widens ? contribution : slot.sum).get_desc();
  Program* program = &builder_->backward();
  // In place, unless others still need what is there.
  const memory sum =
      *slot.holders == 1 && !widens ? slot.sum : builder_->NewMemory(desc);
  const dnnl::binary::primitive_desc description(
      {dnnl::algorithm::binary_add, desc, desc, desc}, builder_->attributes(),
      builder_->engine());
  builder_->Add<dnnl::binary>(
      "sum of gradients", description,
      {{DNNL_ARG_SRC_0, builder_->InFormat(slot.sum, desc, program)},
       {DNNL_ARG_SRC_1, builder_->InFormat(contribution, desc, program)},
       {DNNL_ARG_DST, sum}},
      program);
  if (sum.get() != slot.sum.get()) {
    --*slot.holders;
    slot = {sum, std::make_shared<int>(1), memory()};
  }
  builder_->Unmark(slot.sum);
}

// A layer's tensors lie one behind the other. Those of the embedding are told
// of with the embedding, which comes last.
void GraphCompiler::TellReady(const ModelGraph::Layer& layer) {
  if (layer.weight < 0 || layer.spec.has_unembedding()) return;
  const int last =
      std::max({layer.weight, layer.bias, layer.weight2, layer.bias2});
  const ModelLayout& layout = graph_.layout();
  const size_t begin = layout.offset_bytes(layer.weight) / sizeof(float);
  const size_t end =
      layout.offset_bytes(last) / sizeof(float) + layout.element_count(last);
  builder_->backward().AddKernel([begin, end](const StepContext& context) {
    (*context.ready)(begin, end);
  });
}

}  // namespace koinon::kernels::onednn
