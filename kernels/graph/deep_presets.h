#ifndef KOINON_KERNELS_GRAPH_DEEP_PRESETS_H_
#define KOINON_KERNELS_GRAPH_DEEP_PRESETS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "proto/model.pb.h"

namespace koinon::kernels {

// The presets that are made of residual blocks, written out. INVALID_ARGUMENT
// names the field of the preset: sizes that are not positive, a depth that is
// not 6n + 2, an unknown norm, heads that do not divide the width, an input
// that is no image ([channels, height, width]) or no run of tokens ([context]).

// He et al. 2016, section 4.2. A norm of groups has 8 of them.
absl::StatusOr<std::vector<v1::Layer>> ExpandResNet(const v1::ModelSpec& spec,
                                                    size_t max_layers);

// Howard et al. 2019, table 2, in the shape of torchvision's
// mobilenet_v3_small: hidden channels of squeeze-and-excite a quarter of the
// block's, rounded to a multiple of 8; batch norm with epsilon 0.001 and
// momentum 0.01; dropout of 0.2 before the last layer. A norm of groups has 8
// of them.
absl::StatusOr<std::vector<v1::Layer>> ExpandMobileNetV3Small(
    const v1::ModelSpec& spec);

// Radford et al. 2019.
absl::StatusOr<std::vector<v1::Layer>> ExpandGpt(const v1::ModelSpec& spec,
                                                 size_t max_layers);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_GRAPH_DEEP_PRESETS_H_
