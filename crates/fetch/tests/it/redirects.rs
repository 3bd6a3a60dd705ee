use crate::content::{MIB, check, failure, open_ranged, options, refusal};
use strongroom_fetch::{Error, Options, Reach};
use strongroom_testkit::{Reply, Server};

const ETAG: &str = "\"one\"";

fn to(location: &str) -> Reply {
    Reply::new(302).with("Location", location)
}

#[test]
fn follows_every_kind_of_redirect() {
    for status in [301, 302, 303, 307, 308] {
        let server = Server::start(move |request| match request.target.as_str() {
            "/a/old" => Reply::new(status).with("Location", "new?sig=1"),
            "/a/new?sig=1" => Reply::ranged(request, 3 * MIB, ETAG),
            _ => Reply::new(404),
        });
        let remote = open_ranged(&server.url("/a/old"), &options());
        check(&remote, 0..3 * MIB);
        assert_eq!(remote.identity().url, server.url("/a/old"));
        let old = server.requests().iter().filter(|request| request.target == "/a/old").count();
        assert_eq!(old, 1, "asked the way more than once");
    }
}

#[test]
fn asks_the_way_again_when_the_signature_has_expired() {
    let server = Server::start(|request| match request.target.as_str() {
        "/old" => to(&format!("/new?sig={}", request.number)),
        "/new?sig=0" if request.number > 1 => Reply::new(403),
        _ => Reply::ranged(request, 3 * MIB, ETAG),
    });
    check(&open_ranged(&server.url("/old"), &options()), 0..3 * MIB);
}

#[test]
fn refuses_to_go_in_circles() {
    let server = Server::start(|request| match request.target.as_str() {
        "/a" => to("/b"),
        "/b" => to("/c"),
        _ => to("/a"),
    });
    let text = refusal(&server.url("/a"), &options());
    assert_eq!(text, format!("{} redirects in a circle", server.url("/c")));
    assert_eq!(server.requests().len(), 3);
    let text = refusal(&server.url("/c"), &options());
    assert!(text.ends_with("redirects in a circle"));
    let server = Server::start(|request| to(&request.target));
    assert!(refusal(&server.url("/x"), &options()).ends_with("redirects in a circle"));
}

#[test]
fn follows_ten_redirects_and_no_more() {
    let server = Server::start(|request| {
        let left: u32 = request.target[1..].parse().unwrap();
        if left == 0 { Reply::ranged(request, 5, ETAG) } else { to(&format!("/{}", left - 1)) }
    });
    check(&open_ranged(&server.url("/10"), &options()), 0..5);
    let text = refusal(&server.url("/11"), &options());
    assert!(text.ends_with("/1 redirects once more after ten redirects"), "{text}");
}

#[test]
fn refuses_redirects_that_lead_nowhere() {
    let server = Server::start(|request| match request.target.as_str() {
        "/none" => Reply::new(302),
        _ => to("ftp://127.0.0.1/x"),
    });
    let text = refusal(&server.url("/none"), &options());
    assert!(text.ends_with("redirects without saying where to"), "{text}");
    let text = refusal(&server.url("/x"), &options());
    assert!(text.ends_with("to the scheme `ftp`, not http or https"), "{text}");
}

#[test]
fn a_password_reaches_only_the_server_it_was_given_for() {
    let far = Server::start(|request| Reply::ranged(request, 3 * MIB, ETAG));
    let elsewhere = far.url_of("they:theirs", "/disk");
    let near = Server::start(move |request| match request.target.as_str() {
        "/here" => to("/there"),
        "/there" => to(&elsewhere),
        _ => Reply::new(404),
    });
    check(&open_ranged(&near.url_of("me:p%40w", "/here"), &options()), 0..3 * MIB);
    // "me:p@w"
    let expected = Some("Basic bWU6cEB3");
    assert!(near.requests().iter().all(|request| request.header("authorization") == expected));
    assert_eq!(near.requests().len(), 2);
    assert!(far.requests().len() > 1);
    for request in far.requests() {
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.header("referer"), None);
    }
}

#[test]
fn a_change_behind_a_redirect_is_noticed() {
    let server = Server::start(|request| match request.target.as_str() {
        "/old" => to("/new"),
        _ if request.number < 2 => Reply::ranged(request, 3 * MIB, ETAG),
        _ => Reply::ranged(request, 3 * MIB, "\"two\""),
    });
    let remote = open_ranged(&server.url("/old"), &options());
    assert!(failure(&remote, 2 * MIB..3 * MIB).contains("is now \"two\""));
}

#[test]
fn nothing_leads_to_this_machine_where_that_is_not_wanted() {
    let server = Server::start(|request| Reply::ranged(request, MIB, ETAG));
    let options = Options { reach: Reach::OtherHosts, ..options() };
    let local = server.url("/x").replace("127.0.0.1", "localhost");
    for url in [server.url("/x"), local] {
        let refused =
            strongroom_fetch::open(&url, &options, std::sync::Arc::default()).unwrap_err();
        assert!(matches!(refused, Error::Url { .. }), "{refused}");
        assert!(refused.to_string().contains("this machine"), "{refused}");
    }
    assert_eq!(server.requests().len(), 0);
}
