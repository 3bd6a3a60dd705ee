//! Messages of the node service.

use super::{CapacityRange, Map, ServiceCapability, Topology, VolumeCapability};

messages! {
    /// The volume is staged.
    NodeStageVolumeResponse {}

    /// Asks to undo the staging.
    NodeUnstageVolumeRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(string, tag = 2)]
        staging_target_path: String,
    }

    /// The volume is not staged.
    NodeUnstageVolumeResponse {}

    /// The volume is published.
    NodePublishVolumeResponse {}

    /// Asks to undo the publishing.
    NodeUnpublishVolumeRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(string, tag = 2)]
        target_path: String,
    }

    /// The volume is not published there.
    NodeUnpublishVolumeResponse {}

    /// Asks how full a volume is.
    NodeGetVolumeStatsRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(string, tag = 2)]
        volume_path: String,
        #[prost(string, tag = 3)]
        staging_target_path: String,
    }

    /// How full a volume is.
    NodeGetVolumeStatsResponse {
        #[prost(message, repeated, tag = 1)]
        usage: Vec<VolumeUsage>,
    }

    /// How much is used of something.
    VolumeUsage {
        #[prost(int64, tag = 1)]
        available: i64,
        #[prost(int64, tag = 2)]
        total: i64,
        #[prost(int64, tag = 3)]
        used: i64,
        #[prost(int32, tag = 4)]
        unit: i32,
    }

    /// How large the volume is now.
    NodeExpandVolumeResponse {
        #[prost(int64, tag = 1)]
        capacity_bytes: i64,
    }

    /// Asks what the node can do.
    NodeGetCapabilitiesRequest {}

    /// What the node can do.
    NodeGetCapabilitiesResponse {
        #[prost(message, repeated, tag = 1)]
        capabilities: Vec<ServiceCapability>,
    }

    /// Asks which node this is.
    NodeGetInfoRequest {}

    /// Which node this is.
    NodeGetInfoResponse {
        #[prost(string, tag = 1)]
        node_id: String,
        #[prost(int64, tag = 2)]
        max_volumes_per_node: i64,
        #[prost(message, optional, tag = 3)]
        accessible_topology: Option<Topology>,
    }
}

secret_messages! {
    /// Asks to stage a volume.
    NodeStageVolumeRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(btree_map = "string, string", tag = 2)]
        publish_context: Map,
        #[prost(string, tag = 3)]
        staging_target_path: String,
        #[prost(message, optional, tag = 4)]
        volume_capability: Option<VolumeCapability>,
        #[prost(btree_map = "string, string", tag = 5)]
        secrets: Map,
        #[prost(btree_map = "string, string", tag = 6)]
        volume_context: Map,
    }

    /// Asks to publish a volume.
    NodePublishVolumeRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(btree_map = "string, string", tag = 2)]
        publish_context: Map,
        #[prost(string, tag = 3)]
        staging_target_path: String,
        #[prost(string, tag = 4)]
        target_path: String,
        #[prost(message, optional, tag = 5)]
        volume_capability: Option<VolumeCapability>,
        #[prost(bool, tag = 6)]
        readonly: bool,
        #[prost(btree_map = "string, string", tag = 7)]
        secrets: Map,
        #[prost(btree_map = "string, string", tag = 8)]
        volume_context: Map,
    }

    /// Asks to let a volume grow that is staged.
    NodeExpandVolumeRequest {
        #[prost(string, tag = 1)]
        volume_id: String,
        #[prost(string, tag = 2)]
        volume_path: String,
        #[prost(message, optional, tag = 3)]
        capacity_range: Option<CapacityRange>,
        #[prost(string, tag = 4)]
        staging_target_path: String,
        #[prost(message, optional, tag = 5)]
        volume_capability: Option<VolumeCapability>,
        #[prost(btree_map = "string, string", tag = 6)]
        secrets: Map,
    }
}
