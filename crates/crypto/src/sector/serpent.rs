//! Serpent, bitsliced, many blocks side by side.
//!
//! From "Serpent: A Proposal for the Advanced Encryption Standard" by Anderson, Biham and Knudsen
//! (1998), in the bitsliced form that needs no initial and final permutation. Blocks and keys are
//! read as little-endian words, the order of NESSIE and of dm-crypt. There are no tables: the time
//! depends on neither key nor data.

mod sbox;
#[cfg(target_arch = "x86_64")]
mod wide;

use zeroize::{Zeroize, Zeroizing};

#[cfg(target_arch = "x86_64")]
pub(super) use self::wide::WideSerpent;

use self::sbox::*;
use super::aes_runs::Direction;
use super::block::BlockCipher;
use crate::Error;

/// A key schedule. Wiped on drop.
pub(super) struct Serpent {
    /// The subkeys of rounds 0 to 31, eight rounds in a row.
    rounds: [[[u32; 4]; 8]; 4],
    last: [u32; 4],
}

/// Four words of each of `N` blocks: `lanes[word][block]`.
type Lanes<const N: usize> = [[u32; N]; 4];

impl Serpent {
    /// Returns the schedule of a key of 16, 24 or 32 bytes, built where it stays.
    pub(super) fn new(key: &[u8]) -> Result<Box<Self>, Error> {
        if !matches!(key.len(), 16 | 24 | 32) {
            return Err(Error::KeyLength { expected: 32, actual: key.len() });
        }
        let mut schedule = Box::new(Self { rounds: [[[0; 4]; 8]; 4], last: [0; 4] });
        let mut window = Zeroizing::new([0_u32; 8]);
        for (word, bytes) in window.iter_mut().zip(key.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        if let Some(word) = window.get_mut(key.len() / 4) {
            *word = 1;
        }
        let mut index = 0;
        let mut next = || {
            let [a, _, _, b, _, c, _, d] = *window;
            let word = (a ^ b ^ c ^ d ^ PHI ^ index).rotate_left(11);
            window.copy_within(1.., 0);
            window[7] = word;
            index += 1;
            word
        };
        let sboxes = [s3, s2, s1, s0, s7, s6, s5, s4];
        let subkeys = schedule.rounds.as_flattened_mut().iter_mut().chain([&mut schedule.last]);
        for (subkey, sbox) in subkeys.zip(sboxes.iter().cycle()) {
            *subkey = sbox([next(), next(), next(), next()]);
        }
        Ok(schedule)
    }

    /// Encrypts or decrypts every block for itself. Inlined, like all that it calls, so that a
    /// caller compiled for wider registers gets code that uses them.
    #[inline(always)]
    pub(super) fn run(&self, direction: Direction, blocks: &mut [u8]) {
        let (blocks, _) = blocks.as_chunks_mut::<16>();
        let (groups, rest) = blocks.as_chunks_mut::<MANY>();
        for group in groups {
            self.together(direction, group);
        }
        for rest in rest.chunks_mut(FEW) {
            let mut group = [[0; 16]; FEW];
            group[..rest.len()].copy_from_slice(rest);
            self.together(direction, &mut group);
            rest.copy_from_slice(&group[..rest.len()]);
        }
    }

    #[inline(always)]
    fn together<const N: usize>(&self, direction: Direction, blocks: &mut [[u8; 16]; N]) {
        match direction {
            Direction::Encrypt => self.encrypt_together(blocks),
            Direction::Decrypt => self.decrypt_together(blocks),
        }
    }

    /// Encrypts `N` blocks in place.
    #[inline(always)]
    fn encrypt_together<const N: usize>(&self, blocks: &mut [[u8; 16]; N]) {
        let mut lanes = load(blocks);
        for (i, keys) in self.rounds.iter().enumerate() {
            if i > 0 {
                each(&mut lanes, mix);
            }
            each(&mut lanes, |x| mix(s0(add(x, keys[0]))));
            each(&mut lanes, |x| mix(s1(add(x, keys[1]))));
            each(&mut lanes, |x| mix(s2(add(x, keys[2]))));
            each(&mut lanes, |x| mix(s3(add(x, keys[3]))));
            each(&mut lanes, |x| mix(s4(add(x, keys[4]))));
            each(&mut lanes, |x| mix(s5(add(x, keys[5]))));
            each(&mut lanes, |x| mix(s6(add(x, keys[6]))));
            each(&mut lanes, |x| s7(add(x, keys[7])));
        }
        for (word, key) in lanes.iter_mut().zip(self.last) {
            for lane in word {
                *lane ^= key;
            }
        }
        store(&lanes, blocks);
    }

    /// Decrypts `N` blocks in place.
    #[inline(always)]
    fn decrypt_together<const N: usize>(&self, blocks: &mut [[u8; 16]; N]) {
        let mut lanes = load(blocks);
        for (word, key) in lanes.iter_mut().zip(self.last) {
            for lane in word {
                *lane ^= key;
            }
        }
        for (i, keys) in self.rounds.iter().enumerate().rev() {
            each(&mut lanes, |x| unmix(add(inverse_s7(x), keys[7])));
            each(&mut lanes, |x| unmix(add(inverse_s6(x), keys[6])));
            each(&mut lanes, |x| unmix(add(inverse_s5(x), keys[5])));
            each(&mut lanes, |x| unmix(add(inverse_s4(x), keys[4])));
            each(&mut lanes, |x| unmix(add(inverse_s3(x), keys[3])));
            each(&mut lanes, |x| unmix(add(inverse_s2(x), keys[2])));
            each(&mut lanes, |x| unmix(add(inverse_s1(x), keys[1])));
            each(&mut lanes, |x| add(inverse_s0(x), keys[0]));
            if i > 0 {
                each(&mut lanes, unmix);
            }
        }
        store(&lanes, blocks);
    }
}

impl BlockCipher for Serpent {
    fn block_size(&self) -> usize {
        16
    }

