//! Volumes without tokens: what a move or rotation that nobody finished has left, and whose keyslots
//! nothing marks.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use strongroom::managed::Work;
use strongroom::{Error, ErrorKind, Opener};
use strongroom_kms::{Binding, KeyProvider};
use strongroom_luks::Version;
use strongroom_testkit::RecordingDisk;

use crate::managed_races::{Deed, SlowDisk};
use crate::managed_volume::{
    CHEAP, PERSONS, Place, Shared, header, on, opens, opens_with, passphrase,
};

/// What becomes of a volume that moves to `to`, and stops once the new keyslot is there.
fn abandoned(place: &Place, to: &str) -> Shared<RecordingDisk> {
    let disk = place.disk();
    let (path, record) = (place.record(), std::fs::read(place.record()).unwrap());
    let damage = || std::fs::write(&path, "it is not there just now").unwrap();
    let slow = SlowDisk::new(disk.clone(), 0, Deed::new(damage));
    let moved =
        on(slow, Some(&path), |v| v.move_to(Opener::kms(&place.kms("kek")), &place.kms(to)));
    moved.unwrap_err();
    std::fs::write(&path, record).unwrap();
    assert_eq!(keyslots(&bytes(&disk)), [0, 1]);
    disk
}

fn bytes(disk: &Shared<RecordingDisk>) -> Vec<u8> {
    disk.0.replay(disk.0.changes().len()).to_vec()
}

fn keyslots(bytes: &[u8]) -> Vec<u32> {
    header(bytes).unwrap().keyslots().iter().map(|slot| slot.id).collect()
}

fn note(place: &Place) -> std::path::PathBuf {
    place.folder.path().join(".record.json.rotation")
}

fn record_opens(place: &Place, bytes: &[u8], kms: &dyn KeyProvider) -> bool {
    let record = strongroom::envelopes::read_file(&place.record()).unwrap();
    opens(bytes, Some(&record), &[kms])
}

#[test]
fn a_move_with_a_passphrase_takes_the_keyslot_of_the_kms_that_it_leaves() {
    let mut place = Place::new(Version::Luks1);
    place.add_passphrase("person", PERSONS);
    let (old, new, path) = (place.kms("kek"), place.kms("other"), place.record());
    let disk = place.disk();
    let person = passphrase("person");
    let moved = on(disk.clone(), Some(&path), |v| v.move_to(Opener::Passphrase(&person), &new));
    assert_eq!(moved.unwrap().removed, [0]);
    let left = bytes(&disk);
    assert!(!opens(&left, Some(&place.envelope), &[&old]));
    assert!(record_opens(&place, &left, &new) && opens_with(&left, b"person"));
    // The data key itself is no passphrase that stays.
    let disk = place.disk();
    std::fs::write(&path, place.envelope.to_json()).unwrap();
    let binding = Binding::image(header(&place.bytes).unwrap().uuid());
    let key = old.unwrap(&place.envelope, &binding).unwrap();
    let own = passphrase(std::str::from_utf8(key.expose_bytes()).unwrap());
    on(disk.clone(), Some(&path), |v| v.move_to(Opener::Passphrase(&own), &new)).unwrap();
    assert!(!opens(&bytes(&disk), Some(&place.envelope), &[&old]));
}

#[test]
fn a_passphrase_that_is_derived_cheaply_stays_when_it_opens() {
    let mut place = Place::new(Version::Luks1);
    place.add_passphrase("person", CHEAP);
    let (disk, person) = (place.disk(), passphrase("person"));
    let moved = on(disk.clone(), Some(&place.record()), |v| {
        v.move_to(Opener::Passphrase(&person), &place.kms("other"))
    });
    assert_eq!(moved.unwrap().removed, [0]);
    assert!(opens_with(&bytes(&disk), b"person"));
}

#[test]
fn a_move_that_cannot_tell_the_keyslot_of_the_old_kms_changes_nothing() {
    let mut place = Place::new(Version::Luks1);
    place.add_passphrase("person", PERSONS);
    let move_it = |place: &Place, path: &Path| {
        let (disk, person) = (place.disk(), passphrase("person"));
        let refused = on(disk.clone(), Some(path), |v| {
            v.move_to(Opener::Passphrase(&person), &place.kms("other"))
        });
        assert!(disk.0.changes().is_empty());
        refused.unwrap_err()
    };
    let elsewhere = place.folder.path().join("new.json");
    let refused = move_it(&place, &elsewhere);
    assert!(matches!(&refused, Error::KeyslotsUnclear { keyslots, .. } if keyslots == "0"));
    place.add_passphrase("another", CHEAP);
    let refused = move_it(&place, &place.record());
    assert!(matches!(&refused, Error::KeyslotsUnclear { keyslots, .. } if keyslots == "0, 2"));
}

