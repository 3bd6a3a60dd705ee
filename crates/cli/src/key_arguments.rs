//! What opens an image, and what will open a new one: a passphrase, or a KMS.

use std::path::Path;

use clap::Args;
use strongroom::volumes::{VolumeEncryption, VolumeOpener};
use strongroom::{OwnedNewKey, OwnedOpener};
use strongroom_crypto::CostPolicy;
use strongroom_kms::{Credentials, KeyProvider, Limits};
use strongroom_model::{EncryptionSettings, KmsKind, KmsRequest};

use crate::command_error::CommandError;
use crate::kms_arguments::{KmsArgs, New, Own, Side, Wanted};
use crate::passphrases::{Given, NewPassphraseArgs, PassphraseArgs, Source, explain_newline};

/// What opens the image, or will.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    passphrase: PassphraseArgs,

    #[command(flatten)]
    kms: KmsArgs<Own>,
}

/// What will open the image from now on.
#[derive(Debug, Args)]
pub(crate) struct NewKeyArgs {
    #[command(flatten)]
    passphrase: NewPassphraseArgs,

    #[command(flatten)]
    kms: KmsArgs<New>,
}

/// What people gave to open an image.
#[derive(Debug)]
pub(crate) struct GivenOpener {
    /// What opens it.
    pub(crate) opener: OwnedOpener,
    /// What is to be said when it does not.
    pub(crate) advice: Advice,
}

/// What people gave to open a new image.
#[derive(Debug)]
pub(crate) struct GivenNewKey {
    /// What will open it.
    pub(crate) key: OwnedNewKey,
    /// What a Secret says on encryption.
    pub(crate) settings: Option<EncryptionSettings>,
}

/// What people should know about what they gave, when it does not open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Advice {
    ends_with_newline: bool,
}

/// What people gave to open a volume, now or from now on.
#[derive(Debug)]
pub(crate) struct GivenVolumeKey {
    place: Place,
    /// What is to be said when it does not open.
    pub(crate) advice: Advice,
}

/// Where the key is.
#[derive(Debug)]
enum Place {
    Passphrase(Given),
    Kms(Box<dyn KeyProvider>, Option<EncryptionSettings>),
}

impl KeyArgs {
    /// Reads what opens the image.
    ///
    /// # Errors
    ///
    /// When nothing was given, it does not fit together, or it cannot be read.
    pub(crate) fn read(&self, policy: &CostPolicy) -> Result<GivenOpener, CommandError> {
        match self.read_optional(policy)? {
            Some(given) => Ok(given),
            None => Err(missing("a passphrase or a KMS is needed", Own::PREFIX)),
        }
    }

    /// Reads what opens the image, when it was given.
    ///
    /// # Errors
    ///
    /// When it does not fit together, or cannot be read.
    pub(crate) fn read_optional(
        &self,
        policy: &CostPolicy,
    ) -> Result<Option<GivenOpener>, CommandError> {
        opener(self.passphrase.source(), &self.kms, policy)
    }

    /// Reads what will open a new image.
    ///
    /// # Errors
    ///
    /// When nothing was given, it does not fit together, or it cannot be read.
    pub(crate) fn read_new(&self, policy: &CostPolicy) -> Result<GivenNewKey, CommandError> {
        match self.read_new_optional(policy)? {
            Some(given) => Ok(given),
            None => Err(missing("a passphrase or a KMS is needed", Own::PREFIX)),
        }
    }

    /// Reads what will open a new image, when it was given.
    ///
    /// # Errors
    ///
    /// When it does not fit together, or cannot be read.
    pub(crate) fn read_new_optional(
        &self,
        policy: &CostPolicy,
    ) -> Result<Option<GivenNewKey>, CommandError> {
        new_key(self.passphrase.source(), &self.kms, policy)
    }

    /// Returns where the envelope lies besides the header, if somebody said so.
    pub(crate) fn envelope_file(&self) -> Option<&Path> {
        self.kms.envelope_file()
    }

    /// Reads what opens a volume, when it was given. What was not said of a KMS is as it is recorded of
    /// the volume.
    ///
    /// # Errors
    ///
    /// When it does not fit together, or cannot be read.
    pub(crate) fn read_for_volume(
        &self,
        recorded: &VolumeEncryption,
        policy: &CostPolicy,
    ) -> Result<Option<GivenVolumeKey>, CommandError> {
        refuse_envelope_file(&self.kms)?;
        let recorded = match recorded {
            VolumeEncryption::Kms(request) => Some(&**request),
            _ => None,
        };
        let wanted = self.kms.wanted_beside(recorded)?;
        let place = place_of(wanted, self.passphrase.source(), &self.kms, policy)?;
        Ok(place.map(GivenVolumeKey::new))
    }

    /// Returns how volumes are encrypted that these options open; `None` when they say nothing of it.
    ///
    /// # Errors
    ///
    /// When they do not fit together.
    pub(crate) fn volume_encryption(&self) -> Result<Option<VolumeEncryption>, CommandError> {
        refuse_envelope_file(&self.kms)?;
        match (encryption(&self.kms)?, self.passphrase.source()) {
            (None, Some(_)) => Ok(Some(VolumeEncryption::Passphrase)),
            (encryption, _) => Ok(encryption),
        }
    }

