#ifndef KOINON_KERNELS_GRAPH_CONTROL_VARIATES_H_
#define KOINON_KERNELS_GRAPH_CONTROL_VARIATES_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/model_layout.h"
#include "proto/job.pb.h"

namespace koinon::kernels {

// What a SCAFFOLD job's versions and updates look like (Karimireddy et al.
// 2020; docs/formats/model.md), for both who train and who aggregate: the
// model's tensors, and after the last of them one control variate for each, in
// the same order and shapes. So the flat values are 2 P, the model's P first.

// Before the name of the tensor that it is for.
inline constexpr char kControlPrefix[] = "scaffold.control/";

// INVALID_ARGUMENT if the model has more tensors, longer names or more bytes
// than leave room for the second half (ModelLayout::Create).
absl::StatusOr<ModelLayout> WithControlVariates(const ModelLayout& model);

// The layout of the versions and updates of a job that trains `model` in this
// way: the model's own, or, with `scaffold`, the one above.
absl::StatusOr<ModelLayout> VersionLayout(const ModelLayout& model,
                                          const v1::TrainingSpec& training);

// The model's layout if `layout` is one with control variates; else nothing.
std::optional<ModelLayout> WithoutControlVariates(const ModelLayout& layout);

// Whether the way of training leaves SCAFFOLD what it needs: its own kernels
// and plain SGD, whose steps add up to what the control variate is made from.
// INVALID_ARGUMENT names the field and what to do instead. OK without
// `scaffold`.
absl::Status CheckScaffoldTraining(const v1::TrainingSpec& training);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_GRAPH_CONTROL_VARIATES_H_
