//! Standard input and standard output as images, and the checksums that sources must have.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use strongroom_crypto::Hash;
use strongroom_testkit::{Outcome, Pattern, run, wait};

use crate::workplace::{BINARY, CHEAP, Workplace, signal};

/// Runs a line of shell, in which `$0` is the program under test.
fn shell(place: &Workplace, line: &str) -> Outcome {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", line]).arg(BINARY).current_dir(place.path("."));
    run(command, b"")
}

fn checksum(place: &Workplace, name: &str, algorithm: &str) -> String {
    let hash = if algorithm == "sha256" { Hash::Sha256 } else { Hash::Sha512 };
    let digits: Vec<String> =
        hash.digest(&[&place.read(name)]).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{algorithm}:{}", digits.concat())
}

#[test]
fn pipes_carry_images_of_any_length_both_ways() {
    let place = Workplace::new();
    for len in [512, 1024, 65_536 + 512, (4 << 20) + 1536, 9 << 20] {
        place.image("plain", len);
        for format in ["luks1", "luks2"] {
            let encrypt =
                format!("\"$0\" image encrypt - - --format {format} --passphrase-file pw {CHEAP}");
            shell(&place, &format!("cat plain | {encrypt} | cat > volume")).ok();
            shell(&place, "\"$0\" image decrypt volume - --passphrase-file pw | cat > again").ok();
            place.same("again", "plain").unwrap();
        }
        shell(
            &place,
            &format!(
                "cat plain | \"$0\" image encrypt - a.qcow2 --force --passphrase-file pw {CHEAP}"
            ),
        )
        .ok();
        shell(&place, "\"$0\" image decrypt a.qcow2 - --passphrase-file pw > again").ok();
        place.same("again", "plain").unwrap();
        shell(
            &place,
            &format!(
                "\"$0\" image reencrypt a.qcow2 - --format luks2 --passphrase-file pw \
                 --new-passphrase-file new {CHEAP} | cat > volume"
            ),
        )
        .ok();
        place.strongroom("image compare volume plain --passphrase-file new").ok();
    }
    for len in [0, 1, 511, 65_537, (4 << 20) + 7] {
        place.image_of("plain", len, &Pattern::sparse(len, 512));
        shell(&place, "cat plain | \"$0\" image clone - - | cat > again").ok();
        place.same("again", "plain").unwrap();
        shell(&place, "cat plain | \"$0\" image clone - again --force").ok();
        place.same("again", "plain").unwrap();
        shell(&place, "cat plain | \"$0\" image clone - a.qcow2 --compress zstd --force").ok();
        shell(&place, "\"$0\" image clone a.qcow2 - --format raw > again").ok();
        let mut padded = place.read("plain");
        padded.resize(padded.len().next_multiple_of(512), 0);
        place.write("padded", padded);
        place.same("again", "padded").unwrap();
        // What no sector holds is not encrypted, and what went before is no volume.
        for target in ["out", "out.qcow2"] {
            let words = format!("image encrypt - {target} --passphrase-file pw {CHEAP}");
            let message = place.strongroom_reading(&words, &place.read("plain")).fails(4);
            let reason = if len == 0 { "is empty" } else { "no multiple of 512" };
            assert!(message.contains(reason), "{len}: {message}");
            assert!(!place.exists(target));
        }
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_work_with_an_error() {
    let place = Workplace::new();
    place.sized("plain", 256 << 20);
    for words in [
        "image clone plain -".to_owned(),
        format!("image encrypt plain - --passphrase-file pw {CHEAP}"),
    ] {
        let line =
            format!("\"$0\" {words} 2>errors | head -c 100000 >/dev/null; exit ${{PIPESTATUS[0]}}");
        let outcome = shell(&place, &line);
        assert_eq!(outcome.code, Some(1), "{}", outcome.describe());
        let message = String::from_utf8(place.read("errors")).unwrap();
        assert!(message.starts_with("error: ") && message.contains("standard output"), "{message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}

#[test]
fn a_full_device_behind_standard_output_is_an_error() {
    let place = Workplace::new();
    place.image("plain", 1 << 20);
    let outcome = shell(&place, "\"$0\" image clone plain - > /dev/full");
    assert!(outcome.stderr.starts_with("error: "), "{}", outcome.describe());
    assert_eq!(outcome.code, Some(1), "{}", outcome.describe());
}

#[test]
fn work_that_waits_for_its_input_can_be_interrupted() {
    let place = Workplace::new();
    let names = place.names();
    for words in ["image clone - out", "image clone - out.qcow2"] {
        let mut child = place
            .command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        signal(&child, Signal::INT);
        let status = wait(&mut child, Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(130), "{words}");
        assert_eq!(place.names(), names, "{words}");
    }
}

#[test]
fn a_checksum_that_is_right_changes_nothing_and_a_wrong_one_leaves_nothing() {
    let place = Workplace::new();
    place.image("plain", (6 << 20) + 512);
    place.strongroom("image clone plain a.qcow2").ok();
    place.strongroom("image clone plain zipped.qcow2 --compress zlib").ok();
    let encrypt = format!("--passphrase-file pw {CHEAP}");
    for target in ["b.qcow2", "volume"] {
        place.strongroom(&format!("image encrypt plain {target} {encrypt}")).ok();
    }
    let names = place.names();
    for (source, words) in [
        ("plain", "clone plain out".to_owned()),
        ("plain", "clone plain out.qcow2 --compress zstd".to_owned()),
        ("plain", format!("encrypt plain out.qcow2 {encrypt}")),
        ("plain", format!("encrypt plain out --resume {encrypt}")),
        ("plain", format!("encrypt plain out --header apart {encrypt}")),
        ("plain", format!("encrypt - out {encrypt}")),
        ("plain", "clone - out".to_owned()),
        ("plain", "clone - out.qcow2".to_owned()),
        ("a.qcow2", "clone a.qcow2 out".to_owned()),
        ("zipped.qcow2", "clone zipped.qcow2 out.raw --resume".to_owned()),
        ("a.qcow2", format!("encrypt a.qcow2 out.qcow2 {encrypt}")),
        ("a.qcow2", "clone a.qcow2 copy.qcow2".to_owned()),
        ("b.qcow2", "decrypt b.qcow2 out --passphrase-file pw".to_owned()),
        ("volume", "decrypt volume out --passphrase-file pw".to_owned()),
        ("volume", "decrypt volume out.qcow2 --passphrase-file pw --resume".to_owned()),
        ("volume", format!("reencrypt volume out {encrypt} --new-passphrase-file new --resume")),
    ] {
        for algorithm in ["sha256", "sha512"] {
            let right = checksum(&place, source, algorithm);
            // The last digit alone is another.
            let mut wrong = right.clone();
            let last = if wrong.pop() == Some('0') { '1' } else { '0' };
            wrong.push(last);
            let bytes = place.read(source);
            let words = |sum: &str| format!("image {words} --checksum {sum}");
            let message = place.strongroom_reading(&words(&wrong), &bytes).fails(4);
            assert!(message.contains(&right) && message.contains(&wrong), "{message}");
            assert!(message.contains("hint: "), "{message}");
            assert_eq!(place.names(), names, "{}", words(&wrong));
            place.strongroom_reading(&words(&right), &bytes).ok();
            for made in place.names().iter().filter(|name| !names.contains(name)) {
                std::fs::remove_file(place.path(made)).unwrap();
            }
        }
    }
    for nonsense in ["md5:00", "sha256:0", "sha512", "sha256:zz"] {
        place.strongroom(&format!("image clone plain out --checksum {nonsense}")).fails(2);
    }
}

#[test]
fn a_wrong_checksum_is_found_before_standard_output_is_called_whole() {
    let place = Workplace::new();
    place.image("plain", 1 << 20);
    let wrong = format!("sha256:{}", "0".repeat(64));
    place.strongroom(&format!("image clone plain - --checksum {wrong}")).fails(4);
    let words = format!("image clone - - --checksum {wrong}");
    place.strongroom_reading(&words, &place.read("plain")).fails(4);
}
