//! A layer with a map of its blocks beside it.
//!
//! The map is a header and a bit for each block, set when the layer holds it. A bit is written only
//! after what it stands for is durable, so that a crash leaves a block that is whole, or one that is not
//! held, whatever bytes lie there.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Layer;
use super::layer::{block_count, check_block_size};
use crate::{Disk, Error, ErrorKind, Extent, Operation, Result};

/// A disk with a map of the blocks that it holds, which is a disk too, mostly a file beside the other.
///
/// Blocks that were put since the last flush are in the map after the next one, and when this is
/// dropped.
#[derive(Debug)]
pub struct Mapped<D: Disk, M: Disk> {
    disk: D,
    map: M,
    block_size: u64,
    bits: RwLock<Bits>,
    /// Held while the map is written, so that no older state of it follows a newer one.
    writing: Mutex<()>,
}

/// What a layer and its parent are known by. The map of a layer holds both, since over another parent the
/// blocks that the layer does not hold would be somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerIdentity<'a> {
    /// The UUID of the LUKS header of the layer.
    pub layer: &'a str,
    /// The UUID of the parent's header, or what else the parent is known by; `None` for a layer without a
    /// parent.
    pub parent: Option<&'a str>,
}

impl fmt::Display for LayerIdentity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parent {
            Some(parent) => write!(f, "{:?} over {parent:?}", self.layer),
            None => write!(f, "{:?} without a parent", self.layer),
        }
    }
}

/// The bits, and which sectors of them the map does not have yet.
#[derive(Debug)]
struct Bits {
    bytes: Vec<u8>,
    unwritten: BTreeSet<usize>,
}

impl<D: Disk, M: Disk> Mapped<D, M> {
    /// Returns how long the map of a disk of `len` bytes must be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for blocks that do not exist, or for more than are possible.
    pub fn map_len(len: u64, block_size: u64) -> Result<u64> {
        check_block_size(A_MAP, block_size)?;
        let bytes = block_count(A_MAP, len, block_size)?.div_ceil(8);
        Ok(HEADER as u64 + bytes.next_multiple_of(SECTOR as u64))
    }

    /// Makes a map, of a disk that holds nothing yet, out of one that is new and as long as it
    /// [must be](Self::map_len).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when length, blocks or names (40 bytes each at most) do not fit.
    pub fn create(disk: D, map: M, block_size: u64, identity: LayerIdentity<'_>) -> Result<Self> {
        let needed = Self::map_len(disk.len(), block_size)?;
        if map.len() != needed {
            return Err(invalid(&map, format!("a map has {needed} bytes here, not {}", map.len())));
        }
        let mut header = header(&disk, block_size, identity)
            .ok_or_else(|| invalid(&map, format!("{identity} has a name of more than 40 bytes")))?;
        map.write_zeroes(0..needed)?;
        map.flush()?;
        map.write_scratch_at(&mut header, 0)?;
        map.flush()?;
        Self::open(disk, map, identity)
    }

    /// Reads the map of a disk.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it is no map, or that of another disk, or of one over another parent.
    pub fn open(disk: D, map: M, identity: LayerIdentity<'_>) -> Result<Self> {
        let mut found = [0; HEADER];
        if map.len() < HEADER as u64 {
            return Err(invalid(&map, "it is no map of a layer: it is too short"));
        }
        map.read_at(&mut found, 0)?;
        let block_size = check_header(&map, &found, &disk, identity)?;
        let needed = Self::map_len(disk.len(), block_size)?;
        if map.len() != needed {
            return Err(invalid(&map, format!("it ends at byte {}, not {needed}", map.len())));
        }
        let mut bytes = vec![0; (needed - HEADER as u64) as usize];
        map.read_at(&mut bytes, HEADER as u64)?;
        let bits = RwLock::new(Bits { bytes, unwritten: BTreeSet::new() });
        Ok(Self { disk, map, block_size, bits, writing: Mutex::default() })
    }

    /// Returns the disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Makes the disk durable, and then puts into the map what it did not have.
    fn write_map(&self) -> Result<()> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // What is set by now stands for what was written by now: the flush covers it.
        let sectors: Vec<(usize, [u8; SECTOR])> = {
            let mut bits = self.write_bits();
            let unwritten = std::mem::take(&mut bits.unwritten);
            unwritten.into_iter().map(|sector| (sector, bits.sector(sector))).collect()
        };
        let result = self.disk.flush().and_then(|()| self.write_sectors(&sectors));
        if result.is_err() {
            self.write_bits().unwritten.extend(sectors.iter().map(|(sector, _)| sector));
        }
        result
    }

    fn write_sectors(&self, sectors: &[(usize, [u8; SECTOR])]) -> Result<()> {
        for (sector, bytes) in sectors {
            self.map.write_at(bytes, (HEADER + sector * SECTOR) as u64)?;
        }
        if sectors.is_empty() { Ok(()) } else { self.map.flush() }
    }

    // A bit is set in one step, which no panic leaves half done.
    fn read_bits(&self) -> RwLockReadGuard<'_, Bits> {
        self.bits.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_bits(&self) -> RwLockWriteGuard<'_, Bits> {
        self.bits.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bits {
    fn sector(&self, sector: usize) -> [u8; SECTOR] {
        let mut copy = [0; SECTOR];
        copy.copy_from_slice(&self.bytes[sector * SECTOR..(sector + 1) * SECTOR]);
        copy
    }
}

