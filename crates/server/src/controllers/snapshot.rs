//! Snapshots of the volumes of claims.

use strongroom::jobs::JobState;
use strongroom::volumes::{Condition, Snapshot};
use strongroom_model::SnapshotId;
use strongroom_model::dialect::kubernetes::{
    ReclaimPolicy, SecretReference, SnapshotKind, SnapshotSource, VolumeSnapshot,
    VolumeSnapshotClass,
};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::backing_image::jobs::secret_of_volume;
use super::claim::quantity;
use super::events::Tone;
use super::moments;
use super::provision;
use super::queue::Next;
use super::task::{self, Task};
use super::turn::{Obstacle, Trouble, Turn};
use super::work::Run;

/// Makes or deletes a snapshot, and shows how it stands.
pub(super) fn reconcile(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if turn.object.is_being_deleted() {
        return delete(turn);
    }
    let done = VolumeSnapshot::try_from(turn.object)
        .map_err(Trouble::from)
        .and_then(|snapshot| make(turn, &snapshot));
    if let Err(Trouble::Waiting(Obstacle { message, .. })) = &done {
        turn.set_status(&mut |object| {
            let same = object.text(&["status", "error", "message"]) == Some(message);
            object.set(&["status", "readyToUse"], false);
            if !same {
                object.set(&["status", "error", "message"], message.as_str());
                object.set(&["status", "error", "time"], moments::now());
            }
        })?;
    }
    done
}

fn make(turn: &Turn<'_>, snapshot: &VolumeSnapshot) -> Result<Next, Trouble> {
    let volumes = &turn.context().volumes;
    let id = id_of(turn.object)?;
    if let Some(found) = volumes.snapshot_of(&id)?
        && found.condition == Condition::Ready
    {
        return show(turn, &found);
    }
    if let Some(class) = class_of(turn, snapshot)? {
        let what = match class.kind {
            SnapshotKind::Snapshot => None,
            SnapshotKind::BackingImage => {
                Some("bi makes images: apply a BackingImage with sourceType export-from-volume")
            }
            SnapshotKind::Backup => {
                Some("bak makes backups, which are not there yet: use type snap")
            }
        };
        if let Some(message) = what {
            let message = format!("VolumeSnapshotClass {} is of type {message}", class.name);
            return Err(Trouble::waiting("NotSupported", message));
        }
    }
    provision::bound_volume(turn, &snapshot.namespace, claim_of(snapshot)?)?;
    turn.hold()?;
    let job = task::carry_out(turn, Task::MakeSnapshot, "")?;
    match job.state {
        JobState::Done => match volumes.snapshot_of(&id)? {
            Some(found) => show(turn, &found),
            None => {
                task::give_up(turn, Task::MakeSnapshot)?;
                Err(Trouble::waiting("SnapshotGone", "its bytes are gone: it is made anew"))
            }
        },
        JobState::Failed | JobState::Cancelled => {
            Err(Trouble::waiting("SnapshotFailed", task::message(&job)))
        }
        JobState::Pending | JobState::InProgress => {
            turn.set_status(&mut |object| object.set(&["status", "readyToUse"], false))?;
            Ok(Next::Settled)
        }
    }
}

/// Does the job that makes a snapshot.
pub(super) fn make_snapshot(run: &Run<'_>) -> Result<(), Trouble> {
    let snapshot = VolumeSnapshot::try_from(run.object)?;
    let work = run.work;
    let of = provision::bound_volume(&work.store, &snapshot.namespace, claim_of(&snapshot)?)?;
    work.volumes.snapshot(&of, &id_of(run.object)?, run.copying())?;
    Ok(())
}

