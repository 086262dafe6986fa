#include "common/kube/kubeconfig.h"

#include <absl/strings/escaping.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/matchers.h"
#include "tests/support/recording_log.h"

namespace snapkeeper {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

struct Pair {
  std::string cert, key;
};

std::string Text(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, size);
  BIO_free(bio);
  return text;
}

// A self-signed certificate; only its shape matters here.
Pair MakePair(const char* passphrase = nullptr) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* cert = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
  X509_gmtime_adj(X509_getm_notBefore(cert), 0);
  X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
  X509_set_pubkey(cert, key);
  X509_sign(cert, key, EVP_sha256());
  BIO* cert_bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(cert_bio, cert);
  BIO* key_bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(key_bio, key, passphrase ? EVP_aes_128_cbc() : nullptr, nullptr, 0,
                           nullptr, const_cast<char*>(passphrase));
  X509_free(cert);
  EVP_PKEY_free(key);
  return {Text(cert_bio), Text(key_bio)};
}

class KubeConfigTest : public testing::Test {
 protected:
  KubeConfigTest() {
    std::string pattern = testing::TempDir() + "/kubeconfig.XXXXXX";
    dir_ = mkdtemp(pattern.data());
    environment_.service_account = dir_ + "/no-service-account";
    environment_.home = dir_ + "/home";
  }
  ~KubeConfigTest() override { std::filesystem::remove_all(dir_); }

  std::string Write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = std::filesystem::path(dir_) / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }
  // A kubeconfig of one cluster and user; the arguments are indented by six spaces as YAML wants
  // it.
  static std::string Config(const std::string& cluster, const std::string& user) {
    return "apiVersion: v1\nkind: Config\ncurrent-context: ctx\ncontexts:\n- name: ctx\n  "
           "context:\n"
           "    cluster: c\n    user: u\n    namespace: shop\nclusters:\n- name: c\n  cluster: " +
           cluster + "\nusers:\n- name: u\n  user: " + user + "\n";
  }
  absl::StatusOr<std::unique_ptr<KubeConfig>> Load(const std::string& path) {
    return KubeConfig::Load(path, environment_, log_);
  }
  absl::StatusOr<std::unique_ptr<KubeConfig>> LoadText(const std::string& cluster,
                                                       const std::string& user) {
    return Load(Write("config", Config(cluster, user)));
  }
  Credentials CredentialsOf(const std::string& cluster, const std::string& user) {
    auto config = LoadText(cluster, user);
    EXPECT_THAT(config, IsOk());
    return config.ok() ? (*config)->Current(absl::ZeroDuration()) : Credentials();
  }

  std::string dir_;
  KubeConfig::Environment environment_;
  RecordingLog log_;
};

TEST_F(KubeConfigTest, ReadsServerNamespaceAndInlineCredentials) {
  const Pair ca = MakePair(), client = MakePair();
  auto config = LoadText("{server: 'https://k8s:6443/prefix/', certificate-authority-data: " +
                             absl::Base64Escape(ca.cert) +
                             ", tls-server-name: api, proxy-url: 'socks5://p:1'}",
                         "{client-certificate-data: " + absl::Base64Escape(client.cert) +
                             ", client-key-data: " + absl::Base64Escape(client.key) + "}");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ((*config)->ns(), "shop");
  EXPECT_THAT((*config)->origin(), AllOf(HasSubstr(dir_ + "/config"), HasSubstr("context ctx")));
  const Credentials credentials = (*config)->Current(absl::ZeroDuration());
  EXPECT_EQ(credentials.server, "https://k8s:6443/prefix");
  EXPECT_EQ(credentials.proxy, "socks5h://p:1");
  EXPECT_THAT(credentials.headers, IsEmpty());
  ASSERT_TRUE(credentials.tls);
  EXPECT_EQ(*credentials.tls, (TlsSettings{ca.cert, client.cert, client.key, "api", false}));
}

TEST_F(KubeConfigTest, TakesAServerByNameOrAddressWithAPortOrWithout) {
  for (const std::string server : {"https://k", "https://k:65535/a/b", "http://[::1]",
                                   "http://[::1]:7000/x", "http://10.0.0.1"})
    EXPECT_EQ(CredentialsOf("{server: '" + server + "'}", "{}").server, server);
}

