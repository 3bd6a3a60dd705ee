//! The conformance suite of CSI drivers, as it is.

use std::fs;
use std::process::Command;

use strongroom_csi::messages::Map;
use strongroom_testkit::{run, server_program, skip};

use crate::driver::{Driver, map};
use crate::kinds::{self, Kind, PASSPHRASE};

#[test]
fn plain_volumes_conform() {
    conforms("plain_volumes_conform", |_| Some(kinds::plain()), "mount");
}

#[test]
fn plain_block_volumes_conform() {
    conforms("plain_block_volumes_conform", |_| Some(kinds::plain()), "block");
}

#[test]
fn volumes_with_a_passphrase_conform() {
    conforms("volumes_with_a_passphrase_conform", |_| Some(kinds::passphrase()), "mount");
}

#[test]
fn block_volumes_with_a_passphrase_conform() {
    conforms("block_volumes_with_a_passphrase_conform", |_| Some(kinds::passphrase()), "block");
}

#[test]
fn volumes_under_a_local_key_conform() {
    conforms("volumes_under_a_local_key_conform", |_| Some(kinds::local()), "mount");
}

#[test]
fn block_volumes_under_a_local_key_conform() {
    conforms("block_volumes_under_a_local_key_conform", |_| Some(kinds::local()), "block");
}

#[test]
fn volumes_under_a_key_of_openbao_conform() {
    conforms("volumes_under_a_key_of_openbao_conform", kinds::transit, "mount");
}

#[test]
fn block_volumes_under_a_key_of_openbao_conform() {
    conforms("block_volumes_under_a_key_of_openbao_conform", kinds::transit, "block");
}

/// Runs the suite. Everything that the driver says it can must pass, and nothing else may be skipped than
/// what it does not say.
fn conforms(test: &str, kind: impl FnOnce(&str) -> Option<Kind>, access: &str) {
    let Some(program) = server_program("csi-sanity") else {
        return skip(test, "csi-sanity is not installed");
    };
    let Some(kind) = kind(test) else { return };
    let Some(mut driver) = Driver::start(test) else { return };
    fs::write(driver.path("parameters.yaml"), yaml(&kind.parameters, "")).unwrap();
    fs::write(driver.path("mutable.yaml"), yaml(&map(&[("discard", "true")]), "")).unwrap();
    fs::write(driver.path("snapshots.yaml"), yaml(&map(&[("type", "snap")]), "")).unwrap();
    let secrets = ["NodeStageVolumeSecret", "NodePublishVolumeSecret"]
        .map(|call| format!("{call}:\n{}", yaml(&with_something(&kind.secrets), "  ")));
    fs::write(driver.path("secrets.yaml"), secrets.concat()).unwrap();
    let path = |name: &str| driver.path(name).to_str().unwrap().to_owned();
    let mut command = Command::new(program);
    command
        .arg(format!("--csi.endpoint=unix://{}", path("csi.sock")))
        .arg(format!("--csi.mountdir={}", path("pods/target")))
        .arg(format!("--csi.stagingdir={}", path("staging/target")))
        .arg(format!("--csi.secrets={}", path("secrets.yaml")))
        .arg(format!("--csi.testvolumeparameters={}", path("parameters.yaml")))
        .arg(format!("--csi.testvolumemutableparameters={}", path("mutable.yaml")))
        .arg(format!("--csi.testsnapshotparameters={}", path("snapshots.yaml")))
        .arg(format!("--csi.testvolumeaccesstype={access}"))
        .arg(format!("--csi.testvolumesize={}", 64 << 20))
        .arg(format!("--csi.testvolumeexpandsize={}", 96 << 20))
        .arg(format!("--ginkgo.junit-report={}", path("report.xml")))
        .args(["--ginkgo.no-color", "--ginkgo.timeout=110s"]);
    let outcome = run(command, b"");
    let report = fs::read_to_string(driver.path("report.xml")).unwrap_or_default();
    let specs = specs(&report);
    let skipped: Vec<&str> = named(&specs, "skipped");
    assert!(outcome.code == Some(0), "{}\n{}", outcome.describe(), driver.log());
    assert_eq!(skipped, SKIPPED, "{}", outcome.stdout);
    let passed = named(&specs, "passed").len();
    assert!(passed >= LEAST_PASSED, "{passed} passed");
    assert!(!driver.log().contains(PASSPHRASE));
    assert!(driver.stop(), "{}", driver.log());
}

