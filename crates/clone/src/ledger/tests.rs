use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};
use strongroom_disk::{Encrypted, ErrorKind, Extent, ExtentKind, Memory};
use strongroom_testkit::{Fault, FaultyDisk, Pattern};

use super::*;
use crate::{Progress, Zeroes, run};

fn plan(threads: usize, zeroes: Zeroes, chunk: usize) -> Plan {
    Plan::new(NonZeroUsize::new(threads).unwrap(), zeroes)
        .with_chunk_size(NonZeroUsize::new(chunk).unwrap())
}

fn source(len: u64) -> Memory {
    let disk = Memory::new(len);
    Pattern::sparse(7, 40_000).write_to(&disk).unwrap();
    disk
}

fn never() -> &'static AtomicBool {
    static NEVER: AtomicBool = AtomicBool::new(false);
    &NEVER
}

/// Remembers where to go on, and can fail to.
struct Record {
    offset: AtomicU64,
    calls: AtomicU64,
    /// The call that fails, counted from zero.
    fails: u64,
}

impl Record {
    fn from(start: u64) -> Self {
        Self { offset: AtomicU64::new(start), calls: AtomicU64::new(0), fails: u64::MAX }
    }

    fn failing(ordinal: u64) -> Self {
        Self { fails: ordinal, ..Self::from(0) }
    }

    fn offset(&self) -> u64 {
        self.offset.load(Ordering::SeqCst)
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Checkpoints for Record {
    fn durable(&self, offset: u64) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.fails {
            return Err("the journal is full".into());
        }
        let before = self.offset.swap(offset, Ordering::SeqCst);
        assert!(before < offset, "{offset} after {before}");
        Ok(())
    }
}

/// A source and a target without contents, as large as wanted: data and holes in turn. Knows what
/// was written and what is durable.
struct Endless<'a> {
    len: u64,
    data: u64,
    hole: u64,
    /// How much data may be ahead of what is durable.
    limit: u64,
    record: &'a Record,
    written: AtomicU64,
    flushes: AtomicU64,
    /// What happens in a flush: it gets its ordinal.
    on_flush: fn(&Self, u64) -> strongroom_disk::Result<()>,
}

impl<'a> Endless<'a> {
    fn new(len: u64, data: u64, hole: u64, record: &'a Record) -> Self {
        let (written, flushes) = (AtomicU64::new(0), AtomicU64::new(0));
        // A while, in which the others come as far as they can.
        let on_flush = |_: &Self, _| {
            thread::sleep(Duration::from_millis(10));
            Ok(())
        };
        Self { len, data, hole, limit: MOST_AHEAD, record, written, flushes, on_flush }
    }

    /// Returns how much data lies below an offset.
    fn data_below(&self, offset: u64) -> u64 {
        let period = self.data + self.hole;
        offset / period * self.data + (offset % period).min(self.data)
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }
}

