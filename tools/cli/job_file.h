#ifndef KOINON_TOOLS_CLI_JOB_FILE_H_
#define KOINON_TOOLS_CLI_JOB_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/env.h"
#include "google/protobuf/message.h"
#include "proto/job.pb.h"

namespace koinon::cli {

// Job files are protobuf text (with # comments) or JSON of a JobSpec;
// docs/jobs.md.
// ".json" is JSON; ".txtpb", ".textproto" and ".pbtxt" are text; under any
// other name a file whose first character that is not blank is '{' is JSON,
// because protobuf text never starts with one.
enum class JobFileFormat { kText, kJson };
JobFileFormat JobFileFormatOf(absl::string_view path,
                              absl::string_view content);

inline constexpr size_t kMaxJobFileBytes = 1 << 20;

// Reads the file, or standard input for "-"; pipes will do. NOT_FOUND and the
// like from reading; INVALID_ARGUMENT that starts with the
// path (and for text, line and column), and for an unknown field names the
// nearest one and lists those that are allowed. Says nothing about values'
// ranges: those are the coordinator's to judge.
absl::StatusOr<v1::JobSpec> ReadJobFile(Env* env, const std::string& path);

// As above for content at hand. `name` stands for the path in messages.
absl::StatusOr<v1::JobSpec> ParseJobFile(absl::string_view name,
                                         absl::string_view content,
                                         JobFileFormat format);

// Protobuf text into any message, with the same errors. On failure `message` is
// undefined.
absl::Status ParseTextInto(absl::string_view name, absl::string_view content,
                           google::protobuf::Message* message);

// As ParseTextInto for an argument of a command line: the text itself, or
// "@FILE". Reading errors as for ReadJobFile.
absl::Status ParseTextArgument(Env* env, absl::string_view flag,
                               const std::string& argument,
                               google::protobuf::Message* message);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_JOB_FILE_H_
