#include "coordinator/distribution/sign_versions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "absl/time/clock.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "coordinator/models/testing_signer.h"
#include "coordinator/models/version_contents.h"
#include "dht/records/signed.h"

namespace koinon::coordinator {
namespace {

using ::testing::IsEmpty;

const absl::Time kSubmitted = absl::FromUnixMillis(1'700'000'000'123);

// A journal and models as an older Koinon has left them.
class SignVersionsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    JobRow job;
    job.spec.set_name("job");
    job.submitted = kSubmitted;
    contents_.jobs["job"] = job;
    Digest parent;
    for (int64_t version = 0; version < 3; ++version) {
      auto layout = ModelLayout::Create({{"w", DType::kF32, {100}}});
      ASSERT_OK(layout);
      ASSERT_OK_AND_ASSIGN(auto writer,
                           store_.NewVersion("job", version, *layout));
      ASSERT_OK(writer->Append(std::vector<float>(100, version + 1.0f)));
      ASSERT_OK_AND_ASSIGN(auto manifest, writer->Publish(parent, {}));
      ASSERT_OK(env_.Remove(store_.LeavesPathOf("job", version)));
      parent = *Digest::FromBytes(manifest.digest());
      contents_.versions["job"][version] = VersionRow{manifest, {}};
    }
    StateFile state;
    state.name = "momentum";
    contents_.versions["job"][2].state = {state};
  }
  void Apply(const std::vector<Mutation>& rows) {
    for (const Mutation& row : rows) {
      const auto& version = std::get<VersionRow>(row);
      contents_.versions["job"][version.manifest.version()] = version;
    }
  }

  MemoryEnv env_;
  ModelStore store_{&env_, "/models", 64};
  const TestSigner signer_;
  JournalContents contents_;
};

TEST_F(SignVersionsTest, Unsigned_AreSignedAndKeepTheRest) {
  const auto before = contents_.versions["job"];
  const auto rows = SignVersions(contents_, store_, *signer_.get());
  ASSERT_EQ(rows.size(), 3);
  Apply(rows);
  dht::RecordTrust trust;
  trust.federation = "test";
  trust.pinned = {signer_.node().key.public_key()};
  for (const auto& [number, row] : contents_.versions["job"]) {
    ASSERT_OK_AND_ASSIGN(
        const v1::VersionManifest version,
        dht::OpenManifest(row.manifest.signed_manifest(), trust, absl::Now()));
    EXPECT_EQ(version.version(), number);
    EXPECT_EQ(version.job_submitted_ms(), absl::ToUnixMillis(kSubmitted));
    EXPECT_OK(OpenVersionContent(store_, row.manifest, version.content()));
    EXPECT_EQ(row.state, before.at(number).state);
    EXPECT_EQ(row.manifest.chunk_digests_size(),
              before.at(number).manifest.chunk_digests_size());
  }
  // Once.
  EXPECT_THAT(SignVersions(contents_, store_, *signer_.get()), IsEmpty());
}

TEST_F(SignVersionsTest, OfAnotherKey_AreSignedAnewWithoutReadingTheFiles) {
  Apply(SignVersions(contents_, store_, *signer_.get()));
  for (int64_t version = 0; version < 3; ++version) {
    ASSERT_OK(store_.Remove("job", version));
  }
  const TestSigner next;
  const auto rows = SignVersions(contents_, store_, *next.get());
  ASSERT_EQ(rows.size(), 3);
  Apply(rows);
  EXPECT_EQ(contents_.versions["job"][2].manifest.signatures(), 2);
  EXPECT_EQ(contents_.versions["job"][2].state.size(), 1);
  EXPECT_THAT(SignVersions(contents_, store_, *next.get()), IsEmpty());
}

TEST_F(SignVersionsTest, FileThatIsGoneOrAnother_IsLeftUnsigned) {
  ASSERT_OK(env_.Remove(store_.PathOf("job", 0)));
  ASSERT_OK(WriteFileAtomically(&env_, store_.PathOf("job", 1), "another"));
  const auto rows = SignVersions(contents_, store_, *signer_.get());
  ASSERT_EQ(rows.size(), 1);
  EXPECT_EQ(std::get<VersionRow>(rows[0]).manifest.version(), 2);
}

}  // namespace
}  // namespace koinon::coordinator
