//! The columns of each kind.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

/// A column.
pub(super) struct Column {
    name: &'static str,
    what: What,
    wide: Wide,
}

/// Whether a column is only shown to those who want to see more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wide {
    No,
    Yes,
}

/// What stands in a column.
#[derive(Clone, Copy)]
enum What {
    /// The value at a path.
    At(&'static [&'static str]),
    /// How long ago the time at a path was.
    Since(&'static [&'static str]),
    /// What a function says.
    Of(fn(&Object) -> Value),
}

impl Column {
    /// Returns how it is called and what stands in it.
    pub(super) fn definition(&self) -> Value {
        let priority = i32::from(self.wide == Wide::Yes);
        let format = if self.name == "Name" { "name" } else { "" };
        json!({
            "name": self.name,
            "type": "string",
            "format": format,
            "description": "",
            "priority": priority,
        })
    }

    /// Returns what stands in it for a document.
    pub(super) fn cell(&self, object: &Object, now: SystemTime) -> Value {
        match self.what {
            What::At(path) => plain(object.at(path)),
            What::Since(path) => since(object.text(path), now),
            What::Of(what) => what(object),
        }
    }
}

/// Returns the columns of a kind.
pub(super) fn columns(resource: Resource) -> &'static [Column] {
    match resource {
        Resource::Secret => SECRET,
        Resource::PersistentVolumeClaim => CLAIM,
        Resource::PersistentVolume => PERSISTENT_VOLUME,
        Resource::Event => EVENT,
        Resource::Namespace => NAMESPACE,
        Resource::StorageClass => STORAGE_CLASS,
        Resource::VolumeSnapshot => SNAPSHOT,
        Resource::VolumeSnapshotClass => SNAPSHOT_CLASS,
        Resource::BackingImage => BACKING_IMAGE,
        Resource::LonghornVolume => VOLUME,
        Resource::VirtualMachineImage => MACHINE_IMAGE,
        Resource::VirtualMachine => MACHINE,
    }
}

const fn at(name: &'static str, path: &'static [&'static str]) -> Column {
    Column { name, what: What::At(path), wide: Wide::No }
}

const fn wide(name: &'static str, path: &'static [&'static str]) -> Column {
    Column { name, what: What::At(path), wide: Wide::Yes }
}

const fn of(name: &'static str, what: fn(&Object) -> Value) -> Column {
    Column { name, what: What::Of(what), wide: Wide::No }
}

const NAME: Column = at("Name", &["metadata", "name"]);

const AGE: Column =
    Column { name: "Age", what: What::Since(&["metadata", "creationTimestamp"]), wide: Wide::No };

const SECRET: &[Column] = &[
    NAME,
    of("Type", |object| object.text(&["type"]).unwrap_or("Opaque").into()),
    of("Data", |object| {
        object.at(&["data"]).and_then(Value::as_object).map_or(0, serde_json::Map::len).into()
    }),
    AGE,
];

const CLAIM: &[Column] = &[
    NAME,
    of("Status", |object| phase(object, "Pending")),
    at("Volume", &["spec", "volumeName"]),
    at("Capacity", &["status", "capacity", "storage"]),
    of("Access Modes", access_modes),
    at("StorageClass", &["spec", "storageClassName"]),
    AGE,
    wide("VolumeMode", &["spec", "volumeMode"]),
];

const PERSISTENT_VOLUME: &[Column] = &[
    NAME,
    at("Capacity", &["spec", "capacity", "storage"]),
    of("Access Modes", access_modes),
    at("Reclaim Policy", &["spec", "persistentVolumeReclaimPolicy"]),
    of("Status", |object| phase(object, "Pending")),
    of("Claim", |object| {
        let part = |key| object.text(&["spec", "claimRef", key]);
        match (part("namespace"), part("name")) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}").into(),
            _ => "".into(),
        }
    }),
    at("StorageClass", &["spec", "storageClassName"]),
    at("Encrypted", &["spec", "csi", "volumeAttributes", "encrypted"]),
    AGE,
    wide("VolumeMode", &["spec", "volumeMode"]),
];

const EVENT: &[Column] = &[
    Column { name: "Last Seen", what: What::Since(&["lastTimestamp"]), wide: Wide::No },
    at("Type", &["type"]),
    at("Reason", &["reason"]),
    of("Object", |object| {
        let part = |key| object.text(&["involvedObject", key]).unwrap_or_default();
        format!("{}/{}", part("kind").to_ascii_lowercase(), part("name")).into()
    }),
    at("Message", &["message"]),
    wide("Count", &["count"]),
    wide("Name", &["metadata", "name"]),
];

const NAMESPACE: &[Column] = &[NAME, of("Status", |object| phase(object, "Active")), AGE];

