#ifndef KOINON_KERNELS_ONEDNN_GRAPH_COMPILER_H_
#define KOINON_KERNELS_ONEDNN_GRAPH_COMPILER_H_

#include <dnnl.hpp>
#include <memory>
#include <string>
#include <vector>

#include "kernels/graph/model_graph.h"
#include "kernels/onednn/builder.h"
#include "kernels/onednn/layer_node.h"

namespace koinon::kernels::onednn {

// Makes a network's two programs from its graph: which layers are computed
// together, and how the gradients of a value that several layers read become
// one. Throws dnnl::error; `at` then names the layer.
class GraphCompiler {
 public:
  // Both must outlive the compiler.
  GraphCompiler(const ModelGraph& graph, Builder* builder);

  // Adds what turns `input` into the returned output, which may have any
  // format.
  dnnl::memory CompileForward(const dnnl::memory& input, std::string* at);
  // Adds what turns the output's gradient into all parameters' gradients, and
  // tells StepContext::ready of them, layer by layer. Call once, after
  // CompileForward.
  void CompileBackward(const dnnl::memory& output_gradient, std::string* at);

 private:
  // A layer with those behind it that are computed with it.
  struct Step {
    size_t layer = 0;
    int output = 0;                   // the value that it puts out
    std::unique_ptr<LayerNode> node;  // null: a residual's addition
    int addend = -1;  // the value that the node adds to its result
  };
  // The gradient of a value so far. Memory may be that of other values too (a
  // sum gives its own gradient to both of its inputs): `holders` says of how
  // many that are still to come.
  struct Slot {
    dnnl::memory sum;
    std::shared_ptr<int> holders;
    // What is still to be added, by a node that does it on its way. Nobody
    // else's; like `sum`.
    dnnl::memory second;
  };

  std::unique_ptr<LayerNode> NewNode(size_t layer, FusedActivation fused) const;
  // Whether `reader` reads what layer `of` puts out, and nobody else does.
  bool IsOnlyReader(size_t reader, size_t of) const;
  FusedActivation FusedBehind(size_t layer, bool is_product) const;
  // Whether nothing but products read `value`.
  bool OnlyProductsRead(int value) const;
  // Whether `value` is what a product put out, with no activation or a ReLU,
  // and has one reader: what that gives back goes to products alone.
  bool IsProduct(int value) const;
  // Of a layer that reads `input` and puts out `output`.
  RoundedResults RoundedFor(int input, int output) const;
  // Whether layer `i` is a convolution that takes the batch norm behind it in.
  bool FoldsNorm(size_t i) const;
  // Adds the step of layer `i`; returns how many layers are done with it.
  size_t CompileStepForward(size_t i);
  // A residual's sum and the norm that reads it in one pass, if they can be.
  bool AddSumAndNorm(size_t residual);
  // A group norm at the end of a residual's side, the sum, and the ReLU behind
  // it in one pass, if they can be; returns how many layers are done with it.
  size_t AddNormAndSum(size_t norm);
  dnnl::memory AddSum(const dnnl::memory& input, const dnnl::memory& other);

  void CompileStepBackward(const Step& step);
  void CompileNodeBackward(const Step& step);
  void CompilePartsBackward(const Step& step);
  // The gradient of `value`, for a reader that `overwrites` it or not.
  dnnl::memory GradientOf(int value, bool overwrites);
  void Release(int value);
  void Share(int value, const Slot& from);
  // `contribution` is nobody else's.
  void AddTo(int value, const dnnl::memory& contribution);
  void AddAtOnce(int value, const dnnl::memory& contribution);
  // Adds what is still to be added.
  void AddSecond(int value);
  void TellReady(const ModelGraph::Layer& layer);

  const ModelGraph& graph_;
  Builder* const builder_;
  std::vector<int> readers_;          // of each value
  std::vector<bool> needs_gradient_;  // of each value
  std::vector<Step> steps_;
  std::vector<const LayerNode*> makers_;  // of each value; null: none
  std::vector<dnnl::memory> values_;
  std::vector<Slot> slots_;
};

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_GRAPH_COMPILER_H_
