#include "worker/data/npy.h"

#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

constexpr absl::string_view kMagic = "\x93NUMPY";
constexpr size_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kMaxRank = 8;
constexpr absl::string_view kKnownTypes = "<f4, <f8, |u1, <i4, <i8";

struct NpyHeader {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// Reads the header's dictionary, which is Python source of a fixed form:
// {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
class HeaderParser {
 public:
  HeaderParser(absl::string_view what, absl::string_view text)
      : what_(what), text_(text), rest_(text) {}

  absl::StatusOr<NpyHeader> Parse() {
    NpyHeader header;
    if (!Take("{")) return Expected("'{'");
    while (!Take("}")) {
      ABSL_RETURN_IF_ERROR(ParseEntry(&header));
      if (!Take(",") && !StartsWith("}")) return Expected("',' or '}'");
    }
    SkipSpace();
    if (!rest_.empty()) return Expected("the end of the header");
    if (!has_descr_ || !has_fortran_order_ || !has_shape_) {
      return Expected("the keys 'descr', 'fortran_order' and 'shape'");
    }
    return header;
  }

 private:
  absl::Status ParseEntry(NpyHeader* header) {
    ABSL_ASSIGN_OR_RETURN(const std::string key, ParseString());
    if (!Take(":")) return Expected("':'");
    if (key == "descr" && !std::exchange(has_descr_, true)) {
      ABSL_ASSIGN_OR_RETURN(header->descr, ParseString());
    } else if (key == "fortran_order" &&
               !std::exchange(has_fortran_order_, true)) {
      ABSL_ASSIGN_OR_RETURN(header->fortran_order, ParseBool());
    } else if (key == "shape" && !std::exchange(has_shape_, true)) {
      ABSL_ASSIGN_OR_RETURN(header->shape, ParseShape());
    } else {
      return Expected("each of 'descr', 'fortran_order' and 'shape' once");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ParseString() {
    SkipSpace();
    const char quote = rest_.empty() ? '\0' : rest_[0];
    const size_t end = quote == '\'' || quote == '"' ? rest_.find(quote, 1)
                                                     : absl::string_view::npos;
    if (end == absl::string_view::npos) return Expected("a quoted text");
    std::string value(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return value;
  }

  absl::StatusOr<bool> ParseBool() {
    if (Take("True")) return true;
    if (Take("False")) return false;
    return Expected("True or False");
  }

  absl::StatusOr<std::vector<int64_t>> ParseShape() {
    std::vector<int64_t> shape;
    if (!Take("(")) return Expected("'('");
    while (!Take(")")) {
      SkipSpace();
      size_t digits = 0;
      while (digits < rest_.size() && absl::ascii_isdigit(rest_[digits])) {
        ++digits;
      }
      int64_t extent = 0;
      if (!absl::SimpleAtoi(rest_.substr(0, digits), &extent)) {
        return Expected("an extent that fits 63 bits");
      }
      if (shape.size() == kMaxRank) return Expected("at most 8 dimensions");
      shape.push_back(extent);
      rest_.remove_prefix(digits);
      if (!Take(",") && !StartsWith(")")) return Expected("',' or ')'");
    }
    return shape;
  }

  void SkipSpace() { rest_ = absl::StripLeadingAsciiWhitespace(rest_); }
  bool StartsWith(absl::string_view token) {
    SkipSpace();
    return absl::StartsWith(rest_, token);
  }
  bool Take(absl::string_view token) {
    SkipSpace();
    return absl::ConsumePrefix(&rest_, token);
  }
  absl::Status Expected(absl::string_view expected) const {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: NPY header, character %d: expected %s, found \"%s\"", what_,
        text_.size() - rest_.size(), expected,
        absl::CHexEscape(rest_.substr(0, 40))));
  }

  const absl::string_view what_;
  const absl::string_view text_;
  absl::string_view rest_;
  bool has_descr_ = false;
  bool has_fortran_order_ = false;
  bool has_shape_ = false;
};

// Elements are little-endian, as every machine is that Koinon runs on.
template <typename Number>
void LoadElements(absl::string_view data, std::vector<float>* values) {
  for (size_t i = 0; i < values->size(); ++i) {
    Number number;
    std::memcpy(&number, data.data() + i * sizeof(Number), sizeof(Number));
    (*values)[i] = static_cast<float>(number);
  }
}

// 0 for a type that is not read.
size_t SizeOfType(absl::string_view descr) {
  if (descr == "|u1") return 1;
  if (descr == "<f4" || descr == "<i4") return 4;
  if (descr == "<f8" || descr == "<i8") return 8;
  return 0;
}

void LoadElements(absl::string_view descr, absl::string_view data,
                  std::vector<float>* values) {
  if (descr == "<f4") return LoadElements<float>(data, values);
  if (descr == "<f8") return LoadElements<double>(data, values);
  if (descr == "|u1") return LoadElements<uint8_t>(data, values);
  if (descr == "<i4") return LoadElements<int32_t>(data, values);
  LoadElements<int64_t>(data, values);
}

// Checks the fixed part; returns where the header's text lies.
absl::StatusOr<absl::string_view> HeaderText(absl::string_view what,
                                             absl::string_view bytes) {
  if (!absl::StartsWith(bytes, kMagic) || bytes.size() < 10) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: offset 0: expected NPY's magic number \\x93NUMPY, found \"%s\"",
        what, absl::CHexEscape(bytes.substr(0, 8))));
  }
  const uint8_t major = bytes[6];
  if (major < 1 || major > 3) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: offset 6: expected NPY version 1, 2 or 3, found %d", what, major));
  }
  const size_t length_bytes = major == 1 ? 2 : 4;
  const size_t start = 8 + length_bytes;
  size_t length = 0;
  for (size_t i = 0; i < length_bytes && 8 + i < bytes.size(); ++i) {
    length |= static_cast<size_t>(static_cast<uint8_t>(bytes[8 + i])) << 8 * i;
  }
  if (length > kMaxHeaderBytes || bytes.size() < start + length) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: offset 8: expected a header of at most %d bytes within the file's "
        "%d, found a length of %d",
        what, kMaxHeaderBytes, bytes.size(), length));
  }
  return bytes.substr(start, length);
}

}  // namespace

