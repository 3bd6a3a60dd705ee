//! A source whose checksum is taken while it is read in any order.

mod cache;
mod seen;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use strongroom_crypto::{Hash, Hasher};

use self::cache::{Block, Cache};
use self::seen::{KEY, Key, Seen};
use crate::disk::{check_extent_offset, check_range};
use crate::{Disk, Error, ErrorKind, Extent, ExtentKind, Operation, Resizable, Result};

/// Another disk, read only, whose bytes are all hashed from the first to the last one while others
/// read them in whatever order they need.
///
/// # Guarantees
///
/// - Every byte that was read through it, and every hole that it told of, is a byte of the
///   [digest](Self::finish), or there was an error: whoever shows one content to the reader and
///   another one to the hash is found out.
/// - No byte is read twice because of the digest as long as the reader goes through the disk
///   roughly in order; holes are not read at all.
/// - Takes 18 MiB, one more for every thread that reads, and 8 bytes for every MiB that was read.
///
/// # Assumptions
///
/// The state with which it is [resumed](Self::resume) is the one that was saved.
#[derive(Debug)]
pub struct Checked<D> {
    inner: D,
    len: u64,
    key: Key,
    state: Mutex<State>,
    /// Notified when the cursor has moved, when a hasher has come back, when a block was loaded.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Away while someone hashes with it.
    hasher: Option<Hasher>,
    /// What the hasher was saved as at the cursor.
    saved: Option<Vec<u8>>,
    /// How many blocks are hashed.
    cursor: u64,
    cache: Cache,
    seen: Seen,
}

/// What is to be done before a block can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Made,
    /// Someone else is about to move the cursor.
    Wait,
    /// The cache is full of blocks that wait for the cursor.
    MoveCursor,
}

impl<D: Disk> Checked<D> {
    /// Returns the disk, of which nothing is hashed yet.
    ///
    /// # Errors
    ///
    /// That of the operating system when it has no random bytes.
    pub fn new(inner: D, hash: Hash) -> Result<Self> {
        let key = Key::random()
            .map_err(|source| Error::from_io(Operation::Open, inner.label(), source))?;
        Ok(Self::with(inner, key, Hasher::new(hash), 0, Seen::default()))
    }

    /// Goes on at a [state](Self::state) that was saved before. What was read then must be the same
    /// when it is read again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it is none of such a disk.
    pub fn resume(inner: D, hash: Hash, cursor: u64, saved: &[u8]) -> Result<Self> {
        let Some(saved) = Saved::parse(saved) else {
            return Err(Error::new(ErrorKind::Invalid, Operation::Open, inner.label())
                .because("the state of its checksum is damaged"));
        };
        let failed = || Error::new(ErrorKind::Invalid, Operation::Open, inner.label());
        let len = inner.len();
        if cursor > len || !(cursor == len || cursor.is_multiple_of(BLOCK)) {
            let reason = format!("a checksum cannot go on at {cursor} bytes of {len}");
            return Err(failed().because(reason));
        }
        let hasher =
            Hasher::restore(hash, saved.hasher).map_err(|error| failed().with_source(error))?;
        let key = Key::new(saved.key)
            .map_err(|source| Error::from_io(Operation::Open, inner.label(), source))?;
        Ok(Self::with(inner, key, hasher, cursor.div_ceil(BLOCK), saved.seen))
    }

    /// Returns the disk below.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// Returns how many bytes from the beginning on are hashed, and the state of everything, from
    /// which [`resume`](Self::resume) goes on: a few bytes, and 16 for every MiB that was read.
    /// `None` for hashes whose state cannot be saved.
    ///
    /// Whoever knows the state can make a block that is taken for another one.
    pub fn state(&self) -> Option<(u64, Vec<u8>)> {
        let state = self.lock();
        let hasher = state.saved.as_ref()?;
        let mut bytes = (hasher.len() as u64).to_be_bytes().to_vec();
        bytes.extend(hasher);
        bytes.extend(self.key.bytes());
        bytes.extend(state.seen.save().into_iter().flat_map(u64::to_be_bytes));
        Some((state.cursor.saturating_mul(BLOCK).min(self.len), bytes))
    }

