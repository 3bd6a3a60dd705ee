//! Who uses a document, and would be left without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::keys::backing_image_named;
use super::{Known, Reason, Refused};
use crate::dialect::harvester::{VirtualMachineImage, VirtualMachineImageOrigin};
use crate::dialect::kubernetes::{
    Claim, ClaimSource, PersistentVolume, SecretReference, SecretUse, StorageClass, VolumeSnapshot,
};
use crate::dialect::kubevirt::VirtualMachine;
use crate::dialect::longhorn::{BackingImage, ImageOrigin, LonghornVolume, VolumeEncryption};
use crate::dialect::object::Object;
use crate::dialect::resource::Resource;

/// Refuses to delete what somebody uses.
///
/// # Errors
///
/// A refusal of the reason [`Reason::InUse`] that names everybody who does.
pub fn refuse_deletion(object: &Object, known: &dyn Known) -> Result<(), Refused> {
    let users = users(object, known);
    if users.is_empty() {
        return Ok(());
    }
    let (name, all) = (object.name(), users.join(", "));
    let message = match object.resource() {
        Some(Resource::Secret) => {
            let classes = "StorageClass ";
            let is_class = |user: &String| user.starts_with(classes);
            match users.iter().all(is_class) {
                true => format!(
                    "Secret is used by encrypted storage classes: [{}]",
                    all.replace(classes, "")
                ),
                false => format!(
                    "Secret is used by {all}: what was encrypted with it could not be opened any more"
                ),
            }
        }
        Some(Resource::BackingImage) => {
            format!("cannot delete backing image {name} since there are replicas using it: {all}")
        }
        Some(resource) => format!("{} {name} is used by {all}", resource.kind()),
        None => format!("it is used by {all}"),
    };
    Err(Refused::one(&[], Reason::InUse, message))
}

/// Returns who uses a document, as `Kind NAMESPACE/NAME` each, in their order.
pub fn users(object: &Object, known: &dyn Known) -> Vec<String> {
    match object.resource() {
        Some(Resource::Secret) => {
            let mut users = users_of_value(object, known);
            let secret = reference(object);
            for class in known.objects(Resource::StorageClass, None) {
                let view = StorageClass::try_from(&*class);
                if view.is_ok_and(|view| view.fixed_secrets().contains(&secret)) {
                    users.push(format!("{class:?}"));
                }
            }
            users
        }
        Some(Resource::StorageClass) => users_of_class(object.name(), known),
        Some(Resource::BackingImage) => users_of_image(object, known),
        Some(Resource::PersistentVolumeClaim) => users_of_claim(object, known),
        Some(Resource::LonghornVolume) => users_of_volume(object, known),
        Some(Resource::VirtualMachineImage) => users_of_machine_image(object, known),
        Some(Resource::VolumeSnapshotClass) => {
            // It says what becomes of their data.
            let mut users = Vec::new();
            collect(&mut users, known, Resource::VolumeSnapshot, |snapshot: VolumeSnapshot| {
                snapshot.class.as_deref() == Some(object.name())
            });
            users
        }
        _ => Vec::new(),
    }
}

/// Returns whose contents the passphrase of a Secret opens: images, snapshots, and volumes in any form.
pub(super) fn users_of_value(object: &Object, known: &dyn Known) -> Vec<String> {
    let secret = reference(object);
    let mut users = Vec::new();
    collect(&mut users, known, Resource::BackingImage, |image: BackingImage| {
        image.secret.as_ref() == Some(&secret)
            || origin_secret(&image.origin) == Some(&secret) && image.key().is_some()
    });
    for image in known.objects(Resource::BackingImage, None) {
        // One that is being decrypted needs the Secret until it is done.
        let decrypts = |view: BackingImage| {
            origin_secret(&view.origin) == Some(&secret)
                && view.key().is_none()
                && !is_ready(&image)
        };
        if BackingImage::try_from(&*image).is_ok_and(decrypts) {
            users.push(format!("{image:?}"));
        }
    }
    collect(
        &mut users,
        known,
        Resource::LonghornVolume,
        // One that stands for the volume of a claim is counted as that.
        |volume: LonghornVolume| {
            let needed = VolumeEncryption::Encrypted { secret: secret.clone() };
            volume.encryption == needed && volume.stands_for.is_none()
        },
    );
    let mut classes = Classes::default();
    let mut claims = Vec::new();
    for object in known.objects(Resource::PersistentVolumeClaim, None) {
        let Ok(claim) = Claim::try_from(&*object) else { continue };
        if classes.of(&claim, known).is_some_and(|class| uses(class, &claim, &secret)) {
            users.push(format!("{object:?}"));
            claims.push((claim.namespace, claim.name));
        }
    }
    collect(&mut users, known, Resource::PersistentVolume, |volume: PersistentVolume| {
        let is_listed = volume.claim.as_ref().is_some_and(|claim| claims.contains(claim));
        volume.secrets.contains(&secret) && !is_listed
    });
    // A snapshot outlives its claim, and the class of that.
    for snapshot in known.objects(Resource::VolumeSnapshot, None) {
        let text = |field| snapshot.text(&["status", "secretRef", field]);
        let needed = (text("namespace"), text("name"));
        if needed == (Some(&*secret.namespace), Some(&*secret.name)) {
            users.push(format!("{snapshot:?}"));
        }
    }
    users
}

