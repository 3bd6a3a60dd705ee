mod crash;

use super::*;
use crate::ErrorKind;
use crate::catalog::MemoryCatalog;

struct Place {
    _folder: tempfile::TempDir,
    file: PathBuf,
    catalog: Arc<MemoryCatalog>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.log");
        Self { _folder: folder, file, catalog: Arc::new(MemoryCatalog::new()) }
    }

    fn open(&self) -> Result<Audit> {
        Audit::open(&self.file, self.catalog.clone())
    }

    /// A log with so many entries.
    fn with(entries: u64) -> Self {
        let place = Self::new();
        let audit = place.open().unwrap();
        (1..=entries).for_each(|number| audit.record(&act(number)).unwrap());
        place
    }

    fn text(&self) -> Vec<u8> {
        std::fs::read(&self.file).unwrap()
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        self.text().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }

    fn write(&self, text: &[u8]) {
        std::fs::write(&self.file, text).unwrap();
    }

    fn verify(&self) -> Result<Verified> {
        Audit::verify(&self.file, Some(&*self.catalog))
    }

    /// What verifying says is wrong; opening says the same.
    fn problem(&self) -> AuditProblem {
        let [verified, opened] = [self.verify().map(drop), self.open().map(drop)].map(problem_of);
        assert_eq!(verified, opened);
        verified
    }

    fn problem_without_catalog(&self) -> AuditProblem {
        problem_of(Audit::verify(&self.file, None).map(drop))
    }
}