    /// Reads and hashes in order what is not hashed yet, and returns the digest of all bytes;
    /// `None` when someone cancelled, which is looked at between blocks.
    pub fn finish(&self, cancelled: &AtomicBool) -> Result<Option<Vec<u8>>> {
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if self.advance(BLOCKS_AT_ONCE)? {
                continue;
            }
            let state = self.lock();
            let Some(hasher) = &state.hasher else {
                drop(self.wait(state));
                continue;
            };
            let cursor = state.cursor;
            if cursor == self.blocks() {
                return Ok(Some(hasher.clone().finish()));
            }
            drop(state);
            self.block(cursor)?;
        }
    }

    fn with(inner: D, key: Key, hasher: Hasher, cursor: u64, seen: Seen) -> Self {
        let saved = hasher.save();
        let cache = Cache::default();
        let state = State { hasher: Some(hasher), saved, cursor, cache, seen };
        let len = inner.len();
        Self { inner, len, key, state: Mutex::new(state), changed: Condvar::new() }
    }

    // Nobody panics halfway through a change of the state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn blocks(&self) -> u64 {
        self.len.div_ceil(BLOCK)
    }

    fn range_of(&self, number: u64) -> Range<u64> {
        number * BLOCK..(number + 1).saturating_mul(BLOCK).min(self.len)
    }

    /// Returns a block, and loads it if nobody has it yet.
    fn block(&self, number: u64) -> Result<Block> {
        let mut state = self.lock();
        let loading = loop {
            if let Some(block) = state.cache.find(number) {
                return Ok(block);
            }
            if state.cache.is_loading(number) {
                state = self.wait(state);
                continue;
            }
            match state.make_room(number) {
                Room::Made => break Loading { checked: self, number },
                Room::Wait => state = self.wait(state),
                Room::MoveCursor => {
                    let cursor = state.cursor;
                    drop(state);
                    // Whoever reads far ahead hashes what it leaves out: that is to be read anyway,
                    // and what was loaded would have to be loaded again.
                    if !self.advance(1)? {
                        self.block(cursor)?;
                    }
                    state = self.lock();
                }
            }
        };
        let buffer = state.cache.begin(number);
        drop(state);
        let block = self.load(number, buffer)?;
        drop(loading);
        self.advance(BLOCKS_AT_ONCE)?;
        Ok(block)
    }

    /// Reads a block, and refuses one that is another than before.
    fn load(&self, number: u64, mut buffer: Vec<u8>) -> Result<Block> {
        let range = self.range_of(number);
        buffer.resize((range.end - range.start) as usize, 0);
        self.inner.read_at(&mut buffer, range.start)?;
        let block = Arc::new(buffer);
        let fingerprint = self.key.fingerprint(number, &block);
        let mut state = self.lock();
        if !state.seen.is_as_before(number, fingerprint, &block) {
            return Err(Error::new(ErrorKind::Changed, Operation::Read, self.label())
                .at(range.start, range.end - range.start)
                .because("it was changed while it was read"));
        }
        state.cache.insert(number, Arc::clone(&block));
        Ok(block)
    }

    /// Hashes up to so many blocks that are there or holes; returns whether there were any.
    /// Does nothing while someone else is at it.
    fn advance(&self, limit: usize) -> Result<bool> {
        let mut moved = false;
        for _ in 0..limit {
            let mut state = self.lock();
            let cursor = state.cursor;
            if cursor == self.blocks() {
                break;
            }
            let Some(hasher) = state.hasher.take() else { break };
            let block = state.cache.find(cursor);
            drop(state);
            let mut turn = Turn { checked: self, hasher: Some(hasher), end: cursor };
            match block {
                Some(block) => turn.hash(&block, 1),
                None => turn.hash_hole()?,
            }
            if turn.end == cursor {
                break;
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Returns the end of the whole blocks from `number` on that lie within a hole.
    fn hole_end(&self, number: u64) -> Result<Option<(u64, ExtentKind)>> {
        let Extent { range, kind } = self.inner.extent_at(number * BLOCK)?;
        let end = if range.end >= self.len { self.blocks() } else { range.end / BLOCK };
        Ok((kind.reads_as_zeros() && end > number).then_some((end, kind)))
    }

    fn refuse<T>(&self, operation: Operation) -> Result<T> {
        Err(Error::new(ErrorKind::ReadOnly, operation, self.label())
            .because("its checksum is being taken"))
    }
}

impl State {
    fn make_room(&mut self, number: u64) -> Room {
        while !self.cache.has_room() && self.cache.evict_before(self.cursor) {}
        if self.cache.has_room() {
            return Room::Made;
        }
        if number <= self.cursor {
            // The block for which the others wait is one too many for a moment.
            self.cache.evict_surplus();
            return Room::Made;
        }
        if self.hasher.is_none() || self.cache.is_loading(self.cursor) {
            return Room::Wait;
        }
        Room::MoveCursor
    }
}

/// A state that was saved.
struct Saved<'a> {
    hasher: &'a [u8],
    key: [u8; KEY],
    seen: Seen,
}

impl<'a> Saved<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let (hasher, rest) = rest.split_at_checked(length)?;
        let (key, rest) = rest.split_first_chunk()?;
        let (numbers, []) = rest.as_chunks() else { return None };
        let numbers: Vec<u64> = numbers.iter().copied().map(u64::from_be_bytes).collect();
        Some(Self { hasher, key: *key, seen: Seen::restore(&numbers)? })
    }
}

