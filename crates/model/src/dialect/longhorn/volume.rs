//! Longhorn's volumes.

use serde_json::Value;

use super::super::admission::{Reason, Refused};
use super::super::fields::{Fields, shown};
use super::super::kubernetes::{SecretReference, bytes_of_quantity};
use super::super::object::Object;
use super::super::resource::Resource;

/// A `longhorn.io/v1beta2 Volume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LonghornVolume {
    /// Its name.
    pub name: String,
    /// Its namespace, empty when it has none yet.
    pub namespace: String,
    /// Its UID, empty when it has none yet.
    pub uid: String,
    /// The bytes that its user sees.
    pub size: u64,
    /// Whether it is encrypted.
    pub encryption: VolumeEncryption,
    /// The image that it begins with, in the same namespace.
    pub backing_image: Option<String>,
    /// The backup that it begins with: a URL.
    pub from_backup: Option<String>,
    /// What else it begins with.
    pub data_source: Option<VolumeDataSource>,
    /// The UID of the claim whose volume it stands for: the server keeps such a document beside the
    /// PersistentVolume of the same name, and nothing is made of it.
    pub stands_for: Option<String>,
    /// How Longhorn would make it appear: `blockdev`, `iscsi` and the like. Recorded, no more.
    pub frontend: Option<String>,
}

/// Whether a volume is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VolumeEncryption {
    /// It is not.
    Plain,
    /// It is, with the passphrase in this Secret: annotation `strongroom.io/secret: NAMESPACE/NAME`. Longhorn
    /// has no field for it; its own PersistentVolumes name `longhorn-system/longhorn-crypto`.
    Encrypted {
        /// Where the passphrase is.
        secret: SecretReference,
    },
}

/// What a volume begins with, as Longhorn's `dataSource` spells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VolumeDataSource {
    /// `vol://VOLUME`.
    Volume(String),
    /// `snap://VOLUME/SNAPSHOT`.
    Snapshot {
        /// The volume.
        volume: String,
        /// The snapshot.
        snapshot: String,
    },
}

impl LonghornVolume {
    /// The annotation that names the Secret of an encrypted volume.
    pub const SECRET: &'static str = "strongroom.io/secret";

    /// The annotation of one that stands for the volume of a claim: the UID of the claim. The server writes it.
    pub const CLAIM: &'static str = "strongroom.io/claim-uid";

    /// Where those are that stand for volumes of claims: with Longhorn's own.
    pub const NAMESPACE: &'static str = "longhorn-system";

    /// Returns the UID of the claim whose volume a document stands for; `None` when it is one that somebody
    /// applied for a volume of its own.
    pub fn stands_for(object: &Object) -> Option<&str> {
        let uid = object.annotation(Self::CLAIM)?;
        (object.namespace() == Some(Self::NAMESPACE)).then_some(uid)
    }
}

impl TryFrom<&Object> for LonghornVolume {
    type Error = Refused;

    fn try_from(object: &Object) -> Result<Self, Refused> {
        let mut fields = Fields::of(object, Resource::LonghornVolume);
        if fields.text(&["spec", "dataEngine"]).is_some_and(|engine| engine != "v1") {
            let message = "v2 volumes are not supported: there is one data engine here";
            fields.note(&["spec", "dataEngine"], Reason::NotSupported, message);
        }
        let volume = Self {
            name: fields.required(&["metadata", "name"], "a volume needs a name").to_owned(),
            namespace: object.namespace().unwrap_or_default().to_owned(),
            uid: object.uid().to_owned(),
            size: size(&mut fields),
            encryption: encryption(&mut fields),
            backing_image: fields.text(&["spec", "backingImage"]).map(str::to_owned),
            from_backup: fields.text(&["spec", "fromBackup"]).map(str::to_owned),
            data_source: fields.parsed(&["spec", "dataSource"], data_source),
            stands_for: Self::stands_for(object).map(str::to_owned),
            frontend: fields.text(&["spec", "frontend"]).map(str::to_owned),
        };
        fields.finish(volume)
    }
}

/// Returns the size, which Longhorn writes as a text of digits.
fn size(fields: &mut Fields<'_>) -> u64 {
    let path = ["spec", "size"];
    let text = match fields.value(&path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        // What a volume is made from can have the size in itself; whether it does is seen later.
        None => return 0,
        Some(_) => String::new(),
    };
    bytes_of_quantity(&text).unwrap_or_else(|problem| {
        fields.note(&path, Reason::Invalid, problem);
        0
    })
}

