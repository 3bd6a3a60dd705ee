//! What every disk must do, as a suite that each implementation runs in its tests.

use std::ops::Range;

use crate::{Disk, Error, ErrorKind, Extents, Operation};

/// Makes a new, writable disk of so many bytes that hold anything.
pub type Make<'a> = &'a dyn Fn(u64) -> Box<dyn Disk>;

/// Checks disks of several lengths, all of them multiples of `granularity`.
///
/// # Panics
///
/// When a disk breaks the contract of [`Disk`]; the message says which part of it.
pub fn run(granularity: u64, make: Make<'_>) {
    for length in [1, 3, 41, 300] {
        let len = length * granularity;
        check(len, make);
    }
    // Long enough for whatever an implementation does in pieces.
    check((3 << 20) / granularity * granularity + granularity, make);
}

fn check(len: u64, make: Make<'_>) {
    has_the_length_asked_for(&*make(len), len);
    reads_what_was_written(&*make(len));
    scratch_writes_like_any_other(&*make(len));
    agrees_with_a_vector_over_random_operations(&*make(len));
    zeroed_ranges_read_as_zeros(&*make(len));
    discards_or_refuses(&*make(len));
    extents_cover_every_range_and_never_hide_data(&*make(len));
    refuses_what_is_past_the_end(&*make(len));
    accepts_nothing_at_the_end(&*make(len));
    neighbours_written_at_once_do_not_disturb_each_other(&*make(len));
}

fn has_the_length_asked_for(disk: &dyn Disk, len: u64) {
    assert_eq!(disk.len(), len, "the length is not the one asked for");
    assert_eq!(disk.is_empty(), len == 0, "is_empty contradicts len");
    assert!(!disk.label().is_empty(), "the disk has no label");
}

fn reads_what_was_written(disk: &dyn Disk) {
    let content = fill(disk, 1);
    for range in ranges(disk.len()) {
        assert_eq!(read(disk, &range), content[at(&range)], "read of {range:?} differs");
    }
    ok(disk.flush());
    assert_eq!(read(disk, &(0..disk.len())), content, "flushing changed the content");
}

fn scratch_writes_like_any_other(disk: &dyn Disk) {
    let mut content = fill(disk, 2);
    let mut random = Random(3);
    for range in ranges(disk.len()) {
        let bytes = random.bytes(range.end - range.start);
        ok(disk.write_scratch_at(&mut bytes.clone(), range.start));
        content[at(&range)].copy_from_slice(&bytes);
        assert_eq!(read(disk, &range), bytes, "scratch write of {range:?} reads back different");
    }
    assert_eq!(read(disk, &(0..disk.len())), content, "a scratch write changed its neighbours");
}

fn agrees_with_a_vector_over_random_operations(disk: &dyn Disk) {
    let mut content = fill(disk, 4);
    let mut random = Random(5);
    for step in 0..200 {
        let range = random.range(disk.len());
        let bytes = random.bytes(range.end - range.start);
        match random.next() % 4 {
            0 => {
                ok(disk.write_zeroes(range.clone()));
                content[at(&range)].fill(0);
            }
            1 => {
                ok(disk.write_scratch_at(&mut bytes.clone(), range.start));
                content[at(&range)].copy_from_slice(&bytes);
            }
            _ => {
                ok(disk.write_at(&bytes, range.start));
                content[at(&range)].copy_from_slice(&bytes);
            }
        }
        if step % 100 == 50 {
            ok(disk.flush());
        }
        let looked_at = random.range(disk.len());
        let same = read(disk, &looked_at) == content[at(&looked_at)];
        assert!(same, "after step {step} the read of {looked_at:?} differs");
    }
    assert!(read(disk, &(0..disk.len())) == content, "at the end the content differs");
}

fn zeroed_ranges_read_as_zeros(disk: &dyn Disk) {
    let content = fill(disk, 6);
    for range in ranges(disk.len()) {
        ok(disk.write_zeroes(range.clone()));
        assert!(read(disk, &range).iter().all(|&byte| byte == 0), "{range:?} is not zero");
        surroundings_are(disk, &range, &content);
        ok(disk.write_at(&content[at(&range)], range.start));
    }
    assert!(read(disk, &(0..disk.len())) == content, "zeroing ranges changed others");
}

fn discards_or_refuses(disk: &dyn Disk) {
    let content = fill(disk, 7);
    for range in ranges(disk.len()) {
        // What was discarded may read as anything, so it is not looked at.
        if let Err(error) = disk.discard(range.clone()) {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "discard fails with {error}");
            assert!(read(disk, &range) == content[at(&range)], "a refused discard changed bytes");
        }
        surroundings_are(disk, &range, &content);
        ok(disk.write_at(&content[at(&range)], range.start));
    }
    assert!(read(disk, &(0..disk.len())) == content, "discarding ranges changed others");
}

/// Checks a few sectors before and behind a range.
fn surroundings_are(disk: &dyn Disk, range: &Range<u64>, content: &[u8]) {
    let before = range.start.saturating_sub(9000)..range.start;
    let behind = range.end..(range.end + 9000).min(disk.len());
    for around in [before, behind] {
        let same = read(disk, &around) == content[at(&around)];
        assert!(same, "what was done to {range:?} changed something in {around:?}");
    }
}

