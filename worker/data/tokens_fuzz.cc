#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "worker/data/text_tokens.h"
#include "worker/data/tokens.h"

namespace koinon::worker {
namespace {

// Any text is refused with a reason, or gives tokens of its vocabulary.
void CheckText(absl::string_view text, TextSource::Unit unit) {
  TextSource source;
  source.set_unit(unit);
  const auto tokens = DecodeTextTokens("fuzz", text, source, 1 << 20);
  if (!tokens.ok()) {
    KOINON_CHECK(!tokens.status().message().empty());
    return;
  }
  KOINON_CHECK(tokens->values.size() <= text.size());
  for (uint16_t token : tokens->values) {
    KOINON_CHECK(token < tokens->vocabulary);
  }
}

// Any file of tokens is refused with a reason, or has them all.
void CheckFile(absl::Span<const uint8_t> file, TokenSource::Header header) {
  TokenSource source;
  source.set_header(header);
  const auto extent = LocateTokens(source, file, file.size());
  if (!extent.ok()) {
    KOINON_CHECK(!extent.status().message().empty());
    return;
  }
  KOINON_CHECK(extent->offset_bytes % sizeof(uint16_t) == 0);
  KOINON_CHECK(extent->offset_bytes + extent->count * sizeof(uint16_t) ==
               file.size());
}

}  // namespace
}  // namespace koinon::worker

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace worker = koinon::worker;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  worker::CheckText(text, worker::TextSource::BYTE);
  worker::CheckText(text, worker::TextSource::CHARACTER);
  const absl::Span<const uint8_t> file(data, size);
  worker::CheckFile(file, worker::TokenSource::NONE);
  worker::CheckFile(file, worker::TokenSource::LLM_C);
  return 0;
}
