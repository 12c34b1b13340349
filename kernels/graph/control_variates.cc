#include "kernels/graph/control_variates.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace koinon::kernels {
namespace {

TensorSpec ControlOf(const TensorSpec& tensor) {
  TensorSpec control = tensor;
  control.name = absl::StrCat(kControlPrefix, tensor.name);
  return control;
}

absl::Status Refusal(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", why));
}

}  // namespace

absl::StatusOr<ModelLayout> WithControlVariates(const ModelLayout& model) {
  std::vector<TensorSpec> tensors = model.tensors();
  for (const TensorSpec& tensor : model.tensors()) {
    tensors.push_back(ControlOf(tensor));
  }
  return ModelLayout::Create(std::move(tensors));
}

absl::StatusOr<ModelLayout> VersionLayout(const ModelLayout& model,
                                          const v1::TrainingSpec& training) {
  if (!training.has_scaffold()) return model;
  return WithControlVariates(model);
}

std::optional<ModelLayout> WithoutControlVariates(const ModelLayout& layout) {
  const std::vector<TensorSpec>& tensors = layout.tensors();
  const size_t half = tensors.size() / 2;
  if (half == 0 || tensors.size() != 2 * half) return std::nullopt;
  for (size_t i = 0; i < half; ++i) {
    if (!(tensors[half + i] == ControlOf(tensors[i]))) return std::nullopt;
  }
  auto model = ModelLayout::Create({tensors.begin(), tensors.begin() + half});
  if (!model.ok()) return std::nullopt;
  return *std::move(model);
}

absl::Status CheckScaffoldTraining(const v1::TrainingSpec& training) {
  if (!training.has_scaffold()) return absl::OkStatus();
  if (!training.external_trainer().empty() &&
      training.external_trainer() != "native") {
    return Refusal(
        "training.scaffold",
        absl::StrCat("needs Koinon's own training, which corrects "
                     "every step, but training.external_trainer "
                     "is ",
                     training.external_trainer(), "; drop one of the two"));
  }
  const v1::Optimizer& optimizer = training.optimizer();
  if (optimizer.has_adam() || optimizer.has_adamw()) {
    return Refusal(
        "training.scaffold",
        absl::StrCat("needs plain SGD, but training.optimizer is ",
                     optimizer.has_adam() ? "adam" : "adamw",
                     "; use training.optimizer.sgd, or drop training.scaffold "
                     "(aggregation.server_optimizer adapts at the server)"));
  }
  if (optimizer.sgd().momentum() != 0) {
    return Refusal(
        "training.scaffold",
        absl::StrCat("needs plain SGD, but training.optimizer.sgd.momentum is ",
                     optimizer.sgd().momentum(), "; leave it out"));
  }
  if (training.proximal_mu() != 0) {
    return Refusal(
        "training.scaffold",
        absl::StrCat("corrects the drift that training.proximal_mu (",
                     training.proximal_mu(),
                     ") holds back; the two exclude each other: use one"));
  }
  if (training.clip_norm() != 0) {
    return Refusal(
        "training.scaffold",
        absl::StrCat("needs gradients as they are, but training.clip_norm is ",
                     training.clip_norm(),
                     "; leave it out and lower "
                     "training.optimizer.sgd.learning_rate instead"));
  }
  return absl::OkStatus();
}

}  // namespace koinon::kernels
