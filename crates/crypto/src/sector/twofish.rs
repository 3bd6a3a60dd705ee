//! Twofish with full keying: the S-boxes of a key and the MDS matrix become four tables.
//!
//! From "Twofish: A 128-Bit Block Cipher" by Schneier, Kelsey, Whiting, Wagner, Hall and Ferguson
//! (1998), section 4; the names are the paper's. Like every table cipher it leaks through shared
//! caches what a process on the same core can time.

use zeroize::{Zeroize, Zeroizing};

use super::block::BlockCipher;
use crate::Error;

/// A key schedule, 4 KiB of tables and 40 subkeys. Wiped on drop.
pub(super) struct Twofish {
    tables: [[u32; 256]; 4],
    whitening: [u32; 8],
    rounds: [[u32; 2]; 16],
}

impl Twofish {
    /// Returns the schedule of a key of 16, 24 or 32 bytes, built where it stays.
    pub(super) fn new(key: &[u8]) -> Result<Box<Self>, Error> {
        if !matches!(key.len(), 16 | 24 | 32) {
            return Err(Error::KeyLength { expected: 32, actual: key.len() });
        }
        let mut schedule =
            Box::new(Self { tables: [[0; 256]; 4], whitening: [0; 8], rounds: [[0; 2]; 16] });
        let (pairs, _) = key.as_chunks::<8>();
        let count = pairs.len();
        let mut even = Zeroizing::new([[0; 4]; 4]);
        let mut odd = Zeroizing::new([[0; 4]; 4]);
        let mut sbox = Zeroizing::new([[0; 4]; 4]);
        for (i, pair) in pairs.iter().enumerate() {
            even[i].copy_from_slice(&pair[..4]);
            odd[i].copy_from_slice(&pair[4..]);
            sbox[count - 1 - i] = reed_solomon(pair);
        }
        schedule.expand_subkeys(&even[..count], &odd[..count]);
        for (column, table) in schedule.tables.iter_mut().enumerate() {
            for (x, entry) in (0..=u8::MAX).zip(table) {
                *entry = MDS[column][usize::from(permute(column, x, &sbox[..count]))];
            }
        }
        Ok(schedule)
    }

    /// Fills in the 40 subkeys (section 4.3.3) from the even and the odd words of the key.
    fn expand_subkeys(&mut self, even: &[[u8; 4]], odd: &[[u8; 4]]) {
        let (rounds, _) = self.rounds.as_flattened_mut().as_chunks_mut::<2>();
        let (whitening, _) = self.whitening.as_chunks_mut::<2>();
        for (i, pair) in (0_u8..).zip(whitening.iter_mut().chain(rounds)) {
            let a = h(2 * i, even);
            let b = h(2 * i + 1, odd).rotate_left(8);
            *pair = [a.wrapping_add(b), a.wrapping_add(b).wrapping_add(b).rotate_left(9)];
        }
    }

    /// The function g of the paper.
    #[inline(always)]
    fn g(&self, x: u32) -> u32 {
        let [b0, b1, b2, b3] = x.to_le_bytes().map(usize::from);
        self.tables[0][b0] ^ self.tables[1][b1] ^ self.tables[2][b2] ^ self.tables[3][b3]
    }

    /// g of `x` rotated left by eight bits, without the rotation.
    #[inline(always)]
    fn g_rotated(&self, x: u32) -> u32 {
        let [b0, b1, b2, b3] = x.to_le_bytes().map(usize::from);
        self.tables[1][b0] ^ self.tables[2][b1] ^ self.tables[3][b2] ^ self.tables[0][b3]
    }

    /// The function F of the paper, with the subkeys of one round.
    #[inline(always)]
    fn f(&self, x: u32, y: u32, subkeys: [u32; 2]) -> (u32, u32) {
        let t0 = self.g(x);
        let t1 = self.g_rotated(y);
        let sum = t0.wrapping_add(t1);
        (sum.wrapping_add(subkeys[0]), sum.wrapping_add(t1).wrapping_add(subkeys[1]))
    }

