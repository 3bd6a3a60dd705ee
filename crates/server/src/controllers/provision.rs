//! From documents to volumes: what a claim, or a volume applied by hand, asks for, and the job that makes
//! what cannot be made at once.

mod making;

pub(super) use making::{clear_outdated, make_volume, original_memory};

use std::collections::BTreeMap;
use std::sync::Arc;

use strongroom::library::{Image, ImageCondition, Library};
use strongroom::volumes::{NewVolume, Source, Volume, VolumeEncryption, VolumeProblem};
use strongroom_model::dialect::admission::{Known, backing_image_named};
use strongroom_model::dialect::kubernetes::{
    Claim, ClaimSource, SecretReference, StorageClass, VolumeMode,
};
use strongroom_model::dialect::longhorn::{BackingImage, LonghornVolume, VolumeDataSource};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::osc::Encryption;
use strongroom_model::dialect::resource::Resource;
use strongroom_model::dialect::{longhorn, volume_class::VolumeParameters};
use strongroom_model::{FileSystem, ImageId, SnapshotId, Tuning, VolumeId};

use super::backing_image::jobs::secret_of_volume;
use super::key_material::KeyMaterial;
use super::turn::Trouble;
use crate::store::Store;

/// A volume as documents ask for it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) new: NewVolume,
    /// The Secret that opens the volume.
    pub(super) secret: Option<SecretReference>,
    /// The image that it begins with.
    pub(super) image: Option<FromImage>,
    /// What it is a copy of.
    copied: Option<Copied>,
}

/// What a volume is a copy of: another volume, or a snapshot.
#[derive(Debug)]
struct Copied {
    source: Source,
    /// The Secret that opens it, where it is known.
    secret: Option<SecretReference>,
    keyslot: Keyslot,
}

/// The image that a volume begins with.
#[derive(Debug)]
pub(super) struct FromImage {
    id: ImageId,
    /// How people call it.
    label: String,
    is_encrypted: bool,
    /// The Secret that opens it, where it is known.
    secret: Option<SecretReference>,
    keyslot: Keyslot,
}

/// What opens a volume that is made of what is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyslot {
    /// What opens the original.
    OfOriginal,
    /// A key of its own, and no other.
    Own,
}

/// What plans are made with.
#[derive(Clone, Copy)]
pub(super) struct Planner<'a> {
    pub(super) known: &'a dyn Known,
    pub(super) library: &'a Library,
    pub(super) keys: &'a KeyMaterial,
}

impl Plan {
    /// Returns whether the volume is nothing but room, which is there at once.
    pub(super) fn is_made_at_once(&self) -> bool {
        self.image.is_none() && self.new.source.is_none()
    }

    /// Returns the Secrets that it takes to make the volume.
    fn secrets(&self) -> impl Iterator<Item = &SecretReference> {
        let of_image = self.image.as_ref().and_then(|image| image.secret.as_ref());
        let of_copied = self.copied.as_ref().and_then(|copied| copied.secret.as_ref());
        self.secret.iter().chain(of_image).chain(of_copied)
    }

    /// Returns what the making of the volume depends on: when it has failed, and one of them is another by
    /// now, it is worth another try.
    pub(super) fn stamp(&self, known: &dyn Known) -> String {
        let keyslot = self.image.as_ref().map(|image| image.keyslot);
        let keyslot = keyslot.or(self.copied.as_ref().map(|copied| copied.keyslot));
        let mut stamp = format!("{} {keyslot:?}", self.new.size);
        for secret in self.secrets() {
            let found = known.object(Resource::Secret, Some(&secret.namespace), &secret.name);
            stamp.push(' ');
            stamp.push_str(found.as_ref().map_or("-", |found| found.resource_version()));
        }
        stamp
    }
}

