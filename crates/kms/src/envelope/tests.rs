use std::error::Error as _;

use serde_json::{Value, json};

use super::*;

fn envelope() -> Value {
    json!({
        "version": 1,
        "kind": "kmip",
        "endpoint": "kms.example:5696",
        "key-id": "17",
        "algorithm": "aes-cbc-pkcs5",
        "iv": "AAAAAAAAAAAAAAAAAAAAAA==",
        "ciphertext": "AAAA",
        "fingerprint": {
            "salt": "AAAAAAAAAAAAAAAAAAAAAA==",
            "sha256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        },
        "created": "2026-11-21T08:00:00Z",
    })
}

fn parse(json: &Value) -> Result<Envelope> {
    Envelope::parse(json.to_string().as_bytes(), "test")
}

/// Returns the error's text with its cause.
fn refusal(json: &[u8]) -> String {
    let error = Envelope::parse(json, "test").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let text = format!("{error}{cause}");
    assert!(text.len() < 1500 && !text.contains(char::is_control), "{text:?}");
    text
}

#[test]
fn members_that_nobody_knows_do_not_hurt_and_are_not_written() {
    let mut json = envelope();
    json["later"] = json!({"version": 2, "key-id": ["x"]});
    json["fingerprint"]["later"] = json!(1);
    let read = parse(&json).unwrap();
    assert_eq!(read, parse(&envelope()).unwrap());
    assert_eq!(read.to_json(), envelope().to_string());
}

#[test]
fn a_newer_version_is_told_before_anything_else() {
    let text = refusal(br#"{"version": 2, "form": "quite another"}"#);
    let expected = "test: the envelope has version 2, and this release knows version 1 only";
    assert_eq!(text, expected);
    let error = Envelope::parse(br#"{"version": 18446744073709551615}"#, "test").unwrap_err();
    assert_eq!(error.hint(), Some("use a newer release"));
    assert!(refusal(br#"{"version": 0}"#).contains("has version 0"));
}

#[test]
fn what_is_no_envelope_is_told() {
    for json in [
        &b""[..],
        b"null",
        b"[]",
        b"{}",
        b"1",
        b"{\"version\": \"1\"}",
        b"{\"version\": -1}",
        b"{\"version\": 1.5}",
        b"{\"version\": 1, \"version\": 1}",
        b"{\"version\": 1}{\"version\": 1}",
        b"{\"version\": 1",
        b"\xff\xfe",
        b"{\"version\": 1}\0",
    ] {
        assert!(refusal(json).starts_with("test: it is no envelope"), "{json:?}");
    }
}

#[test]
fn every_member_is_needed_and_of_its_kind() {
    for member in ["kind", "key-id", "algorithm", "ciphertext", "fingerprint", "created"] {
        let mut json = envelope();
        json.as_object_mut().unwrap().shift_remove(member);
        let text = refusal(json.to_string().as_bytes());
        assert!(text.starts_with("test: the envelope is damaged: missing field"), "{text}");
        for wrong in [json!(null), json!(1), json!([]), json!({}), json!("\u{1b}")] {
            let mut json = envelope();
            json[member] = wrong;
            let text = refusal(json.to_string().as_bytes());
            assert!(text.starts_with("test: the envelope is damaged: "), "{member}: {text}");
        }
    }
}

#[test]
fn a_member_that_stands_twice_is_refused() {
    let text = envelope().to_string();
    for (name, value) in [("key-id", "\"18\""), ("created", "\"2026-11-21T08:00:00Z\"")] {
        let twice = text.replacen('{', &format!("{{\"{name}\": {value}, "), 1);
        assert!(refusal(twice.as_bytes()).contains("duplicate field"), "{name}");
    }
}

#[test]
fn values_that_cannot_be_are_damage() {
    for (pointer, value, words) in [
        ("/kind", "vault", "is not one of passphrase, local, transit, kmip, pkcs11"),
        ("/iv", "*", "Invalid symbol"),
        ("/created", "yesterday", "the time of its creation is none"),
        ("/created", "2026-13-21T08:00:00Z", "the time of its creation is none"),
        ("/fingerprint/salt", "", "the fingerprint is none"),
        ("/fingerprint/salt", "*", "the fingerprint is none"),
        ("/fingerprint/sha256", "AAAA", "the fingerprint is none"),
        ("/endpoint", "kms\u{1b}[2J", "a text has control characters"),
        ("/key-id", "17\n", "a text has control characters"),
        ("/key-id", "17\u{202e}", "a text has control characters"),
        ("/endpoint", "kms\u{2066}", "a text has control characters"),
        ("/ciphertext", "vault:v1:\0", "a text has control characters"),
        ("/derivation/salt", "\u{7f}", "a text has control characters"),
    ] {
        let mut json = envelope();
        json["derivation"] = json!({"salt": "AAAA", "time": 4, "memory": 32, "lanes": 1});
        *json.pointer_mut(pointer).unwrap() = json!(value);
        let text = refusal(json.to_string().as_bytes());
        assert!(
            text.starts_with("test: the envelope is damaged: ") && text.contains(words),
            "{text}"
        );
    }
}

#[test]
fn a_long_or_deep_text_is_refused() {
    let long = format!("{}{}", " ".repeat(MAX_LEN), envelope());
    assert_eq!(refusal(long.as_bytes()), "test: an envelope has at most 65536 bytes");
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let deep = envelope().to_string().replacen('{', &format!("{{\"x\": {deep}, "), 1);
    assert!(refusal(deep.as_bytes()).contains("recursion limit"));
    let mut json = envelope();
    json["kind"] = json!("\u{202e}k".repeat(9000));
    assert!(refusal(json.to_string().as_bytes()).ends_with('…'));
}

#[test]
fn a_fingerprint_is_of_one_key() {
    let key = |text: &[u8]| DataKey::new(text.to_vec());
    let fingerprint = Fingerprint::of(&key(b"key"), &[7; 16]);
    assert!(fingerprint.matches(&key(b"key")));
    for other in [&b""[..], b"ke", b"keys", b"kex"] {
        assert!(!fingerprint.matches(&key(other)));
    }
    assert_ne!(fingerprint, Fingerprint::of(&key(b"key"), &[8; 16]));
}
