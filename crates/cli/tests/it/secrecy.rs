//! No plaintext in a volume, no passphrase anywhere.

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;
use strongroom_testkit::{Outcome, Pattern, run, wait};

use crate::workplace::{CHEAP, Workplace, signal, wait_for_target};

/// A passphrase that stands in nothing else.
pub(crate) const CANARY: &str = "kanarienvogel-4f1c9e-geheim";

/// One that takes its place later.
pub(crate) const NEW_CANARY: &str = "stieglitz-77aa03-verborgen";

fn place_with_canaries() -> Workplace {
    let place = Workplace::with_canaries();
    place.image("plain", 64 << 10);
    place
}

/// Tells whether the bytes hold a canary, as it is, in base64 or in hexadecimal digits.
pub(crate) fn holds_canary(bytes: &[u8]) -> bool {
    [CANARY, NEW_CANARY].iter().any(|canary| {
        // Base64 in all three positions, without the characters at either end that neighbours
        // change.
        let base64 = (0..3).map(|shift| {
            let text = encode_base64(&[&vec![b'x'; shift], canary.as_bytes()].concat());
            text[4..text.len() - 4].to_owned()
        });
        let hex = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
        base64
            .chain([(*canary).to_owned(), hex])
            .any(|form| bytes.windows(form.len()).any(|window| window == form.as_bytes()))
    })
}

pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let bits = (0..3).fold(0_usize, |bits, index| {
                bits << 8 | usize::from(chunk.get(index).copied().unwrap_or(0))
            });
            [18, 12, 6, 0].map(|shift| char::from(LETTERS[bits >> shift & 63]))
        })
        .collect()
}

fn assert_silent(outcome: &Outcome) {
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(!holds_canary(said.as_bytes()), "{}", outcome.describe());
}

fn assert_no_file_holds_canary(place: &Workplace, except: &[&str]) {
    for name in place.names() {
        if !except.contains(&name.as_str()) {
            assert!(!holds_canary(&place.read(&name)), "{name}");
        }
    }
}

#[test]
fn a_canary_is_found_in_every_form() {
    let base64 = encode_base64(format!("ab{CANARY}c").as_bytes());
    for text in [CANARY, &format!("a\n{NEW_CANARY}"), &base64] {
        assert!(holds_canary(text.as_bytes()), "{text}");
    }
    assert!(!holds_canary(b"passphrase"));
    assert_eq!(encode_base64(b"Man"), "TWFu");
}

#[test]
fn nothing_of_the_source_stands_in_the_target() {
    let place = Workplace::new();
    place.image_of("plain", 4 << 20, &Pattern::dense(42));
    let plain = place.read("plain");
    let pieces: HashSet<&[u8]> = plain.chunks_exact(16).collect();
    for (format, cipher) in [
        ("luks2", "aes-xts-plain64"),
        ("luks1", "aes-cbc-essiv:sha256"),
        ("luks2", "serpent-xts-plain64"),
        ("luks1", "twofish-xts-plain64"),
        ("luks2", "camellia-cbc-plain64"),
    ] {
        place
            .strongroom(&format!(
                "image encrypt plain volume --force --passphrase-file pw --format {format} \
                 --cipher {cipher} --data-offset 4194304 {CHEAP}"
            ))
            .ok();
        let volume = place.read("volume");
        let found = volume.chunks_exact(16).position(|piece| pieces.contains(piece));
        assert_eq!(found, None, "{cipher}");
        let data = &volume[4 << 20..];
        let blocks: HashSet<&[u8]> = data.chunks_exact(512).collect();
        assert_eq!(blocks.len(), data.len() / 512, "no two sectors are equal: {cipher}");
    }
}

#[test]
fn zeros_and_holes_are_encrypted_like_anything_else() {
    let place = Workplace::new();
    place.sized("plain", 1 << 20);
    for cipher in ["aes-xts-plain64", "aes-cbc-essiv:sha256", "serpent-xts-plain64"] {
        place
            .strongroom(&format!(
                "image encrypt plain volume --force --passphrase-file pw --cipher {cipher} \
                 --data-offset 1048576 {CHEAP}"
            ))
            .ok();
        let volume = place.read("volume");
        let blocks: HashSet<&[u8]> = volume[1 << 20..].chunks_exact(16).collect();
        assert_eq!(blocks.len(), (1 << 20) / 16, "{cipher}");
    }
}

