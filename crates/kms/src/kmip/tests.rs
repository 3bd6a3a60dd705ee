use super::messages::{Attributes, operation, structure};
use super::scripted::*;
use super::tag::*;
use super::ttlv::{Item, Value};
use crate::kek::Kek;
use crate::{ErrorKind, Wrapped};

const GCM: u32 = 9;
const CBC: u32 = 1;
const ENCRYPT: u32 = operation::ENCRYPT;
const PLAIN: &[u8] = &[7; 82];

/// Returns the mode and the IV of a request to encrypt.
fn wanted(asked: &Asked) -> (u32, Option<usize>) {
    let parameters = asked.payload.child(CRYPTOGRAPHIC_PARAMETERS).unwrap();
    let mode = parameters.child(BLOCK_CIPHER_MODE).unwrap().enumeration().unwrap();
    (mode, asked.payload.child(IV_COUNTER_NONCE).map(|iv| iv.bytes().unwrap().len()))
}

fn bytes(tag: super::ttlv::Tag, len: usize) -> Item {
    Item::new(tag, Value::bytes(&vec![9; len]))
}

/// Returns a whole answer to a request to encrypt, with an IV where none was sent.
fn encrypted(asked: &Asked) -> Act {
    let (mode, iv) = wanted(asked);
    let mut items = vec![bytes(DATA, if mode == GCM { 82 } else { 96 })];
    if iv.is_none() {
        items.push(bytes(IV_COUNTER_NONCE, if mode == GCM { 12 } else { 16 }));
    }
    if mode == GCM {
        items.push(bytes(ENCRYPTION_TAG, 16));
    }
    Succeed(items)
}

fn attributes(replacement: Option<&str>) -> Act {
    let link = replacement.map(|to| {
        let link = vec![
            Item::new(LINK_TYPE, Value::Enumeration(0x106)),
            Item::new(LINKED_OBJECT, Value::text(to)),
        ];
        let label = Item::new(ATTRIBUTE_NAME, Value::text("Link"));
        structure(ATTRIBUTE, vec![label, Item::new(ATTRIBUTE_VALUE, Value::Structure(link))])
    });
    Succeed(link.into_iter().collect())
}

/// Starts a server whose key is `kek`, and which does with a request to encrypt what `encrypt` says.
fn encrypting(encrypt: impl Fn(&Asked) -> Act + Sync + std::marker::Send + 'static) -> Scripted {
    Scripted::start(move |_, asked| match asked.operation {
        operation::GET_ATTRIBUTES => attributes(None),
        ENCRYPT => encrypt(asked),
        _ => Fail(5),
    })
}

fn modes(server: &Scripted) -> Vec<(u32, Option<usize>)> {
    server.asked(ENCRYPT).iter().map(wanted).collect()
}

#[test]
fn asks_for_an_iv_of_the_server_and_keeps_it() {
    let server = encrypting(encrypted);
    let wrapped = server.kek().encrypt(PLAIN).unwrap();
    assert_eq!(modes(&server), [(GCM, None)]);
    assert_eq!(wrapped.iv, Some(vec![9; 12]));
    assert_eq!(wrapped.tag, Some(vec![9; 16]));
    assert_eq!((wrapped.algorithm.as_str(), wrapped.key_id.as_str()), ("aes-gcm", "kek"));
}

#[test]
fn makes_the_iv_when_the_server_wants_one() {
    // MissingInitializationVector, and what earlier versions have instead.
    for reason in [0x34, 0x06, 0x07] {
        let server = encrypting(move |asked| match wanted(asked) {
            (_, None) => Fail(reason),
            _ => encrypted(asked),
        });
        let kek = server.kek();
        let [one, other] = [0; 2].map(|_| kek.encrypt(PLAIN).unwrap().iv.unwrap());
        assert!(one.len() == 12 && one != other, "an IV of ours comes from chance");
        // What works is remembered.
        assert_eq!(modes(&server), [(GCM, None), (GCM, Some(12)), (GCM, Some(12))]);
    }
}

