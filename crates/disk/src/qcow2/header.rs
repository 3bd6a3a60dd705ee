//! The header of an image (specification: "Header" and "Header extensions").

use super::malformed::{Malformed, Parsed, slice, u32_at, u64_at};
use super::refcount::RefcountWidth;

/// The header of an image, checked as far as that needs nothing else of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The version of the format.
    pub version: Version,
    /// 2 to the power of this are the bytes of a cluster; 9 <= `cluster_bits` <= 21.
    pub cluster_bits: u32,
    /// The length of the guest's disk in bytes.
    pub size: u64,
    /// How the data is encrypted.
    pub encryption: ImageEncryption,
    /// The number of entries of the active L1 table.
    pub l1_entries: u32,
    /// Where the active L1 table lies in the file.
    pub l1_offset: u64,
    /// Where the refcount table lies in the file.
    pub refcount_table_offset: u64,
    /// The length of the refcount table in clusters.
    pub refcount_table_clusters: u32,
    /// The width of a reference count.
    pub refcount_width: RefcountWidth,
    /// The number of internal snapshots.
    pub snapshots: u32,
    /// Where the table of snapshots lies in the file.
    pub snapshots_offset: u64,
    /// The incompatible features, all of them known here.
    pub incompatible: u64,
    /// The compatible features.
    pub compatible: u64,
    /// The autoclear features.
    pub autoclear: u64,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// The backing file, if the image has one.
    pub backing: Option<BackingName>,
    /// The name of the external data file, if the image has one and names it.
    pub data_file: Option<String>,
    /// Where the LUKS header lies in the file, for `ImageEncryption::Luks`: offset and length.
    pub luks_area: Option<(u64, u64)>,
    /// Every header extension in order, known or not.
    pub extensions: Vec<Extension>,
}

/// The version of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// What `qemu-img` calls `compat=0.10`.
    V2,
    /// What `qemu-img` calls `compat=1.1`.
    V3,
}

/// How the data of an image is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageEncryption {
    /// Not at all.
    None,
    /// LUKS1, with the header inside the image.
    Luks,
}

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A raw deflate stream with a window of 4 KiB.
    Zlib,
    /// A Zstandard frame.
    Zstd,
}

/// The name of a backing file as it stands in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingName {
    /// The name: mostly a path, relative to the image that holds it.
    pub name: String,
    /// The format that the image records for it: `raw`, `qcow2`, …
    pub format: Option<String>,
}

/// A header extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// What it is.
    pub kind: u32,
    /// Its contents without the padding.
    pub data: Vec<u8>,
}

impl Header {
    /// Returns how many bytes from the start of the file [`Self::parse`] needs: a cluster.
    pub(crate) fn head_len(first: &[u8]) -> Parsed<u64> {
        if first.get(..4) != Some(MAGIC) {
            return Err(Malformed::invalid("it is not a qcow2 image"));
        }
        Ok(1 << cluster_bits(first)?)
    }

