#include "worker/data/dataset.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/substitute.h"
#include "base/env.h"
#include "base/status_matchers.h"
#include "worker/data/testdata.h"

namespace koinon::worker {
namespace {

using testdata::Bytes;
using testdata::Gzip;
using testdata::Idx;
using testdata::Npy;
using testdata::WriteTemp;
using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;
using testing::IsEmpty;

DatasetConfig Config(const std::string& text) {
  DatasetConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config))
      << text;
  if (config.name().empty()) config.set_name("digits");
  return config;
}

absl::StatusOr<LocalData> Load(const std::string& text) {
  return LoadLocalData(RealEnv(), Config(text));
}

// A table of `rows` rows: the row's number as its feature, its class modulo 3.
std::string NumberedTable(int rows) {
  std::string text = "a,site,y\n";
  for (int i = 0; i < rows; ++i) {
    absl::StrAppend(&text, i, ",", i % 4, ",", i % 3, "\n");
  }
  return text;
}

std::string NumberedSource(int rows) {
  return absl::Substitute(
      "source { csv { path: '$0' label: 'y' ignore: 'site' } }",
      WriteTemp("numbered.csv", NumberedTable(rows)));
}

TEST(LoadLocalData, GzipIdxImages_GetAChannelAndUnitRange) {
  const std::string images = WriteTemp(
      "images.gz", Gzip(Idx(0x08, {2, 1, 2}, std::string("\0\xff\x33\0", 4))));
  const std::string labels =
      WriteTemp("labels", Idx(0x08, {2}, std::string("\3\7", 2)));
  ASSERT_OK_AND_ASSIGN(
      const LocalData local,
      Load(absl::Substitute(
          "source { idx { images: '$0' labels: '$1' } } held_out_fraction: 0",
          images, labels)));
  EXPECT_THAT(local.train.shape, ElementsAre(1, 1, 2));
  EXPECT_THAT(local.train.features, ElementsAre(0, 1, FloatEq(0.2f), 0));
  EXPECT_THAT(local.train.labels, ElementsAre(3, 7));
  EXPECT_EQ(local.train.name, "digits");
  EXPECT_TRUE(local.held_out.empty());
}

TEST(LoadLocalData, CsvWithoutHeader_TakesShapeAndScale) {
  const std::string path =
      WriteTemp("digits.csv.gz", Gzip("0.0e+00,1.6e+01,8,4,3\n16,8,4,0,9\n"));
  ASSERT_OK_AND_ASSIGN(
      const LocalData local,
      Load(absl::Substitute("source { csv { path: '$0' header: false label: "
                            "'4' } } shape: [1, 2, 2] scale: 0.0625 "
                            "offset: -0.5 held_out_fraction: 0",
                            path)));
  EXPECT_THAT(local.train.shape, ElementsAre(1, 2, 2));
  EXPECT_THAT(local.train.features,
              ElementsAre(-0.5, 0.5, 0, -0.25, 0.5, 0, -0.25, -0.5));
  EXPECT_THAT(local.train.labels, ElementsAre(3, 9));
}

TEST(LoadLocalData, NpyArrays_AreRead) {
  const std::string x =
      WriteTemp("x.npy", Npy("<f4", {2, 2}, Bytes<float>({1, 2, 3, 4})));
  const std::string y =
      WriteTemp("y.npy", Npy("<i8", {2}, Bytes<int64_t>({1, 0})));
  ASSERT_OK_AND_ASSIGN(
      const LocalData local,
      Load(absl::Substitute("source { npy { features: '$0' labels: '$1' } } "
                            "held_out_fraction: 0",
                            x, y)));
  EXPECT_THAT(local.train.shape, ElementsAre(2));
  EXPECT_THAT(local.train.labels, ElementsAre(1, 0));
}

