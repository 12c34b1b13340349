#include "dht/node_providers.h"

#include <memory>
#include <set>
#include <utility>

#include "absl/status/status.h"
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
    for (const RecordStore::ProviderUntil& provider : core_->store().Providers(
             content_, count_ + 1, core_->Now(), core_->options().self.site)) {
      Add(provider.contact);
    }
    if (enough()) {
      core_->After(absl::ZeroDuration(),
                   [search = shared_from_this()] { search->Finish(); });
    } else {
      StartWalk(core_->options().get_beta, 1);
    }
  }

 private:
  bool enough() const { return found_.size() >= count_; }

  void Add(const Contact& provider) {
    if (enough() || provider.address.empty() || provider.id == core_->self() ||
        !seen_.insert(provider.id).second) {
      return;
    }
    found_.push_back(provider);
  }

  void StartWalk(size_t beta, size_t paths) {
    Walk::Plan plan;
    plan.target = content_;
    plan.options = core_->WalkOptions(core_->options().get_alpha, beta, paths);
    plan.seeds = core_->table().Closest(content_, core_->options().k * paths);
    plan.question.mutable_get_providers()->set_key(content_.ToBytes());
    plan.on_answer = [search = shared_from_this()](const Contact&,
                                                   const v1::AskReply& reply) {
      return search->OnAnswer(reply);
    };
    plan.done = [search = shared_from_this(), paths](const Walk::Outcome&) {
      const size_t more = search->core_->options().paths_on_miss;
      if (search->found_.empty() && paths < more) {
        search->StartWalk(search->core_->options().k, more);
      } else {
        search->Finish();
      }
    };
    Walk::Start(core_, std::move(plan));
  }

  Walk::Verdict OnAnswer(const v1::AskReply& reply) {
    for (const v1::Provider& provider : reply.providers()) {
      absl::StatusOr<Contact> contact = ContactFromProto(provider.contact());
      if (contact.ok()) {
        Add(*contact);
      } else {
        core_->Count("malformed_contacts");
      }
    }
    return enough() ? Walk::Verdict::kStop : Walk::Verdict::kGoOn;
  }

  void Finish() {
    const ProvidersFound done = std::move(done_);
    done(std::move(found_));
  }

  NodeCore* const core_;
  const Key content_;
  const size_t count_;
  ProvidersFound done_;
  std::vector<Contact> found_;
  std::set<Key> seen_;
};

}  // namespace

void Announcer::Provide(const Key& content) {
  if (core_->is_client()) return;
  due_[content] = absl::InfiniteFuture();  // until OnAnnounced
  Announce(content);
}

void Announcer::Stop(const Key& content) {
  due_.erase(content);
  core_->store().RemoveProvider(content, core_->self());
}

void Announcer::Tick() {
  std::vector<Key> now_due;
  for (auto& [content, due] : due_) {
    if (due > core_->Now()) continue;
    due = absl::InfiniteFuture();
    now_due.push_back(content);
  }
  for (const Key& content : now_due) Announce(content);
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
  const auto found = due_.find(content);
  if (found == due_.end()) {
    // Stopped meanwhile: what was kept here just now is taken back.
    core_->store().RemoveProvider(content, core_->self());
    return;
  }
  // A little early and not all at once.
  const double part = 0.8 + 0.2 * core_->random().NextDouble();
  found->second =
      core_->Now() +
      (settled ? part * core_->options().provide_refresh : kAnnounceRetry);
}

void FindProviders(NodeCore* core, const Key& content, size_t count,
                   ProvidersFound done) {
  std::make_shared<ProviderSearch>(core, content, count, std::move(done))
      ->Start();
}

}  // namespace koinon::dht
