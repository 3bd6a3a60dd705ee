mod volumes;

use base64::Engine;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::kubernetes::{Claim, SecretUse, secret_values};
use crate::dialect::longhorn::{BackingImage, LonghornVolume};

/// Documents in memory, with the values of their Secrets.
#[derive(Default)]
pub(super) struct Documents(Vec<Arc<Object>>);

impl Known for Documents {
    fn object(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<Object>> {
        let all = self.objects(resource, namespace);
        all.into_iter().find(|object| object.name() == name && object.namespace() == namespace)
    }

    fn objects(&self, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let fits = |object: &&Arc<Object>| {
            object.resource() == Some(resource)
                && namespace.is_none_or(|namespace| object.namespace() == Some(namespace))
        };
        self.0.iter().filter(fits).cloned().collect()
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<SecretValues> {
        let secret = self.object(Resource::Secret, Some(namespace), name)?;
        Some(secret_values(&secret).unwrap())
    }
}

impl Documents {
    /// Puts a document in, as it is after admission. Returns it.
    fn put(&mut self, object: Object) -> Object {
        let admitted = admit(object, Change::Create, self).unwrap().object;
        self.0.push(Arc::new(admitted.clone()));
        admitted
    }

    fn create(&self, object: Object) -> Result<Admitted, Refused> {
        admit(object, Change::Create, self)
    }

    fn refusal(&self, object: Object) -> String {
        self.create(object).unwrap_err().to_string()
    }

    /// Changes the status of a document, which needs no admission.
    fn set(&mut self, resource: Resource, name: &str, path: &[&str], value: impl Into<Value>) {
        let is = |object: &&mut Arc<Object>| {
            object.resource() == Some(resource) && object.name() == name
        };
        let object = self.0.iter_mut().find(is).unwrap();
        Arc::make_mut(object).set(path, value);
    }

    fn users(&self, resource: Resource, namespace: Option<&str>, name: &str) -> Vec<String> {
        users(&self.object(resource, namespace, name).unwrap(), self)
    }
}

fn document(resource: Resource, namespace: Option<&str>, name: &str, spec: Value) -> Object {
    let mut object = Object::new(resource, namespace, name);
    object.set(&["spec"], spec);
    object
}

fn secret(name: &str, values: Value) -> Object {
    let mut object = Object::new(Resource::Secret, Some("keys"), name);
    object.set(&["stringData"], values);
    object
}

fn key(name: &str, passphrase: &str) -> Object {
    secret(name, json!({ "CRYPTO_KEY_VALUE": passphrase }))
}

pub(super) fn image(name: &str, source_type: &str, parameters: impl Into<Value>) -> Object {
    let parameters = parameters.into();
    let spec = json!({ "sourceType": source_type, "sourceParameters": parameters });
    document(Resource::BackingImage, Some("longhorn-system"), name, spec)
}

fn cloned(name: &str, from: &str, encryption: &str, secret: &str) -> Object {
    let parameters = match encryption {
        "ignore" => json!({ "backing-image": from }),
        _ => json!({ "backing-image": from, "encryption": encryption, "secret": secret,
                     "secret-namespace": "keys" }),
    };
    image(name, "clone", parameters)
}

fn class(name: &str, secret: Option<&str>, more: Value) -> Object {
    let mut parameters = more;
    if let Some(secret) = secret {
        if parameters.get("encryptionEnabled").is_none() {
            parameters["encrypted"] = json!("true");
        }
        for of in [SecretUse::NodeStage, SecretUse::NodePublish, SecretUse::NodeExpand] {
            let [name, namespace] = of.parameters();
            parameters[name] = json!(secret);
            parameters[namespace] = json!("keys");
        }
    }
    let mut object = Object::new(Resource::StorageClass, None, name);
    object.set(&["provisioner"], "driver.longhorn.io");
    object.set(&["allowVolumeExpansion"], true);
    object.set(&["parameters"], parameters);
    object
}

fn claim(name: &str, class: &str, size: &str) -> Object {
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                       "resources": { "requests": { "storage": size } } });
    document(Resource::PersistentVolumeClaim, Some("lab"), name, spec)
}

