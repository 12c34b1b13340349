#include "tools/cli/lineage.h"

#include <optional>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "base/digest.h"
#include "proto/dht.pb.h"
#include "tools/cli/proto_json.h"
#include "tools/cli/text.h"

namespace koinon::cli {
namespace {

constexpr size_t kShortBytes = 4;  // of digests and keys that only tell apart

std::string Short(absl::string_view bytes) {
  return bytes.empty() ? "-"
                       : absl::BytesToHexString(bytes.substr(0, kShortBytes));
}

struct SignedPart {
  v1::VersionManifest manifest;
  std::string signer;  // its key
};

std::optional<SignedPart> SignedPartOf(const v1::ModelManifest& model) {
  v1::Signed envelope;
  SignedPart part;
  if (model.signed_manifest().empty() ||
      !envelope.ParseFromString(model.signed_manifest()) ||
      !part.manifest.ParseFromString(envelope.body())) {
    return std::nullopt;
  }
  part.signer = envelope.public_key();
  return part;
}

// Of the difference to the parent.
std::string DeltaCell(const v1::VersionManifest& manifest) {
  for (const v1::Delta& delta : manifest.deltas()) {
    if (delta.from_digest() == manifest.parent_digest()) {
      return FormatBytes(delta.content().size_bytes());
    }
  }
  return "-";
}

std::vector<std::string> Row(const v1::ModelManifest& model) {
  const v1::Provenance& provenance = model.provenance();
  const std::optional<SignedPart> part = SignedPartOf(model);
  const auto digest = Digest::FromBytes(model.digest());
  return {
      absl::StrCat(model.job(), "@", model.version()),
      Short(model.parent_digest()),
      FormatBytes(model.size_bytes()),
      part.has_value() ? DeltaCell(part->manifest) : "-",
      absl::StrCat(provenance.participants()),
      absl::StrCat(provenance.examples()),
      provenance.rule().empty() ? "-" : provenance.rule(),
      provenance.has_loss() ? FormatFraction(provenance.loss()) : "-",
      provenance.has_accuracy() ? FormatFraction(provenance.accuracy()) : "-",
      part.has_value() ? FormatTime(part->manifest.created_ms()) : "-",
      part.has_value() ? Short(part->signer) : "unsigned",
      model.pinned() ? "yes" : "-",
      digest.ok() ? digest->ToHex() : "-"};
}

}  // namespace

std::string LineageTable(const v1::ListModelsReply& models) {
  constexpr auto kRight = TextTable::kRight;
  TextTable table({{"model"},
                   {"parent"},
                   {"size", kRight},
                   {"delta", kRight},
                   {"workers", kRight},
                   {"examples", kRight},
                   {"rule"},
                   {"loss", kRight},
                   {"accuracy", kRight},
                   {"made (UTC)"},
                   {"signer"},
                   {"pinned"},
                   {"sha256"}});
  for (const v1::ModelManifest& model : models.models()) {
    table.AddRow(Row(model));
  }
  return table.Render();
}

std::string LineageJson(const v1::ListModelsReply& models) {
  std::vector<std::string> lines;
  for (const v1::ModelManifest& model : models.models()) {
    std::string json = ToJsonLine(model);
    if (const auto part = SignedPartOf(model); part.has_value()) {
      json.pop_back();  // the closing brace
      absl::StrAppend(&json, ",\"signer\":\"",
                      absl::BytesToHexString(part->signer),
                      "\",\"signed\":", ToJsonLine(part->manifest), "}");
    }
    lines.push_back(std::move(json));
  }
  return absl::StrCat("{\"models\":[", absl::StrJoin(lines, ",\n"), "]}\n");
}

}  // namespace koinon::cli