fn encryption(fields: &mut Fields<'_>) -> VolumeEncryption {
    let annotation = ["metadata", "annotations", LonghornVolume::SECRET];
    let named = fields.text(&annotation).unwrap_or(DEFAULT_SECRET);
    if !fields.flag(&["spec", "encrypted"]) {
        return VolumeEncryption::Plain;
    }
    let own = fields.object().namespace().unwrap_or_default();
    let (namespace, name) = named.split_once('/').unwrap_or((own, named));
    let secret = SecretReference { namespace: namespace.to_owned(), name: name.to_owned() };
    VolumeEncryption::Encrypted { secret }
}

fn data_source(text: &str) -> Result<VolumeDataSource, String> {
    let named = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let volume = text.strip_prefix("vol://").and_then(named).map(VolumeDataSource::Volume);
    let snapshot = || {
        let (volume, snapshot) = text.strip_prefix("snap://")?.split_once('/')?;
        let (volume, snapshot) = (named(volume)?, named(snapshot)?);
        Some(VolumeDataSource::Snapshot { volume, snapshot })
    };
    volume.or_else(snapshot).ok_or_else(|| {
        format!("{} is neither vol://VOLUME nor snap://VOLUME/SNAPSHOT", shown(text))
    })
}

/// The Secret that Longhorn's PersistentVolumes name when nobody says another.
const DEFAULT_SECRET: &str = "longhorn-system/longhorn-crypto";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(spec: Value) -> Result<LonghornVolume, Refused> {
        let mut object = Object::new(Resource::LonghornVolume, Some("longhorn-system"), "v");
        object.set(&["spec"], spec);
        LonghornVolume::try_from(&object)
    }

    #[test]
    fn an_encrypted_volume_has_longhorns_secret_unless_it_names_another() {
        let read = volume(json!({ "size": "1073741824", "encrypted": true })).unwrap();
        assert_eq!(read.size, 1 << 30);
        let VolumeEncryption::Encrypted { secret } = read.encryption else { panic!("plain") };
        assert_eq!(secret.to_string(), "longhorn-system/longhorn-crypto");
        let plain = volume(json!({ "size": "1Gi" })).unwrap();
        assert_eq!(plain.encryption, VolumeEncryption::Plain);
    }

    #[test]
    fn the_annotation_may_leave_the_namespace_out() {
        let mut object = Object::new(Resource::LonghornVolume, Some("lab"), "v");
        object.set(&["spec"], json!({ "size": "1Mi", "encrypted": true }));
        object.set(&["metadata", "annotations", LonghornVolume::SECRET], "mine");
        let VolumeEncryption::Encrypted { secret } =
            LonghornVolume::try_from(&object).unwrap().encryption
        else {
            panic!("plain")
        };
        assert_eq!(secret.to_string(), "lab/mine");
    }

    #[test]
    fn one_stands_for_the_volume_of_a_claim_beside_longhorns_own_alone() {
        for (namespace, stands) in [("longhorn-system", Some("1-2")), ("lab", None)] {
            let mut object = Object::new(Resource::LonghornVolume, Some(namespace), "pvc-1-2");
            assert_eq!(LonghornVolume::stands_for(&object), None);
            object.set(&["metadata", "annotations", LonghornVolume::CLAIM], "1-2");
            assert_eq!(LonghornVolume::stands_for(&object), stands);
        }
    }

    #[test]
    fn what_a_volume_begins_with_is_spelt_as_longhorn_does() {
        let source = |text: &str| volume(json!({ "size": "1", "dataSource": text }));
        let snapshot =
            VolumeDataSource::Snapshot { volume: "a".to_owned(), snapshot: "b".to_owned() };
        assert_eq!(source("snap://a/b").unwrap().data_source, Some(snapshot));
        let cloned = VolumeDataSource::Volume("a".to_owned());
        assert_eq!(source("vol://a").unwrap().data_source, Some(cloned));
        for bad in ["vol://", "snap://a", "snap:///b", "a"] {
            assert!(source(bad).is_err(), "{bad}");
        }
        assert!(
            volume(json!({ "size": "big", "dataEngine": "v2" })).unwrap_err().causes.len() == 2
        );
    }
}
