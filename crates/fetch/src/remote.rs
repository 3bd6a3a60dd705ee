//! A resource that is read at any offset.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use strongroom_disk::{Disk, ErrorKind, Extent, ExtentKind, Operation, Resizable};

use crate::blocks::{AHEAD, BLOCK, Blocks, Lookup};
use crate::claim::Claim;
use crate::engine::{Engine, GLANCE};
use crate::link::Link;
use crate::runs::Runs;
use crate::{Error, Identity};

/// A resource whose server serves ranges, as a disk that nobody may change.
///
/// It is fetched in blocks of 1 MiB, which stay in memory for a while; ahead of readers that read
/// in order, several are fetched at once. That takes at most 24 MiB of memory, for any number of
/// readers.
///
/// # Guarantees
///
/// - Bytes that are read are those of the resource in the state of [`Remote::identity`], as far as
///   its server tells states apart. A read of anything else is an error.
/// - A read that waits ends within 200 milliseconds after a cancellation.
///
/// # Errors
///
/// [`Error::within`] finds the cause in the errors of a read.
pub struct Remote {
    shared: Arc<Shared>,
    cancelled: Arc<AtomicBool>,
    // Ends the requests before anything that they use goes.
    engine: Engine,
}

/// What the readers share with the requests.
pub(crate) struct Shared {
    pub(crate) link: Link,
    pub(crate) identity: Identity,
    /// Is told of every block that has come or failed.
    pub(crate) arrived: Condvar,
    blocks: Mutex<Blocks>,
    runs: Mutex<Runs>,
    len: u64,
}

impl Remote {
    /// Returns a disk of `len` bytes of which the first block is here already.
    pub(crate) fn new(
        engine: Engine,
        link: Link,
        identity: Identity,
        first: First,
        connections: usize,
        cancelled: Arc<AtomicBool>,
    ) -> Self {
        let First { len, block } = first;
        let mut blocks = Blocks::new(len, connections);
        if len > 0 {
            blocks.arrive(0, block);
        }
        let shared = Shared {
            link,
            identity,
            arrived: Condvar::new(),
            blocks: Mutex::new(blocks),
            runs: Mutex::default(),
            len,
        };
        Self { shared: Arc::new(shared), cancelled, engine }
    }

    /// Returns which resource in which state this is.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn fill(&self, mut buf: &mut [u8], offset: u64) -> Result<(), Error> {
        let range = offset..offset + buf.len() as u64;
        self.shared.runs().note(&range);
        let mut at = offset;
        while !buf.is_empty() {
            let index = at / BLOCK;
            let block = self.block(index, &range)?;
            let start = (at % BLOCK) as usize;
            let length = buf.len().min(block.len() - start);
            let (now, later) = buf.split_at_mut(length);
            now.copy_from_slice(&block[start..start + length]);
            drop(block);
            self.shared.blocks().consume(index, length);
            at += length as u64;
            buf = later;
        }
        Ok(())
    }

    /// Returns a block of those that hold the bytes `range`, and sees to it that the ones after it
    /// come too.
    fn block(&self, index: u64, range: &Range<u64>) -> Result<Arc<Vec<u8>>, Error> {
        let wanted = index..range.end.div_ceil(BLOCK);
        let mut has_waited = false;
        let mut blocks = self.shared.blocks();
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let found = match blocks.look_up(index) {
                Lookup::Ready(block) => Some(block),
                Lookup::Failed(error) if has_waited || blocks.is_broken() => return Err(error),
                // That was before this read: perhaps the network is back.
                Lookup::Failed(_) => {
                    blocks.forgive(index);
                    None
                }
                Lookup::Missing => None,
            };
            let ahead = self.shared.runs().ahead(range, AHEAD * BLOCK);
            let ahead = ahead.start.div_ceil(BLOCK)..ahead.end.div_ceil(BLOCK);
            let requests = blocks.reserve(wanted.clone(), ahead);
            if !requests.is_empty() {
                drop(blocks);
                for request in requests {
                    self.engine.spawn(Claim::new(Arc::clone(&self.shared), request).fetch());
                }
                blocks = self.shared.blocks();
            }
            if let Some(block) = found {
                return Ok(block);
            }
            has_waited = true;
            // What has come while the lock was free has told nobody who sleeps.
            if matches!(blocks.look_up(index), Lookup::Missing) {
                let wait = self.shared.arrived.wait_timeout(blocks, GLANCE);
                blocks = wait.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn refuse<T>(&self, operation: Operation) -> strongroom_disk::Result<T> {
        Err(strongroom_disk::Error::new(ErrorKind::ReadOnly, operation, self.label())
            .because("nothing can be written over HTTP"))
    }

    fn check(&self, operation: Operation, offset: u64, length: u64) -> strongroom_disk::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.shared.len => Ok(()),
            _ => Err(strongroom_disk::Error::new(ErrorKind::PastEnd, operation, self.label())
                .at(offset, length)
                .because(format!("the resource ends at {}", self.shared.len))),
        }
    }
}

/// How a ranged resource begins.
pub(crate) struct First {
    /// The length of the resource in bytes.
    pub(crate) len: u64,
    /// Its first block.
    pub(crate) block: Vec<u8>,
}

impl Shared {
    /// Returns the length of the resource in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Locks the blocks.
    pub(crate) fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Remote {
    fn len(&self) -> u64 {
        self.shared.len
    }

    fn label(&self) -> &str {
        self.shared.link.name()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> strongroom_disk::Result<()> {
        let length = buf.len() as u64;
        self.check(Operation::Read, offset, length)?;
        self.fill(buf, offset).map_err(|error| {
            strongroom_disk::Error::new(error.disk_kind(), Operation::Read, self.label())
                .at(offset, length)
                .with_source(error)
        })
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> strongroom_disk::Result<()> {
        self.refuse(Operation::Write)
    }

    /// Returns data up to the end: HTTP knows no holes.
    fn extent_at(&self, offset: u64) -> strongroom_disk::Result<Extent> {
        self.check(Operation::FindExtent, offset, 1)?;
        Ok(Extent { range: offset..self.shared.len, kind: ExtentKind::Data })
    }

    fn discard(&self, _range: Range<u64>) -> strongroom_disk::Result<()> {
        self.refuse(Operation::Discard)
    }

    fn write_zeroes(&self, _range: Range<u64>) -> strongroom_disk::Result<()> {
        self.refuse(Operation::WriteZeroes)
    }

    fn flush(&self) -> strongroom_disk::Result<()> {
        Ok(())
    }
}

impl Resizable for Remote {
    fn set_len(&self, _len: u64) -> strongroom_disk::Result<()> {
        self.refuse(Operation::Resize)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("identity", &self.shared.identity).finish_non_exhaustive()
    }
}