    /// Tells whether a passphrase was given, or what may be one.
    pub(crate) fn gives_passphrase(&self) -> bool {
        self.passphrase.source().is_some()
    }

    /// Asks the KMS how it is, when there is what proves who is asking. Returns what it finds wrong.
    ///
    /// # Errors
    ///
    /// When it cannot even be asked.
    pub(crate) fn probe(
        &self,
        request: &KmsRequest,
        policy: &CostPolicy,
    ) -> Result<Vec<String>, CommandError> {
        let is_file = request.kind == KmsKind::Local;
        if !is_file && !self.gives_passphrase() && !self.kms.has_credentials() {
            return Ok(Vec::new());
        }
        match open(request, self.passphrase.source(), &self.kms, policy)? {
            Place::Kms(provider, _) => {
                Ok(provider.probe().map_err(strongroom::Error::from)?.findings)
            }
            Place::Passphrase(_) => Ok(Vec::new()),
        }
    }
}

impl NewKeyArgs {
    /// Reads what will open a new image.
    ///
    /// # Errors
    ///
    /// When nothing was given, it does not fit together, or it cannot be read.
    pub(crate) fn read(&self, policy: &CostPolicy) -> Result<GivenNewKey, CommandError> {
        match new_key(self.passphrase.source(), &self.kms, policy)? {
            Some(given) => Ok(given),
            None => Err(missing("a new passphrase or KMS is needed", New::PREFIX)),
        }
    }

    /// Reads what will open a volume, and what the catalog is to say of it, when it was given.
    ///
    /// # Errors
    ///
    /// When it does not fit together, or cannot be read.
    pub(crate) fn read_for_volume(
        &self,
        policy: &CostPolicy,
    ) -> Result<Option<(GivenVolumeKey, VolumeEncryption)>, CommandError> {
        refuse_envelope_file(&self.kms)?;
        let encryption = encryption(&self.kms)?;
        let place = place(self.passphrase.source(), &self.kms, policy)?;
        Ok(place.map(|place| {
            (GivenVolumeKey::new(place), encryption.unwrap_or(VolumeEncryption::Passphrase))
        }))
    }

    /// Returns the error of a command that needs the new key.
    pub(crate) fn missing() -> CommandError {
        missing("a new passphrase or KMS is needed", New::PREFIX)
    }
}

impl GivenVolumeKey {
    fn new(place: Place) -> Self {
        let ends_with_newline = match &place {
            Place::Passphrase(given) => given.ends_with_newline(),
            Place::Kms(..) => false,
        };
        Self { place, advice: Advice { ends_with_newline } }
    }

    /// Returns it as the use cases take it.
    pub(crate) fn opener(&self) -> VolumeOpener<'_> {
        match &self.place {
            Place::Passphrase(Given { passphrase, settings }) => {
                VolumeOpener::Passphrase { passphrase, settings: settings.as_ref() }
            }
            Place::Kms(provider, _) => VolumeOpener::Kms(provider.as_ref()),
        }
    }

    /// Returns what a Secret says on encryption, to be completed; `None` for a KMS, whose data keys are
    /// all encrypted in one way.
    pub(crate) fn settings_mut(&mut self) -> Option<&mut Option<EncryptionSettings>> {
        match &mut self.place {
            Place::Passphrase(given) => Some(&mut given.settings),
            Place::Kms(..) => None,
        }
    }
}

impl Advice {
    /// Adds to an error what people should know about what they gave.
    pub(crate) fn explain(self, error: CommandError) -> CommandError {
        if self.ends_with_newline { explain_newline(error) } else { error }
    }
}

/// Returns what opens an image, as far as something was given.
///
/// # Errors
///
/// When it does not fit together, or cannot be read.
pub(crate) fn opener<S: Side>(
    passphrase: Option<Source<'_>>,
    kms: &KmsArgs<S>,
    policy: &CostPolicy,
) -> Result<Option<GivenOpener>, CommandError> {
    let Some(place) = place(passphrase, kms, policy)? else { return Ok(None) };
    Ok(Some(match place {
        Place::Passphrase(given) => {
            let ends_with_newline = given.ends_with_newline();
            let opener = OwnedOpener::Passphrase(given.passphrase);
            GivenOpener { opener, advice: Advice { ends_with_newline } }
        }
        Place::Kms(provider, _) => {
            let opener =
                OwnedOpener::Kms { provider, envelope: kms.read_envelope()?.map(Box::new) };
            GivenOpener { opener, advice: Advice { ends_with_newline: false } }
        }
    }))
}

fn new_key<S: Side>(
    passphrase: Option<Source<'_>>,
    kms: &KmsArgs<S>,
    policy: &CostPolicy,
) -> Result<Option<GivenNewKey>, CommandError> {
    Ok(place(passphrase, kms, policy)?.map(|place| match place {
        Place::Passphrase(Given { passphrase, settings }) => {
            GivenNewKey { key: OwnedNewKey::Passphrase(passphrase), settings }
        }
        Place::Kms(provider, settings) => {
            let envelope_file = kms.envelope_file().map(ToOwned::to_owned);
            GivenNewKey { key: OwnedNewKey::Kms { provider, envelope_file }, settings }
        }
    }))
}

