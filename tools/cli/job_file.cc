#include "tools/cli/job_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/json_util.h"

namespace koinon::cli {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;

// Levenshtein distance, two rows at a time.
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

// " did you mean "x"? allowed: a, b, x"
std::string Suggest(const std::string& wrong, std::vector<std::string> allowed,
                    absl::string_view where) {
  std::string nearest;
  size_t best = std::max<size_t>(2, wrong.size() / 3) + 1;
  for (const std::string& name : allowed) {
    const size_t distance = EditDistance(wrong, name);
    if (distance < best) {
      best = distance;
      nearest = name;
    }
  }
  return absl::StrCat(
      nearest.empty() ? "" : absl::StrCat("; did you mean \"", nearest, "\"?"),
      " Allowed ", where, ": ", absl::StrJoin(allowed, ", "));
}

std::string SuggestField(const std::string& wrong, const Descriptor* message) {
  std::vector<std::string> fields;
  for (int i = 0; i < message->field_count(); ++i) {
    fields.push_back(message->field(i)->name());
  }
  if (fields.empty())
    return absl::StrCat(". ", message->name(), " has no fields");
  return Suggest(wrong, fields, absl::StrCat("in ", message->name()));
}

std::string SuggestValue(const std::string& wrong, const EnumDescriptor* type) {
  std::vector<std::string> values;
  for (int i = 0; i < type->value_count(); ++i) {
    if (type->value(i)->number() != 0) values.push_back(type->value(i)->name());
  }
  return Suggest(wrong, values, "values");
}

// Every message type that can occur inside `root`, itself first.
void CollectTypes(const Descriptor* root, std::set<const Descriptor*>* seen,
                  std::vector<const Descriptor*>* out) {
  if (!seen->insert(root).second) return;
  out->push_back(root);
  for (int i = 0; i < root->field_count(); ++i) {
    if (root->field(i)->message_type() != nullptr) {
      CollectTypes(root->field(i)->message_type(), seen, out);
    }
  }
}

std::vector<const Descriptor*> TypesWithin(const Descriptor* root) {
  std::set<const Descriptor*> seen;
  std::vector<const Descriptor*> out;
  CollectTypes(root, &seen, &out);
  return out;
}

// The parts of `text` between double quotes.
std::vector<std::string> Quoted(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '"');
  std::vector<std::string> quoted;
  for (size_t i = 1; i < parts.size(); i += 2) quoted.push_back(parts[i]);
  return quoted;
}

// What the text parser's message leaves out: what would have been allowed.
std::string ExplainTextError(const std::string& error, const Descriptor* root) {
  const std::vector<std::string> quoted = Quoted(error);
  if (quoted.size() != 2) return "";
  if (absl::StrContains(error, "has no field named")) {
    for (const Descriptor* type : TypesWithin(root)) {
      if (type->full_name() == quoted[0]) return SuggestField(quoted[1], type);
    }
  }
  if (absl::StartsWith(error, "Unknown enumeration value")) {
    for (const Descriptor* type : TypesWithin(root)) {
      const FieldDescriptor* field = type->FindFieldByName(quoted[1]);
      if (field != nullptr && field->enum_type() != nullptr) {
        return SuggestValue(quoted[0], field->enum_type());
      }
    }
  }
  return "";
}

class TextErrors final : public google::protobuf::io::ErrorCollector {
 public:
  TextErrors(absl::string_view name, const Descriptor* root)
      : name_(name), root_(root) {}

  void AddError(int line, int column, const std::string& message) override {
    // Lines count from 0 there, and is -1 where the whole file is meant.
    errors_.push_back(absl::StrCat(name_, ":", line + 1, ":", column + 1, ": ",
                                   absl::StripSuffix(message, "."),
                                   ExplainTextError(message, root_)));
  }
  std::string Joined() const { return absl::StrJoin(errors_, "\n"); }

 private:
  const std::string name_;
  const Descriptor* const root_;
  std::vector<std::string> errors_;
};

