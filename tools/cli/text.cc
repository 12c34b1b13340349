#include "tools/cli/text.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/utf8.h"

namespace koinon::cli {

std::string Printable(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::optional<Utf8Char> next = FirstUtf8Char(text);
    const size_t size = next.has_value() ? next->size_bytes : 1;
    if (text[0] == '\n') {
      out += "\\n";
    } else if (text[0] == '\t') {
      out += "\\t";
    } else if (next.has_value() && !IsControl(next->code_point)) {
      absl::StrAppend(&out, text.substr(0, size));
    } else {
      for (const char c : text.substr(0, size)) {
        absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(c));
      }
    }
    text.remove_prefix(size);
  }
  return out;
}

std::string FormatBytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (std::abs(value) >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return absl::StrCat(bytes, " B");
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string FormatSeconds(double seconds) {
  return absl::StrFormat(seconds < 10 ? "%.2f" : "%.1f", seconds);
}

std::string FormatFraction(double fraction) {
  return absl::StrFormat("%.4f", fraction);
}

std::string FormatTime(int64_t unix_ms) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMillis(unix_ms),
                          absl::UTCTimeZone());
}

std::string ProgressBar(double fraction, size_t width) {
  if (!(fraction > 0)) fraction = 0;
  const double clamped = std::min(fraction, 1.0);
  const auto filled =
      static_cast<size_t>(std::floor(clamped * static_cast<double>(width)));
  return absl::StrCat("[", std::string(filled, '#'),
                      std::string(width - filled, '.'), "]");
}

TextTable::TextTable(std::vector<Column> columns)
    : columns_(std::move(columns)) {}

void TextTable::AddRow(std::vector<std::string> cells) {
  for (std::string& cell : cells) cell = Printable(cell);
  rows_.push_back(std::move(cells));
}

std::string TextTable::Render() const {
  std::vector<size_t> widths;
  std::vector<std::string> titles;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = std::max(columns_[c].title.size(), columns_[c].min_width);
    for (const auto& row : rows_) width = std::max(width, row[c].size());
    widths.push_back(width);
    titles.push_back(columns_[c].title);
  }
  std::string out = absl::StrCat(RenderLine(titles, widths), "\n");
  for (const auto& row : rows_) {
    absl::StrAppend(&out, RenderLine(row, widths), "\n");
  }
  return out;
}

std::string TextTable::RenderHeader() const {
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  return RenderRow(titles);
}

std::string TextTable::RenderRow(absl::Span<const std::string> cells) const {
  std::vector<size_t> widths;
  std::vector<std::string> printable;
  for (size_t c = 0; c < columns_.size(); ++c) {
    widths.push_back(std::max(columns_[c].title.size(), columns_[c].min_width));
    printable.push_back(Printable(cells[c]));
  }
  return RenderLine(printable, widths);
}

std::string TextTable::RenderLine(absl::Span<const std::string> cells,
                                  absl::Span<const size_t> widths) const {
  std::string line;
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (c > 0) line += "  ";
    const size_t padding =
        widths[c] > cells[c].size() ? widths[c] - cells[c].size() : 0;
    const std::string spaces(padding, ' ');
    absl::StrAppend(&line, columns_[c].align == kRight ? spaces : "", cells[c],
                    columns_[c].align == kRight ? "" : spaces);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

}  // namespace koinon::cli
