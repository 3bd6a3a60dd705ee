//! A source, read as its format says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_crypto::{CostPolicy, Passphrase, VolumeKey};
use strongroom_disk::qcow2::{Closed, Folders, Gate, ImageEncryption, Qcow2};
use strongroom_disk::{Access, Disk, Encrypted, LockMode, Raw, Resizable};
use strongroom_luks::{Header, Payload, Version};
use strongroom_model::{
    CloneRequest, ImageFormat, ImageOperation, ImageSource, ImageTarget, LuksFormat, NamedFormat,
    SourceFormat,
};

use super::below::Below;
use super::bytes::{Bytes, DiskBytes, Identity, StreamBytes};
use super::files;
use super::guard::Checking;
use super::unwritten::Unwritten;
use super::{Side, Work};
use crate::{Error, Opener, Result, Unlocked, device};

/// A source whose format was found to be what it should be. Nothing is decrypted yet.
pub(super) struct Source {
    pub(super) kind: SourceKind,
    /// A detached header.
    pub(super) header: Option<Raw>,
    /// The files that a qcow2 source names, and those that they name.
    pub(super) chain: Chain,
}

/// The files that an image of QEMU's names, and those that they name.
pub(super) type Chain = Vec<Arc<ChainFile>>;

/// A file of which a source consists, besides its own.
pub(super) struct ChainFile {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    file: Raw,
}

impl ChainFile {
    /// Looks at a file before anything of it is read, so that no change after that goes unnoticed.
    pub(super) fn of(path: &Path) -> Result<Arc<Self>> {
        let (identity, file) = (Identity::of_path(path), Raw::open(path, Access::ReadOnly)?);
        Ok(Arc::new(Self { path: path.to_owned(), identity, file }))
    }
}

/// An image of QEMU's over the bytes of a source.
type Image = Qcow2<Arc<dyn Resizable>>;

/// What a source is.
pub(super) enum SourceKind {
    /// A plain disk, or one whose bytes nobody asks about.
    Plain { bytes: DiskBytes, disk: Arc<dyn Disk> },
    /// A LUKS volume.
    Luks { bytes: DiskBytes, header: Box<Header>, payload: Payload },
    /// An encrypted image of QEMU's.
    Qcow2Luks { bytes: DiskBytes, image: Box<Qcow2<Arc<dyn Resizable>>> },
    /// A plain disk of which the length may not be known, and which can be read once.
    Stream(StreamBytes),
}

/// What the holes of a LUKS volume's ciphertext are read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    /// What the cipher makes of them, as everybody else reads them.
    Noise,
    /// Zeros: the volume is one of ours, so what was never written means nothing.
    Zeros,
}

/// The plain contents of a source.
pub(super) enum Contents {
    /// They can be read in any order.
    Disk(Arc<dyn Disk>),
    /// They come once.
    Stream(StreamBytes),
}

