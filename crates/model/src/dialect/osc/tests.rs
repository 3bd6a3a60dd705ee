use proptest::prelude::*;

use super::*;

/// Stands wherever a secret may stand, and must be in no message.
const CANARY: &str = "canary-51c0";

/// Returns a StorageClass of OSC with these lines for the ones that it has otherwise.
fn class(lines: &[&str]) -> String {
    let lines = lines.join("\n  ");
    format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: fast-encrypted\n\
         provisioner: csi.onmetal.de\nallowVolumeExpansion: true\nparameters:\n  type: fast\n  \
         volume_pool: berlin\n  csi.storage.k8s.io/node-stage-secret-name: kms-credentials\n  \
         {lines}\n"
    )
}

fn transit(more: &[&str]) -> String {
    let lines = [
        "encryptionEnabled: \"true\"",
        "encryptionKMSType: transit",
        "encryptionKMSEndpoint: https://openbao.example:8200",
        "encryptionKMSKeyID: pvc-kek",
    ];
    class(&[&lines, more].concat())
}

fn kmip(endpoint: &str) -> String {
    let endpoint = format!("encryptionKMSEndpoint: \"{endpoint}\"");
    class(&[
        "encryptionEnabled: \"true\"",
        "encryptionKMSType: kmip",
        &endpoint,
        "encryptionKMSKeyID: \"17\"",
    ])
}

fn parse(manifest: &str) -> Result<Encryption, Error> {
    StorageClass::parse(manifest.as_bytes()).map(|class| class.encryption().clone())
}

fn request(manifest: &str) -> KmsRequest {
    match parse(manifest).unwrap() {
        Encryption::Kms(request) => *request,
        other => panic!("no KMS: {other:?}"),
    }
}

fn refusal(manifest: &str) -> String {
    parse(manifest).unwrap_err().to_string()
}

fn secret(lines: &[&str]) -> String {
    let lines = lines.join("\n");
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: kms-credentials\n  namespace: prod\n\
         {lines}\n"
    )
}

fn credentials(manifest: &str, kind: KmsKind) -> Result<CredentialParts, Error> {
    let secret = CredentialsSecret::parse(manifest.as_bytes())?;
    assert!(!format!("{secret:?}").contains(CANARY));
    secret.into_parts(kind)
}

fn credentials_refusal(manifest: &str, kind: KmsKind) -> String {
    let error = credentials(manifest, kind).unwrap_err();
    let message = error.to_string();
    assert!(!format!("{message} {error:?}").contains(CANARY), "{error:?}");
    message
}

fn bytes(value: Option<&Zeroizing<Vec<u8>>>) -> Option<&[u8]> {
    value.map(|value| value.as_slice())
}

#[test]
fn reads_a_transit_class() {
    let expected = KmsRequest {
        endpoints: vec!["https://openbao.example:8200".to_owned()],
        key_id: Some("pvc-kek".to_owned()),
        ..KmsRequest::new(KmsKind::Transit)
    };
    assert_eq!(request(&transit(&[])), expected);
    let class = StorageClass::parse(transit(&[]).as_bytes()).unwrap();
    assert_eq!(class.name(), "fast-encrypted");
}

#[test]
fn reads_a_kmip_class() {
    let expected = KmsRequest {
        endpoints: vec!["kms.example:5696".to_owned()],
        key_id: Some("17".to_owned()),
        ..KmsRequest::new(KmsKind::Kmip)
    };
    assert_eq!(request(&kmip("kms.example:5696")), expected);
    assert_eq!(request(&kmip("[2001:db8::1]:5696")).endpoints, ["[2001:db8::1]:5696"]);
}

#[test]
fn reads_the_same_as_json() {
    let json = r#"{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "sc"}, "parameters": {"encryptionEnabled": "true",
        "encryptionKMSType": "kmip", "encryptionKMSEndpoint": "kms.example:5696",
        "encryptionKMSKeyID": "17"}}"#;
    assert_eq!(request(json), request(&kmip("kms.example:5696")));
}

#[test]
fn takes_a_mount_and_a_namespace_for_transit_alone() {
    let ours = ["encryptionKMSMount: engines/transit", "encryptionKMSNamespace: team-a/"];
    let found = request(&transit(&ours));
    assert_eq!(found.mount.as_deref(), Some("engines/transit"));
    assert_eq!(found.namespace.as_deref(), Some("team-a/"));
    let text = refusal(&format!("{}  {}\n", kmip("kms.example:5696"), ours[0]));
    assert_eq!(
        text,
        "value of encryptionKMSMount is not possible: leave it out: only transit has one"
    );
}

