#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status_matchers.h"

namespace koinon {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

constexpr char kTime[] = "2026-01-02T03:04:05.678Z";

std::string Text(absl::string_view message, std::vector<LogField> fields) {
  return FormatLogLine(LogFormat::kText, kTime, LogLevel::kInfo, message,
                       fields);
}
std::string Json(absl::string_view message, std::vector<LogField> fields) {
  return FormatLogLine(LogFormat::kJson, kTime, LogLevel::kError, message,
                       fields);
}

TEST(LogTest, Text_MessageAndFields_IsOneLine) {
  EXPECT_EQ(
      Text("round closed", {{"job", "digits"}, {"round", 3}, {"ok", true}}),
      "2026-01-02T03:04:05.678Z I round closed job=digits round=3 ok=true");
}

TEST(LogTest, Json_MessageAndFields_KeepsTypes) {
  const json line = json::parse(
      Json("round closed", {{"job", "digits"}, {"round", 3}, {"loss", 0.25}}));
  EXPECT_EQ(line, json({{"time", kTime},
                        {"level", "error"},
                        {"message", "round closed"},
                        {"job", "digits"},
                        {"round", 3},
                        {"loss", 0.25}}));
}

TEST(LogTest, Json_NotANumber_IsAString) {
  const json line = json::parse(
      Json("x", {{"nan", std::numeric_limits<double>::quiet_NaN()},
                 {"inf", std::numeric_limits<double>::infinity()}}));
  EXPECT_EQ(line["nan"], "nan");
  EXPECT_EQ(line["inf"], "inf");
}

TEST(LogTest, Field_Status_IsCodeAndMessage) {
  EXPECT_THAT(Text("failed", {{"error", absl::NotFoundError("no file")}}),
              HasSubstr("error=\"NOT_FOUND: no file\""));
}

TEST(LogTest, Text_ForgedLineOrField_IsEscaped) {
  const std::string line =
      Text("a\nb", {{"name", "x\n2026 E forged"}, {"other", "y round=9"}});
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_THAT(line, HasSubstr("a\\nb"));
  EXPECT_THAT(line, HasSubstr("name=\"x\\n2026 E forged\""));
  EXPECT_THAT(line, HasSubstr("other=\"y round=9\""));
}

TEST(LogTest, Text_TerminalControls_AreEscaped) {
  // ESC, DEL, the one-character CSI (U+009B) and a line separator (U+2028).
  EXPECT_THAT(Text("\x1b[2J\x7f\xc2\x9b\xe2\x80\xa8", {}),
              testing::EndsWith("\\x1b[2J\\x7f\\x9b\\u2028"));
}

TEST(LogTest, Text_QuotesAndBackslashes_AreEscaped) {
  EXPECT_THAT(Text("m", {{"v", "a\"b\\"}}), HasSubstr("v=\"a\\\"b\\\\\""));
  EXPECT_THAT(Text("m", {{"v", ""}}), HasSubstr("v=\"\""));
}

TEST(LogTest, Text_BrokenUtf8_IsShownInHexadecimal) {
  EXPECT_THAT(Text("a\xff\xc3", {}), testing::EndsWith("a\\xff\\xc3"));
}

TEST(LogTest, Json_HostileBytes_StaysOneValidLine) {
  const std::string hostile("\n\t\x1b\x7f\0\"\\\xff\xc3", 9);
  const std::string line = Json(hostile, {{hostile, hostile}});
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_THAT(line, Not(HasSubstr("\x7f")));
  const json parsed = json::parse(line);
  EXPECT_EQ(parsed["message"],
            std::string("\n\t\x1b\x7f\0\"\\\xef\xbf\xbd\xef\xbf\xbd", 13));
}

TEST(LogTest, Text_NonAsciiLetters_StayReadable) {
  EXPECT_THAT(Text("gr\xc3\xbcn", {}), HasSubstr("gr\xc3\xbcn"));
}

TEST(LogTest, Value_OverTheBound_IsCut) {
  const std::string line =
      Text("m", {{"v", std::string(kMaxLogValueBytes + 1, 'x')}});
  EXPECT_THAT(line, HasSubstr("(4097 bytes)"));
  EXPECT_LT(line.size(), kMaxLogValueBytes + 100);
}

TEST(LogTest, LevelFromName_KnownAndUnknown) {
  EXPECT_THAT(LogLevelFromName("warning"), IsOkAndHolds(LogLevel::kWarning));
  EXPECT_THAT(LogLevelFromName("off"), IsOkAndHolds(LogLevel::kOff));
  EXPECT_THAT(LogLevelFromName("loud"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("debug, info, warning, error, off")));
}

TEST(LogTest, Log_AtOrOverTheLevel_WritesToStandardError) {
  InitLogging(LogFormat::kText, LogLevel::kWarning);
  testing::internal::CaptureStderr();
  LogInfo("not this");
  LogWarning("this {} %s", {{"n", 1}});
  InitLogging(LogFormat::kText, LogLevel::kOff);
  LogError("nor this");
  EXPECT_THAT(
      testing::internal::GetCapturedStderr(),
      MatchesRegex("20[0-9-]+T[0-9:]+\\.[0-9]{3}Z W this \\{\\} %s n=1\n"));
}

}  // namespace
}  // namespace koinon
