//! The bytes of a source, wherever they come from: a file, a resource on the network, a pipe.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, Timespec};
use strongroom_crypto::Hasher;
use strongroom_disk::{Access, Checked, Raw, Resizable};
use strongroom_fetch::{End, Options, Resource};
use strongroom_model::{CacheMode, Checksum, CloneRequest, ImageSource, Reach};

use super::Work;
use super::checksum;
use super::guard::Checking;
use super::journal::ChecksumState;
use crate::{Error, Result};

/// The bytes of a source.
pub(super) enum Bytes {
    /// They can be read in any order.
    Disk(DiskBytes),
    /// They come once, from the first to the last.
    Stream(StreamBytes),
}

/// Bytes that can be read in any order.
#[derive(Clone)]
pub(super) struct DiskBytes {
    /// What formats are read from.
    pub(super) disk: Arc<dyn Resizable>,
    /// The file below, where it is one: for locks, and to know it from the target.
    pub(super) file: Option<Arc<Raw>>,
    /// Computes the checksum of all that is read.
    pub(super) checked: Option<Arc<Checked<Arc<dyn Resizable>>>>,
    /// What must stay as it is while the bytes are read.
    pub(super) identity: Identity,
    /// Why nobody can tell from the identity whether the bytes are the same at another time.
    pub(super) unknowable: Option<&'static str>,
}

/// Bytes that come once.
pub(super) struct StreamBytes {
    pub(super) reader: StreamReader,
    pub(super) label: String,
    /// How many there will be, where that is known.
    pub(super) len: Option<u64>,
}

/// A stream, and its checksum where one is wanted.
pub(super) struct StreamReader {
    /// What was read to tell what comes, and is to be read again.
    head: Vec<u8>,
    reader: Box<dyn Read + Send>,
    hasher: Option<Box<Hasher>>,
}

/// What tells a source from another, or from itself at another time. Names and values are what
/// people read when they do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity(pub(super) Vec<(&'static str, String)>);

impl Bytes {
    /// Opens the source of a request.
    ///
    /// # Errors
    ///
    /// When it is not there, or cannot be opened.
    pub(super) fn open(
        request: &CloneRequest,
        earlier: Option<&ChecksumState>,
        checking: Checking<'_>,
        work: &Work<'_>,
    ) -> Result<Self> {
        let checksum = request.checksum.as_ref().map(|checksum| (checksum, earlier));
        match &request.source {
            ImageSource::File(path) => file(path, request.cache, checksum).map(Self::Disk),
            ImageSource::StandardInput => {
                let reader = StreamReader::new(Box::new(PatientInput), request.checksum.as_ref());
                Ok(Self::Stream(StreamBytes { reader, label: STDIN.to_owned(), len: None }))
            }
            ImageSource::Url(url) => {
                let options = Options {
                    ca_file: request.ca_file.clone(),
                    reach: match request.reach {
                        Reach::Anywhere => strongroom_fetch::Reach::Anywhere,
                        Reach::OtherHosts => strongroom_fetch::Reach::OtherHosts,
                    },
                    ..Options::default()
                };
                match strongroom_fetch::open(url, &options, Arc::clone(work.cancelled))? {
                    Resource::Ranged(remote) => {
                        let identity = Identity::of_resource(remote.identity());
                        let unknowable = unknowable(remote.identity());
                        let bytes = disk(Arc::new(remote), None, identity, checksum)?;
                        Ok(Self::Disk(DiskBytes { unknowable, ..bytes }))
                    }
                    Resource::Stream(stream) => {
                        let is_checked =
                            request.checksum.is_some() && matches!(checking, Checking::Expected);
                        if stream.end() == End::Untold && !is_checked {
                            let label = stream.identity().url.clone();
                            return Err(Error::EndUntold { label });
                        }
                        let (label, len) = (stream.identity().url.clone(), stream.len());
                        let reader = StreamReader::new(Box::new(stream), request.checksum.as_ref());
                        Ok(Self::Stream(StreamBytes { reader, label, len }))
                    }
                }
            }
        }
    }
}

impl DiskBytes {
    /// Returns the file of a source that is one.
    pub(super) fn file(&self) -> Option<&Raw> {
        self.file.as_deref()
    }
}

/// Standard input, which says now and then that nothing has come, so that its reader can see
/// whether it is to stop.
struct PatientInput;

impl Read for PatientInput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let input = rustix::stdio::stdin();
        let mut ready = [PollFd::new(&input, PollFlags::IN)];
        match rustix::event::poll(&mut ready, Some(&PATIENCE))? {
            0 => Err(io::ErrorKind::Interrupted.into()),
            _ => Ok(rustix::io::read(input, buf)?),
        }
    }
}

