//! Fields that nobody knows: most likely misspelt, and always without effect.

use serde_json::Value;

use crate::dialect::fields::below;
use crate::dialect::object::Object;
use crate::dialect::resource::Resource;

/// Returns the paths of the fields that a document of its kind does not have, in their order. Nothing is said of
/// `status`, of what is free to hold anything, and of a kind that is not known.
pub fn unknown_fields(object: &Object) -> Vec<String> {
    let Some(resource) = object.resource() else { return Vec::new() };
    let mut unknown = Vec::new();
    for (key, value) in object.fields() {
        let rest: Vec<&str> = match key.as_str() {
            "apiVersion" | "kind" | "status" => continue,
            "metadata" => METADATA.to_vec(),
            _ => fields(resource).to_vec(),
        };
        let rest = match key.as_str() {
            "metadata" => rest,
            key => match steps(&rest, key) {
                Some(rest) => rest,
                None => {
                    unknown.push(below("", key));
                    continue;
                }
            },
        };
        walk(value, &below("", key), &rest, &mut unknown);
    }
    unknown
}

/// Returns the paths of the fields that documents of a kind have besides `apiVersion`, `kind` and `status`, with
/// slashes between the names: `spec/source/persistentVolumeClaimName`. A `*` stands for any name, the elements
/// of lists have no name, and anything may stand below the end of a path.
pub fn known_fields(resource: Resource) -> impl Iterator<Item = String> {
    let metadata = METADATA.iter().map(|path| format!("metadata/{path}"));
    metadata.chain(fields(resource).iter().map(ToString::to_string))
}

/// Looks at what is below a path. `rest` is how the known paths go on there; nothing, when anything may follow.
fn walk(value: &Value, path: &str, rest: &[&str], unknown: &mut Vec<String>) {
    if rest.is_empty() || unknown.len() >= MOST {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if unknown.len() >= MOST {
                    return;
                }
                let path = below(path, key);
                match steps(rest, key) {
                    Some(rest) => walk(value, &path, &rest, unknown),
                    None => unknown.push(path),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{index}]"), rest, unknown);
            }
        }
        _ => {}
    }
}

/// Returns how the paths that begin with a key go on, `None` when none of them does. A `*` stands for any key.
fn steps<'a>(paths: &[&'a str], key: &str) -> Option<Vec<&'a str>> {
    let mut found = false;
    let mut rest = Vec::new();
    for path in paths {
        let (first, more) = path.split_once('/').unwrap_or((path, ""));
        if first == key || first == "*" {
            found = true;
            rest.extend(Some(more).filter(|more| !more.is_empty()));
        }
    }
    found.then_some(rest)
}

/// Returns the known fields of a kind besides metadata and status. Below the end of a path anything goes.
fn fields(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::Secret => &["type", "data", "stringData", "immutable"],
        Resource::PersistentVolumeClaim => CLAIM,
        Resource::PersistentVolume => PERSISTENT_VOLUME,
        Resource::Event => &[
            "action",
            "count",
            "eventTime",
            "firstTimestamp",
            "involvedObject",
            "lastTimestamp",
            "message",
            "reason",
            "related",
            "reportingComponent",
            "reportingInstance",
            "series",
            "source",
            "type",
        ],
        Resource::Namespace => &["spec/finalizers"],
        Resource::StorageClass => &[
            "provisioner",
            "parameters",
            "reclaimPolicy",
            "mountOptions",
            "allowVolumeExpansion",
            "volumeBindingMode",
            "allowedTopologies",
        ],
        Resource::VolumeSnapshot => &[
            "spec/source/persistentVolumeClaimName",
            "spec/source/volumeSnapshotContentName",
            "spec/volumeSnapshotClassName",
        ],
        Resource::VolumeSnapshotClass => &["driver", "parameters", "deletionPolicy"],
        Resource::BackingImage => BACKING_IMAGE,
        Resource::LonghornVolume => VOLUME,
        Resource::VirtualMachineImage => VIRTUAL_MACHINE_IMAGE,
        Resource::VirtualMachine => &[
            "spec/running",
            "spec/runStrategy",
            "spec/instancetype",
            "spec/preference",
            "spec/dataVolumeTemplates",
            "spec/updateVolumesStrategy",
            "spec/template/metadata",
            "spec/template/spec",
        ],
    }
}

