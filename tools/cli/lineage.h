#ifndef KOINON_TOOLS_CLI_LINEAGE_H_
#define KOINON_TOOLS_CLI_LINEAGE_H_

#include <string>

#include "proto/client.pb.h"

namespace koinon::cli {

// What published versions came from, as `koinon models` shows it: of each its
// parent, who took part, by which rule, how well, when, by whose signature, and
// what the difference to its parent weighs. What only the signed manifest says
// is shown as it says it, not verified: `koinon pull` verifies. Pure.

// A table; control characters are escaped. Cells without a value are "-".
std::string LineageTable(const v1::ListModelsReply& models);
// {"models": [...]}: each a ModelManifest with "signer" (hex) and "signed" (its
// VersionManifest) where there is a signature. Ends with a newline.
std::string LineageJson(const v1::ListModelsReply& models);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_LINEAGE_H_
