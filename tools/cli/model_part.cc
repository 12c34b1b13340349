#include "tools/cli/model_part.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "base/model_layout.h"
#include "base/safetensors.h"
#include "base/safetensors_writer.h"
#include "base/status_macros.h"
#include "kernels/graph/control_variates.h"

namespace koinon::cli {
namespace {

constexpr size_t kBlockElements = 256 << 10;

// The first values of the file, as many as the model has.
absl::Status CopyModel(Env* env, const std::string& from,
                       const SafetensorsHeader& header,
                       const ModelLayout& model, const std::string& to) {
  ABSL_ASSIGN_OR_RETURN(const auto file, env->Open(from, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(
      const auto writer,
      SafetensorsWriter::Create(env, to, model, header.metadata));
  const size_t total = model.total_elements();
  std::vector<float> block(std::min(total, kBlockElements));
  for (size_t first = 0; first < total; first += kBlockElements) {
    const size_t count = std::min(kBlockElements, total - first);
    ABSL_RETURN_IF_ERROR(
        file->ReadAt(header.data_offset_bytes + first * sizeof(float),
                     count * sizeof(float), block.data()));
    ABSL_RETURN_IF_ERROR(
        writer->Append(absl::MakeConstSpan(block.data(), count)));
  }
  return writer->Finish();
}

}  // namespace

absl::Status KeepModelPart(Env* env, const std::string& from,
                           const std::string& to) {
  ABSL_ASSIGN_OR_RETURN(const SafetensorsHeader header,
                        ReadSafetensorsHeader(env, from));
  const std::optional<ModelLayout> model =
      kernels::WithoutControlVariates(header.layout);
  if (!model.has_value()) {
    ABSL_RETURN_IF_ERROR(env->Rename(from, to));
    return env->SyncDir(DirectoryOf(to));
  }
  ABSL_RETURN_IF_ERROR(CopyModel(env, from, header, *model, to));
  return env->Remove(from);
}

}  // namespace koinon::cli
