//! The keys and headers of LUKS devices: added, removed, changed, converted, backed up.

use std::path::Path;

use strongroom_crypto::{CostPolicy, Kdf, Passphrase, VolumeKey};
use strongroom_disk::{Disk, LockMode, NewFile, Overwrite};
use strongroom_luks::luks2::{self, Priority};
use strongroom_luks::{Backup, Binding, Change, Header, NewKeyslot, RestoreCheck, Version};

use crate::device::{self, Device};
use crate::{Error, ErrorKind, Opener, Result, Unlocked, system_rng};

/// What a new keyslot shall be like, as far as somebody said so.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyslotRequest {
    /// Its number; `None` for the first free one.
    pub id: Option<u32>,
    /// Key derivation; `None` for the default of the format.
    pub kdf: Option<Kdf>,
    /// When it is tried; `None` for the usual.
    pub priority: Option<Priority>,
}

/// Which keyslot is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyslotChoice {
    /// The one that the passphrase opens.
    Opened,
    /// The one with this number; the passphrase must open another one.
    Number(u32),
}

/// Adds a passphrase to a device. Returns the number of its keyslot.
///
/// # Errors
///
/// When `existing` opens nothing, or the header has no room.
pub fn add(
    device: &Device,
    existing: &Passphrase,
    new: &Passphrase,
    request: &KeyslotRequest,
    policy: &CostPolicy,
) -> Result<u32> {
    device.update(|header| {
        let unlocked = device.unlock(header, existing, None, policy)?;
        let keyslot = request.keyslot(device, header)?;
        let (id, _, change) = header
            .add_keyslot(&unlocked.key, new, &keyslot, policy, &mut system_rng())
            .map_err(Error::luks(device.header_disk().label()))?;
        Ok((id, change))
    })
}

/// Adds a random key that is bound to no data: an unbound keyslot of LUKS2.
///
/// # Errors
///
/// When the header is LUKS1 or has no room.
pub fn add_unbound(
    device: &Device,
    key_bytes: usize,
    new: &Passphrase,
    request: &KeyslotRequest,
    policy: &CostPolicy,
) -> Result<u32> {
    let key = VolumeKey::random(key_bytes, &mut system_rng());
    device.update(|header| {
        let keyslot = NewKeyslot { binding: Binding::None, ..request.keyslot(device, header)? };
        let (id, _, change) = header
            .add_keyslot(&key, new, &keyslot, policy, &mut system_rng())
            .map_err(Error::luks(device.header_disk().label()))?;
        Ok((id, change))
    })
}

/// Removes a keyslot. Returns its number.
///
/// # Errors
///
/// When the passphrase opens nothing, or the keyslot is the last one.
pub fn remove(
    device: &Device,
    passphrase: &Passphrase,
    choice: KeyslotChoice,
    policy: &CostPolicy,
) -> Result<u32> {
    device.update(|header| {
        let id = match choice {
            KeyslotChoice::Opened => device.unlock(header, passphrase, None, policy)?.keyslot,
            KeyslotChoice::Number(id) => {
                prove_other_keyslot(device, header, passphrase, id, policy)?;
                id
            }
        };
        let (_, change) = header
            .remove_keyslot(id, &mut system_rng())
            .map_err(Error::luks(device.header_disk().label()))?;
        Ok((id, change))
    })
}

/// Replaces the passphrase of the keyslot that `old` opens. Returns the number it has afterwards.
///
/// # Errors
///
/// When `old` opens nothing, or there is no room for the new keyslot beside the old one.
pub fn change(
    device: &Device,
    old: &Passphrase,
    new: &Passphrase,
    keyslot: Option<u32>,
    request: &KeyslotRequest,
    policy: &CostPolicy,
) -> Result<u32> {
    device.update(|header| {
        let Unlocked { keyslot: id, key } = device.unlock(header, old, keyslot, policy)?;
        let mut slot = request.keyslot(device, header)?;
        let before = header.keyslots().into_iter().find(|keyslot| keyslot.id == id);
        if let Some(before) = before {
            slot.priority = request.priority.unwrap_or(before.priority);
            slot.binding = before.binding;
        }
        let (id, _, change) = header
            .change_keyslot(id, &key, new, &slot, policy, &mut system_rng())
            .map_err(Error::luks(device.header_disk().label()))?;
        Ok((id, change))
    })
}

