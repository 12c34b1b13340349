#include "worker/data/source.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "worker/data/csv.h"
#include "worker/data/idx.h"
#include "worker/data/npy.h"
#include "worker/data/npz.h"
#include "worker/data/numeric_array.h"
#include "worker/data/text.h"
#include "worker/data/text_tokens.h"
#include "worker/data/token_windows.h"
#include "worker/data/tokens.h"
#include "worker/data/unpack.h"

namespace koinon::worker {
namespace {

constexpr int64_t kDefaultMaxBytes = int64_t{2} << 30;
constexpr double kByteScale = 1.0 / 255;
// Of sequences.
constexpr int64_t kDefaultTextContext = 256;
constexpr int64_t kDefaultTokenContext = 1024;

// What a source's files hold, before the configuration's scale and shape.
struct Decoded {
  NumericArray features;            // [n, ...]
  NumericArray labels;              // [n] or [n, k]
  std::vector<std::string> groups;  // [n], or empty
  double default_scale = 1;
  bool is_text = false;
};

uint64_t MaxBytes(const DatasetConfig& config) {
  return config.max_bytes() == 0 ? kDefaultMaxBytes : config.max_bytes();
}

absl::StatusOr<Decoded> DecodeIdxSource(Env* env, const IdxSource& source,
                                        uint64_t max_bytes) {
  Decoded decoded;
  ABSL_ASSIGN_OR_RETURN(const std::string images,
                        ReadUnpacked(env, source.images(), max_bytes));
  ABSL_ASSIGN_OR_RETURN(decoded.features,
                        DecodeIdx(source.images(), images, max_bytes));
  ABSL_ASSIGN_OR_RETURN(const std::string labels,
                        ReadUnpacked(env, source.labels(), max_bytes));
  ABSL_ASSIGN_OR_RETURN(decoded.labels,
                        DecodeIdx(source.labels(), labels, max_bytes));
  // Images get the channel that convolutions expect.
  std::vector<int64_t>& shape = decoded.features.shape;
  if (shape.size() == 3) shape.insert(shape.begin() + 1, 1);
  decoded.default_scale = kByteScale;
  return decoded;
}

absl::StatusOr<Decoded> DecodeCsvSource(Env* env, const CsvSource& source,
                                        const std::string& group_column,
                                        uint64_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadUnpacked(env, source.path(), max_bytes));
  ABSL_ASSIGN_OR_RETURN(CsvTable table, DecodeCsv(source.path(), bytes, source,
                                                  group_column, max_bytes));
  Decoded decoded;
  decoded.features = std::move(table.features);
  decoded.labels.shape = {decoded.features.shape[0]};
  decoded.labels.values = std::move(table.labels);
  decoded.groups = std::move(table.groups);
  return decoded;
}

absl::StatusOr<Decoded> DecodeNpySource(Env* env, const NpySource& source,
                                        uint64_t max_bytes) {
  Decoded decoded;
  ABSL_ASSIGN_OR_RETURN(const std::string features,
                        ReadFile(env, source.features(), max_bytes));
  ABSL_ASSIGN_OR_RETURN(decoded.features,
                        DecodeNpy(source.features(), features, max_bytes));
  ABSL_ASSIGN_OR_RETURN(const std::string labels,
                        ReadFile(env, source.labels(), max_bytes));
  ABSL_ASSIGN_OR_RETURN(decoded.labels,
                        DecodeNpy(source.labels(), labels, max_bytes));
  return decoded;
}

absl::StatusOr<Decoded> DecodeNpzSource(Env* env, const NpzSource& source,
                                        uint64_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadFile(env, source.path(), max_bytes));
  Decoded decoded;
  const auto decode = [&](const std::string& key, absl::string_view otherwise) {
    return DecodeNpz(source.path(), bytes,
                     key.empty() ? otherwise : absl::string_view(key),
                     max_bytes);
  };
  ABSL_ASSIGN_OR_RETURN(decoded.features, decode(source.features(), "x"));
  ABSL_ASSIGN_OR_RETURN(decoded.labels, decode(source.labels(), "y"));
  return decoded;
}