fn show(turn: &Turn<'_>, found: &Snapshot) -> Result<Next, Trouble> {
    turn.hold()?;
    let is_new = turn.object.at(&["status", "readyToUse"]) != Some(&true.into());
    // The claim may be gone when somebody makes a volume of this.
    let secret = secret_of(turn.object)
        .or_else(|| secret_of_volume(&turn.context().store, found.of.id.as_str()));
    let content = format!("snapcontent-{}", turn.object.uid());
    let policy = match turn.object.at(&["status", POLICY]) {
        Some(_) => None,
        None => {
            let snapshot = VolumeSnapshot::try_from(turn.object)?;
            class_of(turn, &snapshot).ok().flatten().map(|class| class.deletion)
        }
    };
    turn.set_status(&mut |object| {
        if let Some(policy) = policy {
            // The class may be gone when the snapshot is deleted.
            object.set(&["status", POLICY], policy.name());
        }
        object.set(&["status", "boundVolumeSnapshotContentName"], content.as_str());
        object.set(&["status", "readyToUse"], true);
        object.set(&["status", "restoreSize"], quantity(found.of.size));
        object.set(&["status", "creationTime"], moments::of_seconds(found.created));
        object.set(&["status", "encrypted"], found.of.encryption.is_encrypted());
        if let Some(SecretReference { namespace, name }) = &secret {
            object.set(&["status", "secretRef", "namespace"], namespace.as_str());
            object.set(&["status", "secretRef", "name"], name.as_str());
        }
        drop(object.take(&["status", "error"]));
    })?;
    if is_new {
        task::give_up(turn, Task::MakeSnapshot)?;
        let message = format!("snapshot {} of volume {} was made", found.id, found.of.id);
        turn.tell(Tone::Normal, "SnapshotReady", &message);
    }
    Ok(Next::Settled)
}

fn delete(turn: &Turn<'_>) -> Result<Next, Trouble> {
    if !turn.is_held() {
        return Ok(Next::Settled);
    }
    task::give_up(turn, Task::MakeSnapshot)?;
    let id = id_of(turn.object)?;
    if turn.context().volumes.snapshot_of(&id)?.is_some() && is_deleted_with_data(turn)? {
        turn.audit("delete", &format!("snapshot {id}: its data"))?;
        turn.context().volumes.delete_snapshot(&id)?;
    }
    turn.release()?;
    Ok(Next::Settled)
}

/// Returns whether the data goes with the document: as was written down when the snapshot was made, or as its
/// class says, without which it stays as it is.
fn is_deleted_with_data(turn: &Turn<'_>) -> Result<bool, Trouble> {
    if let Some(policy) = turn.object.text(&["status", POLICY]) {
        return Ok(policy == ReclaimPolicy::Delete.name());
    }
    let snapshot = VolumeSnapshot::try_from(turn.object)?;
    let class = class_of(turn, &snapshot)?;
    Ok(class.is_none_or(|class| class.deletion == ReclaimPolicy::Delete))
}

/// Returns the class of a snapshot, `None` when it names none.
fn class_of(
    turn: &Turn<'_>,
    snapshot: &VolumeSnapshot,
) -> Result<Option<VolumeSnapshotClass>, Trouble> {
    let Some(name) = &snapshot.class else { return Ok(None) };
    let found = turn.read(Resource::VolumeSnapshotClass, None, name).ok_or_else(|| {
        let message = format!("VolumeSnapshotClass {name} is not there: it goes on once it is");
        Trouble::waiting("ClassMissing", message)
    })?;
    Ok(Some(VolumeSnapshotClass::try_from(&*found)?))
}

fn claim_of(snapshot: &VolumeSnapshot) -> Result<&str, Trouble> {
    match &snapshot.source {
        SnapshotSource::Claim(name) => Ok(name),
        SnapshotSource::Content(_) => {
            let message = "snapshots are made of claims: name one in \
                           spec.source.persistentVolumeClaimName";
            Err(Trouble::waiting("NotSupported", message))
        }
    }
}

/// Returns the identifier of the snapshot that a document is for.
pub(super) fn id_of(object: &Object) -> Result<SnapshotId, Trouble> {
    format!("snapshot-{}", object.uid())
        .parse()
        .map_err(|error: strongroom_model::Error| Trouble::waiting("Invalid", error.to_string()))
}

/// Returns the Secret that opens what a snapshot has, where it is known.
pub(super) fn secret_of(object: &Object) -> Option<SecretReference> {
    let text = |field| object.text(&["status", "secretRef", field]).map(str::to_owned);
    Some(SecretReference { namespace: text("namespace")?, name: text("name")? })
}

/// Where the status of a snapshot has what becomes of its data when it is deleted.
const POLICY: &str = "deletionPolicy";
