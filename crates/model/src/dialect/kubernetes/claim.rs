//! PersistentVolumeClaims.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bytes_of_quantity;
use super::template::TemplateValues;
use crate::dialect::admission::{Reason, Refused};
use crate::dialect::fields::{Fields, shown};
use crate::dialect::object::Object;
use crate::dialect::resource::Resource;

/// A `v1 PersistentVolumeClaim`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its namespace, empty when it has none yet.
    pub namespace: String,
    /// Its UID, empty when it has none yet.
    pub uid: String,
    /// Its annotations, for templates.
    pub annotations: BTreeMap<String, String>,
    /// The class; `None` asks for the default one, an empty text for none at all.
    pub storage_class: Option<String>,
    /// The bytes that it asks for.
    pub size: u64,
    /// What it shall look like.
    pub mode: VolumeMode,
    /// How it may be attached: `ReadWriteOnce` and the like; there is at least one.
    pub access_modes: Vec<String>,
    /// What it begins with.
    pub source: Option<ClaimSource>,
    /// The PersistentVolume that it asks for or is bound to.
    pub volume_name: Option<String>,
}

/// What a volume looks like to who uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeMode {
    /// A directory with files.
    Filesystem,
    /// A block device.
    Block,
}

/// What a claim begins with, in its own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimSource {
    /// The VolumeSnapshot of this name.
    Snapshot(String),
    /// The claim of this name.
    Claim(String),
}

impl Claim {
    /// The annotation with which a claim, or a volume of Longhorn's, asks for a volume that its own key opens although
    /// the image that it begins with is encrypted with another one: `"true"` adds a keyslot for it. As a parameter of
    /// a class it goes for all of its claims.
    pub const OWN_KEYSLOT: &'static str = "strongroom.io/own-keyslot";

    /// Returns what the templates of a class are filled in with. `volume` is the name of the PersistentVolume.
    pub fn template_values<'a>(&'a self, volume: &'a str) -> TemplateValues<'a> {
        TemplateValues {
            claim: &self.name,
            namespace: &self.namespace,
            annotations: &self.annotations,
            volume,
        }
    }

    /// Returns the name that its volume and its PersistentVolume have when they are made for it: `pvc-UID`.
    pub fn provisioned_name(&self) -> String {
        format!("pvc-{}", self.uid)
    }
}

impl TryFrom<&Object> for Claim {
    type Error = Refused;

    fn try_from(object: &Object) -> Result<Self, Refused> {
        let mut fields = Fields::of(object, Resource::PersistentVolumeClaim);
        if fields.value(&["spec", "selector"]).is_some() {
            let message = "volumes are made for claims, not searched: leave the selector out, or \
                           name the PersistentVolume in spec.volumeName";
            fields.note(&["spec", "selector"], Reason::NotSupported, message);
        }
        let access_modes = access_modes(&mut fields);
        let claim = Self {
            name: fields.required(&["metadata", "name"], "a claim needs a name").to_owned(),
            namespace: object.namespace().unwrap_or_default().to_owned(),
            uid: object.uid().to_owned(),
            annotations: fields.texts(&["metadata", "annotations"]),
            storage_class: storage_class(&mut fields),
            size: size(&mut fields),
            mode: fields.choice(&["spec", "volumeMode"], &MODES, VolumeMode::Filesystem),
            access_modes,
            source: source(&mut fields),
            volume_name: fields.text(&["spec", "volumeName"]).map(str::to_owned),
        };
        fields.finish(claim)
    }
}

/// Returns the class, for which the empty text is not the same as nothing.
fn storage_class(fields: &mut Fields<'_>) -> Option<String> {
    let path = ["spec", "storageClassName"];
    let named = match fields.value(&path) {
        Some(Value::String(empty)) if empty.is_empty() => Some(String::new()),
        _ => fields.text(&path).map(str::to_owned),
    };
    // What claims said before there was a field for it, and Kubernetes still takes.
    let beta = ["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"];
    named.or_else(|| fields.text(&beta).map(str::to_owned))
}

fn access_modes(fields: &mut Fields<'_>) -> Vec<String> {
    let path = ["spec", "accessModes"];
    let modes = fields.list(&path);
    if modes.is_empty() && fields.value(&path).is_none_or(Value::is_array) {
        fields.note(&path, Reason::Required, "at least one is needed, ReadWriteOnce for instance");
    }
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(&mode.as_str())) {
        let message = format!("{} is not one of {}", shown(mode), ACCESS_MODES.join(", "));
        fields.note(&path, Reason::Invalid, message);
    }
    modes
}

