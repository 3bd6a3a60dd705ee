//! New images.

use super::entry::{DataPlace, Entries, Geometry};
use super::header::{self, BackingName, Compression, Extension, Header, Version};
use super::malformed::Malformed;
use super::refcount::RefcountWidth;
use crate::{Error, ErrorKind, Operation, Resizable, Result};

/// What a new image shall be like.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// The length of the disk in bytes.
    pub size: u64,
    /// The version of the format.
    pub version: Version,
    /// The bytes of a cluster: a power of two from 512 to 2 MiB.
    pub cluster_size: u64,
    /// The width of a reference count.
    pub refcount_width: RefcountWidth,
    /// Whether clusters have 32 subclusters each.
    pub subclusters: bool,
    /// Whether other writers may leave reference counts behind while they have the image open.
    pub lazy_refcounts: bool,
    /// How compressed clusters will be compressed.
    pub compression: Compression,
    /// The name of the backing file, for the image to record.
    pub backing: Option<BackingName>,
    /// The external data file, for the image to record.
    pub data_file: Option<DataFile>,
    /// The bytes to keep for a LUKS header with its keyslots; `None` for an image that is not
    /// encrypted. The header is not written: until that is done nobody can open the image's data.
    pub luks_header: Option<u64>,
}

/// The external data file of a new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Its name.
    pub name: String,
    /// Whether it shall always be a raw image of the disk as well.
    pub raw: bool,
}

impl CreateOptions {
    /// Returns the usual choice for a disk of `size` bytes: version 3 with clusters of 64 KiB.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            version: Version::V3,
            cluster_size: 64 << 10,
            refcount_width: RefcountWidth::BITS_16,
            subclusters: false,
            lazy_refcounts: false,
            compression: Compression::Zlib,
            backing: None,
            data_file: None,
            luks_header: None,
        }
    }

    /// Returns why the options do not fit the format or each other.
    fn contradiction(&self) -> Option<&'static str> {
        let is_plain_v3 = self.refcount_width == RefcountWidth::BITS_16
            && !self.subclusters
            && !self.lazy_refcounts
            && self.compression == Compression::Zlib
            && self.data_file.is_none();
        if !self.cluster_size.is_power_of_two() || !(512..=2 << 20).contains(&self.cluster_size) {
            Some("clusters have a power of two of bytes, from 512 to 2 MiB")
        } else if self.version == Version::V2 && !is_plain_v3 {
            Some(
                "version 2 has reference counts of 16 bits and zlib only, no lazy ones, no \
                 subclusters and no data file",
            )
        } else if self.subclusters && self.cluster_size < header::SMALLEST_WITH_SUBCLUSTERS {
            Some("subclusters need clusters of at least 16 KiB")
        } else if self.size > header::LARGEST_SIZE {
            Some("the size is beyond all limits")
        } else if self.backing.is_some() && self.data_file.as_ref().is_some_and(|file| file.raw) {
            Some("a raw data file holds the whole disk, so there can be no backing file")
        } else {
            None
        }
    }
}

/// Writes an empty image to `file`, which must be empty too. The header comes last.
///
/// # Errors
///
/// [`ErrorKind::AlreadyExists`] when the file holds anything; [`ErrorKind::Unsupported`] when the
/// options do not fit the format or each other.
pub fn create(file: &dyn Resizable, options: &CreateOptions) -> Result<()> {
    let failed =
        |kind, reason: String| Error::new(kind, Operation::Create, file.label()).because(reason);
    if !file.is_empty() {
        let reason = format!("it holds {} bytes already", file.len());
        return Err(failed(ErrorKind::AlreadyExists, reason));
    }
    if let Some(reason) = options.contradiction() {
        return Err(failed(ErrorKind::Unsupported, reason.to_owned()));
    }
    let layout = Layout::of(options);
    let head = layout.header(options);
    // Limits on sizes and names are those of reading.
    let unfit = |found: Malformed| failed(ErrorKind::Unsupported, found.reason().to_owned());
    if head.len() as u64 > options.cluster_size {
        let reason = "the names in its header do not fit into a cluster";
        return Err(failed(ErrorKind::Unsupported, reason.to_owned()));
    }
    let mut first_cluster = head.clone();
    first_cluster.resize(options.cluster_size as usize, 0);
    Header::parse(&first_cluster).map_err(unfit)?;
    file.set_len(layout.clusters << layout.bits)?;
    layout.write_refcounts(file, options.refcount_width)?;
    file.flush()?;
    file.write_at(&head, 0)?;
    file.flush()
}

/// Where everything lies in a new image: the header, the refcount table, the refcount blocks, the
/// L1 table, the LUKS header; in clusters.
struct Layout {
    bits: u32,
    table: u64,
    blocks: u64,
    l1: u64,
    l1_entries: u64,
    clusters: u64,
}

impl Layout {
    fn of(options: &CreateOptions) -> Self {
        let geometry = Geometry {
            cluster_bits: options.cluster_size.trailing_zeros(),
            version: options.version,
            entries: match options.subclusters {
                true => Entries::Extended,
                false => Entries::Standard,
            },
            place: DataPlace::Image,
        };
        let cluster = options.cluster_size;
        let l1_entries = options.size.div_ceil(geometry.l2_coverage()).max(1);
        let l1 = (l1_entries * 8).div_ceil(cluster);
        let luks = options.luks_header.unwrap_or(0).div_ceil(cluster);
        let (mut table, mut blocks) = (1, 1);
        let clusters = loop {
            let clusters = 1 + table + blocks + l1 + luks;
            let needed = clusters.div_ceil(options.refcount_width.per(cluster as usize));
            let needed_table = (needed * 8).div_ceil(cluster);
            if needed <= blocks && needed_table <= table {
                break clusters;
            }
            (table, blocks) = (needed_table.max(table), needed.max(blocks));
        };
        Self { bits: geometry.cluster_bits, table, blocks, l1, l1_entries, clusters }
    }