const STORAGE_CLASS: &[Column] = &[
    NAME,
    at("Provisioner", &["provisioner"]),
    at("ReclaimPolicy", &["reclaimPolicy"]),
    at("VolumeBindingMode", &["volumeBindingMode"]),
    at("AllowVolumeExpansion", &["allowVolumeExpansion"]),
    of("Encrypted", |object| {
        let is = |key| object.text(&["parameters", key]) == Some("true");
        truth(is("encrypted") || is("encryptionEnabled"))
    }),
    AGE,
];

const SNAPSHOT: &[Column] = &[
    NAME,
    at("ReadyToUse", &["status", "readyToUse"]),
    at("SourcePVC", &["spec", "source", "persistentVolumeClaimName"]),
    at("RestoreSize", &["status", "restoreSize"]),
    at("SnapshotClass", &["spec", "volumeSnapshotClassName"]),
    at("SnapshotContent", &["status", "boundVolumeSnapshotContentName"]),
    AGE,
];

const SNAPSHOT_CLASS: &[Column] =
    &[NAME, at("Driver", &["driver"]), at("DeletionPolicy", &["deletionPolicy"]), AGE];

const BACKING_IMAGE: &[Column] = &[
    NAME,
    at("UUID", &["status", "uuid"]),
    at("SourceType", &["spec", "sourceType"]),
    at("Size", &["status", "size"]),
    at("VirtualSize", &["status", "virtualSize"]),
    of("State", |object| of_image(object, "state")),
    of("Progress", |object| of_image(object, "progress")),
    of("Encrypted", |object| match object.at(&["status", "encrypted"]) {
        // What is stored counts, once it is known.
        Some(Value::Bool(encrypted)) => truth(*encrypted),
        _ => truth(object.text(&["spec", "secret"]).is_some_and(|secret| !secret.is_empty())),
    }),
    AGE,
    wide("RealSize", &["status", "realSize"]),
];

const VOLUME: &[Column] = &[
    NAME,
    at("State", &["status", "state"]),
    at("Robustness", &["status", "robustness"]),
    at("Size", &["spec", "size"]),
    at("Image", &["spec", "backingImage"]),
    of("Encrypted", |object| truth(object.at(&["spec", "encrypted"]) == Some(&Value::Bool(true)))),
    AGE,
];

const MACHINE_IMAGE: &[Column] = &[
    NAME,
    at("Display-Name", &["spec", "displayName"]),
    at("SourceType", &["spec", "sourceType"]),
    at("Size", &["status", "size"]),
    at("VirtualSize", &["status", "virtualSize"]),
    at("Progress", &["status", "progress"]),
    at("StorageClass", &["status", "storageClassName"]),
    of("Operation", |object| plain(object.at(&["spec", "securityParameters", "cryptoOperation"]))),
    AGE,
];

const MACHINE: &[Column] = &[
    NAME,
    of("Encryption", |object| plain_text(object.annotation("strongroom.io/encryption"))),
    AGE,
];

fn phase(object: &Object, otherwise: &str) -> Value {
    object.text(&["status", "phase"]).unwrap_or(otherwise).into()
}

fn truth(is: bool) -> Value {
    if is { "true".into() } else { "false".into() }
}

fn plain(value: Option<&Value>) -> Value {
    match value {
        None => "".into(),
        Some(Value::String(text)) => text.as_str().into(),
        Some(other) => other.to_string().into(),
    }
}

fn plain_text(text: Option<&str>) -> Value {
    text.unwrap_or_default().into()
}

/// Returns what an image's status says, or else that of the first file of it.
fn of_image(object: &Object, key: &str) -> Value {
    if let Some(value) = object.at(&["status", key]) {
        return plain(Some(value));
    }
    let files = object.at(&["status", "diskFileStatusMap"]).and_then(Value::as_object);
    plain(files.and_then(|files| files.values().next()).and_then(|file| file.get(key)))
}

fn access_modes(object: &Object) -> Value {
    let modes = object.at(&["spec", "accessModes"]).and_then(Value::as_array);
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "?",
    };
    modes.into_iter().flatten().map(short).collect::<Vec<_>>().join(",").into()
}

fn since(time: Option<&str>, now: SystemTime) -> Value {
    let time = time.and_then(|time| humantime::parse_rfc3339(time).ok());
    time.map_or_else(
        || "<unknown>".into(),
        |time| short(now.duration_since(time).unwrap_or_default()).into(),
    )
}

/// Returns a time as Kubernetes shortens it: the longer, the coarser.
fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: u64, unit: char, small: u64, lesser: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{lesser}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shortened_as_kubernetes_does() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (125, "2m5s"),
            (180, "3m"),
            (3600, "60m"),
            (11_000, "3h3m"),
            (100_000, "27h"),
            (200_000, "2d7h"),
            (1_000_000, "11d"),
            (70_000_000, "2y80d"),
            (400_000_000, "12y"),
        ] {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn every_kind_has_a_name_and_no_column_twice() {
        for resource in Resource::ALL {
            let mut names: Vec<_> = columns(resource).iter().map(|column| column.name).collect();
            assert!(names.contains(&"Name"), "{resource:?}");
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{resource:?}");
        }
    }
}
