//! Messages that more than one service uses.

use super::Map;

messages! {
    /// Raw block access.
    BlockVolume {}

    /// Access through a file system.
    MountVolume {
        #[prost(string, tag = 1)]
        fs_type: String,
        #[prost(string, repeated, tag = 2)]
        mount_flags: Vec<String>,
        #[prost(string, tag = 3)]
        volume_mount_group: String,
    }

    /// Who may use a volume at once.
    AccessMode {
        #[prost(int32, tag = 1)]
        mode: i32,
    }

    /// How a volume is used: one of block and mount is there.
    VolumeCapability {
        #[prost(message, optional, tag = 1)]
        block: Option<BlockVolume>,
        #[prost(message, optional, tag = 2)]
        mount: Option<MountVolume>,
        #[prost(message, optional, tag = 3)]
        access_mode: Option<AccessMode>,
    }

    /// How large something is to be.
    CapacityRange {
        #[prost(int64, tag = 1)]
        required_bytes: i64,
        #[prost(int64, tag = 2)]
        limit_bytes: i64,
    }

    /// What a volume is a copy of: one of the two is there.
    VolumeContentSource {
        #[prost(message, optional, tag = 1)]
        snapshot: Option<SnapshotSource>,
        #[prost(message, optional, tag = 2)]
        volume: Option<VolumeSource>,
    }

    /// A snapshot as a source.
    SnapshotSource {
        #[prost(string, tag = 1)]
        snapshot_id: String,
    }

    /// A volume as a source.
    VolumeSource {
        #[prost(string, tag = 1)]
        volume_id: String,
    }

    /// A place in the cluster.
    Topology {
        #[prost(btree_map = "string, string", tag = 1)]
        segments: Map,
    }

    /// Where a volume must or should be.
    TopologyRequirement {
        #[prost(message, repeated, tag = 1)]
        requisite: Vec<Topology>,
        #[prost(message, repeated, tag = 2)]
        preferred: Vec<Topology>,
    }

    /// A volume.
    Volume {
        #[prost(int64, tag = 1)]
        capacity_bytes: i64,
        #[prost(string, tag = 2)]
        volume_id: String,
        #[prost(btree_map = "string, string", tag = 3)]
        volume_context: Map,
        #[prost(message, optional, tag = 4)]
        content_source: Option<VolumeContentSource>,
        #[prost(message, repeated, tag = 5)]
        accessible_topology: Vec<Topology>,
    }

    /// A snapshot.
    Snapshot {
        #[prost(int64, tag = 1)]
        size_bytes: i64,
        #[prost(string, tag = 2)]
        snapshot_id: String,
        #[prost(string, tag = 3)]
        source_volume_id: String,
        #[prost(message, optional, tag = 4)]
        creation_time: Option<Timestamp>,
        #[prost(bool, tag = 5)]
        ready_to_use: bool,
        #[prost(string, tag = 6)]
        group_snapshot_id: String,
    }

    /// A moment (`google.protobuf.Timestamp`).
    Timestamp {
        #[prost(int64, tag = 1)]
        seconds: i64,
        #[prost(int32, tag = 2)]
        nanos: i32,
    }

    /// One thing that a service can do.
    ServiceCapability {
        #[prost(message, optional, tag = 1)]
        rpc: Option<ServiceRpc>,
    }

    /// A call that a service answers.
    ServiceRpc {
        #[prost(int32, tag = 1)]
        r#type: i32,
    }
}
