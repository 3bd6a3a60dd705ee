//! What images cost that were made to cost much: counted calls and bytes of a disk, and the memory
//! that the process takes.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_disk::qcow2::{Closed, CreateOptions, Qcow2, Repair, Version, check, create};
use strongroom_disk::{Access, Disk, ErrorKind, Extent, Extents, Memory, Resizable, Result};

/// A disk that counts the calls, and the bytes read.
struct Counting {
    memory: Memory,
    calls: AtomicU64,
    bytes: AtomicU64,
}

impl Counting {
    fn new(memory: Memory) -> Self {
        Self { memory, calls: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn count(&self, bytes: u64) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns what something costs: calls, and bytes.
    fn cost<T>(&self, work: impl FnOnce(&Self) -> T) -> (T, u64, u64) {
        let calls = self.calls.swap(0, Ordering::Relaxed);
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        let result = work(self);
        let spent =
            (self.calls.swap(calls, Ordering::Relaxed), self.bytes.swap(bytes, Ordering::Relaxed));
        (result, spent.0, spent.1)
    }
}

impl Disk for Counting {
    fn len(&self) -> u64 {
        self.memory.len()
    }

    fn label(&self) -> &str {
        "hostile"
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.count(buf.len() as u64);
        self.memory.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.count(buf.len() as u64);
        self.memory.write_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.count(0);
        self.memory.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.count(0);
        self.memory.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.count(0);
        self.memory.write_zeroes(range)
    }

    fn flush(&self) -> Result<()> {
        self.count(0);
        Ok(())
    }
}

impl Resizable for Counting {
    fn set_len(&self, len: u64) -> Result<()> {
        self.count(0);
        self.memory.set_len(len);
        Ok(())
    }
}

fn image(options: &CreateOptions) -> Memory {
    let memory = Memory::new(0);
    create(&memory, options).unwrap();
    memory
}

fn small(size: u64) -> CreateOptions {
    CreateOptions { cluster_size: 512, ..CreateOptions::new(size) }
}

fn put32(memory: &Memory, offset: u64, number: u32) {
    memory.write_at(&number.to_be_bytes(), offset).unwrap();
}

fn put64(memory: &Memory, offset: u64, number: u64) {
    memory.write_at(&number.to_be_bytes(), offset).unwrap();
}

fn number(memory: &Memory, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read_at(&mut bytes, offset).unwrap();
    u64::from_be_bytes(bytes)
}

const SIZE: u64 = 24;
const L1_ENTRIES: u64 = 36;
const L1: u64 = 40;
const TABLE: u64 = 48;
const TABLE_CLUSTERS: u64 = 56;
const SNAPSHOTS: u64 = 60;

/// Opens in both ways, reads, maps, writes, zeroes and checks, whatever comes of it.
fn use_anyhow(file: &Counting) {
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let Ok(disk) = Qcow2::open(file, access, &Closed) else { continue };
        let last = disk.len().saturating_sub(4096);
        for offset in [0, disk.len() / 2, last] {
            let _ = disk.read_at(&mut [0; 4096], offset.min(last));
            let _ = disk.extent_at(offset.min(last));
            let _ = disk.write_at(&[1; 512], offset.min(last));
        }
        let _ = Extents::new(&disk, 0..disk.len()).take(10).count();
        for snapshot in disk.snapshots().iter().take(3) {
            let _ = disk.snapshot(&snapshot.id).map(|view| view.read_at(&mut [0; 512], 0));
        }
        let _ = disk.flush();
    }
    let _ = check(file, Repair::Nothing);
}

/// Checks that nothing costs more than so many calls and bytes in all.
fn costs_at_most(memory: Memory, calls: u64, bytes: u64) {
    let file = Counting::new(memory);
    let ((), found_calls, found_bytes) = file.cost(use_anyhow);
    assert!(found_calls <= calls, "{found_calls} calls");
    assert!(found_bytes <= bytes, "{found_bytes} bytes");
}

#[test]
fn a_disk_of_almost_eight_exbibytes_is_zeroed_discarded_mapped_and_cut_in_few_steps() {
    let memory = image(&CreateOptions { cluster_size: 2 << 20, ..CreateOptions::new(1 << 60) });
    let file = Counting::new(memory);
    let mut disk = Qcow2::open(&file, Access::ReadWrite, &Closed).unwrap();
    disk.write_at(&[1; 4096], 1 << 59).unwrap();
    let (result, calls, bytes) = file.cost(|_| {
        disk.write_zeroes(0..disk.len())?;
        disk.discard(0..disk.len())?;
        assert_eq!(Extents::new(&disk, 0..disk.len()).count(), 1);
        disk.resize(1 << 20, strongroom_disk::qcow2::Shrinking::Allow)
    });
    result.unwrap();
    // The L1 table has 16 MiB, and is looked through three times.
    assert!(calls < 40_000 && bytes < 200 << 20, "{calls} calls, {bytes} bytes");
}

#[test]
fn a_size_that_its_tables_do_not_cover_is_refused_at_once() {
    let memory = image(&small(1 << 20));
    put64(&memory, SIZE, i64::MAX as u64 & !511);
    costs_at_most(memory, 20, 10_000);
}

#[test]
fn an_l1_table_of_32_mib_is_read_in_passing() {
    let memory = image(&small(1 << 20));
    // Every entry names a table of its own, far from the others.
    let (l1, entries) = (1u64 << 30, 4u64 << 20);
    memory.set_len(1 << 45);
    let table: Vec<u8> = (0..entries)
        .flat_map(|index| (1u64 << 63 | ((1 << 31) + (index << 22)) & !511).to_be_bytes())
        .collect();
    memory.write_at(&table, l1).unwrap();
    put32(&memory, L1_ENTRIES, entries as u32);
    put64(&memory, L1, l1);
    let file = Counting::new(memory);
    let error = Qcow2::open(&file, Access::ReadWrite, &Closed).unwrap_err();
    assert!(error.to_string().contains("too many places"), "{error}");
    let error = check(&file, Repair::Nothing).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("64 MiB of memory"), "{error}");
    // Reading needs none of it.
    let disk = Qcow2::open(&file, Access::ReadOnly, &Closed).unwrap();
    let (result, calls, bytes) = file.cost(|_| disk.read_at(&mut [1; 4096], 1 << 19));
    result.unwrap();
    assert!(calls < 20 && bytes < 20_000, "{calls} calls, {bytes} bytes");
}

