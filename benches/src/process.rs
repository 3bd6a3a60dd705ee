//! Processes and what they use: wall time, processor time, resident memory.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, ops};

use nix::sys::resource::{UsageWho, getrusage};

use crate::error::Error;

/// A program with its arguments. `Display` gives what a person would type.
#[derive(Debug, Clone)]
pub(crate) struct CommandLine {
    words: Vec<OsString>,
}

/// What a process used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// From start to end.
    pub(crate) wall: Duration,
    /// User and system time of all of its threads.
    pub(crate) cpu: Duration,
    /// The most memory that was resident at a time, in KiB.
    pub(crate) resident_kib: u64,
}

impl CommandLine {
    /// Returns a program without arguments.
    pub(crate) fn new(program: impl AsRef<Path>) -> Self {
        Self { words: vec![program.as_ref().as_os_str().to_owned()] }
    }

    /// Adds the words of a text, which are parted by blanks.
    #[must_use]
    pub(crate) fn words(mut self, text: &str) -> Self {
        self.words.extend(text.split_ascii_whitespace().map(OsString::from));
        self
    }

    /// Adds a path.
    #[must_use]
    pub(crate) fn path(mut self, path: &Path) -> Self {
        self.words.push(path.as_os_str().to_owned());
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Process`] when it does not succeed.
    pub(crate) fn run(&self) -> Result<(), Error> {
        self.output().map(drop)
    }

    /// Runs it to its end, and tells what it used.
    ///
    /// A small process of this very program stands in between. The kernel tells the peak of the
    /// children together, and a child counts what its parent held when it was started.
    pub(crate) fn measured(&self) -> Result<Usage, Error> {
        let this = env::current_exe().map_err(Error::system(&"this program"))?;
        let mut wrapped = Self::new(this).words("measure");
        wrapped.words.extend(self.words.iter().cloned());
        let text = wrapped.output()?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse);
        let (Some(Ok(wall)), Some(Ok(cpu)), Some(Ok(resident_kib))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(Error::Wrong(format!("`{self}` was not measured: {text:?}")));
        };
        let (wall, cpu) = (Duration::from_micros(wall), Duration::from_micros(cpu));
        Ok(Usage { wall, cpu, resident_kib })
    }

    /// Runs it to its end and returns what it printed.
    pub(crate) fn output(&self) -> Result<String, Error> {
        let output = self.command().stdin(Stdio::null()).output().map_err(Error::system(self))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Process {
            command: self.to_string(),
            status: output.status,
            text: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |word: &OsString| match word.to_string_lossy() {
            word if word.contains(' ') => format!("'{word}'"),
            word => word.into_owned(),
        };
        let words: Vec<String> = self.words.iter().map(quoted).collect();
        f.write_str(&words.join(" "))
    }
}

/// What is left of time when that of other work is taken off. The peak stays as it is.
impl ops::Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            wall: self.wall.saturating_sub(other.wall),
            cpu: self.cpu.saturating_sub(other.cpu),
            resident_kib: self.resident_kib,
        }
    }
}

/// Runs a program and prints microseconds of wall time, microseconds of processor time, and its
/// peak in KiB. Its own output is dropped.
pub(crate) fn measure(words: &[OsString]) -> Result<ExitCode, Error> {
    let command = CommandLine { words: words.to_vec() };
    if words.is_empty() {
        return Err(Error::Usage);
    }
    let start = Instant::now();
    let status =
        command.command().stdout(Stdio::null()).status().map_err(Error::system(&command))?;
    let wall = start.elapsed();
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(Error::Resources)?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let cpu = micros(used.user_time()) + micros(used.system_time());
    println!("{} {cpu} {}", wall.as_micros(), used.max_rss());
    Ok(ExitCode::SUCCESS)
}
