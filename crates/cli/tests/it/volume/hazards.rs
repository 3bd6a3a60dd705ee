//! Devices that are not what they were: never formatted over, never written to.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use strongroom::catalog::{Catalog, Kind, SqliteCatalog};

use super::VolumePlace;
use crate::workplace::CHEAP;

/// Makes volume `data` with a note in it, not attached.
fn with_note(place: &VolumePlace) {
    place.create("data", "32M");
    place.mount("data");
    place.write_note("kept");
    place.detach("data");
}

/// Tries to mount volume `data`, which must be refused with this code and leave its device as it is.
fn refused(place: &VolumePlace, code: i32) -> String {
    let device = place.device_file("data");
    let before = fs::read(&device).unwrap();
    let words = format!("attach data --mount m --passphrase-file pw {CHEAP}");
    let message = place.volume(&words).fails(code);
    assert!(fs::read(&device).unwrap() == before, "the refusal has written: {message}");
    assert_eq!(place.note(), None);
    message
}

#[test]
fn a_header_that_is_gone_is_put_back_with_the_command_that_the_hint_names() {
    let test = "a_header_that_is_gone_is_put_back_with_the_command_that_the_hint_names";
    let Some(place) = VolumePlace::new(test) else { return };
    with_note(&place);
    let device = OpenOptions::new().write(true).open(place.device_file("data")).unwrap();
    device.write_all_at(&vec![0; 16 << 20], 0).unwrap();
    let message = refused(&place, 4);
    assert!(message.contains("has no LUKS header"), "{message}");
    place.volume("report data").fails(13);
    let command = message.split('`').find(|part| part.contains("luks header-restore /")).unwrap();
    place.place.strongroom(command.strip_prefix("strongroom ").unwrap()).ok();
    place.volume("report data").ok();
    place.mount("data");
    assert_eq!(place.note().as_deref(), Some("kept"));
}

#[test]
fn a_device_that_is_short_is_never_made_longer() {
    let Some(place) = VolumePlace::new("a_device_that_is_short_is_never_made_longer") else {
        return;
    };
    with_note(&place);
    let path = place.device_file("data");
    let whole = fs::read(&path).unwrap();
    let device = OpenOptions::new().write(true).open(&path).unwrap();
    device.set_len(whole.len() as u64 - 4096).unwrap();
    let message = refused(&place, 4);
    assert!(message.contains("should have one of"), "{message}");
    place.volume("expand data --size 64M").fails(4);
    place.volume("report data").fails(13);
    device.write_all_at(&whole[whole.len() - 4096..], whole.len() as u64 - 4096).unwrap();
    place.mount("data");
    assert_eq!(place.note().as_deref(), Some("kept"));
}

#[test]
fn the_header_of_another_volume_is_not_opened() {
    let Some(place) = VolumePlace::new("the_header_of_another_volume_is_not_opened") else {
        return;
    };
    with_note(&place);
    place.create("other", "32M");
    place.volume(&format!("attach other --device --passphrase-file pw {CHEAP}")).ok();
    place.detach("other");
    let other = fs::read(place.device_file("other")).unwrap();
    let device = OpenOptions::new().write(true).open(place.device_file("data")).unwrap();
    device.write_all_at(&other[..16 << 20], 0).unwrap();
    let message = refused(&place, 4);
    assert!(message.contains("has the header of"), "{message}");
}

#[test]
fn what_was_never_formatted_but_holds_something_stays_as_it_is() {
    let test = "what_was_never_formatted_but_holds_something_stays_as_it_is";
    let Some(place) = VolumePlace::new(test) else { return };
    place.create("data", "32M");
    let device = OpenOptions::new().write(true).open(place.device_file("data")).unwrap();
    // The magic number of ext4, in its superblock.
    device.write_all_at(&[0x53, 0xef], 1024 + 56).unwrap();
    let message = refused(&place, 4);
    assert!(message.contains("was never formatted, but"), "{message}");
    device.write_all_at(&[0, 0], 1024 + 56).unwrap();
    let message = refused(&place, 4);
    assert!(message.contains("was written to"), "{message}");
    assert!(message.contains("strongroom volume delete data --force"), "{message}");
}

#[test]
fn hints_name_the_pool_that_was_named() {
    let place = VolumePlace::without_devices();
    let pool = place.place.path("elsewhere").display().to_string();
    place.volume(&format!("create data --size 1M --plain --pool {pool}")).ok();
    let message = place.volume(&format!("show other --pool {pool}")).fails(8);
    let expected = format!("`strongroom volume list --pool {pool}`");
    assert!(message.contains(&expected), "{message}");
    // Nothing is made by looking at it.
    place.volume("list").fails(8);
    assert!(!place.place.exists("pool"));
}

#[test]
fn what_is_no_pool_stays_as_it_is() {
    let place = VolumePlace::without_devices();
    let folder = place.place.path("m");
    fs::write(folder.join("file"), "somebody's").unwrap();
    place.volume("create data --size 1M --plain --pool m").fails(2);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn a_place_that_is_taken_stays_as_it_is() {
    let Some(place) = VolumePlace::new("a_place_that_is_taken_stays_as_it_is") else { return };
    place.create("data", "32M");
    place.create("other", "32M");
    place.mount("data");
    place.write_note("kept");
    for key in ["pw", "wrong"] {
        place.volume(&format!("attach other --mount m --passphrase-file {key}")).fails(7);
        assert_eq!(place.note().as_deref(), Some("kept"), "somebody else's mount is gone");
    }
    place.volume("detach other").ok();
    place.volume("delete other --force").ok();
    assert_eq!(place.note().as_deref(), Some("kept"));
    place.detach("data");

    place.create("other", "32M");
    let nbd = |name: &str| {
        place.volume(&format!("attach {name} --nbd socket --passphrase-file pw {CHEAP}"))
    };
    nbd("data").ok();
    nbd("other").fails(7);
    place.volume("detach other").ok();
    assert!(place.json("show data")["attachment"].is_object(), "somebody else's export is gone");
    place.detach("data");
    nbd("other").ok();
    assert!(place.json("show data")["attachment"].is_null());
    place.detach("other");
}

#[test]
fn a_catalog_that_forgot_where_a_volume_is_mounted_lets_nobody_else_have_it() {
    let test = "a_catalog_that_forgot_where_a_volume_is_mounted_lets_nobody_else_have_it";
    let Some(place) = VolumePlace::new(test) else { return };
    place.create("data", "32M");
    place.mount("data");
    place.write_note("kept");
    let catalog = SqliteCatalog::open(&place.place.path("pool/catalog.sqlite")).unwrap();
    let stored = catalog.load(Kind::Attachment, "data").unwrap().unwrap();
    catalog.remove(Kind::Attachment, "data", stored.version).unwrap();
    fs::create_dir(place.place.path("m2")).unwrap();
    place.volume("attach data --mount m2 --passphrase-file pw").fails(7);
    place.volume("attach data --device --passphrase-file pw").fails(7);
    place.volume("snapshot data before").fails(7);
    place.volume("delete data --force").fails(7);
    place.volume("detach data").fails(7);
    assert_eq!(place.note().as_deref(), Some("kept"));
    catalog.insert(Kind::Attachment, "data", &stored.json).unwrap();
    place.detach("data");
    place.mount("data");
    assert_eq!(place.note().as_deref(), Some("kept"));
}
