//! Random steps against a model, and against QEMU.

use std::fs;
use std::ops::Range;
use std::path::Path;

use proptest::prelude::*;
use strongroom_crypto::{
    CipherSpec, CostPolicy, IvUnit, Passphrase, SectorCipher, SectorSize, VolumeKey,
};
use strongroom_disk::qcow2::{
    Closed, Compression, CreateOptions, Qcow2, RefcountWidth, Repair, Version, check, create,
};
use strongroom_disk::{Access, Disk, Extents, Memory, Raw};
use tempfile::TempDir;

use crate::tools::{Random, available, open, qemu_img, qemu_io};

fn cipher() -> SectorCipher {
    let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
    let key = VolumeKey::new((0..64).collect());
    SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512).unwrap()
}

fn step(disk: &Qcow2<Memory>, model: &mut [u8], random: &mut Random, compressible: bool) {
    let cluster = disk.header().cluster_size();
    let range = random.range(disk.len(), 3 * cluster.min(70_000), cluster);
    let at = range.start as usize..range.end as usize;
    match random.below(10) {
        0..4 => {
            let mut bytes = random.bytes(range.end - range.start);
            model[at].copy_from_slice(&bytes);
            match random.below(2) {
                0 => disk.write_at(&bytes, range.start).unwrap(),
                _ => disk.write_scratch_at(&mut bytes, range.start).unwrap(),
            }
        }
        4..6 => {
            disk.write_zeroes(range).unwrap();
            model[at].fill(0);
        }
        6 => {
            disk.discard(range.clone()).unwrap();
            // What was discarded may be anything: it is looked at, and then held to that.
            let mut found = vec![0; at.len()];
            disk.read_at(&mut found, range.start).unwrap();
            assert!(
                found.iter().zip(&model[at.clone()]).all(|(&new, &old)| new == 0 || new == old)
            );
            model[at].copy_from_slice(&found);
        }
        7 if compressible => {
            let start = range.start / cluster * cluster;
            let length = cluster.min(disk.len() - start) as usize;
            let bytes = vec![random.below(256) as u8; length];
            disk.write_compressed_at(&bytes, start).unwrap();
            model[start as usize..start as usize + length].copy_from_slice(&bytes);
        }
        8 => disk.flush().unwrap(),
        _ => {
            let mut found = vec![0; at.len()];
            disk.read_at(&mut found, range.start).unwrap();
            assert!(found == model[at], "{range:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn two_hundred_steps_agree_with_a_model(
        cluster_bits in 9u32..=21,
        subclusters: bool,
        version_2: bool,
        luks: bool,
        zstd: bool,
        order in 0u32..=6,
        len in 1u64..1_200_000,
        seed: u64,
    ) {
        let subclusters = subclusters && cluster_bits >= 14;
        let old = version_2 && !subclusters;
        let options = CreateOptions {
            cluster_size: 1 << cluster_bits,
            version: if old { Version::V2 } else { Version::V3 },
            subclusters,
            compression: if zstd && !old { Compression::Zstd } else { Compression::Zlib },
            refcount_width: match old {
                true => RefcountWidth::BITS_16,
                false => RefcountWidth::from_bits(1 << order).unwrap(),
            },
            luks_header: luks.then_some(4096),
            ..CreateOptions::new(len)
        };
        let memory = Memory::new(0);
        create(&memory, &options).unwrap();
        let mut model = vec![0; len as usize];
        let mut random = Random(seed);
        let mut memory = Some(memory);
        for _ in 0..4 {
            let file = memory.take().unwrap();
            let mut disk = Qcow2::open(file, Access::ReadWrite, &Closed).unwrap();
            if luks {
                disk.set_cipher(cipher()).unwrap();
            }
            for _ in 0..50 {
                step(&disk, &mut model, &mut random, !luks);
            }
            let mut found = vec![0; model.len()];
            disk.read_at(&mut found, 0).unwrap();
            prop_assert!(found == model);
            for extent in Extents::new(&disk, 0..disk.len()) {
                let extent = extent.unwrap();
                let bytes = &model[extent.range.start as usize..extent.range.end as usize];
                prop_assert!(!extent.kind.reads_as_zeros() || bytes.iter().all(|&byte| byte == 0));
            }
            let file = disk.close().unwrap();
            let report = check(&file, Repair::Nothing).unwrap();
            prop_assert!(report.is_clean(), "{:#?}", report);
            memory = Some(file);
        }
    }
}

/// Runs on images that `qemu-img` makes, over every kind of them. `STRONGROOM_QCOW2_SEEDS=N` takes N
/// seeds for each instead of one.
#[test]
fn two_hundred_steps_with_snapshots_agree_with_qemu() {
    if !available("two_hundred_steps_with_snapshots_agree_with_qemu") {
        return;
    }
    let seeds = std::env::var("STRONGROOM_QCOW2_SEEDS");
    let seeds = seeds.map_or(1, |seeds| seeds.parse().expect("it is a number of seeds"));
    let directory = TempDir::new_in("/dev/shm").unwrap();
    for seed in 0..seeds {
        for (number, options) in KINDS.iter().enumerate() {
            let mut run = Run::new(directory.path(), options, seed * 100 + number as u64);
            for round in 0..10 {
                run.our_steps();
                run.check_snapshots();
                run.steps_of_qemu();
                run.checkpoint(round);
            }
            run.finish();
        }
    }
}

/// What `qemu-img` makes, with a cluster of so many bytes.
const KINDS: &[(&str, u64)] = &[
    ("cluster_size=512,refcount_bits=1", 512),
    ("cluster_size=512,compat=0.10", 512),
    ("cluster_size=4k,refcount_bits=64", 4096),
    ("cluster_size=4k,compression_type=zstd", 4096),
    ("compat=0.10", 65_536),
    ("extended_l2=on,cluster_size=16k,refcount_bits=8", 16_384),
    ("extended_l2=on,lazy_refcounts=on", 65_536),
    ("cluster_size=2M", 2 << 20),
    ("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", 65_536),
    ("encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,cluster_size=4k", 4096),
];

/// An image that we and QEMU change by turns.
struct Run<'a> {
    directory: &'a Path,
    options: &'a str,
    cluster: u64,
    model: Vec<u8>,
    /// What the disk was when each snapshot was made.
    snapshots: Vec<Vec<u8>>,
    random: Random,
}

impl<'a> Run<'a> {
    fn new(directory: &'a Path, &(options, cluster): &'a (&str, u64), seed: u64) -> Self {
        let len = if cluster == 2 << 20 { 16 << 20 } else { 2 << 20 };
        qemu_img(directory, &format!("create {SECRET} -q -f qcow2 -o {options} image {len}"));
        let (model, snapshots) = (vec![0; len], Vec::new());
        Self { directory, options, cluster, model, snapshots, random: Random(seed) }
    }

    fn is_luks(&self) -> bool {
        self.options.contains("luks")
    }

    fn has_snapshots(&self) -> bool {
        // Counts of one bit have no room for the reference of a snapshot.
        !self.options.ends_with("refcount_bits=1")
    }

    fn open(&self) -> Qcow2<Raw> {
        let mut disk = open(self.directory, "image", Access::ReadWrite);
        if self.is_luks() {
            let passphrase = Passphrase::new(b"secret".to_vec());
            disk.unlock(&passphrase, &CostPolicy::default()).unwrap();
        }
        disk
    }

    /// Returns a range, sometimes of whole clusters.
    fn range(&mut self) -> Range<u64> {
        self.random.range(self.model.len() as u64, 200_000, self.cluster)
    }

    fn our_steps(&mut self) {
        let disk = self.open();
        for _ in 0..10 {
            let range = self.range();
            let at = range.start as usize..range.end as usize;
            match self.random.below(6) {
                0 => {
                    disk.write_zeroes(range).unwrap();
                    self.model[at].fill(0);
                }
                1 => {
                    disk.discard(range.clone()).unwrap();
                    disk.read_at(&mut self.model[at], range.start).unwrap();
                }
                2 if !self.is_luks() => {
                    let start = range.start / self.cluster * self.cluster;
                    let bytes = vec![self.random.below(256) as u8; self.cluster as usize];
                    disk.write_compressed_at(&bytes, start).unwrap();
                    self.model[start as usize..][..bytes.len()].copy_from_slice(&bytes);
                }
                _ => {
                    let bytes = self.random.bytes(range.end - range.start);
                    disk.write_at(&bytes, range.start).unwrap();
                    self.model[at].copy_from_slice(&bytes);
                }
            }
        }
        disk.close().unwrap();
    }

    fn check_snapshots(&self) {
        let disk = self.open();
        for (index, expected) in self.snapshots.iter().enumerate() {
            let view = disk.snapshot(&(index + 1).to_string()).unwrap();
            let mut found = vec![0; expected.len()];
            view.read_at(&mut found, 0).unwrap();
            assert!(found == *expected, "{}: snapshot {index}", self.options);
        }
    }

    fn steps_of_qemu(&mut self) {
        let mut commands = Vec::new();
        for _ in 0..10 {
            let range = self.range();
            let (start, length) =
                (range.start / 512 * 512, (range.end - range.start).div_ceil(512) * 512);
            let length = length.min(self.model.len() as u64 - start);
            let at = start as usize..(start + length) as usize;
            let byte = self.random.below(255) + 1;
            if self.random.below(3) == 0 {
                commands.push(format!("write -z {start} {length}"));
                self.model[at].fill(0);
            } else {
                commands.push(format!("write -P {byte} {start} {length}"));
                self.model[at].fill(byte as u8);
            }
        }
        qemu_io(self.directory, &["--object", OBJECT, "--image-opts", &self.image()], &commands);
    }

    /// Makes a snapshot now and then, and lets QEMU compare and check all there is.
    fn checkpoint(&mut self, round: u32) {
        if round % 3 == 1 && self.has_snapshots() {
            let image = self.image();
            qemu_img(
                self.directory,
                &format!("snapshot {SECRET} --image-opts -c s{round} {image}"),
            );
            self.snapshots.push(self.model.clone());
        }
        let output =
            qemu_img(self.directory, &format!("check {SECRET} --image-opts {}", self.image()));
        assert!(output.contains("No errors"), "{}: {output}", self.options);
        self.compare(&self.model, &self.image());
    }

    /// Compares with what QEMU reads, snapshots too, and removes the image.
    fn finish(self) {
        for (index, expected) in self.snapshots.iter().enumerate() {
            // `qemu-img convert` reads a snapshot by its number; `compare` knows none.
            let image = self.image();
            let number = index + 1;
            qemu_img(
                self.directory,
                &format!("convert {SECRET} --image-opts -l {number} -O raw {image} snapshot"),
            );
            assert!(fs::read(self.directory.join("snapshot")).unwrap() == *expected);
        }
        fs::remove_file(self.directory.join("image")).unwrap();
    }

    fn compare(&self, expected: &[u8], image: &str) {
        fs::write(self.directory.join("model"), expected).unwrap();
        let model = "driver=raw,file.filename=model";
        qemu_img(self.directory, &format!("compare {SECRET} --image-opts {model} {image}"));
    }

    /// Returns the image as QEMU's programs take it.
    fn image(&self) -> String {
        let key = if self.is_luks() { ",encrypt.key-secret=s" } else { "" };
        format!("driver=qcow2,file.filename=image{key}")
    }
}

/// The passphrase of the images that have one, for QEMU's programs.
const OBJECT: &str = "secret,id=s,data=secret";
const SECRET: &str = "--object secret,id=s,data=secret";

/// Images of every kind with a few bytes changed, mostly in their tables.
#[test]
fn damaged_images_cost_an_error_and_never_more() {
    let mut random = Random(99);
    for round in 0..400 {
        let kind = random.below(4);
        let options = CreateOptions {
            cluster_size: if kind == 1 { 16 << 10 } else { 512 << random.below(4) },
            subclusters: kind == 1,
            version: if kind == 2 { Version::V2 } else { Version::V3 },
            ..CreateOptions::new(500_000)
        };
        let memory = Memory::new(0);
        create(&memory, &options).unwrap();
        let disk = Qcow2::open(memory, Access::ReadWrite, &Closed).unwrap();
        let mut model = vec![0; 500_000];
        for _ in 0..20 {
            step(&disk, &mut model, &mut random, true);
        }
        let file = disk.close().unwrap();
        for _ in 0..1 + random.below(6) {
            let offset = match random.below(3) {
                0 => random.below(112),
                1 => random.below(8) * options.cluster_size + random.below(64),
                _ => random.below(file.len()),
            };
            let byte = [0, 1, 0x40, 0x80, 0xFF, random.next() as u8][random.below(6) as usize];
            file.write_at(&[byte], offset.min(file.len() - 1)).unwrap();
        }
        if random.below(4) == 0 {
            file.set_len(random.below(file.len()));
        }
        for access in [Access::ReadOnly, Access::ReadWrite] {
            use_anyhow(&file, access, &mut random);
        }
        let _ = check(&file, Repair::Nothing);
        if let Ok(report) = check(&file, Repair::Everything)
            && report.is_clean()
            && let Ok(disk) = Qcow2::open(&file, Access::ReadWrite, &Closed)
        {
            // What was repaired is as good as new.
            let bytes = random.bytes(10_000);
            let start = random.below(disk.len().saturating_sub(10_000).max(1));
            if disk.write_at(&bytes, start).is_ok() {
                disk.flush().unwrap();
                let report = check(&file, Repair::Nothing).unwrap();
                assert_eq!(report.corruptions, 0, "round {round}: {report:#?}");
            }
        }
    }
}

fn use_anyhow(file: &Memory, access: Access, random: &mut Random) {
    let file = file.clone();
    let Ok(disk) = Qcow2::open(&file, access, &Closed) else { return };
    let mut next = 0;
    for _ in 0..2000 {
        match disk.extent_at(next) {
            Ok(extent) if extent.range.end < disk.len() => next = extent.range.end,
            _ => break,
        }
    }
    for _ in 0..40 {
        let len = disk.len().max(1);
        let range = random.range(len, 100_000, disk.header().cluster_size());
        if range.end > disk.len() {
            continue;
        }
        let mut bytes = random.bytes(range.end - range.start);
        let _ = match random.below(6) {
            0 | 1 => disk.read_at(&mut bytes, range.start),
            2 | 3 => disk.write_at(&bytes, range.start),
            4 => disk.write_zeroes(range),
            _ => disk.discard(range),
        };
    }
    let _ = disk.flush();
    for snapshot in disk.snapshots() {
        let _ = disk.snapshot(&snapshot.id).map(|view| view.read_at(&mut [0; 1000], 0));
    }
}

/// Threads that share clusters but no bytes write, zero, discard and flush at once.
#[test]
fn threads_that_share_clusters_never_disturb_each_other() {
    for luks in [false, true] {
        let options = CreateOptions {
            cluster_size: 4096,
            luks_header: luks.then_some(4096),
            ..CreateOptions::new(4 << 20)
        };
        let memory = Memory::new(0);
        create(&memory, &options).unwrap();
        let mut disk = Qcow2::open(memory, Access::ReadWrite, &Closed).unwrap();
        if luks {
            disk.set_cipher(cipher()).unwrap();
        }
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let disk = &disk;
                scope.spawn(move || share_clusters(disk, thread));
            }
        });
        let file = disk.close().unwrap();
        assert!(check(&file, Repair::Nothing).unwrap().is_clean());
    }
}