impl Disk for Endless<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn label(&self) -> &str {
        "endless"
    }

    fn read_at(&self, buf: &mut [u8], _offset: u64) -> strongroom_disk::Result<()> {
        // Enough for a search for zeros.
        buf.iter_mut().step_by(32 << 10).for_each(|byte| *byte = 1);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> strongroom_disk::Result<()> {
        let durable = self.data_below(self.record.offset());
        let ahead = self.data_below(offset + buf.len() as u64) - durable;
        assert!(ahead <= self.limit, "{ahead} bytes of data would be lost");
        self.written.fetch_add(buf.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> strongroom_disk::Result<Extent> {
        let period = self.data + self.hole;
        let begin = offset / period * period;
        let (end, kind) = match offset % period < self.data {
            true => (begin + self.data, ExtentKind::Data),
            false => (begin + period, ExtentKind::Unallocated),
        };
        Ok(Extent { range: offset..end.min(self.len), kind })
    }

    fn discard(&self, _range: Range<u64>) -> strongroom_disk::Result<()> {
        unreachable!("nothing is discarded")
    }

    fn write_zeroes(&self, _range: Range<u64>) -> strongroom_disk::Result<()> {
        unreachable!("nothing is zeroed")
    }

    fn flush(&self) -> strongroom_disk::Result<()> {
        (self.on_flush)(self, self.flushes.fetch_add(1, Ordering::SeqCst))
    }
}

/// Waits for something that another thread does, and fails when it never happens.
fn wait_until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never happens");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_more_than_64_mib_are_ever_ahead_of_what_is_durable() {
    for (threads, chunk) in [(1, 1 << 20), (3, 1 << 20), (4, 5 << 20), (2, 40 << 20)] {
        for (zeroes, parts, hole) in [(Zeroes::Write, 1, 0), (Zeroes::Skip, 256, 1 << 30)] {
            let record = Record::from(0);
            let data = (256 << 20) / parts;
            let disk = Endless::new(parts * (data + hole), data, hole, &record);
            let pass = Pass::new(plan(threads, zeroes, chunk), &(), never());
            run(&disk, &disk, &pass.with_resumption(0, &record)).unwrap();
            assert_eq!((record.offset(), disk.written()), (disk.len, 256 << 20));
            // Not much more often than needed either.
            assert!((4..=12).contains(&record.calls()), "{}", record.calls());
        }
    }
}

#[test]
fn a_chunk_that_is_larger_than_the_limit_goes_alone() {
    let record = Record::from(0);
    let mut disk = Endless::new(350 << 20, 350 << 20, 0, &record);
    disk.limit = 100 << 20;
    let pass = Pass::new(plan(3, Zeroes::Write, 100 << 20), &(), never());
    run(&disk, &disk, &pass.with_resumption(0, &record)).unwrap();
    assert_eq!((record.offset(), record.calls()), (350 << 20, 4));
}

#[test]
fn holes_alone_need_no_checkpoint_but_count_in_the_next_one() {
    let record = Record::from(0);
    let disk = Endless::new(1 << 50, 4096, (1 << 40) - 4096, &record);
    let pass = Pass::new(plan(2, Zeroes::Skip, 65536), &(), never());
    run(&disk, &disk, &pass.with_resumption(0, &record)).unwrap();
    assert_eq!((disk.flushes(), record.calls(), record.offset()), (1, 1, 1 << 50));
}

#[test]
fn the_others_work_on_while_one_makes_a_checkpoint() {
    let record = Record::from(0);
    let mut disk = Endless::new(200 << 20, 200 << 20, 0, &record);
    disk.on_flush = |disk, ordinal| {
        let before = disk.written();
        if ordinal == 0 {
            wait_until(|| disk.written() > before);
        }
        Ok(())
    };
    let pass = Pass::new(plan(2, Zeroes::Write, 1 << 20), &(), never());
    run(&disk, &disk, &pass.with_resumption(0, &record)).unwrap();
}

#[test]
fn after_a_flush_that_failed_nothing_is_called_durable() {
    let record = Record::from(0);
    let mut disk = Endless::new(1 << 30, 1 << 30, 0, &record);
    disk.on_flush = |_, ordinal| match ordinal {
        1 => Err(strongroom_disk::Error::new(
            ErrorKind::Other,
            strongroom_disk::Operation::Flush,
            "endless",
        )),
        _ => Ok(()),
    };
    let pass = Pass::new(plan(3, Zeroes::Write, 1 << 20), &(), never());
    let result = run(&disk, &disk, &pass.with_resumption(0, &record));
    assert!(matches!(result, Err(Error::Disk(_))), "{result:?}");
    assert_eq!((disk.flushes(), record.calls()), (2, 1));
    assert!((32 << 20..=64 << 20).contains(&record.offset()), "{}", record.offset());
}

#[test]
fn a_checkpoint_that_cannot_be_recorded_ends_the_pass() {
    for threads in [1, 3] {
        let record = Record::failing(1);
        let disk = Endless::new(1 << 30, 1 << 30, 0, &record);
        let pass = Pass::new(plan(threads, Zeroes::Write, 1 << 20), &(), never());
        let error = run(&disk, &disk, &pass.with_resumption(0, &record)).unwrap_err();
        assert_eq!(record.calls(), 2);
        let Error::Checkpoint { offset, .. } = error else { unreachable!("{error:?}") };
        assert_eq!(
            error.to_string(),
            format!("cannot record that the first {offset} bytes of endless are done")
        );
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "the journal is full");
        assert!(disk.written() <= 128 << 20);
    }
}

