//! Block devices for the tests of what comes on top of one.

use std::fs::File;
use std::path::{Path, PathBuf};

use strongroom_testkit::{Tool, run, skip};
use tempfile::TempDir;

/// A file of zeros as a block device, in a directory of its own. Everything is undone on drop.
pub(crate) struct TestDevice {
    directory: TempDir,
    device: PathBuf,
}

impl TestDevice {
    /// Returns a device of `len` bytes, or `None` and the reason said why `test` cannot be run.
    pub(crate) fn new(test: &str, len: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() || !Tool::LOSETUP.available() {
            skip(test, "only root with losetup makes block devices");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        File::create(&file).unwrap().set_len(len).unwrap();
        let mut command = Tool::LOSETUP.command();
        command.args(["--find", "--show"]).arg(&file);
        let device = PathBuf::from(run(command, b"").ok().trim());
        std::fs::create_dir(directory.path().join("mnt")).unwrap();
        Some(Self { directory, device })
    }

    /// Returns the device.
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }

    /// Returns the file below.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("file")
    }

    /// Returns an empty directory to mount at.
    pub(crate) fn target(&self) -> PathBuf {
        self.path("mnt")
    }

    /// Returns a path in the directory of this device.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes it longer.
    pub(crate) fn grow(&self, len: u64) {
        File::options().write(true).open(self.file()).unwrap().set_len(len).unwrap();
        let mut command = Tool::LOSETUP.command();
        run(
            {
                command.arg("--set-capacity").arg(&self.device);
                command
            },
            b"",
        )
        .ok();
    }
}

impl Drop for TestDevice {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.directory.path()).into_iter().flatten().flatten() {
            // What a failed test has left mounted.
            let _ = crate::mount::unmount(&entry.path());
        }
        let mut command = Tool::LOSETUP.command();
        command.arg("--detach").arg(&self.device);
        run(command, b"");
    }
}
