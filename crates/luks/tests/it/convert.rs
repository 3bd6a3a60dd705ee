//! Conversion in place, and everything that stands in its way.

use serde_json::{Value, json};
use strongroom_luks::{Binding, Error, FormatOptions, Header, NewKeyslot, RepairScope, Version};
use strongroom_luks::{to_luks1, to_luks2};

use crate::device::{cheap, policy, rng};
use crate::volume::{AREA, HEADERS, Volume, small_options};

fn up(volume: &mut Volume) -> Result<(), Error> {
    let (header, change) = to_luks2(&volume.luks1(), &volume.bytes, &mut rng(8))?;
    volume.apply(&change);
    assert_eq!(volume.found().unwrap().recovery, None);
    assert_eq!(volume.header(), Header::Luks2(header));
    Ok(())
}

fn down(volume: &mut Volume) -> Result<(), Error> {
    let (header, change) = to_luks1(&volume.luks2(), volume.bytes.len() as u64)?;
    volume.apply(&change);
    assert_eq!(volume.header(), Header::Luks1(header));
    Ok(())
}

/// A LUKS2 volume that converts to LUKS1.
fn plain() -> Volume {
    Volume::small(Version::Luks2, 9)
}

#[track_caller]
fn refused(volume: &Volume, reason: &str) {
    let error = to_luks1(&volume.luks2(), volume.bytes.len() as u64).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[track_caller]
fn refuses(reason: &str, edit: impl FnOnce(&mut Value)) {
    let mut volume = plain();
    volume.edit(edit);
    refused(&volume, reason);
}

#[test]
fn keys_uuid_and_payload_survive_the_way_there_and_back() {
    for count in [1, 3, 7] {
        let mut volume = Volume::small(Version::Luks1, 8);
        for id in 1..count {
            volume.add(&id.to_string());
        }
        let len = volume.bytes.len() as u64;
        let (uuid, payload) = (volume.header().uuid().to_owned(), volume.header().payload(len));
        for convert in [up, down, up, down] {
            convert(&mut volume).unwrap();
            assert!(volume.opens("old"));
            assert!((1..count).all(|id| volume.opens(&id.to_string())));
            assert_eq!(volume.header().uuid(), uuid);
            assert_eq!(volume.header().payload(len), payload);
            let ids: Vec<_> = volume.header().keyslots().iter().map(|slot| slot.id).collect();
            assert_eq!(ids, (0..count).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_converted_volume_takes_further_keys() {
    let mut volume = Volume::small(Version::Luks1, 8);
    up(&mut volume).unwrap();
    let new = NewKeyslot { kdf: cheap(Version::Luks2), ..volume.keyslot() };
    let (_, change) = volume.adding("new", &new).unwrap();
    volume.apply(&change);
    assert!(volume.opens("old") && volume.opens("new"));
    volume.remove(1);
    down(&mut volume).unwrap();
    assert_eq!(volume.add("newer"), 1);
    assert!(volume.opens("old") && volume.opens("newer"));
}

#[test]
fn nothing_of_luks2_is_left_after_conversion_to_luks1() {
    let mut volume = plain();
    down(&mut volume).unwrap();
    let rest = &volume.bytes[1024..HEADERS as usize];
    assert!(rest.iter().all(|&byte| byte == 0));
    volume.bytes[..512].fill(0);
    assert_eq!(volume.found(), Err(Error::NotLuks));
}

#[test]
fn a_layout_packed_as_qemu_does_converts_while_a_keyslot_is_free() {
    let packed = 4096 + 8 * AREA;
    let options = FormatOptions { data_offset: Some(packed), ..small_options(Version::Luks1, 8) };
    let mut volume = Volume::new(&options);
    for id in 1..7 {
        volume.add(&id.to_string());
    }
    let mut full = volume.clone();
    up(&mut volume).unwrap();
    assert!(volume.opens("old") && (1..7).all(|id| volume.opens(&id.to_string())));
    full.add("7");
    let error = up(&mut full).unwrap_err();
    assert!(error.to_string().contains("there is no free keyslot"), "{error}");
    assert!(full.opens("old"));
}

#[test]
fn with_all_keyslots_in_use_the_room_behind_them_is_taken() {
    let mut volume = Volume::small(Version::Luks1, 8);
    for id in 1..8 {
        volume.add(&id.to_string());
    }
    up(&mut volume).unwrap();
    assert!(volume.opens("old") && (1..8).all(|id| volume.opens(&id.to_string())));
}

#[test]
fn a_full_detached_header_says_how_far_its_conversion_reaches() {
    let options = FormatOptions { detached: true, ..small_options(Version::Luks1, 8) };
    let mut volume = Volume::new(&options);
    for id in 1..8 {
        volume.add(&id.to_string());
    }
    let end = volume.header().backup_len();
    volume.bytes.truncate(end as usize);
    assert!(volume.header().is_detached());
    let (_, change) = to_luks2(&volume.luks1(), &volume.bytes, &mut rng(8)).unwrap();
    assert!(change.end() > end);
    volume.apply(&change);
    assert_eq!(volume.bytes.len() as u64, change.end());
    assert!(volume.opens("old") && (1..8).all(|id| volume.opens(&id.to_string())));
}

#[test]
fn a_payload_at_an_odd_sector_converts() {
    for sectors in [0, 1, 7] {
        let offset = 4096 + 8 * AREA + sectors * 512;
        let options =
            FormatOptions { data_offset: Some(offset), ..small_options(Version::Luks1, 8) };
        let mut volume = Volume::new(&options);
        up(&mut volume).unwrap();
        assert!(volume.opens("old"));
        down(&mut volume).unwrap();
        assert!(volume.opens("old"));
    }
}

#[test]
fn the_material_of_the_abandoned_place_is_gone() {
    let mut volume = Volume::small(Version::Luks1, 8);
    let before = volume.bytes[HEADERS as usize..4096 + 128_000].to_vec();
    up(&mut volume).unwrap();
    let after = &volume.bytes[HEADERS as usize..4096 + 128_000];
    let same = before.iter().zip(after).filter(|(one, other)| one == other).count();
    assert!(same < before.len() / 100);
}

#[test]
fn a_cipher_or_hash_that_is_unknown_is_not_converted() {
    for (offset, name) in [(8, &b"rot13\0"[..]), (72, b"md5\0")] {
        let mut volume = Volume::small(Version::Luks1, 8);
        volume.put(offset, name);
        assert!(matches!(up(&mut volume), Err(Error::Crypto(_))));
    }
}

#[test]
fn labels_are_refused_for_luks1() {
    for (label, subsystem) in [(Some("x"), None), (None, Some("x"))] {
        let mut volume = plain();
        let (_, change) = volume.luks2().set_labels(label, subsystem).unwrap();
        volume.apply(&change);
        refused(&volume, "label or subsystem");
    }
}

#[test]
fn tokens_are_refused_for_luks1() {
    refuses("tokens", |json| json["tokens"]["0"] = json!({ "type": "x", "keyslots": [] }));
}

#[test]
fn unbound_keys_are_refused_for_luks1() {
    let mut volume = plain();
    let new = NewKeyslot { binding: Binding::None, ..volume.keyslot() };
    let (_, change) = volume.adding("unbound", &new).unwrap();
    volume.apply(&change);
    refused(&volume, "several digests");
}

#[test]
fn several_segments_are_refused_for_luks1() {
    refuses("several digests or segments", |json| {
        let mut second = json["segments"]["0"].clone();
        let offset = HEADERS + 9 * AREA;
        json["segments"]["0"]["size"] = json!("4096");
        second["offset"] = json!((offset + 4096).to_string());
        json["segments"]["1"] = second;
        json["digests"]["0"]["segments"] = json!(["0", "1"]);
    });
}

#[test]
fn segments_that_luks1_does_not_have_are_refused_for_it() {
    for (member, value) in [
        ("sector_size", json!(4096)),
        ("iv_tweak", json!("8")),
        ("integrity", json!({ "type": "aead" })),
        ("type", json!("hw-opal")),
    ] {
        refuses("larger than 512 bytes", |json| json["segments"]["0"][member] = value);
    }
    refuses("the data does not reach to the end of the device", |json| {
        json["segments"]["0"]["size"] = json!("4096");
    });
    refuses("beyond 2 TiB", |json| {
        json["segments"]["0"]["offset"] = json!((1u64 << 42).to_string());
    });
}

#[test]
fn names_that_do_not_fit_the_luks1_header_are_refused() {
    for cipher in [format!("{}-plain", "a".repeat(32)), format!("aes-{}", "b".repeat(5000))] {
        refuses("too long", |json| {
            json["segments"]["0"]["encryption"] = json!(cipher);
            json["keyslots"]["0"]["area"]["encryption"] = json!(cipher);
        });
    }
    refuses("too long", |json| json["digests"]["0"]["hash"] = json!("h".repeat(3000)));
    refuses("has no mode", |json| json["segments"]["0"]["encryption"] = json!("aes"));
}

#[test]
fn argon2_is_refused_for_luks1() {
    let mut volume = plain();
    let new = NewKeyslot { kdf: cheap(Version::Luks2), ..volume.keyslot() };
    let (_, change) = volume.adding("new", &new).unwrap();
    volume.apply(&change);
    refused(&volume, "keyslot 1 has argon2");
}

#[test]
fn keyslots_that_luks1_does_not_have_are_refused_for_it() {
    let keyslot = |member: &'static str, value: Value| {
        move |json: &mut Value| json["keyslots"]["0"][member] = value
    };
    refuses("another hash than the digest", |json| {
        json["keyslots"]["0"]["kdf"]["hash"] = json!("sha512");
    });
    refuses("another hash than the digest", |json| {
        json["keyslots"]["0"]["af"]["hash"] = json!("sha512");
    });
    refuses("encrypted another way than the data", |json| {
        json["keyslots"]["0"]["area"]["encryption"] = json!("serpent-xts-plain64");
    });
    refuses("encrypted another way than the data", |json| {
        json["keyslots"]["0"]["area"]["key_size"] = json!(64);
    });
    refuses("of a type that LUKS1 does not have", keyslot("type", json!("x-other")));
    let mut volume = plain();
    let new = NewKeyslot { id: Some(8), ..volume.keyslot() };
    let (_, change) = volume.adding("new", &new).unwrap();
    volume.apply(&change);
    refused(&volume, "keyslot 8 has a number above 7");
}

#[test]
fn a_header_without_keyslots_is_refused_for_luks1() {
    let mut volume = plain();
    let (_, change) = volume.header().erase(&mut rng(1)).unwrap();
    volume.apply(&change);
    refused(&volume, "no keyslot");
}

#[test]
fn a_device_that_ends_before_the_eighth_luks1_keyslot_is_refused() {
    let mut volume = Volume::new(&FormatOptions {
        detached: true,
        keyslots_size: Some(4 * AREA),
        ..small_options(Version::Luks2, 4)
    });
    volume.bytes.truncate((HEADERS + 4 * AREA) as usize);
    assert!(volume.opens("old"));
    let before = volume.bytes.clone();
    refused(&volume, "its 8 keyslots need");
    assert_eq!(volume.bytes, before);
    volume.bytes.resize(4 << 20, 0);
    down(&mut volume).unwrap();
    assert!(volume.opens("old"));
}

#[test]
fn priorities_and_flags_are_refused_for_luks1() {
    for priority in [0, 2] {
        refuses("keyslot 0 has a priority", |json| {
            json["keyslots"]["0"]["priority"] = json!(priority);
        });
    }
    refuses("persistent flags", |json| json["config"]["flags"] = json!(["allow-discards"]));
}

#[test]
fn requirements_are_refused_for_luks1() {
    refuses("x-new", |json| json["config"]["requirements"] = json!({ "mandatory": ["x-new"] }));
}

#[test]
fn a_digest_that_is_longer_than_luks1s_still_tells_the_key() {
    let mut volume = plain();
    down(&mut volume).unwrap();
    let header = volume.header();
    assert_eq!(header.verify_volume_key(&volume.key(), &policy()), Ok(()));
    let other = strongroom_crypto::VolumeKey::new(vec![1; 32]);
    assert_eq!(header.verify_volume_key(&other, &policy()), Err(Error::WrongVolumeKey));
    assert!(!volume.opens("other"));
}

/// What the second sector of a device begins with, in the salt of keyslot 6.
const SECOND_SECTOR: usize = 512;
/// Where the salt of keyslot 0 begins.
const FIRST_SALT: usize = 208 + 8;
const GPT: &[u8] = b"EFI PART";

#[test]
fn a_salt_that_reads_like_a_partition_table_is_refused_until_it_is_gone() {
    let mut used = Volume::small(Version::Luks1, 8);
    for id in 1..8 {
        used.add(&id.to_string());
    }
    used.bytes[SECOND_SECTOR..][..GPT.len()].copy_from_slice(GPT);
    let error = up(&mut used).unwrap_err().to_string();
    assert!(error.contains("keyslot 6") && error.contains("another keyslot"), "{error}");

    // One that would be moved there.
    let mut moved = Volume::small(Version::Luks1, 8);
    for id in 1..6 {
        moved.add(&id.to_string());
    }
    moved.bytes[FIRST_SALT + 8..][..GPT.len()].copy_from_slice(GPT);
    let error = up(&mut moved).unwrap_err().to_string();
    assert!(error.contains("keyslot 0") && error.contains("another keyslot"), "{error}");

    let mut unused = Volume::small(Version::Luks1, 8);
    unused.bytes[SECOND_SECTOR..][..GPT.len()].copy_from_slice(GPT);
    let error = up(&mut unused).unwrap_err().to_string();
    assert!(error.contains("keyslot 6") && error.contains("repair"), "{error}");
    let len = unused.bytes.len() as u64;
    let repaired = Header::repair(&unused.bytes, len, RepairScope::SureDamage, &mut rng(1));
    let (_, change, done) = repaired.unwrap().expect("there is something to repair");
    assert_eq!(done, ["removed the signature of a partition table from keyslot 6"]);
    unused.apply(&change);
    up(&mut unused).unwrap();
    assert!(unused.opens("old"));
}
