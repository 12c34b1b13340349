#include "tools/cli/text.h"

#include <gtest/gtest.h>

#include <cmath>

namespace koinon::cli {
namespace {

TEST(Printable, ControlCharacters_AreEscaped) {
  EXPECT_EQ(Printable("a\x1b[2Jb\n\t\x7f"), "a\\x1b[2Jb\\n\\t\\x7f");
}

TEST(Printable, EightBitControlsAndBrokenUtf8_AreEscaped) {
  EXPECT_EQ(Printable("\xc2\x9b"
                      "2J"),
            "\\xc2\\x9b2J");
  EXPECT_EQ(Printable("\xff"
                      "a"),
            "\\xffa");
}

TEST(Printable, Utf8_StaysAsItIs) {
  EXPECT_EQ(Printable("\xc3\xa9"), "\xc3\xa9");
}

TEST(FormatBytes, EachUnit_HasOneDecimal) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(int64_t{3} << 30), "3.0 GiB");
}

TEST(FormatTime, UnixMilliseconds_AreUtc) {
  EXPECT_EQ(FormatTime(86'400'000), "1970-01-02 00:00:00");
}

TEST(ProgressBar, Fractions_AreClamped) {
  EXPECT_EQ(ProgressBar(0, 4), "[....]");
  EXPECT_EQ(ProgressBar(0.5, 4), "[##..]");
  EXPECT_EQ(ProgressBar(1, 4), "[####]");
  EXPECT_EQ(ProgressBar(7, 4), "[####]");
  EXPECT_EQ(ProgressBar(-1, 4), "[....]");
  EXPECT_EQ(ProgressBar(std::nan(""), 4), "[....]");
}

TEST(TextTable, Columns_AreAsWideAsTheirWidestCell) {
  TextTable table({{"worker"}, {"cores", TextTable::kRight}});
  table.AddRow({"a-long-name", "2"});
  table.AddRow({"b", "128"});
  EXPECT_EQ(table.Render(),
            "worker       cores\n"
            "a-long-name      2\n"
            "b              128\n");
}

TEST(TextTable, EmptyLastCells_LeaveNoSpaces) {
  TextTable table({{"job"}, {"reason"}});
  table.AddRow({"digits", ""});
  EXPECT_EQ(table.Render(), "job     reason\ndigits\n");
}

TEST(TextTable, HostileCell_CannotMoveTheCursor) {
  TextTable table({{"job"}});
  table.AddRow({"\x1b[1A"});
  EXPECT_EQ(table.Render(), "job\n\\x1b[1A\n");
}

TEST(TextTable, RowByRow_UsesTheMinimumWidths) {
  const TextTable table({{"round", TextTable::kRight, 7}, {"loss"}});
  EXPECT_EQ(table.RenderHeader(), "  round  loss");
  EXPECT_EQ(table.RenderRow({"12", "0.5"}), "     12  0.5");
}

}  // namespace
}  // namespace koinon::cli
