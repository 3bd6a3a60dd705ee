//! A directory to work in, and the program to work with.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use strongroom_disk::{Access, Raw};
use strongroom_testkit::{Outcome, Pattern, Tool, measured, run, skip};
use tempfile::TempDir;

use crate::secrecy::{CANARY, NEW_CANARY};

/// A directory of a test's own, gone when it is over. Commands are written as one string, split at
/// spaces, and run in it.
pub(crate) struct Workplace {
    directory: TempDir,
}

impl Workplace {
    /// Returns a directory with the passphrase files `pw`, `new` and `wrong`.
    pub(crate) fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        for (name, passphrase) in [("pw", "passphrase"), ("new", "another"), ("wrong", "guess")] {
            place.write(name, passphrase);
        }
        place
    }

    /// Returns the same, but that the right passphrases stand nowhere else.
    pub(crate) fn with_canaries() -> Self {
        let place = Self::new();
        place.write("pw", CANARY);
        place.write("new", NEW_CANARY);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Makes a plain image: a pattern with holes.
    pub(crate) fn image(&self, name: &str, len: u64) {
        self.image_of(name, len, &Pattern::sparse(len ^ 0x5eed, 4096));
    }

    pub(crate) fn image_of(&self, name: &str, len: u64, pattern: &Pattern) {
        self.sized(name, len);
        pattern.write_to(&Raw::open(self.path(name), Access::ReadWrite).unwrap()).unwrap();
    }

    /// Makes a file of holes.
    pub(crate) fn sized(&self, name: &str, len: u64) {
        File::create(self.path(name)).unwrap().set_len(len).unwrap();
    }

    /// Returns how many bytes of the disk a file takes.
    pub(crate) fn allocated(&self, name: &str) -> u64 {
        self.path(name).metadata().unwrap().blocks() * 512
    }

    pub(crate) fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Makes a journal that a test has put there be about the unfinished file that it has put
    /// there, as if that were the one that the job has left.
    pub(crate) fn bind_journal(&self, name: &str) {
        let (journal, partial) = (format!("{name}.journal"), format!("{name}.partial"));
        if !self.exists(&journal) || !self.exists(&partial) {
            return;
        }
        let found = self.path(&partial).metadata().unwrap();
        if let Ok(mut value) = serde_json::from_slice::<Value>(&self.read(&journal))
            && value.get("file").is_some()
        {
            value["file"] = json!([found.dev(), found.ino()]);
            self.write(&journal, value.to_string());
        }
    }

    /// Returns the names of all files, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Tells whether both files have the same bytes.
    pub(crate) fn same(&self, one: &str, other: &str) -> Result<(), String> {
        let (one_bytes, other_bytes) = (self.read(one), self.read(other));
        if one_bytes == other_bytes {
            return Ok(());
        }
        let at = one_bytes.iter().zip(&other_bytes).position(|(a, b)| a != b);
        let (one_len, other_len) = (one_bytes.len(), other_bytes.len());
        Err(format!("{one} ({one_len} bytes) and {other} ({other_len} bytes) differ at {at:?}"))
    }

    /// Runs the program under test.
    pub(crate) fn strongroom(&self, words: &str) -> Outcome {
        run(self.command(words), b"")
    }

    /// Runs the program under test with something on its standard input.
    pub(crate) fn strongroom_reading(&self, words: &str, stdin: &[u8]) -> Outcome {
        run(self.command(words), stdin)
    }

    pub(crate) fn cryptsetup(&self, words: &str) -> Outcome {
        run(self.prepared(Tool::CRYPTSETUP.command(), words), b"")
    }

    pub(crate) fn qemu_img(&self, words: &str) -> Outcome {
        measured(|| run(self.prepared(Tool::QEMU_IMG.command(), words), b""))
    }

    /// Starts the program under test and lets it run.
    pub(crate) fn start(&self, words: &str) -> Child {
        self.command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        self.prepared(Command::new(BINARY), words)
    }

    fn prepared(&self, mut command: Command, words: &str) -> Command {
        command.args(words.split_whitespace()).current_dir(self.directory.path());
        command
    }
}

/// Tells whether a test may go on: all the tools are there. Otherwise it is skipped.
pub(crate) fn has(test: &str, tools: &[Tool]) -> bool {
    let missing = tools.iter().find(|tool| !tool.available());
    if let Some(tool) = missing {
        skip(test, &format!("{} is not installed", tool.name()));
    }
    missing.is_none()
}

/// Waits until a process has created the file that is to become its target. That has no name, or
/// one that ends in `.partial` where the file system has no files without a name.
pub(crate) fn wait_for_target(child: &Child) {
    let process = PathBuf::from(format!("/proc/{}", child.id()));
    let start = Instant::now();
    loop {
        let begun = match fs::read_dir(process.join("fd")) {
            Ok(descriptors) => descriptors.flatten().any(|descriptor| {
                let file = fs::read_link(descriptor.path()).unwrap_or_default();
                let file = file.to_string_lossy();
                file.ends_with(" (deleted)") || file.ends_with(".partial")
            }),
            // Only root may look at the descriptors of a process that may not be dumped. The time
            // that it has worked is for all to see: in user mode and in the kernel, in hundredths
            // of a second, the 12th and 13th words behind its name.
            Err(_) => {
                let stat = fs::read_to_string(process.join("stat")).unwrap();
                let words = stat.rsplit(')').next().unwrap().split_whitespace();
                words.skip(11).take(2).map(|word| word.parse::<u64>().unwrap()).sum::<u64>() >= 10
            }
        };
        if begun {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal to a process that a test has started.
pub(crate) fn signal(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_strongroom");

/// What makes keys cheap to derive with the program under test.
pub(crate) const CHEAP: &str = "--pbkdf pbkdf2 --pbkdf-iterations 1000";

/// The same for `cryptsetup`.
pub(crate) const CRYPTSETUP_CHEAP: &str = "-q --pbkdf pbkdf2 --pbkdf-force-iterations 1000";
