//! Processes that are killed while they record, and one whose files may not grow.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::catalog::SqliteCatalog;

/// Names the folder in which the test, started once more, is to record until it ends.
const FOLDER: &str = "STRONGROOM_TEST_AUDIT";

/// How often a process is killed.
const ROUNDS: u64 = 25;

fn open(folder: &Path) -> Audit {
    let catalog = SqliteCatalog::open(&folder.join("catalog.sqlite")).unwrap();
    Audit::open(&folder.join("audit.log"), Arc::new(catalog)).unwrap()
}

fn verify(folder: &Path) -> Verified {
    let catalog = SqliteCatalog::open(&folder.join("catalog.sqlite")).unwrap();
    Audit::verify(&folder.join("audit.log"), Some(&catalog)).unwrap()
}

/// Records on several threads until it is killed, and says what it has.
fn record_until_killed(folder: &Path) {
    let audit = open(folder);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let audit = &audit;
            scope.spawn(move || {
                for number in 0.. {
                    let subject = format!("{}-{thread}-{number}", std::process::id());
                    audit.record(&Act { subject: subject.clone(), ..act(0) }).unwrap();
                    println!("@done {subject}");
                }
            });
        }
    });
}

#[test]
fn what_was_recorded_survives_a_kill_at_any_moment() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return record_until_killed(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let test = "audit::tests::crash::what_was_recorded_survives_a_kill_at_any_moment";
    let mut last = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("@done") {
            assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said}");
        }
        std::thread::sleep(Duration::from_micros(round * 1777 % 20_000));
        child.kill().unwrap();
        output.read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        let verified = verify(folder.path());
        assert!(verified.entries > last);
        last = verified.entries;
        let log = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
        let whole = &said[..said.rfind('\n').unwrap()];
        for subject in whole.lines().filter_map(|line| line.split_once("@done ")) {
            assert!(log.contains(&format!("\"{}\"", subject.1)), "{} is lost", subject.1);
        }
    }
}

/// Records until the file may not grow any more, and says how often that went well.
fn record_until_full(folder: &Path) {
    let audit = open(folder);
    let mut recorded = 0;
    let problem = loop {
        match audit.record(&act(recorded)) {
            Ok(()) => recorded += 1,
            Err(error) => break error,
        }
    };
    assert!(problem.to_string().contains("File too large"), "{problem}");
    // Shorter ones may still fit, and stand behind whole lines.
    assert!(audit.record(&act(recorded)).is_err());
    println!("@recorded {recorded}");
}

#[test]
fn a_line_that_did_not_fit_leaves_nothing_behind() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return record_until_full(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let filled = open(folder.path());
    let filler = Act { detail: "x".repeat(60_000), ..act(0) };
    // More than the catalog takes, so that the log is what is full first.
    (0..40).for_each(|_| filled.record(&filler).unwrap());
    drop(filled);
    let len = folder.path().join("audit.log").metadata().unwrap().len();
    let test = "audit::tests::crash::a_line_that_did_not_fit_leaves_nothing_behind";
    // Blocks of 512 bytes, and no signal that would end the process.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", len / 512 + 3);
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let recorded = said.split_once("@recorded ").map(|(_, rest)| rest.lines().next().unwrap());
    let recorded: u64 = recorded.unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    assert!((1..10).contains(&recorded), "{recorded}");
    assert_eq!(verify(folder.path()).entries, 40 + recorded);
    let log = std::fs::read(folder.path().join("audit.log")).unwrap();
    assert_eq!(log.last(), Some(&b'\n'));
    assert!(Audit::verify(&folder.path().join("audit.log"), None).is_ok());
}