#[test]
fn tables_that_lie_in_each_other_are_refused_for_writing_and_found_by_a_check() {
    let refused = |change: &dyn Fn(&Memory)| {
        let memory = image(&small(1 << 20));
        let disk = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap();
        disk.write_at(&[1; 512], 0).unwrap();
        disk.flush().unwrap();
        drop(disk);
        change(&memory);
        let error = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap_err();
        assert!(error.to_string().contains("overlaps other metadata"), "{error}");
        assert!(check(&memory, Repair::Everything).unwrap().corruptions > 0);
        costs_at_most(memory, 5000, 5 << 20);
    };
    // The L1 table is the refcount table, the header, or a refcount block.
    refused(&|memory| put64(memory, L1, number(memory, TABLE)));
    refused(&|memory| put64(memory, L1, 0));
    refused(&|memory| put64(memory, L1, number(memory, number(memory, TABLE))));
    // An L2 table is the L1 table itself, the refcount table, or a refcount block.
    refused(&|memory| put64(memory, number(memory, L1), 1 << 63 | number(memory, L1)));
    refused(&|memory| put64(memory, number(memory, L1), number(memory, TABLE)));
    refused(&|memory| {
        put64(memory, number(memory, L1), number(memory, number(memory, TABLE)));
    });
    // A refcount table names itself as a block, or one block twice.
    refused(&|memory| put64(memory, number(memory, TABLE), number(memory, TABLE)));
    refused(&|memory| {
        let table = number(memory, TABLE);
        put64(memory, table + 8, number(memory, table));
    });
}

