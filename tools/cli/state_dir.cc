#include "tools/cli/state_dir.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/check.h"
#include "base/safetensors.h"
#include "base/status_macros.h"

namespace koinon::cli {
namespace {

constexpr char kSuffix[] = ".safetensors";

// "12.momentum.safetensors"; false for any other name.
bool ParseName(absl::string_view file, int64_t* step, std::string* name) {
  if (!absl::ConsumeSuffix(&file, kSuffix)) return false;
  const size_t dot = file.find('.');
  if (dot == absl::string_view::npos || dot == 0) return false;
  const absl::string_view digits = file.substr(0, dot);
  if (digits.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(digits, step)) {
    return false;
  }
  *name = std::string(file.substr(dot + 1));
  return true;
}

std::string KeeperOf(const std::map<std::string, std::string>& metadata) {
  const auto keeper = metadata.find("koinon.keeper");
  return keeper == metadata.end() ? "nobody" : keeper->second;
}

}  // namespace

absl::StatusOr<StateDir> StateDir::Open(Env* env, const std::string& dir,
                                        std::vector<Vector> vectors,
                                        const ModelLayout& layout,
                                        const std::string& layout_path) {
  StateDir state(env, dir, std::move(vectors), layout);
  if (!env->Exists(dir)) return state;
  ABSL_RETURN_IF_ERROR(state.Find());
  if (state.step_ > 0) ABSL_RETURN_IF_ERROR(state.Load(layout_path));
  return state;
}

// The newest whole step.
absl::Status StateDir::Find() {
  ABSL_ASSIGN_OR_RETURN(const auto files, env_->List(dir_));
  std::map<int64_t, std::set<std::string>> steps;
  for (const std::string& file : files) {
    int64_t step = 0;
    std::string name;
    if (!ParseName(file, &step, &name)) continue;
    if (step < 1 || step == std::numeric_limits<int64_t>::max()) continue;
    steps[step].insert(name);
  }
  for (const auto& [step, names] : steps) {
    const bool whole = std::all_of(
        vectors_.begin(), vectors_.end(),
        [&, &names = names](const Vector& v) { return names.count(v.name); });
    if (whole) step_ = step;
  }
  for (const auto& [step, names] : steps) {
    if (step == step_) continue;
    for (const Vector& vector : vectors_) {
      if (names.count(vector.name) > 0) {
        others_.push_back(PathOf(step, vector.name));
      }
    }
  }
  if (steps.empty() || steps.rbegin()->first == step_) return absl::OkStatus();
  const auto& [newest, names] = *steps.rbegin();
  for (const std::string& name : names) {
    ABSL_RETURN_IF_ERROR(CheckKeeper(PathOf(newest, name)));
  }
  // Part of the first step is what an interrupted first run leaves. Of any
  // other, something is missing that was there.
  if (step_ > 0 || newest == 1) return absl::OkStatus();
  std::vector<std::string> wanted;
  for (const Vector& vector : vectors_) wanted.push_back(vector.name);
  return absl::DataLossError(absl::StrCat(
      dir_, ": state of step ", newest, " has ", absl::StrJoin(names, ", "),
      ", expected ", absl::StrJoin(wanted, ", ")));
}

// What is left of a step is not somebody else's whole state.
absl::Status StateDir::CheckKeeper(const std::string& path) const {
  ABSL_ASSIGN_OR_RETURN(const SafetensorsHeader header,
                        ReadSafetensorsHeader(env_, path));
  const std::string found = KeeperOf(header.metadata);
  std::set<std::string> keepers;
  for (const Vector& vector : vectors_) keepers.insert(vector.keeper);
  if (keepers.count(found) > 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": kept for ", found, ", not for ",
                   absl::StrJoin(keepers, " or ")));
}

absl::Status StateDir::Load(const std::string& layout_path) {
  for (const Vector& vector : vectors_) {
    ABSL_ASSIGN_OR_RETURN(auto file,
                          TensorFile::Open(env_, PathOf(step_, vector.name)));
    ABSL_RETURN_IF_ERROR(CheckSameLayout(*file, layout_, layout_path));
    const std::string found = KeeperOf(file->metadata());
    if (found != vector.keeper) {
      return absl::FailedPreconditionError(absl::StrCat(
          file->path(), ": kept for ", found, ", not for ", vector.keeper));
    }
    before_[vector.name] = std::move(file);
  }
  return absl::OkStatus();
}

const aggregation::UpdateSource* StateDir::before(
    const std::string& name) const {
  const auto it = before_.find(name);
  return it == before_.end() ? nullptr : it->second.get();
}

absl::Status StateDir::Begin() {
  ABSL_RETURN_IF_ERROR(env_->MakeDirs(dir_));
  for (const Vector& vector : vectors_) {
    ABSL_ASSIGN_OR_RETURN(
        after_[vector.name],
        SafetensorsWriter::Create(env_, PathOf(step_ + 1, vector.name), layout_,
                                  {{"format", "pt"},
                                   {"koinon.keeper", vector.keeper},
                                   {"koinon.state", vector.name},
                                   {"koinon.step", absl::StrCat(step_ + 1)}}));
  }
  return absl::OkStatus();
}

aggregation::AppendValues StateDir::after(const std::string& name) {
  const auto it = after_.find(name);
  KOINON_CHECK(it != after_.end());
  return [writer = it->second.get()](absl::Span<const float> values) {
    return writer->Append(values);
  };
}

absl::Status StateDir::Commit() {
  for (const auto& [name, writer] : after_) {
    ABSL_RETURN_IF_ERROR(writer->Finish());
  }
  for (const std::string& path : OldPaths()) {
    // Those of a step that was interrupted have been replaced just now.
    const std::vector<std::string> fresh = NewPaths();
    if (std::find(fresh.begin(), fresh.end(), path) != fresh.end()) continue;
    ABSL_RETURN_IF_ERROR(env_->Remove(path));
  }
  return env_->SyncDir(dir_);
}

std::vector<std::string> StateDir::NewPaths() const {
  std::vector<std::string> paths;
  for (const Vector& vector : vectors_) {
    paths.push_back(PathOf(step_ + 1, vector.name));
  }
  return paths;
}

std::vector<std::string> StateDir::OldPaths() const {
  std::vector<std::string> paths = others_;
  for (const auto& [name, file] : before_) paths.push_back(file->path());
  return paths;
}

std::string StateDir::PathOf(int64_t step, const std::string& name) const {
  return absl::StrCat(dir_, "/", step, ".", name, kSuffix);
}

}  // namespace koinon::cli