absl::StatusOr<Decoded> DecodeTextSource(Env* env, const TextSource& source,
                                         uint64_t max_bytes) {
  if (source.unit() != TextSource::BYTE) {
    return absl::InvalidArgumentError(
        "text.unit: expected BYTE without text.sequences");
  }
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadUnpacked(env, source.path(), max_bytes));
  ABSL_ASSIGN_OR_RETURN(TextExamples text,
                        DecodeText(source.path(), bytes, source, max_bytes));
  Decoded decoded;
  decoded.is_text = true;
  decoded.features = std::move(text.features);
  decoded.labels.shape = {static_cast<int64_t>(text.labels.size())};
  decoded.labels.values.assign(text.labels.begin(), text.labels.end());
  if (!source.one_hot()) decoded.default_scale = kByteScale;
  return decoded;
}

absl::StatusOr<Decoded> Decode(Env* env, const DatasetConfig& config,
                               const Source& source) {
  const uint64_t max_bytes = MaxBytes(config);
  switch (source.kind_case()) {
    case Source::kIdx:
      return DecodeIdxSource(env, source.idx(), max_bytes);
    case Source::kCsv:
      return DecodeCsvSource(env, source.csv(),
                             config.partition().by_column().column(),
                             max_bytes);
    case Source::kNpy:
      return DecodeNpySource(env, source.npy(), max_bytes);
    case Source::kNpz:
      return DecodeNpzSource(env, source.npz(), max_bytes);
    case Source::kText:
      return DecodeTextSource(env, source.text(), max_bytes);
    case Source::kTokens:  // are sequences
    case Source::kExternal:
    case Source::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "source: expected one of idx, csv, npy, npz, text, tokens and external, "
      "found none (an external source stands alone)");
}

absl::Status CheckCounts(const Decoded& decoded) {
  const auto& features = decoded.features.shape;
  const auto& labels = decoded.labels.shape;
  if (features.size() < 2 || labels.empty() || labels.size() > 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected features of shape [n, ...] and labels of shape [n], found ",
        FormatShape(features), " and ", FormatShape(labels)));
  }
  if (features[0] != labels[0]) {
    return absl::InvalidArgumentError(
        absl::StrFormat("expected as many labels as examples, found %d "
                        "examples and %d labels",
                        features[0], labels[0]));
  }
  if (features[0] > 0 && !decoded.features.values.empty()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("expected at least one example with one feature, found "
                   "shape ",
                   FormatShape(features)));
}

// x * scale + offset, in double.
absl::Status Rescale(const DatasetConfig& config, double default_scale,
                     std::vector<float>* values) {
  const double scale = config.has_scale() ? config.scale() : default_scale;
  const double offset = config.offset();
  if (!std::isfinite(scale) || scale == 0 || !std::isfinite(offset)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "expected a finite scale other than 0 and a finite offset, found %g "
        "and %g",
        scale, offset));
  }
  if (scale == 1 && offset == 0) return absl::OkStatus();
  for (float& value : *values) {
    value = static_cast<float>(value * scale + offset);
  }
  return CheckFinite("features after scale and offset", *values);
}

// The shape of one example: as configured, if that fits, or as decoded.
absl::StatusOr<std::vector<int64_t>> ExampleShape(
    const DatasetConfig& config, absl::Span<const int64_t> decoded) {
  const std::vector<int64_t> found(decoded.begin() + 1, decoded.end());
  if (config.shape().empty()) return found;
  const std::vector<int64_t> wanted(config.shape().begin(),
                                    config.shape().end());
  constexpr uint64_t kNoLimit = std::numeric_limits<int64_t>::max();
  ABSL_ASSIGN_OR_RETURN(const size_t expected_size,
                        CheckedElementCount("shape", wanted, kNoLimit));
  ABSL_ASSIGN_OR_RETURN(const size_t found_size,
                        CheckedElementCount("features", found, kNoLimit));
  if (expected_size == found_size) return wanted;
  return absl::InvalidArgumentError(absl::StrFormat(
      "expected examples of shape %s (%d features), found %s (%d)",
      FormatShape(wanted), expected_size, FormatShape(found), found_size));
}

absl::Status TakeLabels(bool regression, NumericArray labels, Dataset* data) {
  const size_t width = labels.shape.size() == 2 ? labels.shape[1] : 1;
  if (regression) {
    if (width == 0) {
      return absl::InvalidArgumentError(
          "expected at least one value to predict, found labels of width 0");
    }
    data->target_size = width;
    data->targets = std::move(labels.values);
    return absl::OkStatus();
  }
  if (width != 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "expected one class for each example, found labels of shape %s; set "
        "regression for values",
        FormatShape(labels.shape)));
  }
  ABSL_ASSIGN_OR_RETURN(data->labels, ToLabels("labels", labels.values));
  return absl::OkStatus();
}

