#include "dht/swarm/serve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/swarm/testing_content.h"
#include "dht/swarm/testing_host.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::testing::HasSubstr;

constexpr int64_t kPiece = 64 << 10;

// A caller that says what it likes.
class Caller {
 public:
  explicit Caller(const TestHost& host, bool narrow = false)
      : stub_(v1::PeerService::NewStub(grpc::CreateCustomChannel(
            host.self().address, grpc::InsecureChannelCredentials(),
            Arguments(narrow)))),
        stream_(stub_->Fetch(&context_)) {}

  bool Send(const v1::FetchRequest& request) { return stream_->Write(request); }
  bool Open(const v1::Content& content) {
    v1::FetchRequest request;
    request.mutable_open()->set_root(content.root());
    return Send(request);
  }
  // The next reply; empty when there is none any more.
  v1::FetchReply Read() {
    v1::FetchReply reply;
    if (!stream_->Read(&reply)) reply.Clear();
    return reply;
  }
  grpc::Status End() {
    while (Read().message_case() != v1::FetchReply::MESSAGE_NOT_SET) {
    }
    return stream_->Finish();
  }
  void Done() { stream_->WritesDone(); }
  void Cancel() { context_.TryCancel(); }

 private:
  // Narrow: what is not read is not taken in either, but for 64 KiB.
  static grpc::ChannelArguments Arguments(bool narrow) {
    grpc::ChannelArguments arguments;
    if (narrow) arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    return arguments;
  }

  grpc::ClientContext context_;
  std::unique_ptr<v1::PeerService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::FetchRequest, v1::FetchReply>>
      stream_;
};

class SeederTest : public testing::Test {
 protected:
  SeederTest() : test_(RandomContent(3, 9 * kPiece, kPiece)) {}

  void Start(Seeder::Options options) {
    host_ = std::make_unique<TestHost>(
        TestHost::Options{.name = "host", .seeder = options});
  }
  void AddGrowing() {
    auto file = ContentFile::Resume(&env_, "/growing", test_.content());
    ASSERT_THAT(file, IsOk());
    file_ = *std::move(file);
    ASSERT_THAT(file_->SetPieceLayer(test_.tree.pieces), IsOk());
    host_->board()->Add(file_, Digest());
  }
  void AddWhole() {
    ASSERT_THAT(WriteContent(&env_, "/whole", test_), IsOk());
    auto file = ContentFile::OpenWhole(&env_, "/whole", test_.content(),
                                       test_.tree.leaves);
    ASSERT_THAT(file, IsOk());
    host_->board()->Add(*file, Digest());
  }
  void Put(uint32_t piece) {
    auto incoming = file_->Begin(piece, test_.LeavesOf(piece));
    ASSERT_THAT(incoming, IsOk());
    ASSERT_THAT((*incoming)->Append(test_.Piece(piece)), IsOk());
    ASSERT_THAT((*incoming)->Finish(), IsOk());
    host_->board()->OnPiece(*Digest::FromBytes(test_.content().root()), piece);
  }

  MemoryEnv env_;
  const TestContent test_;
  std::shared_ptr<ContentFile> file_;
  std::unique_ptr<TestHost> host_;
};

