#include "base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/utf8.h"

namespace koinon {
namespace {

struct LevelName {
  LogLevel level;
  absl::string_view name;
  char letter;
};

// In the order of the enum.
constexpr LevelName kLevels[] = {
    {LogLevel::kDebug, "debug", 'D'},     {LogLevel::kInfo, "info", 'I'},
    {LogLevel::kWarning, "warning", 'W'}, {LogLevel::kError, "error", 'E'},
    {LogLevel::kOff, "off", '-'},
};

std::atomic<LogFormat> log_format{LogFormat::kText};
std::atomic<LogLevel> log_level{LogLevel::kInfo};

// Never destroyed: other threads may log until the process ends.
spdlog::logger& Logger() {
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger(
        "koinon", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->set_level(spdlog::level::trace);
    return made;
  }();
  return *logger;
}

void AppendEscaped(Utf8Char c, absl::string_view bytes, LogFormat format,
                   std::string* line) {
  if (c.code_point == '"' || c.code_point == '\\') {
    absl::StrAppend(line, "\\", bytes);
  } else if (c.code_point == '\n') {
    line->append("\\n");
  } else if (c.code_point == '\t') {
    line->append("\\t");
  } else if (!IsControl(c.code_point)) {
    line->append(bytes.data(), bytes.size());
  } else if (format == LogFormat::kJson || c.code_point > 0xff) {
    absl::StrAppendFormat(line, "\\u%04x", static_cast<int>(c.code_point));
  } else {
    absl::StrAppendFormat(line, "\\x%02x", static_cast<int>(c.code_point));
  }
}

// Bytes that are no UTF-8 are shown in text, and replaced in JSON, which has no
// way to write them.
void AppendBrokenByte(char byte, LogFormat format, std::string* line) {
  if (format == LogFormat::kJson) {
    line->append("\\ufffd");
  } else {
    absl::StrAppendFormat(line, "\\x%02x", static_cast<unsigned char>(byte));
  }
}

std::string Escape(absl::string_view text, LogFormat format) {
  const size_t full_size = text.size();
  text = text.substr(0, kMaxLogValueBytes);
  std::string line;
  while (!text.empty()) {
    const std::optional<Utf8Char> c = FirstUtf8Char(text);
    const size_t size = c.has_value() ? c->size_bytes : 1;
    if (c.has_value()) {
      AppendEscaped(*c, text.substr(0, size), format, &line);
    } else {
      AppendBrokenByte(text[0], format, &line);
    }
    text.remove_prefix(size);
  }
  if (full_size > kMaxLogValueBytes) {
    absl::StrAppend(&line, "... (", full_size, " bytes)");
  }
  return line;
}

std::string Quote(absl::string_view text, LogFormat format) {
  return absl::StrCat("\"", Escape(text, format), "\"");
}

// In text, a value that could be read as several fields stands in quotes.
bool NeedsQuotes(absl::string_view value) {
  return value.empty() || value.find_first_of(" =\"") != value.npos;
}

std::string FormatText(absl::string_view time, LogLevel level,
                       absl::string_view message,
                       absl::Span<const LogField> fields) {
  constexpr LogFormat kFormat = LogFormat::kText;
  std::string line =
      absl::StrCat(time, " ", std::string(1, kLevels[int(level)].letter), " ",
                   Escape(message, kFormat));
  for (const LogField& field : fields) {
    absl::StrAppend(&line, " ", Escape(field.name, kFormat), "=",
                    NeedsQuotes(field.value) ? Quote(field.value, kFormat)
                                             : Escape(field.value, kFormat));
  }
  return line;
}

std::string FormatJson(absl::string_view time, LogLevel level,
                       absl::string_view message,
                       absl::Span<const LogField> fields) {
  constexpr LogFormat kFormat = LogFormat::kJson;
  std::string line = absl::StrCat("{\"time\":", Quote(time, kFormat),
                                  ",\"level\":\"", kLevels[int(level)].name,
                                  "\",\"message\":", Quote(message, kFormat));
  for (const LogField& field : fields) {
    absl::StrAppend(&line, ",", Quote(field.name, kFormat), ":",
                    field.quoted ? Quote(field.value, kFormat) : field.value);
  }
  return line + "}";
}

}  // namespace

LogField::LogField(absl::string_view name, absl::string_view value)
    : name(name), value(value) {}
LogField::LogField(absl::string_view name, const char* value)
    : name(name), value(value) {}
LogField::LogField(absl::string_view name, const std::string& value)
    : name(name), value(value) {}
LogField::LogField(absl::string_view name, bool value)
    : name(name), value(value ? "true" : "false"), quoted(false) {}
// JSON has no infinities and no NaN.
LogField::LogField(absl::string_view name, double value)
    : name(name),
      value(absl::StrFormat("%.9g", value)),
      quoted(!std::isfinite(value)) {}
LogField::LogField(absl::string_view name, const absl::Status& value)
    : name(name), value(value.ToString()) {}

void InitLogging(LogFormat format, LogLevel level) {
  log_format = format;
  log_level = level;
}

absl::StatusOr<LogLevel> LogLevelFromName(absl::string_view name) {
  for (const LevelName& known : kLevels) {
    if (known.name == name) return known.level;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown log level '", Escape(name, LogFormat::kText),
                   "'; known are debug, info, warning, error, off"));
}

void Log(LogLevel level, absl::string_view message,
         std::initializer_list<LogField> fields) {
  if (level < log_level.load() || level == LogLevel::kOff) return;
  const std::string time = absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ",
                                            absl::Now(), absl::UTCTimeZone());
  const std::string line =
      FormatLogLine(log_format, time, level, message,
                    absl::MakeConstSpan(fields.begin(), fields.size()));
  Logger().log(spdlog::level::info,
               spdlog::string_view_t(line.data(), line.size()));
}

std::string FormatLogLine(LogFormat format, absl::string_view time,
                          LogLevel level, absl::string_view message,
                          absl::Span<const LogField> fields) {
  return format == LogFormat::kJson ? FormatJson(time, level, message, fields)
                                    : FormatText(time, level, message, fields);
}

}  // namespace koinon
