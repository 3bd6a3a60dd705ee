//! The key schedules of AES, as the kernels read them.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::sector::aes_runs::Direction;

/// Both key schedules of FIPS 197, the second for the equivalent inverse cipher (section 5.3.5).
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(64))]
pub(super) struct Schedule {
    pub(super) encrypt: [Block; MAX_ROUNDS + 1],
    pub(super) decrypt: [Block; MAX_ROUNDS + 1],
    pub(super) rounds: usize,
}

/// The round keys of one direction.
#[derive(Clone, Copy)]
pub(super) struct RoundKeys<'a> {
    pub(super) first: &'a Block,
    pub(super) middle: &'a [Block],
    pub(super) last: &'a Block,
}

pub(super) type Block = [u8; 16];

impl Schedule {
    /// Returns schedules of so many rounds that hold no keys yet.
    pub(super) fn empty(rounds: usize) -> Self {
        Self { encrypt: [[0; 16]; MAX_ROUNDS + 1], decrypt: [[0; 16]; MAX_ROUNDS + 1], rounds }
    }

    /// Returns the round keys for `direction`.
    pub(super) fn keys(&self, direction: Direction) -> RoundKeys<'_> {
        let keys = match direction {
            Direction::Encrypt => &self.encrypt,
            Direction::Decrypt => &self.decrypt,
        };
        let rounds = self.rounds;
        RoundKeys { first: &keys[0], middle: &keys[1..rounds], last: &keys[rounds] }
    }
}

/// Rounds of AES with a 256-bit key.
const MAX_ROUNDS: usize = 14;
