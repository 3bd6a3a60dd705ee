//! Changes that are killed before each of their calls to the kernel, one after the other.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use strongroom_testkit::{Tool, skip};

use super::crash::{Known, POOL, change, check_clean, look, source};
use super::*;

/// Says what the test, started once more, is to do.
const CHANGE: &str = "STRONGROOM_TEST_CHANGE";

/// By looking for it the test, started once more, says that it begins.
const BEGIN: &str = "/the-change-begins";

const TEST: &str = "directory::tests::every_call::a_change_that_ends_before_any_of_its_calls";

/// Whatever changes a file, and what comes in between.
const CALLS: &str = "mkdirat,openat,renameat,renameat2,unlinkat,fsync,fdatasync,ftruncate,utimensat,\
                     write,pwrite64,copy_file_range,ioctl,flock";

/// More calls of one kind than a thread of the harness makes.
const MORE: usize = 300;

fn work() {
    let Some(root) = std::env::var_os(POOL) else { return };
    let pool = Directory::open(Path::new(&root)).unwrap();
    let word = std::env::var(CHANGE).unwrap();
    // strace counts the calls of each thread for itself. So that a number means a call of this one, it
    // makes more of them first than the one that waits for it.
    let nowhere = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    for _ in 0..MORE {
        std::io::Write::write_all(&mut &nowhere, b"-").unwrap();
        assert!(fs::File::open(BEGIN).is_err());
    }
    change(&pool, &word, &volume("a")).unwrap();
    // Without what the harness would still do.
    std::process::exit(0);
}

/// Starts this test once more, under strace.
fn strace(root: &Path, word: &str, arguments: &[&str]) -> std::process::ExitStatus {
    Tool::STRACE
        .command()
        .args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace={CALLS}")])
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", TEST])
        .env(POOL, root)
        .env(CHANGE, word)
        .stdout(Stdio::null())
        .status()
        .unwrap()
}

/// Returns the calls of a change that is made, as strace writes them: those before it began, and its
/// own.
fn record(root: &Path, word: &str) -> (Vec<String>, Vec<String>) {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    assert!(strace(root, word, &["-o", log.to_str().unwrap()]).success(), "{word}");
    let log = fs::read_to_string(log).unwrap();
    let thread = log.lines().find(|line| line.contains(BEGIN)).unwrap();
    let (thread, _) = thread.split_once(' ').unwrap();
    let mut lines: Vec<_> = log
        .lines()
        .filter_map(|line| line.strip_prefix(thread))
        .map(|line| line.trim_start().to_owned())
        .filter(|line| line.contains('(') && !line.contains("resumed>"))
        .collect();
    let begin = lines.iter().rposition(|line| line.contains(BEGIN)).unwrap() + 1;
    let own = lines.split_off(begin);
    (lines, own)
}

/// Returns which calls a change makes: how many of each were there before it began, and how many are
/// there in the end.
fn calls(root: &Path, word: &str) -> Vec<(String, usize, usize)> {
    let (before, own) = record(root, word);
    let count = |lines: &[String]| {
        let mut counts = BTreeMap::<String, usize>::new();
        for line in lines {
            *counts.entry(name(line).to_owned()).or_default() += 1;
        }
        counts
    };
    let before = count(&before);
    let calls = count(&own).into_iter().map(|(name, own)| {
        let first = before.get(&name).copied().unwrap_or(0);
        (name, first, first + own)
    });
    calls.collect()
}

fn name(line: &str) -> &str {
    line.split_once('(').map_or("", |(name, _)| name)
}

/// Tells whether strace works here, and says so if it does not.
fn has_strace(test: &str) -> bool {
    let works = || {
        let mut command = Tool::STRACE.command();
        command.args(["-qq", "-o", "/dev/null", "true"]).status().unwrap().success()
    };
    let found = Tool::STRACE.available() && works();
    if !found {
        skip(test, "strace is not there, or not allowed");
    }
    found
}

/// Makes the item what it is before a change.
fn prepare(pool: &Directory, word: &str) -> Known {
    let item = volume("a");
    pool.delete(&item).unwrap();
    if matches!(word, "create" | "copy") {
        return Known::Absent;
    }
    change(pool, "create", &item).unwrap();
    Known::Absent.after("create")
}

#[test]
fn a_change_that_ends_before_any_of_its_calls() {
    work();
    if !has_strace("a_change_that_ends_before_any_of_its_calls") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let source = source(&pool);
    let item = volume("a");
    for word in ["create", "copy", "grow", "mark", "delete"] {
        prepare(&pool, word);
        let mut killed = 0;
        for (name, before, count) in calls(pool.root(), word) {
            for number in before + 1..=count {
                let then = prepare(&pool, word);
                let inject = format!("inject={name}:signal=KILL:when={number}");
                let status = strace(pool.root(), word, &["-o", "/dev/null", "-e", &inject]);
                assert_eq!(status.signal(), Some(9), "{word} was not killed at {name} {number}");
                killed += 1;
                check_clean(&pool);
                let found = look(&pool, &item, &source);
                let after = then.after(word);
                let at = format!("{word}, killed at {name} {number}");
                assert!([then, after].contains(&found), "{at}: {then:?} became {found:?}");
                match change(&pool, word, &item) {
                    Err(error) if found != after => panic!("{at}, fails the next time: {error}"),
                    _ => assert_eq!(look(&pool, &item, &source), after, "{at}, and done again"),
                }
            }
        }
        assert!(killed >= 8, "{word} was killed {killed} times only");
    }
}

// What a loss of power would show: a name must not be durable before what it names, nor may a change
// return before its name is.
#[test]
fn everything_is_flushed_before_it_gets_its_name_and_so_is_the_name() {
    if !has_strace("everything_is_flushed_before_it_gets_its_name_and_so_is_the_name") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    source(&pool);
    for word in ["create", "copy", "mark", "delete"] {
        prepare(&pool, word);
        let (_, own) = record(pool.root(), word);
        let changes: Vec<_> =
            own.iter().filter(|line| !["openat", "flock", "ioctl"].contains(&name(line))).collect();
        let mut renamed = 0;
        for (index, _) in changes.iter().enumerate().filter(|(_, line)| name(line) == "renameat") {
            let around =
                [index.wrapping_sub(1), index + 1].map(|at| changes.get(at).map(|line| name(line)));
            let before = if word == "delete" { around[0] } else { Some("fsync") };
            assert_eq!(around, [before, Some("fsync")], "{word}: {changes:#?}");
            renamed += 1;
        }
        assert!(renamed > 0, "{word}: {own:#?}");
    }
}
