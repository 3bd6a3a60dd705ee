use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::*;
use crate::{Extents, Memory};

static NEVER: AtomicBool = AtomicBool::new(false);

/// A disk that counts, and does to a block what a test wants.
struct Source<F> {
    memory: Memory,
    reads: AtomicU64,
    /// Given the number of a block and how often it was read before.
    change: F,
    times: Mutex<std::collections::BTreeMap<u64, u64>>,
}

impl<F: Fn(u64, u64, &mut [u8]) -> Result<()> + Send + Sync> Source<F> {
    fn new(memory: Memory, change: F) -> Self {
        Self { memory, reads: AtomicU64::new(0), change, times: Mutex::default() }
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }
}

impl<F: Fn(u64, u64, &mut [u8]) -> Result<()> + Send + Sync> Disk for Source<F> {
    fn len(&self) -> u64 {
        self.memory.len()
    }

    fn label(&self) -> &str {
        "source"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.memory.read_at(buf, offset)?;
        let number = offset / BLOCK;
        let times = {
            let mut times = self.times.lock().unwrap();
            let times = times.entry(number).or_default();
            *times += 1;
            *times - 1
        };
        (self.change)(number, times, buf)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.memory.write_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.memory.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.memory.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.memory.write_zeroes(range)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

fn honest(_number: u64, _times: u64, _buf: &mut [u8]) -> Result<()> {
    Ok(())
}

/// Returns a disk without holes.
fn dense(len: u64) -> Memory {
    let disk = Memory::new(len);
    for start in (0..len).step_by(4096) {
        let length = (len - start).min(4096) as usize;
        let byte = (start / 4096 % 251) as u8 + 1;
        disk.write_at(&vec![byte; length], start).unwrap();
    }
    disk
}

fn read(disk: &dyn Disk, range: Range<u64>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    disk.read_at(&mut bytes, range.start)?;
    Ok(bytes)
}

fn digest_of(memory: &Memory) -> Vec<u8> {
    Hash::Sha256.digest(&[&memory.to_vec()])
}

#[test]
fn the_digest_is_that_of_all_bytes_whatever_was_read() {
    for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77] {
        let memory = dense(len);
        for hash in [Hash::Sha256, Hash::Sha512, Hash::Sha1] {
            let disk = Checked::new(&memory, hash).unwrap();
            let some = len / 3..len / 2;
            assert!(read(&disk, some.clone()).unwrap() == read(&memory, some).unwrap());
            let digest = disk.finish(&NEVER).unwrap().unwrap();
            assert_eq!(digest, hash.digest(&[&memory.to_vec()]));
            assert_eq!(disk.finish(&NEVER).unwrap().unwrap(), digest);
        }
    }
}

#[test]
fn threads_that_go_through_it_in_order_read_everything_once() {
    let source = Source::new(dense(100 * BLOCK + 5), honest);
    let disk = Checked::new(&source, Hash::Sha256).unwrap();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let piece = 300_000;
                loop {
                    let start = next.fetch_add(piece, Ordering::SeqCst);
                    if start >= disk.len() {
                        break;
                    }
                    let range = start..(start + piece).min(disk.len());
                    assert!(
                        read(&disk, range.clone()).unwrap() == read(&source.memory, range).unwrap()
                    );
                }
            });
        }
    });
    assert_eq!(source.reads(), 101);
    assert_eq!(disk.finish(&NEVER).unwrap().unwrap(), digest_of(&source.memory));
    assert_eq!(source.reads(), 101);
}

#[test]
fn what_a_reader_leaves_out_is_read_once_too() {
    let source = Source::new(dense(90 * BLOCK), honest);
    let disk = Checked::new(&source, Hash::Sha256).unwrap();
    for number in (0..90).filter(|number| number % 3 != 0) {
        read(&disk, number * BLOCK..number * BLOCK + 10).unwrap();
    }
    assert_eq!(disk.finish(&NEVER).unwrap().unwrap(), digest_of(&source.memory));
    assert_eq!(source.reads(), 90);
}

#[test]
fn threads_in_any_order_see_the_bytes_that_are_hashed() {
    let memory = dense(40 * BLOCK + 12_345);
    let disk = Checked::new(&memory, Hash::Sha256).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (disk, memory) = (&disk, &memory);
            scope.spawn(move || {
                for step in 0..150 {
                    let start = (step * 7919 + thread * 104_729) * 4099 % (memory.len() - 3000);
                    let range = start..start + 3000;
                    assert!(read(disk, range.clone()).unwrap() == read(memory, range).unwrap());
                }
            });
        }
        let digest = disk.finish(&NEVER).unwrap().unwrap();
        assert_eq!(digest, digest_of(&memory));
    });
    assert_eq!(disk.finish(&NEVER).unwrap().unwrap(), digest_of(&memory));
}

#[test]
fn a_block_is_loaded_once_at_a_time() {
    let source = Source::new(dense(2 * BLOCK), |_, _, _: &mut [u8]| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        Ok(())
    });
    let disk = Checked::new(&source, Hash::Sha256).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| read(&disk, BLOCK - 5..BLOCK + 5).unwrap());
        }
    });
    assert_eq!(source.reads(), 2);
}

