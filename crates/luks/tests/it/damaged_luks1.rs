//! One test per rule of LUKS1: a valid header with one thing wrong.

use strongroom_luks::{Error, Header, Version};

use crate::volume::Volume;

fn volume() -> Volume {
    Volume::small(Version::Luks1, 8)
}

/// Asserts that a header with `bytes` at `offset` is refused for the reason that is expected.
#[track_caller]
fn refuses(offset: usize, bytes: &[u8], reason: &str) {
    let mut volume = volume();
    volume.put(offset, bytes);
    let text = volume.found().unwrap_err().to_string();
    assert!(text.contains(reason), "{text}");
}

/// The offset of a field of a keyslot.
fn keyslot(index: usize, field: usize) -> usize {
    208 + 48 * index + field
}

const STATE: usize = 0;
const ITERATIONS: usize = 4;
const OFFSET: usize = 40;
const STRIPES: usize = 44;
const KEY_BYTES: usize = 108;
const PAYLOAD: usize = 104;

#[test]
fn another_magic_is_not_luks() {
    let mut volume = volume();
    volume.put(0, b"LUKT");
    assert_eq!(volume.found(), Err(Error::NotLuks));
}

#[test]
fn another_version_is_refused() {
    for version in [0u16, 3, 0x0100] {
        let mut volume = volume();
        volume.put(6, &version.to_be_bytes());
        assert_eq!(volume.found(), Err(Error::UnknownVersion { version }));
    }
}

#[test]
fn texts_without_a_nul_are_refused() {
    for (offset, len, field) in
        [(8, 32, "cipher name"), (40, 32, "cipher mode"), (72, 32, "hash"), (168, 40, "UUID")]
    {
        refuses(offset, &vec![b'a'; len], field);
    }
}

#[test]
fn texts_with_control_characters_are_refused() {
    refuses(168, b"\x1b[2J\0", "UUID");
}

#[test]
fn the_null_cipher_is_refused() {
    refuses(8, b"cipher_null\0", "null cipher");
}

#[test]
fn an_empty_cipher_is_refused() {
    refuses(8, b"\0", "cipher");
    refuses(40, b"\0", "cipher");
}

#[test]
fn a_kernel_cipher_name_is_refused() {
    refuses(8, b"capi:xts(aes)\0", "cipher");
}

#[test]
fn a_key_that_is_none_is_refused() {
    for bytes in [0, 7, 513, u32::MAX] {
        refuses(KEY_BYTES, &u32::to_be_bytes(bytes), "key size");
    }
}

#[test]
fn a_digest_without_iterations_is_refused() {
    refuses(164, &[0; 4], "digest");
}

#[test]
fn a_keyslot_that_is_neither_active_nor_inactive_is_refused() {
    for state in [1, 0x00AC_71F2, 0xDEAD_0000, u32::MAX] {
        refuses(keyslot(3, STATE), &u32::to_be_bytes(state), "neither active nor inactive");
    }
}

#[test]
fn a_keyslot_that_an_early_version_called_active_is_not_taken_for_free() {
    refuses(keyslot(3, STATE), &0xCAFE_u32.to_be_bytes(), "neither active nor inactive");
}

#[test]
fn a_keyslot_that_an_early_version_called_inactive_is_free() {
    let mut volume = volume();
    volume.put(keyslot(1, STATE), &[0; 4]);
    assert_eq!(volume.add("new"), 1);
    assert!(volume.opens("old") && volume.opens("new"));
}

#[test]
fn an_active_keyslot_without_iterations_is_refused() {
    refuses(keyslot(0, ITERATIONS), &[0; 4], "keyslot 0: has no iterations");
}

#[test]
fn another_number_of_stripes_is_refused() {
    for stripes in [0, 1, 3999, 4001, u32::MAX] {
        refuses(keyslot(0, STRIPES), &u32::to_be_bytes(stripes), "4000 stripes");
        refuses(keyslot(7, STRIPES), &u32::to_be_bytes(stripes), "4000 stripes");
    }
}

#[test]
fn an_area_inside_the_header_is_refused() {
    for sector in [0u32, 1] {
        refuses(keyslot(0, OFFSET), &sector.to_be_bytes(), "inside the header");
    }
}

