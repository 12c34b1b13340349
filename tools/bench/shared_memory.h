#ifndef KOINON_TOOLS_BENCH_SHARED_MEMORY_H_
#define KOINON_TOOLS_BENCH_SHARED_MEMORY_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace koinon::tools {

// Floats in memory without a name, which a child process can map through the
// descriptor that it inherits: both then measure the same bytes.
class SharedFloats {
 public:
  // Zeros. RESOURCE_EXHAUSTED if there is not enough memory.
  static absl::StatusOr<std::unique_ptr<SharedFloats>> Create(size_t count);
  ~SharedFloats();
  SharedFloats(const SharedFloats&) = delete;
  SharedFloats& operator=(const SharedFloats&) = delete;

  absl::Span<float> values() const { return values_; }
  int fd() const { return fd_; }

 private:
  SharedFloats(int fd, absl::Span<float> values) : fd_(fd), values_(values) {}

  const int fd_;
  const absl::Span<float> values_;
};

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_SHARED_MEMORY_H_