    fn encrypt_blocks(&self, blocks: &mut [u8]) {
        self.run(Direction::Encrypt, blocks);
    }

    fn decrypt_blocks(&self, blocks: &mut [u8]) {
        self.run(Direction::Decrypt, blocks);
    }
}

impl Drop for Serpent {
    fn drop(&mut self) {
        self.rounds.zeroize();
        self.last.zeroize();
    }
}

#[inline(always)]
fn load<const N: usize>(blocks: &[[u8; 16]; N]) -> Lanes<N> {
    let mut lanes = [[0; N]; 4];
    for (lane, block) in blocks.iter().enumerate() {
        let word = |i| u32::from_le_bytes([block[i], block[i + 1], block[i + 2], block[i + 3]]);
        put(&mut lanes, lane, [word(0), word(4), word(8), word(12)]);
    }
    lanes
}

#[inline(always)]
fn store<const N: usize>(lanes: &Lanes<N>, blocks: &mut [[u8; 16]; N]) {
    for (lane, block) in blocks.iter_mut().enumerate() {
        for (bytes, word) in block.as_chunks_mut().0.iter_mut().zip(lanes) {
            *bytes = word[lane].to_le_bytes();
        }
    }
}

/// Applies `step` to every block. A loop over lanes and nothing else, so that the compiler makes it
/// one over vectors of the widest registers that it may use.
#[inline(always)]
fn each<const N: usize>(lanes: &mut Lanes<N>, step: impl Fn([u32; 4]) -> [u32; 4]) {
    for lane in 0..N {
        let words = step(lanes.each_ref().map(|word| word[lane]));
        put(lanes, lane, words);
    }
}

#[inline(always)]
fn put<const N: usize>(lanes: &mut Lanes<N>, lane: usize, words: [u32; 4]) {
    for (out, word) in lanes.iter_mut().zip(words) {
        out[lane] = word;
    }
}

#[inline(always)]
fn add(x: [u32; 4], key: [u32; 4]) -> [u32; 4] {
    [x[0] ^ key[0], x[1] ^ key[1], x[2] ^ key[2], x[3] ^ key[3]]
}

/// The linear transformation.
#[inline(always)]
fn mix([mut a, mut b, mut c, mut d]: [u32; 4]) -> [u32; 4] {
    a = a.rotate_left(13);
    c = c.rotate_left(3);
    b = (b ^ a ^ c).rotate_left(1);
    d = (d ^ c ^ (a << 3)).rotate_left(7);
    a = (a ^ b ^ d).rotate_left(5);
    c = (c ^ d ^ (b << 7)).rotate_left(22);
    [a, b, c, d]
}

/// The inverse of the linear transformation.
#[inline(always)]
fn unmix([mut a, mut b, mut c, mut d]: [u32; 4]) -> [u32; 4] {
    c = c.rotate_right(22) ^ d ^ (b << 7);
    a = a.rotate_right(5) ^ b ^ d;
    d = d.rotate_right(7) ^ c ^ (a << 3);
    b = b.rotate_right(1) ^ a ^ c;
    [a.rotate_right(13), b, c.rotate_right(3), d]
}

/// Blocks worked on side by side: so many that the registers are always full, in every width, and
/// no step waits for the one before.
const MANY: usize = 64;

/// Blocks worked on side by side when fewer than [`MANY`] are left: the lanes of the widest register.
/// Lanes too many cost nothing but their own time, which is less than that of the same blocks one by
/// one.
const FEW: usize = 16;

/// The fractional part of the golden ratio.
const PHI: u32 = 0x9E37_79B9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encrypted(key: &[u8], block: u128) -> u128 {
        let cipher = Serpent::new(key).unwrap();
        let mut data = block.to_be_bytes();
        cipher.encrypt_blocks(&mut data);
        let result = u128::from_be_bytes(data);
        cipher.decrypt_blocks(&mut data);
        assert_eq!(u128::from_be_bytes(data), block);
        result
    }

