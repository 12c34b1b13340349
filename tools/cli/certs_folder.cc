#include "tools/cli/certs_folder.h"

#include <arpa/inet.h>

#include <set>
#include <utility>

#include "absl/strings/escaping.h"
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

CertificateSubject ServerOf(const std::vector<std::string>& hosts) {
  CertificateSubject server{.role = PeerIdentity::Role::kServer,
                            .name = "coordinator"};
  for (const std::string& host : hosts) {
    (IsIpAddress(host) ? server.ip_addresses : server.dns_names)
        .push_back(host);
  }
  return server;
}

// Of NAME or NAME@SITE.
absl::StatusOr<CertificateSubject> SubjectOf(PeerIdentity::Role role,
                                             const std::string& name_and_site) {
  const size_t at = name_and_site.find('@');
  CertificateSubject subject{.role = role, .name = name_and_site.substr(0, at)};
  if (at == std::string::npos) return subject;
  subject.site = name_and_site.substr(at + 1);
  if (subject.site.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected ", RoleName(role), " NAME or NAME@SITE, found '",
                     absl::CHexEscape(name_and_site), "'"));
  }
  return subject;
}

absl::StatusOr<std::vector<Member>> MembersOf(const CertsPlan& plan) {
  std::vector<Member> members;
  if (!plan.hosts.empty()) members.push_back({"server", ServerOf(plan.hosts)});
  const auto add = [&](PeerIdentity::Role role,
                       const std::string& name_and_site) -> absl::Status {
    ABSL_ASSIGN_OR_RETURN(CertificateSubject subject,
                          SubjectOf(role, name_and_site));
    std::string stem = absl::StrCat(RoleName(role), "-", subject.name);
    members.push_back({std::move(stem), std::move(subject)});
    return absl::OkStatus();
  };
  for (const std::string& worker : plan.workers) {
    ABSL_RETURN_IF_ERROR(add(PeerIdentity::Role::kWorker, worker));
  }
  for (const std::string& node : plan.nodes) {
    ABSL_RETURN_IF_ERROR(add(PeerIdentity::Role::kNode, node));
  }
  // Clients are in no site.
  for (const std::string& client : plan.clients) {
    members.push_back({"client-" + client,
                       {.role = PeerIdentity::Role::kClient, .name = client}});
  }
  return members;
}

absl::Status RefuseTwice(const std::vector<Member>& members) {
  std::set<absl::string_view> stems;
  for (const Member& member : members) {
    if (!stems.insert(member.stem).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(member.stem, ": is asked for twice"));
    }
  }
  return absl::OkStatus();
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
  ABSL_ASSIGN_OR_RETURN(const std::vector<Member> members, MembersOf(plan));
  ABSL_RETURN_IF_ERROR(RefuseTwice(members));
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
