#include "worker/train/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/digest.h"
#include "base/safetensors.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

using Metadata = std::map<std::string, std::string>;

constexpr char kFormatKey[] = "koinon.checkpoint";
constexpr char kFormat[] = "2";
constexpr char kDigestKey[] = "digest";
constexpr char kStatePrefix[] = "optimizer.state.";

// The model's tensors, then the optimizer's values, each in one piece.
absl::StatusOr<ModelLayout> CheckpointLayout(const ModelLayout& model,
                                             size_t states) {
  std::vector<TensorSpec> tensors = model.tensors();
  for (size_t i = 0; i < states; ++i) {
    tensors.push_back({absl::StrCat(kStatePrefix, i),
                       DType::kF32,
                       {static_cast<int64_t>(model.total_elements())}});
  }
  return ModelLayout::Create(std::move(tensors));
}

// So many digits that the same double comes back.
std::string Exact(double value) { return absl::StrFormat("%.17g", value); }

Metadata Encode(const TrainingState& state, int64_t optimizer_steps) {
  return {{kFormatKey, kFormat},
          {"fingerprint", state.fingerprint},
          {"step", absl::StrCat(state.step)},
          {"optimizer_steps", absl::StrCat(optimizer_steps)},
          {"rates", Exact(state.rates)},
          {"seconds", Exact(state.seconds)},
          {"loss", Exact(state.since_report.loss)},
          {"correct", absl::StrCat(state.since_report.correct)},
          {"labels", absl::StrCat(state.since_report.labels)},
          {"examples", absl::StrCat(state.since_report.examples)}};
}

absl::Status BadField(const std::string& key, const char* expected,
                      const std::string& found) {
  return absl::InvalidArgumentError(absl::StrFormat(
      "metadata \"%s\": expected %s, found \"%s\"", key, expected, found));
}

absl::StatusOr<std::string> Field(const Metadata& metadata,
                                  const std::string& key) {
  const auto found = metadata.find(key);
  if (found != metadata.end()) return found->second;
  return absl::InvalidArgumentError(
      absl::StrCat("expected metadata \"", key, "\", found none"));
}

absl::Status ReadCount(const Metadata& metadata, const std::string& key,
                       int64_t* value) {
  ABSL_ASSIGN_OR_RETURN(const std::string text, Field(metadata, key));
  if (absl::SimpleAtoi(text, value) && *value >= 0) return absl::OkStatus();
  return BadField(key, "a whole number of at least 0", text);
}

absl::Status ReadNumber(const Metadata& metadata, const std::string& key,
                        double* value) {
  ABSL_ASSIGN_OR_RETURN(const std::string text, Field(metadata, key));
  if (absl::SimpleAtod(text, value) && std::isfinite(*value)) {
    return absl::OkStatus();
  }
  return BadField(key, "a finite number", text);
}

absl::StatusOr<TrainingState> Decode(const Metadata& metadata,
                                     int64_t* optimizer_steps) {
  ABSL_ASSIGN_OR_RETURN(const std::string format, Field(metadata, kFormatKey));
  if (format != kFormat) return BadField(kFormatKey, kFormat, format);
  TrainingState state;
  ABSL_ASSIGN_OR_RETURN(state.fingerprint, Field(metadata, "fingerprint"));
  for (const auto& [key, value] :
       {std::pair("step", &state.step),
        std::pair("optimizer_steps", optimizer_steps),
        std::pair("correct", &state.since_report.correct),
        std::pair("labels", &state.since_report.labels),
        std::pair("examples", &state.since_report.examples)}) {
    ABSL_RETURN_IF_ERROR(ReadCount(metadata, key, value));
  }
  for (const auto& [key, value] :
       {std::pair("rates", &state.rates), std::pair("seconds", &state.seconds),
        std::pair("loss", &state.since_report.loss)}) {
    ABSL_RETURN_IF_ERROR(ReadNumber(metadata, key, value));
  }
  return state;
}

// Of all that a file says but the digest itself: the other metadata, then the
// tensors' bytes, in pieces.
std::string DigestOf(const Metadata& metadata,
                     absl::Span<const absl::Span<const float>> pieces) {
  Sha256 hash;
  for (const auto& [key, value] : metadata) {
    if (key == kDigestKey) continue;
    hash.Update(absl::StrCat(key, "=", value, "\n"));
  }
  for (const absl::Span<const float> piece : pieces) {
    hash.Update(piece.data(), piece.size() * sizeof(float));
  }
  return hash.Finish().ToHex();
}

