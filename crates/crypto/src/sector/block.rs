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

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    fn assert_known_answer(name: Cipher, key: &str, plain: &str, expected: &str) {
        let cipher = new(name, &hex(key)).unwrap();
        let mut data = hex(plain);
        assert_eq!(data.len() % cipher.block_size(), 0);
        cipher.encrypt_blocks(&mut data);
        assert_eq!(data, hex(expected), "{name}");
        cipher.decrypt_blocks(&mut data);
        assert_eq!(data, hex(plain), "{name}");
    }

    #[test]
    fn aes_gives_the_answers_of_fips_197_appendix_c() {
        let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        for (key, expected) in [
            (&key[..32], "69c4e0d86a7b0430d8cdb78070b4c55a"),
            (&key[..48], "dda97ca4864cdfe06eaf70a0ec0d7191"),
            (key, "8ea2b7ca516745bfeafc49904b496089"),
        ] {
            assert_known_answer(Cipher::Aes, key, "00112233445566778899aabbccddeeff", expected);
        }
    }

    #[test]
    fn camellia_gives_the_answers_of_rfc_3713_appendix_a() {
        let key = "0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff";
        for (key, expected) in [
            (&key[..32], "67673138549669730857065648eabe43"),
            (&key[..48], "b4993401b3e996f84ee5cee7d79b09b9"),
            (key, "9acc237dff16d76c20ef7c919e3a7509"),
        ] {
            assert_known_answer(
                Cipher::Camellia,
                key,
                "0123456789abcdeffedcba9876543210",
                expected,
            );
        }
    }

    #[test]
    fn cast5_gives_the_answer_of_rfc_2144_appendix_b_1() {
        assert_known_answer(
            Cipher::Cast5,
            "0123456712345678234567893456789a",
            "0123456789abcdef",
            "238b4fe5847e44b2",
        );
    }

    #[test]
    fn triple_des_gives_the_answers_of_sp_800_67_appendix_b_1() {
        assert_known_answer(
            Cipher::Des3,
            "0123456789abcdef23456789abcdef01456789abcdef0123",
            "54686520717566636b2062726f776e20666f78206a756d70",
            "a826fd8ce53b855fcce21c8112256fe668d5c05dd9b6b900",
        );
    }

    #[test]
    fn every_cipher_takes_every_key_of_its_specification() {
        for cipher in [
            Cipher::Aes,
            Cipher::Camellia,
            Cipher::Cast5,
            Cipher::Des3,
            Cipher::Serpent,
            Cipher::Twofish,
        ] {
            let spec: crate::CipherSpec = format!("{cipher}-ecb").parse().unwrap();
            for &bits in spec.key_sizes() {
                let key: Vec<u8> = (0..=u8::MAX).take(usize::from(bits) / 8).collect();
                let keyed = new(cipher, &key).unwrap();
                assert_eq!(keyed.block_size(), cipher.block_size(), "{cipher} {bits}");
            }
            assert!(new(cipher, &[1; 33]).is_err(), "{cipher}");
        }
    }
}
