// Records and manifests that must not be believed, given to real processes over
// mutual TLS by somebody who holds certificates of the federation: each is
// refused, what was known stays, and `koinon dht status` shows the reason.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "base/tls.h"
#include "dht/key.h"
#include "dht/records/signed.h"
#include "dht/records/testing_signers.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"
#include "proto/worker.grpc.pb.h"
#include "tests/e2e/coordinator_process.h"
#include "tools/cli/process.h"

namespace koinon::testing {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Minutes(2);
constexpr absl::Duration kPoll = absl::Milliseconds(10);
constexpr char kRecordContext[] = "koinon record 1";
constexpr char kManifestContext[] = "koinon manifest 1";

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

void SetDeadline(grpc::ClientContext* context) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
}

using Counters = std::map<std::string, int64_t>;

class RefusalsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = FreshDir("refusals");
    Koinon({"certs", dir_ + "/certs", "--host", "127.0.0.1", "--node", "n1",
            "--worker", "w1"});
    Koinon({"certs", dir_ + "/others", "--host", "127.0.0.1"});
    now_ = absl::FromUnixMillis(absl::ToUnixMillis(absl::Now()));
  }

  // Runs the command to its end; both of its outputs.
  std::string Koinon(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), Runfile("tools/koinon"));
    const std::string log = absl::StrCat(dir_, "/command-", ++commands_);
    auto process = cli::ChildProcess::Start(arguments, log);
    EXPECT_OK(process.status());
    if (!process.ok()) return "";
    EXPECT_EQ((*process)->Wait(kPatience), "exit code 0") << ReadAll(log);
    return ReadAll(log);
  }

  TlsFiles FilesOf(const std::string& who,
                   const std::string& folder = "certs") const {
    const std::string stem = absl::StrCat(dir_, "/", folder, "/");
    return {.certificate = absl::StrCat(stem, who, ".pem"),
            .key = absl::StrCat(stem, who, ".key"),
            .ca = stem + "ca.pem"};
  }
  LocalNode Node(const std::string& who, const std::string& folder = "certs") {
    auto local = LoadLocalNode(RealEnv(), FilesOf(who, folder), now_);
    EXPECT_OK(local.status());
    return *std::move(local);
  }

  // Starts a program with the certificate of `who`.
  void Start(const std::string& program, const std::string& who,
             std::vector<std::string> flags) {
    const TlsFiles files = FilesOf(who);
    std::vector<std::string> argv = {
        Runfile(program), "--state-dir",     dir_ + "/state",
        "--tls-cert",     files.certificate, "--tls-key",
        files.key,        "--tls-ca",        files.ca};
    argv.insert(argv.end(), flags.begin(), flags.end());
    auto process = cli::ChildProcess::Start(std::move(argv), dir_ + "/log");
    ASSERT_OK(process.status());
    process_ = *std::move(process);
  }
  // Waits until its log has a line with `text` and the field; its value.
  std::string AwaitField(const std::string& text, const std::string& field) {
    const absl::Time until = absl::Now() + kPatience;
    while (absl::Now() < until) {
      // The last line may not be whole yet.
      std::vector<std::string> lines =
          absl::StrSplit(ReadAll(dir_ + "/log"), '\n');
      lines.pop_back();
      for (const std::string& line : lines) {
        const size_t at = line.find(" " + field + "=");
        if (line.find(text) == std::string::npos || at == line.npos) continue;
        const std::string value = line.substr(at + field.size() + 2);
        return value.substr(0, value.find(' '));
      }
      const auto ended = process_->Wait(kPoll);
      if (ended.has_value()) break;
    }
    ADD_FAILURE() << "no " << text << " in: " << ReadAll(dir_ + "/log");
    return "";
  }

  std::unique_ptr<v1::PeerService::Stub> StubAs(const std::string& who) {
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride(kNodeDnsName);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    auto credentials = MakeChannelCredentials(RealEnv(), FilesOf(who), now_);
    EXPECT_OK(credentials.status());
    return v1::PeerService::NewStub(
        grpc::CreateCustomChannel(address_, *credentials, arguments));
  }
  Counters CountersNow() {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::NodeStatus status;
    const grpc::Status asked =
        StubAs("client-operator")
            ->GetNodeStatus(&context, v1::NodeStatusRequest(), &status);
    EXPECT_TRUE(asked.ok()) << asked.error_message();
    return Counters(status.counters().begin(), status.counters().end());
  }
  // What an operator sees.
  std::string StatusText() {
    return Koinon(
        {"dht", "status", "--bootstrap", address_, "--certs", dir_ + "/certs"});
  }

  std::string dir_;
  absl::Time now_;
  std::string address_;
  std::unique_ptr<cli::ChildProcess> process_;
  int commands_ = 0;
};

