//! Volumes as people use them: with loop devices, FUSE and file systems of this machine.

mod copies;
mod hazards;
mod keys;
mod life;
mod reports;

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use strongroom_attach::{Support, fuse, loop_device};
use strongroom_testkit::{Outcome, run, skip};

use crate::secrecy::holds_canary;
use crate::workplace::{CHEAP, Workplace};

/// A pool of a test's own. When it is over nothing is attached any more, and nothing that was said held
/// a passphrase.
struct VolumePlace {
    place: Workplace,
    said: RefCell<String>,
}

impl VolumePlace {
    /// Returns a pool with the passphrase files `pw`, `new` and `wrong` and the directory `m`; `None`, and
    /// the test is skipped, where this machine has no way to mount volumes.
    fn new(test: &str) -> Option<Self> {
        for support in [loop_device::support(), fuse::support()] {
            if let Support::Missing { what, .. } = support {
                skip(test, &what);
                return None;
            }
        }
        Some(Self::without_devices())
    }

    /// Returns the same for a test that attaches nothing.
    fn without_devices() -> Self {
        let place = Workplace::with_canaries();
        fs::create_dir(place.path("m")).unwrap();
        Self { place, said: RefCell::default() }
    }

    /// Runs `strongroom volume …`.
    fn volume(&self, words: &str) -> Outcome {
        let mut command = self.place.command(&format!("volume {words}"));
        command.env("STRONGROOM_POOL", self.place.path("pool"));
        let outcome = run(command, b"");
        self.said.borrow_mut().push_str(&format!("{}{}", outcome.stdout, outcome.stderr));
        outcome
    }

    /// Runs it with `--json` and returns what it says.
    fn json(&self, words: &str) -> Value {
        let text = self.volume(&format!("{words} --json")).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Makes a volume with a passphrase, of this size.
    fn create(&self, name: &str, size: &str) {
        self.volume(&format!("create {name} --size {size} --encrypt passphrase")).ok();
    }

    /// Mounts a volume with a passphrase at `m`.
    fn mount(&self, name: &str) {
        self.volume(&format!("attach {name} --mount m --passphrase-file pw {CHEAP}")).ok();
    }

    fn detach(&self, name: &str) {
        self.volume(&format!("detach {name}")).ok();
    }

    /// Returns the file with the bytes of a volume.
    fn device_file(&self, name: &str) -> PathBuf {
        let outcome = self.volume(&format!("report {name} --json"));
        let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
        PathBuf::from(report["device_file"].as_str().unwrap())
    }

    /// Returns what stands in the file `note` of the mounted volume; `None` when there is none.
    fn note(&self) -> Option<String> {
        fs::read_to_string(self.place.path("m/note")).ok()
    }

    fn write_note(&self, text: &str) {
        self.place.write("m/note", text);
    }
}

impl Drop for VolumePlace {
    fn drop(&mut self) {
        let listed = self.volume("list --json");
        let listed: Value = serde_json::from_str(&listed.stdout).unwrap_or_default();
        for volume in listed["volumes"].as_array().into_iter().flatten() {
            if let Some(name) = volume["volume"].as_str() {
                self.volume(&format!("detach {name}"));
            }
        }
        if !std::thread::panicking() {
            assert!(!holds_canary(self.said.borrow().as_bytes()), "a passphrase was printed");
        }
    }
}
