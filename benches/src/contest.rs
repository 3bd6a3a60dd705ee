//! Commands that make a target from a source, run in turns and set side by side.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::process::{CommandLine, Usage};
use crate::report::{Bound, Report, Target};
use crate::scratch::{self, Scratch};
use crate::stopwatch::median;
use crate::tools::Tools;

/// A folder with sources, and the programs that work on them.
pub(crate) struct Contest<'a> {
    /// The programs.
    pub(crate) tools: &'a Tools,
    /// The folder. A source has two files there, `full.` and `small.` and its ending.
    pub(crate) scratch: Scratch,
    /// The file with the passphrase.
    pub(crate) passphrase: PathBuf,
}

/// Who makes a target from a source.
pub(crate) struct Contender {
    /// What the table calls it: `strongroom` and a format for ours.
    pub(crate) name: &'static str,
    /// The ending of its source's name.
    pub(crate) source: &'static str,
    /// The name of its target.
    pub(crate) target: &'static str,
    /// What has to be there first. It is not measured: nothing but key derivation.
    pub(crate) before: Option<Box<MakeCommand>>,
    /// What it runs.
    pub(crate) command: Box<MakeCommand>,
    /// Compares its source with its target.
    pub(crate) check: Check,
}

/// Returns the command for a turn.
pub(crate) type MakeCommand = dyn Fn(&Turn<'_>) -> CommandLine;

/// What a contender works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<'a> {
    /// What is read.
    pub(crate) source: &'a Path,
    /// What is made.
    pub(crate) target: &'a Path,
    /// How long the disk in the source is.
    pub(crate) mib: u64,
}

/// How a target is compared with its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// As two images of any format.
    Image,
    /// As two images, of which the source is raw whatever the contender read.
    Raw,
    /// Byte for byte with the raw source.
    Bytes,
    /// Not at all: it makes nothing.
    Nothing,
}

/// What a contender used in every round.
pub(crate) struct Measured {
    /// The contender's.
    pub(crate) name: &'static str,
    full: Vec<Usage>,
    small: Usage,
    /// The bytes that the full target takes on disk.
    pub(crate) disk: u64,
    /// The bytes that the small target takes.
    pub(crate) small_disk: u64,
}

impl Contender {
    /// Returns a contender with one command.
    pub(crate) fn one(
        name: &'static str,
        source: &'static str,
        check: Check,
        command: impl Fn(&Path, &Path) -> CommandLine + 'static,
    ) -> Self {
        let command = move |turn: &Turn<'_>| command(turn.source, turn.target);
        let command = Box::new(command);
        Self { name, source, target: "target", before: None, command, check }
    }

    /// Lets the target have the name of a qcow2 image.
    #[must_use]
    pub(crate) fn into_qcow2(mut self) -> Self {
        self.target = "target.qcow2";
        self
    }
}

impl<'a> Contest<'a> {
    /// Makes the folder, with a dense raw image of so many MiB and one of 1 MiB.
    pub(crate) fn new(tools: &'a Tools, mib: u64) -> Result<Self, Error> {
        let scratch = Scratch::new()?;
        let passphrase = scratch.passphrase()?;
        scratch.dense("full.raw", mib)?;
        scratch.dense("small.raw", 1)?;
        // A machine that is virtual itself may have to ask for memory that it touches first, which
        // whoever comes first would pay for.
        Scratch::remove(&scratch.dense("target", mib)?);
        Ok(Self { tools, scratch, passphrase })
    }

