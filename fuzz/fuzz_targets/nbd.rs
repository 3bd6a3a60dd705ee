//! Any bytes as what an NBD client sends, in the handshake or after it: never a panic, never a wait for
//! something that cannot come, and nothing but the protocol in return.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_fuzz::serve_nbd;

fuzz_target!(|input: &[u8]| serve_nbd(input));