/// Works on every fourth piece of 10,000 bytes, beginning with number `thread`.
fn share_clusters(disk: &Qcow2<Memory>, thread: u64) {
    let mut random = Random(thread);
    let pieces = disk.len() / 40_000;
    let mut model = vec![vec![0; 10_000]; pieces as usize];
    for _ in 0..2000 {
        let piece = random.below(pieces);
        let range = random.range(10_000, 9_000, 2048);
        let content = &mut model[piece as usize];
        let offset = piece * 40_000 + thread * 10_000;
        let within = range.start as usize..range.end as usize;
        let on_disk = offset + range.start..offset + range.end;
        match random.below(8) {
            0..4 => {
                let bytes = random.bytes(range.end - range.start);
                disk.write_at(&bytes, on_disk.start).unwrap();
                content[within].copy_from_slice(&bytes);
            }
            4 => {
                disk.write_zeroes(on_disk).unwrap();
                content[within].fill(0);
            }
            5 => {
                disk.discard(on_disk.clone()).unwrap();
                disk.read_at(&mut content[within], on_disk.start).unwrap();
            }
            6 if random.below(10) == 0 => disk.flush().unwrap(),
            _ => {}
        }
        let mut found = vec![1; 10_000];
        disk.read_at(&mut found, offset).unwrap();
        assert!(found == *content, "piece {piece} of thread {thread}");
    }
}