impl Source {
    /// Opens a source and looks whether it is what it should be.
    ///
    /// # Errors
    ///
    /// Those that say that it is not.
    pub(super) fn open(
        (request, below): (&CloneRequest, Option<&Below>),
        format: SourceFormat,
        header: Option<&Path>,
        opener: Option<Opener<'_>>,
        checking: Checking<'_>,
        work: &Work<'_>,
    ) -> Result<Self> {
        // Files that the source names are tried with a passphrase alone: each has a data key of its own.
        let passphrase = opener.and_then(Opener::passphrase);
        let earlier = files::earlier_checksum(request)?;
        let header = header.map(|path| Raw::open(path, Access::ReadOnly)).transpose()?;
        let bytes = match (Bytes::open(request, earlier.as_ref(), checking, work)?, format) {
            (Bytes::Disk(bytes), _) => bytes,
            (Bytes::Stream(mut stream), SourceFormat::Bytes | SourceFormat::Raw) => {
                if format == SourceFormat::Raw {
                    refuse_encrypted_stream(&mut stream, work)?;
                }
                return Ok(Self { kind: SourceKind::Stream(stream), header, chain: Vec::new() });
            }
            (Bytes::Stream(stream), _) => return Err(Error::NotSeekable { label: stream.label }),
        };
        let mut chain = Vec::new();
        let kind = match format {
            SourceFormat::Bytes => {
                let disk = Arc::new(Arc::clone(&bytes.disk));
                SourceKind::Plain { bytes, disk }
            }
            SourceFormat::Raw => {
                refuse_encrypted(&bytes.disk)?;
                let disk = Arc::new(Arc::clone(&bytes.disk));
                SourceKind::Plain { bytes, disk }
            }
            SourceFormat::Qcow2 => {
                let image;
                (image, chain) = open_qcow2(&bytes, (request, below), passphrase, work)?;
                refuse_encrypted_qcow2(&image)?;
                SourceKind::Plain { bytes, disk: Arc::new(image) }
            }
            SourceFormat::Qcow2Luks => {
                let image;
                (image, chain) = open_qcow2(&bytes, (request, below), passphrase, work)?;
                refuse_plain_qcow2(&image)?;
                SourceKind::Qcow2Luks { bytes, image: Box::new(image) }
            }
            SourceFormat::Luks(version) => luks(bytes, header.as_ref(), version)?,
        };
        Ok(Self { kind, header, chain })
    }

    /// Returns what every source but a stream has.
    pub(super) fn bytes(&self) -> Option<&DiskBytes> {
        match &self.kind {
            SourceKind::Plain { bytes, .. }
            | SourceKind::Luks { bytes, .. }
            | SourceKind::Qcow2Luks { bytes, .. } => Some(bytes),
            SourceKind::Stream(_) => None,
        }
    }

    /// Returns the files that a target must not replace.
    pub(super) fn files(&self) -> Vec<&Raw> {
        let data = self.bytes().and_then(DiskBytes::file);
        let chain = self.chain.iter().map(|named| &named.file);
        data.into_iter().chain(&self.header).chain(chain).collect()
    }

    /// Refuses a source of which nobody could tell later whether it is the same, or from the middle
    /// of which nobody can read.
    ///
    /// # Errors
    ///
    /// [`Error::NotResumable`].
    pub(super) fn check_resumable(&self) -> Result<()> {
        let reason = match &self.kind {
            SourceKind::Stream(_) => Some("it can only be read from beginning to end"),
            _ if self.files().iter().any(|file| file.is_block_device()) => {
                Some("a block device does not tell whether it was changed")
            }
            _ => self.bytes().and_then(|bytes| bytes.unknowable),
        };
        let label = || self.label().to_owned();
        reason.map_or(Ok(()), |reason| Err(Error::NotResumable { label: label(), reason }))
    }

    /// Returns what errors call the source.
    pub(super) fn label(&self) -> &str {
        match &self.kind {
            SourceKind::Stream(stream) => &stream.label,
            _ => self.bytes().map_or("", |bytes| bytes.disk.label()),
        }
    }

    /// Returns the length of the plain contents, where it is known.
    pub(super) fn contents_len(&self) -> Option<u64> {
        match &self.kind {
            SourceKind::Plain { disk, .. } => Some(disk.len()),
            SourceKind::Luks { payload, .. } => Some(payload.length),
            SourceKind::Qcow2Luks { image, .. } => Some(image.len()),
            SourceKind::Stream(stream) => stream.len,
        }
    }

    /// Returns whether the contents are the bytes themselves.
    pub(super) fn is_raw(&self) -> bool {
        match &self.kind {
            SourceKind::Plain { bytes, disk } => bytes.disk.len() == disk.len(),
            _ => false,
        }
    }

    /// Returns the encryption of the source, where it has one.
    pub(super) fn payload(&self) -> Result<Option<Payload>> {
        match &self.kind {
            SourceKind::Luks { payload, .. } => Ok(Some(*payload)),
            SourceKind::Qcow2Luks { image, .. } => {
                let header = Header::Luks1(image.luks_header()?);
                header.payload(u64::MAX / 512 * 512).map(Some).map_err(Error::luks(self.label()))
            }
            SourceKind::Plain { .. } | SourceKind::Stream(_) => Ok(None),
        }
    }

