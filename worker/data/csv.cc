#include "worker/data/csv.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

constexpr size_t kMaxColumns = 100'000;
constexpr absl::string_view kUtf8ByteOrderMark = "\xef\xbb\xbf";

std::string Quote(absl::string_view text) {
  constexpr size_t kShown = 40;
  return absl::StrCat("\"", absl::Utf8SafeCEscape(text.substr(0, kShown)),
                      text.size() > kShown ? "...\"" : "\"");
}

// Cuts text into rows of cells.
class RowReader {
 public:
  RowReader(absl::string_view what, absl::string_view bytes, char delimiter)
      : what_(what), rest_(bytes), delimiter_(delimiter) {
    absl::ConsumePrefix(&rest_, kUtf8ByteOrderMark);
  }

  // Where the latest row starts, from 1.
  int64_t line() const { return row_line_; }

  // The next row that is not blank; false at the end.
  absl::StatusOr<bool> Next(std::vector<std::string>* cells) {
    SkipBlankLines();
    if (rest_.empty()) return false;
    cells->clear();
    row_line_ = line_;
    bool more = true;
    while (more) {
      if (cells->size() == kMaxColumns) {
        return Bad(absl::StrCat("at most ", kMaxColumns, " columns"), "more");
      }
      ABSL_ASSIGN_OR_RETURN(std::string cell, TakeCell());
      cells->push_back(std::move(cell));
      more = !rest_.empty() && rest_[0] == delimiter_;
      if (more) rest_.remove_prefix(1);
    }
    TakeLineEnd();
    return true;
  }

 private:
  void SkipBlankLines() {
    while (AtLineEnd() && !rest_.empty()) TakeLineEnd();
  }
  bool AtLineEnd() const {
    return rest_.empty() || rest_[0] == '\n' || rest_.substr(0, 2) == "\r\n";
  }
  void TakeLineEnd() {
    if (absl::ConsumePrefix(&rest_, "\r\n") ||
        absl::ConsumePrefix(&rest_, "\n")) {
      ++line_;
    }
  }

  absl::StatusOr<std::string> TakeCell() {
    if (absl::ConsumePrefix(&rest_, "\"")) return TakeQuotedCell();
    size_t end = 0;
    while (end < rest_.size() && rest_[end] != delimiter_ &&
           rest_[end] != '\n') {
      ++end;
    }
    // Also takes the CR of a CRLF.
    std::string cell(absl::StripAsciiWhitespace(rest_.substr(0, end)));
    rest_.remove_prefix(end);
    return cell;
  }

  absl::StatusOr<std::string> TakeQuotedCell() {
    std::string cell;
    while (true) {
      const size_t quote = rest_.find('"');
      if (quote == absl::string_view::npos) {
        return Bad("the closing quote of a cell", "the end of the file");
      }
      line_ += std::count(rest_.begin(), rest_.begin() + quote, '\n');
      absl::StrAppend(&cell, rest_.substr(0, quote));
      rest_.remove_prefix(quote + 1);
      if (!absl::ConsumePrefix(&rest_, "\"")) break;
      cell.push_back('"');
    }
    if (!AtLineEnd() && rest_[0] != delimiter_) {
      return Bad("a delimiter or a line end after a quoted cell",
                 Quote(rest_.substr(0, 1)));
    }
    return cell;
  }

  absl::Status Bad(absl::string_view expected, absl::string_view found) const {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: line %d: expected %s, found %s", what_, row_line_,
                        expected, found));
  }

  const absl::string_view what_;
  absl::string_view rest_;
  const char delimiter_;
  int64_t line_ = 1;
  int64_t row_line_ = 1;
};

// Turns rows into a table, column by column as the source says.
class TableBuilder {
 public:
  TableBuilder(absl::string_view what, const CsvSource& source,
               const std::string& group_column, uint64_t max_bytes)
      : what_(what),
        source_(source),
        group_column_(group_column),
        max_bytes_(max_bytes) {}

