//! Images: fetched, cloned, exported from volumes, or waited for until somebody uploads them.

pub(super) mod jobs;
pub(super) mod pauses;
pub(super) mod proof;

use serde_json::json;
use strongroom::jobs::{Job, JobState};
use strongroom::library::{Image, ImageCondition};
use strongroom_model::ImageId;
use strongroom_model::dialect::kubernetes::SecretReference;
use strongroom_model::dialect::longhorn::{BackingImage, CloneEncryption, ImageOrigin};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use self::proof::Proof;
use super::events::Tone;
use super::moments::{self, Truth};
use super::provision;
use super::queue::Next;
use super::task::{self, Task};
use super::turn::{Obstacle, Trouble, Turn};
use crate::store::Part;

/// Makes or deletes the bytes of an image, and shows how it stands.
pub(super) fn reconcile(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if turn.object.is_being_deleted() {
        return delete(turn);
    }
    let done = BackingImage::try_from(turn.object)
        .map_err(Trouble::from)
        .and_then(|image| make(turn, &image));
    match &done {
        Err(Trouble::Waiting(Obstacle { message, reason })) => {
            let state = match *reason {
                "Invalid" | "NotSupported" => "failed",
                _ => "pending",
            };
            show(turn, &Standing { state, progress: 0, reason, message })?;
        }
        Err(Trouble::Failed(error)) => turn.show_failure(READY, error)?,
        Ok(_) => {}
    }
    done
}

fn make(turn: &Turn<'_>, document: &BackingImage) -> Result<Next, Trouble> {
    if let ImageOrigin::Restore { .. } = document.origin {
        let message = "images cannot be restored from backups yet: download it, or upload it";
        return Err(Trouble::waiting("NotSupported", message));
    }
    turn.hold()?;
    if let Some(image) = found(turn, document)?
        && image.condition == ImageCondition::Ready
    {
        return ready(turn, document, &image);
    }
    let (task, stamp) = match &document.origin {
        ImageOrigin::Upload => return await_upload(turn),
        ImageOrigin::Download { .. } => (Task::DownloadImage, String::new()),
        ImageOrigin::Clone { source, encryption } => {
            let stamp = prepare_clone(turn, document, source, encryption)?;
            (Task::CloneImage, stamp)
        }
        ImageOrigin::Volume { name, encryption, .. } => {
            (Task::ExportImage, prepare_export(turn, name, encryption)?)
        }
        ImageOrigin::Restore { .. } => return Ok(Next::Settled),
    };
    let job = task::carry_out(turn, task, &stamp)?;
    if job.state == JobState::Done {
        let image = found(turn, document)?.filter(|image| image.condition == ImageCondition::Ready);
        return match image {
            Some(image) => ready(turn, document, &image),
            // Somebody has deleted it below us: it is made anew.
            None => {
                task::give_up(turn, task)?;
                Err(Trouble::waiting("ImageGone", "its bytes are gone: it is made anew"))
            }
        };
    }
    show_job(turn, &job)?;
    Ok(Next::Settled)
}

/// Waits until a clone can begin. Returns what it depends on.
fn prepare_clone(
    turn: &Turn<'_>,
    document: &BackingImage,
    source: &str,
    encryption: &CloneEncryption,
) -> Result<String, Trouble> {
    let namespace = document.namespace.as_str();
    let label = format!("{namespace}/{source}");
    let found = turn.read(Resource::BackingImage, Some(namespace), source).ok_or_else(|| {
        let message = format!("image {label} is not there: it goes on once it is");
        Trouble::waiting("ImageMissing", message)
    })?;
    let from = BackingImage::try_from(&*found)?;
    provision::ready_image(&turn.context().library, &found, &label)?;
    // The only mark of an encrypted image that others look at, as in Longhorn.
    let opens_it = match encryption {
        CloneEncryption::Encrypt { secret } => Some(secret),
        CloneEncryption::Ignore => from.secret.as_ref(),
        CloneEncryption::Decrypt { .. } => None,
    };
    note_secret(turn, document, opens_it)?;
    match encryption.secret() {
        Some(secret) => {
            let version = secret_version(turn, secret)?;
            Ok(format!("{} {version}", found.uid()))
        }
        None => Ok(found.uid().to_owned()),
    }
}

