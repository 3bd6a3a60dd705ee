//! Sizes, flags and requirements (specification, section 3.5).

use serde_json::{Value, json};
use strongroom_luks::Error;

use super::{accepts, drop_member, refuses};
use crate::device::rng;
use crate::volume::AREA;

fn config(edit: impl FnOnce(&mut Value)) -> impl FnOnce(&mut Value) {
    |json| edit(&mut json["config"])
}

#[test]
fn both_sizes_are_mandatory() {
    for member in ["json_size", "keyslots_size"] {
        let reason = format!("config: {member} is missing");
        refuses(&reason, config(|config| drop_member(config, member)));
    }
}

#[test]
fn members_of_the_wrong_type_are_refused() {
    for (member, wrong, reason) in [
        ("json_size", json!(12288), "json_size is not a string"),
        ("keyslots_size", json!(262_144), "keyslots_size is not a string"),
        ("flags", json!("allow-discards"), "flags is not an array"),
        ("flags", json!([1]), "flags holds something that is no string"),
        ("requirements", json!(["mandatory"]), "requirements is not an object"),
        ("requirements", json!({ "mandatory": "x" }), "mandatory is not an array"),
        (
            "requirements",
            json!({ "mandatory": [1] }),
            "mandatory holds something that is no string",
        ),
    ] {
        refuses(reason, config(|config| config[member] = wrong));
    }
}

#[test]
fn a_json_size_that_is_not_the_headers_is_refused() {
    for size in ["0", "12287", "16384", "28672"] {
        refuses("json_size does not match", config(|config| config["json_size"] = json!(size)));
    }
}

#[test]
fn a_keyslots_size_that_is_not_aligned_is_refused() {
    let size = (2 * AREA - 512).to_string();
    refuses("multiple of 4096", config(|config| config["keyslots_size"] = json!(size)));
}

#[test]
fn a_keyslots_size_beyond_128_mib_is_refused() {
    for size in [(128 << 20) + 4096, 1 << 62, u64::MAX - 4095] {
        let size = size.to_string();
        refuses("more than 128 MiB", config(|config| config["keyslots_size"] = json!(size)));
    }
}

#[test]
fn a_keyslots_area_that_reaches_into_the_data_is_refused() {
    let size = (2 * AREA + 4096).to_string();
    let reason = "begins before the keyslots area ends";
    refuses(reason, config(|config| config["keyslots_size"] = json!(size)));
}

#[test]
fn flags_are_read_and_kept() {
    let volume = accepts(config(|config| config["flags"] = json!(["allow-discards", "x-other"])));
    let header = volume.luks2();
    assert_eq!(header.metadata().config.flags, ["allow-discards", "x-other"]);
    let (header, _) = header.set_labels(Some("label"), None).unwrap();
    assert!(header.json().contains("\"flags\":[\"allow-discards\",\"x-other\"]"));
}

#[test]
fn an_empty_list_of_requirements_requires_nothing() {
    let volume = accepts(config(|config| config["requirements"] = json!({ "mandatory": [] })));
    assert!(volume.header().payload(volume.bytes.len() as u64).is_ok());
    assert!(volume.adding("new", &volume.keyslot()).is_ok());
}

#[test]
fn an_unknown_requirement_is_parsed_and_refused_for_opening_and_for_changes() {
    // The passphrase is still told right from wrong, as cryptsetup does.
    let volume = accepts(config(|config| {
        config["requirements"] = json!({ "mandatory": ["x-unheard-of"] });
    }));
    let unmet = Error::Requirement { name: "x-unheard-of".to_owned() };
    let header = volume.luks2();
    assert_eq!(volume.header().payload(1 << 30), Err(unmet.clone()));
    assert_eq!(volume.adding("new", &volume.keyslot()).unwrap_err(), unmet);
    assert_eq!(volume.changing(0, "new").unwrap_err(), unmet);
    assert_eq!(volume.header().erase(&mut rng(1)).unwrap_err(), unmet);
    assert_eq!(header.set_labels(Some("x"), None).unwrap_err(), unmet);
    let token = r#"{"type":"x","keyslots":[]}"#;
    assert_eq!(header.import_token(None, token).unwrap_err(), unmet);
    assert_eq!(strongroom_luks::to_luks1(&header, u64::MAX).unwrap_err(), unmet);
    let bytes = volume.bytes[..volume.header().backup_len() as usize].to_vec();
    assert_eq!(strongroom_luks::Backup::read(bytes).unwrap_err(), unmet);
}

#[test]
fn reencryption_requirements_are_refused_for_opening_by_name() {
    for name in
        ["offline-reencrypt", "online-reencrypt", "online-reencrypt-v2", "online-reencrypt-v3"]
    {
        let volume = accepts(config(|config| {
            config["requirements"] = json!({ "mandatory": [name] });
        }));
        assert_eq!(volume.header().payload(1 << 30), Err(Error::Reencryption));
        assert!(volume.adding("new", &volume.keyslot()).is_err());
    }
}

#[test]
fn a_reencryption_keyslot_without_its_requirement_is_refused_for_opening() {
    let volume = accepts(|json| {
        json["keyslots"]["1"] = json!({
            "type": "reencrypt", "key_size": 1, "mode": "decrypt", "direction": "forward",
            "area": { "type": "none", "offset": (32768 + AREA).to_string(), "size": "4096" },
        });
    });
    assert_eq!(volume.header().payload(1 << 30), Err(Error::Reencryption));
}
