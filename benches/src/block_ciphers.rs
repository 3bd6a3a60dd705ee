//! Twofish and Serpent on one core against those of qemu.

use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom_crypto::{Kernel, SectorSize, VolumeKey};

use crate::aes::{sector_cipher, system_rng};
use crate::error::Error;
use crate::process::CommandLine;
use crate::report::{Bound, Report, Target, heading};
use crate::scratch::Scratch;
use crate::stopwatch::{ROUNDS, median, medians};
use crate::tools::Tools;

/// Measures them.
pub(crate) fn run(tools: &Tools, report: &mut Report) -> Result<(), Error> {
    heading("Twofish-XTS and Serpent-XTS on one core, 256-bit keys, sectors of 512 bytes");
    let peer = match &tools.qemu_img {
        Some(program) => Some(Qemu::new(tools, program)?),
        None => None,
    };
    println!(
        "  {:<14}{:>18}{:>18}{:>18}{:>18}",
        "", "enc MB/s", "dec MB/s", "qemu enc", "qemu dec"
    );
    for (name, least, aim) in [("twofish", 1.0, None), ("serpent", 1.0, Some(3.0))] {
        let spec = format!("{name}-xts-plain64");
        let [encrypting, decrypting] = ours(&spec)?;
        let theirs = match &peer {
            Some(qemu) => qemu.rates(&spec)?,
            None => [f64::NAN; 2],
        };
        let [qemu_encrypting, qemu_decrypting] = theirs;
        println!(
            "  {name:<14}{encrypting:>18.0}{decrypting:>18.0}{qemu_encrypting:>18.0}\
             {qemu_decrypting:>18.0}"
        );
        for (bound, what) in [(Some(least), "target"), (aim, "aim")] {
            let Some(bound) = bound else { continue };
            report.add(Target {
                what: format!("{name}-XTS-256 over qemu, {what}, the slower of both directions"),
                value: (encrypting / qemu_encrypting).min(decrypting / qemu_decrypting),
                bound: Bound::AtLeast(bound),
                unit: "x",
            });
        }
    }
    Ok(())
}

/// Returns our MB/s, encrypting and decrypting.
fn ours(spec: &str) -> Result<[f64; 2], Error> {
    let key = VolumeKey::random(64, &mut system_rng());
    let cipher = sector_cipher(spec, &key, SectorSize::B512, Kernel::detected())?;
    let (mut one, mut other) = (vec![0; BUFFER], vec![0; BUFFER]);
    let times = medians(&mut [
        Box::new(|| {
            cipher.encrypt(&mut one, 0);
            Ok(())
        }),
        Box::new(|| {
            cipher.decrypt(&mut other, 0);
            Ok(())
        }),
    ])?;
    Ok([times[0], times[1]].map(|took| BUFFER as f64 / took.as_secs_f64() / 1e6))
}

/// `qemu-img convert` into and out of an image that is there already. It has a header of ours with
/// the least key derivation; the cost of a small image and of plain copies is taken off as well, so
/// that qemu's cipher alone is left.
struct Qemu<'a> {
    tools: &'a Tools,
    program: &'a Path,
    scratch: Scratch,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Encrypt,
    Decrypt,
    Plain,
}

impl<'a> Qemu<'a> {
    fn new(tools: &'a Tools, program: &'a Path) -> Result<Self, Error> {
        let scratch = Scratch::new()?;
        scratch.passphrase()?;
        for mib in SIZES {
            scratch.dense(&format!("{mib}.raw"), mib)?;
        }
        let qemu = Self { tools, program, scratch };
        let [small, large] = SIZES;
        println!("peer: cpu time of");
        println!("  $ {}", qemu.command(Way::Encrypt, large));
        println!("  $ {}", qemu.command(Way::Decrypt, large));
        println!("  less that of {small} MiB, less the same of a plain copy:");
        println!("  $ {}", qemu.command(Way::Plain, large));
        println!("we: processor time, median of {ROUNDS} rounds");
        Ok(qemu)
    }

    /// Returns qemu's MB/s, encrypting and decrypting.
    fn rates(&self, spec: &str) -> Result<[f64; 2], Error> {
        for mib in SIZES {
            let target = self.path(mib, "luks");
            Scratch::remove(&target);
            CommandLine::new(&self.tools.strongroom)
                .words("image encrypt --format luks1 --key-size 512 --pbkdf-iterations 1000")
                .words(&format!("--cipher {spec} --passphrase-file"))
                .path(&self.scratch.path("passphrase"))
                .path(&self.path(mib, "raw"))
                .path(&target)
                .run()?;
        }
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            let plain = self.cost(Way::Plain)?;
            for (times, way) in times.iter_mut().zip([Way::Encrypt, Way::Decrypt]) {
                times.push(self.cost(way)?.saturating_sub(plain));
            }
        }
        let [small, large] = SIZES;
        let bytes = ((large - small) << 20) as f64;
        Ok(times.map(|times| bytes / median(times).as_secs_f64() / 1e6))
    }

    /// Returns by how much the large image costs more than the small one.
    fn cost(&self, way: Way) -> Result<Duration, Error> {
        let [small, large] = SIZES;
        let small = self.command(way, small).measured()?;
        let large = self.command(way, large).measured()?;
        Ok((large - small).cpu)
    }

    fn command(&self, way: Way, mib: u64) -> CommandLine {
        let luks = format!(
            "driver=luks,key-secret=key,file.driver=file,file.filename={}",
            self.path(mib, "luks").display(),
        );
        let secret = self.scratch.path("passphrase");
        let convert = CommandLine::new(self.program)
            .words(&format!("convert --object secret,id=key,file={}", secret.display()));
        let (raw, out) = (self.path(mib, "raw"), self.path(mib, "out"));
        match way {
            Way::Encrypt => convert.words("-f raw -n --target-image-opts").path(&raw).words(&luks),
            Way::Decrypt => convert.words(&format!("--image-opts {luks} -O raw")).path(&out),
            Way::Plain => convert.words("-f raw -O raw").path(&raw).path(&out),
        }
    }

    fn path(&self, mib: u64, ending: &str) -> PathBuf {
        self.scratch.path(&format!("{mib}.{ending}"))
    }
}

const BUFFER: usize = 256 << 10;

/// The images that qemu converts, in MiB.
const SIZES: [u64; 2] = [1, 65];

const RUNS: usize = 3;