const METADATA: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences/apiVersion",
    "ownerReferences/kind",
    "ownerReferences/name",
    "ownerReferences/uid",
    "ownerReferences/controller",
    "ownerReferences/blockOwnerDeletion",
    "managedFields",
    "selfLink",
];

const CLAIM: &[&str] = &[
    "spec/accessModes",
    "spec/selector",
    "spec/resources/requests/storage",
    "spec/resources/limits/storage",
    "spec/volumeName",
    "spec/storageClassName",
    "spec/volumeMode",
    "spec/dataSource/apiGroup",
    "spec/dataSource/kind",
    "spec/dataSource/name",
    "spec/dataSourceRef/apiGroup",
    "spec/dataSourceRef/kind",
    "spec/dataSourceRef/name",
    "spec/dataSourceRef/namespace",
    "spec/volumeAttributesClassName",
];

const PERSISTENT_VOLUME: &[&str] = &[
    "spec/capacity/storage",
    "spec/accessModes",
    "spec/claimRef",
    "spec/csi/driver",
    "spec/csi/volumeHandle",
    "spec/csi/readOnly",
    "spec/csi/fsType",
    "spec/csi/volumeAttributes",
    "spec/csi/controllerPublishSecretRef",
    "spec/csi/controllerExpandSecretRef",
    "spec/csi/nodeStageSecretRef",
    "spec/csi/nodePublishSecretRef",
    "spec/csi/nodeExpandSecretRef",
    "spec/persistentVolumeReclaimPolicy",
    "spec/storageClassName",
    "spec/volumeAttributesClassName",
    "spec/mountOptions",
    "spec/volumeMode",
    "spec/nodeAffinity",
];

const BACKING_IMAGE: &[&str] = &[
    "spec/sourceType",
    "spec/sourceParameters/url",
    "spec/sourceParameters/backing-image",
    "spec/sourceParameters/backing-image-uuid",
    "spec/sourceParameters/encryption",
    "spec/sourceParameters/secret",
    "spec/sourceParameters/secret-namespace",
    "spec/sourceParameters/volume-name",
    "spec/sourceParameters/volume-size",
    "spec/sourceParameters/snapshot-name",
    "spec/sourceParameters/sender-address",
    "spec/sourceParameters/export-type",
    "spec/sourceParameters/file-sync-http-client-timeout",
    "spec/sourceParameters/backup-url",
    "spec/sourceParameters/backup-target-name",
    "spec/sourceParameters/concurrent-limit",
    "spec/sourceParameters/data-engine",
    "spec/checksum",
    "spec/minNumberOfCopies",
    "spec/diskFileSpecMap/*/dataEngine",
    "spec/diskFileSpecMap/*/evictionRequested",
    "spec/disks",
    "spec/diskSelector",
    "spec/nodeSelector",
    "spec/secret",
    "spec/secretNamespace",
    "spec/dataEngine",
];

const VOLUME: &[&str] = &[
    "spec/Standby",
    "spec/accessMode",
    "spec/backingImage",
    "spec/backupBlockSize",
    "spec/backupCompressionMethod",
    "spec/backupTargetName",
    "spec/cloneMode",
    "spec/dataEngine",
    "spec/dataLayout",
    "spec/dataLocality",
    "spec/dataSource",
    "spec/disableFrontend",
    "spec/diskSelector",
    "spec/encrypted",
    "spec/engineImage",
    "spec/freezeFilesystemForSnapshot",
    "spec/fromBackup",
    "spec/frontend",
    "spec/image",
    "spec/lastAttachedBy",
    "spec/migratable",
    "spec/migrationNodeID",
    "spec/nodeID",
    "spec/nodeSelector",
    "spec/numberOfReplicas",
    "spec/nvmeTcpNrIoQueues",
    "spec/offlineRebuilding",
    "spec/rebuildConcurrentSyncLimit",
    "spec/recurringJobs",
    "spec/replicaAutoBalance",
    "spec/replicaDiskSoftAntiAffinity",
    "spec/replicaRebuildingBandwidthLimit",
    "spec/replicaSoftAntiAffinity",
    "spec/replicaZoneSoftAntiAffinity",
    "spec/restoreVolumeRecurringJob",
    "spec/revisionCounterDisabled",
    "spec/size",
    "spec/snapshotDataIntegrity",
    "spec/snapshotHashingRequestedAt",
    "spec/snapshotMaxCount",
    "spec/snapshotMaxSize",
    "spec/staleReplicaTimeout",
    "spec/ublkNumberOfQueue",
    "spec/ublkQueueDepth",
    "spec/unmapMarkSnapChainRemoved",
];

