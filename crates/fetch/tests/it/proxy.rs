use strongroom_fetch::{Options, Proxy};
use strongroom_testkit::{Authority, Reply, Server};

use crate::child::{is_child, run_child};
use crate::content::{MIB, chain, check, open_ranged, options, try_open};

fn from_environment() -> Options {
    Options {
        proxy: Proxy::Environment,
        ca_file: std::env::var_os("CA").map(Into::into),
        ..options()
    }
}

fn read_url_of_environment() {
    let url = std::env::var("URL").unwrap();
    check(&open_ranged(&url, &from_environment()), 0..3 * MIB);
}

#[test]
fn asks_the_proxies_that_the_environment_names() {
    if is_child() {
        return read_url_of_environment();
    }
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let proxy = Server::start(|request| match request.target.as_str() {
            "http://disks.invalid/x" => Reply::ranged(request, 3 * MIB, "\"one\""),
            _ => Reply::new(404),
        });
        run_child(
            "proxy::asks_the_proxies_that_the_environment_names",
            &[(variable, &proxy.url_of("me:pw", "")), ("URL", "http://disks.invalid/x")],
        );
        let requests = proxy.requests();
        assert!(!requests.is_empty(), "{variable} is ignored");
        // "me:pw", which is the proxy's alone.
        let expected = Some("Basic bWU6cHc=");
        assert!(requests.iter().all(|one| one.header("proxy-authorization") == expected));
        assert!(requests.iter().all(|one| one.header("authorization").is_none()));
    }
}

#[test]
fn passes_by_the_proxy_where_the_environment_says_so() {
    if is_child() {
        return read_url_of_environment();
    }
    for variable in ["NO_PROXY", "no_proxy"] {
        let proxy = Server::start(|_| Reply::new(404));
        let server = Server::start(|request| Reply::ranged(request, 3 * MIB, "\"one\""));
        run_child(
            "proxy::passes_by_the_proxy_where_the_environment_says_so",
            &[("HTTP_PROXY", &proxy.url("")), (variable, "127.0.0.1"), ("URL", &server.url("/x"))],
        );
        assert!(proxy.requests().is_empty());
    }
}

#[test]
fn asks_no_proxy_when_told_so() {
    if is_child() {
        let url = std::env::var("URL").unwrap();
        return check(&open_ranged(&url, &options()), 0..3 * MIB);
    }
    let proxy = Server::start(|_| Reply::new(404));
    let server = Server::start(|request| Reply::ranged(request, 3 * MIB, "\"one\""));
    run_child(
        "proxy::asks_no_proxy_when_told_so",
        &[("ALL_PROXY", &proxy.url("")), ("URL", &server.url("/x"))],
    );
    assert!(proxy.requests().is_empty());
}

#[test]
fn encrypts_right_through_a_proxy() {
    if is_child() {
        return read_url_of_environment();
    }
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        let authority = Authority::new();
        let server = Server::start_tls(authority.server("127.0.0.1"), |request| {
            Reply::ranged(request, 3 * MIB, "\"one\"")
        });
        let proxy = Server::start(|_| Reply::new(404));
        run_child(
            "proxy::encrypts_right_through_a_proxy",
            &[
                (variable, &proxy.url("")),
                ("URL", &server.url("/x")),
                ("CA", authority.ca_file().to_str().unwrap()),
            ],
        );
        let requests = proxy.requests();
        assert!(requests.iter().all(|request| request.method == "CONNECT"), "{requests:?}");
        assert!(!requests.is_empty());
    }
}

#[test]
fn the_password_of_a_proxy_is_in_no_error() {
    if is_child() {
        for url in ["http://disks.invalid/x", "https://disks.invalid/x"] {
            let options = Options { retries: 1, ..from_environment() };
            let error = try_open(url, &options).unwrap_err();
            let text = format!("{} {error:?}", chain(&error));
            assert!(!text.contains("canary") && !text.contains("Y2FuYXJ5"), "{text}");
        }
        return;
    }
    let refusing = Server::start(|_| Reply::new(407));
    let gone = "http://canary:canary-word@127.0.0.1:1".to_owned();
    for proxy in [refusing.url_of("canary:canary-word", ""), gone] {
        run_child("proxy::the_password_of_a_proxy_is_in_no_error", &[("ALL_PROXY", &proxy)]);
    }
}