    #[inline(always)]
    fn encrypt_round(&self, [a, b, c, d]: [u32; 4], subkeys: [u32; 2]) -> [u32; 4] {
        let (f0, f1) = self.f(a, b, subkeys);
        [(c ^ f0).rotate_right(1), d.rotate_left(1) ^ f1, a, b]
    }

    #[inline(always)]
    fn decrypt_round(&self, [c, d, a, b]: [u32; 4], subkeys: [u32; 2]) -> [u32; 4] {
        let (f0, f1) = self.f(a, b, subkeys);
        [a, b, c.rotate_left(1) ^ f0, (d ^ f1).rotate_right(1)]
    }

    /// Encrypts `N` blocks in step, so that the lookups of one hide the latency of the others.
    #[inline(always)]
    fn encrypt_together<const N: usize>(&self, blocks: &mut [[u8; 16]; N]) {
        let (before, after) = self.whitening.split_at(4);
        let mut states = [[0; 4]; N];
        for (state, block) in states.iter_mut().zip(&*blocks) {
            *state = whiten(words(block), before);
        }
        for [even, odd] in self.rounds.as_chunks::<2>().0 {
            for state in &mut states {
                *state = self.encrypt_round(*state, *even);
            }
            for state in &mut states {
                *state = self.encrypt_round(*state, *odd);
            }
        }
        for (block, [a, b, c, d]) in blocks.iter_mut().zip(states) {
            *block = bytes(whiten([c, d, a, b], after));
        }
    }

    /// Decrypts `N` blocks in step.
    #[inline(always)]
    fn decrypt_together<const N: usize>(&self, blocks: &mut [[u8; 16]; N]) {
        let (before, after) = self.whitening.split_at(4);
        let mut states = [[0; 4]; N];
        for (state, block) in states.iter_mut().zip(&*blocks) {
            let [c, d, a, b] = whiten(words(block), after);
            *state = [a, b, c, d];
        }
        for [even, odd] in self.rounds.as_chunks::<2>().0.iter().rev() {
            for state in &mut states {
                *state = self.decrypt_round(*state, *odd);
            }
            for state in &mut states {
                *state = self.decrypt_round(*state, *even);
            }
        }
        for (block, state) in blocks.iter_mut().zip(states) {
            *block = bytes(whiten(state, before));
        }
    }
}

impl BlockCipher for Twofish {
    fn block_size(&self) -> usize {
        16
    }

    fn encrypt_blocks(&self, blocks: &mut [u8]) {
        let (blocks, _) = blocks.as_chunks_mut::<16>();
        let (groups, rest) = blocks.as_chunks_mut::<TOGETHER>();
        for group in groups {
            self.encrypt_together(group);
        }
        for block in rest {
            self.encrypt_together(std::array::from_mut(block));
        }
    }

    fn decrypt_blocks(&self, blocks: &mut [u8]) {
        let (blocks, _) = blocks.as_chunks_mut::<16>();
        let (groups, rest) = blocks.as_chunks_mut::<TOGETHER>();
        for group in groups {
            self.decrypt_together(group);
        }
        for block in rest {
            self.decrypt_together(std::array::from_mut(block));
        }
    }
}

impl Drop for Twofish {
    fn drop(&mut self) {
        self.tables.zeroize();
        self.whitening.zeroize();
        self.rounds.zeroize();
    }
}

#[inline(always)]
fn words(block: &[u8; 16]) -> [u32; 4] {
    let word = |i| u32::from_le_bytes([block[i], block[i + 1], block[i + 2], block[i + 3]]);
    [word(0), word(4), word(8), word(12)]
}

#[inline(always)]
fn bytes(words: [u32; 4]) -> [u8; 16] {
    let mut block = [0; 16];
    for (out, word) in block.chunks_exact_mut(4).zip(words) {
        out.copy_from_slice(&word.to_le_bytes());
    }
    block
}

#[inline(always)]
fn whiten(words: [u32; 4], keys: &[u32]) -> [u32; 4] {
    [words[0] ^ keys[0], words[1] ^ keys[1], words[2] ^ keys[2], words[3] ^ keys[3]]
}

