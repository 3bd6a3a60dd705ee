//! The note on what is under way with the data key of a volume whose header has no tokens.
//!
//! It is written before the new keyslot is, and lies beside the record, as `.NAME.rotation`, until the
//! old keyslots are gone. It names keyslots by their salts, so that nothing is taken for what it was
//! that somebody has filled anew since.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use strongroom_disk::{Operation, Overwrite};
use strongroom_kms::Envelope;
use strongroom_luks::{Header, luks2};

use super::record::{PLAIN_FILE, beside, failed, replace};
use crate::{Error, Result, hexadecimal};

/// What is under way.
#[derive(Debug, Serialize)]
pub(super) struct Pending {
    /// Which keyslots are to go.
    pub(super) old: Vec<Slot>,
    /// The envelope that was there, where it is known.
    pub(super) from: Option<Envelope>,
    /// The keyslot that takes their place.
    pub(super) new: Slot,
    /// Its envelope.
    pub(super) to: Envelope,
}

/// A keyslot as it was filled at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) keyslot: u32,
    salt: String,
}

impl Slot {
    /// Returns a keyslot of a header; `None` when it has none of this number that opens.
    pub(super) fn of(header: &Header, keyslot: u32) -> Option<Self> {
        let salt = match header {
            Header::Luks1(luks1) => {
                let slot = luks1.keyslots.get(usize::try_from(keyslot).ok()?)?;
                slot.active.then_some(slot.salt.as_slice())?
            }
            Header::Luks2(luks2) => match &luks2.metadata().keyslots.get(&keyslot)?.kind {
                luks2::KeyslotKind::Luks2(slot) => slot.salt.as_slice(),
                _ => return None,
            },
        };
        Some(Self { keyslot, salt: hexadecimal(salt) })
    }

    /// Tells whether a header still has it.
    pub(super) fn is_in(&self, header: &Header) -> bool {
        Self::of(header, self.keyslot).as_ref() == Some(self)
    }
}

impl Pending {
    /// Returns what is under way for the volume of a record.
    ///
    /// # Errors
    ///
    /// When the note cannot be read, or is none.
    pub(super) fn read(record: &Path) -> Result<Option<Self>> {
        let path = Self::path(record);
        let text = match read_plain(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(Operation::Read, &path, error)),
        };
        let written: Written = serde_json::from_slice(&text).map_err(|error| Error::Journal {
            path: path.clone(),
            problem: format!("it does not tell what was under way ({error})"),
        })?;
        let label = path.display().to_string();
        let envelope = |text: Box<RawValue>| Envelope::parse(text.get().as_bytes(), &label);
        let Written { old, from, new, to } = written;
        Ok(Some(Self { old, from: from.map(envelope).transpose()?, new, to: envelope(to)? }))
    }

    /// Writes it down, durably.
    pub(super) fn write(&self, record: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).expect("envelopes are JSON");
        replace(&Self::path(record), &text, Overwrite::Replace)
    }

    /// Forgets it.
    pub(super) fn remove(record: &Path) -> Result<()> {
        let path = Self::path(record);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(Operation::Write, &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Returns the keyslots that it is about, but for one, as far as a header still has them.
    pub(super) fn slots_but(&self, kept: u32, header: &Header) -> Vec<Slot> {
        let slots = self.old.iter().chain([&self.new]);
        slots.filter(|slot| slot.keyslot != kept && slot.is_in(header)).cloned().collect()
    }

    fn path(record: &Path) -> PathBuf {
        beside(record, "rotation")
    }
}

/// The note as it is read: its envelopes are checked one by one.
#[derive(Deserialize)]
struct Written {
    old: Vec<Slot>,
    from: Option<Box<RawValue>>,
    new: Slot,
    to: Box<RawValue>,
}

/// Reads a file that may lie where others write: no link is followed, no pipe waited for, and no
/// more read than any note has.
fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let file: File = OpenOptions::new().read(true).custom_flags(PLAIN_FILE).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(text)
}

/// The most bytes that are read: more than two envelopes and all keyslots of a header have.
const LONGEST: u64 = 1 << 18;
