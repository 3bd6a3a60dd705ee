//! What can go wrong in a use case, and of what kind it is.

use std::path::PathBuf;

use strongroom_luks::Version;
use strongroom_model::{ImageId, KmsKind, VolumeId};

use crate::audit::AuditProblem;
use crate::catalog::{self, StoreCause};
use crate::library::ImageProblem;
use crate::libvirt::LibvirtProblem;
use crate::volumes::VolumeProblem;

/// The result of a use case.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a use case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source is encrypted already.
    #[error("{label} is encrypted already: it is {version} volume {uuid}")]
    AlreadyEncrypted {
        /// The source.
        label: String,
        /// Its format.
        version: Version,
        /// Its UUID.
        uuid: String,
    },
    /// Someone else changed a header again and again while a change was being prepared, or has
    /// replaced an envelope.
    #[error("{label} was changed by another process at the same time")]
    ChangedMeanwhile {
        /// The device, or the file of the envelope.
        label: String,
    },
    /// The source does not have the checksum that it must have.
    #[error("{label} has checksum {found}, not {expected}")]
    Checksum {
        /// The source.
        label: String,
        /// What was asked for.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The audit log is not as it was written, or cannot be written.
    #[error("the audit log {} {problem}", file.display())]
    Audit {
        /// Its file.
        file: PathBuf,
        /// What is wrong.
        problem: AuditProblem,
    },
    /// The pipeline failed.
    #[error(transparent)]
    Clone(strongroom_clone::Error),
    /// A cipher, hash or cost that is not possible.
    #[error(transparent)]
    Crypto(#[from] strongroom_crypto::Error),
    /// The data key that a KMS has unwrapped opens none of its keyslots.
    #[error("the data key of {label} that {kms} has unwrapped opens none of its keyslots")]
    DataKey {
        /// The image.
        label: String,
        /// The KMS.
        kms: String,
    },
    /// A file or device failed.
    #[error(transparent)]
    Disk(strongroom_disk::Error),
    /// The source has nothing in it.
    #[error("{label} is empty: there is nothing to encrypt")]
    Empty {
        /// The source.
        label: String,
    },
    /// A server does not say where the source ends.
    #[error(
        "the server of {label} tells neither its length nor its end, so a part of it would look whole"
    )]
    EndUntold {
        /// The source.
        label: String,
    },
    /// The file for an envelope is there. It may be the only thing that opens an image.
    #[error("{} exists, and no envelope is ever replaced", path.display())]
    EnvelopeExists {
        /// The file.
        path: PathBuf,
    },
    /// A source on the network failed.
    #[error(transparent)]
    Fetch(strongroom_fetch::Error),
    /// Someone asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// An interrupted job was another one than the one that was to go on with it.
    #[error("cannot go on with {}: the {what} was {then}, now it is {now}", partial.display())]
    JobChanged {
        /// What the earlier job has left.
        partial: PathBuf,
        /// What differs.
        what: String,
        /// What it was.
        then: String,
        /// What it is.
        now: String,
    },
    /// A job that goes on cannot be forgotten.
    #[error("job {id} has not ended")]
    JobGoesOn {
        /// Its identifier.
        id: String,
    },
    /// A journal cannot be read or written.
    #[error("journal {} cannot be used: {problem}", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The keyslots are inside an image whose keys cannot be changed in place.
    #[error("{label} is a qcow2 image, whose keyslots cannot be changed in place")]
    KeyslotsFixed {
        /// The image.
        label: String,
    },
    /// Several keyslots may be that of the KMS that a volume leaves, and nothing tells which is.
    #[error("{label} has keyslots of which each may be that of the KMS that it leaves: {keyslots}")]
    KeyslotsUnclear {
        /// The volume.
        label: String,
        /// The keyslots.
        keyslots: String,
    },
    /// A KMS, or what it was asked.
    #[error(transparent)]
    Kms(#[from] strongroom_kms::Error),
    /// Something is wrong with a secret or volume of libvirt's.
    #[error("{0}")]
    Libvirt(Box<LibvirtProblem>),
    /// The LUKS header, or what was asked of it. The text is the device; the source says the rest.
    #[error("{label}")]
    Luks {
        /// The device.
        label: String,
        /// What is wrong.
        source: strongroom_luks::Error,
    },
    /// A passphrase opens nothing, but a KMS may. The text is the device; the source says the rest.
    #[error("{label}")]
    ManagedInstead {
        /// The device.
        label: String,
        /// Which kind of KMS has wrapped its data key.
        kms: KmsKind,
        /// What happened.
        source: strongroom_luks::Error,
    },
    /// A document or request.
    #[error(transparent)]
    Model(#[from] strongroom_model::Error),
    /// A KMS was named for an image of which nobody has the wrapped key.
    #[error("{label} has no envelope: there is nothing that a KMS could unwrap")]
    NoEnvelope {
        /// The image.
        label: String,
    },
    /// A new image has no place for its envelope, and nobody named one.
    #[error("{label} has no room for its envelope: LUKS1 has no tokens")]
    NoEnvelopeFile {
        /// The image.
        label: String,
    },
    /// What remains of the keyslots would not open.
    #[error("{label} would not open any more: what was given opens no keyslot but {keyslots}")]
    NoOtherKey {
        /// The volume.
        label: String,
        /// The keyslots that were to go.
        keyslots: String,
    },
    /// The header does not tell what its keyslots are for.
    #[error("{label} is LUKS1, which has no tokens that tell what its keyslots are for")]
    NotMarked {
        /// The volume.
        label: String,
    },
    /// Nobody said how to open an encrypted image.
    #[error("{label} is encrypted, and no passphrase was given for it")]
    NoPassphrase {
        /// The image.
        label: String,
    },
    /// The source is not encrypted.
    #[error("{label} is not encrypted: it has no LUKS header{}", found(*.signature))]
    NotEncrypted {
        /// The source.
        label: String,
        /// What it is instead, when that can be told.
        signature: Option<&'static str>,
    },
    /// A source with which an interrupted job could not go on.
    #[error("a job that reads {label} cannot be resumed: {reason}")]
    NotResumable {
        /// The source.
        label: String,
        /// Why not.
        reason: &'static str,
    },
    /// A source that comes from beginning to end is of a format that is read in any order.
    #[error("{label} can only be read from beginning to end, as no format but raw can be")]
    NotSeekable {
        /// The source.
        label: String,
    },
    /// What an interrupted job has left is not what its journal says.
    #[error("cannot go on with {}: {problem}", partial.display())]
    PartialUnfit {
        /// What it has left.
        partial: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// What was asked for contradicts itself.
    #[error("{problem}")]
    Request {
        /// What does not fit.
        problem: String,
    },
    /// The key that seals the secrets of a catalog does not open. The source says why.
    #[error("the secrets of the catalog are not to be opened with the key in {}", file.display())]
    SealingKey {
        /// The file of the KEK.
        file: PathBuf,
        /// What happened.
        source: strongroom_kms::Error,
    },
    /// What is sealed in the catalog does not open.
    #[error("{place} in the catalog does not open: {problem}")]
    Sealed {
        /// What it was sealed for.
        place: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The source was written while it was read.
    #[error("{label} was changed while it was being read")]
    SourceChanged {
        /// The source.
        label: String,
    },
    /// The source is of another format than the one it is read as.
    #[error("{label} is {found}, not {wanted}")]
    SourceFormat {
        /// The source.
        label: String,
        /// What it is.
        found: &'static str,
        /// What it was to be.
        wanted: &'static str,
    },
    /// A job ended before its time, and left what it had done.
    #[error("the job stopped before its end")]
    Stopped {
        /// What it has left.
        partial: PathBuf,
        /// How much of the contents is in it.
        durable: u64,
        /// Why it ended.
        #[source]
        cause: Box<Self>,
    },
    /// A pool failed.
    #[error(transparent)]
    Pool(#[from] strongroom_pool::Error),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// A volume could not be made to appear.
    #[error(transparent)]
    Attach(#[from] strongroom_attach::Error),
    /// Something is wrong with a volume.
    #[error("volume {id} {problem}")]
    Volume {
        /// Its name.
        id: String,
        /// What is wrong.
        problem: Box<VolumeProblem>,
    },
    /// Something is wrong with an image of a library.
    #[error("image {id} {problem}")]
    Image {
        /// Its identifier.
        id: String,
        /// What is wrong.
        problem: Box<ImageProblem>,
    },
    /// The contents of an encrypted source are no multiple of the target's encryption sector.
    #[error(
        "the contents of {label} have {len} bytes, which are not whole sectors of {sector} bytes"
    )]
    UnalignedContents {
        /// The source.
        label: String,
        /// The length of its contents.
        len: u64,
        /// The sector size.
        sector: usize,
    },
    /// The source's length is no multiple of the encryption sector.
    #[error("{label} has {len} bytes, which are not whole sectors of {sector} bytes")]
    UnalignedLength {
        /// The source.
        label: String,
        /// Its length.
        len: u64,
        /// The sector size.
        sector: usize,
    },
    /// The image would lose its end, and nobody said that it may.
    #[error("{label} would lose its end: it has {from} bytes, and {to} are asked for")]
    WouldShrink {
        /// The image.
        label: String,
        /// The length that it has.
        from: u64,
        /// The length that it would have.
        to: u64,
    },
}

/// What a caller can act on; each face has one table from these to its own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The target exists.
    AlreadyExists,
    /// Another process is at work on the same thing.
    Busy,
    /// The image or header is not what the request needs, or is damaged.
    Image,
    /// A file or device could not be read or written.
    Io,
    /// Someone asked to stop.
    Interrupted,
    /// A KMS does not let these credentials do that.
    KmsDenied,
    /// A KMS cannot be reached or does not work just now.
    KmsUnavailable,
    /// There is no such file, or no such key.
    NotFound,
    /// The request cannot be carried out as it was made.
    Request,
    /// No keyslot opens with the passphrase.
    WrongPassphrase,
}

impl Error {
    /// Returns an [`Error::Volume`].
    pub(crate) fn volume(id: &VolumeId, problem: VolumeProblem) -> Self {
        Self::Volume { id: id.to_string(), problem: Box::new(problem) }
    }

    /// Returns an [`Error::Image`].
    pub(crate) fn image(id: &ImageId, problem: ImageProblem) -> Self {
        Self::Image { id: id.to_string(), problem: Box::new(problem) }
    }

    /// Returns an [`Error::Libvirt`].
    pub(crate) fn libvirt(problem: LibvirtProblem) -> Self {
        Self::Libvirt(Box::new(problem))
    }

    /// Returns an [`Error::Luks`] about a device.
    pub(crate) fn luks(label: &str) -> impl Fn(strongroom_luks::Error) -> Self + '_ {
        |source| Self::Luks { label: label.to_owned(), source }
    }

    /// Returns the error of the network that this is, or that a disk or the pipeline ended with.
    pub fn of_network(&self) -> Option<&strongroom_fetch::Error> {
        match self {
            Self::Fetch(error) => Some(error),
            Self::Disk(error) => strongroom_fetch::Error::within(error),
            Self::Clone(error) => strongroom_fetch::Error::within(error),
            _ => None,
        }
    }

    /// Returns what kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyEncrypted { .. }
            | Self::Checksum { .. }
            | Self::Sealed { .. }
            | Self::Empty { .. }
            | Self::NotEncrypted { .. }
            | Self::PartialUnfit { .. }
            | Self::SourceFormat { .. }
            | Self::UnalignedContents { .. }
            | Self::UnalignedLength { .. } => ErrorKind::Image,
            Self::ChangedMeanwhile { .. } | Self::JobGoesOn { .. } | Self::SourceChanged { .. } => {
                ErrorKind::Busy
            }
            Self::Clone(strongroom_clone::Error::Cancelled) | Self::Interrupted => {
                ErrorKind::Interrupted
            }
            Self::Clone(strongroom_clone::Error::Disk(error)) | Self::Disk(error) => {
                strongroom_fetch::Error::within(error).map_or_else(|| disk_kind(error), fetch_kind)
            }
            Self::Clone(strongroom_clone::Error::UnalignedEnd { .. }) => ErrorKind::Image,
            Self::Clone(error) => {
                strongroom_fetch::Error::within(error).map_or(ErrorKind::Io, fetch_kind)
            }
            Self::Audit { problem, .. } => problem.kind(),
            Self::DataKey { .. } => ErrorKind::WrongPassphrase,
            Self::EnvelopeExists { .. } => ErrorKind::AlreadyExists,
            Self::Attach(error) => attach_kind(error),
            Self::Catalog(error) => catalog_kind(error),
            Self::Pool(error) => pool_kind(error),
            Self::Volume { problem, .. } => problem.kind(),
            Self::Image { problem, .. } => problem.kind(),
            Self::Libvirt(problem) => problem.kind(),
            Self::Journal { .. } => ErrorKind::Io,
            Self::Kms(error) | Self::SealingKey { source: error, .. } => kms_kind(error),
            Self::Fetch(error) => fetch_kind(error),
            Self::Stopped { cause, .. } => cause.kind(),
            Self::EndUntold { .. }
            | Self::JobChanged { .. }
            | Self::NotResumable { .. }
            | Self::NotSeekable { .. } => ErrorKind::Request,
            Self::Crypto(_)
            | Self::KeyslotsFixed { .. }
            | Self::KeyslotsUnclear { .. }
            | Self::Model(_)
            | Self::NoEnvelope { .. }
            | Self::NoOtherKey { .. }
            | Self::NoEnvelopeFile { .. }
            | Self::NoPassphrase { .. }
            | Self::NotMarked { .. }
            | Self::Request { .. }
            | Self::WouldShrink { .. } => ErrorKind::Request,
            Self::Luks { source, .. } | Self::ManagedInstead { source, .. } => luks_kind(source),
        }
    }
}

