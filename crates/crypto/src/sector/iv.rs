//! Initialisation vectors, as dm-crypt generates them.

use zeroize::Zeroizing;

use super::block::{self, BlockCipher};
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
    pub(super) fn new(spec: CipherSpec, key: &[u8]) -> Result<Self, Error> {
        let iv = spec.mode().iv().unwrap_or(Iv::Null);
        let essiv = match iv {
            Iv::Essiv(hash) => {
                let salt = Zeroizing::new(hash.digest(&[key]));
                Some(block::new(spec.cipher(), &salt)?)
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
        out.fill(0);
        let mut number = self.first.wrapping_add((index as u64).wrapping_mul(self.step));
        for iv in out.chunks_exact_mut(self.generator.block_size) {
            let (head, tail) = iv.split_at_mut(4);
            match self.generator.iv {
                Iv::Null => {}
                Iv::Plain => head.copy_from_slice(&(number as u32).to_le_bytes()),
                Iv::Plain64 | Iv::Essiv(_) => {
                    head.copy_from_slice(&(number as u32).to_le_bytes());
                    tail[..4].copy_from_slice(&((number >> 32) as u32).to_le_bytes());
                }
                Iv::Plain64be => {
                    let end = iv.len();
                    iv[end - 8..].copy_from_slice(&number.to_be_bytes());
                }
            }
            number = number.wrapping_add(self.step);
        }
        if let Some(essiv) = &self.generator.essiv {
            essiv.encrypt_blocks(out);
        }
    }
}
