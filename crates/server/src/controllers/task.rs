//! What is done by jobs: each for one document, which says what to do when the job runs.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use strongroom::jobs::{Job, JobState, NewJob};
use strongroom_model::dialect::kubernetes::bytes_of_quantity;
use strongroom_model::dialect::object::Object;

use super::turn::{Trouble, Turn};

/// A sort of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    /// Fetch what an image has at its URL.
    DownloadImage,
    /// Make an image of another one.
    CloneImage,
    /// Make an image of a volume.
    ExportImage,
    /// See that what comes encrypted from elsewhere is opened by the Secret that its document names.
    ProveKey,
    /// Make a volume of an image, of a snapshot or of another volume.
    MakeVolume,
    /// Make a snapshot of a volume.
    MakeSnapshot,
}

/// What a job remembers. What else it needs it reads from the document: no secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The UID of the document.
    pub(crate) uid: String,
    /// What a failure may be due to: another one is a reason to try again.
    pub(crate) stamp: String,
}

impl Task {
    const ALL: [Self; 6] = [
        Self::DownloadImage,
        Self::CloneImage,
        Self::ExportImage,
        Self::ProveKey,
        Self::MakeVolume,
        Self::MakeSnapshot,
    ];

    /// Returns its name in jobs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DownloadImage => "download-image",
            Self::CloneImage => "clone-image",
            Self::ExportImage => "export-image",
            Self::ProveKey => "prove-key",
            Self::MakeVolume => "make-volume",
            Self::MakeSnapshot => "make-snapshot",
        }
    }

    /// Returns the one of that name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.name() == name)
    }

    fn job_id(self, uid: &str) -> String {
        format!("{uid}-{}", self.name())
    }
}

/// Returns the job that does a task for the document of a turn: the one that is there, or a new one. One
/// that has failed or was cancelled is followed by another when its stamp, or the annotation
/// `strongroom.io/retry` of the document, has changed since.
pub(super) fn carry_out(turn: &Turn<'_>, task: Task, stamp: &str) -> Result<Job, Trouble> {
    let jobs = &turn.context().jobs;
    let retry = turn.object.annotation(RETRY).unwrap_or_default();
    let request = Request { uid: turn.object.uid().to_owned(), stamp: format!("{stamp} {retry}") };
    let id = task.job_id(turn.object.uid());
    if let Some(job) = jobs.job(&id)? {
        let is_over = matches!(job.state, JobState::Failed | JobState::Cancelled);
        let earlier = serde_json::from_value::<Request>(job.request.clone()).ok();
        if !is_over || earlier.as_ref() == Some(&request) {
            return Ok(job);
        }
        jobs.forget(&id)?;
    }
    let request = serde_json::to_value(&request).unwrap_or_default();
    Ok(jobs.submit(NewJob {
        id,
        task: task.name().to_owned(),
        subject: turn.subject.to_string(),
        request,
        rate_limit: rate_limit(turn.object),
    })?)
}

/// Stops a task for the document of a turn for good, and forgets it.
pub(super) fn give_up(turn: &Turn<'_>, task: Task) -> Result<(), Trouble> {
    let id = task.job_id(turn.object.uid());
    if turn.context().jobs.cancel(&id)?.is_some() {
        turn.context().jobs.forget(&id)?;
    }
    Ok(())
}

/// Returns how a job stands, in words for people: what went wrong last, if anything did.
pub(super) fn message(job: &Job) -> String {
    match (job.state, &job.message) {
        (JobState::Cancelled, _) => {
            format!("somebody cancelled it: annotate it with {RETRY} to begin again")
        }
        (JobState::Pending, Some(message)) => {
            format!("it is tried again soon, after attempt {}: {message}", job.attempts)
        }
        (_, Some(message)) => message.clone(),
        (_, None) => String::new(),
    }
}

fn rate_limit(object: &Object) -> Option<NonZeroU64> {
    // One that nobody understands limits nothing; admission has warned of it.
    object
        .annotation(RATE_LIMIT)
        .and_then(|text| bytes_of_quantity(text).ok())
        .and_then(NonZeroU64::new)
}

/// Any change of this annotation has a failed job tried again.
pub(super) const RETRY: &str = "strongroom.io/retry";

/// The most bytes to copy in a second, as a quantity: `50Mi`.
const RATE_LIMIT: &str = "strongroom.io/rate-limit";
