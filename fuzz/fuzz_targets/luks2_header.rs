//! A LUKS2 header of arbitrary bytes, behind checksums that hold.
//!
//! The first byte says what is done to the copies and the second how. Then follow the fields of
//! the binary header, from which both copies are made, and the JSON area; or both copies as is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_fuzz::{BINARY_LEN, Copies, Device, check_head};

fuzz_target!(|input: &[u8]| {
    let [flags, detail, rest @ ..] = input else { return };
    let has = |flag: u8| flags & flag != 0;
    let mut copies = if has(AS_IS) {
        Copies::in_head(rest)
    } else {
        let (binary, json) = rest.split_at(rest.len().min(BINARY_LEN));
        Copies::new(binary, json)
    };
    if has(OTHER_AGE) {
        copies.age(detail.cast_signed());
    }
    copies.sum();
    if has(PRIMARY_DAMAGED) {
        copies.damage(0, usize::from(*detail) * 17);
    }
    if has(SECONDARY_DAMAGED) {
        copies.damage(1, usize::from(*detail) * 17);
    }
    if has(OVERWRITTEN) {
        copies.overwrite(0, &[0; 512]);
        copies.overwrite(510, &[0x55, 0xaa]);
    }
    let len = if has(SHORT) { u64::from(*detail) << 12 } else { 32 << 20 };
    check_head(&Device::new(copies.bytes(), len), "label");
});

const AS_IS: u8 = 1;
const OTHER_AGE: u8 = 2;
const PRIMARY_DAMAGED: u8 = 4;
const SECONDARY_DAMAGED: u8 = 8;
const OVERWRITTEN: u8 = 16;
const SHORT: u8 = 32;
