//! AES for x86-64 by its own instructions, and Serpent in wider registers than all such processors
//! have. All `unsafe` of this crate is in this file.
//!
//! Three kernels of AES that differ in the width of their vectors share one text, the macro
//! [`modes_of_operation`]. Each works on eight vectors at a time, enough to keep the processor's
//! AES units busy whatever their latency. The number of rounds is a loop over the key schedule, so
//! that one body serves all key sizes and the round keys are read where they are wiped later.
#![allow(unsafe_code)]

mod schedule;

use std::arch::x86_64::*;

use self::schedule::{Block, RoundKeys, Schedule};
use super::aes_runs::{Aes, Direction};
use super::block::BlockCipher;
use super::kernel::Kernel;
use super::serpent::Serpent;

/// Returns whether this processor and its system can run `kernel`.
pub(super) fn supports(kernel: Kernel) -> bool {
    let aes_ni = is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("sse4.1");
    let vaes256 = aes_ni
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq");
    match kernel {
        Kernel::Vaes512 => {
            vaes256 && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
        }
        Kernel::Vaes256 => vaes256,
        Kernel::AesNi => aes_ni,
        Kernel::Portable => false,
    }
}

/// AES with a key, run by one of the kernels of this file.
pub(super) struct Accelerated {
    /// Invariant: this processor supports it.
    width: Width,
    schedule: Box<Schedule>,
}

/// The kernels, by the width of their vectors.
#[derive(Clone, Copy)]
enum Width {
    Bits512,
    Bits256,
    Bits128,
}

impl Accelerated {
    /// Returns AES with a key of 16, 24 or 32 bytes, `None` when this processor cannot run
    /// `kernel`.
    pub(super) fn new(kernel: Kernel, key: &[u8]) -> Option<Self> {
        let width = match kernel {
            Kernel::Vaes512 => Width::Bits512,
            Kernel::Vaes256 => Width::Bits256,
            Kernel::AesNi => Width::Bits128,
            Kernel::Portable => return None,
        };
        if !supports(kernel) || !matches!(key.len(), 16 | 24 | 32) {
            return None;
        }
        let mut schedule = Box::new(Schedule::empty(key.len() / 4 + 6));
        // JUSTIFICATION: the processor's instructions expand a key without table look-ups, whose
        // timing would depend on the key.
        // SAFETY: every kernel's features include those of the function, and `supports` has just
        // found them.
        unsafe { expand(key, &mut schedule) };
        Some(Self { width, schedule })
    }
}

/// Calls a function of the kernel that an [`Accelerated`] runs.
macro_rules! run {
    ($accelerated:expr, $function:ident($($argument:expr),*)) => {
        // JUSTIFICATION: the kernel is chosen at run time, so the compiler cannot know that its
        // instructions exist.
        // SAFETY: `Accelerated::new` makes no value for a kernel that the processor lacks.
        unsafe {
            match $accelerated.width {
                Width::Bits512 => vaes512::$function($($argument),*),
                Width::Bits256 => vaes256::$function($($argument),*),
                Width::Bits128 => aes_ni::$function($($argument),*),
            }
        }
    };
}

impl BlockCipher for Accelerated {
    fn block_size(&self) -> usize {
        size_of::<Block>()
    }

    fn encrypt_blocks(&self, blocks: &mut [u8]) {
        run!(self, blocks(Direction::Encrypt, self.schedule.keys(Direction::Encrypt), blocks));
    }

    fn decrypt_blocks(&self, blocks: &mut [u8]) {
        run!(self, blocks(Direction::Decrypt, self.schedule.keys(Direction::Decrypt), blocks));
    }
}

impl Aes for Accelerated {
    fn xts(&self, direction: Direction, sectors: &mut [u8], size: usize, tweaks: &[Block]) {
        run!(self, xts(direction, self.schedule.keys(direction), sectors, size, tweaks));
    }

    fn cbc_encrypt(&self, sectors: &mut [u8], size: usize, ivs: &[Block]) {
        run!(self, cbc_encrypt(self.schedule.keys(Direction::Encrypt), sectors, size, ivs));
    }

