//! Checksums of stored bytes.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;

use strongroom_clone::Progress;
use strongroom_crypto::{Hash, Hasher};
use strongroom_disk::{Access, Disk, Extents, Raw};
use strongroom_model::{Checksum, ChecksumAlgorithm};

use super::folder::failed;
use crate::images::Work;
use crate::{Error, Result, hexadecimal};

/// Returns the checksum of a file as Longhorn takes it: SHA-512 over the stored bytes.
///
/// # Errors
///
/// When it cannot be read, and when the work is cancelled.
pub fn checksum(file: &File, work: &Work<'_>) -> Result<Checksum> {
    let label = "the file of an image";
    let file = file.try_clone().map_err(|source| failed(Path::new(label), source))?;
    let disk = Raw::from_file(file, label.to_owned(), Access::ReadOnly)?;
    work.observer.begin(Some(disk.len()));
    let digest = hash(&disk, Hash::Sha512, work, work.observer.as_progress())?;
    Ok(format!("sha512:{}", hexadecimal(&digest)).parse()?)
}

/// Returns the digest of a disk's bytes. Holes are not read.
pub(super) fn hash(
    disk: &Raw,
    hash: Hash,
    work: &Work<'_>,
    progress: &dyn Progress,
) -> Result<Vec<u8>> {
    disk.advise_sequential();
    let mut hasher = Hasher::new(hash);
    let mut buffer = vec![0; PIECE];
    for extent in Extents::new(disk, 0..disk.len()) {
        let extent = extent?;
        let is_hole = extent.kind.reads_as_zeros();
        if is_hole {
            buffer.fill(0);
        }
        let mut offset = extent.range.start;
        while offset < extent.range.end {
            if work.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let length = (extent.range.end - offset).min(PIECE as u64);
            let piece = &mut buffer[..length as usize];
            if !is_hole {
                disk.read_at(piece, offset)?;
            }
            hasher.update(piece);
            progress.advance(length);
            offset += length;
        }
    }
    Ok(hasher.finish())
}

/// Refuses a file that does not have the checksum that it must have. `sha512` is what is known of it.
///
/// # Errors
///
/// [`Error::Checksum`].
pub(super) fn check(
    path: &Path,
    label: &str,
    expected: &Checksum,
    sha512: &str,
    work: &Work<'_>,
) -> Result<()> {
    let found = match expected.algorithm() {
        ChecksumAlgorithm::Sha512 => sha512.to_owned(),
        ChecksumAlgorithm::Sha256 => {
            hexadecimal(&hash(&Raw::open(path, Access::ReadOnly)?, Hash::Sha256, work, &())?)
        }
    };
    if found == hexadecimal(expected.digest()) {
        return Ok(());
    }
    Err(Error::Checksum {
        label: label.to_owned(),
        expected: expected.to_string(),
        found: format!("{}:{found}", expected.algorithm().name()),
    })
}

/// How much is read at once, in bytes.
const PIECE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use strongroom_crypto::CostPolicy;

    use super::*;
    use crate::images::Observer;

    struct Counting(AtomicU64);

    impl Progress for Counting {
        fn advance(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    impl Observer for Counting {
        fn begin(&self, bytes: Option<u64>) {
            assert_eq!(bytes, Some(LEN));
        }

        fn as_progress(&self) -> &dyn Progress {
            self
        }
    }

    const LEN: u64 = (5 << 20) + 17;

    #[test]
    fn a_hole_is_a_part_of_the_checksum() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN).unwrap();
        file.write_all_at(b"in the middle", 3 << 20).unwrap();
        let mut bytes = vec![0; LEN as usize];
        bytes[3 << 20..][..13].copy_from_slice(b"in the middle");
        let cancelled = Arc::new(AtomicBool::new(false));
        let observer = Counting(AtomicU64::new(0));
        let policy = CostPolicy::default();
        let work = Work { policy, observer: &observer, cancelled: &cancelled };
        let found = checksum(&file, &work).unwrap();
        assert_eq!(found.digest(), Hash::Sha512.digest(&[&bytes]));
        assert_eq!(observer.0.into_inner(), LEN);
        cancelled.store(true, Ordering::Relaxed);
        let work = Work { policy, observer: &(), cancelled: &cancelled };
        assert!(matches!(checksum(&file, &work), Err(Error::Interrupted)));
    }
}