impl<D: Disk, M: Disk> Layer for Mapped<D, M> {
    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn holds(&self, block: u64) -> Result<bool> {
        let byte = self.read_bits().bytes.get((block / 8) as usize).copied();
        Ok(byte.is_some_and(|byte| byte & (1 << (block % 8)) != 0))
    }

    fn put(&self, block: u64, bytes: &mut [u8]) -> Result<()> {
        self.disk.write_scratch_at(bytes, block * self.block_size)?;
        let byte = (block / 8) as usize;
        let mut bits = self.write_bits();
        bits.bytes[byte] |= 1 << (block % 8);
        bits.unwritten.insert(byte / SECTOR);
        Ok(())
    }
}

impl<D: Disk, M: Disk> Disk for Mapped<D, M> {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn label(&self) -> &str {
        self.disk.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.disk.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.disk.write_at(buf, offset)
    }

    fn write_scratch_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.disk.write_scratch_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.disk.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.disk.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.disk.write_zeroes(range)
    }

    fn flush(&self) -> Result<()> {
        self.write_map()
    }
}

impl<D: Disk, M: Disk> Drop for Mapped<D, M> {
    fn drop(&mut self) {
        if !self.read_bits().unwritten.is_empty() {
            // Nobody asked for durability. Without its bits a block is what it was before.
            let _ = self.write_map();
        }
    }
}

/// Returns the header of a map; `None` when a name is too long.
fn header(disk: &dyn Disk, block_size: u64, identity: LayerIdentity<'_>) -> Option<[u8; HEADER]> {
    let mut bytes = [0; HEADER];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..20].copy_from_slice(&VERSION.to_be_bytes());
    bytes[24..32].copy_from_slice(&block_size.to_be_bytes());
    bytes[32..40].copy_from_slice(&disk.len().to_be_bytes());
    for (range, name) in [(LAYER, identity.layer), (PARENT, identity.parent.unwrap_or_default())] {
        let room = &mut bytes[range];
        room.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    }
    Some(bytes)
}

/// Returns the size of blocks, if this is the header of the map of that disk.
fn check_header(
    map: &dyn Disk,
    found: &[u8; HEADER],
    disk: &dyn Disk,
    identity: LayerIdentity<'_>,
) -> Result<u64> {
    let number = |at: usize| {
        let bytes = found[at..at + 8].try_into().expect("eight bytes are eight bytes");
        u64::from_be_bytes(bytes)
    };
    if &found[..16] != MAGIC || found[16..20] != VERSION.to_be_bytes() {
        return Err(invalid(map, "it is no map of a layer, or one of a version that is not known"));
    }
    let block_size = number(24);
    check_block_size(map.label(), block_size)?;
    if number(32) != disk.len() {
        let reason = format!(
            "it is the map of a disk of {} bytes, and {} has {}",
            number(32),
            disk.label(),
            disk.len()
        );
        return Err(invalid(map, reason));
    }
    if header(disk, block_size, identity).as_ref() != Some(found) {
        let name = |range| String::from_utf8_lossy(&found[range]).trim_end_matches('\0').to_owned();
        let (layer, parent) = (name(LAYER), name(PARENT));
        let parent = Some(parent.as_str()).filter(|parent| !parent.is_empty());
        let known = LayerIdentity { layer: &layer, parent };
        let reason = format!("it is the map of {known}, and {} is {identity}", disk.label());
        return Err(invalid(map, reason));
    }
    Ok(block_size)
}

fn invalid(map: &dyn Disk, reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, Operation::Open, map.label()).because(reason.into())
}

const MAGIC: &[u8; 16] = b"strongroom layer";

const VERSION: u32 = 1;

/// Where the name of the layer stands in the header: as long as a UUID in a LUKS header may be.
const LAYER: Range<usize> = 40..80;

/// Where the name of the parent stands.
const PARENT: Range<usize> = 80..120;

/// The bytes of the header.
const HEADER: usize = 4096;

/// How much of the map is written at a time. Whatever part of it arrives is right.
const SECTOR: usize = 512;

/// What errors call a map that nobody has made yet.
const A_MAP: &str = "a map of blocks";
