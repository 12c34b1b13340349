#ifndef KOINON_BASE_LOG_H_
#define KOINON_BASE_LOG_H_

#include <cstddef>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace koinon {

// Structured logging over spdlog, to standard error. One event is one line: a
// constant message and named fields.
//
//   LogInfo("round closed", {{"job", job}, {"round", round}, {"updates", n}});
//
// Text:  2026-01-02T03:04:05.678Z I round closed job=digits round=3 updates=8
// JSON:  {"time":"...","level":"info","message":"round
// closed","job":"digits"...
//
// Control characters in messages and fields are escaped, so that no peer can
// forge a line, and values over kMaxLogValueBytes are cut. Never log secrets,
// data, or update values. Thread-safe.
enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };
enum class LogFormat { kText, kJson };

inline constexpr size_t kMaxLogValueBytes = 4096;

struct LogField {
  LogField(absl::string_view name, absl::string_view value);
  LogField(absl::string_view name, const char* value);
  LogField(absl::string_view name, const std::string& value);
  LogField(absl::string_view name, bool value);
  LogField(absl::string_view name, double value);
  LogField(absl::string_view name, const absl::Status& value);
  template <typename Integer>
  requires std::is_integral_v<Integer> LogField(absl::string_view name,
                                                Integer value)
      : name(name), value(std::to_string(value)), quoted(false) {}

  std::string name;
  std::string value;
  bool quoted = true;  // a JSON string, not a number or a boolean
};

// Once, early in main(). INVALID_ARGUMENT never; without it: text, info.
void InitLogging(LogFormat format, LogLevel level);
// "debug", "info", "warning", "error", "off"; INVALID_ARGUMENT lists them.
absl::StatusOr<LogLevel> LogLevelFromName(absl::string_view name);

void Log(LogLevel level, absl::string_view message,
         std::initializer_list<LogField> fields = {});
inline void LogDebug(absl::string_view m,
                     std::initializer_list<LogField> f = {}) {
  Log(LogLevel::kDebug, m, f);
}
inline void LogInfo(absl::string_view m,
                    std::initializer_list<LogField> f = {}) {
  Log(LogLevel::kInfo, m, f);
}
inline void LogWarning(absl::string_view m,
                       std::initializer_list<LogField> f = {}) {
  Log(LogLevel::kWarning, m, f);
}
inline void LogError(absl::string_view m,
                     std::initializer_list<LogField> f = {}) {
  Log(LogLevel::kError, m, f);
}

// The line that Log would write, without the newline. For tests.
std::string FormatLogLine(LogFormat format, absl::string_view time,
                          LogLevel level, absl::string_view message,
                          absl::Span<const LogField> fields);

}  // namespace koinon

#endif  // KOINON_BASE_LOG_H_
