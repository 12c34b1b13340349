#include "worker/testing/fake_coordinator.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "proto/worker.grpc.pb.h"

namespace koinon::worker {
namespace {

std::string Key(const v1::TaskRef& task) {
  return absl::StrCat(task.job(), "/", task.round());
}

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message()));
}

}  // namespace

class FakeCoordinator::Service final : public v1::WorkerService::Service {
 public:
  using Stream =
      grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>;

  grpc::Status Session(grpc::ServerContext* context, Stream* stream) override {
    v1::WorkerMessage message;
    if (!stream->Read(&message) || !message.has_hello()) {
      return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no Hello");
    }
    uint64_t session = 0;
    {
      MutexLock lock(&mutex_);
      heard_.hellos.push_back(message.hello());
      changed_.SignalAll();
      if (!knobs_.refuse_session.ok()) return ToGrpc(knobs_.refuse_session);
      session = ++session_;
      outgoing_.push_front(Welcome());
      session_context_ = context;
      for (const auto& held : message.hello().held_updates()) Answer(held);
    }
    std::thread writer([&] { WriteAll(session, stream); });
    while (stream->Read(&message)) Hear(message);
    {
      MutexLock lock(&mutex_);
      if (session == session_) {
        ++session_;
        session_context_ = nullptr;
        outgoing_.clear();
      }
      changed_.SignalAll();
    }
    writer.join();
    return grpc::Status::OK;
  }

  grpc::Status PushUpdate(grpc::ServerContext* context,
                          grpc::ServerReader<v1::PushUpdateRequest>* reader,
                          v1::PushUpdateReply* reply) override {
    v1::PushUpdateRequest request;
    if (!reader->Read(&request) || !request.has_header()) {
      return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no header");
    }
    const v1::UpdateHeader header = request.header();
    const std::string key = Key(header.task());
    bool first = true;
    bool breaks = false;
    {
      MutexLock lock(&mutex_);
      while (knobs_.stall_pushes && !context->IsCancelled()) {
        changed_.WaitWithTimeout(&mutex_, absl::Milliseconds(10));
      }
      breaks = knobs_.break_pushes > 0 && knobs_.break_pushes-- > 0;
    }
    while (reader->Read(&request)) {
      MutexLock lock(&mutex_);
      std::string& bytes = partial_[key];
      const v1::Chunk& chunk = request.chunk();
      if (first) heard_.push_offsets.push_back(chunk.offset());
      first = false;
      if (chunk.offset() != static_cast<int64_t>(bytes.size()) ||
          static_cast<int64_t>(chunk.data().size()) > knobs_.max_chunk_bytes) {
        return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "bad chunk");
      }
      bytes += chunk.data();
      if (breaks &&
          static_cast<int64_t>(bytes.size()) * 2 >= header.size_bytes()) {
        return grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken push");
      }
    }
    MutexLock lock(&mutex_);
    if (Sha256Of(partial_[key]).ToBytes() != header.digest()) {
      return grpc::Status(grpc::StatusCode::DATA_LOSS, "wrong digest");
    }
    reply->set_accepted(!knobs_.refuse_update);
    if (knobs_.refuse_update) reply->set_reason("not wanted");
    heard_.updates[key] = partial_[key];
    changed_.SignalAll();
    return grpc::Status::OK;
  }

  void Push(const v1::CoordinatorMessage& message) {
    MutexLock lock(&mutex_);
    outgoing_.push_back(message);
    changed_.SignalAll();
  }
  void BreakSession() {
    MutexLock lock(&mutex_);
    if (session_context_ != nullptr) session_context_->TryCancel();
  }
  void SetKnobs(Knobs knobs) {
    MutexLock lock(&mutex_);
    knobs_ = std::move(knobs);
    changed_.SignalAll();
  }
  bool WaitUntil(const std::function<bool(const Heard&)>& done) {
    MutexLock lock(&mutex_);
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done(heard_)) {
      const auto left = deadline - std::chrono::steady_clock::now();
      if (left.count() <= 0) break;
      changed_.WaitWithTimeout(&mutex_, absl::FromChrono(left));
    }
    return done(heard_);
  }
  Heard heard() const {
    MutexLock lock(&mutex_);
    return heard_;
  }

 private:
  v1::CoordinatorMessage Welcome() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    v1::CoordinatorMessage message;
    auto* welcome = message.mutable_welcome();
    welcome->mutable_protocol()->set_major(knobs_.protocol_major);
    welcome->set_software_version("fake");
    welcome->set_federation("test");
    welcome->set_lease_seconds(knobs_.lease_seconds);
    welcome->set_max_chunk_bytes(knobs_.max_chunk_bytes);
    welcome->set_epoch(1);
    return message;
  }

  // A held or announced update: go on where it broke off, or done already.
  void Answer(const v1::UpdateHeader& header)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!knobs_.grant_uploads) return;
    v1::CoordinatorMessage message;
    const std::string key = Key(header.task());
    if (heard_.updates.contains(key)) {
      *message.mutable_update_settled()->mutable_task() = header.task();
      message.mutable_update_settled()->set_outcome(
          v1::UpdateSettled::ACCEPTED);
    } else {
      *message.mutable_grant_upload()->mutable_task() = header.task();
      message.mutable_grant_upload()->set_offset(
          static_cast<int64_t>(partial_[key].size()));
      message.mutable_grant_upload()->set_expires_seconds(30);
    }
    outgoing_.push_back(message);
    changed_.SignalAll();
  }

  void Hear(const v1::WorkerMessage& message) {
    MutexLock lock(&mutex_);
    heard_.messages.push_back(message);
    if (message.has_update_ready()) Answer(message.update_ready().header());
    if (message.has_renew_lease()) {
      outgoing_.emplace_back().mutable_lease_renewed();
    }
    changed_.SignalAll();
  }

  void WriteAll(uint64_t session, Stream* stream) {
    while (true) {
      v1::CoordinatorMessage message;
      {
        MutexLock lock(&mutex_);
        while (outgoing_.empty() && session == session_) changed_.Wait(&mutex_);
        if (session != session_) return;
        message = outgoing_.front();
        outgoing_.pop_front();
      }
      stream->Write(message);
    }
  }

  mutable Mutex mutex_;
  CondVar changed_;
  Knobs knobs_ ABSL_GUARDED_BY(mutex_);
  uint64_t session_ ABSL_GUARDED_BY(mutex_) = 0;
  grpc::ServerContext* session_context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::deque<v1::CoordinatorMessage> outgoing_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> partial_ ABSL_GUARDED_BY(mutex_);
  Heard heard_ ABSL_GUARDED_BY(mutex_);
};

