//! What can be put right in a LUKS1 header without knowing a key.

use super::ALIGNMENT;
use super::header::Header;
use crate::luks2::GPT_MAGIC;
use crate::{Change, Error, Version, af};

/// Returns the repaired header with the change and what was done, `None` when nothing is wrong.
///
/// Repaired are: upper-case hash names, ECB with an IV, inactive keyslots with damaged fields, and
/// the signatures of partition tables that partitioning tools leave in keyslot 6.
pub(crate) fn repair(
    head: &[u8],
    device_len: u64,
) -> Result<Option<(Header, Change, Vec<String>)>, Error> {
    let mut done = Vec::new();
    let mut header = Header::fields(head)?;
    let [.., slot, _] = &mut header.keyslots;
    // The first sector ends within the salt of keyslot 6.
    let (boot, second_sector) = slot.salt.split_at(8);
    let is_table = boot.ends_with(&[0x55, 0xAA]) || second_sector.starts_with(GPT_MAGIC);
    // An active keyslot may have these bytes in its salt by chance, and needs them.
    if !slot.active && is_table {
        slot.salt.fill(0);
        done.push("removed the signature of a partition table from keyslot 6".to_owned());
    }
    if !matches!(header.key_bytes, 16 | 32 | 64) {
        return Err(Error::invalid(
            Version::Luks1,
            "key size",
            format!("{} bytes are none of 16, 32, 64: too damaged to repair", header.key_bytes),
        ));
    }
    let lower = header.hash_spec.to_ascii_lowercase();
    if header.hash_spec != lower {
        done.push(format!("wrote hash {} as {lower}", header.hash_spec));
        header.hash_spec = lower;
    }
    if header.cipher_mode.starts_with("ecb-") {
        done.push(format!("wrote mode {} as ecb", header.cipher_mode));
        "ecb".clone_into(&mut header.cipher_mode);
    }
    let damaged =
        |slot: &super::Keyslot| !slot.active && (slot.stripes != af::STRIPES || slot.offset == 0);
    if header.keyslots.iter().any(damaged) || header.check_placement(device_len).is_err() {
        header.place_inactive_keyslots(ALIGNMENT)?;
        done.push("placed the unused keyslots anew".to_owned());
    }
    if done.is_empty() {
        return Ok(None);
    }
    let bytes = header.to_bytes();
    let header = Header::parse(&bytes, device_len)?;
    let mut change = Change::default();
    header.write(&mut change);
    Ok(Some((header, change, done)))
}

impl Header {
    fn check_placement(&self, device_len: u64) -> Result<(), Error> {
        Self::parse(&self.to_bytes(), device_len).map(|_| ())
    }
}