#[test]
fn tells_longhorns_class_and_a_plain_one() {
    assert_eq!(parse(&class(&["encrypted: \"true\""])), Ok(Encryption::Passphrase));
    assert_eq!(parse(&class(&["encrypted: \"false\""])), Ok(Encryption::None));
    assert_eq!(parse(&class(&["encryptionEnabled: \"false\""])), Ok(Encryption::None));
    assert_eq!(parse(&class(&[])), Ok(Encryption::None));
    let without = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: plain}\n";
    assert_eq!(parse(without), Ok(Encryption::None));
}

#[test]
fn a_class_of_two_dialects_is_refused() {
    let text = refusal(&transit(&["encrypted: \"true\""]));
    assert!(text.starts_with("storage class fast-encrypted says both"), "{text}");
    assert!(parse(&transit(&["encrypted: \"false\""])).is_ok());
}

#[test]
fn yes_and_no_are_text_and_in_small_letters() {
    for (value, text) in [
        ("true", "parameter encryptionEnabled is true or false, not text: put it in quotes"),
        ("1", "parameter encryptionEnabled is a number, not text: put it in quotes"),
        ("[a]", "parameter encryptionEnabled is a list, not text: put it in quotes"),
        // YAML 1.1, which Kubernetes reads, has more words for it.
        ("yes", "parameter encryptionEnabled is true or false, not text: put it in quotes"),
        ("\"yes\"", YES_OR_NO),
        ("\"True\"", YES_OR_NO),
        ("\"true \"", YES_OR_NO),
        ("\" true\"", YES_OR_NO),
        ("\"true\\n\"", YES_OR_NO),
        ("\"\"", YES_OR_NO),
        ("null", YES_OR_NO),
    ] {
        assert_eq!(refusal(&class(&[&format!("encryptionEnabled: {value}")])), text, "{value}");
        let longhorn = text.replace("encryptionEnabled", "encrypted");
        assert_eq!(refusal(&class(&[&format!("encrypted: {value}")])), longhorn, "{value}");
    }
}

const YES_OR_NO: &str =
    "value of encryptionEnabled is not possible: use \"true\" or \"false\", in small letters";

#[test]
fn a_misspelt_parameter_is_never_ignored() {
    for name in [
        "encryptionEnable",
        "encryptionenabled",
        "EncryptionEnabled",
        "encryptionKMSKeyId",
        "encryptionKmsType",
        "encryptionKMS",
        "encryptionKMSID",
        "Encrypted",
    ] {
        let text = refusal(&transit(&[&format!("{name}: \"true\"")]));
        let expected = format!("parameter {name:?} is unknown: the parameters of encryption are");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains("encryptionKMSKeyID"), "{text}");
    }
}

#[test]
fn a_kms_without_the_switch_is_refused() {
    let text = refusal(&class(&["encryptionKMSType: transit"]));
    assert_eq!(
        text,
        "storage class fast-encrypted has no parameter encryptionEnabled, or an empty one"
    );
    let off = transit(&[]).replace("encryptionEnabled: \"true\"", "encryptionEnabled: \"false\"");
    assert_eq!(parse(&off), Ok(Encryption::None));
}

#[test]
fn each_parameter_is_needed() {
    for key in [TYPE, ENDPOINT, KEY_ID] {
        let lines = transit(&[]);
        let without: Vec<&str> = lines.lines().filter(|line| !line.contains(key)).collect();
        let missing = Error::MissingParameter { key, class: "fast-encrypted".to_owned() };
        assert_eq!(parse(&without.join("\n")), Err(missing.clone()));
        let empty = format!("{}\n  {key}: \"\"\n", without.join("\n"));
        assert_eq!(parse(&empty), Err(missing));
    }
}

