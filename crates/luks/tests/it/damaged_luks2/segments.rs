//! Segments (specification, section 3.3), and what is refused for opening.

use serde_json::{Value, json};
use strongroom_luks::{Error, Header};

use super::{accepts, drop_member, refuses, volume};
use crate::volume::{AREA, HEADERS, Volume};

/// Where the data of these volumes begins.
const DATA: u64 = HEADERS + 2 * AREA;

fn segment(edit: impl FnOnce(&mut Value)) -> impl FnOnce(&mut Value) {
    |json| edit(&mut json["segments"]["0"])
}

fn crypt(offset: u64, size: &str) -> Value {
    json!({
        "type": "crypt",
        "offset": offset.to_string(),
        "size": size,
        "iv_tweak": "0",
        "encryption": "aes-xts-plain64",
        "sector_size": 512,
    })
}

/// Two segments of 4096 and any number of bytes, both bound to digest 0.
fn two(json: &mut Value) {
    json["segments"]["0"] = crypt(DATA, "4096");
    json["segments"]["1"] = crypt(DATA + 4096, "dynamic");
    json["digests"]["0"]["segments"] = json!(["0", "1"]);
}

fn payload(volume: &Volume) -> Result<strongroom_luks::Payload, Error> {
    volume.header().payload(volume.bytes.len() as u64)
}

#[test]
fn every_member_is_mandatory() {
    for member in ["type", "offset", "size", "iv_tweak", "encryption", "sector_size"] {
        let reason = format!("segment 0: {member} is missing");
        refuses(&reason, segment(|segment| drop_member(segment, member)));
    }
}

#[test]
fn members_of_the_wrong_type_are_refused() {
    for (member, wrong, reason) in [
        ("type", json!(0), "type is not a string"),
        ("offset", json!(DATA), "offset is not a string"),
        ("offset", json!("-512"), "offset is not a 64-bit decimal string"),
        ("size", json!(4096), "size is not a string"),
        ("size", json!("static"), "size is not a 64-bit decimal string"),
        ("iv_tweak", json!(0), "iv_tweak is not a string"),
        ("encryption", json!(null), "encryption is not a string"),
        ("sector_size", json!("512"), "sector_size is not a number"),
        ("integrity", json!("hmac"), "integrity is not an object"),
        ("integrity", json!({}), "type is missing"),
        ("flags", json!("x"), "flags is not an array"),
        ("flags", json!([1]), "flags holds something that is no string"),
    ] {
        refuses(reason, segment(|segment| segment[member] = wrong));
    }
}

#[test]
fn a_volume_without_segments_is_refused() {
    refuses("segment 0 is missing", |json| {
        json["segments"] = json!({});
        json["digests"]["0"]["segments"] = json!([]);
    });
}

#[test]
fn a_gap_in_the_numbers_is_refused() {
    refuses("leaves a gap", |json| {
        two(json);
        let second = json["segments"]["1"].clone();
        drop_member(&mut json["segments"], "1");
        json["segments"]["2"] = second;
        json["digests"]["0"]["segments"] = json!(["0", "2"]);
    });
}

#[test]
fn a_dynamic_segment_that_is_not_the_last_is_refused() {
    refuses("is dynamic but not the last one", |json| {
        two(json);
        json["segments"]["0"]["size"] = json!("dynamic");
        json["segments"]["1"]["size"] = json!("4096");
    });
}

#[test]
fn overlapping_segments_are_refused() {
    for offset in [DATA, DATA + 512, DATA + 3584] {
        refuses("overlaps segment 0", |json| {
            two(json);
            json["segments"]["1"]["offset"] = json!(offset.to_string());
        });
    }
}

#[test]
fn an_offset_that_is_no_multiple_of_512_is_refused() {
    for offset in [DATA + 1, DATA + 511] {
        let reason = "not a multiple of 512";
        refuses(reason, segment(|segment| segment["offset"] = json!(offset.to_string())));
    }
}

#[test]
fn a_size_that_is_no_multiple_of_the_sector_size_is_refused() {
    refuses("its sector size", segment(|segment| segment["size"] = json!("4097")));
    refuses(
        "its sector size",
        segment(|segment| {
            segment["sector_size"] = json!(4096);
            segment["size"] = json!("512");
        }),
    );
}

#[test]
fn sector_sizes_that_do_not_exist_are_refused() {
    for size in [0, 1, 256, 511, 513, 1536, 8192] {
        refuses("sector_size", segment(|segment| segment["sector_size"] = json!(size)));
    }
}

#[test]
fn an_empty_segment_is_refused() {
    refuses("is empty", segment(|segment| segment["size"] = json!("0")));
}

#[test]
fn a_segment_whose_end_overflows_is_refused() {
    refuses(
        "ends past any device",
        segment(|segment| {
            segment["size"] = json!((u64::MAX - 511).to_string());
        }),
    );
    refuses(
        "ends past any device",
        segment(|segment| {
            segment["offset"] = json!((u64::MAX - 511).to_string());
            segment["size"] = json!("512");
        }),
    );
}

