#ifndef KOINON_WORKER_COLLECTIVE_DATA_FINGERPRINT_H_
#define KOINON_WORKER_COLLECTIVE_DATA_FINGERPRINT_H_

#include "base/digest.h"
#include "worker/data/dataset.h"

namespace koinon::worker {

// Differs for datasets whose names, shapes, examples or their order differ: the
// ranks of a site go through the same batches, each its part, and must have
// read the same; so must a training that goes on. Of a text's tokens, which may
// be more than one reads through, only samples across the whole are looked at,
// and of what is held out nothing.
Digest DataFingerprint(const LocalDatasets& datasets);
// Of one set's examples alone, whatever it is called.
Digest DataFingerprint(const Dataset& data);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_DATA_FINGERPRINT_H_
