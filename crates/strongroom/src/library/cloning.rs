//! Images from elsewhere, and from each other.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use strongroom_crypto::{DataKey, Passphrase};
use strongroom_disk::share_blocks;
use strongroom_kms::{Binding, Envelope, KeyProvider, Probe};
use strongroom_model::{
    Checksum, CloneRequest, EncryptionRequest, ImageFormat, ImageId, ImageOperation, ImageSource,
    ImageTarget, KmsKind, LuksFormat, Resume,
};

use super::folder::{Folder, failed};
use super::making::{Begun, Digest, Making, sha512_of};
use super::{Copying, Image, ImageCondition, ImageProblem, Library, NewImage, format_of};
use crate::images::{self, Between, Checking, DetachedHeaders, Keys, Work};
use crate::volumes::HEADER_LEN;
use crate::{Error, ErrorKind, OwnedNewKey, OwnedOpener, Result, hexadecimal};

impl Library {
    /// Makes an image of what a URL has, `http` or `https`; goes on where an interrupted call stopped.
    /// What its server cannot give in parts, or does not let be known again, is fetched anew then.
    ///
    /// # Errors
    ///
    /// When it does not have the checksum that it must have; what the network says.
    pub fn fetch(&self, new: &NewImage, url: &str, work: &Work<'_>) -> Result<Image> {
        let making = match self.begin(new, &format!("fetch {}", without_secrets(url)))? {
            Begun::Ready(image) => return Ok(image),
            Begun::Making(making) => making,
        };
        let mut digest = Digest::Unknown;
        if !making.folder.has_data()? {
            let request = CloneRequest {
                reach: self.downloads.reach,
                ca_file: self.downloads.ca_file.clone(),
                ..self.request(
                    ImageSource::Url(url.to_owned()),
                    &making.folder,
                    ImageOperation::Copy,
                )
            };
            let sha512 = download(&request, new, &making.folder, work)?;
            digest = sha512.map_or(Digest::Unknown, Digest::Known);
        }
        making.seal(new, new.format, digest, work)
    }

    /// Makes an image of another one.
    ///
    /// # Errors
    ///
    /// When the source is not ready, or not what the operation is for.
    pub fn clone_image(
        &self,
        new: &NewImage,
        from: &ImageId,
        how: Copying,
        work: &Work<'_>,
    ) -> Result<Image> {
        let word = match how {
            Copying::Ignore => "copy",
            Copying::Encrypt { .. } => "encrypt",
            Copying::Decrypt { .. } => "decrypt",
        };
        let making = match self.begin(new, &format!("{word} {from}"))? {
            Begun::Ready(image) => return Ok(image),
            Begun::Making(making) => making,
        };
        let source = self.ready_image(from)?;
        match (&how, &source.encryption) {
            (Copying::Encrypt { .. }, Some(_)) => {
                return Err(Error::image(from, ImageProblem::Encrypted));
            }
            (Copying::Decrypt { .. }, None) => {
                let format = source.format.clone();
                return Err(Error::image(from, ImageProblem::NotEncrypted { format }));
            }
            _ => {}
        }
        match how {
            Copying::Ignore => self.copy_as_it_is(new, making, &source, work),
            Copying::Encrypt { request, key } => {
                let operation = ImageOperation::Encrypt(container(request)?);
                let keys = Supply::new(Keys { source: None, target: Some(key) });
                let format = ImageFormat::Luks2;
                self.convert(new, making, &source, (operation, format), &keys, work)
            }
            Copying::Decrypt { opener } => {
                let keys = Supply::new(Keys { source: Some(opener), target: None });
                let how = (ImageOperation::Decrypt, ImageFormat::Raw);
                self.convert(new, making, &source, how, &keys, work)
            }
        }
    }

    /// Returns an image that can be used.
    pub(super) fn ready_image(&self, id: &ImageId) -> Result<Image> {
        let image = self.image(id)?;
        match image.condition {
            ImageCondition::Ready => Ok(image),
            condition => Err(Error::image(id, ImageProblem::NotReady { condition })),
        }
    }

    /// Returns a request for the image of a folder, which goes on with what an earlier one has left.
    pub(super) fn request(
        &self,
        source: ImageSource,
        folder: &Folder,
        operation: ImageOperation,
    ) -> CloneRequest {
        CloneRequest {
            resume: Resume::Allowed,
            rate_limit: self.rate_limit,
            ..CloneRequest::new(source, ImageTarget::File(folder.data()), operation)
        }
    }

