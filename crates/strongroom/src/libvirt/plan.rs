//! What a document means for a volume that is to be made.

use std::path::Path;

use strongroom_disk::qcow2::{BackingName, CreateOptions, Version};
use strongroom_model::dialect::libvirt::{
    BackingStore, EncryptionFormat, SecretName, Volume, VolumeFormat,
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
    pub(super) fn of(document: &Volume, pool: Option<&Path>) -> Result<Self> {
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
        let is_qcow2 = match &document.target.format {
            None | Some(VolumeFormat::Raw) => false,
            Some(VolumeFormat::Qcow2) => true,
            Some(VolumeFormat::Other(name)) => {
                let reason = format!("its format is {name}, and there are raw and qcow2");
                return Err(impossible(reason));
            }
        };
        let encryption = encrypting(document, is_qcow2, &impossible)?;
        let format = match (is_qcow2, &encryption) {
            (false, None) => ImageFormat::Raw,
            (true, None) => ImageFormat::Qcow2,
            (false, Some(encrypting)) => encrypting.request.format.into(),
            (true, Some(_)) => ImageFormat::Qcow2Luks,
        };
        let backing = match &document.backing {
            None => None,
            Some(_) if !is_qcow2 => {
                let reason = "a raw volume has no backing store: use qcow2, or leave it out";
                return Err(impossible(reason.to_owned()));
            }
            Some(backing) => backing_name(backing).map_err(impossible)?,
        };
        let (layout, notes) = layout(document, is_qcow2).map_err(impossible)?;
        Ok(Self { path, format, encryption, layout, backing, notes })
    }
}

fn encrypting(
    document: &Volume,
    is_qcow2: bool,
    impossible: &impl Fn(String) -> Error,
) -> Result<Option<Encrypting>> {
    let Some(encryption) = &document.target.encryption else { return Ok(None) };
    if is_qcow2 && encryption.format == EncryptionFormat::Luks2 {
        let reason = "qcow2 images have LUKS1 inside: say format='luks', or make a raw volume";
        return Err(impossible(reason.to_owned()));
    }
    let secret = match encryption.secrets.as_slice() {
        [] => None,
        [one] => Some(one.name.clone()),
        more => {
            let reason = format!(
                "its encryption has {} secrets, and a volume is made with a single one: layers below \
                 it have their own",
                more.len()
            );
            return Err(impossible(reason));
        }
    };
    Ok(Some(Encrypting { request: encryption.request()?, secret }))
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

/// Returns the layout of a qcow2 image, and what of the document has no meaning.
fn layout(
    document: &Volume,
    is_qcow2: bool,
) -> std::result::Result<(CreateOptions, Vec<String>), String> {
    let target = &document.target;
    let mut layout = CreateOptions::new(0);
    let mut notes = Vec::new();
    if target.nocow {
        notes.push("nocow is not set: copying on writes is left to the file system".to_owned());
    }
    let features = target.features.clone().unwrap_or_default();
    if !is_qcow2 {
        if target.compat.is_some() || target.cluster_size.is_some() || !features.is_empty() {
            notes.push("compat, clusterSize and features mean nothing for a raw volume".to_owned());
        }
        return Ok((layout, notes));
    }
    layout.version = match target.compat.as_deref() {
        None | Some("1.1") => Version::V3,
        Some("0.10") if !features.is_empty() => {
            return Err("features need compat 1.1, and it says 0.10".to_owned());
        }
        Some("0.10") => Version::V2,
        Some(other) => return Err(format!("its compat is {other}, and there are 0.10 and 1.1")),
    };
    if let Some(size) = target.cluster_size.filter(|size| *size > 0) {
        layout.cluster_size = size;
    }
    for feature in &features {
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
    Ok((layout, notes))
}

/// Returns a capacity as libvirt gives it to `qemu-img`: in whole KiB, rounded up. Plain raw volumes keep
/// their bytes.
pub(super) fn rounded(capacity: u64, format: ImageFormat) -> u64 {
    match format {
        ImageFormat::Raw => capacity,
        _ => capacity.checked_next_multiple_of(1024).unwrap_or(capacity),
    }
}
