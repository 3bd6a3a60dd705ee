//! Keys of managed images: rotated, moved, recovered, revoked. The key in a file is the KMS.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use strongroom_kms::{Binding, Credentials, Envelope};
use strongroom_model::{KmsKind, KmsRequest};
use strongroom_testkit::{Tool, wait};

use crate::workplace::{CHEAP, CRYPTSETUP_CHEAP, Workplace, has, signal};

const KMS: &str = "--kms local --kms-kek-file kek";

/// Returns a place with the KMSes `kek` and `other`, and the image `disk` that `kek` opens.
fn place() -> Workplace {
    let place = Workplace::new();
    place.strongroom("kms init-local kek").ok();
    place.strongroom("kms init-local other").ok();
    place.image("plain", 256 << 10);
    place.strongroom(&format!("image encrypt plain disk {KMS} --data-offset 2097152")).ok();
    place
}

/// The same with a LUKS1 image, whose envelope lies in the file `env.json`.
fn place_with_luks1() -> Workplace {
    let place = Workplace::new();
    place.strongroom("kms init-local kek").ok();
    place.strongroom("kms init-local other").ok();
    place.image("plain", 256 << 10);
    let words = format!("image encrypt plain disk --format luks1 {KMS} --envelope-file env.json");
    place.strongroom(&words).ok();
    place
}

pub(crate) fn show(place: &Workplace, words: &str) -> Value {
    serde_json::from_str(&place.strongroom(&format!("key show --json {words}")).ok()).unwrap()
}

/// Asserts that an image still holds what it was made of.
fn is_whole(place: &Workplace, words: &str) {
    place.strongroom(&format!("image decrypt disk again --force {words}")).ok();
    place.same("plain", "again").unwrap();
}

/// Writes the data key of an image to a file, as the KMS gives it to us.
fn unwrap(place: &Workplace, kek: &str, file: &str) {
    let shown = show(place, "disk");
    let token = shown["envelopes"][0]["token"].as_u64().unwrap();
    let text = place.strongroom(&format!("luks token export disk --token {token}")).ok();
    let token: Value = serde_json::from_str(&text).unwrap();
    let envelope = Envelope::parse(token["envelope"].to_string().as_bytes(), "token").unwrap();
    let request = KmsRequest { kek_file: Some(place.path(kek)), ..KmsRequest::new(KmsKind::Local) };
    let kms = strongroom_kms::open(&request, Credentials::default()).unwrap();
    let key = kms.unwrap(&envelope, &Binding::image(shown["uuid"].as_str().unwrap())).unwrap();
    place.write(file, key.expose_bytes());
}

#[test]
fn rotation_gives_another_data_key_and_the_same_data() {
    let place = place();
    let before = show(&place, "disk");
    let done = place.strongroom(&format!("key rotate disk {KMS} --json")).ok();
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["removed_keyslots"], serde_json::json!([0]));
    let after = show(&place, "disk");
    assert_eq!(before["uuid"], after["uuid"]);
    assert_eq!(after["keyslots"].as_array().unwrap().len(), 1);
    assert_eq!(after["keyslots"][0]["role"], "kms");
    is_whole(&place, KMS);
}