    fn copy_as_it_is(
        &self,
        new: &NewImage,
        making: Making<'_>,
        source: &Image,
        work: &Work<'_>,
    ) -> Result<Image> {
        let format = format_of(source)?;
        let mut digest = Digest::Unknown;
        if !making.folder.has_data()? {
            let path = self.folder(&source.id).data();
            let known = source.checksum.as_ref().map(|digits| format!("sha512:{digits}").parse());
            let known = known.transpose()?;
            if !share(&path, &making.folder)? {
                let request = CloneRequest {
                    source_format: Some(ImageFormat::Raw),
                    // A source that has lost bytes has no whole copies.
                    checksum: known.clone(),
                    ..self.request(ImageSource::File(path), &making.folder, ImageOperation::Copy)
                };
                run(&making.folder, &request, &Supply::default(), work)?;
            }
            if known.is_some() && (new.checksum.is_none() || new.checksum == known) {
                digest = source.checksum.clone().map_or(Digest::Unknown, Digest::Known);
            }
        }
        making.seal(new, Some(format), digest, work)
    }

    fn convert(
        &self,
        new: &NewImage,
        making: Making<'_>,
        source: &Image,
        (operation, format): (ImageOperation, ImageFormat),
        keys: &Supply,
        work: &Work<'_>,
    ) -> Result<Image> {
        if !making.folder.has_data()? {
            let path = self.folder(&source.id).data();
            let request = CloneRequest {
                source_format: Some(format_of(source)?),
                target_format: Some(format),
                ..self.request(ImageSource::File(path), &making.folder, operation)
            };
            run(&making.folder, &request, keys, work)?;
        }
        making.seal(new, Some(format), Digest::Unknown, work)
    }
}

/// Fetches what a request is about into the folder of an image, byte for byte. Returns its SHA-512 in
/// hexadecimal, which is taken on the way unless another checksum is.
fn download(
    request: &CloneRequest,
    new: &NewImage,
    folder: &Folder,
    work: &Work<'_>,
) -> Result<Option<String>> {
    let taken = OnceCell::new();
    // Of a checksum that is only taken, the algorithm alone counts.
    let any: Checksum = format!("sha512:{}", "0".repeat(128)).parse()?;
    let (checksum, checking) = match &new.checksum {
        Some(expected) => (expected.clone(), Checking::Expected),
        None => (any, Checking::Taken(&taken)),
    };
    let request = CloneRequest {
        source_format: Some(ImageFormat::Raw),
        checksum: Some(checksum),
        ..request.clone()
    };
    let between = Between { checking, ..Between::of(&request)? };
    match run_between(folder, &request, between, &Supply::default(), work) {
        Err(Error::NotResumable { .. }) => {
            folder.clear()?;
            let request = CloneRequest { resume: Resume::Never, ..request };
            run_between(folder, &request, between, &Supply::default(), work)?;
        }
        fetched => fetched?,
    }
    let known = new.checksum.as_ref().and_then(sha512_of);
    Ok(known.or_else(|| taken.get().map(|digest| hexadecimal(digest))))
}

/// Clones into the folder of an image, and begins anew where what an earlier job has left belongs to
/// another one: another source, another key, other settings.
pub(super) fn run(
    folder: &Folder,
    request: &CloneRequest,
    keys: &Supply,
    work: &Work<'_>,
) -> Result<()> {
    run_between(folder, request, Between::of(request)?, keys, work)
}

/// Does what [`run`] does, with what was settled elsewhere.
pub(super) fn run_between(
    folder: &Folder,
    request: &CloneRequest,
    between: Between<'_>,
    keys: &Supply,
    work: &Work<'_>,
) -> Result<()> {
    let request = CloneRequest { resume: resume(request), ..request.clone() };
    let begun = folder.has_partial();
    let headers = DetachedHeaders::default();
    let clone = || images::clone_between(&request, between, headers, keys.keys(), work);
    match clone() {
        Err(error) if begun && is_of_another_job(&error) => {
            folder.clear()?;
            clone().map(drop)
        }
        cloned => cloned.map(drop),
    }
}

/// Tells whether what an earlier job has left may be the reason of an error. It is ours alone, so
/// nothing is lost with it.
fn is_of_another_job(error: &Error) -> bool {
    let is_passing = error.of_network().is_some();
    matches!(error.kind(), ErrorKind::WrongPassphrase | ErrorKind::Image) && !is_passing
        || matches!(error, Error::JobChanged { .. } | Error::Journal { .. })
}

/// Returns whether a job can be resumed: where a keystream would be used twice it cannot.
fn resume(request: &CloneRequest) -> Resume {
    let cipher = match &request.operation {
        ImageOperation::Encrypt(encryption) | ImageOperation::Reencrypt(encryption) => {
            encryption.cipher.as_deref()
        }
        ImageOperation::Copy | ImageOperation::Decrypt => None,
    };
    match cipher {
        Some(cipher) if cipher.contains("-ctr-") => Resume::Never,
        _ => request.resume,
    }
}