#[test]
fn holes_are_hashed_but_never_read() {
    let memory = Memory::new(200 * BLOCK + 10);
    memory.write_at(&[7; 5000], 3 * BLOCK - 100).unwrap();
    memory.write_at(&[8; 5000], 150 * BLOCK).unwrap();
    let source = Source::new(memory, honest);
    let disk = Checked::new(&source, Hash::Sha256).unwrap();
    let told: Vec<_> = Extents::new(&disk, 0..disk.len())
        .map(Result::unwrap)
        .filter(|extent| extent.kind.reads_as_zeros())
        .map(|extent| (extent.range.start / BLOCK, extent.range.end / BLOCK))
        .collect();
    assert_eq!(told, [(0, 2), (4, 150), (151, 200)]);
    assert_eq!(disk.finish(&NEVER).unwrap().unwrap(), digest_of(&source.memory));
    assert_eq!(source.reads(), 3);
}

fn is_change(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    assert!(error.to_string().ends_with("it was changed while it was read"), "{error}");
}

/// Changes a byte of block 20 when it is read for the second time.
fn fickle(number: u64, times: u64, buf: &mut [u8]) -> Result<()> {
    if (number, times) == (20, 1) {
        buf[77] ^= 1;
    }
    Ok(())
}

/// Reads so much that block 20 is not in memory any more.
fn push_out(disk: &dyn Disk) {
    for number in (0..60).filter(|&number| number != 20) {
        read(disk, number * BLOCK..number * BLOCK + 1).unwrap();
    }
}

#[test]
fn a_block_that_changes_after_it_was_read_and_hashed_is_found_out() {
    let source = Source::new(dense(60 * BLOCK), fickle);
    let disk = Checked::new(&source, Hash::Sha256).unwrap();
    read(&disk, 20 * BLOCK..21 * BLOCK).unwrap();
    push_out(&disk);
    is_change(&read(&disk, 20 * BLOCK..21 * BLOCK).unwrap_err());
    // Once found out, it does not help to show the old content again.
    assert_eq!(disk.finish(&NEVER).unwrap().unwrap(), digest_of(&source.memory));
}

#[test]
fn a_block_that_changes_before_it_is_hashed_is_found_out() {
    let source = Source::new(dense(60 * BLOCK), fickle);
    let disk = Checked::new(&source, Hash::Sha256).unwrap();
    read(&disk, 20 * BLOCK..20 * BLOCK + 1).unwrap();
    disk.lock().cache.evict(20);
    is_change(&disk.finish(&NEVER).unwrap_err());
}

#[test]
fn a_hole_that_was_told_must_stay_one() {
    for read_first in [true, false] {
        let source = Source::new(Memory::new(4 * BLOCK), honest);
        let disk = Checked::new(&source, Hash::Sha256).unwrap();
        assert!(disk.extent_at(BLOCK).unwrap().kind.reads_as_zeros());
        source.memory.write_at(&[1], 2 * BLOCK + 5).unwrap();
        if read_first {
            is_change(&read(&disk, 2 * BLOCK..3 * BLOCK).unwrap_err());
        }
        is_change(&disk.finish(&NEVER).unwrap_err());
    }
}

#[test]
fn what_was_read_is_no_hole_any_more() {
    let source = Source::new(dense(4 * BLOCK), honest);
    let disk = Checked::new(&source, Hash::Sha256).unwrap();
    let whole = digest_of(&source.memory);
    read(&disk, 2 * BLOCK..3 * BLOCK).unwrap();
    source.memory.discard(2 * BLOCK..3 * BLOCK).unwrap();
    assert_eq!(disk.extent_at(2 * BLOCK).unwrap().kind, ExtentKind::Data);
    // Still in memory, so the digest is that of what was read.
    assert_eq!(disk.finish(&NEVER).unwrap().unwrap(), whole);
}

