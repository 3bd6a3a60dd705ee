//! What a document means for a volume that is to be made.

use std::path::Path;

use strongroom_disk::qcow2::{BackingName, CreateOptions, Version};
use strongroom_model::dialect::libvirt::{
    BackingStore, Creation, SecretName, SecretReference, Volume, VolumeFormat,
};
use strongroom_model::{EncryptionRequest, ImageFormat};

use super::LibvirtProblem;
use super::directory::VolumePath;
use crate::{Error, Result};

/// A volume that is to be made.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) path: VolumePath,
    pub(super) format: ImageFormat,
    /// How it is encrypted, if it is.
    pub(super) encryption: Option<Encrypting>,
    pub(super) layout: CreateOptions,
    pub(super) backing: Option<BackingName>,
    /// What the document asks for that is not done.
    pub(super) notes: Vec<String>,
}

/// How a volume is to be encrypted.
#[derive(Debug)]
pub(super) struct Encrypting {
    pub(super) request: EncryptionRequest,
    /// The secret that the document names.
    pub(super) secret: Option<SecretName>,
}

impl Plan {
    /// Returns what a document means. Of its capacity nothing is said here.
    ///
    /// # Errors
    ///
    /// When no such volume can be made, with what there is.
    pub(super) fn of(document: &Volume, pool: Option<&Path>, creation: Creation) -> Result<Self> {
        let mut notes = check(document, creation)?;
        let path = VolumePath::of_document(document, pool)?;
        let impossible = |reason: String| {
            Error::libvirt(LibvirtProblem::Impossible {
                name: document.name.clone(),
                what: "be made",
                reason,
            })
        };
        if let Some(kind) = document.kind.as_deref().filter(|kind| *kind != "file") {
            let reason = format!("its type is {kind}, and only volumes of the type file are made");
            return Err(impossible(reason));
        }
        let is_qcow2 = document.target.format == Some(VolumeFormat::Qcow2);
        let encryption = match &document.target.encryption {
            None => None,
            Some(encryption) => Some(Encrypting {
                request: encryption.request()?,
                secret: encryption.secrets.first().map(|secret| secret.name.clone()),
            }),
        };
        let format = match (is_qcow2, &encryption) {
            (false, None) => ImageFormat::Raw,
            (true, None) => ImageFormat::Qcow2,
            (false, Some(encrypting)) => encrypting.request.format.into(),
            (true, Some(_)) => ImageFormat::Qcow2Luks,
        };
        let backing = document.backing.as_ref().map(backing_name).transpose();
        let backing = backing.map_err(impossible)?.flatten();
        let layout = layout(document).map_err(impossible)?;
        if document.target.nocow {
            notes.push("nocow is not set: copying on writes is left to the file system".to_owned());
        }
        Ok(Self { path, format, encryption, layout, backing, notes })
    }
}

/// Checks the document of a volume that is to be made; it may leave its secret to us. Returns what should be
/// told about it.
fn check(document: &Volume, creation: Creation) -> Result<Vec<String>> {
    let mut document = document.clone();
    if let Some(encryption) = &mut document.target.encryption
        && encryption.secrets.is_empty()
    {
        let name = SecretName::Usage(document.name.clone());
        encryption.secrets.push(SecretReference { name });
    }
    Ok(document.check_creation(creation)?)
}

fn backing_name(backing: &BackingStore) -> std::result::Result<Option<BackingName>, String> {
    let Some(name) = backing.path.clone() else { return Ok(None) };
    let format = match &backing.format {
        None => {
            return Err(format!(
                "its backing store {name} has no format, which is never guessed: say <format \
                 type='raw'/> or qcow2"
            ));
        }
        Some(VolumeFormat::Raw) => "raw".to_owned(),
        Some(VolumeFormat::Qcow2) => "qcow2".to_owned(),
        Some(VolumeFormat::Other(other)) => {
            return Err(format!("its backing store is {other}, and there are raw and qcow2"));
        }
    };
    Ok(Some(BackingName { name, format: Some(format) }))
}

/// Returns the layout of a qcow2 image.
fn layout(document: &Volume) -> std::result::Result<CreateOptions, String> {
    let target = &document.target;
    let usual = CreateOptions::new(0);
    let mut layout = CreateOptions {
        version: match target.compat.as_deref() {
            Some("0.10") => Version::V2,
            _ => Version::V3,
        },
        cluster_size: target.cluster_size.unwrap_or(usual.cluster_size),
        ..usual
    };
    for feature in target.features.iter().flatten() {
        match feature.as_str() {
            "lazy_refcounts" => layout.lazy_refcounts = true,
            "extended_l2" => layout.subclusters = true,
            other => {
                return Err(format!(
                    "there is no feature {other}: there are lazy_refcounts and extended_l2"
                ));
            }
        }
    }
    Ok(layout)
}

/// Returns a capacity as libvirt gives it to `qemu-img`: in whole KiB, rounded up. Plain raw volumes keep
/// their bytes.
pub(super) fn rounded(capacity: u64, format: ImageFormat) -> u64 {
    match format {
        ImageFormat::Raw => capacity,
        _ => capacity.checked_next_multiple_of(1024).unwrap_or(capacity),
    }
}
