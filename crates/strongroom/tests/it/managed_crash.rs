//! A crash at every write, and at every call of the KMS: something always opens, and the same command
//! goes on from there.

use std::path::Path;
use std::sync::Arc;

use strongroom::managed::{ManagedVolume, NewestKey};
use strongroom::{Opener, Result};
use strongroom_crypto::Passphrase;
use strongroom_disk::Memory;
use strongroom_kms::{Binding, Envelope, KeyProvider};
use strongroom_luks::Version;
use strongroom_testkit::{Fault, FaultyDisk, RecordingDisk, Tearing};

use crate::managed_volume::{
    PERSONS, Place, RecordingKms, Shared, envelopes, header, new_version, on, opens, opens_with,
    passphrase,
};

/// What is done to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Rotate,
    Move,
    Rewrap,
}

const DEEDS: [Deed; 3] = [Deed::Rotate, Deed::Move, Deed::Rewrap];

impl Deed {
    fn of<D: strongroom::device::HeaderDisk>(
        self,
        volume: &ManagedVolume<'_, D>,
        old: &RecordingKms,
        new: &RecordingKms,
    ) -> Result<()> {
        match self {
            Self::Rotate => volume.rotate(old).map(drop),
            Self::Move => volume.move_to(Opener::kms(old), new).map(drop),
            Self::Rewrap => volume.rewrap(old, &NewestKey::ask(old)?).map(drop),
        }
    }
}

fn place(version: Version) -> Place {
    let place = Place::new(version);
    new_version(place.folder.path(), "kek");
    place
}

fn record(path: &Path) -> Option<Envelope> {
    path.exists().then(|| strongroom::envelopes::read_file(path).unwrap())
}

/// Asserts that the deed is done: one data key, one way to open by a KMS, the right one.
fn assert_done(deed: Deed, place: &Place, bytes: &[u8], with_record: bool) {
    let (old, new) = (place.kms("kek"), place.kms("other"));
    let record = if with_record { record(&place.record()) } else { None };
    let (opener, other) = if deed == Deed::Move { (&new, &old) } else { (&old, &new) };
    assert!(opens(bytes, record.as_ref(), &[opener]), "{deed:?}");
    assert!(!opens(bytes, record.as_ref(), &[other]), "{deed:?}");
    let left = header(bytes).unwrap();
    assert_eq!(left.keyslots().len(), 1, "{deed:?}: {:?}", left.keyslots());
    assert!(envelopes(&left).len() <= 1, "{deed:?}");
    let versions: Vec<_> = envelopes(&left).into_iter().map(|(envelope, _)| envelope).collect();
    for envelope in versions.iter().chain(&record) {
        let newest = if deed == Deed::Move { "1" } else { "2" };
        assert_eq!(envelope.wrapped.key_version.as_deref(), Some(newest), "{deed:?}");
    }
    if deed != Deed::Rewrap {
        let key = old.unwrap(&place.envelope, &Binding::image(left.uuid())).unwrap();
        assert!(!opens_with(bytes, key.expose_bytes()), "{deed:?}: the old data key opens");
    }
}

fn again(deed: Deed, place: &Place, left: Memory, with_record: bool) -> Vec<u8> {
    let (old, new) = (place.kms("kek"), place.kms("other"));
    let disk = Shared(Arc::new(RecordingDisk::new(left)));
    let path = place.record();
    let result =
        on(disk.clone(), with_record.then_some(path.as_path()), |v| deed.of(v, &old, &new));
    result.unwrap_or_else(|error| {
        panic!("{deed:?}, again: {error}: {:?}", std::error::Error::source(&error))
    });
    disk.0.replay(disk.0.changes().len()).to_vec()
}

#[test]
fn a_crash_at_any_write_leaves_a_header_that_opens() {
    for deed in DEEDS {
        let place = place(Version::Luks2);
        let (old, new) = (place.kms("kek"), place.kms("other"));
        let disk = place.disk();
        on(disk.clone(), None, |v| deed.of(v, &old, &new)).unwrap();
        let kmses: [&dyn KeyProvider; 2] = [&old, &new];
        let (mut states, mut last) = (0, usize::MAX);
        for (count, left) in disk.0.crashes(Tearing::Sectors) {
            assert!(opens(&left.to_vec(), None, &kmses), "{deed:?} after {count} changes");
            states += 1;
            // What a whole number of writes leaves is gone on with, and some of the torn ones.
            if count != last || states % 97 == 0 {
                assert_done(deed, &place, &again(deed, &place, left, false), false);
            }
            last = count;
        }
        assert!(states > 60, "{deed:?}: {states} states");
    }
}

