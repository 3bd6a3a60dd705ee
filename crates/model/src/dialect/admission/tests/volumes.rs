//! Classes, claims and volumes.

use super::*;

#[test]
fn an_encrypted_class_names_one_secret_which_may_come_later() {
    let documents = library();
    assert!(documents.create(class("vault", Some("one"), json!({}))).unwrap().warnings.is_empty());
    let later = documents.create(class("vault", Some("later"), json!({}))).unwrap();
    assert!(later.warnings[0].contains("keys/later not found"), "{:?}", later.warnings);
    assert_eq!(later.object.text(&["reclaimPolicy"]), Some("Delete"));

    let told = documents.refusal(class("vault", None, json!({ "encrypted": "true" })));
    assert!(told.contains("storage class must contain"), "{told}");
    let [name, _] = SecretUse::NodeExpand.parameters();
    let mut two = class("vault", Some("one"), json!({}));
    two.set(&["parameters", &name], "two");
    assert!(documents.refusal(two).contains("are different from others"));
    assert!(
        documents
            .refusal(class("vault", None, json!({ "encrypted": "yes" })))
            .contains("parameters.encrypted")
    );
}

#[test]
fn a_class_does_not_name_a_secret_without_a_passphrase() {
    let mut documents = Documents::default();
    documents.put(secret("token", json!({ "token": "canary" })));
    let told = documents.refusal(class("vault", Some("token"), json!({})));
    assert!(told.contains("keys/token is not a valid encryption secret"), "{told}");
    assert!(told.contains("CRYPTO_KEY_VALUE"), "{told}");
}

#[test]
fn volumes_of_an_encrypted_image_have_its_key() {
    let documents = library();
    let of = |secret, image| documents.create(class("c", secret, json!({ "backingImage": image })));
    assert!(of(Some("one"), "sealed").unwrap().warnings.is_empty());
    assert!(of(Some("same"), "sealed").is_ok());
    assert!(of(Some("two"), "plain").is_ok());
    let warned = of(Some("two"), "sealed").unwrap().warnings.join("");
    assert!(warned.contains("keys/one") && warned.contains("keys/two"), "{warned}");
    let told = of(None, "sealed").unwrap_err().to_string();
    assert!(told.contains("is encrypted with the secret keys/one"), "{told}");
    assert!(!of(None, "later").unwrap().warnings.is_empty());
    let other = json!({ "backingImage": "plain", "backingImageDataSourceType": "upload" });
    let told = documents.refusal(class("c", None, other));
    assert!(told.contains("data source is different from the parameters"), "{told}");
}

#[test]
fn a_claim_of_an_encrypted_image_has_its_key_or_asks_for_one_of_its_own() {
    let mut documents = library();
    let of = json!({ "backingImage": "sealed" });
    let kms = json!({ "backingImage": "sealed", "encryptionEnabled": "true",
                      "encryptionKMSType": "local" });
    let own = json!({ "backingImage": "sealed", Claim::OWN_KEYSLOT: "true" });
    documents.put(class("one", Some("one"), of.clone()));
    documents.put(class("two", Some("two"), of));
    documents.put(class("own", Some("two"), own));
    documents.put(class("kms", None, kms));
    for name in ["one", "own"] {
        assert!(documents.create(claim("disk", name, "1Gi")).is_ok(), "{name}");
    }
    for (name, other) in [("two", "keys/two"), ("kms", "a KMS wraps")] {
        let mut disk = claim("disk", name, "1Gi");
        let told = documents.refusal(disk.clone());
        assert!(told.contains("keys/one") && told.contains(other), "{told}");
        disk.set(&["metadata", "annotations", Claim::OWN_KEYSLOT], "true");
        assert!(documents.create(disk).is_ok(), "{name}");
    }
}

#[test]
fn images_are_looked_for_in_longhorns_namespace_and_then_in_the_claims() {
    let mut documents = Documents::default();
    documents.put(class("imaged", None, json!({ "backingImage": "disk-image" })));
    let mut own = image("disk-image", "upload", Value::Null);
    own.set(&["metadata", "namespace"], "lab");
    documents.put(own);
    documents.put(claim("disk", "imaged", "1Gi"));
    let users = documents.users(Resource::BackingImage, Some("lab"), "disk-image");
    assert_eq!(users, ["PersistentVolumeClaim lab/disk"]);
    documents.put(image("disk-image", "upload", Value::Null));
    assert!(documents.users(Resource::BackingImage, Some("lab"), "disk-image").is_empty());
    let system = Some("longhorn-system");
    assert_eq!(documents.users(Resource::BackingImage, system, "disk-image"), users);
}

