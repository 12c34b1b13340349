#include "worker/data/text_tokens.h"

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "worker/data/text.h"

namespace koinon::worker {
namespace {

constexpr size_t kMaxVocabulary = size_t{1} << 16;

absl::StatusOr<TextTokens> DecodeBytes(absl::string_view what,
                                       absl::string_view bytes,
                                       const std::string& alphabet) {
  ABSL_ASSIGN_OR_RETURN(const ByteClasses classes, ClassesOfBytes(alphabet));
  TextTokens tokens;
  tokens.vocabulary =
      static_cast<int64_t>(alphabet.empty() ? classes.size() : alphabet.size());
  tokens.values.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int16_t token = classes[static_cast<uint8_t>(bytes[i])];
    if (token == kNoClass) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: offset %d: expected a byte of the alphabet, found \"%s\"", what,
          i, absl::CHexEscape(bytes.substr(i, 1))));
    }
    tokens.values.push_back(static_cast<uint16_t>(token));
  }
  return tokens;
}

// Calls `take(offset, character)` for each character, until it fails.
template <typename Take>
absl::Status ForEachCharacter(absl::string_view what, absl::string_view text,
                              const Take& take) {
  for (size_t offset = 0; offset < text.size();) {
    const auto next = FirstUtf8Char(text.substr(offset));
    if (!next.has_value()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: offset %d: expected UTF-8, found byte \"%s\"", what, offset,
          absl::CHexEscape(text.substr(offset, 1))));
    }
    ABSL_RETURN_IF_ERROR(take(offset, *next));
    offset += next->size_bytes;
  }
  return absl::OkStatus();
}

absl::Status TooMany(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: expected at most %d different characters, found "
                      "more",
                      what, kMaxVocabulary));
}

using CharacterClasses = std::map<char32_t, uint16_t>;

// As given, in its order.
absl::StatusOr<CharacterClasses> ClassesOfCharacters(
    absl::string_view alphabet) {
  CharacterClasses classes;
  ABSL_RETURN_IF_ERROR(ForEachCharacter(
      "text.alphabet", alphabet, [&](size_t offset, const Utf8Char& c) {
        if (classes.size() == kMaxVocabulary) return TooMany("text.alphabet");
        if (classes.emplace(c.code_point, static_cast<uint16_t>(classes.size()))
                .second) {
          return absl::OkStatus();
        }
        return absl::InvalidArgumentError(absl::StrFormat(
            "text.alphabet: expected each character once, found \"%s\" twice",
            absl::CHexEscape(alphabet.substr(offset, c.size_bytes))));
      }));
  return classes;
}

// The characters of `text`, ascending.
absl::StatusOr<CharacterClasses> FindCharacters(absl::string_view what,
                                                absl::string_view text) {
  CharacterClasses classes;
  ABSL_RETURN_IF_ERROR(
      ForEachCharacter(what, text, [&](size_t, const Utf8Char& c) {
        classes.emplace(c.code_point, uint16_t{0});
        return classes.size() <= kMaxVocabulary ? absl::OkStatus()
                                                : TooMany(what);
      }));
  uint16_t next = 0;
  for (auto& [character, token] : classes) token = next++;
  return classes;
}

absl::StatusOr<TextTokens> DecodeCharacters(absl::string_view what,
                                            absl::string_view text,
                                            const std::string& alphabet) {
  ABSL_ASSIGN_OR_RETURN(const CharacterClasses classes,
                        alphabet.empty() ? FindCharacters(what, text)
                                         : ClassesOfCharacters(alphabet));
  TextTokens tokens;
  tokens.vocabulary = static_cast<int64_t>(classes.size());
  ABSL_RETURN_IF_ERROR(
      ForEachCharacter(what, text, [&](size_t offset, const Utf8Char& c) {
        const auto found = classes.find(c.code_point);
        if (found == classes.end()) {
          return absl::InvalidArgumentError(absl::StrFormat(
              "%s: offset %d: expected a character of the alphabet, found "
              "\"%s\"",
              what, offset,
              absl::Utf8SafeCHexEscape(text.substr(offset, c.size_bytes))));
        }
        tokens.values.push_back(found->second);
        return absl::OkStatus();
      }));
  return tokens;
}

}  // namespace

absl::StatusOr<TextTokens> DecodeTextTokens(absl::string_view what,
                                            absl::string_view bytes,
                                            const TextSource& source,
                                            uint64_t max_bytes) {
  // A token for each byte at most.
  if (bytes.size() > max_bytes / sizeof(uint16_t)) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "%s: expected tokens of at most %d bytes, found %d of %d bytes each",
        what, max_bytes, bytes.size(), sizeof(uint16_t)));
  }
  switch (source.unit()) {
    case TextSource::BYTE:
      return DecodeBytes(what, bytes, source.alphabet());
    case TextSource::CHARACTER:
      return DecodeCharacters(what, bytes, source.alphabet());
    default:
      return absl::InvalidArgumentError(
          absl::StrFormat("text.unit: expected BYTE or CHARACTER, found %d",
                          static_cast<int>(source.unit())));
  }
}

}  // namespace koinon::worker