#[test]
fn places_past_the_end_and_beyond_all_limits_are_refused_by_name() {
    for (field, words) in [(L1, "L1 table"), (TABLE, "refcount table")] {
        for place in [1u64 << 40, 1 << 56, !511u64] {
            let memory = image(&small(1 << 20));
            put64(&memory, field, place);
            let error = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            costs_at_most(memory, 1000, 1 << 20);
        }
    }
    for place in [1u64 << 56, !511u64] {
        let memory = image(&small(1 << 20));
        put64(&memory, number(&memory, TABLE) + 8, place);
        let error = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap_err();
        assert!(error.to_string().contains("beyond all limits"), "{error}");
        costs_at_most(memory, 1000, 1 << 20);
    }
}

#[test]
fn l1_entries_that_all_name_one_table_cost_one_table() {
    let memory = image(&small(1 << 30));
    let disk = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap();
    disk.write_at(&[1; 32 << 10], 0).unwrap();
    disk.flush().unwrap();
    drop(disk);
    let l1 = number(&memory, L1);
    let entry = number(&memory, l1);
    (0..(1u64 << 30) / (32 << 10)).for_each(|index| put64(&memory, l1 + index * 8, entry));
    let file = Counting::new(memory);
    assert!(Qcow2::open(&file, Access::ReadWrite, &Closed).is_err());
    let (report, calls, bytes) = file.cost(|file| check(file, Repair::Everything).unwrap());
    assert!(report.corruptions > 1000);
    assert!(calls < 3000 && bytes < 8 << 20, "{calls} calls, {bytes} bytes");
    // Whoever reads it all gets it all; a part costs what it has.
    let disk = Qcow2::open(&file, Access::ReadOnly, &Closed).unwrap();
    let (extent, calls, _) = file.cost(|_| disk.extent_at(0).unwrap());
    assert!(!extent.range.is_empty() && calls < 2000, "{calls} calls");
}