impl From<strongroom_clone::Error> for Error {
    fn from(error: strongroom_clone::Error) -> Self {
        match error {
            strongroom_clone::Error::Cancelled => Self::Interrupted,
            error if is_cancelled(&error) => Self::Interrupted,
            strongroom_clone::Error::Disk(error) => Self::Disk(error),
            error => Self::Clone(error),
        }
    }
}

impl From<strongroom_disk::Error> for Error {
    fn from(error: strongroom_disk::Error) -> Self {
        if is_cancelled(&error) { Self::Interrupted } else { Self::Disk(error) }
    }
}

fn attach_kind(error: &strongroom_attach::Error) -> ErrorKind {
    use strongroom_attach::ErrorKind as Attach;
    match error.kind() {
        Attach::Busy => ErrorKind::Busy,
        Attach::Contents => ErrorKind::Image,
        Attach::Io => ErrorKind::Io,
        Attach::Unsupported | Attach::Request => ErrorKind::Request,
    }
}

fn catalog_kind(error: &catalog::Error) -> ErrorKind {
    match error {
        catalog::Error::Exists { .. } => ErrorKind::AlreadyExists,
        catalog::Error::Changed { .. } => ErrorKind::Busy,
        catalog::Error::Malformed { .. } => ErrorKind::Image,
        catalog::Error::Store { cause: StoreCause::Busy, .. } => ErrorKind::Busy,
        catalog::Error::Store { cause: StoreCause::Full | StoreCause::Other, .. } => ErrorKind::Io,
    }
}

