//! Opening keyslots of hostile headers, with hostile key material: never a panic, never a key,
//! never more work than the policy allows.
//!
//! The first byte is the length of the passphrase, the second that of the key material, which is
//! repeated as often as the area needs. Both follow, then a LUKS1 header or LUKS2 metadata.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use strongroom_crypto::{CostPolicy, Passphrase, VolumeKey};
use strongroom_fuzz::{Copies, Device};

fuzz_target!(|input: &[u8]| {
    let [passphrase_len, material_len, rest @ ..] = input else { return };
    let (passphrase, rest) = rest.split_at(rest.len().min((*passphrase_len).into()));
    let (material, rest) = rest.split_at(rest.len().min((*material_len).into()));
    let head = if rest.starts_with(b"LUKS\xba\xbe\0\x01") {
        let mut head = rest.to_vec();
        head.resize(4096, 0);
        head
    } else {
        let mut copies = Copies::of_json(rest);
        copies.sum();
        copies.bytes().to_vec()
    };
    let Ok(found) = Device::new(&head, 32 << 20).header() else { return };
    let passphrase = Passphrase::new(passphrase.to_vec());
    for keyslot in found.header.keyslots().into_iter().take(MAX_TRIED) {
        let area = found.header.keyslot_area(keyslot.id).unwrap_or_default();
        let len = usize::try_from(area.end - area.start).unwrap_or(usize::MAX).min(MAX_AREA);
        let material = if material.is_empty() { &[0] } else { material };
        let area: Vec<u8> = material.iter().copied().cycle().take(len).collect();
        let opened = found.header.open_keyslot(keyslot.id, &area, &passphrase, &POLICY);
        assert!(opened.is_err(), "keyslot {} opened with noise", keyslot.id);
    }
    let key = VolumeKey::new(vec![7; 32]);
    assert!(found.header.verify_volume_key(&key, &POLICY).is_err(), "a made-up key is right");
});

const POLICY: CostPolicy = CostPolicy { max_memory_kib: 1024, max_time: Duration::from_millis(2) };
/// Keyslots that are tried.
const MAX_TRIED: usize = 3;
/// Bytes of key material that are made.
const MAX_AREA: usize = 1 << 20;
