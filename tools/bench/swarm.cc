#include "tools/bench/swarm.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "base/random.h"
#include "base/version.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/support/slice.h"
#include "proto/worker.grpc.pb.h"

namespace koinon::bench {
namespace {

using grpc::ByteBuffer;
using RawStub = grpc::TemplatedGenericStub<ByteBuffer, ByteBuffer>;
using RawReactor = grpc::ClientBidiReactor<ByteBuffer, ByteBuffer>;

template <typename Message>
ByteBuffer Serialize(const Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return ByteBuffer(&slice, 1);
}

}  // namespace

struct Swarm::Shared {
  class Worker;

  Options options;
  // Chunk messages of the common update, by index, and its digest.
  std::vector<ByteBuffer> chunks;
  std::string digest;
  int64_t update_bytes = 0;

  std::atomic<uint64_t> pulled{0};
  std::atomic<uint64_t> pushed{0};
  std::atomic<uint64_t> accepted{0};
  std::atomic<size_t> welcomed{0};
  std::atomic<bool> closing{false};

  Mutex mutex;
  CondVar changed;
  absl::Status error ABSL_GUARDED_BY(mutex);
  size_t open_calls ABSL_GUARDED_BY(mutex) = 0;
  std::vector<std::unique_ptr<Worker>> workers;

  void Fail(const absl::Status& status) {
    if (closing) return;
    MutexLock lock(&mutex);
    if (error.ok()) error = status;
    changed.SignalAll();
  }
  void Open() {
    MutexLock lock(&mutex);
    ++open_calls;
  }
  void Close() {
    MutexLock lock(&mutex);
    --open_calls;
    changed.SignalAll();
  }
  void MakeUpdate();
};

void Swarm::Shared::MakeUpdate() {
  std::string bytes(options.parameters * sizeof(float), '\0');
  for (size_t i = 0; i < options.parameters; ++i) {
    const auto value = static_cast<float>(NormalAt(7, i) * 1e-3);
    std::memcpy(&bytes[i * sizeof(float)], &value, sizeof(value));
  }
  update_bytes = static_cast<int64_t>(bytes.size());
  digest = Sha256Of(bytes).ToBytes();
  for (size_t at = 0; at < bytes.size(); at += options.chunk_bytes) {
    v1::PushUpdateRequest request;
    request.mutable_chunk()->set_offset(static_cast<int64_t>(at));
    request.mutable_chunk()->set_data(bytes.substr(at, options.chunk_bytes));
    chunks.push_back(Serialize(request));
  }
}

// One worker: a session, and at most one pull or push at a time.
class Swarm::Shared::Worker final
    : public grpc::ClientBidiReactor<v1::WorkerMessage,
                                     v1::CoordinatorMessage> {
 public:
  Worker(Shared* shared, std::string name)
      : shared_(shared), name_(std::move(name)) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
    arguments.SetMaxReceiveMessageSize(
        static_cast<int>(shared->options.chunk_bytes) + (1 << 20));
    channel_ = grpc::CreateCustomChannel(
        shared->options.address, grpc::InsecureChannelCredentials(), arguments);
    stub_ = v1::WorkerService::NewStub(channel_);
    raw_ = std::make_unique<RawStub>(channel_);
  }

  void Start() {
    shared_->Open();
    stub_->async()->Session(&context_, this);
    v1::WorkerMessage message;
    v1::Hello* hello = message.mutable_hello();
    hello->mutable_protocol()->set_major(kProtocolMajor);
    hello->mutable_protocol()->set_minor(kProtocolMinor);
    hello->set_software_version(std::string(kSoftwareVersion));
    hello->set_worker(name_);
    auto* dataset = hello->mutable_capabilities()->add_datasets();
    dataset->set_name(shared_->options.dataset);
    dataset->set_examples(1);
    Send(std::move(message));
    StartRead(&incoming_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    Handle(incoming_);
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (ok) WriteOn();
  }
  void OnDone(const grpc::Status& status) override {
    shared_->Fail(absl::UnavailableError(
        absl::StrCat(name_, ": session ended: ", status.error_message())));
    shared_->Close();
  }

 private:
  class Pull;
  class Push;

  void Send(v1::WorkerMessage message) {
    MutexLock lock(&mutex_);
    queue_.push_back(std::move(message));
    WriteOn();
  }
  void WriteOn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || queue_.empty()) return;
    outgoing_ = std::move(queue_.front());
    queue_.pop_front();
    writing_ = true;
    StartWrite(&outgoing_);
  }

  void Handle(const v1::CoordinatorMessage& message);
  void AnnounceUpdate();

  Shared* const shared_;
  const std::string name_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::unique_ptr<RawStub> raw_;
  grpc::ClientContext context_;
  v1::CoordinatorMessage incoming_;
  v1::UpdateHeader header_;

  Mutex mutex_;
  std::deque<v1::WorkerMessage> queue_ ABSL_GUARDED_BY(mutex_);
  v1::WorkerMessage outgoing_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
};

