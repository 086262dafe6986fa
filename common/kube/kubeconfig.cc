#include "common/kube/kubeconfig.h"

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <utility>

#include "common/base/address.h"
#include "common/base/file.h"
#include "common/kube/text.h"

namespace snapkeeper {
namespace {

using Source = KubeConfig::Source;
using Text = KubeConfig::Text;

// A kubelet replaces tokens long before they expire, other issuers may not: recovery must follow
// the file within 15 s.
constexpr absl::Duration kReadEvery = absl::Seconds(10);

absl::Status Bad(const std::string& where, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", where, what));
}

// --- PEM

template <class T, void (*kFree)(T*)>
struct Freer {
  void operator()(T* t) const { kFree(t); }
};
using Certificate = std::unique_ptr<X509, Freer<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY, EVP_PKEY_free>>;
struct Bio {
  explicit Bio(const std::string& text)
      : bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))) {}
  ~Bio() {
    BIO_free(bio);
    ERR_clear_error();  // libcurl shares this thread's queue
  }
  BIO* const bio;
};

int NoPassphrase(char*, int, int, void*) { return -1; }

absl::Status CheckCertificates(const std::string& where, const std::string& pem) {
  Bio bio(pem);
  int count = 0;
  while (Certificate(PEM_read_bio_X509(bio.bio, nullptr, NoPassphrase, nullptr))) ++count;
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  return count > 0 && at_end ? absl::OkStatus() : Bad(where, "not PEM certificates");
}

absl::Status CheckKey(const std::string& where, const std::string& cert_pem,
                      const std::string& key_pem) {
  Bio cert_bio(cert_pem), key_bio(key_pem);
  const Certificate cert(PEM_read_bio_X509(cert_bio.bio, nullptr, NoPassphrase, nullptr));
  const Key key(PEM_read_bio_PrivateKey(key_bio.bio, nullptr, NoPassphrase, nullptr));
  if (!key) return Bad(where, "not an unencrypted PEM private key");
  if (cert && X509_check_private_key(cert.get(), key.get()) == 1) return absl::OkStatus();
  return Bad(where, "the key does not belong to the certificate");
}

// --- The changeable parts. Each takes over the new text if it can be used, and leaves the old one
// otherwise.

absl::StatusOr<std::string> ReadText(const Text& text) {
  return text.inlined.empty() ? ReadFile(text.path) : text.inlined;
}

std::string Where(const Text& text, std::string_view key) {
  return text.inlined.empty() ? text.path : std::string(key);
}

