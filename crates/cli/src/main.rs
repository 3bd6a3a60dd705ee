//! Edge. The command line: parses words, calls a use case, prints what came of it.

#![forbid(unsafe_code)]

mod arguments;
mod command_error;
mod commands;
mod interruption;
mod key_arguments;
mod kms_arguments;
mod passphrases;
mod server_arguments;
mod sizes;
mod times;
mod ui;
mod yaml;

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use zeroizing_alloc::ZeroAlloc;

use commands::{Command, attachment_service};
use ui::Ui;

/// Wipes memory that is freed. Our own secrets are wiped where they are; what HTTP and TLS make of a
/// token on its way to a KMS lies in buffers of theirs.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Encrypt storage volumes and virtual-machine images at rest, under keys that you hold
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, after_help = commands::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    keep_memory_private();
    let mut ui = Ui::new();
    // Before anything is parsed: the table of all commands takes more memory than the service does.
    let result = if attachment_service::is_asked_for() {
        attachment_service::run()
    } else {
        Cli::parse().command.run(&mut ui)
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            error.print(&mut ui);
            error.exit_code()
        }
    }
}

/// Keeps passphrases and keys out of core dumps, and other processes of the user out of memory.
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit};
    // Where the system does not know one of these there is nothing to be done about it.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(Resource::Core, none);
}
