//! A LUKS1 header of arbitrary bytes; one more byte says how large the device is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_fuzz::{Device, check_head};

fuzz_target!(|input: &[u8]| {
    let (header, rest) = input.split_at(input.len().min(HEADER_LEN));
    let mut head = header.to_vec();
    head.resize(4096, 0);
    let len = rest.first().map_or(64 << 20, |shift| 4096 << (shift % 52));
    check_head(&Device::new(&head, len), "");
});

/// The bytes of the header that mean anything.
const HEADER_LEN: usize = 592;
