//! Sources on servers, good and bad.

use std::ops::Range;
use std::sync::Arc;

use strongroom_testkit::{Authority, Body, Outcome, Pattern, Reply, Request, Server, run};

use crate::workplace::{CHEAP, Workplace};

/// Runs the program under test past any proxy that the environment names.
pub(crate) fn strongroom(place: &Workplace, words: &str) -> Outcome {
    let mut command = place.command(words);
    command.env("NO_PROXY", "127.0.0.1");
    run(command, b"")
}

/// Serves the file as it should be served.
fn serve(place: &Workplace, name: &str) -> Server {
    serve_by(place, name, |request, len| Reply::ranged(request, len, "\"one\""))
}

/// Serves the file as `reply` does, which is told the file's length.
fn serve_by(
    place: &Workplace,
    name: &str,
    reply: impl Fn(&Request, u64) -> Reply + Send + Sync + 'static,
) -> Server {
    let bytes = Arc::new(place.read(name));
    let len = bytes.len() as u64;
    let content = move |range: Range<u64>| bytes[range.start as usize..range.end as usize].to_vec();
    Server::serving(content, move |request| reply(request, len))
}

/// Returns a place with the image `plain`.
fn place() -> Workplace {
    let place = Workplace::new();
    place.image("plain", LEN);
    place
}

/// Fails unless the directory is as it was before `target` was tried.
fn assert_nothing_left(place: &Workplace, before: &[String], context: &str) {
    assert_eq!(place.names(), before, "{context}");
}

fn encrypt(source: &str, target: &str) -> String {
    format!("image encrypt {source} {target} --passphrase-file pw {CHEAP}")
}

fn decrypt(source: &str, target: &str) -> String {
    format!("image decrypt {source} {target} --passphrase-file pw")
}

#[test]
fn raw_sources_are_copied_and_encrypted() {
    let place = place();
    let server = serve(&place, "plain");
    let url = server.url("/disks/plain?signature=x");
    strongroom(&place, &format!("image clone {url} copy")).ok();
    place.same("copy", "plain").unwrap();
    for (target, more) in [
        ("volume", "--format luks1"),
        ("volume.2", "--format luks2 --sector-size 4096"),
        ("volume.qcow2", ""),
    ] {
        strongroom(&place, &format!("{} {more}", encrypt(&url, target))).ok();
        strongroom(&place, &decrypt(target, "again --force")).ok();
        place.same("again", "plain").unwrap();
    }
    assert!(server.requests().iter().all(|request| request.header("range").is_some()));
}

#[test]
fn images_of_every_format_are_read_at_random() {
    let place = place();
    strongroom(&place, "image clone plain disk.qcow2 --compress zlib").ok();
    for (name, more) in
        [("luks1", "--format luks1"), ("luks2", "--format luks2"), ("locked.qcow2", "")]
    {
        strongroom(&place, &format!("{} {more}", encrypt("plain", name))).ok();
    }
    for (name, command) in [
        ("disk.qcow2", "image clone URL again --format raw"),
        ("disk.qcow2", "image clone URL again --source-format qcow2 --format raw"),
        ("luks1", "image decrypt URL again --passphrase-file pw"),
        ("luks2", "image decrypt URL again --passphrase-file pw --threads 1"),
        ("locked.qcow2", "image decrypt URL again --format raw --passphrase-file pw"),
    ] {
        let server = serve(&place, name);
        let command = command.replace("URL", &server.url(&format!("/{name}?version=7")));
        strongroom(&place, &format!("{command} --force")).ok();
        place.same("again", "plain").unwrap();
        assert!(server.requests().iter().all(|request| request.header("range").is_some()));
    }
    let server = serve(&place, "disk.qcow2");
    strongroom(&place, &encrypt(&server.url("/disk.qcow2"), "target.qcow2")).ok();
    strongroom(&place, &decrypt("target.qcow2", "again --format raw --force")).ok();
    place.same("again", "plain").unwrap();
    let server = serve(&place, "luks2");
    let url = server.url("/luks2");
    let words = format!("image reencrypt {url} other --passphrase-file pw");
    strongroom(&place, &format!("{words} --new-passphrase-file new {CHEAP}")).ok();
    strongroom(&place, "image decrypt other again --force --passphrase-file new").ok();
    place.same("again", "plain").unwrap();
}