impl Planner<'_> {
    /// Returns the class of a claim.
    ///
    /// # Errors
    ///
    /// [`Trouble::Waiting`] when there is none.
    pub(super) fn class_of(&self, claim: &Claim) -> Result<StorageClass, Trouble> {
        match claim.storage_class.as_deref() {
            Some("") => Err(Trouble::waiting(
                "NoStorageClass",
                "the claim asks for no class: name a PersistentVolume in spec.volumeName",
            )),
            Some(name) => {
                let found = self.known.object(Resource::StorageClass, None, name);
                let object = found.ok_or_else(|| {
                    let message =
                        format!("StorageClass {name} is not there: it goes on once it is");
                    Trouble::waiting("StorageClassMissing", message)
                })?;
                Ok(StorageClass::try_from(&*object)?)
            }
            None => {
                let classes = self.known.objects(Resource::StorageClass, None);
                let mut classes =
                    classes.iter().filter_map(|object| StorageClass::try_from(&**object).ok());
                classes.find(|class| class.is_default).ok_or_else(|| {
                    let message = "the claim names no StorageClass, and none is the default: name \
                                   one, or annotate one with \
                                   storageclass.kubernetes.io/is-default-class: \"true\"";
                    Trouble::waiting("NoDefaultStorageClass", message)
                })
            }
        }
    }

    /// Returns the volume that a claim asks for.
    ///
    /// # Errors
    ///
    /// [`Trouble::Waiting`] when something is missing or does not fit.
    pub(super) fn of_claim(
        &self,
        object: &Object,
        claim: &Claim,
        class: &StorageClass,
    ) -> Result<Plan, Trouble> {
        let id: VolumeId = identifier(&claim.provisioned_name())?;
        let parameters = class.volume_parameters()?;
        let secret = class.volume_secret(&claim.template_values(id.as_str()))?;
        let file_system = match claim.mode {
            VolumeMode::Block => None,
            VolumeMode::Filesystem => Some(parameters.file_system.unwrap_or_default()),
        };
        let keyslot = keyslot(object);
        let copied = match &claim.source {
            Some(source) => Some(self.source(&claim.namespace, source, keyslot)?),
            None => None,
        };
        let new = NewVolume {
            id,
            size: rounded(claim.size.max(least_size(file_system))),
            encryption: encryption_of(&parameters),
            tuning: parameters.tuning,
            source: copied.as_ref().map(|copied| copied.source.clone()),
            parameters: recorded(parameters.others, file_system, &claim.uid),
        };
        let image = match class.backing_image()? {
            Some(_) if new.source.is_some() => None,
            Some(image) => {
                let own = Some(claim.namespace.as_str());
                let found = backing_image_named(&image.name, own, self.known);
                Some(self.image(&image.name, found, keyslot)?)
            }
            None => None,
        };
        self.check(Plan { new, secret, image, copied })
    }

    /// Returns the volume that was applied by hand.
    ///
    /// # Errors
    ///
    /// [`Trouble::Waiting`] when something is missing or does not fit.
    pub(super) fn of_volume(
        &self,
        object: &Object,
        volume: &LonghornVolume,
    ) -> Result<Plan, Trouble> {
        if volume.from_backup.is_some() {
            let message = "volumes cannot be restored from backups yet: leave spec.fromBackup out";
            return Err(Trouble::waiting("NotSupported", message));
        }
        let source = match &volume.data_source {
            None => None,
            Some(VolumeDataSource::Volume(name)) => Some(Source::Volume(identifier(name)?)),
            Some(VolumeDataSource::Snapshot { snapshot, .. }) => {
                let id: SnapshotId = snapshot.parse().map_err(|error| invalid(&error))?;
                Some(Source::Snapshot(id))
            }
        };
        let (encryption, secret) = match &volume.encryption {
            longhorn::VolumeEncryption::Plain => (VolumeEncryption::None, None),
            longhorn::VolumeEncryption::Encrypted { secret } => {
                (VolumeEncryption::Passphrase, Some(secret.clone()))
            }
        };
        let image = match &volume.backing_image {
            Some(name) => {
                let own = Some(volume.namespace.as_str());
                let own = self.known.object(Resource::BackingImage, own, name);
                let found = own.or_else(|| backing_image_named(name, None, self.known));
                Some(self.image(name, found, keyslot(object))?)
            }
            None => None,
        };
        let new = NewVolume {
            id: identifier(&volume.name)?,
            size: rounded(volume.size),
            encryption,
            tuning: Tuning::default(),
            source: source.clone(),
            parameters: recorded(BTreeMap::new(), None, &volume.uid),
        };
        let copied = source.map(|source| {
            let secret = match &source {
                Source::Volume(id) => secret_of_volume(self.known, id.as_str()),
                Source::Snapshot(_) => None,
            };
            Copied { source, secret, keyslot: keyslot(object) }
        });
        self.check(Plan { new, secret, image, copied })
    }

    /// Returns the volume or snapshot that a claim begins with.
    fn source(
        &self,
        namespace: &str,
        source: &ClaimSource,
        keyslot: Keyslot,
    ) -> Result<Copied, Trouble> {
        match source {
            ClaimSource::Claim(name) => {
                let id = bound_volume(self.known, namespace, name)?;
                let secret = secret_of_volume(self.known, id.as_str());
                Ok(Copied { source: Source::Volume(id), secret, keyslot })
            }
            ClaimSource::Snapshot(name) => {
                let found = self.known.object(Resource::VolumeSnapshot, Some(namespace), name);
                let ready = found.filter(|found| {
                    found.at(&["status", "readyToUse"]) == Some(&serde_json::Value::Bool(true))
                });
                let object = ready.ok_or_else(|| {
                    let message = format!("VolumeSnapshot {namespace}/{name} is not ready to use");
                    Trouble::waiting("SourceNotReady", message)
                })?;
                let id = super::snapshot::id_of(&object)?;
                let secret = super::snapshot::secret_of(&object);
                Ok(Copied { source: Source::Snapshot(id), secret, keyslot })
            }
        }
    }

    /// Returns what is known of an image.
    fn image(
        &self,
        name: &str,
        found: Option<Arc<Object>>,
        keyslot: Keyslot,
    ) -> Result<FromImage, Trouble> {
        let object = found.ok_or_else(|| {
            let message = format!(
                "BackingImage {name} is neither in {LONGHORN} nor in the namespace of who names it: \
                 it goes on once it is"
            );
            Trouble::waiting("ImageMissing", message)
        })?;
        let document = BackingImage::try_from(&*object)?;
        let label = format!("{}/{name}", document.namespace);
        let image = ready_image(self.library, &object, &label)?;
        Ok(FromImage {
            is_encrypted: image.encryption.is_some(),
            id: image.id,
            secret: document.key().cloned(),
            keyslot,
            label,
        })
    }

    /// Refuses what would make a volume that nobody can open.
    fn check(&self, plan: Plan) -> Result<Plan, Trouble> {
        let Plan { new, secret, image, copied } = &plan;
        for secret in plan.secrets() {
            // Whoever waits for it is woken when it comes.
            self.known.object(Resource::Secret, Some(&secret.namespace), &secret.name);
        }
        let Some(image) = image else {
            self.keys.check(&new.encryption, secret.as_ref())?;
            if let Some(copied) = copied.as_ref().filter(|_| new.encryption.is_encrypted()) {
                let what = copied.source.to_string();
                self.check_same_key(
                    new,
                    secret.as_ref(),
                    (&what, copied.secret.as_ref()),
                    copied.keyslot,
                )?;
            }
            return Ok(plan);
        };
        let len = self.library.image(&image.id)?.virtual_len;
        if new.size < len {
            let message = format!(
                "volume size should be larger than the backing image size: image {} has {len} \
                 bytes, and the volume would have {}",
                image.label, new.size
            );
            return Err(Trouble::waiting("SizeTooSmall", message));
        }
        if image.is_encrypted && new.encryption == VolumeEncryption::None {
            let message = format!(
                "image {} is encrypted{}, and the volume is not to be: use a class that is \
                 encrypted with the same Secret, or decrypt the image first",
                image.label,
                with(image.secret.as_ref()),
            );
            return Err(Trouble::waiting("EncryptionMismatch", message));
        }
        self.keys.check(&new.encryption, secret.as_ref())?;
        if image.is_encrypted {
            let what = format!("image {}", image.label);
            let original = (what.as_str(), image.secret.as_ref());
            self.check_same_key(new, secret.as_ref(), original, image.keyslot)?;
        }
        Ok(plan)
    }

    /// Refuses an encrypted original, with what opens it, for a volume with another key.
    fn check_same_key(
        &self,
        new: &NewVolume,
        secret: Option<&SecretReference>,
        (what, opened_by): (&str, Option<&SecretReference>),
        keyslot: Keyslot,
    ) -> Result<(), Trouble> {
        let is_same = match (&new.encryption, opened_by, secret) {
            _ if keyslot == Keyslot::Own => true,
            // Whether a copy of a volume has the same KMS is compared where it is copied.
            (VolumeEncryption::Kms(_), ..) => new.source.is_some(),
            (_, Some(one), Some(other)) => self.keys.is_same_passphrase(one, other),
            // Whether it opens the image is seen when it is tried.
            _ => true,
        };
        if is_same {
            return Ok(());
        }
        let message = format!(
            "{what} is encrypted{}, and the volume is to be opened{}, which is not known to be the same \
             key: name the same Secret, or annotate the claim with {}: \"true\" to give the volume a \
             keyslot of its own",
            with(opened_by),
            match &new.encryption {
                VolumeEncryption::Kms(request) => format!(" by a KMS ({})", request.kind),
                _ => with(secret),
            },
            Claim::OWN_KEYSLOT,
        );
        Err(Trouble::waiting("SecretMismatch", message))
    }
}