    /// Opens the source's keyslots if it has some, and returns its volume key.
    ///
    /// # Errors
    ///
    /// [`Error::NoPassphrase`] where something is needed to open it, and those of
    /// [`Device::unlock`](crate::Device::unlock).
    pub(super) fn unlock(
        &self,
        opener: Option<Opener<'_>>,
        work: &Work<'_>,
    ) -> Result<Option<VolumeKey>> {
        let opener =
            |label: &str| opener.ok_or_else(|| Error::NoPassphrase { label: label.to_owned() });
        let unlocked = match &self.kind {
            SourceKind::Plain { .. } | SourceKind::Stream(_) => return Ok(None),
            SourceKind::Luks { bytes, header, .. } => {
                let keys: &dyn Disk = match &self.header {
                    Some(header) => header,
                    None => &bytes.disk,
                };
                device::unlock(keys, header, opener(keys.label())?, None, &work.policy)?
            }
            SourceKind::Qcow2Luks { image, .. } => {
                qcow2_key(image, opener(image.label())?, &work.policy)?
            }
        };
        Ok(Some(unlocked.key))
    }

    /// Returns the plain contents, for which an encrypted source needs its volume key.
    ///
    /// # Errors
    ///
    /// [`Error::NoPassphrase`] where it is missing.
    pub(super) fn into_contents(self, key: Option<&VolumeKey>, holes: Holes) -> Result<Contents> {
        let key = |label: &str| key.ok_or_else(|| Error::NoPassphrase { label: label.to_owned() });
        Ok(match self.kind {
            SourceKind::Stream(stream) => Contents::Stream(stream),
            SourceKind::Plain { disk, bytes } => {
                advise_sequential(&bytes);
                Contents::Disk(disk)
            }
            SourceKind::Luks { bytes, payload, .. } => {
                let keys: &dyn Disk = match &self.header {
                    Some(header) => header,
                    None => &bytes.disk,
                };
                let cipher =
                    payload.cipher(key(keys.label())?).map_err(Error::luks(keys.label()))?;
                advise_sequential(&bytes);
                let range = payload.offset..payload.offset + payload.length;
                let plain = Encrypted::new(bytes.disk, range, cipher, payload.iv_tweak)?;
                match holes {
                    Holes::Noise => Contents::Disk(Arc::new(plain)),
                    Holes::Zeros => Contents::Disk(Arc::new(Unwritten::new(plain, payload.offset))),
                }
            }
            SourceKind::Qcow2Luks { mut image, .. } => {
                let key = key(image.label())?;
                image.unlock_with_key(key)?;
                Contents::Disk(Arc::from(image as Box<dyn Disk>))
            }
        })
    }
}