const VIRTUAL_MACHINE_IMAGE: &[&str] = &[
    "spec/backend",
    "spec/checksum",
    "spec/description",
    "spec/displayName",
    "spec/pvcName",
    "spec/pvcNamespace",
    "spec/retry",
    "spec/securityParameters/cryptoOperation",
    "spec/securityParameters/sourceImageName",
    "spec/securityParameters/sourceImageNamespace",
    "spec/sourceType",
    "spec/storageClassParameters",
    "spec/targetStorageClassName",
    "spec/url",
];

/// How many are told at most: a document that is of another kind throughout has too many to read.
const MOST: usize = 100;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn misspelt_fields_are_told_by_their_paths() {
        let object = Object::of_value(json!({
            "apiVersion": "longhorn.io/v1beta2", "kind": "BackingImage", "spce": {},
            "metadata": { "name": "a", "annotation": {}, "labels": { "any/thing": "x" },
                          "ownerReferences": [{ "name": "x" }, { "nam": "x" }] },
            "spec": { "sourceType": "clone", "sourceParameters": { "backing_image": "b" },
                      "diskFileSpecMap": { "d1": { "dataEngine": "v1", "engine": "v1" } } },
            "status": { "anything": true },
        }));
        let wanted = [
            "spce",
            "metadata.annotation",
            "metadata.ownerReferences[1].nam",
            "spec.sourceParameters.backing_image",
            "spec.diskFileSpecMap.d1.engine",
        ];
        let mut found = unknown_fields(&object.unwrap());
        found.sort();
        let mut wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        wanted.sort();
        assert_eq!(found, wanted);
    }

    #[test]
    fn each_known_field_is_one_that_nobody_complains_of() {
        for resource in Resource::ALL {
            for path in known_fields(resource) {
                let mut object = Object::new(resource, None, "a");
                let keys: Vec<&str> =
                    path.split('/').map(|key| if key == "*" { "any" } else { key }).collect();
                object.set(&keys, "x");
                assert!(unknown_fields(&object).is_empty(), "{resource:?} {path}");
            }
        }
    }

    #[test]
    fn what_may_hold_anything_is_not_looked_at() {
        let mut machine = Object::new(Resource::VirtualMachine, Some("lab"), "vm");
        machine.set(&["spec", "template", "spec", "domain", "devices", "any"], 7);
        machine.set(&["spec", "template", "speck"], 7);
        assert_eq!(unknown_fields(&machine), ["spec.template.speck"]);
        let mut secret = Object::new(Resource::Secret, Some("lab"), "key");
        secret.set(&["data", "any"], "eA==");
        assert!(unknown_fields(&secret).is_empty());
        assert!(unknown_fields(&Object::default()).is_empty());
    }

    #[test]
    fn a_document_with_everything_wrong_is_told_in_part() {
        let mut claim = Object::new(Resource::PersistentVolumeClaim, Some("lab"), "c");
        let many: serde_json::Map<_, _> =
            (0..1000).map(|number| (number.to_string(), json!(1))).collect();
        claim.set(&["spec", "resources"], json!([many.clone(), many]));
        assert_eq!(unknown_fields(&claim).len(), MOST);
    }
}
