#include "dht/node_providers.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "dht/node_spread.h"
#include "dht/node_walk.h"
#include "dht/records/rejection.h"

namespace koinon::dht {
namespace {

// After an announcement that nobody took.
constexpr absl::Duration kAnnounceRetry = absl::Seconds(10);

// Owned by what waits for it.
class ProviderSearch : public std::enable_shared_from_this<ProviderSearch> {
 public:
  ProviderSearch(NodeCore* core, const Key& content, size_t count,
                 ProvidersFound done)
      : core_(core), content_(content), count_(count), done_(std::move(done)) {}

  void Start() {
    std::vector<Contact> own;
    for (RecordStore::ProviderUntil& provider : core_->store().Providers(
             content_, count_ + 1, core_->Now(), core_->options().self.site)) {
      own.push_back(std::move(provider.contact));
    }
    Take(std::move(own));
    // They have announced themselves to this very node.
    if (Chosen().size() >= count_) {
      answered_ = true;
      core_->After(absl::ZeroDuration(),
                   [search = shared_from_this()] { search->Finish(); });
    } else {
      StartWalk(1);
    }
  }

 private:
  // What one node says.
  void Take(std::vector<Contact> providers) {
    std::erase_if(providers, [this](const Contact& provider) {
      return provider.address.empty() || provider.id == core_->self();
    });
    if (!providers.empty()) answers_.push_back(std::move(providers));
  }

  void StartWalk(size_t paths) {
    const Node::Options& options = core_->options();
    Walk::Plan plan;
    plan.target = content_;
    plan.options = core_->WalkOptions(options.get_alpha, options.k, paths);
    plan.seeds = core_->table().Closest(content_, options.k * paths);
    plan.seeds.insert(plan.seeds.end(), unasked_.begin(), unasked_.end());
    plan.exclude = asked_;
    plan.question.mutable_get_providers()->set_key(content_.ToBytes());
    plan.on_answer = [search = shared_from_this()](const Contact&,
                                                   const v1::AskReply& reply) {
      search->answered_ = true;
      search->OnAnswer(reply);
      return Walk::Verdict::kGoOn;
    };
    plan.done = [search = shared_from_this(),
                 paths](const Walk::Outcome& outcome) {
      search->OnWalked(outcome, paths);
    };
    Walk::Start(core_, std::move(plan));
  }

  void OnAnswer(const v1::AskReply& reply) {
    std::vector<Contact> providers;
    for (const v1::Provider& provider : reply.providers()) {
      // More of one node's are never chosen, but for this node itself.
      if (providers.size() > count_) break;
      absl::StatusOr<Contact> contact = ContactFromProto(provider.contact());
      if (contact.ok()) {
        providers.push_back(*std::move(contact));
      } else {
        core_->Count("malformed_contacts");
      }
    }
    Take(std::move(providers));
  }

  void OnWalked(const Walk::Outcome& outcome, size_t paths) {
    for (const Lookup::Step& step : outcome.path) {
      asked_.insert(step.contact.id);
    }
    unasked_ = outcome.unasked;
    const size_t more = core_->options().paths_on_miss;
    if (answers_.empty() && paths < more) {
      StartWalk(more);
    } else {
      Finish();
    }
  }

  // One of each node's in turn, that no other has named: whoever lies can take
  // no more places than anybody else who answered.
  std::vector<Contact> Chosen() const {
    std::vector<Contact> chosen;
    std::set<Key> ids;
    std::vector<size_t> next(answers_.size(), 0);
    for (bool more = true; more;) {
      more = false;
      for (size_t i = 0; i < answers_.size() && chosen.size() < count_; ++i) {
        const std::vector<Contact>& named = answers_[i];
        while (next[i] < named.size() && ids.contains(named[next[i]].id)) {
          ++next[i];
        }
        if (next[i] == named.size()) continue;
        ids.insert(named[next[i]].id);
        chosen.push_back(named[next[i]]);
        more = true;
      }
    }
    return chosen;
  }

  void Finish() {
    const ProvidersFound done = std::move(done_);
    // Whoever hears nothing cannot say that nobody serves it.
    if (answers_.empty() && !answered_) {
      done(absl::UnavailableError(absl::StrCat(
          "no node of the DHT answered (", asked_.size(),
          " were asked for providers of ", content_.ToShortHex(), ")")));
    } else {
      done(Chosen());
    }
  }