    /// Reads a header from the first cluster of a file, or from all of a shorter one.
    pub(crate) fn parse(head: &[u8]) -> Parsed<Self> {
        Self::head_len(head)?;
        let cluster_bits = cluster_bits(head)?;
        let version = match u32_at(head, 4)? {
            2 => Version::V2,
            3 => Version::V3,
            other => {
                return Err(Malformed::unsupported(format!(
                    "it has version {other} of the format; only 2 and 3 are known here"
                )));
            }
        };
        let length = header_length(head, version)?;
        // Fields that the header is too short for have the value that version 2 implies.
        let field = |offset: usize| match offset + 8 <= length {
            true => u64_at(head, offset),
            false => Ok(0),
        };
        let refcount_width = match version {
            Version::V2 => RefcountWidth::BITS_16,
            Version::V3 => RefcountWidth::from_order(u32_at(head, 96)?)
                .ok_or_else(|| Malformed::invalid("its reference counts are wider than 64 bits"))?,
        };
        let compression = match head.get(104) {
            Some(1) if length > 104 => Compression::Zstd,
            Some(&kind) if length > 104 && kind != 0 => {
                return Err(Malformed::unsupported(format!("compression type {kind} is unknown")));
            }
            _ => Compression::Zlib,
        };
        let mut header = Self {
            version,
            cluster_bits,
            size: u64_at(head, 24)?,
            encryption: ImageEncryption::None,
            l1_entries: u32_at(head, 36)?,
            l1_offset: u64_at(head, 40)?,
            refcount_table_offset: u64_at(head, 48)?,
            refcount_table_clusters: u32_at(head, 56)?,
            refcount_width,
            snapshots: u32_at(head, 60)?,
            snapshots_offset: u64_at(head, 64)?,
            incompatible: field(72)?,
            compatible: field(80)?,
            autoclear: field(88)?,
            compression,
            backing: None,
            data_file: None,
            luks_area: None,
            extensions: Vec::new(),
        };
        let (name_offset, name_len) = (u64_at(head, 8)?, u32_at(head, 16)?);
        let end = match name_offset {
            0 => head.len(),
            offset => usize::try_from(offset).unwrap_or(usize::MAX).min(head.len()),
        };
        header.extensions = extensions(slice(head, 0, end)?, length)?;
        header.refuse_unknown_features()?;
        header.backing = header.backing_name(head, name_offset, name_len)?;
        header.data_file = header.text(EXTENSION_DATA_FILE)?;
        header.encryption = header.image_encryption(u32_at(head, 32)?)?;
        if header.encryption == ImageEncryption::Luks {
            let area = header.extension(EXTENSION_LUKS).ok_or_else(|| {
                Malformed::invalid("it is encrypted with LUKS but does not say where the header is")
            })?;
            header.luks_area = Some((u64_at(area, 0)?, u64_at(area, 8)?));
        }
        header.check()?;
        Ok(header)
    }

    /// Returns the bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Returns whether clusters have 32 subclusters each ("extended L2 entries").
    pub fn has_subclusters(&self) -> bool {
        self.incompatible & INCOMPATIBLE_EXTENDED_L2 != 0
    }

    /// Returns whether the guest's data lies in another file.
    pub fn has_data_file(&self) -> bool {
        self.incompatible & INCOMPATIBLE_DATA_FILE != 0
    }

    /// Returns whether the other file can be read as a raw image of the disk.
    pub fn data_file_is_raw(&self) -> bool {
        self.has_data_file() && self.autoclear & AUTOCLEAR_RAW_DATA_FILE != 0
    }

    /// Returns whether the reference counts may be out of date, because whoever had the image open
    /// last did not close it.
    pub fn is_dirty(&self) -> bool {
        self.incompatible & INCOMPATIBLE_DIRTY != 0
    }

    /// Returns whether somebody found the image to be corrupt.
    pub fn is_corrupt(&self) -> bool {
        self.incompatible & INCOMPATIBLE_CORRUPT != 0
    }

    /// Returns whether writers may let reference counts be out of date while they have the image
    /// open.
    pub fn has_lazy_refcounts(&self) -> bool {
        self.compatible & COMPATIBLE_LAZY_REFCOUNTS != 0
    }

    /// Returns the contents of the first extension of a kind.
    pub(crate) fn extension(&self, kind: u32) -> Option<&[u8]> {
        self.extensions.iter().find(|extension| extension.kind == kind).map(|found| &*found.data)
    }

    fn text(&self, kind: u32) -> Parsed<Option<String>> {
        self.extension(kind).map(|data| text(data, "a name in a header extension")).transpose()
    }

    fn refuse_unknown_features(&self) -> Parsed<()> {
        let unknown = self.incompatible & !INCOMPATIBLE_KNOWN;
        if unknown == 0 {
            return Ok(());
        }
        let names: Vec<_> = (0..64)
            .filter(|bit| unknown & 1 << bit != 0)
            .map(|bit| match self.feature_name(bit) {
                Some(name) => format!("{name:?} (incompatible feature {bit})"),
                None => format!("incompatible feature {bit}"),
            })
            .collect();
        let needed = names.join(", ");
        Err(Malformed::unsupported(format!("it needs what is unknown here: {needed}")))
    }

