//! Volumes staged as kubelet does it, and what goes wrong then.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use strongroom_csi::messages::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerExpandVolumeResponse,
    DeleteVolumeRequest, DeleteVolumeResponse, Map, NodeExpandVolumeRequest,
    NodeExpandVolumeResponse,
};
use tonic::Code;

use crate::driver::{Driver, block, map, mount};
use crate::kinds::{self, PASSPHRASE, secret};

#[test]
fn a_volume_with_a_passphrase_shows_nothing_where_it_lies() {
    let Some(driver) = Driver::start("a_volume_with_a_passphrase_shows_nothing") else { return };
    let kind = kinds::passphrase();
    driver.create("pvc-1", kind.parameters).unwrap();
    write_and_take_away(&driver, "pvc-1", &kind.secrets);
    assert!(!driver.pool_holds(PATTERN), "the pattern lies in the pool");
    assert!(!driver.pool_holds(PASSPHRASE.as_bytes()), "the passphrase lies in the pool");
    assert!(!driver.log().contains(PASSPHRASE));
    read_back(&driver, "pvc-1", &kind.secrets);

    // The same without encryption: the search does find what is there.
    driver.create("pvc-2", Map::new()).unwrap();
    write_and_take_away(&driver, "pvc-2", &Map::new());
    assert!(driver.pool_holds(PATTERN));
}

#[test]
fn a_missing_secret_is_named_and_a_later_try_with_it_works() {
    let Some(driver) = Driver::start("a_missing_secret_is_named") else { return };
    let kind = kinds::passphrase();
    driver.create("pvc-1", kind.parameters).unwrap();
    for (secrets, named) in [
        (Map::new(), "csi.storage.k8s.io/node-stage-secret-name"),
        (map(&[("CRYPTO_KEY_PROVIDER", "secret")]), "CRYPTO_KEY_VALUE"),
        (
            map(&[("CRYPTO_KEY_VALUE", "x"), ("CRYPTO_KEY_PROVIDER", "vault")]),
            "CRYPTO_KEY_PROVIDER",
        ),
        (map(&[("CRYPTO_KEY_VALUE", "x"), ("CRYPTO_KEY_CYPHER", "aes")]), "CRYPTO_KEY_CYPHER"),
    ] {
        let refused = driver.stage("pvc-1", &mount(), secrets).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains(named), "{refused:?}");
        assert!(refused.message().contains("pvc-1"), "{refused:?}");
    }
    write_and_take_away(&driver, "pvc-1", &kind.secrets);
    read_back(&driver, "pvc-1", &kind.secrets);
}

#[test]
fn a_wrong_key_never_mounts_and_spoils_nothing() {
    let Some(driver) = Driver::start("a_wrong_key_never_mounts") else { return };
    let kind = kinds::passphrase();
    driver.create("pvc-1", kind.parameters).unwrap();
    write_and_take_away(&driver, "pvc-1", &kind.secrets);
    for wrong in ["guess-canary", &format!("{PASSPHRASE}\n")] {
        let refused = driver.stage("pvc-1", &mount(), secret(wrong)).unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        assert!(!refused.message().contains("canary"), "{refused:?}");
        assert!(!is_mount(&driver.path("staging/pvc-1")));
    }
    assert!(!driver.log().contains("canary"), "{}", driver.log());
    read_back(&driver, "pvc-1", &kind.secrets);
}

#[test]
fn every_call_may_come_twice_and_in_any_order() {
    let Some(driver) = Driver::start("every_call_may_come_twice") else { return };
    let kind = kinds::local();
    for _ in 0..2 {
        driver.unpublish("pvc-1").unwrap();
        driver.unstage("pvc-1").unwrap();
    }
    for _ in 0..2 {
        driver.create("pvc-1", kind.parameters.clone()).unwrap();
    }
    let refused = driver.publish("pvc-1", &mount()).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    for _ in 0..2 {
        driver.stage("pvc-1", &mount(), Map::new()).unwrap();
    }
    for _ in 0..2 {
        driver.publish("pvc-1", &mount()).unwrap();
    }
    let refused = delete(&driver, "pvc-1").unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    for _ in 0..2 {
        driver.unpublish("pvc-1").unwrap();
    }
    assert!(!driver.path("pods/pvc-1").exists());
    for _ in 0..2 {
        driver.unstage("pvc-1").unwrap();
    }
    for _ in 0..2 {
        delete(&driver, "pvc-1").unwrap();
    }
    let refused = driver.stage("pvc-1", &mount(), Map::new()).unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
}

