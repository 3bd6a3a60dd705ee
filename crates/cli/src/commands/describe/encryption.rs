//! Whether what a document stands for is encrypted and with which key, in words.

use serde_json::Value;
use strongroom_model::dialect::resource::Resource;
use strongroom_server::client::Place;

/// Returns how the images or volumes of a document are encrypted; `None` where that is not known, or there are none.
/// `read` returns another document, if it is there.
pub(super) fn words(
    resource: Resource,
    document: &Value,
    read: &mut dyn FnMut(&Place) -> Option<Value>,
) -> Option<String> {
    let (spec, status) = (&document["spec"], &document["status"]);
    match resource {
        Resource::BackingImage => {
            let secret = secret(&spec["secret"], &spec["secretNamespace"]);
            said(&status["encrypted"], secret)
        }
        Resource::VirtualMachineImage => {
            let is_encrypted = status["encrypted"].as_bool()?;
            let name = text(&status["backingImageName"]).unwrap_or_default();
            let place = Place::of_one(Resource::BackingImage, Some(LONGHORN), name);
            let image = is_encrypted.then(|| read(&place)).flatten();
            let of_image = image.and_then(|image| words(Resource::BackingImage, &image, read));
            of_image.or_else(|| said(&status["encrypted"], None))
        }
        Resource::PersistentVolumeClaim => {
            let place = Place::of_one(Resource::PersistentVolume, None, text(&spec["volumeName"])?);
            words(Resource::PersistentVolume, &read(&place)?, read)
        }
        Resource::PersistentVolume => {
            let (csi, attributes) = (&spec["csi"], &spec["csi"]["volumeAttributes"]);
            let reference = &csi["nodeStageSecretRef"];
            let secret = secret(&reference["name"], &reference["namespace"]);
            match text(&attributes["encryptionKMSType"]) {
                Some(kms) => Some(managed(kms, attributes, secret)),
                None => said(&attributes["encrypted"], secret),
            }
        }
        Resource::VolumeSnapshot => {
            let reference = &status["secretRef"];
            said(&status["encrypted"], secret(&reference["name"], &reference["namespace"]))
        }
        Resource::LonghornVolume => said(&status["encrypted"], None),
        Resource::StorageClass => Some(of_class(&document["parameters"])),
        _ => None,
    }
}

/// Returns how the volumes of a class are encrypted.
fn of_class(parameters: &Value) -> String {
    let of = |key: &str| {
        let parameter =
            |use_of: &str| &parameters[format!("csi.storage.k8s.io/{use_of}-secret-{key}")];
        ["node-stage", "node-publish", "provisioner"]
            .into_iter()
            .map(parameter)
            .find(|value| text(value).is_some())
            .unwrap_or(&Value::Null)
    };
    let secret = secret(of("name"), of("namespace"));
    let words = match text(&parameters["encryptionKMSType"]) {
        Some(kms) if parameters["encryptionEnabled"] == "true" => managed(kms, parameters, secret),
        _ if parameters["encrypted"] == "true" => encrypted(secret),
        _ => NOT_ENCRYPTED.to_owned(),
    };
    format!("its volumes are {words}")
}

fn said(is_encrypted: &Value, secret: Option<String>) -> Option<String> {
    match is_encrypted {
        Value::Bool(true) => Some(encrypted(secret)),
        Value::Bool(false) => Some(NOT_ENCRYPTED.to_owned()),
        Value::String(word) if word == "true" => Some(encrypted(secret)),
        Value::String(_) => Some(NOT_ENCRYPTED.to_owned()),
        _ => secret.map(|secret| format!("to be encrypted, with the key of the Secret {secret}")),
    }
}

fn encrypted(secret: Option<String>) -> String {
    match secret {
        Some(secret) => format!("encrypted, with the key of the Secret {secret}"),
        None => "encrypted".to_owned(),
    }
}

