//! The worker of jobs: does what documents ask for and takes its time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom::ErrorKind;
use strongroom::audit::Audit;
use strongroom::images;
use strongroom::jobs::{Again, Control, Failure, Job, Worker};
use strongroom::library::Library;
use strongroom::volumes::{self, Volumes};
use strongroom_clone::Progress;
use strongroom_crypto::CostPolicy;
use strongroom_model::dialect::object::Object;
use strongroom_pool::CopyProgress;

use super::backing_image::pauses::Pauses;
use super::key_material::KeyMaterial;
use super::queue::Queue;
use super::subject::Subject;
use super::task::{Request, Task};
use super::turn::{ACTOR, Trouble};
use super::wording::told;
use super::{backing_image, provision, snapshot};
use crate::store::Store;

/// The worker of jobs, which is there before they are.
#[derive(Debug)]
pub struct Work {
    pub(super) store: Store,
    pub(super) volumes: Volumes,
    pub(super) library: Library,
    pub(super) keys: KeyMaterial,
    pub(super) pauses: Pauses,
    policy: CostPolicy,
    queue: Arc<Queue>,
}

/// A job that runs: what it works with, and for which document.
pub(super) struct Run<'a> {
    pub(super) work: &'a Work,
    pub(super) subject: &'a Subject,
    pub(super) object: &'a Object,
    pub(super) control: &'a Control,
    progress: Watch<'a>,
}

/// From what the use cases tell to what a job tells.
struct Watch<'a> {
    control: &'a Control,
    done: AtomicU64,
    /// How much it is in all, [`UNKNOWN`] when nobody knows.
    of: AtomicU64,
}

impl Work {
    /// Returns a worker for these documents, volumes and images. `kek_file` has the local KEK.
    pub fn new(
        store: Store,
        volumes: Volumes,
        library: Library,
        audit: Arc<Audit>,
        kek_file: PathBuf,
    ) -> Self {
        let actor = ACTOR.to_owned();
        let keys = KeyMaterial { store: store.clone(), audit, kek_file, actor };
        let policy = CostPolicy::default();
        let pauses = Pauses::default();
        Self { store, volumes, library, keys, pauses, policy, queue: Arc::default() }
    }

    /// Changes what deriving a key may cost.
    #[must_use]
    pub fn with_policy(mut self, policy: CostPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Returns what gives documents their turns: those whose job has changed get one.
    pub(super) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// Returns the document of a job, if it still is the one.
    fn object_of(&self, job: &Job) -> Option<(Subject, Arc<Object>)> {
        let request: Request = serde_json::from_value(job.request.clone()).ok()?;
        let subject = Subject::parse(&job.subject)?;
        let namespace = subject.namespace.as_deref();
        let object = self.store.read(subject.resource, namespace, &subject.name)?;
        (object.uid() == request.uid && !object.is_being_deleted()).then_some((subject, object))
    }
}

impl Worker for Work {
    fn run(&self, job: &Job, control: &Control) -> Result<(), Failure> {
        let Some(task) = Task::of_name(&job.task) else {
            return Err(never(format!("this program knows no {}", job.task)));
        };
        let Some((subject, object)) = self.object_of(job) else {
            return Err(never(format!("{} is gone", job.subject)));
        };
        let run = Run {
            work: self,
            subject: &subject,
            object: &object,
            control,
            progress: Watch { control, done: AtomicU64::new(0), of: AtomicU64::new(UNKNOWN) },
        };
        let done = match task {
            Task::DownloadImage => backing_image::jobs::download(&run),
            Task::CloneImage => backing_image::jobs::clone(&run),
            Task::ExportImage => backing_image::jobs::export(&run),
            Task::ProveKey => backing_image::proof::prove(&run),
            Task::MakeVolume => provision::make_volume(&run),
            Task::MakeSnapshot => snapshot::make_snapshot(&run),
        };
        done.map_err(|trouble| self.failure(trouble))
    }

    fn memory(&self, job: &Job) -> u64 {
        let Some((_, object)) = self.object_of(job) else { return COPY_MEMORY };
        // What is opened was made with what its header says, whatever its Secret says today.
        let of_secret = self.derivation_memory(&object);
        let of_original = provision::original_memory(&self.store, &self.library, &object);
        COPY_MEMORY + of_secret.max(of_original).unwrap_or(0)
    }

