//! QEMU's own programs, which say what an image holds.

use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_disk::qcow2::{Gate, NamedFile, Qcow2, Role};
use strongroom_disk::{Access, Disk, Raw, Resizable, Result};

/// Returns whether the programs are there; says so when they are not.
pub(crate) fn available(test: &str) -> bool {
    let found = ["qemu-img", "qemu-io"]
        .iter()
        .all(|tool| Command::new(tool).arg("--version").output().is_ok());
    if !found {
        strongroom_testkit::skip(test, "qemu-img or qemu-io is missing");
    }
    found
}

/// Runs a program in a directory and returns what it prints.
pub(crate) fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let once = || {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(directory);
        strongroom_testkit::run(command, b"")
    };
    let stdout = strongroom_testkit::measured(once).ok();
    assert!(!stdout.contains("Pattern verification failed"), "{arguments:?}: {stdout}");
    stdout
}

/// Runs `qemu-img`.
pub(crate) fn qemu_img(directory: &Path, arguments: &str) -> String {
    run(directory, "qemu-img", &arguments.split_whitespace().collect::<Vec<_>>())
}

/// Runs commands of `qemu-io` on an image.
pub(crate) fn qemu_io(directory: &Path, image: &[&str], commands: &[String]) -> String {
    let mut arguments = Vec::new();
    for command in commands {
        arguments.extend(["-c", command]);
    }
    arguments.extend(image);
    run(directory, "qemu-io", &arguments)
}

/// A gate that opens what lies in one directory.
pub(crate) struct Within<'a>(pub(crate) &'a Path, pub(crate) Access);

impl Within<'_> {
    fn path(&self, named: &NamedFile<'_>) -> PathBuf {
        let name = Path::new(named.name);
        self.0.join(name.strip_prefix(self.0).unwrap_or(name))
    }
}

impl Gate for Within<'_> {
    fn backing(&self, named: &NamedFile<'_>) -> Result<Box<dyn Disk>> {
        assert_eq!(named.role, Role::Backing);
        let raw = Raw::open(self.path(named), Access::ReadOnly)?;
        match named.format {
            Some("raw") => Ok(Box::new(raw)),
            Some("qcow2") => Ok(Box::new(Qcow2::open(raw, Access::ReadOnly, self)?)),
            other => panic!("the backing file has format {other:?}"),
        }
    }

    fn data_file(&self, named: &NamedFile<'_>) -> Result<Box<dyn Resizable>> {
        Ok(Box::new(Raw::open(self.path(named), self.1)?))
    }
}

/// Opens an image in a directory with everything that it names there.
pub(crate) fn open(directory: &Path, name: &str, access: Access) -> Qcow2<Raw> {
    let raw = Raw::open(directory.join(name), access).unwrap();
    Qcow2::open(raw, access, &Within(directory, access)).unwrap()
}

/// Numbers that look random and are the same in every run (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns a range of at most `longest` bytes, often one that begins or ends at a cluster.
    pub(crate) fn range(&mut self, len: u64, longest: u64, cluster: u64) -> std::ops::Range<u64> {
        let mut start = self.below(len);
        if self.below(3) == 0 {
            start = start / cluster * cluster;
        }
        let mut end = (start + 1 + self.below(longest)).min(len);
        if self.below(3) == 0 {
            end = end.next_multiple_of(cluster).min(len);
        }
        start..end
    }

    pub(crate) fn bytes(&mut self, length: u64) -> Vec<u8> {
        let seed = self.next();
        (0..length).map(|index| (seed.wrapping_add(index / 16) % 255) as u8 + 1).collect()
    }
}
