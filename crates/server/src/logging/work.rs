//! The log of jobs: their beginning and their end.

use std::num::NonZeroU64;
use std::sync::Arc;

use strongroom::jobs::{Control, Failure, Job, JobState, Worker};

use super::{Line, Log, LogLevel};

/// A worker of which it is said what it does.
pub(crate) struct LoggedWorker {
    worker: Arc<dyn Worker>,
    log: Log,
    /// The most bytes that a job copies in a second when nothing else is said of it.
    rate_limit: Option<NonZeroU64>,
}

impl LoggedWorker {
    /// Returns a worker of whose jobs a log tells.
    pub(crate) fn new(worker: Arc<dyn Worker>, log: Log) -> Self {
        Self { worker, log, rate_limit: None }
    }

    /// Says how many bytes a job copies in a second at most, when nothing else is said of it.
    #[must_use]
    pub(crate) fn limited_to(self, rate_limit: Option<NonZeroU64>) -> Self {
        Self { rate_limit, ..self }
    }
}

impl Worker for LoggedWorker {
    fn run(&self, job: &Job, control: &Control) -> Result<(), Failure> {
        self.log.say(LogLevel::Info, &about("job begins", job));
        let mut control = control.clone();
        control.rate_limit = control.rate_limit.or(self.rate_limit);
        self.worker.run(job, &control)
    }

    fn memory(&self, job: &Job) -> u64 {
        self.worker.memory(job)
    }

    fn changed(&self, job: &Job) {
        let (level, words) = match (job.state, &job.message) {
            (JobState::Done, _) => (LogLevel::Info, "job is done"),
            (JobState::Cancelled, _) => (LogLevel::Info, "job is cancelled"),
            (JobState::Failed, _) => (LogLevel::Error, "job has failed"),
            (JobState::Pending, Some(_)) => (LogLevel::Error, "job is tried again later"),
            (JobState::Pending | JobState::InProgress, _) => return self.worker.changed(job),
        };
        let mut line = about(words, job);
        if let (Some(started), Some(ended)) = (job.started, job.ended) {
            line = line.with("seconds", ended.saturating_sub(started));
        }
        if let Some(message) = &job.message {
            line = line.with("reason", message);
        }
        self.log.say(level, &line);
        self.worker.changed(job);
    }
}

fn about(words: &str, job: &Job) -> Line {
    Line::new(words)
        .with("job", &job.id)
        .with("task", &job.task)
        .with("about", &job.subject)
        .with("attempt", job.attempts)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use strongroom::catalog::SqliteCatalog;
    use strongroom::jobs::{Again, Jobs, Limits, NewJob};

    use super::*;
    use crate::logging::tests::Page;

    /// Writes down how fast each job may be, and fails as the job is called.
    #[derive(Default)]
    struct Slow(Mutex<BTreeMap<String, Option<u64>>>);

    impl Worker for Slow {
        fn run(&self, job: &Job, control: &Control) -> Result<(), Failure> {
            let limit = control.rate_limit.map(NonZeroU64::get);
            self.0.lock().unwrap().insert(job.id.clone(), limit);
            match job.task.as_str() {
                "fail" => Err(Failure { message: "as it\nshould".to_owned(), again: Again::Never }),
                _ => Ok(()),
            }
        }

        fn memory(&self, _: &Job) -> u64 {
            1
        }

        fn changed(&self, _: &Job) {}
    }

    #[test]
    fn jobs_are_told_of_and_are_as_fast_as_anybody_has_said() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Arc::new(SqliteCatalog::open(&folder.path().join("c")).unwrap());
        let (page, slow) = (Page::default(), Arc::new(Slow::default()));
        let log = page.log(LogLevel::Info);
        let worker = LoggedWorker::new(Arc::<Slow>::clone(&slow), log.clone());
        let worker = Arc::new(worker.limited_to(NonZeroU64::new(1000)));
        let limits = Limits {
            at_once: 1,
            memory: 1 << 20,
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(1),
            attempts: 1,
        };
        let jobs = Jobs::start(catalog, worker, limits).unwrap();
        for (id, task, limit) in [("one", "work", None), ("two", "fail", NonZeroU64::new(7))] {
            let (id, task) = (id.to_owned(), task.to_owned());
            let (subject, request) = ("images lab/a".to_owned(), serde_json::Value::Null);
            jobs.submit(NewJob { id, task, subject, request, rate_limit: limit }).unwrap();
        }
        let begun = Instant::now();
        while jobs.list(None, 9).unwrap().iter().any(|job| job.ended.is_none()) {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        jobs.stop();
        log.close();
        let limits = slow.0.lock().unwrap();
        assert_eq!((limits["one"], limits["two"]), (Some(1000), Some(7)));
        let text = page.text();
        for line in [
            "info job begins job=one task=work about=\"images lab/a\" attempt=1",
            "info job is done job=one",
            "error job has failed job=two",
            "reason=\"as it\\nshould\"",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
