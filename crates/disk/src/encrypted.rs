//! A view of another disk through a sector cipher.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use strongroom_crypto::SectorCipher;

use crate::disk::{check_extent_offset, check_range, check_within};
use crate::{Disk, Error, ErrorKind, Extent, ExtentKind, Operation, Resizable, Result};

/// The plaintext of a range of another disk that holds ciphertext.
///
/// # Guarantees
///
/// - Whole sectors are encrypted and decrypted in the caller's buffer. What does not begin or end
///   at a sector is read, changed and written back, which other threads never notice.
/// - Every byte counts as data, because a hole in ciphertext does not decrypt to zeros. Zeroing
///   writes encrypted zeros.
#[derive(Debug)]
pub struct Encrypted<D> {
    inner: D,
    start: u64,
    len: AtomicU64,
    cipher: SectorCipher,
    first_iv: u64,
    discards: Discards,
    new_ends: NewEnds,
    stripes: Box<[RwLock<()>]>,
    /// Held while the length changes.
    resizing: Mutex<()>,
}

/// What a disk that became longer holds at its new end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NewEnds {
    /// Zeros, which are encrypted and written: a hole below would read as noise.
    #[default]
    Zeros,
    /// Noise, for whoever writes all of it anyway, and would else write it twice.
    Noise,
}

/// What becomes of discards. They tell whoever sees the ciphertext which parts are unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Discards {
    /// They are refused as unsupported.
    #[default]
    Refuse,
    /// They are passed on; what was discarded reads as noise until it is written again.
    Pass,
}

impl<D: Disk> Encrypted<D> {
    /// Returns the plaintext of the bytes of `inner` in `range`. `first_iv` is the IV number of
    /// the first sector: zero, or what a LUKS2 segment calls its IV tweak.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PastEnd`] when the range is not within the disk, [`ErrorKind::Unaligned`]
    /// when it is not a whole number of sectors long.
    pub fn new(inner: D, range: Range<u64>, cipher: SectorCipher, first_iv: u64) -> Result<Self> {
        let len = check_within(&inner, Operation::Open, &range)?;
        check_sectors(Operation::Open, inner.label(), range.start, len, &cipher)?;
        Ok(Self {
            inner,
            start: range.start,
            len: AtomicU64::new(len),
            cipher,
            first_iv,
            discards: Discards::default(),
            new_ends: NewEnds::default(),
            stripes: (0..STRIPES).map(|_| RwLock::default()).collect(),
            resizing: Mutex::default(),
        })
    }

    /// Chooses what becomes of discards.
    #[must_use]
    pub fn with_discards(mut self, discards: Discards) -> Self {
        self.discards = discards;
        self
    }

    /// Chooses what a longer disk holds at its new end.
    #[must_use]
    pub fn with_new_ends(mut self, new_ends: NewEnds) -> Self {
        self.new_ends = new_ends;
        self
    }

    /// Goes on to show `len` bytes of the disk below, or as many whole sectors as that has by now,
    /// when somebody else has made it longer. What is new reads as what lies there, decrypted: noise,
    /// until it is written. A length below the present one changes nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PastEnd`] when the disk below is not so long.
    pub fn extend(&self, len: u64) -> Result<()> {
        let len = len / self.sector() as u64 * self.sector() as u64;
        check_range(Operation::Resize, self.label(), self.inner.len(), self.start, len)?;
        let _alone = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        self.len.fetch_max(len, Ordering::AcqRel);
        Ok(())
    }

    /// Returns the cipher.
    pub fn cipher(&self) -> &SectorCipher {
        &self.cipher
    }

    /// Returns the disk below.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// Returns where on the disk below the ciphertext begins, in bytes.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Encrypts whole sectors that belong at `offset`, without writing them.
    pub(crate) fn encrypt_sectors(&self, buf: &mut [u8], offset: u64) {
        self.cipher.encrypt(buf, self.iv(offset));
    }

    /// Returns the disk below and lets go of the key.
    pub fn into_inner(self) -> D {
        self.inner
    }
}