    /// Runs all of them round by round, prints what they used, and checks what they made. `mib` is
    /// the length of the full disk.
    pub(crate) fn measure(
        &self,
        contenders: &[Contender],
        mib: u64,
        rounds: u64,
    ) -> Result<Vec<Measured>, Error> {
        let mut measured: Vec<Measured> = contenders.iter().map(Measured::new).collect();
        let mut small = vec![Vec::new(); contenders.len()];
        for round in 0..rounds {
            for ((contender, row), small) in contenders.iter().zip(&mut measured).zip(&mut small) {
                for (size, mib) in [("small", 1), ("full", mib)] {
                    let source = self.scratch.path(&format!("{size}.{}", contender.source));
                    let target = self.scratch.path(contender.target);
                    let turn = Turn { source: &source, target: &target, mib };
                    let usage = patiently(contender, &turn, round == 0 && size == "full")?;
                    let disk = allocated(&target);
                    match size {
                        "small" => (small.push(usage), row.small_disk = disk).0,
                        _ => (row.full.push(usage), row.disk = disk).0,
                    }
                    if round == 0 {
                        self.check(contender, size, &turn)?;
                    }
                    Scratch::remove(&target);
                }
            }
        }
        for (row, small) in measured.iter_mut().zip(&small) {
            row.small = medians(small);
        }
        println!(
            "  {:<24}{:>16}{:>9}{:>16}{:>16}{:>9}{:>16}{:>10}{:>10}",
            "", "wall s", "1 MiB", "net", "cpu s", "1 MiB", "net", "peak MiB", "disk MiB"
        );
        measured.iter().for_each(Measured::print);
        Ok(measured)
    }

    /// Returns `qemu-img` with a description of the secret, where it is installed.
    pub(crate) fn qemu(&self) -> Option<(PathBuf, String)> {
        let secret = format!("--object secret,id=key,file={}", self.passphrase.display());
        Some((self.tools.qemu_img.clone()?, secret))
    }

    /// Returns one of our commands with so many words, which asks for a passphrase.
    pub(crate) fn ours(
        &self,
        name: &'static str,
        source: &'static str,
        words: &str,
        check: Check,
    ) -> Contender {
        let (strongroom, passphrase) = (self.tools.strongroom.clone(), self.passphrase.clone());
        let words = words.to_owned();
        Contender::one(name, source, check, move |source, target| {
            CommandLine::new(&strongroom)
                .words(&format!("image {words} --json --passphrase-file"))
                .path(&passphrase)
                .path(source)
                .path(target)
        })
    }

    /// Refuses a target that does not hold what the source holds.
    fn check(&self, contender: &Contender, size: &str, turn: &Turn<'_>) -> Result<(), Error> {
        let raw = self.scratch.path(&format!("{size}.raw"));
        let image = CommandLine::new(&self.tools.strongroom)
            .words("image compare --passphrase-file")
            .path(&self.passphrase);
        let compare = match contender.check {
            Check::Image => image.path(turn.source),
            Check::Raw => image.path(&raw),
            Check::Bytes => CommandLine::new("cmp").path(&raw),
            Check::Nothing => return Ok(()),
        };
        let wrong = |error| Error::Wrong(format!("of {}: {error}", contender.name));
        compare.path(turn.target).run().map_err(wrong)
    }
}

impl Measured {
    fn new(contender: &Contender) -> Self {
        let small = Usage::default();
        Self { name: contender.name, full: Vec::new(), small, disk: 0, small_disk: 0 }
    }

    /// Returns whether it is one of ours.
    pub(crate) fn is_ours(&self) -> bool {
        self.name.starts_with("strongroom")
    }

    /// Returns what follows our name.
    pub(crate) fn format(&self) -> &str {
        self.name.trim_start_matches("strongroom ")
    }

    /// Returns the median in seconds, without key derivation.
    pub(crate) fn net(&self, field: fn(&Usage) -> f64) -> f64 {
        (field(&medians(&self.full)) - field(&self.small)).max(0.0)
    }

    /// Returns the most memory of any round.
    pub(crate) fn peak_mib(&self) -> f64 {
        let peak = self.full.iter().map(|usage| usage.resident_kib).max();
        peak.unwrap_or_default() as f64 / 1024.0
    }

