//! Events: what has happened to a document, for people. They are told as often as they happen and written
//! down once, with a count; old ones go.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use strongroom::hexadecimal;
use strongroom_model::dialect::admission::Known;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::moments;
use crate::store::{Part, Store};

/// Whether somebody should worry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Tone {
    /// It is as it should be.
    Normal,
    /// It is not.
    Warning,
}

/// Writes events down. Whoever tells it of one does not wait: it is done by a thread of its own, and what
/// comes faster than it can be written is left out, for nothing depends on an event.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    told: HashMap<Told, Times>,
    is_closed: bool,
}

/// What makes two events the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Told {
    resource: Resource,
    namespace: Option<String>,
    name: String,
    uid: String,
    tone: Tone,
    reason: &'static str,
    message: String,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    count: u64,
    first: SystemTime,
    last: SystemTime,
}

impl Recorder {
    /// Tells that something has happened to a document. No secret is in the message.
    pub(crate) fn record(&self, object: &Object, tone: Tone, reason: &'static str, message: &str) {
        let Some(told) = Told::of(object, tone, reason, message) else { return };
        let now = SystemTime::now();
        let mut state = self.lock();
        if let Some(times) = state.told.get_mut(&told) {
            times.count += 1;
            times.last = now;
        } else if state.told.len() < MOST_TOLD {
            state.told.insert(told, Times { count: 1, first: now, last: now });
        }
    }

    /// Writes down what is told until somebody closes this, then the rest.
    pub(crate) fn run(&self, store: &Store) {
        let mut swept: Option<Instant> = None;
        let mut unswept = 0;
        loop {
            let state = self.lock();
            let waited = self.changed.wait_timeout_while(state, BETWEEN, |state| !state.is_closed);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let (told, is_closed) = (std::mem::take(&mut state.told), state.is_closed);
            drop(state);
            unswept += told.len();
            for (told, times) in told {
                // Nothing depends on it, and there is nobody to tell.
                let _ = write(store, &told, times);
            }
            if is_closed {
                return;
            }
            if unswept >= MOST_KEPT / 4
                || swept.is_none_or(|swept| swept.elapsed() >= BETWEEN_SWEEPS)
            {
                sweep(store, SystemTime::now());
                swept = Some(Instant::now());
                unswept = 0;
            }
        }
    }