  // Decides what each column is for. `names` are all columns.
  absl::Status SetColumns(std::vector<std::string> names) {
    names_ = std::move(names);
    roles_.assign(names_.size(), Role::kFeature);
    ABSL_RETURN_IF_ERROR(Assign(source_.label(), "label", Role::kLabel));
    if (!group_column_.empty()) {
      ABSL_RETURN_IF_ERROR(Assign(group_column_, "partition", Role::kGroup));
    }
    for (const std::string& name : source_.ignore()) {
      ABSL_RETURN_IF_ERROR(Assign(name, "ignored", Role::kIgnored));
    }
    for (size_t c = 0; c < names_.size(); ++c) {
      if (roles_[c] == Role::kFeature) table_.columns.push_back(names_[c]);
    }
    if (!table_.columns.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(what_,
                     ": expected at least one feature column, found "
                     "none"));
  }

  absl::Status AddRow(int64_t line, const std::vector<std::string>& cells) {
    line_ = line;
    if (cells.size() != names_.size()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: line %d: expected %d columns, found %d", what_,
                          line, names_.size(), cells.size()));
    }
    if (MustDrop(cells)) {
      ++table_.dropped_rows;
      return absl::OkStatus();
    }
    for (size_t c = 0; c < cells.size(); ++c) {
      ABSL_RETURN_IF_ERROR(AddCell(c, cells[c]));
    }
    if (table_.features.values.size() > max_bytes_ / sizeof(float)) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "%s: line %d: the features so far take more than max_bytes (%d)",
          what_, line, max_bytes_));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<CsvTable> Finish() && {
    if (table_.labels.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: expected rows, found none (%d dropped for missing values)",
          what_, table_.dropped_rows));
    }
    table_.features.shape = {static_cast<int64_t>(table_.labels.size()),
                             static_cast<int64_t>(table_.columns.size())};
    ABSL_RETURN_IF_ERROR(FillMissing());
    return std::move(table_);
  }

 private:
  enum class Role { kFeature, kLabel, kGroup, kIgnored };

  absl::Status Assign(const std::string& name, absl::string_view use,
                      Role role) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) {
      constexpr size_t kShown = 100;
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: %s column %s: no such column; the table has: %s%s", what_, use,
          Quote(name),
          absl::Utf8SafeCEscape(absl::StrJoin(
              names_.begin(), names_.begin() + std::min(kShown, names_.size()),
              ", ")),
          names_.size() > kShown ? ", ..." : ""));
    }
    Role& slot = roles_[found - names_.begin()];
    if (slot != Role::kFeature ||
        std::find(found + 1, names_.end(), name) != names_.end()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: %s column %s: named twice, in the table or the configuration",
          what_, use, Quote(name)));
    }
    slot = role;
    return absl::OkStatus();
  }

  bool IsMissing(const std::string& cell) const {
    return std::find(source_.missing().begin(), source_.missing().end(),
                     cell) != source_.missing().end();
  }

  bool MustDrop(const std::vector<std::string>& cells) const {
    const bool drop_for_features =
        source_.missing_values() == CsvSource::DROP_ROW;
    for (size_t c = 0; c < cells.size(); ++c) {
      const bool matters = roles_[c] == Role::kLabel ||
                           (roles_[c] == Role::kFeature && drop_for_features);
      if (matters && IsMissing(cells[c])) return true;
    }
    return false;
  }

  absl::Status AddCell(size_t column, const std::string& cell) {
    switch (roles_[column]) {
      case Role::kIgnored:
        return absl::OkStatus();
      case Role::kGroup:
        table_.groups.push_back(cell);
        return absl::OkStatus();
      case Role::kLabel: {
        ABSL_ASSIGN_OR_RETURN(const float label, ParseLabel(column, cell));
        table_.labels.push_back(label);
        return absl::OkStatus();
      }
      case Role::kFeature:
        break;
    }
    float value = 0;
    if (IsMissing(cell)) {
      missing_.push_back(table_.features.values.size());
    } else {
      ABSL_ASSIGN_OR_RETURN(value, ParseNumber(column, cell));
    }
    table_.features.values.push_back(value);
    return absl::OkStatus();
  }

  absl::StatusOr<float> ParseNumber(size_t column,
                                    const std::string& cell) const {
    float value = 0;
    if (!absl::SimpleAtof(cell, &value) || !std::isfinite(value)) {
      return BadCell(column, "a finite number", cell);
    }
    return value;
  }

  absl::StatusOr<float> ParseLabel(size_t column,
                                   const std::string& cell) const {
    if (source_.classes().empty()) return ParseNumber(column, cell);
    const auto found =
        std::find(source_.classes().begin(), source_.classes().end(), cell);
    if (found == source_.classes().end()) {
      return BadCell(
          column,
          absl::StrCat("one of ", absl::StrJoin(source_.classes(), ", ")),
          cell);
    }
    return static_cast<float>(found - source_.classes().begin());
  }

  absl::Status BadCell(size_t column, absl::string_view expected,
                       const std::string& found) const {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: line %d, column %s: expected %s, found %s", what_,
                        line_, Quote(names_[column]), expected, Quote(found)));
  }

  // Puts each column's mean where a value is missing.
  absl::Status FillMissing() {
    if (missing_.empty()) return absl::OkStatus();
    std::vector<float>& values = table_.features.values;
    const size_t width = table_.columns.size();
    for (size_t at : missing_) values[at] = std::nanf("");
    std::vector<double> sums(width, 0);
    std::vector<int64_t> counts(width, 0);
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) continue;
      sums[i % width] += values[i];
      ++counts[i % width];
    }
    for (size_t at : missing_) {
      const size_t column = at % width;
      if (counts[column] == 0) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "%s: column %s: expected at least one value to take the mean of, "
            "found only missing ones",
            what_, Quote(table_.columns[column])));
      }
      values[at] = static_cast<float>(sums[column] / counts[column]);
    }
    return absl::OkStatus();
  }

  const absl::string_view what_;
  const CsvSource& source_;
  const std::string& group_column_;
  const uint64_t max_bytes_;

  std::vector<std::string> names_;
  std::vector<Role> roles_;  // parallel to names_
  CsvTable table_;
  std::vector<size_t> missing_;  // places in table_.features.values
  int64_t line_ = 0;
};

