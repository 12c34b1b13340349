#include "worker/train/update_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/safetensors.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

static_assert(std::endian::native == std::endian::little,
              "updates are written as they lie in memory");

constexpr size_t kBlockElements = 256 << 10;

// Appends differences to an update file.
class UpdateWriter {
 public:
  UpdateWriter(const ModelLayout& layout, std::unique_ptr<File> file)
      : layout_(layout), file_(std::move(file)) {}

  bool changed() const { return changed_; }

  // base, trained: the next elements, as many of each.
  absl::Status Append(absl::Span<const float> base,
                      absl::Span<const float> trained) {
    block_.resize(base.size());
    for (size_t i = 0; i < base.size(); ++i) {
      block_[i] = trained[i] - base[i];
      if (!std::isfinite(block_[i])) {
        return absl::InternalError(absl::StrFormat(
            "expected finite parameters, found %s = %g (was %g)",
            layout_.DescribeElement(written_ + i), trained[i], base[i]));
      }
      changed_ = changed_ || block_[i] != 0;
    }
    return Write(block_);
  }

  // The next elements of the update itself.
  absl::Status AppendDifferences(absl::Span<const float> differences) {
    for (size_t i = 0; i < differences.size(); ++i) {
      if (!std::isfinite(differences[i])) {
        return absl::InternalError(absl::StrFormat(
            "expected a finite update, found %g for %s", differences[i],
            layout_.DescribeElement(written_ + i)));
      }
      changed_ = changed_ || differences[i] != 0;
    }
    return Write(differences);
  }

 private:
  absl::Status Write(absl::Span<const float> differences) {
    ABSL_RETURN_IF_ERROR(file_->WriteAt(written_ * sizeof(float),
                                        differences.data(),
                                        differences.size() * sizeof(float)));
    written_ += differences.size();
    return absl::OkStatus();
  }

  const ModelLayout& layout_;
  const std::unique_ptr<File> file_;
  std::vector<float> block_;
  size_t written_ = 0;
  bool changed_ = false;
};

std::string Describe(const TensorSpec& tensor) {
  return absl::StrCat(DTypeName(tensor.dtype), " [",
                      absl::StrJoin(tensor.shape, ", "), "]");
}

// For each tensor of `base`, its index in `trained`.
absl::StatusOr<std::vector<size_t>> MatchTensors(const ModelLayout& base,
                                                 const ModelLayout& trained) {
  absl::flat_hash_map<std::string, size_t> places;
  for (size_t i = 0; i < trained.tensors().size(); ++i) {
    places[trained.tensors()[i].name] = i;
  }
  std::vector<size_t> matches;
  for (const TensorSpec& tensor : base.tensors()) {
    const auto place = places.find(tensor.name);
    if (place == places.end()) {
      return absl::InternalError(absl::StrFormat(
          "trained model: expected a tensor %s, found none of that name",
          tensor.name));
    }
    const TensorSpec& found = trained.tensors()[place->second];
    if (!(found == tensor)) {
      return absl::InternalError(
          absl::StrFormat("trained model: tensor %s: expected %s, found %s",
                          tensor.name, Describe(tensor), Describe(found)));
    }
    matches.push_back(place->second);
    places.erase(place);
  }
  if (places.empty()) return matches;
  return absl::InternalError(absl::StrFormat(
      "trained model: tensor %s: expected none of that name, found %s",
      places.begin()->first,
      Describe(trained.tensors()[places.begin()->second])));
}

// A safetensors file, open.
struct ModelFile {
  SafetensorsHeader header;
  std::unique_ptr<File> file;

  absl::Status Read(size_t tensor, size_t first,
                    std::vector<float>* out) const {
    return file->ReadAt(header.data_offset_bytes +
                            header.layout.offset_bytes(tensor) +
                            first * sizeof(float),
                        out->size() * sizeof(float), out->data());
  }
};

absl::StatusOr<ModelFile> OpenModel(Env* env, const std::string& path) {
  ModelFile model;
  ABSL_ASSIGN_OR_RETURN(model.header, ReadSafetensorsHeader(env, path));
  ABSL_ASSIGN_OR_RETURN(model.file, env->Open(path, Env::OpenMode::kRead));
  return model;
}

absl::StatusOr<ModelFile> OpenTrained(Env* env, const std::string& path) {
  absl::StatusOr<ModelFile> model = OpenModel(env, path);
  if (model.ok()) return model;
  return absl::InternalError(
      absl::StrCat("trained model: ", model.status().message()));
}

}  // namespace

absl::Status WriteUpdate(Env* env, const ModelLayout& layout,
                         absl::Span<const float> base,
                         absl::Span<const float> trained,
                         absl::Span<const float> rest,
                         const std::string& update_path) {
  ABSL_ASSIGN_OR_RETURN(auto file,
                        env->Open(update_path, Env::OpenMode::kCreate));
  UpdateWriter writer(layout, std::move(file));
  for (size_t i = 0; i < base.size(); i += kBlockElements) {
    ABSL_RETURN_IF_ERROR(writer.Append(base.subspan(i, kBlockElements),
                                       trained.subspan(i, kBlockElements)));
  }
  return writer.AppendDifferences(rest);
}

absl::StatusOr<FileUpdate> WriteUpdateOfFiles(Env* env,
                                              const std::string& base_path,
                                              const std::string& trained_path,
                                              const std::string& update_path) {
  ABSL_ASSIGN_OR_RETURN(const ModelFile base, OpenModel(env, base_path));
  ABSL_ASSIGN_OR_RETURN(const ModelFile trained,
                        OpenTrained(env, trained_path));
  const ModelLayout& layout = base.header.layout;
  if (!layout.AllF32()) {
    return absl::InvalidArgumentError(
        absl::StrCat(base_path, ": expected all tensors to be F32"));
  }
  ABSL_ASSIGN_OR_RETURN(const std::vector<size_t> matches,
                        MatchTensors(layout, trained.header.layout));
  ABSL_ASSIGN_OR_RETURN(auto file,
                        env->Open(update_path, Env::OpenMode::kCreate));
  UpdateWriter writer(layout, std::move(file));
  std::vector<float> before, after;
  for (size_t t = 0; t < matches.size(); ++t) {
    const size_t count = layout.element_count(t);
    for (size_t first = 0; first < count; first += kBlockElements) {
      before.resize(std::min(kBlockElements, count - first));
      after.resize(before.size());
      ABSL_RETURN_IF_ERROR(base.Read(t, first, &before));
      ABSL_RETURN_IF_ERROR(trained.Read(matches[t], first, &after));
      ABSL_RETURN_IF_ERROR(writer.Append(before, after));
    }
  }
  return FileUpdate{.changed = writer.changed()};
}

}  // namespace koinon::worker
