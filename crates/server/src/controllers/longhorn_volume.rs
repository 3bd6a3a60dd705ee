//! Longhorn's volumes, applied by hand.

use serde_json::json;
use strongroom::jobs::JobState;
use strongroom::volumes::{Condition, Volume};
use strongroom_model::dialect::longhorn::LonghornVolume;

use super::claimed_volume;
use super::events::Tone;
use super::moments::{self, Truth};
use super::persistent_volume;
use super::provision::{self, Planner};
use super::queue::Next;
use super::task::{self, Task};
use super::turn::{Obstacle, Trouble, Turn};

/// Makes, grows or deletes a volume, and shows how it stands.
pub(super) fn reconcile(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if LonghornVolume::stands_for(turn.object).is_some() {
        return claimed_volume::reconcile(turn);
    }
    if turn.object.is_being_deleted() {
        return delete(turn);
    }
    let done = LonghornVolume::try_from(turn.object)
        .map_err(Trouble::from)
        .and_then(|volume| make(turn, &volume));
    match &done {
        Err(Trouble::Waiting(Obstacle { reason, message })) => turn.set_status(&mut |object| {
            object.set(&["status", "state"], "creating");
            object.set(&["status", "robustness"], "unknown");
            moments::set_condition(object, SCHEDULED, Truth::False, reason, message);
        })?,
        Err(Trouble::Failed(error)) => turn.show_failure(SCHEDULED, error)?,
        Ok(_) => {}
    }
    done
}

fn make(turn: &Turn<'_>, document: &LonghornVolume) -> Result<Next, Trouble> {
    let context = turn.context();
    let id = provision::identifier(&document.name)?;
    let found = provision::of_owner(context.volumes.volume(&id), &document.uid)?;
    if let Some(volume) = found.as_ref().filter(|it| it.condition == Condition::Ready) {
        return show(turn, document, volume.clone());
    }
    let planner = Planner { known: turn, library: &context.library, keys: turn.keys() };
    let plan = planner.of_volume(turn.object, document)?;
    turn.hold()?;
    if plan.is_made_at_once() {
        provision::clear_outdated(&context.volumes, found.as_ref(), &plan.new)?;
        let volume = context.volumes.create(&plan.new, &())?;
        turn.tell(Tone::Normal, "Created", &format!("volume {id} was made"));
        return show(turn, document, volume);
    }
    let job = task::carry_out(turn, Task::MakeVolume, &plan.stamp(turn))?;
    match job.state {
        JobState::Done => show(turn, document, context.volumes.volume(&id)?),
        JobState::Failed | JobState::Cancelled => {
            Err(Trouble::waiting("ProvisioningFailed", task::message(&job)))
        }
        JobState::Pending | JobState::InProgress => {
            let message = format!("{}% {}", job.percent(), task::message(&job));
            turn.set_status(&mut |object| {
                object.set(&["status", "state"], "creating");
                object.set(&["status", "robustness"], "unknown");
                let message = message.trim_end();
                moments::set_condition(object, SCHEDULED, Truth::False, "Provisioning", message);
            })?;
            Ok(Next::Settled)
        }
    }
}

/// Lets a volume grow to the size of its document, and shows how it stands.
fn show(turn: &Turn<'_>, document: &LonghornVolume, mut volume: Volume) -> Result<Next, Trouble> {
    turn.hold()?;
    let volumes = &turn.context().volumes;
    let wanted = provision::rounded(document.size);
    if wanted > volume.size {
        volume = volumes.expand(&volume.id, wanted)?;
        turn.tell(Tone::Normal, "Resized", &format!("it has {wanted} bytes now"));
    }
    let attachment = volumes.attachment(&volume.id)?;
    let (state, robustness) = match attachment {
        Some(_) => ("attached", "healthy"),
        None => ("detached", "unknown"),
    };
    turn.set_status(&mut |object| {
        object.set(&["status", "state"], state);
        object.set(&["status", "robustness"], robustness);
        object.set(&["status", "currentSize"], volume.size.to_string());
        object.set(&["status", "encrypted"], volume.encryption.is_encrypted());
        object.set(
            &["status", "kubernetesStatus"],
            json!({ "pvName": "", "pvStatus": "", "namespace": "", "pvcName": "" }),
        );
        moments::set_condition(object, SCHEDULED, Truth::True, "", "");
    })?;
    // Nobody tells when somebody attaches it.
    Ok(Next::After(BETWEEN_LOOKS))
}

fn delete(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if !turn.is_held() {
        return Ok(Next::Settled);
    }
    task::give_up(turn, Task::MakeVolume)?;
    let id = provision::identifier(turn.object.name())?;
    persistent_volume::delete_data(turn, &id, turn.object.uid())?;
    turn.release()?;
    Ok(Next::Settled)
}

/// The condition that tells whether there is a volume, as Longhorn calls it.
const SCHEDULED: &str = "Scheduled";

/// How often somebody looks whether a volume is attached.
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_secs(20);