/// A block that is being loaded, even if that should fail.
struct Loading<'a, D: Disk> {
    checked: &'a Checked<D>,
    number: u64,
}

impl<D: Disk> Drop for Loading<'_, D> {
    fn drop(&mut self) {
        self.checked.lock().cache.end(self.number);
        self.checked.changed.notify_all();
    }
}

/// Someone's turn to hash. The hasher comes back, even if something should fail.
struct Turn<'a, D: Disk> {
    checked: &'a Checked<D>,
    hasher: Option<Hasher>,
    /// Up to which block everything is hashed by now.
    end: u64,
}

impl<D: Disk> Turn<'_, D> {
    fn hash(&mut self, bytes: &[u8], blocks: u64) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
            self.end += blocks;
        }
    }

    /// Hashes zeros if there is a hole.
    fn hash_hole(&mut self) -> Result<()> {
        let start = self.end;
        let Some((end, _)) = self.checked.hole_end(start)? else { return Ok(()) };
        let end = self.checked.lock().seen.add_hole(start..end.min(start + HOLE_AT_ONCE));
        for number in start..end {
            let range = self.checked.range_of(number);
            self.hash(&ZEROES[..(range.end - range.start) as usize], 1);
        }
        Ok(())
    }
}

impl<D: Disk> Drop for Turn<'_, D> {
    fn drop(&mut self) {
        let mut state = self.checked.lock();
        state.cursor = self.end;
        state.saved = self.hasher.as_ref().and_then(Hasher::save);
        state.hasher = self.hasher.take();
        drop(state);
        self.checked.changed.notify_all();
    }
}

impl<D: Disk> Disk for Checked<D> {
    fn len(&self) -> u64 {
        self.len
    }

    fn label(&self) -> &str {
        self.inner.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(Operation::Read, self.label(), self.len, offset, buf.len() as u64)?;
        let (mut rest, mut offset) = (buf, offset);
        while !rest.is_empty() {
            let within = (offset % BLOCK) as usize;
            let length = rest.len().min(BLOCK as usize - within);
            let (piece, behind) = rest.split_at_mut(length);
            let block = self.block(offset / BLOCK)?;
            piece.copy_from_slice(&block[within..within + length]);
            offset += length as u64;
            rest = behind;
        }
        Ok(())
    }

    fn write_at(&self, _buf: &[u8], _offset: u64) -> Result<()> {
        self.refuse(Operation::Write)
    }

    /// Tells only of holes that are whole blocks: these are hashed as zeros, and must stay zeros.
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        let number = offset / BLOCK;
        if let Some((end, kind)) = self.hole_end(number)? {
            let end = self.lock().seen.add_hole(number..end);
            if end > number {
                let end = end.saturating_mul(BLOCK).min(self.len);
                return Ok(Extent { range: offset..end, kind });
            }
        }
        let Extent { range, kind } = self.inner.extent_at(offset)?;
        // What is no whole block of zeros, or has been read, is data up to the end of the block.
        let end = if kind.reads_as_zeros() { self.range_of(number).end } else { range.end };
        Ok(Extent { range: offset..end.min(self.len), kind: ExtentKind::Data })
    }

    fn discard(&self, _range: Range<u64>) -> Result<()> {
        self.refuse(Operation::Discard)
    }

    fn write_zeroes(&self, _range: Range<u64>) -> Result<()> {
        self.refuse(Operation::WriteZeroes)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl<D: Disk> Resizable for Checked<D> {
    fn set_len(&self, _len: u64) -> Result<()> {
        self.refuse(Operation::Resize)
    }
}

/// What is loaded, remembered and hashed at once.
const BLOCK: u64 = 1 << 20;

/// How many blocks who has loaded one hashes at most: more than one, so that the cursor catches up,
/// and not many, since someone waits for what was loaded.
const BLOCKS_AT_ONCE: usize = 2;

/// How many blocks of a hole are hashed at once.
const HOLE_AT_ONCE: u64 = 32;

static ZEROES: [u8; BLOCK as usize] = [0; BLOCK as usize];

#[cfg(test)]
mod tests;
