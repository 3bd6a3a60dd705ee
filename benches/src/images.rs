//! Whole images on tmpfs: encrypted and decrypted, against `qemu-img convert`, `cp`, and the same
//! copy loop without encryption.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::process::{CommandLine, Usage};
use crate::report::{Bound, Report, Target, heading};
use crate::scratch::{self, Scratch};
use crate::stopwatch::median;
use crate::tools::Tools;

/// Measures both directions.
///
/// Every round runs each command once. Key derivation is shown apart: it is what the same command
/// takes for an image of 1 MiB.
pub(crate) fn run(tools: &Tools, report: &mut Report) -> Result<(), Error> {
    let mib = size_mib()?;
    heading(&format!("A dense raw image of {mib} MiB on tmpfs, and back"));
    println!("median of {} rounds in which all take turns, the least in brackets", rounds());
    println!("\"1 MiB\" is the same command for an image of 1 MiB: key derivation, start and end;");
    println!("\"net\" is what is left without it");
    let bench = Bench::new(tools, mib)?;
    bench.encrypt(report)?;
    bench.decrypt(report)
}

struct Bench<'a> {
    tools: &'a Tools,
    scratch: Scratch,
    passphrase: PathBuf,
}

/// A command that makes a target from a source.
struct Contender {
    name: &'static str,
    /// Which source it takes: the ending of its name.
    source: &'static str,
    encrypted_target: bool,
    command: Box<MakeCommand>,
}

/// Returns the command for a source and a target.
type MakeCommand = dyn Fn(&Path, &Path) -> CommandLine;

/// What a contender used in every round.
struct Measured {
    name: &'static str,
    full: Vec<Usage>,
    small: Usage,
}

impl<'a> Bench<'a> {
    fn new(tools: &'a Tools, mib: u64) -> Result<Self, Error> {
        let scratch = Scratch::new()?;
        let passphrase = scratch.passphrase()?;
        scratch.dense("full.raw", mib)?;
        scratch.dense("small.raw", 1)?;
        // A machine that is virtual itself may have to ask for memory that it touches first, which
        // whoever comes first would pay for.
        Scratch::remove(&scratch.dense("target", mib)?);
        Ok(Self { tools, scratch, passphrase })
    }

    fn encrypt(&self, report: &mut Report) -> Result<(), Error> {
        println!("\n  raw -> LUKS (AES-256-XTS, sectors of 512 bytes)");
        let mut contenders = vec![
            self.encrypts("strongroom LUKS2", "luks2"),
            self.encrypts("strongroom LUKS1", "luks1"),
        ];
        contenders.extend(self.copies("write"));
        for (name, options) in [("qemu-img", ""), ("qemu-img tuned", "-W -m 16")] {
            contenders.extend(self.qemu(name, "raw", move |secret, source, target| {
                format!(
                    "{options} --object {secret} -f raw -O luks -o key-secret=key {source} {target}"
                )
            }));
        }
        let measured = self.measure(&contenders)?;
        for row in measured.iter().filter(|row| row.is_ours()) {
            self.targets(&format!("raw -> {}", row.format()), row, &measured, report);
        }
        Ok(())
    }

    fn decrypt(&self, report: &mut Report) -> Result<(), Error> {
        for format in ["luks2", "luks1"] {
            println!("\n  {} -> raw", format.to_uppercase());
            for size in ["full", "small"] {
                let path = |ending| self.scratch.path(&format!("{size}.{ending}"));
                (self.encrypts("", format).command)(&path("raw"), &path("luks")).run()?;
            }
            let mut contenders = vec![self.decrypts(format)];
            contenders.extend(self.copies("skip"));
            if format == "luks1" {
                for (name, options) in [("qemu-img", ""), ("qemu-img tuned", "-W -m 16")] {
                    contenders.extend(self.qemu(name, "luks", move |secret, source, target| {
                        format!(
                            "{options} --object {secret} --image-opts \
                             driver=luks,key-secret=key,file.filename={source} -O raw {target}"
                        )
                    }));
                }
            }
            let measured = self.measure(&contenders)?;
            self.targets(
                &format!("{} -> raw", measured[0].format()),
                &measured[0],
                &measured,
                report,
            );
            for size in ["full", "small"] {
                Scratch::remove(&self.scratch.path(&format!("{size}.luks")));
            }
        }
        Ok(())
    }