/// Returns how a volume is encrypted whose data key a KMS wraps.
fn managed(kms: &str, fields: &Value, secret: Option<String>) -> String {
    let mut words = format!("encrypted, with a data key that a KMS wraps ({kms}");
    if let Some(endpoint) = text(&fields["encryptionKMSEndpoint"]) {
        words.push_str(&format!(" at {endpoint}"));
    }
    if let Some(key) = text(&fields["encryptionKMSKeyID"]) {
        words.push_str(&format!(", key {key}"));
    }
    words.push(')');
    if let Some(secret) = secret {
        words.push_str(&format!("; the Secret {secret} lets it be asked"));
    }
    words
}

fn secret(name: &Value, namespace: &Value) -> Option<String> {
    let name = text(name)?;
    Some(match text(namespace) {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    })
}

/// Returns text that is not empty.
fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

const NOT_ENCRYPTED: &str = "not encrypted";

/// Where the images of images of Harvester are.
const LONGHORN: &str = "longhorn-system";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alone(resource: Resource, document: &Value) -> Option<String> {
        words(resource, document, &mut |_| None)
    }

    #[test]
    fn images_and_volumes_name_their_secret() {
        let with = "encrypted, with the key of the Secret lab/key";
        let image = json!({
            "spec": { "secret": "key", "secretNamespace": "lab" }, "status": { "encrypted": true }
        });
        assert_eq!(alone(Resource::BackingImage, &image).as_deref(), Some(with));
        let harvesters = json!({ "status": { "encrypted": true, "backingImageName": "vmi" } });
        let found = words(Resource::VirtualMachineImage, &harvesters, &mut |place| {
            assert_eq!(
                (place.namespace.as_deref(), place.name.as_deref()),
                (Some(LONGHORN), Some("vmi"))
            );
            Some(image.clone())
        });
        assert_eq!(found.as_deref(), Some(with));
        assert_eq!(alone(Resource::VirtualMachineImage, &harvesters).as_deref(), Some("encrypted"));
        let plain = json!({ "spec": {}, "status": { "encrypted": false } });
        assert_eq!(alone(Resource::BackingImage, &plain).as_deref(), Some("not encrypted"));
        assert_eq!(alone(Resource::BackingImage, &json!({})), None);

        let volume = json!({ "spec": { "csi": {
            "nodeStageSecretRef": { "name": "key", "namespace": "lab" },
            "volumeAttributes": { "encrypted": "true" }
        } } });
        let claim = json!({ "spec": { "volumeName": "pvc-1" } });
        let found = words(Resource::PersistentVolumeClaim, &claim, &mut |_| Some(volume.clone()));
        assert_eq!(found.as_deref(), Some(with));
        assert_eq!(alone(Resource::PersistentVolumeClaim, &json!({})), None);
        let snapshot = json!({ "status": {
            "encrypted": true, "secretRef": { "name": "key", "namespace": "lab" }
        } });
        assert_eq!(alone(Resource::VolumeSnapshot, &snapshot).as_deref(), Some(with));
    }

    #[test]
    fn classes_tell_how_their_volumes_are_encrypted() {
        let class = |parameters: Value| {
            alone(Resource::StorageClass, &json!({ "parameters": parameters })).unwrap()
        };
        assert_eq!(class(json!({})), "its volumes are not encrypted");
        assert_eq!(
            class(json!({
                "encrypted": "true",
                "csi.storage.k8s.io/node-stage-secret-name": "${pvc.name}",
                "csi.storage.k8s.io/node-stage-secret-namespace": "${pvc.namespace}",
            })),
            "its volumes are encrypted, with the key of the Secret ${pvc.namespace}/${pvc.name}"
        );
        assert_eq!(
            class(json!({
                "encryptionEnabled": "true", "encryptionKMSType": "transit",
                "encryptionKMSEndpoint": "https://kms.example.org", "encryptionKMSKeyID": "kek",
                "csi.storage.k8s.io/node-stage-secret-name": "token",
            })),
            "its volumes are encrypted, with a data key that a KMS wraps (transit at \
             https://kms.example.org, key kek); the Secret token lets it be asked"
        );
    }
}
