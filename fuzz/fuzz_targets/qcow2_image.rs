//! Any bytes as a qcow2 image, and what people do with one: never a panic, never more work than what
//! was asked for costs, and a disk that holds what was written to it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_fuzz::{Input, use_image};

fuzz_target!(|input: &[u8]| {
    if let Some(input) = Input::parse(input) {
        use_image(&input);
    }
});