#[test]
fn snapshots_without_end_are_refused_before_they_cost_memory() {
    // As many as the format allows, each with an L1 table of its own that would be 32 MiB.
    let memory = image(&small(1 << 20));
    let at = memory.len().next_multiple_of(512);
    let mut table = Vec::new();
    for index in 0..65_536u64 {
        let mut entry = [0; 40];
        entry[..8].copy_from_slice(&((1 << 32) + (index << 25)).to_be_bytes());
        entry[8..12].copy_from_slice(&(4u32 << 20).to_be_bytes());
        table.extend(entry);
    }
    memory.set_len(1 << 42);
    memory.write_at(&table, at).unwrap();
    put32(&memory, SNAPSHOTS, 65_536);
    put64(&memory, 64, at);
    let file = Counting::new(memory);
    let (opened, calls, bytes) =
        file.cost(|file| Qcow2::open(file, Access::ReadWrite, &Closed).map(|_| ()));
    let error = opened.unwrap_err();
    assert!(error.to_string().contains("too many places"), "{error}");
    assert!(calls < 2000 && bytes < 16 << 20, "{calls} calls, {bytes} bytes");
    let (checked, calls, bytes) = file.cost(|file| check(file, Repair::Nothing));
    assert_eq!(checked.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(calls < 400_000 && bytes < 20 << 30, "{calls} calls, {bytes} bytes");
}

#[test]
fn a_table_of_snapshots_that_is_cut_short_or_too_long_is_refused() {
    let memory = image(&small(1 << 20));
    put32(&memory, SNAPSHOTS, 65_536);
    put64(&memory, 64, 0);
    costs_at_most(memory, 1000, 2 << 20);
    let memory = image(&small(1 << 20));
    // Names of 64 KiB each, to the end of a long file.
    let at = memory.len().next_multiple_of(512);
    memory.set_len(1 << 40);
    for index in 0..1000u64 {
        memory.write_at(&[0xFF; 2], at + 14 + index * 65_576).unwrap();
    }
    put32(&memory, SNAPSHOTS, 1000);
    put64(&memory, 64, at);
    let file = Counting::new(memory);
    let (opened, calls, bytes) =
        file.cost(|file| Qcow2::open(file, Access::ReadOnly, &Closed).map(|_| ()));
    assert!(opened.unwrap_err().to_string().contains("table of snapshots"));
    assert!(calls < 100 && bytes < 32 << 20, "{calls} calls, {bytes} bytes");
}

#[test]
fn header_extensions_of_gigantic_length_are_refused_at_once() {
    for version in [Version::V2, Version::V3] {
        for length in [u32::MAX, u32::MAX - 7, 1 << 31, 600] {
            let memory = image(&CreateOptions { version, ..small(1 << 20) });
            let start = if version == Version::V2 { 72 } else { 112 };
            put32(&memory, start, 0x1234_5678);
            put32(&memory, start + 4, length);
            let error = Qcow2::open(&memory, Access::ReadOnly, &Closed).unwrap_err();
            assert!(error.to_string().contains("too long"), "{error}");
            costs_at_most(memory, 20, 10_000);
        }
    }
}

#[test]
fn a_refcount_table_whose_blocks_are_holes_of_a_long_file_is_checked_without_reading_them() {
    let memory = image(&CreateOptions::new(1 << 20));
    // 8 MiB of table: a million blocks of 64 KiB each, none of them ever written.
    let table = 1u64 << 30;
    memory.set_len(1 << 40);
    let entries: Vec<u8> =
        (0..1u64 << 20).flat_map(|index| ((1 << 31) + (index << 17)).to_be_bytes()).collect();
    memory.write_at(&entries, table).unwrap();
    put64(&memory, TABLE, table);
    put32(&memory, TABLE_CLUSTERS, 128);
    let file = Counting::new(memory);
    let (report, calls, bytes) = file.cost(|file| check(file, Repair::Nothing));
    // Every cluster in use counts as free.
    assert!(report.is_ok_and(|report| report.corruptions > 0));
    assert!(calls < 2 << 20 && bytes < 64 << 20, "{calls} calls, {bytes} bytes");
}

#[test]
fn data_scattered_over_a_long_file_is_counted_in_bounded_memory_or_not_at_all() {
    let memory = image(&CreateOptions { cluster_size: 64 << 10, ..CreateOptions::new(1 << 40) });
    let l1 = number(&memory, L1);
    // 64 tables of 8192 entries, each cluster a GiB from the next.
    for table in 0..64u64 {
        let place = (1 << 30) + (table << 16);
        memory.set_len(memory.len().max(place + (1 << 16)));
        let entries: Vec<u8> = (0..8192u64)
            .flat_map(|index| {
                ((1u64 << 63) | ((1 << 31) + ((table * 8192 + index) << 30))).to_be_bytes()
            })
            .collect();
        memory.write_at(&entries, place).unwrap();
        put64(&memory, l1 + table * 8, 1 << 63 | place);
    }
    memory.set_len(1 << 51);
    let file = Counting::new(memory);
    let (report, calls, bytes) = file.cost(|file| check(file, Repair::Nothing));
    assert_eq!(report.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(calls < 10_000 && bytes < 16 << 20, "{calls} calls, {bytes} bytes");
}

#[test]
fn what_a_compressed_cluster_would_become_beyond_its_length_is_never_made() {
    // Every cluster is the same bomb, which names nothing but one place.
    let memory = image(&CreateOptions::new(64 << 20));
    let disk = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap();
    disk.write_compressed_at(&[0; 65_536], 0).unwrap();
    disk.flush().unwrap();
    drop(disk);
    let l1 = number(&memory, L1);
    let table = number(&memory, l1) & 0x00FF_FFFF_FFFF_FE00;
    let entry = number(&memory, table);
    (0..1024).for_each(|index| put64(&memory, table + index * 8, entry));
    let file = Counting::new(memory);
    let disk = Qcow2::open(&file, Access::ReadOnly, &Closed).unwrap();
    let (_, calls, _) = file.cost(|_| {
        let mut buf = vec![1; 1 << 20];
        for start in (0..64 << 20).step_by(1 << 20) {
            disk.read_at(&mut buf, start).unwrap();
            assert!(buf.iter().all(|&byte| byte == 0));
        }
    });
    // It is read and decompressed once.
    assert!(calls < 20, "{calls} calls");
}

/// The memory that all of these may take, which no other test of this process touches.
#[test]
fn hostile_images_take_less_than_64_mib() {
    let program = std::env::current_exe().unwrap();
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    for test in [
        "an_l1_table_of_32_mib_is_read_from_a_file",
        "a_refcount_table_of_8_mib_is_read_from_a_file",
    ] {
        let name = format!("hostile::{test}");
        let output = std::process::Command::new(&program)
            .args([&name, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        let peak = text.lines().find_map(|line| line.split("peak KiB: ").nth(1)).unwrap();
        let peak: u64 = peak.trim().parse().unwrap();
        assert!(peak < 64 << 10, "{test} takes {peak} KiB");
    }
}

/// Set in the processes whose memory is measured.
const CHILD: &str = "STRONGROOM_TEST_CHILD";

/// Uses an image in a file in every way, and prints the memory that it took.
fn measured(change: impl FnOnce(&std::fs::File)) {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::TempDir::new_in("/dev/shm").unwrap();
    let path = directory.path().join("image");
    let (raw, _permit) = strongroom_disk::Raw::create_new(&path).unwrap();
    create(&raw, &small(1 << 20)).unwrap();
    drop(raw);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.set_len(1 << 36).unwrap();
    change(&file);
    file.read_exact_at(&mut [0; 1], 0).unwrap();
    let raw = strongroom_disk::Raw::open(&path, Access::ReadWrite).unwrap();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        if let Ok(disk) = Qcow2::open(&raw, access, &Closed) {
            let _ = Extents::new(&disk, 0..disk.len()).take(100).count();
            let _ = disk.write_at(&[1; 4096], 0);
            let _ = disk.flush();
        }
    }
    let _ = check(&raw, Repair::Nothing);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak KiB: {}", peak.trim().trim_end_matches(" kB"));
}

#[test]
fn an_l1_table_of_32_mib_is_read_from_a_file() {
    use std::os::unix::fs::FileExt;
    measured(|file| {
        // A table every 8 KiB: as dense as the data of a full disk would leave it.
        for piece in 0..512u64 {
            let entries: Vec<u8> = (0..8192u64)
                .flat_map(|index| {
                    ((1u64 << 63) | ((1 << 31) + ((piece * 8192 + index) << 13))).to_be_bytes()
                })
                .collect();
            file.write_all_at(&entries, (1 << 30) + piece * 65_536).unwrap();
        }
        file.write_all_at(&(4u32 << 20).to_be_bytes(), L1_ENTRIES).unwrap();
        file.write_all_at(&(1u64 << 30).to_be_bytes(), L1).unwrap();
    });
}

#[test]
fn a_refcount_table_of_8_mib_is_read_from_a_file() {
    use std::os::unix::fs::FileExt;
    measured(|file| {
        for piece in 0..128u64 {
            let entries: Vec<u8> = (0..8192u64)
                .flat_map(|index| ((1 << 31) + ((piece * 8192 + index) << 13)).to_be_bytes())
                .collect();
            file.write_all_at(&entries, (1 << 30) + piece * 65_536).unwrap();
        }
        file.write_all_at(&(1u64 << 30).to_be_bytes(), TABLE).unwrap();
        file.write_all_at(&(16u32 << 10).to_be_bytes(), TABLE_CLUSTERS).unwrap();
    });
}
