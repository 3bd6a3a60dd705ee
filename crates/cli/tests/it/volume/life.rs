//! From creation to deletion.

use std::fs;
use std::os::unix::process::CommandExt;

use serde_json::{Value, json};
use strongroom::catalog::{Catalog, Kind, SqliteCatalog};
use strongroom_testkit::{Authority, Pattern, Tool, run, skip};

use super::VolumePlace;
use crate::workplace::{CHEAP, has};

#[test]
fn a_volume_with_a_passphrase_lives_from_its_creation_to_its_deletion() {
    let test = "a_volume_with_a_passphrase_lives_from_its_creation_to_its_deletion";
    let Some(place) = VolumePlace::new(test) else { return };
    place.create("data", "64MiB");
    let shown = place.json("show data");
    assert_eq!(shown["size"], 64 << 20);
    assert_eq!(shown["encryption"], "passphrase");
    assert_eq!(shown["ledger"], json!({ "state": "blank" }));
    assert!(shown["attachment"].is_null());

    place.mount("data");
    place.write_note("a text that nobody else may read, thirty times over");
    let said = place.volume(&format!("attach data --mount m --passphrase-file pw {CHEAP}"));
    let target = fs::canonicalize(place.place.path("m")).unwrap();
    assert_eq!(said.ok().trim(), target.display().to_string(), "the same again is no error");
    let uuid = place.json("show data")["ledger"]["uuid"].as_str().unwrap().to_owned();
    place.volume("delete data --force").fails(7);
    place.detach("data");
    assert_eq!(place.note(), None, "it is still mounted");

    place.mount("data");
    assert!(place.note().unwrap().starts_with("a text that nobody else"));
    assert_eq!(place.json("show data")["ledger"]["uuid"], uuid.as_str(), "formatted again");
    place.detach("data");
    place.detach("data");

    let bytes = fs::read(place.device_file("data")).unwrap();
    let text = b"a text that nobody else may read";
    assert!(!bytes.windows(text.len()).any(|window| window == text), "plaintext in the pool");
    let copy = place.place.path("pool/headers/data.luks");
    assert!(copy.is_file(), "the header was not saved");
    place.volume("delete data").fails(2);
    place.volume("delete data --force").ok();
    assert!(!copy.exists(), "the copy of the header outlives the volume");
    assert_eq!(place.json("list")["volumes"], json!([]));
    place.volume("show data").fails(8);
}

#[test]
fn other_tools_open_the_same_volume() {
    let test = "other_tools_open_the_same_volume";
    if !has(test, &[Tool::CRYPTSETUP]) {
        return;
    }
    let Some(place) = VolumePlace::new(test) else { return };
    place.create("data", "32M");
    place.mount("data");
    place.detach("data");
    let device = place.device_file("data");
    let words = |key: &str| format!("open --test-passphrase --key-file {key} {}", device.display());
    place.place.cryptsetup(&words("pw")).ok();
    place.place.cryptsetup(&words("wrong")).fails(2);
}

#[test]
fn a_volume_under_a_kms_needs_no_more_words_than_its_name() {
    let test = "a_volume_under_a_kms_needs_no_more_words_than_its_name";
    let Some(place) = VolumePlace::new(test) else { return };
    place.place.strongroom("kms init-local kek").ok();
    place.volume("create data --size 32M --kms local --kms-kek-file kek").ok();
    place.volume("attach data --mount m").ok();
    place.write_note("kept");
    place.detach("data");
    place.volume("attach data --mount m").ok();
    assert_eq!(place.note().as_deref(), Some("kept"));
    place.detach("data");

    let report = place.json("report data");
    assert_eq!(report["envelopes"][0]["kind"], "local");
    assert_eq!(report["envelopes"][0], report["recorded_envelope"]);
    assert_eq!(report["findings"], json!([]));

    // Without the key in the file nobody opens it; and it is deleted all the same.
    fs::rename(place.place.path("kek"), place.place.path("gone")).unwrap();
    place.volume("attach data --mount m").fails(8);
    assert_eq!(place.note(), None);
    let keys = || {
        let catalog = SqliteCatalog::open(&place.place.path("pool/catalog.sqlite")).unwrap();
        catalog.list(Kind::Key, None, 10).unwrap().len()
    };
    assert_eq!(keys(), 1);
    place.volume("delete data --force").ok();
    assert_eq!(keys(), 0, "the envelope outlives the volume");
}

