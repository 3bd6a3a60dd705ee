//! What holds for every header that was read, and for every change of one.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use strongroom_luks::luks2::Priority;
use strongroom_luks::{
    Backup, Change, Error, Found, Header, Payload, RepairScope, RestoreCheck, luks1, luks2,
    to_luks1, to_luks2,
};

use crate::Device;

/// Checks the start of a device, whatever it holds: repairs it, reads it, changes it.
///
/// `text` is what labels and tokens are made of.
pub fn check_head(device: &Device, text: &str) {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    check_repair(device, rng);
    let Ok(found) = device.header() else { return };
    let Some(recovery) = found.recovery else {
        check_header(device, &found.header, text, rng);
        return;
    };
    assert!(!recovery.reason().is_empty(), "damage has a reason");
    let (header, change) = found.header.recover(&recovery, rng);
    let mut recovered = device.clone();
    recovered.apply(&change);
    check_written(&recovered, &header);
    check_header(&recovered, &header, text, rng);
}

/// Checks a header, both copies of which are on `device` and whole.
pub fn check_header(device: &Device, header: &Header, text: &str, rng: &mut ChaCha20Rng) {
    check_reading(device, header);
    check_backup(device, header, rng);
    check_wiping(device, header, rng);
    match header {
        Header::Luks1(header) => check_luks1(device, header, rng),
        Header::Luks2(header) => check_luks2(device, header, text, rng),
    }
}

fn check_repair(device: &Device, rng: &mut ChaCha20Rng) {
    let scope = RepairScope::OverwritePrimary;
    let repaired = Header::repair(device.head(), device.len(), scope, rng);
    let Ok(Some((header, change, done))) = repaired else { return };
    assert!(!done.is_empty(), "a repair says what it did");
    let mut changed = device.clone();
    changed.apply(&change);
    check_written(&changed, &header);
    let again = Header::repair(changed.head(), changed.len(), scope, rng);
    assert!(matches!(again, Ok(None)), "a repaired header needs no repair: {again:?}");
}

fn check_reading(device: &Device, header: &Header) {
    for len in [0, 4096, 16 << 20, (20 << 20) + 1, device.len(), u64::MAX, !4095] {
        if let Ok(payload) = header.payload(len) {
            let end = payload.offset.checked_add(payload.length);
            assert!(end.is_some_and(|end| end <= len), "the payload lies on the device");
            assert!(payload.length.is_multiple_of(payload.sector_size.bytes() as u64));
        }
    }
    let keyslots = header.keyslots();
    for keyslot in &keyslots {
        let area = match header.keyslot_area(keyslot.id) {
            Ok(area) => area,
            // Keyslots of other tools hold nothing that a passphrase opens.
            Err(Error::KeyslotType { .. }) => continue,
            Err(error) => panic!("a keyslot that is listed has no area: {error}"),
        };
        assert!(area.start <= area.end && area.end <= device.len(), "it lies on the device");
    }
    if let Ok(order) = header.keyslots_to_try() {
        let known = |id: &u32| keyslots.iter().any(|keyslot| keyslot.id == *id);
        assert!(order.iter().all(known), "only keyslots that exist are tried");
    }
    let _ = header.default_keyslot();
    assert!(header.uuid().len() < 40);
}

/// A backup of a device restores to that device, and to an empty one.
fn check_backup(device: &Device, header: &Header, rng: &mut ChaCha20Rng) {
    let Some(bytes) = device.first(header.backup_len()) else { return };
    let whole = Backup::of_device(header, bytes.clone()).expect("there are enough bytes");
    let Ok(backup) = Backup::read(whole.bytes().to_vec()) else { return };
    assert_eq!(backup.header(), header, "a backup holds the header");
    let current = Found { header: header.clone(), recovery: None };
    let restores = [
        (device.clone(), Some(&current), bytes, RestoreCheck::SameVolume),
        (Device::new(&[], device.len()), None, Vec::new(), RestoreCheck::Overwrite),
    ];
    for (mut target, current, head, check) in restores {
        let Ok(change) = backup.restore(current, &head, check, rng) else { continue };
        target.apply(&change);
        let found = target.header().expect("a restored header is whole");
        assert_eq!(found.recovery, None, "both copies are restored");
        assert_eq!(found.header.uuid(), header.uuid());
        assert_eq!(found.header.keyslots(), header.keyslots());
    }
}

