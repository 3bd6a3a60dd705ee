//! Envelopes and servers that mean harm.

use std::time::Duration;

use serde_json::json;
use strongroom_kms::{ErrorKind, KeyProvider, Limits, open_within};
use strongroom_model::{KmsLogin, KmsRequest};
use strongroom_testkit::{Body, Reply, Request, Server};

use super::logins::{json, ours};
use super::{BRISK, KEY, Vault, binding, data_key, request, token, words, wrap};

#[test]
fn an_envelope_sends_nothing_to_an_engine_that_nobody_has_named() {
    let server = Server::start(|_| json(200, &json!({"data": {"ttl": 0}})));
    let mut planted = ours(&server);
    planted.wrapped.mount = Some("cubbyhole".to_owned());
    planted.wrapped.key_id = "planted".to_owned();
    let named = Some("team/transit".to_owned());
    for mount in [None, named] {
        let request = KmsRequest { mount, ..request(&server.url("")) };
        let provider = open_within(&request, token("s.canary"), &BRISK).unwrap();
        for error in [
            provider.unwrap(&planted, &binding()).unwrap_err(),
            provider.verify(&planted).unwrap_err(),
            provider.rewrap(&planted).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
            assert!(error.hint().unwrap().contains("--kms-mount cubbyhole"), "{error:?}");
        }
    }
    assert!(server.requests().is_empty());
}

#[test]
fn an_envelope_says_no_other_version_than_its_ciphertext() {
    let server = Server::start(|_| json(200, &json!({"data": {"ttl": 0}})));
    let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
    for version in [None, Some("2"), Some("01"), Some("")] {
        let mut altered = ours(&server);
        altered.wrapped.key_version = version.map(str::to_owned);
        for error in [
            provider.unwrap(&altered, &binding()).unwrap_err(),
            provider.rewrap(&altered).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{version:?}: {error}");
        }
    }
    assert!(server.requests().is_empty());
}

#[test]
fn encrypts_under_no_key_of_which_nobody_says_that_it_cannot_be_created() {
    let encrypts = |server: &Server| {
        let requests = server.requests();
        requests.iter().any(|request| request.target.contains("/encrypt/"))
    };
    for (capabilities, safe) in [
        (json!({}), false),
        (json!({"transit/encrypt/kek": []}), false),
        (json!({"transit/encrypt/kek": ["read"]}), false),
        (json!({"transit/encrypt/other": ["update"]}), false),
        (json!({"transit/encrypt/kek": ["update", "create"]}), false),
        (json!({"transit/encrypt/kek": ["sudo", "update"]}), false),
        (json!({"transit/encrypt/kek": ["root"]}), false),
        (json!({"transit/encrypt/kek": ["update"]}), true),
    ] {
        let shown = capabilities.to_string();
        let server = Server::start(move |request| match request.target.as_str() {
            "/v1/sys/capabilities-self" => json(200, &json!({"data": capabilities})),
            "/v1/auth/token/lookup-self" => json(200, &json!({"data": {"ttl": 0}})),
            "/v1/transit/encrypt/kek" => {
                json(200, &json!({"data": {"ciphertext": "vault:v1:AAAA"}}))
            }
            _ => json(403, &json!({"errors": ["permission denied"]})),
        });
        let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
        let wrapped = provider.wrap(&data_key(KEY), &binding());
        assert_eq!((wrapped.is_ok(), encrypts(&server)), (safe, safe), "{shown}");
    }
}

#[test]
fn a_key_that_may_not_be_rewrapped_is_none_but_itself() {
    let server = Server::start(|request| match request.target.as_str() {
        "/v1/transit/rewrap/kek" | "/v1/transit/decrypt/kek" => json(403, &json!({"errors": []})),
        _ => json(200, &json!({"data": {"ttl": 0, "ciphertext": "vault:v2:AAAA"}})),
    });
    let request = KmsRequest { key_id: None, ..request(&server.url("")) };
    let provider = open_within(&request, token("s.canary"), &BRISK).unwrap();
    let denied = ours(&server);
    provider.rewrap(&denied).unwrap_err();
    let mut other = denied;
    other.wrapped.key_id = "other".to_owned();
    provider.rewrap(&other).unwrap();
    let decrypts = |request: &Request| request.target.ends_with("/decrypt/other");
    assert!(!server.requests().iter().any(decrypts));
}

#[test]
fn a_key_with_many_versions_wraps() {
    let versions: serde_json::Map<_, _> =
        (1..=20_000).map(|version| (version.to_string(), json!(1_790_000_000))).collect();
    let server = Server::start(move |request| match request.target.as_str() {
        "/v1/transit/keys/kek" => {
            json(200, &json!({"data": {"latest_version": 20_000, "keys": versions}}))
        }
        _ => json(200, &json!({"data": {"ttl": 0, "ciphertext": "vault:v20000:AAAA"}})),
    });
    let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
    provider.wrap(&data_key(KEY), &binding()).unwrap();
}

