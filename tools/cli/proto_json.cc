#include "tools/cli/proto_json.h"

#include "base/check.h"
#include "google/protobuf/util/json_util.h"

namespace koinon::cli {
namespace {

std::string Print(const google::protobuf::Message& message, bool indented) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = indented;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  // Fails only for messages with Any, which ours have not.
  KOINON_CHECK(
      google::protobuf::util::MessageToJsonString(message, &json, options)
          .ok());
  return json;
}

}  // namespace

std::string ToJsonLine(const google::protobuf::Message& message) {
  return Print(message, false);
}

std::string ToJson(const google::protobuf::Message& message) {
  return Print(message, true);
}

}  // namespace koinon::cli
