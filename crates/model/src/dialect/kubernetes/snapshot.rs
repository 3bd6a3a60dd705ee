//! VolumeSnapshots and their classes.

use std::collections::BTreeMap;

use super::ReclaimPolicy;
use crate::dialect::admission::{Reason, Refused};
use crate::dialect::fields::{Fields, shown};
use crate::dialect::object::Object;
use crate::dialect::resource::Resource;

/// A `snapshot.storage.k8s.io/v1 VolumeSnapshot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSnapshot {
    /// Its name.
    pub name: String,
    /// Its namespace, empty when it has none yet.
    pub namespace: String,
    /// Its UID, empty when it has none yet.
    pub uid: String,
    /// Of what it is.
    pub source: SnapshotSource,
    /// Its class; `None` asks for the default one.
    pub class: Option<String>,
}

/// Of what a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SnapshotSource {
    /// Of the claim of this name, as it is now.
    Claim(String),
    /// What the VolumeSnapshotContent of this name stands for, which is there already.
    Content(String),
}

/// A `snapshot.storage.k8s.io/v1 VolumeSnapshotClass`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSnapshotClass {
    /// Its name.
    pub name: String,
    /// The driver that it was written for.
    pub driver: String,
    /// What becomes of the data of a snapshot that is deleted.
    pub deletion: ReclaimPolicy,
    /// What is made.
    pub kind: SnapshotKind,
    /// Its parameters, as they stand there.
    pub parameters: BTreeMap<String, String>,
}

/// What Longhorn makes when a snapshot is asked for: its parameter `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotKind {
    /// A snapshot, beside the volume: `snap`.
    Snapshot,
    /// An image: `bi`.
    BackingImage,
    /// A backup: `bak`, and `bs` in older manifests.
    Backup,
}

impl TryFrom<&Object> for VolumeSnapshot {
    type Error = Refused;

    fn try_from(object: &Object) -> Result<Self, Refused> {
        let mut fields = Fields::of(object, Resource::VolumeSnapshot);
        let claim = fields.text(&["spec", "source", "persistentVolumeClaimName"]);
        let content = fields.text(&["spec", "source", "volumeSnapshotContentName"]);
        if claim.is_some() == content.is_some() {
            let message = "name exactly one of persistentVolumeClaimName and \
                           volumeSnapshotContentName";
            fields.note(&["spec", "source"], Reason::Required, message);
        }
        let source = match content {
            Some(content) => SnapshotSource::Content(content.to_owned()),
            None => SnapshotSource::Claim(claim.unwrap_or_default().to_owned()),
        };
        let snapshot = Self {
            name: fields.required(&["metadata", "name"], "a snapshot needs a name").to_owned(),
            namespace: object.namespace().unwrap_or_default().to_owned(),
            uid: object.uid().to_owned(),
            source,
            class: fields.text(&["spec", "volumeSnapshotClassName"]).map(str::to_owned),
        };
        fields.finish(snapshot)
    }
}

impl TryFrom<&Object> for VolumeSnapshotClass {
    type Error = Refused;

    fn try_from(object: &Object) -> Result<Self, Refused> {
        let mut fields = Fields::of(object, Resource::VolumeSnapshotClass);
        let parameters = fields.texts(&["parameters"]);
        let kind = match parameters.get("type").map_or("", String::as_str) {
            // Longhorn takes what says nothing for a backup; we take it for what its name says.
            "" | "snap" => SnapshotKind::Snapshot,
            "bi" => SnapshotKind::BackingImage,
            "bak" | "bs" => SnapshotKind::Backup,
            other => {
                let message = format!("{} is not one of snap, bi, bak", shown(other));
                fields.note(&["parameters", "type"], Reason::Invalid, message);
                SnapshotKind::Snapshot
            }
        };
        if fields.value(&["deletionPolicy"]).is_none() {
            fields.note(&["deletionPolicy"], Reason::Required, "use Delete or Retain");
        }
        let class = Self {
            name: fields.required(&["metadata", "name"], "a class needs a name").to_owned(),
            driver: fields
                .required(&["driver"], "name a driver, driver.longhorn.io for instance")
                .to_owned(),
            deletion: fields.choice(
                &["deletionPolicy"],
                &ReclaimPolicy::WORDS,
                ReclaimPolicy::Delete,
            ),
            kind,
            parameters,
        };
        fields.finish(class)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_snapshot_is_of_exactly_one_thing() {
        let snapshot = |source: Value| {
            let mut object = Object::new(Resource::VolumeSnapshot, Some("lab"), "monday");
            object.set(&["spec", "source"], source);
            VolumeSnapshot::try_from(&object)
        };
        let read = snapshot(json!({ "persistentVolumeClaimName": "disk" })).unwrap();
        assert_eq!(read.source, SnapshotSource::Claim("disk".to_owned()));
        assert!(snapshot(json!({})).is_err());
        let both = json!({ "persistentVolumeClaimName": "a", "volumeSnapshotContentName": "b" });
        assert!(snapshot(both).is_err());
    }

    #[test]
    fn a_class_says_what_is_made() {
        let class = |parameters: Value| {
            let mut object = Object::new(Resource::VolumeSnapshotClass, None, "snap");
            object.set(&["driver"], "driver.longhorn.io");
            object.set(&["deletionPolicy"], "Retain");
            object.set(&["parameters"], parameters);
            VolumeSnapshotClass::try_from(&object)
        };
        assert_eq!(class(Value::Null).unwrap().kind, SnapshotKind::Snapshot);
        assert_eq!(class(json!({ "type": "bs" })).unwrap().kind, SnapshotKind::Backup);
        assert_eq!(class(json!({ "type": "bi" })).unwrap().deletion, ReclaimPolicy::Retain);
        assert!(class(json!({ "type": "tape" })).is_err());
    }
}
