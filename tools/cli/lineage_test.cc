#include "tools/cli/lineage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "proto/dht.pb.h"

namespace koinon::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

v1::ModelManifest* AddModel(v1::ListModelsReply* reply, int64_t version) {
  v1::ModelManifest* model = reply->add_models();
  model->set_job("digits");
  model->set_version(version);
  model->set_digest(std::string(32, '\x11'));
  model->set_size_bytes(4096);
  return model;
}

void Sign(v1::ModelManifest* model) {
  v1::VersionManifest manifest;
  manifest.set_job(model->job());
  manifest.set_version(model->version());
  manifest.set_parent_digest(model->parent_digest());
  manifest.set_created_ms(1'767'322'984'000);
  v1::Delta* delta = manifest.add_deltas();
  delta->set_from_digest(model->parent_digest());
  delta->mutable_content()->set_size_bytes(2048);
  v1::Signed envelope;
  envelope.set_body(manifest.SerializeAsString());
  envelope.set_public_key(std::string(32, '\xab'));
  model->set_signed_manifest(envelope.SerializeAsString());
}

TEST(LineageTable, PublishedVersion_ShowsWhereItCameFrom) {
  v1::ListModelsReply reply;
  v1::ModelManifest* model = AddModel(&reply, 3);
  model->set_parent_digest(std::string(32, '\x22'));
  model->set_pinned(true);
  v1::Provenance* provenance = model->mutable_provenance();
  provenance->set_participants(8);
  provenance->set_examples(1438);
  provenance->set_rule("fedavg");
  provenance->set_loss(0.25);
  provenance->set_accuracy(0.9375);
  Sign(model);
  EXPECT_THAT(
      LineageTable(reply),
      HasSubstr("digits@3  22222222  4.0 KiB  2.0 KiB        8      1438  "
                "fedavg  0.2500    0.9375  2026-01-02 03:03:04  abababab  yes  "
                "   1111111111"));
}

TEST(LineageTable, InitialModelOfAnOlderCoordinator_HasNothingToShow) {
  v1::ListModelsReply reply;
  AddModel(&reply, 0);
  EXPECT_THAT(
      LineageTable(reply),
      AllOf(HasSubstr("digits@0"), HasSubstr(" unsigned "), HasSubstr(" -  ")));
}

TEST(LineageTable, SignatureThatIsNone_IsNotShownAsOne) {
  v1::ListModelsReply reply;
  AddModel(&reply, 1)->set_signed_manifest("\xff\xff nothing");
  EXPECT_THAT(LineageTable(reply), HasSubstr(" unsigned "));
}

TEST(LineageTable, HostileRule_CannotMoveTheCursor) {
  v1::ListModelsReply reply;
  AddModel(&reply, 1)->mutable_provenance()->set_rule("fed\x1b[2Javg");
  EXPECT_THAT(LineageTable(reply), Not(HasSubstr("\x1b")));
}

TEST(LineageJson, SignedVersion_HasItsManifestAndSigner) {
  v1::ListModelsReply reply;
  Sign(AddModel(&reply, 2));
  AddModel(&reply, 3);
  const std::string json = LineageJson(reply);
  EXPECT_THAT(
      json, AllOf(HasSubstr("{\"models\":[{\"job\":\"digits\""),
                  HasSubstr("\"signer\":\"abababab"), HasSubstr("\"signed\":{"),
                  HasSubstr("\"created_ms\":\"1767322984000\"")));
  EXPECT_EQ(json.find("\"signer\""), json.rfind("\"signer\""));
}

TEST(LineageJson, NoModels_IsAnEmptyList) {
  EXPECT_EQ(LineageJson({}), "{\"models\":[]}\n");
}

}  // namespace
}  // namespace koinon::cli
