#ifndef KOINON_TOOLS_BENCH_SWARM_MEMBER_H_
#define KOINON_TOOLS_BENCH_SWARM_MEMBER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/tls.h"

namespace koinon::bench {

// One process of a measured swarm. It talks with the one that measures through
// files in DIR, each written at once: NAME.contact when it serves; then it
// waits for `peers`, which says who is where, connects to its sources (as those
// of a federation are connected from the round before) and writes NAME.ready;
// then it waits for `go`, and writes NAME.result when it has the content. It
// serves until it is killed.
struct SwarmMemberOptions {
  enum class Role {
    kOrigin,  // serves DIR/model as a coordinator does
    kWorker,  // fetches it into DIR/NAME.partial, verified and on disk
    // Receives as many bytes from the one before it and throws them away: what
    // the connections alone allow.
    kMill,
    // As a mill, but what it serves is read from DIR/model, and what it
    // receives is verified and written to NAME.copy: what has to be done
    // anyway, with one source and nothing to choose.
    kCopy,
  };
  Role role = Role::kWorker;
  std::string dir;
  std::string name;
  bool tls = true;
  // Of the origin: it dies once so much has left it, in copies of the content;
  // 0: never.
  double die_after_copies = 0;
};

// Returns only when something goes wrong.
absl::Status RunSwarmMember(const SwarmMemberOptions& options);

// Files of lines "KEY VALUE", as members write and read them.
using SwarmFile = std::map<std::string, std::string>;
absl::Status WriteSwarmFile(const std::string& path, const SwarmFile& file);
absl::StatusOr<SwarmFile> ReadSwarmFile(const std::string& path);

inline constexpr char kSwarmFederation[] = "bench";
TlsFiles SwarmTlsFiles(const std::string& dir, const std::string& name);
// The same for all processes of the machine.
int64_t MonotonicNanoseconds();

}  // namespace koinon::bench

#endif  // KOINON_TOOLS_BENCH_SWARM_MEMBER_H_
