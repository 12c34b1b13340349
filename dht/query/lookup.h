#ifndef KOINON_DHT_QUERY_LOOKUP_H_
#define KOINON_DHT_QUERY_LOOKUP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "dht/key.h"

namespace koinon::dht {

// One iterative walk towards a key (Maymounkov and Mazieres 2002, section 2.3).
// Pure: the driver sends what Next says and reports what came of it.
//
//   Lookup lookup(target, self, table.Closest(target, 20), options, now);
//   while (!lookup.done()) {
//     for (const Question& q : lookup.Next(now)) Send(q);
//     ... lookup.OnAnswer(id, closer, now), lookup.OnFailure(id, now) ...
//     // and call Next again at lookup.next_deadline(), to hedge
//   }
//
// With more than one path, each walks on its own: an answer feeds the path that
// asked, and no node is asked by two (S/Kademlia, section 4.4). The walk is
// done when every path is; answers that come later still count as answers, but
// nobody is asked any more. Not thread-safe.
class Lookup {
 public:
  struct Options {
    size_t k = 20;     // nodes wanted
    size_t alpha = 3;  // questions in flight on each path
    // The walk of a path is over when so many of the closest that it has seen
    // have answered. k: all (for stores); fewer is faster, and finds fewer.
    size_t beta = 20;
    size_t paths = 1;
    // Of each path. Somebody nearer takes the place of the farthest that was
    // not asked yet.
    size_t max_candidates = 256;
    size_t max_questions = 64;                    // of each path
    absl::Duration deadline = absl::Seconds(10);  // of the whole walk
    // A question out for so long no longer counts as in flight: another of the
    // k closest is asked beside it. Out for twice as long, its node no longer
    // counts as one of them, and the next after them is asked: most answer in
    // between, and that question would have been for nothing.
    absl::Duration hedge = absl::Milliseconds(500);
  };
  // What ended the walk before its time; counted.
  enum Cap { kNone = 0, kCandidates = 1, kQuestions = 2, kDeadline = 4 };

  // The seeds are dealt to the paths in turn, the closest first. Requires
  // alpha, beta and paths over zero.
  Lookup(const Key& target, const Key& self, absl::Span<const Contact> seeds,
         Options options, absl::Time now);

  // Whom to ask now. Each node is named once in the whole walk.
  std::vector<Contact> Next(absl::Time now);
  // `closer`: what the node named. What is over k of them, the node itself, the
  // asker, and contacts without an address are ignored, as are answers of nodes
  // that were not asked. An answer after its failure was reported counts again;
  // a failure after the answer does not.
  void OnAnswer(const Key& id, absl::Span<const Contact> closer,
                absl::Time now);
  void OnFailure(const Key& id, absl::Time now);
  // What was looked for is found: nothing more is asked.
  void Stop() { stopped_ = true; }

  // True at once if there are no seeds.
  bool done() const;
  // When to call Next again though nothing was reported. Infinite if done.
  absl::Time next_deadline() const;

  // The closest that answered, closest first, at most k.
  std::vector<Contact> Closest() const;
  // The closest that were heard of and have not failed, answered or not, at
  // most k.
  std::vector<Contact> Heard() const;

  // How the walk went, for people and for measurements: in the order of asking.
  struct Step {
    Contact contact;
    size_t path = 0;
    size_t depth = 0;  // 1: a seed; else one more than who named it
    absl::Time asked;
    absl::Duration took = absl::ZeroDuration();
    enum Outcome { kWaiting, kAnswered, kFailed } outcome = kWaiting;
  };
  const std::vector<Step>& steps() const { return steps_; }
  // Of the nodes in Closest(): the largest; 0 if there is none.
  size_t depth() const;
  size_t questions() const { return steps_.size(); }
  unsigned caps() const { return caps_; }

 private:
  // Somebody who was heard of.
  struct Candidate {
    Contact contact;
    size_t path = 0;
    size_t depth = 1;
    enum State { kHeard, kWaiting, kAnswered, kFailed } state = kHeard;
    int late = 0;     // out for so many times `hedge`; at most twice
    size_t step = 0;  // in steps_, once asked
  };
  struct Path {
    size_t candidates = 0;
    size_t questions = 0;
    bool done = false;
  };

  struct Slot {
    uint64_t prefix = 0;  // of the distance to the target
    std::unique_ptr<Candidate> candidate;
  };

  // Where among the candidates it is, or would be.
  size_t PlaceOf(const Key& id) const;
  bool IsAt(size_t place, const Key& id) const;
  Candidate* FindAsked(const Key& id);
  bool Hear(const Contact& contact, size_t path, size_t depth);
  // Makes room for somebody who would be at `place`, on a path that has all it
  // may have.
  bool DropFarther(size_t place, size_t path);
  void MarkLate(absl::Time now);
  void AskOnPath(size_t path, absl::Time now, std::vector<Contact>* asked);
  void FinishPaths();
  bool IsOver(size_t path);

  const Key target_;
  const Key self_;
  const Options options_;
  const absl::Time started_;
  std::vector<Slot> candidates_;  // nearest to the target first
  std::vector<Path> paths_;
  std::vector<Step> steps_;
  unsigned caps_ = kNone;
  bool stopped_ = false;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_QUERY_LOOKUP_H_