#[test]
fn cryptsetup_opens_with_the_data_key_of_now_and_not_with_that_of_before() {
    if !has("cryptsetup_opens_with_the_data_key_of_now", &[Tool::CRYPTSETUP]) {
        return;
    }
    let place = place();
    unwrap(&place, "kek", "before");
    place.cryptsetup("open --test-passphrase --key-file before disk").ok();
    // What somebody does with it meanwhile stays.
    place.cryptsetup(&format!("luksAddKey {CRYPTSETUP_CHEAP} --key-file before disk pw")).ok();
    place.strongroom(&format!("key rotate disk {KMS}")).ok();
    unwrap(&place, "kek", "now");
    place.cryptsetup("open --test-passphrase --key-file now disk").ok();
    place.cryptsetup("open --test-passphrase --key-file pw disk").ok();
    place.cryptsetup("open --test-passphrase --key-file before disk").fails(2);
    let dump = place.cryptsetup("luksDump disk").ok();
    assert!(dump.contains("strongroom-kms"), "{dump}");
    // A token whose keyslot cryptsetup has removed is no obstacle, once something opens.
    place.cryptsetup("luksKillSlot -q --key-file pw disk 2").ok();
    place.strongroom(&format!("key rotate disk {KMS}")).fails(3);
    place.strongroom(&format!("key move disk --passphrase-file pw {}", new("kek"))).ok();
    assert_eq!(show(&place, "disk")["envelopes"].as_array().unwrap().len(), 1);
    is_whole(&place, KMS);
}

fn new(kek: &str) -> String {
    format!("--new-kms local --new-kms-kek-file {kek}")
}

#[test]
fn an_image_moves_to_another_kms_and_leaves_the_first() {
    let place = place();
    place.copy("disk", "before");
    place.strongroom(&format!("key move disk {KMS} {}", new("other"))).ok();
    is_whole(&place, "--kms local --kms-kek-file other");
    place.strongroom(&format!("image decrypt disk again2 {KMS}")).fails(8);
    let again = place.strongroom(&format!("key move disk {KMS} {}", new("other"))).ok();
    assert_eq!(again, "");
    let passphrase =
        place.strongroom(&format!("key move disk {KMS} --new-passphrase-file new")).fails(2);
    assert!(passphrase.contains("--new-kms"), "{passphrase}");
    let nowhere = place.strongroom(&format!("key move disk {KMS}")).fails(2);
    assert!(nowhere.contains("--new-kms"), "{nowhere}");
}

#[test]
fn luks1_rotates_and_moves_with_an_envelope_in_a_file() {
    let place = place_with_luks1();
    let file = "--envelope-file env.json";
    let refused = place.strongroom(&format!("key rotate disk {KMS}")).fails(2);
    assert!(refused.contains("--envelope-file"), "{refused}");
    place.strongroom(&format!("key rotate disk {KMS} {file}")).ok();
    is_whole(&place, &format!("{KMS} {file}"));
    place.strongroom(&format!("key move disk {KMS} {file} {}", new("other"))).ok();
    is_whole(&place, &format!("--kms local --kms-kek-file other {file}"));
    let shown = show(&place, "disk --envelope-file env.json");
    assert_eq!(shown["keyslots"].as_array().unwrap().len(), 1);
    let other = "--kms local --kms-kek-file other";
    place
        .strongroom(&format!(
            "key move disk {other} {file} {} --new-envelope-file new.json",
            new("kek")
        ))
        .ok();
    is_whole(&place, &format!("{KMS} --envelope-file new.json"));
    let found =
        place.strongroom(&format!("key recover disk {KMS} --envelope-file new.json --json"));
    assert!(found.ok().contains("file-opens"));
    let words = format!("key add-recovery disk {KMS} --envelope-file new.json {CHEAP}");
    place.strongroom(&format!("{words} --new-passphrase-file pw")).ok();
    is_whole(&place, "--passphrase-file pw");
    let gone = place.strongroom("key revoke disk --passphrase-file pw").fails(2);
    assert!(gone.contains("remove-key FILE --keyslot"), "{gone}");
}

