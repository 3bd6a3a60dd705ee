use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_disk::{Disk, ErrorKind};
use strongroom_fetch::{Error, Options, Resource, open};
use strongroom_testkit::{Body, Reply, Request, Server};

use crate::content::{
    MIB, chain, check, failure, open_ranged, open_stream, options, refusal, try_open,
};

const ETAG: &str = "\"one\"";
const LEN: u64 = 6 * MIB + 321;

/// Serves well but for what `spoil` does to some answers.
fn serve(spoil: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| spoil(request, Reply::ranged(request, LEN, ETAG)))
}

fn few_retries(retries: u32) -> Options {
    Options { retries, ..options() }
}

#[test]
fn goes_on_where_a_connection_broke() {
    for cut in [0, 1, 100, 65_536, MIB - 1, MIB, MIB + 1] {
        let server = serve(move |request, reply| Reply {
            // Two of three answers break off, the first one among them.
            cut: (request.number % 3 != 2).then_some(cut),
            ..reply
        });
        let remote = open_ranged(&server.url("/x"), &options());
        check(&remote, 0..LEN);
        let asked: Vec<_> = server.requests().iter().filter_map(|one| one.range(LEN)).collect();
        if cut == 65_536 {
            assert!(asked.iter().any(|range| range.start % MIB == 65_536), "{asked:?}");
        }
    }
}

#[test]
fn goes_on_however_often_it_breaks_while_enough_comes() {
    let server =
        serve(|request, reply| Reply { cut: (request.number > 0).then_some(70_000), ..reply });
    check(&open_ranged(&server.url("/x"), &few_retries(1)), MIB..4 * MIB);
}

#[test]
fn gives_up_when_nothing_comes_any_more() {
    let server = serve(|request, reply| Reply { cut: (request.number > 0).then_some(0), ..reply });
    let remote = open_ranged(&server.url("/x"), &few_retries(2));
    let text = failure(&remote, 3 * MIB..3 * MIB + 5);
    assert!(text.contains(": gave up on http://127.0.0.1"), "{text}");
    assert!(text.contains("after 3 attempts in a row: cannot talk to "), "{text}");
    assert_eq!(server.requests().len(), 1 + 3);
}

#[test]
fn a_failed_read_may_be_tried_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let server = serve(move |request, reply| {
        let breaks = request.number > 0 && is_broken.load(Ordering::Relaxed);
        Reply { cut: breaks.then_some(0), ..reply }
    });
    let remote = open_ranged(&server.url("/x"), &few_retries(0));
    failure(&remote, 3 * MIB..3 * MIB + 5);
    broken.store(false, Ordering::Relaxed);
    check(&remote, 0..LEN);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let gone = serve(|_, reply| reply);
    let url = gone.url("/x");
    let port = gone.port();
    drop(gone);
    // The port is closed once the thread that accepts has seen the end.
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let text = refusal(&url, &few_retries(1));
    assert!(text.starts_with(&format!("gave up on {url} after 2 attempts in a row: ")), "{text}");
    assert!(text.to_lowercase().contains("connection refused"), "{text}");
}

#[test]
fn asks_again_when_the_server_has_a_bad_moment() {
    for status in [408, 429, 500, 502, 503, 504] {
        let server = serve(move |request, reply| {
            if request.number < 3 || request.number == 4 { Reply::new(status) } else { reply }
        });
        check(&open_ranged(&server.url("/x"), &options()), 0..LEN);
    }
}

#[test]
fn waits_as_long_as_the_server_wishes() {
    let server =
        serve(
            |request, reply| {
                if request.number == 0 { Reply::new(503).with("Retry-After", "1") } else { reply }
            },
        );
    let started = Instant::now();
    open_ranged(&server.url("/x"), &options());
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[test]
fn says_what_a_refusal_means_and_takes_it_for_an_answer() {
    for (status, meaning) in [
        (400, "does not understand"),
        (401, "wants a user name and a password"),
        (403, "denies access"),
        (404, "nothing at that address"),
        (410, "gone for good"),
        (418, "refuses the request"),
        (204, "no answer to a download"),
        (304, "neither gives the resource nor says where it is"),
    ] {
        let server = Server::start(move |_| Reply::new(status));
        let text = refusal(&server.url("/x?token=hush"), &options());
        assert!(text.starts_with(&format!("{} answered {status}: ", server.url("/x"))), "{text}");
        assert!(text.contains(meaning), "{text}");
        assert_eq!(server.requests().len(), 1, "asked again after {status}");
    }
}

#[test]
fn the_kind_of_a_disk_error_tells_refusals_apart() {
    for (status, kind) in
        [(403, ErrorKind::PermissionDenied), (404, ErrorKind::NotFound), (500, ErrorKind::Other)]
    {
        let server = serve(
            move |request, reply| {
                if request.number == 0 { reply } else { Reply::new(status) }
            },
        );
        let remote = open_ranged(&server.url("/x"), &few_retries(1));
        let error = remote.read_at(&mut [0; 5], 3 * MIB).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.offset(), Some(3 * MIB));
        assert!(Error::within(&error).is_some());
    }
}

