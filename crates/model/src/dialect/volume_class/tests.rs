use proptest::prelude::*;

use super::*;
use crate::{KmsKind, KmsRequest};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn read(pairs: &[(&str, &str)]) -> Result<VolumeParameters, Error> {
    VolumeParameters::read(&map(pairs), &BTreeMap::new())
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    read(pairs).unwrap_err().to_string()
}

#[test]
fn no_parameters_mean_a_plain_volume() {
    let plain = read(&[]).unwrap();
    assert_eq!(plain.encryption, Encryption::None);
    assert_eq!((plain.file_system, plain.tuning), (None, Tuning::default()));
    assert!(plain.others.is_empty());
}

#[test]
fn longhorns_class_is_taken_as_it_stands() {
    let class = read(&[
        ("numberOfReplicas", "3"),
        ("staleReplicaTimeout", "2880"),
        ("fromBackup", ""),
        ("fsType", "xfs"),
        ("dataLocality", "disabled"),
        ("encrypted", "true"),
        ("backingImage", "fedora"),
        ("csi.storage.k8s.io/node-stage-secret-name", "longhorn-crypto"),
        ("csi.storage.k8s.io/node-stage-secret-namespace", "longhorn-system"),
        ("csi.storage.k8s.io/pvc/name", "data"),
    ])
    .unwrap();
    assert_eq!(class.encryption, Encryption::Passphrase);
    assert_eq!(class.file_system, Some(FileSystem::Xfs));
    assert_eq!(class.others.get("backingImage").map(String::as_str), Some("fedora"));
    assert_eq!(class.others.get("csi.storage.k8s.io/pvc/name").map(String::as_str), Some("data"));
    assert!(!class.others.keys().any(|key| key.contains("secret") || key == "encrypted"));
}

#[test]
fn oscs_class_names_its_kms() {
    let class = read(&[
        ("type", "fast"),
        ("volume_pool", "berlin"),
        ("encryptionEnabled", "true"),
        ("encryptionKMSType", "transit"),
        ("encryptionKMSEndpoint", "https://openbao.example:8200"),
        ("encryptionKMSKeyID", "pvc-kek"),
    ])
    .unwrap();
    let expected = KmsRequest {
        endpoints: vec!["https://openbao.example:8200".to_owned()],
        key_id: Some("pvc-kek".to_owned()),
        ..KmsRequest::new(KmsKind::Transit)
    };
    assert_eq!(class.encryption, Encryption::Kms(Box::new(expected)));
}

#[test]
fn a_local_key_is_in_a_file_that_the_machine_knows() {
    let local = [("encryptionEnabled", "true"), ("encryptionKMSType", "local")];
    let encryption = read(&local).unwrap().encryption;
    assert_eq!(encryption, Encryption::Kms(Box::new(KmsRequest::new(KmsKind::Local))));
    let text = refusal(&[local[0], local[1], ("encryptionKMSEndpoint", "/etc/passwd")]);
    assert!(text.contains("encryptionKMSEndpoint is not possible: leave it out"), "{text}");
}

#[test]
fn a_kms_that_is_not_switched_on_is_refused() {
    let text = refusal(&[("encryptionKMSType", "transit")]);
    assert_eq!(
        text,
        "storage class of the volume has no parameter encryptionEnabled, or an empty one"
    );
    let text = refusal(&[("encrypted", "true"), ("encryptionEnabled", "true")]);
    assert!(text.starts_with("storage class of the volume says both"), "{text}");
    for word in ["True", "1", "yes", ""] {
        assert!(refusal(&[("encrypted", word)]).contains("encrypted is not possible"), "{word}");
    }
}