#[test]
fn a_passphrase_is_in_no_output_and_no_file() {
    let place = place_with_canaries();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: crypto}}\nstringData:\n  \
         CRYPTO_KEY_VALUE: {CANARY}\n  CRYPTO_PBKDF: pbkdf2\n  \
         CRYPTO_PBKDF_FORCE_ITERATIONS: \"1000\"\n"
    );
    place.write("secret.yaml", &secret);
    place.write("data.yaml", secret.replace("stringData", "data"));
    place.write("broken.yaml", secret.replace("metadata:", "metadata"));
    place.write("cost.yaml", secret.replace("pbkdf2", "argon2i").replace("1000", "200000"));
    let commands = [
        format!("image encrypt plain volume --passphrase-file pw {CHEAP} --json"),
        format!("image encrypt plain volume --passphrase-file pw {CHEAP}"),
        "image encrypt plain from-secret --secret-file secret.yaml".to_owned(),
        "image encrypt plain no --secret-file data.yaml".to_owned(),
        "image encrypt plain no --secret-file broken.yaml".to_owned(),
        "image encrypt plain no --secret-file cost.yaml".to_owned(),
        // The file with the passphrase in the place of another.
        format!("image encrypt pw no --passphrase-file new {CHEAP}"),
        "luks dump pw".to_owned(),
        "luks token import volume pw".to_owned(),
        "luks header-restore volume pw".to_owned(),
        "image encrypt plain no --secret-file pw".to_owned(),
        "image info volume --json".to_owned(),
        "image decrypt volume again --passphrase-file pw".to_owned(),
        "image decrypt volume again2 --passphrase-file new".to_owned(),
        format!(
            "image reencrypt volume other --passphrase-file pw --new-passphrase-file new {CHEAP}"
        ),
        format!("luks add-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}"),
        "luks test-key volume --passphrase-file pw --json".to_owned(),
        format!("luks change-key volume --passphrase-file new --new-passphrase-file pw {CHEAP}"),
        "luks dump volume".to_owned(),
        "luks dump volume --json".to_owned(),
        "luks header-backup volume backup".to_owned(),
        "image compare plain volume --passphrase-file pw".to_owned(),
        "luks remove-key volume --passphrase-file new".to_owned(),
    ];
    for words in commands {
        let mut command = place.command(&words);
        command
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .env("TMPDIR", place.path("."));
        assert_silent(&run(command, b""));
    }
    assert!(place.exists("from-secret") && place.exists("other") && !place.exists("no"));
    let given = ["pw", "new", "secret.yaml", "data.yaml", "broken.yaml", "cost.yaml"];
    assert_no_file_holds_canary(&place, &given);
}

/// Starts an encryption whose key derivation takes a good while.
fn busy(place: &Workplace, passphrase: &str) -> Child {
    let child = place.start(&format!(
        "image encrypt plain volume {passphrase} --pbkdf pbkdf2 --pbkdf-iterations 50000000"
    ));
    // Its working file tells that it has read the passphrase.
    wait_for_target(&child);
    child
}

#[test]
fn a_running_process_shows_its_passphrase_to_nobody() {
    let place = place_with_canaries();
    let mut child = busy(&place, "--passphrase-file pw");
    let of_process = |name: &str| fs::read(format!("/proc/{}/{name}", child.id()));
    let arguments = of_process("cmdline").unwrap();
    assert!(!arguments.is_empty() && !holds_canary(&arguments));
    // Only root may look at the environment of a process that may not be dumped.
    if let Ok(environment) = of_process("environ") {
        assert!(!holds_canary(&environment));
    }
    let limits = String::from_utf8(of_process("limits").unwrap()).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    assert_no_file_holds_canary(&place, &["pw", "new"]);

    signal(&child, Signal::ABORT);
    let status = wait(&mut child, Duration::from_secs(30)).unwrap();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
    assert_no_file_holds_canary(&place, &["pw", "new"]);
}

#[test]
fn a_file_with_a_secret_in_it_belongs_to_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = place_with_canaries();
    place.strongroom(&format!("image encrypt plain volume --passphrase-file pw {CHEAP}")).ok();
    place.strongroom("luks header-backup volume backup").ok();
    place.strongroom("image decrypt volume again --passphrase-file pw").ok();
    for name in ["volume", "backup", "again"] {
        let mode = place.path(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}
