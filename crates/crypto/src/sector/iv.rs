//! Initialisation vectors, as dm-crypt generates them.

use zeroize::Zeroizing;

use super::block::BlockCipher;
use super::kernel::Kernel;
use crate::{CipherSpec, Error, Iv};

/// Makes the IV of any sector.
pub(super) struct IvGenerator {
    iv: Iv,
    block_size: usize,
    essiv: Option<Box<dyn BlockCipher>>,
}

/// The IVs of consecutive sectors.
pub(super) struct Run<'a> {
    generator: &'a IvGenerator,
    first: u64,
    step: u64,
}

impl IvGenerator {
    /// Returns the generator that `spec` names, for a volume key of `key` bytes.
    pub(super) fn new(spec: CipherSpec, key: &[u8], kernel: Kernel) -> Result<Self, Error> {
        let iv = spec.mode().iv().unwrap_or(Iv::Null);
        let essiv = match iv {
            Iv::Essiv(hash) => {
                let salt = Zeroizing::new(hash.digest(&[key]));
                Some(kernel.block_cipher(spec.cipher(), &salt)?)
            }
            _ => None,
        };
        Ok(Self { iv, block_size: spec.cipher().block_size(), essiv })
    }

    /// Returns the IVs of sectors whose numbers start at `first` and go up by `step`.
    pub(super) fn run(&self, first: u64, step: u64) -> Run<'_> {
        Run { generator: self, first, step }
    }
}

impl Run<'_> {
    /// Fills `out` with the IVs of the sectors from the `index`th of the run on, as many as fit.
    pub(super) fn fill(&self, index: usize, out: &mut [u8]) {
        let number = self.first.wrapping_add((index as u64).wrapping_mul(self.step));
        match self.generator.block_size {
            16 => self.fill_blocks::<16>(number, out),
            _ => self.fill_blocks::<8>(number, out),
        }
        if let Some(essiv) = &self.generator.essiv {
            essiv.encrypt_blocks(out);
        }
    }

    fn fill_blocks<const BLOCK: usize>(&self, first: u64, out: &mut [u8]) {
        let numbers = (0..).map(|index: u64| first.wrapping_add(index.wrapping_mul(self.step)));
        let ivs = out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(numbers);
        match self.generator.iv {
            Iv::Null => out.fill(0),
            Iv::Plain => ivs.for_each(|(iv, number)| *iv = little_endian(number & 0xffff_ffff)),
            Iv::Plain64 | Iv::Essiv(_) => ivs.for_each(|(iv, number)| *iv = little_endian(number)),
            Iv::Plain64be => ivs.for_each(|(iv, number)| *iv = big_endian(number)),
        }
    }
}

/// Returns a block that begins with `number`.
fn little_endian<const BLOCK: usize>(number: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..8].copy_from_slice(&number.to_le_bytes());
    block
}

/// Returns a block that ends with `number`.
fn big_endian<const BLOCK: usize>(number: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[BLOCK - 8..].copy_from_slice(&number.to_be_bytes());
    block
}
