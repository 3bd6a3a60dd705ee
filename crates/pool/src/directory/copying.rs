//! Copies of files: shared blocks where the file system can, else data by data, holes staying holes.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use strongroom_disk::{Access, Disk, Raw, share_blocks};

use super::data::Data;
use super::handle::Handle;
use crate::{CopyProgress, Error, Item, Result};

/// Fills `to`, which is empty, with what `from` has, and makes it durable.
pub(super) fn copy(
    (item, from): (&Item, &Data),
    to: &Data,
    progress: &dyn CopyProgress,
) -> Result<()> {
    let len = from.len()?;
    progress.copied(0, len);
    if progress.is_cancelled() {
        return Err(Error::Interrupted { item: item.clone() });
    }
    // Asked before anything is copied: a write that comes between is seen by the data that it leaves.
    let untouched = from.is_untouched()?;
    if share(from, to)? {
        progress.copied(len, len);
    } else {
        to.set_len(item, len)?;
        Copier { item, from, to, progress, len, way: Way::InKernel, unsynced: 0 }.run()?;
    }
    if untouched {
        to.set_untouched()?;
    }
    to.sync()
}

/// Tells whether files in this directory can share blocks, by trying.
pub(super) fn can_share(directory: &Handle) -> Result<bool> {
    let path = directory.path().to_owned();
    let make = || Ok::<_, Error>(directory.nameless_file()?.map(|file| (file, path.clone())));
    let (Some(from), Some(to)) = (make()?, make()?) else { return Ok(false) };
    let [from, to] = [from, to].map(|(file, path)| Data { file, path });
    from.file.write_all_at(&[1; BLOCK], 0).map_err(|source| from.failed("write to", source))?;
    share(&from, &to)
}

/// Lets `to` share the blocks of `from`; tells whether the file system could.
fn share(from: &Data, to: &Data) -> Result<bool> {
    share_blocks(&from.file, &to.file).map_err(|error| to.failed("share blocks with", error))
}

struct Copier<'a> {
    item: &'a Item,
    from: &'a Data,
    to: &'a Data,
    progress: &'a dyn CopyProgress,
    len: u64,
    way: Way,
    /// How many bytes were written since the last flush.
    unsynced: u64,
}

/// How bytes get from one file to the other.
enum Way {
    InKernel,
    Through(Vec<u8>),
}

impl Copier<'_> {
    fn run(&mut self) -> Result<()> {
        let file = self.from.file.try_clone();
        let file = file.map_err(|source| self.from.failed("open", source))?;
        let label = self.from.path.display().to_string();
        let map = Raw::from_file(file, label, Access::ReadOnly)?;
        let mut offset = 0;
        while offset < self.len {
            let extent = map.extent_at(offset)?;
            let end = extent.range.end.min(self.len);
            if !extent.kind.reads_as_zeros() {
                self.copy_range(offset..end)?;
            }
            offset = end;
            self.progress.copied(offset, self.len);
        }
        Ok(())
    }

    fn copy_range(&mut self, range: Range<u64>) -> Result<()> {
        let mut offset = range.start;
        while offset < range.end {
            if self.progress.is_cancelled() {
                return Err(Error::Interrupted { item: self.item.clone() });
            }
            let copied = self.copy_some(offset, (range.end - offset).min(PIECE))?;
            offset += copied;
            self.unsynced += copied;
            if self.unsynced >= FLUSH_EVERY {
                let flushed = self.to.file.sync_data();
                flushed.map_err(|source| self.to.failed("flush", source))?;
                self.unsynced = 0;
            }
            self.progress.copied(offset, self.len);
        }
        Ok(())
    }

    /// Copies at most `length` bytes, and returns how many.
    fn copy_some(&mut self, offset: u64, length: u64) -> Result<u64> {
        let (from, to) = (self.from, self.to);
        let buffer = match &mut self.way {
            Way::Through(buffer) => buffer,
            Way::InKernel => match copy_in_kernel(from, to, offset, length) {
                Ok(0) => return Err(from.failed("read", io::ErrorKind::UnexpectedEof.into())),
                Ok(copied) => return Ok(copied),
                Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {
                    self.way = Way::Through(vec![0; BUFFER]);
                    return self.copy_some(offset, length);
                }
                Err(errno) => return Err(to.failed("copy to", errno.into())),
            },
        };
        let length = length.min(buffer.len() as u64);
        let bytes = &mut buffer[..length as usize];
        from.file.read_exact_at(bytes, offset).map_err(|source| from.failed("read", source))?;
        to.file.write_all_at(bytes, offset).map_err(|source| to.failed("write", source))?;
        Ok(length)
    }
}

