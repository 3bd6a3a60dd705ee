//! What becomes of the keys of a volume that a KMS manages.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use strongroom::keys::KeyslotRequest;
use strongroom::managed::{
    Job, KeyslotRole, NewestKey, Proof, Recovered, Revoked, Rewrapped, Work, rewrap_all,
};
use strongroom::{Error, ErrorKind, Opener, Result};
use strongroom_kms::{Binding, Envelope, KeyProvider};
use strongroom_luks::{Header, Version};

use crate::managed_volume::{
    CHEAP, PERSONS, Place, envelopes, header, new_version, on, opens, opens_with, passphrase,
    policy,
};

const BOTH: [Version; 2] = [Version::Luks1, Version::Luks2];

fn data_key(kms: &dyn KeyProvider, bytes: &[u8], envelope: &Envelope) -> Vec<u8> {
    let binding = Binding::image(header(bytes).unwrap().uuid());
    kms.unwrap(envelope, &binding).unwrap().expose_bytes().to_vec()
}

fn record(place: &Place) -> Envelope {
    strongroom::envelopes::read_file(&place.record()).unwrap()
}

#[test]
fn rotation_leaves_one_data_key_which_is_another() {
    for version in BOTH {
        let place = Place::new(version);
        let kms = place.kms("kek");
        let old = data_key(&kms, &place.bytes, &place.envelope);
        let disk = place.disk();
        let rotated = on(disk.clone(), Some(&place.record()), |v| v.rotate(&kms)).unwrap();
        let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
        assert_eq!(
            (rotated.keyslot, &rotated.removed[..], rotated.work),
            (1, &[0][..], Work::Whole)
        );
        assert_eq!(record(&place), rotated.envelope);
        let new = data_key(&kms, &bytes, &rotated.envelope);
        assert!(opens_with(&bytes, &new) && !opens_with(&bytes, &old), "{version}");
        assert!(opens(&bytes, Some(&rotated.envelope), &[&kms]));
        let left = header(&bytes).unwrap().keyslots();
        assert_eq!(left.iter().map(|slot| slot.id).collect::<Vec<_>>(), [1]);
        assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 2, "files are left");
        if version == Version::Luks2 {
            assert_eq!(envelopes(&header(&bytes).unwrap()), [(rotated.envelope, vec![1])]);
        }
    }
}

#[test]
fn a_volume_that_has_moved_opens_with_the_new_kms_alone() {
    for version in BOTH {
        let place = Place::new(version);
        let (old, new) = (place.kms("kek"), place.kms("other"));
        let disk = place.disk();
        let path = place.record();
        let moved = on(disk.clone(), Some(&path), |v| v.move_to(Opener::kms(&old), &new)).unwrap();
        let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
        assert_eq!(moved.work, Work::Whole);
        assert!(opens(&bytes, Some(&record(&place)), &[&new]), "{version}");
        for envelope in [&place.envelope, &moved.envelope] {
            assert!(!opens(&bytes, Some(envelope), &[&old]), "{version}");
        }
        // Given again, it has nothing left to do.
        let before = disk.0.changes().len();
        let again = on(disk.clone(), Some(&path), |v| v.move_to(Opener::kms(&old), &new)).unwrap();
        assert_eq!((again.work, again.envelope), (Work::Finished, moved.envelope));
        assert_eq!(disk.0.changes().len(), before);
    }
}

#[test]
fn a_volume_moves_with_a_recovery_passphrase_when_its_kms_is_lost() {
    let mut place = Place::new(Version::Luks2);
    place.add_passphrase("recovery", PERSONS);
    let new = place.kms("other");
    let disk = place.disk();
    let pass = passphrase("recovery");
    on(disk.clone(), None, |v| v.move_to(Opener::Passphrase(&pass), &new)).unwrap();
    let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
    assert!(opens(&bytes, None, &[&new]) && opens_with(&bytes, b"recovery"));
    assert!(!opens(&bytes, Some(&place.envelope), &[&place.kms("kek")]));
}

