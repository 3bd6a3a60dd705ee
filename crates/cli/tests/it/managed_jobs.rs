//! Jobs with a KMS that are killed and go on, and what of their keys is found where.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use strongroom::envelopes;
use strongroom_testkit::{Pattern, run, skip, wait};

use crate::managed::{KMS, Managed, OTHER_KMS};
use crate::resume::{durable, ended, start};
use crate::secrecy::encode_base64;
use crate::workplace::{CHEAP, Workplace, signal};

/// Formats with the words that make a target of them, and those that open it.
const FORMATS: [(&str, &str, &str); 4] = [
    ("target", "--format luks2", ""),
    ("target", "--format luks2 --header head --envelope-file env", "--header head"),
    ("target", "--format luks1 --envelope-file env", "--envelope-file env"),
    ("target.qcow2", "--envelope-file env", "--envelope-file env"),
];

fn place(len: u64) -> Workplace {
    let place = Workplace::new();
    place.create_kek("kek");
    place.create_kek("other-kek");
    place.image_of("plain", len, &Pattern::dense(7));
    place
}

fn assert_opens(place: &Workplace, target: &str, opening: &str) {
    let words = format!("image decrypt {target} again --force --format raw {opening} {KMS}");
    place.strongroom(&words).ok();
    place.same("again", "plain").unwrap();
}

#[test]
fn a_job_that_is_killed_leaves_nothing_or_all() {
    for (target, making, opening) in FORMATS {
        let words = format!("image encrypt plain {target} {making} {KMS}");
        let whole = place(LEN);
        let begun = Instant::now();
        whole.strongroom(&words).ok();
        let usual = begun.elapsed();
        assert_opens(&whole, target, opening);
        for round in 0..ROUNDS {
            let place = place(LEN);
            let mut child = start(&place, &words);
            std::thread::sleep(usual.mul_f64(f64::from(round) / f64::from(ROUNDS - 2)));
            child.kill().unwrap();
            child.wait().unwrap();
            let names = place.names();
            assert!(!names.iter().any(|name| name.contains("partial")), "{making}: {names:?}");
            if place.exists(target) && (place.exists("head") || !making.contains("head")) {
                assert_opens(&place, target, opening);
            }
            if place.exists("env") {
                // It gets its name whole, and before the image does.
                envelopes::read_file(&place.path("env")).unwrap();
            } else {
                assert!(!place.exists(target) || !making.contains("env"), "{making}: {names:?}");
            }
        }
    }
}

#[test]
fn a_job_that_is_killed_goes_on_with_the_envelope_that_it_has_left() {
    for (target, making, opening) in FORMATS {
        let place = place(96 << 20);
        let words = format!("image encrypt plain {target} {making} --resume");
        let mut child = start(&place, &format!("{words} {KMS} --rate-limit 100M"));
        let begun = Instant::now();
        while durable(&place, target) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing becomes durable: {words}");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!place.exists(target) && !place.exists("env"), "{making}");
        // With what opens nothing of it, nothing happens to it.
        let left = durable(&place, target);
        place.strongroom(&format!("{words} {OTHER_KMS}")).fails(8);
        if !making.contains("env") {
            place.strongroom(&format!("{words} --passphrase-file pw {CHEAP}")).fails(2);
        }
        assert_eq!(durable(&place, target), left, "{making}");
        let report = place.strongroom(&format!("{words} {KMS} --json")).ok();
        let report: Value = serde_json::from_str(&report).unwrap();
        assert!(report["resumed_bytes"].as_u64().unwrap() > 0, "{report}");
        assert_opens(&place, target, opening);
        assert_eq!(place.exists("env"), making.contains("env"), "{making}");
        let left = place.names().into_iter().find(|name| name.starts_with('.'));
        assert_eq!(left, None, "{making}");
    }
}

