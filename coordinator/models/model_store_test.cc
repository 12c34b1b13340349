#include "coordinator/models/model_store.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/merkle.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Operation = FaultInjectingEnv::Operation;

constexpr char kRoot[] = "/models";
constexpr int64_t kChunk = 1000;

ModelLayout Layout(int64_t weights = 700) {
  auto layout = ModelLayout::Create(
      {{"fc.weight", DType::kF32, {weights}}, {"fc.bias", DType::kF32, {7}}});
  EXPECT_OK(layout);
  return *layout;
}

std::vector<float> Values(const ModelLayout& layout, float first = 0.5f) {
  std::vector<float> values(layout.total_elements());
  for (size_t i = 0; i < values.size(); ++i) values[i] = first + i;
  return values;
}

absl::StatusOr<v1::ModelManifest> Publish(ModelStore* store,
                                          const std::vector<float>& values,
                                          int64_t version = 3,
                                          Digest parent = Sha256Of("parent")) {
  auto writer = store->NewVersion("digits", version, Layout());
  if (!writer.ok()) return writer.status();
  for (size_t done = 0; done < values.size(); done += 100) {
    const size_t count = std::min<size_t>(100, values.size() - done);
    const absl::Status appended =
        (*writer)->Append(absl::MakeConstSpan(&values[done], count));
    if (!appended.ok()) return appended;
  }
  v1::Provenance provenance;
  provenance.set_participants(8);
  return (*writer)->Publish(parent, provenance);
}

std::vector<std::string> Files(Env* env) {
  auto names = env->List(absl::StrCat(kRoot, "/digits"));
  return names.ok() ? *names : std::vector<std::string>();
}

TEST(ModelStoreTest, Published_IsAModelWithItsManifest) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  const std::vector<float> values = Values(Layout());
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest manifest,
                       Publish(&store, values));
  const std::string path = store.PathOf("digits", 3);
  EXPECT_EQ(path, "/models/digits/3.safetensors");
  ASSERT_OK_AND_ASSIGN(const Model model, ReadModel(&env, path, 1 << 20));
  EXPECT_EQ(model.values, values);
  EXPECT_EQ(model.layout, Layout());
  EXPECT_EQ(model.metadata.at("format"), "pt");
  EXPECT_EQ(model.metadata.at("koinon.job"), "digits");
  EXPECT_EQ(model.metadata.at("koinon.version"), "3");

  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(&env, path, 1 << 20));
  EXPECT_EQ(manifest.job(), "digits");
  EXPECT_EQ(manifest.version(), 3);
  EXPECT_EQ(manifest.digest(), Sha256Of(bytes).ToBytes());
  EXPECT_EQ(manifest.parent_digest(), Sha256Of("parent").ToBytes());
  EXPECT_EQ(manifest.layout_hash(), Layout().hash().ToBytes());
  EXPECT_EQ(manifest.size_bytes(), static_cast<int64_t>(bytes.size()));
  EXPECT_EQ(manifest.chunk_size_bytes(), kChunk);
  EXPECT_EQ(manifest.provenance().participants(), 8);
  ASSERT_EQ(manifest.chunk_digests_size(), (bytes.size() + 999) / 1000);
  for (int i = 0; i < manifest.chunk_digests_size(); ++i) {
    EXPECT_EQ(manifest.chunk_digests(i),
              Sha256Of(bytes.substr(i * kChunk, kChunk)).ToBytes());
  }
}

TEST(ModelStoreTest, FirstVersion_HasNoParent) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest manifest,
                       Publish(&store, Values(Layout()), 0, Digest()));
  EXPECT_THAT(manifest.parent_digest(), IsEmpty());
}

TEST(ModelStoreTest, Opened_CanBeRead) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  const std::vector<float> values = Values(Layout());
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest manifest,
                       Publish(&store, values));
  ASSERT_OK_AND_ASSIGN(const ModelStore::Version version, store.Open(manifest));
  EXPECT_EQ(version.layout, Layout());
  EXPECT_EQ(version.size_bytes, static_cast<uint64_t>(manifest.size_bytes()));
  float last;
  ASSERT_OK(version.file->ReadAt(
      version.data_offset_bytes + version.layout.total_bytes() - sizeof(last),
      sizeof(last), &last));
  EXPECT_EQ(last, values.back());
}