#[test]
fn makes_the_iv_when_the_server_keeps_its_own_to_itself() {
    let server = encrypting(|asked| match wanted(asked) {
        (_, None) => Succeed(vec![bytes(DATA, 82), bytes(ENCRYPTION_TAG, 16)]),
        _ => encrypted(asked),
    });
    server.kek().encrypt(PLAIN).unwrap();
    assert_eq!(modes(&server), [(GCM, None), (GCM, Some(12))]);
}

#[test]
fn falls_back_to_cbc_where_gcm_is_refused() {
    // OperationNotSupported, InvalidField, FeatureNotSupported, CryptographicFailure, and others.
    for reason in [0x05, 0x07, 0x08, 0x0A, 0x24, 0x3E] {
        let server = encrypting(move |asked| match wanted(asked) {
            (GCM, _) => Fail(reason),
            _ => encrypted(asked),
        });
        let kek = server.kek();
        let wrapped = kek.encrypt(PLAIN).unwrap();
        assert_eq!((wrapped.algorithm.as_str(), wrapped.tag), ("aes-cbc-pkcs5", None));
        kek.encrypt(PLAIN).unwrap();
        let tried = [(GCM, None), (GCM, Some(12)), (CBC, None), (CBC, None)];
        assert_eq!(modes(&server), tried, "reason {reason:#x}");
    }
}

#[test]
fn an_accident_of_the_server_costs_no_authentication() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    // GeneralFailure once, for either maker of the IV.
    for failing in [0, 1] {
        let count = AtomicUsize::new(0);
        let server =
            encrypting(move |asked| match (wanted(asked), count.fetch_add(1, Ordering::Relaxed)) {
                (_, now) if now == failing => Fail(0x100),
                _ => encrypted(asked),
            });
        let kek = server.kek();
        for _ in 0..2 {
            assert_eq!(kek.encrypt(PLAIN).unwrap().algorithm, "aes-gcm");
        }
        assert_eq!(modes(&server), [(GCM, None); 3]);
    }
}

#[test]
fn a_server_that_fails_without_a_reason_is_asked_for_gcm_each_time() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mended = std::sync::Arc::new(AtomicBool::new(false));
    let works = std::sync::Arc::clone(&mended);
    let server = encrypting(move |asked| match wanted(asked) {
        (GCM, _) if !works.load(Ordering::Relaxed) => Fail(0x100),
        (CBC, None) => Succeed(vec![bytes(DATA, 16), bytes(IV_COUNTER_NONCE, 16)]),
        (GCM, None) => {
            Succeed(vec![bytes(DATA, 5), bytes(IV_COUNTER_NONCE, 12), bytes(ENCRYPTION_TAG, 16)])
        }
        _ => encrypted(asked),
    });
    let kek = server.kek();
    let deadline = kek.session.deadline();
    let algorithm = || kek.encrypt_under("kek", b"probe", deadline).unwrap().algorithm;
    assert_eq!(algorithm(), "aes-cbc-pkcs5");
    let twice = [(GCM, None), (GCM, None), (GCM, Some(12)), (GCM, Some(12)), (CBC, None)];
    assert_eq!(modes(&server), twice);
    let findings = kek.probe().unwrap().findings.concat();
    assert!(findings.contains("AES-GCM fails without a reason"), "{findings}");
    mended.store(true, Ordering::Relaxed);
    assert_eq!(algorithm(), "aes-gcm");
    let findings = kek.probe().unwrap().findings.concat();
    assert!(!findings.contains("AES-GCM"), "{findings}");
}

