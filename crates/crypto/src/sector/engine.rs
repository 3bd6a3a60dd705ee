//! How the sectors of one cipher and mode are worked on.

use super::aes_runs::{self, Aes, Direction};
use super::block::BlockCipher;
use super::iv::Run;
use super::kernel::Kernel;
use super::modes;
use crate::{Cipher, CipherSpec, Error, Mode};

/// A mode of operation over a keyed cipher.
pub(super) enum Engine {
    AesXts { data: Box<dyn Aes>, tweak: Box<dyn Aes> },
    AesCbc(Box<dyn Aes>),
    Xts { data: Box<dyn BlockCipher>, tweak: Box<dyn BlockCipher> },
    Cbc(Box<dyn BlockCipher>),
    Ctr(Box<dyn BlockCipher>),
    Ecb(Box<dyn BlockCipher>),
}

impl Engine {
    /// Returns the engine for `spec` with a volume key that has one of its sizes.
    pub(super) fn new(spec: CipherSpec, key: &[u8], kernel: Kernel) -> Result<Self, Error> {
        let cipher = spec.cipher();
        let aes = |key| match cipher {
            Cipher::Aes => kernel.aes(key),
            _ => None,
        };
        Ok(match spec.mode() {
            Mode::Xts(_) => {
                let (data, tweak) = key.split_at(key.len() / 2);
                if bool::from(subtle::ConstantTimeEq::ct_eq(data, tweak)) {
                    return Err(Error::WeakXtsKey);
                }
                match (aes(data), aes(tweak)) {
                    (Some(data), Some(tweak)) => Self::AesXts { data, tweak },
                    _ => Self::Xts {
                        data: kernel.block_cipher(cipher, data)?,
                        tweak: kernel.block_cipher(cipher, tweak)?,
                    },
                }
            }
            Mode::Cbc(_) => match aes(key) {
                Some(aes) => Self::AesCbc(aes),
                None => Self::Cbc(kernel.block_cipher(cipher, key)?),
            },
            Mode::Ctr(_) => Self::Ctr(kernel.block_cipher(cipher, key)?),
            Mode::Ecb => Self::Ecb(kernel.block_cipher(cipher, key)?),
        })
    }

    /// Encrypts or decrypts sectors of `size` bytes in place.
    pub(super) fn run(&self, direction: Direction, sectors: &mut [u8], size: usize, ivs: &Run<'_>) {
        match self {
            Self::AesXts { data, tweak } => {
                aes_runs::xts(data.as_ref(), tweak.as_ref(), direction, sectors, size, ivs);
            }
            Self::AesCbc(cipher) => aes_runs::cbc(cipher.as_ref(), direction, sectors, size, ivs),
            Self::Xts { data, tweak } => {
                let (data, tweak) = (data.as_ref(), tweak.as_ref());
                match direction {
                    Direction::Encrypt => modes::xts_encrypt(data, tweak, sectors, size, ivs),
                    Direction::Decrypt => modes::xts_decrypt(data, tweak, sectors, size, ivs),
                }
            }
            Self::Cbc(cipher) => match direction {
                Direction::Encrypt => modes::cbc_encrypt(cipher.as_ref(), sectors, size, ivs),
                Direction::Decrypt => modes::cbc_decrypt(cipher.as_ref(), sectors, size, ivs),
            },
            Self::Ctr(cipher) => modes::ctr(cipher.as_ref(), sectors, size, ivs),
            Self::Ecb(cipher) => match direction {
                Direction::Encrypt => cipher.encrypt_blocks(sectors),
                Direction::Decrypt => cipher.decrypt_blocks(sectors),
            },
        }
    }
}