TEST_F(KubeConfigTest, SendsEachKindOfCredential) {
  const std::string server = "{server: 'https://k', insecure-skip-tls-verify: true}";
  Write("tok", "from-file\n");
  EXPECT_THAT(CredentialsOf(server, "{token: ' abc '}").headers,
              ElementsAre("Authorization: Bearer abc"));
  EXPECT_THAT(CredentialsOf(server, "{token: 12345}").headers,
              ElementsAre("Authorization: Bearer 12345"));
  EXPECT_THAT(CredentialsOf(server, "{tokenFile: tok}").headers,
              ElementsAre("Authorization: Bearer from-file"));
  EXPECT_THAT(CredentialsOf(server, "{token: abc, tokenFile: tok}").headers,
              ElementsAre("Authorization: Bearer from-file"));
  EXPECT_THAT(CredentialsOf(server, "{username: me, password: 'p:w'}").headers,
              ElementsAre("Authorization: Basic bWU6cDp3"));
  EXPECT_THAT(CredentialsOf(server, "{}").headers, IsEmpty());
  EXPECT_TRUE(CredentialsOf(server, "{}").tls->insecure_skip_verify);
  EXPECT_THAT(CredentialsOf(server,
                            "{token: abc, as: jane, as-uid: '7', as-groups: [dev, ops], "
                            "as-user-extra: {Scopes/x: [view, edit]}}")
                  .headers,
              ElementsAre("Impersonate-User: jane", "Impersonate-Uid: 7", "Impersonate-Group: dev",
                          "Impersonate-Group: ops", "Impersonate-Extra-scopes%2Fx: view",
                          "Impersonate-Extra-scopes%2Fx: edit", "Authorization: Bearer abc"));
}

TEST_F(KubeConfigTest, AnHttpServerNeedsNoTls) {
  const Credentials credentials = CredentialsOf("{server: 'http://127.0.0.1:7000'}", "{}");
  EXPECT_EQ(credentials.server, "http://127.0.0.1:7000");
  EXPECT_EQ(credentials.tls, nullptr);
}

