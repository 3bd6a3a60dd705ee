use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};
use strongroom_disk::{Disk, Encrypted, ErrorKind as DiskErrorKind, Memory};
use strongroom_testkit::{Change, Fault, FaultyDisk, Pattern, RecordingDisk};

use super::*;
use crate::{Checkpoints, Zeroes};

fn plan(threads: usize, zeroes: Zeroes, chunk: usize) -> Plan {
    Plan::new(NonZeroUsize::new(threads).unwrap(), zeroes)
        .with_chunk_size(NonZeroUsize::new(chunk).unwrap())
}

fn bytes(len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    Pattern::sparse(7, 40_000).fill(&mut bytes, 0);
    bytes
}

fn never() -> &'static AtomicBool {
    static NEVER: AtomicBool = AtomicBool::new(false);
    &NEVER
}

/// Gives a few bytes at a time, and is interrupted now and then.
struct Choppy<'a> {
    bytes: &'a [u8],
    calls: usize,
}

impl Read for Choppy<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(ErrorKind::Interrupted.into());
        }
        let length = (self.calls * 7919 % 9973).max(1).min(buf.len());
        self.bytes.read(&mut buf[..length])
    }
}

/// Calls a function for each read.
struct Calls<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for Calls<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (self.0)(buf)
    }
}

fn pour_whole(
    stream: &mut (dyn Read + Send),
    target: &dyn Resizable,
    plan: Plan,
) -> Result<Report, Error> {
    let progress = AtomicU64::new(0);
    let report = pour(stream, target, NonZeroU64::MIN, &Pass::new(plan, &progress, never()))?;
    assert_eq!(progress.into_inner(), report.bytes);
    assert_eq!(report.resumed_bytes + report.data_bytes + report.zero_bytes, report.bytes);
    Ok(report)
}

#[test]
fn streams_of_any_length_arrive_whole_and_in_order() {
    for len in [0, 1, 511, 4095, 4096, 4097, 65536, 300_000, 2_000_001] {
        let bytes = bytes(len);
        for (threads, chunk) in [(1, 4096), (2, 65536), (5, 12_288), (3, 4 << 20)] {
            for zeroes in [Zeroes::Write, Zeroes::Skip] {
                let plan = plan(threads, zeroes, chunk);
                let mut streams: [Box<dyn Read + Send>; 2] =
                    [Box::new(&bytes[..]), Box::new(Choppy { bytes: &bytes, calls: 0 })];
                for stream in &mut streams {
                    let target = Memory::new(0);
                    assert_eq!(pour_whole(stream, &target, plan).unwrap().bytes, len);
                    assert!(target.to_vec() == bytes, "{len} {threads} {chunk} {zeroes:?}");
                }
            }
        }
    }
}

#[test]
fn whatever_the_target_held_is_gone() {
    for len in [0, 100_001] {
        for zeroes in [Zeroes::Write, Zeroes::Skip] {
            let target = Memory::from(&[0xaa; 300_000][..]);
            pour_whole(&mut &bytes(len)[..], &target, plan(2, zeroes, 8192)).unwrap();
            assert!(target.to_vec() == bytes(len), "{len} {zeroes:?}");
        }
    }
}

#[test]
fn runs_of_zeros_become_holes() {
    let mut bytes = vec![0; 10 << 20];
    bytes[5 << 20] = 1;
    let target = Memory::new(0);
    let report = pour_whole(&mut &bytes[..], &target, plan(2, Zeroes::Skip, 1 << 20)).unwrap();
    assert_eq!((report.data_bytes, target.allocated()), (32768, 32768));
    let wide = plan(2, Zeroes::Skip, 1 << 20).with_alignment(NonZeroUsize::new(65536).unwrap());
    let target = Memory::new(0);
    assert_eq!(pour_whole(&mut &bytes[..], &target, wide).unwrap().data_bytes, 65536);
    assert!(target.to_vec() == bytes);
}

