// How a node hands records on, and what it lets go before.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/status_matchers.h"
#include "dht/key.h"
#include "dht/node.h"
#include "dht/records/signed.h"
#include "dht/store/record_store.h"
#include "dht/transport/simulated.h"
#include "gtest/gtest.h"
#include "proto/dht.pb.h"

namespace koinon::dht {
namespace {

constexpr int kRecords = 200;
// There and back again, always: what arrives within this was under way at once.
constexpr absl::Duration kRoundTrip = absl::Milliseconds(200);

// One node with many records, another that hears its questions for records and
// does not answer them, and one that comes and has yet to be given everything.
class NodeRepairTest : public testing::Test {
 protected:
  NodeRepairTest()
      : network_({.seed = 3,
                  .mean_delay = absl::ZeroDuration(),
                  .min_delay = kRoundTrip / 2}) {}

  static Contact ContactOf(const std::string& name) {
    return {Sha256Of(name), absl::StrCat(name, ":1"), ""};
  }

  void SetUp() override {
    const Contact self = ContactOf("self");
    auto store = RecordStore::Open(RealEnv(), "", {}, {}, network_.Now());
    ASSERT_OK(store);
    store_ = *std::move(store);
    SimulatedNetwork::Host* const host = network_.AddHost(self);
    Node::Options options;
    options.self = self;
    options.seed = 1;
    node_ = std::make_unique<Node>(options, host->loop(), host->transport(),
                                   store_.get());
    network_.AddHost(ContactOf("mute"))
        ->Serve(
            [](const Contact&,
               const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
              if (question.has_get_record()) return absl::CancelledError();
              return v1::AskReply();
            });
    node_->Join({"mute:1"}, [](const absl::Status&) {});
    network_.RunFor(absl::Seconds(30));
    ASSERT_EQ(node_->table().size(), 1u);
    for (int i = 0; i < kRecords; ++i) {
      const std::string value = absl::StrCat("value ", i);
      ASSERT_OK(store_->Put(ImmutableKey(value), ImmutableRecord(value),
                            self.id, network_.Now()));
    }
  }

  // It takes so many records a second, if there is a limit.
  void AddNewcomer(std::optional<int> limit = std::nullopt) {
    const Contact newcomer = ContactOf("newcomer");
    network_.AddHost(newcomer)->Serve(
        [this, limit](
            const Contact&,
            const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
          if (question.has_put_record()) {
            if (limit.has_value() &&
                ++taken_[absl::ToUnixSeconds(network_.Now())] > *limit) {
              ++refused_;
              return absl::ResourceExhaustedError("too much to do");
            }
            given_.push_back(network_.Now());
            keys_.insert(question.put_record().key());
          }
          return v1::AskReply();
        });
    v1::AskRequest ping;
    ping.mutable_ping();
    ASSERT_OK(node_->Answer(newcomer, ping));
    ASSERT_TRUE(network_.RunUntilTrue(
        [&] { return node_->table().Contains(newcomer.id); },
        absl::Seconds(5)));
  }
  // The most records that were under way at once, of those given from the
  // `first` on.
  size_t MostAtOnce(size_t first) const {
    size_t most = 0;
    for (size_t i = first; i < given_.size(); ++i) {
      const auto end = std::lower_bound(given_.begin() + i, given_.end(),
                                        given_[i] + kRoundTrip);
      most = std::max<size_t>(most, end - (given_.begin() + i));
    }
    return most;
  }

  SimulatedNetwork network_;
  std::unique_ptr<RecordStore> store_;
  std::unique_ptr<Node> node_;
  std::vector<absl::Time> given_;  // records to the newcomer
  std::set<std::string> keys_;
  std::map<int64_t, int> taken_;  // in each second
  int refused_ = 0;
};

TEST_F(NodeRepairTest, Repair_NobodyWaits_HandsOnAFewAtATime) {
  AddNewcomer();
  network_.RunFor(absl::Minutes(1));
  EXPECT_EQ(keys_.size(), size_t{kRecords});
  EXPECT_GT(MostAtOnce(0), 1u);
  EXPECT_LE(MostAtOnce(0), 8u);
}

TEST_F(NodeRepairTest, Repair_WhileSomebodyWaitsForAGet_HandsOnOneByOne) {
  AddNewcomer();
  bool done = false;
  node_->Get(Sha256Of("nowhere"), {}, [&](const auto&) { done = true; });
  ASSERT_TRUE(network_.RunUntilTrue([&] { return done; }, absl::Seconds(30)));
  // It goes on: somebody may always be waiting.
  const size_t meanwhile = given_.size();
  EXPECT_GE(meanwhile, 5u);
  EXPECT_LT(meanwhile, size_t{kRecords});
  EXPECT_EQ(MostAtOnce(0), 1u);
  // And makes up for it.
  network_.RunFor(absl::Minutes(1));
  EXPECT_EQ(keys_.size(), size_t{kRecords});
  EXPECT_GT(MostAtOnce(meanwhile), 1u);
}

TEST_F(NodeRepairTest, Repair_OfOneWithTooMuchToDo_WaitsAndLosesNothing) {
  AddNewcomer(/*limit=*/20);
  network_.RunFor(absl::Minutes(1));
  EXPECT_EQ(keys_.size(), size_t{kRecords});
  // Those under way when it first said so, in each of ten seconds or so.
  EXPECT_GT(refused_, 0);
  EXPECT_LE(refused_, 8 * 15);
}

}  // namespace
}  // namespace koinon::dht
