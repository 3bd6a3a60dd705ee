//! `strongroom attachment-service`: the process that serves an attached volume. Only our own launcher
//! starts it.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitCode;

use strongroom_attach::Service;

use crate::command_error::CommandError;

/// Returns whether that is what this program was started for.
pub(crate) fn is_asked_for() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    arguments.next().is_some_and(|first| first == NAME) && arguments.next().is_none()
}

/// Serves until the volume is detached.
///
/// # Errors
///
/// When the service cannot begin. Whoever has started it knows by then.
pub(crate) fn run() -> Result<ExitCode, CommandError> {
    // The library's own standard input would keep the volume key in its buffer.
    let input = std::io::stdin().as_fd().try_clone_to_owned().map(File::from);
    let input =
        input.map_err(|source| CommandError::io("cannot read what to serve".to_owned(), source))?;
    Service::run(input).map_err(strongroom::Error::from)?;
    Ok(ExitCode::SUCCESS)
}

/// The only argument.
const NAME: &str = "attachment-service";
