//! `make bench`: Strongroom against OpenSSL, `qemu-img`, `cryptsetup` and `cp`, side by side in
//! one run, as figures and ratios, with the targets that they have to reach.
//!
//! A missed target is a line that says by how much; only a wrong result fails.
//!
//! ```text
//! strongroom-benches STRONGROOM [PART]...      aes ciphers images qcow2 opening fuse nbd; all unless named
//! strongroom-benches measure PROGRAM ARGUMENT...                     resource use of a process
//! strongroom-benches copy SOURCE TARGET write|skip                   the loop without encryption
//! ```

mod aes;
mod attached;
mod block_ciphers;
mod block_load;
mod contest;
mod error;
mod fuse;
mod images;
mod nbd;
mod nbd_client;
mod opening;
mod openssl_sectors;
mod process;
mod qcow2;
mod report;
mod scratch;
mod stopwatch;
mod tools;

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use strongroom_clone::{Pass, Plan, Zeroes};
use strongroom_disk::{Access, Disk, NewFile, Overwrite, Raw};

use error::Error;
use report::Report;
use tools::Tools;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[OsString]) -> Result<ExitCode, Error> {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        ["measure", ..] => process::measure(&arguments[1..]),
        ["copy", source, target, zeroes @ ("write" | "skip")] => {
            let zeroes = if zeroes == "write" { Zeroes::Write } else { Zeroes::Skip };
            copy(Path::new(source), Path::new(target), zeroes)?;
            Ok(ExitCode::SUCCESS)
        }
        [strongroom, ref parts @ ..] if parts.iter().all(|part| PARTS.contains(part)) => {
            let tools = Tools::find(Path::new(strongroom))?;
            bench(&tools, parts)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Error::Usage),
    }
}

fn bench(tools: &Tools, parts: &[&str]) -> Result<(), Error> {
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let mut report = Report::default();
    report::machine();
    if wanted("aes") {
        aes::run(&mut report)?;
    }
    if wanted("ciphers") {
        block_ciphers::run(tools, &mut report)?;
    }
    if wanted("images") {
        images::run(tools, &mut report)?;
    }
    if wanted("qcow2") {
        qcow2::run(tools, &mut report)?;
    }
    if wanted("opening") {
        opening::run(tools, &mut report)?;
    }
    if wanted("fuse") {
        fuse::run(tools, &mut report)?;
    }
    if wanted("nbd") {
        nbd::run(tools, &mut report)?;
    }
    report.print();
    Ok(())
}

/// Copies a file as `strongroom image` does, but for the encryption: the same pipeline, the same
/// new file beside its name, the same flushes.
fn copy(source: &Path, target: &Path, zeroes: Zeroes) -> Result<(), Error> {
    let source = Raw::open(source, Access::ReadOnly)?;
    let (new, _never_formatted) = NewFile::create(target, Overwrite::Refuse, &[&source])?;
    new.disk().set_len(source.len())?;
    let plan = Plan::for_this_machine(zeroes);
    let cancelled = AtomicBool::new(false);
    strongroom_clone::run(&source, new.disk(), &Pass::new(plan, &(), &cancelled))?;
    new.commit()?;
    Ok(())
}

const PARTS: &[&str] = &["aes", "ciphers", "images", "qcow2", "opening", "fuse", "nbd"];