#[test]
fn rewrapping_changes_the_envelope_and_neither_data_nor_keyslots() {
    let place = Place::new(Version::Luks2);
    new_version(place.folder.path(), "kek");
    let kms = place.kms("kek");
    let newest = NewestKey::ask(&kms).unwrap();
    let disk = place.disk();
    let path = place.record();
    let done = on(disk.clone(), Some(&path), |v| v.rewrap(&kms, &newest)).unwrap();
    let (from, to) = (Some("1".to_owned()), Some("2".to_owned()));
    assert_eq!(done, Rewrapped::Done { from, to, proof: Proof::Unwrapped });
    let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
    let headers = 32 << 10;
    assert_eq!(bytes[headers..], place.bytes[headers..]);
    let [(envelope, keyslots)] = &envelopes(&header(&bytes).unwrap())[..] else { panic!("one") };
    assert_eq!((envelope, &keyslots[..]), (&record(&place), &[0][..]));
    assert_eq!(
        data_key(&kms, &bytes, envelope),
        data_key(&kms, &place.bytes, &place.envelope),
        "it is the same data key"
    );
    // The KMS is asked for one rewrap, though there are two places.
    assert_eq!(kms.calls()[..3], ["wrap", "rewrap", "unwrap"]);
}

#[test]
fn what_is_at_the_newest_version_costs_neither_a_call_nor_a_write() {
    for version in BOTH {
        let place = Place::new(version);
        let kms = place.kms("kek");
        let newest = NewestKey::ask(&kms).unwrap();
        let disk = place.disk();
        let path = place.record();
        let done = on(disk.clone(), Some(&path), |v| v.rewrap(&kms, &newest)).unwrap();
        assert_eq!(done, Rewrapped::Already { version: Some("1".to_owned()) });
        assert_eq!((kms.calls(), disk.0.changes().len()), (vec!["wrap"], 0));
    }
}

#[test]
fn who_may_only_rewrap_is_believed() {
    let place = Place::new(Version::Luks2);
    new_version(place.folder.path(), "kek");
    let kms = place.kms("kek").denying("unwrap");
    let newest = NewestKey::ask(&kms).unwrap();
    let done = on(place.disk(), None, |v| v.rewrap(&kms, &newest)).unwrap();
    assert!(matches!(done, Rewrapped::Done { proof: Proof::Told, .. }));
    let kms = place.kms("kek").denying("wrap");
    let newest = NewestKey::ask(&kms).unwrap();
    let done = on(place.disk(), None, |v| v.rewrap(&kms, &newest)).unwrap();
    assert!(matches!(done, Rewrapped::Done { proof: Proof::Unwrapped, .. }));
}

#[test]
fn a_recovery_passphrase_comes_marked_and_goes_by_its_mark() {
    let place = Place::new(Version::Luks2);
    let kms = place.kms("kek");
    let disk = place.disk();
    let request = KeyslotRequest { kdf: Some(PERSONS), ..KeyslotRequest::default() };
    let pass = passphrase("recovery");
    let id = on(disk.clone(), None, |v| v.add_recovery(Opener::kms(&kms), &pass, &request));
    assert_eq!(id.unwrap(), 1);
    let shown = on(disk.clone(), None, |v| v.show()).unwrap();
    let roles: Vec<_> = shown.keyslots.iter().map(|slot| slot.role).collect();
    assert_eq!(roles, [KeyslotRole::Managed { token: 0 }, KeyslotRole::Recovery { token: 1 }]);
    // The passphrase itself opens nothing else.
    let refused = on(disk.clone(), None, |v| v.remove_recovery(Opener::Passphrase(&pass), None));
    assert!(matches!(refused.unwrap_err(), Error::NoOtherKey { .. }));
    on(disk.clone(), None, |v| v.remove_recovery(Opener::kms(&kms), Some(0))).unwrap_err();
    on(disk.clone(), None, |v| v.remove_recovery(Opener::kms(&kms), None)).unwrap();
    let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
    assert!(!opens_with(&bytes, b"recovery") && opens(&bytes, None, &[&kms]));
    let shown = on(disk, None, |v| v.show()).unwrap();
    assert_eq!((shown.keyslots.len(), shown.envelopes.len()), (1, 1));
}

