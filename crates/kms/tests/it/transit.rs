//! The Transit engine of a real OpenBao, under the policy that the OSC documentation gives a driver
//! unless a test says otherwise: to encrypt and to decrypt with one key.

mod faults;
mod hostile;
mod logins;
mod probes;
mod redirects;

use std::error::Error as StdError;
use std::time::Duration;

use serde_json::json;
use strongroom_crypto::{CostPolicy, DataKey, Token};
use strongroom_kms::{
    Binding, Credentials, Envelope, Error, ErrorKind, KeyProvider, Limits, conformance, open,
    open_within,
};
use strongroom_model::{KmsKind, KmsRequest};
use strongroom_testkit::{Authority, OpenBao, skip};

/// A server with the key `kek` and a token for it.
struct Vault {
    bao: OpenBao,
    token: String,
}

impl Vault {
    fn start(test: &str) -> Option<Self> {
        let Some((bao, token)) = OpenBao::for_driver("kek") else {
            skip(test, "OpenBao is not installed");
            return None;
        };
        Some(Self { bao, token })
    }

    fn provider(&self) -> Box<dyn KeyProvider> {
        self.provider_at(&self.bao.url())
    }

    fn provider_at(&self, url: &str) -> Box<dyn KeyProvider> {
        open_within(&request(url), token(&self.token), &BRISK).unwrap()
    }

    /// Returns a provider whose token may do everything with keys.
    fn broad(&self, key: &str) -> Box<dyn KeyProvider> {
        let all = "path \"transit/*\" { capabilities = [\"create\", \"read\", \"update\"] }";
        self.bao.policy("broad", all);
        self.with_policy("broad", key)
    }

    fn with_policy(&self, policy: &str, key: &str) -> Box<dyn KeyProvider> {
        let text = self.bao.token(&[policy], &json!({}));
        let request = KmsRequest { key_id: Some(key.to_owned()), ..request(&self.bao.url()) };
        open_within(&request, token(&text), &BRISK).unwrap()
    }
}

fn request(url: &str) -> KmsRequest {
    KmsRequest {
        endpoints: vec![url.to_owned()],
        key_id: Some("kek".to_owned()),
        ..KmsRequest::new(KmsKind::Transit)
    }
}

fn token(text: &str) -> Credentials {
    Credentials { secret: Some(Token::new(text.as_bytes().to_vec())), ..Credentials::default() }
}

fn data_key(text: &str) -> DataKey {
    DataKey::new(text.as_bytes().to_vec())
}

fn wrap(provider: &dyn KeyProvider) -> Envelope {
    provider.wrap(&data_key(KEY), &binding()).unwrap()
}

fn binding() -> Binding {
    Binding::volume("pvc-1")
}