/// The suite leaves out Secrets that are empty.
fn with_something(secrets: &Map) -> Map {
    if secrets.is_empty() { map(&[("unused", "x")]) } else { secrets.clone() }
}

fn yaml(map: &Map, indent: &str) -> String {
    map.iter().map(|(key, value)| format!("{indent}{key}: {value:?}\n")).collect()
}

/// Returns name and state of every spec in a report.
fn specs(report: &str) -> Vec<(String, String)> {
    let attribute = |tag: &str, name: &str| {
        let from = tag.find(&format!(" {name}=\""))? + name.len() + 3;
        Some(tag[from..].split('"').next()?.replace("&#34;", "\"").replace("&#39;", "'"))
    };
    let cases = report.split("<testcase").skip(1);
    let found = cases.filter_map(|case| {
        let tag = case.split('>').next()?;
        Some((attribute(tag, "name")?, attribute(tag, "status")?))
    });
    found.filter(|(name, _)| name.starts_with("[It]")).collect()
}

/// Returns the names of the specs with a state, sorted.
fn named<'a>(specs: &'a [(String, String)], state: &str) -> Vec<&'a str> {
    let found = specs.iter().filter(|(_, of)| of == state);
    let mut names: Vec<&str> = found.map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

/// What belongs to what the driver does not say that it can.
const SKIPPED: [&str; 23] = [
    // ControllerPublishVolume: there is nothing to attach to a node.
    "[It] Controller Service [Controller Server] ControllerPublishVolume should fail when no node id is provided",
    "[It] Controller Service [Controller Server] ControllerPublishVolume should fail when no volume capability is provided",
    "[It] Controller Service [Controller Server] ControllerPublishVolume should fail when no volume id is provided",
    "[It] Controller Service [Controller Server] ControllerPublishVolume should fail when publishing more volumes than the node max attach limit",
    "[It] Controller Service [Controller Server] ControllerPublishVolume should fail when the node does not exist",
    "[It] Controller Service [Controller Server] ControllerPublishVolume should fail when the volume does not exist",
    "[It] Controller Service [Controller Server] ControllerPublishVolume should fail when the volume is already published but is incompatible",
    "[It] Controller Service [Controller Server] ControllerUnpublishVolume should fail when no volume id is provided",
    "[It] Controller Service [Controller Server] volume lifecycle should be idempotent",
    "[It] Controller Service [Controller Server] volume lifecycle should work",
    // The health of volumes, and snapshots in places, of CSI 1.13.
    "[It] ControllerGetVolumeHealth [Controller Server] should fail when no volume id is provided",
    "[It] ControllerGetVolumeHealth [Controller Server] should return health for a valid volume",
    "[It] ControllerListVolumeHealth [Controller Server] should return appropriate response",
    "[It] CreateSnapshot [Controller Server] should succeed when creating a snapshot with accessibility requirements",
    // Snapshots of groups.
    "[It] GroupController Service [GroupController Server] GroupControllerGetCapabilities should return appropriate capabilities",
    "[It] GroupController Service [GroupController VolumeGroupSnapshots] CreateVolumeGroupSnapshot should fail when no name is provided",
    "[It] GroupController Service [GroupController VolumeGroupSnapshots] DeleteVolumeGroupSnapshot should fail when no volume id is provided",
    "[It] GroupController Service [GroupController VolumeGroupSnapshots] DeleteVolumeGroupSnapshot should succeed when an invalid volume id is used",
    "[It] GroupController Service [GroupController VolumeGroupSnapshots] GetVolumeGroupSnapshot should fail when an invalid volume id is used",
    "[It] GroupController Service [GroupController VolumeGroupSnapshots] GetVolumeGroupSnapshot should fail when no volume id is provided",
    // Health again.
    "[It] Node Service NodeGetStorageHealth should return appropriate response",
    "[It] Node Service NodeGetVolumeHealth should fail when no volume id is provided",
    "[It] Node Service NodeGetVolumeHealth should return health for a valid volume",
];

/// How many specs belong to what it says that it can.
const LEAST_PASSED: usize = 79;