/// Opens an image to read it: what was said of its format counts, else its name; a volume is known by its
/// header where neither says more. Returns the disk, with the files that it lies over.
pub(super) fn open_any(
    side: Side<'_>,
    below: Option<&Below>,
    backing_from: &[PathBuf],
    work: &Work<'_>,
) -> Result<(Arc<dyn Disk>, Chain)> {
    let source = ImageSource::File(side.path.to_owned());
    let operation = ImageOperation::Copy;
    let mut request = CloneRequest::new(source, ImageTarget::StandardOutput, operation);
    request.backing_from = backing_from.to_vec();
    let open = |format| {
        Source::open((&request, below), format, side.header, side.opener, Checking::Expected, work)
    };
    let named = NamedFormat::of(side.path);
    let opened = match (side.format, named) {
        (Some(ImageFormat::Raw), _) => open(SourceFormat::Raw),
        (Some(ImageFormat::Luks1), _) => open(SourceFormat::Luks(Some(LuksFormat::Luks1))),
        (Some(ImageFormat::Luks2), _) => open(SourceFormat::Luks(Some(LuksFormat::Luks2))),
        (Some(ImageFormat::Qcow2), _) => open(SourceFormat::Qcow2),
        (Some(ImageFormat::Qcow2Luks), _) => open(SourceFormat::Qcow2Luks),
        // The image's own header tells whether it is encrypted.
        (None, NamedFormat::Qcow2) => match open(SourceFormat::Qcow2) {
            Err(Error::AlreadyEncrypted { .. }) => open(SourceFormat::Qcow2Luks),
            opened => opened,
        },
        (None, NamedFormat::Luks) => open(SourceFormat::Luks(None)),
        (None, NamedFormat::Plain) => match open(SourceFormat::Luks(None)) {
            Err(Error::NotEncrypted { .. }) => open(SourceFormat::Raw),
            opened => opened,
        },
    };
    let mut opened = opened?;
    let key = opened.unlock(side.opener, work)?;
    let chain = std::mem::take(&mut opened.chain);
    match opened.into_contents(key.as_ref(), Holes::Noise)? {
        Contents::Disk(disk) => Ok((disk, chain)),
        Contents::Stream(stream) => Err(Error::NotSeekable { label: stream.label }),
    }
}

/// Opens a keyslot of an encrypted image of QEMU's and gives the image its key.
pub(crate) fn unlock_qcow2<D: Resizable>(
    image: &mut Qcow2<D>,
    opener: Opener<'_>,
    policy: &CostPolicy,
) -> Result<()> {
    let key = qcow2_key(image, opener, policy)?.key;
    Ok(image.unlock_with_key(&key)?)
}

fn qcow2_key<D: Resizable>(
    image: &Qcow2<D>,
    opener: Opener<'_>,
    policy: &CostPolicy,
) -> Result<Unlocked> {
    let header = Header::Luks1(image.luks_header()?);
    let area = image.luks_area()?.ok_or_else(|| not_encrypted(image.label(), None))?;
    device::unlock(&area, &header, opener, None, policy)
}

/// Opens an image of QEMU's after a look at whether it is one, and returns it with the files that
/// it names.
fn open_qcow2(
    bytes: &DiskBytes,
    (request, below): (&CloneRequest, Option<&Below>),
    passphrase: Option<&Passphrase>,
    work: &Work<'_>,
) -> Result<(Image, Chain)> {
    let head = device::read_first(&bytes.disk, 4096)?;
    if !head.starts_with(QCOW2_MAGIC) {
        return Err(Error::SourceFormat {
            label: bytes.disk.label().to_owned(),
            found: signature(&head).unwrap_or("a raw disk image, or something unknown"),
            wanted: "a qcow2 image",
        });
    }
    let open = |gate: &dyn Gate| Qcow2::open(Arc::clone(&bytes.disk), Access::ReadOnly, gate);
    if let Some(below) = below {
        return Ok((open(below)?, below.files().to_vec()));
    }
    if request.backing_from.is_empty() {
        return Ok((open(&Closed)?, Vec::new()));
    }
    let passphrases: Vec<&Passphrase> = passphrase.into_iter().collect();
    let folders = Folders::new(&request.backing_from)?;
    let folders = folders.with_passphrases(&passphrases, work.policy);
    let image = open(&folders)?;
    let chain = folders.opened().iter().map(|path| ChainFile::of(path)).collect::<Result<_>>()?;
    Ok((image, chain))
}

fn luks(
    bytes: DiskBytes,
    detached: Option<&Raw>,
    version: Option<LuksFormat>,
) -> Result<SourceKind> {
    let found = {
        // Other processes change headers under this lock.
        let file = detached.or(bytes.file());
        let _lock = file.map(|file| device::lock(file, LockMode::Shared)).transpose()?;
        match detached {
            Some(header) => device::read_header(header)?,
            None => device::read_header(&bytes.disk)?,
        }
    };
    let header = found.header;
    let wanted = match (version, header.version()) {
        (Some(LuksFormat::Luks1), Version::Luks2) => Some(("a LUKS2 volume", "a LUKS1 volume")),
        (Some(LuksFormat::Luks2), Version::Luks1) => Some(("a LUKS1 volume", "a LUKS2 volume")),
        _ => None,
    };
    if let Some((found, wanted)) = wanted {
        let label = bytes.disk.label().to_owned();
        return Err(Error::SourceFormat { label, found, wanted });
    }
    let payload = device::payload(&header, &bytes.disk, detached.map(Disk::label))?;
    Ok(SourceKind::Luks { bytes, header: Box::new(header), payload })
}

