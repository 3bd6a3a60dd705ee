//! What a crash leaves: every prefix of the changes, and what reordering between flushes makes of
//! the last ones.

use std::ops::Range;

use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};
use strongroom_disk::qcow2::{
    BackingName, Closed, CreateOptions, Gate, NamedFile, Qcow2, RefcountWidth, Repair, Version,
    check, create,
};
use strongroom_disk::{Access, Disk, Memory, Result};
use strongroom_testkit::{Change, RecordingDisk, Tearing};

use crate::tools::Random;

/// What the disk may hold after a crash: for every block the contents since the last flush.
struct Model {
    current: Vec<u8>,
    /// After so many changes of the file, everything before this step was durable.
    flushed: Vec<(usize, Vec<u8>)>,
    /// What was written at all, by step: the changes of the file that there were before it.
    steps: Vec<(usize, Range<u64>, Vec<u8>)>,
}

impl Model {
    fn new(current: Vec<u8>) -> Self {
        Self { flushed: vec![(0, current.clone())], steps: Vec::new(), current }
    }

    fn write(&mut self, changes: usize, range: Range<u64>, bytes: &[u8]) {
        self.current[range.start as usize..range.end as usize].copy_from_slice(bytes);
        self.steps.push((changes, range, bytes.to_vec()));
    }

    fn flush(&mut self, changes: usize) {
        self.flushed.push((changes, self.current.clone()));
    }

    /// Checks that every byte is what it was at the last flush or what was written since.
    fn allows(&self, changes: usize, found: &[u8]) {
        let (at, durable) =
            self.flushed.iter().rev().find(|(at, _)| *at <= changes).expect("the first is at 0");
        let mut wrong: Vec<usize> =
            (0..found.len()).filter(|&index| found[index] != durable[index]).collect();
        for (before, range, bytes) in &self.steps {
            if *before + 1 >= *at && *before <= changes {
                wrong.retain(|&index| {
                    let within = range.contains(&(index as u64));
                    !(within && bytes[index - range.start as usize] == found[index])
                });
            }
        }
        assert!(
            wrong.is_empty(),
            "after {changes} changes {} bytes are neither old nor new, from {}",
            wrong.len(),
            wrong[0]
        );
    }
}

struct Base;

impl Gate for Base {
    fn backing(&self, _named: &NamedFile<'_>) -> Result<Box<dyn Disk>> {
        Ok(Box::new(Memory::from(&[0xBB; 100_000][..])))
    }
}

fn inspect(memory: &Memory, changes: usize, model: &Model) {
    let report = check(memory, Repair::Nothing).unwrap();
    assert_eq!(report.corruptions, 0, "after {changes} changes: {report:#?}");
    let image = Qcow2::open(memory, Access::ReadOnly, &Base).unwrap();
    let mut found = vec![0; image.len() as usize];
    image.read_at(&mut found, 0).unwrap();
    model.allows(changes, &found);
}

/// Does random things and looks at what every crash would leave.
fn survives(options: &CreateOptions, seed: u64) {
    let memory = Memory::new(0);
    create(&memory, options).unwrap();
    let image = Qcow2::open(RecordingDisk::new(memory), Access::ReadWrite, &Base).unwrap();
    let len = image.len();
    let mut initial = vec![0; len as usize];
    image.read_at(&mut initial, 0).unwrap();
    let mut model = Model::new(initial);
    let mut random = Random(seed);
    for _ in 0..60 {
        let changes = image.file().changes().len();
        let range = random.range(len, 40_000, options.cluster_size);
        match random.below(8) {
            0..4 => {
                let bytes = random.bytes(range.end - range.start);
                image.write_at(&bytes, range.start).unwrap();
                model.write(changes, range, &bytes);
            }
            4..6 => {
                image.write_zeroes(range.clone()).unwrap();
                model.write(changes, range.clone(), &vec![0; (range.end - range.start) as usize]);
            }
            6 if options.backing.is_none() => {
                let start = range.start / options.cluster_size * options.cluster_size;
                let length = options.cluster_size.min(len - start) as usize;
                let bytes = vec![random.below(256) as u8; length];
                image.write_compressed_at(&bytes, start).unwrap();
                model.write(changes, start..start + length as u64, &bytes);
            }
            _ => {
                image.flush().unwrap();
                model.flush(image.file().changes().len());
            }
        }
    }
    image.flush().unwrap();
    model.flush(image.file().changes().len());
    let file = image.file();
    for (changes, memory) in file.crashes(Tearing::None) {
        inspect(&memory, changes, &model);
    }
    reordered(file, &model, &mut random);
}