fn machine_image(name: &str, operation: &str, from: &str, class: Option<&str>) -> Object {
    let spec = json!({ "displayName": name, "sourceType": "clone", "securityParameters": {
        "cryptoOperation": operation, "sourceImageName": from, "sourceImageNamespace": "lab" } });
    let mut object = document(Resource::VirtualMachineImage, Some("lab"), name, spec);
    if let Some(class) = class {
        object.set(&["metadata", "annotations", "harvesterhci.io/storageClassName"], class);
    }
    object
}

/// Two keys, a plain image and one that the first key encrypts.
fn library() -> Documents {
    let mut documents = Documents::default();
    documents.put(key("one", "canary one"));
    documents.put(key("two", "canary two"));
    documents.put(key("same", "canary one"));
    documents.put(image("plain", "download", json!({ "url": "https://images.example/a.img" })));
    documents.put(cloned("sealed", "plain", "encrypt", "one"));
    documents
}

#[test]
fn a_clone_that_ignores_encryption_is_opened_by_what_opens_its_source() {
    let mut documents = library();
    let digits = "ab".repeat(64);
    documents.set(Resource::BackingImage, "sealed", &["status", "checksum"], &*digits);
    let clone = documents.put(cloned("copy", "sealed", "ignore", ""));
    assert_eq!(clone.text(&["spec", "secret"]), Some("one"));
    assert_eq!(clone.text(&["spec", "secretNamespace"]), Some("keys"));
    assert_eq!(clone.text(&["spec", "checksum"]), Some(digits.as_str()));
    assert_eq!(clone.text(&["spec", "sourceParameters", "encryption"]), Some("ignore"));
    assert_eq!(clone.at(&["spec", "minNumberOfCopies"]), Some(&json!(3)));

    let mut other = cloned("other", "sealed", "ignore", "");
    other.set(&["spec", "secret"], "two");
    other.set(&["spec", "secretNamespace"], "keys");
    let told = documents.refusal(other);
    assert!(told.contains("keys/one") && told.contains("keys/two"), "{told}");
}

#[test]
fn what_is_encrypted_is_not_encrypted_again_nor_decrypted_twice() {
    let documents = library();
    let told = documents.refusal(cloned("again", "sealed", "encrypt", "one"));
    assert!(
        told.contains("cannot re-encrypt the backing image, sealed is already encrypted"),
        "{told}"
    );
    let told = documents.refusal(cloned("again", "plain", "decrypt", "one"));
    assert!(
        told.contains("cannot re-decrypt the backing image, plain is already decrypted"),
        "{told}"
    );
    let told = documents.refusal(cloned("x2", "nothing", "ignore", ""));
    assert!(told.contains("invalid parameter for source type clone"), "{told}");
    let told = documents.refusal(cloned("x2", "plain", "encrypt", "three"));
    assert!(told.contains("failed to get the secret three in the namespace keys"), "{told}");
}

#[test]
fn an_image_that_came_encrypted_is_known_as_such_without_a_secret() {
    let mut documents = library();
    documents.put(image("sent", "upload", json!({})));
    documents.set(Resource::BackingImage, "sent", &["status", "encrypted"], true);
    let told = documents.refusal(cloned("again", "sent", "encrypt", "one"));
    assert!(told.contains("sent is already encrypted, though it names no Secret"), "{told}");
    let told = documents.refusal(cloned("again", "sent", "decrypt", "one"));
    assert!(told.contains("set its spec.secret and spec.secretNamespace first"), "{told}");
}

#[test]
fn an_image_is_decrypted_with_the_key_that_encrypted_it_and_no_other() {
    let documents = library();
    let told = documents.refusal(cloned("open", "sealed", "decrypt", "two"));
    assert!(told.contains("keys/one") && told.contains("keys/two"), "{told}");
    let opened = documents.create(cloned("open", "sealed", "decrypt", "one")).unwrap().object;
    assert_eq!(BackingImage::try_from(&opened).unwrap().key(), None);
}

