//! Cipher specifications: what is read is written as the same, and every key size that it lists
//! works.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};

fuzz_target!(|text: &str| {
    let spec: CipherSpec = match text.parse() {
        Ok(spec) => spec,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(spec.to_string().parse(), Ok(spec), "{spec} is read as it was written");
    let as_luks1 = format!("{}-{}", spec.cipher().name(), spec.mode_name());
    assert_eq!(as_luks1.parse(), Ok(spec), "{as_luks1} is what LUKS1 headers hold");
    for bits in (0..=576).step_by(8) {
        let listed = spec.key_sizes().iter().any(|&size| usize::from(size) == bits);
        let encryption = spec.with_key_bits(bits);
        assert_eq!(encryption.is_ok(), listed, "{spec} with {bits} bits");
        let Ok(encryption) = encryption else { continue };
        let key =
            VolumeKey::new((0..encryption.key_size().bytes()).map(|byte| byte as u8).collect());
        let cipher = SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512)
            .expect("a listed key size makes a cipher");
        let mut sector = [0x5a; 512];
        cipher.encrypt(&mut sector, 3);
        assert_ne!(sector, [0x5a; 512]);
        cipher.decrypt(&mut sector, 3);
        assert_eq!(sector, [0x5a; 512], "{spec} decrypts what it encrypted");
    }
});
