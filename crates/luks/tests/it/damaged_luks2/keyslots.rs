//! Keyslots (specification, section 3.2).

use serde_json::{Value, json};
use strongroom_luks::luks2::Priority;

use super::{accepts, add_keyslot, drop_member, refuses};
use crate::volume::{AREA, HEADERS};

/// The end of the keyslots area of these volumes.
const END: u64 = HEADERS + 2 * AREA;

fn keyslot(edit: impl FnOnce(&mut Value)) -> impl FnOnce(&mut Value) {
    |json| edit(&mut json["keyslots"]["0"])
}

fn area(offset: u64, size: u64) -> impl FnOnce(&mut Value) {
    keyslot(move |keyslot| {
        keyslot["area"]["offset"] = json!(offset.to_string());
        keyslot["area"]["size"] = json!(size.to_string());
    })
}

#[test]
fn every_member_is_mandatory() {
    for member in ["type", "key_size", "area", "kdf", "af"] {
        let reason = format!("keyslot 0: {member} is missing");
        refuses(&reason, keyslot(|keyslot| drop_member(keyslot, member)));
    }
}

#[test]
fn every_member_of_the_area_is_mandatory() {
    for member in ["type", "offset", "size", "encryption", "key_size"] {
        let reason = format!("keyslot 0 area: {member} is missing");
        refuses(&reason, keyslot(|keyslot| drop_member(&mut keyslot["area"], member)));
    }
}

#[test]
fn every_member_of_the_splitter_is_mandatory() {
    for member in ["type", "stripes", "hash"] {
        let reason = format!("keyslot 0 af: {member} is missing");
        refuses(&reason, keyslot(|keyslot| drop_member(&mut keyslot["af"], member)));
    }
}

#[test]
fn every_member_of_the_derivation_is_mandatory() {
    for member in ["type", "hash", "iterations", "salt"] {
        let reason = format!("keyslot 0 kdf: {member} is missing");
        refuses(&reason, keyslot(|keyslot| drop_member(&mut keyslot["kdf"], member)));
    }
    for member in ["time", "memory", "cpus", "salt"] {
        let reason = format!("keyslot 0 kdf: {member} is missing");
        refuses(
            &reason,
            keyslot(|keyslot| {
                keyslot["kdf"] = argon2(&keyslot["kdf"]["salt"]);
                drop_member(&mut keyslot["kdf"], member);
            }),
        );
    }
}

fn argon2(salt: &Value) -> Value {
    json!({ "type": "argon2id", "time": 4, "memory": 32, "cpus": 1, "salt": salt })
}

#[test]
fn members_of_the_wrong_type_are_refused() {
    for (member, wrong, reason) in [
        ("type", json!(1), "type is not a string"),
        ("key_size", json!("32"), "key_size is not a number"),
        ("key_size", json!(-32), "key_size is not a number"),
        ("key_size", json!(32.5), "key_size is not a number"),
        ("key_size", json!(1u64 << 31), "key_size is not a number"),
        ("area", json!([]), "area is not an object"),
        ("kdf", json!("pbkdf2"), "kdf is not an object"),
        ("af", json!(null), "af is not an object"),
    ] {
        refuses(reason, keyslot(|keyslot| keyslot[member] = wrong));
    }
}

#[test]
fn sixty_four_bit_values_written_as_numbers_are_refused() {
    refuses("offset is not a string", keyslot(|slot| slot["area"]["offset"] = json!(32768)));
    refuses("size is not a string", keyslot(|slot| slot["area"]["size"] = json!(131_072)));
}

#[test]
fn sixty_four_bit_values_that_are_not_plain_decimal_are_refused() {
    for text in ["", "-1", "+32768", " 32768", "32768 ", "0x8000", "032768", "1e5", "x"] {
        let reason = "offset is not a 64-bit decimal string";
        refuses(reason, keyslot(|keyslot| keyslot["area"]["offset"] = json!(text)));
    }
    for text in ["18446744073709551616", "99999999999999999999999"] {
        let reason = "size is not a 64-bit decimal string";
        refuses(reason, keyslot(|keyslot| keyslot["area"]["size"] = json!(text)));
    }
}