struct FakeCoordinator::Server {
  std::unique_ptr<grpc::Server> server;
};

FakeCoordinator::FakeCoordinator(Knobs knobs, int port)
    : service_(std::make_unique<Service>()),
      server_(std::make_unique<Server>()) {
  service_->SetKnobs(std::move(knobs));
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port),
                           grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(service_.get());
  server_->server = builder.BuildAndStart();
  EXPECT_NE(server_->server, nullptr);
}

FakeCoordinator::~FakeCoordinator() {
  server_->server->Shutdown(std::chrono::system_clock::now());
  server_->server->Wait();
}

std::string FakeCoordinator::target() const {
  return absl::StrCat("127.0.0.1:", port_);
}
void FakeCoordinator::SetKnobs(Knobs knobs) {
  service_->SetKnobs(std::move(knobs));
}

v1::CoordinatorMessage FakeCoordinator::Offer(const std::string& job,
                                              int64_t round,
                                              v1::TaskRef::Kind kind) {
  v1::CoordinatorMessage message;
  auto* offer = message.mutable_offer_task();
  offer->mutable_task()->set_job(job);
  offer->mutable_task()->set_round(round);
  offer->mutable_task()->set_kind(kind);
  offer->set_dataset("digits");
  offer->set_base_digest(base_digest_.ToBytes());
  offer->set_deadline_seconds(60);
  return message;
}

void FakeCoordinator::Send(const v1::CoordinatorMessage& message) {
  service_->Push(message);
}
void FakeCoordinator::BreakSession() { service_->BreakSession(); }
bool FakeCoordinator::WaitUntil(const std::function<bool(const Heard&)>& done) {
  const bool held = service_->WaitUntil(done);
  EXPECT_TRUE(held) << "what was waited for has not come in 20 s";
  return held;
}

v1::WorkerMessage FakeCoordinator::WaitFor(
    v1::WorkerMessage::MessageCase kind) {
  v1::WorkerMessage found;
  WaitUntil([&](const Heard& heard) {
    for (const auto& message : heard.messages) {
      if (message.message_case() != kind) continue;
      found = message;
      return true;
    }
    return false;
  });
  return found;
}

FakeCoordinator::Heard FakeCoordinator::heard() const {
  return service_->heard();
}

}  // namespace koinon::worker
