#ifndef KOINON_DHT_NODE_GET_H_
#define KOINON_DHT_NODE_GET_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/signing.h"
#include "dht/key.h"
#include "dht/node.h"
#include "dht/node_core.h"
#include "dht/node_walk.h"
#include "dht/query/lookup.h"
#include "dht/records/signed.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// Looks for a record: a walk whose questions are GetRecord, so that where the
// closest are known (small fleets) it takes one step.
//
//  1. What this node holds itself will do, unless the newest is wanted.
//  2. One walk. It ends with the first valid record, or, if the newest is
//     wanted, when all of the k closest have answered. A record that does not
//     verify counts as no answer, and who sent it leaves the table, unless it
//     may have stood when that node was given it.
//  3. If nothing was found: disjoint paths, from those that were named and not
//     asked, past those that were asked. Liars who name only each other have
//     used up the nearest of themselves by then, and what is as near as the
//     others of them are honest nodes too.
//  4. If still nothing was found: the closest of those that kept silent, or had
//     left the table, once more and for longer, within the last walk's
//     deadline. A walk goes on without whoever is slow; but that nobody has the
//     record can be said only by those that should.
//  5. In plaintext there is a best of each key that has signed. Of several, the
//     one that was asked for is taken.
//  6. Who is closer than the holder, and lacked it, is given it; of mutable
//     ones, all of the closest that had none or an older one.
//
// Even a miss hears all of the k closest, not only the first few: those may all
// be liars. What is there is found long before.
//
// Owned by what waits for it.
class Get : public std::enable_shared_from_this<Get> {
 public:
  using Done = std::function<void(absl::StatusOr<Node::GetResult>)>;
  // `done`: once, never inside Start.
  static void Start(NodeCore* core, const Key& key, Node::GetOptions options,
                    Done done);

  Get(NodeCore* core, const Key& key, Node::GetOptions options, Done done);

 private:
  // A node that answered, and what it had.
  struct Heard {
    Contact contact;
    std::optional<OpenedRecord> had;
  };
  // The best of one signer; in a federation with an authority, of all.
  struct Best {
    OpenedRecord opened;
    v1::Record record;
    Contact from;
    bool conflict = false;  // one as new as it differs
  };
  bool TakeOwn();
  void StartWalk(size_t paths);
  Walk::Verdict OnAnswer(const Contact& from, const v1::AskReply& reply);
  // Whose best a record may be.
  PublicKey SignerOf(const OpenedRecord& opened) const;
  // Keeps the better of it and the best so far.
  void Take(const OpenedRecord& opened, const v1::Record& record,
            const Contact& from);
  void OnRefused(const Contact& from, const absl::Status& why);
  void OnWalked(const Walk::Outcome& outcome);
  // Those that had left the table, if they are so many that it is likelier that
  // this node was cut off than that all are dead.
  void AddLostOnes();
  void AskSilentOnes();
  void OnSilentOne(const Contact& contact,
                   const absl::StatusOr<v1::AskReply>& reply);
  void Finish();
  // What was found, if that is clear.
  absl::StatusOr<Best> Choose();
  absl::Status NothingFound() const;
  absl::Status SeveralSigners() const;
  void WriteBack();
  bool LacksIt(const Heard& heard) const;

  NodeCore* const core_;
  const Key key_;
  const Node::GetOptions options_;
  Done done_;
  Node::GetResult result_;
  std::map<PublicKey, Best> found_;
  bool answered_ = false;
  std::vector<Heard> heard_;
  std::set<Key> asked_;
  std::set<Key> refused_;        // what they sent
  absl::Status refusal_;         // why, of the last
  absl::Time deadline_;          // of the last walk
  std::vector<Contact> silent_;  // asked, without an answer
  size_t waiting_ = 0;           // for so many that are asked again
  std::vector<Contact> unasked_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_GET_H_
