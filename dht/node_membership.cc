#include "dht/node_membership.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dht/node_walk.h"

namespace koinon::dht {
namespace {

// A first contact may have to wait for a TLS handshake with a busy machine.
constexpr absl::Duration kFirstPatience = absl::Seconds(5);
constexpr absl::Duration kMaxBackOff = absl::Minutes(1);
constexpr absl::Duration kMaxBootstrapInterval = absl::Minutes(10);
constexpr size_t kRefreshesAtOnce = 3;
// Who knows nobody asks all that it has known, after a hundredth of the time
// that it has been alone.
constexpr absl::Duration kShortestAlone = absl::Seconds(5);
constexpr absl::Duration kLongestAlone = absl::Minutes(2);
constexpr absl::Duration kLookInterval = absl::Seconds(10);
constexpr size_t kViews = 3;
// So many of those that a node names may fail before its word is doubted.
constexpr size_t kFailuresOnTrust = 8;

v1::AskRequest PingQuestion() {
  v1::AskRequest question;
  question.mutable_ping();
  return question;
}

}  // namespace

void Membership::Join(std::vector<std::string> addresses,
                      std::function<void(absl::Status)> done) {
  bootstraps_.clear();
  for (std::string& address : addresses) {
    if (address == core_->options().self.address) continue;
    bootstraps_.push_back({std::move(address), Key()});
  }
  if (bootstraps_.empty()) {
    core_->After(absl::ZeroDuration(),
                 [done = std::move(done)] { done(absl::OkStatus()); });
  } else {
    joined_ = std::move(done);
    Attempt();
  }
}

void Membership::Attempt() {
  waiting_ = bootstraps_.size();
  own_ = 0;
  reached_ = false;
  for (size_t i = 0; i < bootstraps_.size(); ++i) {
    core_->Ask(Contact{Key(), bootstraps_[i].address, ""}, PingQuestion(),
               {.patience = kFirstPatience, .max_closer = 0},
               [this, i](const auto& reply, const auto&) {
                 OnFirstContact(i, reply);
               });
  }
}

void Membership::OnFirstContact(size_t bootstrap,
                                const absl::StatusOr<v1::AskReply>& reply) {
  --waiting_;
  if (reply.ok()) {
    // Its id was checked by whoever asked.
    const Key id = *Key::FromBytes(reply->sender().node_id());
    bootstraps_[bootstrap].id = id;
    if (id == core_->self()) {
      ++own_;
    } else if (!reached_) {
      reached_ = true;
      back_off_ = absl::Seconds(1);
      LookAround([this] { ConcludeJoin(absl::OkStatus()); });
    }
  }
  if (waiting_ == 0) OnAttemptEnded();
}

void Membership::OnAttemptEnded() {
  if (reached_) return;
  next_attempt_ =
      core_->Now() + (0.5 + core_->random().NextDouble()) * back_off_;
  back_off_ = std::min(2 * back_off_, kMaxBackOff);
  if (own_ == bootstraps_.size()) {
    ConcludeJoin(absl::OkStatus());
    return;
  }
  ConcludeJoin(absl::UnavailableError(absl::StrCat(
      "no node answered at ",
      absl::StrJoin(bootstraps_, ", ",
                    [](std::string* out, const Bootstrap& bootstrap) {
                      absl::StrAppend(out, bootstrap.address);
                    }))));
}

void Membership::ConcludeJoin(absl::Status status) {
  if (!joined_) return;
  const auto joined = std::move(joined_);
  joined_ = nullptr;
  joined(std::move(status));
}

void Membership::OnEntered(const Contact& contact) {
  if (core_->lost().Remove(contact.id)) look_around_ = true;
}

void Membership::Tick() {
  const absl::Time now = core_->Now();
  if (core_->table().size() == 0) {
    if (!bootstraps_.empty() && waiting_ == 0 && now >= next_attempt_) {
      Attempt();
    }
  } else {
    RefreshBuckets([] {});
    ViewTables();
    AskBootstraps();
  }
  AskLostOnes();
  if (look_around_ && now >= next_look_) {
    look_around_ = false;
    next_look_ = now + kLookInterval;
    next_view_ = now;
    LookAround([] {});
  }
}

void Membership::LookAround(std::function<void()> done) {
  const Node::Options& options = core_->options();
  Walk::Plan plan =
      FindNodePlan(core_, core_->self(), options.store_alpha, options.k);
  plan.done = [this, done = std::move(done)](const Walk::Outcome&) {
    RefreshBuckets(done);
  };
  Walk::Start(core_, std::move(plan));
}

void Membership::RefreshBuckets(std::function<void()> done) {
  if (core_->Now() >= core_->table().next_deadline()) {
    for (const Key& place :
         core_->table().ToRefresh(core_->Now(), core_->random().NextUint64())) {
      to_refresh_.push_back(place);
    }
  }
  if (refreshing_ == 0 && to_refresh_.empty()) {
    done();
    return;
  }
  refreshed_.push_back(std::move(done));
  while (refreshing_ < kRefreshesAtOnce && !to_refresh_.empty()) RefreshNext();
}

void Membership::RefreshNext() {
  // To hear of nodes, not to find the closest: a few answers are enough.
  Walk::Plan plan =
      FindNodePlan(core_, to_refresh_.front(), core_->options().store_alpha,
                   core_->options().get_beta);
  to_refresh_.pop_front();
  ++refreshing_;
  plan.done = [this](const Walk::Outcome&) {
    --refreshing_;
    if (!to_refresh_.empty()) {
      RefreshNext();
    } else if (refreshing_ == 0) {
      const auto refreshed = std::move(refreshed_);
      refreshed_.clear();
      for (const auto& done : refreshed) {
        if (!core_->stopped()) done();
      }
    }
  };
  Walk::Start(core_, std::move(plan));
}

// A small fleet's nodes know everybody: by asking a few, ever more rarely, for
// their whole tables.
void Membership::ViewTables() {
  if (!core_->table().full()) return;
  const absl::Time now = core_->Now();
  if (now < next_view_ || !views_.empty()) return;
  next_view_ = now + view_interval_;
  view_interval_ =
      std::min(2 * view_interval_, core_->options().routing.refresh);
  std::vector<Contact> known = core_->table().All();
  core_->random().Shuffle(&known);
  if (known.size() > kViews) known.resize(kViews);
  for (const Contact& contact : known) AskForTable(contact);
}

void Membership::AskForTable(const Contact& contact) {
  const size_t most = core_->options().routing.full_table;
  v1::AskRequest question;
  question.mutable_find_node()->set_target(core_->self().ToBytes());
  question.mutable_find_node()->set_count(static_cast<int32_t>(most));
  core_->Ask(contact, std::move(question),
             {.patience = kFirstPatience, .max_closer = most, .hear = false},
             [this](const auto& reply, const auto& closer) {
               if (!reply.ok()) return;
               views_.push_back({.named = closer});
               if (views_.size() == 1) CheckViews();
             });
}

// Whoever is named is asked whether it is there, a few at a time. A node's word
// is taken for as long as about half of those that it names are: a liar can
// invent thousands.
void Membership::CheckViews() {
  while (!views_.empty()) {
    View& view = views_.front();
    while (view.next < view.named.size() &&
           view.out < core_->options().pings_at_once &&
           view.failed <= view.answered + kFailuresOnTrust) {
      const Contact& named = view.named[view.next++];
      if (core_->table().Contains(named.id)) {
        ++view.answered;
        continue;
      }
      ++view.out;
      core_->Ask(named, PingQuestion(), [this](const auto& reply, const auto&) {
        View& asked = views_.front();  // until all have answered
        --asked.out;
        ++(reply.ok() ? asked.answered : asked.failed);
        CheckViews();
      });
    }
    if (view.out > 0) return;
    if (view.next == view.named.size()) {
      core_->MarkViewed();
    } else {
      core_->Count("views_distrusted");
    }
    views_.pop_front();
  }
}

// Whoever is at an address to join by should be known, unless the table has no
// place for it.
void Membership::AskBootstraps() {
  const absl::Time now = core_->Now();
  if (bootstraps_.empty() || waiting_ > 0 || now < next_bootstrap_) return;
  const bool first = next_bootstrap_ == absl::InfinitePast();
  next_bootstrap_ = now + bootstrap_interval_;
  bootstrap_interval_ =
      std::min(2 * bootstrap_interval_, kMaxBootstrapInterval);
  if (first) return;
  for (size_t i = 0; i < bootstraps_.size(); ++i) {
    const Bootstrap& bootstrap = bootstraps_[i];
    if (bootstrap.id == core_->self()) continue;
    if (core_->table().Contains(bootstrap.id)) continue;
    core_->Ask(Contact{Key(), bootstrap.address, ""}, PingQuestion(),
               {.patience = kFirstPatience, .max_closer = 0},
               [this, i](const auto& reply, const auto&) {
                 if (!reply.ok() || i >= bootstraps_.size()) return;
                 const Key id = *Key::FromBytes(reply->sender().node_id());
                 if (id != bootstraps_[i].id) look_around_ = true;
                 bootstraps_[i].id = id;
               });
  }
}

void Membership::AskLostOnes() {
  const absl::Time now = core_->Now();
  if (core_->table().size() == 0) {
    AskAllLostOnes();
    return;
  }
  alone_since_ = absl::InfiniteFuture();
  const std::optional<Contact> lost = core_->lost().Next(now);
  if (!lost.has_value()) return;
  v1::AskRequest question;
  question.mutable_find_node()->set_target(core_->self().ToBytes());
  core_->Ask(*lost, std::move(question),
             {.patience = kFirstPatience, .max_closer = core_->options().k},
             [this, lost = *lost](const auto& reply, const auto&) {
               if (reply.ok()) OnFoundAgain(lost);
             });
}

// That all have died at once is less likely than that this node was cut off:
// until somebody answers, nobody is forgotten.
void Membership::AskAllLostOnes() {
  const absl::Time now = core_->Now();
  alone_since_ = std::min(alone_since_, now);
  if (now < next_lost_) return;
  const absl::Duration interval =
      std::clamp((now - alone_since_) / 100, kShortestAlone, kLongestAlone);
  next_lost_ = now + (0.8 + 0.4 * core_->random().NextDouble()) * interval;
  for (const Contact& lost : core_->lost().All()) core_->Check(lost);
}

// It may be in no table that has no place for it: what it has said of others is
// what counts. Of a small fleet, all that it knows.
void Membership::OnFoundAgain(const Contact& contact) {
  core_->lost().Remove(contact.id);
  look_around_ = true;
  if (core_->table().full()) AskForTable(contact);
}

}  // namespace koinon::dht
