//! Other people's tools, which tell whether ours is right.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A program that tests call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tool {
    name: &'static str,
}

/// What a program has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code, `None` when a signal ended the program.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// The command, for messages.
    pub command: String,
}

impl Tool {
    /// The reference implementation of LUKS.
    pub const CRYPTSETUP: Self = Self { name: "cryptsetup" };

    /// QEMU's image tool, which has LUKS1 code of its own.
    pub const QEMU_IMG: Self = Self { name: "qemu-img" };

    /// QEMU's tool for single reads and writes.
    pub const QEMU_IO: Self = Self { name: "qemu-io" };

    /// Asks NBD servers what they have, by libnbd.
    pub const NBDINFO: Self = Self { name: "nbdinfo" };

    /// Copies to and from NBD servers, by libnbd.
    pub const NBDCOPY: Self = Self { name: "nbdcopy" };

    /// Makes file systems.
    pub const MKFS_EXT4: Self = Self { name: "mkfs.ext4" };

    /// Makes XFS.
    pub const MKFS_XFS: Self = Self { name: "mkfs.xfs" };

    /// Makes FAT.
    pub const MKFS_FAT: Self = Self { name: "mkfs.fat" };

    /// Makes swap space.
    pub const MKSWAP: Self = Self { name: "mkswap" };

    /// Makes block devices of files.
    pub const LOSETUP: Self = Self { name: "losetup" };

    /// Tells whether a file system is whole.
    pub const FSCK_EXT4: Self = Self { name: "fsck.ext4" };

    /// Tells whether a file system is whole.
    pub const XFS_REPAIR: Self = Self { name: "xfs_repair" };

    /// Makes a file system as large as its device.
    pub const XFS_GROWFS: Self = Self { name: "xfs_growfs" };

    /// Mounts file systems in user space for whoever is not root.
    pub const FUSERMOUNT3: Self = Self { name: "fusermount3" };

    /// Reads the files of a file system that is not mounted.
    pub const DEBUGFS: Self = Self { name: "debugfs" };

    /// Writes and reads tables of partitions.
    pub const SFDISK: Self = Self { name: "sfdisk" };

    /// Shows the system calls of a process, and kills it at one of them.
    pub const STRACE: Self = Self { name: "strace" };

    /// Gives a command a terminal of its own.
    pub const SCRIPT: Self = Self { name: "script" };

    /// Runs virtual machines.
    pub const QEMU_SYSTEM: Self = Self { name: "qemu-system-x86_64" };

    /// Tells libvirt daemons what to do.
    pub const VIRSH: Self = Self { name: "virsh" };

    /// Returns a program by its name.
    pub(crate) const fn named(name: &'static str) -> Self {
        Self { name }
    }

    /// Returns the program's name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Tells whether this machine has the program.
    pub fn available(self) -> bool {
        std::env::split_paths(&search_path()).any(|directory| directory.join(self.name).is_file())
    }

    /// Returns a command that starts the program, its messages in English.
    pub fn command(self) -> Command {
        let mut command = Command::new(self.name);
        command.env("PATH", search_path()).env("LC_ALL", "C");
        command
    }
}

impl Outcome {
    /// Returns the outcome if the program succeeded.
    ///
    /// # Errors
    ///
    /// The command with everything that it said.
    pub fn success(self) -> Result<Self, String> {
        if self.code == Some(0) { Ok(self) } else { Err(self.describe()) }
    }

    /// Returns what the program wrote to standard output.
    ///
    /// # Panics
    ///
    /// When it failed.
    #[allow(clippy::panic)]
    pub fn ok(self) -> String {
        match self.success() {
            Ok(outcome) => outcome.stdout,
            Err(description) => panic!("{description}"),
        }
    }

    /// Returns what the program wrote to standard error.
    ///
    /// # Panics
    ///
    /// When it did not end with this code.
    pub fn fails(self, code: i32) -> String {
        assert!(self.code == Some(code), "code {code} was expected: {}", self.describe());
        self.stderr
    }

    /// Returns the command, how it ended and what it said.
    pub fn describe(&self) -> String {
        let Self { code, stdout, stderr, command } = self;
        let end = code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
        format!("{command}\nended with {end}\n{stdout}{stderr}")
    }
}

/// Repeats what fails because QEMU could not measure how fast the machine is: on a busy one, or where the
/// clock for that stands still now and then.
pub fn measured(attempt: impl Fn() -> Outcome) -> Outcome {
    let is_measured =
        |outcome: &Outcome| !outcome.stderr.contains("Unable to get accurate CPU usage");
    (0..20).map(|_| attempt()).find(is_measured).unwrap_or_else(attempt)
}

/// Runs a command to its end, which must come within [`LIMIT`], and gives it `stdin` to read.
///
/// # Panics
///
/// When the program cannot be started or takes too long; it is ended then.
pub fn run(mut command: Command, stdin: &[u8]) -> Outcome {
    let line = command_line(&command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut input = child.stdin.take().expect("standard input is a pipe");
    let mut output = child.stdout.take().expect("standard output is a pipe");
    let mut errors = child.stderr.take().expect("standard error is a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read everything is none of our business.
            let _ = input.write_all(stdin);
        });
        let output = scope.spawn(move || read_all(&mut output));
        let errors = scope.spawn(move || read_all(&mut errors));
        let status = wait(&mut child, LIMIT);
        let stdout = output.join().expect("reading does not panic");
        let stderr = errors.join().expect("reading does not panic");
        assert!(status.is_some(), "{line}\ntook more than {LIMIT:?}\n{stdout}{stderr}");
        Outcome { code: status.and_then(|status| status.code()), stdout, stderr, command: line }
    })
}

/// Waits for a program to end. One that takes longer than `limit` is killed, and `None` returned.
///
/// # Panics
///
/// When it cannot be waited for.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our own child can be waited for") {
            return Some(status);
        }
        if start.elapsed() > limit {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
            return None;
        }
        std::thread::sleep(POLL);
    }
}

fn read_all(pipe: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // What came before an error is still worth showing.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn command_line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns where programs lie: Debian keeps those of administrators out of a user's own path.
fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    std::env::join_paths(directories).unwrap_or(path)
}

/// How long a program may take: far longer than any does, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: Tool = Tool { name: "cat" };

    #[test]
    fn passes_input_on_and_output_back() {
        assert!(CAT.available());
        assert_eq!(run(CAT.command(), b"words").ok(), "words");
    }

    #[test]
    fn tells_how_a_program_failed() {
        let mut command = CAT.command();
        command.arg("/does/not/exist");
        let message = run(command, b"").fails(1);
        assert!(message.contains("No such file"), "{message}");
    }

    #[test]
    fn ends_what_takes_too_long() {
        let mut command = Tool { name: "sleep" }.command();
        let mut child = command.arg("60").spawn().unwrap();
        assert!(wait(&mut child, Duration::from_millis(20)).is_none());
    }

    #[test]
    fn knows_what_the_machine_lacks() {
        assert!(!Tool { name: "no-such-program-anywhere" }.available());
    }
}