absl::Status CheckIntact(const Model& file) {
  ABSL_ASSIGN_OR_RETURN(const std::string expected,
                        Field(file.metadata, kDigestKey));
  const std::string found = DigestOf(file.metadata, {file.values});
  if (found == expected) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat(
      "is damaged: expected content of SHA-256 %.12s, as it was written, "
      "found %.12s",
      expected, found));
}

absl::Status CheckSame(const TrainingState& state,
                       const std::string& fingerprint, const ModelLayout& found,
                       const ModelLayout& expected) {
  if (state.fingerprint != fingerprint) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "is of another training (fingerprint %.12s, this one's is %.12s): "
        "another model, way of training, seed or dataset",
        state.fingerprint, fingerprint));
  }
  if (found.hash() == expected.hash()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrFormat(
      "expected %d values with layout %s, for the model and its optimizer's "
      "state, found %d with layout %s",
      expected.total_elements(), expected.hash().ToShortHex(),
      found.total_elements(), found.hash().ToShortHex()));
}

absl::StatusOr<TrainingState> Restore(const Model& file,
                                      const ModelLayout& layout,
                                      const std::string& fingerprint,
                                      absl::Span<float> parameters,
                                      kernels::LocalOptimizer* optimizer) {
  int64_t optimizer_steps = 0;
  ABSL_ASSIGN_OR_RETURN(TrainingState state,
                        Decode(file.metadata, &optimizer_steps));
  ABSL_RETURN_IF_ERROR(CheckIntact(file));
  const std::vector<absl::Span<float>> values = optimizer->state();
  ABSL_ASSIGN_OR_RETURN(const ModelLayout expected,
                        CheckpointLayout(layout, values.size()));
  ABSL_RETURN_IF_ERROR(CheckSame(state, fingerprint, file.layout, expected));
  const absl::Status finite = CheckFinite(
      layout, absl::MakeConstSpan(file.values).first(parameters.size()));
  if (!finite.ok()) return absl::DataLossError(finite.message());
  auto from = file.values.begin();
  const auto take = [&from](absl::Span<float> to) {
    std::copy_n(from, to.size(), to.begin());
    from += static_cast<std::ptrdiff_t>(to.size());
  };
  take(parameters);
  for (const absl::Span<float>& value : values) take(value);
  optimizer->set_steps(optimizer_steps);
  return state;
}

}  // namespace

absl::Status CheckFinite(const ModelLayout& layout,
                         absl::Span<const float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return absl::InternalError(
        absl::StrFormat("expected finite values, found %s = %g",
                        layout.DescribeElement(i), values[i]));
  }
  return absl::OkStatus();
}

absl::Status WriteCheckpoint(Env* env, const std::string& path,
                             const ModelLayout& layout,
                             const TrainingState& state,
                             absl::Span<const float> parameters,
                             kernels::LocalOptimizer* optimizer) {
  const std::vector<absl::Span<float>> values = optimizer->state();
  ABSL_ASSIGN_OR_RETURN(const ModelLayout whole,
                        CheckpointLayout(layout, values.size()));
  // One that cannot be gone on with must not replace one that can.
  ABSL_RETURN_IF_ERROR(CheckFinite(layout, parameters));
  std::vector<absl::Span<const float>> tensors = {parameters};
  tensors.insert(tensors.end(), values.begin(), values.end());
  Metadata metadata = Encode(state, optimizer->steps());
  metadata[kDigestKey] = DigestOf(metadata, tensors);
  const std::string header = EncodeSafetensorsHeader(whole, metadata);
  const auto bytes = [](absl::Span<const float> piece) {
    return absl::string_view(reinterpret_cast<const char*>(piece.data()),
                             piece.size() * sizeof(float));
  };
  std::vector<absl::string_view> pieces = {header};
  for (const absl::Span<const float>& piece : tensors) {
    pieces.push_back(bytes(piece));
  }
  return WritePiecesAtomically(env, path, pieces);
}

absl::StatusOr<TrainingState> ReadCheckpoint(
    Env* env, const std::string& path, const ModelLayout& layout,
    const std::string& fingerprint, uint64_t max_bytes,
    absl::Span<float> parameters, kernels::LocalOptimizer* optimizer) {
  ABSL_ASSIGN_OR_RETURN(const Model file, ReadModel(env, path, max_bytes));
  absl::StatusOr<TrainingState> state =
      Restore(file, layout, fingerprint, parameters, optimizer);
  if (state.ok()) return state;
  return absl::Status(
      state.status().code(),
      absl::StrCat("checkpoint ", path, ": ", state.status().message()));
}

}  // namespace koinon::worker