#[test]
fn a_plain_volume_is_one_only_when_that_is_said() {
    let test = "a_plain_volume_is_one_only_when_that_is_said";
    let Some(place) = VolumePlace::new(test) else { return };
    let message = place.volume("create data --size 32M").fails(2);
    assert!(message.contains("--plain"), "{message}");
    place.volume("list").fails(8);
    place.volume("create data --size 32M --plain").ok();
    place.volume("create data --size 32M --plain").ok();
    place.volume("create data --size 64M --plain").fails(6);
    place.volume("create data --size 32M --encrypt passphrase").fails(6);
    place.volume("attach data --mount m").ok();
    place.write_note("in the clear");
    place.detach("data");
    place.volume("attach data --mount m").ok();
    assert_eq!(place.note().as_deref(), Some("in the clear"));
    place.detach("data");
    let message = place.volume("attach data --mount m --passphrase-file pw").fails(2);
    assert!(message.contains("is not encrypted"), "{message}");
}

#[test]
fn a_mounted_file_system_grows_with_its_volume() {
    let test = "a_mounted_file_system_grows_with_its_volume";
    if !has(test, &[Tool::MKFS_XFS]) {
        return;
    }
    let Some(place) = VolumePlace::new(test) else { return };
    place.create("data", "320M");
    let attach = "attach data --mount m --file-system xfs --passphrase-file pw";
    place.volume(&format!("{attach} {CHEAP}")).ok();
    place.write_note("before");
    let room = || {
        let found = rustix::fs::statvfs(place.place.path("m")).unwrap();
        found.f_blocks * found.f_frsize
    };
    let before = room();
    let expanded = place.json("expand data --size +80MiB");
    assert_eq!(expanded["size"], 400 << 20);
    assert_eq!(expanded["grown_online"], true);
    assert!(room() >= before + (70 << 20), "{before} bytes have become {}", room());
    assert_eq!(place.note().as_deref(), Some("before"));
    let message = place.volume("expand data --size 320M").fails(2);
    assert!(message.contains("only become larger"), "{message}");
    place.detach("data");

    // While it is not attached only the pool grows, and the file system when it is mounted again.
    assert_eq!(place.json("expand data --size 480M")["grown_online"], false);
    place.volume(attach).ok();
    assert!(room() >= before + (150 << 20), "{before} bytes have become {}", room());
}

#[test]
fn a_volume_that_is_not_mounted_grows_when_it_is() {
    let test = "a_volume_that_is_not_mounted_grows_when_it_is";
    let Some(place) = VolumePlace::new(test) else { return };
    place.create("data", "32M");
    place.mount("data");
    place.write_note("kept");
    place.detach("data");
    place.volume("expand data --size 64M").ok();
    place.mount("data");
    let found = rustix::fs::statvfs(place.place.path("m")).unwrap();
    assert!(found.f_blocks * found.f_frsize > 48 << 20, "{} blocks", found.f_blocks);
    assert_eq!(place.note().as_deref(), Some("kept"));
}

#[test]
fn virtual_machines_read_a_volume_over_nbd() {
    let test = "virtual_machines_read_a_volume_over_nbd";
    if !has(test, &[Tool::QEMU_IMG]) {
        return;
    }
    let Some(place) = VolumePlace::new(test) else { return };
    place.create("data", "16M");
    let key = format!("--passphrase-file pw {CHEAP}");
    let device = place.volume(&format!("attach data --device {key}")).ok();
    let pattern = Pattern::sparse(7, 4096);
    place.place.image_of("expected", 16 << 20, &pattern);
    fs::write(device.trim(), place.place.read("expected")).unwrap();
    let opened = fs::File::open(device.trim()).unwrap();
    opened.sync_all().unwrap();
    drop(opened);
    place.detach("data");

    let uri = place.volume(&format!("attach data --nbd socket {key}")).ok();
    assert!(uri.starts_with("nbd+unix:///?socket=/"), "{uri}");
    let again = place.volume(&format!("attach data --nbd socket {key}")).ok();
    assert_eq!(uri, again, "the same again is no error");
    place.volume("attach data --device --passphrase-file pw").fails(7);
    place.place.qemu_img(&format!("convert -f raw -O raw {} found", uri.trim())).ok();
    place.place.same("expected", "found").unwrap();
    place.detach("data");
    let message = place.place.qemu_img(&format!("info {}", uri.trim()));
    assert_ne!(message.code, Some(0), "it is still exported");
}

