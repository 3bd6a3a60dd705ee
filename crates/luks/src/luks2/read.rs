//! Both copies of the header: which one counts, and what must be repaired (specification, 2.2).

use super::Header;
use super::binary::{BinaryHeader, Copy, HDR_SIZE, HEADER_SIZES, MIN_LEN};
use super::document::Document;
use crate::{Error, Version, wire};

/// A copy that must be written anew from the other one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Which copy.
    pub(crate) copy: Copy,
    /// What is wrong with it.
    pub(crate) reason: String,
}

impl Damage {
    /// Returns `primary` or `secondary`.
    pub(crate) fn name(&self) -> &'static str {
        match self.copy {
            Copy::Primary => "primary",
            Copy::Secondary => "secondary",
        }
    }
}

/// Returns how many bytes from the start of the device [`read`] needs, judging by those in `head`.
pub(crate) fn head_len(head: &[u8]) -> usize {
    let claimed = wire::u64_at(head, HDR_SIZE).ok().filter(|size| HEADER_SIZES.contains(size));
    let Some(hdr_size) = claimed.filter(|_| head.get(..6) == Some(Copy::Primary.magic())) else {
        return SCAN_LEN;
    };
    let undecided = (head.len() as u64) < hdr_size;
    if undecided || BinaryHeader::read(head, 0, Copy::Primary).is_ok() {
        2 * hdr_size as usize
    } else {
        SCAN_LEN
    }
}

/// Reads the header from `head`, the first bytes of a device of `device_len` bytes.
///
/// Returns it with what must be repaired.
///
/// # Errors
///
/// [`Error::NotLuks`] when neither copy is there; [`Error::BothCopiesDamaged`].
pub(crate) fn read(head: &[u8], device_len: u64) -> Result<(Header, Option<Damage>), Error> {
    let primary = read_copy(head, 0, Copy::Primary);
    let secondary = match &primary {
        Ok(header) => read_copy(head, header.binary.hdr_size, Copy::Secondary),
        Err(_) => scan(head),
    };
    let (header, damage) = match (primary, secondary) {
        (Ok(primary), Ok(secondary)) => newest(primary, secondary),
        (Ok(primary), Err(error)) => {
            // Other tools put their signatures at the start of a device, never here.
            (primary, Some(Damage { copy: Copy::Secondary, reason: error.to_string() }))
        }
        (Err(error), Ok(secondary)) => {
            (secondary, Some(Damage { copy: Copy::Primary, reason: error.to_string() }))
        }
        (Err(Error::NotLuks), Err(Error::NotLuks)) => return Err(Error::NotLuks),
        (Err(primary), Err(secondary)) => {
            return Err(Error::BothCopiesDamaged {
                primary: Box::new(primary),
                secondary: Box::new(secondary),
            });
        }
    };
    if header.total_len() > device_len {
        return Err(Error::Truncated {
            what: "the header with its keyslots",
            needed: header.total_len(),
            available: device_len,
        });
    }
    Ok((header, damage))
}

/// Takes the copy with the larger sequence id; the other one is out of date.
fn newest(mut primary: Header, mut secondary: Header) -> (Header, Option<Damage>) {
    let [own, _] = primary.binary.salts;
    let [_, other] = secondary.binary.salts;
    let (primary_seqid, secondary_seqid) = (primary.binary.seqid, secondary.binary.seqid);
    primary.binary.salts = [own, other];
    secondary.binary.salts = [own, other];
    let outdated = |copy| {
        let reason = format!("sequence ids differ: {primary_seqid} and {secondary_seqid}");
        Some(Damage { copy, reason })
    };
    match primary_seqid.cmp(&secondary_seqid) {
        std::cmp::Ordering::Less => (secondary, outdated(Copy::Primary)),
        std::cmp::Ordering::Greater => (primary, outdated(Copy::Secondary)),
        // A write torn between the copies changes the sequence id, so equal ids mean equal copies;
        // where they do not, someone meddled, and the primary counts.
        std::cmp::Ordering::Equal if primary == secondary => (primary, None),
        std::cmp::Ordering::Equal => {
            let reason = "the copies differ under the same sequence id".to_owned();
            (primary, Some(Damage { copy: Copy::Secondary, reason }))
        }
    }
}