#[test]
fn a_class_is_what_it_was_made_as() {
    let mut documents = library();
    let old = documents.put(class("vault", Some("one"), json!({})));
    let mut new = old.clone();
    new.set(&["parameters", "fsType"], "xfs");
    let told = admit(new, Change::Update(&old), &documents).unwrap_err().to_string();
    assert!(told.contains("updates to parameters are forbidden"), "{told}");
    let mut new = old.clone();
    new.set(&["allowVolumeExpansion"], false);
    assert!(admit(new, Change::Update(&old), &documents).is_ok());
}

#[test]
fn a_claim_gets_the_default_class_and_keeps_it() {
    let mut documents = library();
    let mut default = class("usual", None, json!({}));
    default
        .set(&["metadata", "annotations", "storageclass.kubernetes.io/is-default-class"], "true");
    documents.put(default);
    let mut without = claim("disk", "x", "1Gi");
    without.take(&["spec", "storageClassName"]);
    let made = documents.put(without.clone());
    assert_eq!(made.text(&["spec", "storageClassName"]), Some("usual"));
    assert_eq!(made.text(&["spec", "volumeMode"]), Some("Filesystem"));
    let again = admit(without, Change::Update(&made), &documents).unwrap();
    assert!(again.object == made);
    let none = documents.create(claim("other", "", "1Gi")).unwrap().object;
    assert_eq!(none.text(&["spec", "storageClassName"]), Some(""));
}

#[test]
fn a_claim_may_grow_where_its_class_allows_it_and_nothing_else() {
    let mut documents = library();
    documents.put(class("vault", Some("one"), json!({})));
    let mut fixed = class("fixed", None, json!({}));
    fixed.set(&["allowVolumeExpansion"], false);
    documents.put(fixed);
    let change = |class: &str, size: &str, other: &str| {
        let old = documents.create(claim("disk", class, "2Gi")).unwrap().object;
        admit(claim("disk", other, size), Change::Update(&old), &documents)
    };
    assert!(change("vault", "3Gi", "vault").is_ok());
    let told = change("vault", "1Gi", "vault").unwrap_err().to_string();
    assert!(told.contains("can not be less"), "{told}");
    let told = change("fixed", "3Gi", "fixed").unwrap_err().to_string();
    assert!(told.contains("must support resize"), "{told}");
    let told = change("vault", "2Gi", "fixed").unwrap_err().to_string();
    assert!(told.contains("spec is immutable after creation"), "{told}");
}

#[test]
fn a_volume_has_room_for_what_it_begins_with() {
    let mut documents = library();
    documents.put(class("imaged", Some("one"), json!({ "backingImage": "sealed" })));
    documents.set(Resource::BackingImage, "sealed", &["status", "virtualSize"], 2u64 << 30);
    let told = documents.refusal(claim("disk", "imaged", "1Gi"));
    assert!(told.contains("volume size should be larger"), "{told}");
    assert!(documents.create(claim("disk", "imaged", "2Gi")).is_ok());
    documents.put(class("xfs", None, json!({ "fsType": "xfs" })));
    assert!(documents.refusal(claim("disk", "xfs", "100Mi")).contains("at least 314572800"));
}

#[test]
fn a_claim_that_waits_for_a_class_is_told_so() {
    let mut documents = Documents::default();
    let warned = |documents: &Documents, class: Value| {
        let mut disk = claim("disk", "", "1Gi");
        disk.set(&["spec", "storageClassName"], class);
        documents.create(disk).unwrap().warnings.join("")
    };
    assert!(warned(&documents, json!("vault")).contains("storage class \"vault\" not found"));
    assert!(warned(&documents, Value::Null).contains("none is the default one"));
    assert_eq!(warned(&documents, json!("")), "");
    let mut vault = class("vault", None, json!({}));
    let annotation = "storageclass.kubernetes.io/is-default-class";
    vault.set(&["metadata", "annotations", annotation], "true");
    documents.put(vault);
    assert_eq!(warned(&documents, json!("vault")), "");
    assert_eq!(warned(&documents, Value::Null), "");
}

