//! Compressed clusters (specification: "Compressed Clusters Descriptor").

mod matches;

use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use ruzstd::encoding::{CompressionLevel, FrameCompressor};

use self::matches::Matches;
use super::header::Compression;
use crate::Result;

/// The clusters that were decompressed last, by their place in the file, and room for more.
#[derive(Debug, Default)]
pub(super) struct Decompressed {
    clusters: VecDeque<(Range<u64>, Arc<Decompression>)>,
    /// The places of those that were wanted whole, and not kept.
    whole: VecDeque<Range<u64>>,
    /// Buffers that nobody uses now. Each thread that freed its own would leave as much unused to itself.
    spare: Vec<Vec<u8>>,
}

/// A cluster that is decompressed once, however many threads want a part of it.
#[derive(Debug, Default)]
pub(super) struct Decompression {
    cluster: Mutex<Option<Vec<u8>>>,
}

impl Decompressed {
    /// Returns the cluster whose compressed bytes lie there, for whoever is first to decompress.
    pub(super) fn entry(&mut self, stored: Range<u64>) -> Arc<Decompression> {
        if let Some((_, found)) = self.clusters.iter().find(|(place, _)| *place == stored) {
            return found.clone();
        }
        if self.clusters.len() == KEPT {
            let oldest = self.clusters.pop_front().and_then(|(_, oldest)| Arc::into_inner(oldest));
            let cluster = oldest.and_then(|oldest| {
                oldest.cluster.into_inner().unwrap_or_else(PoisonError::into_inner)
            });
            self.put_back(cluster.unwrap_or_default());
        }
        let new = Arc::<Decompression>::default();
        self.clusters.push_back((stored, new.clone()));
        new
    }

    /// Tells whether nobody has wanted the cluster there lately, so that it need not be kept. An image may
    /// have one place for all of its clusters: the second time it is.
    pub(super) fn is_new(&mut self, stored: &Range<u64>) -> bool {
        let is_kept = self.clusters.iter().any(|(place, _)| place == stored);
        if is_kept || self.whole.contains(stored) {
            return false;
        }
        if self.whole.len() == KEPT {
            self.whole.pop_front();
        }
        self.whole.push_back(stored.clone());
        true
    }

    /// Returns a buffer of any length, with anything in it.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(super) fn put_back(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE && buffer.capacity() > 0 {
            self.spare.push(buffer);
        }
    }

    pub(super) fn clear(&mut self) {
        self.clusters.clear();
        self.whole.clear();
    }
}

impl Decompression {
    /// Fills `buf` with the cluster from `skip` on, which `decompress` returns if nobody has yet.
    /// Others who want the same cluster wait meanwhile, and nobody else.
    pub(super) fn read(
        &self,
        buf: &mut [u8],
        skip: usize,
        decompress: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<()> {
        // What a thread left that panicked is nothing, or whole.
        let mut cluster = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = match &mut *cluster {
            Some(cluster) => cluster,
            nothing => nothing.insert(decompress()?),
        };
        buf.copy_from_slice(&cluster[skip..skip + buf.len()]);
        Ok(())
    }
}

/// Fills a cluster. What follows the compressed bytes does not matter, nor what they would decompress to
/// beyond the cluster. `None` when they are damaged.
pub(super) fn decompress(kind: Compression, bytes: &[u8], cluster: &mut [u8]) -> Option<()> {
    match kind {
        Compression::Zlib => {
            let mut stream = Decompress::new(false);
            // An error behind the last byte of the cluster is none.
            let _ = stream.decompress(bytes, cluster, FlushDecompress::Finish);
            (stream.total_out() == cluster.len() as u64).then_some(())
        }
        Compression::Zstd => {
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(LARGEST_WINDOW);
            let mut stream = StreamingDecoder::new_with_decoder(bytes, decoder).ok()?;
            stream.read_exact(cluster).ok()
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
        Compression::Zstd => {
            let mut bytes = Vec::with_capacity(cluster.len());
            let level = CompressionLevel::Fastest;
            let mut frame = FrameCompressor::new_with_matcher(Matches::new(), level);
            frame.set_source(cluster);
            frame.set_drain(&mut bytes);
            frame.compress();
            drop(frame);
            bytes
        }
    };
    (smaller.len() < cluster.len()).then_some(smaller)
}

/// The window of compressed clusters, 2^12 bytes: QEMU has no larger one to decompress with.
const WINDOW_BITS: u8 = 12;

/// The largest window that a Zstandard frame may ask for, in bytes; a cluster is never longer than
/// 2 MiB, but a frame that does not know its length may ask for more than it needs.
const LARGEST_WINDOW: u64 = 8 << 20;

/// How many clusters are kept: at most 6 MiB.
const KEPT: usize = 3;

/// How many buffers are kept beside them.
const SPARE: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn decompressed(kind: Compression, bytes: &[u8], size: usize) -> Option<Vec<u8>> {
        let mut cluster = vec![0xEE; size];
        decompress(kind, bytes, &mut cluster).map(|()| cluster)
    }

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
                assert_eq!(decompressed(kind, &bytes, size).unwrap(), cluster, "{kind:?} {size}");
            }
        }
    }

    #[test]
    fn threads_that_want_one_cluster_decompress_it_once() {
        let (cache, times) = (Mutex::new(Decompressed::default()), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (cache, times) = (&cache, &times);
                scope.spawn(move || {
                    let entry = cache.lock().unwrap().entry(512..700);
                    let mut part = [0; 2];
                    let read = entry.read(&mut part, thread, || {
                        times.fetch_add(1, Ordering::SeqCst);
                        Ok((0..16).collect())
                    });
                    read.unwrap();
                    assert_eq!(part, [thread as u8, thread as u8 + 1]);
                });
            }
        });
        assert_eq!(times.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_cluster_that_could_not_be_decompressed_is_tried_again() {
        let mut cache = Decompressed::default();
        let failed =
            || Err(crate::Error::new(crate::ErrorKind::Invalid, crate::Operation::Read, "x"));
        assert!(cache.entry(0..9).read(&mut [0], 0, failed).is_err());
        cache.entry(0..9).read(&mut [0], 0, || Ok(vec![1])).unwrap();
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
            assert_eq!(decompressed(kind, &bomb, 65536).unwrap(), vec![0; 65536]);
            assert!(decompressed(kind, &bomb, 2 << 20).is_none());
            assert!(decompressed(kind, &[0xFF; 600], 65536).is_none());
            assert!(decompressed(kind, &[], 65536).is_none());
        }
    }
}