impl<D: Resizable> Encrypted<D> {
    /// Changes the length; `fill` is given a new end before anyone else can reach it.
    fn resize(&self, len: u64, fill: impl FnOnce(Range<u64>) -> Result<()>) -> Result<()> {
        // Nobody leaves anything half done here that the next one could stumble over.
        let _alone = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.len();
        check_sectors(Operation::Resize, self.label(), self.start, len, &self.cipher)?;
        let refuse = |kind, reason: &'static str| {
            Err(Error::new(kind, Operation::Resize, self.label()).because(reason))
        };
        let Some(end) = self.start.checked_add(len) else {
            return refuse(ErrorKind::PastEnd, "no disk is so long");
        };
        if self.inner.len() != self.start + old {
            return refuse(
                ErrorKind::Unsupported,
                "something else lies behind the encrypted part of it",
            );
        }
        if len <= old {
            // First nobody may begin anything there, lest a write make the file longer again.
            self.len.store(len, Ordering::Release);
            return self.inner.set_len(end).inspect_err(|_| self.len.store(old, Ordering::Release));
        }
        self.inner.set_len(end)?;
        if let Err(error) = fill(old..len) {
            // As it was, if that can be had: the error that counts is the first one.
            let _ = self.inner.set_len(self.start + old);
            return Err(error);
        }
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Writes encrypted zeros over whole sectors, wherever the end is.
    fn write_zero_sectors(&self, range: Range<u64>) -> Result<()> {
        let mut buf = vec![0; (range.end - range.start).min(BOUNCE) as usize];
        let mut offset = range.start;
        while offset < range.end {
            let piece = (range.end - offset).min(BOUNCE) as usize;
            let piece = &mut buf[..piece];
            piece.fill(0);
            self.write_sectors(piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

impl<D: Disk> Encrypted<D> {
    fn sector(&self) -> usize {
        self.cipher.sector_size().bytes()
    }

    fn check(&self, operation: Operation, offset: u64, length: u64) -> Result<()> {
        check_range(operation, self.label(), self.len(), offset, length)
    }

    fn iv(&self, offset: u64) -> u64 {
        let sectors = offset / self.sector() as u64;
        self.first_iv.wrapping_add(sectors.wrapping_mul(self.cipher.iv_step()))
    }

    /// Returns how much of `length` bytes at `offset` comes before the first whole sector, and how
    /// much is whole sectors.
    fn split(&self, offset: u64, length: usize) -> (usize, usize) {
        let sector = self.sector();
        let head = (offset.next_multiple_of(sector as u64) - offset).min(length as u64) as usize;
        (head, (length - head) / sector * sector)
    }

    fn read_sectors(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        for (piece, offset) in by_region(buf, offset) {
            {
                let _unchanging = self.share(offset);
                self.inner.read_at(piece, self.start + offset)?;
            }
            self.cipher.decrypt(piece, self.iv(offset));
        }
        Ok(())
    }

    fn write_sectors(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        for (piece, offset) in by_region(buf, offset) {
            self.cipher.encrypt(piece, self.iv(offset));
            let _no_change_in_between = self.share(offset);
            self.inner.write_scratch_at(piece, self.start + offset)?;
        }
        Ok(())
    }

    /// Reads a part of one sector.
    fn read_partial(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let mut sector = [0; LARGEST_SECTOR];
        let sector = &mut sector[..self.sector()];
        let within = (offset % sector.len() as u64) as usize;
        self.read_sectors(sector, offset - within as u64)?;
        buf.copy_from_slice(&sector[within..within + buf.len()]);
        Ok(())
    }

    /// Changes a part of one sector.
    fn write_partial(&self, buf: &[u8], offset: u64) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let mut sector = [0; LARGEST_SECTOR];
        let sector = &mut sector[..self.sector()];
        let within = (offset % sector.len() as u64) as usize;
        let start = offset - within as u64;
        let _alone = self.exclude(start);
        self.inner.read_at(sector, self.start + start)?;
        self.cipher.decrypt(sector, self.iv(start));
        sector[within..within + buf.len()].copy_from_slice(buf);
        self.cipher.encrypt(sector, self.iv(start));
        self.inner.write_scratch_at(sector, self.start + start)
    }

    /// Writes a range through a buffer of bounded size, which `fill` fills for each offset.
    fn write_bounced(
        &self,
        offset: u64,
        length: u64,
        mut fill: impl FnMut(&mut [u8], u64),
    ) -> Result<()> {
        let mut bounce = vec![0; length.min(BOUNCE) as usize];
        let end = offset + length;
        let mut offset = offset;
        while offset < end {
            // Up to a border of buffers, so that only the very first and last piece are partial.
            let piece = (BOUNCE - offset % BOUNCE).min(end - offset).min(bounce.len() as u64);
            let buf = &mut bounce[..piece as usize];
            fill(buf, offset);
            self.write_scratch_at(buf, offset)?;
            offset += piece;
        }
        Ok(())
    }

    // The locks guard no value that a panic could have left half changed.
    fn share(&self, offset: u64) -> RwLockReadGuard<'_, ()> {
        self.stripe(offset).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclude(&self, offset: u64) -> RwLockWriteGuard<'_, ()> {
        self.stripe(offset).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lock of the region in which `offset` lies. Nobody holds two at a time.
    fn stripe(&self, offset: u64) -> &RwLock<()> {
        &self.stripes[(offset / REGION) as usize % STRIPES]
    }
}

impl<D: Disk> Disk for Encrypted<D> {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn label(&self) -> &str {
        self.inner.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.check(Operation::Read, offset, buf.len() as u64)?;
        let (head, body) = self.split(offset, buf.len());
        let (head, rest) = buf.split_at_mut(head);
        let (body, tail) = rest.split_at_mut(body);
        let body_offset = offset + head.len() as u64;
        self.read_partial(head, offset)?;
        self.read_sectors(body, body_offset)?;
        self.read_partial(tail, body_offset + body.len() as u64)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check(Operation::Write, offset, buf.len() as u64)?;
        self.write_bounced(offset, buf.len() as u64, |piece, at| {
            let from = (at - offset) as usize;
            piece.copy_from_slice(&buf[from..from + piece.len()]);
        })
    }

    fn write_scratch_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.check(Operation::Write, offset, buf.len() as u64)?;
        let (head, body) = self.split(offset, buf.len());
        let (head, rest) = buf.split_at_mut(head);
        let (body, tail) = rest.split_at_mut(body);
        let body_offset = offset + head.len() as u64;
        self.write_partial(head, offset)?;
        self.write_sectors(body, body_offset)?;
        self.write_partial(tail, body_offset + body.len() as u64)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_extent_offset(self, offset)?;
        Ok(Extent { range: offset..self.len(), kind: ExtentKind::Data })
    }

    /// Passes on whole sectors, if it may.
    fn discard(&self, range: Range<u64>) -> Result<()> {
        let length = check_within(self, Operation::Discard, &range)?;
        if self.discards == Discards::Refuse {
            return Err(Error::new(ErrorKind::Unsupported, Operation::Discard, self.label())
                .at(range.start, length)
                .because("discards would show which parts of the encrypted disk are unused"));
        }
        let sector = self.sector() as u64;
        let whole = range.start.next_multiple_of(sector)..range.end / sector * sector;
        if whole.is_empty() {
            return Ok(());
        }
        self.inner.discard(self.start + whole.start..self.start + whole.end)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        let length = check_within(self, Operation::WriteZeroes, &range)?;
        self.write_bounced(range.start, length, |piece, _| piece.fill(0))
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
}

impl<D: Resizable> Resizable for Encrypted<D> {
    /// Makes the disk below, and with it this one, longer or shorter. What a new end holds is
    /// [chosen](Encrypted::with_new_ends).
    ///
    /// Other threads may read and write meanwhile, below the shorter of both lengths.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unaligned`] when the length is no whole number of sectors,
    /// [`ErrorKind::Unsupported`] when the disk below goes on behind this one. If the new end
    /// cannot be written, the length stays what it was.
    fn set_len(&self, len: u64) -> Result<()> {
        self.resize(len, |new| match self.new_ends {
            NewEnds::Zeros => self.write_zero_sectors(new),
            NewEnds::Noise => Ok(()),
        })
    }
}

/// Refuses a length that is no whole number of encryption sectors.
fn check_sectors(
    operation: Operation,
    label: &str,
    start: u64,
    len: u64,
    cipher: &SectorCipher,
) -> Result<()> {
    let sector = cipher.sector_size().bytes();
    if len.is_multiple_of(sector as u64) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unaligned, operation, label)
        .at(start, len)
        .because(format!("{len} bytes are not a whole number of {sector}-byte encryption sectors")))
}

/// Cuts a buffer at the borders of regions, which are borders of sectors too.
fn by_region(mut buf: &mut [u8], mut offset: u64) -> impl Iterator<Item = (&mut [u8], u64)> {
    std::iter::from_fn(move || {
        if buf.is_empty() {
            return None;
        }
        let length = (REGION - offset % REGION).min(buf.len() as u64);
        let (piece, rest) = std::mem::take(&mut buf).split_at_mut(length as usize);
        buf = rest;
        offset += length;
        Some((piece, offset - length))
    })
}

/// The bytes that share a lock.
const REGION: u64 = 1 << 20;

/// How many locks there are; regions far apart share one.
const STRIPES: usize = 64;

/// The size of the buffer through which bytes go that must not be changed in place.
const BOUNCE: u64 = 64 << 10;

/// The bytes of the largest encryption sector.
const LARGEST_SECTOR: usize = 4096;

#[cfg(test)]
mod tests;