#[test]
fn an_encrypted_target_holds_the_ciphertext_of_everything() {
    let cipher = || {
        let key = VolumeKey::new((0..64).collect());
        let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
        SectorCipher::new(encryption, &key, SectorSize::B4096, IvUnit::Bytes512).unwrap()
    };
    for len in [0, 4096, 1_003_520] {
        let below = Memory::new(5000);
        let target = Encrypted::new(&below, 5000..5000, cipher(), 0).unwrap();
        let pass = Pass::new(plan(3, Zeroes::Write, 16384), &(), never());
        let unit = NonZeroU64::new(4096).unwrap();
        pour(&mut &bytes(len)[..], &target, unit, &pass).unwrap();
        let mut expected = bytes(len);
        cipher().encrypt(&mut expected, 0);
        assert!(below.to_vec()[5000..] == expected);
    }
}

#[test]
fn the_target_grows_in_steps_and_is_durable_when_it_returns() {
    let target = RecordingDisk::new(Memory::new(0));
    // Zeros that are not written let the record stay small.
    let plan = plan(2, Zeroes::Skip, 1 << 20);
    pour_whole(&mut io::repeat(0).take((200 << 20) + 5), &target, plan).unwrap();
    let lengths = [64, 128, 192, 256].map(|mib| Change::SetLen(mib << 20));
    let end = [Change::SetLen((200 << 20) + 5), Change::Flush];
    assert_eq!(target.changes(), [&lengths[..], &end].concat());

    let target = RecordingDisk::new(Memory::new(0));
    pour_whole(&mut &bytes(100_000)[..], &target, plan).unwrap();
    let changes = target.changes();
    assert_eq!(changes[0], Change::SetLen(100_000));
    assert_eq!(changes.last(), Some(&Change::Flush));
    assert!(target.replay(changes.len()).to_vec() == bytes(100_000));
}

#[test]
fn the_steps_are_multiples_of_the_unit() {
    let target = RecordingDisk::new(Memory::new(0));
    let unit = NonZeroU64::new(4095).unwrap();
    let pass = Pass::new(plan(2, Zeroes::Skip, 1 << 20), &(), never());
    let len = (65 << 20) / 4095 * 4095;
    pour(&mut io::repeat(0).take(len), &target, unit, &pass).unwrap();
    let changes = target.changes();
    assert_eq!(changes.len(), 3);
    assert!(matches!(changes[0], Change::SetLen(len) if len.is_multiple_of(4095)));
    assert_eq!(changes[1], Change::SetLen(len));
}

#[test]
fn an_end_within_a_unit_is_refused_and_the_target_left_as_it_is() {
    let unit = NonZeroU64::new(512).unwrap();
    for len in [1, 511, 513, 100_001] {
        let target = RecordingDisk::new(Memory::new(0));
        let pass = Pass::new(plan(1, Zeroes::Write, 4096), &(), never());
        let error = pour(&mut &bytes(len)[..], &target, unit, &pass).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the stream ends after {len} bytes, which is no multiple of 512")
        );
        assert!(target.len() == 0 || target.len() == STEP, "{}", target.len());
    }
    for len in [0, 512, 8192, 100_352] {
        let pass = Pass::new(plan(2, Zeroes::Write, 4096), &(), never());
        assert_eq!(pour(&mut &bytes(len)[..], &Memory::new(0), unit, &pass).unwrap().bytes, len);
    }
}

#[test]
fn a_stream_that_fails_anywhere_ends_the_work_with_its_error() {
    let bytes = bytes(100_000);
    for threads in [1, 3] {
        for good in [0, 1, 4095, 4096, 50_000, 99_999, 100_000] {
            let rest = Calls(|_: &mut [u8]| Err(io::Error::other("the line is dead")));
            let target = Memory::new(0);
            let error = pour_whole(
                &mut bytes[..good].chain(rest),
                &target,
                plan(threads, Zeroes::Write, 4096),
            )
            .unwrap_err();
            assert_eq!(error.to_string(), format!("cannot read the stream at offset {good}"));
            let source = std::error::Error::source(&error).unwrap();
            assert_eq!(source.to_string(), "the line is dead");
        }
    }
}

