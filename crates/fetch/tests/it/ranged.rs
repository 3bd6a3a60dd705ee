use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use strongroom_testkit::{Body, Reply, Request, Server};

use strongroom_disk::{Disk, ErrorKind, ExtentKind, Resizable};

use crate::child::{is_child, run_child};
use crate::content::{MIB, check, open_ranged, options, try_open, with_connections};

const ETAG: &str = "\"one\"";

fn serve(len: u64) -> Server {
    Server::start(move |request| Reply::ranged(request, len, ETAG))
}

#[test]
fn reads_any_range_of_it() {
    let len = 5 * MIB + 777;
    let server = serve(len);
    let remote = open_ranged(&server.url("/disk.img"), &options());
    assert_eq!(remote.len(), len);
    for range in [
        0..1,
        0..0,
        len..len,
        len - 1..len,
        MIB - 1..MIB + 1,
        MIB..2 * MIB,
        4 * MIB + 5..len,
        123..4 * MIB + 17,
        0..len,
    ] {
        check(&remote, range);
    }
}

#[test]
fn says_which_resource_it_is() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let server =
        Server::start(move |request| Reply::ranged(request, 10, ETAG).with("Last-Modified", date));
    let remote = open_ranged(&server.url_of("me:pw", "/a/disk.img?token=t"), &options());
    let identity = remote.identity();
    assert_eq!(identity.url, server.url("/a/disk.img"));
    assert_eq!(identity.len, Some(10));
    assert_eq!(identity.etag.as_deref(), Some(ETAG));
    assert_eq!(identity.last_modified.as_deref(), Some(date));
    assert_eq!(remote.label(), server.url("/a/disk.img"));
}

#[test]
fn is_a_disk_that_nobody_may_change() {
    let server = serve(MIB + 1);
    let remote = open_ranged(&server.url("/x"), &options());
    for result in [
        remote.write_at(&[1], 0),
        remote.write_scratch_at(&mut [1], 0),
        remote.discard(0..1),
        remote.write_zeroes(0..1),
        remote.set_len(1),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnly);
        assert!(error.to_string().contains("nothing can be written over HTTP"), "{error}");
    }
    remote.flush().unwrap();
    let extent = remote.extent_at(5).unwrap();
    assert_eq!((extent.range, extent.kind), (5..MIB + 1, ExtentKind::Data));
    assert_eq!(remote.extent_at(MIB + 1).unwrap_err().kind(), ErrorKind::PastEnd);
    for (offset, length) in [(MIB, 2), (u64::MAX, 1), (MIB + 2, 0)] {
        let error = remote.read_at(&mut vec![0; length], offset).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PastEnd);
    }
}

#[test]
fn an_empty_resource_is_an_empty_disk() {
    let server = serve(0);
    let remote = open_ranged(&server.url("/x"), &options());
    assert!(remote.is_empty());
    remote.read_at(&mut [], 0).unwrap();
}

#[test]
fn fetches_each_block_once_for_several_threads_in_order() {
    let len = 96 * MIB + 5;
    for (threads, chunk, connections) in
        [(1, 256 << 10, 4), (4, MIB, 4), (3, 384 << 10, 6), (2, 2 * MIB, 1)]
    {
        let server = serve(len);
        let remote = open_ranged(&server.url("/x"), &with_connections(connections));
        let next = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let start = next.fetch_add(chunk, Ordering::Relaxed);
                        if start >= len {
                            break;
                        }
                        check(&remote, start..len.min(start + chunk));
                    }
                });
            }
        });
        assert_eq!(server.served(), len, "{threads} threads, {chunk} bytes");
        assert!(server.most_active() <= connections);
        if connections > 1 {
            assert!(server.most_active() > 1, "nothing was fetched at once");
        }
    }
}

#[test]
fn threads_that_want_the_same_block_share_it() {
    let server = Server::start(|request| Reply {
        delay: Duration::from_millis(20),
        ..Reply::ranged(request, 31 * MIB, ETAG)
    });
    let remote = open_ranged(&server.url("/x"), &options());
    let served = server.served();
    thread::scope(|scope| {
        for index in 0..16 {
            let remote = &remote;
            scope
                .spawn(move || check(remote, 30 * MIB + index * 1000..30 * MIB + index * 1000 + 5));
        }
    });
    assert_eq!(server.served() - served, MIB);
}