/// Between two flushes a disk may have done any part of the changes in any order.
fn reordered(file: &RecordingDisk, model: &Model, random: &mut Random) {
    let changes = file.changes();
    let mut start = 0;
    for (end, _) in changes.iter().enumerate().filter(|(_, change)| **change == Change::Flush) {
        let memory = file.replay(start);
        // A longer file is no write of data; without it the others have nowhere to go.
        let lengths =
            changes[start..end].iter().filter(|change| matches!(change, Change::SetLen(_)));
        lengths.for_each(|change| change.apply(&memory));
        for change in &changes[start..end] {
            let is_write = matches!(change, Change::Write { .. } | Change::WriteZeroes(_));
            if is_write && random.below(2) == 0 {
                change.apply(&memory);
            }
        }
        let report = check(&memory, Repair::Nothing).unwrap();
        assert_eq!(report.corruptions, 0, "changes {start} to {end} in part: {report:#?}");
        let image = Qcow2::open(&memory, Access::ReadOnly, &Base).unwrap();
        let mut found = vec![0; image.len() as usize];
        image.read_at(&mut found, 0).unwrap();
        // What was flushed before is there; what is newer may be there.
        let durable = model.flushed.iter().rev().find(|(at, _)| *at <= start).expect("at 0");
        let newer = Model {
            current: Vec::new(),
            flushed: vec![(0, durable.1.clone())],
            steps: model
                .steps
                .iter()
                .filter(|(before, ..)| *before + 1 >= durable.0)
                .cloned()
                .collect(),
        };
        newer.allows(end, &found);
        start = end + 1;
    }
}

fn options(cluster_size: u64) -> CreateOptions {
    CreateOptions { cluster_size, ..CreateOptions::new(300_000) }
}

#[test]
fn every_prefix_leaves_a_consistent_image() {
    for seed in 0..4 {
        survives(&options(4096), seed);
        survives(&CreateOptions { version: Version::V2, ..options(512) }, seed);
        survives(&CreateOptions { subclusters: true, ..options(16 << 10) }, seed);
    }
}

#[test]
fn every_prefix_leaves_a_consistent_image_while_its_counts_grow() {
    for (seed, bits) in [64, 32, 64, 1].into_iter().enumerate() {
        let refcount_width = RefcountWidth::from_bits(bits).unwrap();
        survives(&CreateOptions { refcount_width, ..options(512) }, seed as u64);
    }
}

#[test]
fn every_prefix_over_a_backing_file_leaves_a_consistent_image() {
    let backing = Some(BackingName { name: "base".to_owned(), format: Some("raw".to_owned()) });
    for seed in 0..4 {
        survives(&CreateOptions { backing: backing.clone(), ..options(4096) }, seed);
        let subclusters = true;
        survives(
            &CreateOptions { backing: backing.clone(), subclusters, ..options(16 << 10) },
            seed,
        );
    }
}

#[test]
fn no_crash_while_creating_leaves_something_that_is_taken_for_an_image() {
    let file = RecordingDisk::new(Memory::new(0));
    create(&file, &CreateOptions { luks_header: Some(5000), ..options(4096) }).unwrap();
    let last = file.changes().len();
    for (changes, memory) in file.crashes(Tearing::Sectors) {
        match Qcow2::open(&memory, Access::ReadWrite, &Closed) {
            Ok(_) => {
                assert!(changes + 3 >= last);
                assert!(check(&memory, Repair::Nothing).unwrap().is_clean());
            }
            Err(_) => assert!(changes < last),
        }
    }
}

#[test]
fn every_prefix_of_growing_and_shrinking_is_one_of_both() {
    use strongroom_disk::qcow2::Shrinking;
    let memory = Memory::new(0);
    create(&memory, &CreateOptions { cluster_size: 512, ..CreateOptions::new(64 << 10) }).unwrap();
    let mut image = Qcow2::open(RecordingDisk::new(memory), Access::ReadWrite, &Closed).unwrap();
    image.write_at(&[1; 64 << 10], 0).unwrap();
    image.flush().unwrap();
    let from = image.file().changes().len();
    image.resize(20 << 20, Shrinking::Refuse).unwrap();
    let grown = image.file().changes().len();
    image.resize(32 << 10, Shrinking::Allow).unwrap();
    for (changes, memory) in image.file().crashes(Tearing::Sectors) {
        if changes < from {
            continue;
        }
        let report = check(&memory, Repair::Nothing).unwrap();
        assert_eq!(report.corruptions, 0, "after {changes} changes: {report:#?}");
        let image = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap();
        let mut found = [0; 32 << 10];
        image.read_at(&mut found, 0).unwrap();
        assert_eq!(found, [1; 32 << 10]);
        assert!([64 << 10, 20 << 20, 32 << 10].contains(&image.len()));
        assert!(changes < grown || image.len() != 64 << 10);
    }
}

