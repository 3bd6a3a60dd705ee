//! The table of internal snapshots (specification: "Snapshots").

use super::header::{Header, LARGEST_L1};
use super::malformed::{Malformed, Parsed, slice, u16_at, u32_at, u64_at};

/// An internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its number as text, unique in the image.
    pub id: String,
    /// The name that somebody gave it.
    pub name: String,
    /// The length of the disk when it was taken, in bytes.
    pub size: u64,
    /// The bytes of the machine state that is stored with it.
    pub state_size: u64,
    /// When it was taken, in seconds since 1970.
    pub seconds: u32,
    /// Where its L1 table lies in the file.
    pub(crate) l1_offset: u64,
    /// The number of entries of its L1 table.
    pub(crate) l1_entries: u32,
}

/// What reading a table of snapshots came to.
pub(crate) enum Table {
    /// The snapshots, and the length of the table in bytes.
    Whole(Vec<Snapshot>, u64),
    /// The bytes ended before the table did.
    NeedsMore,
}

/// Reads the table of snapshots from as many bytes of the file as there are.
pub(crate) fn parse(bytes: &[u8], header: &Header) -> Parsed<Table> {
    let mut snapshots = Vec::new();
    let mut offset = 0;
    for _ in 0..header.snapshots {
        let Some((snapshot, end)) = parse_one(bytes, offset, header)? else {
            return Ok(Table::NeedsMore);
        };
        snapshots.push(snapshot);
        offset = end;
    }
    Ok(Table::Whole(snapshots, offset as u64))
}

/// Reads one snapshot and returns where the next begins; `None` when there are too few bytes.
fn parse_one(bytes: &[u8], start: usize, header: &Header) -> Parsed<Option<(Snapshot, usize)>> {
    if bytes.len() < start + FIXED {
        return Ok(None);
    }
    let bytes_of_id = usize::from(u16_at(bytes, start + 12)?);
    let bytes_of_name = usize::from(u16_at(bytes, start + 14)?);
    let extra = u32_at(bytes, start + 36)? as usize;
    if extra > LARGEST_EXTRA {
        return Err(Malformed::invalid(format!("a snapshot has {extra} bytes of extra data")));
    }
    let (id, name) = (start + FIXED + extra, start + FIXED + extra + bytes_of_id);
    let end = name + bytes_of_name;
    if bytes.len() < end {
        return Ok(None);
    }
    let field = |index: usize| match index * 8 + 8 <= extra {
        true => u64_at(bytes, start + FIXED + index * 8).map(Some),
        false => Ok(None),
    };
    let text = |offset, len| {
        slice(bytes, offset, len).map(|text| String::from_utf8_lossy(text).into_owned())
    };
    let snapshot = Snapshot {
        id: text(id, bytes_of_id)?,
        name: text(name, bytes_of_name)?,
        size: field(1)?.unwrap_or(header.size),
        state_size: field(0)?.unwrap_or(u64::from(u32_at(bytes, start + 32)?)),
        seconds: u32_at(bytes, start + 16)?,
        l1_offset: u64_at(bytes, start)?,
        l1_entries: u32_at(bytes, start + 8)?,
    };
    if !snapshot.l1_offset.is_multiple_of(header.cluster_size())
        || u64::from(snapshot.l1_entries) * 8 > LARGEST_L1
    {
        return Err(Malformed::invalid(format!(
            "the L1 table of snapshot {:?} is out of all limits",
            snapshot.id
        )));
    }
    Ok(Some((snapshot, end.next_multiple_of(8))))
}

/// The bytes before a snapshot's extra data.
const FIXED: usize = 40;

/// The most bytes of extra data of a snapshot: QEMU's limit.
const LARGEST_EXTRA: usize = 1024;

/// The most bytes of the whole table: more than 65536 snapshots with names of usual length.
pub(crate) const LARGEST_TABLE: u64 = 8 << 20;