#[test]
fn secrets_are_compared_only_for_who_is_in_their_namespace() {
    let mut documents = library();
    // A guess in another namespace is answered in the same words, whether it is right or not.
    let told = |documents: &Documents, name: &str| {
        let told = documents.refusal(cloned("open", "sealed", "decrypt", name));
        assert!(told.contains("use the same Secret"), "{told}");
        told.replace(&format!("keys/{name}"), "keys/…")
    };
    assert_eq!(told(&documents, "same"), told(&documents, "two"));
    for name in ["two", "same"] {
        documents.put(class(name, Some(name), json!({ "backingImage": "sealed" })));
    }
    let claimed = |documents: &Documents, name: &str| {
        documents.refusal(claim("disk", name, "1Gi")).replace(&format!("keys/{name}"), "keys/…")
    };
    assert_eq!(claimed(&documents, "same"), claimed(&documents, "two"));

    // Who makes images beside the Secrets knows which of them are the same.
    let here = |mut object: Object| {
        object.set(&["metadata", "namespace"], "keys");
        object
    };
    documents.put(here(image("near", "download", json!({ "url": "https://images.example/a" }))));
    documents.put(here(cloned("shut", "near", "encrypt", "one")));
    assert!(documents.create(here(cloned("open", "shut", "decrypt", "same"))).is_ok());
    let told = documents.refusal(here(cloned("open", "shut", "decrypt", "two")));
    assert!(told.contains("another passphrase"), "{told}");
}

#[test]
fn an_image_to_be_encrypted_shows_its_key_from_the_start() {
    let documents = library();
    let sealed = documents.object(Resource::BackingImage, Some("longhorn-system"), "sealed");
    assert_eq!(sealed.unwrap().text(&["spec", "secret"]), Some("one"));
    let mut clone = cloned("next", "plain", "encrypt", "two");
    clone.set(&["spec", "checksum"], "ab".repeat(64));
    let admitted = documents.create(clone).unwrap();
    assert_eq!(admitted.object.at(&["spec", "checksum"]), None);
    assert_eq!(admitted.warnings.len(), 1);
}

#[test]
fn the_rules_of_every_image_hold() {
    let documents = Documents::default();
    let mut upload = image("A", "upload", Value::Null);
    upload.set(&["spec", "checksum"], "XY");
    upload.set(&["spec", "dataEngine"], "v2");
    upload.set(&["spec", "secret"], "gone");
    upload.set(&["spec", "secretNamespace"], "keys");
    let told = documents.refusal(upload.clone());
    for phrase in ["invalid name", "invalid checksum", "v2 backing image is not supported"] {
        assert!(told.contains(phrase), "{phrase}: {told}");
    }
    let mut upload = image("under_score.1", "upload", Value::Null);
    upload.set(&["spec", "secret"], "gone");
    upload.set(&["spec", "secretNamespace"], "keys");
    let told = documents.refusal(upload);
    assert!(
        told.contains("failed to get secret gone in namespace keys for the backing image"),
        "{told}"
    );
    let parameters =
        json!({ "encryption": "encrypt", "secret": "one", "secret-namespace": "keys" });
    let told = documents.refusal(image("sent", "upload", parameters));
    for key in ["encryption", "secret", "secret-namespace"] {
        assert!(told.contains(&format!("spec.sourceParameters.{key}")), "{told}");
    }
    assert!(told.contains("spec.secret"), "{told}");
    let url = json!({ "url": " https://images.example/a.img \n" });
    let admitted = documents.create(image("ok", "download", url)).unwrap().object;
    let url = admitted.text(&["spec", "sourceParameters", "url"]);
    assert_eq!(url, Some("https://images.example/a.img"));
}

#[test]
fn an_image_in_the_library_is_what_it_was_made_as() {
    let documents = library();
    let old = documents.object(Resource::BackingImage, Some("longhorn-system"), "sealed").unwrap();
    // The same file applied again, without what was filled in.
    let again =
        admit(cloned("sealed", "plain", "encrypt", "one"), Change::Update(&old), &documents);
    assert_eq!(again.unwrap().object.text(&["spec", "secret"]), Some("one"));
    let mut changed = (*old).clone();
    changed.set(&["spec", "secret"], "two");
    changed.set(&["spec", "sourceParameters", "backing-image"], "other");
    let told = admit(changed, Change::Update(&old), &documents).unwrap_err().to_string();
    assert!(told.contains("changing secret for BackingImage sealed is not supported"), "{told}");
    assert!(told.contains("spec.sourceParameters"), "{told}");
    let mut copies = (*old).clone();
    copies.set(&["spec", "minNumberOfCopies"], 1);
    assert!(admit(copies, Change::Update(&old), &documents).is_ok());
}

