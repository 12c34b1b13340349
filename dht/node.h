#ifndef KOINON_DHT_NODE_H_
#define KOINON_DHT_NODE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "dht/key.h"
#include "dht/query/answer_times.h"
#include "dht/query/lookup.h"
#include "dht/records/signed.h"
#include "dht/routing/routing_table.h"
#include "dht/store/record_store.h"
#include "dht/transport/transport.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// One node of the DHT: answers questions, looks up, stores, announces, and
// keeps what it holds alive. The same code runs in every daemon and, thousands
// of times in one thread, in the simulation: it owns no socket, clock or
// thread.
//
//   Node node(options, &loop, &transport, &store);
//   node.Join({"10.0.0.1:7070"}, [](absl::Status joined) { ... });
//   node.Put(key, record, [](absl::StatusOr<Node::PutResult> put) { ... });
//
// Everything must be called on the loop, where all callbacks run too. The
// pointers must outlive the node; after its destructor no callback runs.
class Node {
 public:
  struct Options {
    Contact self;  // without an address: a client, in nobody's table
    uint64_t seed = 0;
    RecordTrust trust;
    RoutingTable::Options routing;
    AnswerTimes::Options times;
    size_t k = 20;
    size_t store_alpha = 3;
    size_t get_alpha = 10;
    // Where a few of the closest are enough: filling buckets.
    size_t get_beta = 3;
    // A Put has succeeded once so many have kept the record: k/2 + 1, or all
    // there are if fewer; in the end a majority of those. The others are still
    // asked.
    size_t write_quorum = 11;
    // A Get that finds nothing on one path tries again on so many disjoint
    // ones.
    size_t paths_on_miss = 2;
    absl::Duration lookup_deadline = absl::Seconds(10);
    // How often a provider announces itself again while it serves.
    absl::Duration provide_refresh = absl::Minutes(4);
    absl::Duration maintenance = absl::Seconds(1);  // pings, refreshes, sweeps
    size_t pings_at_once = 8;
    size_t republish_at_once = 2;
  };

  Node(Options options, Loop* loop, Transport* transport, RecordStore* store);
  ~Node();

  // --- Questions of others ---
  // `from`: verified by the transport (over TLS), its address as it claims. A
  // RejectedError's reason goes into the reply; other errors: INVALID_ARGUMENT
  // for a malformed question.
  absl::StatusOr<v1::AskReply> Answer(const Contact& from,
                                      const v1::AskRequest& question);

  // --- What the process wants ---
  // Asks the addresses who they are, looks up itself and refreshes its buckets.
  // UNAVAILABLE if none answered; it is then tried again, with back-off, until
  // one does (as whenever the table is empty), but `done` runs once. With no
  // address, OK: others will come.
  using Joined = std::function<void(absl::Status)>;
  void Join(std::vector<std::string> addresses, Joined done);
  struct PutResult {
    size_t kept = 0;  // nodes that hold it now, this one included
    size_t asked = 0;
    std::map<std::string, size_t> rejections;  // by reason
    std::vector<Lookup::Step> path;
  };
  // Stores at the k nodes closest to the key, this one included if it is one of
  // them. `done` runs when the quorum is reached: UNAVAILABLE, saying how many
  // of how many, if it cannot be; a RejectedError if that is because half of
  // them or more refused the record, or if it does not verify in the first
  // place.
  void Put(const Key& key, v1::Record record,
           std::function<void(absl::StatusOr<PutResult>)> done);

  // As Put, but `done` runs once all of the closest have been asked.
  void PutToAll(const Key& key, v1::Record record,
                std::function<void(absl::StatusOr<PutResult>)> done);

  struct GetOptions {
    // For mutable records: hear all of the k closest instead of stopping early,
    // so that the newest is found if any honest holder is reached.
    bool newest = false;
    size_t paths = 1;
    // In plaintext, where several keys have signed records of one key: whose
    // is meant. Those of others are not looked at if this one's is there.
    std::optional<PublicKey> signer = {};
  };
  struct GetResult {
    OpenedRecord opened;
    v1::Record record;
    Contact from;
    size_t paths = 1;                          // that were walked in the end
    std::map<std::string, size_t> rejections;  // bad records on the way
    std::vector<Lookup::Step> path;
  };
  // The record, verified; of mutable ones the newest that was found. A holder
  // that lacked it, or had an older one, is given it. NOT_FOUND after
  // paths_on_miss disjoint paths and once those that kept silent on them were
  // asked again; UNAVAILABLE if no node answered; DATA_LOSS (kEquivocation) if
  // two as new differ; FAILED_PRECONDITION, naming the keys, if in plaintext
  // several have signed what was found and none is that of the options: numbers
  // say nothing there, since everybody can sign greater ones.
  void Get(const Key& key, GetOptions options,
           std::function<void(absl::StatusOr<GetResult>)> done);

  struct Closest {
    std::vector<Contact> nodes;  // at most k, closest first; without itself
    std::vector<Lookup::Step> path;
    size_t depth = 0;  // of the nodes
    unsigned caps = Lookup::kNone;
  };
  // UNAVAILABLE if no node answered.
  void FindClosest(const Key& target,
                   std::function<void(absl::StatusOr<Closest>)> done);

  // Announces that this node serves the content, now and every provide_refresh
  // until StopProviding. Of more than others remember of one node, or as many
  // times more as there are more nodes, those that are most important are
  // announced.
  void Provide(const Key& content, int64_t importance = 0);
  void StopProviding(const Key& content);
  // Who serves the content, at most `count`; without itself. Empty: nobody.
  // UNAVAILABLE if no node answered, and this one knows of nobody either.
  void FindProviders(
      const Key& content, size_t count,
      std::function<void(absl::StatusOr<std::vector<Contact>>)> done);

  // --- What it knows ---
  struct Status {
    size_t nodes = 0;
    size_t providing = 0;
    RecordStore::Totals store;
    // Since the start: "refused_REASON" (records and providers that others sent
    // here), "get_refused_REASON" (answers to Gets), "equivocations",
    // "lookup_cap_candidates", "..._questions" and "..._deadline",
    // "failed_questions", "malformed_contacts", "gets_escalated",
    // "gets_asked_again", "written_back", "repaired", "republished",
    // and others; and "unannounced", what this node serves now and does not
    // announce, because it is more than others remember.
    std::map<std::string, int64_t> counters;
  };
  Status status() const;
  const RoutingTable& table() const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_H_