    fn blocks_at(&self) -> u64 {
        (1 + self.table) << self.bits
    }

    fn l1_at(&self) -> u64 {
        (1 + self.table + self.blocks) << self.bits
    }

    fn write_refcounts(&self, file: &dyn Resizable, width: RefcountWidth) -> Result<()> {
        let cluster = 1 << self.bits;
        let in_block = width.per(cluster);
        for number in 0..self.blocks {
            let at = self.blocks_at() + (number << self.bits);
            file.write_at(&at.to_be_bytes(), cluster as u64 + number * 8)?;
            let mut block = vec![0; cluster];
            let counted = self.clusters.saturating_sub(number * in_block).min(in_block);
            for index in 0..counted {
                width.write(&mut block, index as usize, 1);
            }
            file.write_at(&block, at)?;
        }
        Ok(())
    }

    /// Returns the header with its extensions and the name of the backing file.
    fn header(&self, options: &CreateOptions) -> Vec<u8> {
        let fixed = match options.version {
            Version::V2 => header::V2_LENGTH,
            Version::V3 => CREATED_V3_LENGTH,
        };
        let mut bytes = vec![0; fixed];
        let mut put = |offset: usize, field: &[u8]| {
            if let Some(place) = bytes.get_mut(offset..offset + field.len()) {
                place.copy_from_slice(field);
            }
        };
        let version: u32 = if options.version == Version::V2 { 2 } else { 3 };
        put(0, header::MAGIC);
        put(4, &version.to_be_bytes());
        put(20, &self.bits.to_be_bytes());
        put(24, &options.size.to_be_bytes());
        put(32, &(if options.luks_header.is_some() { 2u32 } else { 0 }).to_be_bytes());
        put(36, &(self.l1_entries.min(u32::MAX.into()) as u32).to_be_bytes());
        put(40, &self.l1_at().to_be_bytes());
        put(48, &(1u64 << self.bits).to_be_bytes());
        put(56, &(self.table as u32).to_be_bytes());
        put(72, &incompatible(options).to_be_bytes());
        let compatible = if options.lazy_refcounts { header::COMPATIBLE_LAZY_REFCOUNTS } else { 0 };
        put(80, &compatible.to_be_bytes());
        let is_raw = options.data_file.as_ref().is_some_and(|file| file.raw);
        let autoclear = if is_raw { header::AUTOCLEAR_RAW_DATA_FILE } else { 0 };
        put(88, &autoclear.to_be_bytes());
        put(96, &options.refcount_width.order().to_be_bytes());
        put(100, &(fixed as u32).to_be_bytes());
        put(104, &[u8::from(options.compression == Compression::Zstd)]);
        for Extension { kind, data } in self.extensions(options) {
            bytes.extend(kind.to_be_bytes());
            bytes.extend((data.len() as u32).to_be_bytes());
            bytes.extend(&data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.extend([0; 8]);
        if let Some(BackingName { name, .. }) = &options.backing {
            let (at, len) = (bytes.len() as u64, name.len() as u32);
            bytes[8..16].copy_from_slice(&at.to_be_bytes());
            bytes[16..20].copy_from_slice(&len.to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes
    }

    fn extensions(&self, options: &CreateOptions) -> Vec<Extension> {
        let mut extensions = Vec::new();
        let mut add = |kind, data: &[u8]| extensions.push(Extension { kind, data: data.to_vec() });
        if let Some(BackingName { format: Some(format), .. }) = &options.backing {
            add(header::EXTENSION_BACKING_FORMAT, format.as_bytes());
        }
        if let Some(DataFile { name, .. }) = &options.data_file {
            add(header::EXTENSION_DATA_FILE, name.as_bytes());
        }
        if let Some(length) = options.luks_header {
            let at = self.l1_at() + (self.l1 << self.bits);
            let length = length.next_multiple_of(options.cluster_size);
            add(header::EXTENSION_LUKS, &[at.to_be_bytes(), length.to_be_bytes()].concat());
        }
        if options.version == Version::V3 && options.cluster_size >= ROOM_FOR_NAMES {
            let entry = |(kind, bit, name): &(u8, u8, &str)| {
                let mut entry = vec![*kind, *bit];
                entry.extend(name.as_bytes());
                entry.resize(48, 0);
                entry
            };
            let table: Vec<u8> = FEATURE_NAMES.iter().flat_map(entry).collect();
            add(header::EXTENSION_FEATURE_NAMES, &table);
        }
        extensions
    }
}

fn incompatible(options: &CreateOptions) -> u64 {
    let mut features = 0;
    if options.data_file.is_some() {
        features |= header::INCOMPATIBLE_DATA_FILE;
    }
    if options.compression == Compression::Zstd {
        features |= header::INCOMPATIBLE_COMPRESSION;
    }
    if options.subclusters {
        features |= header::INCOMPATIBLE_EXTENDED_L2;
    }
    features
}

/// The bytes of the version 3 headers that are made here: with the compression type, which is
/// padded to 8.
const CREATED_V3_LENGTH: usize = header::V3_LENGTH + 8;

/// The least bytes of a cluster that has room for the names of features.
const ROOM_FOR_NAMES: u64 = 4096;

/// What other readers may call the features that they do not know: kind, bit and name.
const FEATURE_NAMES: &[(u8, u8, &str)] = &[
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];