fn read_copy(head: &[u8], offset: u64, copy: Copy) -> Result<Header, Error> {
    let bytes = head.get(offset as usize..).unwrap_or_default();
    // An image that is shorter than any header is no damaged header for that.
    if copy == Copy::Primary && bytes.get(..6) != Some(copy.magic()) {
        return Err(Error::NotLuks);
    }
    if bytes.len() < MIN_LEN {
        return Err(Error::Truncated {
            what: "the header",
            needed: offset + MIN_LEN as u64,
            available: head.len() as u64,
        });
    }
    let (binary, json) = BinaryHeader::read(bytes, offset, copy)?;
    Header::new(binary, Document::read(json)?)
}

/// Looks for a secondary copy at every place where one may be.
fn scan(head: &[u8]) -> Result<Header, Error> {
    let mut first_error = Error::NotLuks;
    for offset in HEADER_SIZES {
        match read_copy(head, offset, Copy::Secondary) {
            Ok(header) => return Ok(header),
            Err(Error::NotLuks | Error::Truncated { .. }) => {}
            Err(error) if first_error == Error::NotLuks => first_error = error,
            Err(_) => {}
        }
    }
    Err(first_error)
}

/// Returns what surely took the place of a primary copy that cannot be read: somebody else's data
/// when the magic is gone, or a partition table, which leaves the magic where it was.
///
/// A list of signatures can never be complete, so without the magic the answer is `Some(None)` when
/// none of them is there.
pub(crate) fn overwritten(head: &[u8]) -> Option<Option<&'static str>> {
    if head.get(..6) != Some(Copy::Primary.magic()) {
        return Some(foreign_signature(head));
    }
    PARTITION_TABLES
        .iter()
        .find(|(offset, magic, _)| head.get(*offset..).is_some_and(|at| at.starts_with(magic)))
        .map(|&(_, _, name)| Some(name))
}

/// Returns what `bytes` are the start of, when a well-known signature that is not LUKS says so.
pub(crate) fn foreign_signature(bytes: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| {
        bytes.get(offset..offset + magic.len()).is_some_and(|found| found == magic)
    };
    if at(0, Version::MAGIC) || at(0, Copy::Secondary.magic()) {
        return None;
    }
    if (0..4).any(|sector| at(sector * 512, b"LABELONE")) {
        return Some("an LVM physical volume");
    }
    SIGNATURES.iter().find_map(|&(offset, magic, name)| at(offset, magic).then_some(name))
}

/// What the second sector of a device with a GPT partition table begins with.
pub(crate) const GPT_MAGIC: &[u8] = b"EFI PART";

/// Signatures by offset, the surest first.
const SIGNATURES: [(usize, &[u8], &str); 10] = [
    (0, b"QFI\xfb", "a qcow2 image"),
    (512, GPT_MAGIC, "a GPT partition table"),
    (0, b"XFSB", "an XFS file system"),
    (0x438, b"\x53\xef", "an ext file system"),
    (0x10040, b"_BHRfS_M", "a Btrfs file system"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4096, b"\xfc\x4e\x2b\xa9", "an MD RAID member"),
    (3, b"NTFS    ", "an NTFS file system"),
    (82, b"FAT32   ", "a FAT file system"),
    (510, b"\x55\xaa", "a partition table"),
];

/// Signatures of what keeps the first bytes of a device, where boot code may stand. A sound header
/// has zeros or keyed noise there.
const PARTITION_TABLES: [(usize, &[u8], &str); 2] =
    [(512, GPT_MAGIC, "a GPT partition table"), (510, b"\x55\xaa", "a partition table")];

/// Bytes that hold a secondary copy at any of its places.
const SCAN_LEN: usize = 8 << 20;
