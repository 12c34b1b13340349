#ifndef KOINON_TOOLS_CLI_TEXT_H_
#define KOINON_TOOLS_CLI_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace koinon::cli {

// What people read. Everything here is a pure function of its arguments.

// `text` with control characters escaped (newlines and tabs too, as \n and
// \t), so that a name or reason from a peer cannot move the cursor.
std::string Printable(absl::string_view text);

std::string FormatBytes(int64_t bytes);       // "512 B", "1.5 MiB"
std::string FormatSeconds(double seconds);    // "0.42", "63.1"
std::string FormatFraction(double fraction);  // "0.9534"
std::string FormatTime(int64_t unix_ms);      // "2026-01-02 03:04:05", UTC

// "[#####.....]" of `width` characters between the brackets; `fraction` is
// clamped to [0, 1], NaN counts as 0.
std::string ProgressBar(double fraction, size_t width);

// A table with a header and columns as wide as their widest cell. Cells are
// made printable. Not thread-safe.
//
//   TextTable table({{"worker"}, {"cores", TextTable::kRight}});
//   table.AddRow({"worker-1", "16"});
//   std::cout << table.Render();
class TextTable {
 public:
  enum Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = kLeft;
    size_t min_width = 0;  // for tables that are printed row by row
  };

  explicit TextTable(std::vector<Column> columns);
  // Requires one cell for each column.
  void AddRow(std::vector<std::string> cells);

  // All lines, each ended by a newline; no spaces at the ends of lines.
  std::string Render() const;
  // One line without its newline, as wide as the minimum widths say.
  std::string RenderHeader() const;
  std::string RenderRow(absl::Span<const std::string> cells) const;

 private:
  std::string RenderLine(absl::Span<const std::string> cells,
                         absl::Span<const size_t> widths) const;

  const std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_TEXT_H_