#[test]
fn revoking_leaves_the_passphrase_at_any_write() {
    let mut place = Place::new(Version::Luks2);
    place.add_passphrase("person", PERSONS);
    let disk = place.disk();
    on(disk.clone(), None, |v| v.revoke(&passphrase("person"))).unwrap();
    let mut states = 0;
    for (count, left) in disk.0.crashes(Tearing::Sectors) {
        assert!(opens_with(&left.to_vec(), b"person"), "after {count} changes");
        states += 1;
    }
    assert!(states > 300, "{states} states");
}

/// Does the deed with a disk or a KMS that fails, and returns what is left, and whether it went well.
fn interrupted(deed: Deed, place: &Place, with_record: bool, fails: Failure) -> (Memory, bool) {
    let memory = Arc::new(Memory::from(&place.bytes[..]));
    let (old, new) = (place.kms("kek"), place.kms("other"));
    let path = place.record();
    let path = with_record.then_some(path.as_path());
    let (disk, old, new) = match fails {
        Failure::Disk(ordinal) => {
            (FaultyDisk::new(Arc::clone(&memory), Fault::NoSpace, ordinal), old, new)
        }
        // The calls of either are counted by themselves: both orders occur.
        Failure::Old(call) => {
            (FaultyDisk::never(Arc::clone(&memory), Fault::NoSpace), old.stopping_at(call), new)
        }
        Failure::New(call) => {
            (FaultyDisk::never(Arc::clone(&memory), Fault::NoSpace), old, new.stopping_at(call))
        }
    };
    let done = on(Shared(Arc::new(disk)), path, |v| deed.of(v, &old, &new)).is_ok();
    (Memory::from(&memory.to_vec()[..]), done)
}

/// What fails, and when.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Disk(u64),
    Old(usize),
    New(usize),
}

#[test]
fn whatever_fails_the_volume_opens_and_the_command_can_be_given_again() {
    for (version, with_record) in
        [(Version::Luks2, false), (Version::Luks2, true), (Version::Luks1, true)]
    {
        for deed in DEEDS {
            let kinds: [fn(usize) -> Failure; 3] =
                [|n| Failure::Disk(n as u64), Failure::Old, Failure::New];
            for kind in kinds {
                let mut failures = 0;
                for number in 0.. {
                    let place = place(version);
                    let failure = kind(number);
                    let (left, done) = interrupted(deed, &place, with_record, failure);
                    let envelope = if with_record { record(&place.record()) } else { None };
                    let kmses: [&dyn KeyProvider; 2] = [&place.kms("kek"), &place.kms("other")];
                    let moment = format!("{version} {deed:?} {failure:?}");
                    assert!(opens(&left.to_vec(), envelope.as_ref(), &kmses), "{moment}");
                    let whole = again(deed, &place, left, with_record);
                    assert_done(deed, &place, &whole, with_record);
                    let files = std::fs::read_dir(place.folder.path()).unwrap().count();
                    assert_eq!(files, 3, "{moment}: files are left");
                    if done {
                        break;
                    }
                    failures += 1;
                }
                let asks_nobody = matches!(kind(0), Failure::New(_)) && deed != Deed::Move
                    || matches!(kind(0), Failure::Disk(_))
                        && deed == Deed::Rewrap
                        && version == Version::Luks1;
                assert_eq!(failures == 0, asks_nobody, "{version} {deed:?} {:?}", kind(0));
            }
        }
    }
}

#[test]
fn no_data_key_is_relied_on_before_the_kms_has_given_it_back() {
    let place = Place::new(Version::Luks2);
    let kms = place.kms("kek").denying("unwrap");
    let disk = place.disk();
    on(disk.clone(), None, |v| v.rotate(&kms)).unwrap_err();
    assert!(disk.0.changes().is_empty());
    let kms = place.kms("kek");
    on(disk.clone(), None, |v| v.rotate(&kms)).unwrap();
    assert_eq!(kms.calls(), ["wrap", "unwrap", "unwrap"]);
    let text = Passphrase::new(b"guess".to_vec());
    assert!(on(disk, None, |v| v.revoke(&text)).is_err());
}
