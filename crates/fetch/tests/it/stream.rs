use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_fetch::{Error, Options, Stream};
use strongroom_testkit::{Body, Reply, Request, Server};

use crate::content::{MIB, bytes, chain, open_stream, options};

const LEN: u64 = 9 * MIB + 123;

/// Reads all that comes, until the end or an error.
fn drain(stream: &mut Stream) -> (Vec<u8>, Option<String>) {
    let mut found = Vec::new();
    let result = stream.read_to_end(&mut found);
    let failure = result
        .err()
        .map(|error| chain(Error::within(&error).expect("the cause is an error of the crate")));
    (found, failure)
}

fn check(stream: &mut Stream, len: u64) {
    let (found, failure) = drain(stream);
    assert_eq!(failure, None);
    assert_eq!(found.len() as u64, len);
    assert!(found == bytes(0..len), "wrong bytes");
    // The end stays the end.
    assert_eq!(stream.read(&mut [0; 5]).unwrap(), 0);
}

/// Ignores ranges, and spoils some answers.
fn serve(spoil: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| spoil(request, Reply::whole(LEN).with("ETag", "\"one\"")))
}

#[test]
fn reads_all_of_a_server_that_ignores_ranges() {
    for len in [0, 1, LEN] {
        let server = Server::start(move |_| Reply::whole(len));
        let mut stream = open_stream(&server.url_of("me:pw", "/x?token"), &options());
        assert_eq!(stream.len(), Some(len));
        assert_eq!(stream.identity().url, server.url("/x"));
        check(&mut stream, len);
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn reads_a_body_of_unknown_length_when_its_end_is_marked() {
    let content = bytes(0..300_000);
    let mut body = Vec::new();
    for piece in content.chunks(7777) {
        body.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        body.extend(piece);
        body.extend(b"\r\n");
    }
    body.extend(b"0\r\n\r\n");
    let whole = body.clone();
    let chunked = |body: Vec<u8>| {
        Reply { body: Body::Bytes(body), ..Reply::new(200) }.with("Transfer-Encoding", "chunked")
    };
    let server = Server::start(move |_| chunked(whole.clone()));
    let mut stream = open_stream(&server.url("/x"), &options());
    assert_eq!(stream.len(), None);
    check(&mut stream, 300_000);

    // Cut once, with a tag that shows that the rest belongs to it.
    let server = Server::start(move |request| Reply {
        cut: (request.number == 0).then_some(100_000),
        ..chunked(body.clone()).with("ETag", "\"a\"")
    });
    check(&mut open_stream(&server.url("/x"), &options()), 300_000);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn asks_again_and_skips_what_it_has() {
    for cut in [1, 5 * MIB + 1, LEN - 1] {
        let server = serve(move |request, reply| Reply {
            cut: (request.number == 0).then_some(cut),
            ..reply
        });
        check(&mut open_stream(&server.url("/x"), &options()), LEN);
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[1].header("if-range"), Some("\"one\""));
        assert!(requests[1].range(LEN).unwrap().start <= cut);
    }
}

#[test]
fn takes_the_rest_alone_when_the_server_serves_ranges_after_all() {
    let server = Server::start(|request| match request.number {
        0 => Reply { cut: Some(4 * MIB), ..Reply::whole(LEN).with("ETag", "\"one\"") },
        _ => Reply::ranged(request, LEN, "\"one\""),
    });
    check(&mut open_stream(&server.url("/x"), &options()), LEN);
    assert!(server.served() <= LEN + MIB, "{}", server.served());
}

#[test]
fn skips_without_a_tag_when_nothing_else_has_changed() {
    let server = Server::start(|request| Reply {
        cut: (request.number == 0).then_some(3 * MIB),
        ..Reply::whole(LEN).with("Last-Modified", "Monday")
    });
    check(&mut open_stream(&server.url("/x"), &options()), LEN);
    assert!(server.requests()[1].range(LEN).is_none(), "a range without a condition");
}

#[test]
fn does_not_go_on_with_another_resource() {
    type Spoil = fn(Reply) -> Reply;
    let spoils: [(&str, Spoil); 4] = [
        ("its ETag was \"one\" and is now \"two\"", |reply| reply.with("ETag", "\"two\"")),
        ("its length was", |_| Reply::whole(LEN + 1).with("ETag", "\"one\"")),
        ("its ETag was \"one\" and is now not told", |_| Reply::whole(LEN)),
        ("its modification date was", |reply| reply.with("Last-Modified", "Tuesday")),
    ];
    for (expected, spoil) in spoils {
        let server = serve(move |request, reply| match request.number {
            0 => Reply { cut: Some(2 * MIB), ..reply },
            _ => spoil(reply),
        });
        let (found, failure) = drain(&mut open_stream(&server.url("/x"), &options()));
        assert!(found == bytes(0..found.len() as u64), "wrong bytes");
        let failure = failure.unwrap();
        assert!(failure.contains("has changed since it was opened"), "{failure}");
        assert!(failure.contains(expected), "{failure}");
    }
}

#[test]
fn does_not_guess_when_nothing_tells_states_apart() {
    let server = Server::start(|_| {
        let body = Body::Bytes(b"5\r\nhello\r\n".to_vec());
        Reply { body, cut: Some(10), ..Reply::new(200) }.with("Transfer-Encoding", "chunked")
    });
    let (found, failure) = drain(&mut open_stream(&server.url("/x"), &options()));
    assert_eq!(found, b"hello");
    assert!(failure.unwrap().contains("without a length, ETag or modification date"));
}

#[test]
fn a_body_shorter_than_announced_is_an_error() {
    let server = serve(|_, reply| Reply { cut: Some(LEN - 1), ..reply });
    let options = Options { retries: 2, ..options() };
    let (found, failure) = drain(&mut open_stream(&server.url("/x"), &options));
    assert_eq!(found.len() as u64, LEN - 1);
    let failure = failure.unwrap();
    assert!(failure.contains("after 3 attempts in a row"), "{failure}");
}

#[test]
fn bytes_beyond_the_announced_length_are_never_read() {
    let server = serve(|_, reply| reply.with("Content-Length", (LEN - 5).to_string()));
    let mut stream = open_stream(&server.url("/x"), &options());
    assert_eq!(stream.len(), Some(LEN - 5));
    check(&mut stream, LEN - 5);
}

#[test]
fn a_rest_with_more_bytes_than_are_due_is_an_error() {
    let server = Server::start(|request| match request.number {
        0 => Reply { cut: Some(4 * MIB), ..Reply::whole(LEN).with("ETag", "\"one\"") },
        _ => {
            let reply = Reply::ranged(request, LEN, "\"one\"");
            let Body::Content(range) = reply.body else { panic!("{reply:?}") };
            let body = Body::Content(range.start..range.end + 1);
            Reply { body, ..reply }.with("Connection", "close")
        }
    });
    let (found, failure) = drain(&mut open_stream(&server.url("/x"), &options()));
    assert!(found == bytes(0..found.len() as u64), "wrong bytes");
    assert!(failure.unwrap().contains("it holds more bytes than it said"));
}

#[test]
fn is_fetched_no_faster_than_it_is_read() {
    let server = Server::start(|_| Reply::whole(1 << 32));
    let mut stream = open_stream(&server.url("/x"), &options());
    stream.read_exact(&mut [0; 1000]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    // What the system's sockets take counts too.
    assert!(server.served() < 64 * MIB, "{}", server.served());
}

#[test]
fn a_compressed_stream_is_refused() {
    let server = serve(|_, reply| reply.with("Content-Encoding", "gzip"));
    let text = crate::content::refusal(&server.url("/x"), &options());
    assert!(text.contains("it is coded as `gzip`"), "{text}");
}

#[test]
fn repetitions_are_as_many_as_allowed() {
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let server = serve(move |_, reply| {
        if fails.swap(true, Ordering::Relaxed) {
            Reply::new(503)
        } else {
            Reply { cut: Some(1000), ..reply }
        }
    });
    let options = Options { retries: 3, ..options() };
    let (_, failure) = drain(&mut open_stream(&server.url("/x"), &options));
    assert!(failure.unwrap().contains("after 4 attempts in a row"));
    assert_eq!(server.requests().len(), 4);
}