#[test]
fn a_copy_is_encrypted_as_its_original_is() {
    let mut documents = library();
    for (name, secret) in
        [("open", None), ("one", Some("one")), ("two", Some("two")), ("same", Some("same"))]
    {
        documents.put(class(name, secret, json!({})));
    }
    documents.put(claim("sealed", "one", "1Gi"));
    documents.put(claim("plain", "open", "1Gi"));
    let snapshot = json!({ "source": { "persistentVolumeClaimName": "sealed" } });
    documents.put(document(Resource::VolumeSnapshot, Some("lab"), "monday", snapshot));
    let copy = |class: &str, kind: &str, of: &str| {
        let mut copy = claim("copy", class, "1Gi");
        let group = if kind == "VolumeSnapshot" { "snapshot.storage.k8s.io" } else { "" };
        copy.set(&["spec", "dataSource"], json!({ "kind": kind, "name": of, "apiGroup": group }));
        copy
    };
    let whole = "PersistentVolumeClaim";
    for (class, kind, of) in [
        ("one", whole, "sealed"),
        ("open", whole, "plain"),
        ("one", "VolumeSnapshot", "monday"),
        ("one", whole, "later"),
    ] {
        assert!(documents.create(copy(class, kind, of)).is_ok(), "{class} {of}");
    }
    for (class, kind, of) in
        [("open", whole, "sealed"), ("one", whole, "plain"), ("open", "VolumeSnapshot", "monday")]
    {
        assert!(documents.refusal(copy(class, kind, of)).contains("not encrypted"), "{class} {of}");
    }
    for (name, secret) in [("two", "keys/two"), ("same", "keys/same")] {
        let told = documents.refusal(copy(name, whole, "sealed"));
        assert!(told.contains("keys/one") && told.contains(secret), "{told}");
        assert!(!told.contains("passphrase"), "{told}");
        let mut own = copy(name, whole, "sealed");
        own.set(&["metadata", "annotations", Claim::OWN_KEYSLOT], "true");
        assert!(documents.create(own).is_ok(), "{name}");
    }
    let mut small = copy("one", whole, "sealed");
    small.set(&["spec", "resources", "requests", "storage"], "512Mi");
    assert!(
        documents.refusal(small).contains("volume size should be larger than that of the claim")
    );
}

#[test]
fn a_claim_that_its_class_cannot_name_a_secret_for_is_refused() {
    let mut documents = Documents::default();
    documents.put(class("each", Some("${pvc.annotations['team.example/key']}"), json!({})));
    let mut disk = claim("disk", "each", "1Gi");
    assert!(documents.refusal(disk.clone()).contains("team.example/key"));
    disk.set(&["metadata", "annotations", "team.example/key"], "blue");
    assert!(documents.create(disk).is_ok());
    let told = documents.refusal(class("bad", Some("${pvc.uid}"), json!({})));
    assert!(told.contains("${pvc.uid}"), "{told}");
}

#[test]
fn longhorns_volumes_follow_the_same_rules() {
    let documents = library();
    let volume = |spec: Value, secret: &str| {
        let mut object = document(Resource::LonghornVolume, Some("longhorn-system"), "v1", spec);
        object.set(&["metadata", "annotations", LonghornVolume::SECRET], secret);
        object
    };
    let sealed = json!({ "size": "1073741824", "encrypted": true, "backingImage": "sealed" });
    let made = documents.create(volume(sealed.clone(), "keys/one")).unwrap().object;
    assert!(documents.refusal(volume(sealed, "keys/two")).contains("keys/one"));
    let plain = json!({ "size": "1073741824", "backingImage": "sealed" });
    assert!(documents.refusal(volume(plain, "keys/one")).contains("is encrypted with"));
    assert!(
        documents
            .refusal(volume(json!({ "backingImage": "gone" }), ""))
            .contains("no backing image gone")
    );
    let mut open = made.clone();
    open.set(&["spec", "encrypted"], false);
    let told = admit(open, Change::Update(&made), &documents).unwrap_err().to_string();
    assert!(told.contains("Encrypted is immutable"), "{told}");
}
