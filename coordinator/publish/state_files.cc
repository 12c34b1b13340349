#include "coordinator/publish/state_files.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace koinon::coordinator {
namespace {

absl::StatusOr<std::unique_ptr<VersionSource>> OpenBefore(
    const ModelStore& store, const v1::ModelManifest& base,
    absl::Span<const StateFile> base_state, const ModelLayout& layout,
    const std::string& name) {
  if (base.version() == 0) return std::unique_ptr<VersionSource>();
  const auto file =
      std::find_if(base_state.begin(), base_state.end(),
                   [&](const StateFile& f) { return f.name == name; });
  if (file == base_state.end()) {
    return absl::DataLossError(
        absl::StrCat("the journal names no state \"", name, "\" for version ",
                     base.version(), " of job ", base.job()));
  }
  auto version = store.OpenState(base.job(), base.version(), *file, layout);
  if (absl::IsNotFound(version.status())) {
    return absl::DataLossError(
        absl::StrCat(version.status().message(), ": the state of version ",
                     base.version(), " of job ", base.job(), " is gone"));
  }
  ABSL_RETURN_IF_ERROR(version.status());
  return std::make_unique<VersionSource>(*std::move(version));
}

}  // namespace

absl::StatusOr<const float*> VersionSource::Read(size_t offset, size_t count,
                                                 float* scratch) const {
  ABSL_RETURN_IF_ERROR(
      version_.file->ReadAt(version_.data_offset_bytes + offset * sizeof(float),
                            count * sizeof(float), scratch));
  return scratch;
}

absl::StatusOr<StateFiles> StateFiles::Open(
    ModelStore* store, const v1::ModelManifest& base,
    absl::Span<const StateFile> base_state, int64_t new_version,
    const ModelLayout& layout, absl::Span<const std::string> names) {
  StateFiles files(store, base.job(), new_version);
  for (const std::string& name : names) {
    Vector vector;
    vector.name = name;
    ABSL_ASSIGN_OR_RETURN(vector.before,
                          OpenBefore(*store, base, base_state, layout, name));
    ABSL_ASSIGN_OR_RETURN(
        vector.after, store->NewState(base.job(), new_version, name, layout));
    files.vectors_.push_back(std::move(vector));
  }
  return files;
}

StateFiles::~StateFiles() {
  // What cannot be removed now is removed at the next start.
  for (const std::string& name : published_) {
    store_->RemoveState(job_, version_, name).IgnoreError();
  }
}

const aggregation::UpdateSource* StateFiles::before(
    const std::string& name) const {
  for (const Vector& vector : vectors_) {
    if (vector.name == name) return vector.before.get();
  }
  KOINON_CHECK(false);
}

aggregation::AppendValues StateFiles::after(const std::string& name) {
  for (const Vector& vector : vectors_) {
    if (vector.name != name) continue;
    return [writer = vector.after.get()](absl::Span<const float> values) {
      return writer->Append(values);
    };
  }
  KOINON_CHECK(false);
}

absl::StatusOr<std::vector<StateFile>> StateFiles::Publish() {
  std::vector<StateFile> rows;
  for (Vector& vector : vectors_) {
    published_.push_back(vector.name);
    ABSL_ASSIGN_OR_RETURN(StateFile row, vector.after->Publish());
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace koinon::coordinator
