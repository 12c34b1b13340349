#ifndef KOINON_KERNELS_ONEDNN_BUILDER_H_
#define KOINON_KERNELS_ONEDNN_BUILDER_H_

#include <dnnl.hpp>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/graph/model_graph.h"
#include "kernels/onednn/program.h"

namespace koinon::kernels::onednn {

// What the layers of one network share while they are compiled: the engine, the
// memory, the programs. Layers throw dnnl::error; onednn_network.cc
// catches.
//
// Memory between layers may have any format that suits its maker, and in a
// network of bfloat16 products either type; a layer that needs another asks for
// it with InFormat. Parameters and their gradients lie in the flat model,
// plain, in float32.
class Builder {
 public:
  struct Options {
    int64_t batch = 0;
    int threads = 1;
    bool training = false;
    bool bfloat16 = false;  // of what type the values are that products read
    // With bfloat16: these values lie in float32 memory, rounded.
    bool rounds = false;
    float* parameters = nullptr;  // the flat model
    float* gradients = nullptr;   // null if not training
  };

  Builder(const dnnl::engine& engine, const ModelLayout& layout,
          const Options& options);

  const dnnl::engine& engine() const { return engine_; }
  int64_t batch() const { return options_.batch; }
  bool training() const { return options_.training; }
  int threads() const { return options_.threads; }
  // Whether products of bfloat16 are made in single precision, of rounded
  // values.
  bool rounds() const { return options_.bfloat16 && options_.rounds; }
  // The type of what products read: sources, weights, and gradients of results.
  dnnl::memory::data_type product_type() const {
    return options_.bfloat16 && !options_.rounds ? dnnl::memory::data_type::bf16
                                                 : dnnl::memory::data_type::f32;
  }
  dnnl::prop_kind forward_kind() const {
    return options_.training ? dnnl::prop_kind::forward_training
                             : dnnl::prop_kind::forward_inference;
  }
  // Every primitive is made with this: it brings no scratchpad of its own.
  const dnnl::primitive_attr& attributes() const { return attributes_; }

  Program& forward() { return forward_; }
  // For what is made of parameters alone, weights in the format of a product
  // say. A network that trains makes it anew in each step, on its way there;
  // one that does not, once for all batches (Network::parameters).
  Program& packing() { return options_.training ? forward_ : packing_; }
  Program& backward() { return backward_; }

  // New memory for the life of the network.
  dnnl::memory NewMemory(const dnnl::memory::desc& desc) {
    return dnnl::memory(desc, engine_);
  }
  // Tensor `index` of the flat model, or of its gradients, seen as `desc` (a
  // plain format of the tensor's size).
  dnnl::memory Parameter(int index, const dnnl::memory::desc& desc) const;
  dnnl::memory Gradient(int index, const dnnl::memory::desc& desc) const;
  float* ParameterData(int index) const;
  // Parameter and ParameterData see `values` in place of tensor `index`: what a
  // network that does not train makes of it before it is used. Plain, in
  // float32, and kept alive.
  void Substitute(int index, const dnnl::memory& values) {
    substitutes_[index] = values;
  }
  float* GradientData(int index) const;

  // `memory` itself if it has the format and type, or new memory and a reorder
  // into it at the end of `program`.
  dnnl::memory InFormat(const dnnl::memory& memory,
                        const dnnl::memory::desc& desc, Program* program);
  // What a product reads of `memory`: itself, or where the network rounds(),
  // new memory and a pass that rounds into it, unless `memory` is marked as
  // rounded.
  dnnl::memory ForProduct(const dnnl::memory& memory, Program* program);
  void AddReorder(const dnnl::memory& from, const dnnl::memory& to,
                  Program* program);

  // ReLU and max pooling share their way back. Whoever puts out what a ReLU
  // made marks it; a layer that reads marked memory and gives back a gradient
  // that is 0 wherever the value is marks that gradient; the ReLU then has
  // nothing left to do. Marks go with the memory object: a copy, a view and a
  // sum have none. Whoever changes a gradient in place must take its marks
  // away.
  void MarkRectified(const dnnl::memory& memory) { Mark(memory, &rectified_); }
  bool IsRectified(const dnnl::memory& memory) const {
    return rectified_.count(memory.get()) > 0;
  }
  void MarkMasked(const dnnl::memory& gradient) { Mark(gradient, &masked_); }
  bool IsMasked(const dnnl::memory& gradient) const {
    return gradient && masked_.count(gradient.get()) > 0;
  }
  // Where the network rounds(), whoever puts out what nothing but products read
  // may round it on the way, and marks it; so may whoever gives back the
  // gradient of a product's result. A reorder and Reshape keep this mark.
  void MarkRounded(const dnnl::memory& memory) { Mark(memory, &rounded_); }
  bool IsRounded(const dnnl::memory& memory) const {
    return rounded_.count(memory.get()) > 0;
  }
  // View, with the mark of rounding.
  dnnl::memory Reshape(const dnnl::memory& memory,
                       const dnnl::memory::desc& desc);
  void Unmark(const dnnl::memory& gradient) {
    masked_.erase(gradient.get());
    rounded_.erase(gradient.get());
  }

  // Adds a primitive to `program`; its scratchpad is the one that all share.
  template <typename Primitive>
  void Add(const std::string& name,
           const typename Primitive::primitive_desc& description,
           PrimitiveOperation::Arguments arguments, Program* program) {
    arguments.emplace_back(DNNL_ARG_SCRATCHPAD,
                           SharedScratchpad(description.scratchpad_desc()));
    program->Add(std::make_unique<PrimitiveOperation>(
        name, Primitive(description), std::move(arguments)));
  }

  // Allocates the scratchpad; call once, after the last Add.
  void Finish();

 private:
  dnnl::memory SharedScratchpad(const dnnl::memory::desc& desc);
  size_t Offset(int index) const;
  void Mark(const dnnl::memory& memory, std::set<dnnl_memory_t>* marks) {
    marks->insert(memory.get());
    marked_.push_back(memory);
  }

  const dnnl::engine engine_;
  const ModelLayout& layout_;
  const Options options_;
  dnnl::primitive_attr attributes_;
  Program forward_;
  Program packing_;  // of a network that does not train
  Program backward_;
  // One operation runs at a time, so that one scratchpad does for all.
  std::vector<dnnl::memory> scratchpads_;
  dnnl::memory scratchpad_;
  std::map<int, dnnl::memory> substitutes_;
  std::set<dnnl_memory_t> rectified_, masked_, rounded_;
  std::vector<dnnl::memory> marked_;  // so that no handle is used twice
};

// Whether this processor multiplies rounded values in single precision faster
// than bfloat16: Intel's AVX512_BF16 makes half as many multiply-adds a second
// as its single precision does, AMX many times as many.
bool SinglePrecisionIsFaster();

// The plain format of one to five extents: x, nc, nchw.
dnnl::memory::desc PlainDesc(
    const dnnl::memory::dims& dims,
    dnnl::memory::data_type type = dnnl::memory::data_type::f32);
// The same, of a layer's batch.
dnnl::memory::desc PlainDesc(
    int64_t batch, const std::vector<int64_t>& shape,
    dnnl::memory::data_type type = dnnl::memory::data_type::f32);
// `desc` with its format left to oneDNN.
dnnl::memory::desc AnyFormat(const dnnl::memory::desc& desc);
// The memory's floats; requires that it has some.
float* Data(const dnnl::memory& memory);
// The same bytes as another shape; both plain.
dnnl::memory View(const dnnl::memory& memory, const dnnl::memory::desc& desc);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_BUILDER_H_
