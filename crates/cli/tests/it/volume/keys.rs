//! Which key opens a volume, and which does not.

use std::fs;

use serde_json::json;

use super::VolumePlace;

#[test]
fn a_wrong_passphrase_mounts_nothing_and_formats_nothing() {
    let test = "a_wrong_passphrase_mounts_nothing_and_formats_nothing";
    let Some(place) = VolumePlace::new(test) else { return };
    place.create("data", "32M");
    place.mount("data");
    place.write_note("kept");
    place.detach("data");
    let device = place.device_file("data");
    let before = fs::read(&device).unwrap();
    for _ in 0..2 {
        place.volume("attach data --mount m --passphrase-file wrong").fails(3);
        place.volume("attach data --mount m").fails(2);
        assert_eq!(place.note(), None);
        assert!(place.json("show data")["attachment"].is_null());
    }
    assert!(fs::read(&device).unwrap() == before, "a refusal has written to the volume");
    place.mount("data");
    assert_eq!(place.note().as_deref(), Some("kept"));
}

#[test]
fn a_missing_key_is_told_with_the_options_that_give_one() {
    let place = VolumePlace::without_devices();
    place.create("data", "8M");
    let message = place.volume("attach data --device").fails(2);
    let expected = "volume data is encrypted, and no passphrase was given for it";
    assert!(message.contains(expected), "{message}");
    assert!(message.contains("--secret-file"), "{message}");
    place.place.strongroom("kms init-local kek").ok();
    let kms = "attach data --device --kms local --kms-kek-file kek";
    let message = place.volume(kms).fails(2);
    assert!(message.contains("a key management system was given for it"), "{message}");
    assert_eq!(place.json("show data")["ledger"], json!({ "state": "blank" }));
}

#[test]
fn a_passphrase_gives_way_to_a_kms_and_back() {
    let test = "a_passphrase_gives_way_to_a_kms_and_back";
    let Some(place) = VolumePlace::new(test) else { return };
    place.place.strongroom("kms init-local kek").ok();
    place.create("data", "32M");
    let to_kms = "rekey data --passphrase-file pw --new-kms local --new-kms-kek-file kek";
    let message = place.volume(to_kms).fails(2);
    assert!(message.contains("was never formatted"), "{message}");
    place.mount("data");
    place.write_note("kept");
    place.detach("data");

    place.volume("rekey data --passphrase-file pw").fails(2);
    let wrong = to_kms.replace("pw", "wrong");
    place.volume(&wrong).fails(3);
    place.volume(to_kms).ok();
    let shown = place.json("report data");
    assert_eq!((&shown["encryption"], &shown["findings"]), (&json!("kms"), &json!([])));
    let message = place.volume("attach data --mount m --passphrase-file pw").fails(2);
    assert!(message.contains("takes no passphrase"), "{message}");
    place.volume("attach data --mount m").ok();
    assert_eq!(place.note().as_deref(), Some("kept"));
    place.detach("data");

    place.volume("rekey data --new-passphrase-file new").ok();
    assert_eq!(place.json("show data")["encryption"], "passphrase");
    place.volume("attach data --mount m --passphrase-file pw").fails(3);
    place.volume("attach data --mount m --passphrase-file new").ok();
    assert_eq!(place.note().as_deref(), Some("kept"));
}

#[test]
fn options_that_say_two_things_are_refused() {
    let place = VolumePlace::without_devices();
    place.place.strongroom("kms init-local kek").ok();
    for (words, reason) in [
        ("create data --size 1M --plain --kms local --kms-kek-file kek", "--plain"),
        ("create data --size 1M --plain --encrypt passphrase", "cannot be used with"),
        ("create data --size 1M --encrypt passphrase --kms local --kms-kek-file kek", "and a KMS"),
        ("create data --size 1M --kms transit --kms-endpoint https://a.example", "--kms-key-id"),
        (
            "create data --size 1M --kms local --kms-kek-file kek --envelope-file x",
            "in the catalog",
        ),
        ("create data --encrypt passphrase", "--size"),
        ("create data --size 1000 --encrypt passphrase", "multiples of 4096"),
        ("create a/b --size 1M --plain", "a/b"),
        ("attach data", "--mount"),
        ("attach data --device --mount m", "cannot be used with"),
        ("attach data --device --options noatime", "--mount"),
    ] {
        let message = place.volume(words).fails(2);
        assert!(message.contains(reason), "{words}: {message}");
    }
    let message = place.volume("create data --size 1M --kms local --kms-kek-file missing").fails(8);
    assert!(message.contains("missing"), "{message}");
    assert!(!place.place.exists("pool/volumes/data"), "something was made");
}