/// Waits until an export can begin. Returns what it depends on.
fn prepare_export(
    turn: &Turn<'_>,
    name: &str,
    encryption: &CloneEncryption,
) -> Result<String, Trouble> {
    // Whoever makes it later is waited for: it may be a claim's, or one applied by hand.
    turn.read(Resource::PersistentVolume, None, name);
    turn.read(Resource::LonghornVolume, turn.object.namespace(), name);
    turn.context().volumes.volume(&provision::identifier(name)?).map_err(|error| {
        match error.kind() {
            strongroom::ErrorKind::NotFound => {
                let message = format!("volume {name} is not there: it goes on once it is");
                Trouble::waiting("VolumeMissing", message)
            }
            _ => error.into(),
        }
    })?;
    match encryption.secret() {
        Some(secret) => secret_version(turn, secret),
        None => Ok(String::new()),
    }
}

/// Returns which version of a Secret there is.
fn secret_version(turn: &Turn<'_>, secret: &SecretReference) -> Result<String, Trouble> {
    let found = turn.read(Resource::Secret, Some(&secret.namespace), &secret.name);
    let found = found.ok_or_else(|| {
        let message = format!("Secret {secret} is not there: it goes on once it is");
        Trouble::waiting("SecretMissing", message)
    })?;
    Ok(found.resource_version().to_owned())
}

/// Writes down what opens the image, where that is not so yet.
fn note_secret(
    turn: &Turn<'_>,
    document: &BackingImage,
    secret: Option<&SecretReference>,
) -> Result<(), Trouble> {
    let Some(secret) = secret.filter(|_| document.secret.is_none()) else { return Ok(()) };
    turn.edit(Part::Document, &mut |object| {
        object.set(&["spec", "secret"], secret.name.as_str());
        object.set(&["spec", "secretNamespace"], secret.namespace.as_str());
    })?;
    Ok(())
}

/// Shows how much of an upload has come, which `transfer` writes down.
fn await_upload(turn: &Turn<'_>) -> Result<Next, Trouble> {
    let shown = turn.object.text(&["status", "state"]);
    if matches!(shown, Some("in-progress" | "failed")) {
        return Ok(Next::Settled);
    }
    let (namespace, name) = (turn.object.namespace().unwrap_or_default(), turn.object.name());
    let message = format!("PUT its bytes to /v1/images/{namespace}/{name}/data");
    show(
        turn,
        &Standing { state: "pending", progress: 0, reason: "AwaitingUpload", message: &message },
    )?;
    Ok(Next::Settled)
}

fn delete(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if !turn.is_held() {
        return Ok(Next::Settled);
    }
    for task in [Task::DownloadImage, Task::CloneImage, Task::ExportImage, Task::ProveKey] {
        task::give_up(turn, task)?;
    }
    let id = image_id(turn.object.uid())?;
    turn.audit("delete", &format!("image {id}: its bytes"))?;
    let context = turn.context();
    context.library.delete(&id)?;
    context.library.clear_export(&id, &context.volumes)?;
    turn.release()?;
    Ok(Next::Settled)
}