/// Returns everything that an error says, its sources included.
fn words(error: &Error) -> String {
    let mut words = format!("{error} {error:?} {}", error.hint().unwrap_or_default());
    let mut source = error.source();
    while let Some(cause) = source {
        words += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    words
}

impl conformance::Harness for Vault {
    fn provider(&self) -> Box<dyn KeyProvider> {
        Self::provider(self)
    }

    fn rotate(&self) -> bool {
        self.bao.rotate_key("kek");
        true
    }
}

#[test]
fn does_what_every_provider_does() {
    let Some(vault) = Vault::start("transit") else { return };
    conformance::run(&vault);
}

#[test]
fn unwraps_what_it_has_wrapped_under_the_narrowest_policy() {
    let Some(vault) = Vault::start("transit") else { return };
    let provider = vault.provider();
    let envelope = wrap(&*provider);
    assert_eq!(envelope.kind, KmsKind::Transit);
    assert_eq!(envelope.wrapped.key_id, "kek");
    assert_eq!(envelope.wrapped.mount.as_deref(), Some("transit"));
    assert_eq!(envelope.wrapped.key_version.as_deref(), Some("1"));
    assert_eq!(envelope.wrapped.endpoint, Some(vault.bao.url()));
    assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key(KEY));
    // Another process knows no key but that of the envelope.
    let request = KmsRequest { key_id: None, ..request(&vault.bao.url()) };
    let other = open(&request, token(&vault.token)).unwrap();
    assert_eq!(other.unwrap(&envelope, &binding()).unwrap(), data_key(KEY));
    let error = other.wrap(&data_key(KEY), &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert_eq!(error.hint(), Some("name it with --kms-key-id"));
}

#[test]
fn an_envelope_of_something_else_opens_nothing_even_when_it_was_rewrapped() {
    let Some(vault) = Vault::start("transit") else { return };
    for provider in [vault.provider(), vault.broad("kek")] {
        let mine = wrap(&*provider);
        let other = provider.wrap(&data_key("other"), &Binding::volume("pvc-2")).unwrap();
        for other in [provider.rewrap(&other).unwrap(), other] {
            let error = provider.unwrap(&other, &binding()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let mut mixed = mine.clone();
            mixed.wrapped = other.wrapped;
            let error = provider.unwrap(&mixed, &binding()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
    }
}

#[test]
fn a_key_that_does_not_exist_is_never_created() {
    let Some(vault) = Vault::start("transit") else { return };
    let bao = &vault.bao;
    let update = |verb: &str, capabilities: &str| {
        format!("path \"transit/{verb}/*\" {{ capabilities = [{capabilities}] }}\n")
    };
    let all = update("encrypt", r#""create", "update""#);
    bao.policy("blind", &(all.clone() + &update("decrypt", r#""update""#)));
    bao.policy("write-only", &all);
    bao.policy("narrow", &update("encrypt", r#""update""#));
    for (provider, kind) in [
        (vault.broad("kekk"), ErrorKind::NotFound),
        (vault.with_policy("blind", "kekk"), ErrorKind::NotFound),
        (vault.with_policy("write-only", "kekk"), ErrorKind::Denied),
        (vault.with_policy("narrow", "kekk"), ErrorKind::Denied),
        (vault.with_policy("pvc-enc", "kekk"), ErrorKind::Denied),
    ] {
        let error = provider.wrap(&data_key(KEY), &binding()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(words(&error).contains("kekk"), "{error}");
        assert!(!bao.has_key("kekk"), "it was created: {error}");
    }
    // Where it is certain that the key exists, or cannot be created, all of them work.
    for policy in ["broad", "blind", "narrow"] {
        wrap(&*vault.with_policy(policy, "kek"));
    }
    // The tokens above could indeed have created one.
    let (status, _) = bao.try_call(
        reqwest::Method::POST,
        "transit/encrypt/kekk",
        &json!({"plaintext": "aGVsbG8="}),
    );
    assert_eq!((status, bao.has_key("kekk")), (200, true));
}

#[test]
fn old_versions_unwrap_and_are_rewrapped_to_the_newest() {
    let Some(vault) = Vault::start("transit") else { return };
    for provider in [vault.provider(), vault.broad("kek")] {
        let old = wrap(&*provider);
        vault.bao.rotate_key("kek");
        assert_eq!(provider.unwrap(&old, &binding()).unwrap(), data_key(KEY));
        let new = provider.rewrap(&old).unwrap();
        let version = |envelope: &Envelope| {
            envelope.wrapped.key_version.as_ref().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(version(&new), version(&old) + 1);
        assert_eq!(new.fingerprint, old.fingerprint);
        assert_eq!(provider.unwrap(&new, &binding()).unwrap(), data_key(KEY));
        assert_eq!(provider.unwrap(&old, &binding()).unwrap(), data_key(KEY));
    }
}

#[test]
fn rewraps_to_the_key_that_is_named() {
    let Some(vault) = Vault::start("transit") else { return };
    vault.bao.create_key("kek2");
    let old = wrap(&*vault.broad("kek2"));
    let provider = vault.broad("kek");
    let new = provider.rewrap(&old).unwrap();
    assert_eq!(new.wrapped.key_id, "kek");
    assert_eq!(provider.unwrap(&new, &binding()).unwrap(), data_key(KEY));
    assert_eq!(vault.provider().unwrap(&new, &binding()).unwrap(), data_key(KEY));
    // One that does not exist is not made for it.
    let error = vault.broad("kekk").rewrap(&old).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!vault.bao.has_key("kekk"));
}

#[test]
fn encrypts_under_another_key_nothing_but_what_the_envelope_says() {
    let Some(vault) = Vault::start("transit") else { return };
    vault.bao.create_key("kek2");
    let other = vault.broad("kek2");
    let mut planted = wrap(&*other);
    let secret = json!({"plaintext": "YSBzZWNyZXQgb2Ygc29tZWJvZHkgZWxzZQ=="});
    let answer = vault.bao.call(reqwest::Method::POST, "transit/encrypt/kek2", &secret);
    planted.wrapped.ciphertext = answer["data"]["ciphertext"].as_str().unwrap().to_owned();
    let error = vault.broad("kek").rewrap(&planted).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let mut mixed = wrap(&*other);
    mixed.wrapped = other.wrap(&data_key("other"), &binding()).unwrap().wrapped;
    let error = vault.broad("kek").rewrap(&mixed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[test]
fn a_version_that_was_retired_is_told_with_what_to_do() {
    let Some(vault) = Vault::start("transit") else { return };
    let provider = vault.provider();
    let old = wrap(&*provider);
    vault.bao.rotate_key("kek");
    vault.bao.set_min_decryption_version("kek", 2);
    for error in [
        provider.unwrap(&old, &binding()).unwrap_err(),
        provider.rewrap(&old).unwrap_err(),
        vault.broad("kek").rewrap(&old).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("min_decryption_version was raised"), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("transit/keys/kek") && hint.contains("key rewrap"), "{hint}");
    }
    vault.bao.set_min_decryption_version("kek", 1);
    assert_eq!(provider.unwrap(&old, &binding()).unwrap(), data_key(KEY));
}

#[test]
fn a_key_that_was_destroyed_is_not_found_and_one_that_can_be_restored_says_so() {
    let Some(vault) = Vault::start("transit") else { return };
    let provider = vault.provider();
    let envelope = wrap(&*provider);
    let soft = "transit/keys/kek/soft-delete";
    vault.bao.call(reqwest::Method::DELETE, soft, &json!({}));
    for provider in [vault.provider(), vault.broad("kek")] {
        for error in [
            provider.unwrap(&envelope, &binding()).unwrap_err(),
            provider.wrap(&data_key(KEY), &binding()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.hint().unwrap().contains("soft-delete-restore"), "{error:?}");
        }
    }
    vault.bao.call(reqwest::Method::POST, &format!("{soft}-restore"), &json!({}));
    assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key(KEY));
    vault.bao.delete_key("kek");
    for provider in [provider, vault.broad("kek")] {
        for error in [
            provider.unwrap(&envelope, &binding()).unwrap_err(),
            provider.rewrap(&envelope).unwrap_err(),
            provider.wrap(&data_key(KEY), &binding()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.hint().unwrap().contains("--kms-key-id"), "{error:?}");
        }
    }
    assert!(!vault.bao.has_key("kek"));
}

#[test]
fn keys_of_other_sorts_are_refused_with_what_to_do() {
    let Some(vault) = Vault::start("transit") else { return };
    for (name, settings) in
        [("derived", json!({"derived": true})), ("signing", json!({"type": "ed25519"}))]
    {
        let path = format!("transit/keys/{name}");
        vault.bao.call(reqwest::Method::POST, &path, &settings);
        vault.bao.driver_policy(name);
        for provider in [vault.with_policy("pvc-enc", name), vault.broad(name)] {
            let error = provider.wrap(&data_key(KEY), &binding()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
            assert!(error.hint().unwrap().contains("type=aes256-gcm96"), "{error:?}");
        }
    }
}

#[test]
fn other_mounts_are_found_and_missing_ones_told() {
    let Some(vault) = Vault::start("transit") else { return };
    let bao = &vault.bao;
    bao.call(reqwest::Method::POST, "sys/mounts/team/transit", &json!({"type": "transit"}));
    bao.call(reqwest::Method::POST, "team/transit/keys/kek", &json!({}));
    bao.policy("team", "path \"*\" { capabilities = [\"read\", \"update\"] }");
    let text = bao.token(&["team"], &json!({}));
    let at = |mount: &str| {
        let mount = Some(mount.to_owned());
        open(&KmsRequest { mount, ..request(&bao.url()) }, token(&text)).unwrap()
    };
    let envelope = wrap(&*at("team/transit"));
    assert_eq!(at("team/transit").unwrap(&envelope, &binding()).unwrap(), data_key(KEY));
    // The envelope names it, which is no reason to go there.
    let other = open(&request(&bao.url()), token(&text)).unwrap();
    let error = other.unwrap(&envelope, &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.hint().unwrap().contains("--kms-mount team/transit"), "{error:?}");
    let error = at("nowhere").wrap(&data_key(KEY), &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.hint().unwrap().contains("--kms-mount"), "{error:?}");
}

#[test]
fn tls_is_checked_against_the_authority_and_the_name_that_were_given() {
    let Some(vault) = Vault::start("transit") else { return };
    let url = vault.bao.tls_url();
    let with = |pem: String, name: Option<&str>| {
        let request = KmsRequest { server_name: name.map(str::to_owned), ..request(&url) };
        let credentials = Credentials { authorities: Some(pem.into()), ..token(&vault.token) };
        open_within(&request, credentials, &BRISK).unwrap()
    };
    let right = vault.bao.authority().pem();
    let envelope = wrap(&*with(right.clone(), None));
    wrap(&*with(right.clone(), Some("127.0.0.1")));
    for (provider, flag) in [
        (with(Authority::new().pem(), None), "--kms-ca-file"),
        (vault.provider_at(&url), "--kms-ca-file"),
        (with(right, Some("bao.example")), "--kms-server-name"),
        (vault.provider_at(&url.replace("https", "http")), "https://"),
    ] {
        let error = provider.unwrap(&envelope, &binding()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        assert!(error.hint().unwrap().contains(flag), "{error:?}");
        assert!(!words(&error).contains(&vault.token), "{error:?}");
    }
}

const KEY: &str = "k3JY0TJrcl9J4Zgq0W7xq1l8oSgkfSkYgk5m0e1dOQY";

/// Limits with which tests of failures do not take long.
const BRISK: Limits = Limits {
    connect: Duration::from_secs(2),
    request: Duration::from_secs(2),
    total: Duration::from_secs(5),
    retries: 2,
    backoff: Duration::from_millis(10),
    failures: 1000,
    pause: Duration::from_millis(100),
    derivation: CostPolicy { max_memory_kib: 0, max_time: Duration::ZERO },
};