/// Returns how an encrypted image is made: as a container that volumes can be copies of.
fn container(request: EncryptionRequest) -> Result<EncryptionRequest> {
    if request.format == LuksFormat::Luks1 {
        let problem = "encrypted images are LUKS2 volumes: leave LUKS1 out".to_owned();
        return Err(Error::Request { problem });
    }
    if request.data_offset.is_some_and(|offset| offset != HEADER_LEN) {
        let problem = format!("the data of encrypted images begins at byte {HEADER_LEN}");
        return Err(Error::Request { problem });
    }
    Ok(EncryptionRequest { data_offset: Some(HEADER_LEN), ..request })
}

/// Lets the image of a folder share the bytes of another file, and tells whether the file system can.
fn share(from: &std::path::Path, folder: &Folder) -> Result<bool> {
    let path = folder.shared();
    let source = File::open(from).map_err(|source| failed(from, source))?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let shared = options.open(&path).map_err(|source| failed(&path, source))?;
    let answer = share_blocks(&source, &shared).map_err(|source| failed(&path, source));
    if let Ok(true) = answer {
        shared.sync_all().map_err(|source| failed(&path, source))?;
        folder.take_name(&path)?;
        return Ok(true);
    }
    std::fs::remove_file(&path).map_err(|source| failed(&path, source))?;
    answer
}

/// Returns a URL without what may be secret in it.
fn without_secrets(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = path.split_once("://") else { return path.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Keys for as many attempts as it takes.
#[derive(Default)]
pub(super) struct Supply {
    source: Option<SourceKey>,
    target: Option<TargetKey>,
}

enum SourceKey {
    Passphrase(Passphrase),
    Kms(Shared, Option<Box<Envelope>>),
}

enum TargetKey {
    Passphrase(Passphrase),
    Kms(Shared),
}

impl Supply {
    /// An envelope of an image is in its header: what an [`OwnedNewKey`] says of a file is left out.
    pub(super) fn new(keys: Keys) -> Self {
        let source = keys.source.map(|key| match key {
            OwnedOpener::Passphrase(passphrase) => SourceKey::Passphrase(passphrase),
            OwnedOpener::Kms { provider, envelope } => {
                SourceKey::Kms(Shared(Arc::from(provider)), envelope)
            }
        });
        let target = keys.target.map(|key| match key {
            OwnedNewKey::Passphrase(passphrase) => TargetKey::Passphrase(passphrase),
            OwnedNewKey::Kms { provider, .. } => TargetKey::Kms(Shared(Arc::from(provider))),
        });
        Self { source, target }
    }

    /// Returns keys for one attempt.
    pub(super) fn keys(&self) -> Keys {
        let again = |key: &Passphrase| Passphrase::new(key.expose_bytes().to_vec());
        Keys {
            source: self.source.as_ref().map(|key| match key {
                SourceKey::Passphrase(key) => OwnedOpener::Passphrase(again(key)),
                SourceKey::Kms(provider, envelope) => OwnedOpener::Kms {
                    provider: Box::new(provider.clone()),
                    envelope: envelope.clone(),
                },
            }),
            target: self.target.as_ref().map(|key| match key {
                TargetKey::Passphrase(key) => OwnedNewKey::Passphrase(again(key)),
                TargetKey::Kms(provider) => {
                    OwnedNewKey::Kms { provider: Box::new(provider.clone()), envelope_file: None }
                }
            }),
        }
    }
}

/// A KMS that several attempts ask.
#[derive(Debug, Clone)]
struct Shared(Arc<dyn KeyProvider>);

impl KeyProvider for Shared {
    fn kind(&self) -> KmsKind {
        self.0.kind()
    }

    fn label(&self) -> String {
        self.0.label()
    }

    fn wrap(&self, key: &DataKey, binding: &Binding) -> strongroom_kms::Result<Envelope> {
        self.0.wrap(key, binding)
    }

    fn unwrap(&self, envelope: &Envelope, binding: &Binding) -> strongroom_kms::Result<DataKey> {
        self.0.unwrap(envelope, binding)
    }

    fn verify(&self, envelope: &Envelope) -> strongroom_kms::Result<()> {
        self.0.verify(envelope)
    }

    fn rewrap(&self, envelope: &Envelope) -> strongroom_kms::Result<Envelope> {
        self.0.rewrap(envelope)
    }

    fn probe(&self) -> strongroom_kms::Result<Probe> {
        self.0.probe()
    }
}
