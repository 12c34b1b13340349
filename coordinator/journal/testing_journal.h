#ifndef KOINON_COORDINATOR_JOURNAL_TESTING_JOURNAL_H_
#define KOINON_COORDINATOR_JOURNAL_TESTING_JOURNAL_H_

#include <cstdint>
#include <map>
#include <utility>

#include "coordinator/journal/journal.h"

namespace koinon::coordinator {

// A journal that fails on demand, in front of one that works. For tests. Not
// thread-safe; the inner journal must outlive it.
//
//   FaultInjectingJournal journal(inner.get());
//   journal.FailCommit(3, FaultInjectingJournal::When::kAfter,
//                      absl::DataLossError("disk"));
class FaultInjectingJournal final : public Journal {
 public:
  enum class When {
    kBefore,  // nothing is written
    kAfter,   // everything is written, but the caller is told otherwise
  };

  explicit FaultInjectingJournal(Journal* inner) : inner_(*inner) {}

  // The k-th commit from the beginning (from 1) fails with `error`.
  void FailCommit(int64_t k, When when, absl::Status error) {
    faults_[k] = {when, std::move(error)};
  }
  int64_t commits() const { return commits_; }

  absl::Status Commit(absl::Span<const Mutation> mutations) override {
    auto fault = faults_.find(++commits_);
    if (fault == faults_.end()) return inner_.Commit(mutations);
    if (fault->second.when == When::kAfter) {
      const absl::Status status = inner_.Commit(mutations);
      if (!status.ok()) return status;
    }
    return fault->second.error;
  }
  absl::StatusOr<JournalContents> Load() override { return inner_.Load(); }
  int64_t epoch() const override { return inner_.epoch(); }

 private:
  struct Fault {
    When when;
    absl::Status error;
  };

  Journal& inner_;
  int64_t commits_ = 0;
  std::map<int64_t, Fault> faults_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOURNAL_TESTING_JOURNAL_H_