    /// Runs all of them round by round, prints what they used, and checks what they made.
    fn measure(&self, contenders: &[Contender]) -> Result<Vec<Measured>, Error> {
        let mut full = vec![Vec::new(); contenders.len()];
        let mut small = vec![Vec::new(); contenders.len()];
        for round in 0..rounds() {
            for (index, contender) in contenders.iter().enumerate() {
                for (size, usages) in [("small", &mut small), ("full", &mut full)] {
                    let source = self.scratch.path(&format!("{size}.{}", contender.source));
                    let target = self.scratch.path("target");
                    let command = (contender.command)(&source, &target);
                    if round == 0 && size == "full" {
                        println!("  $ {command}");
                    }
                    usages[index].push(patiently(&command, &target)?);
                    if round == 0 {
                        self.check(contender, size, &target)?;
                    }
                    Scratch::remove(&target);
                }
            }
        }
        let measured: Vec<Measured> = contenders
            .iter()
            .zip(full.into_iter().zip(small))
            .map(|(contender, (full, small))| Measured {
                name: contender.name,
                full,
                small: medians(&small),
            })
            .collect();
        println!(
            "  {:<24}{:>16}{:>9}{:>16}{:>16}{:>9}{:>16}{:>10}",
            "", "wall s", "1 MiB", "net", "cpu s", "1 MiB", "net", "peak MiB"
        );
        measured.iter().for_each(Measured::print);
        Ok(measured)
    }

    /// Refuses a target that does not hold what the source holds.
    fn check(&self, contender: &Contender, size: &str, target: &Path) -> Result<(), Error> {
        let source = self.scratch.path(&format!("{size}.raw"));
        let compare = if contender.encrypted_target {
            CommandLine::new(&self.tools.strongroom)
                .words("image compare --passphrase-file")
                .path(&self.passphrase)
        } else {
            CommandLine::new("cmp")
        };
        let compare = compare.path(&source).path(target);
        let wrong = |error| Error::Wrong(format!("of {}: {error}", contender.name));
        compare.run().map_err(wrong)
    }

    fn targets(&self, what: &str, ours: &Measured, all: &[Measured], report: &mut Report) {
        let find = |name: &str| all.iter().find(|row| row.name == name);
        let mut add = |text: String, value: f64, bound, unit| {
            report.add(Target { what: format!("{what}, {text}"), value, bound, unit });
        };
        if let Some(qemu) = find("qemu-img") {
            let peer = "qemu-img at its defaults over ours, key derivation apart";
            let (wall, cpu) = (qemu.net(wall) / ours.net(wall), qemu.net(cpu) / ours.net(cpu));
            // DESIGN sets these for encryption only.
            let encrypts = what.starts_with("raw");
            let at_least = |bound| if encrypts { Bound::AtLeast(bound) } else { Bound::None };
            add(format!("wall time, {peer}"), wall, at_least(8.0), "x");
            add(format!("cpu time, {peer}"), cpu, at_least(6.0), "x");
        }
        if let Some(copy) = find(LOOP) {
            let ratio = ours.net(wall) / copy.net(wall);
            add(format!("wall time, ours over the {LOOP}"), ratio, Bound::AtMost(1.1), "x");
        }
        if let Some(cp) = find("cp") {
            let ratio = ours.net(wall) / cp.net(wall);
            add("wall time, ours over cp".to_owned(), ratio, Bound::AtMost(1.0), "x");
        }
        add("peak memory".to_owned(), ours.peak_mib(), Bound::AtMost(64.0), " MiB");
    }

    fn encrypts(&self, name: &'static str, format: &'static str) -> Contender {
        let (strongroom, passphrase) = (self.tools.strongroom.clone(), self.passphrase.clone());
        let command = move |source: &Path, target: &Path| {
            CommandLine::new(&strongroom)
                .words(&format!("image encrypt --force --json --format {format}"))
                .words("--pbkdf pbkdf2 --pbkdf-iterations 1000 --passphrase-file")
                .path(&passphrase)
                .path(source)
                .path(target)
        };
        Contender { name, source: "raw", encrypted_target: true, command: Box::new(command) }
    }

    fn decrypts(&self, format: &str) -> Contender {
        let (strongroom, passphrase) = (self.tools.strongroom.clone(), self.passphrase.clone());
        let command = move |source: &Path, target: &Path| {
            CommandLine::new(&strongroom)
                .words("image decrypt --json --passphrase-file")
                .path(&passphrase)
                .path(source)
                .path(target)
        };
        let name = if format == "luks1" { "strongroom LUKS1" } else { "strongroom LUKS2" };
        Contender { name, source: "luks", encrypted_target: false, command: Box::new(command) }
    }

