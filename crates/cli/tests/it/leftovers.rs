//! Whatever an interrupted job can have left, with and without `--resume`.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use strongroom_testkit::{Outcome, Pattern, wait};

use crate::workplace::{CHEAP, Workplace, signal};

/// A job, and what it has left when it was interrupted in its middle.
struct Left {
    place: Workplace,
    job: String,
    source: &'static str,
    /// How the result is read.
    read: String,
    partial: Vec<u8>,
    journal: Value,
    whole: Vec<u8>,
}

impl Left {
    /// Makes a target of that format.
    fn of(format: &str) -> Self {
        let place = Workplace::new();
        place.image_of("plain", LEN, &Pattern::dense(5));
        let (job, read) = match format {
            "raw" | "qcow2" => (
                format!("image clone plain target --format {format}"),
                format!("image clone target again --force --source-format {format} --format raw"),
            ),
            _ => (
                format!(
                    "image encrypt plain target --format {format} --passphrase-file pw {CHEAP}"
                ),
                format!(
                    "image decrypt target again --force --source-format {format} --format raw \
                     --passphrase-file pw"
                ),
            ),
        };
        place.strongroom(&job).ok();
        let whole = place.read("target");
        fs::remove_file(place.path("target")).unwrap();
        let mut child = place.start(&format!("{job} --resume --rate-limit 2M"));
        let start = Instant::now();
        // Longer than its marker and its header are.
        while !place.exists(".target.journal") {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(1200));
        signal(&child, Signal::INT);
        let status = wait(&mut child, Duration::from_secs(60)).unwrap();
        assert_eq!(status.code(), Some(130));
        let partial = place.read(".target.partial");
        let journal: Value = serde_json::from_slice(&place.read(".target.journal")).unwrap();
        let durable = journal["durable"][0][1].as_u64().unwrap();
        assert!(durable > 0 && durable < LEN, "{journal}");
        Self { place, job, source: "plain", read, partial, journal, whole }
    }

    /// Puts the files there and runs the job.
    fn run(&self, partial: Option<&[u8]>, journal: Option<&[u8]>, more: &str) -> Outcome {
        for (name, bytes) in [(".target.partial", partial), (".target.journal", journal)] {
            let _ = fs::remove_file(self.place.path(name));
            if let Some(bytes) = bytes {
                self.place.write(name, bytes);
                self.place.set_mode(name, 0o600);
            }
        }
        if more.contains("--resume") {
            self.place.bind_journal(".target");
        }
        let _ = fs::remove_file(self.place.path("target"));
        self.place.strongroom(&format!("{}{more}", self.job))
    }

    fn assert_right(&self, context: &str) {
        self.place.strongroom(&self.read).ok();
        let same = self.place.same("again", self.source);
        assert!(same.is_ok(), "{context}: {same:?}");
    }

