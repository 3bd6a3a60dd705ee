//! Virtual machines: nothing but how many of their volumes are encrypted.

use strongroom_model::dialect::kubevirt::{EncryptionSummary, VirtualMachine};
use strongroom_model::dialect::resource::Resource;

use super::queue::Next;
use super::turn::{Trouble, Turn};
use crate::store::Part;

/// Writes down how many of the volumes of a machine are encrypted.
pub(super) fn reconcile(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if turn.object.is_being_deleted() {
        return Ok(Next::Settled);
    }
    let machine = VirtualMachine::try_from(turn.object)?;
    let summary = machine.encryption(|claim| is_encrypted(turn, &machine.namespace, claim));
    let word = match summary {
        EncryptionSummary::All => "all",
        EncryptionSummary::Some => "some",
        EncryptionSummary::None => "none",
    };
    if turn.object.annotation(ENCRYPTION) != Some(word) {
        turn.edit(Part::Document, &mut |object| {
            object.set(&["metadata", "annotations", ENCRYPTION], word);
        })?;
    }
    Ok(Next::Settled)
}

fn is_encrypted(turn: &Turn<'_>, namespace: &str, claim: &str) -> bool {
    let found = turn.read(Resource::PersistentVolumeClaim, Some(namespace), claim);
    let volume = found.and_then(|claim| {
        let name = claim.text(&["spec", "volumeName"])?;
        turn.read(Resource::PersistentVolume, None, name)
    });
    volume.is_some_and(|volume| {
        volume.text(&["spec", "csi", "volumeAttributes", "encrypted"]) == Some("true")
    })
}

/// How many of the volumes are encrypted: `all`, `some` or `none`.
const ENCRYPTION: &str = "strongroom.io/encryption";
