//! A device in memory: formatted, opened and changed through the public face only.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use strongroom_crypto::{Argon2Variant, CostPolicy, Hash, Kdf, Passphrase, VolumeKey};
use strongroom_luks::{Change, Error, FormatOptions, Formatted, Header, Step, Version};

use crate::volume::found;

/// The cheapest derivation that each format takes.
pub(crate) fn cheap(version: Version) -> Kdf {
    match version {
        Version::Luks1 => Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000 },
        Version::Luks2 => {
            Kdf::Argon2 { variant: Argon2Variant::Argon2id, time: 4, memory_kib: 32, lanes: 1 }
        }
    }
}

pub(crate) fn options(version: Version) -> FormatOptions {
    FormatOptions { kdf: cheap(version), ..FormatOptions::new(version) }
}

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub(crate) fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec())
}

pub(crate) fn policy() -> CostPolicy {
    CostPolicy::default()
}

/// Formats a device of 20 MiB with the passphrase "old".
pub(crate) fn formatted(options: &FormatOptions) -> (Vec<u8>, Formatted) {
    let formatted = options.format(&passphrase("old"), &policy(), &mut rng(7)).unwrap();
    let mut device = vec![0; 20 << 20];
    apply(&mut device, &formatted.change);
    (device, formatted)
}

/// Carries a change out; a header file grows where it must.
pub(crate) fn apply(device: &mut Vec<u8>, change: &Change) {
    for step in change.steps() {
        if let Step::Write { offset, bytes } = step {
            let end = *offset as usize + bytes.len();
            device.resize(device.len().max(end), 0);
            device[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// Reads the header of a device.
pub(crate) fn parse(device: &[u8]) -> Result<Header, Error> {
    found(device).map(|found| found.header)
}

/// Opens a device the way the world above does: every keyslot in turn.
pub(crate) fn open(device: &[u8], text: &str) -> Result<VolumeKey, Error> {
    let header = parse(device)?;
    for id in header.keyslots_to_try()? {
        let area = header.keyslot_area(id)?;
        let area = &device[area.start as usize..area.end as usize];
        match header.open_keyslot(id, area, &passphrase(text), &policy()) {
            Err(Error::WrongPassphrase { .. }) => {}
            other => return other,
        }
    }
    Err(Error::WrongPassphrase { skipped: Vec::new() })
}
