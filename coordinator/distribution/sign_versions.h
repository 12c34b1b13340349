#ifndef KOINON_COORDINATOR_DISTRIBUTION_SIGN_VERSIONS_H_
#define KOINON_COORDINATOR_DISTRIBUTION_SIGN_VERSIONS_H_

#include <vector>

#include "coordinator/journal/journal.h"
#include "coordinator/models/manifest_signer.h"
#include "coordinator/models/model_store.h"

namespace koinon::coordinator {

// Signs the versions that a Koinon from before manifests were signed has
// published, and anew those whose signature is due (ManifestSigner::IsDue):
// rows that are to be committed. Files without a signature are read once. What
// cannot be signed (its file is gone, or not what it was) is logged and left as
// it is.
std::vector<Mutation> SignVersions(const JournalContents& contents,
                                   const ModelStore& store,
                                   const ManifestSigner& signer);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_SIGN_VERSIONS_H_
