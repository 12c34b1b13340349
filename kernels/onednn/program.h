#ifndef KOINON_KERNELS_ONEDNN_PROGRAM_H_
#define KOINON_KERNELS_ONEDNN_PROGRAM_H_

#include <cstdint>
#include <dnnl.hpp>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace koinon::kernels::onednn {

// What changes from step to step.
struct StepContext {
  dnnl_stream_t stream = nullptr;
  int threads = 1;
  bool training = false;  // a step of training, not an evaluation
  size_t examples = 0;    // of the batch; the rest only fills it up
  uint64_t step_seed = 0;
  // Told of gradients on the way back (GradientsReady); null on the way there.
  const absl::FunctionRef<void(size_t, size_t)>* ready = nullptr;
};

// One operation of a compiled network, bound to its memory. Run allocates
// nothing of ours.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual absl::Status Run(const StepContext& context) = 0;
};

// An oneDNN primitive with its arguments. Keeps both alive. Run goes through
// the C interface: the C++ one builds a new argument list at each call.
class PrimitiveOperation final : public Operation {
 public:
  using Arguments = std::vector<std::pair<int, dnnl::memory>>;

  // `name` is for error messages: "conv1 forward".
  PrimitiveOperation(std::string name, dnnl::primitive primitive,
                     Arguments arguments);
  absl::Status Run(const StepContext& context) override;

 private:
  const std::string name_;
  const dnnl::primitive primitive_;
  const Arguments arguments_;
  std::vector<dnnl_exec_arg_t> raw_arguments_;
};

// Our own kernel as an operation.
template <typename Body>
class KernelOperation final : public Operation {
 public:
  explicit KernelOperation(Body body) : body_(std::move(body)) {}
  absl::Status Run(const StepContext& context) override {
    if constexpr (std::is_void_v<decltype(body_(context))>) {
      body_(context);
      return absl::OkStatus();
    } else {
      return body_(context);
    }
  }

 private:
  Body body_;
};

// Operations in order.
class Program {
 public:
  void Add(std::unique_ptr<Operation> operation) {
    operations_.push_back(std::move(operation));
  }
  // `body`: void(const StepContext&), or absl::Status if it can fail.
  template <typename Body>
  void AddKernel(Body body) {
    Add(std::make_unique<KernelOperation<Body>>(std::move(body)));
  }
  absl::Status Run(const StepContext& context) const;

 private:
  std::vector<std::unique_ptr<Operation>> operations_;
};

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_PROGRAM_H_