#[test]
fn a_resource_that_changes_is_an_error_that_says_so() {
    type Spoil = fn(&Request, Reply) -> Reply;
    let cases: [(&str, Spoil); 5] = [
        ("its ETag was \"one\" and is now \"two\"", |request, _| {
            Reply::ranged(request, LEN, "\"two\"")
        }),
        ("its ETag was \"one\" and is now \"two\"", |_, reply| reply.with("ETag", "\"two\"")),
        ("its length was", |request, _| Reply::ranged(request, LEN - 1, ETAG)),
        ("its length was", |_, _| Reply::new(416).with("Content-Range", "bytes */7")),
        ("its modification date was", |_, reply| reply.with("Last-Modified", "Tuesday")),
    ];
    for (expected, spoil) in cases {
        let server = serve(move |request, reply| {
            let reply = reply.with("Last-Modified", "Monday");
            if request.number < 2 { reply } else { spoil(request, reply) }
        });
        let remote = open_ranged(&server.url("/x"), &options());
        check(&remote, 2 * MIB..2 * MIB + 5);
        let text = failure(&remote, 4 * MIB..LEN);
        assert!(text.contains("has changed since it was opened"), "{text}");
        assert!(text.contains(expected), "{text}");
        // What is in memory belongs to what is gone.
        let text = failure(&remote, 2 * MIB..2 * MIB + 5);
        assert!(text.contains("has changed since it was opened"), "{text}");
        // The blocks came by two requests at once.
        assert!(server.requests().len() <= 4, "asked again after a change");
    }
}

#[test]
fn a_change_while_a_connection_breaks_is_noticed() {
    let server = Server::start(|request| {
        let etag = if request.number < 2 { "\"one\"" } else { "\"two\"" };
        let cut = (request.number == 1).then_some(300_000);
        Reply { cut, ..Reply::ranged(request, LEN, etag) }
    });
    let remote = open_ranged(&server.url("/x"), &options());
    let text = failure(&remote, 3 * MIB..4 * MIB);
    assert!(text.contains("its ETag was \"one\" and is now \"two\""), "{text}");
}

