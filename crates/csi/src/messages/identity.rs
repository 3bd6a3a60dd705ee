//! Messages of the identity service.

use super::Map;

messages! {
    /// Asks who the driver is.
    GetPluginInfoRequest {}

    /// Who the driver is.
    GetPluginInfoResponse {
        #[prost(string, tag = 1)]
        name: String,
        #[prost(string, tag = 2)]
        vendor_version: String,
        #[prost(btree_map = "string, string", tag = 3)]
        manifest: Map,
    }

    /// Asks what the driver is.
    GetPluginCapabilitiesRequest {}

    /// What the driver is.
    GetPluginCapabilitiesResponse {
        #[prost(message, repeated, tag = 1)]
        capabilities: Vec<PluginCapability>,
    }

    /// One thing that the driver is: one of the two is there.
    PluginCapability {
        #[prost(message, optional, tag = 1)]
        service: Option<PluginService>,
        #[prost(message, optional, tag = 2)]
        volume_expansion: Option<PluginExpansion>,
    }

    /// A service of the driver.
    PluginService {
        #[prost(int32, tag = 1)]
        r#type: i32,
    }

    /// When volumes can grow.
    PluginExpansion {
        #[prost(int32, tag = 1)]
        r#type: i32,
    }

    /// Asks whether the driver works.
    ProbeRequest {}

    /// Whether the driver works.
    ProbeResponse {
        #[prost(message, optional, tag = 1)]
        ready: Option<BoolValue>,
    }

    /// A truth that may be missing (`google.protobuf.BoolValue`).
    BoolValue {
        #[prost(bool, tag = 1)]
        value: bool,
    }
}
