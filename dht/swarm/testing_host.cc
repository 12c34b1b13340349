#include "dht/swarm/testing_host.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace koinon::dht {

// What the seeder gives, in bytes.
class TestHost::Service final
    : public v1::PeerService::WithRawCallbackMethod_Fetch<
          v1::PeerService::Service> {
 public:
  explicit Service(TestHost* host) : host_(host) {}

  Seeder::Reactor* Fetch(grpc::CallbackServerContext*) override {
    absl::Status allowed;
    Seeder::Caller caller;
    {
      MutexLock lock(&host_->mutex_);
      allowed = host_->allowed_;
      caller = host_->caller_;
    }
    return host_->seeder_->Serve(allowed, std::move(caller));
  }

 private:
  TestHost* const host_;
};

// What options.serve_instead gives.
class TestHost::Liar final : public v1::PeerService::CallbackService {
 public:
  explicit Liar(TestHost* host) : host_(host) {}

  grpc::ServerBidiReactor<v1::FetchRequest, v1::FetchReply>* Fetch(
      grpc::CallbackServerContext*) override {
    return host_->options_.serve_instead();
  }

 private:
  TestHost* const host_;
};

TestHost::TestHost(Options options)
    : options_(std::move(options)),
      seeder_(std::make_unique<Seeder>(&board_, options_.seeder)) {
  if (!options_.serves) return;
  if (options_.serve_instead) {
    service_ = std::make_unique<Liar>(this);
  } else {
    service_ = std::make_unique<Service>(this);
  }
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  KOINON_CHECK(server_ != nullptr);
  address_ = absl::StrCat("127.0.0.1:", port);
}

TestHost::~TestHost() { StopServing(); }

void TestHost::StopServing() {
  if (server_ == nullptr) return;
  seeder_->Stop();
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

void TestHost::SetAllowed(absl::Status allowed) {
  MutexLock lock(&mutex_);
  allowed_ = std::move(allowed);
}
void TestHost::SetCaller(Seeder::Caller caller) {
  MutexLock lock(&mutex_);
  caller_ = std::move(caller);
}
void TestHost::SetProviders(std::vector<Contact> providers) {
  MutexLock lock(&mutex_);
  providers_ = std::move(providers);
}
void TestHost::SetMayFetchFrom(absl::Status may) {
  MutexLock lock(&mutex_);
  may_fetch_ = std::move(may);
}
int64_t TestHost::importance(const Key& content) const {
  MutexLock lock(&mutex_);
  return provided_.at(content);
}

bool TestHost::provides(const Key& content) const {
  MutexLock lock(&mutex_);
  return provided_.contains(content);
}

Contact TestHost::self() const {
  return {.id = Sha256Of(options_.name), .address = address_, .site = ""};
}

std::shared_ptr<grpc::Channel> TestHost::ChannelTo(const std::string& address) {
  MutexLock lock(&mutex_);
  std::shared_ptr<grpc::Channel>& channel = channels_[address];
  if (channel == nullptr) {
    // Connections of its own, as those of another process would be.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel = grpc::CreateCustomChannel(
        address, grpc::InsecureChannelCredentials(), arguments);
  }
  return channel;
}

absl::Status TestHost::CheckIs(const Contact&, const grpc::AuthContext&) const {
  return absl::OkStatus();
}

absl::Status TestHost::MayFetchFrom(const Contact&) const {
  MutexLock lock(&mutex_);
  return may_fetch_;
}

void TestHost::FindProviders(
    const Key&, size_t,
    std::function<void(absl::StatusOr<std::vector<Contact>>)> done) {
  std::vector<Contact> providers;
  {
    MutexLock lock(&mutex_);
    providers = providers_;
  }
  done(providers);
}

void TestHost::Provide(const Key& content, int64_t importance) {
  MutexLock lock(&mutex_);
  provided_[content] = importance;
}
void TestHost::StopProviding(const Key& content) {
  MutexLock lock(&mutex_);
  provided_.erase(content);
}

}  // namespace koinon::dht
