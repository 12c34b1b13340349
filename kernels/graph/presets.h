#ifndef KOINON_KERNELS_GRAPH_PRESETS_H_
#define KOINON_KERNELS_GRAPH_PRESETS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "proto/model.pb.h"

namespace koinon::kernels {

// The layers that a model's architecture stands for: presets written out (with
// a flatten in front of the first dense layer of an image model), a layer list
// as it is. Only what a preset itself says is checked here; the layers' own
// rules are ModelGraph's.
//
// INVALID_ARGUMENT: no architecture, sizes that are not positive, a cnn on
// something else than an image, an even cnn kernel (its convolutions keep the
// image's size, which takes a middle), or more than `max_layers` layers of the
// list; those of residuals are counted by ModelGraph. deep_presets.h says what
// resnet, mobilenet_v3_small and gpt are refused for.
absl::StatusOr<std::vector<v1::Layer>> ExpandArchitecture(
    const v1::ModelSpec& spec, size_t max_layers);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_GRAPH_PRESETS_H_