fn problem_of(result: Result<()>) -> AuditProblem {
    match result {
        Err(Error::Audit { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

fn act(number: u64) -> Act {
    Act {
        actor: "token admin".to_owned(),
        verb: "open-key".to_owned(),
        subject: format!("secrets lab/key-{number}"),
        detail: "to \"attach\",\"hash\":\"00\"} a volume\n".to_owned(),
    }
}

#[test]
fn what_is_recorded_is_verified_and_goes_on_after_a_restart() {
    use std::os::unix::fs::PermissionsExt;

    let place = Place::with(3);
    let audit = place.open().unwrap();
    audit.record(&act(4)).unwrap();
    let verified = place.verify().unwrap();
    assert_eq!(verified.entries, 4);
    assert_eq!(Audit::verify(&place.file, None).unwrap(), verified);
    assert_eq!(place.file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let last: serde_json::Value = serde_json::from_slice(&place.lines()[3]).unwrap();
    assert_eq!(last["n"], 4);
    assert_eq!(last["verb"], "open-key");
    assert_eq!(last["detail"], act(4).detail);
    assert_eq!(last["hash"], verified.head);
    let third: serde_json::Value = serde_json::from_slice(&place.lines()[2]).unwrap();
    assert_eq!(last["previous"], third["hash"]);
}

#[test]
fn every_change_of_a_single_byte_is_found_in_its_line() {
    let place = Place::with(4);
    let text = place.text();
    for at in 0..text.len() {
        let line = 1 + text[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        for change in [1, 0x20, 0x80] {
            let mut changed = text.clone();
            changed[at] ^= change;
            place.write(&changed);
            let end_of_all = at + 1 == text.len();
            let expected = match end_of_all {
                true => AuditProblem::CutOff { entries: 3, known: 4 },
                false => AuditProblem::Changed { line },
            };
            assert_eq!(place.problem(), expected, "byte {at}");
        }
    }
}

#[test]
fn lines_that_are_gone_swapped_or_there_twice_are_named() {
    let place = Place::with(5);
    let lines = place.lines();
    let write = |order: &[usize]| {
        let text: Vec<u8> = order.iter().flat_map(|number| lines[number - 1].clone()).collect();
        place.write(&text);
    };
    for (order, expected) in [
        (&[2, 3, 4, 5][..], AuditProblem::Missing { line: 1, from: 1, to: 1 }),
        (&[1, 2, 5], AuditProblem::Missing { line: 3, from: 3, to: 4 }),
        (&[1, 3, 2, 4, 5], AuditProblem::Missing { line: 2, from: 2, to: 2 }),
        (&[1, 2, 2, 3, 4, 5], AuditProblem::Inserted { line: 3, number: 2 }),
        (&[1, 2, 3, 4, 5, 1], AuditProblem::Inserted { line: 6, number: 1 }),
    ] {
        write(order);
        assert_eq!(place.problem(), expected, "{order:?}");
        assert_eq!(place.problem_without_catalog(), expected, "{order:?}");
    }
    for entries in 0..5 {
        write(&[1, 2, 3, 4, 5][..entries]);
        assert_eq!(place.problem(), AuditProblem::CutOff { entries: entries as u64, known: 5 });
        assert!(Audit::verify(&place.file, None).is_ok(), "only the catalog knows of the end");
    }
    std::fs::remove_file(&place.file).unwrap();
    let gone = problem_of(place.open().map(drop));
    assert_eq!(gone, AuditProblem::CutOff { entries: 0, known: 5 });
    assert!(!place.file.exists(), "a log that is gone is not begun anew");
}

#[test]
fn a_log_that_was_written_anew_with_right_hashes_is_found() {
    let place = Place::with(4);
    let lines = place.lines();
    let (mut forged, mut tip) = (Vec::new(), Head::of_nothing());
    for number in 1..=4 {
        let act = Act { actor: "nobody".to_owned(), ..act(number) };
        let (line, head) = Entry::line(&tip, SystemTime::UNIX_EPOCH, &act);
        forged.push(line.into_bytes());
        tip = head;
    }
    place.write(&forged.concat());
    assert_eq!(place.problem(), AuditProblem::Replaced { line: 4 });
    // A forged beginning, and the entries that were there.
    place.write(&[&forged[..2], &lines[2..]].concat().concat());
    assert_eq!(place.problem(), AuditProblem::Unlinked { line: 3 });
}

#[test]
fn what_a_crash_leaves_at_the_end_is_told_from_a_cut() {
    let place = Place::with(2);
    let known = place.catalog.snapshot();
    place.open().unwrap().record(&act(3)).unwrap();
    let text = place.text();
    let whole = place.lines()[..2].concat().len();
    for len in whole + 1..text.len() {
        place.write(&text[..len]);
        assert_eq!(place.problem(), AuditProblem::CutOff { entries: 2, known: 3 });
        assert_eq!(place.problem_without_catalog(), AuditProblem::Half { line: 3 });
    }
    // Killed before the catalog heard of it.
    for len in whole..=text.len() {
        place.catalog.roll_back_to(&known);
        place.write(&text[..len]);
        let entries = if len == text.len() { 3 } else { 2 };
        assert_eq!(place.verify().unwrap().entries, entries);
        place.open().unwrap().record(&act(9)).unwrap();
        assert_eq!(place.verify().unwrap().entries, entries + 1);
        assert_eq!(place.lines()[..2].concat(), text[..whole]);
    }
}

#[test]
fn one_process_at_a_time_writes_to_it() {
    let place = Place::with(1);
    let audit = place.open().unwrap();
    let error = place.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    drop(audit);
    place.open().unwrap();
}

#[test]
fn an_entry_that_is_too_long_is_refused_alone() {
    let place = Place::with(1);
    let audit = place.open().unwrap();
    let long = Act { detail: "\n".repeat(entry::MAX_LINE / 2), ..act(2) };
    assert!(matches!(problem_of(audit.record(&long)), AuditProblem::TooLong { .. }));
    audit.record(&act(2)).unwrap();
    assert_eq!(place.verify().unwrap().entries, 2);
}

#[test]
fn many_threads_each_find_their_entries_in_it() {
    let place = Place::new();
    let audit = place.open().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let audit = &audit;
            scope.spawn(move || {
                (0..20).for_each(|number| audit.record(&act(thread * 100 + number)).unwrap());
            });
        }
    });
    assert_eq!(place.verify().unwrap().entries, 320);
    let text = String::from_utf8(place.text()).unwrap();
    for thread in 0..16 {
        let place = |number: u64| text.find(&format!("/key-{}\"", thread * 100 + number)).unwrap();
        assert!((1..20).all(|number| place(number - 1) < place(number)));
    }
}

#[test]
fn nothing_is_recorded_while_the_catalog_cannot_remember_it() {
    let place = Place::with(1);
    let audit = place.open().unwrap();
    // As if somebody else had written to the catalog: no replacement of the version that we know succeeds.
    let stored = Head::load(&*place.catalog).unwrap();
    stored.head().save(&*place.catalog, stored.version).unwrap();
    let problem = problem_of(audit.record(&act(2)));
    assert!(matches!(problem, AuditProblem::Unusable { .. }), "{problem:?}");
    // The file is ahead by that entry, and the next one is durable again.
    audit.record(&act(3)).unwrap();
    assert_eq!(place.verify().unwrap().entries, 3);
}

#[test]
fn a_medium_that_fails_ends_recording_for_good() {
    let place = Place::with(1);
    let audit = place.open().unwrap();
    audit.writer.lock().unwrap().file =
        std::fs::OpenOptions::new().append(true).open("/dev/full").unwrap();
    for _ in 0..2 {
        let problem = problem_of(audit.record(&act(2)));
        let AuditProblem::Unusable { why } = &problem else { panic!("{problem:?}") };
        assert!(why.contains("No space left"), "{why}");
    }
    assert_eq!(place.verify().unwrap().entries, 1);
}