#[test]
fn times_beyond_all_clocks_stop_nobody() {
    let ends = "2026-11-22T15:19:13Z";
    let most = u64::MAX;
    for (ttl, creation) in [(most, most), (most - 1, 0), (1, most)] {
        let server = Server::start(move |request| match request.target.rsplit('/').next() {
            Some("lookup-self") => json(
                200,
                &json!({"data": {
                    "ttl": ttl, "creation_ttl": creation, "renewable": true, "expire_time": ends
                }}),
            ),
            Some("login" | "renew-self") => {
                json(200, &json!({"auth": {"client_token": "s.given", "lease_duration": most}}))
            }
            Some("health") => {
                json(200, &json!({"initialized": true, "sealed": false, "server_time_utc": most}))
            }
            _ => json(200, &json!({"data": {"ciphertext": "vault:v2:AAAA", "latest_version": 2}})),
        });
        let role = KmsLogin::AppRole { role_id: "csi".to_owned(), mount: None };
        for login in [KmsLogin::Token, role] {
            let request = KmsRequest { login, ..request(&server.url("")) };
            let provider = open_within(&request, token("s.canary"), &BRISK).unwrap();
            provider.rewrap(&ours(&server)).unwrap();
            let _ = provider.probe();
        }
    }
}

#[test]
fn envelopes_that_lead_to_nonsense_do_not_keep_others_from_being_opened() {
    let Some(vault) = Vault::start("transit") else { return };
    let good = wrap(&*vault.provider());
    let url = vault.bao.url();
    // What a key of this name answers is no plaintext, whichever status it comes with.
    let server = Server::start(move |request| match request.target.contains("/planted") {
        true if request.number % 2 == 0 => json(200, &json!({"data": {}})),
        true => json(412, &json!({"errors": []})),
        false => Reply::new(307).with("Location", format!("{url}{}", request.target)),
    });
    let limits = Limits { retries: 0, failures: 2, pause: Duration::from_secs(60), ..BRISK };
    let request = request(&server.url(""));
    let provider = open_within(&request, token(&vault.token), &limits).unwrap();
    let mut planted = good.clone();
    planted.wrapped.key_id = "planted".to_owned();
    for _ in 0..10 {
        let error = provider.unwrap(&planted, &binding()).unwrap_err();
        assert!(!error.is_unreachable(), "{error}");
    }
    assert_eq!(provider.unwrap(&good, &binding()).unwrap(), data_key(KEY));
}

#[test]
fn what_a_server_repeats_of_a_request_is_in_no_error() {
    let forms: [fn(&str) -> String; 3] = [
        |said| json!({"errors": [said]}).to_string(),
        |said| format!("upstream error; request headers and body: {said}"),
        |said| {
            json!({"request": said, "errors": ["is sealed", "permission denied", said]}).to_string()
        },
    ];
    let limits = Limits { retries: 0, failures: 2, ..BRISK };
    for status in [400, 401, 403, 404, 405, 413, 429, 500, 502, 503] {
        for form in forms {
            // Long enough that no cut helps, and cut in the middle of a secret.
            for padding in [0, 290, 4080] {
                let server = repeating(status, form, padding);
                let request = request(&server.url(""));
                let role = KmsLogin::AppRole { role_id: "csi".to_owned(), mount: None };
                let login = KmsRequest { login: role, ..request.clone() };
                for request in [request, login] {
                    let provider = open_within(&request, token(CANARY), &limits).unwrap();
                    shows_nothing(&*provider, &server);
                }
            }
        }
    }
}

/// Returns a server that refuses, with all that it was sent.
fn repeating(status: u16, form: fn(&str) -> String, padding: usize) -> Server {
    Server::start(move |request| {
        let lasting = |request: &Request| {
            request.target.ends_with("/lookup-self") || request.target.contains("/keys/")
        };
        if lasting(request) {
            return json(200, &json!({"data": {"ttl": 0, "latest_version": 1}}));
        }
        let token = request.header("x-vault-token").unwrap_or_default();
        let body = String::from_utf8_lossy(&request.body);
        let said = format!("{}X-Vault-Token: {token}\n{body}", "-".repeat(padding));
        Reply { body: Body::Bytes(form(&said).into_bytes()), ..Reply::new(status) }
    })
}

/// Asserts that nothing secret is in the errors of any call, nor in those of a pause.
fn shows_nothing(provider: &dyn KeyProvider, server: &Server) {
    let envelope = ours(server);
    for _ in 0..2 {
        for error in [
            provider.wrap(&data_key(KEY), &binding()).unwrap_err(),
            provider.unwrap(&envelope, &binding()).unwrap_err(),
            provider.rewrap(&envelope).unwrap_err(),
        ] {
            let words = words(&error);
            // What is sealed begins with "SRDK".
            for secret in [&CANARY[..9], "U1JES", KEY] {
                assert!(!words.contains(secret), "{words}");
            }
        }
    }
}

/// A token, or the secret of a login.
const CANARY: &str = "s.canary-canary-canary";