#[test]
fn an_image_from_elsewhere_whose_secret_did_not_open_it_may_name_another() {
    let mut documents = library();
    let mut upload = image("sent", "upload", Value::Null);
    upload.set(&["spec", "secret"], "one");
    upload.set(&["spec", "secretNamespace"], "keys");
    documents.put(upload);
    for (state, is_allowed) in [("ready", false), ("failed", true)] {
        documents.set(Resource::BackingImage, "sent", &["status", "state"], state);
        let found = documents.objects(Resource::BackingImage, None);
        let old = found.into_iter().find(|image| image.name() == "sent").unwrap();
        let mut changed = (*old).clone();
        changed.set(&["spec", "secret"], "two");
        let admitted = admit(changed, Change::Update(&old), &documents);
        assert_eq!(admitted.is_ok(), is_allowed, "{state}: {admitted:?}");
    }
    // What was encrypted here is opened by what encrypted it.
    documents.set(Resource::BackingImage, "sealed", &["status", "state"], "failed");
    let found = documents.objects(Resource::BackingImage, None);
    let old = found.into_iter().find(|image| image.name() == "sealed").unwrap();
    let mut changed = (*old).clone();
    changed.set(&["spec", "secret"], "two");
    assert!(admit(changed, Change::Update(&old), &documents).is_err());
}

#[test]
fn metadata_can_change_when_everything_around_is_gone() {
    let documents = library();
    let old = documents.object(Resource::BackingImage, Some("longhorn-system"), "sealed").unwrap();
    let mut labelled = (*old).clone();
    labelled.set(&["metadata", "labels", "team"], "blue");
    assert!(admit(labelled, Change::Update(&old), &Documents::default()).is_ok());
}

#[test]
fn a_secret_that_nothing_can_be_encrypted_with_is_refused_and_not_shown() {
    let documents = Documents::default();
    let cases = [
        (json!({ "CRYPTO_KEY_PROVIDER": "secret" }), "data.CRYPTO_KEY_VALUE"),
        (json!({ "CRYPTO_KEY_VALUE": "" }), "data.CRYPTO_KEY_VALUE"),
        (
            json!({ "CRYPTO_KEY_CIPHER": "aes-cbc-plain64", "CRYPTO_KEY_SIZE": "512" }),
            "data.CRYPTO_KEY_SIZE",
        ),
        (
            json!({ "CRYPTO_KEY_CIPHER": "aes-xts-plain64", "CRYPTO_KEY_SIZE": "384" }),
            "data.CRYPTO_KEY_SIZE",
        ),
        (json!({ "CRYPTO_KEY_PROVIDER": "vault" }), "data.CRYPTO_KEY_PROVIDER"),
        (json!({ "CRYPTO_KEY_CIPHERS": "x" }), "data.CRYPTO_KEY_CIPHERS"),
        (
            json!({ "CRYPTO_PBKDF": "argon2i", "CRYPTO_PBKDF_FORCE_ITERATIONS": "200000",
                    "CRYPTO_PBKDF_MEMORY": "0" }),
            "data.CRYPTO_PBKDF_FORCE_ITERATIONS",
        ),
    ];
    for (mut values, path) in cases {
        if !path.ends_with("VALUE") {
            values["CRYPTO_KEY_VALUE"] = json!("canary");
        }
        let told = documents.refusal(secret("key", values));
        assert!(told.starts_with(path) && !told.contains("canary"), "{path}: {told}");
    }
    assert!(documents.create(secret("token", json!({ "token": "canary" }))).is_ok());
}