fn copy_in_kernel(from: &Data, to: &Data, offset: u64, length: u64) -> rustix::io::Result<u64> {
    loop {
        let (mut read, mut written) = (offset, offset);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(
            &from.file,
            Some(&mut read),
            &to.file,
            Some(&mut written),
            length,
        ) {
            Err(Errno::INTR) => {}
            result => return result.map(|copied| copied as u64),
        }
    }
}

/// How much is copied between two looks at whether to go on, in bytes.
const PIECE: u64 = 8 << 20;

/// As much as file systems share at least, in bytes.
const BLOCK: usize = 4096;

/// The buffer of a copy that the kernel does not make.
const BUFFER: usize = 1 << 20;

/// How much is written between two flushes, so that the last one does not take for ever.
const FLUSH_EVERY: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn data(directory: &tempfile::TempDir, name: &str) -> Data {
        let path = directory.path().join(name);
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path).unwrap();
        Data { file, path }
    }

    fn item() -> Item {
        Item::Volume("a".parse().unwrap())
    }

    /// A file with data at its beginning, in its middle and at its end, which is no whole block.
    fn source(directory: &tempfile::TempDir) -> Data {
        let from = data(directory, "from");
        from.file.set_len(LEN).unwrap();
        for (offset, length) in [(0, 3 << 20), (20 << 20, 5000), (LEN - 777, 777)] {
            let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8 + 1).collect();
            from.file.write_all_at(&bytes, offset).unwrap();
        }
        from
    }

    fn bytes(data: &Data) -> Vec<u8> {
        std::fs::read(&data.path).unwrap()
    }

    /// Stops a copy after so many bytes.
    struct Until {
        limit: u64,
        done: AtomicU64,
    }

    impl CopyProgress for Until {
        fn copied(&self, done: u64, _: u64) {
            self.done.store(done, Ordering::Relaxed);
        }

        fn is_cancelled(&self) -> bool {
            self.done.load(Ordering::Relaxed) >= self.limit
        }
    }

    #[test]
    fn copies_to_another_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        let (from, to) = (source(&directory), data(&elsewhere, "to"));
        copy((&item(), &from), &to, &()).unwrap();
        assert!(bytes(&from) == bytes(&to));
        assert!(to.allocated().unwrap() < 4 << 20);
    }

    #[test]
    fn copies_through_a_buffer_as_the_kernel_does() {
        let directory = tempfile::tempdir().unwrap();
        let from = source(&directory);
        for (name, way) in [("kernel", Way::InKernel), ("buffer", Way::Through(vec![0; 4000]))] {
            let (item, to) = (item(), data(&directory, name));
            to.set_len(&item, LEN).unwrap();
            let (from, progress) = (&from, &());
            Copier { item: &item, from, to: &to, progress, len: LEN, way, unsynced: 0 }
                .run()
                .unwrap();
            assert!(bytes(from) == bytes(&to), "{name}");
            assert!(to.allocated().unwrap() < 4 << 20, "{name}");
        }
    }

    #[test]
    fn stops_in_the_middle() {
        let directory = tempfile::tempdir().unwrap();
        let from = data(&directory, "from");
        from.file.write_all_at(&vec![1; 40 << 20], 0).unwrap();
        let to = data(&directory, "to");
        let progress = Until { limit: 1, done: AtomicU64::new(0) };
        let item = item();
        let len = from.len().unwrap();
        let way = Way::InKernel;
        let mut copier = Copier {
            item: &item,
            from: &from,
            to: &to,
            progress: &progress,
            len,
            way,
            unsynced: 0,
        };
        let error = copier.run().unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }), "{error}");
        assert!(progress.done.into_inner() <= PIECE, "it went on");
    }

    #[test]
    fn a_source_that_becomes_shorter_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to, item) = (source(&directory), data(&directory, "to"), item());
        for way in [Way::InKernel, Way::Through(vec![0; BUFFER])] {
            let progress = &();
            let len = LEN + (1 << 20);
            let copier =
                Copier { item: &item, from: &from, to: &to, progress, len, way, unsynced: 0 };
            let error = { copier }.copy_range(LEN - 777..len).unwrap_err();
            assert!(error.to_string().starts_with("cannot read "), "{error}");
        }
    }

    const LEN: u64 = (32 << 20) + 777;
}