#[test]
fn two_calls_at_once_stage_a_volume_once() {
    let Some(driver) = Driver::start("two_calls_at_once") else { return };
    let kind = kinds::passphrase();
    driver.create("pvc-1", kind.parameters).unwrap();
    let codes: Vec<Code> = std::thread::scope(|scope| {
        let stage = || driver.stage("pvc-1", &mount(), kind.secrets.clone());
        let both = [scope.spawn(stage), scope.spawn(stage)];
        let ended = both.map(|thread| thread.join().unwrap());
        ended.into_iter().map(|end| end.map_or_else(|error| error.code(), |()| Code::Ok)).collect()
    });
    assert!(codes.contains(&Code::Ok), "{codes:?}");
    assert!(codes.iter().all(|code| [Code::Ok, Code::Aborted].contains(code)), "{codes:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let staging = driver.path("staging/pvc-1");
    let count = mounts.lines().filter(|line| line.contains(staging.to_str().unwrap())).count();
    assert_eq!(count, 1);
    driver.unstage("pvc-1").unwrap();
    write_and_take_away(&driver, "pvc-1", &kind.secrets);
}

#[test]
fn a_driver_that_is_killed_while_it_stages_leaves_nothing_in_the_way() {
    let Some(mut driver) = Driver::start("a_driver_that_is_killed") else { return };
    let kind = kinds::passphrase();
    for (index, delay) in [5, 30, 80, 150, 250, 400].into_iter().enumerate() {
        let name = format!("pvc-{index}");
        driver.create(&name, kind.parameters.clone()).unwrap();
        let client = driver.client();
        let staging = driver.path("staging").join(&name);
        fs::create_dir(&staging).unwrap();
        let request = strongroom_csi::messages::NodeStageVolumeRequest {
            volume_id: name.clone(),
            staging_target_path: staging.to_str().unwrap().to_owned(),
            volume_capability: Some(mount()),
            secrets: kind.secrets.clone(),
            ..Default::default()
        };
        let call = std::thread::spawn(move || {
            client
                .call::<_, strongroom_csi::messages::NodeStageVolumeResponse>(
                    "Node/NodeStageVolume",
                    request,
                )
                .is_ok()
        });
        std::thread::sleep(Duration::from_millis(delay));
        driver.kill_and_restart();
        let _ = call.join().unwrap();
        if index % 2 == 0 {
            driver.unstage(&name).unwrap();
        }
        write_and_take_away(&driver, &name, &kind.secrets);
        read_back(&driver, &name, &kind.secrets);
    }
}

#[test]
fn a_mounted_volume_outlives_its_driver() {
    let Some(mut driver) = Driver::start("a_mounted_volume_outlives_its_driver") else { return };
    let kind = kinds::passphrase();
    driver.create("pvc-1", kind.parameters).unwrap();
    driver.stage("pvc-1", &mount(), kind.secrets.clone()).unwrap();
    let target = driver.publish("pvc-1", &mount()).unwrap();
    driver.kill_and_restart();
    fs::write(target.join("file"), PATTERN).unwrap();
    driver.stage("pvc-1", &mount(), kind.secrets).unwrap();
    driver.publish("pvc-1", &mount()).unwrap();
    assert_eq!(fs::read(target.join("file")).unwrap(), PATTERN);
    driver.unpublish("pvc-1").unwrap();
    driver.unstage("pvc-1").unwrap();
}

#[test]
fn a_block_volume_grows_while_it_is_used_and_without_a_secret() {
    let Some(driver) = Driver::start("a_block_volume_grows") else { return };
    let kind = kinds::passphrase();
    driver.create("pvc-1", kind.parameters).unwrap();
    driver.stage("pvc-1", &block(), kind.secrets.clone()).unwrap();
    let target = driver.publish("pvc-1", &block()).unwrap();
    let device = || File::options().read(true).write(true).open(&target).unwrap();
    assert_eq!(device().seek(SeekFrom::End(0)).unwrap(), 64 << 20);
    let mut used = device();
    used.write_all(PATTERN).unwrap();
    used.sync_all().unwrap();

    let range = Some(CapacityRange { required_bytes: 96 << 20, limit_bytes: 0 });
    let request = ControllerExpandVolumeRequest {
        volume_id: "pvc-1".to_owned(),
        capacity_range: range.clone(),
        ..Default::default()
    };
    let grown: ControllerExpandVolumeResponse =
        driver.call("Controller/ControllerExpandVolume", request).unwrap();
    assert!(grown.node_expansion_required);
    assert_eq!(grown.capacity_bytes, 96 << 20);
    let request = NodeExpandVolumeRequest {
        volume_id: "pvc-1".to_owned(),
        volume_path: target.to_str().unwrap().to_owned(),
        capacity_range: range,
        ..Default::default()
    };
    let grown: NodeExpandVolumeResponse = driver.call("Node/NodeExpandVolume", request).unwrap();
    assert_eq!(grown.capacity_bytes, 96 << 20);
    assert_eq!(device().seek(SeekFrom::End(0)).unwrap(), 96 << 20);
    drop(used);

    driver.unpublish("pvc-1").unwrap();
    driver.unstage("pvc-1").unwrap();
    assert!(!driver.pool_holds(PATTERN));
    driver.stage("pvc-1", &block(), kind.secrets).unwrap();
    driver.publish("pvc-1", &block()).unwrap();
    let mut found = vec![0; PATTERN.len()];
    device().read_exact(&mut found).unwrap();
    assert_eq!(found, PATTERN);
    driver.unpublish("pvc-1").unwrap();
    driver.unstage("pvc-1").unwrap();
}

#[test]
fn a_kms_that_refuses_or_is_gone_has_a_code_of_its_own() {
    let test = "a_kms_that_refuses_or_is_gone";
    let Some(mut kind) = kinds::transit(test) else { return };
    let Some(driver) = Driver::start(test) else { return };
    driver.create("pvc-1", kind.parameters.clone()).unwrap();
    write_and_take_away(&driver, "pvc-1", &kind.secrets);

    let denied = map(&[("token", "canary-not-a-token")]);
    let refused = driver.stage("pvc-1", &mount(), denied).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert!(!refused.message().contains("canary"), "{refused:?}");
    let refused = driver.stage("pvc-1", &mount(), Map::new()).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    read_back(&driver, "pvc-1", &kind.secrets);

    // What is mounted stays so without the KMS, and goes away without it.
    driver.stage("pvc-1", &mount(), kind.secrets.clone()).unwrap();
    let bao = kind.bao.take().unwrap();
    assert!(bao.has_key("pvc-kek"));
    drop(bao);
    assert_eq!(fs::read(driver.path("staging/pvc-1/file")).unwrap(), PATTERN);
    driver.unstage("pvc-1").unwrap();
    let refused = driver.stage("pvc-1", &mount(), kind.secrets.clone()).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    delete(&driver, "pvc-1").unwrap();
    let token = kind.secrets.get("token").unwrap();
    assert!(!driver.log().contains(token.as_str()) && !driver.pool_holds(token.as_bytes()));
}

fn write_and_take_away(driver: &Driver, name: &str, secrets: &Map) {
    driver.stage(name, &mount(), secrets.clone()).unwrap();
    let target = driver.publish(name, &mount()).unwrap();
    let mut file = File::create(target.join("file")).unwrap();
    file.write_all(PATTERN).unwrap();
    file.sync_all().unwrap();
    drop(file);
    driver.unpublish(name).unwrap();
    driver.unstage(name).unwrap();
    assert!(!is_mount(&driver.path("staging").join(name)));
}

fn read_back(driver: &Driver, name: &str, secrets: &Map) {
    driver.stage(name, &mount(), secrets.clone()).unwrap();
    let target = driver.publish(name, &mount()).unwrap();
    assert_eq!(fs::read(target.join("file")).unwrap(), PATTERN);
    driver.unpublish(name).unwrap();
    driver.unstage(name).unwrap();
}

fn delete(driver: &Driver, name: &str) -> Result<(), tonic::Status> {
    let request = DeleteVolumeRequest { volume_id: name.to_owned(), secrets: Map::new() };
    driver.call("Controller/DeleteVolume", request).map(|_: DeleteVolumeResponse| ())
}

fn is_mount(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

const PATTERN: &[u8] = b"a pattern that nobody must find, of more bytes than a sector has to spare";