absl::StatusOr<char> DelimiterOf(const CsvSource& source) {
  if (source.delimiter().empty()) return ',';
  const char c = source.delimiter()[0];
  if (source.delimiter().size() != 1 || c == '"' || c == '\n' || c == '\r') {
    return absl::InvalidArgumentError(absl::StrCat(
        "csv.delimiter: expected one character that is no quote or line end, "
        "found ",
        Quote(source.delimiter())));
  }
  return c;
}

std::vector<std::string> NumberedColumns(size_t count) {
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i) names.push_back(absl::StrCat(i));
  return names;
}

}  // namespace

absl::StatusOr<CsvTable> DecodeCsv(absl::string_view what,
                                   absl::string_view bytes,
                                   const CsvSource& source,
                                   const std::string& group_column,
                                   uint64_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(const char delimiter, DelimiterOf(source));
  RowReader rows(what, bytes, delimiter);
  TableBuilder table(what, source, group_column, max_bytes);
  std::vector<std::string> cells;
  ABSL_ASSIGN_OR_RETURN(bool more, rows.Next(&cells));
  if (!more) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": expected a table, found an empty file"));
  }
  const bool header = !source.has_header() || source.header();
  ABSL_RETURN_IF_ERROR(
      table.SetColumns(header ? cells : NumberedColumns(cells.size())));
  if (header) {
    ABSL_ASSIGN_OR_RETURN(more, rows.Next(&cells));
  }
  while (more) {
    ABSL_RETURN_IF_ERROR(table.AddRow(rows.line(), cells));
    ABSL_ASSIGN_OR_RETURN(more, rows.Next(&cells));
  }
  return std::move(table).Finish();
}

}  // namespace koinon::worker
