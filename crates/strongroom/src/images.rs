//! Disk images: copied, encrypted, decrypted, encrypted anew, compared.

mod below;
mod bytes;
mod checksum;
mod facts;
mod files;
mod guard;
mod journal;
mod source;
mod target;
mod target_key;
mod unwritten;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use strongroom_clone::{Comparison, Pass, Plan, Progress, Report, Zeroes};
use strongroom_crypto::CostPolicy;
use strongroom_disk::qcow2::CreateOptions;
use strongroom_disk::{Disk, NewFile};
use strongroom_luks::{FormatOptions, Header};
use strongroom_model::{
    CloneFormats, CloneRequest, EncryptionRequest, ImageFormat, ImageOperation, ImageSource,
    ImageTarget, LuksFormat, Resume, SourceFormat, TargetFormat,
};

pub(crate) use self::below::Below;
use self::files::Files;
pub(crate) use self::guard::Checking;
use self::guard::Guard;
use self::source::{Contents, Source};
pub(crate) use self::source::{Holes, refuse_encrypted, unlock_qcow2};
use self::target::{Making, target_label};
pub(crate) use self::target_key::{Earlier, TargetKey};
use crate::encryption::{format_options, managed};
use crate::new_image::Finish;
use crate::{Error, Opener, OwnedNewKey, OwnedOpener, Result};

/// Detached headers of a clone: files apart from the data.
#[derive(Debug, Default, Clone, Copy)]
pub struct DetachedHeaders<'a> {
    /// The header of the source.
    pub source: Option<&'a Path>,
    /// Where the header of the target goes.
    pub target: Option<&'a Path>,
}

/// The keys of a clone: each is needed where its side is encrypted. A clone takes them, and has let
/// go of them when it begins to copy.
#[derive(Debug, Default)]
pub struct Keys {
    /// Opens the source.
    pub source: Option<OwnedOpener>,
    /// Will open the target.
    pub target: Option<OwnedNewKey>,
}

/// What a long piece of work is told and tells.
pub struct Work<'a> {
    /// What key derivation may cost.
    pub policy: CostPolicy,
    /// Hears how long the work is, then how it goes on.
    pub observer: &'a dyn Observer,
    /// Set by whoever wants it to stop.
    pub cancelled: &'a Arc<AtomicBool>,
}

/// Watches a piece of work.
pub trait Observer: Progress {
    /// The work begins: so many bytes will be reported as progress, if anybody knows.
    fn begin(&self, bytes: Option<u64>);

    /// Returns this as what the pipeline tells.
    fn as_progress(&self) -> &dyn Progress;
}

/// Nobody watches.
impl Observer for () {
    fn begin(&self, _bytes: Option<u64>) {}

    fn as_progress(&self) -> &dyn Progress {
        self
    }
}

/// What a clone has made.
#[derive(Debug)]
pub struct Cloned {
    /// What was copied.
    pub report: Report,
    /// What the target is.
    pub format: TargetFormat,
    /// The header of an encrypted target.
    pub header: Option<Header>,
    /// The length of the target file.
    pub target_len: u64,
}

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The image.
    pub path: &'a Path,
    /// Its format, where somebody said so; the file's name tells it otherwise.
    pub format: Option<ImageFormat>,
    /// Its detached header.
    pub header: Option<&'a Path>,
    /// What opens it if it is encrypted.
    pub opener: Option<Opener<'a>>,
}

/// The virtual contents of an image.
pub struct Opened(Arc<dyn Disk>);

impl Opened {
    /// Returns the contents.
    pub(crate) fn into_disk(self) -> Arc<dyn Disk> {
        self.0
    }
}

/// Makes a new image from another one.
///
/// # Guarantees
///
/// - The target file gets its name when it is whole and durable; before that, and after any error,
///   there is no such file, or the old one.
/// - What makes a file an image of its format is written after all of its data is durable.
/// - A source that does not have the checksum that it must have leaves no target.
/// - A KMS is asked before there is any file, and has given a new data key back before anything is
///   encrypted.
/// - A job that may be resumed, or that was interrupted when it had done much, leaves its part
///   with a journal ([`Error::Stopped`]); a later request for the same goes on from there.
///
/// # Errors
///
/// Refuses to encrypt what is encrypted and to decrypt what is not, before anything is written.
pub fn clone(
    request: &CloneRequest,
    headers: DetachedHeaders<'_>,
    keys: Keys,
    work: &Work<'_>,
) -> Result<Cloned> {
    clone_between(request, Between::of(request)?, headers, keys, work)
}

/// Does what [`clone`] does with what was settled elsewhere, and `finish` to the file of the target before it
/// has its name.
///
/// # Errors
///
/// Those of [`clone`], and of `finish`.
pub(crate) fn clone_finishing(
    request: &CloneRequest,
    between: Between<'_>,
    keys: Keys,
    work: &Work<'_>,
    finish: Finish<'_>,
) -> Result<Cloned> {
    clone_with(request, between, DetachedHeaders::default(), keys, work, finish)
}

