//! The process of a service.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;

use crate::message::{self, Answer, Task};
use crate::{Error, OpenedVolume, Result, fuse, nbd, sys};

/// A service that was started by a [`Launcher`](crate::Launcher).
#[derive(Debug)]
pub struct Service(());

/// Tells whoever has started the service that it is ready.
#[derive(Debug)]
#[must_use = "somebody waits for it"]
pub(crate) struct Readiness(());

impl Service {
    /// Reads what to serve from `input`, tells whoever started it that it is ready, and serves until it
    /// is stopped. The answer goes to standard output.
    ///
    /// # Assumptions
    ///
    /// This is all that the process does, and it has one thread: everything that is open is closed,
    /// but for standard input, output, error and `input`.
    ///
    /// # Errors
    ///
    /// When the input is not what a launcher sends, or the service cannot begin. The launcher is told.
    pub fn run(mut input: File) -> Result<()> {
        sys::process::close_inherited(&input);
        harden();
        let result = detach()
            .map_err(|source| Error::from_io("the service cannot stand on its own", source))
            .and_then(|()| message::receive(&mut input))
            .and_then(|(task, volume)| {
                drop(input);
                perform(&task, volume)
            });
        if let Err(error) = &result {
            // After it was ready nobody listens any more.
            let _ = tell(&Answer::failed(error));
        }
        result
    }
}

impl Readiness {
    /// Tells it. From now on this process has no pipe to the one that started it.
    pub(crate) fn tell(self) -> Result<()> {
        tell(&Answer::Ready)
            .and_then(|()| {
                let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
                rustix::stdio::dup2_stdin(&nothing)?;
                rustix::stdio::dup2_stdout(&nothing)?;
                Ok(())
            })
            .map_err(|source| Error::from_io("whoever started the service is gone", source))
    }
}

/// Keeps the memory of this process private and in place. What the kernel knows of these, or allows,
/// differs; nothing depends on any of it.
pub(crate) fn harden() {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(Resource::Core, none);
    // Without these two the kernel could wait for us to free memory, by writing to us.
    let _ = rustix::process::configure_io_flusher_behavior(true);
    // Only what is in use: buffers and stacks that nobody has touched yet take no memory. Whoever has
    // a limit must not lock what is still to come, which would be refused instead.
    let unlimited = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let future = if unlimited { MlockAllFlags::FUTURE } else { MlockAllFlags::empty() };
    let _ = rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT | future);
    // To end this process frees little memory and breaks a file system.
    let _ = fs::write("/proc/self/oom_score_adj", "-900");
}

/// Leaves the terminal and folder of whoever started it. The mount namespace stays: a copy of it would
/// keep every volume that is mounted in it from being unmounted.
fn detach() -> io::Result<()> {
    // Who leads a group of processes has a session of its own already, or cannot get one.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    Ok(())
}

fn perform(task: &Task, volume: OpenedVolume) -> Result<()> {
    match task {
        Task::Fuse(task) => fuse::serve(task, volume, Readiness(())),
        Task::Nbd(task) => nbd::serve(task, volume, Readiness(())),
    }
}

fn tell(answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    // Past the buffer of the library, which would have the rest of a line that nobody reads.
    let mut output = File::from(rustix::io::dup(rustix::stdio::stdout())?);
    output.write_all(&line)
}
