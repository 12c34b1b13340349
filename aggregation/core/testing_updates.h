#ifndef KOINON_AGGREGATION_CORE_TESTING_UPDATES_H_
#define KOINON_AGGREGATION_CORE_TESTING_UPDATES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "base/model_layout.h"

namespace koinon::aggregation {

// What the tests of UpdateSet and of every rule share.

inline constexpr int64_t kTestBaseVersion = 41;

// A model of one or two tensors with `elements` parameters in all, the first of
// them in "a" and the last, if there are two, in "b".
ModelLayout TestLayout(size_t elements);

// An update that keeps the contract of TestExpected(values.size()).
Update TestUpdate(const WorkerId& worker, std::vector<float> values,
                  double weight = 1);
UpdateSet::Expected TestExpected(size_t elements);

// n updates of workers "w000", "w001", ...; requires that none is refused.
UpdateSet TestSet(const std::vector<std::vector<float>>& rows,
                  const std::vector<double>& weights);

// [n][elements], standard normal.
std::vector<std::vector<float>> RandomRows(size_t n, size_t elements,
                                           uint64_t seed);

// The same bits: tells -0 from 0 and takes NaN as it is.
bool SameBits(absl::Span<const float> a, absl::Span<const float> b);

// Owns its values.
class VectorSource final : public UpdateSource {
 public:
  explicit VectorSource(std::vector<float> values)
      : values_(std::move(values)) {}
  absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                    float* scratch) const override;

 private:
  const std::vector<float> values_;
};

// Copies to scratch, as a source on disk does; fails when it is asked for
// element `fails_at`, if that is not negative.
class CopyingSource final : public UpdateSource {
 public:
  explicit CopyingSource(std::vector<float> values, int64_t fails_at = -1)
      : values_(std::move(values)), fails_at_(fails_at) {}
  absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                    float* scratch) const override;

 private:
  const std::vector<float> values_;
  const int64_t fails_at_;
};

// Into a vector, checking that commits ascend without gaps. Fails the commit
// that reaches element `fails_at`, if that is not negative.
class CheckingSink final : public UpdateSink {
 public:
  explicit CheckingSink(size_t elements, int64_t fails_at = -1)
      : values(elements, -1.0f), fails_at_(fails_at) {}
  float* Window(size_t offset, size_t count) override;
  absl::Status Commit(size_t offset, size_t count) override;

  std::vector<float> values;
  size_t committed = 0;

 private:
  const int64_t fails_at_;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_TESTING_UPDATES_H_