#[test]
fn revoking_needs_a_passphrase_that_opens_what_remains() {
    let mut place = Place::new(Version::Luks2);
    let kms = place.kms("kek");
    let refused = on(place.disk(), None, |v| v.revoke(&passphrase("recovery"))).unwrap_err();
    assert!(matches!(refused, Error::NoOtherKey { .. }), "{refused}");
    let own = String::from_utf8(data_key(&kms, &place.bytes, &place.envelope)).unwrap();
    on(place.disk(), None, |v| v.revoke(&passphrase(&own))).unwrap_err();
    place.add_passphrase("recovery", PERSONS);
    let disk = place.disk();
    let revoked = on(disk.clone(), None, |v| v.revoke(&passphrase("recovery"))).unwrap();
    assert_eq!(revoked, Revoked { removed: vec![0], left: Vec::new() });
    let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
    assert!(opens_with(&bytes, b"recovery") && !opens_with(&bytes, own.as_bytes()));
    assert!(envelopes(&header(&bytes).unwrap()).is_empty());
    let again = on(disk, None, |v| v.revoke(&passphrase("recovery"))).unwrap_err();
    assert!(matches!(again, Error::NoEnvelope { .. }));
}

#[test]
fn revoking_leaves_the_keyslots_that_are_not_of_the_kms_alone() {
    let mut place = Place::new(Version::Luks2);
    place.add_passphrase("person", PERSONS);
    place.add_passphrase("marked", CHEAP);
    place.edit(|header| {
        let Header::Luks2(header) = header else { panic!("it is LUKS2") };
        header.assign_token(0, &[0, 1, 2]).unwrap().1
    });
    place.edit(|header| {
        let Header::Luks2(header) = header else { panic!("it is LUKS2") };
        header.import_token(None, r#"{"type":"another","keyslots":["2"]}"#).unwrap().2
    });
    let disk = place.disk();
    let revoked = on(disk.clone(), None, |v| v.revoke(&passphrase("person"))).unwrap();
    assert_eq!(revoked, Revoked { removed: vec![0], left: vec![1, 2] });
    let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
    assert!(opens_with(&bytes, b"person") && opens_with(&bytes, b"marked"));
    assert!(!opens(&bytes, Some(&place.envelope), &[&place.kms("kek")]));
    assert!(envelopes(&header(&bytes).unwrap()).is_empty());
}

#[test]
fn an_envelope_that_is_damaged_hides_no_other() {
    let mut place = Place::new(Version::Luks2);
    place.edit(|header| {
        let Header::Luks2(header) = header else { panic!("it is LUKS2") };
        let text = r#"{"type":"strongroom-kms","keyslots":["0"],"envelope":{"version":1}}"#;
        header.import_token(None, text).unwrap().2
    });
    let shown = on(place.disk(), None, |v| v.show()).unwrap();
    assert_eq!(shown.envelopes.len(), 1);
    let [(1, problem)] = &shown.damaged[..] else { panic!("{:?}", shown.damaged) };
    assert!(problem.to_string().contains("token 1"), "{problem}");
}

#[test]
fn erasing_leaves_nothing_that_opens() {
    for version in BOTH {
        let place = Place::new(version);
        let kms = place.kms("kek");
        let disk = place.disk();
        on(disk.clone(), None, |v| v.erase()).unwrap();
        let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
        assert!(!opens(&bytes, Some(&place.envelope), &[&kms]));
        let left = header(&bytes).unwrap();
        assert!(left.keyslots().is_empty() && envelopes(&left).is_empty());
    }
}

#[test]
fn a_lost_record_comes_back_from_the_header_and_a_lost_token_from_the_record() {
    let mut place = Place::new(Version::Luks2);
    let (kms, path) = (place.kms("kek"), place.record());
    let recover = |place: &Place| on(place.disk(), Some(&path), |v| v.recover(&kms));
    assert_eq!(recover(&place).unwrap(), Recovered::Agree { keyslot: 0 });
    std::fs::remove_file(&path).unwrap();
    assert_eq!(recover(&place).unwrap(), Recovered::Record { keyslot: 0 });
    assert_eq!(record(&place), place.envelope);
    place.edit(|header| {
        let Header::Luks2(header) = header else { panic!("it is LUKS2") };
        header.remove_token(0).unwrap().1
    });
    let disk = place.disk();
    let found = on(disk.clone(), Some(&path), |v| v.recover(&kms)).unwrap();
    assert_eq!(found, Recovered::Token { keyslot: 0, token: 0 });
    let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
    assert!(opens(&bytes, None, &[&kms]));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(recover(&place).unwrap_err(), Error::NoEnvelope { .. }));
}