// ---- Records, at a koinon-dht ----

class RecordRefusalsTest : public RefusalsTest {
 protected:
  void SetUp() override {
    RefusalsTest::SetUp();
    server_ = std::make_unique<LocalNode>(Node("server"));
    Start("dht/koinon-dht", "node-n1", {"--listen", "127.0.0.1:0"});
    address_ = AwaitField("serving", "address");
    stub_ = StubAs("client-operator");
    client_ = std::make_unique<LocalNode>(Node("client-operator"));
  }

  v1::MutableRecord Head(uint64_t epoch, uint64_t sequence,
                         const std::string& value) const {
    v1::MutableRecord record;
    record.set_federation("koinon");
    record.set_owner("server");
    record.set_name(dht::HeadName("job"));
    record.set_epoch(epoch);
    record.set_sequence(sequence);
    record.set_expires_ms(absl::ToUnixMillis(now_ + absl::Hours(1)));
    record.set_value(value);
    return record;
  }
  static dht::Key KeyOf(const std::string& name) {
    return dht::MutableKey("koinon", "server", name);
  }
  static v1::Record Wrap(const v1::Signed& envelope) {
    v1::Record record;
    record.set_signed_record(envelope.SerializeAsString());
    return record;
  }
  // Of any body, as whoever holds the key can make one.
  static v1::Record SignedBy(const v1::MutableRecord& body,
                             const LocalNode& signer) {
    return Wrap(
        dht::SignBody(kRecordContext, body.SerializeAsString(), signer));
  }

  // Why the node refuses it; "" if it keeps it.
  std::string Put(const dht::Key& key, const v1::Record& record) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::AskRequest question;
    question.mutable_sender()->set_node_id(client_->id.ToBytes());
    question.mutable_put_record()->set_key(key.ToBytes());
    *question.mutable_put_record()->mutable_record() = record;
    v1::AskReply reply;
    const grpc::Status asked = stub_->Ask(&context, question, &reply);
    EXPECT_TRUE(asked.ok()) << asked.error_message();
    return reply.rejection();
  }
  std::string Kept(const dht::Key& key) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::AskRequest question;
    question.mutable_sender()->set_node_id(client_->id.ToBytes());
    question.mutable_get_record()->set_key(key.ToBytes());
    v1::AskReply reply;
    EXPECT_TRUE(stub_->Ask(&context, question, &reply).ok());
    return reply.record().signed_record();
  }
  // It is refused for this reason, which is counted, and what was kept under
  // the key stays.
  void ExpectRefused(const char* what, const dht::Key& key,
                     const v1::Record& record, const std::string& reason) {
    SCOPED_TRACE(what);
    Counters before = CountersNow();
    const std::string kept = Kept(key);
    EXPECT_EQ(Put(key, record), reason);
    ++before["refused_" + reason];
    EXPECT_EQ(CountersNow(), before);
    EXPECT_EQ(Kept(key), kept);
    ++refused_["refused_" + reason];
  }
  // Nothing else has been refused, and the command says so.
  void ExpectStatusShowsAll() {
    const std::string text = StatusText();
    for (const auto& [reason, count] : refused_) {
      EXPECT_THAT(text,
                  HasSubstr(absl::StrCat("  ", reason, ": ", count, "\n")));
    }
  }

  std::unique_ptr<LocalNode> server_;
  std::unique_ptr<LocalNode> client_;
  std::unique_ptr<v1::PeerService::Stub> stub_;
  Counters refused_;
};

