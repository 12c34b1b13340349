#ifndef KOINON_TOOLS_CLI_PROTO_JSON_H_
#define KOINON_TOOLS_CLI_PROTO_JSON_H_

#include <string>

#include "google/protobuf/message.h"

namespace koinon::cli {

// Protobuf's JSON with the fields' names as in the .proto files and fields that
// hold their default included; 64-bit integers and bytes (base64) are strings.
std::string ToJsonLine(const google::protobuf::Message& message);  // no newline
std::string ToJson(const google::protobuf::Message& message);      // indented

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_PROTO_JSON_H_
