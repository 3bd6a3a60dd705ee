//! Keyslots that come and go with their tokens.

use strongroom_luks::luks2::AddedKeyslot;
use strongroom_luks::{Error, Version};

use crate::device::{passphrase, policy, rng};
use crate::volume::Volume;

fn token(keyslot: u32) -> String {
    format!(r#"{{"type":"x-kms","keyslots":["{keyslot}"],"of":{keyslot}}}"#)
}

fn adding(volume: &Volume, text: &str) -> Result<AddedKeyslot, Error> {
    volume.luks2().add_keyslot_with_token(
        &volume.key(),
        &passphrase(text),
        &volume.keyslot(),
        token,
        &policy(),
        &mut rng(31),
    )
}

fn volume() -> Volume {
    Volume::small(Version::Luks2, 4)
}

#[test]
fn a_keyslot_and_its_token_come_in_one_change_of_the_metadata() {
    let mut volume = volume();
    let before = volume.luks2();
    let added = adding(&volume, "new").unwrap();
    volume.apply(&added.change);
    assert_eq!(volume.luks2(), added.header);
    assert_eq!((added.keyslot, added.token), (1, 0));
    assert_eq!(added.header.binary().seqid, before.binary().seqid + 1);
    assert_eq!(volume.luks2().export_token(0).unwrap(), token(1));
    assert!(volume.opens("new") && volume.opens("old"));
}

#[test]
fn a_text_that_is_no_token_adds_no_keyslot() {
    let volume = volume();
    let refused = volume.luks2().add_keyslot_with_token(
        &volume.key(),
        &passphrase("new"),
        &volume.keyslot(),
        |_| "{}".to_owned(),
        &policy(),
        &mut rng(31),
    );
    assert!(refused.unwrap_err().to_string().contains("type is missing"));
}

#[test]
fn a_key_that_is_not_the_volume_key_gets_no_keyslot() {
    let volume = volume();
    let other = strongroom_crypto::VolumeKey::new(vec![7; volume.key().len()]);
    let refused = volume.luks2().add_keyslot_with_token(
        &other,
        &passphrase("new"),
        &volume.keyslot(),
        token,
        &policy(),
        &mut rng(31),
    );
    assert_eq!(refused.unwrap_err(), Error::WrongVolumeKey);
}

#[test]
fn keyslots_and_tokens_go_in_one_change_and_the_material_with_them() {
    let mut volume = volume();
    let added = adding(&volume, "new").unwrap();
    volume.apply(&added.change);
    let area = added.header.keyslot(1).unwrap().area.range();
    let area = area.start as usize..area.end as usize;
    let material = volume.bytes[area.clone()].to_vec();
    let (header, change) =
        volume.luks2().remove_keyslots_and_tokens(&[1], &[0], &mut rng(5)).unwrap();
    volume.apply(&change);
    assert_eq!(volume.luks2(), header);
    assert!(header.metadata().tokens.is_empty());
    assert!(!volume.opens("new") && volume.opens("old"));
    assert!(volume.bytes[area].chunks(512).zip(material.chunks(512)).all(|(now, was)| now != was));
}

#[test]
fn the_last_keyslot_does_not_go_with_its_token() {
    let volume = volume();
    let (_, header, _) =
        volume.luks2().import_token(None, r#"{"type":"x","keyslots":["0"]}"#).unwrap();
    let refused = header.remove_keyslots_and_tokens(&[0], &[0], &mut rng(5)).unwrap_err();
    assert_eq!(refused, Error::LastKeyslot { id: 0 });
    let alone = header.remove_keyslots_and_tokens(&[], &[0], &mut rng(5)).unwrap().0;
    assert!(alone.metadata().tokens.is_empty() && alone.keyslot(0).is_ok());
}

#[test]
fn what_is_not_there_cannot_be_removed_or_replaced() {
    let header = volume().luks2();
    let mut rng = rng(5);
    let token = header.remove_keyslots_and_tokens(&[], &[3], &mut rng);
    assert!(matches!(token, Err(Error::Token { id: 3, .. })));
    let keyslot = header.remove_keyslots_and_tokens(&[3], &[], &mut rng);
    assert_eq!(keyslot.unwrap_err(), Error::KeyslotUnused { id: 3 });
    let text = r#"{"type":"x","keyslots":[]}"#;
    assert!(matches!(header.replace_token(3, text), Err(Error::Token { id: 3, .. })));
}

#[test]
fn a_replaced_token_keeps_its_number() {
    let mut volume = volume();
    let added = adding(&volume, "new").unwrap();
    volume.apply(&added.change);
    let text = r#"{"type":"x-kms","keyslots":["1"],"of":"another"}"#;
    let (header, change) = volume.luks2().replace_token(0, text).unwrap();
    volume.apply(&change);
    assert_eq!(volume.luks2(), header);
    assert_eq!(header.export_token(0).unwrap(), text);
    assert!(volume.luks2().replace_token(0, "[]").is_err());
    assert!(volume.opens("new"));
}

#[test]
fn erasing_leaves_neither_keyslots_nor_tokens() {
    let mut volume = volume();
    let added = adding(&volume, "new").unwrap();
    volume.apply(&added.change);
    let (header, change) = volume.luks2().erase_with_tokens(&mut rng(6)).unwrap();
    volume.apply(&change);
    assert_eq!(volume.luks2(), header);
    assert!(header.metadata().tokens.is_empty() && header.metadata().keyslots.is_empty());
    assert!(!volume.opens("new") && !volume.opens("old"));
}
