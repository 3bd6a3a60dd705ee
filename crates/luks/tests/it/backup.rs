//! Header backups: made, read, and refused where they do not belong.

use serde_json::json;
use strongroom_luks::{Backup, Error, FormatOptions, RestoreCheck, Version};

use crate::device::rng;
use crate::volume::{CHEAP, Volume, small_options};

const BOTH: [Version; 2] = [Version::Luks1, Version::Luks2];

#[track_caller]
fn refused(backup: &Backup, volume: &Volume, reason: &str) {
    let current = volume.found().ok().map(|found| found.header);
    let error = backup
        .restore(current.as_ref(), &volume.bytes, RestoreCheck::SameVolume, &mut rng(1))
        .unwrap_err()
        .to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn a_backup_reads_back_and_restores_a_lost_header() {
    for version in BOTH {
        let mut volume = Volume::small(version, 3);
        volume.add("1");
        let backup = Backup::read(volume.backup().bytes().to_vec()).unwrap();
        assert_eq!(backup.header(), &volume.header());
        let mut lost = volume.clone();
        lost.bytes[..backup.bytes().len()].fill(0xaa);
        refused(&backup, &lost, "no valid LUKS header of its own");
        let change =
            backup.restore(None, &lost.bytes, RestoreCheck::Overwrite, &mut rng(1)).unwrap();
        lost.apply(&change);
        assert_eq!(lost.found().unwrap().recovery, None);
        assert!(lost.opens("old") && lost.opens("1"));
    }
}

#[test]
fn a_backup_that_is_damaged_or_cut_short_is_refused() {
    for version in BOTH {
        let bytes = Volume::small(version, 3).backup().bytes().to_vec();
        assert!(Backup::read(bytes[..bytes.len() - 4096].to_vec()).is_err());
        assert!(Backup::read(bytes[..512].to_vec()).is_err());
        assert!(Backup::read(Vec::new()).is_err());
        let mut damaged = bytes;
        damaged[4] ^= 1;
        assert!(Backup::read(damaged).is_err());
    }
    let mut bytes = Volume::small(Version::Luks2, 3).backup().bytes().to_vec();
    bytes[20000] ^= 1;
    let text = Backup::read(bytes).unwrap_err().to_string();
    assert!(text.contains("secondary copy is damaged"), "{text}");
}

#[test]
fn what_lies_behind_a_luks1_header_is_not_backed_up() {
    let mut volume = Volume::small(Version::Luks1, 8);
    volume.put(1024, &[0x5a; 3072]);
    assert!(volume.backup().bytes()[1024..4096].iter().all(|&byte| byte == 0));
}

#[test]
fn a_backup_of_another_volume_is_refused() {
    for version in BOTH {
        let volume = Volume::small(version, 3);
        let other = Volume::new(&FormatOptions {
            uuid: Some("11111111-2222-4333-8444-555555555555".to_owned()),
            ..small_options(version, 3)
        });
        refused(&other.backup(), &volume, "it is of volume 11111111");
    }
}

#[test]
fn a_backup_of_the_other_format_is_refused() {
    let (one, two) = (Volume::small(Version::Luks1, 3), Volume::small(Version::Luks2, 3));
    refused(&one.backup(), &two, "it is LUKS1");
    refused(&two.backup(), &one, "it is LUKS2");
}

#[test]
fn a_backup_with_the_data_elsewhere_is_refused() {
    for version in BOTH {
        let options = small_options(version, 3);
        let offset = options.data_offset.unwrap_or(2 << 20) + 4096;
        let other = Volume::new(&FormatOptions { data_offset: Some(offset), ..options });
        refused(&other.backup(), &Volume::small(version, 3), "the data begins elsewhere");
    }
}

#[test]
fn a_backup_with_headers_of_another_size_is_refused() {
    let total = 4 << 20;
    let sized = |metadata_size| {
        Volume::new(&FormatOptions {
            kdf: CHEAP,
            data_offset: Some(total),
            metadata_size: Some(metadata_size),
            ..FormatOptions::new(Version::Luks2)
        })
    };
    let (one, mut other) = (sized(16 << 10), sized(32 << 10));
    let uuid = one.header().uuid().to_owned();
    let mut field = uuid.into_bytes();
    field.resize(40, 0);
    other.put_binary(168, &field);
    refused(&other.backup(), &one, "the headers have different sizes");
}

#[test]
fn a_backup_from_before_a_reencryption_is_refused() {
    for version in BOTH {
        let volume = Volume::small(version, 3);
        let options = FormatOptions {
            uuid: Some(volume.header().uuid().to_owned()),
            ..small_options(version, 3)
        };
        let made = options
            .format(&crate::device::passphrase("old"), &crate::device::policy(), &mut rng(99))
            .unwrap();
        let mut reencrypted = volume.clone();
        reencrypted.apply(&made.change);
        refused(&volume.backup(), &reencrypted, "volume key");
    }
}

#[test]
fn a_device_with_an_unknown_requirement_is_not_restored() {
    let mut volume = Volume::small(Version::Luks2, 3);
    let backup = volume.backup();
    volume.edit(|json| json["config"]["requirements"] = json!({ "mandatory": ["x-new"] }));
    refused(&backup, &volume, "x-new");
}

#[test]
fn restoring_raises_the_sequence_id_above_both() {
    let mut volume = Volume::small(Version::Luks2, 3);
    let backup = volume.backup();
    volume.add("1");
    let before = volume.header().sequence_id().unwrap();
    let current = volume.header();
    let change = backup
        .restore(Some(&current), &volume.bytes, RestoreCheck::SameVolume, &mut rng(1))
        .unwrap();
    volume.apply(&change);
    assert!(volume.header().sequence_id().unwrap() > before);
}

#[test]
fn a_restore_that_finds_no_free_place_is_refused() {
    for (version, slots) in [(Version::Luks1, 8), (Version::Luks2, 2)] {
        let mut volume = Volume::small(version, slots);
        for id in 1..slots {
            volume.add(&id.to_string());
        }
        let backup = volume.backup();
        volume.remove(1);
        assert_eq!(volume.add("new"), 1);
        let current = volume.header();
        let restored =
            backup.restore(Some(&current), &volume.bytes, RestoreCheck::SameVolume, &mut rng(1));
        assert!(matches!(restored, Err(Error::NoRoom { .. })));
    }
}
