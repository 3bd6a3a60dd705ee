//! Disk images: copied, encrypted, decrypted, encrypted anew, compared.

use std::fs::Metadata;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use strongroom_clone::{Comparison, Plan, Progress, Report, Zeroes};
use strongroom_crypto::{CostPolicy, Passphrase};
use strongroom_disk::{Access, Disk, Encrypted, FormatPermit, NewFile, Overwrite, Raw};
use strongroom_luks::{FormatOptions, Formatted, Header};
use strongroom_model::{CloneRequest, EncryptionRequest, ExistingTarget, ImageOperation};

use crate::device::{self, Device};
use crate::encryption::format_options;
use crate::{Error, Result, system_rng};

/// Detached headers of a clone: files apart from the data.
#[derive(Debug, Default, Clone, Copy)]
pub struct DetachedHeaders<'a> {
    /// The header of the source.
    pub source: Option<&'a Path>,
    /// Where the header of the target goes.
    pub target: Option<&'a Path>,
}

/// The passphrases of a clone: each is needed where its side is encrypted.
#[derive(Debug, Default)]
pub struct Passphrases<'a> {
    /// Opens the source.
    pub source: Option<&'a Passphrase>,
    /// Will open the target.
    pub target: Option<&'a Passphrase>,
}

/// What a long piece of work is told and tells.
pub struct Work<'a> {
    /// What key derivation may cost.
    pub policy: CostPolicy,
    /// Hears how long the work is, then how it goes on.
    pub observer: &'a dyn Observer,
    /// Set by whoever wants it to stop.
    pub cancelled: &'a AtomicBool,
}

/// Watches a piece of work.
pub trait Observer: Progress {
    /// The work begins: so many bytes will be reported as progress.
    fn begin(&self, bytes: u64);
}

/// What a clone has made.
#[derive(Debug)]
pub struct Cloned {
    /// What was copied.
    pub report: Report,
    /// The header of an encrypted target.
    pub header: Option<Header>,
    /// The length of the target file.
    pub target_len: u64,
}

/// Makes a new image from another one.
///
/// # Guarantees
///
/// - The target gets its name when it is whole and durable, header included; before that, and
///   after any error, there is no such file, or the old one.
/// - The header of an encrypted target is written after all of its data is durable.
///
/// # Errors
///
/// Refuses to encrypt what is encrypted and to decrypt what is not, before anything is written.
pub fn clone(
    request: &CloneRequest,
    headers: DetachedHeaders<'_>,
    passphrases: &Passphrases<'_>,
    work: &Work<'_>,
) -> Result<Cloned> {
    let source = Device::open(&request.source, headers.source, Access::ReadOnly)?;
    let watch = SourceWatch::new(request, headers.source);
    match &request.operation {
        ImageOperation::Copy => copy(&source, request, &watch, work),
        ImageOperation::Encrypt(encryption) => {
            refuse_encrypted(source.data_disk())?;
            let options = format_options(encryption, &work.policy)?;
            check_source_length(source.data_disk(), &options)?;
            let new = NewImage::create(request, headers.target, &[source.data_disk()])?;
            encrypt(source.data_disk(), new, &options, &watch, passphrases.target, work)
        }
        ImageOperation::Decrypt => {
            let sources = [source.data_disk(), source.header_disk()];
            let new = NewImage::create(request, None, &sources)?;
            let plain = open_source(source, passphrases.source, work)?;
            plain_target(&plain, new, &watch, work)
        }
        ImageOperation::Reencrypt(encryption) => {
            let found = source.read_header()?;
            let encryption = inherited(encryption, &source, &found.header)?;
            let options = format_options(&encryption, &work.policy)?;
            check_contents_length(&source, &found.header, &options)?;
            let sources = [source.data_disk(), source.header_disk()];
            let new = NewImage::create(request, headers.target, &sources)?;
            let plain = open_source(source, passphrases.source, work)?;
            encrypt(&plain, new, &options, &watch, passphrases.target, work)
        }
    }
}

/// Compares the virtual contents of two images, each encrypted or not.
///
/// # Errors
///
/// When one of them cannot be opened.
pub fn compare(
    one: (&Path, Option<&Passphrase>),
    other: (&Path, Option<&Passphrase>),
    work: &Work<'_>,
) -> Result<Comparison> {
    let one = open_any(one.0, one.1, work)?;
    let other = open_any(other.0, other.1, work)?;
    work.observer.begin(one.len().min(other.len()));
    let plan = Plan::for_this_machine(Zeroes::Write);
    Ok(strongroom_clone::compare(
        one.as_ref(),
        other.as_ref(),
        &plan,
        work.observer,
        work.cancelled,
    )?)
}