#[test]
fn values_have_no_blanks_or_newlines() {
    for (key, value) in
        [(TYPE, "transit"), (ENDPOINT, "https://openbao.example:8200"), (KEY_ID, "pvc-kek")]
    {
        let with = |new: &str| {
            transit(&[]).replace(&format!("{key}: {value}"), &format!("{key}: \"{new}\""))
        };
        assert!(parse(&with(value)).is_ok());
        assert_eq!(parse(&with(&format!("{value}\\n"))), Err(Error::TrailingNewline { key }));
        for bad in [format!(" {value}"), format!("{value}\\t"), "a b".to_owned(), "ключ".to_owned()]
        {
            let refused = parse(&with(&bad));
            assert!(matches!(refused, Err(Error::InvalidValue { .. })), "{bad}: {refused:?}");
        }
    }
}

#[test]
fn another_type_is_refused() {
    for kind in ["Transit", "KMIP", "vault", "passphrase", "pkcs11"] {
        let text = refusal(&transit(&[]).replace(": transit", &format!(": {kind}")));
        assert_eq!(text, "value of encryptionKMSType is not possible: use transit, kmip or local");
    }
}

#[test]
fn an_endpoint_is_one_of_its_kind() {
    for endpoint in [
        "openbao.example:8200",
        "https://",
        "https:///v1",
        "https://:8200",
        "ftp://openbao.example",
        "https://user@openbao.example",
        "https://openbao.example?x=y",
        "https://openbao.example#x",
        "http://openbao.example:8200",
        "http://127.0.0.1.openbao.example",
        "http://localhost.example/",
        "http://192.0.2.1:8200",
        "http://[2001:db8::1]:8200",
    ] {
        let manifest = transit(&[]).replace("https://openbao.example:8200", endpoint);
        assert!(refusal(&manifest).contains("value of encryptionKMSEndpoint"), "{endpoint}");
    }
    for endpoint in ["http://127.0.0.1:8200", "http://localhost:8200/", "http://[::1]:8200/v1"] {
        let manifest = transit(&[]).replace("https://openbao.example:8200", endpoint);
        assert!(parse(&manifest).is_ok(), "{endpoint}");
    }
    for endpoint in [
        "https://kms.example:5696",
        "kms.example",
        "kms.example:",
        ":5696",
        "kms.example:0",
        "kms.example:65536",
        "kms.example:+1",
        "kms.example:5696/path",
        "a:5696,b:5696",
    ] {
        let text = refusal(&kmip(endpoint));
        assert!(text.contains("kmip needs HOST:PORT"), "{endpoint}: {text}");
    }
}

#[test]
fn takes_the_class_that_speaks_of_encryption_out_of_many_documents() {
    let plain = class(&[]).replace("fast-encrypted", "plain");
    let secret = secret(&["stringData:", "  token: t"]);
    let other = "apiVersion: apps/v1\nkind: Deployment\nparameters: {encryptionEnabled: maybe}\n";
    let manifest = [&plain, &secret, "just text\n", other, &transit(&[])].join("---\n");
    assert_eq!(request(&manifest), request(&transit(&[])));
    assert!(CredentialsSecret::parse(manifest.as_bytes()).is_ok());
}

#[test]
fn more_than_one_class_or_none_is_refused() {
    let two = format!("{}---\n{}", transit(&[]), class(&["encrypted: \"false\""]));
    let names = "fast-encrypted, fast-encrypted";
    assert_eq!(refusal(&two), format!("manifest holds more than one StorageClass: {names}"));
    let plain = format!("{}---\n{}", class(&[]), class(&[]));
    assert!(refusal(&plain).starts_with("manifest holds more than one StorageClass"));
    for none in ["", "kind: StorageClass\n", "apiVersion: storage.k8s.io/v1\nkind: Pod\n"] {
        assert_eq!(parse(none), Err(Error::NoStorageClass));
    }
}

#[test]
fn reads_the_token_as_it_stands() {
    let text = format!("  token: \"{CANARY}\\n\"");
    let parts = credentials(&secret(&["stringData:", &text]), KmsKind::Transit).unwrap();
    assert_eq!(bytes(parts.token.as_ref()), Some(format!("{CANARY}\n").as_bytes()));
    assert!(parts.authorities.is_none() && parts.certificate.is_none());
    let parts = credentials(&secret(&["data:", "  token: aHZzLngK"]), KmsKind::Transit).unwrap();
    assert_eq!(bytes(parts.token.as_ref()), Some(&b"hvs.x\n"[..]));
    let both = secret(&["data:", "  token: aHZzLngK", "stringData:", "  token: newer"]);
    let parts = credentials(&both, KmsKind::Transit).unwrap();
    assert_eq!(bytes(parts.token.as_ref()), Some(&b"newer"[..]));
}