/// The function h of section 4.3.2 of four equal bytes `x`. `list` is L from its first word on.
fn h(x: u8, list: &[[u8; 4]]) -> u32 {
    (0..4).fold(0, |sum, column| sum ^ MDS[column][usize::from(permute(column, x, list))])
}

/// Returns what h makes of byte `column` before the MDS matrix.
fn permute(column: usize, x: u8, list: &[[u8; 4]]) -> u8 {
    let y = list
        .iter()
        .zip(&Q_ORDER[1..])
        .rev()
        .fold(x, |y, (word, order)| Q[order[column]][usize::from(y)] ^ word[column]);
    Q[Q_ORDER[0][column]][usize::from(y)]
}

/// Returns the S-box word that eight bytes of the key give (section 4.3).
fn reed_solomon(key: &[u8; 8]) -> [u8; 4] {
    RS.map(|row| row.iter().zip(key).fold(0, |sum, (&a, &b)| sum ^ multiply(a, b, RS_POLYNOMIAL)))
}

/// Multiplies in GF(2^8) modulo `polynomial`, in the same time for all values.
const fn multiply(a: u8, b: u8, polynomial: u16) -> u8 {
    let mut product = 0;
    let mut power = a as u16;
    let mut bit = 0;
    while bit < 8 {
        product ^= power * ((b as u16 >> bit) & 1);
        power = (power << 1) ^ ((power >> 7) * polynomial);
        bit += 1;
    }
    product as u8
}

/// Expands the four nibble permutations of q0 or q1 (section 4.3.5) to bytes.
const fn q_permutation(t: &[[u8; 16]; 4]) -> [u8; 256] {
    let mut table = [0; 256];
    let mut x = 0;
    while x < 256 {
        let (mut a, mut b) = (x as u8 >> 4, x as u8 & 15);
        let mut half = 0;
        while half < 4 {
            let mixed = a ^ (b >> 1 | b << 3) ^ (a << 3);
            (a, b) = (t[half][(a ^ b) as usize], t[half + 1][(mixed & 15) as usize]);
            half += 2;
        }
        table[x] = b << 4 | a;
        x += 1;
    }
    table
}

/// Returns the products of every byte with every column of the MDS matrix.
const fn mds_columns() -> [[u32; 256]; 4] {
    let mut columns = [[0; 256]; 4];
    let mut column = 0;
    while column < 4 {
        let mut x = 0;
        while x < 256 {
            let mut row = 0;
            while row < 4 {
                let product = multiply(MDS_MATRIX[row][column], x as u8, MDS_POLYNOMIAL);
                columns[column][x] |= (product as u32) << (8 * row);
                row += 1;
            }
            x += 1;
        }
        column += 1;
    }
    columns
}

/// Blocks worked on in step: fewer wait for the cache, more run out of registers.
const TOGETHER: usize = 4;

/// The permutations q0 and q1.
static Q: [[u8; 256]; 2] = [q_permutation(&Q0_NIBBLES), q_permutation(&Q1_NIBBLES)];

/// The MDS matrix by columns: `MDS[column][byte]`.
static MDS: [[u32; 256]; 4] = mds_columns();

/// Which q works on each of the four bytes: after the last word of the list is added, and before
/// the first, second, third and fourth.
const Q_ORDER: [[usize; 4]; 5] =
    [[1, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1]];

const Q0_NIBBLES: [[u8; 16]; 4] = [
    [8, 1, 7, 13, 6, 15, 3, 2, 0, 11, 5, 9, 14, 12, 10, 4],
    [14, 12, 11, 8, 1, 2, 3, 5, 15, 4, 10, 6, 7, 0, 9, 13],
    [11, 10, 5, 14, 6, 13, 9, 0, 12, 8, 15, 3, 2, 4, 7, 1],
    [13, 7, 15, 4, 1, 2, 6, 14, 9, 11, 3, 0, 8, 5, 12, 10],
];