#[test]
fn a_passphrase_in_use_does_not_change_by_accident() {
    let documents = library();
    let change = |name: &str, passphrase: &str, allow: bool| {
        let old = documents.object(Resource::Secret, Some("keys"), name).unwrap();
        let mut new = key(name, passphrase);
        if allow {
            new.set(&["metadata", "annotations", "strongroom.io/allow-key-change"], "true");
        }
        admit(new, Change::Update(&old), &documents)
    };
    let refused = change("one", "canary three", false).unwrap_err();
    assert_eq!(refused.causes[0].reason, Reason::InUse);
    let told = refused.to_string();
    assert!(
        told.contains("BackingImage longhorn-system/sealed") && !told.contains("canary"),
        "{told}"
    );
    assert!(change("one", "canary three", true).is_ok());
    assert!(change("one", "canary one", false).is_ok());
    assert!(change("two", "canary three", false).is_ok());
    // What the API shows of a Secret, sent back.
    assert!(change("one", "", false).is_ok());
}

#[test]
fn a_snapshot_keeps_its_secret_and_its_class() {
    let mut documents = Documents::default();
    documents.put(key("one", "canary one"));
    let mut keeping = Object::new(Resource::VolumeSnapshotClass, None, "keeping");
    keeping.set(&["driver"], "driver.longhorn.io");
    keeping.set(&["deletionPolicy"], "Delete");
    let keeping = documents.put(keeping);
    let old = documents.object(Resource::Secret, Some("keys"), "one").unwrap();
    let change = |documents: &Documents| {
        admit(key("one", "canary two"), Change::Update(&old), documents).map(drop)
    };
    assert!(refuse_deletion(&keeping, &documents).is_ok());
    let spec = json!({ "source": { "persistentVolumeClaimName": "gone" },
                       "volumeSnapshotClassName": "keeping" });
    documents.put(document(Resource::VolumeSnapshot, Some("lab"), "monday", spec));
    assert!(change(&documents).is_ok() && refuse_deletion(&old, &documents).is_ok());
    let reference = json!({ "namespace": "keys", "name": "one" });
    documents.set(Resource::VolumeSnapshot, "monday", &["status", "secretRef"], reference);
    for refused in [
        change(&documents),
        refuse_deletion(&old, &documents),
        refuse_deletion(&keeping, &documents),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.causes[0].reason, Reason::InUse);
        assert!(refused.to_string().contains("VolumeSnapshot lab/monday"), "{refused}");
    }
}

#[test]
fn a_secret_that_calls_itself_immutable_is() {
    let mut documents = Documents::default();
    let mut fixed = key("fixed", "canary");
    fixed.set(&["immutable"], true);
    let old = documents.put(fixed.clone());
    assert!(admit(fixed.clone(), Change::Update(&old), &documents).is_ok());
    fixed.set(&["stringData", "more"], "x");
    assert!(admit(fixed, Change::Update(&old), &documents).is_err());
}

#[test]
fn an_exported_volume_is_opened_by_what_opened_it_or_is_decrypted() {
    let mut documents = library();
    documents.put(class("vault", Some("one"), json!({})));
    documents.put(class("open", None, json!({})));
    let kms = json!({ "encryptionEnabled": "true", "encryptionKMSType": "local" });
    documents.put(class("kms", None, kms));
    let kms = json!({ "encryptionEnabled": "true", "encryptionKMSType": "transit",
                      "encryptionKMSEndpoint": "https://bao:8200", "encryptionKMSKeyID": "volumes" });
    documents.put(class("transit", Some("one"), kms));
    for class in ["vault", "open", "kms", "transit"] {
        documents.put(claim(class, class, "1Gi"));
        let spec = json!({ "capacity": { "storage": "1Gi" }, "csi": { "volumeHandle": class },
                           "claimRef": { "namespace": "lab", "name": class } });
        documents.put(document(Resource::PersistentVolume, None, &format!("pvc-{class}"), spec));
    }
    let export = |volume: &str, encryption: &str, secret: &str| {
        let mut parameters = json!({ "volume-name": volume, "export-type": "qcow2" });
        if !encryption.is_empty() {
            parameters["encryption"] = json!(encryption);
            parameters["secret"] = json!(secret);
            parameters["secret-namespace"] = json!("keys");
        }
        image("exported", "export-from-volume", parameters)
    };
    let sealed = documents.create(export("pvc-vault", "", "")).unwrap().object;
    assert_eq!(sealed.text(&["spec", "secret"]), Some("one"));
    let opened = documents.create(export("pvc-vault", "decrypt", "one")).unwrap().object;
    assert_eq!(opened.text(&["spec", "secret"]), None);
    let plain = documents.create(export("pvc-open", "", "")).unwrap().object;
    assert_eq!(plain.text(&["spec", "secret"]), None);
    let unwrapped = documents.create(export("pvc-transit", "decrypt", "one")).unwrap().object;
    assert_eq!(unwrapped.text(&["spec", "secret"]), None);
    for (volume, encryption, secret, phrase) in [
        ("pvc-vault", "decrypt", "two", "keys/one: use the same Secret"),
        ("pvc-open", "decrypt", "one", "is not encrypted"),
        ("pvc-open", "encrypt", "one", "as it is, or decrypted"),
        ("pvc-kms", "", "", "wrapped by a KMS"),
        ("pvc-kms", "decrypt", "one", "clone the claim"),
        ("pvc-transit", "", "", "decrypt it, with the secret keys/one"),
        ("pvc-transit", "decrypt", "two", "credentials are in keys/one, not in keys/two"),
        ("pvc-gone", "", "", "there is no volume pvc-gone"),
    ] {
        let told = documents.refusal(export(volume, encryption, secret));
        assert!(told.contains(phrase), "{phrase}: {told}");
    }
}

