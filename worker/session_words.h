#ifndef KOINON_WORKER_SESSION_WORDS_H_
#define KOINON_WORKER_SESSION_WORDS_H_

#include <string>

#include "proto/worker.pb.h"
#include "worker/local_paths.h"

namespace koinon::worker {

// What a session's messages say in words: to this worker's log in full, as its
// operator needs it, and to the coordinator without this machine's paths.

// "digits/r7/train"; the error's text for a reference that is none.
std::string TaskName(const v1::TaskRef& ref);

// What the coordinator has said, if the operator should know.
void LogHeard(const v1::CoordinatorMessage& message);
// What this worker refuses or fails at, and why.
void LogSaid(const v1::WorkerMessage& message);

// All that a worker says in words passes here: its errors name files, and
// where these lie is nobody else's business.
v1::WorkerMessage ForOthers(v1::WorkerMessage message, const LocalPaths& paths);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SESSION_WORDS_H_
