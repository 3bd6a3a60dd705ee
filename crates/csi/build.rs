//! Makes the glue between the services of CSI (package `csi.v1`) and our messages.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    Builder::new().build_client(false).compile(&[
        service("Identity", IDENTITY),
        service("Controller", CONTROLLER),
        service("Node", NODE),
    ]);
}

/// Returns a service with these methods: our name, and the one that CSI gives it.
fn service(name: &str, methods: &[(&str, &str)]) -> Service {
    let service = Service::builder().name(name).package("csi.v1");
    let service = methods.iter().fold(service, |service, (ours, theirs)| {
        let method = Method::builder()
            .name(*ours)
            .route_name(*theirs)
            .input_type(format!("crate::messages::{theirs}Request"))
            .output_type(format!("crate::messages::{theirs}Response"))
            .codec_path("tonic_prost::ProstCodec")
            .build();
        service.method(method)
    });
    service.build()
}

const IDENTITY: &[(&str, &str)] = &[
    ("plugin_info", "GetPluginInfo"),
    ("plugin_capabilities", "GetPluginCapabilities"),
    ("probe", "Probe"),
];

const CONTROLLER: &[(&str, &str)] = &[
    ("create_volume", "CreateVolume"),
    ("delete_volume", "DeleteVolume"),
    ("validate_volume_capabilities", "ValidateVolumeCapabilities"),
    ("list_volumes", "ListVolumes"),
    ("capacity", "GetCapacity"),
    ("capabilities", "ControllerGetCapabilities"),
    ("create_snapshot", "CreateSnapshot"),
    ("delete_snapshot", "DeleteSnapshot"),
    ("list_snapshots", "ListSnapshots"),
    ("snapshot", "GetSnapshot"),
    ("expand_volume", "ControllerExpandVolume"),
    ("volume", "ControllerGetVolume"),
    ("modify_volume", "ControllerModifyVolume"),
];

const NODE: &[(&str, &str)] = &[
    ("stage_volume", "NodeStageVolume"),
    ("unstage_volume", "NodeUnstageVolume"),
    ("publish_volume", "NodePublishVolume"),
    ("unpublish_volume", "NodeUnpublishVolume"),
    ("volume_stats", "NodeGetVolumeStats"),
    ("expand_volume", "NodeExpandVolume"),
    ("capabilities", "NodeGetCapabilities"),
    ("info", "NodeGetInfo"),
];
