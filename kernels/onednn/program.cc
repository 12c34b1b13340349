#include "kernels/onednn/program.h"

#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace koinon::kernels::onednn {

PrimitiveOperation::PrimitiveOperation(std::string name,
                                       dnnl::primitive primitive,
                                       Arguments arguments)
    : name_(std::move(name)),
      primitive_(std::move(primitive)),
      arguments_(std::move(arguments)) {
  raw_arguments_.reserve(arguments_.size());
  for (const auto& [role, memory] : arguments_) {
    raw_arguments_.push_back({role, memory.get()});
  }
}

absl::Status PrimitiveOperation::Run(const StepContext& context) {
  const dnnl_status_t status = dnnl_primitive_execute(
      primitive_.get(), context.stream, static_cast<int>(raw_arguments_.size()),
      raw_arguments_.data());
  if (status == dnnl_success) return absl::OkStatus();
  return absl::InternalError(absl::StrFormat("%s: oneDNN ended with status %d",
                                             name_, static_cast<int>(status)));
}

absl::Status Program::Run(const StepContext& context) const {
  for (const auto& operation : operations_) {
    ABSL_RETURN_IF_ERROR(operation->Run(context));
  }
  return absl::OkStatus();
}

}  // namespace koinon::kernels::onednn