TEST_F(RecordRefusalsTest, RolledBackReplayedAndContradicting_AreRefused) {
  const dht::Key key = KeyOf("head/job");
  const v1::Record first = SignedBy(Head(7, 3, "third"), *server_);
  ASSERT_EQ(Put(key, first), "");
  const v1::Record newer = SignedBy(Head(7, 4, "fourth"), *server_);
  ASSERT_EQ(Put(key, newer), "");
  ASSERT_EQ(Kept(key), newer.signed_record());
  ExpectRefused("what was good once", key, first, "rolled_back");
  ExpectRefused("an earlier epoch, however high its sequence", key,
                SignedBy(Head(6, 99, "other"), *server_), "rolled_back");
  ExpectRefused("as new, and different", key,
                SignedBy(Head(7, 4, "another fourth"), *server_),
                "equivocation");
  ExpectRefused("a good record under another's key", KeyOf("head/other"), newer,
                "wrong_key");
  EXPECT_EQ(Put(key, SignedBy(Head(8, 0, "of a new epoch"), *server_)), "");
  ExpectStatusShowsAll();
}

TEST_F(RecordRefusalsTest, ForgedExpiredAndForeign_AreRefused) {
  const dht::Key key = KeyOf("head/job");
  ASSERT_EQ(Put(key, SignedBy(Head(7, 3, "good"), *server_)), "");
  const v1::MutableRecord body = Head(7, 9, "better");
  v1::Signed envelope =
      dht::SignBody(kRecordContext, body.SerializeAsString(), *server_);
  v1::Signed forged = envelope;
  (*forged.mutable_signature())[10] ^= 1;
  ExpectRefused("a bit of the signature", key, Wrap(forged), "forged");
  forged = envelope;
  forged.set_body(Head(7, 9, "worse").SerializeAsString());
  ExpectRefused("another body", key, Wrap(forged), "forged");
  forged = envelope;
  forged.set_signature(
      dht::SignBody(kManifestContext, envelope.body(), *server_).signature());
  ExpectRefused("signed as a manifest", key, Wrap(forged), "forged");

  v1::MutableRecord expired = body;
  expired.set_expires_ms(absl::ToUnixMillis(now_ - absl::Seconds(1)));
  ExpectRefused("expired", key, SignedBy(expired, *server_), "expired");
  ExpectRefused("signed by a client in the server's name", key,
                SignedBy(body, *client_), "untrusted_signer");
  ExpectRefused("of another authority", key,
                SignedBy(body, Node("server", "others")), "untrusted_signer");
  v1::MutableRecord foreign = body;
  foreign.set_federation("south");
  ExpectRefused("of another federation",
                dht::MutableKey("south", "server", "head/job"),
                SignedBy(foreign, *server_), "wrong_federation");
  v1::Record broken;
  broken.set_signed_record("no envelope");
  ExpectRefused("no envelope", key, broken, "malformed");
  ExpectRefused("bytes under another's hash", key, dht::ImmutableRecord("x"),
                "wrong_key");
  const std::string large(dht::kMaxRecordBytes + 1, 'x');
  ExpectRefused("too large", dht::ImmutableKey(large),
                dht::ImmutableRecord(large), "oversize");
  ExpectStatusShowsAll();
}

// ---- Manifests, at a koinon-worker ----

