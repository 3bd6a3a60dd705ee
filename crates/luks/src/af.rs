//! The anti-forensic splitter (LUKS1 specification, section 2.4).
//!
//! A key is spread over many stripes so that it is lost as soon as any one of them is wiped.

use rand_core::CryptoRng;
use strongroom_crypto::Hash;
use zeroize::Zeroizing;

/// The number of stripes, the same in every LUKS header.
pub(crate) const STRIPES: u32 = 4000;

/// Returns the length of a split key in bytes.
pub(crate) fn split_len(key_len: usize) -> usize {
    key_len * STRIPES as usize
}

/// Spreads `key` over the [`STRIPES`] stripes of `stripes`.
///
/// # Panics
///
/// When `stripes` is not [`split_len`] bytes long.
pub(crate) fn split(
    key: &[u8],
    hash: Hash,
    rng: &mut (impl CryptoRng + ?Sized),
    stripes: &mut [u8],
) {
    assert_eq!(stripes.len(), split_len(key.len()), "a split key has a fixed length");
    let (random, last) = stripes.split_at_mut(split_len(key.len()) - key.len());
    rng.fill_bytes(random);
    let digest = accumulate(random, key.len(), hash);
    for ((out, key), digest) in last.iter_mut().zip(key).zip(digest.iter()) {
        *out = key ^ digest;
    }
}

/// Returns the key of `key_len` bytes that was spread over `stripes`.
///
/// # Panics
///
/// When `stripes` is not [`split_len`] bytes long.
pub(crate) fn merge(stripes: &[u8], key_len: usize, hash: Hash) -> Zeroizing<Vec<u8>> {
    assert_eq!(stripes.len(), split_len(key_len), "a split key has a fixed length");
    let (random, last) = stripes.split_at(stripes.len() - key_len);
    let mut key = accumulate(random, key_len, hash);
    xor(&mut key, last);
    key
}

/// Folds every stripe into one: `d = H(d xor s)`.
fn accumulate(stripes: &[u8], key_len: usize, hash: Hash) -> Zeroizing<Vec<u8>> {
    let mut state = Zeroizing::new(vec![0; key_len]);
    for stripe in stripes.chunks_exact(key_len) {
        xor(&mut state, stripe);
        diffuse(&mut state, hash);
    }
    state
}

/// Replaces each digest-sized piece by the digest of its number and itself.
fn diffuse(state: &mut [u8], hash: Hash) {
    for (number, piece) in (0u32..).zip(state.chunks_mut(hash.digest_len())) {
        let digest = Zeroizing::new(hash.digest(&[&number.to_be_bytes(), piece]));
        for (out, byte) in piece.iter_mut().zip(digest.iter()) {
            *out = *byte;
        }
    }
}

fn xor(out: &mut [u8], with: &[u8]) {
    for (out, with) in out.iter_mut().zip(with) {
        *out ^= with;
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn merges_what_it_split_for_keys_that_are_no_multiple_of_the_digest() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha512, Hash::Whirlpool] {
            for len in [16, 24, 32, 64] {
                let key: Vec<u8> = (0..len).collect();
                let mut stripes = vec![0; split_len(key.len())];
                split(&key, hash, &mut rng, &mut stripes);
                assert_eq!(*merge(&stripes, key.len(), hash), key);
            }
        }
    }

    #[test]
    fn one_changed_bit_anywhere_loses_the_key() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let key = [5; 32];
        let mut stripes = vec![0; split_len(key.len())];
        split(&key, Hash::Sha256, &mut rng, &mut stripes);
        for index in [0, 1000, stripes.len() - 1] {
            stripes[index] ^= 1;
            assert_ne!(*merge(&stripes, key.len(), Hash::Sha256), key);
            stripes[index] ^= 1;
        }
    }
}
