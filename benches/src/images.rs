//! Whole images on tmpfs: encrypted and decrypted, against `qemu-img convert`, `cp`, and the same
//! copy loop without encryption.

use std::path::Path;

use crate::contest::{Check, Contender, Contest, Measured, find, rounds, size_mib, wall};
use crate::error::Error;
use crate::process::CommandLine;
use crate::report::{Bound, Report, Target, heading};
use crate::scratch::Scratch;
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
    let bench = Bench { contest: Contest::new(tools, mib)?, mib };
    bench.encrypt(report)?;
    bench.decrypt(report)
}

struct Bench<'a> {
    contest: Contest<'a>,
    mib: u64,
}

impl Bench<'_> {
    fn encrypt(&self, report: &mut Report) -> Result<(), Error> {
        println!("\n  raw -> LUKS (AES-256-XTS, sectors of 512 bytes)");
        let mut contenders = vec![
            self.encrypts("strongroom LUKS2", "luks2"),
            self.encrypts("strongroom LUKS1", "luks1"),
        ];
        contenders.extend(self.copies("write"));
        for (name, options) in [("qemu-img", ""), ("qemu-img tuned", "-W -m 16")] {
            contenders.extend(self.qemu(name, "raw", move |secret, source, target| {
                format!("{options} {secret} -f raw -O luks -o key-secret=key {source} {target}")
            }));
        }
        let measured = self.contest.measure(&contenders, self.mib, rounds())?;
        for row in measured.iter().filter(|row| row.is_ours()) {
            targets(&format!("raw -> {}", row.format()), row, &measured, report);
        }
        Ok(())
    }

    fn decrypt(&self, report: &mut Report) -> Result<(), Error> {
        for format in ["luks2", "luks1"] {
            println!("\n  {} -> raw", format.to_uppercase());
            for size in ["full", "small"] {
                let path = |ending| self.contest.scratch.path(&format!("{size}.{ending}"));
                let (raw, luks) = (path("raw"), path("luks"));
                self.encryption(format)(&raw, &luks).run()?;
            }
            let name = if format == "luks1" { "strongroom LUKS1" } else { "strongroom LUKS2" };
            let mut contenders = vec![self.contest.ours(name, "luks", "decrypt", Check::Bytes)];
            contenders.extend(self.copies("skip"));
            if format == "luks1" {
                for (name, options) in [("qemu-img", ""), ("qemu-img tuned", "-W -m 16")] {
                    contenders.extend(self.qemu(name, "luks", move |secret, source, target| {
                        format!(
                            "{options} {secret} --image-opts \
                             driver=luks,key-secret=key,file.filename={source} -O raw {target}"
                        )
                    }));
                }
            }
            let measured = self.contest.measure(&contenders, self.mib, rounds())?;
            targets(&format!("{} -> raw", measured[0].format()), &measured[0], &measured, report);
            for size in ["full", "small"] {
                Scratch::remove(&self.contest.scratch.path(&format!("{size}.luks")));
            }
        }
        Ok(())
    }

    fn encrypts(&self, name: &'static str, format: &str) -> Contender {
        Contender::one(name, "raw", Check::Raw, self.encryption(format))
    }

    fn encryption(&self, format: &str) -> impl Fn(&Path, &Path) -> CommandLine + 'static {
        let ours = &self.contest;
        let (strongroom, passphrase) = (ours.tools.strongroom.clone(), ours.passphrase.clone());
        let words = format!("image encrypt --force --json --format {format}");
        move |source: &Path, target: &Path| {
            CommandLine::new(&strongroom)
                .words(&words)
                .words("--pbkdf pbkdf2 --pbkdf-iterations 1000 --passphrase-file")
                .path(&passphrase)
                .path(source)
                .path(target)
        }
    }

    /// Returns the loop without encryption, and `cp`.
    fn copies(&self, zeroes: &'static str) -> [Contender; 2] {
        let this = self.contest.tools.this.clone();
        let copy = move |source: &Path, target: &Path| {
            CommandLine::new(&this).words("copy").path(source).path(target).words(zeroes)
        };
        let cp = |source: &Path, target: &Path| CommandLine::new("cp").path(source).path(target);
        [
            Contender::one(LOOP, "raw", Check::Bytes, copy),
            Contender::one("cp", "raw", Check::Bytes, cp),
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
        let (program, secret) = self.contest.qemu()?;
        let check = if source == "raw" { Check::Raw } else { Check::Bytes };
        Some(Contender::one(name, source, check, move |source, target| {
            let (source, target) = (source.display().to_string(), target.display().to_string());
            CommandLine::new(&program).words("convert").words(&words(&secret, &source, &target))
        }))
    }
}

fn targets(what: &str, ours: &Measured, all: &[Measured], report: &mut Report) {
    // DESIGN sets these for encryption only.
    let bounds = match what.starts_with("raw") {
        true => [Bound::AtLeast(8.0), Bound::AtLeast(6.0)],
        false => [Bound::None; 2],
    };
    ours.against(find(all, "qemu-img"), what, bounds, report);
    for (peer, most) in [(LOOP, 1.1), ("cp", 1.0)] {
        let Some(peer) = find(all, peer) else { continue };
        report.add(Target {
            what: format!("{what}, wall time, ours over {}", peer.name),
            value: ours.net(wall) / peer.net(wall),
            bound: Bound::AtMost(most),
            unit: "x",
        });
    }
}

const LOOP: &str = "loop without encryption";