#[test]
fn what_nobody_knows_is_refused_with_what_was_meant() {
    let meant = [
        ("encryptd", "encrypted"),
        ("Encrypted", "encrypted"),
        ("encryptionKmsType", "encryptionKMSType"),
        ("numberOfReplica", "numberOfReplicas"),
        ("nodiscard", "discard"),
        ("noReadWorkQueue", "noReadWorkqueue"),
        ("fs-type", "fsType"),
    ];
    for (wrong, right) in meant {
        let text = refusal(&[(wrong, "true")]);
        assert_eq!(text, format!("parameter {wrong:?} is unknown: {right:?} is meant perhaps"));
    }
    assert_eq!(refusal(&[("zzzz", "true")]), "parameter \"zzzz\" is unknown");
    let text = refusal(&[("csi.storage.k8s.io/ephemeral", "true")]);
    assert!(text.starts_with("parameter \"csi.storage.k8s.io/ephemeral\" is unknown"), "{text}");
    assert!(refusal(&[("csi.storage.k8s.io/evil-secret-name", "a")]).contains("unknown"));
}

#[test]
fn a_volume_that_would_come_up_empty_is_refused() {
    let text = refusal(&[("fromBackup", "s3://bucket@region/backup")]);
    assert!(text.contains("fromBackup is not possible: leave it out"), "{text}");
}

#[test]
fn file_systems_are_those_that_volumes_are_made_with() {
    assert!(refusal(&[("fsType", "btrfs")]).contains("btrfs"));
    let both = [("fsType", "xfs"), ("csi.storage.k8s.io/fstype", "xfs")];
    assert_eq!(read(&both).unwrap().file_system, Some(FileSystem::Xfs));
    let text = refusal(&[("fsType", "xfs"), ("csi.storage.k8s.io/fstype", "ext4")]);
    assert!(text.contains("another parameter says another one"), "{text}");
}

#[test]
fn only_the_tunable_parameters_change_later() {
    let given = map(&[("discard", "true"), ("noWriteWorkqueue", "true")]);
    let tuned = VolumeParameters::tuned(Tuning::default(), &given).unwrap();
    let expected = Tuning { discard: true, no_read_workqueue: false, no_write_workqueue: true };
    assert_eq!(tuned, expected);
    let back = VolumeParameters::tuned(tuned, &map(&[("discard", "false")])).unwrap();
    assert_eq!(back, Tuning { discard: false, ..expected });

    let refusal =
        |key| VolumeParameters::tuned(tuned, &map(&[(key, "false")])).unwrap_err().to_string();
    let text = refusal("encrypted");
    assert!(text.starts_with("parameter \"encrypted\" of a volume that exists"), "{text}");
    assert_eq!(
        refusal("discards"),
        "parameter \"discards\" is unknown: \"discard\" is meant perhaps"
    );
}

#[test]
fn what_can_be_changed_later_wins_from_the_beginning() {
    let class = map(&[("discard", "false"), ("noReadWorkqueue", "true")]);
    let read = VolumeParameters::read(&class, &map(&[("discard", "true")])).unwrap();
    let expected = Tuning { discard: true, no_read_workqueue: true, no_write_workqueue: false };
    assert_eq!(read.tuning, expected);
    assert!(refusal(&[("discard", "maybe")]).contains("discard is not possible"));
}

#[test]
fn a_value_without_an_end_is_refused() {
    let text = refusal(&[("mkfsParams", &"x".repeat(5000))]);
    assert_eq!(text, "parameter \"mkfsParams\" has 5000 bytes, the limit is 4096");
}

proptest! {
    #[test]
    fn nothing_but_known_words_is_ever_taken(key in ".{0,80}", value in ".{0,40}") {
        let parameters = map(&[(&key, &value)]);
        if VolumeParameters::read(&parameters, &BTreeMap::new()).is_ok() {
            prop_assert!(is_known(&key));
        }
        if VolumeParameters::tuned(Tuning::default(), &parameters).is_ok() {
            prop_assert!(TUNABLE.contains(&key.as_str()));
        }
    }

    #[test]
    fn one_letter_too_many_is_never_a_plain_volume(at in 0_usize..9, letter in "[a-z]") {
        let mut key = "encrypted".to_owned();
        key.insert_str(at, &letter);
        let refused = VolumeParameters::read(&map(&[(&key, "true")]), &BTreeMap::new());
        prop_assert_eq!(
            refused.unwrap_err(),
            Error::UnknownVolumeParameter { key, nearest: Some("encrypted") }
        );
    }
}