#[test]
fn an_image_names_no_secret_of_another_namespace() {
    let documents = Documents::default();
    let image = |namespace: &str| {
        let [name, of] = SecretUse::NodeStage.parameters();
        let parameters = json!({ "encrypted": "true", name: "key", of: namespace });
        let spec = json!({ "displayName": "a", "sourceType": "upload",
                           "storageClassParameters": parameters });
        document(Resource::VirtualMachineImage, Some("lab"), "i1", spec)
    };
    for own in ["lab", "${pvc.namespace}"] {
        assert!(documents.create(image(own)).is_ok(), "{own}");
    }
    for other in ["keys", "${pvc.annotations['a']}", ""] {
        let told = documents.refusal(image(other));
        assert!(told.starts_with("spec.storageClassParameters['csi."), "{told}");
        assert!(told.contains("use \"lab\""), "{told}");
    }
}

#[test]
fn nothing_is_made_of_a_backup() {
    let documents = Documents::default();
    let restored = image("a1", "restore", json!({ "backup-url": "s3://bucket@region/?backup=x" }));
    let volume = json!({ "size": "1", "fromBackup": "s3://bucket@region/?backup=x" });
    let machine = json!({ "displayName": "a", "sourceType": "restore", "url": "s3://x" });
    for object in [
        restored,
        document(Resource::LonghornVolume, Some("lab"), "v1", volume),
        document(Resource::VirtualMachineImage, Some("lab"), "i1", machine),
    ] {
        let refused = documents.create(object).unwrap_err();
        assert_eq!(refused.causes[0].reason, Reason::NotSupported, "{refused}");
    }
}

#[test]
fn metadata_that_is_no_text_is_told_once() {
    let mut disk = claim("disk", "vault", "1Gi");
    disk.set(&["metadata", "annotations", "a"], 7);
    disk.set(&["metadata", "labels", "b"], true);
    let refused = Documents::default().create(disk).unwrap_err();
    let fields: Vec<&str> = refused.causes.iter().map(|cause| &*cause.field).collect();
    assert_eq!(fields, ["metadata.labels.b", "metadata.annotations.a"]);
}

