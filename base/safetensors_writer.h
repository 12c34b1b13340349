#ifndef KOINON_BASE_SAFETENSORS_WRITER_H_
#define KOINON_BASE_SAFETENSORS_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/env.h"
#include "base/model_layout.h"

namespace koinon {

// Writes an all-F32 safetensors file block by block, in ascending order, so
// that memory does not grow with the model:
//
//   ABSL_ASSIGN_OR_RETURN(auto writer, SafetensorsWriter::Create(
//       env, path, layout, {{"format", "pt"}}));
//   ABSL_RETURN_IF_ERROR(writer->Append(block));  // until all are there
//   ABSL_RETURN_IF_ERROR(writer->Finish());
//
// The file grows under the name `path`.tmp and gets its own with Finish; until
// then `path` is what it was before. Not thread-safe.
class SafetensorsWriter {
 public:
  // Gets every byte of the file in order, header included: to hash it.
  using Tap = std::function<void(const void* data, size_t size)>;

  // Reserves the disk's room for the whole file: a full disk shows here and not
  // after the work (RESOURCE_EXHAUSTED). INVALID_ARGUMENT, starting with
  // the path, for a tensor that is not F32. The same arguments and values give
  // the same bytes.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(
      Env* env, std::string path, const ModelLayout& layout,
      const std::map<std::string, std::string>& metadata, Tap tap = nullptr);

  // Without Finish, leaves nothing behind.
  ~SafetensorsWriter();

  // The next elements of the data section. INVALID_ARGUMENT for more than the
  // layout has; nothing is written then.
  absl::Status Append(absl::Span<const float> values);
  // The file is durable and in place on return. INVALID_ARGUMENT if elements
  // are missing; they can still be appended. Once: afterwards, and after any
  // other failure, every call is FAILED_PRECONDITION.
  absl::Status Finish();

  uint64_t size_bytes() const { return size_bytes_; }  // so far

 private:
  SafetensorsWriter(Env* env, std::string path, size_t elements, Tap tap);
  std::string TemporaryPath() const { return path_ + ".tmp"; }
  absl::Status Write(const void* data, size_t size);
  absl::Status MoveIntoPlace();
  absl::Status CheckUsable() const;

  Env* const env_;
  const std::string path_;
  const Tap tap_;
  std::unique_ptr<File> file_;
  size_t elements_left_ = 0;
  uint64_t size_bytes_ = 0;
  bool usable_ = true;
  bool moved_ = false;
};

}  // namespace koinon

#endif  // KOINON_BASE_SAFETENSORS_WRITER_H_
