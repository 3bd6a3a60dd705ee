//! Tokens and how they are come by.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use strongroom_crypto::Token;
use strongroom_kms::{Credentials, ErrorKind, Expiry, KeyProvider, open_within};
use strongroom_model::{KmsLogin, KmsRequest};
use strongroom_testkit::{Authority, Body, Reply, Server};

use super::{BRISK, KEY, Vault, binding, data_key, request, token, words, wrap};

#[test]
fn tokens_that_ended_or_never_were_are_denied_and_shown_nowhere() {
    let Some(vault) = Vault::start("transit") else { return };
    let provider = vault.provider();
    let envelope = wrap(&*provider);
    vault.bao.revoke(&vault.token);
    let short = vault.bao.token(&["pvc-enc"], &json!({"ttl": "1s", "renewable": false}));
    std::thread::sleep(Duration::from_millis(2500));
    let mut providers = vec![provider];
    for text in [short.as_str(), "s.canary-that-never-was"] {
        providers.push(open_within(&request(&vault.bao.url()), token(text), &BRISK).unwrap());
    }
    for provider in providers {
        for error in [
            provider.unwrap(&envelope, &binding()).unwrap_err(),
            provider.wrap(&data_key(KEY), &binding()).unwrap_err(),
            provider.rewrap(&envelope).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.to_string().contains("not valid (any more)"), "{error}");
            assert!(error.hint().unwrap().contains("--kms-token-file"), "{error:?}");
            let words = format!("{} {provider:?}", words(&error));
            for secret in [&vault.token, &short, "canary", KEY] {
                assert!(!words.contains(secret), "{words}");
            }
        }
    }
}

#[test]
fn a_token_near_its_end_is_renewed_where_that_is_allowed() {
    let Some(vault) = Vault::start("transit") else { return };
    let periodic = vault.bao.token(&["pvc-enc"], &json!({"period": "3s"}));
    let stiff = vault.bao.token(&["pvc-enc"], &json!({"ttl": "3s", "renewable": false}));
    let at = |text: &str| open_within(&request(&vault.bao.url()), token(text), &BRISK).unwrap();
    let (provider, other) = (at(&periodic), at(&stiff));
    let envelope = wrap(&*provider);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        provider.unwrap(&envelope, &binding()).unwrap();
        let _ = other.unwrap(&envelope, &binding());
        std::thread::sleep(Duration::from_millis(100));
    }
    let error = other.unwrap(&envelope, &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[test]
fn many_threads_renew_a_token_once() {
    let renewals = |server: &Server| {
        let requests = server.requests();
        requests.iter().filter(|request| request.target.ends_with("/renew-self")).count()
    };
    let server = Server::start(|request| match request.target.as_str() {
        "/v1/auth/token/lookup-self" => json(
            200,
            &json!({"data": {
                "ttl": 10, "creation_ttl": 3600, "renewable": true, "expire_time": "2026-11-22T15:19:13Z"
            }}),
        ),
        "/v1/auth/token/renew-self" => Reply {
            delay: Duration::from_millis(50),
            ..json(
                200,
                &json!({"auth": {
                    "client_token": "s.same", "lease_duration": 3600, "renewable": true
                }}),
            )
        },
        _ => json(200, &json!({"data": {"ciphertext": "vault:v1:AAAA"}})),
    });
    let provider = open_within(&request(&server.url("")), token("s.same"), &BRISK).unwrap();
    let envelope = ours(&server);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| provider.rewrap(&envelope).unwrap());
        }
    });
    assert_eq!(renewals(&server), 1);
}