#[test]
fn without_ranges_raw_sources_come_as_streams_and_others_are_refused() {
    let place = place();
    strongroom(&place, "image clone plain disk.qcow2").ok();
    strongroom(&place, &encrypt("plain", "volume")).ok();
    let server = serve_by(&place, "plain", |_, len| Reply::whole(len));
    strongroom(&place, &encrypt(&server.url("/plain"), "streamed")).ok();
    strongroom(&place, &decrypt("streamed", "again")).ok();
    place.same("again", "plain").unwrap();

    let before = place.names();
    for (name, command) in [
        ("disk.qcow2", "image clone URL target"),
        ("disk.qcow2", "image encrypt URL target --passphrase-file pw"),
        ("volume", "image decrypt URL target --passphrase-file pw"),
    ] {
        let server = serve_by(&place, name, |_, len| Reply::whole(len));
        let url = server.url(&format!("/{name}"));
        let said = strongroom(&place, &command.replace("URL", &url)).fails(2);
        assert!(said.contains(&format!("{url} can only be read from beginning to end")), "{said}");
        assert!(said.contains("download it first"), "{said}");
        assert_nothing_left(&place, &before, command);
    }
    let url = server.url("/plain");
    let said = strongroom(&place, &format!("image clone {url} target --resume")).fails(2);
    assert!(said.contains(&format!("a job that reads {url} cannot be resumed")), "{said}");
    assert_nothing_left(&place, &before, "--resume");
}

#[test]
fn connections_that_are_cut_anywhere_do_no_harm() {
    let place = place();
    for (step, ranges) in [(70_001, true), (131_072, true), (1_000_003, true), (900_000, false)] {
        let server = serve_by(&place, "plain", move |request, len| {
            let cut = (request.number % 2 == 0).then_some(step);
            match (ranges, request.number) {
                // One that knows ranges, but answers the first request with everything.
                (false, 0) => Reply {
                    cut,
                    ..Reply::whole(len).with("ETag", "\"one\"").with("Accept-Ranges", "bytes")
                },
                _ => Reply { cut, ..Reply::ranged(request, len, "\"one\"") },
            }
        });
        strongroom(&place, &format!("image clone {} again --force", server.url("/x"))).ok();
        place.same("again", "plain").unwrap();
        assert!(server.requests().len() > 1);
    }
}

#[test]
fn what_a_server_says_wrongly_is_an_error_and_leaves_no_target() {
    type Lie = fn(&Request, u64) -> Reply;
    let lies: [(&str, Lie); 6] = [
        ("another range than was asked for", |request, len| {
            let range = request.range(len).unwrap();
            let shifted = format!("bytes {}-{}/{len}", range.start + 512, range.end + 511);
            Reply::ranged(request, len, "\"one\"").with("Content-Range", shifted)
        }),
        ("another length in the middle", |request, len| {
            let longer = len + 4096 * u64::from(request.number > 0);
            let range = request.range(len).unwrap();
            Reply::part(range, longer).with("ETag", "\"one\"")
        }),
        ("more than it promised", |request, len| {
            let reply = Reply::ranged(request, len, "\"one\"");
            let body = Body::Bytes(vec![7; 3 << 20]);
            Reply { body, ..reply }
        }),
        ("bytes that are compressed", |request, len| {
            Reply::ranged(request, len, "\"one\"").with("Content-Encoding", "gzip")
        }),
        ("no range at all", |request, len| Reply {
            headers: vec![("ETag", "\"one\"".to_owned())],
            ..Reply::part(request.range(len).unwrap(), len)
        }),
        ("another ETag in the middle", |request, len| {
            Reply::ranged(request, len, &format!("\"{}\"", request.number.min(1)))
        }),
    ];
    let place = place();
    let before = place.names();
    for (name, lie) in lies {
        for command in [
            "image clone URL target".to_owned(),
            "image clone URL target --resume".to_owned(),
            encrypt("URL", "target"),
        ] {
            let server = serve_by(&place, "plain", lie);
            let outcome = strongroom(&place, &command.replace("URL", &server.url("/x")));
            let context = format!("{name}: {}", outcome.describe());
            assert!(matches!(outcome.code, Some(1 | 7)), "{context}");
            assert!(outcome.stderr.contains(&server.url("/x")), "{context}");
            // What was copied before the lie may be of use yet, to whoever asked for a journal.
            for name in [".target.partial", ".target.journal"] {
                if command.ends_with("--resume") && place.exists(name) {
                    std::fs::remove_file(place.path(name)).unwrap();
                }
            }
            assert_nothing_left(&place, &before, &context);
        }
    }
}

#[test]
fn a_stream_that_ends_too_early_leaves_no_target() {
    let place = place();
    let before = place.names();
    let server =
        serve_by(&place, "plain", |_, len| Reply { cut: Some(len / 2), ..Reply::whole(len) });
    let said = strongroom(&place, &encrypt(&server.url("/x"), "target")).fails(1);
    assert!(said.contains(&server.url("/x")), "{said}");
    assert_nothing_left(&place, &before, "cut");
}

