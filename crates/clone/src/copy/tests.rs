use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicBool;

use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};
use strongroom_disk::{Access, Discards, Encrypted, ErrorKind, Memory, Raw, Slice};
use strongroom_testkit::{Change, Fault, FaultyDisk, Pattern, RecordingDisk};

use super::*;
use crate::Progress;

fn plan(threads: usize, zeroes: Zeroes, chunk: usize) -> Plan {
    Plan::new(NonZeroUsize::new(threads).unwrap(), zeroes)
        .with_chunk_size(NonZeroUsize::new(chunk).unwrap())
}

fn copy(source: &dyn Disk, target: &dyn Disk, plan: &Plan) -> Result<Report, Error> {
    let progress = AtomicU64::new(0);
    let report = run(source, target, &Pass::new(*plan, &progress, &AtomicBool::new(false)))?;
    assert_eq!(progress.into_inner(), source.len());
    assert_eq!(report.bytes, source.len());
    assert_eq!(report.data_bytes + report.zero_bytes, report.bytes);
    Ok(report)
}

fn source(len: u64) -> Memory {
    let disk = Memory::new(len);
    Pattern::sparse(7, 40_000).write_to(&disk).unwrap();
    disk
}

fn cipher(size: SectorSize) -> SectorCipher {
    let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
    let key = VolumeKey::new((0..64).collect());
    SectorCipher::new(encryption, &key, size, IvUnit::Bytes512).unwrap()
}

#[test]
fn any_threads_and_chunks_give_the_same_bytes() {
    for len in [0, 1, 511, 4095, 4096, 4097, 300_000, 2_000_001] {
        let source = source(len);
        let expected = source.to_vec();
        for threads in [1, 2, 5] {
            for chunk in [1, 8192, 12_288, 1 << 20] {
                for zeroes in [Zeroes::Write, Zeroes::Skip] {
                    let target = Memory::new(len);
                    copy(&source, &target, &plan(threads, zeroes, chunk)).unwrap();
                    assert!(target.to_vec() == expected, "{len} {threads} {chunk} {zeroes:?}");
                }
            }
        }
    }
}

#[test]
fn an_encrypted_target_holds_the_ciphertext_of_everything() {
    for size in [SectorSize::B512, SectorSize::B4096] {
        let source = source(1 << 20);
        let mut expected = source.to_vec();
        cipher(size).encrypt(&mut expected, 0);
        for threads in [1, 4] {
            let below = Memory::new((1 << 20) + 5000);
            let target = Encrypted::new(&below, 5000..(1 << 20) + 5000, cipher(size), 0).unwrap();
            let report = copy(&source, &target, &plan(threads, Zeroes::Write, 65536)).unwrap();
            assert!(report.zero_bytes > 0);
            assert!(below.to_vec()[5000..] == expected);

            let plain = Memory::new(1 << 20);
            copy(&target, &plain, &plan(threads, Zeroes::Skip, 65536)).unwrap();
            assert!(plain.to_vec() == source.to_vec());
            // What was a hole became one again, though the ciphertext has none.
            assert!(plain.allocated() < source.allocated() * 5 / 4);
        }
    }
}

#[test]
fn extents_that_end_within_a_sector_are_copied_whole() {
    let source = Slice::new(source(600_000), 333..600_000 - 4096 + 333).unwrap();
    let len = source.len() / 4096 * 4096;
    let source = Slice::new(source, 0..len).unwrap();
    let below = Memory::new(len);
    let target = Encrypted::new(&below, 0..len, cipher(SectorSize::B4096), 0)
        .unwrap()
        .with_discards(Discards::Pass);
    copy(&source, &target, &plan(3, Zeroes::Write, 16384)).unwrap();
    let (mut found, mut expected) = (vec![0; len as usize], vec![0; len as usize]);
    target.read_at(&mut found, 0).unwrap();
    source.read_at(&mut expected, 0).unwrap();
    assert!(found == expected);
}

#[test]
fn holes_of_a_file_stay_holes_and_written_zeros_become_some() {
    let directory = tempfile::tempdir().unwrap();
    let (source, _permit) = Raw::create_new(directory.path().join("source")).unwrap();
    source.set_len(1 << 30).unwrap();
    source.write_at(&[1; 1 << 20], 5 << 20).unwrap();
    source.write_at(&[0; 1 << 20], 9 << 20).unwrap();
    let path = directory.path().join("target");
    let (target, _permit) = Raw::create_new(&path).unwrap();
    target.set_len(1 << 30).unwrap();
    let report = copy(&source, &target, &plan(2, Zeroes::Skip, 256 << 10)).unwrap();
    assert_eq!(report.data_bytes, 1 << 20);
    let allocated = path.metadata().unwrap().blocks() * 512;
    assert!((1 << 20..(1 << 20) + 65536).contains(&allocated), "{allocated}");
    let source = Raw::open(directory.path().join("source"), Access::ReadOnly).unwrap();
    let result = crate::compare(
        &source,
        &target,
        &Pass::new(plan(2, Zeroes::Skip, 1 << 20), &(), &AtomicBool::new(false)),
    );
    assert_eq!(result.unwrap(), crate::Comparison::Equal);
}