#[test]
fn an_approle_logs_in_once_and_again_when_its_token_ends() {
    let Some(vault) = Vault::start("transit") else { return };
    vault.bao.enable_auth("approle");
    let settings = json!({"token_policies": ["pvc-enc"], "token_ttl": "2s", "token_max_ttl": "2s"});
    let (role_id, secret_id) = vault.bao.app_role("csi", &settings);
    let login = KmsLogin::AppRole { role_id, mount: None };
    let at = |secret: &str| {
        let request = KmsRequest { login: login.clone(), ..request(&vault.bao.url()) };
        open_within(&request, token(secret), &BRISK).unwrap()
    };
    let provider = at(&secret_id);
    let envelope = wrap(&*provider);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        provider.unwrap(&envelope, &binding()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    // One that was idle for long finds its token ended.
    std::thread::sleep(Duration::from_secs(3));
    provider.unwrap(&envelope, &binding()).unwrap();
    assert!(matches!(provider.probe().unwrap().credentials, Expiry::At(_)));
    for (secret, hint) in [("canary-wrong", "--kms-role"), ("canary-line\n", "line break")] {
        let error = at(secret).unwrap(&envelope, &binding()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.hint().unwrap().contains(hint), "{error:?}");
        assert!(!words(&error).contains("canary"), "{error:?}");
    }
}

#[test]
fn a_login_whose_token_was_revoked_is_repeated() {
    let Some(vault) = Vault::start("transit") else { return };
    vault.bao.enable_auth("approle");
    let (role_id, secret_id) =
        vault.bao.app_role("csi", &json!({"token_policies": ["pvc-enc"], "token_ttl": "1h"}));
    let login = KmsLogin::AppRole { role_id, mount: Some("approle".to_owned()) };
    let request = KmsRequest { login, ..request(&vault.bao.url()) };
    let provider = open_within(&request, token(&secret_id), &BRISK).unwrap();
    let envelope = wrap(&*provider);
    std::thread::sleep(Duration::from_millis(600));
    vault.bao.call(Method::POST, "sys/leases/revoke-prefix/auth/approle/login", &json!({}));
    provider.unwrap(&envelope, &binding()).unwrap();
    // What the policy does not let it do is no reason to log in again.
    let logins = || {
        let list = vault.bao.try_call(Method::GET, "auth/token/accessors?list=true", &Value::Null);
        list.1["data"]["keys"].as_array().map_or(0, Vec::len)
    };
    let before = logins();
    std::thread::sleep(Duration::from_millis(600));
    provider.rewrap(&envelope).unwrap();
    assert_eq!(logins(), before);
}

#[test]
fn a_certificate_logs_in() {
    let Some(vault) = Vault::start("transit") else { return };
    let clients = Authority::new();
    vault.bao.enable_auth("cert");
    let role = json!({"certificate": clients.pem(), "token_policies": ["pvc-enc"]});
    vault.bao.call(Method::POST, "auth/cert/certs/node", &role);
    let with = |authority: &Authority| -> Box<dyn KeyProvider> {
        let (certificate, key) = authority.client_pem("node-1");
        let credentials = Credentials {
            authorities: Some(vault.bao.authority().pem().into()),
            certificate: Some(certificate.into()),
            private_key: Some(Token::new(key.into())),
            ..Credentials::default()
        };
        let login = KmsLogin::Certificate { role: Some("node".to_owned()), mount: None };
        let request = KmsRequest { login, ..request(&vault.bao.tls_url()) };
        open_within(&request, credentials, &BRISK).unwrap()
    };
    let provider = with(&clients);
    let envelope = wrap(&*provider);
    assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key(KEY));
    let error = with(&Authority::new()).unwrap(&envelope, &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

/// A cluster is not at hand; what its login sends and gets is.
#[test]
fn a_service_account_logs_in_with_its_web_token() {
    let server = Server::start(|request| match request.target.as_str() {
        "/v1/auth/cluster-1/login" => {
            let sent: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(sent, json!({"role": "csi", "jwt": "a.canary.c"}));
            assert_eq!(request.header("x-vault-token"), None);
            json(
                200,
                &json!({"auth": {
                    "client_token": "s.given", "lease_duration": 3600, "renewable": true
                }}),
            )
        }
        _ => {
            assert_eq!(request.header("x-vault-token"), Some("s.given"));
            assert_eq!(request.header("x-vault-request"), Some("true"));
            assert_eq!(request.header("x-vault-namespace"), Some("team/project"));
            json(200, &json!({"data": {"ciphertext": "vault:v2:AAAA"}}))
        }
    });
    let login =
        KmsLogin::Kubernetes { role: "csi".to_owned(), mount: Some("cluster-1".to_owned()) };
    let namespace = Some("team/project".to_owned());
    let request = KmsRequest { login, namespace, ..request(&server.url("")) };
    let provider = open_within(&request, token("a.canary.c"), &BRISK).unwrap();
    let new = provider.rewrap(&ours(&server)).unwrap();
    assert_eq!(new.wrapped.key_version.as_deref(), Some("2"));
    assert_eq!(new.wrapped.namespace.as_deref(), Some("team/project"));
}

/// Returns an envelope such as this server could have made.
pub(super) fn ours(server: &Server) -> strongroom_kms::Envelope {
    let zeros = |len| STANDARD.encode(vec![0; len]);
    let text = json!({
        "version": 1, "kind": "transit", "endpoint": server.url(""), "key-id": "kek",
        "key-version": "1", "algorithm": "transit", "ciphertext": "vault:v1:AAAA",
        "fingerprint": {"salt": zeros(16), "sha256": zeros(32)}, "created": "2026-11-21T00:00:00Z",
    });
    strongroom_kms::Envelope::parse(text.to_string().as_bytes(), "test").unwrap()
}

/// Returns an answer with a body.
pub(super) fn json(status: u16, body: &Value) -> Reply {
    Reply { body: Body::Bytes(body.to_string().into_bytes()), ..Reply::new(status) }
}
