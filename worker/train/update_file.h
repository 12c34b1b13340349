#ifndef KOINON_WORKER_TRAIN_UPDATE_FILE_H_
#define KOINON_WORKER_TRAIN_UPDATE_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/env.h"
#include "base/model_layout.h"

namespace koinon::worker {

// Writes update files: trained - base as flat little-endian fp32 in the order
// of the base's layout, without a header. The file is not synced.
//
// Both return INTERNAL, naming the parameter, if trained or the difference is
// not finite, and whatever the Env returns; the file's content is undefined
// then.

// Of models in memory. base, trained: [n] of layout.total_elements();
// `rest`, differences already: the elements after them.
absl::Status WriteUpdate(Env* env, const ModelLayout& layout,
                         absl::Span<const float> base,
                         absl::Span<const float> trained,
                         absl::Span<const float> rest,
                         const std::string& update_path);

struct FileUpdate {
  bool changed = false;  // false: every difference is zero
};

// Of two safetensors files, block by block: memory does not grow with the
// model. The trained file may hold the tensors in any order. INTERNAL if it is
// no safetensors file, or if it lacks a tensor, has one too many or one of
// another type or shape (says which, what was expected and found).
// INVALID_ARGUMENT if the base is not all F32.
absl::StatusOr<FileUpdate> WriteUpdateOfFiles(Env* env,
                                              const std::string& base_path,
                                              const std::string& trained_path,
                                              const std::string& update_path);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_UPDATE_FILE_H_