/// What a clone is told by those who know more than a request says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between<'a> {
    /// The formats; a source of [`SourceFormat::Bytes`] is a raw image of which no byte is looked at,
    /// whatever the target is.
    pub(crate) formats: CloneFormats,
    /// What the holes of a LUKS volume are read as.
    pub(crate) holes: Holes,
    /// What the checksum of the request is for.
    pub(crate) checking: Checking<'a>,
    /// What an image of QEMU's lies over; nothing else that it names is opened then.
    pub(crate) below: Option<&'a Below>,
    /// How a target in qcow2 is laid out, but for its encryption. It has at least that length.
    pub(crate) layout: Option<&'a CreateOptions>,
}

impl Between<'_> {
    /// Returns what a request says.
    pub(crate) fn of(request: &CloneRequest) -> Result<Self> {
        let formats = request.formats()?;
        let (holes, checking) = (Holes::Noise, Checking::Expected);
        Ok(Self { formats, holes, checking, below: None, layout: None })
    }
}

/// Does what [`clone`] does, with what was settled elsewhere.
pub(crate) fn clone_between(
    request: &CloneRequest,
    between: Between<'_>,
    headers: DetachedHeaders<'_>,
    keys: Keys,
    work: &Work<'_>,
) -> Result<Cloned> {
    clone_with(request, between, headers, keys, work, &|_| Ok(()))
}

fn clone_with(
    request: &CloneRequest,
    between: Between<'_>,
    headers: DetachedHeaders<'_>,
    keys: Keys,
    work: &Work<'_>,
    finish: Finish<'_>,
) -> Result<Cloned> {
    let Between { formats, holes, checking, below, layout } = between;
    refuse_header_apart(headers, formats)?;
    refuse_pipes(request, headers, formats.target)?;
    let opener = keys.source.as_ref().map(OwnedOpener::opener);
    let source =
        Source::open((request, below), formats.source, headers.source, opener, checking, work)?;
    let encryption = match &request.operation {
        ImageOperation::Copy | ImageOperation::Decrypt => None,
        ImageOperation::Encrypt(encryption) => Some(encryption.clone()),
        ImageOperation::Reencrypt(encryption) => Some(inherited(encryption, &source)?),
    };
    let encryption = encryption.map(|encryption| with_format(encryption, formats.target));
    let asked = match (&encryption, &keys.target) {
        (Some(encryption), Some(OwnedNewKey::Kms { .. })) => Some(managed(encryption)?),
        (encryption, _) => encryption.clone(),
    };
    let mut options = match &asked {
        Some(asked) => Some(encryption_options(asked, &source, formats.target, work)?),
        None => None,
    };
    refuse_reused_keystream(request, options.as_ref())?;
    let source_key = match opener {
        Some(opener @ Opener::Kms(_)) => source.unlock(Some(opener), work)?,
        _ => None,
    };
    let mut key = match (keys.target, &mut options) {
        (Some(key), Some(options)) => {
            let (label, earlier) = (target_label(&request.target), files::earlier_key(request)?);
            Some(TargetKey::prepare(key, options, earlier, &label)?)
        }
        _ => None,
    };
    let envelope = key.as_ref().and_then(TargetKey::envelope).cloned();
    let envelope_file = match &mut key {
        Some(key) => key.envelope_file()?,
        None => None,
    };
    let making = Making {
        request,
        layout,
        format: formats.target,
        options,
        key: Cell::new(key),
        guard: Guard::new(request, headers.source, &source, checking, work),
        work,
        finish,
    };
    // A passphrase may take its time, so what else can be wrong is found out before.
    let contents = |source: Source| -> Result<Contents> {
        let source_key = match source_key {
            Some(key) => Some(key),
            None => source.unlock(keys.source.as_ref().map(OwnedOpener::opener), work)?,
        };
        drop(keys.source);
        source.into_contents(source_key.as_ref(), holes)
    };
    match &request.target {
        ImageTarget::StandardOutput => {
            let contents = contents(source)?;
            making.standard_output(contents, envelope_file)
        }
        ImageTarget::File(path) => {
            let job = facts::of(request, (formats, layout), encryption.as_ref(), headers, &source);
            let header = headers.target;
            let files = Files::open(request, path, header, &source, job, envelope.as_ref())?;
            let files = files.with_envelope(envelope_file)?;
            match contents(source) {
                Ok(contents) => making.file(contents, files),
                Err(error) => Err(files.stop(error)),
            }
        }
    }
}

/// Returns the unfinished file that an interrupted job has left for the target of a request which
/// will not use it.
pub fn leftover(request: &CloneRequest) -> Option<PathBuf> {
    match (&request.target, request.resume) {
        (ImageTarget::File(path), Resume::Never) => NewFile::leftover(path).ok().flatten(),
        _ => None,
    }
}

/// Opens one side of a comparison, encrypted or not. What opened it is needed no longer.
///
/// # Errors
///
/// When it cannot be opened.
pub fn open(side: Side<'_>, backing_from: &[PathBuf], work: &Work<'_>) -> Result<Opened> {
    source::open_any(side, None, backing_from, work).map(|(disk, _)| Opened(disk))
}

