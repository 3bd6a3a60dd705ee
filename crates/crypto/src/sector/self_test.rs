//! Known answers that every kernel must give before it is trusted with data.
//!
//! A processor or hypervisor that runs an instruction wrongly would otherwise write sectors that
//! no other machine can read. The runs are long enough to go through every loop of a kernel.

use std::fmt::Write;
use std::sync::OnceLock;

use super::kernel::Kernel;
use super::{IvUnit, SectorCipher, SectorSize};
use crate::{Cipher, CipherSpec, Error, Hash, VolumeKey};

/// Checks `kernel` on its first use for `cipher` in this process and returns the outcome ever after.
/// Ciphers that have portable code only pass.
pub(super) fn pass(kernel: Kernel, cipher: Cipher) -> Result<(), Error> {
    static AES: Outcomes = [const { OnceLock::new() }; Kernel::ALL.len()];
    static SERPENT: Outcomes = [const { OnceLock::new() }; Kernel::ALL.len()];
    let (outcomes, answers) = match cipher {
        Cipher::Aes => (&AES, &AES_ANSWERS[..]),
        Cipher::Serpent => (&SERPENT, &SERPENT_ANSWERS[..]),
        _ => return Ok(()),
    };
    let given = |answer: &Answer| answer.is_given_by(kernel).unwrap_or(false);
    let passed = outcomes[kernel as usize].get_or_init(|| answers.iter().all(given));
    if *passed { Ok(()) } else { Err(Error::SelfTest { kernel: kernel.name_for(cipher) }) }
}

/// Whether each kernel passed, in the order of their declaration.
type Outcomes = [OnceLock<bool>; Kernel::ALL.len()];

/// What comes out when the pattern of [`Answer::is_given_by`] is encrypted.
struct Answer {
    spec: &'static str,
    key_bits: usize,
    sector_size: SectorSize,
    sectors: usize,
    /// SHA-256 of the ciphertext, computed with another library.
    sha256: &'static str,
}

impl Answer {
    /// Returns whether `kernel` encrypts to the answer, and decrypts that to where it began.
    fn is_given_by(&self, kernel: Kernel) -> Result<bool, Error> {
        let encryption = self.spec.parse::<CipherSpec>()?.with_key_bits(self.key_bits)?;
        let key = VolumeKey::new((0..=u8::MAX).take(self.key_bits / 8).collect());
        let cipher =
            SectorCipher::untested(encryption, &key, self.sector_size, IvUnit::Bytes512, kernel)?;
        let pattern = (0..251).cycle().take(self.sectors * self.sector_size.bytes());
        let mut data: Vec<u8> = pattern.clone().collect();
        cipher.encrypt(&mut data, FIRST_IV);
        let mut digest = String::with_capacity(self.sha256.len());
        for byte in Hash::Sha256.digest(&[&data]) {
            write!(digest, "{byte:02x}").expect("writing to a string cannot fail");
        }
        cipher.decrypt(&mut data, FIRST_IV);
        Ok(digest == self.sha256 && pattern.eq(data))
    }
}

const FIRST_IV: u64 = 7;

/// Computed with OpenSSL.
const AES_ANSWERS: [Answer; 5] = [
    Answer {
        spec: "aes-xts-plain64",
        key_bits: 256,
        sector_size: SectorSize::B1024,
        sectors: 35,
        sha256: "a747f6f919d5485b2a34e859409eb508f3e36833bba35f6eb0e60d3e48009b9d",
    },
    Answer {
        spec: "aes-xts-plain64",
        key_bits: 512,
        sector_size: SectorSize::B1024,
        sectors: 35,
        sha256: "79d407ae9eabbccb42ae8b5b12ffea09506f3f86f6eef19ea0ac4a52291c27c6",
    },
    Answer {
        spec: "aes-cbc-plain64",
        key_bits: 128,
        sector_size: SectorSize::B512,
        sectors: 63,
        sha256: "65ab9424426b6f6963ad628e8e98663eeb2ac4d389830a28b9ca776b6cc17f2c",
    },
    Answer {
        spec: "aes-cbc-plain64",
        key_bits: 192,
        sector_size: SectorSize::B512,
        sectors: 63,
        sha256: "50f4c87da19aaca506bac50eda3576bb7fe5a30b3b8d56b7c684261ec6c23023",
    },
    Answer {
        spec: "aes-cbc-essiv:sha256",
        key_bits: 256,
        sector_size: SectorSize::B512,
        sectors: 63,
        sha256: "af8fe5a3c5103456ed4ec36a1a5b6c6b52e47ea7e002410195d03bad5c914da4",
    },
];

/// Computed with libgcrypt. They go through the loops over many and over few blocks, both ways.
const SERPENT_ANSWERS: [Answer; 2] = [
    Answer {
        spec: "serpent-xts-plain64",
        key_bits: 512,
        sector_size: SectorSize::B512,
        sectors: 35,
        sha256: "6b240e89f0b6a4564679f415bdbf7262d82313acc550390a80ef2170ecb54d79",
    },
    Answer {
        spec: "serpent-cbc-plain64",
        key_bits: 128,
        sector_size: SectorSize::B512,
        sectors: 63,
        sha256: "44d75bc1235e7b3777d17e60be2857a4c85b1f9c9e76d1f397fe8323a74b3446",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_kernel_passes() {
        for kernel in Kernel::available() {
            for cipher in [Cipher::Aes, Cipher::Serpent, Cipher::Twofish] {
                assert_eq!(pass(kernel, cipher), Ok(()), "{kernel} {cipher}");
            }
        }
    }

    #[test]
    fn a_kernel_that_gives_another_answer_fails() {
        for mut answer in AES_ANSWERS.into_iter().chain(SERPENT_ANSWERS) {
            answer.sectors -= 1;
            assert_eq!(answer.is_given_by(Kernel::detected()), Ok(false), "{}", answer.spec);
        }
    }
}
