//! A process that is killed while it does jobs, again and again, until all are done.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::catalog::{Records, SqliteCatalog};

/// Names the folder in which the test, started once more, does jobs until it is killed.
const FOLDER: &str = "STRONGROOM_TEST_JOBS";

const JOBS: u64 = 40;

/// Each job appends to its own file, as far as is left to be done.
struct Appends(std::path::PathBuf);

impl Worker for Appends {
    fn run(&self, job: &Job, control: &Control) -> std::result::Result<(), Failure> {
        let path = self.0.join(&job.id);
        // Nobody else is at it: that would be two runs at once.
        let running = self.0.join(format!("{}.{}", job.id, std::process::id()));
        std::fs::File::create_new(&running).unwrap();
        let result = (|| {
            loop {
                let done = std::fs::metadata(&path).map_or(0, |found| found.len());
                control.progress(done, Some(20));
                if done == 20 {
                    return Ok(());
                }
                if control.cancelled.load(Ordering::SeqCst) {
                    return Err(Failure { message: "stopped".to_owned(), again: Again::Later });
                }
                std::fs::write(&path, vec![b'x'; done as usize + 1]).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        })();
        std::fs::remove_file(&running).unwrap();
        result
    }

    fn memory(&self, _job: &Job) -> u64 {
        1
    }

    fn changed(&self, job: &Job) {
        println!("@heard {} {:?}", job.id, job.state);
    }
}

fn work_until_killed(folder: &Path) {
    let catalog = Arc::new(SqliteCatalog::open(&folder.join("catalog.sqlite")).unwrap());
    let worker = Arc::new(Appends(folder.to_owned()));
    let jobs = Jobs::start(catalog, worker, LIMITS).unwrap();
    for number in 0..JOBS {
        jobs.submit(new(&format!("job-{number:02}"), json!({}))).unwrap();
    }
    loop {
        std::thread::sleep(Duration::from_millis(5));
        if jobs.list(None, 1000).unwrap().iter().all(|job| job.state.is_ended()) {
            println!("@all");
        }
    }
}

#[test]
fn jobs_of_a_process_that_is_killed_at_any_moment_are_all_done() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return work_until_killed(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let test = "jobs::tests::crash::jobs_of_a_process_that_is_killed_at_any_moment_are_all_done";
    let mut kills = 0;
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        // As many changes as it may live to tell of.
        let (mut left, mut all) = (3 + kills * 5 % 17, false);
        for line in output.lines() {
            let line = line.unwrap();
            all = line.contains("@all");
            left -= u64::from(line.contains("@heard"));
            if all || left == 0 {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if all {
            break;
        }
        kills += 1;
        assert!(kills < 500, "it gets nowhere");
    }
    assert!(kills > 5, "{kills} kills");
    let catalog = SqliteCatalog::open(&folder.path().join("catalog.sqlite")).unwrap();
    let jobs = Records::<Job>::of(&catalog).list(None, 1000).unwrap();
    assert_eq!(jobs.len() as u64, JOBS);
    for stored in jobs {
        let job = stored.record;
        assert_eq!((job.state, job.attempts), (JobState::Done, 1), "{job:?}");
        assert_eq!(folder.path().join(&job.id).metadata().unwrap().len(), 20);
    }
}
