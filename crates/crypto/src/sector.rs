//! Runs of sectors encrypted and decrypted in place.

mod aes_runs;
mod block;
mod engine;
mod iv;
mod kernel;
mod modes;
mod self_test;
mod serpent;
mod twofish;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::fmt;

pub use kernel::Kernel;

use aes_runs::Direction;
use engine::Engine;
use iv::IvGenerator;

use crate::{Encryption, Error, VolumeKey};

/// The size of an encryption sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectorSize {
    /// 512 bytes, the only one that LUKS1 has.
    B512,
    /// 1024 bytes.
    B1024,
    /// 2048 bytes.
    B2048,
    /// 4096 bytes.
    B4096,
}

/// What the sector number of an IV counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IvUnit {
    /// Units of 512 bytes whatever the sector size: the rule of LUKS.
    Bytes512,
    /// Encryption sectors: dm-crypt's `iv_large_sectors`.
    Sector,
}

/// A cipher with its key, ready for sectors. May be shared between threads.
///
/// The key schedules are wiped on drop; `Debug` prints the specification only.
pub struct SectorCipher {
    encryption: Encryption,
    sector_size: SectorSize,
    iv_step: u64,
    iv: IvGenerator,
    kernel: Kernel,
    engine: Engine,
}

impl SectorSize {
    /// Every size, smallest first.
    pub const ALL: [Self; 4] = [Self::B512, Self::B1024, Self::B2048, Self::B4096];

    /// Returns the size in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::B512 => 512,
            Self::B1024 => 1024,
            Self::B2048 => 2048,
            Self::B4096 => 4096,
        }
    }

    /// Returns the size that has so many bytes, `None` when there is none.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bytes() as u64 == bytes)
    }
}

impl SectorCipher {
    /// Returns a cipher for sectors of `sector_size`, run by [`Kernel::detected`].
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`] when the key is not as long as `encryption` says;
    /// [`Error::WeakXtsKey`] when its halves are equal; [`Error::SelfTest`] when the kernel's first
    /// use in this process shows that it is broken.
    pub fn new(
        encryption: Encryption,
        key: &VolumeKey,
        sector_size: SectorSize,
        iv_unit: IvUnit,
    ) -> Result<Self, Error> {
        Self::with_kernel(encryption, key, sector_size, iv_unit, Kernel::detected())
    }

    /// Returns a cipher that runs `kernel` when it is AES or Serpent. Other ciphers have portable
    /// code only.
    ///
    /// # Errors
    ///
    /// Those of [`Self::new`], and [`Error::KernelUnavailable`] when this processor cannot run
    /// `kernel`.
    pub fn with_kernel(
        encryption: Encryption,
        key: &VolumeKey,
        sector_size: SectorSize,
        iv_unit: IvUnit,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        if !kernel.is_available() {
            return Err(Error::KernelUnavailable { kernel: kernel.name() });
        }
        let cipher = encryption.spec().cipher();
        let kernel = kernel.effective(cipher);
        self_test::pass(kernel, cipher)?;
        Self::untested(encryption, key, sector_size, iv_unit, kernel)
    }

    /// Returns the cipher specification and key size.
    pub fn encryption(&self) -> Encryption {
        self.encryption
    }

    /// Returns the size of an encryption sector.
    pub fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// Returns by how much the IV number grows from one sector to the next.
    pub fn iv_step(&self) -> u64 {
        self.iv_step
    }

    /// Returns the kernel that runs. It is the one that was asked for when the cipher is AES, or
    /// Serpent and the processor has wide registers; else [`Kernel::Portable`].
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Returns the name that people see of the code that runs. It differs from the kernel's for
    /// Serpent, which is not run by AES instructions: `avx512`, `avx2` or `portable`.
    pub fn kernel_name(&self) -> &'static str {
        self.kernel.name_for(self.encryption.spec().cipher())
    }

    /// Encrypts whole sectors in place. `first_iv` is the IV number of the first one.
    ///
    /// # Panics
    ///
    /// When `data` is not a whole number of sectors.
    pub fn encrypt(&self, data: &mut [u8], first_iv: u64) {
        self.run(Direction::Encrypt, data, first_iv);
    }

    /// Decrypts whole sectors in place. `first_iv` is the IV number of the first one.
    ///
    /// # Panics
    ///
    /// When `data` is not a whole number of sectors.
    pub fn decrypt(&self, data: &mut [u8], first_iv: u64) {
        self.run(Direction::Decrypt, data, first_iv);
    }

    /// Returns a cipher run by an available kernel whose answers nobody has checked yet.
    fn untested(
        encryption: Encryption,
        key: &VolumeKey,
        sector_size: SectorSize,
        iv_unit: IvUnit,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let key = key.expose_bytes();
        let expected = encryption.key_size().bytes();
        if key.len() != expected {
            return Err(Error::KeyLength { expected, actual: key.len() });
        }
        let spec = encryption.spec();
        let iv_step = match iv_unit {
            IvUnit::Bytes512 => sector_size.bytes() as u64 / 512,
            IvUnit::Sector => 1,
        };
        let iv = IvGenerator::new(spec, key, kernel)?;
        let engine = Engine::new(spec, key, kernel)?;
        Ok(Self { encryption, sector_size, iv_step, iv, kernel, engine })
    }

    fn run(&self, direction: Direction, data: &mut [u8], first_iv: u64) {
        let size = self.sector_size.bytes();
        assert!(
            data.len().is_multiple_of(size),
            "{} bytes are not whole sectors of {size}",
            data.len(),
        );
        self.engine.run(direction, data, size, &self.iv.run(first_iv, self.iv_step));
    }
}

impl fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SectorCipher({})", self.encryption.spec())
    }
}

#[cfg(test)]
mod tests;