// Pulls the base version and throws it away.
class Swarm::Shared::Worker::Pull final : public RawReactor {
 public:
  Pull(Worker* worker, const v1::OfferTask& offer) : worker_(worker) {
    v1::PullModelRequest request;
    request.set_job(offer.task().job());
    request.set_version(offer.base_version());
    request_ = Serialize(request);
    worker_->shared_->Open();
    worker_->raw_->PrepareBidiStreamingCall(
        &context_, "/koinon.v1.WorkerService/PullModel", {}, this);
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&reply_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    worker_->shared_->pulled += reply_.Length();
    reply_.Clear();
    StartRead(&reply_);
  }
  void OnDone(const grpc::Status& status) override {
    if (status.ok()) {
      worker_->AnnounceUpdate();
    } else {
      worker_->shared_->Fail(absl::UnavailableError(
          absl::StrCat("pull: ", status.error_message())));
    }
    worker_->shared_->Close();
    delete this;
  }

 private:
  Worker* const worker_;
  grpc::ClientContext context_;
  ByteBuffer request_, reply_;
};

// Pushes the common update.
class Swarm::Shared::Worker::Push final : public RawReactor {
 public:
  explicit Push(Worker* worker) : worker_(worker) {
    v1::PushUpdateRequest request;
    *request.mutable_header() = worker->header_;
    header_ = Serialize(request);
    worker_->shared_->Open();
    worker_->raw_->PrepareBidiStreamingCall(
        &context_, "/koinon.v1.WorkerService/PushUpdate", {}, this);
    StartRead(&reply_);
    StartWrite(&header_);
    StartCall();
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return;
    if (next_ > 0) {
      worker_->shared_->pushed += worker_->shared_->chunks[next_ - 1].Length();
    }
    if (next_ == worker_->shared_->chunks.size()) return StartWritesDone();
    StartWrite(&worker_->shared_->chunks[next_++]);
  }
  void OnDone(const grpc::Status& status) override {
    v1::PushUpdateReply reply;
    std::vector<grpc::Slice> slices;
    std::string bytes;
    if (status.ok() && reply_.Dump(&slices).ok()) {
      for (const grpc::Slice& slice : slices) {
        bytes.append(reinterpret_cast<const char*>(slice.begin()),
                     slice.size());
      }
    }
    if (status.ok() && reply.ParseFromString(bytes) && reply.accepted()) {
      ++worker_->shared_->accepted;
    } else {
      worker_->shared_->Fail(absl::UnavailableError(
          absl::StrCat("push: ", status.error_message(), " ", reply.reason())));
    }
    worker_->shared_->Close();
    delete this;
  }

 private:
  Worker* const worker_;
  grpc::ClientContext context_;
  ByteBuffer header_, reply_;
  size_t next_ = 0;
};

void Swarm::Shared::Worker::Handle(const v1::CoordinatorMessage& message) {
  if (message.has_welcome()) {
    ++shared_->welcomed;
    MutexLock lock(&shared_->mutex);
    shared_->changed.SignalAll();
  } else if (message.has_offer_task()) {
    const v1::OfferTask& offer = message.offer_task();
    v1::WorkerMessage accept;
    *accept.mutable_accept_task()->mutable_task() = offer.task();
    Send(std::move(accept));
    header_.Clear();
    *header_.mutable_task() = offer.task();
    header_.set_base_version(offer.base_version());
    header_.set_base_digest(offer.base_digest());
    header_.set_layout_hash(offer.layout_hash());
    header_.set_size_bytes(shared_->update_bytes);
    header_.set_digest(shared_->digest);
    header_.mutable_metrics()->set_examples(1);
    header_.set_worker(name_);
    new Pull(this, offer);
  } else if (message.has_grant_upload()) {
    new Push(this);
  } else if (message.has_withdraw_task()) {
    shared_->Fail(absl::AbortedError(absl::StrCat(
        name_, ": task withdrawn: ", message.withdraw_task().reason())));
  }
}

void Swarm::Shared::Worker::AnnounceUpdate() {
  v1::WorkerMessage ready;
  *ready.mutable_update_ready()->mutable_header() = header_;
  Send(std::move(ready));
}

absl::StatusOr<std::unique_ptr<Swarm>> Swarm::Connect(const Options& options,
                                                      absl::Duration patience) {
  auto shared = std::make_shared<Shared>();
  shared->options = options;
  shared->MakeUpdate();
  // Owned from here on, so that a failure closes what was opened.
  auto swarm = std::unique_ptr<Swarm>(new Swarm(shared));
  for (size_t i = 0; i < options.workers; ++i) {
    shared->workers.push_back(std::make_unique<Shared::Worker>(
        shared.get(), absl::StrFormat("bench-%05d", i)));
    shared->workers.back()->Start();
  }
  const absl::Time until = absl::Now() + patience;
  MutexLock lock(&shared->mutex);
  while (shared->welcomed < options.workers && shared->error.ok()) {
    const absl::Duration left = until - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(
          absl::StrCat(shared->welcomed.load(), " of ", options.workers,
                       " workers were welcomed in time"));
    }
    shared->changed.WaitWithTimeout(&shared->mutex, left);
  }
  if (!shared->error.ok()) return shared->error;
  return swarm;
}

Swarm::Swarm(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

Swarm::~Swarm() {
  shared_->closing = true;
  for (const auto& worker : shared_->workers) worker->Cancel();
  MutexLock lock(&shared_->mutex);
  while (shared_->open_calls > 0) shared_->changed.Wait(&shared_->mutex);
}

uint64_t Swarm::bytes_pulled() const { return shared_->pulled; }
uint64_t Swarm::bytes_pushed() const { return shared_->pushed; }
uint64_t Swarm::updates_accepted() const { return shared_->accepted; }
absl::Status Swarm::error() const {
  MutexLock lock(&shared_->mutex);
  return shared_->error;
}

}  // namespace koinon::bench
