//! Snapshots, for the controller service.

use std::sync::Arc;

use strongroom::volumes::{Condition, Snapshot};
use strongroom_model::{SnapshotId, VolumeId};
use tonic::{Response, Status};

use crate::capacity::bytes;
use crate::driver::Driver;
use crate::messages::{
    CreateSnapshotRequest, CreateSnapshotResponse, DeleteSnapshotRequest, DeleteSnapshotResponse,
    GetSnapshotRequest, GetSnapshotResponse, ListSnapshotsRequest, ListSnapshotsResponse, Map,
    Snapshot as SnapshotMessage, SnapshotEntry, Timestamp,
};
use crate::pages::Page;
use crate::{requests, status};

/// Makes a snapshot.
pub(crate) async fn create(
    driver: &Arc<Driver>,
    mut request: CreateSnapshotRequest,
) -> Result<Response<CreateSnapshotResponse>, Status> {
    drop(request.take_secrets());
    let id = requests::new_snapshot_id(&request.name)?;
    let of = requests::volume_id(&request.source_volume_id)?;
    let unknown =
        || Status::not_found(format!("there is no volume {:?}", request.source_volume_id));
    let of = of.ok_or_else(unknown)?;
    check_parameters(&request.parameters)?;
    let turns = (
        driver.in_flight.begin(format!("snapshot {id}"))?,
        driver.in_flight.begin(format!("volume {of}"))?,
    );
    let work = move |driver: &Driver| {
        let _turns = turns;
        let snapshot =
            driver.volumes.snapshot(&of, &id, &()).map_err(|error| status::of(&error))?;
        Ok(CreateSnapshotResponse { snapshot: Some(message(&snapshot)) })
    };
    driver.work(work).await
}

/// Deletes a snapshot.
pub(crate) async fn delete(
    driver: &Arc<Driver>,
    mut request: DeleteSnapshotRequest,
) -> Result<Response<DeleteSnapshotResponse>, Status> {
    drop(request.take_secrets());
    let Some(id) = requests::snapshot_id(&request.snapshot_id)? else {
        return Ok(Response::new(DeleteSnapshotResponse {}));
    };
    let turn = driver.in_flight.begin(format!("snapshot {id}"))?;
    let work = move |driver: &Driver| {
        let _turn = turn;
        driver.volumes.delete_snapshot(&id).map_err(|error| status::of(&error))?;
        Ok(DeleteSnapshotResponse {})
    };
    driver.work(work).await
}

/// Lists snapshots: all, those of a volume, or the one that is named.
pub(crate) async fn list(
    driver: &Arc<Driver>,
    mut request: ListSnapshotsRequest,
) -> Result<Response<ListSnapshotsResponse>, Status> {
    drop(request.take_secrets());
    let page = Page::read(request.max_entries, &request.starting_token)?;
    let (of, id) = (request.source_volume_id.clone(), request.snapshot_id.clone());
    let work = move |driver: &Driver| {
        let found = match id.as_str() {
            "" => found(driver, &page, &of)?,
            // One that no snapshot can have is one that is not there.
            id => match id.parse::<SnapshotId>() {
                Ok(id) => {
                    let found = driver.volumes.snapshot_of(&id);
                    let found = found.map_err(|error| status::of(&error))?;
                    found.into_iter().filter(|snapshot| is_of(snapshot, &of)).collect()
                }
                Err(_) => Vec::new(),
            },
        };
        let (snapshots, next_token) = page.cut(found, |snapshot| snapshot.id.to_string());
        let entry = |snapshot: &Snapshot| SnapshotEntry { snapshot: Some(message(snapshot)) };
        Ok(ListSnapshotsResponse { entries: snapshots.iter().map(entry).collect(), next_token })
    };
    driver.work(work).await
}

/// Returns a snapshot.
pub(crate) async fn one(
    driver: &Arc<Driver>,
    mut request: GetSnapshotRequest,
) -> Result<Response<GetSnapshotResponse>, Status> {
    drop(request.take_secrets());
    let unknown = || Status::not_found(format!("there is no snapshot {:?}", request.snapshot_id));
    let id = requests::snapshot_id(&request.snapshot_id)?.ok_or_else(unknown)?;
    let work = move |driver: &Driver| {
        Ok(GetSnapshotResponse { snapshot: Some(message(&load(driver, &id)?)) })
    };
    driver.work(work).await
}

/// Returns a snapshot.
///
/// # Errors
///
/// `NOT_FOUND`.
pub(crate) fn load(driver: &Driver, id: &SnapshotId) -> Result<Snapshot, Status> {
    let found = driver.volumes.snapshot_of(id).map_err(|error| status::of(&error))?;
    found.ok_or_else(|| Status::not_found(format!("there is no snapshot {id}")))
}

/// Returns the snapshots of a page, and one more where there is one.
fn found(driver: &Driver, page: &Page, of: &str) -> Result<Vec<Snapshot>, Status> {
    let mut after: Option<SnapshotId> = page.after_id()?;
    let mut found = Vec::new();
    loop {
        let some = driver.volumes.snapshots(after.as_ref(), page.limit + 1);
        let some = some.map_err(|error| status::of(&error))?;
        let last = some.last().map(|snapshot| snapshot.id.clone());
        let ended = some.len() <= page.limit;
        found.extend(some.into_iter().filter(|snapshot| is_of(snapshot, of)));
        if ended || found.len() > page.limit {
            return Ok(found);
        }
        after = last;
    }
}

fn is_of(snapshot: &Snapshot, of: &str) -> bool {
    of.is_empty() || snapshot.of.id.as_str() == of
}

fn message(snapshot: &Snapshot) -> SnapshotMessage {
    let volume: &VolumeId = &snapshot.of.id;
    SnapshotMessage {
        size_bytes: bytes(snapshot.of.size),
        snapshot_id: snapshot.id.to_string(),
        source_volume_id: volume.to_string(),
        creation_time: Some(Timestamp { seconds: bytes(snapshot.created), nanos: 0 }),
        ready_to_use: snapshot.condition == Condition::Ready,
        group_snapshot_id: String::new(),
    }
}

/// Takes the parameters of a VolumeSnapshotClass: Longhorn's `type: snap`, and what the snapshotter adds.
fn check_parameters(parameters: &Map) -> Result<(), Status> {
    requests::check_map("parameters", parameters)?;
    for (key, value) in parameters {
        match (key.as_str(), value.as_str()) {
            ("type", "snap") => {}
            ("type", _) => {
                return Err(Status::invalid_argument(
                    "type of the snapshot class is not snap: backups and images are made in other ways",
                ));
            }
            (key, _) if key.starts_with("csi.storage.k8s.io/") => {}
            (key, _) => {
                let problem =
                    format!("parameter {key:?} of the snapshot class is unknown: use type");
                return Err(Status::invalid_argument(problem));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_class_asks_for_snapshots() {
        let check = |key: &str, value: &str| {
            check_parameters(&Map::from([(key.to_owned(), value.to_owned())]))
        };
        assert!(check("type", "snap").is_ok());
        assert!(check("csi.storage.k8s.io/volumesnapshot/name", "a").is_ok());
        assert!(check("type", "bak").unwrap_err().message().contains("not snap"));
        assert!(check("typ", "snap").unwrap_err().message().contains("\"typ\""));
    }
}
