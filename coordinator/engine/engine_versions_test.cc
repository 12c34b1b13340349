// What the engine keeps of versions, and when the world is told of them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/testing_engine.h"
#include "coordinator/models/manifest_signer.h"

namespace koinon::coordinator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;

// Notes what it is told, and whether the journal knew it by then.
class RecordingOutlet final : public VersionOutlet {
 public:
  explicit RecordingOutlet(Journal* journal) : journal_(journal) {}

  std::optional<v1::Contact> Self() override { return std::nullopt; }
  void Serve(const v1::ModelManifest& manifest) override {
    Note("serve", manifest);
  }
  void Announce(const JobRow& job, const v1::ModelManifest& manifest,
                bool newest) override {
    EXPECT_EQ(job.spec.name(), manifest.job());
    const auto contents = journal_->Load();
    EXPECT_OK(contents);
    const auto& versions = contents->versions.at(manifest.job());
    EXPECT_EQ(versions.at(manifest.version()).manifest.signed_manifest(),
              manifest.signed_manifest());
    Note(newest ? "newest" : "announce", manifest);
  }
  void Withdraw(const v1::ModelManifest& manifest) override {
    Note("withdraw", manifest);
  }
  void WithdrawDelta(const v1::ModelManifest& manifest) override {
    Note("delta", manifest);
  }
  void SetPeers(const JobId&, std::vector<dht::Contact>) override {}
  void OnGone(const dht::Key& node) override {
    MutexLock lock(&mutex_);
    gone_.push_back(node);
  }

  std::vector<std::string> notes() {
    MutexLock lock(&mutex_);
    return notes_;
  }
  std::vector<dht::Key> gone() {
    MutexLock lock(&mutex_);
    return gone_;
  }

 private:
  void Note(const char* what, const v1::ModelManifest& manifest) {
    EXPECT_OK(SignedVersionOf(manifest));
    MutexLock lock(&mutex_);
    notes_.push_back(absl::StrCat(what, " ", manifest.version()));
  }

  Journal* const journal_;
  Mutex mutex_;
  std::vector<std::string> notes_ ABSL_GUARDED_BY(mutex_);
  std::vector<dht::Key> gone_ ABSL_GUARDED_BY(mutex_);
};

class EngineVersionsTest : public ::testing::Test {
 protected:
  EngineVersionsTest() { site_.name = "a"; }
  // A job of `rounds` rounds with one worker, to its end.
  std::vector<std::string> Run(int64_t rounds, int64_t keep_versions) {
    RecordingOutlet outlet(disk_.journal.get());
    Process process(&disk_, 1 << 20, keep_versions, &outlet);
    process.Start();
    FakeSession::Open(&process, &site_, 1);
    EXPECT_OK(Submit(&process, SmallJob("job", rounds, 1)));
    AwaitEnd(&process, "job");
    process.engine->Stop(kPatience);
    return outlet.notes();
  }
  static size_t PlaceOf(const std::vector<std::string>& notes,
                        const std::string& note) {
    const auto it = std::find(notes.begin(), notes.end(), note);
    EXPECT_NE(it, notes.end()) << note;
    return it - notes.begin();
  }

  Disk disk_;
  Site site_;
};

TEST_F(EngineVersionsTest, Published_IsServedBeforeItIsCommittedAndTold) {
  const std::vector<std::string> notes = Run(2, 0);
  EXPECT_THAT(notes,
              IsSupersetOf({"serve 0", "newest 0", "serve 1", "newest 1",
                            "serve 2", "newest 2", "delta 0", "delta 1"}));
  EXPECT_LT(PlaceOf(notes, "serve 1"), PlaceOf(notes, "newest 1"));
  EXPECT_LT(PlaceOf(notes, "serve 2"), PlaceOf(notes, "newest 2"));
  EXPECT_THAT(notes, Not(Contains("withdraw 0")));
}

TEST_F(EngineVersionsTest, Dropped_IsWithdrawn) {
  const std::vector<std::string> notes = Run(3, 1);
  EXPECT_THAT(notes, IsSupersetOf({"withdraw 0", "withdraw 1", "withdraw 2"}));
  EXPECT_THAT(notes, Not(Contains("withdraw 3")));
  EXPECT_LT(PlaceOf(notes, "newest 1"), PlaceOf(notes, "withdraw 0"));
}

TEST_F(EngineVersionsTest, Restarted_AnnouncesWhatIsKept_NewestFirst) {
  Run(2, 0);
  RecordingOutlet outlet(disk_.journal.get());
  Process process(&disk_, 1 << 20, 0, &outlet);
  process.Start();
  EXPECT_THAT(outlet.notes(),
              ElementsAre("serve 2", "newest 2", "serve 1", "announce 1",
                          "serve 0", "announce 0"));
}

TEST_F(EngineVersionsTest, WorkerThatIsDisconnected_ItsNodeHasGone) {
  RecordingOutlet outlet(disk_.journal.get());
  Process process(&disk_, 1 << 20, 0, &outlet);
  process.Start();
  const dht::Contact node = {
      .id = Sha256Of("node"), .address = "w:1", .site = ""};
  v1::Hello hello;
  hello.set_worker("a");
  *hello.mutable_peer() = dht::ContactToProto(node);
  const auto session = std::make_shared<FakeSession>(&process, &site_, 1,
                                                     /*automatic=*/false);
  process.engine->OnSessionOpened(1, session);
  process.engine->OnHello(1, hello, "test");
  ASSERT_OK(session->Await(v1::CoordinatorMessage::kWelcome));
  EXPECT_THAT(outlet.gone(), IsEmpty());
  process.engine->OnSessionClosed(1);
  process.engine->Stop(kPatience);
  EXPECT_THAT(outlet.gone(), ElementsAre(node.id));
}

TEST_F(EngineVersionsTest, Pin_SurvivesTheVersionsStateAndLaterRounds) {
  Process process(&disk_, 1 << 20, 1);
  process.Start();
  v1::JobSpec spec = SmallJob("job", 3, 1);
  spec.mutable_aggregation()->mutable_server_optimizer()->mutable_fedadam();
  ASSERT_OK(Submit(&process, spec));
  v1::PinModelRequest request;
  request.set_job("job");
  request.set_version(0);
  request.set_pinned(true);
  // The initial model may still be on its way.
  const auto pin = [&] {
    return Call<v1::ModelManifest>(
        [&](auto reply) { process.engine->PinModel(request, reply); });
  };
  auto pinned = pin();
  while (absl::IsNotFound(pinned.status())) pinned = pin();
  ASSERT_OK(pinned);
  EXPECT_TRUE(pinned->pinned());
  FakeSession::Open(&process, &site_, 1);
  AwaitEnd(&process, "job");
  process.engine->Stop(kPatience);
  ASSERT_OK_AND_ASSIGN(const JournalContents contents, disk_.journal->Load());
  const auto& versions = contents.versions.at("job");
  ASSERT_EQ(versions.size(), 2);
  EXPECT_TRUE(versions.at(0).manifest.pinned());
  EXPECT_FALSE(versions.at(3).manifest.pinned());
}

}  // namespace
}  // namespace koinon::coordinator
