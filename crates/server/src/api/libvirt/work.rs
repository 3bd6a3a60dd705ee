//! Copies of volumes, as jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use strongroom::ErrorKind;
use strongroom::images::{self, Observer};
use strongroom::jobs::{Again, Control, Failure, Job, Worker};
use strongroom::libvirt::NewVolume;
use strongroom_clone::Progress;
use strongroom_model::EncryptionRequest;
use strongroom_model::dialect::libvirt::Volume;

use super::Place;
use crate::controllers::chain;

/// The worker of jobs that also copies volumes.
pub(crate) struct LibvirtWork {
    /// Does all other jobs.
    others: Arc<dyn Worker>,
    place: Place,
}

/// What a job has to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The document of the new volume.
    pub(super) document: String,
    /// The name of the other volume.
    pub(super) from: String,
    /// Who has asked for it.
    pub(super) actor: String,
}

/// From what a copy tells to what a job tells.
struct Watch<'a> {
    control: &'a Control,
    done: AtomicU64,
    of: AtomicU64,
}

impl LibvirtWork {
    /// Returns a worker that leaves all other jobs to `others`.
    pub(crate) fn beside(others: Arc<dyn Worker>, place: Place) -> Self {
        Self { others, place }
    }

    fn copy(&self, job: &Job, control: &Control) -> Result<(), Failure> {
        let never = |message: String| Failure { message, again: Again::Never };
        let request: Request = serde_json::from_value(job.request.clone())
            .map_err(|error| never(format!("the job is not what was submitted: {error}")))?;
        let document =
            Volume::read(request.document.as_bytes()).map_err(|error| never(error.to_string()))?;
        let watch = Watch { control, done: AtomicU64::new(0), of: AtomicU64::new(UNKNOWN) };
        let work = images::Work {
            policy: self.place.policy,
            observer: &watch,
            cancelled: &control.cancelled,
        };
        let new = NewVolume {
            document: &document,
            pool: Some(self.place.pool()),
            derivation: EncryptionRequest::default(),
            job: Some(&job.id),
        };
        let libvirt = self.place.libvirt(request.actor);
        let source = self.place.volume(request.from);
        libvirt.create_from(&new, &source, &work).map(|_| ()).map_err(|error| {
            let again = match error.kind() {
                ErrorKind::Busy | ErrorKind::Io | ErrorKind::Interrupted => Again::Later,
                _ => Again::Never,
            };
            Failure { message: chain(&crate::Error::Strongroom(error)), again }
        })
    }
}

impl Worker for LibvirtWork {
    fn run(&self, job: &Job, control: &Control) -> Result<(), Failure> {
        match job.task.as_str() {
            TASK => self.copy(job, control),
            _ => self.others.run(job, control),
        }
    }

    fn memory(&self, job: &Job) -> u64 {
        match job.task.as_str() {
            TASK => MEMORY,
            _ => self.others.memory(job),
        }
    }

    fn changed(&self, job: &Job) {
        if job.task != TASK {
            self.others.changed(job);
        }
    }
}

impl Progress for Watch<'_> {
    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of = self.of.load(Ordering::Relaxed);
        self.control.progress(done, Some(of).filter(|of| *of != UNKNOWN));
    }
}

impl Observer for Watch<'_> {
    fn begin(&self, bytes: Option<u64>) {
        self.done.store(0, Ordering::Relaxed);
        self.of.store(bytes.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    fn as_progress(&self) -> &dyn Progress {
        self
    }
}

/// What a job is called that copies a volume.
pub(super) const TASK: &str = "libvirt-copy";

/// What a copy takes, with the derivation of a key of LUKS2, in bytes.
const MEMORY: u64 = 64 << 20 | 512 << 20;

/// Stands for a length that nobody knows.
const UNKNOWN: u64 = u64::MAX;
