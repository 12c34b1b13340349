#ifndef KOINON_TOOLS_BENCH_JSON_STRING_H_
#define KOINON_TOOLS_BENCH_JSON_STRING_H_

#include <string>

#include "absl/strings/string_view.h"

namespace koinon::tools {

// `text` as a JSON string, with its quotes.
std::string JsonString(absl::string_view text);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_JSON_STRING_H_
