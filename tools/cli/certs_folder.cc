#include "tools/cli/certs_folder.h"

#include <arpa/inet.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/certs.h"
#include "base/status_macros.h"

namespace koinon::cli {
namespace {

constexpr size_t kMaxPemBytes = 1 << 16;

bool IsIpAddress(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

struct Member {
  std::string stem;
  CertificateSubject subject;
};

std::vector<Member> MembersOf(const CertsPlan& plan) {
  std::vector<Member> members;
  if (!plan.hosts.empty()) {
    CertificateSubject server{.role = PeerIdentity::Role::kServer,
                              .name = "coordinator",
                              .dns_names = {},
                              .ip_addresses = {}};
    for (const std::string& host : plan.hosts) {
      (IsIpAddress(host) ? server.ip_addresses : server.dns_names)
          .push_back(host);
    }
    members.push_back({"server", std::move(server)});
  }
  const auto add = [&](const std::vector<std::string>& names,
                       PeerIdentity::Role role, const char* kind) {
    for (const std::string& name : names) {
      members.push_back(
          {absl::StrCat(kind, "-", name),
           {.role = role, .name = name, .dns_names = {}, .ip_addresses = {}}});
    }
  };
  add(plan.workers, PeerIdentity::Role::kWorker, "worker");
  add(plan.clients, PeerIdentity::Role::kClient, "client");
  return members;
}

absl::StatusOr<CertificateAndKey> ReadAuthority(Env* env,
                                                const std::string& dir) {
  CertificateAndKey authority;
  ABSL_ASSIGN_OR_RETURN(authority.certificate_pem,
                        ReadFile(env, dir + "/ca.pem", kMaxPemBytes));
  ABSL_ASSIGN_OR_RETURN(authority.key_pem,
                        ReadFile(env, dir + "/ca.key", kMaxPemBytes));
  return authority;
}

absl::Status RefuseToOverwrite(Env* env, const std::string& dir,
                               const std::string& stem) {
  for (const char* suffix : {".pem", ".key"}) {
    const std::string path = absl::StrCat(dir, "/", stem, suffix);
    if (env->Exists(path)) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, ": is there already and will not be overwritten"));
    }
  }
  return absl::OkStatus();
}

// The key first: a certificate is never there without it.
absl::Status WritePair(Env* env, const std::string& dir,
                       const std::string& stem, const CertificateAndKey& pair) {
  ABSL_RETURN_IF_ERROR(WritePrivateFileAtomically(
      env, absl::StrCat(dir, "/", stem, ".key"), pair.key_pem));
  return WriteFileAtomically(env, absl::StrCat(dir, "/", stem, ".pem"),
                             pair.certificate_pem);
}

}  // namespace

TlsFiles FilesInCertsFolder(const std::string& dir, const std::string& stem) {
  return TlsFiles{.certificate = absl::StrCat(dir, "/", stem, ".pem"),
                  .key = absl::StrCat(dir, "/", stem, ".key"),
                  .ca = dir + "/ca.pem"};
}

absl::Status MakeCertsFolder(Env* env, const CertsPlan& plan, absl::Time now) {
  const std::vector<Member> members = MembersOf(plan);
  if (!plan.extend) {
    ABSL_RETURN_IF_ERROR(RefuseToOverwrite(env, plan.dir, "ca"));
  }
  for (const Member& member : members) {
    ABSL_RETURN_IF_ERROR(RefuseToOverwrite(env, plan.dir, member.stem));
  }
  ABSL_ASSIGN_OR_RETURN(const CertificateAndKey authority,
                        plan.extend
                            ? ReadAuthority(env, plan.dir)
                            : MakeCertificateAuthority(
                                  plan.federation, plan.authority_days, now));
  // All are made before the first is written, so that a bad name leaves nothing
  // behind.
  std::vector<CertificateAndKey> pairs;
  for (const Member& member : members) {
    ABSL_ASSIGN_OR_RETURN(
        pairs.emplace_back(),
        IssueCertificate(authority, member.subject, plan.days, now));
  }
  ABSL_RETURN_IF_ERROR(env->MakeDirs(plan.dir));
  if (!plan.extend) {
    ABSL_RETURN_IF_ERROR(WritePair(env, plan.dir, "ca", authority));
  }
  for (size_t i = 0; i < members.size(); ++i) {
    ABSL_RETURN_IF_ERROR(WritePair(env, plan.dir, members[i].stem, pairs[i]));
  }
  return absl::OkStatus();
}

}  // namespace koinon::cli
