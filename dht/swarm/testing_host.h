#ifndef KOINON_DHT_SWARM_TESTING_HOST_H_
#define KOINON_DHT_SWARM_TESTING_HOST_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "dht/swarm/content_board.h"
#include "dht/swarm/host.h"
#include "dht/swarm/liar_book.h"
#include "dht/swarm/serve.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::dht {

// A process of a swarm without a DHT, for tests: plaintext on a loopback port
// of its own. Whom FindProviders names is told to it.
class TestHost final : public SwarmHost {
 public:
  struct Options {
    std::string name;  // its id is the digest of it
    bool serves = true;
    bool cross_site = false;
    Seeder::Options seeder = {};
    // Stands between the seeder's board and what is sent: for liars. May be
    // empty.
    std::function<grpc::ServerBidiReactor<v1::FetchRequest, v1::FetchReply>*()>
        serve_instead = nullptr;
  };
  explicit TestHost(Options options);
  ~TestHost() override;

  // Its server, and all that it was serving, is gone.
  void StopServing();
  // To the calls of others.
  void SetAllowed(absl::Status allowed);
  // Whose calls these are; in the beginning, of who they claim to be.
  void SetCaller(Seeder::Caller caller);
  void SetProviders(std::vector<Contact> providers);
  void SetMayFetchFrom(absl::Status may);

  Seeder* seeder() { return seeder_.get(); }
  bool provides(const Key& content) const;
  // Of what it provides.
  int64_t importance(const Key& content) const;

  ContentBoard* board() override { return &board_; }
  LiarBook* liars() override { return &liars_; }
  Contact self() const override;
  bool cross_site() const override { return options_.cross_site; }
  const Clock& clock() const override { return clock_; }
  std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) override;
  absl::Status CheckIs(const Contact&, const grpc::AuthContext&) const override;
  absl::Status MayFetchFrom(const Contact&) const override;
  void FindProviders(
      const Key& content, size_t count,
      std::function<void(absl::StatusOr<std::vector<Contact>>)> done) override;
  void Provide(const Key& content, int64_t importance) override;
  void StopProviding(const Key& content) override;

 private:
  class Service;
  class Liar;

  const Options options_;
  const RealClock clock_;
  ContentBoard board_;
  LiarBook liars_;
  std::unique_ptr<Seeder> seeder_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;

  mutable Mutex mutex_;
  absl::Status allowed_ ABSL_GUARDED_BY(mutex_);
  Seeder::Caller caller_ ABSL_GUARDED_BY(mutex_);
  absl::Status may_fetch_ ABSL_GUARDED_BY(mutex_);
  std::vector<Contact> providers_ ABSL_GUARDED_BY(mutex_);
  std::map<Key, int64_t> provided_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_TESTING_HOST_H_
