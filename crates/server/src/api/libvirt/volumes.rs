//! Volumes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strongroom::image_size::SizeChange;
use strongroom::images::Work;
use strongroom::jobs::NewJob;
use strongroom::libvirt::{DiskRequest, Erasure, NewVolume, SecretFate, VolumeEntry, random_uuid};
use strongroom_disk::qcow2::Shrinking;
use strongroom_model::EncryptionRequest;
use strongroom_model::dialect::libvirt::Volume;

use super::super::failure::{Answer, Failure};
use super::super::target::Parameters;
use super::super::writing::warned;
use super::super::{blocking, body_of};
use super::Asked;
use super::answers::{done, failed, json as answer, unread, xml};
use super::work::{COPY, Copy, OVERWRITE, Overwrite};
use crate::access::{Caller, Wish};

/// A new size, as somebody asks for it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resize {
    /// In bytes.
    capacity: u64,
    #[serde(default)]
    shrink: bool,
}

/// Lists the volumes.
pub(super) async fn list(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
) -> Answer<Response> {
    let found =
        blocking(move || asked.libvirt(&caller).volumes(Some(asked.place.pool())).map_err(failed));
    let items: Vec<Value> = found.await?.iter().map(shown).collect();
    Ok(answer(StatusCode::OK, &json!({ "items": items })))
}