TEST(LoadLocalData, NpzRegression_GivesTargets) {
  const std::string path = WriteTemp(
      "data.npz",
      testdata::Zip(
          {{.name = "x.npy",
            .content = Npy("<f8", {2, 1}, Bytes<double>({1, 2}))},
           {.name = "goal.npy",
            .content = Npy("<f8", {2, 2}, Bytes<double>({0.5, 1, -1, 2})),
            .deflated = true}}));
  ASSERT_OK_AND_ASSIGN(
      const LocalData local,
      Load(absl::Substitute("source { npz { path: '$0' labels: 'goal' } } "
                            "regression: true held_out_fraction: 0",
                            path)));
  EXPECT_EQ(local.train.size(), 2u);
  EXPECT_EQ(local.train.target_size, 2u);
  EXPECT_THAT(local.train.targets, ElementsAre(0.5, 1, -1, 2));
  EXPECT_THAT(local.train.labels, IsEmpty());
}

TEST(LoadLocalData, Text_IsScaledToTheUnitRange) {
  const std::string path = WriteTemp("text", "\xff\x33\xff");
  ASSERT_OK_AND_ASSIGN(
      const LocalData local,
      Load(absl::Substitute("source { text { path: '$0' context: 2 } } "
                            "held_out_fraction: 0",
                            path)));
  EXPECT_THAT(local.train.features, ElementsAre(1, FloatEq(0.2f)));
  EXPECT_THAT(local.train.labels, ElementsAre(255));
}

TEST(LoadLocalData, HeldOutFraction_SplitsOnceAndForAll) {
  const std::string source = NumberedSource(50);
  ASSERT_OK_AND_ASSIGN(const LocalData local, Load(source));
  EXPECT_EQ(local.examples(), 40);
  EXPECT_EQ(local.held_out_examples(), 10);
  std::vector<float> all = local.train.features;
  all.insert(all.end(), local.held_out.features.begin(),
             local.held_out.features.end());
  std::sort(all.begin(), all.end());
  std::vector<float> expected(50);
  std::iota(expected.begin(), expected.end(), 0.0f);
  EXPECT_EQ(all, expected);

  ASSERT_OK_AND_ASSIGN(const LocalData again, Load(source));
  EXPECT_EQ(again.held_out.features, local.held_out.features);
  ASSERT_OK_AND_ASSIGN(const LocalData other, Load(source + " seed: 5"));
  EXPECT_NE(other.held_out.features, local.held_out.features);
}

TEST(LoadLocalData, HeldOutFraction_LeavesOneToTrainOn) {
  ASSERT_OK_AND_ASSIGN(const LocalData local,
                       Load(NumberedSource(2) + " held_out_fraction: 0.9"));
  EXPECT_EQ(local.train.size(), 1u);
  EXPECT_EQ(local.held_out.size(), 1u);
}

TEST(LoadLocalData, HeldOutSource_IsDealtOverTheSites) {
  const std::string test = WriteTemp("test.csv", NumberedTable(9));
  size_t held_out = 0;
  size_t train = 0;
  for (int site = 0; site < 4; ++site) {
    ASSERT_OK_AND_ASSIGN(
        const LocalData local,
        Load(absl::Substitute(
            "$0 held_out_source { csv { path: '$1' label: 'y' ignore: 'site' "
            "} } partition { sites: 4 site: $2 dirichlet { alpha: 1 } }",
            NumberedSource(100), test, site)));
    train += local.train.size();
    held_out += local.held_out.size();
    EXPECT_GE(local.held_out.size(), 2u);
  }
  EXPECT_EQ(train, 100u);
  EXPECT_EQ(held_out, 9u);
}

TEST(LoadLocalData, PartitionByColumn_TakesTheSitesRows) {
  const std::string path = WriteTemp("sites.csv", NumberedTable(12));
  ASSERT_OK_AND_ASSIGN(
      const LocalData local,
      Load(absl::Substitute(
          "source { csv { path: '$0' label: 'y' } } held_out_fraction: 0 "
          "partition { sites: 4 site: 2 by_column { column: 'site' } }",
          path)));
  EXPECT_THAT(local.train.features, ElementsAre(2, 6, 10));
}