/// Returns the Secret with which a job makes a volume, for the memory that it needs.
pub(super) fn secret_of(store: &Store, object: &Object) -> Option<SecretReference> {
    match object.resource()? {
        Resource::LonghornVolume => match LonghornVolume::try_from(object).ok()?.encryption {
            longhorn::VolumeEncryption::Encrypted { secret } => Some(secret),
            longhorn::VolumeEncryption::Plain => None,
        },
        Resource::PersistentVolumeClaim => {
            let claim = Claim::try_from(object).ok()?;
            let class =
                store.object(Resource::StorageClass, None, claim.storage_class.as_deref()?)?;
            let class = StorageClass::try_from(&*class).ok()?;
            class.volume_secret(&claim.template_values(&claim.provisioned_name())).ok()?
        }
        _ => None,
    }
}

/// Returns an image that can be used.
///
/// # Errors
///
/// [`Trouble::Waiting`] when it cannot yet.
pub(super) fn ready_image(
    library: &Library,
    document: &Object,
    label: &str,
) -> Result<Image, Trouble> {
    let id: ImageId = document.uid().parse().map_err(|error| invalid(&error))?;
    match document.text(&["status", "state"]) {
        Some("failed") => return Err(source_failed(document, label)),
        // Its bytes may be there before it is known that its Secret opens them.
        Some("ready") => {}
        _ => return Err(not_ready(label)),
    }
    match library.image(&id) {
        Ok(image) if image.condition == ImageCondition::Ready => Ok(image),
        Ok(_) => Err(not_ready(label)),
        Err(error) if error.kind() == strongroom::ErrorKind::NotFound => Err(not_ready(label)),
        Err(error) => Err(error.into()),
    }
}

