//! The file of a download until it is whole.
//!
//! It is called `.NAME.partial`, and begins with a marker that belongs to no format. Beside it lies a journal with
//! the tag of what it is of and the bytes in whose place the marker stands.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use strongroom_disk::{Disk, ErrorKind, NewFile, Overwrite, Raw, Resizable, Unfinished};
use strongroom_server::client::Target;

use crate::command_error::{CommandError, quoted};

/// The file of a download, which stays when the download ends early.
pub(super) struct Partial {
    file: NewFile,
    journal: Journal,
    earlier: Option<Noted>,
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noted {
    tag: String,
    first: [u8; 8],
}

struct Journal {
    path: PathBuf,
}

/// The file while bytes come.
pub(super) struct Receiving<'a> {
    disk: Unfinished<&'a Raw>,
    journal: &'a Journal,
    interrupted: &'a AtomicBool,
    tag: String,
    is_noted: bool,
    at: u64,
}

impl Partial {
    /// Opens what an earlier download has left for a file, or begins anew.
    ///
    /// # Errors
    ///
    /// When there is such a file already, somebody is at work on it, or what was left is not of a download.
    pub(super) fn open(target: &Path, overwrite: Overwrite) -> Result<Self, CommandError> {
        let journal = Journal { path: NewFile::journal_path(target) };
        match NewFile::reopen_at_the_end(target, overwrite, &[]) {
            Ok(file) => {
                let Some(noted) = journal.read() else {
                    let partial = NewFile::partial_path(target).display().to_string();
                    let problem = format!("{partial} is there, and not of a download");
                    return Err(CommandError::of_kind(
                        strongroom::ErrorKind::AlreadyExists,
                        problem,
                    )
                    .hinted(format!("if nobody needs it: rm {}", quoted(&partial))));
                };
                Ok(Self { file, journal, earlier: noted })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Whoever finds the file shall find out whose it is.
                journal.write(None)?;
                let created = NewFile::create_named(target, overwrite, &[]);
                let (mut file, permit) = created.inspect_err(|_| journal.remove())?;
                // Nothing is formatted with it: an image comes as it is.
                drop(permit);
                file.keep_when_dropped();
                Ok(Self { file, journal, earlier: None })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the file for what comes.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn receive<'a>(
        &'a self,
        interrupted: &'a AtomicBool,
    ) -> Result<Receiving<'a>, CommandError> {
        let raw = self.file.disk();
        let (disk, tag, at) = match &self.earlier {
            Some(noted) => {
                let disk = Unfinished::resume_at_the_end(raw, noted.first)?;
                (disk, noted.tag.clone(), sure(raw))
            }
            None => {
                raw.set_len(0)?;
                (Unfinished::new(raw)?, String::new(), 0)
            }
        };
        let is_noted = self.earlier.is_some();
        Ok(Receiving { disk, journal: &self.journal, interrupted, tag, is_noted, at })
    }

    /// Returns what an earlier download has left that can be gone on with.
    pub(super) fn earlier(&self) -> impl Read {
        let first = self.earlier.as_ref().map(|noted| noted.first).unwrap_or_default();
        let disk = self.file.disk();
        Earlier { disk, first, at: 0, end: sure(disk) }
    }

    /// Gives a file that is whole its name.
    ///
    /// # Errors
    ///
    /// Those of the file system, and when somebody has taken the name meanwhile.
    pub(super) fn commit(self) -> Result<(), CommandError> {
        self.file.commit()?;
        self.journal.remove();
        Ok(())
    }

    /// Keeps what has come for a later download; returns where, and how many bytes that can go on with. What is
    /// worth nothing goes.
    pub(super) fn keep(self) -> Option<(PathBuf, u64)> {
        let len = sure(self.file.disk());
        let is_noted = matches!(self.journal.read(), Some(Some(_)));
        if len == 0 || !is_noted {
            self.remove();
            return None;
        }
        Some((NewFile::partial_path(self.file.target()), len))
    }

    /// Removes it.
    pub(super) fn remove(self) {
        self.file.remove();
        self.journal.remove();
    }
}

impl Receiving<'_> {
    /// Returns the tag of what has come, and how much that is; `None` when nothing has.
    pub(super) fn begun(&self) -> Option<(String, u64)> {
        (self.at > 0).then(|| (self.tag.clone(), self.at))
    }

