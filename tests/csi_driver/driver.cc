#include "tests/csi_driver/driver.h"

#include <absl/time/clock.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string_view>
#include <vector>

namespace snapkeeper {
namespace {

constexpr int64_t kDefaultBytes = 1 << 20;
constexpr absl::Duration kCancelPoll = absl::Milliseconds(10);

// Behaves as told, then does `work`; one line on stderr for each call.
grpc::Status Run(std::string_view method, const std::string& id, const Behaviour& behaviour,
                 grpc::ServerContext* context, const std::function<absl::Status()>& work) {
  absl::Status status = behaviour.failure;
  const absl::Time until = absl::Now() + behaviour.delay;
  while (absl::Now() < until && !context->IsCancelled()) absl::SleepFor(kCancelPoll);
  if (context->IsCancelled()) {
    status = absl::CancelledError("the caller left");
  } else if (status.ok()) {
    try {
      status = work();
    } catch (const std::exception& error) {
      status = absl::InternalError(error.what());
    }
  }
  fmt::print(stderr, "{} {} {}: {}\n", absl::FormatTime(absl::Now(), absl::UTCTimeZone()), method,
             id, status.ToString());
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

// Ids become file names, so they must be harmless ones.
absl::Status CheckId(std::string_view what, std::string_view id) {
  if (id.empty()) return absl::InvalidArgumentError(fmt::format("{} is missing", what));
  const bool harmless =
      id.size() <= 128 && id.front() != '.' && std::all_of(id.begin(), id.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '.' || c == '_';
      });
  if (harmless) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} must match [A-Za-z0-9_-][A-Za-z0-9._-]{{0,127}}", what));
}

}  // namespace

grpc::Status IdentityService::GetPluginInfo(grpc::ServerContext*,
                                            const csi::v1::GetPluginInfoRequest*,
                                            csi::v1::GetPluginInfoResponse* response) {
  response->set_name(driver_name_);
  response->set_vendor_version(SNAPKEEPER_VERSION);
  return grpc::Status::OK;
}

grpc::Status IdentityService::GetPluginCapabilities(
    grpc::ServerContext*, const csi::v1::GetPluginCapabilitiesRequest*,
    csi::v1::GetPluginCapabilitiesResponse* response) {
  response->add_capabilities()->mutable_service()->set_type(
      csi::v1::PluginCapability::Service::CONTROLLER_SERVICE);
  return grpc::Status::OK;
}

grpc::Status IdentityService::Probe(grpc::ServerContext*, const csi::v1::ProbeRequest*,
                                    csi::v1::ProbeResponse* response) {
  response->mutable_ready()->set_value(true);
  return grpc::Status::OK;
}

grpc::Status ControllerService::CreateVolume(grpc::ServerContext* context,
                                             const csi::v1::CreateVolumeRequest* request,
                                             csi::v1::CreateVolumeResponse* response) {
  return Run(
      "CreateVolume", request->name(), control_.Find("CreateVolume", request->name()), context,
      [&] {
        if (absl::Status status = CheckId("name", request->name()); !status.ok()) return status;
        if (request->volume_capabilities().empty())
          return absl::InvalidArgumentError("volume_capabilities is missing");
        const csi::v1::CapacityRange& range = request->capacity_range();
        Volume wanted{request->name(), std::max(range.required_bytes(), kDefaultBytes), ""};
        if (range.limit_bytes() > 0 && range.limit_bytes() < wanted.bytes) {
          return absl::OutOfRangeError(fmt::format("at least {} bytes are needed", wanted.bytes));
        }
        if (request->volume_content_source().has_snapshot()) {
          wanted.source = "snapshots/" + request->volume_content_source().snapshot().snapshot_id();
        } else if (request->volume_content_source().has_volume()) {
          wanted.source = "volumes/" + request->volume_content_source().volume().volume_id();
        }
        absl::StatusOr<Volume> volume = store_.CreateVolume(wanted);
        if (!volume.ok()) return volume.status();
        response->mutable_volume()->set_volume_id(volume->id);
        response->mutable_volume()->set_capacity_bytes(volume->bytes);
        if (request->has_volume_content_source()) {
          *response->mutable_volume()->mutable_content_source() = request->volume_content_source();
        }
        return absl::OkStatus();
      });
}

grpc::Status ControllerService::DeleteVolume(grpc::ServerContext* context,
                                             const csi::v1::DeleteVolumeRequest* request,
                                             csi::v1::DeleteVolumeResponse*) {
  const std::string& id = request->volume_id();
  return Run("DeleteVolume", id, control_.Find("DeleteVolume", id), context, [&] {
    if (absl::Status status = CheckId("volume_id", id); !status.ok()) return status;
    return store_.DeleteVolume(id);
  });
}

