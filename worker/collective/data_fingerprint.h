#ifndef KOINON_WORKER_COLLECTIVE_DATA_FINGERPRINT_H_
#define KOINON_WORKER_COLLECTIVE_DATA_FINGERPRINT_H_

#include "base/digest.h"
#include "worker/data/dataset.h"

namespace koinon::worker {

// Differs for datasets whose names, shapes, examples or their order differ: the
// ranks of a site go through the same batches, each its part, and must have
// read the same. Of a text's tokens, which may be more than one reads through,
// only samples across the whole are looked at.
Digest DataFingerprint(const LocalDatasets& datasets);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_DATA_FINGERPRINT_H_
