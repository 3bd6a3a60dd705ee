//! Encrypted images from elsewhere: whether the Secret that is to open one does is seen once, when it has come,
//! and not when somebody needs it.

use std::time::{Duration, Instant};

use strongroom::ErrorKind;
use strongroom::audit::Act;
use strongroom::jobs::JobState;
use strongroom::library::Image;
use strongroom_model::dialect::admission::Known;
use strongroom_model::dialect::kubernetes::SecretReference;
use strongroom_model::dialect::longhorn::{BackingImage, ImageOrigin};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::super::events::Tone;
use super::super::queue::Next;
use super::super::task::{self, RETRY, Task};
use super::super::turn::{Trouble, Turn};
use super::super::virtual_machine_image;
use super::super::work::Run;
use super::pauses::Trial;
use super::{Standing, image_id, secret_version, show};
use crate::Error;

/// How it stands with the key of an image that is there.
pub(super) enum Proof {
    /// Nothing is to be proved: it is not encrypted, or was made here.
    Needless,
    /// No document says what opens it.
    Unnamed,
    /// This Secret opens it.
    Given(SecretReference),
    /// It is not known yet, or it does not: that was shown.
    Open(Next),
}

/// Sees to it that the Secret that is to open an image has been tried, and shows how that stands.
pub(super) fn of(
    turn: &Turn<'_>,
    document: &BackingImage,
    image: &Image,
) -> Result<Proof, Trouble> {
    let is_ours = !matches!(document.origin, ImageOrigin::Download { .. } | ImageOrigin::Upload);
    if is_ours {
        return Ok(Proof::Needless);
    }
    if image.encryption.is_none() {
        return match &document.secret {
            None => Ok(Proof::Needless),
            Some(secret) => refuse_plain(turn, secret),
        };
    }
    let Some(secret) = named(turn, turn.object, document)? else { return Ok(Proof::Unnamed) };
    if turn.object.text(&OPENED_BY) == Some(&*secret.to_string()) {
        return Ok(Proof::Given(secret));
    }
    let stamp = format!("{secret} {}", secret_version(turn, &secret)?);
    let job = task::carry_out(turn, Task::ProveKey, &stamp)?;
    let message = task::message(&job);
    let (state, reason) = match job.state {
        JobState::Done => {
            turn.set_status(&mut |object| object.set(&OPENED_BY, secret.to_string()))?;
            return Ok(Proof::Given(secret));
        }
        JobState::Failed | JobState::Cancelled => ("failed", UNPROVED),
        JobState::Pending | JobState::InProgress => ("in-progress", "ProvingKey"),
    };
    if state == "failed" && turn.object.text(&["status", "state"]) != Some(state) {
        turn.tell(Tone::Warning, reason, &message);
    }
    show(turn, &Standing { state, progress: 100, reason, message: &message })?;
    Ok(Proof::Open(Next::Settled))
}

/// Shows that an image which names a Secret is of no use, since it is not encrypted: whoever sees the Secret takes
/// the image for an encrypted one.
fn refuse_plain(turn: &Turn<'_>, secret: &SecretReference) -> Result<Proof, Trouble> {
    let message = format!(
        "what came is not encrypted, although the image names Secret {secret}: send it encrypted, or leave \
         spec.secret out and encrypt it by a second image of sourceType clone; delete this one first"
    );
    if turn.object.text(&["status", "state"]) != Some("failed") {
        turn.tell(Tone::Warning, NOT_ENCRYPTED, &message);
    }
    let standing =
        Standing { state: "failed", progress: 100, reason: NOT_ENCRYPTED, message: &message };
    show(turn, &standing)?;
    Ok(Proof::Open(Next::Settled))
}

/// Tries the Secret that is to open an image on it.
pub(in super::super) fn prove(run: &Run<'_>) -> Result<(), Trouble> {
    let document = BackingImage::try_from(run.object)?;
    let Some(secret) = named(&run.work.store, run.object, &document)? else { return Ok(()) };
    let image = format!("{}/{}", document.namespace, document.name);
    let trial = trial(run, &secret);
    let pauses = &run.work.pauses;
    pauses.begin(&trial, Instant::now()).map_err(|pause| paused(&trial, pause))?;
    let tried = open(run, &secret, &document, &image);
    // Any failure tells something of the Secret: a keyslot that costs too much, behind one that is a guess,
    // fails only where the guess was wrong.
    if matches!(tried, Ok(()) | Err(Trouble::Waiting(_))) {
        pauses.take_back(&trial, Instant::now());
    }
    tried
}

/// Opens a keyslot of an image with a Secret, and writes into the audit log whether it did.
fn open(
    run: &Run<'_>,
    secret: &SecretReference,
    document: &BackingImage,
    image: &str,
) -> Result<(), Trouble> {
    let held = run.work.keys.passphrase(secret, &format!("prove the key of image {image}"))?;
    let id = image_id(&document.uid)?;
    let (tried, verdict) =
        match run.with(|work| run.library().check_passphrase(&id, &held.passphrase, work)) {
            Err(Trouble::Failed(Error::Strongroom(error)))
                if error.kind() == ErrorKind::WrongPassphrase =>
            {
                let (secret, image) = (secret.to_string(), image.to_owned());
                (Err(Trouble::Failed(Error::KeyUnfit { secret, image })), "it opens none of")
            }
            Ok(()) => (Ok(()), "it opens one of"),
            Err(trouble) => (Err(trouble), "it could not be tried on all of"),
        };
    run.work.keys.audit.record(&Act {
        actor: run.work.keys.actor.clone(),
        verb: "prove-key".to_owned(),
        subject: format!("secrets {secret}"),
        detail: format!("{verdict} the keyslots of image {image}"),
    })?;
    tried
}

fn trial(run: &Run<'_>, secret: &SecretReference) -> Trial {
    let found = run.work.store.read(Resource::Secret, Some(&secret.namespace), &secret.name);
    let version = found.map(|found| found.resource_version().to_owned()).unwrap_or_default();
    let namespace = virtual_machine_image::namespace_of(run.object).to_owned();
    Trial { secret: secret.clone(), version, namespace }
}

fn paused(trial: &Trial, pause: Duration) -> Trouble {
    let message = format!(
        "Secret {} opened none of the last images of namespace {} that it was tried on: it can be tried \
         again in {} seconds (if nothing happens then, change the annotation {RETRY})",
        trial.secret,
        trial.namespace,
        pause.as_secs() + 1
    );
    Trouble::waiting("TooManyTries", message)
}

/// Returns the Secret that is to open an image which is encrypted: the one that it names, or that of the class
/// of the virtual machine image that it was made for.
fn named(
    known: &dyn Known,
    object: &Object,
    document: &BackingImage,
) -> Result<Option<SecretReference>, Trouble> {
    match document.key() {
        Some(secret) => Ok(Some(secret.clone())),
        None => virtual_machine_image::secret_for(known, object),
    }
}

/// Where the Secret is written down that has opened an image.
const OPENED_BY: [&str; 2] = ["status", "openedBy"];

/// The reason of an image that names a Secret and is not encrypted.
const NOT_ENCRYPTED: &str = "NotEncrypted";

/// The reason of an image whose Secret does not open it.
const UNPROVED: &str = "SecretMismatch";