#[test]
fn a_huge_hole_takes_no_time() {
    let (source, target) = (Memory::new(1 << 60), Memory::new(1 << 60));
    source.write_at(&[1; 10], 1 << 59).unwrap();
    copy(&source, &target, &plan(2, Zeroes::Skip, 65536)).unwrap();
    assert_eq!(target.allocated(), 4096);
}

#[test]
fn data_is_durable_when_it_returns() {
    let target = RecordingDisk::new(Memory::new(300_000));
    copy(&source(300_000), &target, &plan(2, Zeroes::Write, 65536)).unwrap();
    let changes = target.changes();
    assert_eq!(changes.last(), Some(&Change::Flush));
    assert_eq!(changes.iter().filter(|&change| *change == Change::Flush).count(), 1);
    assert!(target.replay(changes.len()).to_vec() == source(300_000).to_vec());
}

#[test]
fn lengths_must_agree_and_the_text_names_both() {
    let error = copy(&source(5), &Memory::new(6), &plan(1, Zeroes::Skip, 4096)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "memory has 5 bytes but memory has room for 6: they must be equally long"
    );
}

#[test]
fn a_target_that_fails_anywhere_ends_the_copy_with_its_error() {
    for (fault, kind) in [(Fault::NoSpace, ErrorKind::NoSpace), (Fault::Io, ErrorKind::Other)] {
        let counting = FaultyDisk::never(Memory::new(500_000), fault);
        copy(&source(500_000), &counting, &plan(1, Zeroes::Write, 32768)).unwrap();
        assert!(counting.operations() > 10);
        for ordinal in 0..counting.operations() {
            for threads in [1, 3] {
                let target = FaultyDisk::new(Memory::new(500_000), fault, ordinal);
                let plan = plan(threads, Zeroes::Write, 32768);
                fails_with(kind, copy(&source(500_000), &target, &plan));
            }
        }
    }
}

#[test]
fn a_source_that_fails_anywhere_ends_the_copy_with_its_error() {
    for (fault, kind) in [(Fault::ShortRead, ErrorKind::ShortRead), (Fault::Io, ErrorKind::Other)] {
        let counting = FaultyDisk::never(source(500_000), fault);
        copy(&counting, &Memory::new(500_000), &plan(1, Zeroes::Skip, 32768)).unwrap();
        assert!(counting.operations() > 10);
        for ordinal in 0..counting.operations() {
            for threads in [1, 3] {
                let source = FaultyDisk::new(source(500_000), fault, ordinal);
                let plan = plan(threads, Zeroes::Skip, 32768);
                fails_with(kind, copy(&source, &Memory::new(500_000), &plan));
            }
        }
    }
}

fn fails_with(kind: ErrorKind, result: Result<Report, Error>) {
    match result {
        Err(Error::Disk(error)) => assert_eq!(error.kind(), kind),
        other => unreachable!("expected {kind:?}, found {other:?}"),
    }
}

#[test]
fn after_an_error_no_more_chunks_are_written() {
    let below = RecordingDisk::new(Memory::new(64 << 20));
    let target = FaultyDisk::new(&below, Fault::NoSpace, 3);
    let source = Memory::new(64 << 20);
    copy(&source, &target, &plan(2, Zeroes::Write, 65536)).unwrap_err();
    // The other thread may finish what it has begun.
    assert!(below.changes().len() < 64, "{}", below.changes().len());
}

/// Cancels once it has seen so many bytes.
struct CancelAfter<'a> {
    bytes: AtomicU64,
    limit: u64,
    cancelled: &'a AtomicBool,
}

impl Progress for CancelAfter<'_> {
    fn advance(&self, bytes: u64) {
        if self.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes >= self.limit {
            self.cancelled.store(true, Ordering::SeqCst);
        }
    }
}

#[test]
fn cancelling_stops_within_a_chunk_of_each_thread() {
    for threads in [1, 3] {
        let cancelled = AtomicBool::new(false);
        let progress =
            CancelAfter { bytes: AtomicU64::new(0), limit: 1 << 20, cancelled: &cancelled };
        let (source, target) = (Memory::new(64 << 20), Memory::new(64 << 20));
        let plan = plan(threads, Zeroes::Write, 65536);
        let result = run(&source, &target, &Pass::new(plan, &progress, &cancelled));
        assert!(matches!(result, Err(Error::Cancelled)));
        let done = progress.bytes.into_inner();
        assert!(done <= (1 << 20) + threads as u64 * 65536, "{done}");
    }
}

#[test]
fn cancelled_before_it_began_it_writes_nothing() {
    let target = RecordingDisk::new(Memory::new(5000));
    let plan = plan(2, Zeroes::Write, 4096);
    let result = run(&source(5000), &target, &Pass::new(plan, &(), &AtomicBool::new(true)));
    assert!(matches!(result, Err(Error::Cancelled)));
    assert!(target.changes().is_empty());
}
