#include "kernels/bfloat16.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "base/status_matchers.h"

namespace koinon::kernels {
namespace {

using ::testing::HasSubstr;

TEST(HasBfloat16, SaysWhatTheKernelSaysOfTheProcessor) {
  std::ifstream file("/proc/cpuinfo");
  if (!file) GTEST_SKIP() << "no /proc/cpuinfo here";
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(HasBfloat16(), text.str().find("avx512_bf16") != std::string::npos);
}

TEST(CheckBfloat16, NamesWhatIsMissing) {
  if (HasBfloat16()) {
    EXPECT_OK(CheckBfloat16());
    return;
  }
  EXPECT_THAT(CheckBfloat16(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                        HasSubstr("avx512_bf16")));
}

}  // namespace
}  // namespace koinon::kernels
