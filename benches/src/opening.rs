//! Opening a keyslot: with a passphrase at `cryptsetup`'s defaults, and with the key of a KMS.

use crate::error::Error;
use crate::process::{CommandLine, Usage};
use crate::report::{Bound, Report, Target, heading};
use crate::scratch::Scratch;
use crate::stopwatch::median;
use crate::tools::Tools;

/// Measures both on headers of their own.
///
/// The KMS is a file, so that its round trip does not count; everything else that a process does to
/// open an image does.
pub(crate) fn run(tools: &Tools, report: &mut Report) -> Result<(), Error> {
    let Some(cryptsetup) = &tools.cryptsetup else { return Ok(()) };
    heading("Opening a LUKS2 keyslot: cryptsetup's defaults (Argon2id), and a data key of a KMS");
    let scratch = Scratch::new()?;
    let passphrase = scratch.passphrase()?;
    let volume = scratch.dense("volume", 32)?;
    let strongroom = || CommandLine::new(&tools.strongroom);
    let format = CommandLine::new(cryptsetup)
        .words("luksFormat --batch-mode --type luks2 --key-file")
        .path(&passphrase)
        .path(&volume);
    let (kek, source, managed) =
        (scratch.path("kek"), scratch.dense("source", 8)?, scratch.path("managed"));
    let init = strongroom().words("kms init-local").path(&kek);
    let encrypt = strongroom()
        .words("image encrypt")
        .path(&source)
        .path(&managed)
        .words("--kms local --kms-kek-file")
        .path(&kek);
    for command in [&format, &init, &encrypt] {
        println!("$ {command}");
        command.run()?;
    }
    let key = |command: CommandLine, option| command.words(option).path(&passphrase).path(&volume);
    let contenders = [
        ("strongroom", key(strongroom().words("luks test-key"), "--passphrase-file")),
        (
            "cryptsetup",
            key(CommandLine::new(cryptsetup).words("open --test-passphrase"), "--key-file"),
        ),
        (
            "strongroom KMS",
            strongroom()
                .words("luks test-key")
                .path(&managed)
                .words("--kms local --kms-kek-file")
                .path(&kek),
        ),
    ];
    let mut runs = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for ((_, command), runs) in contenders.iter().zip(&mut runs) {
            runs.push(command.measured()?);
        }
    }
    println!("  {:<16}{:>12}{:>12}{:>12}", "", "wall s", "cpu s", "peak MiB");
    let mut walls = [0.0; 3];
    for (((name, command), runs), wall) in contenders.iter().zip(&runs).zip(&mut walls) {
        let of = |field: fn(&Usage) -> u128| median(runs.iter().map(field).collect());
        *wall = of(|run| run.wall.as_micros()) as f64 / 1e6;
        println!(
            "  {name:<16}{wall:>12.4}{:>12.4}{:>12}    $ {command}",
            of(|run| run.cpu.as_micros()) as f64 / 1e6,
            of(|run| u128::from(run.resident_kib)) >> 10,
        );
    }
    let [_, cryptsetup, kms] = walls;
    report.add(Target {
        what:
            "opening with the key of a KMS, its round trip apart, over cryptsetup at its defaults"
                .to_owned(),
        value: cryptsetup / kms,
        bound: Bound::AtLeast(50.0),
        unit: "x",
    });
    Ok(())
}

const RUNS: usize = 5;