TEST_F(SeederTest, FirstRequest_MustOpenAContentThatIsHere) {
  Start({});
  AddGrowing();
  {
    Caller caller(*host_);
    v1::FetchRequest request;
    request.mutable_want_any()->set_count(1);
    caller.Send(request);
    EXPECT_EQ(caller.End().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  }
  {
    Caller caller(*host_);
    v1::Content other;
    other.set_root(Sha256Of("other").ToBytes());
    caller.Open(other);
    EXPECT_EQ(caller.End().error_code(), grpc::StatusCode::NOT_FOUND);
  }
  {
    Caller caller(*host_);
    v1::Content other;
    other.set_root("short");
    caller.Open(other);
    EXPECT_EQ(caller.End().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  {
    Caller caller(*host_);
    v1::FetchRequest request;
    request.mutable_open()->set_root(test_.content().root());
    request.mutable_open()->set_have("too long for nine pieces");
    caller.Send(request);
    EXPECT_EQ(caller.End().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  {
    Caller caller(*host_);
    caller.Open(test_.content());
    EXPECT_TRUE(caller.Read().has_opened());
    caller.Done();
    EXPECT_TRUE(caller.End().ok());
  }
}

TEST_F(SeederTest, NewPieces_AreToldToWhoHasTheContentOpen) {
  Start({});
  AddGrowing();
  Put(0);
  Caller caller(*host_);
  caller.Open(test_.content());
  ASSERT_TRUE(caller.Read().has_opened());
  Put(4);
  const v1::FetchReply have = caller.Read();
  ASSERT_TRUE(have.has_have());
  EXPECT_THAT(have.have().pieces(), testing::ElementsAre(4));
  v1::FetchRequest request;
  request.mutable_want()->add_pieces(4);
  caller.Send(request);
  EXPECT_TRUE(caller.Read().has_piece_start());
  EXPECT_TRUE(caller.Read().has_block());
  caller.Done();
  EXPECT_TRUE(caller.End().ok());
  EXPECT_EQ(host_->board()->traffic().to_peers(), kPiece);
}

// However slow this machine is: the more time goes by, the more it may be.
TEST_F(SeederTest, NewsOfManyPieces_GoesOutTogether) {
  constexpr absl::Duration kEvery = absl::Milliseconds(300);
  Start({.have_every = kEvery});
  AddGrowing();
  Caller caller(*host_);
  caller.Open(test_.content());
  ASSERT_TRUE(caller.Read().has_opened());
  const absl::Time begin = absl::Now();
  std::set<uint32_t> told;
  int64_t messages = 0;
  const auto read = [&] {
    const v1::FetchReply have = caller.Read();
    ASSERT_TRUE(have.has_have());
    told.insert(have.have().pieces().begin(), have.have().pieces().end());
    ++messages;
  };
  Put(0);
  ASSERT_NO_FATAL_FAILURE(read());
  for (uint32_t piece = 1; piece < 9; ++piece) {
    Put(piece);
    std::this_thread::yield();
  }
  while (told.size() < 9) ASSERT_NO_FATAL_FAILURE(read());
  EXPECT_LE(messages, 2 + (absl::Now() - begin) / kEvery);
  caller.Done();
  EXPECT_TRUE(caller.End().ok());
}

TEST_F(SeederTest, BytesThatAreNoRequest_EndTheStream) {
  Start({});
  AddGrowing();
  Caller caller(*host_);
  v1::FetchRequest request;
  // A length beyond the end: a field that nobody knows, left as it is.
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(
      1, "\x0a\x7f");
  caller.Send(request);
  EXPECT_EQ(caller.End().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(host_->seeder()->counts().pieces, 0);
}

TEST_F(SeederTest, StreamsOverTheBound_AreRefused) {
  Start({.max_streams = 1});
  AddGrowing();
  Caller first(*host_);
  first.Open(test_.content());
  ASSERT_TRUE(first.Read().has_opened());
  EXPECT_EQ(host_->seeder()->counts().streams, 1);
  Caller second(*host_);
  second.Open(test_.content());
  EXPECT_EQ(second.End().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  first.Done();
  EXPECT_TRUE(first.End().ok());
  while (host_->seeder()->counts().streams > 0) std::this_thread::yield();
  Caller third(*host_);
  third.Open(test_.content());
  EXPECT_TRUE(third.Read().has_opened());
  third.Cancel();
  third.End();
}

// With a certificate that makes it a node, and with one that does not.
class SeederGreedyTest : public SeederTest,
                         public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(All, SeederGreedyTest, testing::Bool());

TEST_P(SeederGreedyTest, OneCaller_DoesNotTakeThePlacesOfAll) {
  Seeder::Caller greedy{.member = Sha256Of("greedy")};
  if (GetParam()) greedy.node = greedy.member;
  Start({.max_streams = 3, .max_streams_per_caller = 2});
  AddGrowing();
  const auto open = [&](Caller* caller) {
    caller->Open(test_.content());
    return caller->Read().has_opened();
  };
  host_->SetCaller(greedy);
  Caller first(*host_);
  ASSERT_TRUE(open(&first));
  Caller second(*host_);
  ASSERT_TRUE(open(&second));
  Caller third(*host_);
  third.Open(test_.content());
  const grpc::Status status = third.End();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("max_streams_per_caller"));
  EXPECT_EQ(host_->seeder()->counts().refused, 1);
  host_->SetCaller({.member = Sha256Of("other")});
  Caller other(*host_);
  EXPECT_TRUE(open(&other));
  for (Caller* caller : {&first, &second, &other}) {
    caller->Cancel();
    caller->End();
  }
}

v1::FetchRequest WantAny(uint32_t count) {
  v1::FetchRequest want;
  want.mutable_want_any()->set_count(count);
  return want;
}

TEST_F(SeederTest, CallerThatNeverReads_DoesNotHoldItsSlotForEver) {
  const TestContent large = RandomContent(4, 200 * kPiece, kPiece);
  Start({.is_origin = true,
         .slots = {.slots = 1, .patience = absl::Milliseconds(200)},
         .idle = absl::Seconds(30)});
  ASSERT_THAT(WriteContent(&env_, "/large", large), IsOk());
  auto file = ContentFile::OpenWhole(&env_, "/large", large.content(),
                                     large.tree.leaves);
  ASSERT_THAT(file, IsOk());
  host_->board()->Add(*file, Digest());
  Caller mute(*host_, /*narrow=*/true);
  mute.Open(large.content());
  ASSERT_TRUE(mute.Read().has_opened());
  mute.Send(WantAny(64));
  Caller reads(*host_);
  reads.Open(large.content());
  ASSERT_TRUE(reads.Read().has_opened());
  reads.Send(WantAny(64));
  for (size_t blocks = 0; blocks < 64;) {
    const v1::FetchReply reply = reads.Read();
    ASSERT_NE(reply.message_case(), v1::FetchReply::MESSAGE_NOT_SET);
    if (reply.has_block()) ++blocks;
  }
  EXPECT_LT(host_->seeder()->counts().pieces, 128);  // the other one's hang
  mute.Cancel();
  mute.End();
  reads.Done();
  EXPECT_TRUE(reads.End().ok());
}

// As many pieces as it wants, of the origin's choice, or until there is none.
size_t TakeAny(Caller* caller, const v1::Content& content, bool cross_site,
               const Key& claimed = Key()) {
  v1::FetchRequest open;
  open.mutable_open()->set_root(content.root());
  *open.mutable_open()->mutable_caller() =
      ContactToProto({.id = claimed, .address = "127.0.0.1:1", .site = ""});
  open.mutable_open()->set_cross_site(cross_site);
  caller->Send(open);
  EXPECT_TRUE(caller->Read().has_opened());
  caller->Send(WantAny(9));
  for (size_t pieces = 0;;) {
    const v1::FetchReply reply = caller->Read();
    if (reply.has_none()) return pieces;
    if (reply.has_piece_start() && ++pieces == 9) return pieces;
    if (reply.message_case() == v1::FetchReply::MESSAGE_NOT_SET) return 0;
  }
}

TEST_F(SeederTest, Origin_CountsThoseWhoCrossSitesTogether) {
  Start({.is_origin = true, .copies = 1, .max_wants = 9});
  AddWhole();
  std::vector<std::unique_ptr<Caller>> callers;  // they keep what they get
  const auto take = [&](const std::string& name, bool cross_site) {
    const Key node = Sha256Of(name);
    host_->SetCaller({.member = node, .node = node, .site = name});
    callers.push_back(std::make_unique<Caller>(*host_));
    return TakeAny(callers.back().get(), test_.content(), cross_site);
  };
  EXPECT_EQ(take("north", true), 9u);
  EXPECT_EQ(take("south", true), 0u);
  EXPECT_EQ(take("north", false), 0u);  // its site has it all
  EXPECT_EQ(take("west", false), 9u);
  for (const auto& caller : callers) {
    caller->Cancel();
    caller->End();
  }
}

// Whoever comes again is no holder by what it had before: in another's name
// that would send all its copies out anew. Without certificates all may.
TEST_F(SeederTest, CallerWhoseCertificateIsNoNodes_IsNotBelievedToBeOne) {
  for (const bool tls : {true, false}) {
    Start({.is_origin = true, .copies = 1, .max_wants = 9});
    AddWhole();
    const auto open_as = [&](const std::string& name, bool is_node) {
      if (tls) host_->SetCaller({.member = Sha256Of(name)});
      if (tls && is_node) {
        host_->SetCaller({.member = Sha256Of(name), .node = Sha256Of(name)});
      }
      return std::make_unique<Caller>(*host_);
    };
    const auto a = open_as("a", true);
    EXPECT_EQ(TakeAny(a.get(), test_.content(), false, Sha256Of("a")), 9u);
    const auto liar = open_as("liar", false);
    EXPECT_EQ(TakeAny(liar.get(), test_.content(), false, Sha256Of("a")), 0u);
    v1::FetchRequest have;
    for (int i = 0; i < 9; ++i) have.mutable_have()->add_pieces(i);
    a->Send(have);
    a->Done();
    EXPECT_TRUE(a->End().ok());
    while (host_->seeder()->counts().streams > 1) std::this_thread::yield();
    std::unique_ptr<Caller> b;
    size_t taken = 0;
    do {  // what a had is free again a moment after its stream
      if (b != nullptr) {
        b->Cancel();
        b->End();
      }
      b = open_as("b", true);
      taken = TakeAny(b.get(), test_.content(), false, Sha256Of("b"));
    } while (!tls && taken == 0);
    EXPECT_EQ(taken, tls ? 0u : 9u);
    for (Caller* caller : {liar.get(), b.get()}) {
      caller->Cancel();
      caller->End();
    }
  }
}

TEST_F(SeederTest, WhoIsNotAllowed_IsToldAndCounted) {
  Start({});
  AddGrowing();
  host_->SetAllowed(absl::PermissionDeniedError("another site"));
  Caller caller(*host_);
  caller.Open(test_.content());
  const grpc::Status status = caller.End();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(), HasSubstr("another site"));
  EXPECT_EQ(host_->seeder()->counts().refused, 1);
}

TEST_F(SeederTest, IdleStreams_AreEnded) {
  Start({.idle = absl::Seconds(2)});
  AddGrowing();
  Caller mute(*host_);  // never says what it wants
  Caller idle(*host_);
  idle.Open(test_.content());
  ASSERT_TRUE(idle.Read().has_opened());
  EXPECT_EQ(mute.End().error_code(), grpc::StatusCode::UNAVAILABLE);
  const grpc::Status status = idle.End();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("nothing has moved"));
}

TEST_F(SeederTest, Stop_EndsOpenStreamsAndRefusesNewOnes) {
  Start({});
  AddGrowing();
  Caller open(*host_);
  open.Open(test_.content());
  ASSERT_TRUE(open.Read().has_opened());
  host_->seeder()->Stop();
  EXPECT_EQ(open.End().error_code(), grpc::StatusCode::UNAVAILABLE);
  Caller late(*host_);
  late.Open(test_.content());
  EXPECT_EQ(late.End().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace koinon::dht
