//! LUKS2 metadata in a valid binary header; behind a NUL the text that labels and tokens get.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_fuzz::{Copies, Device, check_head};

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |&byte| byte == 0);
    let json = parts.next().unwrap_or_default();
    let text = parts.next().and_then(|text| std::str::from_utf8(text).ok());
    let mut copies = Copies::of_json(json);
    copies.sum();
    check_head(&Device::new(copies.bytes(), 32 << 20), text.unwrap_or_default());
});
