#include "dht/swarm/fetcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/swarm/testing_content.h"
#include "dht/swarm/testing_host.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

using Reactor = grpc::ServerBidiReactor<v1::FetchRequest, v1::FetchReply>;

// One process with the file that it fetches or has.
struct Member {
  explicit Member(TestHost::Options options) : host(std::move(options)) {}

  absl::Status Fetch(SwarmFetch::Options options) {
    SwarmFetch fetch(&host, std::move(options));
    const absl::Status status = fetch.Run();
    traffic = fetch.traffic();
    liars = fetch.liars();
    return status;
  }

  MemoryEnv env;
  std::shared_ptr<ContentFile> file;
  TestHost host;
  v1::SwarmTraffic traffic;
  std::vector<std::string> liars;
};

class SwarmFetchTest : public testing::Test {
 protected:
  static constexpr int64_t kPiece = 64 << 10;

  SwarmFetchTest() : test_(RandomContent(7, 60 * kPiece + 30'000, kPiece)) {}

  std::unique_ptr<Member> NewOrigin() {
    TestHost::Options options{.name = "origin"};
    options.seeder.is_origin = true;
    auto origin = std::make_unique<Member>(options);
    Fill(origin.get());
    return origin;
  }

  // It has the content, and is no origin.
  std::unique_ptr<Member> NewHolder(const std::string& name) {
    auto holder = std::make_unique<Member>(TestHost::Options{.name = name});
    Fill(holder.get());
    return holder;
  }

  std::unique_ptr<Member> NewWorker(const std::string& name,
                                    bool serves = true) {
    auto worker = std::make_unique<Member>(
        TestHost::Options{.name = name, .serves = serves});
    Open(worker.get(), &worker->env);
    return worker;
  }

  // The content is to be fetched once more.
  void Forget(Member* member) {
    member->host.board()->Remove(*Digest::FromBytes(test_.content().root()));
    member->file.reset();
    for (const char* suffix : {"", ".pieces", ".leaves"}) {
      ASSERT_THAT(member->env.Remove(absl::StrCat("/model", suffix)), IsOk());
    }
    Open(member, &member->env);
  }

  void Open(Member* member, Env* env) {
    auto file = ContentFile::Resume(env, "/model", test_.content());
    ASSERT_THAT(file, IsOk());
    member->file = *std::move(file);
    member->host.board()->Add(member->file, FileDigest());
  }

  void Fill(Member* member) {
    ASSERT_THAT(WriteContent(&member->env, "/model", test_), IsOk());
    auto file = ContentFile::OpenWhole(&member->env, "/model", test_.content(),
                                       test_.tree.leaves);
    ASSERT_THAT(file, IsOk());
    member->file = *std::move(file);
    member->host.board()->Add(member->file, FileDigest());
  }

  void Put(ContentFile* file, uint32_t piece) {
    ASSERT_THAT(file->SetPieceLayer(test_.tree.pieces), IsOk());
    auto incoming = file->Begin(piece, test_.LeavesOf(piece));
    ASSERT_THAT(incoming, IsOk());
    ASSERT_THAT((*incoming)->Append(test_.Piece(piece)), IsOk());
    ASSERT_THAT((*incoming)->Finish(), IsOk());
  }

  static Digest FileDigest() { return Sha256Of("file"); }

  SwarmFetch::Options OptionsFor(const Member& member) const {
    SwarmFetch::Options options;
    options.content = test_.content();
    options.file_digest = FileDigest();
    options.file = member.file;
    options.patience = absl::Seconds(20);
    // Who would wait for a last resort waits for ever: where that is not what a
    // test is about, nothing depends on how fast the machine is.
    options.picker.last_resort_patience = absl::Hours(1);
    return options;
  }

  void ExpectWhole(const Member& member) const {
    ASSERT_TRUE(member.file->complete());
    std::vector<uint8_t> bytes(test_.bytes.size());
    for (uint32_t i = 0; i < member.file->map().pieces(); ++i) {
      ASSERT_THAT(
          member.file->Read(i, 0, member.file->map().PieceBytes(i),
                            bytes.data() + member.file->map().PieceOffset(i)),
          IsOk());
    }
    EXPECT_TRUE(bytes == test_.bytes);
  }

  const TestContent test_;
};

TEST_F(SwarmFetchTest, OneWorker_TakesEverythingFromTheOriginWithoutWaiting) {
  const auto origin = NewOrigin();
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.origin = origin->host.self();
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
  EXPECT_EQ(worker->traffic.from_origin(), test_.bytes.size());
  EXPECT_EQ(worker->traffic.from_peers(), 0);
  EXPECT_EQ(worker->traffic.wasted(), 0);
  EXPECT_EQ(origin->host.board()->traffic().to_peers(), test_.bytes.size());
  EXPECT_EQ(worker->host.board()->traffic().from_origin(), test_.bytes.size());
  EXPECT_EQ(origin->host.seeder()->counts().last_resort, 0);
}

TEST_F(SwarmFetchTest, EightWorkers_CostTheOriginTwoCopies) {
  const auto origin = NewOrigin();
  std::vector<std::unique_ptr<Member>> workers;
  std::vector<Contact> contacts;
  for (int i = 0; i < 8; ++i) {
    workers.push_back(NewWorker(absl::StrCat("worker", i)));
    contacts.push_back(workers.back()->host.self());
  }
  std::vector<std::thread> threads;
  for (const auto& worker : workers) {
    threads.emplace_back([&, member = worker.get()] {
      SwarmFetch::Options options = OptionsFor(*member);
      options.origin = origin->host.self();
      options.peers = contacts;  // itself among them
      EXPECT_THAT(member->Fetch(options), IsOk());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& worker : workers) ExpectWhole(*worker);
  EXPECT_LE(origin->host.board()->traffic().to_peers(),
            2.1 * test_.bytes.size());
}

TEST_F(SwarmFetchTest, Peers_ThatOnlyTheDhtOrTheOriginKnows_AreFound) {
  const auto holder = NewHolder("holder");
  {
    const auto worker = NewWorker("through the DHT");
    worker->host.SetProviders({holder->host.self()});
    EXPECT_THAT(worker->Fetch(OptionsFor(*worker)), IsOk());
    ExpectWhole(*worker);
    EXPECT_EQ(worker->traffic.from_peers(), test_.bytes.size());
  }
  const auto origin = NewOrigin();
  origin->host.board()->SetOthers(
      [&](const Digest&) { return std::vector<Contact>{holder->host.self()}; });
  const auto worker = NewWorker("through the origin");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.origin = origin->host.self();
  options.rediscover = absl::Hours(1);
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
}

TEST_F(SwarmFetchTest, OriginThatStopsOnceOneCopyIsOut_IsNotMissed) {
  auto origin = NewOrigin();
  // Two workers have half each, and no more comes from the origin.
  std::vector<std::unique_ptr<Member>> workers;
  std::vector<Contact> contacts;
  for (int i = 0; i < 4; ++i) {
    workers.push_back(NewWorker(absl::StrCat("worker", i)));
    contacts.push_back(workers.back()->host.self());
  }
  for (uint32_t piece = 0; piece < test_.map().pieces(); ++piece) {
    Put(workers[piece % 2]->file.get(), piece);
  }
  const Contact gone = origin->host.self();
  origin.reset();
  std::vector<std::thread> threads;
  for (const auto& worker : workers) {
    threads.emplace_back([&, member = worker.get()] {
      SwarmFetch::Options options = OptionsFor(*member);
      options.origin = gone;
      options.peers = contacts;
      EXPECT_THAT(member->Fetch(options), IsOk());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& worker : workers) ExpectWhole(*worker);
}

// Says that it has everything, and sends the content with one byte of a hundred
// blocks wrong; or with wrong leaf hashes, or out of order. A poor one has
// nothing, and says so; a rude one says so before it says anything else. One
// that names others has nothing either, and calls `named` once it has named two
// hundred that are nobody. One that repeats says that it is the origin, and
// sends the first piece for any; one that insists, without an end. One that
// gives up ends no piece, and says that it has it.
class Liar final : public Reactor {
 public:
  enum class How {
    kBytes,
    kLeaves,
    kOrder,
    kUnasked,
    kNone,
    kChatter,
    kEmpty,
    kPoor,
    kRude,
    kNames,
    kRepeats,
    kInsists,
    kGivesUp
  };
  Liar(
      const TestContent* test, How how, std::function<void()> named = [] {})
      : test_(test), how_(how), named_(std::move(named)) {
    StartRead(&request_);
  }
  void OnReadDone(bool ok) override {
    if (!ok) {
      finished_ = true;
      return Finish(grpc::Status::OK);
    }
    if (request_.has_open()) {
      Bitmap all(test_->map().pieces());
      const bool has = how_ != How::kPoor && how_ != How::kNames;
      for (uint32_t i = 0; has && i < all.size(); ++i) all.Set(i);
      v1::FetchReply reply;
      if (how_ == How::kRude) {
        reply.mutable_have();
      } else {
        reply.mutable_opened()->set_have(all.ToBytes());
        reply.mutable_opened()->set_origin(repeats());
        if (how_ == How::kNames) NameNobodies(reply.mutable_opened());
      }
      Push(reply);
      if (how_ == How::kUnasked) AddPiece(3);
      if (how_ == How::kNone) {
        v1::FetchReply none;
        none.mutable_none();
        Push(none);
      }
    } else if (request_.has_want_piece_layer()) {
      v1::FetchReply reply;
      for (const Digest& hash : test_->tree.pieces) {
        *reply.mutable_piece_layer()->mutable_hashes() += hash.ToBytes();
      }
      Push(reply);
    } else if (request_.has_want() && !talks()) {
      for (const uint32_t piece : request_.want().pieces()) AddPiece(piece);
    } else if (request_.has_want_any() && repeats()) {
      for (uint32_t i = 0; i < request_.want_any().count(); ++i) AddPiece(0);
      insisting_ = how_ == How::kInsists;
    }
    WriteOn();
    StartRead(&request_);
  }
  void OnWriteDone(bool ok) override {
    writing_ = false;
    if (how_ == How::kNames) named_();
    if (insisting_ && ok && sent_all()) AddPiece(0);
    if (talks() && ok) {  // what it has, or nothing, again and again
      v1::FetchReply reply;
      if (how_ == How::kChatter) reply.mutable_have()->add_pieces(0);
      Push(reply);
    }
    WriteOn();
  }
  void OnCancel() override {}
  void OnDone() override { delete this; }

 private:
  // Connections to them are refused: nobody listens on port 1.
  static void NameNobodies(v1::ContentOpened* opened) {
    for (int i = 0; i < 200; ++i) {
      *opened->add_others() =
          ContactToProto({.id = Sha256Of(absl::StrCat("nobody ", i)),
                          .address = absl::StrCat("127.9.9.", i + 1, ":1"),
                          .site = ""});
    }
  }
  bool repeats() const {
    return how_ == How::kRepeats || how_ == How::kInsists;
  }
  bool talks() const { return how_ == How::kChatter || how_ == How::kEmpty; }
  bool sent_all() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return replies_.empty();
  }
  void Push(const v1::FetchReply& reply) { PushAll({reply}); }
  void PushAll(const std::vector<v1::FetchReply>& replies) {
    const std::lock_guard<std::mutex> lock(mutex_);
    replies_.insert(replies_.end(), replies.begin(), replies.end());
  }
  // In one go: it is called from two threads.
  void AddPiece(uint32_t piece) { PushAll(RepliesOf(piece)); }
  std::vector<v1::FetchReply> RepliesOf(uint32_t piece) {
    std::vector<v1::FetchReply> replies(1);
    replies[0].mutable_piece_start()->set_piece(piece);
    for (const Digest& leaf :
         test_->LeavesOf(how_ == How::kLeaves ? (piece + 1) % 60 : piece)) {
      *replies[0].mutable_piece_start()->mutable_leaf_hashes() +=
          leaf.ToBytes();
    }
    const auto bytes = test_->Piece(piece);
    for (size_t at = 0; at < bytes.size(); at += kLeafBytes) {
      v1::FetchReply& reply = replies.emplace_back();
      if (how_ == How::kGivesUp && at + kLeafBytes >= bytes.size()) {
        reply.mutable_refused()->set_piece(piece);
        replies.emplace_back().mutable_have()->add_pieces(piece);
        break;
      }
      v1::Block* block = reply.mutable_block();
      block->set_piece(piece);
      block->set_offset(how_ == How::kOrder ? at + kLeafBytes : at);
      const auto part = bytes.subspan(at, kLeafBytes);
      block->set_data(std::string(part.begin(), part.end()));
      if (how_ == How::kBytes && ++blocks_ % 100 == 10) {
        (*block->mutable_data())[5] ^= 1;
      }
    }
    return replies;
  }
  void WriteOn() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (writing_ || finished_ || replies_.empty()) return;
    writing_ = true;
    reply_ = replies_.front();
    replies_.pop_front();
    StartWrite(&reply_);
  }

  const TestContent* const test_;
  const How how_;
  const std::function<void()> named_;
  std::mutex mutex_;
  std::deque<v1::FetchReply> replies_;
  v1::FetchRequest request_;
  v1::FetchReply reply_;
  int blocks_ = 0;
  std::atomic<bool> insisting_{false};
  std::atomic<bool> writing_{false};
  std::atomic<bool> finished_{false};
};

class SwarmFetchFromLiarTest : public SwarmFetchTest,
                               public testing::WithParamInterface<Liar::How> {};

TEST_P(SwarmFetchFromLiarTest, Liar_IsFoundAndBannedAndNothingOfItIsUsed) {
  const auto honest = NewHolder("honest");
  Member liar({.name = "liar", .serve_instead = [this] {
                 return new Liar(&test_, GetParam());
               }});
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {liar.host.self(), honest->host.self()};
  // Half of the content must come from each, or the liar is never asked.
  options.picker.in_flight_per_source = 2;
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
  EXPECT_THAT(worker->liars, ElementsAre(liar.host.self().id.ToHex()));
  if (GetParam() == Liar::How::kBytes) {
    EXPECT_GT(worker->traffic.wasted(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Lies, SwarmFetchFromLiarTest,
                         testing::Values(Liar::How::kBytes, Liar::How::kLeaves,
                                         Liar::How::kOrder, Liar::How::kUnasked,
                                         Liar::How::kNone));

TEST_F(SwarmFetchTest, PeerThatNamesManyNobodies_HidesNobodyThatTheDhtNames) {
  const auto holder = NewHolder("holder");
  const auto worker = NewWorker("worker");
  TestHost namer({.name = "namer", .serve_instead = [&]() -> Reactor* {
                    return new Liar(&test_, Liar::How::kNames, [&] {
                      worker->host.SetProviders({holder->host.self()});
                    });
                  }});
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {namer.self()};
  options.rediscover = absl::Milliseconds(500);
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
}

// What it says before it has shown who it is says nothing of whom it claims to
// be.
TEST_F(SwarmFetchTest, BreachInTheNameOfAnother_IsNotHeldAgainstIt) {
  const auto holder = NewHolder("holder");
  const auto worker = NewWorker("worker");
  TestHost rude({.name = "rude", .serve_instead = [&]() -> Reactor* {
                   return new Liar(&test_, Liar::How::kRude);
                 }});
  worker->host.SetProviders({holder->host.self()});
  SwarmFetch::Options options = OptionsFor(*worker);
  Contact claimed = holder->host.self();
  claimed.address = rude.self().address;
  options.peers = {claimed};
  options.rediscover = absl::Milliseconds(500);
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
  EXPECT_THAT(worker->liars, IsEmpty());
}

TEST_F(SwarmFetchTest, LiarOfAnEarlierFetch_IsNotAskedUntilItsBanIsOver) {
  const auto honest = NewHolder("honest");
  std::atomic<int> opened{0};
  Member liar({.name = "liar", .serve_instead = [this, &opened] {
                 ++opened;
                 return new Liar(&test_, Liar::How::kBytes);
               }});
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {liar.host.self(), honest->host.self()};
  options.picker.in_flight_per_source = 2;
  EXPECT_THAT(worker->Fetch(options), IsOk());
  EXPECT_EQ(opened, 1);
  EXPECT_EQ(worker->host.liars()->lies(), 1);
  EXPECT_THAT(worker->host.liars()->Worst(9),
              ElementsAre(Pair(liar.host.self().id, 1)));

  Forget(worker.get());
  options = OptionsFor(*worker);
  options.peers = {liar.host.self(), honest->host.self()};
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
  EXPECT_EQ(opened, 1);
  EXPECT_EQ(worker->traffic.wasted(), 0);
  EXPECT_THAT(worker->liars, IsEmpty());
}

TEST_F(SwarmFetchTest, NobodyButALiarOfThreeTimes_IsSaid) {
  const auto honest = NewHolder("honest");
  const auto worker = NewWorker("worker");
  for (int i = 0; i < 3; ++i) {
    worker->host.liars()->Count(honest->host.self().id,
                                worker->host.clock().Now());
  }
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {honest->host.self()};
  options.wait_for_sources = false;
  EXPECT_THAT(worker->Fetch(options),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("banned until it has")));
  EXPECT_EQ(worker->host.board()->traffic().from_peers(), 0);
}

// Nobody else may have a version: its lies are found leaf by leaf.
TEST_F(SwarmFetchTest, OriginThatLiedInEarlierFetches_IsAskedAllTheSame) {
  const auto origin = NewOrigin();
  const auto worker = NewWorker("worker");
  for (int i = 0; i < 3; ++i) {
    worker->host.liars()->Count(origin->host.self().id,
                                worker->host.clock().Now());
  }
  SwarmFetch::Options options = OptionsFor(*worker);
  options.origin = origin->host.self();
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
}

// The origin believes that two who have left have it all, and they are gone.
TEST_F(SwarmFetchTest, NamedPeersThatAreGone_AreNotWaitedForLong) {
  const auto origin = NewOrigin();
  std::vector<Contact> gone;
  for (const char* name : {"a", "b"}) {
    const auto worker = NewWorker(name);
    SwarmFetch::Options options = OptionsFor(*worker);
    options.origin = origin->host.self();
    options.peers = gone;
    ASSERT_THAT(worker->Fetch(options), IsOk());
    gone.push_back(worker->host.self());
    worker->host.StopServing();
  }
  const auto late = NewWorker("late");
  SwarmFetch::Options options = OptionsFor(*late);
  options.origin = origin->host.self();
  options.peers = gone;
  // Its last resort would come after four of these, if it waited for peers; and
  // then the fetch would have ended.
  options.picker.last_resort_patience = absl::Seconds(3);
  options.patience = absl::Seconds(9);
  EXPECT_THAT(late->Fetch(options), IsOk());
  ExpectWhole(*late);
  EXPECT_GT(origin->host.seeder()->counts().last_resort, 0);
}

// Its own disk has lost a piece, which others have.
TEST_F(SwarmFetchTest, OriginWhoseDiskHasLostAPiece_SendsNoLies) {
  const auto origin = NewOrigin();
  ASSERT_THAT(DamageFile(&origin->env, "/model", 7 * kPiece + 1000), IsOk());
  const auto other = NewWorker("other");
  Put(other->file.get(), 7);
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.origin = origin->host.self();
  options.cancelled = [&] {
    return worker->file->have().count() == 60 &&
           origin->host.board()->lost() == 1;
  };
  EXPECT_THAT(worker->Fetch(options), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(worker->liars, IsEmpty());
  options = OptionsFor(*worker);
  options.origin = origin->host.self();
  options.peers = {other->host.self()};
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
  EXPECT_THAT(worker->liars, IsEmpty());
  EXPECT_EQ(origin->host.board()->lost(), 1);
}

// It is told by nobody: who was sent it breaks off, and so it looks.
TEST_F(SwarmFetchTest, PeerWhoseDiskHasLostAPiece_LiesOnce) {
  const auto holder = NewHolder("holder");
  ASSERT_THAT(DamageFile(&holder->env, "/model", 7 * kPiece + 1000), IsOk());
  for (const bool first : {true, false}) {
    const auto worker = NewWorker(first ? "first" : "second");
    SwarmFetch::Options options = OptionsFor(*worker);
    options.peers = {holder->host.self()};
    options.cancelled = [&] {
      if (first) return worker->host.liars()->lies() > 0;
      return worker->file->have().count() == 60 &&
             holder->host.board()->lost() == 1;
    };
    EXPECT_THAT(worker->Fetch(options), StatusIs(absl::StatusCode::kCancelled));
    EXPECT_EQ(worker->liars.size(), first ? 1 : 0);
    while (holder->host.seeder()->counts().streams > 0) {
      std::this_thread::yield();
    }
  }
  EXPECT_EQ(holder->host.board()->lost(), 1);
}

// Nobody tells it who the origin is: whoever says so may choose what to give.
class SwarmFetchFromNoOriginTest
    : public SwarmFetchTest,
      public testing::WithParamInterface<Liar::How> {};

TEST_P(SwarmFetchFromNoOriginTest, PeerThatGivesNothingNew_EndsThePatience) {
  TestHost liar({.name = "liar", .serve_instead = [this]() -> Reactor* {
                   return new Liar(&test_, GetParam());
                 }});
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {liar.self()};
  options.patience = absl::Seconds(2);
  EXPECT_THAT(worker->Fetch(options),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("nothing")));
  EXPECT_EQ(worker->file->have().count(),
            GetParam() == Liar::How::kGivesUp ? 0 : 1);
  // Who sends more than it was asked for breaks the rules, if it is so fast.
  EXPECT_LE(worker->liars.size(), GetParam() == Liar::How::kInsists ? 1 : 0);
}

INSTANTIATE_TEST_SUITE_P(Liars, SwarmFetchFromNoOriginTest,
                         testing::Values(Liar::How::kRepeats,
                                         Liar::How::kInsists,
                                         Liar::How::kGivesUp));

using SwarmFetchFromTalkerTest = SwarmFetchFromLiarTest;

TEST_P(SwarmFetchFromTalkerTest, PeerThatGivesNothing_LosesItsPlace) {
  TestHost talker({.name = "talker", .serve_instead = [this]() -> Reactor* {
                     return new Liar(&test_, GetParam());
                   }});
  const auto honest = NewHolder("honest");
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {talker.self(), honest->host.self()};
  options.max_sources = 1;
  options.silence = absl::Milliseconds(300);
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
  EXPECT_THAT(worker->liars, IsEmpty());
  EXPECT_GT(worker->traffic.from_peers(), 0);
}

INSTANTIATE_TEST_SUITE_P(Talk, SwarmFetchFromTalkerTest,
                         testing::Values(Liar::How::kChatter,
                                         Liar::How::kEmpty));

// Its only source has half of it, and nobody who goes on.
TEST_F(SwarmFetchTest, SourceThatHasNoMore_GivesWayToAnother) {
  const auto half = NewWorker("half");
  for (uint32_t piece = 0; piece < 30; ++piece) Put(half->file.get(), piece);
  const auto holder = NewHolder("holder");
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {half->host.self(), holder->host.self()};
  options.max_sources = 1;
  options.picker.last_resort_patience = absl::Milliseconds(200);
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
  EXPECT_THAT(worker->liars, IsEmpty());
  EXPECT_EQ(half->host.board()->traffic().to_peers(), 30 * kPiece);
}

// Six for two places, in eight times as long as each of them may stay.
TEST_F(SwarmFetchTest, SourcesWithNothing_AreNotOpenedAgainAndAgain) {
  std::atomic<int> opened{0};
  std::vector<std::unique_ptr<TestHost>> poor;
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  for (int i = 0; i < 6; ++i) {
    poor.push_back(std::make_unique<TestHost>(TestHost::Options{
        .name = absl::StrCat("poor ", i), .serve_instead = [&]() -> Reactor* {
          ++opened;
          return new Liar(&test_, Liar::How::kPoor);
        }}));
    options.peers.push_back(poor.back()->self());
  }
  options.max_sources = 2;
  options.picker.last_resort_patience = absl::Milliseconds(250);
  options.patience = absl::Seconds(2);
  EXPECT_THAT(worker->Fetch(options),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("nothing")));
  EXPECT_GT(opened, 2);
  EXPECT_LE(opened, 2 * (8 + 2));
}

TEST_F(SwarmFetchTest, FetchThatWasCancelled_IsTakenUpWhereItWas) {
  const auto origin = NewOrigin();
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.origin = origin->host.self();
  options.picker.in_flight_per_source = 2;  // the rest is not on its way yet
  std::atomic<bool> half{false};
  options.on_progress = [&](int64_t have, int64_t size) {
    if (have > size / 2) half = true;
  };
  options.cancelled = [&] { return half.load(); };
  EXPECT_THAT(worker->Fetch(options), StatusIs(absl::StatusCode::kCancelled));
  const int64_t before = worker->traffic.from_origin();
  const auto have = worker->file->have().count();
  EXPECT_GT(have, 30);
  EXPECT_LT(have, 61);

  worker->host.board()->Remove(*Digest::FromBytes(test_.content().root()));
  worker->file.reset();
  Open(worker.get(), &worker->env);  // as after a restart
  EXPECT_EQ(worker->file->have().count(), have);
  options = OptionsFor(*worker);
  options.origin = origin->host.self();
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
  // What was half through is fetched again, and nothing else.
  EXPECT_LE(before + worker->traffic.from_origin(),
            static_cast<int64_t>(test_.bytes.size()) + 4 * kPiece);
}

TEST_F(SwarmFetchTest, FullDisk_EndsItAndTearsNothing) {
  const auto origin = NewOrigin();
  const auto worker = NewWorker("worker");
  FaultInjectingEnv faulty(&worker->env);
  Open(worker.get(), &faulty);
  SwarmFetch::Options options = OptionsFor(*worker);
  options.origin = origin->host.self();
  options.on_progress = [&](int64_t have, int64_t) {
    if (have > 10 * kPiece) faulty.FillDisk();
  };
  EXPECT_THAT(worker->Fetch(options),
              StatusIs(absl::StatusCode::kResourceExhausted));
  faulty.StopFailing();
  worker->host.board()->Remove(*Digest::FromBytes(test_.content().root()));
  Open(worker.get(), &faulty);
  options = OptionsFor(*worker);
  options.origin = origin->host.self();
  EXPECT_THAT(worker->Fetch(options), IsOk());
  ExpectWhole(*worker);
}

TEST_F(SwarmFetchTest, NobodyThere_IsSaidWithReasons) {
  auto origin = NewOrigin();
  const Contact gone = origin->host.self();
  origin.reset();
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.origin = gone;
  options.patience = absl::Seconds(2);
  EXPECT_THAT(worker->Fetch(options),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr(gone.id.ToShortHex())));
}

TEST_F(SwarmFetchTest, PeersWithoutTheContent_EndAFetchThatDoesNotWait) {
  const auto other = NewHolder("other");
  other->host.board()->Remove(*Digest::FromBytes(test_.content().root()));
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {other->host.self()};
  options.rediscover = absl::ZeroDuration();
  options.patience = absl::Hours(1);
  options.wait_for_sources = false;
  EXPECT_THAT(worker->Fetch(options),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("nobody")));
}

TEST_F(SwarmFetchTest, RefusedFetcher_IsToldWhyAndDoesNotAskAgain) {
  const auto holder = NewHolder("holder");
  holder->host.SetAllowed(absl::PermissionDeniedError("another site"));
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {holder->host.self()};
  options.patience = absl::Seconds(2);
  EXPECT_THAT(worker->Fetch(options), StatusIs(absl::StatusCode::kUnavailable,
                                               HasSubstr("another site")));
  EXPECT_EQ(holder->host.seeder()->counts().refused, 1);
}

TEST_F(SwarmFetchTest, OwnPolicy_KeepsItFromAsking) {
  const auto holder = NewHolder("holder");
  const auto worker = NewWorker("worker");
  worker->host.SetMayFetchFrom(absl::PermissionDeniedError("not from there"));
  SwarmFetch::Options options = OptionsFor(*worker);
  options.peers = {holder->host.self()};
  options.rediscover = absl::ZeroDuration();
  options.wait_for_sources = false;
  EXPECT_THAT(worker->Fetch(options), StatusIs(absl::StatusCode::kUnavailable,
                                               HasSubstr("not from there")));
  EXPECT_EQ(holder->host.seeder()->counts().pieces, 0);
}

// Whoever serves nobody is served by its peers, and named to nobody.
TEST_F(SwarmFetchTest, LeechOnly_FetchesAndServesNobody) {
  const auto origin = NewOrigin();
  const auto leech = NewWorker("leech", /*serves=*/false);
  const auto worker = NewWorker("worker");
  SwarmFetch::Options options = OptionsFor(*worker);
  options.origin = origin->host.self();
  EXPECT_THAT(worker->Fetch(options), IsOk());
  options = OptionsFor(*leech);
  options.origin = origin->host.self();
  options.peers = {worker->host.self()};
  EXPECT_THAT(leech->Fetch(options), IsOk());
  ExpectWhole(*leech);
  EXPECT_EQ(leech->host.board()->traffic().to_peers(), 0);
  EXPECT_GT(leech->traffic.from_peers(), 0);
}

TEST_F(SwarmFetchTest, GrowingContent_IsServedWhileItGrows) {
  const auto origin = NewOrigin();
  const auto first = NewWorker("first");
  const auto second = NewWorker("second");
  // The second knows only the first, which gets it all at the same time.
  std::thread behind([&] {
    SwarmFetch::Options options = OptionsFor(*second);
    options.peers = {first->host.self()};
    options.patience = absl::Seconds(30);
    EXPECT_THAT(second->Fetch(options), IsOk());
  });
  SwarmFetch::Options options = OptionsFor(*first);
  options.origin = origin->host.self();
  EXPECT_THAT(first->Fetch(options), IsOk());
  behind.join();
  ExpectWhole(*second);
  EXPECT_EQ(second->traffic.from_peers(), test_.bytes.size());
}

TEST_F(SwarmFetchTest, ContentThatIsHere_IsNotFetched) {
  const auto worker = NewHolder("worker");
  EXPECT_THAT(worker->Fetch(OptionsFor(*worker)), IsOk());
  EXPECT_EQ(worker->traffic.from_peers(), 0);
}

}  // namespace
}  // namespace koinon::dht