#[test]
fn does_not_fall_back_when_the_key_may_not_be_used() {
    let server = encrypting(|_| Fail(0x0C));
    let error = server.kek().encrypt(PLAIN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(modes(&server).len(), 1);
}

#[test]
fn takes_no_short_tag_and_no_ciphertext_of_another_length() {
    let short = encrypting(|asked| match wanted(asked) {
        (GCM, _) => {
            Succeed(vec![bytes(DATA, 82), bytes(IV_COUNTER_NONCE, 12), bytes(ENCRYPTION_TAG, 12)])
        }
        _ => Succeed(vec![bytes(DATA, 80), bytes(IV_COUNTER_NONCE, 16)]),
    });
    let error = short.kek().encrypt(PLAIN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert_eq!(modes(&short).len(), 4);
}

#[test]
fn asks_again_while_the_server_is_in_trouble() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    for (troubles, works) in [(2, true), (3, false)] {
        let count = AtomicUsize::new(0);
        let server = encrypting(move |asked| {
            let trouble = count.fetch_add(1, Ordering::Relaxed) < troubles;
            if trouble { Fail(0x2A) } else { encrypted(asked) }
        });
        let result = server.kek().encrypt(PLAIN);
        assert_eq!(modes(&server).len(), 3);
        assert_eq!(
            result.map_err(|error| error.kind()).err(),
            match works {
                true => None,
                false => Some(ErrorKind::Unavailable),
            }
        );
    }
}

#[test]
fn takes_no_answer_to_another_request() {
    let server = encrypting(|_| Send(success(operation::DECRYPT, vec![bytes(DATA, 82)]), 0));
    let error = server.kek().encrypt(PLAIN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("a request that was not made"), "{error}");
}

#[test]
fn rewraps_under_the_key_that_replaces_the_others() {
    let server = Scripted::start(|_, asked| match asked.operation {
        operation::GET_ATTRIBUTES => {
            match asked.payload.child(UNIQUE_IDENTIFIER).unwrap().text().unwrap() {
                "kek" => attributes(Some("second")),
                "second" => attributes(Some("third")),
                _ => attributes(None),
            }
        }
        operation::DECRYPT => Succeed(vec![Item::new(DATA, Value::bytes(PLAIN))]),
        ENCRYPT => encrypted(asked),
        _ => Fail(5),
    });
    let kek = server.kek();
    let old = kek.encrypt(PLAIN).unwrap();
    assert_eq!(old.key_id, "kek", "what is named is used until somebody rewraps");
    assert_eq!(kek.rewrap(&old, &|_| Ok(())).unwrap().key_id, "third");
    let findings = kek.probe().unwrap().findings.concat();
    assert!(findings.contains("the key kek was replaced by second"), "{findings}");
}

#[test]
fn keys_that_replace_each_other_in_a_circle_are_an_error() {
    let server = Scripted::start(|_, asked| match asked.operation {
        operation::GET_ATTRIBUTES => {
            let id = asked.payload.child(UNIQUE_IDENTIFIER).unwrap().text().unwrap();
            attributes(Some(if id == "kek" { "other" } else { "kek" }))
        }
        operation::DECRYPT => Succeed(vec![Item::new(DATA, Value::bytes(PLAIN))]),
        _ => encrypted(asked),
    });
    let kek = server.kek();
    let old = kek.encrypt(PLAIN).unwrap();
    let error = kek.rewrap(&old, &|_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("replaced by others without end"), "{error}");
}

/// Returns the version that is agreed on with a server that answers about versions as `script`
/// says.
fn agreed(
    script: impl Fn(&Asked) -> Act + Sync + std::marker::Send + 'static,
) -> Result<String, String> {
    let server = Scripted::start_bare(move |_, asked| script(asked));
    let kek = server.kek();
    let agreed = kek.session.agreed(kek.session.deadline());
    agreed.map(|agreed| agreed.version.to_string()).map_err(|error| error.to_string())
}

#[test]
fn the_newest_version_that_both_speak_is_spoken() {
    let offers = |offered: &[(i32, i32)]| {
        let offered: Vec<_> = offered.iter().map(|&(major, minor)| version(major, minor)).collect();
        agreed(move |_| Succeed(offered.clone()))
    };
    assert_eq!(offers(&[(1, 0), (1, 2), (2, 1), (1, 4)]).as_deref(), Ok("2.1"));
    assert_eq!(offers(&[(3, 0), (1, 4), (1, 3)]).as_deref(), Ok("1.4"));
    assert_eq!(offers(&[(1, 2)]).as_deref(), Ok("1.2"));
    let error = offers(&[(1, 1), (1, 0), (3, 0)]).unwrap_err();
    assert!(error.contains("speaks KMIP 1.1, 1.0, 3.0 only"), "{error}");
}

#[test]
fn a_server_may_answer_in_its_own_version_only() {
    for own in [(2, 0), (2, 1)] {
        let spoken = agreed(move |asked| {
            if asked.version == own { Succeed(vec![version(own.0, own.1)]) } else { Fail(4) }
        });
        assert_eq!(spoken, Ok(format!("{}.{}", own.0, own.1)));
    }
    // It need not know the question.
    let unasked = agreed(|asked| if asked.version == (2, 0) { Fail(5) } else { Fail(0x3F) });
    assert_eq!(unasked.as_deref(), Ok("2.0"));
    let error = agreed(|_| Fail(0x3F)).unwrap_err();
    assert!(error.contains("speaks none of KMIP 1.2 to 2.1"), "{error}");
}

#[test]
fn an_envelope_cannot_ask_for_less_than_its_algorithm_needs() {
    let server = Scripted::start(|_, _| Fail(0x100));
    let kek = server.kek();
    let whole = Wrapped {
        key_id: "1".to_owned(),
        algorithm: "aes-gcm".to_owned(),
        iv: Some(vec![0; 12]),
        tag: Some(vec![0; 16]),
        ciphertext: "AAAA".to_owned(),
        ..Wrapped::default()
    };
    for (what, changed) in [
        ("no tag", Wrapped { tag: None, ..whole.clone() }),
        ("a short tag", Wrapped { tag: Some(vec![0; 4]), ..whole.clone() }),
        ("no IV", Wrapped { iv: None, ..whole.clone() }),
        ("a short IV", Wrapped { iv: Some(vec![0; 8]), ..whole.clone() }),
        ("another algorithm", Wrapped { algorithm: "aes-ecb".to_owned(), ..whole.clone() }),
        ("CBC with a tag", Wrapped { algorithm: "aes-cbc-pkcs5".to_owned(), ..whole.clone() }),
        ("no key", Wrapped { key_id: String::new(), ..whole.clone() }),
        ("a key with a line", Wrapped { key_id: "1\n".to_owned(), ..whole.clone() }),
        ("a long key", Wrapped { key_id: "1".repeat(2000), ..whole.clone() }),
    ] {
        let error = kek.decrypt(&changed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
    }
    assert!(server.asked(operation::DECRYPT).is_empty(), "nothing of it was sent");
    kek.decrypt(&whole).unwrap_err();
    assert_eq!(server.asked(operation::DECRYPT).len(), 1);
}

#[test]
fn bad_padding_cannot_be_told_from_bad_plaintext() {
    use std::error::Error;
    let key = strongroom_crypto::DataKey::new(b"data key".to_vec());
    let seal = |name| crate::sealed::seal(&key, &crate::Binding::volume(name)).to_vec();
    let mut newer = seal("a");
    newer[4] = 2;
    // Bad padding, no magic, another version, another binding, another data key.
    let plaintexts = [None, Some(vec![1; 90]), Some(newer), Some(seal("b")), Some(seal("a"))];
    let answers = plaintexts.clone();
    let server = Scripted::start(move |count, _| match &answers[count] {
        None => Fail(0x100),
        Some(plaintext) => Succeed(vec![Item::new(DATA, Value::bytes(plaintext))]),
    });
    let request = strongroom_model::KmsRequest {
        endpoints: vec![format!("127.0.0.1:{}", server.port())],
        ..strongroom_model::KmsRequest::new(strongroom_model::KmsKind::Kmip)
    };
    let provider = crate::open(&request, server.credentials()).unwrap();
    let (salt, hash) = ("A".repeat(22) + "==", "A".repeat(43) + "=");
    let json = r#"{"version":1,"kind":"kmip","key-id":"1","algorithm":"aes-cbc-pkcs5",
        "iv":"AAAAAAAAAAAAAAAAAAAAAA==","ciphertext":"AAAAAAAAAAAAAAAAAAAAAA==",
        "fingerprint":{"salt":"SALT","sha256":"HASH"},"created":"2026-01-01T00:00:00Z"}"#
        .replace("SALT", &salt)
        .replace("HASH", &hash);
    let envelope = crate::Envelope::parse(json.as_bytes(), "test").unwrap();
    let told: Vec<_> = plaintexts
        .iter()
        .map(|_| {
            let error = provider.unwrap(&envelope, &crate::Binding::volume("a")).unwrap_err();
            assert!(error.source().is_none() && error.hint().is_none());
            (error.kind(), error.to_string())
        })
        .collect();
    assert!(told.iter().all(|one| *one == told[0]), "{told:#?}");
    assert_eq!(told[0].0, ErrorKind::Corrupt);
}

#[test]
fn attributes_that_nobody_sent_are_not_made_up() {
    let server = encrypting(encrypted);
    let kek = server.kek();
    let found = kek.attributes("kek", kek.session.deadline()).unwrap().unwrap();
    assert_eq!(found, Attributes::default());
    // A server that tells nothing may well do everything.
    assert_eq!(kek.probe().unwrap().allowed, ["encrypt", "decrypt", "rewrap"]);
}

#[test]
fn an_endpoint_in_trouble_is_passed_over() {
    for sick in [|| Nothing, || Fail(0x2A), || Close] {
        let sick = Scripted::start(move |_, _| sick());
        let well = sick.sibling(|_, asked| match asked.operation {
            operation::GET_ATTRIBUTES => attributes(None),
            _ => encrypted(asked),
        });
        let mut request = well.request();
        request.endpoints.insert(0, format!("127.0.0.1:{}", sick.port()));
        let kek = super::kek(&request, &well.credentials(), QUICK).unwrap();
        kek.encrypt(PLAIN).unwrap();
        kek.encrypt(PLAIN).unwrap();
        // Twice where the connection was closed that had served to agree on a version.
        let asked = sick.asked(operation::GET_ATTRIBUTES).len();
        assert!((1..=2).contains(&asked), "it is asked no more: {asked}");
        assert_eq!(well.asked(ENCRYPT).len(), 2);
    }
}

#[test]
fn a_server_that_repeats_what_is_sealed_puts_it_into_no_error() {
    // GeneralFailure, CryptographicFailure, PermissionDenied, ItemNotFound, InternalServerError.
    for reason in [0x100, 0x0A, 0x0C, 0x01, 0x2A] {
        let server = Scripted::start(move |_, asked| match asked.operation {
            operation::GET_ATTRIBUTES => attributes(None),
            _ => Send(
                response(vec![
                    Item::new(RESULT_STATUS, Value::Enumeration(1)),
                    Item::new(RESULT_REASON, Value::Enumeration(reason)),
                    Item::new(RESULT_MESSAGE, Value::text("cannot work on SRDK-canary")),
                ]),
                0,
            ),
        });
        let wrapped = Wrapped {
            key_id: "kek".to_owned(),
            algorithm: "aes-gcm".to_owned(),
            iv: Some(vec![9; 12]),
            tag: Some(vec![9; 16]),
            ciphertext: "AAAA".to_owned(),
            ..Wrapped::default()
        };
        let kek = server.kek();
        for error in [kek.encrypt(PLAIN).unwrap_err(), kek.decrypt(&wrapped).unwrap_err()] {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let words = format!("{error} {error:?} {}", source.unwrap());
            assert!(!words.contains("canary"), "{words}");
        }
    }
}
