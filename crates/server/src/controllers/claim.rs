//! Claims: a volume is made for each, and bound to it; it grows with the claim, and goes with it.
//!
//! A class that waits for the first consumer has its volumes made at once all the same: there is one machine,
//! and nothing to choose.

mod binding;
mod image;

pub(super) use binding::{claim_reference, quantity};

use strongroom::jobs::JobState;
use strongroom::volumes::{Condition, Volume};
use strongroom_model::dialect::kubernetes::{
    Claim, Expansion, PersistentVolume, ReclaimPolicy, bytes_of_quantity,
};
use strongroom_model::dialect::resource::Resource;

use super::events::Tone;
use super::moments::{self, Truth};
use super::persistent_volume;
use super::provision::{self, Planner};
use super::queue::Next;
use super::task::{self, Task};
use super::turn::{Obstacle, Trouble, Turn};

/// Makes, binds, grows or deletes the volume of a claim.
pub(super) fn reconcile(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if turn.object.is_being_deleted() {
        return delete(turn);
    }
    let done = Claim::try_from(turn.object).map_err(Trouble::from).and_then(|claim| {
        match provision::is_bound(turn.object) && claim.volume_name.is_some() {
            true => maintain(turn, &claim),
            false => make(turn, &claim),
        }
    });
    match &done {
        Err(Trouble::Waiting(obstacle)) => show_obstacle(turn, obstacle)?,
        Err(Trouble::Failed(error)) => turn.show_failure(PROVISIONED, error)?,
        Ok(_) => {}
    }
    done
}

/// Makes the volume of a claim, or does what is left of that.
fn make(turn: &Turn<'_>, claim: &Claim) -> Result<Next, Trouble> {
    let own_name = claim.provisioned_name();
    if let Some(name) = claim.volume_name.as_deref().filter(|name| *name != own_name) {
        return binding::bind_to_existing(turn, name);
    }
    let id = provision::identifier(&own_name)?;
    let found = provision::of_owner(turn.context().volumes.volume(&id), &claim.uid)?;
    if let Some(volume) = found.as_ref().filter(|it| it.condition == Condition::Ready) {
        return bind(turn, claim, volume);
    }
    let context = turn.context();
    let planner = Planner { known: turn, library: &context.library, keys: turn.keys() };
    let class = planner.class_of(claim)?;
    image::make(turn, claim, &class)?;
    let plan = planner.of_claim(turn.object, claim, &class)?;
    turn.hold()?;
    if plan.is_made_at_once() {
        provision::clear_outdated(&context.volumes, found.as_ref(), &plan.new)?;
        let volume = context.volumes.create(&plan.new, &())?;
        return bind(turn, claim, &volume);
    }
    let job = task::carry_out(turn, Task::MakeVolume, &plan.stamp(turn))?;
    match job.state {
        JobState::Done => {
            let volume = context.volumes.volume(&id)?;
            bind(turn, claim, &volume)
        }
        JobState::Failed | JobState::Cancelled => {
            Err(Trouble::waiting("ProvisioningFailed", task::message(&job)))
        }
        JobState::Pending | JobState::InProgress => {
            let message = format!("{}% {}", job.percent(), task::message(&job));
            if job.percent() == 0 {
                turn.tell(Tone::Normal, "Provisioning", &format!("volume {id} is being made"));
            }
            turn.set_status(&mut |object| {
                object.set(&["status", "phase"], "Pending");
                let message = message.trim_end();
                moments::set_condition(object, PROVISIONED, Truth::False, "Provisioning", message);
            })?;
            Ok(Next::Settled)
        }
    }
}

/// Writes down that a claim has its volume.
fn bind(turn: &Turn<'_>, claim: &Claim, volume: &Volume) -> Result<Next, Trouble> {
    let name = volume.id.as_str();
    if let Some(found) = turn.read(Resource::PersistentVolume, None, name) {
        if !provision::names(&found, turn.object) {
            return Err(binding::taken(name));
        }
    } else {
        let context = turn.context();
        let planner = Planner { known: turn, library: &context.library, keys: turn.keys() };
        let class = planner.class_of(claim)?;
        let document = persistent_volume::document(turn.object, claim, &class, volume)?;
        // Where somebody else was quicker, the next turn looks whose it is.
        context.store.create(document)?;
    }
    turn.hold()?;
    binding::bound(turn, name, volume.size)?;
    let message = format!("volume {name} was made and bound: {}", encrypted(volume));
    turn.tell(Tone::Normal, "Bound", &message);
    Ok(Next::Settled)
}