    /// Returns what the image's own table calls an incompatible feature.
    fn feature_name(&self, bit: u8) -> Option<String> {
        let table = self.extension(EXTENSION_FEATURE_NAMES)?;
        let entry = table.chunks_exact(48).find(|entry| entry.starts_with(&[0, bit]))?;
        let name = entry.get(2..)?.split(|&byte| byte == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    fn backing_name(&self, head: &[u8], offset: u64, len: u32) -> Parsed<Option<BackingName>> {
        if offset == 0 || len == 0 {
            return Ok(None);
        }
        let limit = LONGEST_NAME.min(self.cluster_size() as u32);
        if len > limit {
            return Err(Malformed::invalid(format!(
                "the name of its backing file has {len} bytes, more than {limit}"
            )));
        }
        let outside =
            |_| Malformed::invalid("the name of its backing file lies outside the header");
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let name = slice(head, start, len as usize).map_err(outside)?;
        let name = text(name, "the name of its backing file")?;
        Ok(Some(BackingName { name, format: self.text(EXTENSION_BACKING_FORMAT)? }))
    }

    fn image_encryption(&self, method: u32) -> Parsed<ImageEncryption> {
        match method {
            0 => Ok(ImageEncryption::None),
            2 => Ok(ImageEncryption::Luks),
            1 => Err(Malformed::unsupported(
                "it has the old AES encryption, whose key is the passphrase itself and whose \
                 initialisation vectors can be foretold; convert it with `qemu-img convert` first",
            )),
            _ => Err(Malformed::unsupported(format!("encryption method {method} is unknown"))),
        }
    }

    fn check(&self) -> Parsed<()> {
        let cluster = self.cluster_size();
        let invalid = |reason: String| Err(Malformed::invalid(reason));
        for (name, offset) in [
            ("L1 table", self.l1_offset),
            ("refcount table", self.refcount_table_offset),
            ("table of snapshots", self.snapshots_offset),
            ("LUKS header", self.luks_area.map_or(0, |(offset, _)| offset)),
        ] {
            if !offset.is_multiple_of(cluster) {
                return invalid(format!("its {name} at {offset:#x} is not at a cluster"));
            }
        }
        if self.size > LARGEST_SIZE {
            return invalid(format!("its size of {} bytes is beyond all limits", self.size));
        }
        if self.has_subclusters() && cluster < SMALLEST_WITH_SUBCLUSTERS {
            return invalid(format!("clusters of {cluster} bytes cannot have 32 subclusters"));
        }
        let l1_bytes = u64::from(self.l1_entries) * 8;
        if l1_bytes > LARGEST_L1 {
            return invalid(format!("its L1 table has {l1_bytes} bytes, more than {LARGEST_L1}"));
        }
        let entry = if self.has_subclusters() { 16 } else { 8 };
        let needed = self.size.div_ceil(cluster).div_ceil(cluster / entry);
        if u64::from(self.l1_entries) < needed {
            return invalid(format!(
                "its L1 table has {} entries; its size needs {needed}",
                self.l1_entries
            ));
        }
        let table = u64::from(self.refcount_table_clusters).saturating_mul(cluster);
        if table > LARGEST_REFCOUNT_TABLE.max(cluster) {
            return invalid(format!(
                "its refcount table has {table} bytes, more than {LARGEST_REFCOUNT_TABLE}"
            ));
        }
        if self.refcount_table_offset == 0 || table == 0 {
            return invalid("it has no refcount table".to_owned());
        }
        if self.snapshots > MOST_SNAPSHOTS {
            return invalid(format!(
                "it has {} snapshots, more than {MOST_SNAPSHOTS}",
                self.snapshots
            ));
        }
        if let Some((_, length)) = self.luks_area
            && !(512..=LARGEST_LUKS_HEADER).contains(&length)
        {
            return invalid(format!("its LUKS header has {length} bytes"));
        }
        let zstd = self.compression == Compression::Zstd;
        if zstd != (self.incompatible & INCOMPATIBLE_COMPRESSION != 0) {
            return invalid("its compression type contradicts its features".to_owned());
        }
        Ok(())
    }
}

impl Extension {
    /// Returns what the specification calls it, `None` when it is not known here.
    pub fn name(&self) -> Option<&'static str> {
        Some(match self.kind {
            EXTENSION_BACKING_FORMAT => "backing file format",
            EXTENSION_FEATURE_NAMES => "feature names",
            EXTENSION_BITMAPS => "bitmaps",
            EXTENSION_LUKS => "LUKS header",
            EXTENSION_DATA_FILE => "external data file",
            _ => return None,
        })
    }
}

fn cluster_bits(head: &[u8]) -> Parsed<u32> {
    match u32_at(head, 20)? {
        bits @ 9..=21 => Ok(bits),
        bits => Err(Malformed::invalid(format!(
            "its clusters have 2^{bits} bytes; the format has 2^9 to 2^21"
        ))),
    }
}

fn header_length(head: &[u8], version: Version) -> Parsed<usize> {
    if version == Version::V2 {
        return Ok(V2_LENGTH);
    }
    match u32_at(head, 100)? as usize {
        length if length >= V3_LENGTH && length.is_multiple_of(8) && length <= head.len() => {
            Ok(length)
        }
        length => Err(Malformed::invalid(format!("its header has {length} bytes"))),
    }
}

/// Reads the extensions from `start` on, up to the end mark or the end of the bytes.
fn extensions(head: &[u8], start: usize) -> Parsed<Vec<Extension>> {
    let mut found = Vec::new();
    let mut offset = start;
    while offset + 8 <= head.len() {
        let (kind, len) = (u32_at(head, offset)?, u32_at(head, offset + 4)? as usize);
        if kind == 0 {
            break;
        }
        let data = slice(head, offset + 8, len).map_err(|_| {
            Malformed::invalid(format!("header extension {kind:#010x} of {len} bytes is too long"))
        })?;
        found.push(Extension { kind, data: data.to_vec() });
        offset += 8 + len.next_multiple_of(8);
    }
    Ok(found)
}

fn text(bytes: &[u8], what: &str) -> Parsed<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(Malformed::invalid(format!("{what} is not text"))),
    }
}