    /// Returns the loop without encryption, and `cp`.
    fn copies(&self, zeroes: &'static str) -> [Contender; 2] {
        let this = self.tools.this.clone();
        let copy = move |source: &Path, target: &Path| {
            CommandLine::new(&this).words("copy").path(source).path(target).words(zeroes)
        };
        let cp = |source: &Path, target: &Path| CommandLine::new("cp").path(source).path(target);
        [
            Contender {
                name: LOOP,
                source: "raw",
                encrypted_target: false,
                command: Box::new(copy),
            },
            Contender { name: "cp", source: "raw", encrypted_target: false, command: Box::new(cp) },
        ]
    }

    /// Returns `qemu-img convert` with the arguments that `words` gives for the secret, the source
    /// and the target; nothing where it is not installed.
    fn qemu(
        &self,
        name: &'static str,
        source: &'static str,
        words: impl Fn(&str, &str, &str) -> String + 'static,
    ) -> Option<Contender> {
        let program = self.tools.qemu_img.clone()?;
        let secret = format!("secret,id=key,file={}", self.passphrase.display());
        let command = move |source: &Path, target: &Path| {
            let (source, target) = (source.display().to_string(), target.display().to_string());
            CommandLine::new(&program).words("convert").words(&words(&secret, &source, &target))
        };
        let encrypted_target = source == "raw";
        Some(Contender { name, source, encrypted_target, command: Box::new(command) })
    }
}

impl Measured {
    fn is_ours(&self) -> bool {
        self.name.starts_with("strongroom")
    }

    fn format(&self) -> &str {
        self.name.trim_start_matches("strongroom ")
    }

    /// Returns the median in seconds, without key derivation.
    fn net(&self, field: fn(&Usage) -> f64) -> f64 {
        (field(&medians(&self.full)) - field(&self.small)).max(0.0)
    }

    fn least(&self, field: fn(&Usage) -> f64) -> f64 {
        self.full.iter().map(field).fold(f64::INFINITY, f64::min)
    }

    fn peak_mib(&self) -> f64 {
        let peak = self.full.iter().map(|usage| usage.resident_kib).max();
        peak.unwrap_or_default() as f64 / 1024.0
    }

    fn print(&self) {
        print!("  {:<24}", self.name);
        for field in [wall, cpu] {
            let (median, small) = (field(&medians(&self.full)), field(&self.small));
            let least = self.least(field);
            print!("{:>16}", format!("{median:.2} ({least:.2})"));
            print!("{small:>9.2}");
            print!("{:>16}", format!("{:.2} ({:.2})", self.net(field), (least - small).max(0.0)));
        }
        println!("{:>10.1}", self.peak_mib());
    }
}

/// Measures a command, again when `qemu-img` gives up timing its key derivation on a busy machine.
fn patiently(command: &CommandLine, target: &Path) -> Result<Usage, Error> {
    for _ in 1..ATTEMPTS {
        match command.measured() {
            Err(Error::Process { text, .. }) if text.contains("accurate CPU usage") => {
                println!("  once more, since it failed: {text}");
                Scratch::remove(target);
            }
            result => return result,
        }
    }
    command.measured()
}

/// Returns the median of each figure.
fn medians(usages: &[Usage]) -> Usage {
    Usage {
        wall: median(usages.iter().map(|usage| usage.wall).collect()),
        cpu: median(usages.iter().map(|usage| usage.cpu).collect()),
        resident_kib: median(usages.iter().map(|usage| usage.resident_kib).collect()),
    }
}

fn wall(usage: &Usage) -> f64 {
    usage.wall.as_secs_f64()
}

fn cpu(usage: &Usage) -> f64 {
    usage.cpu.as_secs_f64()
}

/// Returns the size that is wanted, or as much as fits thrice.
fn size_mib() -> Result<u64, Error> {
    let wanted = number("BENCH_GIB", 4) << 10;
    let fits = (scratch::free_mib()?.saturating_sub(SPARE_MIB) / 3).max(64);
    if fits < wanted {
        println!("\nnote: {fits} MiB instead of {wanted}: there must be room for three images");
    }
    Ok(wanted.min(fits))
}

fn rounds() -> u64 {
    number("BENCH_ROUNDS", 3).max(1)
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

const LOOP: &str = "loop without encryption";

const ATTEMPTS: usize = 5;

/// What is left to everyone else.
const SPARE_MIB: u64 = 1024;
