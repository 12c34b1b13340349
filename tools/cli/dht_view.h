#ifndef KOINON_TOOLS_CLI_DHT_VIEW_H_
#define KOINON_TOOLS_CLI_DHT_VIEW_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "dht/key.h"
#include "dht/node.h"
#include "dht/query/lookup.h"
#include "proto/dht.pb.h"

namespace koinon::cli {

// What `koinon dht` reads and prints. Pure functions of their arguments; text
// from peers is made printable.

// 64 hexadecimal digits, or the name of a mutable record ("head/JOB",
// "version/JOB/3") that `owner` writes. INVALID_ARGUMENT for anything else.
absl::StatusOr<dht::Key> ParseDhtKey(absl::string_view text,
                                     absl::string_view federation,
                                     absl::string_view owner);

// How a walk went, hop by hop, in the order of asking.
std::string PathText(absl::Span<const dht::Lookup::Step> path);
std::string PathJson(absl::Span<const dht::Lookup::Step> path);

std::string ContactsText(const std::vector<dht::Contact>& contacts);
std::string ContactsJson(const std::vector<dht::Contact>& contacts);

// A record, and what is in it if it is one of those that the coordinator
// writes: a version's manifest, a job's head.
std::string RecordText(const dht::Key& key, const dht::Node::GetResult& result);
std::string RecordJson(const dht::Key& key, const dht::Node::GetResult& result);
// What became of a put.
std::string PutJson(const dht::Key& key, const dht::Node::PutResult& result);

std::string NodeStatusText(const v1::NodeStatus& status);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_DHT_VIEW_H_
