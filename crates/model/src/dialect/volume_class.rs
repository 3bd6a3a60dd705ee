//! The parameters of a StorageClass as a CSI driver gets them with each volume: a map of texts, in
//! which both dialects, Longhorn's and OSC's, and our own words stand side by side.
//!
//! What nobody knows is refused: a misspelt `encrypted` must not make a volume that is not. What is
//! known and says nothing to us (how many replicas Longhorn keeps) is recorded and no more.

use std::collections::BTreeMap;

use super::kubernetes::Claim;
use super::manifest::shown_key;
use super::osc::{self, Encryption};
use crate::{Error, FileSystem, Tuning};

/// What the parameters of a volume say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeParameters {
    /// How it is encrypted.
    pub encryption: Encryption,
    /// The file system that it gets where nobody asks for another.
    pub file_system: Option<FileSystem>,
    /// What can be tuned.
    pub tuning: Tuning,
    /// What else was said: known words that nothing here acts on.
    pub others: BTreeMap<String, String>,
}

/// The parameters that can be changed while a volume exists.
pub const TUNABLE: [&str; 3] = [DISCARD, NO_READ_WORKQUEUE, NO_WRITE_WORKQUEUE];

impl VolumeParameters {
    /// Reads the parameters with which a volume is to be made, and those of them that can be changed
    /// later, which come in a map of their own and win.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownVolumeParameter`], or what is wrong with the parameter that is named.
    pub fn read(
        parameters: &BTreeMap<String, String>,
        mutable: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        for (key, value) in parameters {
            check(key, value)?;
        }
        let pairs = || parameters.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let encryption = osc::encryption_of(CLASS, pairs())?;
        let file_system = file_system(parameters)?;
        let base = tuning(Tuning::default(), pairs().filter(|(key, _)| is_tunable(key)))?;
        let is_other = |(key, _): &(&str, &str)| {
            !osc::PARAMETERS.contains(key) && !is_tunable(key) && !is_of_secret(key)
        };
        let others =
            pairs().filter(is_other).map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(Self {
            encryption,
            file_system,
            tuning: Self::tuned(base, mutable)?,
            others: others.collect(),
        })
    }

    /// Returns `tuning` with what `mutable` changes about it.
    ///
    /// # Errors
    ///
    /// [`Error::FixedParameter`] when it holds anything that cannot be changed.
    pub fn tuned(tuning: Tuning, mutable: &BTreeMap<String, String>) -> Result<Tuning, Error> {
        if let Some(key) = mutable.keys().find(|key| !is_tunable(key)) {
            return Err(match is_known(key) {
                true => Error::FixedParameter { key: key.clone() },
                false => unknown(key, &TUNABLE),
            });
        }
        self::tuning(tuning, mutable.iter().map(|(key, value)| (key.as_str(), value.as_str())))
    }
}

/// Refuses a parameter that nobody knows, or that asks for what is not there.
fn check(key: &str, value: &str) -> Result<(), Error> {
    if !is_known(key) {
        return Err(unknown(key, &KNOWN));
    }
    if value.len() > LONGEST {
        let (key, len, limit) = (shown_key(key), value.len(), LONGEST);
        return Err(Error::ParameterTooLong { key, len, limit });
    }
    // Such a volume would come up empty where somebody expects data.
    match CONTENTS.iter().find(|known| **known == key) {
        Some(&key) if !value.is_empty() => Err(Error::InvalidValue {
            key,
            allowed: "leave it out: volumes are made empty, or from a \
                                                     volume or snapshot that the claim names",
        }),
        _ => Ok(()),
    }
}

/// Returns the file system that both spellings name.
fn file_system(parameters: &BTreeMap<String, String>) -> Result<Option<FileSystem>, Error> {
    let mut named = None;
    for key in FILE_SYSTEM {
        let Some(name) = parameters.get(key).filter(|name| !name.is_empty()) else { continue };
        let file_system: FileSystem = name.parse()?;
        if named.is_some_and(|other| other != file_system) {
            return Err(Error::InvalidValue { key, allowed: "another parameter says another one" });
        }
        named = Some(file_system);
    }
    Ok(named)
}

fn tuning<'a>(
    mut tuning: Tuning,
    values: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Tuning, Error> {
    for (key, value) in values {
        let (key, field) = match key {
            DISCARD => (DISCARD, &mut tuning.discard),
            NO_READ_WORKQUEUE => (NO_READ_WORKQUEUE, &mut tuning.no_read_workqueue),
            NO_WRITE_WORKQUEUE => (NO_WRITE_WORKQUEUE, &mut tuning.no_write_workqueue),
            _ => continue,
        };
        *field = match value {
            "true" => true,
            "false" => false,
            _ => return Err(Error::InvalidValue { key, allowed: "use \"true\" or \"false\"" }),
        };
    }
    Ok(tuning)
}

