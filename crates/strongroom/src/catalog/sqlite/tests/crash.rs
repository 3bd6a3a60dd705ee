//! Processes that are killed while they write, and several that write at once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::*;

/// Names the database to which the test, started once more, is to write until it is killed.
const CATALOG: &str = "STRONGROOM_TEST_CATALOG";

/// Says how the documents begin that it writes.
const NAME: &str = "STRONGROOM_TEST_NAME";

/// Writes until it is killed: documents of its own, whose versions it knows, and one that it shares.
/// What is done goes to standard output.
fn work() {
    let Some(path) = std::env::var_os(CATALOG) else { return };
    let name = std::env::var(NAME).unwrap();
    let catalog = open(Path::new(&path));
    for number in 0.. {
        let id = format!("{name}-{}", number % 7);
        let version = catalog.load(Kind::Job, &id).unwrap().map(|found| found.version);
        match version {
            None => catalog.insert(Kind::Job, &id, &text(1)).unwrap(),
            Some(version) => catalog.replace(Kind::Job, &id, version, &text(version + 1)).unwrap(),
        }
        println!("@done {id} {}", version.map_or(1, |version| version + 1));
        let shared = catalog.load(Kind::Volume, "shared").unwrap().unwrap();
        let next = text(shared.version + 1);
        match catalog.replace(Kind::Volume, "shared", shared.version, &next) {
            Ok(()) => println!("@done shared {}", shared.version + 1),
            Err(Error::Changed { .. }) => {}
            Err(error) => println!("@failed {error}"),
        }
        if number == 0 {
            println!("@ready");
        }
    }
}

/// A text that is whole only with its version, and has several pages.
fn text(version: u64) -> String {
    format!("\"{}\"", format!("{version} ").repeat(2000))
}

/// This test program, started once more as one that writes.
struct Worker {
    child: Child,
    output: BufReader<ChildStdout>,
    said: String,
}

impl Worker {
    fn start(test: &str, path: &Path, name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env(CATALOG, path)
            .env(NAME, name)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("@ready\n") {
            assert_ne!(output.read_line(&mut said).unwrap(), 0, "the worker did not begin");
        }
        Self { child, output, said }
    }

    /// Kills it, and returns which documents it has said that it has written, as which version.
    fn kill(mut self) -> Vec<(String, u64)> {
        self.child.kill().unwrap();
        let mut said = self.said;
        self.output.read_to_string(&mut said).unwrap();
        self.child.wait().unwrap();
        let end = said.rfind('\n').map_or(0, |end| end + 1);
        let lines = said[..end].lines().filter_map(|line| line.strip_prefix('@'));
        lines
            .filter(|line| *line != "ready")
            .map(|line| {
                let words: Vec<_> = line.split(' ').collect();
                let ["done", id, version] = words[..] else { panic!("{line}") };
                (id.to_owned(), version.parse().unwrap())
            })
            .collect()
    }
}

/// Makes sure that every document is whole, and not older than what was said to be written.
fn check(path: &Path, written: &BTreeMap<String, u64>) {
    let catalog = open(path);
    let found: BTreeMap<_, _> = [Kind::Job, Kind::Volume]
        .into_iter()
        .flat_map(|kind| catalog.list(kind, None, 1000).unwrap())
        .map(|document| {
            assert!(document.json == text(document.version), "{} is no whole", document.id);
            (document.id, document.version)
        })
        .collect();
    for (id, version) in written {
        let found = found.get(id).copied().unwrap_or(0);
        assert!(found >= *version, "{id} was written as {version}, and is {found}");
    }
    let integrity: String =
        catalog.connection().pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
}

#[test]
fn what_was_committed_survives_a_kill_at_any_moment() {
    work();
    let (_place, path) = place();
    open(&path).insert(Kind::Volume, "shared", &text(1)).unwrap();
    let test = "catalog::sqlite::tests::crash::what_was_committed_survives_a_kill_at_any_moment";
    let mut written = BTreeMap::new();
    for round in 0..ROUNDS {
        let worker = Worker::start(test, &path, "only");
        std::thread::sleep(Duration::from_micros(round * 1777 % 30_000));
        written.extend(worker.kill());
        check(&path, &written);
    }
    // Each has written at least once.
    let first = open(&path).load(Kind::Job, "only-0").unwrap().unwrap();
    assert!(first.version >= ROUNDS, "version {} after {ROUNDS} workers", first.version);
}

#[test]
fn several_processes_write_at_once_and_lose_nothing() {
    work();
    let (_place, path) = place();
    open(&path).insert(Kind::Volume, "shared", &text(1)).unwrap();
    let test = "catalog::sqlite::tests::crash::several_processes_write_at_once_and_lose_nothing";
    let names = ["one", "two", "three"];
    let workers = names.map(|name| Worker::start(test, &path, name));
    std::thread::sleep(Duration::from_millis(1500));
    let mut shared = Vec::new();
    let mut written = BTreeMap::new();
    for (worker, name) in workers.into_iter().zip(names) {
        let said = worker.kill();
        assert!(said.iter().any(|(id, _)| id.starts_with(name)), "{name} has written nothing");
        shared.extend(said.iter().filter(|(id, _)| id == "shared").map(|(_, version)| *version));
        for (id, version) in said {
            let last = written.entry(id).or_insert(0);
            *last = version.max(*last);
        }
    }
    check(&path, &written);
    let count = shared.len();
    shared.sort_unstable();
    shared.dedup();
    assert_eq!(shared.len(), count, "two have replaced the same version");
}

/// How often a worker is killed.
const ROUNDS: u64 = 40;