    #[test]
    fn encrypts_the_examples_of_nessie() {
        for (size, expected) in [
            (16, 0x264E_5481_EFF4_2A46_06AB_DA06_C0BF_DA3D_u128),
            (24, 0x9E27_4EAD_9B73_7BB2_1EFC_FCA5_4860_2689),
            (32, 0xA223_AA12_8846_3C0E_2BE3_8EBD_8256_16C0),
        ] {
            let mut key = vec![0; size];
            key[0] = 0x80;
            assert_eq!(encrypted(&key, 0), expected, "{size} bytes");
        }
    }

    #[test]
    fn encrypts_the_examples_of_linux() {
        let key: Vec<u8> = (0..32).collect();
        let plain = 0x0001_0203_0405_0607_0809_0A0B_0C0D_0E0F;
        assert_eq!(encrypted(&key[..16], plain), 0x4C7D_8A32_8072_A22C_823E_4A1F_3ACD_A16D);
        assert_eq!(encrypted(&key, plain), 0xDE26_9FF8_33E4_32B8_5B2E_88D2_701C_E75C);
    }

    #[test]
    fn refuses_keys_of_other_sizes() {
        for size in [0, 8, 15, 17, 31, 33, 64] {
            let refused = Err(Error::KeyLength { expected: 32, actual: size });
            assert_eq!(Serpent::new(&vec![1; size]).map(drop), refused);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_another_implementation(
            key in any::<[u8; 32]>(),
            size in prop::sample::select(vec![16, 24, 32]),
            blocks in prop::collection::vec(any::<[u8; 16]>(), 1..=150),
        ) {
            use cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

            let ours = Serpent::new(&key[..size]).unwrap();
            let oracle = serpent::Serpent::new_from_slice(&key[..size]).unwrap();
            let mut data = blocks.as_flattened().to_vec();
            ours.encrypt_blocks(&mut data);
            for (block, plain) in data.chunks_exact(16).zip(&blocks) {
                let mut expected = Array::from(*plain);
                oracle.encrypt_block(&mut expected);
                prop_assert_eq!(block, &expected[..]);
            }
            let mut data = blocks.as_flattened().to_vec();
            ours.decrypt_blocks(&mut data);
            for (block, plain) in data.chunks_exact(16).zip(&blocks) {
                let mut expected = Array::from(*plain);
                oracle.decrypt_block(&mut expected);
                prop_assert_eq!(block, &expected[..]);
            }
        }
    }
}
