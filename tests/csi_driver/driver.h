#ifndef SNAPKEEPER_TESTS_CSI_DRIVER_DRIVER_H_
#define SNAPKEEPER_TESTS_CSI_DRIVER_DRIVER_H_

#include <functional>
#include <string>

#include "csi.grpc.pb.h"
#include "tests/csi_driver/control.h"
#include "tests/csi_driver/store.h"

namespace snapkeeper {

class IdentityService final : public csi::v1::Identity::Service {
 public:
  explicit IdentityService(std::string driver_name) : driver_name_(std::move(driver_name)) {}

  grpc::Status GetPluginInfo(grpc::ServerContext*, const csi::v1::GetPluginInfoRequest*,
                             csi::v1::GetPluginInfoResponse* response) override;
  grpc::Status GetPluginCapabilities(grpc::ServerContext*,
                                     const csi::v1::GetPluginCapabilitiesRequest*,
                                     csi::v1::GetPluginCapabilitiesResponse* response) override;
  grpc::Status Probe(grpc::ServerContext*, const csi::v1::ProbeRequest*,
                     csi::v1::ProbeResponse* response) override;

 private:
  const std::string driver_name_;
};

// The controller half of a CSI driver over a Store, as a Control tells it to behave. Calls run on
// gRPC's threads.
class ControllerService final : public csi::v1::Controller::Service {
 public:
  ControllerService(Store& store, Control& control) : store_(store), control_(control) {}

  grpc::Status CreateVolume(grpc::ServerContext* context,
                            const csi::v1::CreateVolumeRequest* request,
                            csi::v1::CreateVolumeResponse* response) override;
  grpc::Status DeleteVolume(grpc::ServerContext* context,
                            const csi::v1::DeleteVolumeRequest* request,
                            csi::v1::DeleteVolumeResponse* response) override;
  grpc::Status ValidateVolumeCapabilities(
      grpc::ServerContext* context, const csi::v1::ValidateVolumeCapabilitiesRequest* request,
      csi::v1::ValidateVolumeCapabilitiesResponse* response) override;
  grpc::Status ControllerGetCapabilities(
      grpc::ServerContext* context, const csi::v1::ControllerGetCapabilitiesRequest* request,
      csi::v1::ControllerGetCapabilitiesResponse* response) override;
  grpc::Status CreateSnapshot(grpc::ServerContext* context,
                              const csi::v1::CreateSnapshotRequest* request,
                              csi::v1::CreateSnapshotResponse* response) override;
  grpc::Status DeleteSnapshot(grpc::ServerContext* context,
                              const csi::v1::DeleteSnapshotRequest* request,
                              csi::v1::DeleteSnapshotResponse* response) override;
  grpc::Status ListSnapshots(grpc::ServerContext* context,
                             const csi::v1::ListSnapshotsRequest* request,
                             csi::v1::ListSnapshotsResponse* response) override;

 private:
  void Fill(const Snapshot& snapshot, const Behaviour& behaviour, csi::v1::Snapshot* out) const;

  Store& store_;
  Control& control_;
};

// There are no nodes; sidecars and the conformance tests ask all the same what this half can do:
// nothing.
class NodeService final : public csi::v1::Node::Service {
 public:
  grpc::Status NodeGetCapabilities(grpc::ServerContext*, const csi::v1::NodeGetCapabilitiesRequest*,
                                   csi::v1::NodeGetCapabilitiesResponse*) override {
    return grpc::Status::OK;
  }
  grpc::Status NodeUnpublishVolume(grpc::ServerContext*, const csi::v1::NodeUnpublishVolumeRequest*,
                                   csi::v1::NodeUnpublishVolumeResponse*) override {
    return grpc::Status::OK;
  }
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_TESTS_CSI_DRIVER_DRIVER_H_