#[test]
fn a_recovery_passphrase_opens_when_the_kms_is_lost() {
    let place = place();
    let words = format!("key add-recovery disk {KMS} --new-passphrase-file new {CHEAP}");
    place.strongroom(&words).ok();
    assert_eq!(show(&place, "disk")["keyslots"][1]["role"], "recovery");
    std::fs::remove_file(place.path("kek")).unwrap();
    is_whole(&place, "--passphrase-file new");
    let wrong = place.strongroom("key revoke disk --passphrase-file wrong").fails(2);
    assert!(wrong.contains("opens no keyslot but 0"), "{wrong}");
    place.strongroom("key revoke disk --passphrase-file new").ok();
    let shown = show(&place, "disk");
    assert_eq!(shown["envelopes"].as_array().unwrap().len(), 0);
    is_whole(&place, "--passphrase-file new");
    let last = place.strongroom("key remove-recovery disk --passphrase-file new").fails(2);
    assert!(last.contains("would not open any more"), "{last}");
    place.strongroom(&format!("key move disk --passphrase-file new {}", new("other"))).ok();
    place.strongroom("key remove-recovery disk --kms local --kms-kek-file other").ok();
    is_whole(&place, "--kms local --kms-kek-file other");
    place.strongroom("image decrypt disk again3 --passphrase-file new").fails(3);
}

#[test]
fn a_detached_header_rotates_by_itself() {
    let place = place();
    place.strongroom(&format!("image encrypt plain data --header head {KMS}")).ok();
    let before = place.read("data");
    place.strongroom(&format!("key rotate head {KMS}")).ok();
    place.strongroom(&format!("key move head {KMS} {}", new("other"))).ok();
    assert!(place.read("data") == before, "the data was changed");
    let words = "image decrypt data again --header head --kms local --kms-kek-file other";
    place.strongroom(words).ok();
    place.same("plain", "again").unwrap();
}

