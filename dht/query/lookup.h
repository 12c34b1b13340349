#ifndef KOINON_DHT_QUERY_LOOKUP_H_
#define KOINON_DHT_QUERY_LOOKUP_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
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
// done when every path is. Not thread-safe.
class Lookup {
 public:
  struct Options {
    size_t k = 20;     // nodes wanted
    size_t alpha = 3;  // questions in flight on each path
    // The walk of a path is over when so many of the closest that it has seen
    // have answered. k: all (for stores); fewer is faster, and finds fewer.
    size_t beta = 20;
    size_t paths = 1;
    size_t max_candidates = 256;                  // of each path
    size_t max_questions = 64;                    // of each path
    absl::Duration deadline = absl::Seconds(10);  // of the whole walk
    // A question out for so long no longer counts as in flight: another is
    // asked beside it.
    absl::Duration hedge = absl::Milliseconds(500);
  };
  // What ended the walk before its time; counted.
  enum Cap { kNone = 0, kCandidates = 1, kQuestions = 2, kDeadline = 4 };

  Lookup(const Key& target, const Key& self, absl::Span<const Contact> seeds,
         Options options, absl::Time now);

  // Whom to ask now. Each node is named once in the whole walk.
  std::vector<Contact> Next(absl::Time now);
  // `closer`: what the node named. Longer lists than k, the node itself, the
  // asker, and contacts without an address are ignored, as are answers of nodes
  // that were not asked. An answer after its failure was reported counts again.
  void OnAnswer(const Key& id, absl::Span<const Contact> closer,
                absl::Time now);
  void OnFailure(const Key& id, absl::Time now);
  // What was looked for is found: nothing more is asked.
  void Stop() { stopped_ = true; }

  bool done() const;
  // When to call Next again though nothing was reported. Infinite if done.
  absl::Time next_deadline() const;

  // The closest that answered, closest first, at most k.
  std::vector<Contact> Closest() const;
  // The closest that were heard of and have not failed, answered or not.
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
  // The implementation owns what follows; it may be changed freely.
  const Key target_;
  const Key self_;
  const Options options_;
  const absl::Time started_;
  std::vector<Step> steps_;
  unsigned caps_ = kNone;
  bool stopped_ = false;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_QUERY_LOOKUP_H_