// Follows "cohort.target" (or camelCase names, or "layers[2]") from `root`.
const Descriptor* DescriptorAt(const Descriptor* root, absl::string_view path) {
  for (absl::string_view part : absl::StrSplit(path, '.', absl::SkipEmpty())) {
    const std::string name(part.substr(0, part.find('[')));
    const FieldDescriptor* field = root->FindFieldByName(name);
    if (field == nullptr) field = root->FindFieldByCamelcaseName(name);
    if (field == nullptr || field->message_type() == nullptr) return nullptr;
    root = field->message_type();
  }
  return root;
}

// JSON errors look like "(cohort) minimun: Cannot find field." or
// "minimun: Cannot find field.", and without a place for bad syntax.
std::string ExplainJsonError(const std::string& error, const Descriptor* root) {
  const size_t colon = error.find(": Cannot find field");
  if (colon == std::string::npos) return "";
  std::string path;
  std::string field = error.substr(0, colon);
  if (const size_t close = field.find(") "); close != std::string::npos) {
    path = field.substr(1, close - 1);
    field = field.substr(close + 2);
  }
  const Descriptor* type = DescriptorAt(root, path);
  return type == nullptr ? "" : SuggestField(field, type);
}

absl::Status ParseJsonInto(absl::string_view name, absl::string_view content,
                           google::protobuf::Message* message) {
  const auto status = google::protobuf::util::JsonStringToMessage(
      std::string(content), message);
  if (status.ok()) return absl::OkStatus();
  const std::string error(status.message().data(), status.message().size());
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": ", absl::StripSuffix(error, "."),
                   ExplainJsonError(error, message->GetDescriptor())));
}

// Standard input for "-". Pipes have no size to go by, and are read to their
// end.
absl::StatusOr<std::string> ReadText(Env* env, const std::string& path) {
  struct stat info;
  const bool is_pipe = stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
  if (path != "-" && !is_pipe) return ReadFile(env, path, kMaxJobFileBytes);
  std::ifstream file;
  if (path != "-") file.open(path);
  std::istream& in = path == "-" ? std::cin : file;
  std::string content(kMaxJobFileBytes + 1, '\0');
  in.read(content.data(), static_cast<std::streamsize>(content.size()));
  content.resize(static_cast<size_t>(in.gcount()));
  if (in.bad() || (path != "-" && !file.is_open())) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  }
  if (content.size() > kMaxJobFileBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": more than ", kMaxJobFileBytes, " bytes"));
  }
  return content;
}

}  // namespace

JobFileFormat JobFileFormatOf(absl::string_view path,
                              absl::string_view content) {
  if (absl::EndsWith(path, ".json")) return JobFileFormat::kJson;
  for (const char* suffix : {".txtpb", ".textproto", ".pbtxt"}) {
    if (absl::EndsWith(path, suffix)) return JobFileFormat::kText;
  }
  return absl::StartsWith(absl::StripLeadingAsciiWhitespace(content), "{")
             ? JobFileFormat::kJson
             : JobFileFormat::kText;
}

absl::Status ParseTextInto(absl::string_view name, absl::string_view content,
                           google::protobuf::Message* message) {
  TextErrors errors(name, message->GetDescriptor());
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  if (parser.ParseFromString(std::string(content), message)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(errors.Joined());
}

absl::StatusOr<v1::JobSpec> ParseJobFile(absl::string_view name,
                                         absl::string_view content,
                                         JobFileFormat format) {
  v1::JobSpec spec;
  ABSL_RETURN_IF_ERROR(format == JobFileFormat::kJson
                           ? ParseJsonInto(name, content, &spec)
                           : ParseTextInto(name, content, &spec));
  return spec;
}

absl::StatusOr<v1::JobSpec> ReadJobFile(Env* env, const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string content, ReadText(env, path));
  if (absl::StripAsciiWhitespace(content).empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is empty"));
  }
  return ParseJobFile(path, content, JobFileFormatOf(path, content));
}

absl::Status ParseTextArgument(Env* env, absl::string_view flag,
                               const std::string& argument,
                               google::protobuf::Message* message) {
  if (!absl::StartsWith(argument, "@")) {
    return ParseTextInto(flag, argument, message);
  }
  const std::string path = argument.substr(1);
  ABSL_ASSIGN_OR_RETURN(const std::string content,
                        ReadFile(env, path, kMaxJobFileBytes));
  return ParseTextInto(path, content, message);
}

}  // namespace koinon::cli
