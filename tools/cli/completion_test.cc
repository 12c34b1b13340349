#include "tools/cli/completion.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"

namespace koinon::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

CommandTree Tree() {
  return CommandTree{
      "koinon",
      "The command.",
      {{"--help", "Helps", false}},
      {{"submit", "Submits a job's file", {{"--json", "JSON", false}}, {}},
       {"bench",
        "Measures",
        {},
        {{"train", "One worker", {{"--threads", "How many", true}}, {}}}}}};
}

// What bash offers after the given words, the last of them incomplete.
std::string Complete(const std::string& words, int count) {
  const std::string dir = ::testing::TempDir();
  const std::string path = absl::StrCat(dir, "/completion.bash");
  std::ofstream(path) << *CompletionScript(Tree(), "bash");
  const std::string command = absl::StrCat(
      "cd ", dir, " && bash -c 'source ", path, "; COMP_WORDS=(", words,
      "); COMP_CWORD=", count, "; _koinon; echo \"${COMPREPLY[*]}\"'");
  FILE* pipe = popen(command.c_str(), "r");
  std::string out;
  char buffer[256];
  while (fgets(buffer, sizeof buffer, pipe) != nullptr) out += buffer;
  EXPECT_EQ(pclose(pipe), 0);
  return out;
}

TEST(BashCompletion, FirstWord_OffersCommands) {
  EXPECT_EQ(Complete("koinon \"\"", 1), "submit bench --help\n");
  EXPECT_EQ(Complete("koinon b", 1), "bench\n");
}

TEST(BashCompletion, AfterACommand_OffersItsFlags) {
  EXPECT_EQ(Complete("koinon submit --", 2), "--json\n");
}

TEST(BashCompletion, InAGroup_OffersItsCommands) {
  EXPECT_EQ(Complete("koinon bench \"\"", 2), "train\n");
  EXPECT_EQ(Complete("koinon bench train --t", 3), "--threads\n");
}

TEST(BashCompletion, NothingFits_OffersFiles) {
  EXPECT_EQ(Complete("koinon submit completion.b", 2), "completion.bash\n");
}

TEST(CompletionScript, ZshAndFish_QuoteDescriptions) {
  EXPECT_THAT(*CompletionScript(Tree(), "zsh"),
              AllOf(HasSubstr("#compdef koinon"),
                    HasSubstr(R"('submit:Submits a job'\''s file')")));
  EXPECT_THAT(*CompletionScript(Tree(), "fish"),
              AllOf(HasSubstr(R"(-a submit -d 'Submits a job'\''s file')"),
                    HasSubstr("seen_subcommand_from train' -l threads -r")));
}

TEST(CompletionScript, UnknownShell_ListsTheKnown) {
  EXPECT_THAT(CompletionScript(Tree(), "tcsh"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("bash, zsh, fish")));
}

TEST(TreeOf, App_GivesItsCommandsAndFlags) {
  CLI::App app("Does things", "tool");
  int number = 0;
  bool flag = false;
  CLI::App* sub = app.add_subcommand("sub", "Below");
  sub->add_option("--number", number, "A number");
  sub->add_flag("--flag", flag, "A flag");
  const CommandTree tree = TreeOf(app);
  ASSERT_EQ(tree.commands.size(), 1u);
  EXPECT_EQ(tree.commands[0].name, "sub");
  ASSERT_EQ(tree.commands[0].flags.size(), 3u);  // and --help
  EXPECT_EQ(tree.commands[0].flags[1].name, "--number");
  EXPECT_TRUE(tree.commands[0].flags[1].takes_value);
  EXPECT_FALSE(tree.commands[0].flags[2].takes_value);
}

}  // namespace
}  // namespace koinon::cli
