//! What a request means, and what it does to the disk.

use std::ops::Range;

use strongroom_disk::{ErrorKind, ExtentKind, Extents};

use super::export::{Export, LARGEST_REQUEST};
use super::negotiation::Agreed;
use super::transmission::PIECE;
use super::wire::*;

/// A request that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// Read a range.
    Read { range: Range<u64> },
    /// Write a range. `is_durable`: it survives a loss of power when it is replied to.
    Write { range: Range<u64>, is_durable: bool },
    /// Make a range read as zeros.
    WriteZeroes { range: Range<u64>, holes: Holes, is_durable: bool },
    /// Give up a range.
    Discard { range: Range<u64>, is_durable: bool },
    /// Make everything durable.
    Flush,
    /// Say which parts of a range are holes, at most so many.
    BlockStatus { range: Range<u64>, most: usize },
}

/// What zeros may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holes {
    Allowed,
    Refused,
}

/// The number that says why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u32);

impl Operation {
    /// Says what a request means for this export.
    pub(super) fn of(request: &Request, export: &Export, agreed: Agreed) -> Result<Self, Refusal> {
        let allowed = match request.command {
            CMD_READ if agreed.structured => CMD_FLAG_DF,
            CMD_WRITE | CMD_TRIM => CMD_FLAG_FUA,
            CMD_WRITE_ZEROES => CMD_FLAG_FUA | CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
            CMD_BLOCK_STATUS => CMD_FLAG_REQ_ONE,
            _ => 0,
        };
        // Clients set this one with anything once it is offered.
        if request.flags & !(allowed | CMD_FLAG_FUA) != 0 {
            return Err(Refusal(EINVAL));
        }
        let has = |flag| request.flags & flag != 0;
        let is_durable = has(CMD_FLAG_FUA);
        if request.command == CMD_FLUSH {
            return Ok(Self::Flush);
        }
        let changes = matches!(request.command, CMD_WRITE | CMD_TRIM | CMD_WRITE_ZEROES);
        if changes && !export.is_writable() {
            return Err(Refusal(EPERM));
        }
        let range = range(request, export)?;
        let is_data = matches!(request.command, CMD_READ | CMD_WRITE);
        if is_data && request.len > LARGEST_REQUEST {
            return Err(Refusal(EOVERFLOW));
        }
        match request.command {
            // That is to come in one piece.
            CMD_READ if has(CMD_FLAG_DF) && request.len as usize > PIECE => Err(Refusal(EOVERFLOW)),
            CMD_READ => Ok(Self::Read { range }),
            CMD_WRITE => Ok(Self::Write { range, is_durable }),
            // Zeros have to be encrypted and written, which is as slow as writing them.
            CMD_WRITE_ZEROES if has(CMD_FLAG_FAST_ZERO) => Err(Refusal(ENOTSUP)),
            CMD_WRITE_ZEROES => {
                let holes = if has(CMD_FLAG_NO_HOLE) { Holes::Refused } else { Holes::Allowed };
                Ok(Self::WriteZeroes { range, holes, is_durable })
            }
            CMD_TRIM if export.takes_discards() => Ok(Self::Discard { range, is_durable }),
            CMD_BLOCK_STATUS if agreed.allocation => {
                let most = if has(CMD_FLAG_REQ_ONE) { 1 } else { MOST_EXTENTS };
                Ok(Self::BlockStatus { range, most })
            }
            _ => Err(Refusal(EINVAL)),
        }
    }
}

/// Returns the range of a request. It is within the disk and not empty.
fn range(request: &Request, export: &Export) -> Result<Range<u64>, Refusal> {
    if request.len == 0 {
        return Err(Refusal(EINVAL));
    }
    match request.offset.checked_add(request.len.into()) {
        Some(end) if end <= export.len() => Ok(request.offset..end),
        _ if request.command == CMD_WRITE || request.command == CMD_WRITE_ZEROES => {
            Err(Refusal(ENOSPC))
        }
        _ => Err(Refusal(EINVAL)),
    }
}

impl Export {
    /// Reads from the disk.
    pub(super) fn read(&self, room: &mut [u8], offset: u64) -> Result<(), Refusal> {
        self.disk.read_at(room, offset).map_err(|error| refusal(&error))
    }

    /// Writes `data` and may leave anything in it.
    pub(super) fn write(
        &self,
        data: &mut [u8],
        offset: u64,
        is_durable: bool,
    ) -> Result<(), Refusal> {
        self.disk.write_scratch_at(data, offset).map_err(|error| refusal(&error))?;
        self.flush_if(is_durable)
    }

    /// Does what needs no data.
    pub(super) fn perform(&self, operation: &Operation) -> Result<(), Refusal> {
        let is_durable = match operation {
            Operation::Flush => true,
            Operation::WriteZeroes { range, holes: Holes::Allowed, is_durable } => {
                self.disk.write_zeroes(range.clone()).map_err(|error| refusal(&error))?;
                *is_durable
            }
            Operation::WriteZeroes { range, holes: Holes::Refused, is_durable } => {
                self.write_zeros(range)?;
                *is_durable
            }
            Operation::Discard { range, is_durable } => {
                match self.disk.discard(range.clone()) {
                    // It is no more than advice.
                    Err(error) if error.kind() == ErrorKind::Unsupported => {}
                    result => result.map_err(|error| refusal(&error))?,
                }
                *is_durable
            }
            Operation::Read { .. } | Operation::Write { .. } | Operation::BlockStatus { .. } => {
                return Err(Refusal(EINVAL));
            }
        };
        self.flush_if(is_durable)
    }

    /// Returns the extents of a range as the protocol describes them, eight bytes each: length and
    /// state. It may end before the range does.
    pub(super) fn extents(&self, range: &Range<u64>, most: usize) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        for extent in Extents::new(&self.disk, range.clone()).take(most) {
            let extent = extent.map_err(|error| refusal(&error))?;
            let state = match extent.kind {
                ExtentKind::Data => 0,
                ExtentKind::Unallocated => STATE_HOLE | STATE_ZERO,
                ExtentKind::Zero => STATE_ZERO,
            };
            // The length of a request has 32 bits, and so have the parts of it.
            let len = (extent.range.end - extent.range.start) as u32;
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&state.to_be_bytes());
        }
        Ok(bytes)
    }

    fn write_zeros(&self, range: &Range<u64>) -> Result<(), Refusal> {
        let mut zeros = vec![0; (range.end - range.start).min(PIECE as u64) as usize];
        let mut offset = range.start;
        while offset < range.end {
            let len = (range.end - offset).min(PIECE as u64) as usize;
            zeros[..len].fill(0);
            self.write(&mut zeros[..len], offset, false)?;
            offset += len as u64;
        }
        Ok(())
    }

    fn flush_if(&self, is_durable: bool) -> Result<(), Refusal> {
        if is_durable { self.disk.flush().map_err(|error| refusal(&error)) } else { Ok(()) }
    }
}

/// Returns how the protocol says what went wrong.
fn refusal(error: &strongroom_disk::Error) -> Refusal {
    Refusal(match error.kind() {
        ErrorKind::NoSpace => ENOSPC,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnly => EPERM,
        ErrorKind::Unsupported => ENOTSUP,
        _ => EIO,
    })
}

/// The most extents of one reply.
const MOST_EXTENTS: usize = 1024;