#[test]
fn a_record_that_another_kms_unwraps_is_kept() {
    let place = Place::new(Version::Luks2);
    let (kms, other) = (place.kms("kek"), place.kms("other"));
    let binding = Binding::image(header(&place.bytes).unwrap().uuid());
    let key = strongroom_kms::new_data_key(&mut strongroom::system_rng());
    let foreign = other.wrap(&key, &binding).unwrap();
    std::fs::write(place.record(), foreign.to_json()).unwrap();
    let refused = on(place.disk(), Some(&place.record()), |v| v.recover(&kms)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    assert_eq!(record(&place), foreign);
    // With its own KMS it opens nothing, so it is of no use to anybody.
    let kept = on(place.disk(), Some(&place.record()), |v| v.recover(&other)).unwrap_err();
    assert!(matches!(kept, Error::Kms(_)), "{kept}");
}

#[test]
fn the_envelope_of_another_volume_opens_nothing() {
    let place = Place::new(Version::Luks1);
    let kms = place.kms("kek");
    let key = kms.unwrap(&place.envelope, &Binding::image(header(&place.bytes).unwrap().uuid()));
    let foreign = kms.wrap(&key.unwrap(), &Binding::image("another")).unwrap();
    std::fs::write(place.record(), foreign.to_json()).unwrap();
    let disk = place.disk();
    let refused = on(disk.clone(), Some(&place.record()), |v| v.rotate(&kms)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Image, "{refused}");
    assert!(disk.0.changes().is_empty());
}

#[test]
fn a_header_without_tokens_needs_a_record() {
    let place = Place::new(Version::Luks1);
    let kms = place.kms("kek");
    let newest = NewestKey::ask(&kms).unwrap();
    for refused in [
        on(place.disk(), None, |v| v.rotate(&kms)).map(drop),
        on(place.disk(), None, |v| v.move_to(Opener::kms(&kms), &kms)).map(drop),
        on(place.disk(), None, |v| v.rewrap(&kms, &newest)).map(drop),
        on(place.disk(), None, |v| v.recover(&kms)).map(drop),
    ] {
        assert!(matches!(refused.unwrap_err(), Error::NoEnvelope { .. }));
    }
    let refused = on(place.disk(), None, |v| v.revoke(&passphrase("x"))).unwrap_err();
    assert!(matches!(refused, Error::NotMarked { .. }));
}

#[test]
fn what_other_tools_did_to_the_keyslots_stays() {
    let mut place = Place::new(Version::Luks2);
    place.add_passphrase("person", PERSONS);
    // A token of ours that names the keyslot of a person, as a mistaken assignment leaves it.
    place.edit(|header| {
        let Header::Luks2(header) = header else { panic!("it is LUKS2") };
        header.assign_token(0, &[0, 1]).unwrap().1
    });
    let kms = place.kms("kek");
    let disk = place.disk();
    let rotated = on(disk.clone(), None, |v| v.rotate(&kms)).unwrap();
    assert_eq!(rotated.removed, [0]);
    let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
    assert!(opens_with(&bytes, b"person") && opens(&bytes, None, &[&kms]));
}

#[test]
fn a_keyslot_that_is_gone_leaves_a_token_that_opens_nothing() {
    let mut place = Place::new(Version::Luks2);
    place.add_passphrase("person", CHEAP);
    place.edit(|header| header.remove_keyslot(0, &mut strongroom::system_rng()).unwrap().1);
    let kms = place.kms("kek");
    let refused = on(place.disk(), None, |v| v.rotate(&kms)).unwrap_err();
    assert!(matches!(refused, Error::DataKey { .. }), "{refused}");
    // Whoever knows the passphrase gives the volume back to the KMS.
    let disk = place.disk();
    let pass = passphrase("person");
    on(disk.clone(), None, |v| v.move_to(Opener::Passphrase(&pass), &kms)).unwrap();
    let bytes = disk.0.replay(disk.0.changes().len()).to_vec();
    assert_eq!(envelopes(&header(&bytes).unwrap()).len(), 1);
    assert!(opens(&bytes, None, &[&kms]) && opens_with(&bytes, b"person"));
}

#[test]
fn a_qcow2_image_keeps_its_keyslots_and_its_record_is_rewrapped() {
    let mut place = Place::new(Version::Luks2);
    place.bytes[..4].copy_from_slice(b"QFI\xfb");
    place.bytes[16 << 10..][..6].fill(0);
    new_version(place.folder.path(), "kek");
    let kms = place.kms("kek");
    let refused = on(place.disk(), Some(&place.record()), |v| v.rotate(&kms)).unwrap_err();
    assert!(matches!(refused, Error::KeyslotsFixed { .. }), "{refused}");
    let newest = NewestKey::ask(&kms).unwrap();
    let done = on(place.disk(), Some(&place.record()), |v| v.rewrap(&kms, &newest)).unwrap();
    assert!(matches!(done, Rewrapped::Done { proof: Proof::Unwrapped, .. }));
    assert_eq!(record(&place).wrapped.key_version.as_deref(), Some("2"));
    let shown = on(place.disk(), Some(&place.record()), |v| v.show()).unwrap();
    assert_eq!((shown.version, shown.record), (None, Some(record(&place))));
}

#[test]
fn many_files_are_worked_on_until_somebody_says_stop() {
    let place = Place::new(Version::Luks1);
    let mut paths = vec![place.folder.path().join("missing.json")];
    for number in 0..20 {
        let path = place.folder.path().join(format!("{number}.json"));
        std::fs::copy(place.record(), &path).unwrap();
        paths.push(path);
    }
    new_version(place.folder.path(), "kek");
    let kms = place.kms("kek");
    let (cancelled, told) = (AtomicBool::new(false), AtomicUsize::new(0));
    let stop = |_: &Path, _: Result<Rewrapped>| {
        // Whoever sees the fifth ends the work, though others may be at one meanwhile.
        if told.fetch_add(1, Ordering::SeqCst) == 4 {
            cancelled.store(true, Ordering::SeqCst);
        }
    };
    let limits = policy();
    let job = |threads, cancelled, observer| Job {
        paths: &paths,
        threads: NonZeroUsize::new(threads).unwrap(),
        policy: &limits,
        observer,
        cancelled,
    };
    let first = rewrap_all(&job(3, &cancelled, &stop), &kms).unwrap();
    assert!((5..8).contains(&(21 - first.left)), "{first:?}");
    assert_eq!((first.failed, first.already), (1, 0));
    let never = AtomicBool::new(false);
    let before = kms.calls().len();
    let second = rewrap_all(&job(3, &never, &|_, _| ()), &kms).unwrap();
    assert_eq!((second.already, second.failed, second.left), (first.done, 1, 0));
    // One to learn the newest version, and two for each that was left.
    assert_eq!(kms.calls().len() - before, 1 + 2 * second.done);
    let silent = place.kms("kek").stopping_at(0);
    let refused = rewrap_all(&job(3, &never, &|_, _| ()), &silent).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KmsUnavailable);
}