#[test]
fn an_interrupted_job_is_gone_on_with_though_nobody_had_meant_to() {
    let place = place(160 << 20);
    let words = "image encrypt plain target --format luks1 --envelope-file env";
    let child = start(&place, &format!("{words} {KMS} --rate-limit 100M"));
    std::thread::sleep(Duration::from_millis(1200));
    signal(&child, Signal::INT);
    let message = ended(child, words).fails(130);
    assert!(message.contains("--resume"), "{message}");
    assert!(place.exists(".target.partial") && !place.exists("env"));
    place.strongroom(&format!("{words} {KMS} --resume")).ok();
    assert_opens(&place, "target", "--envelope-file env");
}

#[test]
fn the_end_of_a_job_is_found_again_by_its_envelope() {
    let place = place(LEN);
    let words = format!("image encrypt plain target --format luks1 --envelope-file env {KMS}");
    // All is there but the name of the target, which somebody else has taken.
    let outcome = interrupted_at_the_end(&place, &words);
    assert!(outcome.contains("--resume"), "{outcome}");
    let envelope = place.read("env");
    fs::remove_file(place.path("target")).unwrap();
    place.strongroom(&format!("{words} --resume")).ok();
    assert_eq!(place.read("env"), envelope);
    assert_opens(&place, "target", "--envelope-file env");
}

/// Lets a job that goes on do all but give the target its name, for which another file is put there.
fn interrupted_at_the_end(place: &Workplace, words: &str) -> String {
    let child = start(place, &format!("{words} --resume --rate-limit 4M"));
    let begun = Instant::now();
    while !place.exists(".target.partial") {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(2));
    }
    place.write("target", "somebody else's");
    let message = ended(child, words).fails(6);
    // The envelope is written by hand where it would be if the process had been killed.
    let journal: Value = serde_json::from_slice(&place.read(".target.journal")).unwrap();
    assert!(!place.exists("env"), "there is no image for it");
    place.write("env", format!("{}\n", journal["envelope"]));
    message
}

/// Everything secret about an image: its data key, and the key of its KMS.
fn secrets(place: &Workplace, image: &str, envelope: Option<&str>) -> Vec<(&'static str, Vec<u8>)> {
    let data_key = match envelope {
        Some(envelope) => place.data_key_of(image, envelope, "kek"),
        None => place.data_key(image, "kek"),
    };
    let kek = String::from_utf8(place.read("kek")).unwrap();
    let text = kek.split_whitespace().nth(3).unwrap().to_owned();
    let bytes = decode_base64(&text);
    assert_eq!((data_key.len(), bytes.len()), (43, 32));
    assert_eq!(encode_base64(&bytes).get(..40), text.get(..40));
    // A half is too much as well.
    vec![
        ("the data key", data_key.expose_bytes()[..22].to_vec()),
        ("the data key", data_key.expose_bytes()[21..].to_vec()),
        ("the key of the KMS", bytes[..16].to_vec()),
        ("the key of the KMS", bytes[16..].to_vec()),
        ("the key of the KMS in base64", text.as_bytes()[..22].to_vec()),
        ("the key of the KMS in base64", text.as_bytes()[22..43].to_vec()),
    ]
}

fn decode_base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |letter| LETTERS.iter().position(|other| *other == letter).unwrap_or(0);
    let bytes = text.as_bytes().chunks(4).flat_map(|letters| {
        let bits = letters.iter().fold(0, |bits, letter| bits << 6 | value(*letter));
        [16, 8, 0].map(|shift| (bits >> shift & 255) as u8)
    });
    bytes.take(text.trim_end_matches('=').len() * 3 / 4).collect()
}