// A coordinator that offers what it is told to, one after another, over mutual
// TLS, and hears what the worker says of each. It has the federation's
// certificate of a server: who has not cannot offer anything at all.
class OfferingCoordinator final : public v1::WorkerService::Service {
 public:
  OfferingCoordinator(std::vector<v1::OfferTask> offers, std::string key)
      : offers_(std::move(offers)), signing_key_(std::move(key)) {}

  grpc::Status Session(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>*
          stream) override {
    v1::WorkerMessage message;
    if (!stream->Read(&message)) return grpc::Status::OK;
    stream->Write(Welcome());
    for (const v1::OfferTask& offer : offers_) {
      v1::CoordinatorMessage said;
      *said.mutable_offer_task() = offer;
      stream->Write(said);
      std::string reason;
      while (reason.empty() && stream->Read(&message)) {
        reason = message.has_refuse_task()   ? message.refuse_task().reason()
                 : message.has_task_failed() ? message.task_failed().reason()
                                             : "";
      }
      MutexLock lock(&mutex_);
      heard_.push_back(reason);
      changed_.SignalAll();
    }
    while (stream->Read(&message)) continue;
    return grpc::Status::OK;
  }

  // What the worker said of each.
  std::vector<std::string> Await() {
    const absl::Time until = absl::Now() + kPatience;
    MutexLock lock(&mutex_);
    while (heard_.size() < offers_.size() && absl::Now() < until) {
      changed_.WaitWithTimeout(&mutex_, until - absl::Now());
    }
    return heard_;
  }

 private:
  v1::CoordinatorMessage Welcome() const {
    v1::CoordinatorMessage message;
    v1::Welcome* const welcome = message.mutable_welcome();
    welcome->mutable_protocol()->set_major(1);
    welcome->set_federation("koinon");
    welcome->set_lease_seconds(3600);
    welcome->set_max_chunk_bytes(1 << 20);
    welcome->set_epoch(1);
    welcome->set_signing_key(signing_key_);
    return message;
  }

  const std::vector<v1::OfferTask> offers_;
  const std::string signing_key_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> heard_ ABSL_GUARDED_BY(mutex_);
};

class ManifestRefusalsTest : public RefusalsTest {
 protected:
  v1::VersionManifest Manifest() const {
    v1::VersionManifest manifest = dht::VectorManifest();
    manifest.set_federation("koinon");
    manifest.set_created_ms(absl::ToUnixMillis(now_ - absl::Minutes(1)));
    manifest.set_expires_ms(absl::ToUnixMillis(now_ + absl::Hours(1)));
    return manifest;
  }
  // The offer that the manifest would be good for.
  v1::OfferTask OfferOf(const v1::Signed& manifest) const {
    const v1::VersionManifest good = Manifest();
    v1::OfferTask offer;
    offer.mutable_task()->set_job(good.job());
    offer.mutable_task()->set_kind(v1::TaskRef::TRAIN);
    offer.set_dataset("table");
    offer.mutable_model()->add_input_shape(2);
    offer.mutable_model()->mutable_mlp()->set_classes(3);
    offer.mutable_training()->set_steps(1);
    offer.set_base_version(good.version());
    offer.set_base_digest(good.digest());
    offer.set_layout_hash(good.layout_hash());
    offer.set_deadline_seconds(3600);
    offer.set_job_submitted_ms(good.job_submitted_ms());
    offer.set_signed_manifest(manifest.SerializeAsString());
    return offer;
  }
  v1::Signed SignedBy(const v1::VersionManifest& manifest,
                      const LocalNode& signer) const {
    return dht::SignBody(kManifestContext, manifest.SerializeAsString(),
                         signer);
  }
  void Add(const v1::Signed& manifest, const std::string& reason) {
    v1::OfferTask offer = OfferOf(manifest);
    offer.mutable_task()->set_round(static_cast<int64_t>(offers_.size()) + 1);
    offers_.push_back(std::move(offer));
    reasons_.push_back(reason);
  }
  void AddAll(const LocalNode& server);
  void StartWorker(int port);