#[test]
fn at_no_moment_does_growing_show_what_a_longer_backing_file_has_there() {
    use strongroom_disk::qcow2::Shrinking;
    for cluster_size in [512, 4096, 64 << 10] {
        let memory = Memory::new(0);
        let name = BackingName { name: "base".to_owned(), format: Some("raw".to_owned()) };
        let options =
            CreateOptions { cluster_size, backing: Some(name), ..CreateOptions::new(40 << 10) };
        create(&memory, &options).unwrap();
        let mut image = Qcow2::open(RecordingDisk::new(memory), Access::ReadWrite, &Base).unwrap();
        image.resize(90 << 10, Shrinking::Refuse).unwrap();
        let mut lengths = std::collections::BTreeSet::new();
        for (changes, memory) in image.file().crashes(Tearing::Sectors) {
            let image = Qcow2::open(&memory, Access::ReadOnly, &Base).unwrap();
            lengths.insert(image.len());
            let mut found = vec![0; image.len() as usize];
            image.read_at(&mut found, 0).unwrap();
            assert!(found[..40 << 10].iter().all(|&byte| byte == 0xBB), "{changes} changes");
            assert!(found[40 << 10..].iter().all(|&byte| byte == 0), "{changes} changes");
        }
        assert!(lengths.into_iter().eq([40 << 10, 90 << 10]));
    }
}

#[test]
fn a_repair_that_is_interrupted_can_be_repeated() {
    let memory = Memory::new(0);
    create(&memory, &options(512)).unwrap();
    let image = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap();
    image.write_at(&[7; 300_000], 0).unwrap();
    image.close().unwrap();
    // Every count is lost, and the image is marked.
    let mut field = [0; 8];
    memory.read_at(&mut field, 48).unwrap();
    let table = u64::from_be_bytes(field);
    memory.write_at(&[0; 512], table).unwrap();
    memory.write_at(&[1], 79).unwrap();
    let file = RecordingDisk::new(memory);
    assert!(check(&file, Repair::Everything).unwrap().is_clean());
    for (_, memory) in file.crashes(Tearing::Sectors) {
        let report = check(&memory, Repair::Everything).unwrap();
        assert!(report.is_clean(), "{report:#?}");
        let image = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap();
        let mut found = vec![0; 300_000];
        image.read_at(&mut found, 0).unwrap();
        assert!(found.iter().all(|&byte| byte == 7));
    }
}

/// How a conversion fills its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filling {
    Plain,
    Compressed,
    /// The LUKS header is written last.
    Luks,
}

fn cipher() -> SectorCipher {
    let key = VolumeKey::new((0..64).collect());
    let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
    SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512).unwrap()
}

/// Creates an image and fills it in order, with holes, as a conversion does; returns what was
/// written and the changes that there were when the pieces before each flush were durable.
fn convert(
    filling: Filling,
    options: &CreateOptions,
) -> (RecordingDisk, Vec<u8>, Vec<(usize, u64)>) {
    let file = RecordingDisk::new(Memory::new(0));
    let luks_header = (filling == Filling::Luks).then_some(LUKS_HEADER.len() as u64);
    create(&file, &CreateOptions { luks_header, ..options.clone() }).unwrap();
    let mut image = Qcow2::open(file, Access::ReadWrite, &Closed).unwrap();
    if filling == Filling::Luks {
        image.set_cipher(cipher()).unwrap();
    }
    let mut content = vec![0; options.size as usize];
    let mut durable = Vec::new();
    let step = options.cluster_size * 4;
    for (number, start) in (0..options.size).step_by(step as usize).enumerate() {
        let end = (start + step).min(options.size);
        let piece = &mut content[start as usize..end as usize];
        if number % 4 != 3 {
            piece.iter_mut().zip(0u64..).for_each(|(byte, at)| {
                *byte = (number as u64 * 31 + at / 100) as u8 | 1;
            });
            let mut copy = piece.to_vec();
            match filling {
                Filling::Compressed => copy
                    .chunks(options.cluster_size as usize)
                    .zip((start..).step_by(options.cluster_size as usize))
                    .for_each(|(cluster, at)| image.write_compressed_at(cluster, at).unwrap()),
                _ => image.write_scratch_at(&mut copy, start).unwrap(),
            }
        }
        if number % 5 == 4 {
            image.flush().unwrap();
            durable.push((image.file().changes().len(), end));
        }
    }
    image.flush().unwrap();
    durable.push((image.file().changes().len(), options.size));
    if let Some(area) = image.luks_area().unwrap() {
        area.write_at(LUKS_HEADER, 0).unwrap();
        image.flush().unwrap();
    }
    (image.close().unwrap(), content, durable)
}

