#include "worker/data/csv.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kLimit = 1 << 20;

CsvSource Source(const std::string& label = "y") {
  CsvSource source;
  source.set_label(label);
  return source;
}

absl::StatusOr<CsvTable> Decode(absl::string_view text,
                                const CsvSource& source = Source(),
                                const std::string& group = "") {
  return DecodeCsv("f.csv", text, source, group, kLimit);
}

TEST(DecodeCsv, Header_NamesFeaturesAndLabel) {
  ASSERT_OK_AND_ASSIGN(const CsvTable table,
                       Decode("a,y,b\n1,0,2.5\n-3e2, 1 ,4\n"));
  EXPECT_THAT(table.columns, ElementsAre("a", "b"));
  EXPECT_THAT(table.features.shape, ElementsAre(2, 2));
  EXPECT_THAT(table.features.values, ElementsAre(1, 2.5, -300, 4));
  EXPECT_THAT(table.labels, ElementsAre(0, 1));
}

TEST(DecodeCsv, NoHeader_NumbersTheColumns) {
  CsvSource source = Source("2");
  source.set_header(false);
  ASSERT_OK_AND_ASSIGN(const CsvTable table, Decode("1,2,0\n3,4,1", source));
  EXPECT_THAT(table.columns, ElementsAre("0", "1"));
  EXPECT_THAT(table.features.values, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(table.labels, ElementsAre(0, 1));
}

TEST(DecodeCsv, QuotedCells_MayHoldDelimitersQuotesAndLineEnds) {
  CsvSource source = Source("the \"label\", here");
  source.add_classes("two\nlines");
  ASSERT_OK_AND_ASSIGN(
      const CsvTable table,
      Decode("a,\"the \"\"label\"\", here\"\r\n\"7\",\"two\nlines\"\r\n",
             source));
  EXPECT_THAT(table.features.values, ElementsAre(7));
  EXPECT_THAT(table.labels, ElementsAre(0));
}

TEST(DecodeCsv, ByteOrderMarkCrlfBlankLinesAndDelimiter_AreUnderstood) {
  CsvSource source = Source();
  source.set_delimiter(";");
  ASSERT_OK_AND_ASSIGN(const CsvTable table,
                       Decode("\xef\xbb\xbf"
                              "a;y\r\n\r\n1;0\r\n\n2;1\r\n\r\n",
                              source));
  EXPECT_THAT(table.columns, ElementsAre("a"));
  EXPECT_THAT(table.features.values, ElementsAre(1, 2));
}

TEST(DecodeCsv, Classes_MapTextsToIndices) {
  CsvSource source = Source();
  source.add_classes("cat");
  source.add_classes("dog");
  ASSERT_OK_AND_ASSIGN(const CsvTable table,
                       Decode("a,y\n1,dog\n2,cat\n", source));
  EXPECT_THAT(table.labels, ElementsAre(1, 0));
  EXPECT_THAT(Decode("a,y\n1,cow\n", source),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("line 2, column \"y\": expected one of cat, "
                                 "dog, found \"cow\"")));
}

TEST(DecodeCsv, GroupAndIgnoredColumns_AreNoFeatures) {
  CsvSource source = Source();
  source.add_ignore("id");
  ASSERT_OK_AND_ASSIGN(
      const CsvTable table,
      Decode("id,site,a,y\nx7,north,1,0\nx8,south,2,1\n", source, "site"));
  EXPECT_THAT(table.columns, ElementsAre("a"));
  EXPECT_THAT(table.groups, ElementsAre("north", "south"));
}

TEST(DecodeCsv, DeclaredMissingValues_DropTheRow) {
  CsvSource source = Source();
  source.add_missing("");
  source.add_missing("NA");
  ASSERT_OK_AND_ASSIGN(const CsvTable table,
                       Decode("a,b,y\n1,NA,0\n2,3,1\n,4,0\n5,6,\n", source));
  EXPECT_THAT(table.features.values, ElementsAre(2, 3));
  EXPECT_EQ(table.dropped_rows, 3);
}