fn extents_cover_every_range_and_never_hide_data(disk: &dyn Disk) {
    let content = fill(disk, 8);
    check_extents(disk, &content);
    let mut content = content;
    // Holes, where the disk has them, and data again inside of them.
    let (third, two_thirds) = (disk.len() / 3, disk.len() / 3 * 2);
    ok(disk.write_zeroes(third..two_thirds));
    content[at(&(third..two_thirds))].fill(0);
    check_extents(disk, &content);
    let middle = disk.len() / 2;
    ok(disk.write_at(&[1], middle));
    content[at(&(middle..middle + 1))].fill(1);
    check_extents(disk, &content);
}

fn check_extents(disk: &dyn Disk, content: &[u8]) {
    for range in ranges(disk.len()) {
        let mut next = range.start;
        let mut previous = None;
        for extent in Extents::new(disk, range.clone()) {
            let extent = ok(extent);
            assert_eq!(extent.range.start, next, "extents of {range:?} have a gap or overlap");
            assert!(!extent.range.is_empty(), "an extent of {range:?} is empty");
            assert_ne!(Some(extent.kind), previous, "extents of {range:?} were not joined");
            if extent.kind.reads_as_zeros() {
                let zeros = content[at(&extent.range)].iter().all(|&byte| byte == 0);
                assert!(zeros, "the extent {extent:?} hides data");
            }
            next = extent.range.end;
            previous = Some(extent.kind);
        }
        assert_eq!(next, range.end, "extents do not cover {range:?}");
        let first = ok(disk.extent_at(range.start));
        assert_eq!(first.range.start, range.start, "an extent does not begin where asked");
        assert!(!first.range.is_empty() && first.range.end <= disk.len(), "a bad extent");
    }
}

fn refuses_what_is_past_the_end(disk: &dyn Disk) {
    let content = fill(disk, 9);
    let len = disk.len();
    for (offset, length) in
        [(len, 1), (len - 1, 2), (0, len + 1), (len + 1, 0), (u64::MAX, 1), (u64::MAX - 1, 512)]
    {
        let end = offset.saturating_add(length);
        let mut buf = vec![7; length as usize];
        refused(Operation::Read, disk.read_at(&mut buf, offset), offset);
        refused(Operation::Write, disk.write_at(&buf, offset), offset);
        refused(Operation::Write, disk.write_scratch_at(&mut buf, offset), offset);
        if end - offset == length {
            refused(Operation::Discard, disk.discard(offset..end), offset);
            refused(Operation::WriteZeroes, disk.write_zeroes(offset..end), offset);
        }
    }
    for offset in [len, len + 1, u64::MAX] {
        refused(Operation::FindExtent, disk.extent_at(offset).map(drop), offset);
    }
    assert_eq!(read(disk, &(0..len)), content, "a refused operation changed the content");
}

fn refused(operation: Operation, result: Result<(), Error>, offset: u64) {
    let kind = result.err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::PastEnd), "it let {operation} past the end, at {offset}");
}

fn accepts_nothing_at_the_end(disk: &dyn Disk) {
    let len = disk.len();
    ok(disk.read_at(&mut [], len));
    ok(disk.write_at(&[], len));
    ok(disk.write_scratch_at(&mut [], len));
    ok(disk.write_zeroes(len..len));
    assert_eq!(Extents::new(disk, len..len).count(), 0, "nothing has extents");
}

/// Several threads write pieces of odd sizes that share sectors; each sees its own at any time.
fn neighbours_written_at_once_do_not_disturb_each_other(disk: &dyn Disk) {
    fill(disk, 10);
    let piece = (disk.len() / 64).clamp(1, 700);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for round in 0..6 {
                    let byte = (thread * 16 + round) as u8;
                    let starts = (0..disk.len()).step_by(piece as usize).take(128);
                    let mine = starts.skip(thread).step_by(THREADS);
                    for start in mine {
                        let length = piece.min(disk.len() - start) as usize;
                        match round % 2 {
                            0 => ok(disk.write_at(&vec![byte; length], start)),
                            _ => ok(disk.write_scratch_at(&mut vec![byte; length], start)),
                        }
                        let found = read(disk, &(start..start + length as u64));
                        let same = found.iter().all(|&found| found == byte);
                        assert!(same, "another thread's write disturbed the one at {start}");
                    }
                }
            });
        }
    });
}

/// Fills the whole disk with bytes that are never zero.
fn fill(disk: &dyn Disk, seed: u64) -> Vec<u8> {
    let content = Random(seed).bytes(disk.len());
    ok(disk.write_at(&content, 0));
    content
}

fn read(disk: &dyn Disk, range: &Range<u64>) -> Vec<u8> {
    let mut buf = vec![0xee; (range.end - range.start) as usize];
    ok(disk.read_at(&mut buf, range.start));
    buf
}

fn ok<T>(result: Result<T, Error>) -> T {
    result.expect("the operation is within the disk")
}

/// The range as a range of a vector.
fn at(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Ranges that begin and end at, before and behind borders of sectors, none of them empty.
fn ranges(len: u64) -> impl Iterator<Item = Range<u64>> {
    let starts = [0, 1, 511, 512, 513, 4095, 4096, 4097, (1 << 20) - 3, (1 << 20) + 4096];
    let lengths = [1, 13, 512, 513, 4096, 8192, 70_000, u64::MAX];
    starts
        .into_iter()
        .filter(move |&start| start < len)
        .flat_map(move |start| lengths.map(|length| start..start.saturating_add(length).min(len)))
}

/// Numbers that look random and are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    fn range(&mut self, len: u64) -> Range<u64> {
        let start = self.next() % len;
        let longest = (len - start).min(20_000);
        start..start + 1 + self.next() % longest
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| (self.next() % 255) as u8 + 1).collect()
    }
}

const THREADS: usize = 4;
