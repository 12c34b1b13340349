#include "tools/cli/dht_view.h"

#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "dht/records/signed.h"
#include "tools/bench/json_string.h"
#include "tools/cli/text.h"

namespace koinon::cli {
namespace {

using Step = dht::Lookup::Step;
using tools::JsonString;

const char* OutcomeName(Step::Outcome outcome) {
  switch (outcome) {
    case Step::kWaiting:
      return "not waited for";
    case Step::kAnswered:
      return "answered";
    case Step::kFailed:
      return "failed";
  }
  return "";
}

std::string Millis(const Step& step) {
  if (step.outcome == Step::kWaiting) return "-";
  return absl::StrFormat("%.2f", absl::ToDoubleMilliseconds(step.took));
}

std::string ContactJson(const dht::Contact& contact) {
  return absl::StrCat(R"({"node":")", contact.id.ToHex(), R"(","address":)",
                      JsonString(contact.address), R"(,"site":)",
                      JsonString(contact.site), "}");
}

std::string HexOf(const std::string& bytes) {
  return absl::BytesToHexString(bytes);
}

// "name: value" lines of what a record holds; empty for unknown contents.
std::vector<std::pair<std::string, std::string>> ContentOf(
    const dht::OpenedRecord& opened) {
  std::vector<std::pair<std::string, std::string>> lines;
  v1::HeadValue head;
  v1::VersionValue version;
  const std::vector<std::string> name = absl::StrSplit(opened.name, '/');
  if (opened.is_mutable && name[0] == "head" &&
      head.ParseFromString(opened.value)) {
    lines = {{"version", absl::StrCat(head.version())},
             {"manifest", HexOf(head.manifest())},
             {"job spec", HexOf(head.job_spec())}};
  } else if (opened.is_mutable && name[0] == "version" &&
             version.ParseFromString(opened.value)) {
    lines = {{"manifest", HexOf(version.manifest())}};
  }
  v1::Signed envelope;
  v1::VersionManifest manifest;
  if (!opened.is_mutable && envelope.ParseFromString(opened.value) &&
      manifest.ParseFromString(envelope.body()) && manifest.format() == 1) {
    lines = {
        {"manifest of", absl::StrCat(manifest.job(), "@", manifest.version(),
                                     " (its signature is not checked here)")},
        {"digest", HexOf(manifest.digest())},
        {"size", FormatBytes(manifest.content().size_bytes())},
        {"expires", FormatTime(manifest.expires_ms())}};
  }
  return lines;
}

std::string RejectionsJson(const std::map<std::string, size_t>& rejections) {
  std::vector<std::string> members;
  for (const auto& [reason, count] : rejections) {
    members.push_back(absl::StrCat(JsonString(reason), ":", count));
  }
  return absl::StrCat("{", absl::StrJoin(members, ","), "}");
}

}  // namespace

absl::StatusOr<dht::Key> ParseDhtKey(absl::string_view text,
                                     absl::string_view federation,
                                     absl::string_view owner) {
  const auto key = dht::Key::FromHex(text);
  if (key.ok()) return key;
  if (text.find('/') == absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected a key of 64 hexadecimal digits, or a record's name such as "
        "head/JOB or version/JOB/3; found \"",
        Printable(text), "\""));
  }
  return dht::MutableKey(federation, owner, text);
}

std::string PathText(absl::Span<const Step> path) {
  TextTable table({{"hop", TextTable::kRight},
                   {"node"},
                   {"address"},
                   {"depth", TextTable::kRight},
                   {"path", TextTable::kRight},
                   {"ms", TextTable::kRight},
                   {"outcome"}});
  for (size_t i = 0; i < path.size(); ++i) {
    const Step& step = path[i];
    table.AddRow({absl::StrCat(i + 1), step.contact.id.ToShortHex(),
                  step.contact.address, absl::StrCat(step.depth),
                  absl::StrCat(step.path + 1), Millis(step),
                  OutcomeName(step.outcome)});
  }
  return table.Render();
}

std::string PathJson(absl::Span<const Step> path) {
  std::vector<std::string> steps;
  for (const Step& step : path) {
    std::string json = ContactJson(step.contact);
    json.pop_back();
    absl::StrAppend(&json, R"(,"depth":)", step.depth, R"(,"path":)",
                    step.path + 1, R"(,"outcome":")", OutcomeName(step.outcome),
                    R"(")");
    if (step.outcome != Step::kWaiting) {
      absl::StrAppend(&json, R"(,"ms":)",
                      absl::ToDoubleMilliseconds(step.took));
    }
    steps.push_back(absl::StrCat(json, "}"));
  }
  return absl::StrCat("[", absl::StrJoin(steps, ","), "]");
}