#[test]
fn a_rotation_goes_on_when_the_kms_of_an_abandoned_move_is_gone() {
    let place = Place::new(Version::Luks1);
    let disk = abandoned(&place, "other");
    std::fs::remove_file(place.folder.path().join("other")).unwrap();
    let kms = place.kms("kek");
    let rotated = on(disk.clone(), Some(&place.record()), |v| v.rotate(&kms)).unwrap();
    assert_eq!(rotated.work, Work::Whole);
    let left = bytes(&disk);
    assert_eq!(keyslots(&left).len(), 1);
    assert!(record_opens(&place, &left, &kms) && !note(&place).exists());
}

#[test]
fn a_move_elsewhere_takes_what_an_abandoned_one_has_left() {
    let mut place = Place::new(Version::Luks1);
    let disk = abandoned(&place, "other");
    place.bytes = bytes(&disk);
    place.add_passphrase("person", PERSONS);
    let kept = std::fs::read(note(&place)).unwrap();
    let (kms, third, person) = (place.kms("kek"), place.kms("third"), passphrase("person"));
    for opener in [Opener::kms(&kms), Opener::Passphrase(&person)] {
        std::fs::write(note(&place), &kept).unwrap();
        std::fs::write(place.record(), place.envelope.to_json()).unwrap();
        let disk = place.disk();
        on(disk.clone(), Some(&place.record()), |v| v.move_to(opener, &third)).unwrap();
        let left = bytes(&disk);
        assert_eq!(keyslots(&left).len(), 2);
        assert!(record_opens(&place, &left, &third) && opens_with(&left, b"person"));
        assert!(!opens(&left, Some(&place.envelope), &[&kms]) && !note(&place).exists());
    }
}

#[test]
fn an_abandoned_move_is_gone_on_with_when_it_is_given_again() {
    let place = Place::new(Version::Luks1);
    let disk = abandoned(&place, "other");
    let (old, new) = (place.kms("kek"), place.kms("other"));
    let moved = on(disk.clone(), Some(&place.record()), |v| v.move_to(Opener::kms(&old), &new));
    let moved = moved.unwrap();
    assert_eq!((moved.work, &moved.removed[..]), (Work::Finished, &[0][..]));
    assert!(record_opens(&place, &bytes(&disk), &new) && !note(&place).exists());
}

#[test]
fn a_keyslot_that_somebody_has_filled_since_is_not_taken_for_what_it_was() {
    let mut place = Place::new(Version::Luks1);
    let disk = abandoned(&place, "other");
    place.bytes = bytes(&disk);
    place.edit(|header| header.remove_keyslot(1, &mut strongroom::system_rng()).unwrap().1);
    place.add_passphrase("person", CHEAP);
    let disk = place.disk();
    on(disk.clone(), Some(&place.record()), |v| v.rotate(&place.kms("kek"))).unwrap();
    assert!(opens_with(&bytes(&disk), b"person"));
}

#[test]
fn a_record_that_cannot_be_replaced_is_refused_before_the_first_write() {
    let place = Place::new(Version::Luks1);
    let elsewhere = place.folder.path().join("elsewhere.json");
    std::fs::rename(place.record(), &elsewhere).unwrap();
    symlink(&elsewhere, place.record()).unwrap();
    let disk = place.disk();
    on(disk.clone(), Some(&place.record()), |v| v.rotate(&place.kms("kek"))).unwrap_err();
    assert!(disk.0.changes().is_empty() && !note(&place).exists());
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 3, "files are left");
}

#[test]
fn a_note_that_is_none_is_named_and_not_waited_for() {
    let place = Place::new(Version::Luks1);
    let start = Instant::now();
    let rotate = || {
        let disk = place.disk();
        let refused = on(disk.clone(), Some(&place.record()), |v| v.rotate(&place.kms("kek")));
        assert!(disk.0.changes().is_empty());
        let refused = refused.unwrap_err();
        let text = format!("{refused}");
        assert!(text.contains(".record.json.rotation"), "{text}");
        std::fs::remove_file(note(&place)).unwrap();
        refused.kind()
    };
    let fifo = rustix::fs::mknodat(
        rustix::fs::CWD,
        note(&place),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    );
    fifo.unwrap();
    rotate();
    symlink("/dev/zero", note(&place)).unwrap();
    rotate();
    std::fs::write(note(&place), "{").unwrap();
    assert_eq!(rotate(), ErrorKind::Io);
    let future = place.envelope.to_json().replacen("\"version\":1", "\"version\":9", 1);
    let slot = r#"{"keyslot":1,"salt":"00"}"#;
    std::fs::write(note(&place), format!(r#"{{"old":[],"new":{slot},"to":{future}}}"#)).unwrap();
    assert_eq!(rotate(), ErrorKind::Image);
    assert!(start.elapsed() < Duration::from_secs(20));
}
