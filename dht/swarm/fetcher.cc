#include "dht/swarm/fetcher.h"

#include <utility>

#include "dht/swarm/fetch_state.h"

namespace koinon::dht {

SwarmFetch::SwarmFetch(SwarmHost* host, Options options)
    : state_(std::make_shared<State>(host, std::move(options))) {}
SwarmFetch::~SwarmFetch() = default;

absl::Status SwarmFetch::Run() { return state_->Run(); }
void SwarmFetch::Cancel() { state_->Cancel(); }
v1::SwarmTraffic SwarmFetch::traffic() const { return state_->traffic(); }
std::vector<std::string> SwarmFetch::liars() const { return state_->liars(); }

}  // namespace koinon::dht