TEST_F(KubeConfigTest, PathsAreRelativeToTheFileThatHasThem) {
  const Pair ca = MakePair();
  Write("sub/pki/ca.pem", ca.cert);
  Write("sub/token", "t");
  auto load = [this](const std::string& ca_path) {
    return Load(
        Write("sub/config", Config("{server: 'https://k', certificate-authority: " + ca_path + "}",
                                   "{tokenFile: ./token}")));
  };
  for (const std::string& path :
       std::vector<std::string>{"pki/ca.pem", "../sub/pki/ca.pem", dir_ + "/sub/pki/ca.pem"}) {
    auto config = load(path);
    ASSERT_THAT(config, IsOk()) << path;
    EXPECT_EQ((*config)->Current(absl::ZeroDuration()).tls->ca_pem, ca.cert);
  }
  EXPECT_THAT(load("missing.pem"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sub/missing.pem")));
}

TEST_F(KubeConfigTest, DataGoesBeforeThePath) {
  const Pair ca = MakePair();
  EXPECT_EQ(
      CredentialsOf(
          "{server: 'https://k', certificate-authority: /nowhere, certificate-authority-data: " +
              absl::Base64Escape(ca.cert) + "}",
          "{}")
          .tls->ca_pem,
      ca.cert);
}

TEST_F(KubeConfigTest, JsonIsAKubeconfigToo) {
  auto config = Load(
      Write("config", R"({"current-context":"x","contexts":[{"name":"x","context":{"cluster":"c"}}],
    "clusters":[{"name":"c","cluster":{"server":"https://k"}}],"users":null})"));
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ((*config)->Current(absl::ZeroDuration()).server, "https://k");
  EXPECT_EQ((*config)->ns(), "default");
}

std::string Part(const std::string& current, const std::string& server, const std::string& token) {
  return "current-context: " + current +
         "\ncontexts:\n- name: ctx\n  context: {cluster: c, user: u}\n- name: only-" + token +
         "\n  context: {cluster: c, user: u, namespace: " + token +
         "}\nclusters:\n- name: c\n  cluster: {server: '" + server +
         "'}\nusers:\n- name: u\n  user: {token: " + token + "}\n";
}

TEST_F(KubeConfigTest, ListedFilesAreMergedAndTheFirstOneWins) {
  const std::string a = Write("a", Part("''", "https://a", "ta"));
  const std::string b = Write("b", Part("only-tb", "https://b", "tb"));
  environment_.kubeconfig = dir_ + "/missing:" + a + "::" + b;
  auto config = Load("");
  ASSERT_THAT(config, IsOk());
  // The context comes from b, which alone has it; cluster and user c and u are a's.
  EXPECT_EQ((*config)->ns(), "tb");
  const Credentials credentials = (*config)->Current(absl::ZeroDuration());
  EXPECT_EQ(credentials.server, "https://a");
  EXPECT_THAT(credentials.headers, ElementsAre("Authorization: Bearer ta"));
}

TEST_F(KubeConfigTest, LooksInTheDocumentedOrder) {
  auto token_of = [](absl::StatusOr<std::unique_ptr<KubeConfig>> config) {
    EXPECT_THAT(config, IsOk());
    return config.ok() ? (*config)->Current(absl::ZeroDuration()).headers.at(0) : "";
  };
  Write("home/.kube/config", Part("ctx", "https://home", "home"));
  EXPECT_EQ(token_of(Load("")), "Authorization: Bearer home");
  environment_.kubeconfig = Write("env", Part("ctx", "https://env", "env"));
  EXPECT_EQ(token_of(Load("")), "Authorization: Bearer env");
  environment_.service_account = dir_ + "/sa";
  Write("sa/token", "pod");
  Write("sa/ca.crt", MakePair().cert);
  environment_.service_host = "10.0.0.1";
  EXPECT_EQ(token_of(Load("")), "Authorization: Bearer env");  // no port: not in a pod
  environment_.service_port = "443";
  EXPECT_EQ(token_of(Load("")), "Authorization: Bearer pod");
  EXPECT_EQ(token_of(Load(Write("explicit", Part("ctx", "https://x", "explicit")))),
            "Authorization: Bearer explicit");
}

TEST_F(KubeConfigTest, SaysWhereItLookedWhenThereIsNothing) {
  EXPECT_THAT(Load(""),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(dir_ + "/home/.kube/config")));
  environment_.kubeconfig = "/nowhere/a:/nowhere/b";
  EXPECT_THAT(Load(""),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere/a or /nowhere/b")));
  EXPECT_THAT(Load("/nowhere/c"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere/c")));
  EXPECT_THAT(Load(dir_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(dir_)));
}

TEST_F(KubeConfigTest, UsesThePodsServiceAccount) {
  const Pair ca = MakePair();
  environment_.service_account = dir_ + "/sa";
  environment_.service_host = "10.0.0.1";
  environment_.service_port = "443";
  Write("sa/token", "tok\n");
  Write("sa/ca.crt", ca.cert);
  Write("sa/namespace", "backup\n");
  auto config = Load("");
  ASSERT_THAT(config, IsOk());
  EXPECT_EQ((*config)->ns(), "backup");
  EXPECT_EQ((*config)->Current(absl::ZeroDuration()).server, "https://10.0.0.1:443");
  EXPECT_EQ((*config)->Current(absl::ZeroDuration()).tls->ca_pem, ca.cert);
  environment_.service_host = "fd00::1";
  EXPECT_EQ((*Load(""))->Current(absl::ZeroDuration()).server, "https://[fd00::1]:443");
  Write("sa/token", " \n");
  EXPECT_THAT(Load(""), StatusIs(absl::StatusCode::kInvalidArgument,
                                 HasSubstr("sa/token: the token is empty")));
  std::filesystem::remove(dir_ + "/sa/token");
  EXPECT_THAT(Load(""), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sa/token")));
}

TEST_F(KubeConfigTest, RefusesWithTheNameOfTheEntry) {
  struct Case {
    std::string cluster, user;
    absl::StatusCode code;
    std::string message;
  };
  const Pair a = MakePair(), b = MakePair(), locked = MakePair("secret");
  auto data = [](const std::string& pem) { return absl::Base64Escape(pem); };
  const std::string https = "{server: 'https://k'}";
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const std::vector<Case> cases = {
      {https, "{exec: {command: aws, apiVersion: v1}}", absl::StatusCode::kUnimplemented,
       "user \"u\" logs in with a plugin (exec)"},
      {https, "{auth-provider: {name: gcp}}", absl::StatusCode::kUnimplemented, "(auth-provider)"},
      {https, "{token: t, exec: {command: aws}}", absl::StatusCode::kUnimplemented, "(exec)"},
      {"{}", "{}", invalid, "cluster \"c\": server must begin with"},
      {"{server: k8s:6443}", "{}", invalid, "server must begin with"},
      {"{server: 'https://k', proxy-url: 'ftp://p'}", "{}", invalid, "proxy-url"},
      {"{server: 'https://k', insecure-skip-tls-verify: true, certificate-authority: ca}", "{}",
       invalid, "exclude each other"},
      {"{server: 'https://k', insecure-skip-tls-verify: perhaps}", "{}", invalid, "config"},
      {"{server: 'https://k', certificate-authority-data: '%%%'}", "{}", invalid,
       "certificate-authority-data is not base64"},
      {"{server: 'https://k', certificate-authority-data: " + data("no pem") + "}", "{}", invalid,
       "certificate-authority-data: not PEM"},
      {"{server: 'https://k', certificate-authority-data: " + data(a.cert + a.cert.substr(0, 80)) +
           "}",
       "{}", invalid, "not PEM"},
      {https, "{client-certificate-data: " + data(a.cert) + "}", invalid, "need each other"},
      {https, "{client-key-data: " + data(a.key) + "}", invalid, "need each other"},
      {https,
       "{client-certificate-data: " + data(a.cert) + ", client-key-data: " + data(b.key) + "}",
       invalid, "does not belong"},
      {https,
       "{client-certificate-data: " + data(locked.cert) + ", client-key-data: " + data(locked.key) +
           "}",
       invalid, "unencrypted"},
      {https, "{token: t, username: me}", invalid, "token and username exclude"},
      {https, "{token: \"a\\nb\"}", invalid, "not a token"},
      {https, "{tokenFile: missing}", invalid, "/missing"},
      {https, "{as-groups: [x]}", invalid, "as-groups needs \"as\""},
      {https, "{as: \"a\\r\\nEvil: x\"}", invalid, "control character"},
      {"{server: 'http://k'}", "{token: t}", invalid, "in the clear"},
      {"{server: 'https://me:secret@k'}", "{}", invalid, "must not hold a password"},
      {"{server: 'https://k:65536'}", "{}", invalid, "server must be https://HOST[:PORT]"},
      {"{server: 'https://k:0'}", "{}", invalid, "server must be"},
      {"{server: 'https://k:'}", "{}", invalid, "server must be"},
      {"{server: 'https:///x'}", "{}", invalid, "server must be"},
      {"{server: 'https://k 8s'}", "{}", invalid, "server must be"},
      {"{server: 'https://k/a b'}", "{}", invalid, "server must be"},
      {"{server: 'https://k/?a=b'}", "{}", invalid, "server must be"},
      {"{server: 'https://k?a=b'}", "{}", invalid, "server must be"},
      {"{server: 'https://k/#a'}", "{}", invalid, "server must be"},
      {"{server: 'http://127.0.0.1:1'}", "{username: me, password: p}", invalid, "in the clear"},
      {"[]", "{}", invalid, "cluster \"c\" is not a map"},
      {"{server: [1]}", "{}", invalid, "config"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(LoadText(c.cluster, c.user), StatusIs(c.code, HasSubstr(c.message)))
        << c.cluster << c.user;
  }
}

TEST_F(KubeConfigTest, RefusesFilesThatMakeNoSense) {
  const std::string context =
      "current-context: x\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n";
  const std::string cluster = "clusters:\n- name: c\n  cluster: {server: 'https://k'}\n";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "no current-context"},
      {"- a\n", "not a kubeconfig"},
      {"{", "config: yaml-cpp: error"},
      {"current-context: x\n", "context \"x\" is not there"},
      {context, "cluster \"c\" is not there"},
      {context + cluster, "user \"u\" is not there"},
      {context + cluster + "users: {name: u}\n", "config"},
      {context + cluster + cluster.substr(10), "cluster \"c\" is there twice"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(Load(Write("config", text)), StatusIs(absl::StatusCode::kInvalidArgument,
                                                      AllOf(HasSubstr(message), HasSubstr(dir_))))
        << text;
  }
}

TEST_F(KubeConfigTest, FollowsTheTokenFileWithinTenSeconds) {
  Write("tok", "one");
  auto config = *LoadText("{server: 'https://k'}", "{tokenFile: tok}");
  EXPECT_THAT(config->Current(absl::Seconds(100)).headers,
              ElementsAre("Authorization: Bearer one"));
  Write("tok", "two");
  EXPECT_THAT(config->Current(absl::Seconds(109)).headers,
              ElementsAre("Authorization: Bearer one"));
  EXPECT_THAT(config->Current(absl::Seconds(110)).headers,
              ElementsAre("Authorization: Bearer two"));
  Write("tok", "three");
  config->ReadAgain();
  EXPECT_THAT(config->Current(absl::Seconds(111)).headers,
              ElementsAre("Authorization: Bearer three"));
  EXPECT_THAT(log_.lines, testing::Each(HasSubstr("credentials reloaded")));
  EXPECT_THAT(log_.lines, SizeIs(2));
  EXPECT_THAT(log_.lines, Not(Contains(HasSubstr("three"))));
}

TEST_F(KubeConfigTest, FollowsASymlinkThatIsSwapped) {
  Write("v1/token", "one");
  Write("v2/token", "two");
  std::filesystem::create_symlink("v1", dir_ + "/data");
  auto config = *LoadText("{server: 'https://k'}", "{tokenFile: data/token}");
  std::filesystem::create_symlink("v2", dir_ + "/data_tmp");
  std::filesystem::rename(dir_ + "/data_tmp", dir_ + "/data");
  EXPECT_THAT(config->Current(absl::ZeroDuration()).headers,
              ElementsAre("Authorization: Bearer two"));
}

TEST_F(KubeConfigTest, KeepsTheLastGoodOnesAndSaysSoOnce) {
  const Pair ca = MakePair(), client = MakePair(), other = MakePair();
  Write("tok", "one");
  Write("ca", ca.cert);
  Write("crt", client.cert);
  Write("key", client.key);
  auto config = *LoadText("{server: 'https://k', certificate-authority: ca}",
                          "{tokenFile: tok, client-certificate: crt, client-key: key}");
  const Credentials good = config->Current(absl::ZeroDuration());
  EXPECT_THAT(log_.lines, IsEmpty());

  Write("tok", "\n");
  Write("ca", "-----BEGIN CERTIFICATE-----\nbroken");
  Write("crt", other.cert);  // the key is still the old one
  for (int i = 1; i < 5; ++i) {
    const Credentials now = config->Current(absl::Seconds(20 * i));
    EXPECT_EQ(now.tls, good.tls);  // the same object
    EXPECT_EQ(now.headers, good.headers);
  }
  EXPECT_THAT(log_.lines, ElementsAre(AllOf(HasSubstr("not reloaded"), HasSubstr("/ca: not PEM"))));

  // Each part recovers by itself.
  Write("tok", "two");
  EXPECT_THAT(config->Current(absl::Seconds(200)).headers,
              ElementsAre("Authorization: Bearer two"));
  EXPECT_EQ(config->Current(absl::Seconds(200)).tls, good.tls);
  Write("key", other.key);
  Write("ca", other.cert);
  const Credentials recovered = config->Current(absl::Seconds(220));
  EXPECT_EQ(*recovered.tls, (TlsSettings{other.cert, other.cert, other.key, "", false}));
  // It breaks again: that is said again.
  std::filesystem::remove(dir_ + "/tok");
  EXPECT_THAT(config->Current(absl::Seconds(240)).headers,
              ElementsAre("Authorization: Bearer two"));
  EXPECT_THAT(log_.lines.back(), AllOf(HasSubstr("not reloaded"), HasSubstr("/tok")));
}

TEST_F(KubeConfigTest, TakesACaWithSeveralCertificates) {
  const std::string both = "# old\n" + MakePair().cert + "\n# new\n" + MakePair().cert + "\n";
  EXPECT_EQ(CredentialsOf("{server: 'https://k', certificate-authority-data: " +
                              absl::Base64Escape(both) + "}",
                          "{}")
                .tls->ca_pem,
            both);
}

// client-go looks at the entries of the context only.
TEST_F(KubeConfigTest, EntriesOfOtherContextsMayBeEmpty) {
  EXPECT_THAT(Load(Write("config", Config("{server: 'https://k'}", "{token: t}") +
                                       "- name: old\n  user: null\n- name: older\n")),
              IsOk());
}

TEST_F(KubeConfigTest, AnEmptyUsernameIsNone) {
  EXPECT_THAT(LoadText("{server: 'https://k'}", "{token: t, username: ''}"), IsOk());
}

TEST_F(KubeConfigTest, TheTokenServesUntilItsFileIsThere) {
  EXPECT_THAT(LoadText("{server: 'https://k'}", "{token: t, tokenFile: missing}"), IsOk());
}

TEST_F(KubeConfigTest, ASocksProxyResolvesTheServersName) {
  EXPECT_EQ(CredentialsOf("{server: 'https://k', proxy-url: 'socks5://p:1080'}", "{}").proxy,
            "socks5h://p:1080");
}

}  // namespace
}  // namespace snapkeeper
