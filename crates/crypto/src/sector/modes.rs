//! XTS, CBC and CTR over any block cipher, many blocks at a time.
//!
//! Ciphers that work on several blocks at once (bitsliced, vectorised) are fed long runs: XTS, CTR
//! and CBC decryption several small sectors, CBC encryption the same block of many sectors.

use super::block::BlockCipher;
use super::iv::Run;

/// The largest block in bytes.
const MAX_BLOCK: usize = 16;

/// Sectors whose IVs are made, and whose CBC chains are walked, together.
const BATCH: usize = 64;

/// Encrypts sectors in XTS mode (IEEE 1619-2018, section 5.3).
pub(super) fn xts_encrypt(
    cipher: &dyn BlockCipher,
    tweak: &dyn BlockCipher,
    data: &mut [u8],
    sector: usize,
    ivs: &Run<'_>,
) {
    xts(tweak, data, sector, ivs, |blocks| cipher.encrypt_blocks(blocks));
}

/// Decrypts sectors in XTS mode (IEEE 1619-2018, section 5.4).
pub(super) fn xts_decrypt(
    cipher: &dyn BlockCipher,
    tweak: &dyn BlockCipher,
    data: &mut [u8],
    sector: usize,
    ivs: &Run<'_>,
) {
    xts(tweak, data, sector, ivs, |blocks| cipher.decrypt_blocks(blocks));
}

fn xts(
    tweak: &dyn BlockCipher,
    data: &mut [u8],
    sector: usize,
    ivs: &Run<'_>,
    apply: impl Fn(&mut [u8]),
) {
    let mut first_tweaks = [0; BATCH * MAX_BLOCK];
    let mut tweaks = [0; 4096];
    for (batch, sectors) in data.chunks_mut(BATCH * sector).enumerate() {
        let count = sectors.len() / sector;
        let first_tweaks = &mut first_tweaks[..count * MAX_BLOCK];
        ivs.fill(batch * BATCH, first_tweaks);
        tweak.encrypt_blocks(first_tweaks);
        let group = tweaks.len() / sector;
        let first_tweaks = first_tweaks.chunks(group * MAX_BLOCK);
        for (sectors, first_tweaks) in sectors.chunks_mut(group * sector).zip(first_tweaks) {
            let tweaks = &mut tweaks[..sectors.len()];
            for (tweaks, first) in
                tweaks.chunks_exact_mut(sector).zip(first_tweaks.as_chunks().0.iter())
            {
                let mut value = u128::from_le_bytes(*first);
                for out in tweaks.as_chunks_mut().0 {
                    *out = value.to_le_bytes();
                    value = (value << 1) ^ ((value >> 127) * 0x87);
                }
            }
            xor(sectors, tweaks);
            apply(sectors);
            xor(sectors, tweaks);
        }
    }
}

/// Encrypts sectors in CBC mode (SP 800-38A, section 6.2), many chains side by side.
pub(super) fn cbc_encrypt(cipher: &dyn BlockCipher, data: &mut [u8], sector: usize, ivs: &Run<'_>) {
    let block = cipher.block_size();
    let mut chain = [0; BATCH * MAX_BLOCK];
    for (batch, sectors) in data.chunks_mut(BATCH * sector).enumerate() {
        let chain = &mut chain[..sectors.len() / sector * block];
        ivs.fill(batch * BATCH, chain);
        for offset in (0..sector).step_by(block) {
            for (sector, link) in sectors.chunks_exact(sector).zip(chain.chunks_exact_mut(block)) {
                xor(link, &sector[offset..offset + block]);
            }
            cipher.encrypt_blocks(chain);
            for (sector, link) in sectors.chunks_exact_mut(sector).zip(chain.chunks_exact(block)) {
                sector[offset..offset + block].copy_from_slice(link);
            }
        }
    }
}

/// Decrypts sectors in CBC mode (SP 800-38A, section 6.2).
pub(super) fn cbc_decrypt(cipher: &dyn BlockCipher, data: &mut [u8], sector: usize, ivs: &Run<'_>) {
    let block = cipher.block_size();
    let mut first_ivs = [0; BATCH * MAX_BLOCK];
    let mut previous = [0; 4096];
    for (batch, sectors) in data.chunks_mut(BATCH * sector).enumerate() {
        let first_ivs = &mut first_ivs[..sectors.len() / sector * block];
        ivs.fill(batch * BATCH, first_ivs);
        let group = previous.len() / sector;
        let first_ivs = first_ivs.chunks(group * block);
        for (sectors, first_ivs) in sectors.chunks_mut(group * sector).zip(first_ivs) {
            let previous = &mut previous[..sectors.len()];
            let pairs = previous.chunks_exact_mut(sector).zip(sectors.chunks_exact(sector));
            for ((previous, sector), iv) in pairs.zip(first_ivs.chunks_exact(block)) {
                previous[..block].copy_from_slice(iv);
                previous[block..].copy_from_slice(&sector[..sector.len() - block]);
            }
            cipher.decrypt_blocks(sectors);
            xor(sectors, previous);
        }
    }
}

/// Encrypts or decrypts sectors in counter mode (SP 800-38A, section 6.5).
pub(super) fn ctr(cipher: &dyn BlockCipher, data: &mut [u8], sector: usize, ivs: &Run<'_>) {
    match cipher.block_size() {
        16 => ctr_blocks::<16>(cipher, data, sector, ivs),
        _ => ctr_blocks::<8>(cipher, data, sector, ivs),
    }
}

fn ctr_blocks<const BLOCK: usize>(
    cipher: &dyn BlockCipher,
    data: &mut [u8],
    sector: usize,
    ivs: &Run<'_>,
) {
    let mut first_ivs = [[0; BLOCK]; BATCH];
    let mut stream = [0; 4096];
    for (batch, sectors) in data.chunks_mut(BATCH * sector).enumerate() {
        let first_ivs = &mut first_ivs[..sectors.len() / sector];
        ivs.fill(batch * BATCH, first_ivs.as_flattened_mut());
        let group = stream.len() / sector;
        let first_ivs = first_ivs.chunks(group);
        for (sectors, first_ivs) in sectors.chunks_mut(group * sector).zip(first_ivs) {
            let stream = &mut stream[..sectors.len()];
            for (stream, iv) in stream.chunks_exact_mut(sector).zip(first_ivs) {
                let mut counter = [0; MAX_BLOCK];
                counter[MAX_BLOCK - BLOCK..].copy_from_slice(iv);
                let mut counter = u128::from_be_bytes(counter);
                for out in stream.as_chunks_mut::<BLOCK>().0 {
                    out.copy_from_slice(&counter.to_be_bytes()[MAX_BLOCK - BLOCK..]);
                    counter = counter.wrapping_add(1);
                }
            }
            cipher.encrypt_blocks(stream);
            xor(sectors, stream);
        }
    }
}

fn xor(out: &mut [u8], with: &[u8]) {
    for (out, with) in out.iter_mut().zip(with) {
        *out ^= with;
    }
}
