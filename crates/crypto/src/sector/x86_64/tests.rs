use zeroize::{Zeroize, ZeroizeOnDrop};

use super::*;

#[test]
fn key_schedules_are_wiped_when_they_go() {
    fn wiped_on_drop(_: &impl ZeroizeOnDrop) {}
    let Some(mut aes) = Accelerated::new(Kernel::AesNi, &[7; 32]) else { return };
    wiped_on_drop(&*aes.schedule);
    assert_ne!(aes.schedule.decrypt[14], [0; 16]);
    aes.schedule.zeroize();
    let words = [aes.schedule.encrypt, aes.schedule.decrypt];
    assert!(words.iter().flatten().flatten().all(|byte| *byte == 0));
}

#[test]
fn expands_the_key_of_fips_197_appendix_a_3() {
    let key = [
        0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77,
        0x81, 0x1f, 0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3, 0x09, 0x14,
        0xdf, 0xf4,
    ];
    let Some(aes) = Accelerated::new(Kernel::AesNi, &key) else { return };
    let last = aes.schedule.encrypt[14];
    assert_eq!(u128::from_be_bytes(last), 0xfe4890d1_e6188d0b_046df344_706c631e);
    assert_eq!(aes.schedule.decrypt[0], last);
}