absl::Status TakeCa(const Text& source, std::string& ca_pem) {
  if (source.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> pem = ReadText(source);
  if (!pem.ok()) return pem.status();
  if (*pem == ca_pem) return absl::OkStatus();
  absl::Status status = CheckCertificates(Where(source, "certificate-authority-data"), *pem);
  if (status.ok()) ca_pem = *std::move(pem);
  return status;
}

// Written one after the other, certificate and key do not fit for a moment.
absl::Status TakePair(const Text& cert_source, const Text& key_source, TlsSettings& tls) {
  if (cert_source.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> cert = ReadText(cert_source);
  if (!cert.ok()) return cert.status();
  absl::StatusOr<std::string> key = ReadText(key_source);
  if (!key.ok()) return key.status();
  if (*cert == tls.client_cert_pem && *key == tls.client_key_pem) return absl::OkStatus();
  absl::Status status = CheckCertificates(Where(cert_source, "client-certificate-data"), *cert);
  if (status.ok()) status = CheckKey(Where(key_source, "client-key-data"), *cert, *key);
  if (!status.ok()) return status;
  tls.client_cert_pem = *std::move(cert);
  tls.client_key_pem = *std::move(key);
  return absl::OkStatus();
}

absl::Status TakeToken(const Text& source, std::string& token) {
  if (source.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> text = source.path.empty() ? source.inlined : ReadFile(source.path);
  if (!text.ok() && token.empty() && !source.inlined.empty()) text = source.inlined;
  if (!text.ok()) return text.status();
  const absl::string_view trimmed = absl::StripAsciiWhitespace(*text);
  if (trimmed.empty() || !std::all_of(trimmed.begin(), trimmed.end(), absl::ascii_isgraph)) {
    return Bad(source.path.empty() ? "token" : source.path,
               trimmed.empty() ? "the token is empty" : "not a token");
  }
  token = std::string(trimmed);
  return absl::OkStatus();
}

// --- kubeconfig files

// One named entry of one of the lists, and where it stands.
struct Entry {
  YAML::Node node;
  std::string file;
};

struct Merged {
  std::map<std::string, Entry> clusters, users, contexts;
  std::string current_context;
  std::string files;  // those that exist
};

std::string String(const YAML::Node& node, const char* key) {
  const YAML::Node value = node[key];
  return value && !value.IsNull() ? value.as<std::string>() : "";
}

absl::Status MergeList(const YAML::Node& root, const char* list, const char* what,
                       const std::string& file, std::map<std::string, Entry>& into) {
  std::map<std::string, Entry> entries;
  for (const YAML::Node& item : root[list]) {
    const std::string name = String(item, "name");
    const YAML::Node node = item[what];
    if (node && !node.IsNull() && !node.IsMap()) {
      return Bad(file, fmt::format("{} \"{}\" is not a map", what, name));
    }
    const YAML::Node map = node && node.IsMap() ? node : YAML::Node(YAML::NodeType::Map);
    if (!entries.emplace(name, Entry{map, file}).second) {
      return Bad(file, fmt::format("{} \"{}\" is there twice", what, name));
    }
  }
  into.merge(entries);
  return absl::OkStatus();
}

absl::Status MergeFile(const std::string& file, Merged& merged) {
  const absl::StatusOr<std::string> text = ReadFile(file);
  if (!text.ok()) return text.status();
  const YAML::Node root = YAML::Load(*text);
  merged.files += (merged.files.empty() ? "" : ":") + file;
  if (root.IsNull()) return absl::OkStatus();
  if (!root.IsMap()) return Bad(file, "not a kubeconfig");
  for (const absl::Status& status :
       {MergeList(root, "clusters", "cluster", file, merged.clusters),
        MergeList(root, "users", "user", file, merged.users),
        MergeList(root, "contexts", "context", file, merged.contexts)}) {
    if (!status.ok()) return status;
  }
  if (merged.current_context.empty()) merged.current_context = String(root, "current-context");
  return absl::OkStatus();
}

// One map of a kubeconfig and the paths in it.
class Section {
 public:
  Section(const Entry& entry, std::string_view what, const std::string& name)
      : node_(entry.node),
        folder_(std::filesystem::path(entry.file).parent_path()),
        where_(fmt::format("{}: {} \"{}\"", entry.file, what, name)) {}

  bool Has(const char* key) const { return node_[key] && !node_[key].IsNull(); }
  std::string Get(const char* key) const { return String(node_, key); }
  bool Flag(const char* key) const { return Has(key) && node_[key].as<bool>(); }
  std::string Path(const char* key) const {
    const std::string path = Get(key);
    return path.empty() ? "" : (folder_ / path).string();  // an absolute one stays
  }
  absl::Status GetText(const std::string& key, Text& text) const {
    text.path = Path(key.c_str());
    const std::string data = Get((key + "-data").c_str());
    if (absl::Base64Unescape(data, &text.inlined)) return absl::OkStatus();
    return Error(key + "-data is not base64");
  }
  const YAML::Node& node() const { return node_; }
  absl::Status Error(std::string_view what) const { return Bad(where_, what); }
  const std::string& where() const { return where_; }

 private:
  const YAML::Node node_;
  const std::filesystem::path folder_;
  const std::string where_;
};

// Of a URL that begins with http:// or https://: whether paths may be added to it.
bool IsServer(std::string_view url) {
  if (url.find_first_of("?# \t\r\n") != url.npos) return false;
  url = url.substr(std::string_view(url.starts_with("https") ? "https://" : "http://").size());
  const std::string authority(url.substr(0, url.find('/')));
  auto address = ParseHostPort(authority);
  if (!address.ok()) address = ParseHostPort(authority + ":443");
  return address.ok() && address->port != 0;
}

absl::Status ReadCluster(const Section& cluster, Source& source) {
  source.server = cluster.Get("server");
  source.server.erase(source.server.find_last_not_of('/') + 1);
  if (!absl::StartsWith(source.server, "https://") && !absl::StartsWith(source.server, "http://")) {
    return cluster.Error("server must begin with https:// or http://");
  }
  // It is named in logs and metrics.
  if (absl::StrContains(source.server, '@')) {
    return cluster.Error("server must not hold a password; the user's username and password may");
  }
  if (!IsServer(source.server)) {
    return cluster.Error("server must be https://HOST[:PORT][/PREFIX] without spaces or a query");
  }
  source.proxy = cluster.Get("proxy-url");
  if (!source.proxy.empty() && !absl::StartsWith(source.proxy, "http://") &&
      !absl::StartsWith(source.proxy, "https://") && !absl::StartsWith(source.proxy, "socks5://")) {
    return cluster.Error("proxy-url must begin with http://, https:// or socks5://");
  }
  // Go's net/http lets the proxy resolve the name with either; libcurl resolves it here with
  // socks5.
  if (absl::StartsWith(source.proxy, "socks5://")) source.proxy.insert(6, "h");
  source.server_name = cluster.Get("tls-server-name");
  source.insecure = cluster.Flag("insecure-skip-tls-verify");
  if (absl::Status status = cluster.GetText("certificate-authority", source.ca); !status.ok()) {
    return status;
  }
  if (source.insecure && !source.ca.empty()) {
    return cluster.Error("certificate-authority and insecure-skip-tls-verify exclude each other");
  }
  return absl::OkStatus();
}

absl::Status ReadImpersonation(const Section& user, Source& source) {
  auto add = [&source](const std::string& name, const std::string& value) {
    source.headers.push_back(fmt::format("Impersonate-{}: {}", name, value));
  };
  if (!user.Has("as")) {
    for (const char* key : {"as-uid", "as-groups", "as-user-extra"}) {
      if (user.Has(key)) return user.Error(fmt::format("{} needs \"as\"", key));
    }
    return absl::OkStatus();
  }
  add("User", user.Get("as"));
  if (user.Has("as-uid")) add("Uid", user.Get("as-uid"));
  for (const YAML::Node& group : user.node()["as-groups"]) add("Group", group.as<std::string>());
  for (const auto& extra : user.node()["as-user-extra"]) {
    const std::string key = absl::AsciiStrToLower(extra.first.as<std::string>());
    for (const YAML::Node& value : extra.second) {
      add("Extra-" + PercentEncode(key), value.as<std::string>());
    }
  }
  return absl::OkStatus();
}

absl::Status ReadUser(const Section& user, Source& source) {
  for (const char* plugin : {"exec", "auth-provider"}) {
    if (!user.Has(plugin)) continue;
    return absl::UnimplementedError(
        fmt::format("{} logs in with a plugin ({}), which snapkeeper does not run: give it a "
                    "service account's token (token, tokenFile) or a "
                    "client certificate",
                    user.where(), plugin));
  }
  for (auto [key, text] : {std::pair("client-certificate", &source.client_cert),
                           std::pair("client-key", &source.client_key)}) {
    if (absl::Status status = user.GetText(key, *text); !status.ok()) return status;
  }
  if (source.client_cert.empty() != source.client_key.empty()) {
    return user.Error("client-certificate and client-key need each other");
  }
  source.token.path = user.Path("tokenFile");
  source.token.inlined = user.Get("token");
  const std::string username = user.Get("username");
  if (!username.empty()) {
    if (!source.token.empty()) return user.Error("token and username exclude each other");
    source.headers.push_back("Authorization: Basic " +
                             absl::Base64Escape(username + ":" + user.Get("password")));
  }
  const bool secrets = !source.token.empty() || !username.empty() || !source.client_cert.empty();
  if (secrets && absl::StartsWith(source.server, "http://")) {
    return user.Error("its credentials would go over http:// in the clear; use an https:// server");
  }
  return ReadImpersonation(user, source);
}

absl::StatusOr<Source> Resolve(const Merged& merged) {
  auto missing = [&merged](std::string_view what, const std::string& name) {
    return Bad(merged.files, fmt::format("{} \"{}\" is not there", what, name));
  };
  if (merged.current_context.empty()) return Bad(merged.files, "no current-context");
  const auto context = merged.contexts.find(merged.current_context);
  if (context == merged.contexts.end()) return missing("context", merged.current_context);

  Source source;
  source.origin = fmt::format("kubeconfig {}, context {}", merged.files, merged.current_context);
  if (std::string ns = String(context->second.node, "namespace"); !ns.empty()) source.ns = ns;
  const std::string cluster_name = String(context->second.node, "cluster");
  const auto cluster = merged.clusters.find(cluster_name);
  if (cluster == merged.clusters.end()) return missing("cluster", cluster_name);
  absl::Status status = ReadCluster(Section(cluster->second, "cluster", cluster_name), source);
  if (!status.ok()) return status;
  const std::string user_name = String(context->second.node, "user");
  if (user_name.empty()) return source;
  const auto user = merged.users.find(user_name);
  if (user == merged.users.end()) return missing("user", user_name);
  status = ReadUser(Section(user->second, "user", user_name), source);
  if (!status.ok()) return status;
  return source;
}

absl::StatusOr<Source> FromFiles(const std::vector<std::string>& files, bool skip_missing) {
  Merged merged;
  std::string file;
  try {
    for (const std::string& next : files) {
      file = next;
      const absl::Status status = MergeFile(file, merged);
      if (!status.ok() && !(skip_missing && absl::IsNotFound(status))) return status;
    }
    file = merged.files;
    if (!file.empty()) return Resolve(merged);
  } catch (const YAML::Exception& e) {
    return Bad(file, e.what());
  }
  return absl::NotFoundError(
      fmt::format("no kubeconfig: --kubeconfig is not given, this is not a pod, and there is no {}",
                  fmt::join(files, " or ")));
}

absl::StatusOr<Source> InCluster(const KubeConfig::Environment& environment) {
  Source source;
  source.origin = "service account of the pod";
  const bool ipv6 = absl::StrContains(environment.service_host, ":");
  source.server = fmt::format("https://{}{}{}:{}", ipv6 ? "[" : "", environment.service_host,
                              ipv6 ? "]" : "", environment.service_port);
  source.ca.path = environment.service_account + "/ca.crt";
  source.token.path = environment.service_account + "/token";
  const absl::StatusOr<std::string> ns = ReadFile(environment.service_account + "/namespace");
  if (ns.ok()) source.ns = std::string(absl::StripAsciiWhitespace(*ns));
  return source;
}

}  // namespace

KubeConfig::Environment KubeConfig::ProcessEnvironment() {
  auto get = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  Environment environment;
  environment.kubeconfig = get("KUBECONFIG");
  environment.home = get("HOME");
  environment.service_host = get("KUBERNETES_SERVICE_HOST");
  environment.service_port = get("KUBERNETES_SERVICE_PORT");
  return environment;
}

absl::StatusOr<std::unique_ptr<KubeConfig>> KubeConfig::Load(const std::string& path,
                                                             const Environment& environment,
                                                             Log& log) {
  absl::StatusOr<Source> source;
  if (!path.empty()) {
    source = FromFiles({path}, /*skip_missing=*/false);
  } else if (!environment.service_host.empty() && !environment.service_port.empty()) {
    source = InCluster(environment);
  } else if (!environment.kubeconfig.empty()) {
    source = FromFiles(absl::StrSplit(environment.kubeconfig, ':', absl::SkipEmpty()),
                       /*skip_missing=*/true);
  } else {
    source = FromFiles({environment.home + "/.kube/config"}, /*skip_missing=*/true);
  }
  if (!source.ok()) return source.status();
  for (const std::string& header : source->headers) {
    if (std::any_of(header.begin(), header.end(), absl::ascii_iscntrl)) {
      return Bad(source->origin, "an impersonation name or a password holds a control character");
    }
  }
  std::unique_ptr<KubeConfig> config(new KubeConfig(*std::move(source), log));
  if (absl::Status status = config->Read(); !status.ok()) {
    return Bad(config->origin(), std::string(status.message()));
  }
  return config;
}

KubeConfig::KubeConfig(Source source, Log& log) : source_(std::move(source)), log_(log) {
  current_.server = source_.server;
  current_.proxy = source_.proxy;
  current_.headers = source_.headers;
  if (absl::StartsWith(source_.server, "https://")) {
    TlsSettings tls;
    tls.server_name = source_.server_name;
    tls.insecure_skip_verify = source_.insecure;
    current_.tls = std::make_shared<const TlsSettings>(tls);
  }
}

const Credentials& KubeConfig::Current(absl::Duration elapsed) {
  if (elapsed - read_at_ < kReadEvery) return current_;
  read_at_ = elapsed;
  const Credentials before = current_;
  const absl::Status status = Read();
  if (before.tls != current_.tls || before.headers != current_.headers) {
    log_.Info("credentials reloaded", {{"origin", source_.origin}});
  }
  if (!status.ok() && status.message() != last_error_) {
    log_.Warning("credentials not reloaded", {{"origin", source_.origin}, {"error", status}});
  }
  last_error_ = std::string(status.message());
  return current_;
}

absl::Status KubeConfig::Read() {
  absl::Status first_error;
  if (current_.tls) {
    TlsSettings tls = *current_.tls;
    first_error.Update(TakeCa(source_.ca, tls.ca_pem));
    first_error.Update(TakePair(source_.client_cert, source_.client_key, tls));
    if (tls != *current_.tls) current_.tls = std::make_shared<const TlsSettings>(std::move(tls));
  }
  first_error.Update(TakeToken(source_.token, token_));
  current_.headers = source_.headers;
  if (!token_.empty()) current_.headers.push_back("Authorization: Bearer " + token_);
  return first_error;
}

}  // namespace snapkeeper
