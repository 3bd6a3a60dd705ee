//! The binary header (specification, section 2.1).

use strongroom_luks::Error;

use super::{refused, volume};
use crate::volume::{BINARY, HDR_SIZE};

#[test]
fn a_device_without_either_magic_is_not_luks() {
    let mut volume = volume();
    volume.put_binary(0, b"XXXXXX");
    assert_eq!(volume.found(), Err(Error::NotLuks));
    volume.bytes.fill(0);
    assert_eq!(volume.found(), Err(Error::NotLuks));
}

#[test]
fn a_secondary_copy_with_the_primary_magic_is_no_copy() {
    let mut volume = volume();
    volume.put(HDR_SIZE, b"LUKS\xba\xbe");
    volume.put(0, b"XXXXXX");
    assert_eq!(volume.found(), Err(Error::NotLuks));
}

#[test]
fn a_primary_copy_with_the_secondary_magic_is_not_recovered() {
    let mut volume = volume();
    volume.put(0, b"SKUL\xba\xbe");
    let lost = Error::PrimaryLost { found: None, secondary: HDR_SIZE as u64 };
    assert_eq!(volume.found(), Err(lost));
}

#[test]
fn versions_that_do_not_exist_are_refused() {
    for version in [0, 3, 0x0200] {
        let mut volume = volume();
        volume.put_binary(6, &u16::to_be_bytes(version));
        assert_eq!(volume.found(), Err(Error::UnknownVersion { version }));
    }
}

#[test]
fn header_sizes_that_do_not_exist_are_refused() {
    for size in [0, 4096, 8192, (16 << 10) + 1, 24 << 10, 8 << 20, 1 << 63, u64::MAX] {
        let mut volume = volume();
        volume.put_binary(8, &u64::to_be_bytes(size));
        refused(&volume, "header size");
    }
}

#[test]
fn a_header_size_that_is_not_the_copys_own_is_refused() {
    let mut volume = volume();
    volume.put_binary(8, &u64::to_be_bytes(32 << 10));
    assert!(matches!(volume.found(), Err(Error::BothCopiesDamaged { .. })));
}

#[test]
fn a_header_offset_that_is_not_the_real_one_is_refused() {
    let mut volume = volume();
    volume.put_binary(256, &u64::to_be_bytes(512));
    refused(&volume, "header offset");
}

#[test]
fn swapped_copies_are_refused() {
    let mut volume = volume();
    let (primary, secondary) = volume.bytes.split_at_mut(HDR_SIZE);
    primary.swap_with_slice(&mut secondary[..HDR_SIZE]);
    volume.put(0, b"LUKS\xba\xbe");
    volume.put(HDR_SIZE, b"SKUL\xba\xbe");
    volume.sum();
    refused(&volume, "header offset");
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut volume = volume();
    for start in [0, HDR_SIZE] {
        volume.bytes[start + 448] ^= 1;
    }
    refused(&volume, "checksum");
}

#[test]
fn bytes_behind_the_checksum_proper_are_refused() {
    let mut volume = volume();
    for start in [0, HDR_SIZE] {
        volume.bytes[start + 448 + 63] = 1;
    }
    refused(&volume, "checksum");
}

#[test]
fn the_checksum_covers_the_padding() {
    for offset in [264, 447, 512, BINARY - 1, HDR_SIZE - 1] {
        let mut volume = volume();
        for start in [0, HDR_SIZE] {
            volume.bytes[start + offset] ^= 0x80;
        }
        assert!(matches!(volume.found(), Err(Error::BothCopiesDamaged { .. })), "{offset}");
    }
}

#[test]
fn an_unknown_checksum_hash_is_refused() {
    for name in [&b"sha999\0"[..], b"\0", b"crc32\0"] {
        let mut volume = volume();
        volume.put_binary(72, name);
        refused(&volume, "unknown hash");
    }
}

#[test]
fn texts_without_a_nul_are_refused() {
    for (offset, len, field) in
        [(24, 48, "label"), (72, 32, "checksum hash"), (168, 40, "UUID"), (208, 48, "subsystem")]
    {
        let mut volume = volume();
        volume.put_binary(offset, &vec![b'a'; len]);
        refused(&volume, field);
    }
}

#[test]
fn texts_with_control_characters_are_refused() {
    let mut volume = volume();
    volume.put_binary(24, b"\x1b[2Jlabel\0");
    refused(&volume, "label");
}

#[test]
fn a_device_that_ends_inside_the_headers_is_refused() {
    for len in [0, 5, 511, 4095, 4096, HDR_SIZE - 1, HDR_SIZE, 2 * HDR_SIZE - 1, 2 * HDR_SIZE] {
        let mut volume = volume();
        volume.bytes.truncate(len);
        assert!(volume.found().is_err(), "{len}");
    }
}

#[test]
fn a_device_that_ends_inside_the_keyslots_area_is_refused() {
    let mut volume = volume();
    let len = volume.header().backup_len() as usize;
    volume.bytes.truncate(len);
    assert!(volume.found().is_ok());
    volume.bytes.truncate(len - 1);
    assert!(matches!(volume.found(), Err(Error::Truncated { .. })));
}

#[test]
fn the_largest_sequence_id_is_read_and_refused_for_changes() {
    let mut volume = volume();
    volume.put_binary(16, &u64::MAX.to_be_bytes());
    assert!(volume.opens("old"));
    assert!(volume.adding("new", &volume.keyslot()).is_err());
}
