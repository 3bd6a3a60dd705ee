//! Keys of images that a real Transit engine manages: rotated, moved, and many rewrapped at once.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use strongroom_testkit::{OpenBao, skip, wait};

use crate::key_rotation::show;
use crate::workplace::{Workplace, signal};

/// A place, and a server whose tokens may do what OSC's driver may: `token` is for the key `kek`.
struct Vault {
    bao: OpenBao,
    place: Workplace,
    kms: String,
}

impl Vault {
    fn start(test: &str) -> Option<Self> {
        let Some((bao, token)) = OpenBao::for_driver("kek") else {
            skip(test, "OpenBao is not installed");
            return None;
        };
        let place = Workplace::new();
        place.write("token", token);
        let kms = format!(
            "--kms transit --kms-endpoint {} --kms-key-id kek --kms-token-file token",
            bao.url()
        );
        place.image("plain", 64 << 10);
        Some(Self { bao, place, kms })
    }

    /// Lets the token rewrap as well.
    fn allow_rewrap(&self) {
        let path =
            |verb| format!("path \"transit/{verb}/kek\" {{\n  capabilities = [\"update\"]\n}}\n");
        self.bao.policy("pvc-enc", &["encrypt", "decrypt", "rewrap"].map(path).concat());
    }

    fn encrypt(&self, name: &str) {
        let words = format!("image encrypt plain {name} {} --data-offset 1048576", self.kms);
        self.place.strongroom(&words).ok();
    }

    fn is_whole(&self, name: &str) {
        self.place.strongroom(&format!("image decrypt {name} again --force {}", self.kms)).ok();
        self.place.same("plain", "again").unwrap();
    }
}

#[test]
fn an_image_is_rotated_and_moved_with_no_more_than_the_policy_of_a_driver() {
    let Some(vault) = Vault::start("an_image_is_rotated_and_moved") else { return };
    let Vault { bao, place, kms } = &vault;
    vault.encrypt("disk");
    place.strongroom(&format!("key rotate disk {kms}")).ok();
    vault.is_whole("disk");
    bao.rotate_key("kek");
    place.strongroom(&format!("key rewrap disk {kms}")).ok();
    let envelope = &show(place, "disk")["envelopes"][0];
    assert_eq!((&envelope["key_version"], &envelope["kind"]), (&"2".into(), &"transit".into()));
    // What the first version has wrapped is of no use any more, but nothing is under it.
    bao.set_min_decryption_version("kek", 2);
    vault.is_whole("disk");
    place.strongroom("kms init-local local").ok();
    let new = "--new-kms local --new-kms-kek-file local";
    place.strongroom(&format!("key move disk {kms} {new}")).ok();
    place.strongroom(&format!("image decrypt disk again2 {kms}")).fails(2);
    let (local, back) = ("--kms local --kms-kek-file local", kms.replace("--kms", "--new-kms"));
    place.strongroom(&format!("key move disk {local} {back}")).ok();
    vault.is_whole("disk");
    let before = place.read("disk");
    bao.delete_key("kek");
    let gone = place.strongroom(&format!("key rotate disk {kms}"));
    assert_ne!(gone.code, Some(0), "{}", gone.describe());
    assert!(place.read("disk") == before, "the image was changed");
    assert!(!bao.has_key("kek"), "the key was made anew");
}

#[test]
#[allow(clippy::print_stderr, reason = "how long it takes is what it is about")]
fn many_images_are_rewrapped_by_a_server_and_a_killed_command_goes_on() {
    let Some(vault) = Vault::start("many_images_are_rewrapped_by_a_server") else { return };
    let Vault { bao, place, kms } = &vault;
    let count = match std::env::var("STRONGROOM_REWRAP_IMAGES") {
        Ok(count) => count.parse().unwrap(),
        Err(_) => 200,
    };
    vault.allow_rewrap();
    vault.encrypt("0.luks");
    for number in 1..count {
        place.copy("0.luks", &format!("{number}.luks"));
    }
    place.write("list", (0..count).map(|number| format!("{number}.luks\n")).collect::<String>());
    bao.rotate_key("kek");
    let words = format!("key rewrap --files-from list {kms} --json --report report");
    let start = Instant::now();
    let mut child = place.start(&words);
    let lines = || place.exists("report") && place.read("report").len() > 100 * count / 4;
    while !lines() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
        assert!(start.elapsed() < Duration::from_secs(600), "it does not go on");
    }
    signal(&child, Signal::KILL);
    wait(&mut child, Duration::from_secs(10)).unwrap();
    let first = start.elapsed();
    let outcome = place.strongroom(&words);
    let taken = start.elapsed();
    let report: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", outcome.describe()));
    let number = |name: &str| report[name].as_u64().unwrap() as usize;
    assert_eq!((number("failed"), number("left")), (0, 0), "{}", outcome.describe());
    assert_eq!(number("rewrapped") + number("already"), count);
    assert!(number("already") > 0, "nothing was done before it was killed, in {first:?}");
    eprintln!("{count} images rewrapped in {taken:?}, killed after {first:?}");
    bao.set_min_decryption_version("kek", 2);
    for number in (0..count).step_by(count / 7 + 1) {
        vault.is_whole(&format!("{number}.luks"));
    }
    let again = place.strongroom(&format!("key rewrap --files-from list {kms} --json")).ok();
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["already"], count);
}

#[test]
fn a_server_that_is_down_changes_nothing_and_says_so() {
    let Some(vault) = Vault::start("a_server_that_is_down_changes_nothing") else { return };
    vault.encrypt("disk");
    let Vault { bao, place, kms } = vault;
    let before = place.read("disk");
    bao.seal();
    for words in ["key rotate disk", "key rewrap disk", "key recover disk"] {
        let said = place.strongroom(&format!("{words} {kms}")).fails(11);
        assert!(said.contains("error: "), "{said}");
    }
    assert!(place.read("disk") == before, "the image was changed");
}
