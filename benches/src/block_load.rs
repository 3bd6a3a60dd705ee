//! Loads on a block device or a file, past the page cache.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use crate::error::Error;

/// What is asked of a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// The bytes of a request.
    pub(crate) block: usize,
    /// How many are under way at a time, each in a thread of its own.
    pub(crate) depth: usize,
    /// Where they go.
    pub(crate) order: Order,
    /// What they do.
    pub(crate) direction: Direction,
}

/// Where requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Anywhere.
    Random,
    /// One behind the other.
    Sequential,
}

/// What requests do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Read.
    Read,
    /// Write.
    Write,
}

impl Load {
    /// Puts this load on the first `len` bytes of a device for a while, and returns how many requests
    /// it has carried out in a second.
    pub(crate) fn run(&self, device: &Path, len: u64) -> Result<f64, Error> {
        let (ended, next) = (AtomicBool::new(false), AtomicU64::new(0));
        let start = Instant::now();
        let done: Result<u64, Error> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.depth as u64)
                .map(|seed| {
                    let (ended, next) = (&ended, &next);
                    scope.spawn(move || self.requests(device, len, seed, ended, next))
                })
                .collect();
            std::thread::sleep(WINDOW);
            ended.store(true, Ordering::Relaxed);
            let results = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::Wrong("a thread panicked".to_owned())))
            });
            results.sum()
        });
        Ok(done? as f64 / start.elapsed().as_secs_f64())
    }

    fn requests(
        &self,
        device: &Path,
        len: u64,
        seed: u64,
        ended: &AtomicBool,
        next: &AtomicU64,
    ) -> Result<u64, Error> {
        let label = device.display();
        let file = self.open(device).map_err(Error::system(&label))?;
        let mut memory = vec![seed as u8; self.block + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        let buffer = &mut memory[start..start + self.block];
        let blocks = len / self.block as u64;
        let mut random = seed.wrapping_mul(MULTIPLIER) + 1;
        let mut done = 0;
        while !ended.load(Ordering::Relaxed) {
            let block = match self.order {
                Order::Sequential => next.fetch_add(1, Ordering::Relaxed) % blocks,
                Order::Random => {
                    random = random.wrapping_mul(MULTIPLIER).wrapping_add(1);
                    (random >> 20) % blocks
                }
            };
            let offset = block * self.block as u64;
            match self.direction {
                Direction::Read => file.read_exact_at(buffer, offset),
                Direction::Write => file.write_all_at(buffer, offset),
            }
            .map_err(Error::system(&label))?;
            done += 1;
        }
        Ok(done)
    }

    fn open(&self, device: &Path) -> std::io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(self.direction == Direction::Write)
            .custom_flags(OFlag::O_DIRECT.bits())
            .open(device)
    }
}

/// How long a load is put on.
const WINDOW: Duration = Duration::from_millis(700);

const PAGE: usize = 4096;

/// Of a linear congruential generator: Knuth's for 64 bits.
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
