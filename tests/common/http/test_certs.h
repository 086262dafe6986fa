#ifndef SNAPKEEPER_TESTS_COMMON_HTTP_TEST_CERTS_H_
#define SNAPKEEPER_TESTS_COMMON_HTTP_TEST_CERTS_H_

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

namespace snapkeeper {

// A certificate and its key, made on the spot; PEM texts.
struct TestCert {
  std::string cert_pem, key_pem;
};

// `names` in OpenSSL's form, e.g. "DNS:localhost,IP:127.0.0.1"; empty makes an authority. Without
// `issuer`: self-signed.
inline TestCert MakeCert(const char* common_name, const std::string& names,
                         const TestCert* issuer = nullptr) {
  using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
  using Cert = std::unique_ptr<X509, decltype(&X509_free)>;
  using Bio = std::unique_ptr<BIO, decltype(&BIO_free_all)>;
  static int serial = 0;

  const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const Cert cert(X509_new(), X509_free);
  X509_set_version(cert.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(cert.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(cert.get()), 3600);
  X509_set_pubkey(cert.get(), key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(cert.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(common_name), -1, -1, 0);

  Cert issuer_cert(nullptr, X509_free);
  Key issuer_key(nullptr, EVP_PKEY_free);
  if (issuer) {
    const Bio cert_bio(
        BIO_new_mem_buf(issuer->cert_pem.data(), static_cast<int>(issuer->cert_pem.size())),
        BIO_free_all);
    const Bio key_bio(
        BIO_new_mem_buf(issuer->key_pem.data(), static_cast<int>(issuer->key_pem.size())),
        BIO_free_all);
    issuer_cert.reset(PEM_read_bio_X509(cert_bio.get(), nullptr, nullptr, nullptr));
    issuer_key.reset(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, nullptr, nullptr));
  }
  X509_set_issuer_name(cert.get(), X509_get_subject_name(issuer ? issuer_cert.get() : cert.get()));
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer ? issuer_cert.get() : cert.get(), cert.get(), nullptr, nullptr,
                 0);
  const auto extend = [&](int nid, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    X509_add_ext(cert.get(), extension, -1);
    X509_EXTENSION_free(extension);
  };
  if (names.empty()) {
    extend(NID_basic_constraints, "critical,CA:TRUE");
  } else {
    extend(NID_subject_alt_name, names);
  }
  X509_sign(cert.get(), issuer ? issuer_key.get() : key.get(), EVP_sha256());

  const Bio cert_out(BIO_new(BIO_s_mem()), BIO_free_all),
      key_out(BIO_new(BIO_s_mem()), BIO_free_all);
  PEM_write_bio_X509(cert_out.get(), cert.get());
  PEM_write_bio_PrivateKey(key_out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  const auto text = [](const Bio& bio) {
    char* data;
    const long size = BIO_get_mem_data(bio.get(), &data);
    return std::string(data, static_cast<size_t>(size));
  };
  return {text(cert_out), text(key_out)};
}

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_COMMON_HTTP_TEST_CERTS_H_
