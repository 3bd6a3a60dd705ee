//! The journal of a job that can be taken up again: which job it is, and how far it is durable.
//!
//! It stands beside the unfinished target as long as there is one. It holds no key: the keyslots of
//! an encrypted target lie in the target itself, and open with its passphrase alone. Where a KMS opens
//! it, the journal holds the wrapped key, which is no secret.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use strongroom_clone::Checkpoints;
use strongroom_disk::{Checked, Resizable};
use strongroom_kms::Envelope;

use crate::{Error, Result, hexadecimal};

/// What tells a job from any other: names and values as people read them.
pub(super) type Facts = BTreeMap<String, String>;

/// The journal of a job that is at work.
pub(super) struct Journal {
    path: PathBuf,
    entry: Mutex<Entry>,
    checked: Option<Arc<Checked<Arc<dyn Resizable>>>>,
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    strongroom_journal: u32,
    job: Facts,
    /// Device and inode of the unfinished file that the journal is about.
    file: (u64, u64),
    /// The extents of the target that survive a loss of power: first byte and end.
    durable: Vec<(u64, u64)>,
    /// Whether all of the contents is durable and was checked, so that the target may have got its
    /// first bytes already.
    finishing: bool,
    checksum: Option<ChecksumState>,
    /// The wrapped key of the target, where a KMS opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    envelope: Option<Envelope>,
}

/// A checksum on its way through the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChecksumState {
    /// How many bytes it has seen.
    pub(super) bytes: u64,
    /// Where it stands, in hexadecimal digits.
    state: String,
}

impl Entry {
    /// Returns the entry of a job of which nothing is durable yet, and which makes `file`.
    pub(super) fn new(job: Facts, file: (u64, u64), envelope: Option<Envelope>) -> Self {
        Self {
            strongroom_journal: VERSION,
            job,
            file,
            durable: Vec::new(),
            finishing: false,
            checksum: None,
            envelope,
        }
    }

    /// Returns device and inode of the unfinished file.
    pub(super) fn file(&self) -> (u64, u64) {
        self.file
    }

    /// Reads the journal at `path`; `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when it is no journal of this version.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let failed = |problem: String| Error::Journal { path: path.to_owned(), problem };
        let text = match read_own(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let entry: Self =
            serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
        match entry.strongroom_journal {
            VERSION => Ok(Some(entry)),
            other => Err(failed(format!("its version {other} is unknown"))),
        }
    }

    /// Returns up to where the target is durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable.first().map_or(0, |(start, end)| if *start == 0 { *end } else { 0 })
    }

    /// Returns whether the target may be whole but for its name.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Returns the wrapped key of the target, where a KMS opens it.
    pub(super) fn envelope(&self) -> Option<&Envelope> {
        self.envelope.as_ref()
    }

    /// Tells whether there is something to go on with.
    pub(super) fn has_begun(&self) -> bool {
        self.durable() > 0 || self.finishing
    }

    /// Returns how far the checksum had come.
    pub(super) fn checksum(&self) -> Option<&ChecksumState> {
        self.checksum.as_ref()
    }

    /// Refuses to go on with another job than the one the journal is of.
    ///
    /// # Errors
    ///
    /// [`Error::JobChanged`], which names the first difference: one of [`FOREMOST`] before all that
    /// follow from them.
    pub(super) fn refuse_changes(&self, job: &Facts, partial: &Path) -> Result<()> {
        let none = "not given".to_owned();
        let value = |facts: &Facts, name: &str| facts.get(name).unwrap_or(&none).clone();
        let foremost = FOREMOST.map(str::to_owned);
        for name in foremost.iter().chain(self.job.keys()).chain(job.keys()) {
            let (then, now) = (value(&self.job, name), value(job, name));
            if then != now {
                let (partial, what) = (partial.to_owned(), name.clone());
                return Err(Error::JobChanged { partial, what, then, now });
            }
        }
        Ok(())
    }
}

impl ChecksumState {
    /// Returns the state; of none, when it is not hexadecimal.
    pub(super) fn state(&self) -> Vec<u8> {
        let digits: Option<Vec<u32>> = self.state.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len().is_multiple_of(2)).unwrap_or_default();
        let bytes = digits.chunks(2);
        bytes.map(|pair| pair.iter().fold(0, |sum, digit| sum << 4 | *digit as u8)).collect()
    }
}

impl Journal {
    /// Begins or goes on with the journal at `path`.
    pub(super) fn new(
        path: PathBuf,
        entry: Entry,
        checked: Option<Arc<Checked<Arc<dyn Resizable>>>>,
    ) -> Self {
        Self { path, entry: Mutex::new(entry), checked }
    }