absl::StatusOr<NumericArray> DecodeNpy(absl::string_view what,
                                       absl::string_view bytes,
                                       uint64_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(const absl::string_view text, HeaderText(what, bytes));
  ABSL_ASSIGN_OR_RETURN(NpyHeader header, HeaderParser(what, text).Parse());
  const size_t element_bytes = SizeOfType(header.descr);
  if (element_bytes == 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: expected elements of type %s, found \"%s\"", what,
                        kKnownTypes, absl::CHexEscape(header.descr)));
  }
  if (header.fortran_order) {
    return absl::InvalidArgumentError(absl::StrCat(
        what,
        ": expected C order, found Fortran order (fortran_order: True); save "
        "numpy.ascontiguousarray(array)"));
  }
  NumericArray array;
  array.shape = std::move(header.shape);
  ABSL_ASSIGN_OR_RETURN(const size_t count,
                        CheckedElementCount(what, array.shape, max_bytes));
  const size_t data_offset = text.data() + text.size() - bytes.data();
  const absl::string_view data = bytes.substr(data_offset);
  if (data.size() != count * element_bytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: offset %d: expected %d bytes for shape %s of %s, found %d", what,
        data_offset, count * element_bytes, FormatShape(array.shape),
        header.descr, data.size()));
  }
  array.values.resize(count);
  LoadElements(header.descr, data, &array.values);
  ABSL_RETURN_IF_ERROR(CheckFinite(what, array.values));
  return array;
}

}  // namespace koinon::worker