#[test]
fn the_status_tells_the_exit_code_and_what_to_do() {
    let place = place();
    let before = place.names();
    for (status, code, hint) in [
        (404, 8, "look whether the URL is right"),
        (410, 8, "look whether the URL is right"),
        (401, 1, "give user and password in the URL"),
        (403, 1, "a signed URL may have expired"),
        (416, 1, ""),
    ] {
        let server = Server::start(move |_| Reply::new(status));
        let url = server.url("/x");
        for command in [encrypt(&url, "target"), format!("image clone {url} target --resume")] {
            let said = strongroom(&place, &command).fails(code);
            assert!(said.contains(&url) && said.contains(hint), "{said}");
            assert_nothing_left(&place, &before, &said);
        }
        assert_eq!(server.requests().len(), 2, "status {status} is asked for again");
    }
    let server = serve_by(&place, "plain", |request, len| match request.number {
        0 | 2 | 5 => Reply::new(500),
        3 => Reply::new(503).with("Retry-After", "1"),
        _ => Reply::ranged(request, len, "\"one\""),
    });
    strongroom(&place, &format!("image clone {} again", server.url("/x"))).ok();
    place.same("again", "plain").unwrap();
}

#[test]
fn a_redirect_is_followed_but_not_for_ever() {
    let place = place();
    let server = serve_by(&place, "plain", |request, len| match request.target.as_str() {
        "/there" => Reply::ranged(request, len, "\"one\""),
        "/loop" => Reply::new(302).with("Location", "/loop"),
        _ => Reply::new(307).with("Location", "/there"),
    });
    strongroom(&place, &format!("image clone {} again", server.url("/here"))).ok();
    place.same("again", "plain").unwrap();
    let before = place.names();
    let said = strongroom(&place, &format!("image clone {} target", server.url("/loop"))).fails(1);
    assert!(said.contains(&format!("{} redirects", server.url("/loop"))), "{said}");
    assert_nothing_left(&place, &before, &said);
}

#[test]
fn a_checksum_is_that_of_the_resource() {
    let place = place();
    strongroom(&place, "image clone plain disk.qcow2").ok();
    for (name, ranged) in [("plain", true), ("plain", false), ("disk.qcow2", true)] {
        let server = serve_by(&place, name, move |request, len| {
            if ranged { Reply::ranged(request, len, "\"one\"") } else { Reply::whole(len) }
        });
        let url = server.url(&format!("/{name}"));
        let bytes = place.read(name);
        let digest = strongroom_crypto::Hash::Sha256.digest(&[&bytes]);
        let right: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let command = |sum: &str| format!("{} --checksum sha256:{sum}", encrypt(&url, "target"));
        strongroom(&place, &command(&right)).ok();
        strongroom(&place, &decrypt("target", "again --force")).ok();
        place.same("again", "plain").unwrap();
        std::fs::remove_file(place.path("target")).unwrap();

        let before = place.names();
        let wrong = right.replace(|digit: char| digit == right.chars().next().unwrap(), "e");
        let wrong = if wrong == right { "0".repeat(64) } else { wrong };
        for more in ["", " --resume"] {
            if !ranged && !more.is_empty() {
                continue;
            }
            let said = strongroom(&place, &(command(&wrong) + more)).fails(4);
            assert!(said.contains(&format!("{url} has checksum sha256:{right}")), "{said}");
            assert_nothing_left(&place, &before, &said);
        }
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let place = Workplace::new();
    place.image_of("plain", LEN, &Pattern::dense(Server::PATTERN));
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("127.0.0.1"), |request| {
        Reply::ranged(request, LEN, "\"one\"")
    });
    let command = encrypt(&server.url("/x"), "volume");
    let said = strongroom(&place, &command).fails(1);
    assert!(said.contains("is not trusted") && said.contains("--ca-file FILE"), "{said}");
    assert!(!place.exists("volume"));
    let said = strongroom(&place, &format!("{command} --ca-file plain")).fails(2);
    assert!(said.contains("BEGIN CERTIFICATE"), "{said}");
    strongroom(&place, &format!("{command} --ca-file nothing")).fails(2);
    let ca_file = authority.ca_file().display();
    strongroom(&place, &format!("{command} --ca-file {ca_file}")).ok();
    strongroom(&place, &decrypt("volume", "again")).ok();
    place.same("again", "plain").unwrap();
}

const LEN: u64 = 3 << 20;
