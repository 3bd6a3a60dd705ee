//! A folder in memory for the images, gone at the end.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use strongroom_crypto::{Kernel, SectorSize, VolumeKey};
use tempfile::TempDir;

use crate::aes::{sector_cipher, system_rng};
use crate::error::Error;

/// A folder on tmpfs, or wherever `BENCH_DIR` says.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// The bytes of a piece of data in a sparse image.
    pub(crate) const PIECE: u64 = 64 << 10;

    /// Makes the folder.
    pub(crate) fn new() -> Result<Self, Error> {
        let parent = parent();
        let folder = TempDir::with_prefix_in("strongroom-benches-", &parent)
            .map_err(Error::system(&parent.display()))?;
        Ok(Self { folder })
    }

    /// Returns the path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a passphrase file.
    pub(crate) fn passphrase(&self) -> Result<PathBuf, Error> {
        let path = self.path("passphrase");
        fs::write(&path, "of no value").map_err(Error::system(&path.display()))?;
        Ok(path)
    }

    /// Writes a file without holes or zeros: so many MiB of noise.
    pub(crate) fn dense(&self, name: &str, mib: u64) -> Result<PathBuf, Error> {
        self.filled(name, mib, |_| {})
    }

    /// Writes a file that can be compressed: every other 32 KiB hold one byte only.
    pub(crate) fn half_noise(&self, name: &str, mib: u64) -> Result<PathBuf, Error> {
        self.filled(name, mib, |buffer| {
            buffer.chunks_mut(32 << 10).step_by(2).for_each(|half| half.fill(b'x'));
        })
    }

    /// Writes a file of so many MiB with so many pieces of noise, apart from each other.
    pub(crate) fn sparse(&self, name: &str, mib: u64, pieces: u64) -> Result<PathBuf, Error> {
        let noise = self.dense(&format!("{name}.noise"), ((pieces * Self::PIECE) >> 20).max(1))?;
        let path = self.path(name);
        let label = path.display();
        let bytes = fs::read(&noise).map_err(Error::system(&noise.display()))?;
        Self::remove(&noise);
        let file = File::create(&path).map_err(Error::system(&label))?;
        file.set_len(mib << 20).map_err(Error::system(&label))?;
        for (number, piece) in (0..pieces).zip(bytes.chunks(Self::PIECE as usize)) {
            let offset = number * ((mib << 20) / pieces) / Self::PIECE * Self::PIECE;
            file.write_all_at(piece, offset).map_err(Error::system(&label))?;
        }
        Ok(path)
    }

    fn filled(&self, name: &str, mib: u64, change: impl Fn(&mut [u8])) -> Result<PathBuf, Error> {
        let path = self.path(name);
        let label = path.display();
        let failed = || Error::system(&label);
        let key = VolumeKey::random(64, &mut system_rng());
        let cipher = sector_cipher("aes-xts-plain64", &key, SectorSize::B4096, Kernel::detected())?;
        let mut file = File::create(&path).map_err(failed())?;
        let mut buffer = vec![0; 1 << 20];
        for number in 0..mib {
            cipher.encrypt(&mut buffer, number << 11);
            let noise = buffer.clone();
            change(&mut buffer);
            file.write_all(&buffer).map_err(failed())?;
            buffer = noise;
        }
        Ok(path)
    }

    /// Removes a file if it is there.
    pub(crate) fn remove(path: &Path) {
        // What cannot be removed makes the next step fail by its name.
        let _ = fs::remove_file(path);
    }
}

/// Returns how many MiB fit: the free space, or on tmpfs the free memory if that is less.
pub(crate) fn free_mib() -> Result<u64, Error> {
    let parent = parent();
    let found = statvfs(&parent).map_err(Error::Resources)?;
    let space = (found.blocks_available() * found.fragment_size()) >> 20;
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok()
        })
        .map_or(space, |kib: u64| kib >> 10);
    Ok(if parent == Path::new(TMPFS) { space.min(available) } else { space })
}

fn parent() -> PathBuf {
    env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from(TMPFS), PathBuf::from)
}

const TMPFS: &str = "/dev/shm";
