//! One test per rule of LUKS2: a valid header with one thing wrong, in both copies.

mod binary;
mod config;
mod digests;
mod document;
mod keyslots;
mod segments;
mod tokens;

use serde_json::Value;
use strongroom_luks::{Error, Version};

use crate::volume::Volume;

/// A volume with one keyslot and room for two.
fn volume() -> Volume {
    Volume::small(Version::Luks2, 2)
}

/// Asserts that a header with edited metadata is refused for the reason that is expected.
#[track_caller]
fn refuses(reason: &str, edit: impl FnOnce(&mut Value)) {
    let mut volume = volume();
    volume.edit(edit);
    refused(&volume, reason);
}

/// Asserts that a header with edited metadata is read, and that its passphrase opens it.
#[track_caller]
fn accepts(edit: impl FnOnce(&mut Value)) -> Volume {
    let mut volume = volume();
    volume.edit(edit);
    assert_eq!(volume.found().unwrap().recovery, None);
    assert!(volume.opens("old"));
    volume
}

#[track_caller]
fn refused(volume: &Volume, reason: &str) {
    let Err(Error::BothCopiesDamaged { primary, secondary }) = volume.found() else {
        panic!("expected both copies to be refused, not {:?}", volume.found());
    };
    assert!(primary.to_string().contains(reason), "{primary}");
    assert!(secondary.to_string().contains(reason), "{secondary}");
}

/// Removes a member of an object.
fn drop_member(object: &mut Value, member: &str) {
    object.as_object_mut().unwrap().shift_remove(member).unwrap();
}

/// Copies keyslot 0 to keyslot `id` with the area behind it, bound to digest 0.
fn add_keyslot(json: &mut Value, id: u32) {
    use crate::volume::{AREA, HEADERS};
    let mut keyslot = json["keyslots"]["0"].clone();
    keyslot["area"]["offset"] = Value::String((HEADERS + AREA).to_string());
    json["keyslots"][id.to_string()] = keyslot;
    json["digests"]["0"]["keyslots"].as_array_mut().unwrap().push(Value::String(id.to_string()));
}
