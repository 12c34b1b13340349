#include "dht/records/testing_signers.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/testing_env.h"

namespace koinon::dht {
namespace {

constexpr int64_t kSubmittedMs = 1'800'000'000'000;
constexpr int64_t kDayMs = 86'400'000;

v1::Content VectorContent(char root, int64_t size_bytes) {
  v1::Content content;
  content.set_root(std::string(32, root));
  content.set_size_bytes(size_bytes);
  content.set_piece_size_bytes(65'536);
  return content;
}

}  // namespace

TestFederation::TestFederation(const std::string& name, absl::Time now)
    : name_(name),
      now_(now),
      ca_(*MakeCertificateAuthority(name, 100, now)),
      authority_(*FederationTrust::Create(name, ca_.certificate_pem)) {}

LocalNode TestFederation::Node(PeerIdentity::Role role,
                               const std::string& name) const {
  CertificateSubject subject = {.role = role, .name = name};
  if (role == PeerIdentity::Role::kServer) subject.dns_names = {"localhost"};
  const CertificateAndKey own = *IssueCertificate(ca_, subject, 30, now_);
  MemoryEnv env;
  const TlsFiles files = {"/own.pem", "/own.key", "/ca.pem"};
  KOINON_CHECK(
      WriteFileAtomically(&env, files.certificate, own.certificate_pem).ok());
  KOINON_CHECK(WritePrivateFileAtomically(&env, files.key, own.key_pem).ok());
  KOINON_CHECK(WriteFileAtomically(&env, files.ca, ca_.certificate_pem).ok());
  return *LoadLocalNode(&env, files, now_);
}

RecordTrust TestFederation::trust() const {
  return {.federation = name_, .authority = authority_.get(), .pinned = {}};
}

LocalNode PlainNode(char seed, const std::string& federation,
                    const std::string& owner) {
  SigningKey key = *SigningKey::FromSeed(std::string(32, seed));
  const NodeIdentity identity = SelfMadeIdentity(key.public_key(), "");
  return LocalNode{.key = std::move(key),
                   .identity = identity,
                   .id = NodeIdOf(federation, identity),
                   .federation = federation,
                   .owner = owner,
                   .certificate_der = ""};
}

v1::Signed SignBody(absl::string_view context, const std::string& body,
                    const LocalNode& signer) {
  v1::Signed envelope;
  envelope.set_body(body);
  envelope.set_public_key(signer.key.public_key().ToBytes());
  envelope.set_certificate(signer.certificate_der);
  SignAgain(context, signer, &envelope);
  return envelope;
}

void SignAgain(absl::string_view context, const LocalNode& signer,
               v1::Signed* envelope) {
  envelope->set_signature(signer.key.Sign(
      context, absl::StrCat(Sha256Of(envelope->certificate()).ToBytes(),
                            envelope->body())));
}

v1::VersionManifest VectorManifest() {
  v1::VersionManifest manifest;
  manifest.set_format(1);
  manifest.set_federation("north");
  manifest.set_job("digits");
  manifest.set_job_submitted_ms(kSubmittedMs);
  manifest.set_version(3);
  manifest.set_digest(std::string(32, '\x11'));
  manifest.set_parent_digest(std::string(32, '\x22'));
  manifest.set_layout_hash(std::string(32, '\x33'));
  *manifest.mutable_content() = VectorContent('\x44', 1'000'000);
  v1::Provenance* const provenance = manifest.mutable_provenance();
  provenance->set_participants(7);
  provenance->set_examples(4'200);
  provenance->set_rule("fedavg");
  provenance->set_seconds(2.5);
  provenance->set_loss(0.25);
  provenance->set_accuracy(0.75);
  provenance->mutable_privacy()->set_epsilon(1.5);
  provenance->mutable_privacy()->set_delta(1e-5);
  manifest.set_created_ms(kSubmittedMs + 60'000);
  manifest.set_expires_ms(kSubmittedMs + 60'000 + kDayMs);
  v1::Delta* const delta = manifest.add_deltas();
  delta->set_from_digest(std::string(32, '\x22'));
  *delta->mutable_content() = VectorContent('\x66', 600'000);
  return manifest;
}

v1::MutableRecord VectorRecord() {
  v1::HeadValue head;
  head.set_version(3);
  head.set_manifest(std::string(32, '\xaa'));
  v1::MutableRecord record;
  record.set_federation("north");
  record.set_owner("server");
  record.set_name(HeadName("digits"));
  record.set_epoch(kSubmittedMs);
  record.set_sequence(3);
  record.set_expires_ms(kSubmittedMs + kDayMs);
  record.set_value(head.SerializeAsString());
  return record;
}

absl::Time VectorTime() { return absl::FromUnixMillis(kSubmittedMs + 60'000); }

}  // namespace koinon::dht
