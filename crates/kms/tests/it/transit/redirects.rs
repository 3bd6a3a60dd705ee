//! Standby servers that send requests on to the active one.

use serde_json::json;
use strongroom_kms::{Credentials, ErrorKind, open_within};
use strongroom_model::KmsRequest;
use strongroom_testkit::{Authority, Reply, Server};

use super::logins::{json, ours};
use super::{BRISK, Vault, binding, data_key, request, token, words, wrap};

fn standby(location: String) -> Server {
    Server::start(move |request| {
        Reply::new(307).with("Location", format!("{location}{}", request.target))
    })
}

#[test]
fn follows_to_the_active_server_with_token_and_body() {
    let Some(vault) = Vault::start("transit") else { return };
    let server = standby(vault.bao.url());
    let provider = vault.provider_at(&server.url(""));
    let envelope = wrap(&*provider);
    assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key(super::KEY));
    assert!(server.requests().iter().all(|request| request.header("x-vault-token").is_some()));
}

#[test]
fn takes_a_token_to_nobody_who_was_not_configured() {
    let thief = Server::start(|_| json(200, &json!({"data": {"ttl": 0}})));
    // The same machine under a name that was not said is somebody else.
    let away = format!("http://localhost:{}", thief.port());
    let server = standby(away.clone());
    let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
    let error = provider.unwrap(&ours(&server), &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.hint().unwrap().contains(&format!("--kms-endpoint {away}")), "{error:?}");
    assert!(thief.requests().is_empty());
    // Once it is among the endpoints, it may have it.
    let endpoints = vec![server.url(""), away];
    let both = KmsRequest { endpoints, ..request(&server.url("")) };
    let provider = open_within(&both, token("s.canary"), &BRISK).unwrap();
    let _ = provider.unwrap(&ours(&server), &binding());
    assert!(!thief.requests().is_empty());
}

#[test]
fn never_goes_from_https_to_http() {
    let thief = Server::start(|_| json(200, &json!({"data": {"ttl": 0}})));
    let away = thief.url("");
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("127.0.0.1"), move |request| {
        Reply::new(307).with("Location", format!("{away}{}", request.target))
    });
    let credentials =
        Credentials { authorities: Some(authority.pem().into()), ..token("s.canary") };
    let provider = open_within(&request(&server.url("")), credentials, &BRISK).unwrap();
    let error = provider.unwrap(&ours(&server), &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(thief.requests().is_empty());
}

#[test]
fn goes_round_in_no_circle() {
    let server = Server::start(|request| {
        let own = request.header("host").unwrap_or_default();
        Reply::new(307).with("Location", format!("http://{own}{}", request.target))
    });
    let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
    let error = provider.unwrap(&ours(&server), &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(server.requests().len(), 4 * 3);
}

#[test]
fn takes_from_a_redirect_where_to_go_and_not_what_to_ask() {
    let server = Server::start(|request| match request.number {
        0 => Reply::new(307).with("Location", "/v1/sys/seal?canary=1"),
        _ => json(200, &json!({"data": {"ttl": 0}})),
    });
    let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
    let error = provider.unwrap(&ours(&server), &binding()).unwrap_err();
    assert!(!words(&error).contains("canary"), "{error:?}");
    let targets: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets[1], "/v1/auth/token/lookup-self");
    assert_eq!(targets[2], "/v1/transit/decrypt/kek");
}