/// Cancels once it has seen so many bytes, and counts them.
struct CancelAfter {
    bytes: AtomicU64,
    limit: u64,
    cancelled: AtomicBool,
}

impl CancelAfter {
    fn new(limit: u64) -> Self {
        Self { bytes: AtomicU64::new(0), limit, cancelled: AtomicBool::new(false) }
    }
}

impl Progress for CancelAfter {
    fn advance(&self, bytes: u64) {
        if self.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes >= self.limit {
            self.cancelled.store(true, Ordering::SeqCst);
        }
    }
}

#[test]
fn cancelling_loses_nothing_that_was_done() {
    for threads in [1, 3] {
        let (record, progress) = (Record::from(0), CancelAfter::new(10 << 20));
        let disk = Endless::new(1 << 30, 1 << 30, 0, &record);
        let pass = Pass::new(plan(threads, Zeroes::Write, 1 << 20), &progress, &progress.cancelled);
        let result = run(&disk, &disk, &pass.with_resumption(0, &record));
        assert!(matches!(result, Err(Error::Cancelled)));
        assert_eq!((record.calls(), disk.flushes()), (1, 1));
        assert_eq!(record.offset(), disk.written());
    }
}

#[test]
fn cancelling_tells_when_the_last_checkpoint_fails() {
    let (record, progress) = (Record::failing(0), CancelAfter::new(1 << 20));
    let disk = Endless::new(1 << 30, 1 << 30, 0, &record);
    let pass = Pass::new(plan(2, Zeroes::Write, 1 << 20), &progress, &progress.cancelled);
    let result = run(&disk, &disk, &pass.with_resumption(0, &record));
    assert!(matches!(result, Err(Error::Checkpoint { .. })), "{result:?}");
}

#[test]
fn a_start_behind_the_end_is_refused_and_the_text_names_both() {
    let record = Record::from(5001);
    let pass = Pass::new(plan(1, Zeroes::Write, 4096), &(), never());
    let pass = pass.with_resumption(5001, &record);
    let error = run(&source(5000), &Memory::new(5000), &pass).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot go on at offset 5001 of memory, which has only 5000 bytes"
    );
}

#[test]
fn what_is_done_already_is_not_looked_at_again() {
    for start in [0, 4096, 5000, 299_999, 300_000] {
        let (record, progress) = (Record::from(start), AtomicU64::new(0));
        let target = Memory::new(300_000);
        let pass = Pass::new(plan(2, Zeroes::Skip, 8192), &progress, never());
        let report = run(&source(300_000), &target, &pass.with_resumption(start, &record)).unwrap();
        let begin = start / 4096 * 4096;
        assert_eq!(report.resumed_bytes, begin);
        assert_eq!(report.resumed_bytes + report.data_bytes + report.zero_bytes, 300_000);
        assert_eq!(progress.into_inner(), 300_000);
        assert_eq!(record.offset(), 300_000);
        let (found, expected, begin) = (target.to_vec(), source(300_000).to_vec(), begin as usize);
        assert!(found[begin..] == expected[begin..]);
        assert!(found[..begin].iter().all(|&byte| byte == 0));
    }
}

/// Completes a copy from where another pass stopped.
fn finish(source: &dyn Disk, target: &dyn Disk, start: u64, zeroes: Zeroes) {
    let record = Record::from(start);
    let pass = Pass::new(plan(2, zeroes, 16384), &(), never());
    run(source, target, &pass.with_resumption(start, &record)).unwrap();
}

