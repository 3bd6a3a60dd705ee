//! A new LUKS1 header.

use rand_core::CryptoRng;
use strongroom_crypto::{CostPolicy, Kdf, Passphrase, SectorSize, VolumeKey};

use super::header::{Header, Keyslot};
use super::keyslots::digest;
use super::{ALIGNMENT, KEYSLOTS, SECTOR};
use crate::format::DATA_ALIGNMENT;
use crate::{Change, Error, FormatOptions, Version, af};

/// Returns a header for `key` with one keyslot, and the writes that make it.
pub(crate) fn format(
    options: &FormatOptions,
    key: &VolumeKey,
    passphrase: &Passphrase,
    policy: &CostPolicy,
    rng: &mut dyn CryptoRng,
) -> Result<(Header, Change), Error> {
    refuse_unfit(options)?;
    let spec = options.encryption.spec();
    let mut digest_salt = [0; 32];
    rng.fill_bytes(&mut digest_salt);
    let empty =
        Keyslot { active: false, iterations: 0, salt: [0; 32], offset: 0, stripes: af::STRIPES };
    let mut header = Header {
        cipher_name: spec.cipher().name().to_owned(),
        cipher_mode: spec.mode_name(),
        hash_spec: options.hash.name().to_owned(),
        payload_offset: 0,
        key_bytes: u32::try_from(key.len()).expect("keys are at most 64 bytes"),
        digest: digest(key, options.hash, &digest_salt, options.digest_iterations, policy)?,
        digest_salt,
        digest_iterations: options.digest_iterations,
        uuid: options.uuid_or_random(rng)?,
        keyslots: std::array::from_fn(|_| empty.clone()),
    };
    header.place_inactive_keyslots(ALIGNMENT)?;
    header.payload_offset = payload_offset(options, &header)?;
    let (_, header, change) =
        header.add_keyslot(key, passphrase, &options.first_keyslot(), policy, rng)?;
    Ok((header, change))
}

fn refuse_unfit(options: &FormatOptions) -> Result<(), Error> {
    if options.sector_size != SectorSize::B512 {
        return Err(Error::unfit(Version::Luks1, "its sectors have 512 bytes"));
    }
    if !matches!(options.kdf, Kdf::Pbkdf2 { hash, .. } if hash == options.hash) {
        return Err(Error::unfit(
            Version::Luks1,
            "its only key derivation is pbkdf2, with the header's hash",
        ));
    }
    if options.token.is_some() {
        return Err(Error::unfit(Version::Luks1, "it has no tokens"));
    }
    if !options.label.is_empty() || !options.subsystem.is_empty() {
        return Err(Error::unfit(Version::Luks1, "it has no label and no subsystem"));
    }
    Ok(())
}

/// Returns where the data begins, in sectors.
fn payload_offset(options: &FormatOptions, header: &Header) -> Result<u32, Error> {
    if options.detached {
        return Ok(0);
    }
    let end = header.keyslots.iter().map(|slot| header.area(slot).end).max().unwrap_or(0);
    let offset = options.data_offset.unwrap_or(end.next_multiple_of(DATA_ALIGNMENT));
    if !offset.is_multiple_of(SECTOR) {
        return Err(Error::unfit(
            Version::Luks1,
            format!("data offset {offset} is not a multiple of 512"),
        ));
    }
    if offset < end {
        return Err(Error::unfit(
            Version::Luks1,
            format!(
                "data offset {offset} lies inside the header and its {KEYSLOTS} keyslots, which need {end} bytes"
            ),
        ));
    }
    u32::try_from(offset / SECTOR)
        .map_err(|_| Error::unfit(Version::Luks1, format!("data offset {offset} is beyond 2 TiB")))
}