fn size(fields: &mut Fields<'_>) -> u64 {
    let path = ["spec", "resources", "requests", "storage"];
    let text = match fields.value(&path) {
        None => {
            fields.note(&path, Reason::Required, "say how large the volume shall be: 10Gi");
            return 0;
        }
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => String::new(),
    };
    match bytes_of_quantity(&text) {
        Ok(0) => fields.note(&path, Reason::Invalid, "a volume has at least one byte"),
        Ok(size) => return size,
        Err(problem) => fields.note(&path, Reason::Invalid, problem),
    }
    0
}

/// Returns what `dataSource` or `dataSourceRef` names; they must not differ.
fn source(fields: &mut Fields<'_>) -> Option<ClaimSource> {
    let old = source_at(fields, "dataSource");
    let new = source_at(fields, "dataSourceRef");
    if old.is_some() && new.is_some() && old != new {
        let message = "this is not what spec.dataSource says: name one of them";
        fields.note(&["spec", "dataSourceRef"], Reason::Invalid, message);
    }
    new.or(old)
}

fn source_at(fields: &mut Fields<'_>, field: &str) -> Option<ClaimSource> {
    fields.value(&["spec", field])?;
    let name = fields.required(&["spec", field, "name"], "name what the volume begins with");
    let kind =
        fields.required(&["spec", field, "kind"], "use VolumeSnapshot or PersistentVolumeClaim");
    let group = fields.text(&["spec", field, "apiGroup"]).unwrap_or_default();
    let namespace = fields.text(&["spec", field, "namespace"]);
    if namespace.is_some_and(|named| Some(named) != fields.object().namespace()) {
        let message = "what a claim begins with is in the claim's own namespace";
        fields.note(&["spec", field, "namespace"], Reason::NotSupported, message);
    }
    match (kind, group) {
        ("", _) => None,
        ("VolumeSnapshot", "snapshot.storage.k8s.io") => {
            Some(ClaimSource::Snapshot(name.to_owned()))
        }
        ("PersistentVolumeClaim", "") => Some(ClaimSource::Claim(name.to_owned())),
        _ => {
            let message = format!(
                "{} of the group {} is nothing that a volume can begin with: use VolumeSnapshot \
                 (apiGroup snapshot.storage.k8s.io) or PersistentVolumeClaim",
                shown(kind),
                shown(group)
            );
            fields.note(&["spec", field, "kind"], Reason::NotSupported, message);
            None
        }
    }
}

const MODES: [(&str, VolumeMode); 2] =
    [("Filesystem", VolumeMode::Filesystem), ("Block", VolumeMode::Block)];

const ACCESS_MODES: [&str; 4] =
    ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(spec: Value) -> Result<Claim, Refused> {
        let mut object = Object::new(Resource::PersistentVolumeClaim, Some("lab"), "disk");
        object.set(&["spec"], spec);
        Claim::try_from(&object)
    }

    #[test]
    fn a_claim_is_read_whole() {
        let read = claim(json!({
            "accessModes": ["ReadWriteOnce"], "storageClassName": "vault", "volumeMode": "Block",
            "resources": { "requests": { "storage": "2Gi" } },
            "dataSource": { "kind": "VolumeSnapshot", "name": "monday",
                            "apiGroup": "snapshot.storage.k8s.io" },
        }))
        .unwrap();
        assert_eq!((read.size, read.mode), (2 << 30, VolumeMode::Block));
        assert_eq!(read.storage_class.as_deref(), Some("vault"));
        assert_eq!(read.source, Some(ClaimSource::Snapshot("monday".to_owned())));
    }

    #[test]
    fn no_class_and_the_empty_class_differ() {
        let with = |class: Value| {
            claim(json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                          "resources": { "requests": { "storage": 1048576 } } }))
            .unwrap()
            .storage_class
        };
        assert_eq!(with(Value::Null), None);
        assert_eq!(with(json!("")), Some(String::new()));
    }

    #[test]
    fn what_a_claim_cannot_have_is_refused_by_its_path() {
        let refused = claim(json!({
            "accessModes": ["Sometimes"], "selector": {}, "volumeMode": "Tape",
            "resources": { "requests": { "storage": "much" } },
            "dataSource": { "kind": "Disk", "name": "x" },
            "dataSourceRef": { "kind": "PersistentVolumeClaim", "name": "x", "namespace": "other" },
        }))
        .unwrap_err();
        let told = refused.to_string();
        for path in [
            "spec.selector",
            "spec.accessModes",
            "spec.volumeMode",
            "spec.resources.requests.storage",
            "spec.dataSource.kind",
            "spec.dataSourceRef.namespace",
        ] {
            assert!(told.contains(path), "{path}: {told}");
        }
        assert_eq!(claim(json!({})).unwrap_err().causes.len(), 2);
    }
}
