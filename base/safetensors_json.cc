#include "base/safetensors_json.h"

#include <exception>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace koinon {
namespace {

using nlohmann::json;

// Takes the parser's events, one place in the format at a time:
//
//   kStart -> kNames -> kTensor -> kShape | kOffsets
//                    -> kMetadata
//
// A handler that returns false ends the parse; status() then says why.
class HeaderReader final : public json::json_sax_t {
 public:
  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool number_integer(json::number_integer_t) override {
    return Unexpected("a negative number");
  }
  bool number_float(json::number_float_t, const std::string&) override {
    return Unexpected("a number that is no 64-bit integer");
  }
  bool binary(json::binary_t&) override { return Unexpected("bytes"); }

  bool number_unsigned(json::number_unsigned_t value) override {
    if (place_ == Place::kShape) return AddExtent(value);
    if (place_ == Place::kOffsets) return AddOffset(value);
    return Unexpected("a number");
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) {
      if (!json_.metadata.emplace(key_, std::move(value)).second) {
        return Fail(
            absl::StrCat("metadata key ", Show(key_), " appears twice"));
      }
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") {
      return Unexpected("a string");
    }
    absl::StatusOr<DType> dtype = DTypeFromName(value);
    if (!dtype.ok()) return FailTensor(dtype.status().message());
    entry_.spec.dtype = *dtype;
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kNames;
      return true;
    }
    if (place_ != Place::kNames) return Unexpected("an object");
    if (key_ == "__metadata__") {
      place_ = Place::kMetadata;
      return true;
    }
    if (json_.entries.size() == ModelLayout::kMaxTensors) {
      return Fail(
          absl::StrCat("more than ", ModelLayout::kMaxTensors, " tensors"));
    }
    place_ = Place::kTensor;
    entry_ = SafetensorsEntry();
    entry_.spec.name = key_;
    fields_seen_.clear();
    return true;
  }

  bool key(std::string& value) override {
    if (place_ == Place::kNames && !names_.insert(value).second) {
      return Fail(absl::StrCat("tensor ", Show(value), " appears twice"));
    }
    if (place_ == Place::kTensor) {
      if (value != "dtype" && value != "shape" && value != "data_offsets") {
        return FailTensor(absl::StrCat("unknown field ", Show(value)));
      }
      if (!fields_seen_.insert(value).second) {
        return FailTensor(absl::StrCat("field ", value, " appears twice"));
      }
    }
    key_ = std::move(value);
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      if (fields_seen_.size() != 3) {
        return FailTensor("dtype, shape or data_offsets is missing");
      }
      json_.entries.push_back(std::move(entry_));
    }
    place_ = Place::kNames;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::kTensor || key_ == "dtype") {
      return Unexpected("an array");
    }
    offsets_seen_ = 0;
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && offsets_seen_ != 2) {
      return FailTensor("data_offsets must hold 2 numbers");
    }
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const json::exception&) override {
    return Fail(absl::StrCat("not JSON at byte ", position, " of the header"));
  }

  const absl::Status& status() const { return status_; }
  SafetensorsJson&& TakeResult() && { return std::move(json_); }

 private:
  enum class Place { kStart, kNames, kMetadata, kTensor, kShape, kOffsets };

  static std::string Show(absl::string_view text) {
    return absl::StrCat("'", absl::CHexEscape(text.substr(0, 256)), "'");
  }

  bool Fail(absl::string_view what) {
    status_ = absl::InvalidArgumentError(what);
    return false;
  }
  bool FailTensor(absl::string_view what) {
    return Fail(absl::StrCat("tensor ", Show(entry_.spec.name), ": ", what));
  }
  bool Unexpected(absl::string_view found) {
    switch (place_) {
      case Place::kStart:
        return Fail(absl::StrCat("expected a JSON object, found ", found));
      case Place::kNames:
        return Fail(absl::StrCat("expected an object for ", Show(key_),
                                 ", found ", found));
      case Place::kMetadata:
        return Fail(absl::StrCat("expected a string for metadata ", Show(key_),
                                 ", found ", found));
      default:
        return FailTensor(absl::StrCat("unexpected ", found, " in ", key_));
    }
  }

  bool AddExtent(uint64_t extent) {
    std::vector<int64_t>& shape = entry_.spec.shape;
    if (extent > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return FailTensor(absl::StrCat("extent ", extent, " is over 2^63"));
    }
    if (shape.size() == ModelLayout::kMaxRank) {
      return FailTensor(absl::StrCat("rank is over ", ModelLayout::kMaxRank));
    }
    shape.push_back(static_cast<int64_t>(extent));
    return true;
  }
  bool AddOffset(uint64_t offset) {
    if (offsets_seen_ == 2) {
      return FailTensor("data_offsets must hold 2 numbers");
    }
    (offsets_seen_++ == 0 ? entry_.begin_bytes : entry_.end_bytes) = offset;
    return true;
  }

  Place place_ = Place::kStart;
  std::string key_;  // the last one read
  absl::flat_hash_set<std::string> names_;
  SafetensorsEntry entry_;
  absl::flat_hash_set<std::string> fields_seen_;
  int offsets_seen_ = 0;
  SafetensorsJson json_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<SafetensorsJson> ParseSafetensorsJson(absl::string_view text) {
  // The parser skips a byte order mark and takes a zero byte for the end.
  if (text.empty() || text.front() != '{') {
    return absl::InvalidArgumentError("the header does not start with '{'");
  }
  while (text.back() == ' ') text.remove_suffix(1);
  if (text.back() != '}' || text.find('\0') != text.npos) {
    return absl::InvalidArgumentError(
        "the header holds something else than JSON and padding with spaces");
  }
  HeaderReader reader;
  try {
    if (!json::sax_parse(text.begin(), text.end(), &reader)) {
      return reader.status();
    }
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError("the header cannot be parsed");
  }
  return std::move(reader).TakeResult();
}

}  // namespace koinon
