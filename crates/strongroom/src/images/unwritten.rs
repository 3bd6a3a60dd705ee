//! Plaintext of ciphertext that was never written.

use std::ops::Range;

use strongroom_disk::{Disk, Encrypted, Error, ErrorKind, Extent, ExtentKind, Operation, Result};

/// The plaintext of a container, in which whatever nobody has ever written reads as zeros. By its cipher
/// alone it would read as noise, which means nothing to anybody and cannot be left out of a copy.
///
/// # Assumptions
///
/// A hole of the container is what was never written, or was discarded: nobody punches holes into
/// ciphertext that is still needed.
pub(super) struct Unwritten<D> {
    plain: Encrypted<D>,
    /// Where the container's data begins.
    start: u64,
}

impl<D: Disk> Unwritten<D> {
    pub(super) fn new(plain: Encrypted<D>, start: u64) -> Self {
        Self { plain, start }
    }

    fn refuse<T>(&self, operation: Operation) -> Result<T> {
        Err(Error::new(ErrorKind::ReadOnly, operation, self.label())
            .because("it was opened for reading only"))
    }
}

impl<D: Disk> Disk for Unwritten<D> {
    fn len(&self) -> u64 {
        self.plain.len()
    }

    fn label(&self) -> &str {
        self.plain.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.plain.read_at(buf, offset)?;
        let (mut at, end) = (offset, offset + buf.len() as u64);
        while at < end {
            let extent = self.extent_at(at)?;
            let until = extent.range.end.min(end);
            if extent.kind.reads_as_zeros() {
                buf[(at - offset) as usize..(until - offset) as usize].fill(0);
            }
            at = until;
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<()> {
        self.refuse(Operation::Write)
    }

    /// Holes are whole sectors, whatever their size: one that was written in part is data.
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let len = self.plain.extent_at(offset)?.range.end;
        let first = offset / SECTOR * SECTOR;
        let below = self.plain.inner().extent_at(self.start + first)?;
        let end = (below.range.end - self.start).min(len);
        let whole = if end == len { end } else { end / SECTOR * SECTOR };
        let (end, kind) = match (below.kind.reads_as_zeros(), whole > first) {
            (true, true) => (whole, ExtentKind::Unallocated),
            (true, false) => (first + SECTOR, ExtentKind::Data),
            (false, _) => (end.next_multiple_of(SECTOR), ExtentKind::Data),
        };
        Ok(Extent { range: offset..end.min(len), kind })
    }

    fn discard(&self, _: Range<u64>) -> Result<()> {
        self.refuse(Operation::Discard)
    }

    fn write_zeroes(&self, _: Range<u64>) -> Result<()> {
        self.refuse(Operation::WriteZeroes)
    }

    fn flush(&self) -> Result<()> {
        self.plain.flush()
    }
}

/// The largest sector there is, in bytes.
const SECTOR: u64 = 4096;

#[cfg(test)]
mod tests {
    use strongroom_crypto::{Encryption, IvUnit, SectorCipher, SectorSize, VolumeKey};
    use strongroom_disk::{Extents, Memory};

    use super::*;

    const START: u64 = 8192;
    const LEN: u64 = 20 * SECTOR + 512;

    fn plain(container: &Memory) -> Encrypted<&Memory> {
        let key = VolumeKey::new((0..64).collect());
        let encryption: Encryption =
            "aes-xts-plain64".parse::<strongroom_crypto::CipherSpec>().unwrap().with_largest_key();
        let cipher = SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512);
        Encrypted::new(container, START..START + LEN, cipher.unwrap(), 0).unwrap()
    }

    #[test]
    fn what_was_never_written_reads_as_zeros_from_wherever_it_is_read() {
        let container = Memory::new(START + LEN);
        let view = plain(&container);
        let mut expected = vec![0; LEN as usize];
        // Whole sectors, one in part, and the end, which is none.
        for (offset, length) in [(2 * SECTOR, SECTOR), (7 * SECTOR + 512, 512), (LEN - 512, 512)] {
            let range = offset as usize..(offset + length) as usize;
            expected[range.clone()].fill(0x5a);
            view.write_at(&expected[range], offset).unwrap();
        }
        let unwritten = Unwritten::new(view, START);
        let holes: u64 = Extents::new(&unwritten, 0..LEN)
            .map(Result::unwrap)
            .filter(|extent| extent.kind.reads_as_zeros())
            .map(|extent| {
                let mut bytes = vec![1; (extent.range.end - extent.range.start) as usize];
                unwritten.read_at(&mut bytes, extent.range.start).unwrap();
                assert!(bytes.iter().all(|&byte| byte == 0), "{extent:?}");
                bytes.len() as u64
            })
            .sum();
        assert!(holes >= 10 * SECTOR, "{holes} bytes are holes");
        let mut whole = vec![0; LEN as usize];
        unwritten.read_at(&mut whole, 0).unwrap();
        for start in (0..LEN).step_by(511) {
            let length = (LEN - start).min(3 * SECTOR + 100) as usize;
            let mut part = vec![0; length];
            unwritten.read_at(&mut part, start).unwrap();
            assert_eq!(part, whole[start as usize..][..length], "read at {start}");
        }
        let written = |range: Range<u64>| range.start as usize..range.end as usize;
        for range in [2 * SECTOR..3 * SECTOR, 7 * SECTOR + 512..7 * SECTOR + 1024, LEN - 512..LEN] {
            assert_eq!(whole[written(range.clone())], expected[written(range)]);
        }
        assert!(unwritten.write_at(&[1], 0).is_err());
    }
}
