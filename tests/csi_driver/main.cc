// The tests' own CSI driver: the Identity and Controller services on a unix socket, volumes as
// directories. Killing it is how it ends: the state on disk is whole at every moment.

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "tests/csi_driver/control.h"
#include "tests/csi_driver/driver.h"
#include "tests/csi_driver/store.h"

int main(int argc, char** argv) {
  std::string endpoint, root, control_file;
  std::string name = "csi.snapkeeper.io";
  bool metadata_only = false;
  CLI::App app("A CSI driver over directories, for tests.");
  app.add_option("--endpoint", endpoint, "where to listen, unix:///PATH")->required();
  app.add_option("--state", root, "directory that holds the volumes and snapshots")->required();
  app.add_option("--control", control_file, "JSON file of switches; see control.h");
  app.add_option("--name", name, "driver name");
  app.add_flag("--metadata-only", metadata_only, "copy no files");
  CLI11_PARSE(app, argc, argv);

  snapkeeper::Store store(root, metadata_only);
  snapkeeper::Control control(control_file);
  snapkeeper::IdentityService identity(name);
  snapkeeper::ControllerService controller(store, control);
  snapkeeper::NodeService node;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(endpoint, grpc::InsecureServerCredentials());
  builder.RegisterService(&identity);
  builder.RegisterService(&controller);
  builder.RegisterService(&node);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server) {
    fmt::print(stderr, "cannot listen on {}\n", endpoint);
    return 1;
  }
  server->Wait();
}