#[test]
fn machine_images_are_encrypted_with_a_class_that_can() {
    let mut documents = library();
    documents.put(class("vault", Some("one"), json!({})));
    documents.put(class("open", None, json!({})));
    documents.put(class("each", Some("${pvc.name}"), json!({})));
    documents.put(class("tied", Some("one"), json!({ "backingImage": "sealed" })));
    documents.put(class("later", Some("later"), json!({})));
    let source = json!({ "displayName": "jammy", "sourceType": "download",
                         "url": "https://images.example/a.img" });
    documents.put(document(Resource::VirtualMachineImage, Some("lab"), "jammy", source));
    let sealed = documents.put(machine_image("sealed", "encrypt", "jammy", Some("vault")));
    assert_eq!(sealed.at(&["spec", "retry"]), Some(&json!(3)));
    for (operation, from, class, phrase) in [
        (
            "encrypt",
            "sealed",
            Some("vault"),
            "can not re-encrypt, source image lab/sealed (sealed) is already",
        ),
        (
            "decrypt",
            "jammy",
            None,
            "can not re-decrypt, source image lab/jammy (jammy) is not encrypted",
        ),
        ("encrypt", "gone", Some("vault"), "source image lab/gone not found"),
        ("encrypt", "jammy", None, "storageClassName is required when using security params"),
        ("encrypt", "jammy", Some("gone"), "storage class gone not found"),
        (
            "encrypt",
            "jammy",
            Some("open"),
            "storage class open is not for encryption or decryption",
        ),
        ("encrypt", "jammy", Some("tied"), "tied to a specific backing image"),
        ("encrypt", "jammy", Some("each"), "for each claim"),
        ("encrypt", "jammy", Some("later"), "keys/later of storage class later not found"),
        ("decrypt", "sealed", Some("vault"), "is an encrypted one"),
    ] {
        let told = documents.refusal(machine_image("next", operation, from, class));
        assert!(told.contains(phrase), "{phrase}: {told}");
    }
    assert!(documents.create(machine_image("open", "decrypt", "sealed", Some("open"))).is_ok());
    let mut twin = machine_image("twin", "encrypt", "jammy", Some("vault"));
    twin.set(&["spec", "displayName"], "jammy");
    assert!(documents.refusal(twin).contains("A resource with the same name exists"));
    let mut changed = sealed.clone();
    changed.set(&["spec", "securityParameters", "cryptoOperation"], "decrypt");
    let told = admit(changed, Change::Update(&sealed), &documents).unwrap_err().to_string();
    assert!(told.contains("securityParameters cannot be modified"), "{told}");
}

#[test]
fn what_is_in_use_is_not_deleted() {
    let mut documents = library();
    documents.put(class("vault", Some("one"), json!({ "backingImage": "sealed" })));
    documents.put(claim("disk", "vault", "1Gi"));
    let volumes = json!([{ "name": "root", "persistentVolumeClaim": { "claimName": "disk" } }]);
    let machine = json!({ "template": { "spec": { "volumes": volumes } } });
    documents.put(document(Resource::VirtualMachine, Some("lab"), "vm", machine));
    let disk = "PersistentVolumeClaim lab/disk";
    let sealed = "BackingImage longhorn-system/sealed";
    let of = |resource, namespace, name| documents.users(resource, namespace, name);
    assert_eq!(of(Resource::Secret, Some("keys"), "one"), [sealed, disk, "StorageClass vault"]);
    assert!(of(Resource::Secret, Some("keys"), "two").is_empty());
    assert_eq!(of(Resource::StorageClass, None, "vault"), [disk]);
    let system = Some("longhorn-system");
    assert_eq!(of(Resource::BackingImage, system, "sealed"), [disk]);
    assert_eq!(of(Resource::BackingImage, system, "plain"), [sealed]);
    assert_eq!(of(Resource::PersistentVolumeClaim, Some("lab"), "disk"), ["VirtualMachine lab/vm"]);
    let image = documents.object(Resource::BackingImage, system, "sealed").unwrap();
    let refused = refuse_deletion(&image, &documents).unwrap_err();
    assert_eq!(refused.causes[0].reason, Reason::InUse);
    assert!(refused.to_string().contains("since there are replicas using it"), "{refused}");
    // A clone that is done needs its source no more.
    documents.set(Resource::BackingImage, "sealed", &["status", "checksum"], "ab");
    assert!(documents.users(Resource::BackingImage, system, "plain").is_empty());
}

#[test]
fn a_secret_whose_only_users_are_classes_says_so() {
    let mut documents = Documents::default();
    let key = documents.put(key("one", "canary"));
    documents.put(class("vault", Some("one"), json!({})));
    let told = refuse_deletion(&key, &documents).unwrap_err().to_string();
    assert_eq!(told, "Secret is used by encrypted storage classes: [vault]");
}

