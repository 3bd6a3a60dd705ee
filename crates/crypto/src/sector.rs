//! Runs of sectors encrypted and decrypted in place.

mod aes;
mod block;
mod engine;
mod iv;
mod kernel;
mod modes;
mod serpent;
mod self_test;
mod twofish;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::fmt;

pub use kernel::Kernel;

use aes::Direction;
use engine::Engine;
use iv::IvGenerator;

use crate::{Cipher, Encryption, Error, VolumeKey};

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

    /// Returns a cipher that runs `kernel` when it is AES. Other ciphers have portable code only.
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
        let kernel = match encryption.spec().cipher() {
            Cipher::Aes => {
                self_test::pass(kernel)?;
                kernel
            }
            _ => Kernel::Portable,
        };
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

    /// Returns the kernel that runs; [`Kernel::Portable`] for every cipher other than AES.
    pub fn kernel(&self) -> Kernel {
        self.kernel
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
mod tests {
    use super::*;

    fn cipher(spec: &str, key: Vec<u8>, size: SectorSize) -> SectorCipher {
        let spec: crate::CipherSpec = spec.parse().unwrap();
        let encryption = spec.with_key_bits(key.len() * 8).unwrap();
        SectorCipher::new(encryption, &VolumeKey::new(key), size, IvUnit::Bytes512).unwrap()
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn xts_matches_ieee_1619_vector_4() {
        let key = hex("2718281828459045235360287471352631415926535897932384626433832795");
        let mut data: Vec<u8> = (0..512).map(|i| i as u8).collect();
        cipher("aes-xts-plain64", key, SectorSize::B512).encrypt(&mut data, 0);
        assert_eq!(data[..16], hex("27a7479befa1d476489f308cd4cfa6e2"));
        assert_eq!(data[496..], hex("0a282df920147beabe421ee5319d0568"));
    }

    #[test]
    fn every_cipher_and_mode_decrypts_what_it_encrypted() {
        for name in ["aes", "camellia", "cast5", "des3_ede", "serpent", "twofish"] {
            for mode in [
                "xts-plain64",
                "cbc-plain",
                "cbc-plain64be",
                "cbc-essiv:sha256",
                "ctr-plain64",
                "ecb",
            ] {
                let Ok(spec) = format!("{name}-{mode}").parse::<crate::CipherSpec>() else {
                    continue;
                };
                for &bits in spec.key_sizes() {
                    for size in SectorSize::ALL {
                        let key = (0..bits / 8).map(|i| (i * 7 + 1) as u8).collect();
                        let cipher = cipher(&spec.to_string(), key, size);
                        let plain: Vec<u8> =
                            (0..size.bytes() * 35).map(|i| (i / 3) as u8).collect();
                        let mut data = plain.clone();
                        cipher.encrypt(&mut data, 5);
                        assert_ne!(data, plain, "{spec} {bits}");
                        cipher.decrypt(&mut data, 5);
                        assert_eq!(data, plain, "{spec} {bits}");
                    }
                }
            }
        }
    }

    #[test]
    fn iv_numbers_count_512_bytes_whatever_the_sector_size() {
        let key: Vec<u8> = (0..64).collect();
        let large = cipher("aes-xts-plain64", key, SectorSize::B4096);
        let mut two = vec![7; 8192];
        large.encrypt(&mut two, 0);
        let mut second = vec![7; 4096];
        large.encrypt(&mut second, 8);
        assert_eq!(two[4096..], second);
    }

    #[test]
    fn refuses_an_xts_key_with_equal_halves() {
        let encryption = crate::CipherSpec::AES_XTS_PLAIN64.with_key_bits(256).unwrap();
        let key = VolumeKey::new(vec![3; 32]);
        let result = SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512);
        assert_eq!(result.err(), Some(Error::WeakXtsKey));
    }
}
