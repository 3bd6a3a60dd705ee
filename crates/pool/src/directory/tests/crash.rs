//! Processes that are killed, and processes that work on the same items.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use strongroom_disk::Disk;

use super::*;

/// Names the pool on which the test, started once more, is to work until it is killed.
pub(super) const POOL: &str = "STRONGROOM_TEST_POOL";

/// Says with which numbers it begins.
const SEED: &str = "STRONGROOM_TEST_SEED";

const SOURCE_LEN: u64 = 8 << 20;
const NEW_LEN: u64 = 1 << 20;
const GROWN_LEN: u64 = 2 << 20;

/// What is known of an item from what was said about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Known {
    Absent,
    New { len: u64, marked: bool },
    Copy,
}

impl Known {
    pub(super) fn after(self, word: &str) -> Self {
        match (word, self) {
            ("delete", _) => Self::Absent,
            ("create", Self::Absent) => Self::New { len: NEW_LEN, marked: false },
            ("copy", Self::Absent) => Self::Copy,
            ("grow", Self::New { marked, .. }) => Self::New { len: GROWN_LEN, marked },
            ("mark", Self::New { len, .. }) => Self::New { len, marked: true },
            (_, same) => same,
        }
    }
}

fn mark() -> FormatMark {
    FormatMark { uuid: "77".into(), stage: FormatStage::Begun }
}

/// The numbers of xorshift64.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

pub(super) fn change(pool: &Directory, word: &str, item: &Item) -> Result<()> {
    match word {
        "create" => pool.create(item, NEW_LEN),
        "copy" => pool.copy(&volume("source"), item, &()),
        "grow" => pool.grow(item, GROWN_LEN),
        "mark" => pool.mark_format(item, &mark()),
        _ => pool.delete(item),
    }
}

/// Works on a pool until it is killed. What is about to be done and what is done goes to standard
/// output.
fn work() {
    let Some(root) = std::env::var_os(POOL) else { return };
    let mut state: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let pool = Directory::open(Path::new(&root)).unwrap();
    println!("@ready");
    loop {
        let name = ["a", "b", "c"][(next(&mut state) >> 20) as usize % 3];
        let word =
            ["create", "copy", "grow", "mark", "delete"][(next(&mut state) >> 20) as usize % 5];
        println!("@begin {word} {name}");
        let item = volume(name);
        use ErrorKind::{AlreadyExists, NotFound};
        match change(&pool, word, &item) {
            Err(error) if !matches!(error.kind(), AlreadyExists | NotFound) => {
                println!("@failed {word} {name}: {error}");
                std::process::exit(1);
            }
            _ => println!("@done {word} {name}"),
        }
    }
}

/// This test program, started once more as one that works on a pool.
struct Worker {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(test: &str, root: &Path, seed: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", test])
            .env(POOL, root)
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("@ready") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the worker did not begin");
        }
        Self { child, output }
    }

    /// Kills it, and returns what it said.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        self.child.wait().unwrap();
        let end = said.rfind('\n').map_or(0, |end| end + 1);
        said[..end].lines().filter_map(|line| line.strip_prefix('@').map(str::to_owned)).collect()
    }
}

/// Makes the item that is copied, and returns its bytes.
pub(super) fn source(pool: &Directory) -> Vec<u8> {
    let source = volume("source");
    pool.create(&source, SOURCE_LEN).unwrap();
    pool.mark_format(&source, &mark()).unwrap();
    let disk = pool.open(&source, Access::ReadWrite).unwrap();
    for offset in [0, 5 << 20, (8 << 20) - 4096] {
        let bytes: Vec<u8> = (0..4096u64 * 64).map(|index| (index % 253) as u8 + 1).collect();
        let end = (offset + bytes.len() as u64).min(SOURCE_LEN);
        disk.write_at(&bytes[..(end - offset) as usize], offset).unwrap();
    }
    bytes(pool, &source)
}

fn bytes(pool: &Directory, item: &Item) -> Vec<u8> {
    let disk = pool.open(item, Access::ReadOnly).unwrap();
    let mut bytes = vec![0; disk.len() as usize];
    disk.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Returns what an item is, after making sure that it is whole.
pub(super) fn look(pool: &Directory, item: &Item, source: &[u8]) -> Known {
    let Some(entry) = pool.entry(item).unwrap() else { return Known::Absent };
    let marked = match pool.format_mark(item).unwrap() {
        Some(found) => {
            assert_eq!(found, mark());
            true
        }
        None => false,
    };
    if entry.len == SOURCE_LEN {
        assert!(marked && bytes(pool, item) == source, "{item} is a part of a copy");
        return Known::Copy;
    }
    assert!([NEW_LEN, GROWN_LEN].contains(&entry.len), "{item} is a part: {entry:?}");
    assert!(bytes(pool, item).iter().all(|&byte| byte == 0) && entry.allocated == 0);
    Known::New { len: entry.len, marked }
}

/// Makes sure that nothing is left of changes that were interrupted.
pub(super) fn check_clean(pool: &Directory) {
    pool.list().unwrap();
    for name in fs::read_dir(pool.root().join("volumes")).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name} is left");
    }
}

#[test]
fn what_is_killed_at_any_moment_leaves_whole_items() {
    work();
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let source = source(&pool);
    let mut known = BTreeMap::from(["a", "b", "c"].map(|name| (name, Known::Absent)));
    let mut interrupted = 0;
    for round in 1..=ROUNDS {
        let test = "directory::tests::crash::what_is_killed_at_any_moment_leaves_whole_items";
        let child = Worker::start(test, pool.root(), round * 7919);
        std::thread::sleep(Duration::from_micros(round * 977 % 20_000));
        let said = child.kill();
        let mut begun = None;
        for line in &said {
            let words: Vec<_> = line.split(' ').collect();
            let [what, word, name] = words[..] else { panic!("{line}") };
            let state = known.get_mut(name).unwrap();
            match what {
                "begin" => begun = Some((word.to_owned(), name.to_owned())),
                "done" => (*state, begun) = (state.after(word), None),
                _ => panic!("{line}"),
            }
        }
        interrupted += usize::from(begun.is_some());
        check_clean(&pool);
        for (name, state) in &mut known {
            let found = look(&pool, &volume(name), &source);
            let then = match &begun {
                Some((word, begun)) if begun == name => state.after(word),
                _ => *state,
            };
            assert!(
                [*state, then].contains(&found),
                "{name} was {state:?}, is {found:?}: {said:?}"
            );
            *state = found;
        }
    }
    assert!(interrupted > 10, "only {interrupted} changes were interrupted");
}

#[test]
fn two_processes_at_once_see_nothing_but_whole_items() {
    work();
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let source = source(&pool);
    let test = "directory::tests::crash::two_processes_at_once_see_nothing_but_whole_items";
    for round in 0..6 {
        let children = [1, 2].map(|number| Worker::start(test, pool.root(), round * 31 + number));
        for _ in 0..20 {
            for entry in pool.list().unwrap() {
                assert!([NEW_LEN, GROWN_LEN, SOURCE_LEN].contains(&entry.len), "{entry:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let said = children.map(Worker::kill);
        for said in &said {
            assert!(said.iter().all(|line| !line.starts_with("failed")), "{said:?}");
            assert!(said.iter().any(|line| line.starts_with("done")), "a worker did nothing");
        }
        check_clean(&pool);
        for name in ["a", "b", "c"] {
            look(&pool, &volume(name), &source);
        }
    }
}

/// How often a worker is killed.
const ROUNDS: u64 = 60;