    /// Adds wall and processor time of a peer over ours, with what they have to reach, and our
    /// memory.
    pub(crate) fn against(
        &self,
        peer: Option<&Self>,
        what: &str,
        [wall_bound, cpu_bound]: [Bound; 2],
        report: &mut Report,
    ) {
        let mut add = |text: String, value: f64, bound, unit| {
            report.add(Target { what: format!("{what}, {text}"), value, bound, unit });
        };
        if let Some(peer) = peer {
            let name = format!("{} over ours, key derivation apart", peer.name);
            add(format!("wall time, {name}"), peer.net(wall) / self.net(wall), wall_bound, "x");
            add(format!("cpu time, {name}"), peer.net(cpu) / self.net(cpu), cpu_bound, "x");
        }
        add("peak memory".to_owned(), self.peak_mib(), Bound::AtMost(64.0), " MiB");
    }

    fn least(&self, field: fn(&Usage) -> f64) -> f64 {
        self.full.iter().map(field).fold(f64::INFINITY, f64::min)
    }

    fn print(&self) {
        print!("  {:<24}", self.name);
        for field in [wall, cpu] {
            let (median, small) = (field(&medians(&self.full)), field(&self.small));
            let least = self.least(field);
            print!("{:>16}", format!("{median:.2} ({least:.2})"));
            print!("{small:>9.3}");
            print!("{:>16}", format!("{:.3} ({:.3})", self.net(field), (least - small).max(0.0)));
        }
        println!("{:>10.1}{:>10.1}", self.peak_mib(), self.disk as f64 / 1_048_576.0);
    }
}

/// Returns the row of that name.
pub(crate) fn find<'m>(rows: &'m [Measured], name: &str) -> Option<&'m Measured> {
    rows.iter().find(|row| row.name == name)
}

/// Returns how many bytes a file takes on disk; 0 for one that is not there.
pub(crate) fn allocated(path: &Path) -> u64 {
    path.metadata().map_or(0, |found| found.blocks() * 512)
}

pub(crate) fn wall(usage: &Usage) -> f64 {
    usage.wall.as_secs_f64()
}

pub(crate) fn cpu(usage: &Usage) -> f64 {
    usage.cpu.as_secs_f64()
}

/// Returns the size that is wanted, or as much as fits thrice.
pub(crate) fn size_mib() -> Result<u64, Error> {
    let wanted = number("BENCH_GIB", 4) << 10;
    let fits = (scratch::free_mib()?.saturating_sub(SPARE_MIB) / 3).max(64);
    if fits < wanted {
        println!("\nnote: {fits} MiB instead of {wanted}: there must be room for three images");
    }
    Ok(wanted.min(fits))
}

/// Returns how often everyone has a turn.
pub(crate) fn rounds() -> u64 {
    number("BENCH_ROUNDS", 3).max(1)
}

/// Measures a turn, again when `qemu-img` gives up timing its key derivation on a busy machine.
fn patiently(contender: &Contender, turn: &Turn<'_>, print: bool) -> Result<Usage, Error> {
    let before = contender.before.as_ref().map(|before| before(turn));
    let command = (contender.command)(turn);
    let attempt = || {
        before.as_ref().map_or(Ok(()), CommandLine::run)?;
        command.measured()
    };
    if print {
        before.iter().for_each(|before| println!("  $ {before}    (not measured)"));
        println!("  $ {command}");
    }
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(Error::Process { text, .. }) if text.contains("accurate CPU usage") => {
                println!("  once more, since it failed: {text}");
                Scratch::remove(turn.target);
            }
            result => return result,
        }
    }
    attempt()
}

/// Returns the median of each figure.
fn medians(usages: &[Usage]) -> Usage {
    Usage {
        wall: median(usages.iter().map(|usage| usage.wall).collect()),
        cpu: median(usages.iter().map(|usage| usage.cpu).collect()),
        resident_kib: median(usages.iter().map(|usage| usage.resident_kib).collect()),
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

const ATTEMPTS: usize = 5;

/// What is left to everyone else.
const SPARE_MIB: u64 = 1024;
