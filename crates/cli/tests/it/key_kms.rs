//! The key in a file, and what a KMS is asked.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::workplace::Workplace;

#[test]
fn the_file_of_a_key_is_its_owners_alone_and_never_replaced() {
    let place = Workplace::new();
    let made: Value =
        serde_json::from_str(&place.strongroom("kms init-local kek --json").ok()).unwrap();
    let mode = place.path("kek").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = place.read("kek");
    place.strongroom("kms init-local kek").fails(2);
    assert!(place.read("kek") == before, "the key was replaced");
    let text = String::from_utf8(before).unwrap();
    assert!(text.contains(made["key_id"].as_str().unwrap()));
    let rotated = place.strongroom("kms rotate-local kek --json").ok();
    assert_eq!(serde_json::from_str::<Value>(&rotated).unwrap()["key_version"], 2);
    assert!(place.read("kek").starts_with(text.as_bytes()), "the old version is gone");
    place.strongroom("kms rotate-local missing").fails(8);
}

#[test]
fn a_probe_tells_how_the_kms_is() {
    let place = Workplace::new();
    place.strongroom("kms init-local kek").ok();
    place.strongroom("kms rotate-local kek").ok();
    let words = "kms probe --kms local --kms-kek-file kek";
    let text = place.strongroom(words).ok();
    for (name, value) in [("newest version", "2"), ("credentials", "they do not expire")] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.ends_with(value), "{line}");
    }
    let probe: Value =
        serde_json::from_str(&place.strongroom(&format!("{words} --json")).ok()).unwrap();
    assert_eq!(
        (&probe["key_version"], &probe["credentials"]["expiry"]),
        (&"2".into(), &"never".into())
    );
    assert!(probe["allowed"].as_array().unwrap().contains(&"encrypt".into()));
    let none = place.strongroom("kms probe").fails(2);
    assert!(none.contains("--kms"), "{none}");
    place.strongroom("kms probe --kms local --kms-kek-file missing").fails(8);
}
