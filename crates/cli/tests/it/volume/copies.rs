//! Snapshots and clones.

use std::fs;

use serde_json::Value;

use super::VolumePlace;

/// Makes volume `data` with a note in it, not attached.
fn with_note(place: &VolumePlace) {
    place.create("data", "32M");
    place.mount("data");
    place.write_note("first");
    place.detach("data");
}

/// Mounts a volume, and returns what stands in its note.
fn note_of(place: &VolumePlace, name: &str, key: &str) -> Option<String> {
    place.volume(&format!("attach {name} --mount m {key}")).ok();
    let note = place.note();
    place.detach(name);
    note
}

fn digest(place: &VolumePlace, name: &str) -> Value {
    place.json(&format!("show {name}"))["ledger"]["digest"].clone()
}

#[test]
fn a_snapshot_keeps_what_was_there() {
    let Some(place) = VolumePlace::new("a_snapshot_keeps_what_was_there") else { return };
    with_note(&place);
    place.mount("data");
    // While it is mounted, too.
    place.volume("snapshot data before").ok();
    place.volume("snapshot data before").ok();
    place.write_note("second");
    place.detach("data");
    place.volume("create again --from-snapshot before").ok();
    assert_eq!(note_of(&place, "again", "--passphrase-file pw").as_deref(), Some("first"));
    assert_eq!(note_of(&place, "data", "--passphrase-file pw").as_deref(), Some("second"));

    let listed = place.json("snapshots data");
    assert_eq!(listed["snapshots"][0]["snapshot"], "before");
    assert_eq!(place.json("snapshots again")["snapshots"], serde_json::json!([]));
    assert!(place.volume("snapshots").ok().contains("before"));
    place.volume("snapshot again before").fails(6);
    place.volume("delete data --force").ok();
    place.volume("delete-snapshot before").fails(2);
    place.volume("delete-snapshot before --force").ok();
    place.volume("delete-snapshot before --force").fails(8);
    place.volume("create third --from-snapshot before").fails(8);
    assert_eq!(note_of(&place, "again", "--passphrase-file pw").as_deref(), Some("first"));
}

#[test]
fn a_clone_opens_with_the_key_of_its_source_or_with_its_own_alone() {
    let test = "a_clone_opens_with_the_key_of_its_source_or_with_its_own_alone";
    let Some(place) = VolumePlace::new(test) else { return };
    place.place.strongroom("kms init-local kek").ok();
    with_note(&place);
    place.volume("clone data same --size 48M").ok();
    assert_eq!(note_of(&place, "same", "--passphrase-file pw").as_deref(), Some("first"));

    let keys = "--passphrase-file pw --new-passphrase-file new";
    place.volume(&format!("clone data other {keys}")).ok();
    assert_eq!(note_of(&place, "other", "--passphrase-file new").as_deref(), Some("first"));
    place.volume("attach other --mount m --passphrase-file pw").fails(3);
    assert_eq!(digest(&place, "other"), digest(&place, "data"), "the volume key stays");

    let keys = "--passphrase-file pw --new-kms local --new-kms-kek-file kek";
    place.volume(&format!("clone data anew --reencrypt {keys}")).ok();
    assert_eq!(note_of(&place, "anew", "").as_deref(), Some("first"));
    assert_ne!(digest(&place, "anew"), digest(&place, "data"), "the volume key is its own");
    assert_eq!(note_of(&place, "data", "--passphrase-file pw").as_deref(), Some("first"));
}

#[test]
fn a_clone_that_fails_leaves_nothing_and_takes_no_ones_place() {
    let test = "a_clone_that_fails_leaves_nothing_and_takes_no_ones_place";
    let Some(place) = VolumePlace::new(test) else { return };
    with_note(&place);
    for how in ["", "--reencrypt"] {
        let keys = "--passphrase-file wrong --new-passphrase-file new";
        place.volume(&format!("clone data new {keys} {how}")).fails(3);
        place.volume("show new").fails(8);
    }
    place.create("new", "64M");
    let device = place.device_file("new");
    let before = fs::read(&device).unwrap();
    for how in ["", "--passphrase-file pw --new-passphrase-file new"] {
        place.volume(&format!("clone data new {how}")).fails(6);
    }
    assert!(fs::read(&device).unwrap() == before, "a volume was written over");
    place.volume("clone missing new").fails(8);
    place.volume("clone missing new --snapshot").fails(8);
    for how in ["", "--reencrypt --passphrase-file pw"] {
        place.volume(&format!("clone data small --size 16M {how}")).fails(2);
        place.volume("show small").fails(8);
    }
}

#[test]
fn plain_and_encrypted_do_not_mix() {
    let place = VolumePlace::without_devices();
    place.volume("create plain --size 8M --plain").ok();
    place.create("secret", "8M");
    for words in [
        "create new --from plain --encrypt passphrase",
        "create new --from secret --plain",
        "clone plain new --new-passphrase-file new",
        "clone plain new --reencrypt --new-passphrase-file new",
    ] {
        let message = place.volume(words).fails(2);
        assert!(message.contains("a copy has the bytes of its source"), "{words}: {message}");
        place.volume("show new").fails(8);
    }
}