  std::vector<v1::OfferTask> offers_;
  std::vector<std::string> reasons_;
};

void ManifestRefusalsTest::AddAll(const LocalNode& server) {
  v1::Signed forged = SignedBy(Manifest(), server);
  (*forged.mutable_signature())[10] ^= 1;
  Add(forged, "forged");
  forged = SignedBy(Manifest(), server);
  v1::VersionManifest other = Manifest();
  other.mutable_content()->set_root(std::string(32, '\x55'));
  forged.set_body(other.SerializeAsString());
  Add(forged, "forged");
  Add(SignedBy(Manifest(), Node("worker-w1")), "untrusted_signer");
  Add(SignedBy(Manifest(), Node("server", "others")), "untrusted_signer");
  v1::VersionManifest expired = Manifest();
  expired.set_expires_ms(absl::ToUnixMillis(now_ - absl::Seconds(1)));
  Add(SignedBy(expired, server), "expired");
  // Good ones of something else: replayed, and rolled back.
  v1::VersionManifest earlier = Manifest();
  earlier.set_version(2);
  Add(SignedBy(earlier, server), "mismatch");
  v1::VersionManifest of_other_job = Manifest();
  of_other_job.set_job("letters");
  Add(SignedBy(of_other_job, server), "mismatch");
  v1::VersionManifest submitted_before = Manifest();
  submitted_before.set_job_submitted_ms(1);
  Add(SignedBy(submitted_before, server), "mismatch");
  v1::VersionManifest foreign = Manifest();
  foreign.set_federation("south");
  Add(SignedBy(foreign, server), "wrong_federation");
}

void ManifestRefusalsTest::StartWorker(int port) {
  std::ofstream(dir_ + "/table.csv") << "x,y,label\n1,2,0\n2,1,1\n3,3,2\n";
  Start("worker/koinon-worker", "worker-w1",
        {"--name", "w1", "--coordinator", absl::StrCat("127.0.0.1:", port),
         "--peer-listen", "127.0.0.1:0", "--threads", "1", "--dataset",
         absl::StrCat("name: \"table\" source { csv { path: \"", dir_,
                      "/table.csv\" label: \"label\" } }")});
  address_ = AwaitField("serving model versions to others", "address");
}

TEST_F(ManifestRefusalsTest, OffersOfForgedExpiredAndReplayedOnes_AreRefused) {
  const LocalNode server = Node("server");
  AddAll(server);
  OfferingCoordinator coordinator(offers_, server.key.public_key().ToBytes());
  auto credentials = MakeServerCredentials(RealEnv(), FilesOf("server"), now_);
  ASSERT_OK(credentials.status());
  int port = 0;
  const auto rpc = grpc::ServerBuilder()
                       .AddListeningPort("127.0.0.1:0", *credentials, &port)
                       .RegisterService(&coordinator)
                       .BuildAndStart();
  ASSERT_NE(rpc, nullptr);
  StartWorker(port);
  const std::vector<std::string> heard = coordinator.Await();
  ASSERT_EQ(heard.size(), reasons_.size()) << ReadAll(dir_ + "/log");
  Counters expected;
  for (size_t i = 0; i < reasons_.size(); ++i) {
    EXPECT_THAT(heard[i],
                HasSubstr(absl::StrCat(" is refused (", reasons_[i], "): ")))
        << "offer " << i;
    ++expected[reasons_[i]];
  }
  const Counters counted = CountersNow();
  for (const auto& [reason, count] : expected) {
    const auto found = counted.find(reason);
    EXPECT_TRUE(found != counted.end() && found->second == count) << reason;
    EXPECT_THAT(StatusText(),
                HasSubstr(absl::StrCat("  ", reason, ": ", count, "\n")));
  }
  // The stream is open as long as the worker is there.
  process_.reset();
  rpc->Shutdown();
}

}  // namespace
}  // namespace koinon::testing
