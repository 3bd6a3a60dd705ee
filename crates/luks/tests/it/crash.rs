//! A crash at any moment of any change: the volume opens with the keys of before or of after.
//!
//! Every prefix of the steps is replayed, the last write torn at sectors, and of the writes between
//! two flushes any one is left out or is the only one that happened.

use std::collections::BTreeSet;

use strongroom_luks::{
    Change, FormatOptions, Header, NewKeyslot, RestoreCheck, Step, Version, to_luks1, to_luks2,
};

use crate::device::{apply, passphrase, policy, rng};
use crate::volume::{CHEAP, Volume, found, opens, small_options};

const BOTH: [Version; 2] = [Version::Luks1, Version::Luks2];

/// The steps between two flushes, and those before them.
struct Epoch<'a> {
    before: Vec<u8>,
    writes: Vec<(u64, &'a [u8])>,
}

/// Calls `check` with every state that a crash during `change` may leave.
fn crash(volume: &Volume, change: &Change, mut check: impl FnMut(&[u8], &str)) {
    let mut states = 0;
    for (number, epoch) in epochs(volume, change).iter().enumerate() {
        let writes = &epoch.writes;
        let mut subsets: BTreeSet<Vec<usize>> = BTreeSet::new();
        for index in 0..=writes.len() {
            subsets.insert((0..index).collect());
            subsets.insert((0..writes.len()).filter(|other| *other != index).collect());
            subsets.insert((index..writes.len()).collect());
        }
        for subset in subsets {
            let mut device = epoch.before.clone();
            for &index in &subset {
                put(&mut device, writes[index].0, writes[index].1);
            }
            check(&device, &format!("epoch {number}, writes {subset:?}"));
            states += 1;
        }
        for (index, (offset, bytes)) in writes.iter().enumerate() {
            for torn in tears(bytes.len()) {
                let mut device = epoch.before.clone();
                for (offset, bytes) in &writes[..index] {
                    put(&mut device, *offset, bytes);
                }
                put(&mut device, *offset, &bytes[..torn]);
                check(&device, &format!("epoch {number}, write {index} torn at {torn}"));
                // The other way round: the end of the write came first.
                let mut device = epoch.before.clone();
                put(&mut device, offset + torn as u64, &bytes[torn..]);
                check(&device, &format!("epoch {number}, write {index} from {torn}"));
                states += 2;
            }
        }
    }
    assert!(states > 4, "a change has steps");
}

fn epochs<'a>(volume: &Volume, change: &'a Change) -> Vec<Epoch<'a>> {
    let mut epochs = Vec::new();
    let mut device = volume.bytes.clone();
    for steps in change.steps().split(|step| matches!(step, Step::Flush)) {
        let before = device.clone();
        let writes: Vec<_> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Write { offset, bytes } => Some((*offset, bytes.as_slice())),
                Step::Flush => None,
            })
            .collect();
        for (offset, bytes) in &writes {
            put(&mut device, *offset, bytes);
        }
        epochs.push(Epoch { before, writes });
    }
    epochs
}

fn put(device: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    device.resize(device.len().max(end), 0);
    device[offset as usize..end].copy_from_slice(bytes);
}

/// Where a write may be torn: at every sector of the beginning, then here and there.
fn tears(len: usize) -> Vec<usize> {
    let mut tears: Vec<usize> = (512..len.min(6144)).step_by(512).collect();
    tears.extend((6144..len).step_by(if len > 16384 { 30 * 512 } else { 2048 }));
    tears
}

/// Asserts that after any crash one of `texts` opens the volume, mended or not.
fn survives(volume: &Volume, change: &Change, texts: &[&str]) {
    let key = volume.key();
    crash(volume, change, |device, moment| {
        let opened =
            |device: &[u8]| texts.iter().any(|text| opens(device, text, key.expose_bytes()));
        assert!(opened(device), "{moment}: {:?}", found(device));
        let found = found(device).unwrap();
        if let Some(recovery) = found.recovery {
            let (header, change) = found.header.recover(&recovery, &mut rng(9));
            let mut mended = device.to_vec();
            apply(&mut mended, &change);
            assert_eq!(crate::volume::found(&mended).unwrap().header, header, "{moment}");
            assert!(opened(&mended), "{moment}, mended");
        }
    });
}

/// A volume whose keyslots `0..count` have the passphrases "old", "1", "2" …
fn with_keys(version: Version, count: u32) -> Volume {
    let mut volume = Volume::small(version, 9);
    for id in 1..count {
        assert_eq!(volume.add(&id.to_string()), id);
    }
    volume
}