fn check_wiping(device: &Device, header: &Header, rng: &mut ChaCha20Rng) {
    let areas: Vec<(u32, u64)> = match header {
        Header::Luks1(_) => {
            let areas = header.keyslots().into_iter().map(|keyslot| keyslot.id);
            areas
                .filter_map(|id| Some((id, header.keyslot_area(id).ok()?)))
                .map(|(id, area)| (id, area.end - area.start))
                .collect()
        }
        Header::Luks2(header) => header
            .metadata()
            .keyslots
            .iter()
            .map(|(&id, keyslot)| (id, keyslot.area.size))
            .collect(),
    };
    // Wiping larger areas takes time and shows nothing new.
    if areas.iter().map(|(_, len)| len).sum::<u64>() > MAX_WIPED {
        return;
    }
    for &(id, _) in areas.iter().take(2) {
        if let Ok((changed, change)) = header.remove_keyslot(id, rng) {
            assert!(changed.keyslots().iter().all(|keyslot| keyslot.id != id));
            check_change(device, &changed, &change, rng);
        }
    }
    for missing in [8, 32, u32::MAX] {
        assert!(
            header.keyslot_area(missing).is_ok() || header.remove_keyslot(missing, rng).is_err()
        );
    }
    if let Ok((changed, change)) = header.erase(rng) {
        assert!(changed.keyslots().is_empty(), "an erased header has no keyslots");
        check_change(device, &changed, &change, rng);
    }
}

fn check_luks1(device: &Device, header: &luks1::Header, rng: &mut ChaCha20Rng) {
    let again = luks1::Header::parse(&header.to_bytes(), device.len());
    assert_eq!(again.as_ref(), Ok(header), "a header is read as it was written");
    let face = Header::Luks1(header.clone());
    // The LUKS2 keyslots area reaches up to the data.
    if u64::from(header.payload_offset) * 512 > device.len() {
        return;
    }
    let Some(head) = device.first(face.backup_len()) else { return };
    if let Ok((converted, change)) = to_luks2(header, &head, rng) {
        let converted = Header::Luks2(converted);
        check_same_data(device, &face, &converted);
        check_change(device, &converted, &change, rng);
    }
}

fn check_luks2(device: &Device, header: &luks2::Header, text: &str, rng: &mut ChaCha20Rng) {
    let token = format!(r#"{{"type":"strongroom","keyslots":[],"text":{text:?}}}"#);
    let id = header.metadata().keyslots.keys().next().copied().unwrap_or(0);
    let token_id = header.metadata().tokens.keys().next().copied().unwrap_or(0);
    let changed = [
        header.set_labels(Some(text), None),
        header.set_labels(None, Some("subsystem")),
        header.set_priority(id, Priority::Prefer),
        header.set_priority(id, Priority::Ignore),
        header.import_token(None, text).map(without_id),
        header.import_token(Some(rng.next_u32() % 40), &token).map(without_id),
        header.assign_token(token_id, &[id]),
        header.remove_token(token_id),
    ];
    for (changed, change) in changed.into_iter().flatten() {
        assert!(changed.binary().seqid > header.binary().seqid, "a change raises the sequence id");
        check_change(device, &Header::Luks2(changed), &change, rng);
    }
    for (&id, token) in &header.metadata().tokens {
        let exported = header.export_token(id).expect("it exists");
        assert!(exported.starts_with('{'), "token {} is an object", token.kind);
    }
    if let Ok((converted, change)) = to_luks1(header, device.len()) {
        let converted = Header::Luks1(converted);
        check_same_data(device, &Header::Luks2(header.clone()), &converted);
        check_change(device, &converted, &change, rng);
    }
}

fn without_id((_, header, change): (u32, luks2::Header, Change)) -> (luks2::Header, Change) {
    (header, change)
}

/// A conversion leaves the data where it is and as it is.
fn check_same_data(device: &Device, before: &Header, after: &Header) {
    for len in [20 << 20, device.len()] {
        let payload = |header: &Header| -> Result<Payload, Error> { header.payload(len) };
        if let Ok(payload_before) = payload(before) {
            assert_eq!(payload(after), Ok(payload_before), "a conversion keeps the data");
        }
    }
}

/// After a change the header is the new one; cut short anywhere, there still is one.
fn check_change(device: &Device, header: &Header, change: &Change, rng: &mut ChaCha20Rng) {
    let mut changed = device.clone();
    changed.apply(change);
    check_written(&changed, header);
    let steps = rng.next_u32() as usize % (change.steps().len() + 1);
    let torn = rng.next_u32() as usize % 128 * SECTOR;
    let mut interrupted = device.clone();
    interrupted.apply_part(change, steps, torn);
    if let Err(error) = interrupted.header() {
        panic!("no header after step {steps} torn at {torn} of {change:?}: {error}");
    }
}

fn check_written(device: &Device, header: &Header) {
    let found = device.header().expect("a header that was written is read again");
    assert_eq!(&found.header, header, "it is read as it was written");
    assert_eq!(found.recovery, None, "both copies are whole");
}

/// Bytes of key material that are wiped at most.
const MAX_WIPED: u64 = 1 << 20;
/// What a device writes in one piece, in bytes.
const SECTOR: usize = 512;
