#include "aggregation/core/gram.h"

#include <gtest/gtest.h>

#include <vector>

#include "aggregation/core/testing_updates.h"
#include "aggregation/reference/gram.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

TEST(ComputeGramTest, RandomUpdates_HaveTheReferencesDistances) {
  for (size_t n : {1, 2, 7}) {
    for (size_t elements : {1, 5, 5000}) {
      const auto values = RandomRows(n, elements, n);
      const UpdateSet set = TestSet(values, std::vector<double>(n, 1));
      ThreadPool pool(2);
      ASSERT_OK_AND_ASSIGN(const Gram gram,
                           ComputeGram(set.layout(), RowsOf(set), nullptr,
                                       InstructionSet::kBest, &pool));
      const std::vector<float> origin(elements, 0.0f);
      std::vector<absl::Span<const float>> rows(values.begin(), values.end());
      rows.push_back(origin);
      const auto expected = SquaredDistancesReference(rows);
      for (size_t i = 0; i <= n; ++i) {
        for (size_t k = 0; k <= n; ++k) {
          EXPECT_NEAR(gram.SquaredDistance(i, k), expected[i][k],
                      1e-5 * expected[i][k] + 1e-12);
        }
      }
    }
  }
}

}  // namespace
}  // namespace koinon::aggregation