#[test]
fn a_target_that_fails_anywhere_ends_the_work_with_its_error() {
    for (fault, kind) in
        [(Fault::NoSpace, DiskErrorKind::NoSpace), (Fault::Io, DiskErrorKind::Other)]
    {
        let counting = FaultyDisk::never(Memory::new(1), fault);
        pour_whole(&mut &bytes(300_000)[..], &counting, plan(1, Zeroes::Write, 16384)).unwrap();
        assert!(counting.operations() > 20);
        for ordinal in 0..counting.operations() {
            for threads in [1, 3] {
                let target = FaultyDisk::new(Memory::new(1), fault, ordinal);
                let plan = plan(threads, Zeroes::Write, 16384);
                match pour_whole(&mut &bytes(300_000)[..], &target, plan) {
                    Err(Error::Disk(error)) => assert_eq!(error.kind(), kind),
                    other => unreachable!("expected {kind:?}, found {other:?}"),
                }
            }
        }
    }
}

#[test]
fn after_an_error_of_the_target_a_stream_without_end_is_left() {
    let target = FaultyDisk::new(Memory::new(0), Fault::NoSpace, 3);
    let result = pour_whole(&mut io::repeat(1), &target, plan(2, Zeroes::Write, 65536));
    assert!(matches!(result, Err(Error::Disk(_))), "{result:?}");
}

#[test]
fn what_was_read_is_written_while_the_rest_is_waited_for() {
    let target = Memory::new(0);
    let mut calls = 0;
    let mut stream = Calls(|buf: &mut [u8]| {
        calls += 1;
        if calls > 3 {
            return Ok(0);
        }
        // A chunk for each call; the one before must get there without another one.
        let begin = Instant::now();
        let before = 65536 * (calls - 1);
        while target.allocated() < before {
            assert!(begin.elapsed() < Duration::from_secs(60), "{before} bytes never arrive");
            thread::sleep(Duration::from_millis(1));
        }
        buf.fill(1);
        Ok(buf.len())
    });
    pour_whole(&mut stream, &target, plan(1, Zeroes::Write, 65536)).unwrap();
    assert!(target.to_vec() == [1; 3 * 65536]);
}

#[test]
fn cancelling_stops_within_a_read() {
    for threads in [1, 3] {
        let (cancelled, mut calls) = (AtomicBool::new(false), 0);
        // Whoever is interrupted lets the pass look whether it was cancelled.
        let mut stream = Calls(|buf: &mut [u8]| {
            calls += 1;
            let length = buf.len().min(100);
            buf[..length].fill(1);
            cancelled.store(calls == 100, Ordering::SeqCst);
            match calls {
                0..100 => Ok(length),
                100 => Err(ErrorKind::Interrupted.into()),
                _ => unreachable!("it reads on"),
            }
        });
        let pass = Pass::new(plan(threads, Zeroes::Write, 4096), &(), &cancelled);
        let result = pour(&mut stream, &Memory::new(0), NonZeroU64::MIN, &pass);
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    }
}

#[test]
fn cancelled_before_it_began_it_changes_nothing() {
    let target = RecordingDisk::new(Memory::new(5000));
    let cancelled = AtomicBool::new(true);
    let pass = Pass::new(plan(2, Zeroes::Write, 4096), &(), &cancelled);
    let result = pour(&mut io::repeat(1), &target, NonZeroU64::MIN, &pass);
    assert!(matches!(result, Err(Error::Cancelled)));
    assert!(target.changes().is_empty());
}

/// Remembers where to go on.
struct Record(AtomicU64);

impl Checkpoints for Record {
    fn durable(&self, offset: u64) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        assert!(self.0.swap(offset, Ordering::SeqCst) < offset);
        Ok(())
    }
}