fn origin_secret(origin: &ImageOrigin) -> Option<&SecretReference> {
    match origin {
        ImageOrigin::Clone { encryption, .. } | ImageOrigin::Volume { encryption, .. } => {
            encryption.secret()
        }
        _ => None,
    }
}

fn uses(class: &StorageClass, claim: &Claim, secret: &SecretReference) -> bool {
    let volume = claim.provisioned_name();
    let values = claim.template_values(&volume);
    let named = |of| class.secret(of, &values).ok().flatten();
    SecretUse::ALL.into_iter().filter_map(named).any(|named| named == *secret)
}

fn users_of_class(name: &str, known: &dyn Known) -> Vec<String> {
    let mut users = Vec::new();
    for claim in known.objects(Resource::PersistentVolumeClaim, None) {
        let view = Claim::try_from(&*claim);
        let is_of = view.is_ok_and(|view| view.storage_class.as_deref() == Some(name));
        if is_of && !claim.is_being_deleted() {
            users.push(format!("{claim:?}"));
        }
    }
    collect(&mut users, known, Resource::VirtualMachineImage, |image: VirtualMachineImage| {
        image.storage_class.as_deref() == Some(name)
    });
    users
}

fn users_of_image(image: &Object, known: &dyn Known) -> Vec<String> {
    let (name, namespace) = (image.name(), image.namespace());
    let mut users = Vec::new();
    // Whoever names no namespace means Longhorn's own first, and then theirs.
    let is_meant = |by: Option<&str>| {
        backing_image_named(name, by, known).is_some_and(|meant| meant.namespace() == namespace)
    };
    for volume in known.objects(Resource::LonghornVolume, None) {
        let view = LonghornVolume::try_from(&*volume);
        let named = view.is_ok_and(|view| {
            view.backing_image.as_deref() == Some(name) && view.stands_for.is_none()
        });
        if named && (volume.namespace() == namespace || is_meant(volume.namespace())) {
            users.push(format!("{volume:?}"));
        }
    }
    users_of_image_by_class(name, known, &is_meant, &mut users);
    for clone in known.objects(Resource::BackingImage, namespace) {
        let view = BackingImage::try_from(&*clone);
        let is_of = |view: BackingImage| matches!(view.origin, ImageOrigin::Clone { source, .. } if source == name);
        if view.is_ok_and(is_of) && !is_ready(&clone) && clone.name() != name {
            users.push(format!("{clone:?}"));
        }
    }
    users
}

fn users_of_image_by_class(
    name: &str,
    known: &dyn Known,
    is_meant: &dyn Fn(Option<&str>) -> bool,
    users: &mut Vec<String>,
) {
    let mut classes = Classes::default();
    let mut claims = Vec::new();
    for object in known.objects(Resource::PersistentVolumeClaim, None) {
        let Ok(claim) = Claim::try_from(&*object) else { continue };
        let class = classes.of(&claim, known).filter(|_| claim.source.is_none());
        let named = class.is_some_and(|class| class.parameter("backingImage") == Some(name));
        if named && is_meant(object.namespace()) {
            users.push(format!("{object:?}"));
            claims.push((claim.namespace, claim.name));
        }
    }
    collect(users, known, Resource::PersistentVolume, |volume: PersistentVolume| {
        let claim = volume.claim.as_ref();
        volume.attributes.get("backingImage").is_some_and(|image| image == name)
            && is_meant(claim.map(|(namespace, _)| namespace.as_str()))
            && !claim.is_some_and(|claim| claims.contains(claim))
    });
}