    /// Makes what the journal says now durable.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn write(&self) -> io::Result<()> {
        let text = {
            let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((bytes, state)) = self.checked.as_ref().and_then(|checked| checked.state())
            {
                entry.checksum = Some(ChecksumState { bytes, state: hexadecimal(&state) });
            }
            serde_json::to_vec_pretty(&*entry)?
        };
        let new = beside(&self.path);
        let replaced = create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_data()?;
            fs::rename(&new, &self.path)
        });
        if replaced.is_err() {
            let _ = fs::remove_file(&new);
        }
        replaced.and_then(|()| sync_directory(&self.path))
    }

    /// Returns what the file says, which is less than this journal where it could not be written.
    pub(super) fn read(&self) -> Result<Option<Entry>> {
        Entry::read(&self.path)
    }

    /// Returns up to where the target is durable.
    pub(super) fn durable_len(&self) -> u64 {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner).durable()
    }

    /// Notes how far the target is durable, without writing it down yet.
    pub(super) fn note(&self, offset: u64) {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner).durable = vec![(0, offset)];
    }

    /// Writes down that the target will get its first bytes now.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn finishing(&self) -> Result<()> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner).finishing = true;
        self.write().map_err(|error| self.failed(&error))
    }

    /// Returns the error of a journal that could not be written.
    pub(super) fn failed(&self, error: &io::Error) -> Error {
        Error::Journal { path: self.path.clone(), problem: error.to_string() }
    }

    /// Takes the journal away: the job is done, or will never be. That of another file stays.
    pub(super) fn remove(&self) {
        let file = self.entry.lock().unwrap_or_else(PoisonError::into_inner).file;
        if let Ok(Some(entry)) = self.read()
            && entry.file == file
        {
            // What would be left of it says that it belongs to a file that is no more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes every checkpoint down.
impl Checkpoints for Journal {
    fn durable(
        &self,
        offset: u64,
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.note(offset);
        self.write().map_err(|error| self.failed(&error).into())
    }
}

/// Remembers a checkpoint, which is written down only if the job is to be taken up again.
pub(super) struct Unwritten<'a>(pub(super) &'a Journal);

impl Checkpoints for Unwritten<'_> {
    fn durable(
        &self,
        offset: u64,
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.0.note(offset);
        Ok(())
    }
}

/// Reads a file that nobody else can have written: whoever may plant a journal says how much of a
/// target is to be believed.
fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    let reason = if !found.is_file() {
        "it is not a plain file"
    } else if found.uid() != rustix::process::geteuid().as_raw() {
        "it belongs to another user"
    } else if found.mode() & 0o022 != 0 || found.nlink() != 1 {
        "others can write to it"
    } else if found.len() > LONGEST {
        "it is longer than any journal"
    } else {
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text)?;
        return Ok(text);
    };
    Err(io::Error::other(reason))
}

/// Returns the name under which the next state of a journal is written.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    name.into()
}

/// Creates a file of its own, whatever stood there.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// What makes it another job altogether.
const FOREMOST: [&str; 4] = ["operation", "source", "source format", "target format"];

/// The most bytes of a journal. That of a checksum over 1 TiB has 32 MiB.
const LONGEST: u64 = 256 << 20;

/// The version of the journal that this program writes and reads.
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_journal_that_somebody_else_may_have_planted_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let path = at("journal");
        let journal = Journal::new(path.clone(), Entry::new(Facts::new(), (1, 2), None), None);
        journal.note(7);
        journal.write().unwrap();
        assert_eq!(Entry::read(&path).unwrap().unwrap().durable(), 7);
        assert_eq!(Entry::read(&at("none")).unwrap(), None);

        let refused = |path: &Path, reason: &str| {
            let error = Entry::read(path).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        };
        symlink(&path, at("link")).unwrap();
        refused(&at("link"), "cannot be used");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), kind, mode, 0).unwrap();
        refused(&at("pipe"), "it is not a plain file");
        fs::hard_link(&path, at("name")).unwrap();
        refused(&path, "others can write to it");
        fs::remove_file(at("name")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        refused(&path, "others can write to it");
    }

    #[test]
    fn the_journal_of_another_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = |file| Journal::new(path.clone(), Entry::new(Facts::new(), file, None), None);
        journal((1, 2)).write().unwrap();
        journal((1, 3)).remove();
        assert!(path.exists());
        journal((1, 2)).remove();
        assert!(!path.exists());
    }
}
