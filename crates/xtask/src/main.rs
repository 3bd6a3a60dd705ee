//! Edge. The house's own tools: `cargo run -p xtask -- SUBCOMMAND`, a file for each.

mod tidy;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

/// The house's own tools
#[derive(Debug, Parser)]
#[command(name = "xtask")]
enum Command {
    Tidy(tidy::Args),
}

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let outcome = match Command::parse() {
        Command::Tidy(args) => tidy::run(&args, &mut out),
    };
    outcome.unwrap_or_else(|error| {
        // There is nobody left to tell when stderr itself is closed.
        let _ = writeln!(io::stderr(), "xtask: {error}");
        ExitCode::FAILURE
    })
}
