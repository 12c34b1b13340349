#ifndef KOINON_BASE_OPENSSL_PTR_H_
#define KOINON_BASE_OPENSSL_PTR_H_

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace koinon {

// OpenSSL's objects with an owner. An inner part of base/tls.h, base/certs.h,
// base/signing.h and what stands on them.
template <auto Free>
struct OpenSslFree {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
template <typename T, auto Free>
using OpenSslPtr = std::unique_ptr<T, OpenSslFree<Free>>;

using BioPtr = OpenSslPtr<BIO, BIO_free_all>;
using BignumPtr = OpenSslPtr<BIGNUM, BN_free>;
using EvpMdCtxPtr = OpenSslPtr<EVP_MD_CTX, EVP_MD_CTX_free>;
using EvpPkeyPtr = OpenSslPtr<EVP_PKEY, EVP_PKEY_free>;
using GeneralNamesPtr = OpenSslPtr<GENERAL_NAMES, GENERAL_NAMES_free>;
using X509Ptr = OpenSslPtr<X509, X509_free>;
using X509ExtensionPtr = OpenSslPtr<X509_EXTENSION, X509_EXTENSION_free>;
using X509StorePtr = OpenSslPtr<X509_STORE, X509_STORE_free>;
using X509StoreCtxPtr = OpenSslPtr<X509_STORE_CTX, X509_STORE_CTX_free>;

// Reads from `text` without a copy: `text` must outlive it.
inline BioPtr ReadOnlyBio(absl::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// A key under a passphrase is refused rather than asked for on the terminal.
inline int NoPassphrase(char*, int, int, void*) { return -1; }

// Null unless `pem` starts with such an object. Leaves no error behind.
inline X509Ptr ReadCertificate(BIO* pem) {
  X509Ptr certificate(PEM_read_bio_X509(pem, nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  return certificate;
}
inline EvpPkeyPtr ReadKey(BIO* pem) {
  EvpPkeyPtr key(PEM_read_bio_PrivateKey(pem, nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  return key;
}

// What OpenSSL says went wrong first; clears its queue of errors.
inline std::string TakeOpenSslError() {
  char text[256];
  ERR_error_string_n(ERR_get_error(), text, sizeof(text));
  ERR_clear_error();
  return text;
}

}  // namespace koinon

#endif  // KOINON_BASE_OPENSSL_PTR_H_
