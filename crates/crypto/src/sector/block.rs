//! Block ciphers behind one object-safe face that works on many blocks at a time.

use cipher::{Array, Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

use super::serpent::Serpent;
use super::twofish::Twofish;
use crate::{Cipher, Error};

/// A keyed block cipher. Works on any whole number of blocks, each for itself.
pub(super) trait BlockCipher: Send + Sync {
    /// Returns the block size in bytes.
    fn block_size(&self) -> usize;

    /// Encrypts every block of `blocks` in place.
    fn encrypt_blocks(&self, blocks: &mut [u8]);

    /// Decrypts every block of `blocks` in place.
    fn decrypt_blocks(&self, blocks: &mut [u8]);
}

/// Returns `cipher` with a single key of one of its sizes.
pub(super) fn new(cipher: Cipher, key: &[u8]) -> Result<Box<dyn BlockCipher>, Error> {
    Ok(match (cipher, key.len()) {
        (Cipher::Aes, 16) => portable::<aes::Aes128>(key)?,
        (Cipher::Aes, 24) => portable::<aes::Aes192>(key)?,
        (Cipher::Aes, _) => portable::<aes::Aes256>(key)?,
        (Cipher::Camellia, 16) => portable::<camellia::Camellia128>(key)?,
        (Cipher::Camellia, 24) => portable::<camellia::Camellia192>(key)?,
        (Cipher::Camellia, _) => portable::<camellia::Camellia256>(key)?,
        (Cipher::Cast5, _) => portable::<cast5::Cast5>(key)?,
        (Cipher::Des3, _) => portable::<des::TdesEde3>(key)?,
        (Cipher::Serpent, _) => Serpent::new(key)?,
        (Cipher::Twofish, _) => Twofish::new(key)?,
    })
}

/// A RustCrypto cipher.
struct Portable<C>(C);

fn portable<C>(key: &[u8]) -> Result<Box<dyn BlockCipher>, Error>
where
    C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync + 'static,
{
    C::new_from_slice(key)
        .map(|cipher| Box::new(Portable(cipher)) as Box<dyn BlockCipher>)
        .map_err(|_| Error::KeyLength { expected: C::key_size(), actual: key.len() })
}

impl<C> BlockCipher for Portable<C>
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + Send + Sync,
{
    fn block_size(&self) -> usize {
        C::block_size()
    }

    fn encrypt_blocks(&self, blocks: &mut [u8]) {
        let (blocks, _): (&mut [Block<C>], _) = Array::slice_as_chunks_mut(blocks);
        self.0.encrypt_blocks(blocks);
    }

    fn decrypt_blocks(&self, blocks: &mut [u8]) {
        let (blocks, _): (&mut [Block<C>], _) = Array::slice_as_chunks_mut(blocks);
        self.0.decrypt_blocks(blocks);
    }
}