#[test]
fn after_an_error_anywhere_another_pass_goes_on() {
    let len = 500_000;
    let whole = source(len).to_vec();
    for zeroes in [Zeroes::Write, Zeroes::Skip] {
        for ordinal in 0.. {
            let (target, record) = (Memory::new(len), Record::from(0));
            // Whichever comes to its fault first ends the pass.
            let faulty_target = FaultyDisk::new(&target, Fault::NoSpace, ordinal);
            let faulty_source = FaultyDisk::new(source(len), Fault::ShortRead, ordinal + 3);
            let pass = Pass::new(plan(1 + ordinal as usize % 3, zeroes, 16384), &(), never());
            let result = run(&faulty_source, &faulty_target, &pass.with_resumption(0, &record));
            if result.is_ok() {
                assert!(ordinal > 10);
                break;
            }
            assert!(
                target.to_vec()[..record.offset() as usize] == whole[..record.offset() as usize]
            );
            finish(&source(len), &target, record.offset(), zeroes);
            assert!(target.to_vec() == whole, "{zeroes:?} {ordinal}");
        }
    }
}

#[test]
fn an_error_of_the_source_loses_nothing_that_was_done() {
    let (target, record) = (Memory::new(1 << 20), Record::from(0));
    Pattern::dense(3).write_to(&target).unwrap();
    let source = FaultyDisk::new(target.clone(), Fault::Io, 20);
    let pass = Pass::new(plan(1, Zeroes::Write, 16384), &(), never());
    let error = run(&source, &target, &pass.with_resumption(0, &record)).unwrap_err();
    assert!(matches!(error, Error::Disk(_)));
    // One look for the extent, nineteen chunks that were read.
    assert_eq!(record.offset(), 19 * 16384);
}

/// A disk of which a loss of power leaves what was there at the last flush.
struct Volatile {
    current: Memory,
    durable: Mutex<Memory>,
    written: AtomicU64,
    crashes: Mutex<Vec<(u64, Memory)>>,
}

/// Where a write is slow, so that others overtake it.
const SLOW: u64 = 10 << 20;

impl Disk for Volatile {
    fn len(&self) -> u64 {
        self.current.len()
    }

