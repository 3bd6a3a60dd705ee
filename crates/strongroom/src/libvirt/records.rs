//! What the catalog knows of secrets and volumes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_model::ImageFormat;
use strongroom_model::dialect::libvirt::{Secret, SecretName, SecretUsage, Volume};

use crate::catalog::{self, Kind, Record};
use crate::{Error, Result};

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SecretRecord {
    /// In canonical form.
    pub(super) uuid: String,
    /// The document, with the UUID in it.
    pub(super) document: String,
    /// The value, once there is one.
    pub(super) sealed: Option<String>,
    /// The volume for which the value was made here.
    pub(super) generated_for: Option<String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolumeRecord {
    /// Its path, without links in it.
    pub(super) path: String,
    /// The document; what the file itself tells is not taken from there.
    pub(super) document: String,
    /// The name of its format: nobody looks into the file to find it out.
    pub(super) format: String,
    /// The secret whose value was made for it.
    pub(super) generated: Option<String>,
    /// Whether its keys were destroyed.
    pub(super) wiped: bool,
    /// The job that has made it.
    #[serde(default)]
    pub(super) job: Option<String>,
    /// The UUIDs of the secrets that its document names, as they were when it was kept: a use can become
    /// another secret's. `None` in what was kept before they were.
    #[serde(default)]
    pub(super) openers: Option<Vec<String>>,
    /// The inode of its file, once there is one. The number of the device is not kept: many devices get
    /// another one whenever the system starts.
    #[serde(default)]
    pub(super) inode: Option<u64>,
    #[serde(default)]
    pub(super) stage: VolumeStage,
}

/// How far a volume has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum VolumeStage {
    /// It is being made, or whoever made it was stopped: that its file is not there says nothing.
    #[default]
    Begun,
    /// Its file was there. Where it is not any more, its data may lie where nobody sees it now.
    Made,
    /// Its file is being removed.
    Deleting,
}

impl Record for SecretRecord {
    const KIND: Kind = Kind::LibvirtSecret;

    fn id(&self) -> &str {
        &self.uuid
    }
}

impl Record for VolumeRecord {
    const KIND: Kind = Kind::LibvirtVolume;

    fn id(&self) -> &str {
        &self.path
    }
}

impl SecretRecord {
    /// Returns the document.
    ///
    /// # Errors
    ///
    /// When it is not what was written.
    pub(super) fn secret(&self) -> Result<Secret> {
        Ok(Secret::read_kept(self.document.as_bytes())?)
    }

    /// Tells whether a name means it: its UUID, or the path of the volume that it is for. One whose document
    /// cannot be read has its UUID alone.
    pub(super) fn is_named(&self, name: &SecretName) -> bool {
        match name {
            SecretName::Uuid(uuid) => *uuid == self.uuid,
            SecretName::Usage(path) => self
                .secret()
                .is_ok_and(|secret| secret.usage == Some(SecretUsage::Volume(path.clone()))),
        }
    }
}

impl VolumeRecord {
    /// Returns the document.
    ///
    /// # Errors
    ///
    /// When it is not what was written.
    pub(super) fn volume(&self) -> Result<Volume> {
        Ok(Volume::read_kept(self.document.as_bytes())?)
    }

    /// Returns the path of the backing store that its document names, `None` where it names none. A name in
    /// an image is relative to the image's directory.
    ///
    /// # Errors
    ///
    /// When the document is not what was written.
    pub(super) fn backing_path(&self) -> Result<Option<PathBuf>> {
        let name = self.volume()?.backing.and_then(|backing| backing.path);
        Ok(name.map(|name| Path::new(&self.path).with_file_name(name)))
    }

    /// Returns the format.
    ///
    /// # Errors
    ///
    /// When it is not what was written.
    pub(super) fn image_format(&self) -> Result<ImageFormat> {
        self.format.parse().map_err(|_| {
            Error::Catalog(catalog::Error::Malformed {
                kind: Kind::LibvirtVolume,
                id: self.path.clone(),
                problem: format!("there is no format {:?}", self.format),
            })
        })
    }

    /// Tells whether it needs a secret. One of which nobody can read what it needs might.
    pub(super) fn needs(&self, secret: &SecretRecord) -> bool {
        let is_opener = |openers: &Vec<String>| openers.contains(&secret.uuid);
        let is_made = self.generated.as_ref() == Some(&secret.uuid);
        if is_made || self.openers.as_ref().is_some_and(is_opener) {
            return true;
        }
        match self.secrets() {
            Ok(named) => named.iter().any(|name| secret.is_named(name)),
            Err(_) => self.openers.is_none(),
        }
    }

    /// Returns the secrets that open it, in their order.
    ///
    /// # Errors
    ///
    /// When the document is not what was written.
    pub(super) fn secrets(&self) -> Result<Vec<SecretName>> {
        let encryption = self.volume()?.target.encryption;
        let secrets = encryption.map(|encryption| encryption.secrets).unwrap_or_default();
        Ok(secrets.into_iter().map(|secret| secret.name).collect())
    }
}