std::string ContactsText(const std::vector<dht::Contact>& contacts) {
  TextTable table({{"node"}, {"address"}, {"site"}});
  for (const dht::Contact& contact : contacts) {
    table.AddRow({contact.id.ToHex(), contact.address, contact.site});
  }
  return table.Render();
}

std::string ContactsJson(const std::vector<dht::Contact>& contacts) {
  std::vector<std::string> all;
  for (const dht::Contact& contact : contacts) {
    all.push_back(ContactJson(contact));
  }
  return absl::StrCat("[", absl::StrJoin(all, ","), "]");
}

std::string RecordText(const dht::Key& key,
                       const dht::Node::GetResult& result) {
  const dht::OpenedRecord& opened = result.opened;
  std::string text = absl::StrCat(
      "key       ", key.ToHex(), "\nkind      ",
      opened.is_mutable ? "mutable, signed" : "immutable", "\nbytes     ",
      opened.value.size(), "\nfrom      ", result.from.id.ToShortHex(), " ",
      Printable(result.from.address), "\npaths     ", result.paths, "\n");
  if (opened.is_mutable) {
    absl::StrAppend(&text, "owner     ", Printable(opened.owner),
                    "\nname      ", Printable(opened.name), "\nepoch     ",
                    opened.epoch, "\nsequence  ", opened.sequence,
                    "\nexpires   ",
                    FormatTime(absl::ToUnixMillis(opened.expires)),
                    "\nsigner    ", opened.signing_key.ToHex(), "\n");
  }
  for (const auto& [name, value] : ContentOf(opened)) {
    absl::StrAppend(&text,
                    absl::StrFormat("%-10s%s\n", name, Printable(value)));
  }
  for (const auto& [reason, count] : result.rejections) {
    absl::StrAppend(&text, "refused on the way: ", count, " ", reason, "\n");
  }
  return text;
}

std::string RecordJson(const dht::Key& key,
                       const dht::Node::GetResult& result) {
  const dht::OpenedRecord& opened = result.opened;
  std::string json =
      absl::StrCat(R"({"key":")", key.ToHex(), R"(","mutable":)",
                   opened.is_mutable ? "true" : "false", R"(,"value":")",
                   absl::Base64Escape(opened.value), R"(","from":)",
                   ContactJson(result.from), R"(,"paths":)", result.paths);
  if (opened.is_mutable) {
    absl::StrAppend(&json, R"(,"owner":)", JsonString(opened.owner),
                    R"(,"name":)", JsonString(opened.name), R"(,"epoch":)",
                    opened.epoch, R"(,"sequence":)", opened.sequence,
                    R"(,"expires_ms":)", absl::ToUnixMillis(opened.expires),
                    R"(,"signer":")", opened.signing_key.ToHex(), "\"");
  }
  return absl::StrCat(json, R"(,"rejections":)",
                      RejectionsJson(result.rejections), R"(,"path":)",
                      PathJson(result.path), "}");
}

std::string PutJson(const dht::Key& key, const dht::Node::PutResult& result) {
  return absl::StrCat(R"({"key":")", key.ToHex(), R"(","kept":)", result.kept,
                      R"(,"asked":)", result.asked, R"(,"rejections":)",
                      RejectionsJson(result.rejections), R"(,"path":)",
                      PathJson(result.path), "}");
}

std::string NodeStatusText(const v1::NodeStatus& status) {
  std::string text = absl::StrCat(
      "node        ", HexOf(status.self().node_id()), "\naddress     ",
      status.client_only() ? "none: in nobody's table"
                           : Printable(status.self().address()),
      "\nsite        ",
      status.self().site().empty() ? "none" : Printable(status.self().site()),
      "\nfederation  ", Printable(status.federation()), "\nversion     ",
      Printable(status.software_version()), "\nknows       ", status.nodes(),
      " nodes\nkeeps       ", status.records(), " records, ",
      FormatBytes(status.record_bytes()), "; ", status.providers(),
      " providers of ", status.provider_keys(), " contents\nserves      ",
      status.contents_size(), " contents\nmodel bytes ",
      FormatBytes(status.traffic().from_peers()), " from peers, ",
      FormatBytes(status.traffic().from_origin()), " from the coordinator, ",
      FormatBytes(status.traffic().to_peers()), " to others, ",
      FormatBytes(status.traffic().wasted()), " wasted\n");
  const std::map<std::string, int64_t> counters(status.counters().begin(),
                                                status.counters().end());
  for (const auto& [name, count] : counters) {
    absl::StrAppend(&text, "  ", Printable(name), ": ", count, "\n");
  }
  return text;
}

}  // namespace koinon::cli
