#ifndef KOINON_TOOLS_CLI_MODEL_PART_H_
#define KOINON_TOOLS_CLI_MODEL_PART_H_

#include <string>

#include "absl/status/status.h"
#include "base/env.h"

namespace koinon::cli {

// Moves the model in the safetensors file `from` to `to`, leaving behind the
// control variates that versions of SCAFFOLD jobs have after it
// (docs/formats/model.md). A file without any is moved as it is. Whole and
// durable, or not at all; `from` is gone afterwards. Block by block.
absl::Status KeepModelPart(Env* env, const std::string& from,
                           const std::string& to);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_MODEL_PART_H_
