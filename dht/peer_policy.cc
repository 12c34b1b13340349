#include "dht/peer_policy.h"

#include "absl/strings/str_cat.h"
#include "base/node_identity.h"
#include "base/status_macros.h"

namespace koinon::dht {
namespace {

using Role = PeerIdentity::Role;

std::string Describe(const PeerIdentity& who) {
  return absl::StrCat(RoleName(who.role), " '", who.name, "'");
}

std::string DescribeSite(const std::string& site) {
  return site.empty() ? "no site" : absl::StrCat("site '", site, "'");
}

}  // namespace

absl::Status PeerPolicy::CheckMember(const PeerIdentity& who) const {
  if (who.role == Role::kAnonymous) {
    if (!options_.require_tls) return absl::OkStatus();
    return absl::UnauthenticatedError("a certificate is required");
  }
  if (who.federation == options_.federation) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("the certificate is of federation '", who.federation,
                   "', this is '", options_.federation, "'"));
}

absl::StatusOr<Contact> PeerPolicy::NodeOf(const PeerIdentity& who,
                                           const v1::Contact& claimed) const {
  ABSL_RETURN_IF_ERROR(CheckMember(who));
  if (who.role == Role::kAnonymous) {
    ABSL_ASSIGN_OR_RETURN(Contact contact, ContactFromProto(claimed));
    contact.address.clear();
    return contact;
  }
  if (!who.node.has_value()) {
    return absl::PermissionDeniedError(
        absl::StrCat("the certificate of ", Describe(who),
                     " carries no node's identity; koinon certs makes "
                     "certificates that do"));
  }
  Contact contact;
  contact.id = NodeIdOf(who.federation, *who.node);
  contact.site = who.node->site;
  return contact;
}

absl::StatusOr<Contact> PeerPolicy::CheckAsker(
    const PeerIdentity& who, const v1::Contact& claimed) const {
  ABSL_ASSIGN_OR_RETURN(Contact asker, NodeOf(who, claimed));
  ABSL_ASSIGN_OR_RETURN(const Contact claim, ContactFromProto(claimed));
  if (claim.id != asker.id || claim.site != asker.site) {
    return absl::PermissionDeniedError(
        absl::StrCat("the question says that it comes from node ",
                     claim.id.ToShortHex(), " of ", DescribeSite(claim.site),
                     ", the certificate of ", Describe(who), " is of node ",
                     asker.id.ToShortHex(), " of ", DescribeSite(asker.site)));
  }
  asker.address = claim.address;
  return asker;
}

absl::Status PeerPolicy::CheckFetcher(const PeerIdentity& who) const {
  ABSL_RETURN_IF_ERROR(CheckMember(who));
  if (options_.leech_only) {
    return absl::PermissionDeniedError("this node serves nobody");
  }
  const bool anywhere = who.role == Role::kAnonymous ||
                        who.role == Role::kServer || who.role == Role::kClient;
  if (anywhere || options_.is_origin || options_.cross_site) {
    return absl::OkStatus();
  }
  if (!who.node.has_value()) {
    return absl::PermissionDeniedError(
        absl::StrCat("the certificate of ", Describe(who),
                     " says no site: only the coordinator serves it"));
  }
  if (who.node->site == options_.site) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("this node is of ", DescribeSite(options_.site),
                   " and serves no worker "
                   "of ",
                   DescribeSite(who.node->site)));
}

absl::Status PeerPolicy::MayFetchFrom(const Contact& contact) const {
  if (options_.cross_site || contact.site == options_.site) {
    return absl::OkStatus();
  }
  if (!options_.coordinator.empty() &&
      contact.address == options_.coordinator) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      absl::StrCat("this node is of ", DescribeSite(options_.site),
                   " and fetches nothing from ", DescribeSite(contact.site)));
}

absl::Status PeerPolicy::CheckIs(const Contact& contact,
                                 const PeerIdentity& who) const {
  if (who.role == Role::kAnonymous && !options_.require_tls) {
    return absl::OkStatus();
  }
  const absl::Status member = CheckMember(who);
  if (!member.ok()) return absl::UnauthenticatedError(member.message());
  if (!options_.coordinator.empty() &&
      contact.address == options_.coordinator && who.role == Role::kServer &&
      (contact.id.IsZero() || !who.node.has_value())) {
    return absl::OkStatus();
  }
  if (!who.node.has_value()) {
    return absl::UnauthenticatedError(
        absl::StrCat("at ", contact.address, " answers ", Describe(who),
                     ", whose certificate carries no node's identity"));
  }
  const Key id = NodeIdOf(who.federation, *who.node);
  if (contact.id.IsZero() || contact.id == id) return absl::OkStatus();
  return absl::UnauthenticatedError(absl::StrCat(
      "expected node ", contact.id.ToShortHex(), " at ", contact.address,
      ", found node ", id.ToShortHex(), " (", Describe(who), ")"));
}

absl::Status PeerPolicy::CheckSource(const Contact& contact,
                                     const PeerIdentity& who) const {
  ABSL_RETURN_IF_ERROR(CheckIs(contact, who));
  if (!who.node.has_value()) return absl::OkStatus();
  Contact found = contact;
  found.site = who.node->site;
  return MayFetchFrom(found);
}

}  // namespace koinon::dht