#[test]
fn lies_are_errors_and_never_wrong_bytes() {
    type Spoil = fn(&Request, Reply) -> Reply;
    let cases: [(&str, Spoil); 8] = [
        ("where 3145728 to 4194303 were asked for", |_, _| {
            Reply::part(0..MIB, LEN).with("ETag", ETAG)
        }),
        ("where 3145728 to 4194303 were asked for", |_, _| {
            Reply::part(3 * MIB..4 * MIB - 1, LEN).with("ETag", ETAG)
        }),
        ("Content-Range is missing", |_, _| {
            Reply { status: 206, ..Reply::whole(LEN) }.with("ETag", ETAG)
        }),
        ("Content-Range is bytes lots", |_, reply| reply.with("Content-Range", "bytes lots")),
        ("its Content-Length is 1048575 where its Content-Range has 1048576", |_, reply| {
            reply.with("Content-Length", (MIB - 1).to_string())
        }),
        ("its Content-Length is 1048577 where its Content-Range has 1048576", |_, reply| {
            reply.with("Content-Length", (MIB + 1).to_string())
        }),
        ("it holds more bytes than its Content-Range", |_, reply| {
            Reply { body: Body::Content(3 * MIB..4 * MIB + 1), ..reply }.with("Connection", "close")
        }),
        ("it holds the whole where a part was asked for", |_, _| {
            Reply::whole(LEN).with("ETag", ETAG)
        }),
    ];
    for (expected, spoil) in cases {
        let server = serve(
            move |request, reply| {
                if request.number == 0 { reply } else { spoil(request, reply) }
            },
        );
        let remote = open_ranged(&server.url("/x"), &options());
        let text = failure(&remote, 3 * MIB..4 * MIB);
        assert!(text.contains("gave an answer that cannot be trusted"), "{text}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(server.requests().len(), 2, "asked again after a lie: {expected}");
    }
}

#[test]
fn lies_in_the_first_answer_open_nothing() {
    for (expected, range) in [
        ("it holds bytes 5 to", format!("bytes 5-1048580/{LEN}")),
        ("it holds bytes 0 to 9", format!("bytes 0-9/{LEN}")),
        ("without telling the length", "bytes 0-1048575/*".to_owned()),
        ("no resource has", format!("bytes 0-1048575/{}", u64::MAX)),
    ] {
        let server = serve(move |_, reply| reply.with("Content-Range", range.clone()));
        let text = refusal(&server.url("/x"), &options());
        assert!(text.contains(expected), "{text}");
    }
    let server = serve(|_, reply| {
        Reply { body: Body::Content(0..MIB + 1), ..reply }.with("Connection", "close")
    });
    assert!(refusal(&server.url("/x"), &options()).contains("more bytes than its Content-Range"));
    let server = Server::start(|_| Reply::new(416));
    assert!(refusal(&server.url("/x"), &options()).contains("refuses the first bytes"));
}

#[test]
fn a_body_shorter_than_announced_is_never_taken_for_whole() {
    let server = serve(|request, reply| {
        // The last byte never comes, and the end of the connection is all that shows it.
        let body = match request.number {
            0 => return reply,
            1 => Body::Content(3 * MIB..4 * MIB - 1),
            _ => Body::Bytes(Vec::new()),
        };
        Reply { body, ..reply }.with("Connection", "close")
    });
    let remote = open_ranged(&server.url("/x"), &few_retries(2));
    let text = failure(&remote, 3 * MIB..4 * MIB);
    assert!(text.contains("after 3 attempts in a row"), "{text}");
    assert!(text.ends_with("ended the connection at byte 4194303 of 4194304"), "{text}");
}

#[test]
fn compressed_answers_are_refused() {
    for coding in ["gzip", "br"] {
        let server = serve(move |_, reply| reply.with("Content-Encoding", coding));
        let text = refusal(&server.url("/x"), &options());
        assert!(text.contains(&format!("it is coded as `{coding}`")), "{text}");
    }
    let server = serve(|_, reply| reply.with("Content-Encoding", "identity"));
    check(&open_ranged(&server.url("/x"), &options()), 0..LEN);
}

#[test]
fn a_slow_server_is_waited_for() {
    let server = serve(|_, reply| Reply { pace: (200_000, Duration::from_millis(40)), ..reply });
    let options = Options { timeout: Duration::from_millis(1000), ..options() };
    check(&open_ranged(&server.url("/x"), &options), 0..2 * MIB);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let brief = Options { timeout: Duration::from_millis(150), ..few_retries(1) };
    let server = serve(|_, reply| Reply { delay: Duration::from_secs(2), ..reply });
    let text = refusal(&server.url("/x"), &brief);
    assert!(text.ends_with("has sent nothing for 0.15 seconds"), "{text}");

    let server = serve(|request, reply| Reply {
        stall: (request.number > 0).then_some(MIB / 2 * u64::from(request.number == 1)),
        ..reply
    });
    let remote = open_ranged(&server.url("/x"), &brief);
    let text = failure(&remote, 3 * MIB..4 * MIB);
    assert!(text.contains("after 2 attempts in a row"), "{text}");
    assert!(text.ends_with("has sent nothing for 0.15 seconds"), "{text}");
    // The second attempt went on where the first one stood.
    let requests = server.requests();
    assert_eq!(requests.last().unwrap().range(LEN).unwrap().start, 3 * MIB + MIB / 2);
}

/// Cancels after a while, and returns how long that took to be noticed.
fn cancel_during<T: Send>(
    cancelled: &AtomicBool,
    work: impl FnOnce() -> T + Send,
) -> (T, Duration) {
    thread::scope(|scope| {
        let worker = scope.spawn(work);
        thread::sleep(Duration::from_millis(150));
        assert!(!worker.is_finished(), "it did not wait at all");
        let started = Instant::now();
        cancelled.store(true, Ordering::Relaxed);
        let result = worker.join().unwrap();
        (result, started.elapsed())
    })
}

const PROMPT: Duration = Duration::from_millis(200);

#[test]
fn a_read_that_waits_ends_soon_after_a_cancellation() {
    let server =
        serve(|request, reply| Reply { stall: (request.number > 0).then_some(1000), ..reply });
    let cancelled = Arc::new(AtomicBool::new(false));
    let resource = open(&server.url("/x"), &options(), Arc::clone(&cancelled)).unwrap();
    let Resource::Ranged(remote) = resource else { panic!("{resource:?}") };
    let (result, took) =
        cancel_during(&cancelled, || remote.read_at(&mut [0; 5], 3 * MIB).unwrap_err());
    assert!(Error::within(&result).unwrap().is_cancelled(), "{}", chain(&result));
    assert!(took < PROMPT, "{took:?}");
    let error = remote.read_at(&mut [0; 5], 0).unwrap_err();
    assert!(Error::within(&error).unwrap().is_cancelled());
    let started = Instant::now();
    drop(remote);
    assert!(started.elapsed() < PROMPT);
}

#[test]
fn opening_ends_soon_after_a_cancellation() {
    let silent = serve(|_, reply| Reply { stall: Some(10), ..reply });
    let failing = serve(|_, _| Reply::new(503).with("Retry-After", "50"));
    for server in [silent, failing] {
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let (result, took) =
            cancel_during(&cancelled, || open(&server.url("/x"), &options(), flag).unwrap_err());
        assert!(result.is_cancelled(), "{}", chain(&result));
        assert!(took < PROMPT, "{took:?}");
    }
}

#[test]
fn reading_a_stream_ends_soon_after_a_cancellation() {
    let server = Server::start(|_| Reply { stall: Some(1000), ..Reply::whole(LEN) });
    let cancelled = Arc::new(AtomicBool::new(false));
    let resource = open(&server.url("/x"), &options(), Arc::clone(&cancelled)).unwrap();
    let Resource::Stream(mut stream) = resource else { panic!("{resource:?}") };
    let (error, took) =
        cancel_during(&cancelled, || stream.read_to_end(&mut Vec::new()).unwrap_err());
    assert!(Error::within(&error).unwrap().is_cancelled(), "{error}");
    assert!(took < PROMPT, "{took:?}");
}

/// Every text and debug form of an error, its causes included.
fn everything(error: &(dyn std::error::Error + 'static)) -> String {
    format!("{} {error:?}", chain(error))
}

#[test]
fn no_error_label_or_identity_holds_a_secret() {
    let secrets = ["canary-user", "canary-word", "canary-token"];
    let assert_clean = |text: &str| {
        for secret in secrets {
            assert!(!text.contains(secret), "{text}");
        }
    };
    type Spoil = fn(&Request, Reply) -> Reply;
    let spoils: [Spoil; 8] = [
        |_, _| Reply::new(404),
        |_, _| Reply::new(500),
        |_, reply| Reply { cut: Some(0), ..reply },
        |_, reply| Reply { stall: Some(3), ..reply },
        |_, reply| reply.with("Content-Range", "bytes 7-9/9").with("ETag", "\"x\""),
        |_, reply| reply.with("Content-Encoding", "gzip"),
        |_, _| Reply::new(302).with("Location", "/x?canary-token=1"),
        |_, _| Reply::new(302).with("Location", "ftp://canary-user:canary-word@h/x?canary-token"),
    ];
    let brief = Options { timeout: Duration::from_millis(100), ..few_retries(1) };
    for spoil in spoils {
        for healthy in [0, 1] {
            let server =
                serve(
                    move |request, reply| {
                        if request.number < healthy { reply } else { spoil(request, reply) }
                    },
                );
            let url = server.url_of("canary-user:canary-word", "/x?canary-token=1#canary-token");
            match try_open(&url, &brief) {
                Err(error) => assert_clean(&everything(&error)),
                Ok(Resource::Ranged(remote)) => {
                    assert_clean(&format!("{remote:?} {} {:?}", remote.label(), remote.identity()));
                    let error = remote.read_at(&mut [0; 5], 3 * MIB).unwrap_err();
                    assert_clean(&everything(&error));
                }
                Ok(Resource::Stream(stream)) => panic!("{stream:?}"),
            }
        }
    }
    let nobody = try_open("http://canary-user:canary-word@127.0.0.1:1/?canary-token", &brief);
    assert_clean(&everything(&nobody.unwrap_err()));
    for wrong in ["canary-token", "ftp://canary-user:canary-word@h/", "http://canary-user@:80/"] {
        assert_clean(&everything(&try_open(wrong, &brief).unwrap_err()));
    }
    let server = Server::start(|_| Reply { cut: Some(10), ..Reply::whole(LEN) });
    let url = server.url_of("canary-user:canary-word", "/x?canary-token=1");
    let mut stream = open_stream(&url, &brief);
    assert_clean(&format!("{stream:?}"));
    assert_clean(&everything(&stream.read_to_end(&mut Vec::new()).unwrap_err()));
}
