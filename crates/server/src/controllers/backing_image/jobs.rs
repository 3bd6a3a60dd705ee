//! The jobs that make images.

use strongroom::images::Keys;
use strongroom::library::{Copying, Export, ExportedContents, NewImage};
use strongroom::volumes::VolumeEncryption;
use strongroom::{OwnedNewKey, OwnedOpener};
use strongroom_model::dialect::admission::Known;
use strongroom_model::dialect::kubernetes::SecretReference;
use strongroom_model::dialect::longhorn::{
    self, BackingImage, CloneEncryption, ImageOrigin, LonghornVolume,
};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;
use strongroom_model::{EncryptionRequest, ImageFormat, VolumeId};

use super::super::key_material::HeldPassphrase;
use super::super::provision;
use super::super::turn::Trouble;
use super::super::work::Run;
use super::image_id;

/// Fetches what an image has at its URL.
pub(in super::super) fn download(run: &Run<'_>) -> Result<(), Trouble> {
    let document = BackingImage::try_from(run.object)?;
    let ImageOrigin::Download { url } = &document.origin else { return Err(changed()) };
    let new = new_image(&document)?;
    run.with(|work| run.library().fetch(&new, url, work)).map(drop)
}

/// Makes an image of another one.
pub(in super::super) fn clone(run: &Run<'_>) -> Result<(), Trouble> {
    let document = BackingImage::try_from(run.object)?;
    let ImageOrigin::Clone { source, encryption } = &document.origin else {
        return Err(changed());
    };
    let found = run.work.store.object(Resource::BackingImage, Some(&document.namespace), source);
    let from = found.ok_or_else(|| {
        let message = format!("image {}/{source} is gone", document.namespace);
        Trouble::waiting("ImageMissing", message)
    })?;
    let purpose = |what| format!("{what} image {}/{}", document.namespace, document.name);
    let keys = &run.work.keys;
    let how = match encryption {
        CloneEncryption::Ignore => Copying::Ignore,
        CloneEncryption::Encrypt { secret } => {
            let HeldPassphrase { passphrase, settings } =
                keys.passphrase(secret, &purpose("encrypt"))?;
            Copying::Encrypt {
                request: EncryptionRequest::default().merged_with(&settings),
                key: OwnedNewKey::Passphrase(passphrase),
            }
        }
        CloneEncryption::Decrypt { secret } => {
            let held = keys.passphrase(secret, &purpose("decrypt"))?;
            Copying::Decrypt { opener: OwnedOpener::Passphrase(held.passphrase) }
        }
    };
    let (new, from) = (new_image(&document)?, image_id(from.uid())?);
    run.with(|work| run.library().clone_image(&new, &from, how, work)).map(drop)
}

/// Makes an image of a volume.
pub(in super::super) fn export(run: &Run<'_>) -> Result<(), Trouble> {
    let document = BackingImage::try_from(run.object)?;
    let ImageOrigin::Volume { name, format, encryption } = &document.origin else {
        return Err(changed());
    };
    let id = provision::identifier(name)?;
    let (contents, keys) = match encryption {
        CloneEncryption::Decrypt { secret } => {
            let volume = run.work.volumes.volume(&id)?;
            let purpose = format!("export volume {name} decrypted");
            let held = run.work.keys.volume_keys(&volume.encryption, Some(secret), &purpose)?;
            (ExportedContents::Decrypted, Keys { source: held.into_opener(), target: None })
        }
        CloneEncryption::Ignore => {
            (ExportedContents::AsTheyAre, keys_of_volume(run, &id, *format)?)
        }
        CloneEncryption::Encrypt { .. } => {
            let message =
                "a volume is exported as it is, or decrypted: clone the image to encrypt it";
            return Err(Trouble::waiting("NotSupported", message));
        }
    };
    let new = new_image(&document)?;
    let how = Export { format: *format, keys, contents };
    let work = run.work;
    run.with(|told| run.library().export(&new, &work.volumes, &id, how, told)).map(drop)
}

/// Returns what an export needs that keeps a volume encrypted: nothing where the bytes stay the same.
fn keys_of_volume(run: &Run<'_>, id: &VolumeId, format: ImageFormat) -> Result<Keys, Trouble> {
    let volume = run.work.volumes.volume(id)?;
    match (&volume.encryption, format) {
        (VolumeEncryption::None, _) | (_, ImageFormat::Raw) => return Ok(Keys::default()),
        (VolumeEncryption::Kms(_), _) => {
            let message = format!(
                "volume {id} has a key that a KMS wraps, for which a qcow2 image has no room: export \
                 it as raw, or decrypted"
            );
            return Err(Trouble::waiting("NotSupported", message));
        }
        (VolumeEncryption::Passphrase, _) => {}
    }
    let secret = secret_of_volume(&run.work.store, id.as_str()).ok_or_else(|| {
        let message = format!("no document names the Secret of volume {id}: export it as raw");
        Trouble::waiting("SecretNotNamed", message)
    })?;
    let purpose = format!("export volume {id}");
    // Each side takes one over.
    let source = run.work.keys.passphrase(&secret, &purpose)?.passphrase;
    let target = run.work.keys.passphrase(&secret, &purpose)?.passphrase;
    Ok(Keys {
        source: Some(OwnedOpener::Passphrase(source)),
        target: Some(OwnedNewKey::Passphrase(target)),
    })
}

/// Returns the Secret that opens a volume, as far as a document names it.
pub(crate) fn secret_of_volume(known: &dyn Known, name: &str) -> Option<SecretReference> {
    if let Some(volume) = known.object(Resource::PersistentVolume, None, name) {
        let text = |field| volume.text(&["spec", "csi", "nodeStageSecretRef", field]);
        let (namespace, name) = (text("namespace")?.to_owned(), text("name")?.to_owned());
        return Some(SecretReference { namespace, name });
    }
    let volumes = known.objects(Resource::LonghornVolume, None);
    let volume = volumes.iter().find(|volume| volume.name() == name)?;
    match LonghornVolume::try_from(&**volume).ok()?.encryption {
        longhorn::VolumeEncryption::Encrypted { secret } => Some(secret),
        longhorn::VolumeEncryption::Plain => None,
    }
}

/// Returns the Secret with which a job makes an image, for the memory that it needs.
pub(in super::super) fn secret_of(object: &Object) -> Option<SecretReference> {
    match BackingImage::try_from(object).ok()?.origin {
        ImageOrigin::Clone { encryption, .. } | ImageOrigin::Volume { encryption, .. } => {
            encryption.secret().cloned()
        }
        _ => None,
    }
}

/// Returns the image of the library that a document asks for.
pub(in super::super) fn new_image(document: &BackingImage) -> Result<NewImage, Trouble> {
    Ok(NewImage {
        id: image_id(&document.uid)?,
        label: format!("{}/{}", document.namespace, document.name),
        format: document.format,
        checksum: document.checksum.clone(),
    })
}

fn changed() -> Trouble {
    Trouble::waiting("Changed", "spec.sourceType was changed since this was begun")
}
