//! What takes long with volumes, as jobs: copies, and overwriting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strongroom::ErrorKind;
use strongroom::images::{self, Observer};
use strongroom::jobs::{Again, Control, Failure, Job, Worker};
use strongroom::libvirt::{Erasure, NewVolume};
use strongroom_clone::Progress;
use strongroom_model::EncryptionRequest;
use strongroom_model::dialect::libvirt::Volume;

use super::Place;
use crate::controllers::chain;

/// The worker of jobs that also copies and overwrites volumes.
pub(crate) struct LibvirtWork {
    /// Does all other jobs.
    others: Arc<dyn Worker>,
    place: Place,
}

/// What a job has to know that copies a volume.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Copy {
    /// The document of the new volume.
    pub(super) document: String,
    /// The name of the other volume.
    pub(super) from: String,
    /// Who has asked for it.
    pub(super) actor: String,
}

/// What a job has to know that overwrites a volume with zeros.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Overwrite {
    /// Its name.
    pub(super) volume: String,
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
        let Copy { document, from, actor } = request(job)?;
        let document =
            Volume::read(document.as_bytes()).map_err(|error| never(error.to_string()))?;
        let new = NewVolume {
            document: &document,
            pool: Some(self.place.pool()),
            derivation: EncryptionRequest::default(),
            job: Some(&job.id),
        };
        let source = self.place.volume(from);
        let libvirt = self.place.libvirt(actor);
        self.watched(control, |work| libvirt.create_from(&new, &source, work).map(drop))
    }

    fn overwrite(&self, job: &Job, control: &Control) -> Result<(), Failure> {
        let Overwrite { volume, actor } = request(job)?;
        let volume = self.place.volume(volume);
        let libvirt = self.place.libvirt(actor);
        self.watched(control, |work| libvirt.wipe(&volume, Erasure::Zeros, work).map(drop))
    }

    /// Does something that tells how far it is.
    fn watched(
        &self,
        control: &Control,
        act: impl FnOnce(&images::Work<'_>) -> strongroom::Result<()>,
    ) -> Result<(), Failure> {
        let watch = Watch { control, done: AtomicU64::new(0), of: AtomicU64::new(UNKNOWN) };
        let work = images::Work {
            policy: self.place.policy,
            observer: &watch,
            cancelled: &control.cancelled,
        };
        act(&work).map_err(|error| {
            let again = match error.kind() {
                ErrorKind::Busy | ErrorKind::Io | ErrorKind::Interrupted => Again::Later,
                _ => Again::Never,
            };
            Failure { message: chain(&crate::Error::Strongroom(error)), again }
        })
    }
}

/// Returns what was submitted.
fn request<T: DeserializeOwned>(job: &Job) -> Result<T, Failure> {
    T::deserialize(&job.request)
        .map_err(|error| never(format!("the job is not what was submitted: {error}")))
}

fn never(message: String) -> Failure {
    Failure { message, again: Again::Never }
}

impl Worker for LibvirtWork {
    fn run(&self, job: &Job, control: &Control) -> Result<(), Failure> {
        match job.task.as_str() {
            COPY => self.copy(job, control),
            OVERWRITE => self.overwrite(job, control),
            _ => self.others.run(job, control),
        }
    }

    fn memory(&self, job: &Job) -> u64 {
        match job.task.as_str() {
            COPY => MEMORY,
            OVERWRITE => OVERWRITE_MEMORY,
            _ => self.others.memory(job),
        }
    }

    fn changed(&self, job: &Job) {
        if !matches!(&*job.task, COPY | OVERWRITE) {
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
pub(super) const COPY: &str = "libvirt-copy";

/// What a job is called that overwrites a volume.
pub(super) const OVERWRITE: &str = "libvirt-overwrite";

/// What a copy takes, with the derivation of a key of LUKS2, in bytes.
const MEMORY: u64 = 64 << 20 | 512 << 20;

/// What overwriting takes, in bytes.
const OVERWRITE_MEMORY: u64 = 16 << 20;

/// Stands for a length that nobody knows.
const UNKNOWN: u64 = u64::MAX;
