//! AES over runs of sectors, for kernels that do more than blocks.

use super::block::BlockCipher;
use super::iv::Run;

/// Which way a cipher goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Encrypt,
    Decrypt,
}

/// AES with a single key, by a kernel that works on whole sectors.
///
/// `size` is the sector size in bytes, a multiple of 512; there is one tweak or IV a sector.
pub(super) trait Aes: BlockCipher {
    /// Encrypts or decrypts sectors in XTS mode (IEEE 1619-2018, section 5), given their tweaks
    /// encrypted already.
    fn xts(&self, direction: Direction, sectors: &mut [u8], size: usize, tweaks: &[[u8; 16]]);

    /// Encrypts sectors in CBC mode (SP 800-38A, section 6.2).
    fn cbc_encrypt(&self, sectors: &mut [u8], size: usize, ivs: &[[u8; 16]]);

    /// Decrypts sectors in CBC mode (SP 800-38A, section 6.2).
    fn cbc_decrypt(&self, sectors: &mut [u8], size: usize, ivs: &[[u8; 16]]);
}

/// Encrypts or decrypts a run of sectors in XTS mode.
pub(super) fn xts(
    data: &dyn Aes,
    tweak: &dyn Aes,
    direction: Direction,
    sectors: &mut [u8],
    size: usize,
    ivs: &Run<'_>,
) {
    in_batches(sectors, size, ivs, |sectors, tweaks| {
        tweak.encrypt_blocks(tweaks.as_flattened_mut());
        data.xts(direction, sectors, size, tweaks);
    });
}

/// Encrypts or decrypts a run of sectors in CBC mode.
pub(super) fn cbc(
    cipher: &dyn Aes,
    direction: Direction,
    sectors: &mut [u8],
    size: usize,
    ivs: &Run<'_>,
) {
    in_batches(sectors, size, ivs, |sectors, ivs| match direction {
        Direction::Encrypt => cipher.cbc_encrypt(sectors, size, ivs),
        Direction::Decrypt => cipher.cbc_decrypt(sectors, size, ivs),
    });
}

/// Hands out sectors with their IVs, [`BATCH`] at a time.
fn in_batches(
    sectors: &mut [u8],
    size: usize,
    ivs: &Run<'_>,
    mut apply: impl FnMut(&mut [u8], &mut [[u8; 16]]),
) {
    let mut batch_ivs = [[0; 16]; BATCH];
    for (batch, sectors) in sectors.chunks_mut(BATCH * size).enumerate() {
        let batch_ivs = &mut batch_ivs[..sectors.len() / size];
        ivs.fill(batch * BATCH, batch_ivs.as_flattened_mut());
        apply(sectors, batch_ivs);
    }
}

/// Sectors whose IVs are made, and encrypted where need be, together: as many as the widest
/// kernel has blocks at a time.
const BATCH: usize = 32;