    /// Makes the file what has come, and nothing behind it.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn finish(&self, len: u64) -> Result<(), CommandError> {
        self.disk.set_len(len)?;
        self.disk.finish()?;
        Ok(())
    }
}

impl Target for Receiving<'_> {
    fn begin(&mut self, tag: &str) -> io::Result<()> {
        self.disk.set_len(0).map_err(io::Error::other)?;
        self.journal.write(None).map_err(|error| io::Error::other(error.text()))?;
        (self.at, self.is_noted) = (0, false);
        tag.clone_into(&mut self.tag);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        let end = self.at + bytes.len() as u64;
        // Zeros stay holes.
        if bytes.iter().any(|byte| *byte != 0) {
            let longer = if self.disk.len() < end { self.disk.set_len(end) } else { Ok(()) };
            let written = longer.and_then(|()| self.disk.write_at(bytes, self.at));
            written.map_err(io::Error::other)?;
        }
        self.at = end;
        if !self.is_noted && !self.tag.is_empty() && end >= FIRST {
            let noted = Noted { tag: self.tag.clone(), first: self.disk.first_bytes() };
            self.journal.write(Some(&noted)).map_err(|error| io::Error::other(error.text()))?;
            self.is_noted = true;
        }
        Ok(())
    }
}

impl Journal {
    /// Returns what it says; `None` when it is not of a download, or not there.
    fn read(&self) -> Option<Option<Noted>> {
        let text = fs::read(&self.path).ok()?;
        let value: Value = serde_json::from_slice(&text).ok()?;
        let download = value.get(KEY)?;
        let noted = || {
            let first = u64::from_str_radix(download["first"].as_str()?, 16).ok()?;
            let tag = download["tag"].as_str()?.to_owned();
            Some(Noted { tag, first: first.to_be_bytes() })
        };
        Some(noted())
    }

    fn write(&self, noted: Option<&Noted>) -> Result<(), CommandError> {
        let value = noted.map(|noted| {
            json!({ "tag": noted.tag, "first": format!("{:016x}", u64::from_be_bytes(noted.first)) })
        });
        let text = json!({ KEY: value }).to_string();
        let (file, permit) = NewFile::create(&self.path, Overwrite::Replace, &[])?;
        drop(permit);
        file.disk().set_len(text.len() as u64)?;
        file.disk().write_at(text.as_bytes(), 0)?;
        Ok(file.commit()?)
    }

    fn remove(&self) {
        // One that stays is written over by the next download.
        let _ = fs::remove_file(&self.path);
    }
}

/// What an earlier download has left, from the first byte on.
struct Earlier<'a> {
    disk: &'a Raw,
    first: [u8; 8],
    at: u64,
    end: u64,
}

impl Read for Earlier<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (buffer.len() as u64).min(self.end - self.at);
        let buffer = buffer.get_mut(..count as usize).unwrap_or_default();
        self.disk.read_at(buffer, self.at).map_err(io::Error::other)?;
        // In their place stands the marker.
        let begin = usize::try_from(self.at).unwrap_or(usize::MAX);
        let first = self.first.get(begin..).unwrap_or_default();
        buffer.iter_mut().zip(first).for_each(|(byte, first)| *byte = *first);
        self.at += count;
        Ok(count as usize)
    }
}

/// Returns how many bytes of a file can be gone on behind: the last piece may have been on its way into it.
fn sure(disk: &Raw) -> u64 {
    disk.len().saturating_sub(UNSURE)
}

/// How many bytes of the file stand in the journal.
const FIRST: u64 = 8;

/// More than any piece that comes at once.
const UNSURE: u64 = 1 << 20;

/// By what a journal is known as that of a download.
const KEY: &str = "download";
