//! OpenSSL's EVP interface over sectors, the fastest way it has: one context, keyed once, and a
//! new IV for each sector.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::hash::{MessageDigest, hash};

use crate::error::Error;

/// A sector cipher of OpenSSL with its key.
pub(crate) struct OpenSslSectors {
    encrypting: CipherCtx,
    decrypting: CipherCtx,
    essiv: Option<CipherCtx>,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Encrypt,
    Decrypt,
}

impl OpenSslSectors {
    /// The bytes that must follow the sectors in a buffer: the binding wants room for a block.
    pub(crate) const SLACK: usize = 16;

    /// Returns AES-128-XTS or AES-256-XTS, after the length of the key, with `plain64` IVs.
    pub(crate) fn aes_xts(key: &[u8]) -> Result<Self, Error> {
        let cipher = if key.len() == 32 { Cipher::aes_128_xts() } else { Cipher::aes_256_xts() };
        let (mut encrypting, mut decrypting) = (CipherCtx::new()?, CipherCtx::new()?);
        encrypting.encrypt_init(Some(cipher), Some(key), None)?;
        decrypting.decrypt_init(Some(cipher), Some(key), None)?;
        Ok(Self { encrypting, decrypting, essiv: None })
    }

    /// Returns AES-256-CBC with `essiv:sha256` IVs.
    pub(crate) fn aes_cbc_essiv(key: &[u8]) -> Result<Self, Error> {
        let (mut encrypting, mut decrypting) = (CipherCtx::new()?, CipherCtx::new()?);
        encrypting.encrypt_init(Some(Cipher::aes_256_cbc()), Some(key), None)?;
        decrypting.decrypt_init(Some(Cipher::aes_256_cbc()), Some(key), None)?;
        let salt = hash(MessageDigest::sha256(), key)?;
        let mut essiv = CipherCtx::new()?;
        essiv.encrypt_init(Some(Cipher::aes_256_ecb()), Some(&salt), None)?;
        for context in [&mut encrypting, &mut decrypting, &mut essiv] {
            context.set_padding(false);
        }
        Ok(Self { encrypting, decrypting, essiv: Some(essiv) })
    }

    /// Encrypts or decrypts in place sectors of `size` bytes, all of `data` but for the slack. IVs
    /// count units of 512 bytes from `first_iv` on.
    pub(crate) fn run(
        &mut self,
        direction: Direction,
        data: &mut [u8],
        size: usize,
        first_iv: u64,
    ) -> Result<(), Error> {
        let sectors = (data.len() - Self::SLACK) / size;
        for (start, number) in (0..sectors).map(|sector| sector * size).zip(0..) {
            let mut iv = [0; 16];
            iv[..8].copy_from_slice(&(first_iv + number * (size as u64 / 512)).to_le_bytes());
            if let Some(essiv) = &mut self.essiv {
                let mut block = [0; 32];
                block[..16].copy_from_slice(&iv);
                essiv.cipher_update_inplace(&mut block, 16)?;
                iv.copy_from_slice(&block[..16]);
            }
            let context = match direction {
                Direction::Encrypt => {
                    self.encrypting.encrypt_init(None, None, Some(&iv))?;
                    &mut self.encrypting
                }
                Direction::Decrypt => {
                    self.decrypting.decrypt_init(None, None, Some(&iv))?;
                    &mut self.decrypting
                }
            };
            context.cipher_update_inplace(&mut data[start..start + size + Self::SLACK], size)?;
        }
        Ok(())
    }
}
