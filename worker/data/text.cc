#include "worker/data/text.h"

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

constexpr int64_t kDefaultContext = 16;
constexpr int kBytes = 256;
absl::StatusOr<std::vector<int16_t>> Classify(absl::string_view what,
                                              absl::string_view bytes,
                                              const ByteClasses& classes) {
  std::vector<int16_t> classified(bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    classified[i] = classes[static_cast<uint8_t>(bytes[i])];
    if (classified[i] == kNoClass) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: offset %d: expected a byte of the alphabet, found \"%s\"", what,
          i, absl::CHexEscape(bytes.substr(i, 1))));
    }
  }
  return classified;
}

}  // namespace

absl::StatusOr<ByteClasses> ClassesOfBytes(absl::string_view alphabet) {
  ByteClasses classes;
  if (alphabet.empty()) {
    for (int i = 0; i < kBytes; ++i) classes[i] = static_cast<int16_t>(i);
    return classes;
  }
  classes.fill(kNoClass);
  for (size_t i = 0; i < alphabet.size(); ++i) {
    int16_t& slot = classes[static_cast<uint8_t>(alphabet[i])];
    if (slot != kNoClass) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "text.alphabet: expected each byte once, found \"%s\" twice",
          absl::CHexEscape(alphabet.substr(i, 1))));
    }
    slot = static_cast<int16_t>(i);
  }
  return classes;
}

absl::StatusOr<int64_t> ContextOr(absl::string_view field, int64_t value,
                                  int64_t otherwise) {
  if (value == 0) return otherwise;
  if (value > 0 && value <= kMaxContext) return value;
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: expected 1 to %d, found %d", field, kMaxContext, value));
}

absl::StatusOr<TextExamples> DecodeText(absl::string_view what,
                                        absl::string_view bytes,
                                        const TextSource& source,
                                        uint64_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(
      const int64_t context,
      ContextOr("text.context", source.context(), kDefaultContext));
  ABSL_ASSIGN_OR_RETURN(const int64_t stride,
                        ContextOr("text.stride", source.stride(), 1));
  const int64_t length = static_cast<int64_t>(bytes.size());
  if (length <= context) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: expected at least %d bytes for a context of %d, "
                        "found %d",
                        what, context + 1, context, length));
  }
  ABSL_ASSIGN_OR_RETURN(const ByteClasses classes,
                        ClassesOfBytes(source.alphabet()));
  ABSL_ASSIGN_OR_RETURN(const std::vector<int16_t> text,
                        Classify(what, bytes, classes));

  TextExamples examples;
  const int64_t n = (length - context - 1) / stride + 1;
  const int64_t width = source.alphabet().empty()
                            ? kBytes
                            : static_cast<int64_t>(source.alphabet().size());
  examples.features.shape = {n, context};
  if (source.one_hot()) examples.features.shape.push_back(width);
  ABSL_ASSIGN_OR_RETURN(
      const size_t count,
      CheckedElementCount(what, examples.features.shape, max_bytes));
  std::vector<float>& values = examples.features.values;
  values.assign(count, 0);
  examples.labels.resize(n);
  for (int64_t i = 0; i < n; ++i) {
    const int16_t* window = &text[i * stride];
    for (int64_t j = 0; j < context; ++j) {
      const int64_t place = i * context + j;
      if (source.one_hot()) {
        values[place * width + window[j]] = 1;
      } else {
        values[place] = window[j];
      }
    }
    examples.labels[i] = window[context];
  }
  return examples;
}

}  // namespace koinon::worker