/// Looks at what a crash left of a conversion: nothing that opens, or an image with at most leaks
/// that holds everything flushed, and elsewhere what was written or zeros.
fn inspect_conversion(
    memory: &Memory,
    filling: Filling,
    (content, durable): (&[u8], u64),
    at: &str,
) {
    let Ok(mut image) = Qcow2::open(memory, Access::ReadOnly, &Closed) else {
        assert_eq!(durable, 0, "{filling:?} {at}: flushed data is lost with the header");
        return;
    };
    let report = check(memory, Repair::Nothing).unwrap();
    assert_eq!(report.corruptions, 0, "{filling:?} {at}: {report:#?}");
    if filling == Filling::Luks {
        image.set_cipher(cipher()).unwrap();
        let mut header = vec![0; LUKS_HEADER.len()];
        image.luks_area().unwrap().unwrap().read_at(&mut header, 0).unwrap();
        let is_there = header.starts_with(&LUKS_HEADER[..6]);
        assert!(!is_there || durable == content.len() as u64, "{at}: the header came too early");
    }
    let mut found = vec![1; content.len()];
    image.read_at(&mut found, 0).unwrap();
    let kept = durable as usize;
    assert!(found[..kept] == content[..kept], "{filling:?} {at}: flushed data is lost");
    for (sector, expected) in found.chunks(512).zip(content.chunks(512)) {
        let is_new = sector == expected;
        assert!(is_new || sector.iter().all(|&byte| byte == 0), "{filling:?} {at}: neither");
    }
}

/// Looks at every prefix of a conversion's writes, torn at every sector, and at what may be left
/// when the file does the writes between two flushes in any order, or in part.
fn survives_conversion(filling: Filling, options: &CreateOptions) {
    let (file, content, durable) = convert(filling, options);
    let kept = |changes: usize| {
        durable.iter().rev().find(|(at, _)| *at <= changes).map_or(0, |(_, end)| *end)
    };
    for (changes, memory) in file.crashes(Tearing::Sectors) {
        let at = format!("after {changes} changes");
        inspect_conversion(&memory, filling, (&content, kept(changes)), &at);
    }
    let mut random = Random(7);
    let (changes, mut start) = (file.changes(), 0);
    for (end, _) in changes.iter().enumerate().filter(|(_, change)| **change == Change::Flush) {
        for _ in 0..3 {
            let memory = file.replay(start);
            for change in &changes[start..end] {
                // Without the length, the others have nowhere to go.
                let is_length = matches!(change, Change::SetLen(_));
                if is_length || random.below(2) == 0 {
                    change.apply(&memory);
                }
            }
            let at = format!("with a part of changes {start} to {end}");
            inspect_conversion(&memory, filling, (&content, kept(start)), &at);
        }
        start = end + 1;
    }
}

#[test]
fn every_torn_prefix_and_any_order_of_a_conversion_leaves_old_or_new() {
    for cluster_size in [512, 4096] {
        let options =
            CreateOptions { cluster_size, ..CreateOptions::new(cluster_size * 130 + 512) };
        survives_conversion(Filling::Plain, &options);
        survives_conversion(Filling::Compressed, &options);
        survives_conversion(Filling::Luks, &options);
    }
}

#[test]
fn every_torn_prefix_of_a_conversion_to_subclusters_leaves_old_or_new() {
    let options =
        CreateOptions { subclusters: true, cluster_size: 16 << 10, ..CreateOptions::new(500_000) };
    survives_conversion(Filling::Plain, &options);
    survives_conversion(Filling::Luks, &options);
}

/// Stands for a LUKS header: what begins like one is one here.
const LUKS_HEADER: &[u8] = &[b'L'; 2000];
