//! One copy damaged, outdated or overwritten: which one counts, and how the other is mended.

use strongroom_luks::{Error, FormatOptions, Header, RepairScope, Version};

use crate::device::rng;
use crate::volume::{HDR_SIZE, HEADERS, Volume, small_options};

fn volume() -> Volume {
    Volume::small(Version::Luks2, 2)
}

/// Mends the volume as opening it does; returns the name of the copy that was written anew.
#[track_caller]
fn recovered(volume: &mut Volume) -> String {
    let found = volume.found().unwrap();
    let recovery = found.recovery.unwrap();
    let (header, change) = found.header.recover(&recovery, &mut rng(3));
    volume.apply(&change);
    let again = volume.found().unwrap();
    assert_eq!(again.recovery, None);
    assert_eq!(again.header, header);
    assert_eq!(header.sequence_id(), found.header.sequence_id());
    assert!(volume.opens("old"));
    recovery.copy().to_owned()
}

#[test]
fn a_damaged_primary_is_written_anew_from_the_secondary() {
    for offset in [7, 8, 9, 16, 100, 256, 448, 4096, 4200, HDR_SIZE - 1] {
        let mut volume = volume();
        volume.bytes[offset] ^= 0x10;
        match volume.found() {
            // The version alone decides which rules hold.
            Err(error) => assert_eq!(error, Error::UnknownVersion { version: 0x12 }),
            Ok(_) => assert_eq!(recovered(&mut volume), "primary", "{offset}"),
        }
    }
}

#[test]
fn a_damaged_secondary_is_written_anew_from_the_primary() {
    for offset in [0, 7, 8, 9, 16, 100, 256, 448, 4096, 4200, HDR_SIZE - 1] {
        let mut volume = volume();
        volume.bytes[HDR_SIZE + offset] ^= 0x10;
        assert_eq!(recovered(&mut volume), "secondary", "{offset}");
    }
}

#[test]
fn a_secondary_overwritten_with_anything_is_written_anew() {
    for fill in [0, 0x55, 0xff] {
        let mut volume = volume();
        volume.bytes[HDR_SIZE..2 * HDR_SIZE].fill(fill);
        volume.put(HDR_SIZE + 510, &[0x55, 0xaa]);
        assert_eq!(recovered(&mut volume), "secondary");
    }
}

#[test]
fn the_secondary_is_found_at_each_of_its_nine_places() {
    for shift in 14..=22 {
        let size = 1 << shift;
        let options = FormatOptions {
            metadata_size: Some(size),
            data_offset: Some(2 * size + (128 << 10)),
            ..small_options(Version::Luks2, 1)
        };
        let sound = Volume::new(&options);
        let mut wiped = sound.clone();
        wiped.bytes[8..4096].fill(0);
        assert_eq!(recovered(&mut wiped), "primary", "{size}");
        // A primary that claims another size, whatever it is, must not hide the secondary.
        for claimed in (14..=22).filter(|claimed| *claimed != shift) {
            let mut lying = sound.clone();
            lying.put(8, &(1u64 << claimed).to_be_bytes());
            assert_eq!(lying.found().unwrap().recovery.unwrap().copy(), "primary");
        }
        let mut other = sound;
        other.bytes[size as usize + 5000] ^= 1;
        assert_eq!(recovered(&mut other), "secondary", "{size}");
    }
}

#[test]
fn the_larger_sequence_id_counts() {
    for (newer, older, outdated) in [(0, HDR_SIZE, "secondary"), (HDR_SIZE, 0, "primary")] {
        let mut volume = volume();
        volume.put_seqid(newer, 9);
        volume.put_seqid(older, 8);
        assert_eq!(volume.header().sequence_id(), Some(9));
        assert_eq!(recovered(&mut volume), outdated);
        assert_eq!(volume.header().sequence_id(), Some(9));
    }
}

#[test]
fn a_newer_copy_that_is_damaged_does_not_count() {
    let mut volume = volume();
    volume.put_seqid(0, 9);
    volume.bytes[5000] ^= 1;
    assert_eq!(volume.header().sequence_id(), Some(1));
    assert_eq!(recovered(&mut volume), "primary");
}

#[test]
fn copies_that_differ_under_one_sequence_id_are_made_equal_to_the_primary() {
    let (sound, mut other) = (volume(), volume());
    let (_, change) = sound.luks2().set_labels(Some("changed"), None).unwrap();
    other.apply(&change);
    other.put_seqid(0, 1);
    other.put_seqid(HDR_SIZE, 1);
    let mut mixed = sound;
    mixed.bytes[HDR_SIZE..2 * HDR_SIZE].copy_from_slice(&other.bytes[HDR_SIZE..2 * HDR_SIZE]);
    assert_eq!(recovered(&mut mixed), "secondary");
    assert_eq!(mixed.luks2().binary().label, "");
}

#[test]
fn the_copy_that_was_written_anew_has_a_new_salt() {
    let mut volume = volume();
    let before = volume.luks2().binary().salts;
    volume.bytes[5000] ^= 1;
    recovered(&mut volume);
    let after = volume.luks2().binary().salts;
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1]);
}

#[test]
fn both_copies_damaged_are_beyond_repair() {
    let mut volume = volume();
    volume.bytes[5000] ^= 1;
    volume.bytes[HDR_SIZE + 5000] ^= 1;
    let error = volume.found().unwrap_err();
    assert!(matches!(error, Error::BothCopiesDamaged { .. }), "{error}");
    let head = &volume.bytes[..HEADERS as usize];
    assert_eq!(
        Header::repair(head, volume.bytes.len() as u64, RepairScope::SureDamage, &mut rng(1))
            .unwrap_err(),
        error
    );
}