#[test]
fn an_export_with_tls_is_for_clients_that_begin_with_it() {
    let test = "an_export_with_tls_is_for_clients_that_begin_with_it";
    if !has(test, &[Tool::QEMU_IMG]) {
        return;
    }
    let Some(place) = VolumePlace::new(test) else { return };
    let authority = Authority::new();
    let (certificate, key) = authority.server_pem("localhost");
    fs::write(place.place.path("cert"), certificate).unwrap();
    fs::write(place.place.path("key"), key).unwrap();
    fs::create_dir(place.place.path("trust")).unwrap();
    fs::write(place.place.path("trust/ca-cert.pem"), authority.pem()).unwrap();
    place.create("data", "16M");
    let words = format!("attach data --nbd socket --passphrase-file pw {CHEAP}");
    place.volume(&format!("{words} --nbd-cert-file cert")).fails(2);
    place.volume(&format!("{words} --nbd-cert-file none --nbd-key-file key")).fails(8);
    let uri = place.volume(&format!("{words} --nbd-cert-file cert --nbd-key-file key")).ok();
    assert!(uri.starts_with("nbds+unix:///?socket=/"), "{uri}");
    let socket = place.place.path("socket").display().to_string();
    let image = format!("driver=nbd,server.type=unix,server.path={socket}");
    let plain = place.place.qemu_img(&format!("info --image-opts {image}"));
    assert_ne!(plain.code, Some(0), "a client without TLS is served");
    let trust = place.place.path("trust").display().to_string();
    let tls = format!("tls-creds-x509,id=tls,dir={trust},endpoint=client,verify-peer=yes");
    let image = format!("{image},tls-creds=tls,tls-hostname=localhost");
    let found = place.place.qemu_img(&format!("info --object {tls} --image-opts {image}")).ok();
    assert!(found.contains("16 MiB"), "{found}");
    place.detach("data");
}

#[test]
fn what_is_tuned_is_remembered() {
    let place = VolumePlace::without_devices();
    place.volume("create data --size 1M --plain --discard on").ok();
    assert_eq!(place.json("show data")["tuning"]["discard"], true);
    place.volume("set data").fails(2);
    let tuned = place.json("set data --discard off --read-workqueue off");
    let expected =
        json!({ "discard": false, "no_read_workqueue": true, "no_write_workqueue": false });
    assert_eq!(tuned["tuning"], expected);
    assert_eq!(place.json("show data")["tuning"], expected);
}

#[test]
fn a_user_without_rights_gets_a_file() {
    let test = "a_user_without_rights_gets_a_file";
    if !rustix::process::geteuid().is_root() || !has(test, &[Tool::FUSERMOUNT3]) {
        return;
    }
    let place = VolumePlace::without_devices();
    place.place.set_mode(".", 0o777);
    let as_nobody = |words: &str| {
        let mut command = place.place.command(&format!("volume {words}"));
        command.env("STRONGROOM_POOL", place.place.path("own-pool"));
        command.env("XDG_RUNTIME_DIR", place.place.path("run"));
        command.uid(NOBODY).gid(NOBODY);
        run(command, b"")
    };
    let made = as_nobody("create data --size 8M --encrypt passphrase");
    if made.stderr.contains("cannot start") {
        return skip(test, "others than root cannot run what is tested");
    }
    made.ok();
    let attach = format!("attach data --device --passphrase-file pw --json {CHEAP}");
    let attached: Value = serde_json::from_str(&as_nobody(&attach).ok()).unwrap();
    assert_eq!(attached["backend"], "fuse");
    let file = attached["device"].as_str().unwrap();
    // Root itself may not look into it.
    let read = |program: &str, words: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(words).uid(NOBODY).gid(NOBODY);
        run(command, b"")
    };
    assert_eq!(read("stat", &["-c", "%s", file]).ok().trim(), (8 << 20).to_string());
    let text = format!("printf written | dd of={file} conv=notrunc,fsync");
    read("sh", &["-c", &text]).ok();
    as_nobody("detach data").ok();
    as_nobody(&attach).ok();
    let found = read("head", &["-c", "7", file]).ok();
    as_nobody("detach data").ok();
    assert_eq!(found, "written");
}

/// The user `nobody`.
const NOBODY: u32 = 65534;