TEST(LoadLocalData, External_OnlyDeclaresCounts) {
  ASSERT_OK_AND_ASSIGN(const LocalData local,
                       Load("source { external { examples: 70 "
                            "held_out_examples: 30 } }"));
  EXPECT_TRUE(local.external);
  EXPECT_EQ(local.examples(), 70);
  EXPECT_EQ(local.held_out_examples(), 30);
  EXPECT_THAT(Load("source { external { examples: 70 } } scale: 2"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("no field beside")));
  EXPECT_THAT(
      Load("source { external { } }"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("examples >= 1")));
}

TEST(LoadLocalData, Contradictions_AreRefusedWithTheDatasetsName) {
  const std::string source = NumberedSource(10);
  const auto expect = [](const std::string& text, const std::string& error) {
    EXPECT_THAT(Load(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)))
        << text;
  };
  expect("", "dataset digits: source: expected one of");
  expect(source + " held_out_fraction: 1", "held_out_fraction");
  expect(source + " held_out_fraction: -0.1", "held_out_fraction");
  expect(source + " held_out_fraction: 0.1 held_out_source { }",
         "beside a held_out_source");
  expect(source + " shape: [2]",
         "expected examples of shape [2] (2 features), found [1] (1)");
  expect(source + " scale: 0", "scale");
  expect(source + " scale: nan", "scale");
  expect(source + " scale: 1e38", "element");
  expect(source + " max_bytes: -1", "max_bytes");
  expect(source + " partition { sites: 2 by_column { column: 'none' } }",
         "partition column \"none\"");
  expect("name: 'No Good' " + source, "dataset name");
}

TEST(LoadLocalData, LabelsThatAreNoClasses_AreRefused) {
  const std::string path = WriteTemp("labels.csv", "a,y\n1,0\n2,1.5\n");
  const std::string source =
      absl::Substitute("source { csv { path: '$0' label: 'y' } }", path);
  EXPECT_THAT(Load(source), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("label of example 1")));
  EXPECT_OK(Load(source + " regression: true"));
}

