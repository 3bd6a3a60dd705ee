//! Volumes in user space: a loop device of a FUSE file against one of a plain file, and what it takes
//! to attach one, or many at once.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use strongroom_attach::{Support, loop_device};
use strongroom_crypto::SectorSize;

use crate::attached::{self, Attached};
use crate::block_load::{Direction, Load, Order};
use crate::error::Error;
use crate::report::{Bound, Report, Target, heading};
use crate::scratch::Scratch;
use crate::tools::Tools;

/// Measures all of it where root, FUSE and loop devices are to be had.
pub(crate) fn run(tools: &Tools, report: &mut Report) -> Result<(), Error> {
    for support in [strongroom_attach::fuse::support(), loop_device::support()] {
        if let Support::Missing { what, .. } = support {
            println!("skipped: fuse: {what}");
            return Ok(());
        }
    }
    speed(tools, report)?;
    latency(tools, report)?;
    many(tools, report)
}

/// Puts the same loads on all of them in turns.
fn speed(tools: &Tools, report: &mut Report) -> Result<(), Error> {
    heading("FUSE and a loop device, AES-256-XTS, against a loop device of a plain file");
    let scratch = Scratch::new()?;
    let by_fuse = |name, size| {
        let volume = attached::volume(&scratch, name, LEN, size)?;
        Attached::by_fuse(&tools.strongroom, &volume)
    };
    let contenders = [
        ("plain loop", Attached::plain(&scratch, "plain", LEN)?),
        ("FUSE, 512", by_fuse("small", SectorSize::B512)?),
        ("FUSE, 4096", by_fuse("large", SectorSize::B4096)?),
    ];
    // Everything is there once, so that nobody measures how a file gets its pages.
    for (_, attached) in &contenders {
        fill(&attached.device)?;
    }
    println!("  {:<26}{:>14}{:>14}{:>14}", "requests/s", "plain loop", "FUSE, 512", "FUSE, 4096");
    for load in LOADS {
        let mut best = [0.0_f64; 3];
        for _ in 0..ROUNDS {
            for ((_, attached), best) in contenders.iter().zip(&mut best) {
                *best = best.max(load.run(&attached.device, LEN)?);
            }
        }
        let [plain, small, large] = best;
        println!("  {:<26}{plain:>14.0}{small:>14.0}{large:>14.0}", load.name);
        for ((name, _), value) in contenders.iter().zip(best).skip(1) {
            report.add(Target {
                what: format!("{}: {name}-byte sectors over a plain loop", load.name),
                value: value / plain,
                bound: Bound::None,
                unit: "x",
            });
        }
    }
    Ok(())
}