TEST(ModelStoreTest, PublishedAgain_SameBytesSameManifest) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest first,
                       Publish(&store, Values(Layout())));
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest second,
                       Publish(&store, Values(Layout())));
  EXPECT_EQ(first.SerializeAsString(), second.SerializeAsString());
  EXPECT_THAT(Files(&env), ElementsAre("3.leaves", "3.safetensors"));
}

TEST(ModelStoreTest, Published_SurvivesPowerLoss) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest manifest,
                       Publish(&store, Values(Layout())));
  env.CrashAndLoseUnsynced();
  ASSERT_OK(store.Open(manifest));
  ASSERT_OK_AND_ASSIGN(const std::string bytes,
                       ReadFile(&env, store.PathOf("digits", 3), 1 << 20));
  EXPECT_EQ(Sha256Of(bytes).ToBytes(), manifest.digest());
}

TEST(ModelStoreTest, WriterDestroyed_LeavesNothing) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  {
    ASSERT_OK_AND_ASSIGN(auto writer, store.NewVersion("digits", 3, Layout()));
    ASSERT_OK(writer->Append({1, 2, 3}));
    EXPECT_EQ(Files(&env).size(), 1);
  }
  EXPECT_THAT(Files(&env), IsEmpty());
}

TEST(ModelStoreTest, Published_HasTheHashesThatItIsSpreadWith) {
  // Leaves that end within a block, and blocks worth a thread of their own.
  for (const int64_t weights : {10'000, 200'000}) {
    MemoryEnv env;
    ModelStore store(&env, kRoot, kChunk);
    const ModelLayout layout = Layout(weights);
    ASSERT_OK_AND_ASSIGN(auto writer, store.NewVersion("digits", 3, layout));
    ASSERT_OK(writer->Append(Values(layout)));
    ASSERT_OK_AND_ASSIGN(const v1::ModelManifest manifest,
                         writer->Publish(Digest(), {}));
    ASSERT_OK_AND_ASSIGN(
        const std::string bytes,
        ReadFile(&env, store.PathOf("digits", 3), size_t{1} << 20));
    EXPECT_EQ(manifest.digest(), Sha256Of(bytes).ToBytes());
    std::vector<Digest> expected;
    for (size_t at = 0; at < bytes.size(); at += dht::kLeafBytes) {
      expected.push_back(Sha256Of(bytes.substr(at, dht::kLeafBytes)));
    }
    ASSERT_OK_AND_ASSIGN(
        const std::vector<Digest> leaves,
        dht::ContentFile::ReadLeaves(&env, store.LeavesPathOf("digits", 3)));
    EXPECT_EQ(leaves, expected);
    EXPECT_EQ(writer->content().size_bytes(), manifest.size_bytes());
    EXPECT_OK(dht::ContentFile::OpenWhole(&env, store.PathOf("digits", 3),
                                          writer->content(), leaves));
  }
}