TEST(LoadLocalData, UnequalCounts_AreRefused) {
  const std::string x = WriteTemp("x.npy", Npy("|u1", {2, 1}, "ab"));
  const std::string y = WriteTemp("y.npy", Npy("|u1", {3}, "abc"));
  EXPECT_THAT(Load(absl::Substitute(
                  "source { npy { features: '$0' labels: '$1' } }", x, y)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found 2 examples and 3 labels")));
}

TEST(LoadLocalData, MissingFileAndMemoryLimit_AreRefused) {
  EXPECT_THAT(
      Load("source { csv { path: '/nonexistent/f.csv' label: 'y' } }"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/f.csv")));
  EXPECT_THAT(Load(NumberedSource(50) + " max_bytes: 100"),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(LoadLocalData, TextOfSequences_HoldsOutItsTail) {
  const std::string path = WriteTemp("text", "abcdefghij");
  ASSERT_OK_AND_ASSIGN(
      const LocalData local,
      Load(absl::Substitute("source { text { path: '$0' context: 2 stride: 1 "
                            "sequences: true unit: CHARACTER } } "
                            "held_out_fraction: 0.3",
                            path)));
  EXPECT_TRUE(local.train.is_sequences());
  EXPECT_THAT(local.train.shape, ElementsAre(2));
  EXPECT_EQ(local.train.example_size(), 2u);
  EXPECT_EQ(local.train.positions(), 2u);
  EXPECT_EQ(local.train.windows.vocabulary, 10);
  EXPECT_EQ(local.examples(), 5);           // of the 7 tokens from a to g
  EXPECT_EQ(local.held_out_examples(), 1);  // h, i and the label j
  std::vector<float> inputs(2);
  std::vector<int32_t> labels(2);
  local.held_out.windows.Copy(0, absl::MakeSpan(inputs),
                              absl::MakeSpan(labels));
  EXPECT_THAT(inputs, ElementsAre(7, 8));
  EXPECT_THAT(labels, ElementsAre(8, 9));
}

TEST(LoadLocalData, TokenFiles_TrainAndAreHeldOut) {
  const std::string train =
      WriteTemp("train.bin", Bytes<uint16_t>({1, 2, 3, 4, 5, 6}));
  const std::string held_out =
      WriteTemp("val.bin", Bytes<uint16_t>({7, 8, 9, 10, 11}));
  const std::string config = absl::Substitute(
      "source { tokens { path: '$0' context: 2 stride: 1 } } "
      "held_out_source { tokens { path: '$1' context: 2 stride: 1 } }",
      train, held_out);
  ASSERT_OK_AND_ASSIGN(const LocalData local, Load(config));
  EXPECT_EQ(local.examples(), 4);
  EXPECT_EQ(local.held_out_examples(), 2) << "they do not overlap";

  size_t examples = 0;
  for (int site = 0; site < 2; ++site) {
    // The held-out file has too few tokens for two sites.
    ASSERT_OK_AND_ASSIGN(
        const LocalData share,
        Load(absl::Substitute(
            "source { tokens { path: '$0' context: 2 stride: 1 } } "
            "held_out_fraction: 0 partition { sites: 2 site: $1 }",
            train, site)));
    examples += share.train.size();
  }
  EXPECT_EQ(examples, 2u);
}

TEST(LoadLocalData, SequencesWithWhatTheyCannotHave_AreRefused) {
  const std::string text = absl::Substitute(
      "text { path: '$0' context: 2 sequences: true unit: CHARACTER }",
      WriteTemp("text", "abcdefghij"));
  const auto expect = [](const std::string& config, const std::string& error) {
    EXPECT_THAT(Load(config),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)))
        << config;
  };
  const std::string source = absl::StrCat("source { ", text, " } ");
  expect(source + "scale: 2", "scale: expected none with sequences");
  expect(source + "shape: 2", "shape: expected none");
  expect(source + "regression: true", "regression: expected none");
  expect(source + "held_out_fraction: 0.1", "and 1 held out");
  expect(source + "partition { sites: 2 iid {} }", "dealt as contiguous");
  expect(source + "partition { sites: 2 site: 2 }", "partition.site");
  expect(source + absl::StrCat("held_out_source { ", text, " }"),
         "text.alphabet: expected the characters");
  const std::string path = WriteTemp("short", "ab");
  expect(absl::Substitute("source { tokens { path: '$0' } }", path),
         "expected at least 1025 tokens for a context of 1024, found 1");
  expect(absl::Substitute("source { tokens { path: '$0' vocabulary: 65537 } }",
                          path),
         "tokens.vocabulary");
  expect(absl::Substitute("source { tokens { path: '$0' context: -1 } }", path),
         "tokens.context");
  expect(
      absl::Substitute("source { text { path: '$0' unit: CHARACTER } }", path),
      "text.unit: expected BYTE without text.sequences");
}

TEST(LoadLocalDatasets, NameUsedTwice_IsRefused) {
  const DatasetConfig config = Config(NumberedSource(5));
  ASSERT_OK_AND_ASSIGN(const LocalDatasets one,
                       LoadLocalDatasets(RealEnv(), {config}));
  EXPECT_EQ(one.count("digits"), 1u);
  EXPECT_THAT(
      LoadLocalDatasets(RealEnv(), {config, config}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found twice")));
}

TEST(DescribePartition, Sequences_ShowTheSitesSizes) {
  const std::string path = WriteTemp("text", "abcdefghij");
  EXPECT_THAT(
      DescribePartition(RealEnv(), Config(absl::Substitute(
                                       "source { text { path: '$0' context: 2 "
                                       "stride: 1 sequences: true } } "
                                       "partition { sites: 2 contiguous {} }",
                                       path))),
      IsOkAndHolds("site     total\n"
                   "0            3\n"
                   "1            3\n"
                   "all          6\n"));
}

TEST(DescribePartition, Table_ShowsTheSites) {
  EXPECT_THAT(DescribePartition(
                  RealEnv(),
                  Config(NumberedSource(6) + " partition { sites: 1 iid {} }")),
              IsOkAndHolds("site     total      0      1      2\n"
                           "0            6      2      2      2\n"
                           "all          6      2      2      2\n"));
  EXPECT_THAT(DescribePartition(RealEnv(), Config(NumberedSource(6))),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected a partition")));
}

}  // namespace
}  // namespace koinon::worker