    fn journals(&self) -> [(&'static str, Option<Vec<u8>>); 4] {
        let mut none = self.journal.clone();
        none["durable"] = json!([]);
        [
            ("no journal", None),
            ("a journal without anything durable", Some(none.to_string().into_bytes())),
            ("a journal", Some(self.journal.to_string().into_bytes())),
            ("no journal of ours", Some(b"{\"garbage\": 1}".to_vec())),
        ]
    }

    fn partials(&self) -> [(&'static str, Option<&[u8]>); 4] {
        [
            ("no file", None),
            ("an empty file", Some(&[])),
            ("a marker", Some(&self.partial[..8])),
            ("a part", Some(&self.partial)),
        ]
    }
}

#[test]
fn a_resumed_job_is_whole_or_refuses_whatever_was_left() {
    for format in FORMATS {
        let left = Left::of(format);
        for (partial_name, partial) in left.partials() {
            for (journal_name, journal) in left.journals() {
                let context = format!("{format}: {partial_name}, {journal_name}");
                let outcome = left.run(partial, journal.as_deref(), " --resume");
                let refusal = match (partial_name, journal_name) {
                    (_, "no journal of ours") => Some((1, "start over without it: rm")),
                    ("a marker", "a journal") => Some((4, "start over: rm .target.partial")),
                    _ => None,
                };
                let Some((code, hint)) = refusal else {
                    outcome.success().unwrap_or_else(|text| panic!("{context}: {text}"));
                    left.assert_right(&context);
                    assert!(!left.place.exists(".target.partial"), "{context}");
                    assert!(!left.place.exists(".target.journal"), "{context}");
                    continue;
                };
                let said = outcome.fails(code);
                assert!(said.contains(hint), "{context}: {said}");
                assert!(!left.place.exists("target"), "{context}");
                let kept = left.place.exists(".target.partial");
                assert_eq!(kept, partial.is_some(), "{context}: {said}");
                if let Some(partial) = partial {
                    assert!(left.place.read(".target.partial") == partial, "{context}");
                }
            }
        }
    }
}

#[test]
fn without_resume_nothing_that_was_left_is_used_or_changed() {
    for format in FORMATS {
        let left = Left::of(format);
        for (partial_name, partial) in left.partials() {
            for (journal_name, journal) in left.journals() {
                let context = format!("{format}: {partial_name}, {journal_name}");
                let outcome = left.run(partial, journal.as_deref(), "").success().unwrap();
                let warned = outcome.stderr.contains("is not used without --resume");
                assert_eq!(warned, partial.is_some(), "{context}: {}", outcome.stderr);
                left.assert_right(&context);
                for (name, bytes) in
                    [(".target.partial", partial), (".target.journal", journal.as_deref())]
                {
                    assert_eq!(left.place.exists(name), bytes.is_some(), "{context}: {name}");
                    if let Some(bytes) = bytes {
                        assert!(left.place.read(name) == bytes, "{context}: {name}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_job_that_ended_after_its_last_byte_needs_nothing_but_its_name() {
    for format in FORMATS {
        let left = Left::of(format);
        let mut journal = left.journal.clone();
        journal["durable"] = json!([[0, LEN]]);
        // Whole files are whole only for those whose journal says that they may be.
        let said = left.run(Some(&left.whole), Some(journal.to_string().as_bytes()), " --resume");
        let said = said.fails(4);
        assert!(said.contains("remove it to begin anew"), "{said}");
        assert!(left.place.read(".target.partial") == left.whole);

        journal["finishing"] = json!(true);
        let mut marked = left.whole.clone();
        marked[..8].copy_from_slice(&left.partial[..8]);
        for partial in [&left.whole, &marked] {
            let outcome =
                left.run(Some(partial), Some(journal.to_string().as_bytes()), " --resume --json");
            let report: Value = serde_json::from_str(&outcome.ok()).unwrap();
            assert_eq!(report["resumed_bytes"], json!(LEN));
            left.assert_right(format);
            assert!(left.place.read("target") == left.whole, "{format}: it has changed");
            assert!(!left.place.exists(".target.partial"));
            assert!(!left.place.exists(".target.journal"));
        }
    }
}

#[test]
fn an_interrupted_job_without_resume_leaves_the_files_of_another_alone() {
    let left = Left::of("raw");
    let place = &left.place;
    place.sized("large", 256 << 20);
    // Not zeros, which would be no work.
    place.image_of("large", 256 << 20, &Pattern::dense(9));
    let (partial, journal) = (place.read(".target.partial"), place.read(".target.journal"));
    let mut child = place.start("image clone large target --format raw --rate-limit 90M");
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child, Signal::INT);
    let status = wait(&mut child, Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(place.read(".target.partial") == partial, "the part of the other job is gone");
    assert!(place.read(".target.journal") == journal, "the journal of the other job is gone");
    place.strongroom(&format!("{} --resume", left.job)).ok();
    left.assert_right("raw");
}

const FORMATS: [&str; 4] = ["raw", "luks1", "luks2", "qcow2-luks"];

const LEN: u64 = 8 << 20;