pub(crate) fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn no_key_is_in_any_output_or_file() {
    let place = place(64 << 10);
    place.strongroom(&format!("image encrypt plain volume {KMS} --envelope-file env")).ok();
    let secrets = secrets(&place, "volume", None);
    for words in [
        "image info volume --json".to_owned(),
        "luks dump volume --json".to_owned(),
        "luks token export volume --token 0".to_owned(),
        format!("image decrypt volume again {KMS} --json"),
        format!("image decrypt volume no {OTHER_KMS}"),
        format!("image decrypt volume no {KMS} --envelope-file plain"),
        // The file of the key in the place of others.
        "image encrypt plain no --kms local --kms-kek-file pw".to_owned(),
        format!("image decrypt volume no {KMS} --envelope-file kek"),
        "image encrypt kek no --passphrase-file kek --secret-file kek".to_owned(),
        "image encrypt plain no --secret-file kek".to_owned(),
        "image encrypt plain no --kms transit --kms-ca-file kek --kms-endpoint https://[::1]:1 \
         --kms-key-id key --kms-token-file kek"
            .to_owned(),
        "luks token import volume kek".to_owned(),
        format!("image resize volume +64K {KMS}"),
        format!("image compare volume again {KMS}"),
    ] {
        let mut command = place.command(&words);
        command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
        let outcome = run(command, b"");
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        for (what, secret) in &secrets {
            assert!(!holds(said.as_bytes(), secret), "{what}: {}", outcome.describe());
        }
    }
    for name in place.names() {
        for (what, secret) in &secrets {
            assert!(name == "kek" || !holds(&place.read(&name), secret), "{what}: {name}");
        }
    }
}

/// Returns everything in the memory of a process; `None` where nobody but the kernel may look.
fn memory(child: &Child) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let of_process = |name: &str| format!("/proc/{}/{name}", child.id());
    let file = fs::File::open(of_process("mem")).ok()?;
    let maps = fs::read_to_string(of_process("maps")).ok()?;
    let mut memory = Vec::new();
    for line in maps.lines().filter(|line| !line.contains("[v")) {
        let mut words = line.split_whitespace();
        let (start, end) = words.next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut piece = vec![0; (end - start) as usize];
        if words.next().unwrap().starts_with('r') && file.read_exact_at(&mut piece, start).is_ok() {
            memory.append(&mut piece);
        }
    }
    (!memory.is_empty()).then_some(memory)
}

/// Starts a job, and returns what is in its memory while it copies.
pub(crate) fn memory_while_copying(
    place: &Workplace,
    words: &str,
    target: &str,
) -> Option<Vec<u8>> {
    let mut child = start(place, &format!("{words} --resume --rate-limit 64M"));
    let begun = Instant::now();
    // What is durable was copied.
    while durable(place, target) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing becomes durable: {words}");
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&child, Signal::STOP);
    let memory = memory(&child);
    signal(&child, Signal::CONT);
    let status = wait(&mut child, Duration::from_secs(60)).unwrap();
    assert!(status.success(), "{words}");
    memory
}

#[test]
fn the_memory_of_a_job_that_copies_holds_nothing_that_opens_an_image() {
    let place = place(96 << 20);
    place.strongroom(&format!("image encrypt plain volume {KMS}")).ok();
    let new = "--new-kms local --new-kms-kek-file kek --new-envelope-file env2";
    for (words, images) in [
        (format!("image encrypt plain target {KMS}"), [("target", None)].to_vec()),
        (
            format!("image encrypt plain target --format luks1 --envelope-file env {KMS}"),
            [("target", Some("env"))].to_vec(),
        ),
        (format!("image decrypt volume target {KMS}"), [("volume", None)].to_vec()),
        (
            format!("image reencrypt volume target {KMS} --format luks1 {new}"),
            [("volume", None), ("target", Some("env2"))].to_vec(),
        ),
    ] {
        let Some(memory) = memory_while_copying(&place, &words, "target") else {
            skip("managed_jobs::memory", "nobody but root may look at the memory of a process");
            return;
        };
        // What is certainly there is found.
        assert!(holds(&memory, b".target.journal"), "{words}");
        for (image, envelope) in images {
            for (what, secret) in secrets(&place, image, envelope) {
                assert!(!holds(&memory, &secret), "{what} of {image}: {words}");
            }
        }
        fs::remove_file(place.path("target")).unwrap();
    }
}

const ROUNDS: u32 = 12;

const LEN: u64 = 2 << 20;
