#include "kernels/onednn/attention_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/status_matchers.h"
#include "kernels/onednn/program.h"

// What attention computes is checked against the reference, with all layers
// (kernels/onednn/onednn_network_test.cc).

namespace koinon::kernels::onednn {
namespace {

using ::testing::HasSubstr;

// Of nothing: oneDNN refuses matrices whose rows are no floats apart.
constexpr AttentionShape kRefused = {
    .batch = 2, .positions = 4, .heads = 2, .size = 0};

class AttentionKernelTest : public ::testing::TestWithParam<int> {
 protected:
  std::vector<float> log_sums_ = std::vector<float>(2 * 4 * 2);
  std::vector<float> scratch_ = std::vector<float>(4 * kRefused.scratch());
};

TEST_P(AttentionKernelTest, ProductThatFails_IsAnErrorOnTheWayThere) {
  EXPECT_THAT(ForwardAttention(kRefused, GetParam(), nullptr, nullptr,
                               log_sums_.data(), scratch_.data()),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("oneDNN ended a product with status")));
}

TEST_P(AttentionKernelTest, ProductThatFails_IsAnErrorOnTheWayBack) {
  EXPECT_THAT(BackwardAttention(kRefused, GetParam(), nullptr, log_sums_.data(),
                                nullptr, nullptr, scratch_.data()),
              StatusIs(absl::StatusCode::kInternal));
}

INSTANTIATE_TEST_SUITE_P(Threads, AttentionKernelTest,
                         ::testing::Values(1, 2, 4));

TEST(ProgramTest, KernelThatFails_EndsTheProgram) {
  Program program;
  int runs = 0;
  program.AddKernel([&](const StepContext&) { ++runs; });
  program.AddKernel([](const StepContext&) {
    return absl::InternalError("attention: it failed");
  });
  program.AddKernel([&](const StepContext&) { ++runs; });
  EXPECT_THAT(program.Run({}), StatusIs(absl::StatusCode::kInternal,
                                        HasSubstr("attention: it failed")));
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace koinon::kernels::onednn