/// Makes the volume of a document; with `from`, of another volume, which is a job.
pub(super) async fn create(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Answer<Response> {
    let body = body_of(body).await?;
    let (document, notes) = Volume::read_with_notes(&body).map_err(|error| unread(&error))?;
    let parameters = Parameters::of(query.as_deref());
    let from = parameters.text("from").map(str::to_owned);
    blocking(move || {
        refuse_backing(&asked, &document)?;
        match from {
            None => create_now(&asked, &caller, &document, notes),
            Some(from) => warned(copy(&asked, &caller, &document, from)?, &notes),
        }
    })
    .await
}

fn create_now(
    asked: &Asked,
    caller: &Caller,
    document: &Volume,
    mut notes: Vec<String>,
) -> Answer<Response> {
    let derivation = EncryptionRequest::default();
    let new = NewVolume { document, pool: Some(asked.place.pool()), derivation, job: None };
    let cancelled = Arc::new(AtomicBool::new(false));
    let work = Work { policy: asked.place.policy, observer: &(), cancelled: &cancelled };
    let made = asked.libvirt(caller).create(&new, &work).map_err(failed)?;
    notes.extend(made.notes);
    warned(xml(StatusCode::CREATED, made.document.write()), &notes)
}

fn copy(asked: &Asked, caller: &Caller, document: &Volume, from: String) -> Answer<Response> {
    let libvirt = asked.libvirt(caller);
    // What can be known now is said now.
    libvirt.volume_facts(&asked.place.volume(from.clone())).map_err(failed)?;
    if libvirt.volume_facts(&asked.place.volume(document.name.clone())).is_ok() {
        return Err(Failure::there(format!("there is a volume {:?} already", document.name)));
    }
    let request = Copy { document: document.write(), from, actor: caller.actor() };
    submit(asked, COPY, &document.name, &request)
}

/// Has something done to a volume by a job, and answers with it.
fn submit(asked: &Asked, task: &str, volume: &str, request: &impl Serialize) -> Answer<Response> {
    let job = asked.jobs.submit(NewJob {
        id: format!("libvirt-{}", random_uuid()),
        task: task.to_owned(),
        subject: format!("libvirt/volumes {volume}"),
        request: serde_json::to_value(request).map_err(|_| Failure::internal())?,
        rate_limit: None,
    });
    let job = job.map_err(failed)?;
    Ok(answer(
        StatusCode::ACCEPTED,
        &json!({ "job": job.id, "path": format!("/v1/jobs/{}", job.id) }),
    ))
}

/// Refuses a backing store that is no volume of ours: by its path, any file of the server could be read.
fn refuse_backing(asked: &Asked, document: &Volume) -> Answer<()> {
    let Some(path) = document.backing.as_ref().and_then(|backing| backing.path.as_deref()) else {
        return Ok(());
    };
    let is_inside = std::path::Path::new(path).parent() == Some(asked.place.pool());
    match is_inside {
        true => Ok(()),
        false => Err(Failure::invalid(
            "the backing store of a volume on this server is another volume of it, by the path in its \
             document",
        )),
    }
}

/// Returns the document of a volume.
pub(super) async fn read(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<Response> {
    let found = blocking(move || {
        asked.libvirt(&caller).volume_document(&asked.place.volume(name)).map_err(failed)
    });
    Ok(xml(StatusCode::OK, found.await?.write()))
}

/// Returns the size of a volume.
pub(super) async fn info(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer<Response> {
    let found = blocking(move || {
        asked.libvirt(&caller).volume_facts(&asked.place.volume(name)).map_err(failed)
    });
    let (name, facts) = found.await?;
    let shown = json!({
        "name": name,
        "type": "file",
        "capacityBytes": facts.capacity,
        "allocationBytes": facts.allocation,
        "physicalBytes": facts.physical,
    });
    Ok(answer(StatusCode::OK, &shown))
}

/// Returns the disk of a domain for a volume.
pub(super) async fn disk(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let parameters = Parameters::of(query.as_deref());
    let request = DiskRequest {
        target: parameters.text("target").unwrap_or("vda").to_owned(),
        bus: parameters.text("bus").unwrap_or("virtio").to_owned(),
    };
    let found = blocking(move || {
        let volume = asked.place.volume(name);
        asked.libvirt(&caller).domain_disk(&volume, &request).map_err(failed)
    });
    Ok(xml(StatusCode::OK, found.await?.write()))
}

/// Makes a volume larger, or smaller.
pub(super) async fn resize(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> Answer<Response> {
    let wanted: Resize = serde_json::from_slice(&body_of(body).await?).map_err(|_| {
        Failure::bad_request("a size is asked for by capacity, in bytes, and shrink, true or false")
    })?;
    // By its body alone it is known to destroy, so the gate has let it pass.
    if let Some(why) = Wish::Destroy.denied(&caller).filter(|_| wanted.shrink) {
        return Err(Failure::forbidden(why));
    }
    let shrinking = if wanted.shrink { Shrinking::Allow } else { Shrinking::Refuse };
    let resized = blocking(move || {
        let change = SizeChange::To(wanted.capacity);
        let volume = asked.place.volume(name);
        asked.libvirt(&caller).resize(&volume, change, shrinking).map_err(failed)
    });
    Ok(answer(StatusCode::OK, &json!({ "capacityBytes": resized.await?.to })))
}

/// Destroys the keys of an encrypted volume; or overwrites a raw one with zeros, which is a job.
pub(super) async fn wipe(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let erasure = match Parameters::of(query.as_deref()).text("algorithm") {
        None | Some("keys") => Erasure::Keys,
        Some("zero") => Erasure::Zeros,
        Some(other) => {
            let message = format!("the algorithm {other:?} is not known: keys or zero");
            return Err(Failure::bad_request(message));
        }
    };
    let wiped = blocking(move || {
        let volume = asked.place.volume(name.clone());
        let libvirt = asked.libvirt(&caller);
        if erasure == Erasure::Zeros {
            // What can be known now is said now.
            libvirt.can_wipe(&volume, erasure).map_err(failed)?;
            let request = Overwrite { volume: name.clone(), actor: caller.actor() };
            return submit(&asked, OVERWRITE, &name, &request);
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let work = Work { policy: asked.place.policy, observer: &(), cancelled: &cancelled };
        libvirt.wipe(&volume, erasure, &work).map_err(failed)?;
        Ok(done())
    });
    wiped.await
}

/// Deletes a volume.
pub(super) async fn delete(
    State(asked): State<Arc<Asked>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let fate = match Parameters::of(query.as_deref()).is_true("withSecret") {
        true => SecretFate::Remove,
        false => SecretFate::Keep,
    };
    let deleted = blocking(move || {
        asked.libvirt(&caller).delete(&asked.place.volume(name), fate).map_err(failed)
    });
    let deleted = deleted.await?;
    let shown =
        json!({ "removedSecret": deleted.removed_secret, "keptSecret": deleted.kept_secret });
    Ok(answer(StatusCode::OK, &shown))
}

fn shown(entry: &VolumeEntry) -> Value {
    json!({
        "name": entry.name,
        "format": entry.format.name(),
        "wiped": entry.is_wiped,
        "capacityBytes": entry.facts.map(|facts| facts.capacity),
        "allocationBytes": entry.facts.map(|facts| facts.allocation),
    })
}
