//! What the catalog knows of a job.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::{Kind, Record};

/// A job that somebody wants done.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Its identifier, by which a second submission of the same is known.
    pub id: String,
    /// What is to be done, as the worker calls it: `clone-image`.
    pub task: String,
    /// What it is about, for people: `backingimages lab/ubuntu`.
    pub subject: String,
    /// What else the worker needs to know. No secret is in it.
    pub request: Value,
    /// The most bytes of data to copy in a second.
    pub rate_limit: Option<NonZeroU64>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its identifier.
    pub id: String,
    /// What is to be done, as the worker calls it.
    pub task: String,
    /// What it is about, for people.
    pub subject: String,
    /// What else the worker needs to know.
    pub request: Value,
    /// The most bytes of data to copy in a second.
    pub rate_limit: Option<NonZeroU64>,
    /// How it stands.
    pub state: JobState,
    /// How often it was begun: once, and once more after each failure. What was interrupted by the end of
    /// the process and is taken up again is the same attempt.
    pub attempts: u32,
    /// How many bytes are done.
    pub done: u64,
    /// Of how many, where that is known.
    pub of: Option<u64>,
    /// What went wrong last.
    pub message: Option<String>,
    /// When it was submitted, in seconds since 1970.
    pub created: u64,
    /// When it was begun last.
    pub started: Option<u64>,
    /// When it ended.
    pub ended: Option<u64>,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// It waits for room, or after a failure until it is tried again.
    Pending,
    /// Somebody is at work on it, or was when the process ended.
    InProgress,
    /// It is done.
    Done,
    /// It has failed for good.
    Failed,
    /// Somebody has cancelled it.
    Cancelled,
}

impl NewJob {
    /// Returns the job as it is when it is submitted.
    pub(super) fn submitted(self, now: u64) -> Job {
        Job {
            id: self.id,
            task: self.task,
            subject: self.subject,
            request: self.request,
            rate_limit: self.rate_limit,
            state: JobState::Pending,
            attempts: 0,
            done: 0,
            of: None,
            message: None,
            created: now,
            started: None,
            ended: None,
        }
    }
}

impl JobState {
    /// Returns whether nothing happens any more.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

impl Job {
    /// Returns how much of it is done, from 0 to 100; 100 only when it has ended well.
    pub fn percent(&self) -> u8 {
        let part = match (self.state, self.of) {
            (JobState::Done, _) => return 100,
            (_, None | Some(0)) => 0,
            (_, Some(of)) => u128::from(self.done) * 100 / u128::from(of),
        };
        u8::try_from(part).map_or(99, |part| part.min(99))
    }
}

impl Record for Job {
    const KIND: Kind = Kind::Job;

    fn id(&self) -> &str {
        &self.id
    }
}