grpc::Status ControllerService::ValidateVolumeCapabilities(
    grpc::ServerContext* context, const csi::v1::ValidateVolumeCapabilitiesRequest* request,
    csi::v1::ValidateVolumeCapabilitiesResponse* response) {
  return Run("ValidateVolumeCapabilities", request->volume_id(), Behaviour(), context, [&] {
    if (absl::Status status = CheckId("volume_id", request->volume_id()); !status.ok())
      return status;
    if (request->volume_capabilities().empty())
      return absl::InvalidArgumentError("volume_capabilities is missing");
    if (!store_.FindVolume(request->volume_id())) {
      return absl::NotFoundError(fmt::format("no volume {}", request->volume_id()));
    }
    *response->mutable_confirmed()->mutable_volume_capabilities() = request->volume_capabilities();
    return absl::OkStatus();
  });
}

grpc::Status ControllerService::ControllerGetCapabilities(
    grpc::ServerContext*, const csi::v1::ControllerGetCapabilitiesRequest*,
    csi::v1::ControllerGetCapabilitiesResponse* response) {
  using Rpc = csi::v1::ControllerServiceCapability::RPC;
  for (Rpc::Type type : {Rpc::CREATE_DELETE_VOLUME, Rpc::CREATE_DELETE_SNAPSHOT,
                         Rpc::LIST_SNAPSHOTS, Rpc::CLONE_VOLUME}) {
    response->add_capabilities()->mutable_rpc()->set_type(type);
  }
  return grpc::Status::OK;
}

grpc::Status ControllerService::CreateSnapshot(grpc::ServerContext* context,
                                               const csi::v1::CreateSnapshotRequest* request,
                                               csi::v1::CreateSnapshotResponse* response) {
  const Behaviour behaviour = control_.Find("CreateSnapshot", request->source_volume_id());
  return Run("CreateSnapshot", request->name(), behaviour, context, [&] {
    if (absl::Status status = CheckId("name", request->name()); !status.ok()) return status;
    if (absl::Status status = CheckId("source_volume_id", request->source_volume_id());
        !status.ok())
      return status;
    absl::StatusOr<Snapshot> snapshot =
        store_.CreateSnapshot(request->name(), request->source_volume_id(), absl::Now());
    if (!snapshot.ok()) return snapshot.status();
    Fill(*snapshot, behaviour, response->mutable_snapshot());
    return absl::OkStatus();
  });
}

grpc::Status ControllerService::DeleteSnapshot(grpc::ServerContext* context,
                                               const csi::v1::DeleteSnapshotRequest* request,
                                               csi::v1::DeleteSnapshotResponse*) {
  const std::string& id = request->snapshot_id();
  absl::Status valid = CheckId("snapshot_id", id);
  std::optional<Snapshot> snapshot;
  if (valid.ok()) snapshot = store_.FindSnapshot(id);
  return Run("DeleteSnapshot", id,
             control_.Find("DeleteSnapshot", snapshot ? snapshot->volume : ""), context, [&] {
               if (!valid.ok()) return valid;
               return store_.DeleteSnapshot(id);
             });
}

grpc::Status ControllerService::ListSnapshots(grpc::ServerContext* context,
                                              const csi::v1::ListSnapshotsRequest* request,
                                              csi::v1::ListSnapshotsResponse* response) {
  return Run("ListSnapshots", request->snapshot_id(), Behaviour(), context, [&] {
    std::vector<Snapshot> snapshots = store_.Snapshots();
    std::erase_if(snapshots, [request](const Snapshot& snapshot) {
      return (!request->snapshot_id().empty() && snapshot.id != request->snapshot_id()) ||
             (!request->source_volume_id().empty() &&
              snapshot.volume != request->source_volume_id());
    });
    // A page's token is the id that it begins with.
    auto begin = snapshots.begin();
    if (const std::string& token = request->starting_token(); !token.empty()) {
      begin = std::find_if(snapshots.begin(), snapshots.end(),
                           [&token](const Snapshot& s) { return s.id == token; });
      if (begin == snapshots.end())
        return absl::AbortedError("starting_token names no snapshot; begin again");
    }
    auto end = snapshots.end();
    if (request->max_entries() > 0 && request->max_entries() < end - begin) {
      end = begin + request->max_entries();
      response->set_next_token(end->id);
    }
    for (auto it = begin; it != end; ++it) {
      Fill(*it, control_.Find("CreateSnapshot", it->volume, /*count=*/false),
           response->add_entries()->mutable_snapshot());
    }
    return absl::OkStatus();
  });
}

void ControllerService::Fill(const Snapshot& snapshot, const Behaviour& behaviour,
                             csi::v1::Snapshot* out) const {
  out->set_snapshot_id(snapshot.id);
  out->set_source_volume_id(snapshot.volume);
  out->set_size_bytes(snapshot.bytes);
  out->set_ready_to_use(absl::Now() >= snapshot.cut + behaviour.ready_after);
  if (!behaviour.omit_creation_time) {
    const int64_t nanos = absl::ToUnixNanos(snapshot.cut);
    out->mutable_creation_time()->set_seconds(nanos / 1'000'000'000);
    out->mutable_creation_time()->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  }
}

}  // namespace snapkeeper
