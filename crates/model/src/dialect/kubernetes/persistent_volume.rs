//! PersistentVolumes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ReclaimPolicy, SecretReference, bytes_of_quantity};
use crate::dialect::admission::{Reason, Refused};
use crate::dialect::fields::Fields;
use crate::dialect::object::Object;
use crate::dialect::resource::Resource;

/// A `v1 PersistentVolume` of a CSI driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersistentVolume {
    /// Its name.
    pub name: String,
    /// Its UID, empty when it has none yet.
    pub uid: String,
    /// Its bytes.
    pub capacity: u64,
    /// The volume that it stands for: the driver's identifier.
    pub volume: String,
    /// What the driver wrote down about it: `encrypted`, `backingImage`.
    pub attributes: BTreeMap<String, String>,
    /// The claim that it is bound to: namespace and name.
    pub claim: Option<(String, String)>,
    /// What becomes of the volume when its claim is deleted.
    pub reclaim: ReclaimPolicy,
    /// Its class.
    pub storage_class: Option<String>,
    /// The Secrets that it names, each once: first that by which it is staged, which opens it.
    pub secrets: Vec<SecretReference>,
}

impl TryFrom<&Object> for PersistentVolume {
    type Error = Refused;

    fn try_from(object: &Object) -> Result<Self, Refused> {
        let mut fields = Fields::of(object, Resource::PersistentVolume);
        if fields.value(&["spec", "csi"]).is_none() {
            let message = "only volumes of CSI drivers are kept here";
            fields.note(&["spec", "csi"], Reason::Required, message);
        }
        let claim = fields.text(&["spec", "claimRef", "name"]).map(|name| {
            let namespace = fields.text(&["spec", "claimRef", "namespace"]).unwrap_or_default();
            (namespace.to_owned(), name.to_owned())
        });
        let volume = Self {
            name: fields.required(&["metadata", "name"], "a volume needs a name").to_owned(),
            uid: object.uid().to_owned(),
            capacity: capacity(&mut fields),
            volume: fields
                .required(&["spec", "csi", "volumeHandle"], "name the volume that it stands for")
                .to_owned(),
            attributes: fields.texts(&["spec", "csi", "volumeAttributes"]),
            claim,
            reclaim: fields.choice(
                &["spec", "persistentVolumeReclaimPolicy"],
                &ReclaimPolicy::WORDS,
                ReclaimPolicy::Retain,
            ),
            storage_class: fields.text(&["spec", "storageClassName"]).map(str::to_owned),
            secrets: secrets(&mut fields),
        };
        fields.finish(volume)
    }
}

fn capacity(fields: &mut Fields<'_>) -> u64 {
    let path = ["spec", "capacity", "storage"];
    let text = match fields.value(&path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    bytes_of_quantity(&text).unwrap_or_else(|problem| {
        fields.note(&path, Reason::Invalid, problem);
        0
    })
}

fn secrets(fields: &mut Fields<'_>) -> Vec<SecretReference> {
    let mut secrets = Vec::new();
    for field in SECRETS {
        let Some(name) = fields.text(&["spec", "csi", field, "name"]) else { continue };
        let namespace = fields
            .required(&["spec", "csi", field, "namespace"], "a Secret is named with its namespace");
        let secret = SecretReference { namespace: namespace.to_owned(), name: name.to_owned() };
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    secrets
}

const SECRETS: [&str; 5] = [
    "nodeStageSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_tells_its_claim_and_its_secrets() {
        let mut object = Object::new(Resource::PersistentVolume, None, "pvc-1");
        let secret = json!({ "name": "key", "namespace": "lab" });
        let other = json!({ "name": "another", "namespace": "lab" });
        object.set(
            &["spec"],
            json!({
                "capacity": { "storage": "1Gi" }, "storageClassName": "vault",
                "claimRef": { "namespace": "lab", "name": "disk" },
                "csi": { "volumeHandle": "pvc-1", "nodeStageSecretRef": secret,
                         "nodePublishSecretRef": secret, "nodeExpandSecretRef": other,
                         "volumeAttributes": { "encrypted": "true" } },
            }),
        );
        let volume = PersistentVolume::try_from(&object).unwrap();
        let names: Vec<&str> = volume.secrets.iter().map(|secret| &*secret.name).collect();
        assert_eq!(names, ["key", "another"]);
        assert_eq!(volume.claim, Some(("lab".to_owned(), "disk".to_owned())));
        assert_eq!((volume.capacity, volume.reclaim), (1 << 30, ReclaimPolicy::Retain));
        object.take(&["spec", "csi"]);
        assert!(PersistentVolume::try_from(&object).unwrap_err().to_string().contains("spec.csi"));
    }
}