#[test]
fn an_error_of_the_source_is_passed_on_and_hangs_nobody() {
    let source = Source::new(dense(30 * BLOCK), |number, times, _: &mut [u8]| {
        if number == 5 && times < 2 {
            let error = std::io::Error::from_raw_os_error(5);
            return Err(Error::from_io(Operation::Read, "source", error));
        }
        Ok(())
    });
    let disk = Checked::new(&source, Hash::Sha256).unwrap();
    let failures = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for number in 0..30 {
                    if read(&disk, number * BLOCK..number * BLOCK + 1).is_err() {
                        failures.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(failures.load(Ordering::SeqCst), 2);
    assert_eq!(disk.finish(&NEVER).unwrap().unwrap(), digest_of(&source.memory));
}

#[test]
fn who_cancels_gets_no_digest_and_may_go_on() {
    let memory = dense(3 * BLOCK);
    let disk = Checked::new(&memory, Hash::Sha256).unwrap();
    assert_eq!(disk.finish(&AtomicBool::new(true)).unwrap(), None);
    assert_eq!(disk.finish(&NEVER).unwrap(), Some(digest_of(&memory)));
}

#[test]
fn changes_nothing() {
    let memory = dense(100);
    let disk = Checked::new(&memory, Hash::Sha256).unwrap();
    for result in
        [disk.write_at(&[1], 0), disk.write_zeroes(0..1), disk.discard(0..1), disk.set_len(5)]
    {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnly);
    }
    assert_eq!(disk.read_at(&mut [0], 100).unwrap_err().kind(), ErrorKind::PastEnd);
    assert_eq!(disk.extent_at(100).unwrap_err().kind(), ErrorKind::PastEnd);
}

#[test]
fn a_state_goes_on_where_it_was_and_nowhere_else() {
    let memory = dense(7 * BLOCK + 9);
    let disk = Checked::new(&memory, Hash::Sha512).unwrap();
    read(&disk, 0..2 * BLOCK + 5).unwrap();
    let (cursor, saved) = disk.state().unwrap();
    assert_eq!(cursor, 3 * BLOCK);

    let source = Source::new(memory, honest);
    let resumed = Checked::resume(&source, Hash::Sha512, cursor, &saved).unwrap();
    let expected = Hash::Sha512.digest(&[&source.memory.to_vec()]);
    assert_eq!(resumed.finish(&NEVER).unwrap(), Some(expected.clone()));
    assert_eq!(source.reads(), 5);
    let (end, saved) = resumed.state().unwrap();
    assert_eq!(end, source.len());
    let whole = Checked::resume(&source, Hash::Sha512, end, &saved).unwrap();
    assert_eq!(whole.finish(&NEVER).unwrap(), Some(expected));
    assert_eq!(source.reads(), 5);

    for (hash, cursor, saved) in [
        (Hash::Sha256, cursor, &saved[..]),
        (Hash::Sha512, cursor + 1, &saved),
        (Hash::Sha512, 8 * BLOCK, &saved),
        (Hash::Sha512, cursor, b"nonsense"),
    ] {
        let error = Checked::resume(&source.memory, hash, cursor, saved).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(Checked::new(&source, Hash::Sha384).unwrap().state().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_order_of_reads_and_interruptions_gives_the_same_digest(
        written in prop::collection::vec((0_u64..30 * BLOCK, 1_usize..3 << 20), 0..6),
        steps in prop::collection::vec((0_u64..30 * BLOCK, 0_usize..2 << 20, 0_u8..10), 0..60),
    ) {
        let memory = Memory::new(30 * BLOCK + 4321);
        for (offset, length) in written {
            let length = length.min((memory.len() - offset) as usize);
            memory.write_at(&vec![offset as u8 | 1; length], offset).unwrap();
        }
        let mut disk = Checked::new(&memory, Hash::Sha256).unwrap();
        for (offset, length, act) in steps {
            let end = (offset + length as u64).min(memory.len());
            match act {
                0 => {
                    let (cursor, saved) = disk.state().unwrap();
                    disk = Checked::resume(&memory, Hash::Sha256, cursor, &saved).unwrap();
                }
                1 => {
                    let extent = disk.extent_at(offset).unwrap();
                    if extent.kind.reads_as_zeros() {
                        let end = extent.range.end.min(offset + BLOCK);
                        let bytes = read(&memory, offset..end).unwrap();
                        prop_assert!(bytes.iter().all(|&byte| byte == 0));
                    }
                }
                _ => {
                    let (found, expected) =
                        (read(&disk, offset..end), read(&memory, offset..end));
                    prop_assert!(found.unwrap() == expected.unwrap());
                }
            }
        }
        prop_assert_eq!(disk.finish(&NEVER).unwrap(), Some(digest_of(&memory)));
    }
}

#[test]
fn what_was_read_before_must_be_the_same_when_it_is_read_after_a_resumption() {
    let source = Memory::new(40 * BLOCK);
    for number in 0..40 {
        source.write_at(&vec![number as u8 + 1; BLOCK as usize], number * BLOCK).unwrap();
    }
    let disk = Checked::new(&source, Hash::Sha256).unwrap();
    for number in (0..20).chain([30]) {
        read(&disk, number * BLOCK..number * BLOCK + 10).unwrap();
    }
    let (cursor, saved) = disk.state().unwrap();
    for number in [0, 19, 30] {
        let changed = Memory::from(&source.to_vec()[..]);
        changed.write_at(&[0xEE; 8], number * BLOCK).unwrap();
        let resumed = Checked::resume(&changed, Hash::Sha256, cursor, &saved).unwrap();
        let error = read(&resumed, number * BLOCK..number * BLOCK + 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed, "{number}");
    }
    let resumed = Checked::resume(&source, Hash::Sha256, cursor, &saved).unwrap();
    assert_eq!(read(&resumed, 0..BLOCK).unwrap(), read(&source, 0..BLOCK).unwrap());
    assert_eq!(resumed.finish(&NEVER).unwrap(), Some(digest_of(&source)));
}
