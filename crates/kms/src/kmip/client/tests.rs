use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use strongroom_testkit::Authority;

use super::super::messages::{Request, Version};
use super::super::scripted::*;
use super::super::ttlv::MAX_LEN;
use super::*;
use crate::ErrorKind;

/// Returns why a server cannot be asked for its versions, and how long that took.
fn fails(server: &Scripted) -> (Error, Duration) {
    let kek = server.kek();
    let begun = Instant::now();
    let request = Request::DiscoverVersions.to_bytes(Version::new(1, 2));
    let error = kek.session.client().exchange(&request, kek.session.deadline()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    (error, begun.elapsed())
}

fn problem(error: &Error) -> String {
    error.to_string().split_once(": ").unwrap().1.to_owned()
}

#[test]
fn waits_for_a_silent_server_no_longer_than_the_limit() {
    let (error, took) = fails(&Scripted::start_bare(|_, _| Nothing));
    assert_eq!(problem(&error), "the server takes too long to answer");
    assert!(took >= QUICK.exchange && took < 3 * QUICK.exchange, "{took:?}");
}

#[test]
fn waits_for_a_server_that_drips_no_longer_than_the_limit() {
    // Each byte comes in time, all of them would take ten seconds.
    let drip = success(0x1E, vec![version(1, 4); 4]);
    let (error, took) = fails(&Scripted::start_bare(move |_, _| Send(drip.clone(), 50)));
    assert_eq!(problem(&error), "the server takes too long to answer");
    assert!(took < 3 * QUICK.exchange, "{took:?}");
}

#[test]
fn waits_for_a_server_without_tls_no_longer_than_the_limit() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Scripted::start_bare(|_, _| Nothing);
    let request = strongroom_model::KmsRequest {
        endpoints: vec![listener.local_addr().unwrap().to_string()],
        ..strongroom_model::KmsRequest::new(strongroom_model::KmsKind::Kmip)
    };
    let kek = super::super::kek(&request, &other.credentials(), QUICK).unwrap();
    let begun = Instant::now();
    let error = kek.session.client().exchange(b"", kek.session.deadline()).unwrap_err();
    assert_eq!(problem(&error), "the server takes too long to answer");
    assert!(begun.elapsed() < 3 * QUICK.connect, "{:?}", begun.elapsed());
}

#[test]
fn takes_no_response_that_is_too_long_or_none_at_all() {
    let long = (u32::try_from(MAX_LEN).unwrap()).to_be_bytes();
    let long = [&[0x42, 0x00, 0x7B, 0x01][..], &long].concat();
    for answer in [long, vec![0xFF; 64], b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()] {
        let (error, took) = fails(&Scripted::start_bare(move |_, _| Send(answer.clone(), 0)));
        assert_eq!(problem(&error), "what answers there does not speak KMIP as it should");
        assert!(took < QUICK.exchange, "it was not waited for what it announces: {took:?}");
    }
}

#[test]
fn a_connection_on_which_more_came_is_not_used_again() {
    let server = Scripted::start_bare(|_, _| {
        let answer = success(0x1E, vec![version(1, 4)]);
        Send([answer.clone(), answer].concat(), 0)
    });
    let kek = server.kek();
    let request = Request::DiscoverVersions.to_bytes(Version::new(1, 2));
    let client = kek.session.client();
    client.exchange(&request, kek.session.deadline()).unwrap();
    assert!(client.idle().is_empty());
}

#[test]
fn only_a_connection_that_had_worked_is_opened_again() {
    let server = Scripted::start_bare(|count, asked| match (asked.operation, count) {
        (0x18, 1) => Close,
        (0x18, _) => Succeed(Vec::new()),
        _ => Close,
    });
    let kek = server.kek();
    let client = kek.session.client();
    let query = Request::Query.to_bytes(Version::new(1, 2));
    client.exchange(&query, kek.session.deadline()).unwrap();
    // The second request finds the connection closed, the third is the same on a new one.
    client.exchange(&query, kek.session.deadline()).unwrap();
    assert_eq!(server.asked(0x18).len(), 3);
    let (error, _) = fails(&Scripted::start_bare(|_, _| Close));
    assert_eq!(problem(&error), "the server closed the connection before it had answered");
}

/// Answers one connection with TLS of one version, for clients of another authority than ours.
fn choosy_server(authority: &Authority, version: &'static rustls::SupportedProtocolVersion) -> u16 {
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let mut trusted = rustls::RootCertStore::empty();
    let other = Authority::new().pem();
    trusted.add(CertificateDer::from_pem_slice(other.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(trusted.into(), Arc::clone(&crypto));
    let (certificate, key) = authority.server_pem("127.0.0.1");
    let config = rustls::ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        // It fails, as it has to.
        while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
    });
    port
}

#[test]
fn says_that_the_server_does_not_accept_the_client_in_every_version_of_tls() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let other = Scripted::start_bare(|_, _| Nothing);
        let port = choosy_server(other.authority(), version);
        let request = strongroom_model::KmsRequest {
            endpoints: vec![format!("127.0.0.1:{port}")],
            ..strongroom_model::KmsRequest::new(strongroom_model::KmsKind::Kmip)
        };
        let kek = super::super::kek(&request, &other.credentials(), QUICK).unwrap();
        let query = Request::Query.to_bytes(Version::new(1, 2));
        let error = kek.session.client().exchange(&query, kek.session.deadline()).unwrap_err();
        assert_eq!(problem(&error), "the server does not accept the client's certificate");
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.hint().unwrap().contains("--kms-cert-file"));
    }
}