#[test]
fn a_start_behind_the_end_is_refused() {
    let record = Record(AtomicU64::new(0));
    let pass = Pass::new(plan(1, Zeroes::Write, 4096), &(), never());
    let pass = pass.with_resumption(4097, &record);
    let result = pour(&mut io::repeat(1), &Memory::new(4096), NonZeroU64::MIN, &pass);
    assert!(matches!(result, Err(Error::StartPastEnd { start: 4097, len: 4096, .. })));
}

/// A stream without contents goes to a target that keeps none, but looks how far ahead it is.
struct Sink {
    len: AtomicU64,
    record: Record,
    written: AtomicU64,
}

impl Disk for Sink {
    fn len(&self) -> u64 {
        self.len.load(Ordering::SeqCst)
    }

    fn label(&self) -> &str {
        "sink"
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> strongroom_disk::Result<()> {
        unreachable!("nothing is read")
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> strongroom_disk::Result<()> {
        let end = offset + buf.len() as u64;
        let ahead = end - self.record.0.load(Ordering::SeqCst);
        assert!(end <= self.len() && ahead <= 64 << 20, "{ahead} bytes would be lost");
        self.written.fetch_add(buf.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn extent_at(&self, _offset: u64) -> strongroom_disk::Result<Extent> {
        unreachable!("nobody looks for extents")
    }

    fn discard(&self, _range: Range<u64>) -> strongroom_disk::Result<()> {
        unreachable!("nothing is discarded")
    }

    fn write_zeroes(&self, _range: Range<u64>) -> strongroom_disk::Result<()> {
        unreachable!("nothing is zeroed")
    }

    fn flush(&self) -> strongroom_disk::Result<()> {
        thread::sleep(Duration::from_millis(10));
        Ok(())
    }
}

impl Resizable for Sink {
    fn set_len(&self, len: u64) -> strongroom_disk::Result<()> {
        self.len.store(len, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn no_more_than_64_mib_are_ever_ahead_of_what_is_durable() {
    for (threads, chunk) in [(1, 1 << 20), (3, 1 << 20), (2, 40 << 20)] {
        let (len, record) = (AtomicU64::new(0), Record(AtomicU64::new(0)));
        let sink = Sink { len, record, written: AtomicU64::new(0) };
        let pass = Pass::new(plan(threads, Zeroes::Write, chunk), &(), never());
        let pass = pass.with_resumption(0, &sink.record);
        pour(&mut io::repeat(1).take(300 << 20), &sink, NonZeroU64::MIN, &pass).unwrap();
        assert_eq!(sink.written.load(Ordering::SeqCst), 300 << 20);
        assert_eq!(sink.record.0.load(Ordering::SeqCst), 300 << 20);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_stream_that_broke_any_number_of_times_arrives_whole(
        len in 0..600_000_u64,
        skip in any::<bool>(),
        attempts in prop::collection::vec((1..5_usize, 1..70_000_usize, 1..200_000_usize), 0..6),
    ) {
        let zeroes = if skip { Zeroes::Skip } else { Zeroes::Write };
        let bytes = bytes(len);
        let (target, record) = (Memory::new(0), Record(AtomicU64::new(0)));
        let begin = || record.0.load(Ordering::SeqCst);
        for (threads, chunk, limit) in attempts {
            let rest = &bytes[begin() as usize..];
            let broken = Calls(|_: &mut [u8]| Err(io::Error::other("the line is dead")));
            let mut stream = rest[..limit.min(rest.len())].chain(broken);
            let pass = Pass::new(plan(threads, zeroes, chunk), &(), never());
            let pass = pass.with_resumption(begin(), &record);
            let result = pour(&mut stream, &target, NonZeroU64::MIN, &pass);
            prop_assert!(matches!(result, Err(Error::Stream { .. })), "{result:?}");
        }
        let start = begin();
        let pass = Pass::new(plan(2, zeroes, 8192), &(), never()).with_resumption(start, &record);
        let report =
            pour(&mut &bytes[start as usize..], &target, NonZeroU64::MIN, &pass).unwrap();
        prop_assert_eq!((report.bytes, report.resumed_bytes), (len, start));
        prop_assert!(target.to_vec() == bytes);
    }
}
