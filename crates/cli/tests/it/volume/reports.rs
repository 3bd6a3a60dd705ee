//! What is told of volumes.

use std::fs;

use serde_json::{Value, json};

use super::VolumePlace;

#[test]
fn a_report_proves_how_a_volume_is_encrypted() {
    let Some(place) = VolumePlace::new("a_report_proves_how_a_volume_is_encrypted") else { return };
    place.create("data", "32M");
    place.mount("data");
    let report = place.json("report data");
    let header = &report["header"];
    assert_eq!(header["cipher"], "aes-xts-plain64");
    assert_eq!(header["key_bits"], 512);
    assert_eq!(header["uuid"], report["ledger"]["uuid"]);
    assert_eq!(report["mark"], json!({ "uuid": header["uuid"], "stage": "finished" }));
    assert_eq!(header["keyslots"].as_array().unwrap().len(), 1);
    assert_eq!(report["findings"], json!([]));
    assert_eq!(report["attachment"]["backend"], place.json("show data")["attachment"]["backend"]);
    assert!(report["header_backup"]["age_seconds"].as_u64().unwrap() < 600);
    place.detach("data");

    let text = place.volume("report data").ok();
    for line in ["cipher          aes-xts-plain64, 512 bits", "mark            finished"] {
        assert!(text.contains(line), "{text}");
    }
    fs::remove_file(report["header_backup"]["path"].as_str().unwrap()).unwrap();
    let outcome = place.volume("report data --json");
    assert_eq!(outcome.code, Some(13), "{}", outcome.describe());
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["findings"], json!(["its header was never saved"]));
}

#[test]
fn a_list_shows_every_volume() {
    let place = VolumePlace::without_devices();
    place.volume("create plain --size 1M --plain").ok();
    place.create("secret", "2M");
    place.place.strongroom("kms init-local kek").ok();
    place.volume("create managed --size 3M --kms local --kms-kek-file kek").ok();
    let listed = place.json("list");
    let kinds: Vec<_> = listed["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| (volume["volume"].clone(), volume["encryption"].clone()))
        .collect();
    let expected = [("managed", "kms"), ("plain", "none"), ("secret", "passphrase")];
    assert_eq!(kinds, expected.map(|(name, kind)| (json!(name), json!(kind))));
    assert!(listed["space"]["available"].as_u64().is_some());
    let text = place.volume("list").ok();
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.contains("3.00 MiB"), "{text}");
    let message = place.volume("report plain").fails(13);
    assert_eq!(message, "");
}

#[test]
fn the_doctor_tells_which_ways_there_are() {
    let place = VolumePlace::without_devices();
    let said: Value = serde_json::from_str(&place.place.strongroom("doctor --json").ok()).unwrap();
    let ways = said["attaching"].as_array().unwrap();
    for name in ["dm-crypt", "FUSE", "loop devices", "NBD", "fusermount3", "kernel keyring"] {
        let way = ways.iter().find(|way| way["name"] == name).unwrap();
        let is_explained = way["missing"].as_str().is_some_and(|missing| !missing.is_empty());
        assert_eq!(way["usable"] != true, is_explained, "{way}");
    }
}
