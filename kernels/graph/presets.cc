#include "kernels/graph/presets.h"

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "kernels/graph/deep_presets.h"
#include "kernels/graph/make_layer.h"

namespace koinon::kernels {
namespace {

v1::Layer HalvingMaxPool() {
  v1::Layer layer;
  layer.mutable_max_pool()->set_kernel(2);
  return layer;
}

absl::Status CheckPositive(absl::string_view field, int64_t value) {
  if (value >= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("model.%s: expected at least 1, found %d", field, value));
}

absl::StatusOr<std::vector<v1::Layer>> ExpandLogisticRegression(
    const v1::ModelSpec& spec) {
  const int64_t classes = spec.logistic_regression().classes();
  ABSL_RETURN_IF_ERROR(CheckPositive("logistic_regression.classes", classes));
  std::vector<v1::Layer> layers;
  if (spec.input_shape_size() > 1) layers.push_back(FlattenLayer());
  layers.push_back(DenseLayer(classes));
  return layers;
}

absl::StatusOr<std::vector<v1::Layer>> ExpandMlp(const v1::ModelSpec& spec,
                                                 size_t max_layers) {
  const v1::Mlp& mlp = spec.mlp();
  ABSL_RETURN_IF_ERROR(CheckPositive("mlp.classes", mlp.classes()));
  // Before the copy: the list came from outside.
  if (static_cast<size_t>(mlp.hidden_size()) > max_layers / 2) {
    return absl::InvalidArgumentError(
        absl::StrFormat("model.mlp.hidden: expected at most %d, found %d",
                        max_layers / 2, mlp.hidden_size()));
  }
  std::vector<v1::Layer> layers;
  if (spec.input_shape_size() > 1) layers.push_back(FlattenLayer());
  for (int i = 0; i < mlp.hidden_size(); ++i) {
    ABSL_RETURN_IF_ERROR(
        CheckPositive(absl::StrFormat("mlp.hidden[%d]", i), mlp.hidden(i)));
    layers.push_back(DenseLayer(mlp.hidden(i)));
    layers.push_back(ActivationLayer(v1::Layer::RELU));
  }
  layers.push_back(DenseLayer(mlp.classes()));
  return layers;
}

int64_t OrDefault(int64_t value, int64_t default_value) {
  return value == 0 ? default_value : value;
}

absl::StatusOr<std::vector<v1::Layer>> ExpandCnn(const v1::ModelSpec& spec) {
  const v1::Cnn& cnn = spec.cnn();
  if (spec.input_shape_size() != 3) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "model.input_shape: a cnn takes images [channels, height, width]; "
        "found %d extents",
        spec.input_shape_size()));
  }
  const int64_t channels1 = OrDefault(cnn.channels1(), 32);
  const int64_t channels2 = OrDefault(cnn.channels2(), 64);
  const int64_t kernel = OrDefault(cnn.kernel(), 5);
  const int64_t dense = OrDefault(cnn.dense(), 512);
  ABSL_RETURN_IF_ERROR(CheckPositive("cnn.classes", cnn.classes()));
  ABSL_RETURN_IF_ERROR(CheckPositive("cnn.channels1", channels1));
  ABSL_RETURN_IF_ERROR(CheckPositive("cnn.channels2", channels2));
  ABSL_RETURN_IF_ERROR(CheckPositive("cnn.kernel", kernel));
  ABSL_RETURN_IF_ERROR(CheckPositive("cnn.dense", dense));
  if (kernel % 2 == 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "model.cnn.kernel: expected an odd number, found %d", kernel));
  }
  return std::vector<v1::Layer>{SameSizeConvolution(channels1, kernel),
                                ActivationLayer(v1::Layer::RELU),
                                HalvingMaxPool(),
                                SameSizeConvolution(channels2, kernel),
                                ActivationLayer(v1::Layer::RELU),
                                HalvingMaxPool(),
                                FlattenLayer(),
                                DenseLayer(dense),
                                ActivationLayer(v1::Layer::RELU),
                                DenseLayer(cnn.classes())};
}

}  // namespace

absl::StatusOr<std::vector<v1::Layer>> ExpandArchitecture(
    const v1::ModelSpec& spec, size_t max_layers) {
  switch (spec.architecture_case()) {
    case v1::ModelSpec::kLogisticRegression:
      return ExpandLogisticRegression(spec);
    case v1::ModelSpec::kMlp:
      return ExpandMlp(spec, max_layers);
    case v1::ModelSpec::kCnn:
      return ExpandCnn(spec);
    case v1::ModelSpec::kLayers: {
      const auto& list = spec.layers().layers();
      if (static_cast<size_t>(list.size()) > max_layers) {
        return absl::InvalidArgumentError(
            absl::StrFormat("model.layers: expected at most %d, found %d",
                            max_layers, list.size()));
      }
      return std::vector<v1::Layer>(list.begin(), list.end());
    }
    case v1::ModelSpec::kResnet:
      return ExpandResNet(spec, max_layers);
    case v1::ModelSpec::kMobilenetV3Small:
      return ExpandMobileNetV3Small(spec);
    case v1::ModelSpec::kGpt:
      return ExpandGpt(spec, max_layers);
    case v1::ModelSpec::ARCHITECTURE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "model: expected one of logistic_regression, mlp, cnn, layers, resnet, "
      "mobilenet_v3_small, gpt; found none");
}

}  // namespace koinon::kernels
