//! Volumes in the middle of a re-encryption, as cryptsetup 2.6.1 describes them: read, shown, and
//! neither opened nor changed.

use strongroom_luks::{Error, FormatOptions, Version};

use crate::device::rng;
use crate::volume::{CHEAP, Volume};

const STATES: [(&str, &str); 3] = [
    ("reencrypt", include_str!("reencryption/reencrypt.json")),
    ("encrypt", include_str!("reencryption/encrypt.json")),
    ("decrypt", include_str!("reencryption/decrypt.json")),
];

fn volume(json: &str) -> Volume {
    let options = FormatOptions { kdf: CHEAP, ..FormatOptions::new(Version::Luks2) };
    let mut volume = Volume::new(&options);
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    volume.put_json(json.to_string().as_bytes());
    volume
}

#[test]
fn every_state_is_parsed_and_refused_for_opening_by_name() {
    for (mode, json) in STATES {
        let header = volume(json).header();
        assert!(header.keyslots().iter().any(|keyslot| keyslot.kind == "reencrypt"), "{mode}");
        assert_eq!(header.payload(1 << 30), Err(Error::Reencryption), "{mode}");
    }
}

#[test]
fn no_state_is_changed() {
    for (_, json) in STATES {
        let volume = volume(json);
        let refused = |error| matches!(error, Error::Requirement { .. });
        assert!(refused(volume.adding("new", &volume.keyslot()).unwrap_err()));
        assert!(refused(volume.header().erase(&mut rng(1)).unwrap_err()));
        assert!(refused(volume.luks2().set_labels(Some("x"), None).unwrap_err()));
        let bytes = volume.bytes[..volume.header().backup_len() as usize].to_vec();
        assert!(refused(strongroom_luks::Backup::read(bytes).unwrap_err()));
    }
}

#[test]
fn the_keyslot_of_the_reencryption_itself_takes_no_passphrase() {
    let header = volume(STATES[0].1).header();
    assert_eq!(header.keyslots_to_try().unwrap(), [0, 1]);
    assert!(matches!(header.keyslot_area(2), Err(Error::KeyslotType { id: 2, .. })));
}