/// Returns the keyslot that a passphrase or a KMS opens.
///
/// # Errors
///
/// When it opens none, or not the one that was named.
pub fn test(
    device: &Device,
    opener: Opener<'_>,
    keyslot: Option<u32>,
    policy: &CostPolicy,
) -> Result<u32> {
    let found = device.read_header()?;
    Ok(device.unlock(&found.header, opener, keyslot, policy)?.keyslot)
}

/// Destroys every keyslot.
///
/// # Errors
///
/// When the header may not be changed.
pub fn erase(device: &Device) -> Result<()> {
    device.update(|header| {
        let (_, change) =
            header.erase(&mut system_rng()).map_err(Error::luks(device.header_disk().label()))?;
        Ok(((), change))
    })
}

/// Converts a header to another version in place.
///
/// # Errors
///
/// Says what the other version does not have.
pub fn convert(device: &Device, version: Version) -> Result<()> {
    let disk = device.header_disk();
    device.update(|header| {
        let luks = Error::luks(disk.label());
        let change = match (header, version) {
            (Header::Luks1(header), Version::Luks2) => {
                let whole = Header::Luks1(header.clone());
                let head = device::read_first(disk, len_of(whole.backup_len()))?;
                strongroom_luks::to_luks2(header, &head, &mut system_rng()).map_err(luks)?.1
            }
            (Header::Luks2(header), Version::Luks1) => {
                strongroom_luks::to_luks1(header, disk.len()).map_err(luks)?.1
            }
            _ => {
                return Err(Error::Request {
                    problem: format!("{} is {version} already", disk.label()),
                });
            }
        };
        Ok(((), change))
    })
}

/// Saves header and key material to a new file, readable by its owner only.
///
/// # Errors
///
/// When the file exists, or the header is damaged.
pub fn backup(device: &Device, target: &Path) -> Result<u64> {
    write_backup(device, target, Overwrite::Refuse)
}

/// Saves header and key material to a file, in place of whatever it was.
///
/// # Errors
///
/// When the header is damaged, or the file cannot be written.
pub(crate) fn replace_backup(device: &Device, target: &Path) -> Result<u64> {
    write_backup(device, target, Overwrite::Replace)
}

fn write_backup(device: &Device, target: &Path, overwrite: Overwrite) -> Result<u64> {
    let disk = device.header_disk();
    let bytes = {
        let _lock = device.lock(LockMode::Shared)?;
        let header = device::read_header(disk)?.header;
        let bytes = device::read_first(disk, len_of(header.backup_len()))?;
        Backup::of_device(&header, bytes).map_err(Error::luks(disk.label()))?
    };
    let (file, permit) = NewFile::create(target, overwrite, &[disk])?;
    // A copy of a header is not a volume: nothing is formatted with this permit.
    drop(permit);
    file.disk().set_len(bytes.bytes().len() as u64)?;
    // Most of a header is room that nobody has used.
    for (index, piece) in bytes.bytes().chunks(PIECE).enumerate() {
        if piece.iter().any(|&byte| byte != 0) {
            file.disk().write_at(piece, (index * PIECE) as u64)?;
        }
    }
    file.commit()?;
    Ok(bytes.bytes().len() as u64)
}

