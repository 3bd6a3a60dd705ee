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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Kernel;

    proptest! {
        #[test]
        fn every_width_agrees_with_another_implementation(
            key in any::<[u8; 32]>(),
            size in prop::sample::select(vec![16, 24, 32]),
            blocks in prop::collection::vec(any::<[u8; 16]>(), 1..=150),
            offset in 0..64_usize,
        ) {
            use cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

            let oracle = serpent::Serpent::new_from_slice(&key[..size]).unwrap();
            let each = |step: &dyn Fn(&mut Array<u8, _>)| -> Vec<u8> {
                let stepped = blocks.iter().flat_map(|block| {
                    let mut block = Array::from(*block);
                    step(&mut block);
                    block
                });
                stepped.collect()
            };
            let encrypted = each(&|block| oracle.encrypt_block(block));
            let decrypted = each(&|block| oracle.decrypt_block(block));
            let mut plain = vec![0; offset];
            plain.extend_from_slice(blocks.as_flattened());
            for registers in Kernel::ALL.into_iter().filter_map(WideRegisters::with) {
                let wide = WideSerpent::new(registers, Serpent::new(&key[..size]).unwrap());
                let mut data = plain.clone();
                wide.encrypt_blocks(&mut data[offset..]);
                prop_assert_eq!(&data[offset..], &encrypted, "{}", registers.name());
                let mut data = plain.clone();
                wide.decrypt_blocks(&mut data[offset..]);
                prop_assert_eq!(&data[offset..], &decrypted, "{}", registers.name());
            }
        }
    }
}
