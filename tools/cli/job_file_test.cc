#include "tools/cli/job_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "coordinator/jobs/job_spec.h"

namespace koinon::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

absl::StatusOr<v1::JobSpec> Text(absl::string_view content) {
  return ParseJobFile("job.txtpb", content, JobFileFormat::kText);
}
absl::StatusOr<v1::JobSpec> Json(absl::string_view content) {
  return ParseJobFile("job.json", content, JobFileFormat::kJson);
}

TEST(JobFileFormatOf, Suffix_Decides) {
  EXPECT_EQ(JobFileFormatOf("a.json", "rounds: 1"), JobFileFormat::kJson);
  EXPECT_EQ(JobFileFormatOf("a.txtpb", "{"), JobFileFormat::kText);
  EXPECT_EQ(JobFileFormatOf("a.textproto", "{"), JobFileFormat::kText);
}

TEST(JobFileFormatOf, OtherNames_ContentDecides) {
  EXPECT_EQ(JobFileFormatOf("job", " \n{\"rounds\": 1}"), JobFileFormat::kJson);
  EXPECT_EQ(JobFileFormatOf("job", "# {\nrounds: 1"), JobFileFormat::kText);
}

TEST(ParseJobFile, TextWithComments_IsRead) {
  ASSERT_OK_AND_ASSIGN(const v1::JobSpec spec, Text(R"(
    # A job.
    name: "digits"  # its name
    rounds: 3
    cohort { minimum: 2 }
  )"));
  EXPECT_EQ(spec.name(), "digits");
  EXPECT_EQ(spec.rounds(), 3);
  EXPECT_EQ(spec.cohort().minimum(), 2);
}

TEST(ParseJobFile, Json_TakesBothSpellingsOfFields) {
  ASSERT_OK_AND_ASSIGN(
      const v1::JobSpec spec,
      Json(R"({"rounds": 3, "training": {"batch_size": 8, "clipNorm": 2}})"));
  EXPECT_EQ(spec.rounds(), 3);
  EXPECT_EQ(spec.training().batch_size(), 8);
  EXPECT_EQ(spec.training().clip_norm(), 2);
}

TEST(ParseJobFile, TextUnknownField_SaysWhereAndWhatIsAllowed) {
  EXPECT_THAT(Text("rounds: 3\ncohort { minimun: 2 }"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("job.txtpb:2:"),
                             HasSubstr("did you mean \"minimum\"?"),
                             HasSubstr("in CohortSpec: target, minimum"))));
}

TEST(ParseJobFile, TextFarFromAnyField_ListsWithoutGuessing) {
  EXPECT_THAT(Text("zzzzzz: 3"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("Allowed in JobSpec: name, model"),
                             Not(HasSubstr("did you mean")))));
}

TEST(ParseJobFile, TextUnknownEnumValue_ListsTheValues) {
  EXPECT_THAT(
      Text("training { loss: CROSS_ENTROPY }"),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("values: SOFTMAX_CROSS_ENTROPY, MEAN_SQUARED_ERROR")));
}

TEST(ParseJobFile, TextWrongType_SaysWhatWasExpected) {
  EXPECT_THAT(Text("\n\nrounds: \"three\""),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("job.txtpb:3:"),
                             HasSubstr("Expected integer"))));
}

TEST(ParseJobFile, JsonUnknownField_SaysWhichAndWhatIsAllowed) {
  EXPECT_THAT(Json(R"({"cohort": {"minimun": 2}})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("job.json: "), HasSubstr("minimun"),
                             HasSubstr("did you mean \"minimum\"?"),
                             HasSubstr("in CohortSpec: target"))));
}

TEST(ParseJobFile, JsonUnknownTopLevelField_SaysWhatIsAllowed) {
  EXPECT_THAT(Json(R"({"round": 2})"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("did you mean \"rounds\"?")));
}

TEST(ParseJobFile, JsonSyntaxError_IsRefused) {
  EXPECT_THAT(
      Json(R"({"rounds": )"),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("job.json: ")));
}

TEST(ReadJobFile, MissingFile_NamesThePath) {
  EXPECT_THAT(
      ReadJobFile(RealEnv(), "no/such/job.txtpb"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/such/job.txtpb")));
}

TEST(ReadJobFile, EmptyFile_IsRefused) {
  const std::string path = ::testing::TempDir() + "/empty.txtpb";
  ASSERT_OK(WriteFileAtomically(RealEnv(), path, " \n"));
  EXPECT_THAT(
      ReadJobFile(RealEnv(), path),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is empty")));
}

TEST(ReadJobFile, Pipe_IsReadToItsEnd) {
  const std::string path = ::testing::TempDir() + "/pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::thread writer([&path] {
    std::ofstream(path) << "rounds: 3\n"
                        << "seed: 5\n";
  });
  const auto spec = ReadJobFile(RealEnv(), path);
  writer.join();
  ASSERT_OK(spec);
  EXPECT_EQ(spec->seed(), 5u);
}

TEST(ParseTextArgument, AtSign_ReadsAFile) {
  const std::string path = ::testing::TempDir() + "/argument.txtpb";
  ASSERT_OK(WriteFileAtomically(RealEnv(), path, "rounds: 3"));
  v1::JobSpec spec;
  ASSERT_OK(ParseTextArgument(RealEnv(), "--job", "@" + path, &spec));
  EXPECT_EQ(spec.rounds(), 3);
  EXPECT_THAT(
      ParseTextArgument(RealEnv(), "--job", "roundz: 3", &spec),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--job:1:")));
  EXPECT_THAT(ParseTextArgument(RealEnv(), "--job", "@no/such", &spec),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no/such")));
}

class ShippedExamples : public ::testing::TestWithParam<const char*> {};

TEST_P(ShippedExamples, Parse_AndAreWhatACoordinatorTakes) {
  const std::string path =
      absl::StrCat("docs/examples/jobs/", GetParam(), ".txtpb");
  ASSERT_OK_AND_ASSIGN(const v1::JobSpec spec, ReadJobFile(RealEnv(), path));
  EXPECT_EQ(spec.name(), GetParam());
  EXPECT_OK(coordinator::ValidateJobSpec(spec));
}

INSTANTIATE_TEST_SUITE_P(All, ShippedExamples,
                         ::testing::Values("char-gpt", "digits-cnn",
                                           "digits-fedprox", "digits-mlp",
                                           "digits-logistic", "digits-buffered",
                                           "digits-scaffold", "digits-external",
                                           "mnist-cnn"));

}  // namespace
}  // namespace koinon::cli