#[test]
fn reads_certificates_and_tolerates_other_keys() {
    let manifest = secret(&[
        "stringData:",
        "  ca.crt: authority",
        "  tls.crt: certificate",
        "  tls.key: key",
        "  username: nobody",
        "  TOKEN: not this",
    ]);
    let parts = credentials(&manifest, KmsKind::Kmip).unwrap();
    assert_eq!(bytes(parts.authorities.as_ref()), Some(&b"authority"[..]));
    assert_eq!(bytes(parts.certificate.as_ref()), Some(&b"certificate"[..]));
    assert_eq!(bytes(parts.private_key.as_ref()), Some(&b"key"[..]));
    assert!(parts.token.is_none());
}

#[test]
fn what_a_kind_needs_is_named_when_it_is_missing() {
    let lines = [
        "stringData:".to_owned(),
        "  ca.crt: authority".to_owned(),
        "  tls.crt: certificate".to_owned(),
        format!("  tls.key: {CANARY}"),
    ];
    for (index, key) in ["ca.crt", "tls.crt", "tls.key"].into_iter().enumerate() {
        let empty = format!("  {key}: \"\"");
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lines[index + 1] = &empty;
        let text = credentials_refusal(&secret(&lines), KmsKind::Kmip);
        let expected = format!(
            "credentials Secret prod/kms-credentials has no {key}, or an empty one: a KMS of the kind kmip \
             needs it"
        );
        assert_eq!(text, expected);
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let text = credentials_refusal(&secret(&lines), KmsKind::Transit);
    assert!(text.contains("has no token"), "{text}");
}

#[test]
fn values_that_are_no_text_are_refused_without_showing_them() {
    for (lines, expected) in [
        (["stringData:", "  token: 12345"], "value of token under stringData is a number"),
        (["data:", "  token: 12345"], "value of token under data is a number"),
        (["data:", "  token: canary-51c0"], "value of token under data is not base64"),
        (["data:", "  tls.key: \"*canary-51c0\""], "value of tls.key under data is not base64"),
    ] {
        let text = credentials_refusal(&secret(&lines), KmsKind::Transit);
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn one_secret_is_taken_and_passphrase_secrets_are_none() {
    let crypto = "apiVersion: v1\nkind: Secret\nmetadata: {name: c}\nstringData:\n  \
                  CRYPTO_KEY_VALUE: x\n";
    let ours = secret(&["stringData:", "  token: t"]);
    assert!(credentials(&format!("{crypto}---\n{ours}"), KmsKind::Transit).is_ok());
    let text = credentials_refusal(&format!("{ours}---\n{ours}"), KmsKind::Transit);
    let names = "prod/kms-credentials, prod/kms-credentials";
    assert_eq!(text, format!("manifest holds more than one Secret with credentials: {names}"));
    let text = credentials_refusal(crypto, KmsKind::Transit);
    assert!(text.starts_with("manifest holds no Secret with credentials"), "{text}");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = StorageClass::parse(text.as_bytes());
        let _ = CredentialsSecret::parse(text.as_bytes());
    }

    #[test]
    fn any_token_comes_out_as_it_went_in(token in proptest::collection::vec(any::<u8>(), 1..100)) {
        use base64::Engine;
        let base64 = base64::engine::general_purpose::STANDARD.encode(&token);
        let manifest = secret(&["data:", &format!("  token: \"{base64}\"")]);
        let parts = credentials(&manifest, KmsKind::Transit).unwrap();
        prop_assert_eq!(bytes(parts.token.as_ref()), Some(token.as_slice()));
    }
}

#[test]
fn a_map_is_read_like_the_secret_that_it_comes_from() {
    let values: [(&str, &[u8]); 3] = [("token", b"s.token\n"), ("ca.crt", b""), ("other", b"x")];
    let secret = CredentialsSecret::from_values("kube-system/kms", values);
    let parts = secret.into_parts(KmsKind::Transit).unwrap();
    assert_eq!(bytes(parts.token.as_ref()), Some(&b"s.token\n"[..]));
    assert!(parts.authorities.is_none());
    let none: [(&str, &[u8]); 0] = [];
    let text = CredentialsSecret::from_values("kms", none)
        .into_parts(KmsKind::Kmip)
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("credentials Secret kms has no ca.crt"), "{text}");
}
