mod crash;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::catalog::{Kind, MemoryCatalog};
use crate::{Error, ErrorKind};

/// Does what the request of a job says, and counts.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
    memory: Mutex<(u64, u64)>,
    runs: Mutex<Vec<String>>,
    heard: Mutex<Vec<Job>>,
    given_up: Mutex<HashMap<String, bool>>,
}

impl Worker for Busy {
    fn run(&self, job: &Job, control: &Control) -> std::result::Result<(), Failure> {
        self.runs.lock().unwrap().push(job.id.clone());
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.count(|used| used + self.memory(job));
        let result = self.work(job, control);
        self.count(|used| used - self.memory(job));
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.given_up.lock().unwrap().insert(job.id.clone(), control.is_given_up());
        result
    }

    fn memory(&self, job: &Job) -> u64 {
        job.request["memory"].as_u64().unwrap_or(1)
    }

    fn changed(&self, job: &Job) {
        self.heard.lock().unwrap().push(job.clone());
    }
}

impl Busy {
    fn work(&self, job: &Job, control: &Control) -> std::result::Result<(), Failure> {
        let request = &job.request;
        if request["panic"] == true {
            panic!("canary: {}", job.id);
        }
        if u64::from(job.attempts) <= request["fail"].as_u64().unwrap_or(0) {
            let again = if request["never"] == true { Again::Never } else { Again::Later };
            return Err(Failure { message: format!("attempt {}", job.attempts), again });
        }
        let until = Instant::now() + Duration::from_millis(request["ms"].as_u64().unwrap_or(0));
        while Instant::now() < until {
            control.progress(7, Some(10));
            if control.cancelled.load(Ordering::SeqCst) && request["deaf"] != true {
                return Err(Failure { message: "stopped".to_owned(), again: Again::Later });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn count(&self, change: impl FnOnce(u64) -> u64) {
        let mut memory = self.memory.lock().unwrap();
        memory.0 = change(memory.0);
        memory.1 = memory.1.max(memory.0);
    }

    fn runs_of(&self, id: &str) -> usize {
        self.runs.lock().unwrap().iter().filter(|run| *run == id).count()
    }

    fn states_of(&self, id: &str) -> Vec<JobState> {
        let heard = self.heard.lock().unwrap();
        let mut states: Vec<_> =
            heard.iter().filter(|job| job.id == id).map(|job| job.state).collect();
        states.dedup();
        states
    }
}

struct Bench {
    catalog: Arc<MemoryCatalog>,
    worker: Arc<Busy>,
    jobs: Jobs,
}

const LIMITS: Limits = Limits {
    at_once: 3,
    memory: 100,
    first_pause: Duration::from_millis(10),
    longest_pause: Duration::from_millis(30),
    attempts: 4,
};

impl Bench {
    fn new() -> Self {
        Self::of(Arc::default(), LIMITS)
    }

    fn of(catalog: Arc<MemoryCatalog>, limits: Limits) -> Self {
        let worker = Arc::new(Busy::default());
        let jobs = Jobs::start(catalog.clone(), worker.clone(), limits).unwrap();
        Self { catalog, worker, jobs }
    }

    fn submit(&self, id: &str, request: Value) -> Job {
        self.jobs.submit(new(id, request)).unwrap()
    }

    fn wait(&self, id: &str, wanted: impl Fn(&Job) -> bool) -> Job {
        let begun = Instant::now();
        loop {
            let job = self.jobs.job(id).unwrap().unwrap();
            if wanted(&job) {
                return job;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{job:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn ended(&self, id: &str) -> Job {
        self.wait(id, |job| job.state.is_ended())
    }

    fn running(&self, id: &str) -> Job {
        self.wait(id, |job| job.state == JobState::InProgress && job.done == 7)
    }

    fn in_catalog(&self, id: &str) -> Job {
        let found = self.catalog.load(Kind::Job, id).unwrap().unwrap();
        serde_json::from_str(&found.json).unwrap()
    }
}

fn new(id: &str, request: Value) -> NewJob {
    NewJob {
        id: id.to_owned(),
        task: "test".to_owned(),
        subject: format!("backingimages lab/{id}"),
        request,
        rate_limit: NonZeroU64::new(1 << 20),
    }
}

#[test]
fn a_hundred_jobs_are_done_three_at_once() {
    let bench = Bench::new();
    (0..100).for_each(|number| drop(bench.submit(&format!("{number:03}"), json!({ "ms": 3 }))));
    for number in 0..100 {
        let job = bench.ended(&format!("{number:03}"));
        assert_eq!((job.state, job.attempts, job.percent()), (JobState::Done, 1, 100));
    }
    assert_eq!(bench.worker.most.load(Ordering::SeqCst), 3);
    let first: Vec<_> = bench.worker.runs.lock().unwrap()[..50].to_vec();
    assert!(first.iter().all(|id| id.as_str() < "053"), "not in their order: {first:?}");
    let page = bench.jobs.list(Some("009"), 5).unwrap();
    let ids: Vec<_> = page.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["010", "011", "012", "013", "014"]);
}

#[test]
fn together_they_take_no_more_memory_than_there_is() {
    let bench = Bench::of(Arc::default(), Limits { at_once: 50, ..LIMITS });
    for number in 0..40_u64 {
        let request = json!({ "ms": 2, "memory": 20 + number % 4 * 10 });
        bench.submit(&format!("{number:03}"), request);
    }
    (0..40).for_each(|number| drop(bench.ended(&format!("{number:03}"))));
    let most = bench.worker.memory.lock().unwrap().1;
    assert!((60..=100).contains(&most), "{most}");
    bench.submit("before", json!({ "ms": 20, "memory": 10 }));
    bench.submit("large", json!({ "ms": 20, "memory": 1000 }));
    bench.submit("behind", json!({ "memory": 10 }));
    ["large", "behind"].iter().for_each(|id| drop(bench.ended(id)));
    assert_eq!(bench.worker.memory.lock().unwrap().1, 1000, "what is too large runs alone");
}

#[test]
fn what_may_help_later_is_tried_again_after_pauses_that_grow() {
    use JobState::{Done, Failed, InProgress, Pending};

    let bench = Bench::new();
    let begun = Instant::now();
    bench.submit("twice", json!({ "fail": 2 }));
    let job = bench.ended("twice");
    assert_eq!((job.state, job.attempts, job.message), (Done, 3, None));
    assert!(begun.elapsed() >= Duration::from_millis(30), "{:?}", begun.elapsed());
    bench.wait("twice", |_| bench.worker.states_of("twice").last() == Some(&Done));
    assert_eq!(
        bench.worker.states_of("twice"),
        [Pending, InProgress, Pending, InProgress, Pending, InProgress, Done]
    );
    bench.submit("always", json!({ "fail": 99 }));
    let job = bench.ended("always");
    assert_eq!((job.state, job.attempts), (Failed, 4));
    assert_eq!(job.message.as_deref(), Some("attempt 4"));
    bench.submit("never", json!({ "fail": 99, "never": true }));
    assert_eq!(bench.ended("never").attempts, 1);
}

#[test]
fn pauses_double_up_to_the_longest() {
    let limits = Limits {
        first_pause: Duration::from_secs(10),
        longest_pause: Duration::from_secs(60),
        ..LIMITS
    };
    let pauses = [1, 2, 3, 4, 99].map(|attempts| limits.pause(attempts).as_secs());
    assert_eq!(pauses, [10, 20, 40, 60, 60]);
}

#[test]
fn a_worker_that_panics_fails_its_job_for_good_and_nothing_else() {
    let bench = Bench::new();
    bench.submit("bad", json!({ "panic": true }));
    let job = bench.ended("bad");
    assert_eq!((job.state, job.attempts), (JobState::Failed, 1));
    assert!(!job.message.unwrap().contains("canary"));
    bench.submit("good", json!({}));
    assert_eq!(bench.ended("good").state, JobState::Done);
}

#[test]
fn one_that_is_submitted_again_is_returned_as_it_is() {
    let bench = Bench::new();
    bench.submit("one", json!({}));
    let done = bench.ended("one");
    assert_eq!(bench.submit("one", json!({ "fail": 99 })), done);
    assert_eq!(bench.worker.runs_of("one"), 1);
    bench.jobs.forget("one").unwrap();
    assert_eq!(bench.jobs.job("one").unwrap(), None);
    bench.jobs.forget("one").unwrap();
    assert_eq!(bench.submit("one", json!({})).state, JobState::Pending);
    bench.ended("one");
    assert_eq!(bench.worker.runs_of("one"), 2);
}

#[test]
fn one_that_works_or_waits_is_cancelled_for_good() {
    let bench = Bench::of(Arc::default(), Limits { at_once: 1, ..LIMITS });
    bench.submit("works", json!({ "ms": 60_000 }));
    bench.submit("waits", json!({}));
    bench.running("works");
    let error = bench.jobs.forget("works").unwrap_err();
    assert!(matches!(error, Error::JobGoesOn { .. }) && error.kind() == ErrorKind::Busy);
    let waits = bench.jobs.cancel("waits").unwrap().unwrap();
    assert_eq!((waits.state, waits.attempts), (JobState::Cancelled, 0));
    let works = bench.jobs.cancel("works").unwrap().unwrap();
    assert_eq!(works.state, JobState::Cancelled);
    assert!(works.ended.is_some());
    assert_eq!(bench.in_catalog("works"), works);
    assert!(bench.worker.given_up.lock().unwrap()["works"]);
    assert_eq!(bench.worker.runs_of("waits"), 0);
    assert_eq!(bench.worker.states_of("works").last(), Some(&JobState::Cancelled));
    assert_eq!(bench.jobs.cancel("works").unwrap().unwrap(), works, "it stays as it is");
    assert_eq!(bench.jobs.cancel("nobody").unwrap(), None);
}

#[test]
fn one_that_pauses_after_a_failure_is_cancelled_without_another_attempt() {
    let limits = Limits {
        first_pause: Duration::from_secs(600),
        longest_pause: Duration::from_secs(600),
        ..LIMITS
    };
    let bench = Bench::of(Arc::default(), limits);
    bench.submit("fails", json!({ "fail": 1 }));
    bench.wait("fails", |job| job.message.is_some());
    assert_eq!(bench.jobs.cancel("fails").unwrap().unwrap().state, JobState::Cancelled);
    assert_eq!(bench.worker.runs_of("fails"), 1);
}

#[test]
fn one_that_ends_well_before_it_hears_of_a_cancellation_is_done() {
    let bench = Bench::new();
    bench.submit("deaf", json!({ "ms": 50, "deaf": true }));
    bench.running("deaf");
    assert_eq!(bench.jobs.cancel("deaf").unwrap().unwrap().state, JobState::Done);
}

#[test]
fn cancelling_at_any_moment_ends_every_job_once() {
    let bench = Bench::new();
    for round in 0..150_u64 {
        let id = format!("{round:03}");
        bench.submit(&id, json!({ "ms": round % 3, "fail": round % 2 }));
        std::thread::sleep(Duration::from_micros(round * 137 % 3000));
        let cancelled = std::thread::scope(|scope| {
            let cancel = || bench.jobs.cancel(&id).unwrap().unwrap();
            let threads = [scope.spawn(cancel), scope.spawn(cancel)];
            threads.map(|thread| thread.join().unwrap())
        });
        for job in cancelled {
            assert!(job.state.is_ended(), "{job:?}");
            assert_eq!(bench.jobs.job(&id).unwrap().unwrap(), job);
        }
        let states = bench.worker.states_of(&id);
        assert_eq!(states.iter().filter(|state| state.is_ended()).count(), 1, "{states:?}");
    }
    assert!(bench.jobs.list(None, 1000).unwrap().iter().all(|job| job.state.is_ended()));
}

#[test]
fn what_is_stopped_is_taken_up_as_the_same_attempt() {
    let bench = Bench::of(Arc::default(), Limits { at_once: 1, ..LIMITS });
    bench.submit("works", json!({ "ms": 400 }));
    bench.submit("waits", json!({}));
    bench.running("works");
    bench.jobs.stop();
    assert!(!bench.worker.given_up.lock().unwrap()["works"]);
    let left = bench.in_catalog("works");
    assert_eq!((left.state, left.attempts, left.done), (JobState::InProgress, 1, 7));
    assert_eq!(bench.in_catalog("waits").state, JobState::Pending);
    bench.submit("late", json!({}));
    let again = Bench::of(bench.catalog.clone(), LIMITS);
    for id in ["works", "waits", "late"] {
        let job = again.ended(id);
        assert_eq!((job.state, job.attempts), (JobState::Done, 1), "{id}");
    }
    assert_eq!(bench.worker.runs_of("waits") + bench.worker.runs_of("late"), 0);
}

#[test]
fn one_that_was_left_by_a_stop_can_be_cancelled() {
    let bench = Bench::new();
    bench.submit("works", json!({ "ms": 60_000 }));
    bench.running("works");
    bench.jobs.stop();
    assert_eq!(bench.jobs.cancel("works").unwrap().unwrap().state, JobState::Cancelled);
    assert_eq!(bench.in_catalog("works").state, JobState::Cancelled);
}

#[test]
fn progress_is_known_at_once_and_written_down_now_and_then() {
    let bench = Bench::new();
    bench.submit("works", json!({ "ms": 60_000 }));
    let job = bench.running("works");
    assert_eq!((job.percent(), job.rate_limit), (70, NonZeroU64::new(1 << 20)));
    assert_eq!(bench.jobs.list(None, 10).unwrap()[0].done, 7);
    bench.wait("works", |_| bench.in_catalog("works").done == 7);
    let version = || bench.catalog.load(Kind::Job, "works").unwrap().unwrap().version;
    let before = version();
    std::thread::sleep(Duration::from_millis(1500));
    let writes = version() - before;
    assert!((1..=2).contains(&writes), "{writes} writes in one and a half seconds");
    let heard = bench.worker.heard.lock().unwrap();
    assert!(heard.iter().any(|job| job.state == JobState::InProgress && job.done == 7));
}

#[test]
fn of_those_that_have_ended_the_last_ones_are_remembered() {
    let catalog = Arc::new(MemoryCatalog::new());
    let worker = Arc::new(Busy::default());
    let start = || Jobs::start_remembering(catalog.clone(), worker.clone(), LIMITS, 5).unwrap();
    let bench = Bench { jobs: start(), catalog: catalog.clone(), worker: worker.clone() };
    bench.submit("works", json!({ "ms": 60_000 }));
    for number in 0..20 {
        bench.submit(&format!("{number:03}"), json!({}));
        bench.wait("works", |_| {
            bench.jobs.job(&format!("{number:03}")).unwrap().is_none_or(|job| job.state.is_ended())
        });
    }
    let ids = |jobs: &Jobs| -> Vec<String> {
        jobs.list(None, 100).unwrap().into_iter().map(|job| job.id).collect()
    };
    bench.wait("works", |_| ids(&bench.jobs).len() == 6);
    assert_eq!(ids(&bench.jobs), ["015", "016", "017", "018", "019", "works"]);
    drop(bench);
    let again = start();
    again.submit(new("020", json!({}))).unwrap();
    let begun = Instant::now();
    while ids(&again).contains(&"015".to_owned()) {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn the_worker_may_ask_for_jobs_when_it_hears_of_a_change() {
    struct Asks(Mutex<Option<Arc<Jobs>>>);
    impl Worker for Asks {
        fn run(&self, _job: &Job, _control: &Control) -> std::result::Result<(), Failure> {
            Ok(())
        }
        fn memory(&self, _job: &Job) -> u64 {
            1
        }
        fn changed(&self, job: &Job) {
            let jobs = self.0.lock().unwrap().clone();
            if let Some(jobs) = jobs {
                let found = jobs.job(&job.id).unwrap().unwrap();
                assert!(found.attempts >= job.attempts);
                jobs.list(None, 10).unwrap();
            }
        }
    }
    let worker = Arc::new(Asks(Mutex::default()));
    let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new());
    let jobs = Arc::new(Jobs::start(catalog, worker.clone(), LIMITS).unwrap());
    *worker.0.lock().unwrap() = Some(jobs.clone());
    jobs.submit(new("one", json!({}))).unwrap();
    let begun = Instant::now();
    while jobs.job("one").unwrap().unwrap().state != JobState::Done {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    *worker.0.lock().unwrap() = None;
}
