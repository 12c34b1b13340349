#ifndef KOINON_DHT_NODE_ANSWERS_H_
#define KOINON_DHT_NODE_ANSWERS_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include "dht/key.h"
#include "dht/node_core.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// The most contacts that an answer names, whatever was asked for: a small
// fleet's whole table.
inline constexpr size_t kMaxContactsInAnswer = 2'048;

// What a node answers to each of the six questions (Node::Answer).
absl::StatusOr<v1::AskReply> AnswerQuestion(NodeCore* core, const Contact& from,
                                            const v1::AskRequest& question);

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_ANSWERS_H_
