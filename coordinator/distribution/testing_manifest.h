#ifndef KOINON_COORDINATOR_DISTRIBUTION_TESTING_MANIFEST_H_
#define KOINON_COORDINATOR_DISTRIBUTION_TESTING_MANIFEST_H_

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/ids.h"
#include "coordinator/models/testing_signer.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// Unix milliseconds at which a test's job was submitted.
inline constexpr int64_t kTestSubmitted = 1'699'999'000'123;

// The signed manifest of JOB@VERSION, whose file is another for each `life`.
inline v1::ModelManifest SignedTestManifest(const TestSigner& signer,
                                            const JobId& job, int64_t version,
                                            const std::string& life) {
  v1::ModelManifest manifest;
  manifest.set_job(job);
  manifest.set_version(version);
  manifest.set_digest(Sha256Of(absl::StrCat(life, version)).ToBytes());
  if (version > 0) {
    manifest.set_parent_digest(Sha256Of("parent").ToBytes());
  }
  manifest.set_layout_hash(Sha256Of("layout").ToBytes());
  v1::Content content;
  content.set_root(Sha256Of("root").ToBytes());
  content.set_size_bytes(100'000);
  content.set_piece_size_bytes(64 << 10);
  KOINON_CHECK(signer.get()->Sign(kTestSubmitted, content, {}, &manifest).ok());
  return manifest;
}

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_TESTING_MANIFEST_H_
