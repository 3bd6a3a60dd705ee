use rustls::ServerConfig;
use strongroom_fetch::Options;
use strongroom_testkit::{Authority, Reply, Server};

use crate::content::{MIB, check, open_ranged, options, refusal};

fn serve(config: ServerConfig) -> Server {
    Server::start_tls(config, |request| Reply::ranged(request, 3 * MIB, "\"one\""))
}

fn trusting(authority: &Authority) -> Options {
    Options { ca_file: Some(authority.ca_file().to_owned()), ..options() }
}

#[test]
fn trusts_the_authority_in_the_file() {
    let authority = Authority::new();
    let server = serve(authority.server("127.0.0.1"));
    check(&open_ranged(&server.url("/x"), &trusting(&authority)), 0..3 * MIB);
}

#[test]
fn trusts_nobody_else_and_says_what_to_do() {
    let authority = Authority::new();
    let server = serve(authority.server("127.0.0.1"));
    for options in [options(), trusting(&Authority::new())] {
        let text = refusal(&server.url("/x?token"), &options);
        let start = format!("the certificate of {} is not trusted: ", server.url("/x"));
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains("give the CA file of the one that has"), "{text}");
    }
    assert!(server.requests().is_empty(), "something was sent");
}

#[test]
fn refuses_certificates_that_are_old_or_for_another_name() {
    let authority = Authority::new();
    let server = serve(authority.server("other.example"));
    let text = refusal(&server.url("/x"), &trusting(&authority));
    assert!(text.contains("it is for another name than that of the host"), "{text}");
    let server = serve(authority.expired("127.0.0.1"));
    let text = refusal(&server.url("/x"), &trusting(&authority));
    assert!(text.contains("is not trusted: it has expired"), "{text}");
}

#[test]
fn does_not_follow_a_redirect_out_of_encryption() {
    let plain = Server::start(|request| Reply::ranged(request, 5, "\"one\""));
    let target = plain.url("/x?sig=1");
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("127.0.0.1"), move |_| {
        Reply::new(302).with("Location", target.clone())
    });
    let text = refusal(&server.url_of("me:pw", "/x"), &trusting(&authority));
    let (from, to) = (server.url("/x"), plain.url("/x"));
    assert_eq!(text, format!("{from} redirects to {to}, which is not encrypted"));
    assert!(plain.requests().is_empty());
}

#[test]
fn follows_a_redirect_into_encryption() {
    let authority = Authority::new();
    let server = serve(authority.server("127.0.0.1"));
    let target = server.url("/x");
    let plain = Server::start(move |_| Reply::new(301).with("Location", target.clone()));
    let remote = open_ranged(&plain.url_of("me:pw", "/x"), &trusting(&authority));
    check(&remote, 0..3 * MIB);
    assert!(server.requests().iter().all(|one| one.header("authorization").is_none()));
}

#[test]
fn goes_on_after_a_cut_in_the_middle_of_encryption() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("127.0.0.1"), |request| Reply {
        cut: (request.number % 2 == 0).then_some(300_000),
        ..Reply::ranged(request, 3 * MIB, "\"one\"")
    });
    check(
        &open_ranged(&server.url("/x"), &Options { retries: 20, ..trusting(&authority) }),
        0..3 * MIB,
    );
}

#[test]
fn a_server_without_encryption_is_not_taken_for_one_with() {
    let server = Server::start(|request| Reply::ranged(request, 5, "\"one\""));
    let url = server.url("/x").replace("http:", "https:");
    let text = refusal(&url, &Options { retries: 1, ..options() });
    assert!(text.contains(&format!("cannot talk to {url}")), "{text}");
}