/// Returns the machines with a claim, and the claims that are being copied from it. Snapshots are on their own.
fn users_of_claim(claim: &Object, known: &dyn Known) -> Vec<String> {
    let (name, namespace) = (claim.name(), claim.namespace());
    let mut users = Vec::new();
    for machine in known.objects(Resource::VirtualMachine, namespace) {
        let view = VirtualMachine::try_from(&*machine);
        if view.is_ok_and(|view| view.claims.iter().any(|claim| claim == name)) {
            users.push(format!("{machine:?}"));
        }
    }
    for copy in known.objects(Resource::PersistentVolumeClaim, namespace) {
        // Most claims begin with nothing, and there may be thousands.
        if ["dataSource", "dataSourceRef"].iter().all(|field| copy.at(&["spec", field]).is_none()) {
            continue;
        }
        let is_of = |view: Claim| view.source == Some(ClaimSource::Claim(name.to_owned()));
        let is_bound = copy.text(&["status", "phase"]) == Some("Bound");
        if Claim::try_from(&*copy).is_ok_and(is_of) && !is_bound && copy.name() != name {
            users.push(format!("{copy:?}"));
        }
    }
    users
}

fn users_of_volume(volume: &Object, known: &dyn Known) -> Vec<String> {
    let name = volume.name();
    let mut users = Vec::new();
    collect(&mut users, known, Resource::PersistentVolume, |persistent: PersistentVolume| {
        persistent.volume == name
    });
    for image in known.objects(Resource::BackingImage, None) {
        let is_of = |view: BackingImage| matches!(view.origin, ImageOrigin::Volume { name: of, .. } if of == name);
        if BackingImage::try_from(&*image).is_ok_and(is_of) && !is_ready(&image) {
            users.push(format!("{image:?}"));
        }
    }
    users
}

/// Returns the claims of the class that was made for an image, and the images that are being made from it.
fn users_of_machine_image(image: &Object, known: &dyn Known) -> Vec<String> {
    let class = format!("lh-{}", image.uid());
    let mut users = match image.uid() {
        "" => Vec::new(),
        _ => users_of_class(&class, known),
    };
    for other in known.objects(Resource::VirtualMachineImage, None) {
        let Ok(view) = VirtualMachineImage::try_from(&*other) else { continue };
        let is_of = matches!(
            &view.origin,
            VirtualMachineImageOrigin::Clone { namespace, name, .. }
                if name == image.name() && Some(namespace.as_str()) == image.namespace()
        );
        let progress = other.at(&["status", "progress"]).and_then(Value::as_u64);
        if is_of && progress.is_none_or(|progress| progress < 100) {
            users.push(format!("{other:?}"));
        }
    }
    users
}

/// Returns whether an image has once been there as a whole: only then it has a checksum, or a copy that is ready.
fn is_ready(image: &Object) -> bool {
    let copies = image.at(&["status", "diskFileStatusMap"]).and_then(Value::as_object);
    let mut states = copies.into_iter().flat_map(|copies| copies.values());
    image.text(&["status", "checksum"]).is_some_and(|checksum| !checksum.is_empty())
        || states.any(|copy| copy.get("state").is_some_and(|state| state == "ready"))
}

/// The classes of claims, each read once.
#[derive(Default)]
struct Classes(BTreeMap<String, Option<StorageClass>>);

impl Classes {
    fn of(&mut self, claim: &Claim, known: &dyn Known) -> Option<&StorageClass> {
        let name = claim.storage_class.as_deref().filter(|name| !name.is_empty())?;
        let read =
            || StorageClass::try_from(&*known.object(Resource::StorageClass, None, name)?).ok();
        self.0.entry(name.to_owned()).or_insert_with(read).as_ref()
    }
}

fn collect<T>(
    users: &mut Vec<String>,
    known: &dyn Known,
    resource: Resource,
    is_user: impl Fn(T) -> bool,
) where
    T: for<'o> TryFrom<&'o Object, Error = Refused>,
{
    let objects: Vec<Arc<Object>> = known.objects(resource, None);
    let found = objects.iter().filter(|object| T::try_from(object).is_ok_and(&is_user));
    users.extend(found.map(|object| format!("{object:?}")));
}

fn reference(secret: &Object) -> SecretReference {
    let namespace = secret.namespace().unwrap_or_default().to_owned();
    SecretReference { namespace, name: secret.name().to_owned() }
}