#[test]
fn a_primary_without_its_magic_is_refused_and_only_a_forced_repair_writes_it_anew() {
    for (offset, signature, by) in [
        (0, &b"QFI\xfb"[..], " by a qcow2 image"),
        (512, b"EFI PART", " by a GPT partition table"),
        (512, b"LABELONE", " by an LVM physical volume"),
        (0, b"XFSB", " by an XFS file system"),
        (0x438, b"\x53\xef", " by an ext file system"),
        (510, b"\x55\xaa", " by a partition table"),
        (4086, b"SWAPSPACE2", " by swap space"),
        (3, b"NTFS    ", " by an NTFS file system"),
        // F2FS, Ceph's BlueStore, nothing at all: what no list of signatures has.
        (1024, b"\x10\x20\xf5\xf2", ""),
        (0, b"bluestore block device", ""),
        (0, b"", ""),
    ] {
        let mut volume = volume();
        volume.bytes[..4096].fill(0);
        volume.put(offset, signature);
        let text = volume.found().unwrap_err().to_string();
        let expected = format!(
            "the primary header was overwritten{by}; a secondary copy survives at byte {HDR_SIZE}"
        );
        assert_eq!(text, expected);
        let len = volume.bytes.len() as u64;
        let repair = |scope| Header::repair(&volume.bytes, len, scope, &mut rng(1));
        let refused = repair(RepairScope::SureDamage);
        assert!(matches!(refused, Err(Error::PrimaryLost { .. })), "{refused:?}");
        let (header, change, done) = repair(RepairScope::OverwritePrimary).unwrap().unwrap();
        assert!(done[0].starts_with("wrote the primary copy anew"), "{done:?}");
        volume.apply(&change);
        assert_eq!(volume.header(), header);
        assert!(volume.opens("old"));
    }
}

#[test]
fn a_partition_table_that_spared_the_magic_is_not_overwritten_by_recovery() {
    for (offset, signature) in [(512, &b"EFI PART"[..]), (510, b"\x55\xaa")] {
        let mut volume = volume();
        volume.put(offset, signature);
        let error = volume.found().unwrap_err();
        assert!(matches!(error, Error::PrimaryLost { found: Some(_), .. }), "{error}");
    }
}

#[test]
fn an_image_shorter_than_a_header_is_no_damaged_header() {
    for len in [0, 1, 6, 100, 512, 4095] {
        assert_eq!(crate::volume::found(&vec![0x5a; len]), Err(Error::NotLuks), "{len}");
    }
}

#[test]
fn a_sound_header_needs_no_repair() {
    for version in [Version::Luks1, Version::Luks2] {
        let volume = Volume::small(version, 2);
        let len = volume.bytes.len() as u64;
        assert_eq!(
            Header::repair(&volume.bytes, len, RepairScope::SureDamage, &mut rng(1)).unwrap(),
            None
        );
    }
}

#[test]
fn every_write_torn_at_every_sector_of_either_copy_is_mended() {
    let before = volume();
    let (_, change) = before.luks2().set_labels(Some("changed"), None).unwrap();
    let mut after = before.clone();
    after.apply(&change);
    for copy in [0, HDR_SIZE] {
        for torn in (0..=HDR_SIZE).step_by(512) {
            let mut volume = if copy == 0 { before.clone() } else { after.clone() };
            let (new, old) = (copy..copy + torn, copy + torn..copy + HDR_SIZE);
            volume.bytes[new.clone()].copy_from_slice(&after.bytes[new]);
            volume.bytes[old.clone()].copy_from_slice(&before.bytes[old]);
            if volume.found().unwrap().recovery.is_some() {
                recovered(&mut volume);
            }
            let label = volume.luks2().binary().label.clone();
            assert!(label.is_empty() || label == "changed");
            assert!(volume.opens("old"));
        }
    }
}

#[test]
fn luks1_repair_mends_what_no_key_is_needed_for() {
    let sound = Volume::small(Version::Luks1, 8);
    let slot6 = 208 + 48 * 6;
    for (offset, bytes) in [
        (72, &b"SHA256"[..]),
        (slot6 + 14, b"\x55\xaa"),
        (slot6 + 44, &[0; 4]),
        (slot6 + 40, &[0, 0, 0, 8]),
    ] {
        let mut volume = sound.clone();
        volume.put(offset, bytes);
        let len = volume.bytes.len() as u64;
        let (header, change, done) =
            Header::repair(&volume.bytes, len, RepairScope::SureDamage, &mut rng(1))
                .unwrap()
                .unwrap();
        assert_eq!(done.len(), 1, "{done:?}");
        volume.apply(&change);
        assert_eq!(volume.header(), header);
        assert!(volume.opens("old"));
    }
}

#[test]
fn luks1_repair_does_not_touch_the_salt_of_an_active_keyslot() {
    let mut volume = Volume::small(Version::Luks1, 8);
    volume.put(208 + 48 * 6, &0x00AC_71F3_u32.to_be_bytes());
    volume.put(208 + 48 * 6 + 4, &1000u32.to_be_bytes());
    volume.put(208 + 48 * 6 + 14, b"\x55\xaa");
    let len = volume.bytes.len() as u64;
    assert_eq!(
        Header::repair(&volume.bytes, len, RepairScope::SureDamage, &mut rng(1)).unwrap(),
        None
    );
}

#[test]
fn luks1_repair_refuses_a_key_size_that_nobody_uses() {
    let mut volume = Volume::small(Version::Luks1, 8);
    volume.put(108, &24u32.to_be_bytes());
    volume.put(72, b"SHA256");
    let len = volume.bytes.len() as u64;
    let text = Header::repair(&volume.bytes, len, RepairScope::SureDamage, &mut rng(1))
        .unwrap_err()
        .to_string();
    assert!(text.contains("too damaged to repair"), "{text}");
}