#[test]
fn never_has_more_requests_at_once_than_connections() {
    for connections in [1, 3, 100] {
        let server = Server::start(|request| Reply {
            delay: Duration::from_millis(3),
            ..Reply::ranged(request, 60 * MIB, ETAG)
        });
        let remote = open_ranged(&server.url("/x"), &with_connections(connections));
        thread::scope(|scope| {
            for part in 0..10 {
                let remote = &remote;
                scope.spawn(move || check(remote, part * 6 * MIB..(part + 1) * 6 * MIB));
            }
        });
        assert!(server.most_active() <= connections.min(6), "{}", server.most_active());
    }
}

#[test]
fn a_large_resource_takes_little_memory() {
    if is_child() {
        return read_parts_of_4_gib(&std::env::var("URL").unwrap());
    }
    let server = Server::start(|request| Reply {
        delay: Duration::from_millis(5),
        ..Reply::ranged(request, 4 << 30, ETAG)
    });
    run_child("ranged::a_large_resource_takes_little_memory", &[("URL", &server.url("/x"))]);
    // Two blocks for each of the scattered reads, and what is read in order with what is read ahead.
    let most = 1 + 60 * 2 + 4 * (50 + 8) + 1;
    assert!(server.served() <= most * MIB, "{} MiB", server.served() >> 20);
}

fn read_parts_of_4_gib(url: &str) {
    let before = peak_memory();
    let remote = open_ranged(url, &with_connections(6));
    let len = remote.len();
    assert_eq!(len, 4 << 30);
    for index in 0..60 {
        let start = index * 0x9e37_79b9 % (len - 100_000);
        check(&remote, start..start + 70_000);
    }
    thread::scope(|scope| {
        for part in 0..4 {
            let remote = &remote;
            scope.spawn(move || {
                for piece in 0..800 {
                    let start = (part << 30) + piece * (64 << 10);
                    check(remote, start..start + (64 << 10));
                }
            });
        }
    });
    check(&remote, len - 5..len);
    let grown = peak_memory() - before;

    assert!(grown < 24 * MIB, "{} KiB", grown >> 10);
}

/// Returns the most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn works_without_anything_that_tells_states_apart() {
    let server = Server::start(|request| Reply::ranged(request, 3 * MIB, ""));
    let remote = open_ranged(&server.url("/x"), &options());
    assert_eq!(remote.identity().etag, None);
    check(&remote, 0..3 * MIB);
    assert!(server.requests().iter().all(|request| request.header("if-range").is_none()));
}

#[test]
fn makes_its_requests_conditional_and_uncoded() {
    let server = serve(3 * MIB);
    let remote = open_ranged(&server.url("/x"), &options());
    check(&remote, 2 * MIB..3 * MIB);
    let requests = server.requests();
    assert_eq!(requests[0].header("if-range"), None);
    assert_eq!(requests[1].header("if-range"), Some(ETAG));
    assert!(requests.iter().all(|request| request.header("accept-encoding") == Some("identity")));
    assert!(requests.iter().all(|request: &Request| request.method == "GET"));
}

#[test]
fn a_body_in_chunks_is_as_good() {
    let server = Server::start(|request| {
        let reply = Reply::ranged(request, 2 * MIB, ETAG).with("Transfer-Encoding", "chunked");
        let Body::Content(range) = reply.body else { panic!("{reply:?}") };
        let mut body = Vec::new();
        for piece in crate::content::bytes(range).chunks(100_000) {
            body.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            body.extend(piece);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        Reply { body: Body::Bytes(body), ..reply }
    });
    check(&open_ranged(&server.url("/x"), &options()), 0..2 * MIB);
}

#[test]
fn several_disks_of_one_resource_do_not_disturb_each_other() {
    let server = serve(20 * MIB);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let remote = open_ranged(&server.url("/x"), &with_connections(2));
                check(&remote, 0..20 * MIB);
            });
        }
    });
}

#[test]
fn dropping_it_while_requests_run_leaves_nothing_behind() {
    let server = Server::start(|request| Reply {
        stall: (request.number > 0).then_some(10),
        ..Reply::ranged(request, 20 * MIB, ETAG)
    });
    let remote = Arc::new(open_ranged(&server.url("/x"), &options()));
    let reader = Arc::clone(&remote);
    // Asks for blocks ahead, which never come.
    thread::spawn(move || {
        for start in 0..4 {
            check(&*reader, start * 1000..start * 1000 + 10);
        }
    })
    .join()
    .unwrap();
    let started = std::time::Instant::now();
    drop(remote);
    assert!(started.elapsed() < Duration::from_millis(500));
}

#[test]
fn a_single_connection_is_enough() {
    let options = with_connections(NonZeroUsize::MIN.get());
    let server = serve(9 * MIB);
    check(&open_ranged(&server.url("/x"), &options), 0..9 * MIB);
    assert!(try_open(&server.url("/x"), &options).is_ok());
}