const Q1_NIBBLES: [[u8; 16]; 4] = [
    [2, 8, 11, 13, 15, 7, 6, 14, 3, 1, 9, 4, 0, 10, 12, 5],
    [1, 14, 2, 11, 4, 12, 3, 7, 6, 13, 10, 5, 15, 9, 0, 8],
    [4, 12, 7, 5, 1, 6, 9, 10, 0, 14, 13, 8, 2, 11, 3, 15],
    [11, 9, 5, 1, 12, 3, 13, 14, 6, 4, 7, 15, 2, 0, 8, 10],
];

const MDS_MATRIX: [[u8; 4]; 4] = [
    [0x01, 0xEF, 0x5B, 0x5B],
    [0x5B, 0xEF, 0xEF, 0x01],
    [0xEF, 0x5B, 0x01, 0xEF],
    [0xEF, 0x01, 0xEF, 0x5B],
];

/// x^8 + x^6 + x^5 + x^3 + 1.
const MDS_POLYNOMIAL: u16 = 0x169;

const RS: [[u8; 8]; 4] = [
    [0x01, 0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E],
    [0xA4, 0x56, 0x82, 0xF3, 0x1E, 0xC6, 0x68, 0xE5],
    [0x02, 0xA1, 0xFC, 0xC1, 0x47, 0xAE, 0x3D, 0x19],
    [0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E, 0x03],
];

/// x^8 + x^6 + x^3 + x^2 + 1.
const RS_POLYNOMIAL: u16 = 0x14D;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encrypted(key: &[u8], block: [u8; 16]) -> [u8; 16] {
        let cipher = Twofish::new(key).unwrap();
        let mut data = block;
        cipher.encrypt_blocks(&mut data);
        let mut back = data;
        cipher.decrypt_blocks(&mut back);
        assert_eq!(back, block);
        data
    }

    /// Runs the table test of the paper's appendix: every ciphertext is the next plaintext, and
    /// every plaintext goes into the key two steps on. Returns ciphertexts 1 to 49.
    fn table<const KEY: usize>() -> Vec<u128> {
        let mut key = [0; KEY];
        let mut plain = [0; 16];
        (1..=49)
            .map(|_| {
                let block = encrypted(&key, plain);
                key.copy_within(..KEY - 16, 16);
                key[..16].copy_from_slice(&plain);
                plain = block;
                u128::from_be_bytes(block)
            })
            .collect()
    }

    #[test]
    fn encrypts_the_intermediate_value_examples_of_the_paper() {
        let key: Vec<u8> = [
            0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210_u128,
            0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF,
        ]
        .into_iter()
        .flat_map(u128::to_be_bytes)
        .collect();
        let examples = [
            (&[0; 16][..], 0x9F58_9F5C_F612_2C32_B6BF_EC2F_2AE8_C35A_u128),
            (&key[..24], 0xCFD1_D2E5_A9BE_9CDF_501F_13B8_92BD_2248),
            (&key[..], 0x3752_7BE0_0523_34B8_9F0C_FCCA_E87C_FA20),
        ];
        for (key, cipher) in examples {
            assert_eq!(encrypted(key, [0; 16]), cipher.to_be_bytes(), "{} bytes", key.len());
        }
    }

    #[test]
    fn reaches_the_last_values_of_the_tables_of_the_paper() {
        assert_eq!(table::<16>()[48], 0x5D9D_4EEF_FA91_5157_5524_F115_815A_12E0);
        assert_eq!(table::<24>()[48], 0xE754_4921_2BEE_F9F4_A390_BD86_0A64_0941);
        assert_eq!(table::<32>()[48], 0x37FE_26FF_1CF6_6175_F5DD_F4C3_3B97_A205);
    }

    #[test]
    fn refuses_keys_of_other_sizes() {
        for size in [0, 8, 15, 17, 31, 33, 64] {
            let refused = Err(Error::KeyLength { expected: 32, actual: size });
            assert_eq!(Twofish::new(&vec![1; size]).map(drop), refused);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_another_implementation(
            key in any::<[u8; 32]>(),
            size in prop::sample::select(vec![16, 24, 32]),
            blocks in prop::collection::vec(any::<[u8; 16]>(), 1..=70),
        ) {
            use cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

            let ours = Twofish::new(&key[..size]).unwrap();
            let oracle = twofish::Twofish::new_from_slice(&key[..size]).unwrap();
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
