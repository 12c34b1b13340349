#ifndef KOINON_DHT_SWARM_FETCH_CANDIDATES_H_
#define KOINON_DHT_SWARM_FETCH_CANDIDATES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "dht/key.h"

namespace koinon::dht {

// Who may have a content, and when to ask whom (again). Pure: told `now`. Not
// thread-safe.
class FetchCandidates {
 public:
  struct Options {
    Key self;
    // Of more, those that only peers have named give way, and those that have
    // failed.
    size_t max_candidates = 200;
    // Connected at once of those that only peers have named and that have given
    // nothing: they may be nobody, and the others must not wait for them.
    size_t max_unproven = 5;
    absl::Duration retry = absl::Milliseconds(250);
    absl::Duration longest_retry = absl::Seconds(10);
    // Who has given way to others; no longer than longest_retry.
    absl::Duration idle_retry = absl::Seconds(2);
    absl::Duration ban = absl::Seconds(30);
    int strikes = 3;
  };
  explicit FetchCandidates(Options options) : options_(std::move(options)) {}

  // Of a candidate, for good; of one that has given way, nobody's any more.
  // Reports about such are ignored.
  using Number = uint64_t;
  // Who says that somebody is a candidate, most believed first: whoever wants
  // the content, or its coordinator; the DHT; some peer.
  enum class Namer { kTask, kDht, kPeer };

  // The coordinator: before all others; asked beside them.
  void SetOrigin(const Contact& contact);
  // Itself, known ones, and those without an address are passed over: known by
  // their address or their id, unless what is known of it has failed, or is the
  // word of somebody who is believed less. Those that were named first are
  // asked first.
  //
  // Where there is no room, one that is not connected gives way: somebody that
  // was named by who is believed less, or by the like and has failed.
  void Add(const Contact& contact, Namer namer);

  struct Candidate {
    Number number = 0;
    Contact contact;
    bool origin = false;
  };
  // Whom to connect to now, if anybody; it is taken as connected. The new ones
  // first, then who was asked longest ago: everybody gets a turn.
  std::optional<Candidate> Next(absl::Time now, bool only_origin);
  // The origin is not counted.
  size_t connected() const;
  // Nobody but the origin is connected, or has not been tried.
  bool alone() const;
  // Somebody is connected, or will be asked again, or has not been asked yet.
  bool hopeful() const;
  // How many Next has now, not counting the origin.
  size_t due(absl::Time now) const;
  // When Next may have somebody; InfiniteFuture if nothing is waited for.
  absl::Time next_attempt(bool only_origin) const;

  // The connection is over. A refusal for good (PERMISSION_DENIED,
  // UNAUTHENTICATED) is not tried again; others are, later each time.
  void OnFailed(Number number, const absl::Status& why, absl::Time now);
  // It had something, so that the next failure is its first.
  void OnWorked(Number number);
  // It had nothing that is missing, and gives way to others. That it can be
  // opened again says nothing of what it has: it is asked again later each
  // time until it gives a piece.
  void OnIdle(Number number, absl::Time now);
  void OnGave(Number number);
  void OnLied(Number number, const absl::Status& why, absl::Time now);

  // Everybody that failed, and why: for errors. Bounded.
  std::string Failures() const;

 private:
  struct Entry {
    Candidate candidate;
    Namer namer = Namer::kPeer;  // of those who named it, the most believed
    bool connected = false;
    bool gave = false;
    bool never = false;         // to be asked again
    bool empty_handed = false;  // has said that it has nothing
    uint64_t turn = 0;          // of all that were asked; 0: not yet
    int strikes = 0;
    absl::Duration wait;
    absl::Duration idle_wait;
    absl::Time not_before = absl::InfinitePast();
    absl::Status failure;
  };
  Entry* Find(Number number);  // null if it has given way
  static bool IsUnproven(const Entry& entry) {
    return entry.namer == Namer::kPeer && !entry.gave;
  }
  // As many unproven ones are connected as may be.
  bool HoldsUnprovenBack() const;
  // At its time. `held_back`: as HoldsUnprovenBack.
  static bool MayBeAsked(const Entry& entry, bool held_back);
  static bool IsKnownAs(const Entry& entry, const Contact& contact,
                        Namer namer);
  bool Knows(const Contact& contact, Namer namer);
  bool MakeRoomFor(Namer namer);
  void Insert(const Contact& contact, Namer namer, bool origin);

  const Options options_;
  std::map<Number, Entry> entries_;
  Number last_number_ = 0;
  uint64_t turns_ = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_FETCH_CANDIDATES_H_