bool IsSequences(const Source& source) {
  return source.has_tokens() ||
         (source.has_text() && source.text().sequences());
}

// What has no meaning for tokens.
absl::Status CheckSequenceConfig(const DatasetConfig& config,
                                 const Source& source) {
  const char* field = config.has_scale()        ? "scale"
                      : config.has_offset()     ? "offset"
                      : config.regression()     ? "regression"
                      : !config.shape().empty() ? "shape"
                      : source.text().one_hot() ? "text.one_hot"
                                                : nullptr;
  if (field == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, ": expected none with sequences, whose examples are tokens"));
}

absl::StatusOr<TokenWindows> DecodeTextWindows(Env* env,
                                               const TextSource& source,
                                               uint64_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadUnpacked(env, source.path(), max_bytes));
  ABSL_ASSIGN_OR_RETURN(TextTokens text, DecodeTextTokens(source.path(), bytes,
                                                          source, max_bytes));
  TokenWindows windows;
  windows.vocabulary = text.vocabulary;
  windows.tokens = MakeTokens(std::move(text.values));
  ABSL_ASSIGN_OR_RETURN(
      windows.context,
      ContextOr("text.context", source.context(), kDefaultTextContext));
  ABSL_ASSIGN_OR_RETURN(
      windows.stride,
      ContextOr("text.stride", source.stride(), windows.context));
  return windows;
}

absl::StatusOr<TokenWindows> MapTokenWindows(const TokenSource& source) {
  constexpr int64_t kMaxVocabulary = 1 << 16;
  TokenWindows windows;
  windows.vocabulary = source.vocabulary();
  if (windows.vocabulary < 0 || windows.vocabulary > kMaxVocabulary) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tokens.vocabulary: expected 0 to %d, found %d",
                        kMaxVocabulary, windows.vocabulary));
  }
  ABSL_ASSIGN_OR_RETURN(
      windows.context,
      ContextOr("tokens.context", source.context(), kDefaultTokenContext));
  ABSL_ASSIGN_OR_RETURN(
      windows.stride,
      ContextOr("tokens.stride", source.stride(), windows.context));
  ABSL_ASSIGN_OR_RETURN(windows.tokens, MapTokens(source));
  return windows;
}

absl::StatusOr<LoadedSource> LoadSequences(Env* env,
                                           const DatasetConfig& config,
                                           const Source& source) {
  ABSL_RETURN_IF_ERROR(CheckSequenceConfig(config, source));
  LoadedSource loaded;
  loaded.data.name = config.name();
  TokenWindows& windows = loaded.data.windows;
  ABSL_ASSIGN_OR_RETURN(
      windows, source.has_tokens()
                   ? MapTokenWindows(source.tokens())
                   : DecodeTextWindows(env, source.text(), MaxBytes(config)));
  windows.end = windows.tokens->values().size();
  loaded.data.shape = {windows.context};
  if (windows.size() > 0) return loaded;
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: expected at least %d tokens for a context of %d, found %d",
      source.has_tokens() ? source.tokens().path() : source.text().path(),
      windows.context + 1, windows.context, windows.end));
}

}  // namespace

absl::StatusOr<LoadedSource> LoadSource(Env* env, const DatasetConfig& config,
                                        const Source& source) {
  if (IsSequences(source)) return LoadSequences(env, config, source);
  ABSL_ASSIGN_OR_RETURN(Decoded decoded, Decode(env, config, source));
  ABSL_RETURN_IF_ERROR(CheckCounts(decoded));
  if (decoded.is_text && config.regression()) {
    return absl::InvalidArgumentError(
        "expected no regression with text: its labels are classes");
  }
  ABSL_RETURN_IF_ERROR(
      Rescale(config, decoded.default_scale, &decoded.features.values));
  LoadedSource loaded;
  loaded.data.name = config.name();
  ABSL_ASSIGN_OR_RETURN(loaded.data.shape,
                        ExampleShape(config, decoded.features.shape));
  loaded.data.features = std::move(decoded.features.values);
  loaded.groups = std::move(decoded.groups);
  ABSL_RETURN_IF_ERROR(
      TakeLabels(config.regression(), std::move(decoded.labels), &loaded.data));
  return loaded;
}

}  // namespace koinon::worker