#[test]
fn names_are_those_of_their_kind() {
    let documents = Documents::default();
    for (resource, namespace, name) in [
        (Resource::Secret, Some("lab"), "under_score"),
        (Resource::Secret, Some("Lab"), "key"),
        (Resource::StorageClass, Some("lab"), "vault"),
        (Resource::Namespace, None, "a.b"),
        (Resource::VirtualMachine, Some("lab"), ""),
    ] {
        let refused = documents.create(Object::new(resource, namespace, name)).unwrap_err();
        let field = &refused.causes[0].field;
        assert!(field.starts_with("metadata.name"), "{refused}");
    }
    let none = Object::of_value(json!({ "kind": "Deployment", "apiVersion": "apps/v1" })).unwrap();
    assert!(documents.refusal(none).contains("no such kind"));
}

/// Values of every sort, those that fields take among them.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z${}.'\\[\\]/:-]{0,12}".prop_map(Value::from),
        proptest::sample::select(vec![
            "clone",
            "encrypt",
            "decrypt",
            "ignore",
            "download",
            "upload",
            "true",
            "one",
            "keys",
            "sealed",
            "plain",
            "vault",
            "1Gi",
            "ReadWriteOnce",
            "export-from-volume",
            "snap://a/b",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any_key(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(vec![
        "sourceType",
        "sourceParameters",
        "backing-image",
        "encryption",
        "secret",
        "secretNamespace",
        "secret-namespace",
        "url",
        "checksum",
        "size",
        "encrypted",
        "storageClassName",
        "accessModes",
        "resources",
        "requests",
        "storage",
        "dataSource",
        "kind",
        "name",
        "namespace",
        "apiGroup",
        "backingImage",
        "csi.storage.k8s.io/node-stage-secret-name",
        "source",
        "volumes",
        "template",
        "csi.storage.k8s.io/node-stage-secret-namespace",
        "securityParameters",
        "cryptoOperation",
        "CRYPTO_KEY_VALUE",
        "CRYPTO_KEY_SIZE",
        "annotations",
        "minNumberOfCopies",
        "spec",
        "retry",
    ])
    .prop_map(str::to_owned);
    prop_oneof![4 => known, 1 => "[a-zA-Z./_]{0,8}"]
}

proptest! {
    #[test]
    fn no_document_panics(
        kind in proptest::sample::select(Resource::ALL.to_vec()),
        metadata in any_value(),
        contents in proptest::collection::btree_map(
            proptest::sample::select(vec!["spec", "parameters", "data", "stringData", "status", "provisioner", "driver"]),
            any_value(), 0..5),
        named: bool,
    ) {
        let mut documents = library();
        documents.put(class("vault", Some("one"), json!({ "backingImage": "sealed" })));
        let mut object = Object::default();
        object.set(&["metadata"], metadata);
        for (key, value) in contents {
            object.set(&[key], value);
        }
        object.set(&["apiVersion"], kind.api_version());
        object.set(&["kind"], kind.kind());
        if named {
            object.set(&["metadata", "name"], "thing");
        }
        let told = match admit(object.clone(), Change::Create, &documents) {
            Ok(admitted) => {
                // What was admitted is admitted again as it is, and changes no more.
                let again = admit(admitted.object.clone(), Change::Update(&admitted.object), &documents);
                prop_assert!(again.unwrap().object == admitted.object);
                admitted.warnings.join(" ")
            }
            Err(refused) => {
                prop_assert!(!refused.causes.is_empty());
                refused.to_string()
            }
        };
        prop_assert!(!told.contains("canary"));
        for old in documents.objects(kind, None) {
            _ = admit(object.clone(), Change::Update(&old), &documents);
        }
        _ = refuse_deletion(&object, &documents);
        _ = unknown_fields(&object);
    }

    #[test]
    fn no_value_of_a_secret_is_in_a_refusal(values in proptest::collection::btree_map(
        proptest::sample::select(crate::dialect::longhorn::KEYS.to_vec()), "[ -~\n]{0,6}", 1..6))
    {
        let values: serde_json::Map<_, _> = values
            .into_iter()
            .map(|(key, value)| {
                let marked = format!("canary{value}");
                let encoded = base64::engine::general_purpose::STANDARD.encode(marked);
                (key.to_owned(), Value::from(encoded))
            })
            .collect();
        let mut object = Object::new(Resource::Secret, Some("keys"), "key");
        object.set(&["data"], values);
        if let Err(refused) = Documents::default().create(object) {
            prop_assert!(!refused.to_string().contains("canary"));
        }
    }
}