#[test]
fn a_segment_without_a_cipher_is_refused() {
    refuses("names no cipher", segment(|segment| segment["encryption"] = json!("")));
}

#[test]
fn data_inside_header_or_keyslots_area_are_refused() {
    for offset in [512, 16384, HEADERS, HEADERS + AREA, DATA - 512] {
        let reason = "begins before the keyslots area ends";
        refuses(reason, segment(|segment| segment["offset"] = json!(offset.to_string())));
    }
}

#[test]
fn the_data_of_a_detached_header_begin_at_zero() {
    let volume = accepts(segment(|segment| segment["offset"] = json!("0")));
    assert_eq!(payload(&volume).unwrap().offset, 0);
}

#[test]
fn backup_segments_are_numbered_behind_the_regular_ones() {
    let backup = |json: &mut Value, number: &str| {
        let mut backup = crypt(DATA, "dynamic");
        backup["flags"] = json!(["backup-final"]);
        json["segments"][number] = backup;
        json["digests"]["0"]["segments"] = json!(["0", number]);
    };
    let volume = accepts(|json| backup(json, "1"));
    assert!(matches!(payload(&volume), Err(Error::Segment { .. })));
    refuses("leaves a gap", |json| {
        two(json);
        let regular = json["segments"]["1"].clone();
        backup(json, "1");
        json["segments"]["2"] = regular;
        json["digests"]["0"]["segments"] = json!(["0", "2"]);
    });
    refuses("leaves a gap", |json| backup(json, "2"));
}

#[test]
fn a_volume_with_nothing_but_a_backup_segment_is_refused() {
    refuses("segment 0", segment(|segment| segment["flags"] = json!(["backup-previous"])));
}

#[test]
fn the_largest_segment_is_31() {
    refuses("segment 32", |json| json["segments"]["32"] = crypt(DATA, "dynamic"));
}

#[test]
fn integrity_segments_are_parsed_and_refused_for_opening() {
    let volume = accepts(segment(|segment| {
        segment["integrity"] = json!({
            "type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none",
        });
    }));
    let error = payload(&volume).unwrap_err();
    assert_eq!(error, Error::Integrity { kind: "hmac(sha256)".to_owned() });
}

#[test]
fn unknown_and_plain_segments_are_refused_for_opening() {
    for kind in ["hw-opal", "linear", "x-other"] {
        let volume = accepts(segment(|segment| segment["type"] = json!(kind)));
        assert!(matches!(payload(&volume), Err(Error::Segment { id: 0, .. })));
    }
}

#[test]
fn several_segments_are_parsed_and_refused_for_opening() {
    let volume = accepts(two);
    assert!(matches!(payload(&volume), Err(Error::Segment { .. })));
}

#[test]
fn the_null_cipher_is_refused_for_opening() {
    for cipher in ["cipher_null-ecb", "cipher_null", "null-ecb"] {
        let volume = accepts(segment(|segment| segment["encryption"] = json!(cipher)));
        let text = payload(&volume).unwrap_err().to_string();
        assert!(text.contains("null cipher does not encrypt"), "{text}");
    }
}

#[test]
fn a_cipher_that_does_not_fit_the_key_is_refused_for_opening() {
    for cipher in
        ["cast5-cbc-plain", "capi:xts(aes)-plain64", "aes-gcm-random", "serpent-lrw-benbi"]
    {
        let volume = accepts(segment(|segment| segment["encryption"] = json!(cipher)));
        assert!(matches!(payload(&volume), Err(Error::Crypto(_))), "{cipher}");
    }
}

#[test]
fn data_past_the_end_of_the_device_are_refused_for_opening() {
    let volume = accepts(segment(|segment| segment["size"] = json!((1u64 << 40).to_string())));
    assert!(matches!(payload(&volume), Err(Error::Truncated { .. })));
    let volume = accepts(segment(|segment| segment["offset"] = json!((1u64 << 40).to_string())));
    assert!(matches!(payload(&volume), Err(Error::Truncated { .. })));
}

#[test]
fn an_image_cut_inside_a_sector_is_refused_for_opening() {
    let volume = volume();
    let header: Header = volume.header();
    assert!(header.payload(DATA + 1024).is_ok());
    let text = header.payload(DATA + 1023).unwrap_err().to_string();
    assert!(text.contains("cut short"), "{text}");
}

#[test]
fn names_from_the_header_reach_no_terminal_raw() {
    let volume = accepts(segment(|segment| segment["integrity"] = json!({ "type": "\u{1b}[2J" })));
    assert!(!payload(&volume).unwrap_err().to_string().contains('\u{1b}'));
    let volume = accepts(segment(|segment| segment["type"] = json!("\u{1b}[2J")));
    assert!(!payload(&volume).unwrap_err().to_string().contains('\u{1b}'));
}