/// Compares the virtual contents of two images.
///
/// # Errors
///
/// When one of them cannot be read.
pub fn compare(
    Opened(one): &Opened,
    Opened(other): &Opened,
    work: &Work<'_>,
) -> Result<Comparison> {
    work.observer.begin(Some(one.len().min(other.len())));
    let plan = Plan::for_this_machine(Zeroes::Write);
    let pass = Pass::new(plan, work.observer.as_progress(), work.cancelled);
    Ok(strongroom_clone::compare(one, other, &pass)?)
}

/// Refuses a detached header where the header lies inside the image.
fn refuse_header_apart(headers: DetachedHeaders<'_>, formats: CloneFormats) -> Result<()> {
    let inside = TargetFormat::Image(ImageFormat::Qcow2Luks);
    let target = headers.target.is_some() && formats.target == inside;
    let source = headers.source.is_some() && formats.source == SourceFormat::Qcow2Luks;
    if target || source {
        let problem = "a qcow2 image has its LUKS header inside: leave the header's file out";
        return Err(Error::Request { problem: problem.to_owned() });
    }
    Ok(())
}

/// Refuses what a pipe on either side cannot do.
fn refuse_pipes(
    request: &CloneRequest,
    headers: DetachedHeaders<'_>,
    format: TargetFormat,
) -> Result<()> {
    let streams = request.target == ImageTarget::StandardOutput;
    let problem = match format {
        TargetFormat::Image(ImageFormat::Qcow2 | ImageFormat::Qcow2Luks) if streams => {
            "standard output cannot go back, as writing qcow2 does: name a file"
        }
        _ if streams && headers.target.is_some() => {
            "a target on standard output bears its own header: leave the header's file out"
        }
        _ if request.resume == Resume::Allowed
            && (streams || request.source == ImageSource::StandardInput) =>
        {
            "a job that reads standard input or writes standard output cannot be resumed"
        }
        _ => return Ok(()),
    };
    Err(Error::Request { problem: problem.to_owned() })
}

/// Refuses to go on, or to let another job go on, with a keystream under which other bytes might be
/// encrypted then.
fn refuse_reused_keystream(request: &CloneRequest, options: Option<&FormatOptions>) -> Result<()> {
    let spec = options.map(|options| options.encryption.spec().to_string()).unwrap_or_default();
    if request.resume == Resume::Allowed && spec.contains("-ctr-") {
        let problem = "a job in CTR mode cannot be resumed: what is copied again would be encrypted \
                       twice in the same way";
        return Err(Error::Request { problem: problem.to_owned() });
    }
    Ok(())
}

/// Returns the encryption with the version of the header that the target's format has.
fn with_format(encryption: EncryptionRequest, target: TargetFormat) -> EncryptionRequest {
    match target {
        TargetFormat::Image(format) => {
            EncryptionRequest { format: format.luks().unwrap_or(encryption.format), ..encryption }
        }
        TargetFormat::Bytes => encryption,
    }
}

/// Returns the options of an encrypted target, for which the source has the right length.
fn encryption_options(
    encryption: &EncryptionRequest,
    source: &Source,
    target: TargetFormat,
    work: &Work<'_>,
) -> Result<FormatOptions> {
    let inside = target == TargetFormat::Image(ImageFormat::Qcow2Luks);
    if inside && encryption.data_offset.is_some() {
        let problem = "in a qcow2 image the data has no offset: leave it out";
        return Err(Error::Request { problem: problem.to_owned() });
    }
    let options = format_options(encryption, &work.policy)?;
    check_length(source, &options)?;
    Ok(options)
}

/// Refuses contents that are not whole sectors.
fn check_length(source: &Source, options: &FormatOptions) -> Result<()> {
    let Some(len) = source.contents_len() else { return Ok(()) };
    let (label, sector) = (source.label().to_owned(), options.sector_size.bytes());
    if len == 0 {
        return Err(Error::Empty { label });
    }
    match (len.is_multiple_of(sector as u64), source.is_raw()) {
        (true, _) => Ok(()),
        (false, true) => Err(Error::UnalignedLength { label, len, sector }),
        (false, false) => Err(Error::UnalignedContents { label, len, sector }),
    }
}

/// Returns the request with what it leaves open taken from the source: cipher and sector size stay
/// as they are unless someone says otherwise.
fn inherited(request: &EncryptionRequest, source: &Source) -> Result<EncryptionRequest> {
    let mut request = request.clone();
    let Some(payload) = source.payload()? else { return Ok(request) };
    let spec = payload.encryption.spec();
    if request.cipher.is_none() && spec.open_only().is_none() {
        request.cipher = Some(spec.to_string());
        let bits = payload.encryption.key_size().bits();
        request.key_size_bits = request.key_size_bits.or(u32::try_from(bits).ok());
    }
    if request.format == LuksFormat::Luks2 && request.sector_size.is_none() {
        request.sector_size = u32::try_from(payload.sector_size.bytes()).ok();
    }
    Ok(request)
}
