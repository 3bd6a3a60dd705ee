//! Keyslots: which are tried, which number and room a new one gets, what is refused.

use strongroom_crypto::{Argon2Variant, CostPolicy, Hash, Kdf};
use strongroom_luks::luks2::Priority;
use strongroom_luks::{Binding, Error, NewKeyslot, Version};

use crate::device::{passphrase, policy, rng};
use crate::volume::{AREA, CHEAP, Volume};

const BOTH: [Version; 2] = [Version::Luks1, Version::Luks2];

fn preferring(mut volume: Volume, id: u32, priority: Priority) -> Volume {
    let (_, change) = volume.luks2().set_priority(id, priority).unwrap();
    volume.apply(&change);
    volume
}

#[test]
fn preferred_keyslots_are_tried_first_and_ignored_ones_only_by_name() {
    let mut volume = Volume::small(Version::Luks2, 4);
    volume.add("1");
    volume.add("2");
    assert_eq!(volume.header().keyslots_to_try().unwrap(), [0, 1, 2]);
    let volume = preferring(preferring(volume, 2, Priority::Prefer), 0, Priority::Ignore);
    let header = volume.header();
    assert_eq!(header.keyslots_to_try().unwrap(), [2, 1]);
    assert!(!volume.opens("old") && volume.opens("1") && volume.opens("2"));
    let area = header.keyslot_area(0).unwrap();
    let area = &volume.bytes[area.start as usize..area.end as usize];
    let key = header.open_keyslot(0, area, &passphrase("old"), &policy()).unwrap();
    assert_eq!(key, volume.key());
    assert!(!preferring(volume, 0, Priority::Normal).json().to_string().contains("priority\":0"));
}

#[test]
fn a_volume_with_ignored_keyslots_only_has_keyslots() {
    let volume = preferring(Volume::small(Version::Luks2, 4), 0, Priority::Ignore);
    assert_eq!(volume.header().keyslots_to_try(), Ok(Vec::new()));
    assert!(!volume.opens("old"));
}

#[test]
fn an_unbound_key_opens_nothing_and_is_no_volume_key() {
    let mut volume = Volume::small(Version::Luks2, 4);
    let key = strongroom_crypto::VolumeKey::new((0..32).collect());
    let new = NewKeyslot { binding: Binding::None, ..volume.keyslot() };
    let (id, header, change) = volume
        .header()
        .add_keyslot(&key, &passphrase("unbound"), &new, &policy(), &mut rng(1))
        .unwrap();
    volume.apply(&change);
    assert_eq!((id, &header), (1, &volume.header()));
    assert_eq!(header.keyslots()[1].binding, Binding::None);
    assert_eq!(header.keyslots_to_try().unwrap(), [0]);
    assert!(!volume.opens("unbound"));
    assert_eq!(header.verify_volume_key(&key, &policy()), Err(Error::WrongVolumeKey));
    let area = header.keyslot_area(1).unwrap();
    let area = &volume.bytes[area.start as usize..area.end as usize];
    assert_eq!(header.open_keyslot(1, area, &passphrase("unbound"), &policy()).unwrap(), key);
    // Its passphrase can be changed with its own key, and with no other.
    let changing = |key| {
        header.change_keyslot(1, key, &passphrase("x"), &new, &policy(), &mut rng(2)).map(|_| ())
    };
    let volume_key = volume.key();
    assert_eq!(changing(&volume_key), Err(Error::WrongVolumeKey));
    assert_eq!(changing(&key), Ok(()));
    // Without the volume key's last keyslot it would be worth nothing; itself it may go.
    assert_eq!(header.remove_keyslot(0, &mut rng(3)).unwrap_err(), Error::LastKeyslot { id: 0 });
    volume.remove(1);
    let digests = &volume.json()["digests"];
    assert_eq!(digests.as_object().unwrap().len(), 1, "{digests}");
}