fn unknown(key: &str, known: &[&'static str]) -> Error {
    Error::UnknownVolumeParameter { key: shown_key(key), nearest: nearest(key, known) }
}

fn is_known(key: &str) -> bool {
    KNOWN.contains(&key) || osc::PARAMETERS.contains(&key) || is_tunable(key) || is_of_secret(key)
}

fn is_tunable(key: &str) -> bool {
    TUNABLE.contains(&key)
}

/// Tells whether a parameter names a Secret. The provisioner takes those out; whoever uses the driver
/// without one may leave them in.
fn is_of_secret(key: &str) -> bool {
    let kind = key.strip_prefix(RESERVED).and_then(|rest| {
        rest.strip_suffix("secret-name").or_else(|| rest.strip_suffix("secret-namespace"))
    });
    kind.is_some_and(|kind| OF_SECRETS.contains(&kind))
}

/// Returns the known parameter that reads most like `key`, if one does.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key = shown_key(key).to_ascii_lowercase();
    let all = known.iter().chain(&osc::PARAMETERS).chain(&TUNABLE);
    let near = all.map(|name| (distance(&key, &name.to_ascii_lowercase()), *name)).min()?;
    // A third of the letters may be wrong.
    (near.0 * 3 <= near.1.len()).then_some(near.1)
}

/// Returns how many letters have to be put in, taken out or replaced to get from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let (mut above, mut left) = (i, i + 1);
        let mut next = vec![left];
        for (other, &up) in b.iter().zip(row.iter().skip(1)) {
            left = (above + usize::from(letter != *other)).min(up + 1).min(left + 1);
            above = up;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// Every parameter that is known besides those of encryption, tuning and Secrets.
const KNOWN: [&str; 58] = [
    // Longhorn's own affairs, and the pool's: where and how often it keeps the bytes.
    "numberOfReplicas",
    "staleReplicaTimeout",
    "share",
    "exclusive",
    "migratable",
    "ublkNumberOfQueue",
    "ublkQueueDepth",
    "nvmeTcpNrIoQueues",
    "replicaAutoBalance",
    "dataLocality",
    "disableRevisionCounter",
    "unmapMarkSnapChainRemoved",
    "replicaSoftAntiAffinity",
    "replicaZoneSoftAntiAffinity",
    "replicaDiskSoftAntiAffinity",
    "backupTargetName",
    "backupBlockSize",
    "cloneMode",
    "recurringJobSelector",
    "diskSelector",
    "nodeSelector",
    "dataEngine",
    "dataLayout.type",
    "dataLayout.mode",
    "dataLayout.dataChunks",
    "dataLayout.parityChunks",
    "dataLayout.stripSizeKB",
    "freezeFilesystemForSnapshot",
    "frontend",
    "mkfsParams",
    "nfsOptions",
    "strictTopology",
    "volumeTopology",
    "storageCapacityMode",
    "shareManagerNodeSelector",
    "shareManagerTolerations",
    // Images that volumes begin with, recorded for whoever fills them.
    "backingImage",
    "backingImageDataSourceType",
    "backingImageChecksum",
    "backingImageDataSourceParameters",
    "backingImageMinNumberOfCopies",
    "backingImageNodeSelector",
    "backingImageDiskSelector",
    Claim::OWN_KEYSLOT,
    CONTENTS[0],
    CONTENTS[1],
    // OSC's pools.
    "type",
    "volume_pool",
    FILE_SYSTEM[0],
    FILE_SYSTEM[1],
    FILE_SYSTEM[2],
    // What the provisioner adds.
    "csi.storage.k8s.io/pvc/name",
    "csi.storage.k8s.io/pvc/namespace",
    "csi.storage.k8s.io/pv/name",
    "csi.storage.k8s.io/vac/name",
    "csi.storage.k8s.io/volumesnapshot/name",
    "csi.storage.k8s.io/volumesnapshot/namespace",
    "csi.storage.k8s.io/volumesnapshotcontent/name",
];

/// Whether a volume gets discards of its file system.
const DISCARD: &str = "discard";
const NO_READ_WORKQUEUE: &str = "noReadWorkqueue";
const NO_WRITE_WORKQUEUE: &str = "noWriteWorkqueue";

/// The spellings of the file system.
const FILE_SYSTEM: [&str; 3] = ["fsType", "fstype", "csi.storage.k8s.io/fstype"];

/// What says from what a volume is made, other than its claim.
const CONTENTS: [&str; 2] = ["fromBackup", "dataSource"];

/// The names of Kubernetes' own parameters begin so.
const RESERVED: &str = "csi.storage.k8s.io/";

/// Of which calls Secrets are named, as their parameters are spelt.
const OF_SECRETS: [&str; 8] = [
    "",
    "provisioner-",
    "controller-publish-",
    "controller-expand-",
    "controller-modify-",
    "node-stage-",
    "node-publish-",
    "node-expand-",
];

/// What errors call the class that the parameters come from: its name does not come with them.
const CLASS: &str = "of the volume";

/// What CSI allows for a whole map, in bytes.
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests;