/// Returns the image in the library, `None` when there is none.
fn found(turn: &Turn<'_>, document: &BackingImage) -> Result<Option<Image>, Trouble> {
    match turn.context().library.image(&image_id(&document.uid)?) {
        Ok(image) => Ok(Some(image)),
        Err(error) if error.kind() == strongroom::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns under which identifier an image is in the library.
pub(super) fn image_id(uid: &str) -> Result<ImageId, Trouble> {
    uid.parse()
        .map_err(|error: strongroom_model::Error| Trouble::waiting("Invalid", error.to_string()))
}

fn ready(turn: &Turn<'_>, document: &BackingImage, image: &Image) -> Result<Next, Trouble> {
    let proof = proof::of(turn, document, image)?;
    if let Proof::Open(next) = proof {
        return Ok(next);
    }
    if turn.object.text(&["status", "state"]) == Some("ready") {
        return Ok(Next::Settled);
    }
    let opened_by = match (&proof, &document.origin) {
        (Proof::Given(secret), _) => Some(secret.clone()),
        (_, ImageOrigin::Volume { name, .. }) if image.encryption.is_some() => {
            jobs::secret_of_volume(turn, name)
        }
        _ => None,
    };
    note_secret(turn, document, opened_by.as_ref())?;
    turn.set_status(&mut |object| {
        object.set(&["status", "size"], image.len);
        object.set(&["status", "virtualSize"], image.virtual_len);
        object.set(&["status", "realSize"], image.real_len);
        object.set(&["status", "format"], image.format.as_str());
        object.set(&["status", "encrypted"], image.encryption.is_some());
        if let Some(checksum) = &image.checksum {
            object.set(&["status", "checksum"], checksum.as_str());
        }
    })?;
    let note = key_note(image, &proof);
    show(turn, &Standing { state: "ready", progress: 100, reason: "Ready", message: &note })?;
    let kind = match &image.encryption {
        Some(encryption) => format!("encrypted ({})", encryption.cipher),
        None => "not encrypted".to_owned(),
    };
    let message = format!("{} bytes of {}, {kind}", image.len, image.format);
    turn.tell(Tone::Normal, "ImageReady", &message);
    if !note.is_empty() {
        turn.tell(Tone::Warning, "KeyUnknown", &note);
    }
    Ok(Next::Settled)
}

/// Returns what somebody should know about the key of an image that is ready.
fn key_note(image: &Image, proof: &Proof) -> String {
    let Some(encryption) = &image.encryption else { return String::new() };
    match proof {
        Proof::Unnamed => format!(
            "it is encrypted ({}, LUKS UUID {}) and names no Secret: the passphrase that opens it is wanted \
             when it is used, so set spec.secret and spec.secretNamespace to the Secret with it",
            encryption.cipher, encryption.uuid
        ),
        _ => String::new(),
    }
}

fn show_job(turn: &Turn<'_>, job: &Job) -> Result<(), Trouble> {
    let message = task::message(job);
    let state = match job.state {
        JobState::Pending if job.attempts == 0 => "starting",
        JobState::Pending => "pending",
        JobState::InProgress | JobState::Done => "in-progress",
        JobState::Failed | JobState::Cancelled => "failed",
    };
    let reason = match job.state {
        JobState::Failed | JobState::Cancelled => "JobFailed",
        _ => "Working",
    };
    if state == "failed" && turn.object.text(&["status", "state"]) != Some("failed") {
        turn.tell(Tone::Warning, reason, &message);
    } else if job.state == JobState::Pending && job.message.is_some() {
        turn.tell(Tone::Warning, "JobRetried", &message);
    }
    show(turn, &Standing { state, progress: job.percent(), reason, message: &message })
}

/// How an image stands.
struct Standing<'a> {
    /// In Longhorn's words.
    state: &'a str,
    progress: u8,
    reason: &'a str,
    message: &'a str,
}

/// Writes down how an image stands: for its one disk, as Longhorn does, and in plain words.
fn show(turn: &Turn<'_>, standing: &Standing<'_>) -> Result<(), Trouble> {
    let Standing { state, progress, reason, message } = *standing;
    let uid = turn.object.uid();
    turn.set_status(&mut |object| {
        object.set(&["status", "uuid"], uid);
        object.set(&["status", "try"], turn.object.annotation(task::RETRY).unwrap_or_default());
        set_standing(object, state, progress, message);
        let truth = match state {
            "ready" => Truth::True,
            _ => Truth::False,
        };
        moments::set_condition(object, READY, truth, reason, message);
    })?;
    Ok(())
}

/// Sets how an image stands: as a whole, and on its one disk.
pub(super) fn set_standing(object: &mut Object, state: &str, progress: u8, message: &str) {
    let same = object.text(&["status", "diskFileStatusMap", DISK, "state"]) == Some(state);
    let since = ["status", "diskFileStatusMap", DISK, "lastStateTransitionTime"];
    let since = object.text(&since).filter(|_| same).map_or_else(moments::now, str::to_owned);
    object.set(&["status", "state"], state);
    object.set(&["status", "progress"], progress);
    object.set(&["status", "message"], message);
    object.set(
        &["status", "diskFileStatusMap", DISK],
        json!({
            "dataEngine": "v1",
            "state": state,
            "progress": progress,
            "message": message,
            "lastStateTransitionTime": since,
        }),
    );
}

/// The condition that tells whether an image can be used.
const READY: &str = "Ready";

/// What the one disk is called where Longhorn would name several.
const DISK: &str = "pool";
