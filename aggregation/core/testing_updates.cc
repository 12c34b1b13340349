#include "aggregation/core/testing_updates.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/random.h"

namespace koinon::aggregation {

ModelLayout TestLayout(size_t elements) {
  const auto count = static_cast<int64_t>(elements);
  std::vector<TensorSpec> tensors;
  if (count > 1) {
    tensors.push_back({"a", DType::kF32, {count / 2}});
    tensors.push_back({"b", DType::kF32, {count - count / 2}});
  } else {
    tensors.push_back({"a", DType::kF32, {count}});
  }
  auto layout = ModelLayout::Create(std::move(tensors));
  KOINON_CHECK(layout.ok());
  return *std::move(layout);
}

Update TestUpdate(const WorkerId& worker, std::vector<float> values,
                  double weight) {
  Update update;
  update.worker = worker;
  update.weight = weight;
  update.base_version = kTestBaseVersion;
  update.layout_hash = TestLayout(values.size()).hash();
  update.elements = values.size();
  update.values = std::make_unique<VectorSource>(std::move(values));
  return update;
}

UpdateSet::Expected TestExpected(size_t elements) {
  UpdateSet::Expected expected;
  expected.layout = TestLayout(elements);
  expected.base_version = kTestBaseVersion;
  return expected;
}

UpdateSet TestSet(const std::vector<std::vector<float>>& rows,
                  const std::vector<double>& weights) {
  std::vector<Update> updates;
  for (size_t i = 0; i < rows.size(); ++i) {
    updates.push_back(
        TestUpdate(absl::StrFormat("w%03d", i), rows[i], weights[i]));
  }
  std::vector<Refusal> refusals;
  const size_t elements = rows.empty() ? 1 : rows[0].size();
  UpdateSet set =
      UpdateSet::Create(TestExpected(elements), std::move(updates), &refusals);
  KOINON_CHECK(refusals.empty());
  return set;
}

std::vector<std::vector<float>> RandomRows(size_t n, size_t elements,
                                           uint64_t seed) {
  Random random(seed);
  std::vector<std::vector<float>> rows(n, std::vector<float>(elements));
  for (auto& row : rows) {
    for (float& x : row) x = static_cast<float>(random.NextNormal());
  }
  return rows;
}

bool SameBits(absl::Span<const float> a, absl::Span<const float> b) {
  return a.size() == b.size() &&
         (a.empty() ||
          std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

absl::StatusOr<const float*> VectorSource::Read(size_t offset, size_t count,
                                                float* scratch) const {
  return MemorySource(values_).Read(offset, count, scratch);
}

absl::StatusOr<const float*> CopyingSource::Read(size_t offset, size_t count,
                                                 float* scratch) const {
  const auto fails_at = static_cast<size_t>(fails_at_);
  if (fails_at_ >= 0 && offset <= fails_at && fails_at < offset + count) {
    return absl::DataLossError("the disk is gone");
  }
  std::copy_n(values_.begin() + static_cast<ptrdiff_t>(offset), count, scratch);
  return scratch;
}

float* CheckingSink::Window(size_t offset, size_t count) {
  KOINON_CHECK(offset == committed && count <= values.size() - offset);
  return values.data() + offset;
}

absl::Status CheckingSink::Commit(size_t offset, size_t count) {
  KOINON_CHECK(offset == committed);
  committed += count;
  if (fails_at_ >= 0 && committed > static_cast<size_t>(fails_at_)) {
    return absl::ResourceExhaustedError("the sink is full");
  }
  return absl::OkStatus();
}

}  // namespace koinon::aggregation