#[test]
fn a_rotation_that_is_killed_leaves_an_image_that_opens() {
    for (place, file) in [(place(), ""), (place_with_luks1(), "--envelope-file env.json")] {
        let words = format!("key rotate disk {KMS} {file}");
        let start = Instant::now();
        place.strongroom(&words).ok();
        let usual = start.elapsed();
        let mut killed = 0;
        for number in 0..24 {
            let mut child = place.start(&words);
            std::thread::sleep(usual * number / 20);
            signal(&child, Signal::KILL);
            killed += u32::from(!wait(&mut child, Duration::from_secs(10)).unwrap().success());
            is_whole(&place, &format!("{KMS} {file}"));
        }
        assert!(killed > 4, "only {killed} were killed");
        place.strongroom(&words).ok();
        let shown = show(&place, &format!("disk {file}"));
        assert_eq!(shown["keyslots"].as_array().unwrap().len(), 1, "{shown}");
        let left: Vec<String> =
            place.names().into_iter().filter(|name| name.starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn two_rotations_at_once_leave_an_image_that_opens() {
    let place = place();
    for _ in 0..6 {
        let words = format!("key rotate disk {KMS}");
        let mut both = [place.start(&words), place.start(&words)];
        let done = both.iter_mut().map(|child| wait(child, Duration::from_secs(60)).unwrap());
        assert!(done.filter(ExitStatus::success).count() > 0, "neither is done");
        is_whole(&place, KMS);
    }
    place.strongroom(&format!("key rotate disk {KMS}")).ok();
    let shown = show(&place, "disk");
    assert_eq!(shown["keyslots"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["envelopes"].as_array().unwrap().len(), 1, "{shown}");
}

#[test]
fn no_command_prints_a_key() {
    let place = place();
    unwrap(&place, "kek", "first");
    let mut said = String::new();
    let commands = [
        format!("key rotate disk {KMS} --json"),
        format!("key add-recovery disk {KMS} --new-passphrase-file new {CHEAP} --json"),
        "key show disk".to_owned(),
        "key show disk --json".to_owned(),
        "kms rotate-local kek --json".to_owned(),
        format!("key rewrap disk disk {KMS} --json --report report"),
        format!("key recover disk {KMS} --envelope-file env.json"),
        format!("kms probe {KMS} --json"),
        "key rotate disk --kms local --kms-kek-file other".to_owned(),
    ];
    for words in &commands {
        let outcome = place.strongroom(words);
        said.push_str(&(outcome.stdout + &outcome.stderr));
    }
    unwrap(&place, "kek", "last");
    let kept =
        [said.into_bytes(), place.read("report"), place.read("env.json"), place.read("disk")];
    let kek = String::from_utf8(place.read("kek")).unwrap();
    let keys = kek.lines().map(|line| line.rsplit(' ').next().unwrap().as_bytes().to_vec());
    let secrets =
        [place.read("first"), place.read("last"), place.read("new")].into_iter().chain(keys);
    for (number, secret) in secrets.enumerate() {
        for (at, bytes) in kept.iter().enumerate() {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "secret {number} is in {at}");
        }
    }
}

#[test]
fn erasing_must_be_meant() {
    let place = place();
    let before = place.read("disk");
    let refused = place.strongroom("key erase disk").fails(2);
    assert!(refused.contains("--force"), "{refused}");
    assert!(place.read("disk") == before);
    place.strongroom("key erase disk --force").ok();
    place.strongroom(&format!("image decrypt disk again {KMS}")).fails(4);
    let shown = show(&place, "disk");
    assert_eq!(
        (shown["keyslots"].as_array().unwrap().len(), shown["envelopes"].as_array().unwrap().len()),
        (0, 0)
    );
}

#[test]
fn a_lost_envelope_comes_back() {
    let place = place();
    let recover = |words: &str| {
        let text = place.strongroom(&format!("key recover disk {KMS} --json {words}")).ok();
        let value: Value = serde_json::from_str(&text).unwrap();
        value["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(recover(""), "header-opens");
    assert_eq!(recover("--envelope-file env.json"), "file-written");
    assert_eq!(recover("--envelope-file env.json"), "agree");
    place.strongroom("luks token remove disk --token 0").ok();
    let lost = place.strongroom(&format!("image decrypt disk again {KMS}")).fails(2);
    assert!(lost.contains("no envelope"), "{lost}");
    assert_eq!(recover("--envelope-file env.json"), "token-written");
    is_whole(&place, KMS);
    place.strongroom("key recover disk --kms local --kms-kek-file other").fails(8);
}

#[test]
fn bad_input_is_told_of_and_changes_nothing() {
    let place = place();
    let before = place.read("disk");
    let no_kms = place.strongroom("key rotate disk").fails(2);
    assert!(no_kms.contains("a KMS is needed") && no_kms.contains("--kms"), "{no_kms}");
    let wrong = place.strongroom("key rotate disk --kms local --kms-kek-file other").fails(8);
    assert!(wrong.contains("made by") && wrong.contains("--kms-kek-file"), "{wrong}");
    place.strongroom("key rotate disk --kms local --kms-kek-file missing").fails(8);
    place.strongroom(&format!("key rotate missing {KMS}")).fails(8);
    let plain = place.strongroom(&format!("key rotate plain {KMS}")).fails(4);
    assert!(plain.contains("not encrypted"), "{plain}");
    place
        .strongroom(&format!(
            "image encrypt plain qcow {KMS} --format qcow2-luks --envelope-file q.json"
        ))
        .ok();
    let qcow2 = place.strongroom(&format!("key rotate qcow {KMS} --envelope-file q.json")).fails(2);
    assert!(qcow2.contains("qcow2") && qcow2.contains("key rewrap"), "{qcow2}");
    let none = place.strongroom(&format!("image encrypt plain own --passphrase-file pw {CHEAP}"));
    none.ok();
    let unmanaged = place.strongroom(&format!("key rotate own {KMS}")).fails(2);
    assert!(unmanaged.contains("no envelope"), "{unmanaged}");
    place.write("broken.json", "{");
    let broken =
        place.strongroom(&format!("key rotate disk {KMS} --envelope-file broken.json")).fails(4);
    assert!(broken.contains("broken.json"), "{broken}");
    assert!(place.read("disk") == before, "the image was changed");
}
