//! Every byte of a small header flipped in turn: the right passphrase opens the volume to the right
//! key or gets an error, a wrong one never opens it, and nothing panics.

use strongroom_luks::{Header, Version};

use crate::volume::{HDR_SIZE, HEADERS, Volume};

/// Flips one bit, judges, and flips it back.
fn judge(volume: &mut Volume, sound: &Header, offset: usize, bit: u8) {
    volume.bytes[offset] ^= 1 << bit;
    let in_area = offset as u64 >= HEADERS || volume.bytes[7] == 1 && offset >= 4096;
    // A header that reads as before opens as before.
    if in_area || volume.found().is_ok_and(|found| found.header != *sound) {
        volume.opens("old");
        assert!(!volume.opens("other"), "byte {offset}, bit {bit}");
    }
    volume.bytes[offset] ^= 1 << bit;
}

#[test]
fn no_flipped_bit_of_a_luks1_header_does_harm() {
    let mut volume = Volume::small(Version::Luks1, 8);
    let sound = volume.header();
    for offset in 0..1024 {
        for bit in [offset % 8, (offset + 3) % 8] {
            judge(&mut volume, &sound, offset, bit as u8);
        }
    }
}

#[test]
fn no_flipped_bit_of_luks1_key_material_does_harm() {
    let mut volume = Volume::small(Version::Luks1, 8);
    let sound = volume.header();
    for offset in (4096..4096 + 128_000).step_by(997) {
        judge(&mut volume, &sound, offset, (offset % 8) as u8);
    }
}

#[test]
fn no_flipped_bit_of_a_luks2_header_does_harm() {
    let mut volume = Volume::small(Version::Luks2, 1);
    let sound = volume.header();
    let text = 4096 + volume.json_text().len();
    for copy in [0, HDR_SIZE] {
        // All of the text, and of the zeros behind it every so often.
        for offset in (0..text + 64).chain((text + 64..HDR_SIZE).step_by(61)) {
            judge(&mut volume, &sound, copy + offset, (offset % 8) as u8);
        }
    }
}

#[test]
fn no_flipped_bit_of_luks2_key_material_does_harm() {
    let mut volume = Volume::small(Version::Luks2, 1);
    let sound = volume.header();
    for offset in (HEADERS as usize..HEADERS as usize + (128 << 10)).step_by(997) {
        judge(&mut volume, &sound, offset, (offset % 8) as u8);
    }
}

#[test]
fn no_byte_of_the_metadata_text_changed_under_a_right_checksum_does_harm() {
    let sound = Volume::small(Version::Luks2, 1);
    let text = sound.json_text();
    for index in 0..text.len() {
        for byte in [text[index] ^ 1, text[index] ^ 0x10, b'0', b'9', b'"'] {
            let mut volume = sound.clone();
            let mut text = text.clone();
            text[index] = byte;
            volume.put_json(&text);
            if volume.found().is_ok() && text != sound.json_text() {
                volume.opens("old");
                let _ = volume.header().payload(volume.bytes.len() as u64);
            }
        }
    }
}