/// Notices when the source is written while it is read: the copy would be of no moment at all.
struct SourceWatch<'a> {
    request: &'a CloneRequest,
    files: Vec<(&'a Path, Option<Moment>)>,
}

/// When a plain file was last written, and how long it was.
#[derive(PartialEq, Eq)]
struct Moment {
    modified: SystemTime,
    len: u64,
}

impl<'a> SourceWatch<'a> {
    fn new(request: &'a CloneRequest, header: Option<&'a Path>) -> Self {
        let paths = std::iter::once(request.source.as_path()).chain(header);
        Self { request, files: paths.map(|path| (path, Moment::of(path))).collect() }
    }

    fn refuse_changes(&self) -> Result<()> {
        match self.files.iter().find(|(path, before)| Moment::of(path) != *before) {
            Some((path, _)) => Err(Error::SourceChanged { label: path.display().to_string() }),
            None => Ok(()),
        }
    }
}

impl Moment {
    /// Returns nothing for a device, whose file says nothing of its contents.
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        Some(Self { modified: found.modified().ok()?, len: found.len() })
    }
}

/// A target without its name yet, and the right to format it.
struct NewImage {
    data: NewFile,
    header: Option<NewFile>,
    permit: FormatPermit,
}

impl NewImage {
    fn create(request: &CloneRequest, header: Option<&Path>, sources: &[&Raw]) -> Result<Self> {
        let overwrite = match request.existing_target {
            ExistingTarget::Refuse => Overwrite::Refuse,
            ExistingTarget::Replace => Overwrite::Replace,
        };
        let (data, permit) = NewFile::create(&request.target, overwrite, sources)?;
        let Some(header) = header else { return Ok(Self { data, header: None, permit }) };
        // A detached header is formatted, the data file beside it holds nothing but ciphertext.
        let (header, permit) = NewFile::create(header, overwrite, sources)?;
        if data.is_same_place(&header)? {
            return Err(Error::Request {
                problem: format!(
                    "{} cannot be both the image and its header",
                    request.target.display()
                ),
            });
        }
        Ok(Self { data, header: Some(header), permit })
    }

    /// Returns the disk that gets the header.
    fn header_disk(&self) -> &Raw {
        self.header.as_ref().unwrap_or(&self.data).disk()
    }

    /// Writes the header, which is what makes an image of it, and gives the files their names,
    /// both or neither.
    fn finish(self, formatted: &Formatted) -> Result<()> {
        let disk = self.header.as_ref().unwrap_or(&self.data).disk();
        device::write_new_header(disk, formatted, self.permit)?;
        let committed = match self.header {
            None => self.data.commit(),
            Some(header) => NewFile::commit_pair(self.data, header),
        };
        Ok(committed?)
    }
}

fn copy(
    source: &Device,
    request: &CloneRequest,
    watch: &SourceWatch<'_>,
    work: &Work<'_>,
) -> Result<Cloned> {
    let source = source.data_disk();
    let new = NewImage::create(request, None, &[source])?;
    plain_target(source, new, watch, work)
}

fn encrypt(
    source: &dyn Disk,
    new: NewImage,
    options: &FormatOptions,
    watch: &SourceWatch<'_>,
    passphrase: Option<&Passphrase>,
    work: &Work<'_>,
) -> Result<Cloned> {
    let label = watch.request.target.display().to_string();
    let passphrase = passphrase.ok_or_else(|| Error::NoPassphrase { label: label.clone() })?;
    let options = FormatOptions { detached: new.header.is_some(), ..options.clone() };
    if options.detached && options.data_offset.is_some() {
        return Err(Error::Request {
            problem:
                "with a header of its own the data begins at byte 0: leave the data offset out"
                    .to_owned(),
        });
    }
    let luks = Error::luks(&label);
    let formatted = options.format(passphrase, &work.policy, &mut system_rng()).map_err(&luks)?;
    // Only the largest device there is tells where the data begins; then its length is known.
    let offset = formatted.header.payload(LARGEST).map_err(&luks)?.offset;
    let target_len = offset
        .checked_add(source.len())
        .filter(|len| i64::try_from(*len).is_ok())
        .ok_or_else(|| Error::Request {
            problem: format!("data offset {offset} is beyond the largest file there can be"),
        })?;
    new.data.disk().set_len(target_len)?;
    if options.detached {
        new.header_disk().set_len(formatted.header.backup_len())?;
    }
    let payload = formatted.header.payload(target_len).map_err(&luks)?;
    let cipher = payload.cipher(&formatted.volume_key).map_err(&luks)?;
    let range = payload.offset..payload.offset + payload.length;
    let target = Encrypted::new(new.data.disk(), range, cipher, payload.iv_tweak)?;
    let report = run(source, &target, Zeroes::Write, watch.request, work)?;
    drop(target);
    watch.refuse_changes()?;
    new.finish(&formatted)?;
    Ok(Cloned { report, header: Some(formatted.header), target_len })
}