impl StreamReader {
    fn new(reader: Box<dyn Read + Send>, checksum: Option<&Checksum>) -> Self {
        let hasher =
            checksum.map(|checksum| Box::new(Hasher::new(checksum::hash(checksum.algorithm()))));
        Self { head: Vec::new(), reader, hasher }
    }

    /// Returns the first bytes, fewer than `count` only where there are no more. They will be read
    /// all the same.
    ///
    /// # Errors
    ///
    /// Of kind interrupted when it is to stop.
    pub(super) fn first_bytes(
        &mut self,
        count: usize,
        cancelled: &AtomicBool,
    ) -> io::Result<&[u8]> {
        let mut head = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.reader.read(&mut head[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Err(error) if cancelled.load(Ordering::Relaxed) => return Err(error),
                Err(_) => {}
            }
        }
        head.truncate(filled);
        self.head = head;
        Ok(&self.head)
    }

    /// Returns the digest of what has come, if one is taken.
    pub(super) fn digest(&self) -> Option<Vec<u8>> {
        self.hasher.as_ref().map(|hasher| Hasher::clone(hasher).finish())
    }
}

impl Read for StreamReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = if self.head.is_empty() {
            self.reader.read(buf)?
        } else {
            let length = self.head.len().min(buf.len());
            buf[..length].copy_from_slice(&self.head[..length]);
            self.head.drain(..length);
            length
        };
        if let (Some(hasher), Some(read)) = (&mut self.hasher, buf.get(..length)) {
            hasher.update(read);
        }
        Ok(length)
    }
}

impl Identity {
    /// Returns the identity of what stands under a path.
    pub(super) fn of_path(path: &Path) -> Self {
        let mut facts = vec![("source", absolute(path))];
        // A device's file says nothing of its contents.
        if let Some(found) = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file) {
            facts.push(("length of the source", found.len().to_string()));
            facts.push(("inode of the source", format!("{}:{}", found.dev(), found.ino())));
            if let Ok(modified) = found.modified() {
                facts.push(("modification time of the source", since_epoch(modified)));
            }
        }
        Self(facts)
    }

    /// Returns the identity of a resource. The query of its URL is no part of it: it may be a
    /// secret, and that of a signed URL is another one each time. So the same resource is known by
    /// what its server says of it.
    fn of_resource(found: &strongroom_fetch::Identity) -> Self {
        let mut facts = vec![("source", found.url.clone())];
        let more = [
            ("length of the source", found.len.map(|len| len.to_string())),
            ("entity tag of the source", found.etag.clone()),
            ("modification time of the source", found.last_modified.clone()),
        ];
        facts.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
        Self(facts)
    }
}

fn file(
    path: &Path,
    cache: CacheMode,
    checksum: Option<(&Checksum, Option<&ChecksumState>)>,
) -> Result<DiskBytes> {
    // Before the file is opened, so that no change after that goes unnoticed.
    let identity = Identity::of_path(path);
    let mut raw = Raw::open(path, Access::ReadOnly)?;
    let raw = Arc::new(match cache {
        CacheMode::Writeback => raw,
        CacheMode::None => {
            raw.bypass_cache()?;
            raw
        }
    });
    disk(Arc::clone(&raw) as Arc<dyn Resizable>, Some(raw), identity, checksum)
}

fn disk(
    disk: Arc<dyn Resizable>,
    file: Option<Arc<Raw>>,
    identity: Identity,
    checksum: Option<(&Checksum, Option<&ChecksumState>)>,
) -> Result<DiskBytes> {
    let Some((checksum, earlier)) = checksum else {
        return Ok(DiskBytes { disk, file, checked: None, identity, unknowable: None });
    };
    let hash = checksum::hash(checksum.algorithm());
    let checked = Arc::new(match earlier {
        Some(earlier) => Checked::resume(disk, hash, earlier.bytes, &earlier.state())?,
        None => Checked::new(disk, hash)?,
    });
    let disk = Arc::clone(&checked) as Arc<dyn Resizable>;
    Ok(DiskBytes { disk, file, checked: Some(checked), identity, unknowable: None })
}

/// Returns why a resource that was changed cannot be told from what it was, if that is so.
fn unknowable(found: &strongroom_fetch::Identity) -> Option<&'static str> {
    let known = found.etag.is_some() || found.last_modified.is_some();
    (!known).then_some(
        "its server gives neither an ETag nor a modification date, by which to know it again",
    )
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn since_epoch(time: SystemTime) -> String {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => format!("{}.{:09}", since.as_secs(), since.subsec_nanos()),
        Err(before) => format!("-{:?}", before.duration()),
    }
}

/// How long standard input is waited for at once: 100 ms.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What errors call standard input.
const STDIN: &str = "standard input";
