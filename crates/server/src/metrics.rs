//! Numbers for Prometheus. Names of volumes are in them, and of nothing else.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::Value;
use strongroom::jobs::JobState;
use strongroom_model::dialect::admission::Known;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use crate::Context;

/// Whether somebody may see how volumes are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// He may.
    Shown,
    /// They are in namespaces that are none of his business.
    Hidden,
}

/// What is counted.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    times: Mutex<[u64; TIMES.len() + 1]>,
    time: Mutex<Duration>,
}

impl Metrics {
    /// Counts a request that was answered.
    pub(crate) fn answered(&self, method: &Method, code: StatusCode, took: Duration) {
        // Whoever makes methods up shall not fill the memory.
        let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let method = if known.contains(method) { method.as_str() } else { "other" };
        let key = (method.to_owned(), code.as_u16());
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        let seconds = took.as_secs_f64();
        let bucket = TIMES.iter().position(|most| seconds <= *most).unwrap_or(TIMES.len());
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = times.get_mut(bucket) {
            *count += 1;
        }
        *self.time.lock().unwrap_or_else(PoisonError::into_inner) += took;
    }

    /// Returns everything that is known, in the text format of Prometheus.
    pub(crate) fn text(&self, context: &Context, names: Names) -> String {
        let mut text = Text(String::new());
        self.requests_to(&mut text);
        volumes_to(&mut text, context, names);
        documents_to(&mut text, context);
        jobs_to(&mut text, context);
        text.head(
            "strongroom_store_version",
            "gauge",
            "Version of the newest change of a document.",
        );
        text.line("strongroom_store_version", &[], context.store.version());
        text.0
    }

    fn requests_to(&self, text: &mut Text) {
        let name = "strongroom_http_requests_total";
        text.head(name, "counter", "Requests that were answered.");
        for ((method, code), count) in
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            text.line(name, &[("method", method), ("code", &code.to_string())], *count);
        }
        let name = "strongroom_http_request_seconds";
        text.head(name, "histogram", "How long answers took.");
        let times = *self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (most, in_it) in TIMES.iter().zip(times) {
            count += in_it;
            text.line(&format!("{name}_bucket"), &[("le", &most.to_string())], count);
        }
        count += times[TIMES.len()];
        text.line(&format!("{name}_bucket"), &[("le", "+Inf")], count);
        let sum = self.time.lock().unwrap_or_else(PoisonError::into_inner).as_secs_f64();
        text.line(&format!("{name}_sum"), &[], sum);
        text.line(&format!("{name}_count"), &[], count);
    }
}

fn volumes_to(text: &mut Text, context: &Context, names: Names) {
    let mut volumes = Vec::new();
    while let Ok(page) = context.volumes.list(volumes.last().map(|(id, _)| id), PAGE) {
        if page.is_empty() {
            break;
        }
        volumes.extend(page.into_iter().map(|volume| {
            let encrypted = volume.encryption.is_encrypted();
            (volume.id, encrypted)
        }));
    }
    let name = "strongroom_volumes";
    text.head(name, "gauge", "Volumes in the pool.");
    for (word, wanted) in [("true", true), ("false", false)] {
        let count = volumes.iter().filter(|(_, encrypted)| *encrypted == wanted).count();
        text.line(name, &[("encrypted", word)], count);
    }
    if names == Names::Hidden {
        return;
    }
    let name = "strongroom_volume_encrypted";
    text.head(name, "gauge", "1 when the volume is encrypted.");
    for (id, encrypted) in &volumes {
        text.line(name, &[("volume", id.as_str())], u8::from(*encrypted));
    }
    let name = "longhorn_volume_encrypted";
    text.head(name, "gauge", "1 when the volume is encrypted, as Longhorn tells it.");
    for (volume, told) in as_longhorn_tells(context) {
        let labels = match &told.claim {
            Some((namespace, claim)) => {
                vec![("volume", volume.as_str()), ("pvc_namespace", namespace), ("pvc", claim)]
            }
            None => vec![("volume", volume.as_str())],
        };
        text.line(name, &labels, u8::from(told.encrypted));
    }
}

