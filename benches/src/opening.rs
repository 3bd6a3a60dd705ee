//! Opening a keyslot at `cryptsetup`'s defaults.

use crate::error::Error;
use crate::process::{CommandLine, Usage};
use crate::report::heading;
use crate::scratch::Scratch;
use crate::stopwatch::median;
use crate::tools::Tools;

/// Measures it on a header that `cryptsetup` made.
pub(crate) fn run(tools: &Tools) -> Result<(), Error> {
    let Some(cryptsetup) = &tools.cryptsetup else { return Ok(()) };
    heading("Opening a LUKS2 keyslot at cryptsetup's defaults (Argon2id; an extra, no target)");
    let scratch = Scratch::new()?;
    let passphrase = scratch.passphrase()?;
    let volume = scratch.dense("volume", 32)?;
    let format = CommandLine::new(cryptsetup)
        .words("luksFormat --batch-mode --type luks2 --key-file")
        .path(&passphrase)
        .path(&volume);
    format.run()?;
    let key = |command: CommandLine, option| command.words(option).path(&passphrase).path(&volume);
    let contenders = [
        key(CommandLine::new(&tools.strongroom).words("luks test-key"), "--passphrase-file"),
        key(CommandLine::new(cryptsetup).words("open --test-passphrase"), "--key-file"),
    ];
    println!("$ {format}");
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (command, runs) in contenders.iter().zip(&mut runs) {
            runs.push(command.measured()?);
        }
    }
    println!("  {:<16}{:>12}{:>12}{:>12}", "", "wall s", "cpu s", "peak MiB");
    for (command, runs) in contenders.iter().zip(&runs) {
        let of = |field: fn(&Usage) -> u128| median(runs.iter().map(field).collect());
        println!(
            "  {:<16}{:>12.3}{:>12.3}{:>12}    $ {command}",
            if command.to_string().contains("test-key") { "strongroom" } else { "cryptsetup" },
            of(|run| run.wall.as_micros()) as f64 / 1e6,
            of(|run| run.cpu.as_micros()) as f64 / 1e6,
            of(|run| u128::from(run.resident_kib)) >> 10,
        );
    }
    Ok(())
}

const RUNS: usize = 3;