pub(crate) const MAGIC: &[u8] = b"QFI\xfb";

/// The bytes of a version 2 header.
pub(crate) const V2_LENGTH: usize = 72;

/// The least bytes of a version 3 header.
pub(crate) const V3_LENGTH: usize = 104;

pub(crate) const INCOMPATIBLE_DIRTY: u64 = 1;
pub(crate) const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
pub(crate) const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
pub(crate) const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
pub(crate) const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
const INCOMPATIBLE_KNOWN: u64 = (1 << 5) - 1;

pub(crate) const COMPATIBLE_LAZY_REFCOUNTS: u64 = 1;

pub(crate) const AUTOCLEAR_BITMAPS: u64 = 1;
pub(crate) const AUTOCLEAR_RAW_DATA_FILE: u64 = 1 << 1;

pub(crate) const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;
pub(crate) const EXTENSION_FEATURE_NAMES: u32 = 0x6803_F857;
pub(crate) const EXTENSION_BITMAPS: u32 = 0x2385_2875;
pub(crate) const EXTENSION_LUKS: u32 = 0x0537_BE77;
pub(crate) const EXTENSION_DATA_FILE: u32 = 0x4441_5441;

// The limits are those of QEMU, so that every image that runs there can be read: they bound what
// a header can make a reader allocate.
/// The bytes of the longest L1 table.
pub(crate) const LARGEST_L1: u64 = 32 << 20;
/// The bytes of the longest refcount table.
pub(crate) const LARGEST_REFCOUNT_TABLE: u64 = 8 << 20;
/// The most internal snapshots.
const MOST_SNAPSHOTS: u32 = 65536;
/// The longest name of a backing file in bytes.
pub(crate) const LONGEST_NAME: u32 = 1023;
/// Lengths are signed numbers to most of the world.
pub(crate) const LARGEST_SIZE: u64 = i64::MAX as u64 & !511;
/// The least bytes of a cluster with subclusters, which then have 512.
pub(crate) const SMALLEST_WITH_SUBCLUSTERS: u64 = 16 << 10;
/// What areas of LUKS1 headers may at most have, in bytes.
const LARGEST_LUKS_HEADER: u64 = 128 << 20;

#[cfg(test)]
mod tests;
