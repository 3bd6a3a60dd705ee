//! What opens an image, and what will open a new one: a passphrase, or a KMS.

use clap::Args;
use strongroom::{OwnedNewKey, OwnedOpener};
use strongroom_kms::KeyProvider;
use strongroom_model::{EncryptionSettings, KmsKind};

use crate::command_error::CommandError;
use crate::kms_arguments::{KmsArgs, New, Own, Side};
use crate::passphrases::{Given, NewPassphraseArgs, PassphraseArgs, explain_newline};

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

/// Where the key is.
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
    pub(crate) fn read(&self) -> Result<GivenOpener, CommandError> {
        match self.read_optional()? {
            Some(given) => Ok(given),
            None => Err(missing("a passphrase or a KMS is needed", "")),
        }
    }

    /// Reads what opens the image, when it was given.
    ///
    /// # Errors
    ///
    /// When it does not fit together, or cannot be read.
    pub(crate) fn read_optional(&self) -> Result<Option<GivenOpener>, CommandError> {
        opener(self.passphrase.read_optional()?, &self.kms)
    }

    /// Reads what will open a new image.
    ///
    /// # Errors
    ///
    /// When nothing was given, it does not fit together, or it cannot be read.
    pub(crate) fn read_new(&self) -> Result<GivenNewKey, CommandError> {
        match self.read_new_optional()? {
            Some(given) => Ok(given),
            None => Err(missing("a passphrase or a KMS is needed", "")),
        }
    }

    /// Reads what will open a new image, when it was given.
    ///
    /// # Errors
    ///
    /// When it does not fit together, or cannot be read.
    pub(crate) fn read_new_optional(&self) -> Result<Option<GivenNewKey>, CommandError> {
        new_key(self.passphrase.read_optional()?, &self.kms)
    }
}

impl NewKeyArgs {
    /// Reads what will open a new image.
    ///
    /// # Errors
    ///
    /// When nothing was given, it does not fit together, or it cannot be read.
    pub(crate) fn read(&self) -> Result<GivenNewKey, CommandError> {
        match new_key(self.passphrase.read_optional()?, &self.kms)? {
            Some(given) => Ok(given),
            None => Err(missing("a new passphrase or KMS is needed", "new-")),
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
    passphrase: Option<Given>,
    kms: &KmsArgs<S>,
) -> Result<Option<GivenOpener>, CommandError> {
    let Some(place) = place(passphrase, kms)? else { return Ok(None) };
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
    passphrase: Option<Given>,
    kms: &KmsArgs<S>,
) -> Result<Option<GivenNewKey>, CommandError> {
    Ok(place(passphrase, kms)?.map(|place| match place {
        Place::Passphrase(Given { passphrase, settings }) => {
            GivenNewKey { key: OwnedNewKey::Passphrase(passphrase), settings }
        }
        Place::Kms(provider, settings) => {
            let envelope_file = kms.envelope_file().map(ToOwned::to_owned);
            GivenNewKey { key: OwnedNewKey::Kms { provider, envelope_file }, settings }
        }
    }))
}

/// Joins what was said of passphrase and KMS.
fn place<S: Side>(given: Option<Given>, kms: &KmsArgs<S>) -> Result<Option<Place>, CommandError> {
    let problem = match (kms.kind(), &given) {
        (Some(KmsKind::Passphrase), None) => {
            "the KMS of kind passphrase needs a passphrase".to_owned()
        }
        (None | Some(KmsKind::Passphrase), _) | (Some(_), None) => String::new(),
        (Some(kind), Some(_)) => {
            format!("a KMS of kind {kind} takes no passphrase: leave one of them out")
        }
    };
    if !problem.is_empty() {
        return Err(CommandError::request(problem));
    }
    if kms.kind().is_some() {
        let (passphrase, settings) = match given {
            Some(Given { passphrase, settings }) => (Some(passphrase), settings),
            None => (None, None),
        };
        return Ok(kms.read(passphrase)?.map(|provider| Place::Kms(provider, settings)));
    }
    // Says what is missing, where options of a KMS were given without its kind.
    kms.request()?;
    if let Some(path) = kms.envelope_file() {
        let problem = format!("no KMS was named for the envelope {}", path.display());
        return Err(CommandError::request(problem));
    }
    Ok(given.map(Place::Passphrase))
}

fn missing(problem: &str, prefix: &str) -> CommandError {
    CommandError::request(problem).hinted(format!(
        "give one with --{prefix}passphrase-file, --{prefix}passphrase-fd, \
         --{prefix}passphrase-env or --{prefix}secret-file, or name a KMS with --{prefix}kms"
    ))
}