fn pool_kind(error: &strongroom_pool::Error) -> ErrorKind {
    use strongroom_pool::ErrorKind as Pool;
    match error.kind() {
        Pool::AlreadyExists => ErrorKind::AlreadyExists,
        Pool::Busy => ErrorKind::Busy,
        Pool::Interrupted => ErrorKind::Interrupted,
        Pool::NotFound => ErrorKind::NotFound,
        Pool::Request => ErrorKind::Request,
        _ => ErrorKind::Io,
    }
}

impl From<strongroom_fetch::Error> for Error {
    fn from(error: strongroom_fetch::Error) -> Self {
        if error.is_cancelled() { Self::Interrupted } else { Self::Fetch(error) }
    }
}

/// Tells whether an error is a source's that was told to stop.
fn is_cancelled(error: &(dyn std::error::Error + 'static)) -> bool {
    strongroom_fetch::Error::within(error).is_some_and(strongroom_fetch::Error::is_cancelled)
}

fn disk_kind(error: &strongroom_disk::Error) -> ErrorKind {
    use strongroom_disk::ErrorKind as Disk;
    match error.kind() {
        Disk::AlreadyExists => ErrorKind::AlreadyExists,
        Disk::Busy | Disk::Changed => ErrorKind::Busy,
        Disk::NotFound => ErrorKind::NotFound,
        Disk::Denied | Disk::SameFile | Disk::NotADisk => ErrorKind::Request,
        Disk::Invalid | Disk::Unsupported => ErrorKind::Image,
        Disk::Locked => ErrorKind::WrongPassphrase,
        _ => ErrorKind::Io,
    }
}

fn fetch_kind(error: &strongroom_fetch::Error) -> ErrorKind {
    use strongroom_fetch::Error as Fetch;
    match error {
        Fetch::GaveUp { source, .. } => fetch_kind(source),
        Fetch::Cancelled => ErrorKind::Interrupted,
        Fetch::CaFile { .. } | Fetch::Url { .. } => ErrorKind::Request,
        Fetch::Changed { .. } => ErrorKind::Busy,
        Fetch::Status { status: 404 | 410, .. } => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    }
}

fn kms_kind(error: &strongroom_kms::Error) -> ErrorKind {
    use strongroom_kms::ErrorKind as Kms;
    match error.kind() {
        Kms::Unavailable => ErrorKind::KmsUnavailable,
        Kms::Denied => ErrorKind::KmsDenied,
        Kms::NotFound => ErrorKind::NotFound,
        Kms::Corrupt => ErrorKind::Image,
        Kms::Misconfigured => ErrorKind::Request,
    }
}

fn luks_kind(error: &strongroom_luks::Error) -> ErrorKind {
    use strongroom_luks::Error as Luks;
    match error {
        Luks::WrongPassphrase { .. } | Luks::WrongVolumeKey => ErrorKind::WrongPassphrase,
        Luks::KeyslotUnused { .. }
        | Luks::KeyslotInUse { .. }
        | Luks::KeyslotNumber { .. }
        | Luks::KeyslotType { .. }
        | Luks::LastKeyslot { .. }
        | Luks::NoFreeKeyslot { .. }
        | Luks::NoRoom { .. }
        | Luks::Token { .. }
        | Luks::Unfit { .. }
        | Luks::Backup { .. }
        | Luks::Crypto(_) => ErrorKind::Request,
        _ => ErrorKind::Image,
    }
}

fn found(signature: Option<&'static str>) -> String {
    signature.map(|signature| format!(" but {signature}")).unwrap_or_default()
}