#[test]
fn an_area_before_the_keyslots_area_is_refused() {
    for offset in [0, 4096, 16384, HEADERS - 4096, HEADERS - 1] {
        refuses("begins before the keyslots area", area(offset, AREA));
    }
}

#[test]
fn an_area_past_the_keyslots_area_is_refused() {
    refuses("ends past the keyslots area", area(END - AREA + 4096, AREA));
    refuses("ends past the keyslots area", area(END, AREA));
    refuses("ends past the keyslots area", area(HEADERS, 2 * AREA + 1));
    refuses("ends past the keyslots area", area(1 << 40, AREA));
}

#[test]
fn an_area_whose_end_overflows_is_refused() {
    refuses("ends past the keyslots area", area(u64::MAX - 4095, AREA));
    refuses("ends past the keyslots area", area(u64::MAX, u64::MAX));
    refuses("ends past the keyslots area", area(HEADERS, u64::MAX - HEADERS + 1));
}

#[test]
fn an_area_that_is_too_small_for_its_key_is_refused() {
    refuses("too small", area(HEADERS, 127_999));
    refuses("is empty", area(HEADERS, 0));
    accepts(area(HEADERS, 128_000));
}

#[test]
fn overlapping_areas_are_refused() {
    for offset in [HEADERS, HEADERS + 4096, HEADERS + AREA - 1] {
        refuses("overlaps", |json| {
            add_keyslot(json, 1);
            json["keyslots"]["1"]["area"]["offset"] = json!(offset.to_string());
        });
    }
    accepts(|json| add_keyslot(json, 1));
}

#[test]
fn the_area_of_an_unknown_keyslot_counts_as_taken() {
    let unknown = |offset: u64| {
        json!({
            "type": "x-other",
            "key_size": 32,
            "area": { "type": "raw", "offset": offset.to_string(), "size": AREA.to_string() },
        })
    };
    refuses("overlaps", |json| json["keyslots"]["1"] = unknown(HEADERS + AREA - 4096));
    let mut volume = accepts(|json| json["keyslots"]["1"] = unknown(HEADERS + AREA));
    assert!(volume.adding("new", &volume.keyslot()).is_err());
    volume.edit(|json| drop_member(&mut json["keyslots"], "1"));
    assert!(volume.adding("new", &volume.keyslot()).is_ok());
}

#[test]
fn an_empty_area_is_refused() {
    refuses("area is empty", |json| {
        json["keyslots"]["1"] = json!({
            "type": "x-other",
            "key_size": 32,
            "area": { "type": "raw", "offset": HEADERS.to_string(), "size": "0" },
        });
    });
}

#[test]
fn an_area_that_is_not_raw_is_refused() {
    let reason = "not of type raw";
    refuses(reason, keyslot(|keyslot| keyslot["area"]["type"] = json!("journal")));
}

#[test]
fn an_area_with_the_null_cipher_is_refused() {
    for cipher in ["cipher_null-ecb", "cipher_null", "null"] {
        refuses("null cipher", keyslot(|keyslot| keyslot["area"]["encryption"] = json!(cipher)));
    }
}

#[test]
fn another_number_of_stripes_is_refused() {
    for stripes in [0, 1, 3999, 4001] {
        refuses("stripes", keyslot(|keyslot| keyslot["af"]["stripes"] = json!(stripes)));
    }
}

#[test]
fn another_splitter_is_refused() {
    refuses("af: type", keyslot(|keyslot| keyslot["af"]["type"] = json!("luks2")));
}

#[test]
fn an_unknown_derivation_is_refused() {
    for kind in ["scrypt", "argon2", "argon2d", "PBKDF2", ""] {
        refuses("kdf: type", keyslot(|keyslot| keyslot["kdf"]["type"] = json!(kind)));
    }
}