#[test]
fn no_passphrase_is_changed_with_a_wrong_key() {
    for version in BOTH {
        let volume = Volume::small(version, 4);
        let (header, new) = (volume.header(), volume.keyslot());
        for binding in [Binding::Volume, Binding::None] {
            for len in [32, 64] {
                let key = strongroom_crypto::VolumeKey::new(vec![7; len]);
                let new = NewKeyslot { binding, ..new };
                let text = passphrase("new");
                let changed = header.change_keyslot(0, &key, &text, &new, &policy(), &mut rng(1));
                assert_eq!(changed.unwrap_err(), Error::WrongVolumeKey);
            }
        }
    }
}

#[test]
fn the_volume_key_padded_with_zeros_is_another_key() {
    for version in BOTH {
        let volume = Volume::small(version, 4);
        let mut padded = volume.key().expose_bytes().to_vec();
        padded.resize(64, 0);
        let padded = strongroom_crypto::VolumeKey::new(padded);
        let header = volume.header();
        assert_eq!(header.verify_volume_key(&padded, &policy()), Err(Error::WrongVolumeKey));
        let new = volume.keyslot();
        let (text, mut rng) = (passphrase("new"), rng(1));
        let added = header.add_keyslot(&padded, &text, &new, &policy(), &mut rng);
        assert_eq!(added.unwrap_err(), Error::WrongVolumeKey);
        let changed = header.change_keyslot(0, &padded, &text, &new, &policy(), &mut rng);
        assert_eq!(changed.unwrap_err(), Error::WrongVolumeKey);
    }
}

#[test]
fn a_new_keyslot_gets_the_first_free_number_or_the_one_asked_for() {
    for version in BOTH {
        let mut volume = Volume::small(version, 8);
        assert_eq!(volume.add("1"), 1);
        assert_eq!(volume.add("2"), 2);
        volume.remove(1);
        assert_eq!(volume.add("again"), 1);
        let at = |id| volume.adding("x", &NewKeyslot { id: Some(id), ..volume.keyslot() });
        assert_eq!(at(5).unwrap().0, 5);
        assert_eq!(at(1).unwrap_err(), Error::KeyslotInUse { id: 1 });
        let last = if version == Version::Luks1 { 7 } else { 31 };
        assert_eq!(at(last).unwrap().0, last);
        let none = Error::KeyslotNumber { id: last + 1, version, last };
        assert_eq!(at(last + 1).unwrap_err(), none);
        assert!(at(u32::MAX).is_err());
    }
}

#[test]
fn changing_a_passphrase_keeps_number_and_tokens_of_luks2() {
    let mut volume = Volume::small(Version::Luks2, 3);
    volume.add("1");
    let token = r#"{"type":"x","keyslots":["1"]}"#;
    let (_, _, change) = volume.luks2().import_token(None, token).unwrap();
    volume.apply(&change);
    assert_eq!(volume.change(1, "new"), 1);
    assert!(volume.opens("old") && volume.opens("new") && !volume.opens("1"));
    assert_eq!(volume.luks2().export_token(0).unwrap(), token);
    assert_eq!(volume.header().keyslots().len(), 2);
}

#[test]
fn a_full_header_takes_no_further_key() {
    for (version, count) in [(Version::Luks1, 8), (Version::Luks2, 32)] {
        let mut volume = Volume::small(version, 33);
        for id in 1..count {
            assert_eq!(volume.add(&id.to_string()), id);
        }
        let full = Error::NoFreeKeyslot { count };
        assert_eq!(volume.adding("new", &volume.keyslot()).unwrap_err(), full);
        assert_eq!(volume.changing(3, "new").unwrap_err(), full);
        assert!((1..count).all(|id| volume.opens(&id.to_string())));
        volume.remove(3);
        assert_eq!(volume.add("new"), 3);
        assert!(volume.opens("new") && !volume.opens("3"));
    }
}