/// Restores a header backup.
///
/// # Errors
///
/// When it is of another volume, unless `check` lets it overwrite whatever is there.
pub fn restore(device: &Device, backup: &Device, check: RestoreCheck) -> Result<()> {
    let disk = device.header_disk();
    let file = backup.header_disk();
    let len = file.len();
    if len > MAX_BACKUP {
        return Err(Error::Request {
            problem: format!("{} has {len} bytes, too many for a header backup", file.label()),
        });
    }
    let backup =
        Backup::read(device::read_first(file, len_of(len))?).map_err(Error::luks(file.label()))?;
    let _lock = device.lock(LockMode::Exclusive)?;
    let current = match (device::read_header(disk), check) {
        (Ok(found), _) => Some(found),
        (Err(error @ (Error::Luks { .. } | Error::NotEncrypted { .. })), check) => match check {
            RestoreCheck::SameVolume => return Err(error),
            RestoreCheck::Overwrite => None,
        },
        (Err(error), _) => return Err(error),
    };
    let head = device::read_first(disk, backup.restore_head_len())?;
    if head.len() < backup.bytes().len() {
        return Err(Error::Request {
            problem: format!("{} is smaller than the header backup", disk.label()),
        });
    }
    let change = backup
        .restore(current.as_ref(), &head, check, &mut system_rng())
        .map_err(Error::luks(disk.label()))?;
    device::apply(disk, &change)
}

/// Changes what only LUKS2 has: labels, priorities, tokens.
///
/// # Errors
///
/// When the header is LUKS1, or what `prepare` says.
pub fn update_luks2<T>(
    device: &Device,
    mut prepare: impl FnMut(&luks2::Header) -> std::result::Result<(T, Change), strongroom_luks::Error>,
) -> Result<T> {
    let label = device.header_disk().label().to_owned();
    device.update(|header| match header {
        Header::Luks1(_) => Err(Error::Request {
            problem: format!("{label} is LUKS1, which has no labels, priorities or tokens"),
        }),
        Header::Luks2(header) => prepare(header).map_err(Error::luks(&label)),
    })
}

impl KeyslotRequest {
    fn keyslot(&self, device: &Device, header: &Header) -> Result<NewKeyslot> {
        self.keyslot_of(header, device.header_disk().label())
    }

    /// Returns what the new keyslot of a header is like; `label` is what errors call its device.
    pub(crate) fn keyslot_of(&self, header: &Header, label: &str) -> Result<NewKeyslot> {
        let usual = header.default_keyslot().map_err(Error::luks(label))?;
        let kdf = match (self.kdf, header) {
            // Every keyslot of LUKS1 derives with the header's hash.
            (Some(Kdf::Pbkdf2 { iterations, .. }), Header::Luks1(_)) => {
                Kdf::Pbkdf2 { hash: usual.af_hash, iterations }
            }
            (Some(kdf), _) => kdf,
            (None, _) => usual.kdf,
        };
        Ok(NewKeyslot {
            id: self.id,
            kdf: kdf.checked()?,
            priority: self.priority.unwrap_or(usual.priority),
            ..usual
        })
    }
}

/// Checks that the passphrase opens a keyslot other than `id`, so that removing that one locks
/// nobody out by mistake.
fn prove_other_keyslot(
    device: &Device,
    header: &Header,
    passphrase: &Passphrase,
    id: u32,
    policy: &CostPolicy,
) -> Result<()> {
    let luks = Error::luks(device.header_disk().label());
    header.keyslot_area(id).map_err(&luks)?;
    let others = header.keyslots_to_try().map_err(&luks)?.into_iter().filter(|other| *other != id);
    let mut skipped = Vec::new();
    for other in others {
        match device.unlock(header, passphrase, Some(other), policy) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WrongPassphrase => {}
            Err(Error::Luks { source, .. }) => skipped.push((other, source.to_string())),
            Err(error) => return Err(error),
        }
    }
    Err(luks(strongroom_luks::Error::WrongPassphrase { skipped }))
}

fn len_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What is written of a backup at once, in bytes, unless it is zeros.
const PIECE: usize = 4096;

/// The largest header there is: both copies of 4 MiB and the largest keyslots area.
const MAX_BACKUP: u64 = 136 << 20;
