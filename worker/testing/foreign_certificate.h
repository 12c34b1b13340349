#ifndef KOINON_WORKER_TESTING_FOREIGN_CERTIFICATE_H_
#define KOINON_WORKER_TESTING_FOREIGN_CERTIFICATE_H_

#include <string>

#include "base/certs.h"

namespace koinon::worker {

// A certificate of an authority that knows Koinon's names but no nodes: it
// carries `uri` ("koinon://north/worker/w1"), and no node's identity. Signed by
// itself: it is its own CA.
CertificateAndKey MakeForeignCertificate(const std::string& uri,
                                         absl::Time now);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TESTING_FOREIGN_CERTIFICATE_H_