TEST(ModelStoreTest, TooFewOrTooManyElements_AreRefused) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK_AND_ASSIGN(auto writer, store.NewVersion("digits", 3, Layout()));
  ASSERT_OK(writer->Append(std::vector<float>(700, 1.0f)));
  EXPECT_THAT(writer->Publish(Digest(), {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("7 elements are missing")));
  EXPECT_THAT(
      writer->Append(std::vector<float>(8, 1.0f)),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("8 elements"), HasSubstr("7 are left"))));
  // Neither refusal has written anything.
  ASSERT_OK(writer->Append(std::vector<float>(7, 1.0f)));
  EXPECT_OK(writer->Publish(Digest(), {}));
  EXPECT_THAT(writer->Publish(Digest(), {}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(ModelStoreTest, BadArguments_AreRefused) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  for (const char* job : {"", "..", "a/b", "../x", "A"}) {
    EXPECT_THAT(store.NewVersion(job, 0, Layout()),
                StatusIs(absl::StatusCode::kInvalidArgument));
    EXPECT_THAT(store.Remove(job, 0),
                StatusIs(absl::StatusCode::kInvalidArgument));
    v1::ModelManifest manifest;
    manifest.set_job(job);
    EXPECT_THAT(store.Open(manifest),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(store.NewVersion("digits", -1, Layout()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-1")));
  ASSERT_OK_AND_ASSIGN(const ModelLayout integers,
                       ModelLayout::Create({{"n", DType::kI64, {1}}}));
  EXPECT_THAT(store.NewVersion("digits", 0, integers),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("F32")));
  EXPECT_THAT(
      ModelStore(&env, kRoot, 0).NewVersion("digits", 0, Layout()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("chunk size")));
}

TEST(ModelStoreTest, OpenWhatIsNotThere_IsNotFound) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  v1::ModelManifest manifest;
  manifest.set_job("digits");
  EXPECT_THAT(store.Open(manifest), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store.Remove("digits", 0), StatusIs(absl::StatusCode::kNotFound));
}

TEST(ModelStoreTest, FileUnlikeItsManifest_IsDataLoss) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK_AND_ASSIGN(v1::ModelManifest manifest,
                       Publish(&store, Values(Layout())));
  v1::ModelManifest other = manifest;
  other.set_size_bytes(manifest.size_bytes() + 1);
  EXPECT_THAT(store.Open(other), StatusIs(absl::StatusCode::kDataLoss,
                                          HasSubstr("the manifest says")));
  other = manifest;
  other.set_layout_hash(Layout(5).hash().ToBytes());
  EXPECT_THAT(store.Open(other),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("layout")));
  ASSERT_OK(WriteFileAtomically(&env, store.PathOf("digits", 3),
                                std::string(manifest.size_bytes(), 'x')));
  EXPECT_THAT(store.Open(manifest), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(ModelStoreTest, Removed_IsGoneForGood) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest manifest,
                       Publish(&store, Values(Layout())));
  ASSERT_OK(store.Remove("digits", 3));
  env.CrashAndLoseUnsynced();
  EXPECT_THAT(store.Open(manifest), StatusIs(absl::StatusCode::kNotFound));
}

TEST(ModelStoreTest, Removed_TakesHashesAndDeltaWithIt) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK(Publish(&store, Values(Layout())));
  for (const std::string& path :
       {store.DeltaPathOf("digits", 3), store.DeltaLeavesPathOf("digits", 3)}) {
    ASSERT_OK(WriteFileAtomically(&env, path, "x"));
  }
  ASSERT_OK(store.RemoveDelta("digits", 3));
  EXPECT_THAT(Files(&env), ElementsAre("3.leaves", "3.safetensors"));
  ASSERT_OK(store.RemoveDelta("digits", 3));
  ASSERT_OK(WriteFileAtomically(&env, store.DeltaPathOf("digits", 3), "x"));
  ASSERT_OK(store.Remove("digits", 3));
  EXPECT_THAT(Files(&env), IsEmpty());
}