    /// Ends [`run`](Self::run).
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No method can stop half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes an event down at once, for somebody who has no turn. Nothing depends on it.
pub(super) fn record_now(
    store: &Store,
    object: &Object,
    tone: Tone,
    reason: &'static str,
    message: &str,
) {
    let Some(told) = Told::of(object, tone, reason, message) else { return };
    let now = SystemTime::now();
    let _ = write(store, &told, Times { count: 1, first: now, last: now });
}

impl Told {
    /// Returns what is told of a document, `None` when it is none that is known.
    fn of(object: &Object, tone: Tone, reason: &'static str, message: &str) -> Option<Self> {
        Some(Self {
            resource: object.resource()?,
            namespace: object.namespace().map(str::to_owned),
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            tone,
            reason,
            message: shortened(message),
        })
    }
}

/// Writes an event down, or adds to the count of the one that is there.
fn write(store: &Store, told: &Told, times: Times) -> crate::Result<()> {
    let namespace = told.namespace.as_deref().unwrap_or(OF_CLUSTER_SCOPE);
    let name = name_of(told);
    let last = moments::text(times.last);
    let counted =
        store.edit(Resource::Event, Some(namespace), &name, Part::Document, &mut |event| {
            let count = event.at(&["count"]).and_then(serde_json::Value::as_u64).unwrap_or(0);
            event.set(&["count"], count.saturating_add(times.count));
            event.set(&["lastTimestamp"], last.as_str());
        })?;
    if counted.is_some() {
        return Ok(());
    }
    let mut event = Object::new(Resource::Event, Some(namespace), &name);
    let mut involved = Object::new(told.resource, told.namespace.as_deref(), &told.name);
    let metadata = involved.take(&["metadata"]);
    involved.set(&["name"], told.name.as_str());
    if let Some(namespace) = metadata.as_ref().and_then(|metadata| metadata.get("namespace")) {
        involved.set(&["namespace"], namespace.clone());
    }
    involved.set(&["uid"], told.uid.as_str());
    event.set(&["involvedObject"], involved.into_value());
    event.set(&["reason"], told.reason);
    event.set(&["message"], told.message.as_str());
    event.set(&["type"], told.tone.name());
    event.set(&["count"], times.count);
    event.set(&["firstTimestamp"], moments::text(times.first));
    event.set(&["lastTimestamp"], last);
    event.set(&["source", "component"], COMPONENT);
    event.set(&["reportingComponent"], COMPONENT);
    store.create(event).map(drop)
}

/// Takes out events that are too old or too many.
fn sweep(store: &Store, now: SystemTime) {
    let mut events = store.objects(Resource::Event, None);
    let last = |event: &Object| event.text(&["lastTimestamp"]).unwrap_or_default().to_owned();
    // Times in this form sort as text.
    events.sort_by_cached_key(|event| std::cmp::Reverse(last(event)));
    let oldest = moments::text(now.checked_sub(KEPT_FOR).unwrap_or(SystemTime::UNIX_EPOCH));
    for (number, event) in events.iter().enumerate() {
        if number >= MOST_KEPT || last(event) < oldest {
            let _ = store.delete(Resource::Event, event.namespace(), event.name(), None);
        }
    }
}

/// Returns the name under which an event is written down: the same for the same.
fn name_of(told: &Told) -> String {
    let mut digest = Sha256::new();
    let of_document = [told.resource.kind(), told.uid.as_str()];
    for part in of_document.into_iter().chain([told.tone.name(), told.reason, &told.message]) {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let digest = hexadecimal(&digest.finalize()[..8]);
    let name: String = told.name.chars().take(LONGEST_NAME).collect();
    format!("{}.{digest}", name.trim_end_matches(['.', '-']))
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}

impl Tone {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Who tells of events, as Kubernetes calls it.
const COMPONENT: &str = "strongroom";

/// Where events of documents without a namespace stand, as in Kubernetes.
const OF_CLUSTER_SCOPE: &str = "default";

/// How long what is told is gathered.
const BETWEEN: Duration = Duration::from_millis(500);

/// How often old events are looked for.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(60);

/// How many events are told in [`BETWEEN`] at most; the rest of them is left out.
const MOST_TOLD: usize = 250;

/// How many events are kept.
const MOST_KEPT: usize = 1_000;

/// How long an event is kept after it has happened last.
const KEPT_FOR: Duration = Duration::from_secs(60 * 60);

/// The most letters of a document's name in that of an event: with a hash it is still a name.
const LONGEST_NAME: usize = 200;

/// The most letters of a message, as in Kubernetes.
const LONGEST_MESSAGE: usize = 1023;

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, secret};
    use super::*;

    #[test]
    fn what_happens_often_is_written_down_once_and_goes_when_it_is_old() {
        let stage = Stage::new();
        let object = stage.apply(secret("key", "canary"));
        let store = &stage.context().store;
        for times in [3, 1] {
            let recorder = Recorder::default();
            for _ in 0..times {
                recorder.record(&object, Tone::Warning, "Tried", "it was tried");
            }
            recorder.close();
            recorder.run(store);
        }
        let events = store.list(Resource::Event, None).0;
        let [event] = events.as_slice() else { panic!("{} events", events.len()) };
        assert_eq!(event.at(&["count"]).unwrap(), 4);
        assert_eq!(event.text(&["involvedObject", "uid"]), Some(object.uid()));
        assert_eq!((event.namespace(), event.text(&["type"])), (Some("lab"), Some("Warning")));
        sweep(store, SystemTime::now() + KEPT_FOR / 2);
        assert_eq!(store.list(Resource::Event, None).0.len(), 1);
        sweep(store, SystemTime::now() + KEPT_FOR * 2);
        assert!(store.list(Resource::Event, None).0.is_empty());
    }
}
