#ifndef SNAPKEEPER_SIMULATOR_HTTP_API_H_
#define SNAPKEEPER_SIMULATOR_HTTP_API_H_

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/event_loop.h"
#include "common/http/server.h"
#include "simulator/simulator.h"

namespace snapkeeper {

// The simulator over plain HTTP, as a kube-apiserver 1.36 would answer: a current kubectl works
// against it, and so does KubeClient.
//
// What it has: discovery (aggregated and not), OpenAPI v3 (v2 is empty), get and list (pages,
// selectors, tables), watch (bookmarks, tables, initial events), create, update, patch (merge,
// JSON; strategic merge of core kinds; apply as an upsert without field owners), delete and delete
// of a collection, the status subresource, dry runs, fieldValidation=Strict of custom resources. No
// authentication: the name of the program in User-Agent counts as the user. Pods and StorageClasses
// are there to be read only.
//
// Besides, for faults at run time:
// - GET /simulator/classes/NAME: the behaviour of a VolumeSnapshotClass (simulator/behaviour.h);
//   PUT changes the fields it names.
// - GET /simulator/volumes/NS/CLAIM: {"data": N}, the content of a volume; POST writes to it once.
// - GET /simulator/snapshots/NS/NAME: {"data": N}, the content of a snapshot.
// - POST /simulator/expire: forgets the history; watches from the past are 410.
//
// The store must keep text (StoreOptions::keep_text). Requests are handled on the loop, which must
// be turned; made and destroyed on the loop's thread or while nobody turns it.
class HttpApi {
 public:
  static absl::StatusOr<std::unique_ptr<HttpApi>> Listen(EventLoop& loop, Simulator& simulator,
                                                         std::string_view address);
  ~HttpApi();

  // HOST:PORT as bound.
  std::string address() const;

 private:
  class Core;

  HttpApi(std::shared_ptr<Core> core, std::unique_ptr<HttpServer> server);

  std::shared_ptr<Core> core_;  // requests on their way to the loop hold it weakly
  std::unique_ptr<HttpServer> server_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_SIMULATOR_HTTP_API_H_
