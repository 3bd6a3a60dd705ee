//! Messages of the controller service.

use super::{
    CapacityRange, Map, ServiceCapability, Snapshot, Topology, TopologyRequirement, Volume,
    VolumeCapability, VolumeContentSource,
};

messages! {
    /// The volume that was made, or was there.
    CreateVolumeResponse {
        #[prost(message, optional, tag = 1)]
        volume: Option<Volume>,
    }

    /// The volume is gone.
    DeleteVolumeResponse {}

    /// Whether a volume can be used so.
    ValidateVolumeCapabilitiesResponse {
        #[prost(message, optional, tag = 1)]
        confirmed: Option<Confirmed>,
        #[prost(string, tag = 2)]
        message: String,
    }

    /// How a volume can be used.
    Confirmed {
        #[prost(btree_map = "string, string", tag = 1)]
        volume_context: Map,
        #[prost(message, repeated, tag = 2)]
        volume_capabilities: Vec<VolumeCapability>,
        #[prost(btree_map = "string, string", tag = 3)]
        parameters: Map,
        #[prost(btree_map = "string, string", tag = 4)]
        mutable_parameters: Map,
    }

    /// Asks for volumes.
    ListVolumesRequest {
        #[prost(int32, tag = 1)]
        max_entries: i32,
        #[prost(string, tag = 2)]
        starting_token: String,
    }

    /// A page of volumes.
    ListVolumesResponse {
        #[prost(message, repeated, tag = 1)]
        entries: Vec<VolumeEntry>,
        #[prost(string, tag = 2)]
        next_token: String,
    }

    /// A volume of a page.
    VolumeEntry {
        #[prost(message, optional, tag = 1)]
        volume: Option<Volume>,
    }

    /// Asks for room.
    GetCapacityRequest {
        #[prost(message, repeated, tag = 1)]
        volume_capabilities: Vec<VolumeCapability>,
        #[prost(btree_map = "string, string", tag = 2)]
        parameters: Map,
        #[prost(message, optional, tag = 3)]
        accessible_topology: Option<Topology>,
    }

    /// How much room there is.
    GetCapacityResponse {
        #[prost(int64, tag = 1)]
        available_capacity: i64,
    }

    /// Asks what the controller can do.
    ControllerGetCapabilitiesRequest {}

    /// What the controller can do.
    ControllerGetCapabilitiesResponse {
        #[prost(message, repeated, tag = 1)]
        capabilities: Vec<ServiceCapability>,
    }

    /// The snapshot that was made, or was there.
    CreateSnapshotResponse {
        #[prost(message, optional, tag = 1)]
        snapshot: Option<Snapshot>,
    }

    /// The snapshot is gone.
    DeleteSnapshotResponse {}

    /// A page of snapshots.
    ListSnapshotsResponse {
        #[prost(message, repeated, tag = 1)]
        entries: Vec<SnapshotEntry>,
        #[prost(string, tag = 2)]
        next_token: String,
    }

    /// A snapshot of a page.
    SnapshotEntry {
        #[prost(message, optional, tag = 1)]
        snapshot: Option<Snapshot>,
    }

    /// A snapshot.
    GetSnapshotResponse {
        #[prost(message, optional, tag = 1)]
        snapshot: Option<Snapshot>,
    }

    /// How large the volume is now.
    ControllerExpandVolumeResponse {
        #[prost(int64, tag = 1)]
        capacity_bytes: i64,
        #[prost(bool, tag = 2)]
        node_expansion_required: bool,
    }

    /// Asks for a volume.
    ControllerGetVolumeRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
    }

    /// A volume.
    ControllerGetVolumeResponse {
        #[prost(message, optional, tag = 1)]
        volume: Option<Volume>,
        #[prost(message, optional, tag = 2)]
        status: Option<VolumeStatus>,
    }

    /// Where a volume is published.
    VolumeStatus {
        #[prost(string, repeated, tag = 1)]
        published_node_ids: Vec<String>,
    }

    /// The volume was changed.
    ControllerModifyVolumeResponse {}
}

secret_messages! {
    /// Asks for a new volume.
    CreateVolumeRequest {
        #[prost(string, tag = 1)]
        name: String,
        #[prost(message, optional, tag = 2)]
        capacity_range: Option<CapacityRange>,
        #[prost(message, repeated, tag = 3)]
        volume_capabilities: Vec<VolumeCapability>,
        #[prost(btree_map = "string, string", tag = 4)]
        parameters: Map,
        #[prost(btree_map = "string, string", tag = 5)]
        secrets: Map,
        #[prost(message, optional, tag = 6)]
        volume_content_source: Option<VolumeContentSource>,
        #[prost(message, optional, tag = 7)]
        accessibility_requirements: Option<TopologyRequirement>,
        #[prost(btree_map = "string, string", tag = 8)]
        mutable_parameters: Map,
    }

    /// Asks to delete a volume.
    DeleteVolumeRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(btree_map = "string, string", tag = 2)]
        secrets: Map,
    }

    /// Asks whether a volume can be used so.
    ValidateVolumeCapabilitiesRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(btree_map = "string, string", tag = 2)]
        volume_context: Map,
        #[prost(message, repeated, tag = 3)]
        volume_capabilities: Vec<VolumeCapability>,
        #[prost(btree_map = "string, string", tag = 4)]
        parameters: Map,
        #[prost(btree_map = "string, string", tag = 5)]
        secrets: Map,
        #[prost(btree_map = "string, string", tag = 6)]
        mutable_parameters: Map,
    }

    /// Asks for a new snapshot.
    CreateSnapshotRequest {
        #[prost(string, tag = 1)]
        source_volume_id: String,
        #[prost(string, tag = 2)]
        name: String,
        #[prost(btree_map = "string, string", tag = 3)]
        secrets: Map,
        #[prost(btree_map = "string, string", tag = 4)]
        parameters: Map,
    }

    /// Asks to delete a snapshot.
    DeleteSnapshotRequest {
        #[prost(string, tag = 1)]
        snapshot_id: String,
        #[prost(btree_map = "string, string", tag = 2)]
        secrets: Map,
    }

    /// Asks for snapshots.
    ListSnapshotsRequest {
        #[prost(int32, tag = 1)]
        max_entries: i32,
        #[prost(string, tag = 2)]
        starting_token: String,
        #[prost(string, tag = 3)]
        source_volume_id: String,
        #[prost(string, tag = 4)]
        snapshot_id: String,
        #[prost(btree_map = "string, string", tag = 5)]
        secrets: Map,
    }

    /// Asks for a snapshot.
    GetSnapshotRequest {
        #[prost(string, tag = 1)]
        snapshot_id: String,
        #[prost(btree_map = "string, string", tag = 2)]
        secrets: Map,
    }

    /// Asks for a larger volume.
    ControllerExpandVolumeRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(message, optional, tag = 2)]
        capacity_range: Option<CapacityRange>,
        #[prost(btree_map = "string, string", tag = 3)]
        secrets: Map,
        #[prost(message, optional, tag = 4)]
        volume_capability: Option<VolumeCapability>,
    }

    /// Asks to change what can be changed.
    ControllerModifyVolumeRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(btree_map = "string, string", tag = 2)]
        secrets: Map,
        #[prost(btree_map = "string, string", tag = 3)]
        mutable_parameters: Map,
    }
}