  NodeCore* const core_;
  const Key content_;
  const size_t count_;
  ProvidersFound done_;
  bool answered_ = false;  // somebody has, or nobody had to be asked
  std::vector<std::vector<Contact>> answers_;  // that name anybody
  std::set<Key> asked_;
  std::vector<Contact> unasked_;
};

}  // namespace

void Announcer::Provide(const Key& content, int64_t importance) {
  if (core_->is_client()) return;
  const bool all = served_.size() < Bound();
  served_[content] = {importance, all ? absl::InfiniteFuture() : core_->Now()};
  if (all) Announce(content);  // else Tick sees whether it is to be
}

void Announcer::Stop(const Key& content) {
  served_.erase(content);
  core_->store().RemoveProvider(content, core_->self());
}

void Announcer::Tick() {
  std::vector<Key> now_due;
  const std::optional<Rank> least = Least();
  for (auto& [content, served] : served_) {
    if (served.due > core_->Now()) continue;
    if (least.has_value() && Rank(served.importance, content) < *least) {
      // It has been so for a while: this node knows how many others there are.
      if (served.due + core_->options().provide_refresh < core_->Now()) {
        SayTooMany();
      }
      continue;
    }
    served.due = absl::InfiniteFuture();  // until OnAnnounced
    now_due.push_back(content);
  }
  for (const Key& content : now_due) Announce(content);
}

size_t Announcer::Bound() const {
  // Each of n nodes is told of k in n contents; of all, if it is one of k.
  const size_t k = core_->options().k;
  const size_t nodes = std::max(k, core_->table().size() + 1);
  const size_t of_each = core_->store().max_contents_of_provider();
  return (of_each - of_each / 8) * nodes / k;
}

size_t Announcer::unannounced() const {
  const size_t bound = Bound();
  return served_.size() > bound ? served_.size() - bound : 0;
}

std::optional<Announcer::Rank> Announcer::Least() const {
  const size_t left_out = unannounced();
  if (left_out == 0) return std::nullopt;
  std::vector<Rank> ranks;
  ranks.reserve(served_.size());
  for (const auto& [content, served] : served_) {
    ranks.emplace_back(served.importance, content);
  }
  const auto least = ranks.begin() + static_cast<ptrdiff_t>(left_out);
  if (least == ranks.end()) return Rank(INT64_MAX, Key());
  std::nth_element(ranks.begin(), least, ranks.end());
  return *least;
}

void Announcer::SayTooMany() {
  if (std::exchange(said_too_many_, true)) return;
  LogWarning(
      "more contents are served than other nodes remember of one node: the "
      "others are not announced, and counted as unannounced",
      {{"served", served_.size()}, {"announced", Bound()}});
}

void Announcer::Announce(const Key& content) {
  Spread::Plan plan;
  plan.key = content;
  plan.question.mutable_add_provider()->set_key(content.ToBytes());
  plan.keep = [this, content] {
    return core_->store().AddProvider(content, core_->options().self,
                                      core_->Now());
  };
  plan.quorum = core_->options().write_quorum;
  plan.done = [this, content](const absl::StatusOr<Node::PutResult>& result) {
    // Where there are providers enough, asking at once again helps nobody.
    const bool settled =
        result.ok() || RejectionOf(result.status()) == Rejection::kQuota;
    OnAnnounced(content, settled);
  };
  Spread::Start(core_, std::move(plan));
}

void Announcer::OnAnnounced(const Key& content, bool settled) {
  const auto found = served_.find(content);
  if (found == served_.end()) {
    // Stopped meanwhile: what was kept here just now is taken back.
    core_->store().RemoveProvider(content, core_->self());
    return;
  }
  // A little early and not all at once.
  const double part = 0.8 + 0.2 * core_->random().NextDouble();
  found->second.due =
      core_->Now() +
      (settled ? part * core_->options().provide_refresh : kAnnounceRetry);
}

void FindProviders(NodeCore* core, const Key& content, size_t count,
                   ProvidersFound done) {
  std::make_shared<ProviderSearch>(core, content, count, std::move(done))
      ->Start();
}

}  // namespace koinon::dht
