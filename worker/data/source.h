#ifndef KOINON_WORKER_DATA_SOURCE_H_
#define KOINON_WORKER_DATA_SOURCE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/env.h"
#include "worker/data/dataset.h"
#include "worker/data/dataset.pb.h"

namespace koinon::worker {

// All the examples of one source, as the configuration scales and shapes them,
// before any is dealt to a site or held out.
struct LoadedSource {
  Dataset data;
  std::vector<std::string> groups;  // [n], of the partition's column; or empty
};

// Reads `source`, which is config.source or config.held_out_source. This is
// where a new kind of source is added: docs/how-to/add-a-loader.md. As
// LoadLocalData.
absl::StatusOr<LoadedSource> LoadSource(Env* env, const DatasetConfig& config,
                                        const Source& source);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_SOURCE_H_
