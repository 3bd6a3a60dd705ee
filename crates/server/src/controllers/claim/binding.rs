//! A claim and its PersistentVolume, each naming the other.

use strongroom_model::dialect::kubernetes::PersistentVolume;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::super::events::Tone;
use super::super::moments::{self, Truth};
use super::super::queue::Next;
use super::super::subject::Subject;
use super::super::turn::{Trouble, Turn, hold};
use super::super::{persistent_volume, provision};
use super::PROVISIONED;
use crate::store::Part;

/// Binds a claim to the PersistentVolume that it names.
pub(super) fn bind_to_existing(turn: &Turn<'_>, name: &str) -> Result<Next, Trouble> {
    let found = turn.read(Resource::PersistentVolume, None, name);
    let object = found.ok_or_else(|| {
        let message = format!("PersistentVolume {name} is not there: it goes on once it is");
        Trouble::waiting("VolumeMissing", message)
    })?;
    let volume = PersistentVolume::try_from(&*object)?;
    let claim = turn.object;
    if !is_free(&object, claim) {
        return Err(taken(name));
    }
    turn.hold()?;
    let store = &turn.context().store;
    let edited =
        store.edit(Resource::PersistentVolume, None, name, Part::Document, &mut |volume| {
            // Another claim may have been quicker.
            if is_free(volume, claim) {
                volume.set(&["spec", "claimRef"], claim_reference(claim));
            }
        })?;
    if !edited.is_some_and(|volume| provision::names(&volume, claim)) {
        return Err(taken(name));
    }
    let subject = Subject::new(Resource::PersistentVolume, None, name);
    hold(store, &subject, object.uid())?;
    persistent_volume::take_over(turn, &object)?;
    bound(turn, name, volume.capacity)?;
    turn.tell(Tone::Normal, "Bound", &format!("bound to PersistentVolume {name}"));
    Ok(Next::Settled)
}

/// Returns whether a PersistentVolume is bound to no other claim than this one, and not on its way out.
fn is_free(volume: &Object, claim: &Object) -> bool {
    let text = |field| volume.text(&["spec", "claimRef", field]);
    match (text("uid"), text("name")) {
        (Some(_), _) => provision::names(volume, claim),
        (None, _) if volume.is_being_deleted() => false,
        (None, Some(name)) => name == claim.name() && text("namespace") == claim.namespace(),
        (None, None) => true,
    }
}

/// Says that a PersistentVolume is somebody else's.
pub(super) fn taken(name: &str) -> Trouble {
    let message = format!(
        "PersistentVolume {name} is bound to another claim: take its spec.claimRef out when that is \
         gone"
    );
    Trouble::waiting("VolumeTaken", message)
}

/// Writes into a claim to which PersistentVolume it is bound.
pub(super) fn bound(turn: &Turn<'_>, name: &str, size: u64) -> Result<(), Trouble> {
    turn.edit(Part::Document, &mut |claim| {
        claim.set(&["spec", "volumeName"], name);
        claim.set(&["metadata", "annotations", "pv.kubernetes.io/bind-completed"], "yes");
    })?;
    let modes = turn.object.at(&["spec", "accessModes"]).cloned().unwrap_or_default();
    turn.set_status(&mut |claim| {
        claim.set(&["status", "phase"], "Bound");
        claim.set(&["status", "accessModes"], modes.clone());
        claim.set(&["status", "capacity", "storage"], quantity(size));
        moments::set_condition(claim, PROVISIONED, Truth::True, "Bound", "");
    })?;
    Ok(())
}

/// Returns how a PersistentVolume names its claim.
pub(in super::super) fn claim_reference(claim: &Object) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": claim.namespace(),
        "name": claim.name(),
        "uid": claim.uid(),
    })
}

/// Returns bytes as Kubernetes writes them, in the largest unit that fits: `10Gi`.
pub(in super::super) fn quantity(bytes: u64) -> String {
    for (unit, name) in [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if bytes > 0 && bytes.trailing_zeros() >= unit {
            return format!("{}{name}", bytes >> unit);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use strongroom_model::dialect::kubernetes::bytes_of_quantity;

    use super::*;

    #[test]
    fn quantities_read_back() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1536, "1536"),
            (2048, "2Ki"),
            (10 << 30, "10Gi"),
            (3 << 40, "3Ti"),
            ((1 << 30) + (2 << 20), "1026Mi"),
        ] {
            assert_eq!(quantity(bytes), text);
            assert_eq!(bytes_of_quantity(text), Ok(bytes));
        }
    }
}
