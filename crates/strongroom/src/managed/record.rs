//! Files with envelopes beside the header.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_disk::{Disk, NewFile, Operation, Overwrite};
use strongroom_kms::Envelope;

use crate::{Error, ErrorKind, Result, envelopes};

/// Returns the envelope in a file; `None` when there is no such file.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Envelope>> {
    match envelopes::read_file(path) {
        Ok(envelope) => Ok(Some(envelope)),
        Err(error @ Error::Disk(_)) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes an envelope to a file: the old one is there until the new one is, durably.
pub(super) fn write(path: &Path, envelope: &Envelope, overwrite: Overwrite) -> Result<()> {
    replace(path, format!("{}\n", envelope.to_json()).as_bytes(), overwrite)
}

/// What is under way with the data key of a volume whose header has no tokens: the envelopes of the
/// old keyslot and of the new one. It lies beside the record until the old keyslot is gone.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Which keyslot is to go, and the envelope that opens it.
    pub(super) old: Option<(u32, Envelope)>,
    /// Opens the one that takes its place.
    pub(super) new: Envelope,
}

impl Pending {
    /// Returns what is under way for the volume of a record.
    pub(super) fn read(record: &Path) -> Result<Option<Self>> {
        let path = Self::path(record);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(Operation::Read, &path, error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| Error::Journal {
            path,
            problem: format!("it does not tell what was under way ({error})"),
        })
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
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(Operation::Write, &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Returns `.NAME.rotation` beside the record.
    fn path(record: &Path) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(record.file_name().unwrap_or_default());
        name.push(".rotation");
        record.with_file_name(name)
    }
}

fn replace(path: &Path, bytes: &[u8], overwrite: Overwrite) -> Result<()> {
    let (file, permit) = NewFile::create(path, overwrite, &[])?;
    // An envelope is no volume: nothing is formatted with this permit.
    drop(permit);
    file.disk().set_len(bytes.len() as u64)?;
    file.disk().write_at(bytes, 0)?;
    Ok(file.commit()?)
}

fn failed(operation: Operation, path: &Path, source: std::io::Error) -> Error {
    strongroom_disk::Error::from_io(operation, path.display().to_string(), source).into()
}