    fn cbc_decrypt(&self, sectors: &mut [u8], size: usize, ivs: &[Block]) {
        run!(self, cbc_decrypt(self.schedule.keys(Direction::Decrypt), sectors, size, ivs));
    }
}

/// Vector registers that this processor has and many x86-64 processors lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WideRegisters(Wide);

/// Which registers, so that no code outside this file can name any that were not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wide {
    Avx512,
    Avx2,
}

impl WideRegisters {
    /// Returns the widest registers that come with `kernel`, `None` when this processor has none.
    pub(super) fn with(kernel: Kernel) -> Option<Self> {
        let avx512 = || is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
        match kernel {
            Kernel::Portable => None,
            Kernel::Vaes512 if avx512() => Some(Self(Wide::Avx512)),
            _ => is_x86_feature_detected!("avx2").then_some(Self(Wide::Avx2)),
        }
    }

    /// Returns the name of the instructions that use them.
    pub(super) fn name(self) -> &'static str {
        match self.0 {
            Wide::Avx512 => "avx512",
            Wide::Avx2 => "avx2",
        }
    }

    /// Runs `serpent` in them.
    pub(super) fn run(self, serpent: &Serpent, direction: Direction, blocks: &mut [u8]) {
        // JUSTIFICATION: the registers are chosen at run time, so the compiler cannot know that
        // they exist.
        // SAFETY: `with`, which alone makes values of this type, has found them.
        unsafe {
            match self.0 {
                Wide::Avx512 => serpent_avx512(serpent, direction, blocks),
                Wide::Avx2 => serpent_avx2(serpent, direction, blocks),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512vl")]
fn serpent_avx512(serpent: &Serpent, direction: Direction, blocks: &mut [u8]) {
    serpent.run(direction, blocks);
}

#[target_feature(enable = "avx2")]
fn serpent_avx2(serpent: &Serpent, direction: Direction, blocks: &mut [u8]) {
    serpent.run(direction, blocks);
}

/// Fills `schedule` from a key of 16, 24 or 32 bytes (FIPS 197, section 5.2).
#[target_feature(enable = "aes,pclmulqdq,sse4.1")]
fn expand(key: &[u8], schedule: &mut Schedule) {
    let key_words = key.len() / 4;
    let words = schedule.encrypt.as_flattened_mut();
    words[..key.len()].copy_from_slice(key);
    let mut constant = 1_u8;
    for index in key_words..4 * (schedule.rounds + 1) {
        let mut word = word_at(words, index - 1);
        if index.is_multiple_of(key_words) {
            word = substitute(word).rotate_right(8) ^ u32::from(constant);
            constant = (constant << 1) ^ ((constant >> 7) * 0x1b);
        } else if key_words > 6 && index % key_words == 4 {
            word = substitute(word);
        }
        word ^= word_at(words, index - key_words);
        words[4 * index..4 * index + 4].copy_from_slice(&word.to_le_bytes());
    }
    let rounds = schedule.rounds;
    for (round, key) in schedule.decrypt[..=rounds].iter_mut().enumerate() {
        let opposite = &schedule.encrypt[rounds - round];
        *key = *opposite;
        if round != 0 && round != rounds {
            aes_ni::store(key, _mm_aesimc_si128(aes_ni::load(opposite)));
        }
    }
}

fn word_at(words: &[u8], index: usize) -> u32 {
    let bytes = words[4 * index..].first_chunk().expect("the schedule has room for the word");
    u32::from_le_bytes(*bytes)
}

/// Puts every byte of `word` through the S-box.
#[target_feature(enable = "aes,sse4.1")]
fn substitute(word: u32) -> u32 {
    let assisted = _mm_aeskeygenassist_si128::<0>(_mm_set_epi32(0, 0, word.cast_signed(), 0));
    _mm_extract_epi32::<0>(assisted).cast_unsigned()
}

/// Asks the processor to bring in what stands `distance` bytes behind `bytes`.
#[inline]
fn prefetch(bytes: &[u8], distance: usize) {
    for line in bytes.chunks(CACHE_LINE) {
        // JUSTIFICATION: without it, data that is not in the cache yet halves the speed.
        // SAFETY: a prefetch is a hint: it reads nothing and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(distance).cast()) }
    }
}

/// Writes the modes of operation over the vector functions of the module that calls it.
macro_rules! modes_of_operation {
    ($features:literal) => {
        /// Bytes in a vector.
        const WIDTH: usize = size_of::<Vector>();

        /// Blocks in a vector.
        const LANES: usize = WIDTH / size_of::<Block>();

        /// Bytes that are worked on at a time.
        const GROUP: usize = VECTORS * WIDTH;

        /// Encrypts or decrypts every block for itself.
        #[target_feature(enable = $features)]
        pub(super) fn blocks(direction: Direction, keys: RoundKeys<'_>, data: &mut [u8]) {
            let none = [splat(&[0; 16]); VECTORS];
            let (groups, rest) = data.as_chunks_mut();
            for group in groups {
                store_group(group, masked(direction, keys, load_group(group), none, none));
            }
            if !rest.is_empty() {
                let mut group = [0; GROUP];
                group[..rest.len()].copy_from_slice(rest);
                let state = masked(direction, keys, load_group(&group), none, none);
                store_group(&mut group, state);
                rest.copy_from_slice(&group[..rest.len()]);
            }
        }

        /// Encrypts or decrypts sectors in XTS mode, given their encrypted tweaks.
        #[target_feature(enable = $features)]
        pub(super) fn xts(
            direction: Direction,
            keys: RoundKeys<'_>,
            sectors: &mut [u8],
            size: usize,
            tweaks: &[Block],
        ) {
            for (sector, tweak) in sectors.chunks_exact_mut(size).zip(tweaks) {
                let mut masks = [splat(tweak); VECTORS];
                let first = first_tweaks(tweak);
                for index in 0..VECTORS {
                    masks[index] = match index.checked_sub(PERIOD) {
                        None => first[index],
                        Some(earlier) => times_x8(masks[earlier]),
                    };
                }
                let (groups, _) = sector.as_chunks_mut();
                for (index, group) in groups.iter_mut().enumerate() {
                    if index != 0 {
                        for index in 0..VECTORS {
                            masks[index] = times_x8(masks[(index + VECTORS - PERIOD) % VECTORS]);
                        }
                    }
                    prefetch(group, PREFETCH_DISTANCE);
                    let state = masked(direction, keys, load_group(group), masks, masks);
                    store_group(group, state);
                }
            }
        }

        /// Encrypts sectors in CBC mode, as many chains side by side as there are sectors for.
        #[target_feature(enable = $features)]
        pub(super) fn cbc_encrypt(
            keys: RoundKeys<'_>,
            mut sectors: &mut [u8],
            size: usize,
            mut ivs: &[Block],
        ) {
            while ivs.len() >= LANES {
                let chains = match ivs.len() / LANES {
                    8.. => 8,
                    4.. => 4,
                    2.. => 2,
                    _ => 1,
                };
                let (some, other) = sectors.split_at_mut(chains * LANES * size);
                let (some_ivs, other_ivs) = ivs.split_at(chains * LANES);
                match chains {
                    8 => cbc_chains::<8>(keys, some, size, some_ivs),
                    4 => cbc_chains::<4>(keys, some, size, some_ivs),
                    2 => cbc_chains::<2>(keys, some, size, some_ivs),
                    _ => cbc_chains::<1>(keys, some, size, some_ivs),
                }
                (sectors, ivs) = (other, other_ivs);
            }
            if !ivs.is_empty() {
                aes_ni::cbc_encrypt(keys, sectors, size, ivs);
            }
        }

        /// Encrypts `CHAINS * LANES` sectors: a vector holds the same block of `LANES` of them.
        ///
        /// The sectors are walked in columns as wide as a vector. While the rows of one column are
        /// encrypted, the next is read and the last is written, a part with each row: the AES
        /// units never wait for memory, not even where sectors are 4096 bytes apart and fight for
        /// the same few lines of the first-level cache.
        #[target_feature(enable = $features)]
        fn cbc_chains<const CHAINS: usize>(
            keys: RoundKeys<'_>,
            sectors: &mut [u8],
            size: usize,
            ivs: &[Block],
        ) {
            let first = splat(keys.first);
            let last = splat(keys.last);
            let (ivs, _) = ivs.as_flattened().as_chunks();
            let mut chain = [first; CHAINS];
            for (chain, ivs) in chain.iter_mut().zip(ivs) {
                *chain = load(ivs);
            }
            let mut columns = [[[first; LANES]; CHAINS]; 3];
            for group in 0..CHAINS {
                columns[0][group] = gather(sectors, size, group, 0);
            }
            let count = size / WIDTH;
            for column in 0..count {
                for row in 0..LANES {
                    for group in (row..CHAINS).step_by(LANES) {
                        if column > 0 {
                            let done = columns[(column - 1) % 3][group];
                            scatter(sectors, size, group, column - 1, done);
                        }
                        if column + 1 < count {
                            columns[(column + 1) % 3][group] =
                                gather(sectors, size, group, column + 1);
                        }
                    }
                    // What follows these sectors, in the order of memory.
                    let step = (column * LANES + row) * CHAINS * WIDTH;
                    prefetch(&sectors[step..step + CHAINS * WIDTH], sectors.len());
                    let current = &mut columns[column % 3];
                    for group in 0..CHAINS {
                        chain[group] = xor3(chain[group], current[group][row], first);
                    }
                    for key in keys.middle {
                        let key = splat(key);
                        for block in &mut chain {
                            *block = encrypt_round(*block, key);
                        }
                    }
                    for group in 0..CHAINS {
                        chain[group] = encrypt_last_round(chain[group], last);
                        current[group][row] = chain[group];
                    }
                }
            }
            for group in 0..CHAINS {
                scatter(sectors, size, group, count - 1, columns[(count - 1) % 3][group]);
            }
        }

        /// Returns a column of the `LANES` sectors of `group`, a row of blocks to a vector.
        #[inline]
        #[target_feature(enable = $features)]
        fn gather(sectors: &[u8], size: usize, group: usize, column: usize) -> [Vector; LANES] {
            let mut vectors = [splat(&[0; 16]); LANES];
            for lane in 0..LANES {
                let start = (group * LANES + lane) * size + column * WIDTH;
                vectors[lane] = load(chunk(&sectors[start..]));
            }
            transpose(vectors)
        }

        /// Writes back what [`gather`] returned.
        #[inline]
        #[target_feature(enable = $features)]
        fn scatter(
            sectors: &mut [u8],
            size: usize,
            group: usize,
            column: usize,
            rows: [Vector; LANES],
        ) {
            let vectors = transpose(rows);
            for lane in 0..LANES {
                let start = (group * LANES + lane) * size + column * WIDTH;
                store(chunk_mut(&mut sectors[start..]), vectors[lane]);
            }
        }

        /// Decrypts sectors in CBC mode.
        #[target_feature(enable = $features)]
        pub(super) fn cbc_decrypt(
            keys: RoundKeys<'_>,
            sectors: &mut [u8],
            size: usize,
            ivs: &[Block],
        ) {
            let none = [splat(&[0; 16]); VECTORS];
            for (sector, iv) in sectors.chunks_exact_mut(size).zip(ivs) {
                let mut before = splat(iv);
                let (groups, _) = sector.as_chunks_mut();
                for group in groups {
                    prefetch(group, PREFETCH_DISTANCE);
                    let state = load_group(group);
                    let mut masks = state;
                    for index in 0..VECTORS {
                        masks[index] = one_block_back(before, state[index]);
                        before = state[index];
                    }
                    store_group(group, masked(Direction::Decrypt, keys, state, none, masks));
                }
            }
        }

        /// Returns every block of `state` encrypted or decrypted, xored with `before` before and
        /// with `after` after.
        #[inline]
        #[target_feature(enable = $features)]
        fn masked(
            direction: Direction,
            keys: RoundKeys<'_>,
            mut state: [Vector; VECTORS],
            before: [Vector; VECTORS],
            after: [Vector; VECTORS],
        ) -> [Vector; VECTORS] {
            let first = splat(keys.first);
            let last = splat(keys.last);
            for index in 0..VECTORS {
                state[index] = xor3(state[index], before[index], first);
            }
            // The last round ends by xoring its key, so the mask is xored into that.
            match direction {
                Direction::Encrypt => {
                    for key in keys.middle {
                        let key = splat(key);
                        for block in &mut state {
                            *block = encrypt_round(*block, key);
                        }
                    }
                    for index in 0..VECTORS {
                        state[index] = encrypt_last_round(state[index], xor(last, after[index]));
                    }
                }
                Direction::Decrypt => {
                    for key in keys.middle {
                        let key = splat(key);
                        for block in &mut state {
                            *block = decrypt_round(*block, key);
                        }
                    }
                    for index in 0..VECTORS {
                        state[index] = decrypt_last_round(state[index], xor(last, after[index]));
                    }
                }
            }
            state
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn load_group(group: &[u8; GROUP]) -> [Vector; VECTORS] {
            let (chunks, _) = group.as_chunks();
            let mut vectors = [load(&chunks[0]); VECTORS];
            for index in 0..VECTORS {
                vectors[index] = load(&chunks[index]);
            }
            vectors
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn store_group(group: &mut [u8; GROUP], vectors: [Vector; VECTORS]) {
            let (chunks, _) = group.as_chunks_mut();
            for index in 0..VECTORS {
                store(&mut chunks[index], vectors[index]);
            }
        }
    };
}

fn chunk<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.first_chunk().expect("a vector ends inside its sector")
}

fn chunk_mut<const N: usize>(bytes: &mut [u8]) -> &mut [u8; N] {
    bytes.first_chunk_mut().expect("a vector ends inside its sector")
}

/// Four blocks to a vector.
mod vaes512 {
    use std::arch::x86_64::{
        _mm512_aesdec_epi128 as decrypt_round, _mm512_aesdeclast_epi128 as decrypt_last_round,
        _mm512_aesenc_epi128 as encrypt_round, _mm512_aesenclast_epi128 as encrypt_last_round,
        _mm512_xor_si512 as xor,
    };

    use super::*;

    type Vector = __m512i;

    /// Vectors whose tweaks span eight blocks, after which they repeat times x to the eighth.
    const PERIOD: usize = 2;

    modes_of_operation!("avx512f,avx512bw,avx2,vaes,vpclmulqdq");

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx2,vaes,vpclmulqdq")]
    pub(super) fn load(bytes: &[u8; WIDTH]) -> Vector {
        // JUSTIFICATION: the only way into a vector register.
        // SAFETY: `bytes` has as many bytes as a vector; no alignment is asked for.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx2,vaes,vpclmulqdq")]
    pub(super) fn store(bytes: &mut [u8; WIDTH], vector: Vector) {
        // JUSTIFICATION: the only way out of a vector register.
        // SAFETY: `bytes` has as many bytes as a vector; no alignment is asked for.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx2,vaes,vpclmulqdq")]
    pub(super) fn splat(block: &Block) -> Vector {
        _mm512_broadcast_i32x4(aes_ni::load(block))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx2,vaes,vpclmulqdq")]
    pub(super) fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm512_ternarylogic_epi64::<0x96>(a, b, c)
    }

    /// Returns the tweaks of the first eight blocks: `tweak` times x to the 0th, 1st, … 7th.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx2,vaes,vpclmulqdq")]
    pub(super) fn first_tweaks(tweak: &Block) -> [Vector; PERIOD] {
        let tweak = splat(tweak);
        let four = |up: Vector, down: Vector| {
            let out = _mm512_srlv_epi64(tweak, down);
            let high = _mm512_bslli_epi128::<8>(out);
            let reduced = _mm512_clmulepi64_epi128::<0x01>(out, _mm512_set1_epi64(REDUCTION));
            xor3(_mm512_sllv_epi64(tweak, up), high, reduced)
        };
        [
            four(
                _mm512_set_epi64(3, 3, 2, 2, 1, 1, 0, 0),
                _mm512_set_epi64(61, 61, 62, 62, 63, 63, 64, 64),
            ),
            four(
                _mm512_set_epi64(7, 7, 6, 6, 5, 5, 4, 4),
                _mm512_set_epi64(57, 57, 58, 58, 59, 59, 60, 60),
            ),
        ]
    }

    /// Multiplies every tweak by x to the eighth in GF(2^128): a byte up, what falls out reduced.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx2,vaes,vpclmulqdq")]
    pub(super) fn times_x8(tweaks: Vector) -> Vector {
        let out = _mm512_bsrli_epi128::<15>(tweaks);
        let reduced = _mm512_clmulepi64_epi128::<0x00>(out, _mm512_set1_epi64(REDUCTION));
        xor(_mm512_bslli_epi128::<1>(tweaks), reduced)
    }

    /// Returns `current` moved up by a block, the last of `before` coming in.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx2,vaes,vpclmulqdq")]
    pub(super) fn one_block_back(before: Vector, current: Vector) -> Vector {
        _mm512_alignr_epi64::<6>(current, before)
    }

    /// Turns `LANES` vectors over: block i of vector j becomes block j of vector i.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx2,vaes,vpclmulqdq")]
    pub(super) fn transpose(rows: [Vector; LANES]) -> [Vector; LANES] {
        let [a, b, c, d] = rows;
        let (low_ab, high_ab) =
            (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
        let (low_cd, high_cd) =
            (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
        [
            _mm512_shuffle_i32x4::<0x88>(low_ab, low_cd),
            _mm512_shuffle_i32x4::<0xdd>(low_ab, low_cd),
            _mm512_shuffle_i32x4::<0x88>(high_ab, high_cd),
            _mm512_shuffle_i32x4::<0xdd>(high_ab, high_cd),
        ]
    }
}

/// Two blocks to a vector.
mod vaes256 {
    use std::arch::x86_64::{
        _mm256_aesdec_epi128 as decrypt_round, _mm256_aesdeclast_epi128 as decrypt_last_round,
        _mm256_aesenc_epi128 as encrypt_round, _mm256_aesenclast_epi128 as encrypt_last_round,
        _mm256_xor_si256 as xor,
    };

    use super::*;

    type Vector = __m256i;

    /// Vectors whose tweaks span eight blocks, after which they repeat times x to the eighth.
    const PERIOD: usize = 4;

    modes_of_operation!("avx2,vaes,vpclmulqdq");

    #[inline]
    #[target_feature(enable = "avx2,vaes,vpclmulqdq")]
    pub(super) fn load(bytes: &[u8; WIDTH]) -> Vector {
        // JUSTIFICATION: the only way into a vector register.
        // SAFETY: `bytes` has as many bytes as a vector; no alignment is asked for.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,vaes,vpclmulqdq")]
    pub(super) fn store(bytes: &mut [u8; WIDTH], vector: Vector) {
        // JUSTIFICATION: the only way out of a vector register.
        // SAFETY: `bytes` has as many bytes as a vector; no alignment is asked for.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
    }

    #[inline]
    #[target_feature(enable = "avx2,vaes,vpclmulqdq")]
    pub(super) fn splat(block: &Block) -> Vector {
        _mm256_broadcastsi128_si256(aes_ni::load(block))
    }

    #[inline]
    #[target_feature(enable = "avx2,vaes,vpclmulqdq")]
    pub(super) fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
        xor(xor(a, b), c)
    }

    /// Returns the tweaks of the first eight blocks: `tweak` times x to the 0th, 1st, … 7th.
    #[inline]
    #[target_feature(enable = "avx2,vaes,vpclmulqdq")]
    pub(super) fn first_tweaks(tweak: &Block) -> [Vector; PERIOD] {
        let tweak = splat(tweak);
        let two = |up: i64| {
            let down = _mm256_set_epi64x(63 - up, 63 - up, 64 - up, 64 - up);
            let out = _mm256_srlv_epi64(tweak, down);
            let high = _mm256_bslli_epi128::<8>(out);
            let reduced = _mm256_clmulepi64_epi128::<0x01>(out, _mm256_set1_epi64x(REDUCTION));
            let up = _mm256_set_epi64x(up + 1, up + 1, up, up);
            xor3(_mm256_sllv_epi64(tweak, up), high, reduced)
        };
        [two(0), two(2), two(4), two(6)]
    }

    /// Multiplies every tweak by x to the eighth in GF(2^128): a byte up, what falls out reduced.
    #[inline]
    #[target_feature(enable = "avx2,vaes,vpclmulqdq")]
    pub(super) fn times_x8(tweaks: Vector) -> Vector {
        let out = _mm256_bsrli_epi128::<15>(tweaks);
        let reduced = _mm256_clmulepi64_epi128::<0x00>(out, _mm256_set1_epi64x(REDUCTION));
        xor(_mm256_bslli_epi128::<1>(tweaks), reduced)
    }

    /// Returns `current` moved up by a block, the last of `before` coming in.
    #[inline]
    #[target_feature(enable = "avx2,vaes,vpclmulqdq")]
    pub(super) fn one_block_back(before: Vector, current: Vector) -> Vector {
        _mm256_permute2x128_si256::<0x21>(before, current)
    }

    /// Turns `LANES` vectors over: block i of vector j becomes block j of vector i.
    #[inline]
    #[target_feature(enable = "avx2,vaes,vpclmulqdq")]
    pub(super) fn transpose(rows: [Vector; LANES]) -> [Vector; LANES] {
        let [a, b] = rows;
        [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)]
    }
}

/// One block to a vector.
mod aes_ni {
    use std::arch::x86_64::{
        _mm_aesdec_si128 as decrypt_round, _mm_aesdeclast_si128 as decrypt_last_round,
        _mm_aesenc_si128 as encrypt_round, _mm_aesenclast_si128 as encrypt_last_round,
        _mm_xor_si128 as xor,
    };

    use super::*;

    type Vector = __m128i;

    /// Vectors whose tweaks span eight blocks, after which they repeat times x to the eighth.
    const PERIOD: usize = 8;

    modes_of_operation!("aes,pclmulqdq,sse4.1");

    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1")]
    pub(super) fn load(bytes: &[u8; WIDTH]) -> Vector {
        // JUSTIFICATION: the only way into a vector register.
        // SAFETY: `bytes` has as many bytes as a vector; no alignment is asked for.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1")]
    pub(super) fn store(bytes: &mut [u8; WIDTH], vector: Vector) {
        // JUSTIFICATION: the only way out of a vector register.
        // SAFETY: `bytes` has as many bytes as a vector; no alignment is asked for.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) }
    }

    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1")]
    pub(super) fn splat(block: &Block) -> Vector {
        load(block)
    }

    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1")]
    pub(super) fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
        xor(xor(a, b), c)
    }

    /// Returns the tweaks of the first eight blocks: `tweak` times x to the 0th, 1st, … 7th.
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1")]
    pub(super) fn first_tweaks(tweak: &Block) -> [Vector; PERIOD] {
        let mut tweaks = [load(tweak); PERIOD];
        for index in 1..PERIOD {
            let last = tweaks[index - 1];
            // What each half shifts out, as a mask, goes where it belongs: into the other half.
            let out = _mm_srai_epi32::<31>(_mm_shuffle_epi32::<0x13>(last));
            let carried = _mm_and_si128(out, _mm_set_epi64x(1, REDUCTION));
            tweaks[index] = xor(_mm_add_epi64(last, last), carried);
        }
        tweaks
    }

    /// Multiplies every tweak by x to the eighth in GF(2^128): a byte up, what falls out reduced.
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1")]
    pub(super) fn times_x8(tweaks: Vector) -> Vector {
        let out = _mm_bsrli_si128::<15>(tweaks);
        let reduced = _mm_clmulepi64_si128::<0x00>(out, _mm_set_epi64x(0, REDUCTION));
        xor(_mm_bslli_si128::<1>(tweaks), reduced)
    }

    /// Returns `current` moved up by a block, the last of `before` coming in.
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1")]
    pub(super) fn one_block_back(before: Vector, _: Vector) -> Vector {
        before
    }

    /// Turns `LANES` vectors over: block i of vector j becomes block j of vector i.
    #[inline]
    #[target_feature(enable = "aes,pclmulqdq,sse4.1")]
    pub(super) fn transpose(rows: [Vector; LANES]) -> [Vector; LANES] {
        rows
    }
}

/// Vectors worked on at a time.
const VECTORS: usize = 8;

/// The polynomial of XTS, x^128 + x^7 + x^2 + x + 1, without its highest term.
const REDUCTION: i64 = 0x87;

const CACHE_LINE: usize = 64;

/// Far enough for memory to answer in time, near enough to stay in the first-level cache.
const PREFETCH_DISTANCE: usize = 4096;

#[cfg(test)]
mod tests;