#[test]
fn a_keyslots_area_without_a_gap_takes_no_further_key() {
    let mut volume = Volume::small(Version::Luks2, 2);
    volume.add("1");
    let full = Error::NoRoom { needed: AREA };
    assert_eq!(volume.adding("new", &volume.keyslot()).unwrap_err(), full);
    assert_eq!(volume.changing(0, "new").unwrap_err(), full);
    volume.remove(0);
    assert_eq!(volume.add("new"), 0);
    assert!(volume.opens("new") && volume.opens("1") && !volume.opens("old"));
}

#[test]
fn the_material_of_a_removed_key_is_gone() {
    for version in BOTH {
        let mut volume = Volume::small(version, 2);
        volume.add("1");
        let area = volume.header().keyslot_area(0).unwrap();
        let area = area.start as usize..area.end as usize;
        let before = volume.bytes[area.clone()].to_vec();
        volume.remove(0);
        let same = volume.bytes[area].iter().zip(&before).filter(|(one, other)| one == other);
        assert!(same.count() < before.len() / 100);
    }
}

#[test]
fn erasing_leaves_a_header_that_nobody_opens() {
    for version in BOTH {
        let mut volume = Volume::small(version, 3);
        volume.add("1");
        let (header, change) = volume.header().erase(&mut rng(1)).unwrap();
        volume.apply(&change);
        assert_eq!(volume.header(), header);
        assert_eq!(header.keyslots_to_try(), Err(Error::NoKeyslots));
        assert!(!volume.opens("old") && !volume.opens("1"));
    }
}

#[test]
fn the_last_keyslot_is_not_removed() {
    for version in BOTH {
        let volume = Volume::small(version, 3);
        let header = volume.header();
        let error = header.remove_keyslot(0, &mut rng(1)).unwrap_err();
        assert_eq!(error, Error::LastKeyslot { id: 0 });
        let error = header.remove_keyslot(1, &mut rng(1)).unwrap_err();
        assert_eq!(error, Error::KeyslotUnused { id: 1 });
    }
}

#[test]
fn luks1_has_one_hash_one_derivation_no_priorities_and_no_unbound_keys() {
    let volume = Volume::small(Version::Luks1, 8);
    let new = volume.keyslot();
    let argon2 =
        Kdf::Argon2 { variant: Argon2Variant::Argon2id, time: 4, memory_kib: 32, lanes: 1 };
    for unfit in [
        NewKeyslot { kdf: argon2, ..new },
        NewKeyslot { kdf: Kdf::Pbkdf2 { hash: Hash::Sha512, iterations: 1000 }, ..new },
        NewKeyslot { priority: Priority::Prefer, ..new },
        NewKeyslot { binding: Binding::None, ..new },
    ] {
        let error = volume.adding("new", &unfit).unwrap_err();
        assert!(matches!(error, Error::Unfit { version: Version::Luks1, .. }), "{error}");
    }
}

#[test]
fn a_derivation_cheaper_than_luks_allows_is_refused() {
    for version in BOTH {
        let volume = Volume::small(version, 3);
        let kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 999 };
        let new = NewKeyslot { kdf, ..volume.keyslot() };
        assert!(matches!(volume.adding("new", &new), Err(Error::Crypto(_))));
    }
}

#[test]
fn a_cost_that_the_policy_refuses_is_refused_before_any_work() {
    let strict = CostPolicy { max_time: std::time::Duration::ZERO, ..CostPolicy::default() };
    for version in BOTH {
        let mut volume = Volume::small(version, 3);
        if version == Version::Luks1 {
            volume.put(208 + 4, &u32::MAX.to_be_bytes());
        } else {
            volume.edit(|json| json["keyslots"]["0"]["kdf"]["iterations"] = i32::MAX.into());
        }
        let header = volume.header();
        let area = header.keyslot_area(0).unwrap();
        let area = &volume.bytes[area.start as usize..area.end as usize];
        let refused = header.open_keyslot(0, area, &passphrase("old"), &strict).unwrap_err();
        assert!(matches!(refused, Error::Crypto(strongroom_crypto::Error::CostTime { .. })));
        let refused = header.open_keyslot(0, area, &passphrase("old"), &policy()).unwrap_err();
        assert!(matches!(refused, Error::Crypto(strongroom_crypto::Error::CostTime { .. })));
    }
}

