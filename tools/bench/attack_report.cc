#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "tools/bench/attack_bench.h"
#include "tools/bench/json_string.h"

namespace koinon::tools {
namespace {

// Different values of one member, in the order of their first figure.
template <typename T>
std::vector<T> Distinct(absl::Span<const AttackFigure> figures,
                        T AttackFigure::*member) {
  std::vector<T> values;
  for (const AttackFigure& figure : figures) {
    if (std::find(values.begin(), values.end(), figure.*member) ==
        values.end()) {
      values.push_back(figure.*member);
    }
  }
  return values;
}

const AttackFigure* Find(absl::Span<const AttackFigure> figures, size_t f,
                         const std::string& rule, const std::string& attack) {
  for (const AttackFigure& figure : figures) {
    if (figure.f == f && figure.rule == rule && figure.attack == attack) {
      return &figure;
    }
  }
  return nullptr;
}

std::string Cell(const AttackFigure* figure) {
  if (figure == nullptr || !figure->applicable) return "-";
  return absl::StrFormat("%.1f%s", 100 * figure->accuracy,
                         figure->note.empty() ? "" : "*");
}

void AppendNotes(absl::Span<const AttackFigure> figures, size_t f,
                 std::string* out) {
  std::vector<std::string> notes;
  for (const AttackFigure& figure : figures) {
    if (figure.f != f || figure.note.empty()) continue;
    std::string note =
        figure.applicable
            ? absl::StrCat("- \\* ", figure.rule, " under ", figure.attack,
                           " stopped at ", figure.note)
            : absl::StrCat("- ", figure.rule, ": ", figure.note);
    // A rule that cannot be applied says so once, not for each attack.
    if (std::find(notes.begin(), notes.end(), note) == notes.end()) {
      notes.push_back(std::move(note));
    }
  }
  if (!notes.empty()) absl::StrAppend(out, "\n");
  for (const std::string& note : notes) absl::StrAppend(out, note, "\n");
}

std::string CsvText(const std::string& text) {
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

}  // namespace

std::string AttackMarkdown(absl::Span<const AttackFigure> figures) {
  std::string out;
  for (const size_t f : Distinct(figures, &AttackFigure::f)) {
    absl::StrAppend(&out, out.empty() ? "" : "\n", "Attackers: ", f,
                    "\n\n| rule |");
    const auto attacks = Distinct(figures, &AttackFigure::attack);
    for (const std::string& attack : attacks) {
      absl::StrAppend(&out, " ", attack, " |");
    }
    absl::StrAppend(&out, "\n|---|");
    for (size_t i = 0; i < attacks.size(); ++i) absl::StrAppend(&out, "---:|");
    absl::StrAppend(&out, "\n");
    for (const std::string& rule : Distinct(figures, &AttackFigure::rule)) {
      absl::StrAppend(&out, "| ", rule, " |");
      for (const std::string& attack : attacks) {
        absl::StrAppend(&out, " ", Cell(Find(figures, f, rule, attack)), " |");
      }
      absl::StrAppend(&out, "\n");
    }
    AppendNotes(figures, f, &out);
  }
  return out;
}

std::string AttackCsv(absl::Span<const AttackFigure> figures) {
  std::string out = "attackers,rule,attack,accuracy,rounds,note\n";
  for (const AttackFigure& f : figures) {
    absl::StrAppend(&out, f.f, ",", f.rule, ",", f.attack, ",",
                    f.applicable ? absl::StrFormat("%.6g", f.accuracy) : "",
                    ",", f.rounds, ",", CsvText(f.note), "\n");
  }
  return out;
}

std::string AttackJson(absl::Span<const AttackFigure> figures) {
  std::string json = "[";
  for (const AttackFigure& f : figures) {
    absl::StrAppend(&json, json.size() > 1 ? ",\n" : "", R"({"attackers":)",
                    f.f, R"(,"rule":)", JsonString(f.rule), R"(,"attack":)",
                    JsonString(f.attack), R"(,"accuracy":)",
                    f.applicable ? absl::StrFormat("%.6g", f.accuracy) : "null",
                    R"(,"rounds":)", f.rounds, R"(,"note":)",
                    JsonString(f.note), "}");
  }
  return absl::StrCat(json, "]\n");
}

}  // namespace koinon::tools
