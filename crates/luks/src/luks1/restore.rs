//! A header backup restored over the header that the device has, key by key.
//!
//! The header lies across two sectors, and a write torn between them must leave every key of
//! before or every restored one. So keys are first added to the header that is there, beside those
//! of before; only then are the others taken away.

use rand_core::CryptoRng;

use super::header::{Header, Keyslot};
use crate::{Change, Error, luks2};

/// Returns the change that turns `current` into `backup`, whose first bytes are `material`; `head`
/// are those of the device.
///
/// # Errors
///
/// [`Error::Backup`] when the headers differ in more than their keys, [`Error::NoRoom`] when no
/// keyslot is free in both that could hold a key for as long as its own place is taken.
pub(crate) fn restore(
    backup: &Header,
    material: &[u8],
    current: &Header,
    head: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<Change, Error> {
    refuse_other_layout(backup, current)?;
    let area = |bytes: &[u8], slot: &Keyslot| -> Vec<u8> {
        let range = backup.area(slot);
        bytes.get(range.start as usize..range.end as usize).unwrap_or_default().to_vec()
    };
    let mut change = Change::default();
    let (mut both, mut last) = (current.clone(), backup.clone());
    let mut delayed = Vec::new();
    for (id, (restored, kept)) in (0..).zip(backup.keyslots.iter().zip(&current.keyslots)) {
        let sealed = area(material, restored);
        if !restored.active || (restored == kept && sealed == area(head, restored)) {
            continue;
        }
        if !kept.active || restored == kept {
            change.write(backup.area(restored).start, sealed);
            *both.keyslot_mut(id) = restored.clone();
            continue;
        }
        let (free, place) = (0..)
            .zip(&both.keyslots)
            .zip(&backup.keyslots)
            .find_map(|((id, one), other)| (!one.active && !other.active).then_some((id, one)))
            .ok_or(Error::NoRoom { needed: backup.area_len() })?;
        let stand_in = Keyslot { offset: place.offset, ..restored.clone() };
        change.write(backup.area(&stand_in).start, sealed.clone());
        *both.keyslot_mut(free) = stand_in.clone();
        *last.keyslot_mut(free) = stand_in;
        delayed.push((backup.area(restored).start, sealed));
    }
    change.flush();
    both.write(&mut change);
    if !delayed.is_empty() {
        for (start, sealed) in delayed {
            change.write(start, sealed);
        }
        change.flush();
        last.write(&mut change);
    }
    backup.write(&mut change);
    for (held, restored) in both.keyslots.iter().zip(&backup.keyslots) {
        if held.active && !restored.active {
            luks2::Header::wipe(&mut change, backup.area(held), rng);
        }
    }
    Ok(change)
}

fn refuse_other_layout(backup: &Header, current: &Header) -> Result<(), Error> {
    let places = |header: &Header| header.keyslots.clone().map(|keyslot| keyslot.offset);
    if places(backup) != places(current) {
        return Err(Error::Backup { problem: "its keyslots lie elsewhere".to_owned() });
    }
    let same_keys = Header { keyslots: current.keyslots.clone(), ..backup.clone() };
    if same_keys != *current {
        return Err(Error::Backup {
            problem: "cipher, hash or volume key are not those of the device".to_owned(),
        });
    }
    Ok(())
}
