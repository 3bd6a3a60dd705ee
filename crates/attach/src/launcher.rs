//! Services that outlive the command which starts them: each is a process of its own.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::message::{self, Answer, Task};
use crate::{Error, ErrorKind, OpenedVolume, Result};

/// How to start this program again, as a service.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// The arguments by which it knows that it is to run [`Service::run`](crate::Service::run). They
    /// hold no secret: what the service needs, the volume key too, comes through its standard input.
    pub arguments: Vec<OsString>,
}

impl Launcher {
    /// Starts a service and returns once it says that it is ready.
    ///
    /// It gets no variable of our environment but `PATH`: tokens may lie there.
    ///
    /// # Errors
    ///
    /// Those that the service tells; [`ErrorKind::Io`] when it says nothing in time. It has ended then.
    pub(crate) fn start(&self, task: &Task, volume: &OpenedVolume) -> Result<()> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| {
                Error::from_io(format!("cannot start {}", self.program.display()), source)
            })?;
        let answer = converse(&mut child, task, volume);
        let result = match answer {
            Ok(Some(answer)) => answer.into_result(),
            Ok(None) => Err(self.broken("ended before it was ready")),
            Err(source) => Err(self.broken("does not answer").with_source(source)),
        };
        if result.is_err() {
            // It may have ended by itself.
            let _ = child.kill();
        }
        reap(child);
        result
    }

    fn broken(&self, problem: &str) -> Error {
        Error::new(ErrorKind::Io, format!("the service of {} {problem}", self.program.display()))
            .hinted("see the kernel's log: it may have been killed for want of memory")
    }
}

/// Sends the request and reads the answer; `None` when there is none.
fn converse(child: &mut Child, task: &Task, volume: &OpenedVolume) -> io::Result<Option<Answer>> {
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Ok(None);
    };
    match message::send(task, volume, &mut input) {
        // Whoever does not read it all may have something to say.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => drop(input),
    }
    let deadline = Instant::now() + LIMIT;
    let mut line = Vec::new();
    let mut piece = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: 0 };
        let mut polled = [PollFd::new(&output, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let read = output.read(&mut piece)?;
        line.extend_from_slice(&piece[..read]);
        if line.ends_with(b"\n") {
            return Ok(Some(serde_json::from_slice(&line)?));
        }
        if read == 0 {
            return Ok(None);
        }
    }
}

/// Waits for the service to end, so that nothing is left of it in the table of processes as long as
/// this one runs: a driver in a container may be everybody's parent.
fn reap(mut child: Child) {
    let waiting = std::thread::Builder::new()
        .name("service-end".to_owned())
        .stack_size(REAPER_STACK)
        .spawn(move || child.wait());
    // Without a thread an entry stays in that table, and nothing worse.
    drop(waiting);
}

/// How long a service may take to become ready: far longer than any does, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(60);

/// The bytes of stack of a thread that only waits.
const REAPER_STACK: usize = 64 << 10;