/// Lets the volume of a bound claim grow with it.
fn maintain(turn: &Turn<'_>, claim: &Claim) -> Result<Next, Trouble> {
    turn.hold()?;
    let name = claim.volume_name.as_deref().unwrap_or_default();
    let lost = |problem: &str| -> Result<Next, Trouble> {
        turn.set_status(&mut |object| object.set(&["status", "phase"], "Lost"))?;
        Err(Trouble::waiting("ClaimLost", format!("PersistentVolume {name} {problem}")))
    };
    let Some(object) = turn.read(Resource::PersistentVolume, None, name) else {
        return lost("is gone, to which it was bound");
    };
    if !provision::names(&object, turn.object) {
        return lost("is not bound to it, whatever the claim says");
    }
    let has = turn.object.text(&["status", "capacity", "storage"]);
    let has = has.and_then(|text| bytes_of_quantity(text).ok()).unwrap_or(0);
    if has >= claim.size {
        return Ok(Next::Settled);
    }
    let volume = PersistentVolume::try_from(&*object)?;
    let context = turn.context();
    let planner = Planner { known: turn, library: &context.library, keys: turn.keys() };
    let class = planner.class_of(claim)?;
    if class.expansion == Expansion::Refused {
        let message = format!(
            "StorageClass {} does not let claims grow: set allowVolumeExpansion: true there",
            class.name
        );
        return Err(Trouble::waiting("ExpansionRefused", message));
    }
    let id = provision::identifier(&volume.volume)?;
    let grown = context.volumes.expand(&id, provision::rounded(claim.size))?;
    if context.volumes.attachment(&id)?.is_some() {
        // Without a key: the kernel has it. Where that cannot be done it grows with the next attach.
        if let Err(error) = context.volumes.grow(&id) {
            let message = format!("it grows when it is attached next: {error}");
            turn.tell(Tone::Warning, "FileSystemResizePending", &message);
        }
    }
    persistent_volume::set_capacity(&context.store, name, grown.size)?;
    binding::bound(turn, name, grown.size)?;
    let message = format!("volume {name} has {} now", quantity(grown.size));
    turn.tell(Tone::Normal, "Resized", &message);
    Ok(Next::Settled)
}

/// Deletes what was made for a claim, as its PersistentVolume says.
fn delete(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if !turn.is_held() {
        return Ok(Next::Settled);
    }
    task::give_up(turn, Task::MakeVolume)?;
    let store = &turn.context().store;
    let uid = turn.object.uid();
    let own_name = format!("pvc-{uid}");
    let name = turn.object.text(&["spec", "volumeName"]).unwrap_or(&own_name);
    let found = turn.read(Resource::PersistentVolume, None, name);
    let bound = found.filter(|found| found.text(&["spec", "claimRef", "uid"]) == Some(uid));
    let Some(object) = bound else {
        // It was never bound: whatever was made is of nobody else.
        let id = provision::identifier(&own_name)?;
        // Where somebody has given it away, it goes with that document, if at all.
        if persistent_volume::others_of(turn, &id).is_empty() {
            persistent_volume::delete_data(turn, &id, uid)?;
        }
        turn.release()?;
        return Ok(Next::Settled);
    };
    if object.text(&["status", "phase"]) == Some(persistent_volume::FAILED) {
        // Its data stays, and tells why.
        turn.release()?;
        return Ok(Next::Settled);
    }
    persistent_volume::set_phase(store, object.name(), "Released")?;
    match PersistentVolume::try_from(&*object)?.reclaim {
        ReclaimPolicy::Retain => {
            turn.release()?;
            Ok(Next::Settled)
        }
        ReclaimPolicy::Delete => {
            if !object.is_being_deleted() {
                let deleted =
                    store.delete(Resource::PersistentVolume, None, name, Some(object.uid()));
                match deleted {
                    Ok(_) | Err(crate::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Its end is the next turn of the claim.
            match turn.read(Resource::PersistentVolume, None, name) {
                Some(_) => Ok(Next::Settled),
                None => {
                    turn.release()?;
                    Ok(Next::Settled)
                }
            }
        }
    }
}

fn show_obstacle(turn: &Turn<'_>, obstacle: &Obstacle) -> Result<(), Trouble> {
    turn.set_status(&mut |object| {
        if !provision::is_bound(object) && object.text(&["status", "phase"]) != Some("Lost") {
            object.set(&["status", "phase"], "Pending");
        }
        let Obstacle { reason, message } = obstacle;
        moments::set_condition(object, PROVISIONED, Truth::False, reason, message);
    })?;
    Ok(())
}

fn encrypted(volume: &Volume) -> &'static str {
    match volume.encryption.is_encrypted() {
        true => "it is encrypted",
        false => "it is not encrypted",
    }
}

/// The condition that tells why a claim has no volume yet.
const PROVISIONED: &str = "Provisioned";
