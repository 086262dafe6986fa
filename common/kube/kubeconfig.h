#ifndef SNAPKEEPER_COMMON_KUBE_KUBECONFIG_H_
#define SNAPKEEPER_COMMON_KUBE_KUBECONFIG_H_

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/http/transport.h"

namespace snapkeeper {

// Where the API server is and how to present oneself to it.
struct Credentials {
  std::string server;  // "https://HOST[:PORT][/PREFIX]", without a slash at its end
  std::string proxy;
  std::shared_ptr<const TlsSettings>
      tls;                           // null for http://; the same object while it says the same
  std::vector<std::string> headers;  // "Name: value": authorization and impersonation
};

// A kubeconfig context or the pod's service account (client-go tools/clientcmd,
// rest.InClusterConfig), with the files that it names read again as they change.
//
// From kubeconfigs: server, certificate-authority, insecure-skip-tls-verify, tls-server-name,
// proxy-url (http, https, socks5); client-certificate with client-key, token, tokenFile (which wins
// over token as soon as it can be read), username with password, as, as-uid, as-groups,
// as-user-extra; *-data before the path form; relative paths from the folder of the file that has
// them. Refused: exec and auth-provider plugins (Unimplemented: a daemon has nobody to log in),
// credentials over http:// or in the server's URL, a CA together with insecure-skip-tls-verify,
// encrypted keys. The proxies of the environment are not used. Errors name the file and the entry,
// never a secret.
//
// Owned by main(). Loop thread only; reading small files blocks it for microseconds.
class KubeConfig {
 public:
  struct Environment {
    std::string kubeconfig, home;            // $KUBECONFIG, $HOME
    std::string service_host, service_port;  // $KUBERNETES_SERVICE_HOST, _PORT: set in every pod
    std::string service_account = "/var/run/secrets/kubernetes.io/serviceaccount";
  };
  static Environment ProcessEnvironment();

  // The first of: the file `path`, if it is not ""; the pod's service account, in a pod; the files
  // listed in $KUBECONFIG, merged (the first that has an entry wins, missing ones are skipped);
  // ~/.kube/config.
  static absl::StatusOr<std::unique_ptr<KubeConfig>> Load(const std::string& path,
                                                          const Environment& environment, Log& log);

  // As of `elapsed` (EventLoop::Elapsed). Files are read again at most every ten seconds, or at
  // once after ReadAgain(). What cannot be used is logged once, and the last good one stays.
  const Credentials& Current(absl::Duration elapsed);
  // The server refused us, or was not reached: maybe the files have changed.
  void ReadAgain() { read_at_ = -absl::InfiniteDuration(); }

  // The context's namespace, or the service account's; "default" where there is none.
  const std::string& ns() const { return source_.ns; }
  // For the log: "kubeconfig FILE, context NAME", "service account of the pod".
  const std::string& origin() const { return source_.origin; }

  // What was configured: implementation of Load.
  struct Text {
    std::string inlined, path;  // inlined wins
    bool empty() const { return inlined.empty() && path.empty(); }
  };
  struct Source {
    std::string origin;
    std::string server, proxy, ns = "default";
    std::string server_name;
    bool insecure = false;
    Text ca, client_cert, client_key, token;
    std::vector<std::string> headers;  // the constant ones
  };

 private:
  KubeConfig(Source source, Log& log);
  // Takes over each part that can be read and used; answers the first error.
  absl::Status Read();

  const Source source_;
  Log& log_;
  absl::Duration read_at_ = -absl::InfiniteDuration();
  std::string token_;
  Credentials current_;
  std::string last_error_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_KUBE_KUBECONFIG_H_
