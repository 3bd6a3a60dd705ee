//! Jobs that read from a server: stopped, killed, taken up again, and silent about secrets.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use strongroom_testkit::{Reply, Request, Server, run, wait};

use crate::http::strongroom;
use crate::workplace::{CHEAP, Workplace, signal};

/// A resource of which the beginning comes at once, and the rest when it is released.
struct Held {
    server: Server,
    released: Arc<AtomicBool>,
    len: Arc<AtomicU64>,
    version: Arc<AtomicU64>,
}

impl Held {
    /// Serves so many bytes, of which those from `held` on are kept back.
    fn start(len: u64, held: u64) -> Self {
        Self::start_with(len, held, |reply, version| reply.with("ETag", format!("\"{version}\"")))
    }

    fn start_with(
        len: u64,
        held: u64,
        finish: impl Fn(Reply, u64) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let released = Arc::new(AtomicBool::new(false));
        let (len, version) = (Arc::new(AtomicU64::new(len)), Arc::new(AtomicU64::new(1)));
        let server = {
            let (released, len, version) = (released.clone(), len.clone(), version.clone());
            Server::serving(content, move |request: &Request| {
                let reply = Reply::ranged(
                    request,
                    len.load(Ordering::SeqCst),
                    request.header("if-range").unwrap_or_default(),
                );
                let start = request.range(u64::MAX).map_or(0, |range| range.start);
                let kept = start >= held && !released.load(Ordering::SeqCst);
                let reply = Reply { stall: kept.then_some(0), ..reply };
                finish(reply, version.load(Ordering::SeqCst))
            })
        };
        Self { server, released, len, version }
    }

    fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }

    /// Starts a command and waits until the server has nothing more to give.
    fn start_job(&self, place: &Workplace, words: &str, served: u64) -> Child {
        let mut child = place
            .command(words)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while self.server.served() < served {
            assert!(child.try_wait().unwrap().is_none(), "{}", stderr(&mut child));
            assert!(start.elapsed() < Duration::from_secs(60), "it reads nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }
}

/// Returns bytes that tell where they stand, none of them zero.
fn content(range: Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
    let mut at = range.start;
    while at < range.end {
        let block = at / BLOCK;
        let end = range.end.min((block + 1) * BLOCK);
        bytes.resize(bytes.len() + (end - at) as usize, (block * 37 % 255) as u8 + 1);
        at = end;
    }
    bytes
}

fn stderr(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Interrupts a child and returns what it said; it must end soon.
fn interrupt(mut child: Child) -> String {
    let start = Instant::now();
    signal(&child, Signal::INT);
    let status = wait(&mut child, Duration::from_secs(30)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    let said = stderr(&mut child);
    assert_eq!(status.code(), Some(130), "{said}");
    said
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn wait_for_journal(place: &Workplace, durable: u64) -> u64 {
    let start = Instant::now();
    loop {
        let found = durable_len(place);
        if found >= durable {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "the journal has {found}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns what the journal of `target` says to be durable.
fn durable_len(place: &Workplace) -> u64 {
    let text = fs::read(place.path(".target.journal")).unwrap_or_default();
    let Ok(entry) = serde_json::from_slice::<serde_json::Value>(&text) else { return 0 };
    entry["durable"][0][1].as_u64().unwrap_or(0)
}

fn assert_holds_content(place: &Workplace, name: &str, len: u64) {
    assert!(place.read(name) == content(0..len), "{name} holds something else");
}

#[test]
fn a_server_that_says_nothing_more_does_not_keep_the_program() {
    let place = Workplace::new();
    let held = Held::start(64 * MIB, 0);
    let before = place.names();
    let job = format!("image clone {} target", held.server.url("/x"));
    let child = held.start_job(&place, &job, 0);
    while held.server.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let said = interrupt(child);
    assert!(said.contains("interrupted") && said.contains("nothing was left behind"), "{said}");
    assert_eq!(place.names(), before);
}

#[test]
fn a_job_that_is_interrupted_says_how_to_go_on_and_does_so() {
    for (more, held_from) in [("", 80 * MIB), (" --resume", 10 * MIB)] {
        let place = Workplace::new();
        let held = Held::start(96 * MIB, held_from);
        let url = held.server.url("/x");
        let job = format!("image clone {url} target{more}");
        let child = held.start_job(&place, &job, held_from);
        std::thread::sleep(Duration::from_millis(300));
        let said = interrupt(child);
        assert!(said.contains("--resume to go on"), "{said}");
        assert!(place.exists(".target.partial") && place.exists(".target.journal"), "{said}");
        let durable = durable_len(&place);
        assert!(durable > 0);
        held.release();
        let served = held.server.served();
        strongroom(&place, &format!("image clone {url} target --resume")).ok();
        assert_holds_content(&place, "target", 96 * MIB);
        let again = held.server.served() - served;
        assert!(again <= 96 * MIB - durable + SLACK, "{again} bytes for {durable}");
        assert!(!place.exists(".target.partial") && !place.exists(".target.journal"));
    }
}

#[test]
fn a_job_that_was_killed_goes_on_and_reads_little_again() {
    let place = Workplace::new();
    let (len, held_from) = (200 * MIB, 160 * MIB);
    let held = Held::start(len, held_from);
    let job = format!("image clone {} target --resume", held.server.url("/x"));
    let child = held.start_job(&place, &job, held_from);
    let durable = wait_for_journal(&place, 64 * MIB);
    kill(child);
    assert!(!place.exists("target"));
    held.release();
    let served = held.server.served();
    let first = held.server.requests().len();
    strongroom(&place, &job).ok();
    assert_holds_content(&place, "target", len);
    let again = held.server.served() - served;
    let most = len - held_from + 64 * MIB + SLACK;
    assert!(again <= most, "{again} bytes were served again, {durable} were durable");
    let requests = held.server.requests();
    assert!(requests[first..].iter().all(|request| request.header("range").is_some()));
}

#[test]
fn an_encryption_that_was_killed_goes_on() {
    let place = Workplace::new();
    let (len, held_from) = (48 * MIB, 40 * MIB);
    for format in ["luks2", "qcow2-luks"] {
        let held = Held::start(len, held_from);
        let job = format!(
            "image encrypt {} target --resume --format {format} --passphrase-file pw {CHEAP}",
            held.server.url("/x")
        );
        let child = held.start_job(&place, &job, held_from);
        wait_for_journal(&place, 32 * MIB);
        kill(child);
        held.release();
        let served = held.server.served();
        strongroom(&place, &job).ok();
        let again = held.server.served() - served;
        assert!(again <= len - 32 * MIB + SLACK + PROBES, "{format}: {again} bytes");
        let words = "image decrypt target again --force --format raw --passphrase-file pw";
        strongroom(&place, &format!("{words} --source-format {format}")).ok();
        assert_holds_content(&place, "again", len);
        fs::remove_file(place.path("target")).unwrap();
    }
}

#[test]
fn a_job_does_not_go_on_with_a_resource_that_has_changed() {
    let place = Workplace::new();
    let held = Held::start(64 * MIB, 40 * MIB);
    let url = held.server.url("/x?signature=first");
    let job = format!("image clone {url} target --resume");
    let child = held.start_job(&place, &job, 40 * MIB);
    wait_for_journal(&place, 32 * MIB);
    kill(child);
    held.release();
    let left = place.names();

    held.version.store(2, Ordering::SeqCst);
    let said = strongroom(&place, &job).fails(2);
    assert!(said.contains("the entity tag of the source was \"1\", now it is \"2\""), "{said}");
    held.version.store(1, Ordering::SeqCst);
    held.len.store(65 * MIB, Ordering::SeqCst);
    let said = strongroom(&place, &job).fails(2);
    assert!(said.contains("the length of the source was 67108864, now it is"), "{said}");
    held.len.store(64 * MIB, Ordering::SeqCst);
    let other = held.server.url("/y");
    let said = strongroom(&place, &format!("image clone {other} target --resume")).fails(2);
    assert!(said.contains("the source was") && said.contains(&other), "{said}");
    assert_eq!(place.names(), left, "a refusal leaves everything as it was");

    // A signed URL is another one each time.
    strongroom(&place, &job.replace("first", "second")).ok();
    assert_holds_content(&place, "target", 64 * MIB);
}

#[test]
fn a_resource_that_cannot_be_known_again_is_not_resumed() {
    let place = Workplace::new();
    let held = Held::start_with(96 * MIB, 80 * MIB, |reply, _| reply);
    let before = place.names();
    let url = held.server.url("/x");
    let said = strongroom(&place, &format!("image clone {url} target --resume")).fails(2);
    assert!(said.contains("cannot be resumed: its server gives neither an ETag nor"), "{said}");
    assert!(said.contains("leave --resume out"), "{said}");
    assert_eq!(place.names(), before);
    let child = held.start_job(&place, &format!("image clone {url} target"), 80 * MIB);
    std::thread::sleep(Duration::from_millis(300));
    let said = interrupt(child);
    assert!(said.contains("nothing was left behind"), "{said}");
    assert_eq!(place.names(), before);
    // A date is enough.
    let date = |reply: Reply, _| reply.with("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT");
    let held = Held::start_with(8 * MIB, u64::MAX, date);
    strongroom(&place, &format!("image clone {} target --resume", held.server.url("/x"))).ok();
    assert_holds_content(&place, "target", 8 * MIB);
}

#[test]
fn memory_is_bounded_however_long_the_resource() {
    let place = Workplace::new();
    let len = 4096 * MIB;
    let server = Server::serving(
        |range| vec![0; (range.end - range.start) as usize],
        move |request| {
            let reply = Reply::ranged(request, len, "\"one\"");
            // Slowly at first.
            let pace = if request.number < 8 { Duration::from_millis(20) } else { Duration::ZERO };
            Reply { pace: (256 << 10, pace), ..reply }
        },
    );
    let held = Held { server, ..Held::start(0, 0) };
    let job = format!("image clone {} target", held.server.url("/x"));
    let child = held.start_job(&place, &job, 512 * MIB);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    interrupt(child);
    assert!(peak < 256 << 10, "{peak} KiB");
    assert!(!place.exists("target"));
}

/// What a URL may hold and nobody may see.
const SECRETS: [&str; 3] = ["kanarie-user", "kanarie-password", "kanarie-signature"];

fn assert_silent(place: &Workplace, said: &str) {
    for secret in SECRETS {
        assert!(!said.contains(secret), "{said}");
        for name in place.names() {
            let bytes = place.read(&name);
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{name} holds {secret}");
        }
    }
}

#[test]
fn secrets_of_a_url_are_in_no_output_and_no_file() {
    let place = Workplace::new();
    let held = Held::start(40 * MIB, 36 * MIB);
    let [user, password, signature] = SECRETS;
    let secret = |server: &Server| {
        server
            .url_of(&format!("{user}:{password}"), &format!("/x?signature={signature}#{signature}"))
    };
    let url = secret(&held.server);
    let child = held.start_job(&place, &format!("image clone {url} target --resume"), 36 * MIB);
    wait_for_journal(&place, 32 * MIB);
    assert_silent(&place, &interrupt(child));
    assert!(place.exists(".target.journal"));
    held.version.store(2, Ordering::SeqCst);
    held.release();
    let said = strongroom(&place, &format!("image clone {url} target --resume")).fails(2);
    assert_silent(&place, &said);
    let words =
        format!("image encrypt {url} volume --passphrase-file pw --json --label disk {CHEAP}");
    let mut command = place.command(&words);
    command.env("NO_PROXY", "127.0.0.1").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
    let outcome = run(command, b"").success().unwrap();
    assert_silent(&place, &format!("{}{}", outcome.stdout, outcome.stderr));

    let far = format!("/there?signature={signature}");
    let answers: [fn(&Request, &str) -> Reply; 6] = [
        |_, _| Reply::new(404),
        |_, _| Reply::new(401),
        |_, far| Reply::new(302).with("Location", far),
        |_, _| Reply::new(302).with("Location", "ftp://there/?signature=kanarie-signature"),
        |request, _| {
            Reply::part(request.range(1 << 20).unwrap(), 1 << 30).with("Content-Range", "x")
        },
        |_, _| Reply::whole(1000),
    ];
    for answer in answers {
        let far = far.clone();
        let server = Server::start(move |request| answer(request, &far));
        let words = format!("image encrypt {} no --passphrase-file pw {CHEAP}", secret(&server));
        let outcome = strongroom(&place, &words);
        assert_ne!(outcome.code, Some(0));
        assert_silent(&place, &format!("{}{}", outcome.stdout, outcome.stderr));
    }
    for broken in [url.replace("127.0.0.1", "no-such-host.invalid"), url.replace("127.0.0.1", "")] {
        let outcome = strongroom(&place, &format!("image clone {broken} no"));
        assert_ne!(outcome.code, Some(0));
        assert_silent(&place, &format!("{}{}", outcome.stdout, outcome.stderr));
    }
}

const MIB: u64 = 1 << 20;

/// The bytes of the content that are the same.
const BLOCK: u64 = 64 << 10;

/// What is read beside the bytes that are copied: the first block, and what is fetched ahead.
const SLACK: u64 = 12 * MIB;

/// What is read to see that a raw source is no volume.
const PROBES: u64 = 16 * MIB;