/// Returns the volume that a claim is bound to.
///
/// # Errors
///
/// [`Trouble::Waiting`] when it is not, or not there.
pub(crate) fn bound_volume(
    known: &dyn Known,
    namespace: &str,
    name: &str,
) -> Result<VolumeId, Trouble> {
    let waiting = |problem: &str| {
        let message = format!("claim {namespace}/{name} {problem}");
        Trouble::waiting("SourceNotReady", message)
    };
    let found = known.object(Resource::PersistentVolumeClaim, Some(namespace), name);
    let claim = found.ok_or_else(|| waiting("is not there: it goes on once it is"))?;
    let volume = claim.text(&["spec", "volumeName"]).filter(|_| is_bound(&claim));
    let volume = volume.ok_or_else(|| waiting("is not bound to a volume yet"))?;
    let volume = known.object(Resource::PersistentVolume, None, volume);
    let volume = volume.ok_or_else(|| waiting("has lost its PersistentVolume"))?;
    if !names(&volume, &claim) {
        return Err(waiting("names a PersistentVolume that is not bound to it"));
    }
    identifier(volume.text(&["spec", "csi", "volumeHandle"]).unwrap_or_default())
}

/// Returns whether a PersistentVolume says that it is bound to this claim. What the claim says proves nothing:
/// whoever writes claims could name any volume.
pub(super) fn names(volume: &Object, claim: &Object) -> bool {
    let uid = volume.text(&["spec", "claimRef", "uid"]);
    !claim.uid().is_empty() && uid == Some(claim.uid())
}