#[test]
fn overlapping_areas_are_refused() {
    let header = volume().luks1();
    for sector in [header.keyslots[1].offset, header.keyslots[1].offset - 1] {
        refuses(keyslot(0, OFFSET), &sector.to_be_bytes(), "overlaps");
    }
    // An inactive keyslot's as well: it would destroy the other one when it is filled.
    refuses(keyslot(5, OFFSET), &header.keyslots[0].offset.to_be_bytes(), "overlaps");
}

#[test]
fn an_area_in_the_data_is_refused() {
    let payload = volume().luks1().payload_offset;
    for sector in [payload - 249, payload, payload + 1, u32::MAX] {
        refuses(keyslot(7, OFFSET), &sector.to_be_bytes(), "into the encrypted data");
    }
}

#[test]
fn a_payload_over_the_keyslots_is_refused() {
    for sector in [1u32, 8, 256] {
        refuses(PAYLOAD, &sector.to_be_bytes(), "into the encrypted data");
    }
}

#[test]
fn an_area_past_the_end_of_the_device_is_refused_active_or_not() {
    for index in [0, 7] {
        let mut volume = volume();
        volume.put(PAYLOAD, &[0; 4]);
        volume.put(keyslot(index, OFFSET), &(u32::MAX - 8).to_be_bytes());
        let text = volume.found().unwrap_err().to_string();
        assert!(text.contains("past the end of the device"), "{text}");
    }
}

#[test]
fn areas_far_apart_are_refused_on_any_device() {
    let mut volume = volume();
    volume.put(PAYLOAD, &u32::MAX.to_be_bytes());
    volume.put(keyslot(7, OFFSET), &(u32::MAX - 1000).to_be_bytes());
    let head = &volume.bytes[..4096];
    assert!(Header::parse(head, u64::MAX).is_err());
}

#[test]
fn a_device_that_ends_inside_the_header_is_refused() {
    for len in [0, 5, 7, 207, 512, 591] {
        let mut volume = volume();
        volume.bytes.truncate(len);
        assert!(volume.found().is_err(), "{len}");
    }
}

#[test]
fn an_unknown_cipher_or_hash_is_read_but_opens_nothing() {
    for (offset, name) in
        [(8, &b"rot13\0"[..]), (40, b"xts-plain6\0"), (40, b"xts\0"), (72, b"md5\0")]
    {
        let mut volume = volume();
        volume.put(offset, name);
        assert!(volume.found().is_ok());
        assert!(!volume.opens("old"));
        assert!(volume.header().payload(1 << 30).is_err() || offset == 72);
        assert!(volume.adding_fails());
    }
}

#[test]
fn a_key_size_that_the_cipher_does_not_have_opens_nothing() {
    let mut volume = volume();
    volume.put(KEY_BYTES, &33u32.to_be_bytes());
    assert!(!volume.opens("old"));
    volume.put(KEY_BYTES, &24u32.to_be_bytes());
    assert!(!volume.opens("old"));
}

#[test]
fn a_hash_in_upper_case_opens() {
    let mut volume = volume();
    volume.put(72, b"SHA256\0");
    assert!(volume.opens("old"));
}

#[test]
fn data_past_the_end_of_the_device_are_refused_for_opening() {
    let volume = volume();
    let offset = u64::from(volume.luks1().payload_offset) * 512;
    assert!(volume.header().payload(offset).is_ok());
    assert!(matches!(volume.header().payload(offset - 1), Err(Error::Truncated { .. })));
    let text = volume.header().payload(offset + 513).unwrap_err().to_string();
    assert!(text.contains("cut short"), "{text}");
}

#[test]
fn areas_as_version_1_0_0_placed_them_open() {
    let mut volume = volume();
    // Slot 0 from sector 2, the others behind it without alignment.
    let header = volume.luks1();
    let area = header.keyslots[0].offset as usize * 512;
    let material = volume.bytes[area..area + 128_000].to_vec();
    for index in 0..8 {
        let sector = 2 + 250 * index as u32;
        volume.put(keyslot(index, OFFSET), &sector.to_be_bytes());
    }
    volume.put(1024, &material);
    assert!(volume.opens("old"));
    let id = volume.add("new");
    assert!(volume.opens("old") && volume.opens("new"));
    volume.remove(id);
    assert!(volume.opens("old") && !volume.opens("new"));
}
