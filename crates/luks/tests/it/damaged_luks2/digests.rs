//! Digests (specification, section 3.4).

use serde_json::{Value, json};

use super::{accepts, drop_member, refuses, volume};

fn digest(edit: impl FnOnce(&mut Value)) -> impl FnOnce(&mut Value) {
    |json| edit(&mut json["digests"]["0"])
}

#[test]
fn every_member_is_mandatory() {
    for member in ["type", "keyslots", "segments", "hash", "iterations", "salt", "digest"] {
        let reason = format!("digest 0: {member} is missing");
        refuses(&reason, digest(|digest| drop_member(digest, member)));
    }
}

#[test]
fn members_of_the_wrong_type_are_refused() {
    for (member, wrong, reason) in [
        ("keyslots", json!("0"), "keyslots is not an array"),
        ("keyslots", json!([0]), "keyslots holds something that is no number"),
        ("keyslots", json!(["x"]), "keyslots holds something that is no number"),
        ("segments", json!({}), "segments is not an array"),
        ("segments", json!([null]), "segments holds something that is no number"),
        ("hash", json!(1), "hash is not a string"),
        ("iterations", json!("1000"), "iterations is not a number"),
        ("salt", json!(1), "salt is not a string"),
        ("salt", json!("?"), "salt is not base64"),
        ("digest", json!("?"), "digest is not base64"),
    ] {
        refuses(reason, digest(|digest| digest[member] = wrong));
    }
}

#[test]
fn a_digest_that_names_a_missing_keyslot_is_refused() {
    refuses(
        "names keyslot 5, which is missing",
        digest(|object| object["keyslots"] = json!(["0", "5"])),
    );
}

#[test]
fn a_digest_that_names_a_missing_segment_is_refused() {
    refuses(
        "names segment 1, which is missing",
        digest(|object| object["segments"] = json!(["0", "1"])),
    );
}

#[test]
fn a_digest_that_names_something_twice_is_refused() {
    refuses("names 0 twice", digest(|digest| digest["keyslots"] = json!(["0", "0"])));
}

#[test]
fn a_salt_of_another_length_is_refused() {
    refuses("salt is not 32 bytes", digest(|digest| digest["salt"] = json!("AAAA")));
}

#[test]
fn a_digest_without_iterations_is_refused() {
    refuses("digest 0: has no iterations", digest(|digest| digest["iterations"] = json!(0)));
}

#[test]
fn a_digest_that_is_too_short_to_mean_anything_is_refused() {
    for text in ["", "AA==", &"AAAA".repeat(6)] {
        refuses("digest 0", digest(|digest| digest["digest"] = json!(text)));
    }
    refuses("digest 0", digest(|digest| digest["digest"] = json!("AAAA".repeat(22))));
}

#[test]
fn the_largest_digest_is_7() {
    let unbound = |json: &mut Value, id: &str| {
        let mut digest = json["digests"]["0"].clone();
        digest["keyslots"] = json!([]);
        digest["segments"] = json!([]);
        json["digests"][id] = digest;
    };
    accepts(|json| unbound(json, "7"));
    refuses("digest 8", |json| unbound(json, "8"));
}

#[test]
fn a_segment_with_two_digests_is_refused() {
    refuses("segment 0: is bound to several digests", |json| {
        let mut digest = json["digests"]["0"].clone();
        digest["keyslots"] = json!([]);
        json["digests"]["1"] = digest;
    });
}

#[test]
fn a_segment_without_a_digest_is_refused() {
    refuses("segment 0: is bound to no digest", digest(|digest| digest["segments"] = json!([])));
}

#[test]
fn a_digest_of_an_unknown_type_opens_nothing() {
    let mut volume = volume();
    volume.edit(digest(|digest| digest["type"] = json!("x-other")));
    assert!(volume.found().is_ok());
    assert!(!volume.opens("old"));
}

#[test]
fn a_digest_of_an_unknown_hash_opens_nothing() {
    let mut volume = volume();
    volume.edit(digest(|digest| digest["hash"] = json!("crc32")));
    assert!(volume.found().is_ok());
    assert!(!volume.opens("old"));
}

#[test]
fn a_huge_list_of_names_is_refused_quickly() {
    let mut volume = crate::volume::Volume::new(&strongroom_luks::FormatOptions {
        metadata_size: Some(4 << 20),
        data_offset: Some(16 << 20),
        ..crate::volume::small_options(strongroom_luks::Version::Luks2, 2)
    });
    let names: Vec<String> = (0..400_000).map(|number| number.to_string()).collect();
    volume.edit(digest(|digest| digest["keyslots"] = json!(names)));
    super::refused(&volume, "digest 0");
}
