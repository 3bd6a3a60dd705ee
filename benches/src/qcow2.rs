//! qcow2 images on tmpfs, dense, sparse and compressed, against `qemu-img convert` to the same
//! format.

use std::path::Path;

use crate::contest::{
    Check, Contender, Contest, Measured, Turn, allocated, find, rounds, size_mib,
};
use crate::error::Error;
use crate::process::CommandLine;
use crate::report::{Bound, Report, Target, heading};
use crate::scratch::Scratch;
use crate::tools::Tools;

/// Measures all of it. The least key derivation is asked of everyone, and shown apart: it is what
/// the same commands take for an image of 1 MiB.
pub(crate) fn run(tools: &Tools, report: &mut Report) -> Result<(), Error> {
    let mib = size_mib()?;
    heading(&format!("qcow2 images of {mib} MiB on tmpfs"));
    println!("median of {} rounds in which all take turns, the least in brackets", rounds());
    println!("\"1 MiB\" is the same for an image of 1 MiB: key derivation, start and end; \"net\"");
    println!("is what is left without it");
    let bench = Bench { contest: Contest::new(tools, mib)?, mib };
    bench.sources()?;
    bench.sparse(report)?;
    bench.dense_encrypted(report)?;
    bench.dense_luks(report)?;
    bench.plain(report)?;
    bench.free("raw");
    bench.watched(report)?;
    bench.free("qcow2");
    bench.compressed(report)
}

struct Bench<'a> {
    contest: Contest<'a>,
    mib: u64,
}

