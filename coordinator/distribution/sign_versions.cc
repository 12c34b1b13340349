#include "coordinator/distribution/sign_versions.h"

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "coordinator/models/version_contents.h"

namespace koinon::coordinator {
namespace {

absl::Status SignOne(const ModelStore& store, const ManifestSigner& signer,
                     absl::Time submitted, v1::ModelManifest* manifest) {
  ABSL_ASSIGN_OR_RETURN(const v1::Content content,
                        MakeContent(store, *manifest));
  return signer.Sign(absl::ToUnixMillis(submitted), content, {}, manifest);
}

}  // namespace

std::vector<Mutation> SignVersions(const JournalContents& contents,
                                   const ModelStore& store,
                                   const ManifestSigner& signer) {
  std::vector<Mutation> rows;
  for (const auto& [name, versions] : contents.versions) {
    const auto job = contents.jobs.find(name);
    if (job == contents.jobs.end()) continue;
    for (const auto& [number, version] : versions) {
      const bool is_new = version.manifest.signed_manifest().empty();
      if (!is_new && !signer.IsDue(version.manifest)) continue;
      VersionRow row = version;
      const absl::Status signed_now =
          is_new ? SignOne(store, signer, job->second.submitted, &row.manifest)
                 : signer.Renew(&row.manifest);
      if (!signed_now.ok()) {
        LogWarning("a version cannot be signed, so workers will not take it",
                   {{"job", name}, {"version", number}, {"error", signed_now}});
        continue;
      }
      LogInfo("version signed", {{"job", name}, {"version", number}});
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace koinon::coordinator
