//! The code that runs AES and Serpent on this machine, chosen at run time.

use std::fmt;

use super::aes_runs::Aes;
use super::block::{self, BlockCipher};
use super::serpent::Serpent;
#[cfg(target_arch = "x86_64")]
use super::serpent::WideSerpent;
use crate::{Cipher, Error};

/// An implementation of AES over runs of sectors, and the instructions that Serpent may use.
///
/// All give the same bytes; they differ in speed and in the instructions they need. Serpent needs no
/// AES instructions: each kernel also names the widest registers that it runs in. Where a processor
/// lacks those, it runs in the next narrower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Vector AES on 512-bit registers (x86-64 with VAES, VPCLMULQDQ and AVX-512). Serpent on
    /// AVX-512.
    Vaes512,
    /// Vector AES on 256-bit registers (x86-64 with VAES, VPCLMULQDQ and AVX2). Serpent on AVX2.
    Vaes256,
    /// AES-NI on 128-bit registers (x86-64). Serpent on AVX2.
    AesNi,
    /// The code that runs anywhere. It uses AES instructions where its library knows them.
    Portable,
}

impl Kernel {
    /// Every kernel, the one expected to be fastest first.
    pub const ALL: [Self; 4] = [Self::Vaes512, Self::Vaes256, Self::AesNi, Self::Portable];

    /// Returns the kernels that this processor can run, fastest first, [`Self::Portable`] last.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.is_available()).collect()
    }

    /// Returns the fastest kernel that this processor can run.
    pub fn detected() -> Self {
        Self::ALL.into_iter().find(|kernel| kernel.is_available()).unwrap_or(Self::Portable)
    }

    /// Returns whether this processor can run the kernel.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            accelerated => super::x86_64::supports(accelerated),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Returns the name that people see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vaes512 => "vaes-avx512",
            Self::Vaes256 => "vaes-avx2",
            Self::AesNi => "aes-ni",
            Self::Portable => "portable",
        }
    }

    /// Returns AES with a key, `None` for [`Self::Portable`] and where the kernel cannot run.
    pub(super) fn aes(self, key: &[u8]) -> Option<Box<dyn Aes>> {
        #[cfg(target_arch = "x86_64")]
        {
            let aes = super::x86_64::Accelerated::new(self, key)?;
            Some(Box::new(aes))
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = key;
            None
        }
    }

    /// Returns the kernel itself when it makes a difference to `cipher` on this processor, else
    /// [`Self::Portable`].
    pub(super) fn effective(self, cipher: Cipher) -> Self {
        match cipher {
            Cipher::Aes => self,
            Cipher::Serpent if self.serpent_instructions().is_some() => self,
            _ => Self::Portable,
        }
    }

    /// Returns the name of what the kernel runs `cipher` by.
    pub(super) fn name_for(self, cipher: Cipher) -> &'static str {
        match cipher {
            Cipher::Aes => self.name(),
            Cipher::Serpent => self.serpent_instructions().unwrap_or(Self::Portable.name()),
            _ => Self::Portable.name(),
        }
    }

    /// Returns the name of the instructions that Serpent runs by, `None` for those that every
    /// processor has.
    fn serpent_instructions(self) -> Option<&'static str> {
        #[cfg(target_arch = "x86_64")]
        {
            super::x86_64::WideRegisters::with(self).map(super::x86_64::WideRegisters::name)
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            None
        }
    }

    /// Returns Serpent with a key, in the registers of this kernel.
    fn serpent(self, key: &[u8]) -> Result<Box<dyn BlockCipher>, Error> {
        let serpent = Serpent::new(key)?;
        #[cfg(target_arch = "x86_64")]
        if let Some(registers) = super::x86_64::WideRegisters::with(self) {
            return Ok(Box::new(WideSerpent::new(registers, serpent)));
        }
        Ok(serpent)
    }

    /// Returns `cipher` with a single key, run by this kernel when it is AES or Serpent.
    pub(super) fn block_cipher(
        self,
        cipher: Cipher,
        key: &[u8],
    ) -> Result<Box<dyn BlockCipher>, Error> {
        match cipher {
            Cipher::Aes => match self.aes(key) {
                Some(aes) => Ok(aes),
                None => block::new(cipher, key),
            },
            Cipher::Serpent => self.serpent(key),
            _ => block::new(cipher, key),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_kernel_is_always_there_and_last() {
        assert_eq!(Kernel::available().last(), Some(&Kernel::Portable));
    }

    #[test]
    fn the_detected_kernel_is_the_first_available() {
        assert_eq!(Kernel::available().first(), Some(&Kernel::detected()));
    }

    #[test]
    fn serpent_runs_in_the_registers_of_its_kernel() {
        assert_eq!(Kernel::Portable.name_for(Cipher::Serpent), "portable");
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            assert_eq!(Kernel::AesNi.name_for(Cipher::Serpent), "avx2");
            assert_eq!(Kernel::Vaes256.name_for(Cipher::Serpent), "avx2");
            let avx512 =
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            let widest = if avx512 { "avx512" } else { "avx2" };
            assert_eq!(Kernel::Vaes512.name_for(Cipher::Serpent), widest);
        }
    }
}
