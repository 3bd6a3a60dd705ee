//! Serpent in wider registers than those that every processor has.

use super::Serpent;
use crate::sector::aes_runs::Direction;
use crate::sector::block::BlockCipher;
use crate::sector::x86_64::WideRegisters;

/// A key schedule with the registers to run it in.
pub(in crate::sector) struct WideSerpent {
    registers: WideRegisters,
    serpent: Box<Serpent>,
}

impl WideSerpent {
    /// Returns `serpent` run in `registers`.
    pub(in crate::sector) fn new(registers: WideRegisters, serpent: Box<Serpent>) -> Self {
        Self { registers, serpent }
    }
}

impl BlockCipher for WideSerpent {
    fn block_size(&self) -> usize {
        self.serpent.block_size()
    }

    fn encrypt_blocks(&self, blocks: &mut [u8]) {
        self.registers.run(&self.serpent, Direction::Encrypt, blocks);
    }

    fn decrypt_blocks(&self, blocks: &mut [u8]) {
        self.registers.run(&self.serpent, Direction::Decrypt, blocks);
    }
}
