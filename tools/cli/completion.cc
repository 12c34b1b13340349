#include "tools/cli/completion.h"

#include <CLI/CLI.hpp>
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace koinon::cli {
namespace {

// Calls `visit` for every command with the words that lead to it: "" for the
// root, " bench" and " bench aggregate" below.
void Visit(
    const CommandTree& tree, const std::string& place,
    const std::function<void(const CommandTree&, const std::string&)>& visit) {
  visit(tree, place);
  for (const CommandTree& child : tree.commands) {
    Visit(child, absl::StrCat(place, " ", child.name), visit);
  }
}

std::string SingleQuoted(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

// The shell's loop that walks the words so far to the command they name: the
// arms of a case over "$place $word".
std::string PlaceArms(const CommandTree& root) {
  std::string arms;
  Visit(root, "", [&](const CommandTree&, const std::string& place) {
    if (place.empty()) return;
    absl::StrAppend(&arms, "      '", place, "') place='", place, "' ;;\n");
  });
  return arms;
}

std::string BashScript(const CommandTree& root) {
  std::string out = absl::StrCat(
      "_koinon() {\n  local cur=\"${COMP_WORDS[COMP_CWORD]}\" place='' words=''"
      " word\n  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    case \"$place $word\" in\n",
      PlaceArms(root), "    esac\n  done\n  case \"$place\" in\n");
  Visit(root, "", [&](const CommandTree& tree, const std::string& place) {
    std::vector<std::string> words;
    for (const CommandTree& child : tree.commands) words.push_back(child.name);
    for (const auto& flag : tree.flags) words.push_back(flag.name);
    absl::StrAppend(&out, "    '", place, "') words='",
                    absl::StrJoin(words, " "), "' ;;\n");
  });
  absl::StrAppend(
      &out,
      "  esac\n  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
      "  if [[ ${#COMPREPLY[@]} -eq 0 ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n  fi\n}\n"
      "complete -o filenames -F _koinon koinon\n");
  return out;
}

// A colon separates a word from its description.
std::string ZshItem(absl::string_view name, absl::string_view description) {
  return SingleQuoted(absl::StrCat(absl::StrReplaceAll(name, {{":", "\\:"}}),
                                   ":", description));
}

std::string ZshScript(const CommandTree& root) {
  std::string out = absl::StrCat(
      "#compdef koinon\n_koinon() {\n  local place='' word\n"
      "  local -a commands flags\n"
      "  for word in \"${(@)words[2,CURRENT-1]}\"; do\n"
      "    case \"$place $word\" in\n",
      PlaceArms(root), "    esac\n  done\n  case \"$place\" in\n");
  Visit(root, "", [&](const CommandTree& tree, const std::string& place) {
    absl::StrAppend(&out, "    '", place, "')\n      commands=(");
    for (const CommandTree& child : tree.commands) {
      absl::StrAppend(&out, "\n        ",
                      ZshItem(child.name, child.description));
    }
    absl::StrAppend(&out, ")\n      flags=(");
    for (const auto& flag : tree.flags) {
      absl::StrAppend(&out, "\n        ", ZshItem(flag.name, flag.description));
    }
    absl::StrAppend(&out, ") ;;\n");
  });
  absl::StrAppend(&out,
                  "  esac\n  if [[ \"$PREFIX\" == -* ]]; then\n"
                  "    _describe 'option' flags\n"
                  "  elif (( ${#commands} )); then\n"
                  "    _describe 'command' commands\n"
                  "  else\n    _files\n  fi\n}\n"
                  "compdef _koinon koinon\n");
  return out;
}

std::string FishScript(const CommandTree& root) {
  std::string out = "complete -c koinon -f\n";
  Visit(root, "", [&](const CommandTree& tree, const std::string& place) {
    std::string condition =
        place.empty() ? "__fish_use_subcommand"
                      : absl::StrCat("__fish_seen_subcommand_from ", tree.name);
    // A group's own words stop once one of its commands is there.
    if (!place.empty() && !tree.commands.empty()) {
      absl::StrAppend(&condition, "; and not __fish_seen_subcommand_from");
      for (const auto& child : tree.commands) {
        absl::StrAppend(&condition, " ", child.name);
      }
    }
    const std::string start =
        absl::StrCat("complete -c koinon -n ", SingleQuoted(condition));
    for (const CommandTree& child : tree.commands) {
      absl::StrAppend(&out, start, " -a ", child.name, " -d ",
                      SingleQuoted(child.description), "\n");
    }
    for (const auto& flag : tree.flags) {
      absl::StrAppend(&out, start, " -l ", flag.name.substr(2),
                      flag.takes_value ? " -r -F" : "", " -d ",
                      SingleQuoted(flag.description), "\n");
    }
    if (!place.empty() && tree.commands.empty()) {
      absl::StrAppend(&out, start, " -F\n");
    }
  });
  return out;
}

}  // namespace

CommandTree TreeOf(const CLI::App& app) {
  CommandTree tree{app.get_name(), app.get_description(), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      tree.flags.push_back({absl::StrCat("--", name), option->get_description(),
                            option->get_items_expected_max() > 0});
    }
  }
  for (const CLI::App* child :
       app.get_subcommands(std::function<bool(const CLI::App*)>())) {
    if (child->get_group().empty()) continue;  // not for people
    tree.commands.push_back(TreeOf(*child));
  }
  return tree;
}

absl::StatusOr<std::string> CompletionScript(const CommandTree& root,
                                             absl::string_view shell) {
  if (shell == "bash") return BashScript(root);
  if (shell == "zsh") return ZshScript(root);
  if (shell == "fish") return FishScript(root);
  return absl::InvalidArgumentError(absl::StrCat(
      "no completion for the shell \"", shell, "\": there is bash, zsh, fish"));
}

}  // namespace koinon::cli
