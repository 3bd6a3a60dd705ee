//! Jobs: seen, watched, cancelled.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use strongroom::jobs::{Job, JobState};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::failure::{Answer, Failure};
use super::target::Parameters;
use super::watching::stop;
use super::{Api, blocking, json};
use crate::access::Caller;

/// Lists the jobs that a caller may see, or tells of each that is new or changes.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let parameters = Parameters::of(query.as_deref());
    if parameters.is_true("watch") {
        return watch(&api, caller);
    }
    let jobs = blocking(move || all(&api, &caller)).await?;
    let items: Vec<Value> = jobs.iter().map(shown).collect();
    Ok(json(StatusCode::OK, json!({ "items": items }).to_string()))
}

/// Shows a job.
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let job = blocking(move || one(&api, &caller, &id)).await?;
    Ok(json(StatusCode::OK, shown(&job).to_string()))
}

/// Stops a job for good.
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let job = blocking(move || {
        let job = one(&api, &caller, &id)?;
        if job.ended.is_some() {
            return Err(over(&job));
        }
        let detail = format!("{} of {}", job.task, job.subject);
        api.record(&caller, "cancel-job", &format!("jobs {id}"), &detail)?;
        let cancelled = api.context.jobs.cancel(&id).map_err(|_| Failure::internal())?;
        let job = cancelled.unwrap_or(job);
        // It may have ended before it heard of this.
        if job.state == JobState::Cancelled { Ok(job) } else { Err(over(&job)) }
    });
    Ok(json(StatusCode::OK, shown(&job.await?).to_string()))
}

/// Returns why a job cannot be stopped that has ended.
fn over(job: &Job) -> Failure {
    let how = match job.state {
        JobState::Cancelled => "it is cancelled already",
        JobState::Failed => "it has failed",
        _ => "it is done",
    };
    Failure::over(format!("job {:?} cannot be cancelled: {how}", job.id))
}

fn one(api: &Api, caller: &Caller, id: &str) -> Answer<Job> {
    let job = api.context.jobs.job(id).map_err(|_| Failure::internal())?;
    // What somebody may not see is not there.
    job.filter(|job| sees(caller, job)).ok_or_else(|| Failure::nothing(format!("no job {id:?}")))
}

fn all(api: &Api, caller: &Caller) -> Answer<Vec<Job>> {
    let mut jobs = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page =
            api.context.jobs.list(after.as_deref(), PAGE).map_err(|_| Failure::internal())?;
        let Some(last) = page.last() else { return Ok(jobs) };
        after = Some(last.id.clone());
        jobs.extend(page.into_iter().filter(|job| sees(caller, job)));
    }
}

/// Tells whether a job is about something in a namespace of the caller: `backingimages lab/ubuntu`.
fn sees(caller: &Caller, job: &Job) -> bool {
    if caller.reaches_everything() {
        return true;
    }
    let about = job.subject.split_once(' ').and_then(|(_, name)| name.split_once('/'));
    about.is_some_and(|(namespace, _)| caller.reaches(namespace))
}

fn shown(job: &Job) -> Value {
    let mut value = serde_json::to_value(job).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.insert("progress".to_owned(), job.percent().into());
    }
    value
}

fn watch(api: &Arc<Api>, caller: Caller) -> Answer<Response> {
    let permit = Arc::clone(&api.watches).try_acquire_owned().map_err(|_| Failure::too_many())?;
    let api = Arc::clone(api);
    let (lines, stream) = mpsc::channel::<Result<Bytes, Infallible>>(64);
    tokio::spawn(async move {
        let _permit = permit;
        let mut stopping = api.stopping.clone();
        let mut known: BTreeMap<String, Value> = BTreeMap::new();
        loop {
            let (looked, seen) = (Arc::clone(&api), caller.clone());
            let Ok(jobs) = blocking(move || all(&looked, &seen)).await else { return };
            for line in changes(&mut known, &jobs) {
                if lines.send(Ok(format!("{line}\n").into())).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = lines.closed() => return,
                () = stop(&mut stopping) => return,
            }
        }
    });
    Ok(json(StatusCode::OK, Body::from_stream(ReceiverStream::new(stream))))
}

/// Returns what is new since the last look.
fn changes(known: &mut BTreeMap<String, Value>, jobs: &[Job]) -> Vec<Value> {
    let now: BTreeMap<String, Value> =
        jobs.iter().map(|job| (job.id.clone(), shown(job))).collect();
    let mut lines = Vec::new();
    for (id, job) in &now {
        match known.get(id) {
            None => lines.push(json!({ "type": "ADDED", "object": job })),
            Some(before) if before != job => {
                lines.push(json!({ "type": "MODIFIED", "object": job }));
            }
            Some(_) => {}
        }
    }
    for (id, job) in known.iter() {
        if !now.contains_key(id) {
            lines.push(json!({ "type": "DELETED", "object": job }));
        }
    }
    *known = now;
    lines
}

/// How often jobs are looked at for those who watch them.
const EVERY: Duration = Duration::from_millis(500);

/// Jobs that are read at once.
const PAGE: usize = 1000;
