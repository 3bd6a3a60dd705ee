//! The service that this crate's own tests start. The product's is a hidden command of `strongroom`.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitCode;

fn main() -> ExitCode {
    let input = std::io::stdin().as_fd().try_clone_to_owned().map(File::from);
    match input.map(strongroom_attach::Service::run) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
