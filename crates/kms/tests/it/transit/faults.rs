//! What networks and servers do when they do not work.

use std::time::{Duration, Instant};

use serde_json::json;
use strongroom_kms::{Credentials, Envelope, ErrorKind, KeyProvider, Limits, open_within};
use strongroom_model::KmsRequest;
use strongroom_testkit::{Authority, OpenBao, Reply, Server, TcpFault, TcpProxy, free_port};

use super::logins::{json, ours};
use super::{BRISK, KEY, Vault, binding, data_key, request, token, words, wrap};

/// Asserts that a call fails as an outage does, in bounded time, and returns what it says.
fn outage(provider: &dyn KeyProvider, envelope: &Envelope) -> String {
    let begun = Instant::now();
    let error = provider.unwrap(envelope, &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
    words(&error)
}

#[test]
fn every_fault_of_a_network_is_an_outage_and_passes() {
    let Some(vault) = Vault::start("transit") else { return };
    let authority = vault.bao.authority().pem();
    for (scheme, port) in [("http", vault.bao.port()), ("https", vault.bao.tls_port())] {
        let proxy = TcpProxy::start(port);
        let url = format!("{scheme}://127.0.0.1:{}", proxy.port());
        let credentials =
            || Credentials { authorities: Some(authority.clone().into()), ..token(&vault.token) };
        let limits =
            Limits { request: Duration::from_millis(300), total: Duration::from_secs(2), ..BRISK };
        let provider = open_within(&request(&url), credentials(), &BRISK).unwrap();
        let hasty = open_within(&request(&url), credentials(), &limits).unwrap();
        let envelope = wrap(&*provider);
        assert_eq!(hasty.unwrap(&envelope, &binding()).unwrap(), data_key(KEY));
        for fault in [
            TcpFault::Down,
            TcpFault::Silent,
            TcpFault::Slow(1, Duration::from_millis(50)),
            TcpFault::Reset,
            TcpFault::Truncate(0),
            TcpFault::Truncate(100),
            TcpFault::Garbage,
        ] {
            proxy.set(fault);
            let words = outage(&*hasty, &envelope);
            assert!(!words.contains(&vault.token) && !words.contains(KEY), "{words}");
            proxy.set(TcpFault::None);
            assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key(KEY), "{fault:?}");
        }
        proxy.set(TcpFault::Slow(64, Duration::from_millis(2)));
        assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key(KEY));
    }
}

#[test]
fn threads_that_wait_for_one_login_do_not_wait_one_after_the_other() {
    let server = Server::start(|_| Reply { stall: Some(0), ..json(200, &json!({"data": {}})) });
    let limits = Limits { request: Duration::from_millis(500), retries: 0, ..BRISK };
    let provider = open_within(&request(&server.url("")), token("s.canary"), &limits).unwrap();
    let envelope = ours(&server);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| outage(&*provider, &envelope));
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
}

#[test]
fn leaves_a_server_alone_that_is_down_and_comes_back_by_itself() {
    let Some(vault) = Vault::start("transit") else { return };
    let proxy = TcpProxy::start(vault.bao.port());
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let limits = Limits { failures: 3, retries: 0, ..BRISK };
    let provider = open_within(&request(&url), token(&vault.token), &limits).unwrap();
    let envelope = wrap(&*provider);
    proxy.set(TcpFault::Truncate(0));
    for _ in 0..3 {
        outage(&*provider, &envelope);
    }
    let before = proxy.accepted();
    let words = outage(&*provider, &envelope);
    assert!(words.contains("out of order since"), "{words}");
    assert!(provider.unwrap(&envelope, &binding()).unwrap_err().is_unreachable());
    assert_eq!(proxy.accepted(), before);
    proxy.set(TcpFault::None);
    let begun = Instant::now();
    while provider.unwrap(&envelope, &binding()).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it does not come back");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_sealed_server_is_an_outage_and_the_next_one_is_asked() {
    let (Some(vault), Some(other)) = (Vault::start("transit"), OpenBao::start()) else { return };
    let envelope = wrap(&*vault.provider());
    other.seal();
    let sealed = open_within(&request(&other.url()), token(&vault.token), &BRISK).unwrap();
    let words = outage(&*sealed, &envelope);
    assert!(words.contains("it is sealed"), "{words}");
    assert_eq!(sealed.probe().unwrap_err().kind(), ErrorKind::Unavailable);
    let down = format!("http://127.0.0.1:{}", free_port());
    let endpoints = vec![down, other.url(), vault.bao.url()];
    let many = KmsRequest { endpoints, ..request(&vault.bao.url()) };
    let provider = open_within(&many, token(&vault.token), &BRISK).unwrap();
    assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key(KEY));
    // The one that works is remembered.
    assert!(provider.label().ends_with(&vault.bao.url()), "{}", provider.label());
}

#[test]
fn waits_as_long_as_a_server_wishes_and_tries_again() {
    let server = Server::start(|request| match request.number {
        0 => json(429, &json!({"errors": ["rate limit quota exceeded"]})).with("Retry-After", "1"),
        1 => json(503, &json!({"errors": ["no leader"]})),
        _ => json(200, &json!({"data": {"ttl": 0, "ciphertext": "vault:v1:AAAB"}})),
    });
    let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
    let begun = Instant::now();
    let new = provider.rewrap(&ours(&server)).unwrap();
    assert_eq!(new.wrapped.ciphertext, "vault:v1:AAAB");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn gives_up_when_a_server_wishes_for_too_much() {
    let server = Server::start(|_| Reply::new(429).with("Retry-After", "86400"));
    let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
    let words = outage(&*provider, &ours(&server));
    assert!(words.contains("status 429"), "{words}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn an_answer_that_is_none_is_no_outage_and_none_is_too_long() {
    for body in [
        "<html>maintenance</html>".to_owned(),
        "{}".to_owned(),
        r#"{"data":{"plaintext":"*canary*"}}"#.to_owned(),
        r#"{"data":{"plaintext":5}}"#.to_owned(),
        "a".repeat(10 << 20),
    ] {
        let server = Server::start(move |request| {
            let reply = json(200, &json!({"data": {"ttl": 0}}));
            match request.target.contains("/decrypt/") {
                true => Reply {
                    body: strongroom_testkit::Body::Bytes(body.clone().into_bytes()),
                    ..reply
                },
                false => reply,
            }
        });
        let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
        let error = provider.unwrap(&ours(&server), &binding()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        let words = words(&error);
        assert!(!words.contains("canary"), "{words}");
        assert!(server.served() < 40 << 20);
    }
}

#[test]
fn a_server_that_repeats_the_token_puts_it_into_no_error() {
    let server = Server::start(|request| {
        let token = request.header("x-vault-token").unwrap_or_default();
        json(403, &json!({"errors": [format!("bad token {token}")]}))
    });
    let provider = open_within(&request(&server.url("")), token("s.canary"), &BRISK).unwrap();
    let error = provider.unwrap(&ours(&server), &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!words(&error).contains("canary"), "{error:?}");
}

#[test]
fn a_certificate_that_has_expired_is_no_outage() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.expired("127.0.0.1"), |_| Reply::new(500));
    let credentials =
        Credentials { authorities: Some(authority.pem().into()), ..token("s.canary") };
    let provider = open_within(&request(&server.url("")), credentials, &BRISK).unwrap();
    let error = provider.unwrap(&ours(&server), &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().ends_with("its certificate has expired"), "{error}");
    assert!(server.requests().is_empty());
}