TEST(DecodeCsv, DeclaredMissingValues_TakeTheColumnsMean) {
  CsvSource source = Source();
  source.add_missing("?");
  source.set_missing_values(CsvSource::COLUMN_MEAN);
  ASSERT_OK_AND_ASSIGN(const CsvTable table,
                       Decode("a,b,y\n1,?,0\n3,8,1\n?,4,0\n9,9,?\n", source));
  EXPECT_THAT(table.features.values, ElementsAre(1, 6, 3, 8, 2, 4));
  EXPECT_EQ(table.dropped_rows, 1);
  EXPECT_THAT(
      Decode("a,b,y\n1,?,0\n", source),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("column \"b\"")));
}

TEST(DecodeCsv, UndeclaredMissingValue_IsRefusedWithLineAndColumn) {
  EXPECT_THAT(Decode("age,y\n30,1\n\n,0\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("f.csv: line 4, column \"age\": expected a "
                                 "finite number, found \"\"")));
}

TEST(DecodeCsv, CellsThatAreNoNumber_AreRefused) {
  for (const char* cell : {"x", "1 2", "nan", "inf", "1e99", "0x"}) {
    EXPECT_THAT(Decode(absl::StrCat("a,y\n", cell, ",0\n")),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("line 2, column \"a\"")))
        << cell;
  }
}

TEST(DecodeCsv, UnequalRows_AreRefusedWithTheLine) {
  EXPECT_THAT(Decode("a,y\n1,0\n1,0,7\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("line 3: expected 2 columns, found 3")));
}

TEST(DecodeCsv, LinesAreCountedThroughQuotedLineEnds) {
  CsvSource source = Source();
  source.add_ignore("note");
  EXPECT_THAT(
      Decode("note,a,y\n\"one\ntwo\",1,0\nx,bad,0\n", source),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("line 4")));
}

TEST(DecodeCsv, UnknownColumn_ListsThoseThereAre) {
  EXPECT_THAT(Decode("a,b\n1,2\n", Source("label")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("label column \"label\": no such column; the "
                                 "table has: a, b")));
  EXPECT_THAT(Decode("a,y\n1,2\n", Source(), "site"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("partition column \"site\"")));
}

TEST(DecodeCsv, ColumnWithTwoUses_IsRefused) {
  CsvSource source = Source();
  source.add_ignore("y");
  EXPECT_THAT(
      Decode("a,y\n1,2\n", source),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("named twice")));
  EXPECT_THAT(
      Decode("a,y,y\n1,2,3\n"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("named twice")));
}

TEST(DecodeCsv, BadQuoting_IsRefused) {
  EXPECT_THAT(Decode("a,y\n\"1,0\n2,1\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("line 2: expected the closing quote")));
  EXPECT_THAT(Decode("a,y\n\"1\"x,0\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("after a quoted cell, found \"x\"")));
}

TEST(DecodeCsv, NothingToReadOrToLearnFrom_IsRefused) {
  EXPECT_THAT(Decode(""), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("empty file")));
  EXPECT_THAT(Decode("a,y\n"), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("expected rows")));
  EXPECT_THAT(Decode("y\n1\n"), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("feature column")));
}

TEST(DecodeCsv, Bounds_AreKept) {
  EXPECT_THAT(
      DecodeCsv("f.csv", "a,b,y\n1,2,0\n3,4,1\n", Source(), "", 12),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("line 3")));
  EXPECT_THAT(Decode(std::string(200'000, ',')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("at most 100000 columns")));
}

TEST(DecodeCsv, BadDelimiter_IsRefused) {
  CsvSource source = Source();
  source.set_delimiter("::");
  EXPECT_THAT(
      Decode("a,y\n1,2\n", source),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("csv.delimiter")));
}

}  // namespace
}  // namespace koinon::worker
