//! Compressed clusters (specification: "Compressed Clusters Descriptor").

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::header::Compression;

/// The clusters that were decompressed last, by their place in the file.
#[derive(Debug, Default)]
pub(super) struct Decompressed {
    clusters: VecDeque<(u64, Arc<[u8]>)>,
}

impl Decompressed {
    pub(super) fn find(&self, offset: u64) -> Option<Arc<[u8]>> {
        self.clusters.iter().find(|(place, _)| *place == offset).map(|(_, found)| found.clone())
    }

    pub(super) fn keep(&mut self, offset: u64, cluster: Vec<u8>) {
        if self.clusters.len() == KEPT {
            self.clusters.pop_front();
        }
        self.clusters.push_back((offset, cluster.into()));
    }

    pub(super) fn clear(&mut self) {
        self.clusters.clear();
    }
}

/// Returns a cluster of `size` bytes. What follows the compressed bytes does not matter, nor what
/// they would decompress to beyond the cluster. `None` when they are damaged.
pub(super) fn decompress(kind: Compression, bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut cluster = vec![0; size];
    match kind {
        Compression::Zlib => {
            let mut stream = Decompress::new(false);
            // An error behind the last byte of the cluster is none.
            let _ = stream.decompress(bytes, &mut cluster, FlushDecompress::Finish);
            (stream.total_out() == size as u64).then_some(cluster)
        }
        Compression::Zstd => {
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(LARGEST_WINDOW);
            let mut stream = StreamingDecoder::new_with_decoder(bytes, decoder).ok()?;
            stream.read_exact(&mut cluster).ok()?;
            Some(cluster)
        }
    }
}

/// Returns the cluster in fewer bytes; `None` when it does not become smaller.
pub(super) fn compress(kind: Compression, cluster: &[u8]) -> Option<Vec<u8>> {
    let smaller = match kind {
        Compression::Zlib => {
            let level = flate2::Compression::default();
            let mut stream = Compress::new_with_window_bits(level, false, WINDOW_BITS);
            let mut bytes = vec![0; cluster.len()];
            match stream.compress(cluster, &mut bytes, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => {
                    bytes.truncate(stream.total_out() as usize);
                    bytes
                }
                _ => return None,
            }
        }
        Compression::Zstd => compress_to_vec(cluster, CompressionLevel::Fastest),
    };
    (smaller.len() < cluster.len()).then_some(smaller)
}

/// The window of compressed clusters, 2^12 bytes: QEMU has no larger one to decompress with.
const WINDOW_BITS: u8 = 12;

/// The largest window that a Zstandard frame may ask for, in bytes; a cluster is never longer than
/// 2 MiB, but a frame that does not know its length may ask for more than it needs.
const LARGEST_WINDOW: u64 = 8 << 20;

/// How many clusters are kept: at most 8 MiB.
const KEPT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(size: usize) -> Vec<u8> {
        (0..size).map(|index| b"strongroom "[index / 3 % 11]).collect()
    }

    #[test]
    fn clusters_come_back() {
        for kind in [Compression::Zlib, Compression::Zstd] {
            for size in [512, 4096, 65536, 2 << 20] {
                let cluster = text(size);
                let mut bytes = compress(kind, &cluster).unwrap();
                assert!(bytes.len() < size);
                bytes.extend([0xAA; 511]);
                assert_eq!(decompress(kind, &bytes, size).unwrap(), cluster, "{kind:?} {size}");
            }
        }
    }

    #[test]
    fn what_does_not_get_smaller_is_not_compressed() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(4096)
        .collect();
        for kind in [Compression::Zlib, Compression::Zstd] {
            assert!(compress(kind, &noise).is_none());
        }
    }

    #[test]
    fn a_bomb_is_cut_at_a_cluster_and_too_little_is_refused() {
        for kind in [Compression::Zlib, Compression::Zstd] {
            let bomb = compress(kind, &vec![0; 1 << 20]).unwrap();
            assert_eq!(decompress(kind, &bomb, 65536).unwrap(), vec![0; 65536]);
            assert!(decompress(kind, &bomb, 2 << 20).is_none());
            assert!(decompress(kind, &[0xFF; 600], 65536).is_none());
            assert!(decompress(kind, &[], 65536).is_none());
        }
    }
}