/// Refuses a source that bears a LUKS header, damaged or not, or is of another format than raw.
pub(crate) fn refuse_encrypted(source: &dyn Disk) -> Result<()> {
    match device::read_header(source) {
        Ok(found) => Err(Error::AlreadyEncrypted {
            label: source.label().to_owned(),
            version: found.header.version(),
            uuid: found.header.uuid().to_owned(),
        }),
        Err(Error::NotEncrypted { signature: Some(found @ "a qcow2 image"), label }) => {
            Err(Error::SourceFormat { label, found, wanted: "a raw disk image" })
        }
        Err(Error::NotEncrypted { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Refuses what [`refuse_encrypted`] does where it comes once, from the first byte to the last.
fn refuse_encrypted_stream(stream: &mut StreamBytes, work: &Work<'_>) -> Result<()> {
    let label = stream.label.clone();
    let head =
        stream.reader.first_bytes(HEAD, work.cancelled).map_err(|source| match source.kind() {
            std::io::ErrorKind::Interrupted => Error::Interrupted,
            _ => Error::Clone(strongroom_clone::Error::Stream { offset: 0, source }),
        })?;
    if head.starts_with(QCOW2_MAGIC) {
        return Err(Error::SourceFormat {
            label,
            found: "a qcow2 image",
            wanted: "a raw disk image",
        });
    }
    if strongroom_luks::is_formatted_clone(head) {
        return Err(Error::Luks { label, source: strongroom_luks::Error::FormattedClone });
    }
    let (Some(b"LUKS\xba\xbe"), Some(version)) = (head.get(..6), head.get(6..8)) else {
        return Ok(());
    };
    let version = if version == [0, 1] { Version::Luks1 } else { Version::Luks2 };
    // At the same place in either version.
    let uuid = head.get(168..208).unwrap_or_default();
    let uuid = uuid.split(|byte| *byte == 0).next().unwrap_or_default();
    Err(Error::AlreadyEncrypted { label, version, uuid: String::from_utf8_lossy(uuid).into() })
}

fn refuse_encrypted_qcow2<D: Resizable>(image: &Qcow2<D>) -> Result<()> {
    if image.header().encryption == ImageEncryption::None {
        return Ok(());
    }
    let header = image.luks_header()?;
    Err(Error::AlreadyEncrypted {
        label: image.label().to_owned(),
        version: Version::Luks1,
        uuid: Header::Luks1(header).uuid().to_owned(),
    })
}

fn refuse_plain_qcow2<D: Resizable>(image: &Qcow2<D>) -> Result<()> {
    match image.header().encryption {
        ImageEncryption::None => {
            Err(not_encrypted(image.label(), Some("a qcow2 image that is not encrypted")))
        }
        _ => image.luks_header().map(|_| ()).map_err(Error::from),
    }
}

fn not_encrypted(label: &str, signature: Option<&'static str>) -> Error {
    Error::NotEncrypted { label: label.to_owned(), signature }
}

fn signature(head: &[u8]) -> Option<&'static str> {
    match head.get(..6) {
        Some(b"LUKS\xba\xbe") => Some("a LUKS volume"),
        _ => strongroom_luks::other_signature(head),
    }
}

fn advise_sequential(bytes: &DiskBytes) {
    if let Some(file) = bytes.file() {
        file.advise_sequential();
    }
}

/// How much of a stream tells what it is.
const HEAD: usize = 512;

const QCOW2_MAGIC: &[u8] = b"QFI\xfb";