#[test]
fn one_limit_holds_for_a_keyslot_and_its_digest_together() {
    for version in BOTH {
        let volume = Volume::small(version, 3);
        let header = volume.header();
        let area = header.keyslot_area(0).unwrap();
        let area = &volume.bytes[area.start as usize..area.end as usize];
        // 1000 iterations for one block each.
        let cost = header.keyslot_cost(0).unwrap();
        assert_eq!(cost, std::time::Duration::from_millis(2));
        let open = |max_time| {
            let policy = CostPolicy { max_time, ..CostPolicy::default() };
            header.open_keyslot(0, area, &passphrase("old"), &policy)
        };
        assert!(open(cost).is_ok());
        let refused = open(cost / 2 * 3 / 2);
        assert!(matches!(refused, Err(Error::Crypto(strongroom_crypto::Error::CostTime { .. }))));
    }
}

#[test]
fn a_keyslot_that_no_passphrase_opens_does_not_stand_in_for_the_last_one() {
    let mut volume = Volume::small(Version::Luks2, 3);
    volume.add("1");
    volume.edit(|json| json["keyslots"]["1"]["type"] = "x-other".into());
    let header = volume.header();
    assert_eq!(header.remove_keyslot(0, &mut rng(1)).unwrap_err(), Error::LastKeyslot { id: 0 });
    assert!(header.remove_keyslot(1, &mut rng(1)).is_ok());
}

#[test]
fn an_area_that_is_cut_short_is_told_from_a_wrong_passphrase() {
    for version in BOTH {
        let volume = Volume::small(version, 3);
        let error = volume.header().open_keyslot(0, &[0; 1000], &passphrase("old"), &policy());
        assert!(matches!(error, Err(Error::Truncated { .. })));
    }
}

#[test]
fn a_huge_area_is_read_only_as_far_as_its_key_needs() {
    let mut volume = Volume::small(Version::Luks2, 32);
    volume.edit(|json| json["keyslots"]["0"]["area"]["size"] = (32 * AREA).to_string().into());
    let area = volume.header().keyslot_area(0).unwrap();
    assert_eq!(area.end - area.start, 128_000);
    assert!(volume.opens("old"));
    assert!(volume.adding("new", &volume.keyslot()).is_err());
}

#[test]
fn labels_are_set_kept_and_refused_when_they_do_not_fit() {
    let mut volume = Volume::small(Version::Luks2, 2);
    let (_, change) = volume.luks2().set_labels(Some("label"), Some("subsystem")).unwrap();
    volume.apply(&change);
    let (_, change) = volume.luks2().set_labels(None, Some("")).unwrap();
    volume.apply(&change);
    let header = volume.luks2();
    assert_eq!((&*header.binary().label, &*header.binary().subsystem), ("label", ""));
    assert_eq!(header.binary().seqid, 3);
    assert!(header.set_labels(Some(&"a".repeat(47)), None).is_ok());
    for wrong in [&*"a".repeat(48), "a\nb", "a\0b"] {
        assert!(matches!(header.set_labels(Some(wrong), None), Err(Error::Unfit { .. })));
        assert!(matches!(header.set_labels(None, Some(wrong)), Err(Error::Unfit { .. })));
    }
}

#[test]
fn every_change_of_luks2_raises_the_sequence_id() {
    let mut volume = Volume::small(Version::Luks2, 3);
    let mut before = volume.header().sequence_id().unwrap();
    let mut rises = |volume: &Volume| {
        let now = volume.header().sequence_id().unwrap();
        assert!(now > before);
        before = now;
    };
    volume.add("1");
    rises(&volume);
    volume.change(1, "2");
    rises(&volume);
    volume.remove(1);
    rises(&volume);
    assert_eq!(volume.keyslot().kdf, CHEAP);
}