/// Attaches and detaches, again and again.
fn latency(tools: &Tools, report: &mut Report) -> Result<(), Error> {
    heading("From an opened volume to the first sector read of its loop device");
    let scratch = Scratch::new()?;
    let volume = attached::volume(&scratch, "volume", SMALL, SectorSize::B4096)?;
    let mut times = Vec::new();
    for _ in 0..ATTACHMENTS {
        let start = Instant::now();
        let attached = Attached::by_fuse(&tools.strongroom, &volume)?;
        read_a_sector(&attached.device)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    for (name, percent) in [("half", 50), ("99 of 100", 99)] {
        let time = times[(times.len() * percent).div_ceil(100) - 1];
        report.add(Target {
            what: format!("attaching, {name} of {ATTACHMENTS} within"),
            value: time.as_secs_f64() * 1e3,
            bound: Bound::AtMost(10.0),
            unit: " ms",
        });
    }
    Ok(())
}

/// Attaches many at the same time.
fn many(tools: &Tools, report: &mut Report) -> Result<(), Error> {
    heading("Many volumes attached at the same time");
    let scratch = Scratch::new()?;
    let volumes = (0..MANY)
        .map(|number| attached::volume(&scratch, &format!("{number}"), SMALL, SectorSize::B4096))
        .collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let attached = std::thread::scope(|scope| {
        let attach = |volume| {
            let attached = Attached::by_fuse(&tools.strongroom, volume)?;
            read_a_sector(&attached.device)?;
            Ok::<_, Error>(attached)
        };
        let threads: Vec<_> =
            volumes.iter().map(|volume| scope.spawn(move || attach(volume))).collect();
        let panicked = |_| Err(Error::Wrong("a thread panicked".to_owned()));
        let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked));
        joined.collect::<Result<Vec<_>, _>>()
    })?;
    let took = start.elapsed();
    // Whatever they do at their beginning is over.
    std::thread::sleep(SETTLED);
    let (processes, memory) = memory_of(&tools.strongroom)?;
    println!(
        "  {} volumes, {processes} processes, {} KiB for each volume",
        attached.len(),
        memory / attached.len() as u64
    );
    report.add(Target {
        what: format!("attaching {MANY} volumes at the same time"),
        value: took.as_secs_f64(),
        bound: Bound::AtMost(2.0),
        unit: " s",
    });
    report.add(Target {
        what: format!("memory of the servers of {MANY} volumes, shared pages counted once"),
        value: memory as f64 / 1024.0,
        bound: Bound::AtMost(128.0),
        unit: " MiB",
    });
    let start = Instant::now();
    drop(attached);
    println!("  detached one after the other in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Returns how many processes run a program, and how many KiB they take, page tables included.
fn memory_of(program: &Path) -> Result<(usize, u64), Error> {
    let mut found = (0, 0);
    for entry in fs::read_dir("/proc").map_err(Error::system(&"/proc"))? {
        let folder = entry.map_err(Error::system(&"/proc"))?.path();
        if !fs::read_link(folder.join("exe")).is_ok_and(|target| target == program) {
            continue;
        }
        let kib = |file: &str, name: &str| {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
            number.unwrap_or(0_u64)
        };
        found.0 += 1;
        found.1 += kib("smaps_rollup", "Pss") + kib("status", "VmPTE");
    }
    Ok(found)
}

fn read_a_sector(device: &Path) -> Result<(), Error> {
    let label = device.display();
    let file = fs::File::open(device).map_err(Error::system(&label))?;
    file.read_exact_at(&mut [0; 4096], 0).map_err(Error::system(&label))
}

fn fill(device: &Path) -> Result<(), Error> {
    let label = device.display();
    let file = fs::OpenOptions::new().write(true).open(device).map_err(Error::system(&label))?;
    let bytes = vec![0x5a; 1 << 20];
    for offset in (0..LEN).step_by(1 << 20) {
        file.write_all_at(&bytes, offset).map_err(Error::system(&label))?;
    }
    file.sync_all().map_err(Error::system(&label))
}

const LOADS: [Load; 6] = [
    random("4 KiB reads, depth 1", 1, Direction::Read),
    random("4 KiB writes, depth 1", 1, Direction::Write),
    random("4 KiB reads, depth 16", 16, Direction::Read),
    random("4 KiB writes, depth 16", 16, Direction::Write),
    sequential("1 MiB writes in order", Direction::Write),
    sequential("1 MiB reads in order", Direction::Read),
];

const fn random(name: &'static str, depth: usize, direction: Direction) -> Load {
    Load { name, block: 4096, depth, order: Order::Random, direction }
}

const fn sequential(name: &'static str, direction: Direction) -> Load {
    Load { name, block: 1 << 20, depth: 4, order: Order::Sequential, direction }
}

/// The bytes of a volume that loads are put on.
const LEN: u64 = 512 << 20;

/// The bytes of one that is only attached.
const SMALL: u64 = 64 << 20;

const ROUNDS: usize = 5;
const ATTACHMENTS: usize = 100;
const MANY: usize = 200;
const SETTLED: Duration = Duration::from_secs(2);