#[test]
fn adding_a_key() {
    for version in BOTH {
        // Keyslot 6 of LUKS1 lies across the border of two sectors, 7 behind it.
        for count in [1, 6, 7] {
            let volume = with_keys(version, count);
            let (_, change) = volume.adding("new", &volume.keyslot()).unwrap();
            survives(&volume, &change, &["old"]);
        }
    }
}

#[test]
fn changing_a_key() {
    for version in BOTH {
        for count in [1, 6, 7] {
            let volume = with_keys(version, count);
            let (_, change) = volume.changing(0, "new").unwrap();
            survives(&volume, &change, &["old", "new"]);
        }
    }
}

#[test]
fn removing_a_key() {
    for version in BOTH {
        for id in [1, 6, 7] {
            let volume = with_keys(version, 8);
            let (_, change) = volume.header().remove_keyslot(id, &mut rng(4)).unwrap();
            survives(&volume, &change, &["old"]);
        }
    }
}

#[test]
fn changing_labels_priorities_and_tokens() {
    let volume = with_keys(Version::Luks2, 2);
    let header = volume.luks2();
    let (_, labelled) = header.set_labels(Some("label"), Some("subsystem")).unwrap();
    survives(&volume, &labelled, &["old"]);
    let (_, preferred) = header.set_priority(1, strongroom_luks::luks2::Priority::Prefer).unwrap();
    survives(&volume, &preferred, &["old"]);
    let (_, _, imported) = header.import_token(None, r#"{"type":"x","keyslots":["0"]}"#).unwrap();
    survives(&volume, &imported, &["old"]);
}

#[test]
fn changing_a_key_together_with_its_token() {
    let mut volume = with_keys(Version::Luks2, 2);
    let token = |keyslot: u32| format!(r#"{{"type":"x","keyslots":["{keyslot}"]}}"#);
    let (key, new) = (volume.key(), volume.keyslot());
    let added = volume
        .luks2()
        .add_keyslot_with_token(&key, &passphrase("new"), &new, token, &policy(), &mut rng(3))
        .unwrap();
    survives(&volume, &added.change, &["old"]);
    crash(&volume, &added.change, |device, moment| {
        let Header::Luks2(header) = found(device).unwrap().header else { panic!("it is LUKS2") };
        let both = (header.metadata().tokens.len(), header.keyslot(added.keyslot).is_ok());
        assert!(matches!(both, (0, false) | (1, true)), "{moment}: {both:?}");
        if both.1 {
            assert!(opens(device, "new", key.expose_bytes()), "{moment}");
        }
    });
    volume.apply(&added.change);
    let (_, replaced) = volume.luks2().replace_token(0, &token(2)).unwrap();
    survives(&volume, &replaced, &["new"]);
    let (_, removed) = volume.luks2().remove_keyslots_and_tokens(&[0], &[0], &mut rng(4)).unwrap();
    survives(&volume, &removed, &["new"]);
}

#[test]
fn mending_a_copy() {
    for offset in [5000, 16384 + 5000] {
        let mut volume = with_keys(Version::Luks2, 1);
        volume.bytes[offset] ^= 1;
        let found = volume.found().unwrap();
        let (_, change) = found.header.recover(&found.recovery.unwrap(), &mut rng(1));
        survives(&volume, &change, &["old"]);
    }
}

/// Restores `backup` over `volume`; before and after, every passphrase of one of the sets opens it.
fn restores(volume: &Volume, backup: &strongroom_luks::Backup, before: &[&str], after: &[&str]) {
    let change = backup
        .restore(
            Some(&volume.found().unwrap()),
            &volume.bytes,
            RestoreCheck::SameVolume,
            &mut rng(5),
        )
        .unwrap();
    let key = volume.key();
    crash(volume, &change, |device, moment| {
        let all = |texts: &[&str]| texts.iter().all(|text| opens(device, text, key.expose_bytes()));
        assert!(all(before) || all(after), "{moment}: {:?}", found(device));
    });
    let mut restored = volume.clone();
    restored.apply(&change);
    assert_eq!(restored.found().unwrap().recovery, None);
    assert!(after.iter().all(|text| restored.opens(text)));
    for text in before.iter().filter(|text| !after.contains(text)) {
        assert!(!restored.opens(text), "{text} still opens the volume");
    }
}

#[test]
fn restoring_a_backup_of_the_same_keys() {
    for version in BOTH {
        let volume = with_keys(version, 2);
        restores(&volume, &volume.backup(), &["old", "1"], &["old", "1"]);
    }
}

#[test]
fn restoring_a_backup_with_a_key_that_was_removed_since() {
    for version in BOTH {
        let mut volume = with_keys(version, 2);
        let backup = volume.backup();
        volume.remove(1);
        restores(&volume, &backup, &["old"], &["old", "1"]);
    }
}

#[test]
fn restoring_a_backup_without_a_key_that_was_added_since() {
    for version in BOTH {
        for count in [1, 6, 7] {
            let mut volume = with_keys(version, count);
            let backup = volume.backup();
            volume.add("new");
            restores(&volume, &backup, &["old", "new"], &["old"]);
        }
    }
}

#[test]
fn restoring_a_backup_from_before_a_key_was_changed() {
    for version in BOTH {
        for count in [1, 6, 7] {
            let mut volume = with_keys(version, count);
            let backup = volume.backup();
            volume.change(0, "new");
            restores(&volume, &backup, &["new"], &["old"]);
        }
    }
}

#[test]
fn restoring_a_backup_whose_keyslots_areas_are_taken_by_other_keys() {
    for version in BOTH {
        for count in [1, 6, 7] {
            let mut volume = with_keys(version, count);
            let backup = volume.backup();
            // Twice, so that the new key lies where the old one was.
            let id = volume.change(0, "between");
            volume.change(id, "new");
            restores(&volume, &backup, &["new"], &["old"]);
        }
    }
}

#[test]
fn restoring_a_backup_where_several_keyslots_areas_are_taken() {
    for version in BOTH {
        let mut volume = with_keys(version, 5);
        let backup = volume.backup();
        for id in 1..4 {
            volume.remove(id);
        }
        for id in 1..4 {
            volume.add(&format!("new {id}"));
        }
        let before = ["old", "4", "new 1", "new 2", "new 3"];
        restores(&volume, &backup, &before, &["old", "1", "2", "3", "4"]);
    }
}

#[test]
fn restoring_over_a_header_that_is_lost_can_be_begun_again() {
    for version in BOTH {
        let volume = with_keys(version, 2);
        let backup = volume.backup();
        let mut lost = volume.clone();
        lost.bytes[..backup.bytes().len()].fill(0);
        let change =
            backup.restore(None, &lost.bytes, RestoreCheck::Overwrite, &mut rng(5)).unwrap();
        crash(&lost, &change, |device, _| {
            let mut device = device.to_vec();
            let again =
                backup.restore(None, &device, RestoreCheck::Overwrite, &mut rng(6)).unwrap();
            apply(&mut device, &again);
            assert!(opens(&device, "1", volume.key().expose_bytes()));
        });
    }
}

fn converted_up(volume: &Volume) -> Change {
    to_luks2(&volume.luks1(), &volume.bytes, &mut rng(8)).unwrap().1
}

#[test]
fn converting_to_luks2() {
    // With 7 keys only keyslot 7 is free to take the key material that must make way.
    for count in [1, 2, 5, 6, 7] {
        let volume = with_keys(Version::Luks1, count);
        survives(&volume, &converted_up(&volume), &["old"]);
    }
    // Only keyslot 6 is free, which lies across the border of two sectors.
    let mut volume = with_keys(Version::Luks1, 8);
    volume.remove(6);
    survives(&volume, &converted_up(&volume), &["old"]);
}

#[test]
fn converting_a_detached_header_to_luks2() {
    for count in [1, 8] {
        let options = FormatOptions { detached: true, ..small_options(Version::Luks1, 8) };
        let mut volume = Volume::new(&options);
        let end = volume.header().backup_len() as usize;
        volume.bytes.truncate(end);
        for id in 1..count {
            volume.add(&id.to_string());
        }
        let change = converted_up(&volume);
        survives(&volume, &change, &["old"]);
        volume.apply(&change);
        assert!(matches!(volume.header(), Header::Luks2(_)));
        assert!(volume.opens("old"));
    }
}

#[test]
fn converting_to_luks1() {
    for count in [1, 7] {
        let volume = with_keys(Version::Luks2, count);
        let (_, change) = to_luks1(&volume.luks2(), volume.bytes.len() as u64).unwrap();
        survives(&volume, &change, &["old"]);
    }
}

#[test]
fn formatting_leaves_nothing_that_opens_before_its_end() {
    for version in BOTH {
        let options = small_options(version, 2);
        let formatted = options.format(&passphrase("old"), &policy(), &mut rng(7)).unwrap();
        let mut volume = Volume::small(version, 2);
        volume.bytes.fill(0);
        let key = formatted.volume_key.expose_bytes().to_vec();
        crash(&volume, &formatted.change, |device, _| {
            opens(device, "old", &key);
        });
    }
}

#[test]
fn a_keyslot_with_another_derivation_survives_as_well() {
    let volume = with_keys(Version::Luks2, 1);
    let new = NewKeyslot { kdf: crate::device::cheap(Version::Luks2), ..volume.keyslot() };
    assert_ne!(new.kdf, CHEAP);
    let (_, change) = volume.adding("new", &new).unwrap();
    survives(&volume, &change, &["old"]);
}