/// Copies to a target that is not encrypted, holes and zeros as holes.
fn plain_target(
    source: &dyn Disk,
    new: NewImage,
    watch: &SourceWatch<'_>,
    work: &Work<'_>,
) -> Result<Cloned> {
    new.data.disk().set_len(source.len())?;
    let report = run(source, new.data.disk(), Zeroes::Skip, watch.request, work)?;
    watch.refuse_changes()?;
    new.data.commit()?;
    Ok(Cloned { report, header: None, target_len: source.len() })
}

fn run(
    source: &dyn Disk,
    target: &dyn Disk,
    zeroes: Zeroes,
    request: &CloneRequest,
    work: &Work<'_>,
) -> Result<Report> {
    let plan = match request.threads {
        Some(threads) => Plan::new(threads, zeroes),
        None => Plan::for_this_machine(zeroes),
    };
    work.observer.begin(source.len());
    Ok(strongroom_clone::run(source, target, &plan, work.observer, work.cancelled)?)
}

fn open_source(
    source: Device,
    passphrase: Option<&Passphrase>,
    work: &Work<'_>,
) -> Result<Encrypted<Raw>> {
    let found = source.read_header()?;
    source.payload(&found.header)?;
    let passphrase = passphrase
        .ok_or_else(|| Error::NoPassphrase { label: source.header_disk().label().to_owned() })?;
    let unlocked = source.unlock(&found.header, passphrase, None, &work.policy)?;
    source.data_disk().advise_sequential();
    source.into_plain(&found.header, &unlocked.key)
}

fn open_any(
    path: &Path,
    passphrase: Option<&Passphrase>,
    work: &Work<'_>,
) -> Result<Box<dyn Disk>> {
    let device = Device::open(path, None, Access::ReadOnly)?;
    match device.read_header() {
        Err(Error::NotEncrypted { .. }) => Ok(Box::new(Raw::open(path, Access::ReadOnly)?)),
        Err(error) => Err(error),
        Ok(_) => Ok(Box::new(open_source(device, passphrase, work)?)),
    }
}

/// Refuses a source that bears a LUKS header, damaged or not, or is of another format than raw.
fn refuse_encrypted(source: &Raw) -> Result<()> {
    match device::read_header(source) {
        Ok(found) => Err(Error::AlreadyEncrypted {
            label: source.label().to_owned(),
            version: found.header.version(),
            uuid: found.header.uuid().to_owned(),
        }),
        Err(Error::NotEncrypted { signature: Some(found @ "a qcow2 image"), label }) => {
            Err(Error::SourceFormat { label, found })
        }
        Err(Error::NotEncrypted { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Refuses a plain source that is not whole sectors.
fn check_source_length(source: &Raw, options: &FormatOptions) -> Result<()> {
    let label = source.label().to_owned();
    let (len, sector) = (source.len(), options.sector_size.bytes());
    if len == 0 {
        return Err(Error::Empty { label });
    }
    if len.is_multiple_of(sector as u64) {
        Ok(())
    } else {
        Err(Error::UnalignedLength { label, len, sector })
    }
}

/// Refuses sectors of a size that the contents of an encrypted source are no multiple of.
fn check_contents_length(source: &Device, header: &Header, options: &FormatOptions) -> Result<()> {
    let label = source.data_disk().label().to_owned();
    let (len, sector) = (source.payload(header)?.length, options.sector_size.bytes());
    if len == 0 {
        return Err(Error::Empty { label });
    }
    if len.is_multiple_of(sector as u64) {
        Ok(())
    } else {
        Err(Error::UnalignedContents { label, len, sector })
    }
}

/// Returns the request with what it leaves open taken from the source: cipher and sector size stay
/// as they are unless someone says otherwise.
fn inherited(
    request: &EncryptionRequest,
    source: &Device,
    header: &Header,
) -> Result<EncryptionRequest> {
    let payload = source.payload(header)?;
    let spec = payload.encryption.spec();
    let mut request = request.clone();
    if request.cipher.is_none() && spec.open_only().is_none() {
        request.cipher = Some(spec.to_string());
        let bits = payload.encryption.key_size().bits();
        request.key_size_bits = request.key_size_bits.or(u32::try_from(bits).ok());
    }
    let luks2 = request.format == strongroom_model::LuksFormat::Luks2;
    if luks2 && request.sector_size.is_none() {
        request.sector_size = u32::try_from(payload.sector_size.bytes()).ok();
    }
    Ok(request)
}

/// The length of the largest device there is, in whole sectors of any size.
const LARGEST: u64 = u64::MAX - u64::MAX % 4096;