#[test]
fn a_derivation_with_more_members_than_it_has_is_refused() {
    let reason = "members that do not belong";
    refuses(reason, keyslot(|keyslot| keyslot["kdf"]["time"] = json!(4)));
    refuses(
        reason,
        keyslot(|keyslot| {
            keyslot["kdf"] = argon2(&keyslot["kdf"]["salt"]);
            keyslot["kdf"]["iterations"] = json!(4);
        }),
    );
}

#[test]
fn a_derivation_without_any_work_is_refused() {
    refuses("no iterations", keyslot(|keyslot| keyslot["kdf"]["iterations"] = json!(0)));
    for (member, reason) in [("time", "no iterations"), ("cpus", "no lanes")] {
        refuses(
            reason,
            keyslot(|keyslot| {
                keyslot["kdf"] = argon2(&keyslot["kdf"]["salt"]);
                keyslot["kdf"][member] = json!(0);
            }),
        );
    }
}

#[test]
fn a_salt_that_is_not_base64_is_refused() {
    for text in ["*", "AAA", "AAAA=", "A===", "AA==\n", "\u{e9}"] {
        refuses("salt is not base64", keyslot(|keyslot| keyslot["kdf"]["salt"] = json!(text)));
    }
}

#[test]
fn a_salt_of_another_length_is_refused() {
    for text in ["", "AAAA", &"AAAA".repeat(11), &"AAAA".repeat(100)] {
        refuses("salt is not 32 bytes", keyslot(|keyslot| keyslot["kdf"]["salt"] = json!(text)));
    }
}

#[test]
fn a_key_size_that_is_none_is_refused() {
    for size in [0, 4097, i32::MAX] {
        refuses("key_size", keyslot(|keyslot| keyslot["key_size"] = json!(size)));
    }
}

#[test]
fn a_keyslot_without_a_digest_is_refused() {
    refuses("keyslot 0: is bound to no digest", |json| {
        json["digests"]["0"]["keyslots"] = json!([]);
    });
}

#[test]
fn a_keyslot_with_two_digests_is_refused() {
    refuses("keyslot 0: is bound to several digests", |json| {
        let mut digest = json["digests"]["0"].clone();
        digest["segments"] = json!([]);
        json["digests"]["1"] = digest;
    });
}

#[test]
fn priorities_have_three_values() {
    for (value, priority) in [(0, Priority::Ignore), (1, Priority::Normal), (2, Priority::Prefer)] {
        let mut volume = super::volume();
        volume.edit(keyslot(|keyslot| keyslot["priority"] = json!(value)));
        assert_eq!(volume.luks2().metadata().keyslots[&0].priority, priority);
    }
    for wrong in [json!(3), json!(-1), json!("1"), json!(null), json!(1.0), json!(true)] {
        refuses("priority", keyslot(|keyslot| keyslot["priority"] = wrong));
    }
}

#[test]
fn the_largest_keyslot_is_31() {
    accepts(|json| add_keyslot(json, 31));
    refuses("keyslot 32", |json| add_keyslot(json, 32));
}

#[test]
fn a_reencryption_keyslot_has_a_mode_a_direction_and_a_key_size_of_one() {
    let reencrypt = || {
        json!({
            "type": "reencrypt",
            "key_size": 1,
            "mode": "reencrypt",
            "direction": "forward",
            "area": {
                "type": "none",
                "offset": (HEADERS + AREA).to_string(),
                "size": AREA.to_string(),
            },
        })
    };
    accepts(|json| json["keyslots"]["1"] = reencrypt());
    for (member, wrong, reason) in [
        ("mode", json!("destroy"), "mode is none of"),
        ("mode", json!(1), "mode is not a string"),
        ("direction", json!("sideways"), "direction is none of"),
        ("key_size", json!(32), "key_size of a re-encryption is not 1"),
    ] {
        refuses(reason, |json| {
            json["keyslots"]["1"] = reencrypt();
            json["keyslots"]["1"][member] = wrong;
        });
    }
    for kind in ["raw", "shift", ""] {
        refuses("no type that re-encryption has", |json| {
            json["keyslots"]["1"] = reencrypt();
            json["keyslots"]["1"]["area"]["type"] = json!(kind);
        });
    }
}