/// Returns whether a claim is bound.
pub(super) fn is_bound(claim: &Object) -> bool {
    claim.text(&["status", "phase"]) == Some("Bound")
}

/// Returns a volume that a document has made; `None` when it is not there.
///
/// # Errors
///
/// [`Trouble::Waiting`] when it is another document's.
pub(super) fn of_owner(
    found: strongroom::Result<Volume>,
    uid: &str,
) -> Result<Option<Volume>, Trouble> {
    match found {
        Ok(volume) if volume.parameters.get(OWNER).map(String::as_str) == Some(uid) => {
            Ok(Some(volume))
        }
        Ok(volume) => {
            let message = format!(
                "there is a volume {} already, which was not made for this document: choose \
                 another name",
                volume.id
            );
            Err(Trouble::waiting("NameTaken", message))
        }
        Err(strongroom::Error::Volume { problem, .. }) if *problem == VolumeProblem::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns a size as volumes have it: whole units of 2 MiB, as Longhorn's.
pub(super) fn rounded(size: u64) -> u64 {
    size.max(1).checked_next_multiple_of(UNIT).unwrap_or(size)
}

/// Returns an identifier of a volume.
pub(super) fn identifier(name: &str) -> Result<VolumeId, Trouble> {
    name.parse().map_err(|error| invalid(&error))
}

fn invalid(error: &strongroom_model::Error) -> Trouble {
    Trouble::waiting("Invalid", error.to_string())
}

fn not_ready(label: &str) -> Trouble {
    Trouble::waiting("ImageNotReady", format!("image {label} is not ready: it goes on once it is"))
}

/// Says that what somebody waits for has failed, and why.
pub(super) fn source_failed(document: &Object, label: &str) -> Trouble {
    let why = match document.text(&["status", "message"]) {
        Some(message) if !message.is_empty() => format!(": {message}"),
        _ => String::new(),
    };
    let message = format!(
        "source image {label} failed{why}; it goes on by itself once that image is ready, or another one \
         of that name is"
    );
    Trouble::waiting("SourceFailed", message)
}

fn with(secret: Option<&SecretReference>) -> String {
    secret.map_or_else(String::new, |secret| format!(" with Secret {secret}"))
}

/// Returns whether a document asks for a volume that the key of the original does not open.
fn keyslot(object: &Object) -> Keyslot {
    match object.annotation(Claim::OWN_KEYSLOT) {
        Some("true") => Keyslot::Own,
        _ => Keyslot::OfOriginal,
    }
}

fn encryption_of(parameters: &VolumeParameters) -> VolumeEncryption {
    match &parameters.encryption {
        Encryption::None => VolumeEncryption::None,
        Encryption::Passphrase => VolumeEncryption::Passphrase,
        Encryption::Kms(request) => VolumeEncryption::Kms(request.clone()),
    }
}

/// Returns the smallest volume that a file system fits into, in bytes.
fn least_size(file_system: Option<FileSystem>) -> u64 {
    match file_system {
        None => 1,
        Some(FileSystem::Ext4) => 8 << 20,
        // What mkfs.xfs makes at least.
        Some(FileSystem::Xfs) => 300 << 20,
    }
}

/// Returns what is remembered about a volume besides.
fn recorded(
    mut others: BTreeMap<String, String>,
    file_system: Option<FileSystem>,
    uid: &str,
) -> BTreeMap<String, String> {
    if let Some(file_system) = file_system {
        others.insert(FILE_SYSTEM.to_owned(), file_system.to_string());
    }
    others.insert(OWNER.to_owned(), uid.to_owned());
    others
}

/// Where Longhorn keeps its images, and whoever uses them looks first.
pub(super) const LONGHORN: &str = "longhorn-system";

/// The parameter of a volume with the UID of the document that it was made for: nobody else deletes it.
pub(super) const OWNER: &str = "strongroom.io/owner";

/// Under this name the file system is recorded that a volume will get when it is formatted.
const FILE_SYSTEM: &str = "fsType";

/// The unit of sizes.
const UNIT: u64 = 2 << 20;