TEST(ModelStoreTest, FullDisk_IsSaidBeforeTheWork) {
  MemoryEnv memory;
  FaultInjectingEnv env(&memory);
  ModelStore store(&env, kRoot, kChunk);
  env.FailAt(Operation::kResize, 1, absl::ResourceExhaustedError("disk full"));
  EXPECT_THAT(
      store.NewVersion("digits", 3, Layout()),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk full")));
  EXPECT_THAT(Files(&env), IsEmpty());
}

TEST(ModelStoreTest, FailedAppend_EndsTheWriter) {
  MemoryEnv memory;
  FaultInjectingEnv env(&memory);
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK_AND_ASSIGN(auto writer, store.NewVersion("digits", 3, Layout()));
  env.FailAt(Operation::kWrite, 1, absl::DataLossError("broken disk"));
  EXPECT_THAT(writer->Append({1}), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(writer->Append({1}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(writer->Publish(Digest(), {}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

// The process dies, and then the machine, at each operation in turn: the
// version before stays what it was, and the new one is whole or not there. A
// second attempt then succeeds.
TEST(ModelStoreTest, DeathAtAnyOperation_OldVersionStaysNewIsWholeOrAbsent) {
  for (int64_t k = 1;; ++k) {
    MemoryEnv memory;
    FaultInjectingEnv env(&memory);
    ModelStore store(&env, kRoot, kChunk);
    ASSERT_OK_AND_ASSIGN(const v1::ModelManifest before,
                         Publish(&store, Values(Layout()), 2));
    env.FailAllFrom(k, absl::DataLossError("dead"));
    const auto published = Publish(&store, Values(Layout(), 9), 3);
    env.StopFailing();
    memory.CrashAndLoseUnsynced();
    ASSERT_OK_AND_ASSIGN(
        const Model old,
        ReadModel(&memory, store.PathOf("digits", 2), 1 << 20));
    EXPECT_EQ(old.values, Values(Layout()));
    ASSERT_OK(store.Open(before));
    if (memory.Exists(store.PathOf("digits", 3))) {
      ASSERT_OK_AND_ASSIGN(
          const Model model,
          ReadModel(&memory, store.PathOf("digits", 3), 1 << 20));
      EXPECT_EQ(model.values, Values(Layout(), 9)) << "operation " << k;
    } else {
      EXPECT_FALSE(published.ok()) << "operation " << k;
    }
    ASSERT_OK_AND_ASSIGN(const v1::ModelManifest again,
                         Publish(&store, Values(Layout(), 9), 3));
    EXPECT_OK(store.Open(again));
    if (published.ok()) break;
    ASSERT_LT(k, 1000) << "never succeeds";
  }
}

absl::StatusOr<StateFile> PublishState(ModelStore* store, int64_t version,
                                       const std::string& name,
                                       const std::vector<float>& values) {
  auto writer = store->NewState("digits", version, name, Layout());
  if (!writer.ok()) return writer.status();
  const absl::Status appended = (*writer)->Append(values);
  if (!appended.ok()) return appended;
  return (*writer)->Publish();
}

TEST(ModelStoreTest, State_IsAModelBesideItsVersion) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK(Publish(&store, Values(Layout())));
  const std::vector<float> values = Values(Layout(), 7);
  ASSERT_OK_AND_ASSIGN(const StateFile row,
                       PublishState(&store, 3, "second_moment", values));
  EXPECT_THAT(Files(&env), ElementsAre("3.leaves", "3.safetensors",
                                       "3.second_moment.safetensors"));
  const std::string path = store.StatePathOf("digits", 3, "second_moment");
  EXPECT_EQ(path, "/models/digits/3.second_moment.safetensors");
  ASSERT_OK_AND_ASSIGN(const Model model, ReadModel(&env, path, 1 << 20));
  EXPECT_EQ(model.values, values);
  EXPECT_EQ(model.layout, Layout());
  EXPECT_EQ(model.metadata.at("format"), "pt");
  EXPECT_EQ(model.metadata.at("koinon.job"), "digits");
  EXPECT_EQ(model.metadata.at("koinon.version"), "3");
  EXPECT_EQ(model.metadata.at("koinon.state"), "second_moment");
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(&env, path, 1 << 20));
  EXPECT_EQ(row.name, "second_moment");
  EXPECT_EQ(row.digest, Sha256Of(bytes));
  EXPECT_EQ(row.size_bytes, static_cast<int64_t>(bytes.size()));

  env.CrashAndLoseUnsynced();
  ASSERT_OK_AND_ASSIGN(const ModelStore::Version state,
                       store.OpenState("digits", 3, row, Layout()));
  float first;
  ASSERT_OK(state.file->ReadAt(state.data_offset_bytes, sizeof(first), &first));
  EXPECT_EQ(first, 7);
}

TEST(ModelStoreTest, StateUnlikeTheJournal_IsDataLossThatNamesTheFile) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  ASSERT_OK_AND_ASSIGN(const StateFile row,
                       PublishState(&store, 3, "momentum", Values(Layout())));
  const auto is_loss = [](const char* what) {
    return StatusIs(absl::StatusCode::kDataLoss,
                    AllOf(HasSubstr("/models/digits/3.momentum.safetensors"),
                          HasSubstr(what)));
  };
  StateFile other = row;
  other.size_bytes += 1;
  EXPECT_THAT(store.OpenState("digits", 3, other, Layout()), is_loss("bytes"));
  EXPECT_THAT(store.OpenState("digits", 3, row, Layout(5)), is_loss("layout"));
  // One bit of one value.
  const std::string path = store.StatePathOf("digits", 3, "momentum");
  ASSERT_OK_AND_ASSIGN(std::string bytes, ReadFile(&env, path, 1 << 20));
  bytes.back() ^= 1;
  ASSERT_OK(WriteFileAtomically(&env, path, bytes));
  EXPECT_THAT(store.OpenState("digits", 3, row, Layout()), is_loss("digest"));
  ASSERT_OK(store.RemoveState("digits", 3, "momentum"));
  EXPECT_THAT(store.OpenState("digits", 3, row, Layout()),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(ModelStoreTest, BadStateNames_AreRefused) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  for (const std::string name : {"", "..", "a/b", "Momentum", "a.b", "m1",
                                 "a_name_that_is_longer_than_32_bytes"}) {
    const auto refused =
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a-z and _"));
    EXPECT_THAT(store.NewState("digits", 0, name, Layout()), refused) << name;
    EXPECT_THAT(store.RemoveState("digits", 0, name), refused) << name;
    EXPECT_THAT(store.OpenState("digits", 0, StateFile{name, {}, 0}, Layout()),
                refused)
        << name;
  }
  EXPECT_THAT(Files(&env), IsEmpty());
}

TEST(ModelStoreTest, StrayState_IsRemovedAndNothingElse) {
  MemoryEnv env;
  ModelStore store(&env, kRoot, kChunk);
  const std::vector<float> values = Values(Layout());
  ASSERT_OK(Publish(&store, values, 3));
  ASSERT_OK(Publish(&store, values, 4));
  ASSERT_OK(PublishState(&store, 3, "momentum", values));
  ASSERT_OK_AND_ASSIGN(const StateFile kept,
                       PublishState(&store, 4, "momentum", values));
  ASSERT_OK(PublishState(&store, 4, "second_moment", values));
  // What a killed process leaves, and what is not ours.
  for (const char* name :
       {"5.safetensors.tmp", "5.momentum.safetensors.tmp", "notes.txt",
        "5.momentum.txt", "x.momentum.safetensors", "4.Mine.safetensors",
        ".safetensors", "4.delta", "4.delta.leaves", "3.delta",
        "3.delta.leaves", "4.delta.tmp", "2.leaves", "leaves", "x.leaves",
        "2.safetensors.recovering", "2.safetensors.recovering.pieces",
        "2.safetensors.recovering.leaves", "2.safetensors.recovering.txt"}) {
    ASSERT_OK(
        WriteFileAtomically(&env, absl::StrCat(kRoot, "/digits/", name), "x"));
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<std::string> removed,
                       store.RemoveStrayState("digits", {{4, {kept}}}));
  EXPECT_THAT(removed,
              testing::UnorderedElementsAre(
                  "3.momentum.safetensors", "4.second_moment.safetensors",
                  "5.safetensors.tmp", "5.momentum.safetensors.tmp", "3.delta",
                  "3.delta.leaves", "4.delta.tmp", "2.leaves",
                  "2.safetensors.recovering", "2.safetensors.recovering.pieces",
                  "2.safetensors.recovering.leaves"));
  EXPECT_THAT(Files(&env),
              testing::UnorderedElementsAre(
                  "3.safetensors", "3.leaves", "4.safetensors", "4.leaves",
                  "4.momentum.safetensors", "4.delta", "4.delta.leaves",
                  "notes.txt", "5.momentum.txt", "x.momentum.safetensors",
                  "4.Mine.safetensors", ".safetensors", "leaves", "x.leaves",
                  "2.safetensors.recovering.txt"));
  EXPECT_THAT(store.RemoveStrayState("no-such-job", {}),
              IsOkAndHolds(IsEmpty()));
}

TEST(ModelStoreTest, RealFiles_PublishOpenRemove) {
  ModelStore store(
      RealEnv(), absl::StrCat(std::getenv("TEST_TMPDIR"), "/models"), 1 << 20);
  const std::vector<float> values = Values(Layout());
  ASSERT_OK_AND_ASSIGN(const v1::ModelManifest manifest,
                       Publish(&store, values));
  ASSERT_OK_AND_ASSIGN(
      const Model model,
      ReadModel(RealEnv(), store.PathOf("digits", 3), 1 << 20));
  EXPECT_EQ(model.values, values);
  ASSERT_OK(store.Open(manifest));
  EXPECT_EQ(manifest.chunk_digests(0), manifest.digest());
  EXPECT_OK(store.Remove("digits", 3));
}

}  // namespace
}  // namespace koinon::coordinator