/// What Longhorn tells of a volume.
struct Told {
    encrypted: bool,
    /// The namespace and name of the claim that has it.
    claim: Option<(String, String)>,
}

/// Returns the volumes that documents tell of, each once: those of claims, and those that were applied by hand.
fn as_longhorn_tells(context: &Context) -> BTreeMap<String, Told> {
    let mut volumes = BTreeMap::new();
    for volume in context.store.objects(Resource::LonghornVolume, None) {
        let encrypted = volume.at(&["spec", "encrypted"]) == Some(&Value::Bool(true));
        volumes.insert(volume.name().to_owned(), Told { encrypted, claim: None });
    }
    for volume in context.store.objects(Resource::PersistentVolume, None) {
        let Some(handle) = volume.text(&["spec", "csi", "volumeHandle"]) else { continue };
        let claim = |field| volume.text(&["spec", "claimRef", field]).map(str::to_owned);
        // What is in the pool is asked how it is, whatever a document says of it.
        let found = handle.parse().ok().and_then(|id| context.volumes.volume(&id).ok());
        let known = volumes.get(handle).is_some_and(|told: &Told| told.encrypted);
        let encrypted = found.map_or(known, |volume| volume.encryption.is_encrypted());
        let claim = claim("namespace").zip(claim("name"));
        volumes.insert(handle.to_owned(), Told { encrypted, claim });
    }
    volumes
}

fn documents_to(text: &mut Text, context: &Context) {
    let name = "strongroom_documents";
    text.head(name, "gauge", "Documents that are kept.");
    for resource in Resource::ALL {
        let count = context.store.objects(resource, None).len();
        text.line(name, &[("kind", resource.kind()), ("group", resource.group())], count);
    }
    let name = "strongroom_documents_set_aside";
    text.head(name, "gauge", "Documents in the catalog that could not be read at the start.");
    text.line(name, &[], context.store.set_aside().len());
    let name = "strongroom_images";
    text.head(name, "gauge", "Images by state.");
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    for image in context.store.objects(Resource::BackingImage, None) {
        *states.entry(state(&image)).or_default() += 1;
    }
    for (state, count) in states {
        text.line(name, &[("state", &state)], count);
    }
}

fn state(image: &Object) -> String {
    let files = || image.at(&["status", "diskFileStatusMap"]).and_then(Value::as_object);
    let first = || files()?.values().next()?.get("state")?.as_str();
    image.text(&["status", "state"]).or_else(first).unwrap_or("pending").to_owned()
}

fn jobs_to(text: &mut Text, context: &Context) {
    let mut counts = [0_u64; STATES.len()];
    let mut after: Option<String> = None;
    while let Ok(page) = context.jobs.list(after.as_deref(), PAGE) {
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        for job in &page {
            let of = STATES.iter().zip(&mut counts).find(|((state, _), _)| *state == job.state);
            if let Some((_, count)) = of {
                *count += 1;
            }
        }
    }
    let name = "strongroom_jobs";
    text.head(name, "gauge", "Jobs by state.");
    for ((_, word), count) in STATES.iter().zip(counts) {
        text.line(name, &[("state", word)], count);
    }
}

/// Text in the format of Prometheus.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (number, (label, text)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }
}

/// The states of jobs, and their words.
const STATES: [(JobState, &str); 5] = [
    (JobState::Pending, "pending"),
    (JobState::InProgress, "in-progress"),
    (JobState::Done, "done"),
    (JobState::Failed, "failed"),
    (JobState::Cancelled, "cancelled"),
];

/// The bounds of the buckets for times, in seconds.
const TIMES: [f64; 8] = [0.001, 0.005, 0.02, 0.05, 0.2, 1.0, 5.0, 30.0];

/// Records that are read at once.
const PAGE: usize = 1000;