impl Bench<'_> {
    /// Makes the qcow2 images: a dense one, and one with [`PIECES`] pieces of data.
    fn sources(&self) -> Result<(), Error> {
        let scratch = &self.contest.scratch;
        for (size, mib, pieces) in [("full", self.mib, PIECES), ("small", 1, 0)] {
            let path = |ending: &str| scratch.path(&format!("{size}.{ending}"));
            self.to_qcow2(&path("raw"), &path("qcow2"))?;
            let raw = scratch.sparse(&format!("{size}.sparse.raw"), mib, pieces)?;
            self.to_qcow2(&raw, &path("sparse.qcow2"))?;
            Scratch::remove(&raw);
        }
        Ok(())
    }

    fn to_qcow2(&self, raw: &Path, qcow2: &Path) -> Result<(), Error> {
        let copy = CommandLine::new(&self.contest.tools.strongroom)
            .words("image clone --source-format raw --format qcow2");
        copy.path(raw).path(qcow2).run()
    }

    fn sparse(&self, report: &mut Report) -> Result<(), Error> {
        let data = (PIECES * Scratch::PIECE) >> 20;
        println!("\n  qcow2 with {data} MiB of data in {PIECES} pieces -> qcow2 with LUKS");
        let what = "sparse qcow2 -> qcow2+LUKS";
        let contenders = self.inside_qcow2("sparse.qcow2");
        let rows = self.contest.measure(&contenders, self.mib, 5 * rounds())?;
        self.report(&rows, what, [Bound::None, Bound::AtLeast(5.0)], report);
        let source = allocated(&self.contest.scratch.path("full.sparse.qcow2"));
        let Some(ours) = rows.first() else { return Ok(()) };
        report.add(Target {
            what: format!("{what}, bytes on disk without the header over those of the source"),
            value: (ours.disk.saturating_sub(ours.small_disk)) as f64 / source as f64,
            bound: Bound::AtMost(1.05),
            unit: "x",
        });
        Ok(())
    }

    fn dense_encrypted(&self, report: &mut Report) -> Result<(), Error> {
        println!("\n  dense qcow2 -> qcow2 with LUKS");
        let rows = self.contest.measure(&self.inside_qcow2("qcow2"), self.mib, rounds())?;
        self.report(&rows, "qcow2 -> qcow2+LUKS", DENSE, report);
        Ok(())
    }

    fn dense_luks(&self, report: &mut Report) -> Result<(), Error> {
        println!("\n  dense qcow2 -> LUKS");
        let mut contenders = vec![
            self.encrypts("strongroom LUKS2", "qcow2", "luks2"),
            self.encrypts("strongroom LUKS1", "qcow2", "luks1"),
        ];
        contenders.extend(self.qemu_luks());
        let rows = self.contest.measure(&contenders, self.mib, rounds())?;
        self.report(&rows, "qcow2 -> LUKS", DENSE, report);
        Ok(())
    }

    fn plain(&self, report: &mut Report) -> Result<(), Error> {
        for (from, to) in [("raw", "qcow2"), ("qcow2", "raw")] {
            println!("\n  dense {from} -> {to}");
            let ours = self.copies("strongroom", from, &format!("--format {to}"));
            let qemu = self.qemu("qemu-img", from, format!("-f {from} -O {to}"));
            let mut contenders: Vec<Contender> = std::iter::once(ours).chain(qemu).collect();
            if to == "qcow2" {
                contenders = contenders.into_iter().map(Contender::into_qcow2).collect();
            }
            let rows = self.contest.measure(&contenders, self.mib, rounds())?;
            self.report(&rows, &format!("{from} -> {to}"), [Bound::None; 2], report);
        }
        Ok(())
    }

    /// With a checksum.
    fn watched(&self, report: &mut Report) -> Result<(), Error> {
        println!("\n  dense qcow2 -> LUKS2 with the checksum of the source");
        let sum = |size: &str| -> Result<String, Error> {
            let path = self.contest.scratch.path(&format!("{size}.qcow2"));
            let text = CommandLine::new("sha256sum").path(&path).output()?;
            Ok(format!("sha256:{}", text.split(' ').next().unwrap_or_default()))
        };
        let (full, small) = (sum("full")?, sum("small")?);
        let encrypt = self.encryption("luks2");
        let checked = {
            let encrypt = encrypt.clone();
            let command = move |turn: &Turn<'_>| {
                let sum = if turn.mib == 1 { &small } else { &full };
                let command = encrypt.clone().words("--checksum").words(sum);
                command.path(turn.source).path(turn.target)
            };
            Contender {
                name: "strongroom with sha256",
                source: "qcow2",
                target: "target",
                before: None,
                command: Box::new(command),
                check: Check::Image,
            }
        };
        let hashed =
            Contender::one("sha256sum", "qcow2", Check::Nothing, |source: &Path, _: &Path| {
                CommandLine::new("sha256sum").path(source)
            });
        let rows = self.contest.measure(&[checked, hashed], self.mib, rounds())?;
        self.report(&rows, "qcow2 -> LUKS2", [Bound::None; 2], report);
        Ok(())
    }

    /// Half of every cluster is noise. A quarter of the size: whoever compresses takes long.
    fn compressed(&self, report: &mut Report) -> Result<(), Error> {
        let mib = (self.mib / 4).max(1);
        for (size, mib) in [("full", mib), ("small", 1)] {
            self.contest.scratch.half_noise(&format!("{size}.raw"), mib)?;
        }
        for (kind, name) in [("zlib", "strongroom zlib"), ("zstd", "strongroom zstd")] {
            println!("\n  raw image of {mib} MiB -> qcow2 compressed with {kind}");
            let ours = self.copies(name, "raw", &format!("--format qcow2 --compress {kind}"));
            let words = format!("-c -f raw -O qcow2 -o compression_type={kind}");
            let contenders: Vec<Contender> = std::iter::once(ours)
                .chain(self.qemu("qemu-img", "raw", words))
                .map(Contender::into_qcow2)
                .collect();
            let rows = self.contest.measure(&contenders, mib, rounds())?;
            self.report(&rows, "raw -> compressed qcow2", [Bound::None; 2], report);
        }
        println!("\n  compressed qcow2 (zstd) of {mib} MiB -> LUKS");
        for size in ["full", "small"] {
            let path = |ending: &str| self.contest.scratch.path(&format!("{size}.{ending}"));
            let copy = CommandLine::new(&self.contest.tools.strongroom)
                .words("image clone --format qcow2 --compress zstd");
            copy.path(&path("raw")).path(&path("qcow2")).run()?;
        }
        let mut contenders = vec![self.encrypts("strongroom LUKS2", "qcow2", "luks2")];
        contenders.extend(self.qemu_luks());
        let rows = self.contest.measure(&contenders, mib, rounds())?;
        self.report(&rows, "compressed qcow2 -> LUKS", [Bound::None; 2], report);
        Ok(())
    }

    fn report(&self, rows: &[Measured], what: &str, bounds: [Bound; 2], report: &mut Report) {
        let peer = find(rows, "qemu-img");
        for row in rows.iter().filter(|row| row.is_ours()) {
            row.against(peer, &format!("{what} ({})", row.name), bounds, report);
        }
    }

    /// Returns ours and qemu's way to a qcow2 image with LUKS inside.
    fn inside_qcow2(&self, source: &'static str) -> Vec<Contender> {
        let ours = self.encrypts("strongroom", source, "qcow2-luks");
        let qemu = self.contest.qemu().map(|(program, secret)| {
            let qemu = CommandLine::new(&program);
            let create = {
                let options = format!(
                    "create -q {secret} -f qcow2 -o \
                     encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time={ITER_TIME}"
                );
                let create = qemu.clone().words(&options);
                move |turn: &Turn<'_>| {
                    create.clone().path(turn.target).words(&format!("{}M", turn.mib))
                }
            };
            let convert = move |turn: &Turn<'_>| {
                let (source, target) = (turn.source.display(), turn.target.display());
                qemu.clone().words(&format!(
                    "convert -n {secret} --image-opts --target-image-opts \
                     driver=qcow2,file.filename={source} \
                     driver=qcow2,encrypt.key-secret=key,file.filename={target}"
                ))
            };
            Contender {
                name: "qemu-img",
                source,
                target: "target",
                before: Some(Box::new(create)),
                command: Box::new(convert),
                check: Check::Image,
            }
        });
        std::iter::once(ours).chain(qemu).map(Contender::into_qcow2).collect()
    }

    /// Returns qemu's way to LUKS: it writes LUKS1 alone.
    fn qemu_luks(&self) -> Option<Contender> {
        let (_, secret) = self.contest.qemu()?;
        let words = format!("{secret} -f qcow2 -O luks -o key-secret=key,iter-time={ITER_TIME}");
        self.qemu("qemu-img", "qcow2", words)
    }

    fn qemu(&self, name: &'static str, source: &'static str, words: String) -> Option<Contender> {
        let (program, _) = self.contest.qemu()?;
        Some(Contender::one(name, source, Check::Image, move |source, target| {
            CommandLine::new(&program).words("convert").words(&words).path(source).path(target)
        }))
    }

    fn copies(&self, name: &'static str, source: &'static str, words: &str) -> Contender {
        let command = CommandLine::new(&self.contest.tools.strongroom)
            .words("image clone --json")
            .words(words);
        Contender::one(name, source, Check::Image, move |source, target| {
            command.clone().path(source).path(target)
        })
    }

    fn encrypts(&self, name: &'static str, source: &'static str, format: &str) -> Contender {
        let command = self.encryption(format);
        Contender::one(name, source, Check::Image, move |source, target| {
            command.clone().path(source).path(target)
        })
    }

    /// Returns our command without source and target.
    fn encryption(&self, format: &str) -> CommandLine {
        CommandLine::new(&self.contest.tools.strongroom)
            .words(&format!("image encrypt --json --format {format}"))
            .words("--pbkdf pbkdf2 --pbkdf-iterations 1000 --passphrase-file")
            .path(&self.contest.passphrase)
    }

    /// Removes a source that is not needed any more.
    fn free(&self, ending: &str) {
        for size in ["full", "small"] {
            Scratch::remove(&self.contest.scratch.path(&format!("{size}.{ending}")));
        }
    }
}

/// What a dense image has to reach in wall and processor time.
const DENSE: [Bound; 2] = [Bound::AtLeast(8.0), Bound::AtLeast(6.0)];

/// How many pieces of data the sparse image has: 16 MiB.
const PIECES: u64 = 256;

/// How many milliseconds `qemu-img` lets a key derivation take.
const ITER_TIME: u32 = 10;
