//! Header backups: made, read, and refused where they do not belong.

use serde_json::json;
use strongroom_luks::{Backup, Error, FormatOptions, RestoreCheck, Step, Version};

use crate::device::rng;
use crate::volume::{AREA, CHEAP, HDR_SIZE, HEADERS, Volume, small_options};

const BOTH: [Version; 2] = [Version::Luks1, Version::Luks2];

#[track_caller]
fn refused(backup: &Backup, volume: &Volume, reason: &str) {
    let current = volume.found().ok();
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
    let current = volume.found().unwrap();
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
        let current = volume.found().unwrap();
        let restored =
            backup.restore(Some(&current), &volume.bytes, RestoreCheck::SameVolume, &mut rng(1));
        assert!(matches!(restored, Err(Error::NoRoom { .. })));
    }
}

/// Restores over whatever is there.
#[track_caller]
fn overwrite(backup: &Backup, volume: &mut Volume) {
    let current = volume.found().ok();
    let change = backup
        .restore(current.as_ref(), &volume.bytes, RestoreCheck::Overwrite, &mut rng(1))
        .unwrap();
    volume.apply(&change);
    assert_eq!(volume.found().unwrap().recovery, None);
}

#[test]
fn a_backup_made_while_one_copy_is_damaged_holds_both_whole() {
    for damaged in [5000, HDR_SIZE + 5000] {
        let mut volume = Volume::small(Version::Luks2, 3);
        volume.bytes[damaged] ^= 1;
        let before = volume.bytes.clone();
        let backup = Backup::read(volume.backup().bytes().to_vec()).unwrap();
        assert_eq!(volume.bytes, before);
        let mut lost = volume.clone();
        lost.bytes[..backup.bytes().len()].fill(0);
        overwrite(&backup, &mut lost);
        assert!(lost.opens("old"));
    }
}

#[test]
fn overwriting_does_not_move_the_data_of_a_valid_header() {
    for version in BOTH {
        let options = small_options(version, 3);
        let offset = options.data_offset.unwrap_or(2 << 20) + 4096;
        let other = Volume::new(&FormatOptions { data_offset: Some(offset), ..options });
        let current = Volume::small(version, 3);
        let error = other
            .backup()
            .restore(
                Some(&current.found().unwrap()),
                &current.bytes,
                RestoreCheck::Overwrite,
                &mut rng(1),
            )
            .unwrap_err()
            .to_string();
        assert!(error.contains("its data begins at byte"), "{error}");
    }
}

#[test]
fn overwriting_refuses_a_header_of_another_size() {
    let sized = |keyslots_size| {
        Volume::new(&FormatOptions {
            keyslots_size: Some(keyslots_size),
            data_offset: Some(1 << 20),
            ..small_options(Version::Luks2, 3)
        })
    };
    let (one, other) = (sized(2 * AREA), sized(3 * AREA));
    let error = other
        .backup()
        .restore(Some(&one.found().unwrap()), &one.bytes, RestoreCheck::Overwrite, &mut rng(1))
        .unwrap_err()
        .to_string();
    assert!(error.contains("different sizes"), "{error}");
}

#[test]
fn overwriting_writes_the_whole_backup_and_nothing_behind_it() {
    for version in BOTH {
        let volume = Volume::small(version, 3);
        let backup = volume.backup();
        let mut lost = volume.clone();
        lost.bytes.fill(0x5a);
        overwrite(&backup, &mut lost);
        let (start, end) = (HEADERS as usize, backup.bytes().len());
        assert_eq!(lost.bytes[start..end], backup.bytes()[start..]);
        assert!(lost.bytes[end..].iter().all(|&byte| byte == 0x5a));
    }
}

#[test]
fn overwriting_does_not_reach_into_data_that_begin_before_a_whole_page() {
    let offset = 4096 + 8 * AREA - 2560;
    let options = FormatOptions { data_offset: Some(offset), ..small_options(Version::Luks1, 8) };
    let mut volume = Volume::new(&options);
    let backup = volume.backup();
    assert!(backup.bytes().len() as u64 > offset);
    volume.bytes[offset as usize..].fill(0x77);
    overwrite(&backup, &mut volume);
    assert!(volume.bytes[offset as usize..].iter().all(|&byte| byte == 0x77));
    assert!(volume.opens("old"));
}

#[test]
fn overwriting_leaves_no_copy_of_another_header() {
    let mut stale = Volume::new(&FormatOptions {
        keyslots_size: Some(2 * AREA),
        data_offset: Some(1 << 20),
        ..small_options(Version::Luks2, 2)
    });
    // One inside the keyslots area that the backup brings along, one in the gap behind it.
    stale.put(256 << 10, b"SKUL\xba\xbe");
    let brought = stale.backup();
    stale.put(512 << 10, b"SKUL\xba\xbe");
    stale.put(1 << 20, b"SKUL\xba\xbe");
    overwrite(&brought, &mut stale);
    assert!(!stale.bytes[256 << 10..].starts_with(b"SKUL"));
    assert!(!stale.bytes[512 << 10..].starts_with(b"SKUL"));
    assert!(stale.bytes[1 << 20..].starts_with(b"SKUL"), "the data is not touched");
    assert!(stale.opens("old"));
}

#[test]
fn overwriting_wipes_key_material_that_the_backup_does_not_cover() {
    let offset = Some(2 << 20);
    let mut current =
        Volume::new(&FormatOptions { data_offset: offset, ..small_options(Version::Luks1, 8) });
    let id = (1..8).map(|id| current.add(&id.to_string())).last().unwrap();
    let area = current.header().keyslot_area(id).unwrap();
    let small = Volume::new(&FormatOptions {
        data_offset: offset,
        keyslots_size: Some(2 * AREA),
        ..small_options(Version::Luks2, 2)
    });
    let area = area.start as usize..area.end as usize;
    let before = current.bytes[area.clone()].to_vec();
    overwrite(&small.backup(), &mut current);
    let after = &current.bytes[area];
    let same = before.iter().zip(after).filter(|(one, other)| one == other).count();
    assert!(same < before.len() / 100);
}

#[test]
fn restoring_over_a_damaged_copy_writes_that_anew_first() {
    for (damaged, offset) in [(5000, 0), (HDR_SIZE + 5000, HDR_SIZE as u64)] {
        let mut volume = Volume::small(Version::Luks2, 3);
        let backup = volume.backup();
        volume.add("1");
        let sound = volume.clone();
        volume.bytes[damaged] ^= 1;
        let current = volume.found().unwrap();
        let change = backup
            .restore(Some(&current), &volume.bytes, RestoreCheck::SameVolume, &mut rng(1))
            .unwrap();
        let [first @ Step::Write { .. }, Step::Flush, ..] = change.steps() else {
            panic!("a copy is written and durable before all else")
        };
        let Step::Write { offset: at, bytes } = first else { unreachable!() };
        assert_eq!((*at, bytes.len()), (offset, HDR_SIZE));
        let place = offset as usize..offset as usize + HDR_SIZE;
        volume.bytes[place].copy_from_slice(bytes);
        assert_eq!(volume.found().unwrap().recovery, None);
        assert_eq!(volume.json(), sound.json());
        volume.apply(&change);
        assert!(volume.opens("old") && !volume.opens("1"));
    }
}