/// Returns the KMS that was named.
///
/// # Errors
///
/// When none was, what was said does not fit together, or it cannot be read.
pub(crate) fn provider<S: Side>(
    passphrase: Option<Source<'_>>,
    kms: &KmsArgs<S>,
    policy: &CostPolicy,
) -> Result<Box<dyn KeyProvider>, CommandError> {
    match place(passphrase, kms, policy)? {
        Some(Place::Kms(provider, _)) => Ok(provider),
        Some(Place::Passphrase(_)) | None => {
            Err(CommandError::request("a KMS is needed").hinted("name it with --kms"))
        }
    }
}

/// Joins what was said of passphrase and KMS.
fn place<S: Side>(
    source: Option<Source<'_>>,
    kms: &KmsArgs<S>,
    policy: &CostPolicy,
) -> Result<Option<Place>, CommandError> {
    place_of(kms.wanted()?, source, kms, policy)
}

fn place_of<S: Side>(
    wanted: Wanted,
    source: Option<Source<'_>>,
    kms: &KmsArgs<S>,
    policy: &CostPolicy,
) -> Result<Option<Place>, CommandError> {
    if let (Some(path), Wanted::Nothing | Wanted::Passphrase(_)) = (kms.envelope_file(), &wanted) {
        let problem = format!("no KMS was named for the envelope {}", path.display());
        return Err(CommandError::request(problem));
    }
    match (wanted, source) {
        (Wanted::Nothing, source) => {
            Ok(source.map(Source::read).transpose()?.map(Place::Passphrase))
        }
        (Wanted::Passphrase(_), Some(source)) => Ok(Some(Place::Passphrase(source.read()?))),
        (Wanted::Passphrase(class), None) => Err(CommandError::request(format!(
            "volumes of StorageClass {class} open with a passphrase, and none was given"
        ))
        .hinted("give its Secret with --secret-file")),
        (Wanted::Kms(request), source) => open(&request, source, kms, policy).map(Some),
    }
}

/// Opens the KMS that was named.
fn open<S: Side>(
    request: &KmsRequest,
    source: Option<Source<'_>>,
    kms: &KmsArgs<S>,
    policy: &CostPolicy,
) -> Result<Place, CommandError> {
    let kind = request.kind;
    let (credentials, settings) = match (kind, source) {
        (KmsKind::Passphrase, None) => {
            return Err(missing("the KMS of kind passphrase needs a passphrase", S::PREFIX));
        }
        (KmsKind::Passphrase, Some(source)) => {
            let Given { passphrase, settings } = source.read()?;
            let credentials = kms.credentials(kind, None)?;
            (Credentials { passphrase: Some(passphrase), ..credentials }, settings)
        }
        (KmsKind::Transit | KmsKind::Kmip, Some(Source::Secret(path))) => {
            (kms.credentials(kind, Some(path))?, None)
        }
        (_, Some(_)) => {
            let problem = format!("a KMS of kind {kind} takes no passphrase");
            return Err(CommandError::request(problem).hinted("leave one of them out"));
        }
        (_, None) => (kms.credentials(kind, None)?, None),
    };
    let limits = Limits { derivation: *policy, ..Limits::default() };
    let provider = strongroom_kms::open_within(request, credentials, &limits)
        .map_err(|error| CommandError::from(strongroom::Error::from(error)).naming(S::PREFIX))?;
    Ok(Place::Kms(provider, settings))
}

/// Returns what the catalog is to say of the encryption that the options for a KMS name.
fn encryption<S: Side>(kms: &KmsArgs<S>) -> Result<Option<VolumeEncryption>, CommandError> {
    Ok(match kms.wanted()? {
        Wanted::Nothing => None,
        Wanted::Passphrase(_) => Some(VolumeEncryption::Passphrase),
        Wanted::Kms(mut request) => {
            if let Some(path) = request.kek_file.take() {
                // Whoever attaches the volume may be in another directory.
                let absolute = std::path::absolute(&path).map_err(|source| {
                    CommandError::io(format!("cannot find {}", path.display()), source)
                })?;
                request.kek_file = Some(absolute);
            }
            Some(VolumeEncryption::Kms(request))
        }
    })
}

/// Refuses a file for the envelope of a volume.
fn refuse_envelope_file<S: Side>(kms: &KmsArgs<S>) -> Result<(), CommandError> {
    let Some(path) = kms.envelope_file() else { return Ok(()) };
    let problem = format!(
        "the envelope of a volume lies in its header and in the catalog, not in {}",
        path.display()
    );
    Err(CommandError::request(problem).hinted("leave the file out"))
}

fn missing(problem: &str, prefix: &str) -> CommandError {
    CommandError::request(problem).hinted(format!(
        "give one with --{prefix}passphrase-file, --{prefix}passphrase-fd, \
         --{prefix}passphrase-env or --{prefix}secret-file, or name a KMS with --{prefix}kms"
    ))
}