    fn label(&self) -> &str {
        "volatile"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> strongroom_disk::Result<()> {
        self.current.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> strongroom_disk::Result<()> {
        if offset == SLOW {
            wait_until(|| self.written.load(Ordering::SeqCst) > 45 << 20);
        }
        self.written.fetch_add(buf.len() as u64, Ordering::SeqCst);
        self.current.write_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> strongroom_disk::Result<Extent> {
        self.current.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> strongroom_disk::Result<()> {
        self.current.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> strongroom_disk::Result<()> {
        self.current.write_zeroes(range)
    }

    fn flush(&self) -> strongroom_disk::Result<()> {
        *self.durable.lock().unwrap() = self.current.clone();
        Ok(())
    }
}

impl Checkpoints for Volatile {
    fn durable(&self, offset: u64) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let left = self.durable.lock().unwrap().clone();
        self.crashes.lock().unwrap().push((offset, left));
        Ok(())
    }
}

#[test]
fn what_a_loss_of_power_leaves_can_be_completed() {
    let source = Memory::new(100 << 20);
    Pattern::dense(5).write_to(&source).unwrap();
    let empty = Memory::new(100 << 20);
    let disk = Volatile {
        durable: Mutex::new(empty.clone()),
        current: empty,
        written: AtomicU64::new(0),
        crashes: Mutex::default(),
    };
    let pass = Pass::new(plan(3, Zeroes::Write, 1 << 20), &(), never());
    run(&source, &disk, &pass.with_resumption(0, &disk)).unwrap();
    let crashes = disk.crashes.into_inner().unwrap();
    assert!((2..=4).contains(&crashes.len()), "{}", crashes.len());
    for (offset, target) in crashes {
        finish(&source, &target, offset, Zeroes::Write);
        assert!(target.to_vec() == source.to_vec(), "{offset}");
    }
}

fn cipher() -> SectorCipher {
    let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
    let key = VolumeKey::new((0..64).collect());
    SectorCipher::new(encryption, &key, SectorSize::B4096, IvUnit::Bytes512).unwrap()
}

fn any_plan(zeroes: Zeroes) -> impl Strategy<Value = Plan> {
    (1..5_usize, 1..100_000_usize, 0..6_u32).prop_map(move |(threads, chunk, shift)| {
        plan(threads, zeroes, chunk).with_alignment(NonZeroUsize::new(4096 << shift).unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_pass_that_was_cancelled_any_number_of_times_gives_the_same_target(
        seed in any::<u64>(),
        blocks in 0..200_u64,
        rest in 0..4096_u64,
        plans in prop::collection::vec((any_plan(Zeroes::Write), 1..400_000_u64), 0..6),
        encrypted in any::<bool>(),
    ) {
        let len = blocks * 4096 + if encrypted { 0 } else { rest };
        let source = Memory::new(len);
        Pattern::sparse(seed, 30_000).write_to(&source).unwrap();
        let below = Memory::new(len);
        let (target, zeroes): (Box<dyn Disk>, _) = match encrypted {
            true => (Box::new(Encrypted::new(&below, 0..len, cipher(), 0).unwrap()), Zeroes::Write),
            false => (Box::new(&below), Zeroes::Skip),
        };
        let record = Record::from(0);
        for (mut plan, limit) in plans {
            plan.zeroes = zeroes;
            let start = record.offset();
            let progress = CancelAfter::new(start + limit);
            let pass = Pass::new(plan, &progress, &progress.cancelled);
            let result = run(&source, &target, &pass.with_resumption(start, &record));
            let done = progress.bytes.into_inner();
            match result {
                Ok(report) => {
                    prop_assert_eq!(report.bytes, len);
                    prop_assert_eq!(done, len);
                }
                Err(error) => prop_assert!(matches!(error, Error::Cancelled), "{error:?}"),
            }
            // Nothing that was done is forgotten.
            prop_assert!(record.offset() >= done, "{} of {done}", record.offset());
        }
        finish(&source, &target, record.offset(), zeroes);
        let mut expected = source.to_vec();
        if encrypted {
            cipher().encrypt(&mut expected, 0);
        }
        prop_assert!(below.to_vec() == expected);
    }
}

#[test]
fn a_rate_limit_holds_and_holes_are_free() {
    let mut plan = plan(3, Zeroes::Skip, 8192);
    plan.rate_limit = NonZeroU64::new(1_000_000);
    let source = Memory::new(1 << 40);
    source.write_at(&[1; 300_000], 1 << 39).unwrap();
    let begin = Instant::now();
    run(&source, &Memory::new(1 << 40), &Pass::new(plan, &(), never())).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
}

#[test]
fn who_waits_for_the_rate_notices_that_the_work_was_cancelled() {
    let mut plan = plan(2, Zeroes::Write, 4096);
    // More than an hour for each chunk.
    plan.rate_limit = Some(NonZeroU64::MIN);
    let cancelled = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            cancelled.store(true, Ordering::SeqCst);
        });
        run(&source(100_000), &Memory::new(100_000), &Pass::new(plan, &(), &cancelled))
    });
    assert!(matches!(result, Err(Error::Cancelled)));
}

#[test]
fn who_waits_for_the_rate_notices_that_another_one_failed() {
    let mut plan = plan(2, Zeroes::Skip, 4096);
    plan.rate_limit = Some(NonZeroU64::MIN);
    let source = Memory::new(8192);
    source.write_at(&[1; 4096], 0).unwrap();
    // One thread waits until it may read the first block; the other one looks for what follows.
    let source = FaultyDisk::new(source, Fault::Io, 1);
    let result = run(&source, &Memory::new(8192), &Pass::new(plan, &(), never()));
    assert!(matches!(result, Err(Error::Disk(_))), "{result:?}");
}