    fn changed(&self, job: &Job) {
        if let Some(subject) = Subject::parse(&job.subject) {
            self.queue.add(subject);
        }
    }
}

impl Work {
    fn failure(&self, trouble: Trouble) -> Failure {
        match trouble {
            // Whatever is missing was there when the job was submitted, and may be again.
            Trouble::Waiting(obstacle) => {
                Failure { message: obstacle.message, again: Again::Later }
            }
            Trouble::Failed(error) => {
                let mut message = told(&error, &self.keys.kek_file);
                if is_out_of_reach(&error) {
                    message.push_str(REACH_HINT);
                }
                Failure { message, again: again(&error) }
            }
        }
    }

    /// Returns how many bytes the key derivation of a document's Secret takes.
    fn derivation_memory(&self, object: &Object) -> Option<u64> {
        let secret = match Subject::of(object)?.resource {
            strongroom_model::dialect::resource::Resource::BackingImage => {
                backing_image::jobs::secret_of(object)?
            }
            _ => provision::secret_of(&self.store, object)?,
        };
        self.keys.derivation_memory(&secret)
    }
}

impl Run<'_> {
    /// Calls a use case with what it is told and tells.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&images::Work<'_>) -> strongroom::Result<T>,
    ) -> Result<T, Trouble> {
        let cancelled = &self.control.cancelled;
        let policy = self.work.policy;
        Ok(work(&images::Work { policy, observer: &self.progress, cancelled })?)
    }

    /// Returns the images, for work that is as fast as the job may be.
    pub(super) fn library(&self) -> Library {
        self.work.library.clone().with_rate_limit(self.control.rate_limit)
    }

    /// Returns what copies that are encrypted anew tell, and are told.
    pub(super) fn watch(&self) -> volumes::Watch<'_> {
        volumes::Watch { progress: &self.progress, cancelled: &self.control.cancelled }
    }

    /// Returns what copies of volumes tell.
    pub(super) fn copying(&self) -> &dyn CopyProgress {
        &self.progress
    }
}

impl Progress for Watch<'_> {
    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.tell(done);
    }
}

impl images::Observer for Watch<'_> {
    fn begin(&self, bytes: Option<u64>) {
        self.done.store(0, Ordering::Relaxed);
        self.of.store(bytes.unwrap_or(UNKNOWN), Ordering::Relaxed);
        self.tell(0);
    }

    fn as_progress(&self) -> &dyn Progress {
        self
    }
}

impl CopyProgress for Watch<'_> {
    fn copied(&self, done: u64, of: u64) {
        self.control.progress(done, Some(of));
    }

    fn is_cancelled(&self) -> bool {
        self.control.cancelled.load(Ordering::Relaxed)
    }
}

impl Watch<'_> {
    fn tell(&self, done: u64) {
        let of = self.of.load(Ordering::Relaxed);
        self.control.progress(done, Some(of).filter(|of| *of != UNKNOWN));
    }
}

/// Tells whether something was to be fetched from where this server fetches nothing.
fn is_out_of_reach(error: &crate::Error) -> bool {
    let crate::Error::Strongroom(error) = error else { return false };
    error.of_network().is_some_and(|error| error.is_out_of_reach())
}

/// Tells whether an error may go by.
fn again(error: &crate::Error) -> Again {
    let error = match error {
        crate::Error::KeyUnfit { .. } => return Again::Never,
        crate::Error::Strongroom(error) => error,
        _ => return Again::Later,
    };
    match error.kind() {
        ErrorKind::Busy
        | ErrorKind::Io
        | ErrorKind::Interrupted
        | ErrorKind::KmsDenied
        | ErrorKind::KmsUnavailable
        | ErrorKind::NotFound => Again::Later,
        _ => Again::Never,
    }
}

fn never(message: String) -> Failure {
    Failure { message, again: Again::Never }
}

/// What to do about a source that is out of reach.
const REACH_HINT: &str =
    "; upload the image instead, or start the server with --allow-loopback-downloads";

/// What a copy takes without the derivation of a key, in bytes.
const COPY_MEMORY: u64 = 64 << 20;

/// Stands for a length that nobody knows.
const UNKNOWN: u64 = u64::MAX;
