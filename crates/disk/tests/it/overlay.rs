//! What a crash leaves of a layer: after each prefix of the changes, and after what reordering between
//! flushes makes of the last ones, each byte is what it was at the last flush or what was written since.

use std::ops::Range;

use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};
use strongroom_disk::{Disk, Encrypted, LayerIdentity, Mapped, Memory, Overlay, Slice};
use strongroom_testkit::{Change, RecordingDisk, Tearing};

use crate::tools::Random;

const BLOCK: u64 = 8192;
const START: u64 = 2 * BLOCK;
const LEN: u64 = 6 * BLOCK + 1024;
const MAP: u64 = 4096 + 512;

type Chain<'a> = Overlay<Mapped<Slice<&'a dyn Disk>, Slice<&'a dyn Disk>>, Memory>;

/// Returns the overlay whose child and map lie on one disk, so that their changes have one order.
fn open(both: &dyn Disk, is_new: IsNew) -> Chain<'_> {
    let disk = Slice::new(both, 0..START + LEN).unwrap();
    let map = Slice::new(both, START + LEN..both.len()).unwrap();
    let identity = LayerIdentity { layer: "child", parent: Some("parent") };
    let layer = match is_new {
        IsNew::Yes => Mapped::create(disk, map, BLOCK, identity),
        IsNew::No => Mapped::open(disk, map, identity),
    };
    let encryption = "aes-xts-plain64".parse::<CipherSpec>().unwrap().with_largest_key();
    let key = VolumeKey::new((0..64).collect());
    let cipher = SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512).unwrap();
    let child = Encrypted::new(layer.unwrap(), START..START + LEN, cipher, 0).unwrap();
    Overlay::new(child, Some(parent())).unwrap()
}

#[derive(Clone, Copy)]
enum IsNew {
    Yes,
    No,
}

/// Shorter than the child, and not at a border of blocks.
fn parent() -> Memory {
    Memory::from(&(0..4 * BLOCK + 700).map(|i| (i / 97) as u8 | 1).collect::<Vec<u8>>()[..])
}

fn contents(disk: &dyn Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.len() as usize];
    disk.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A write or a flush.
struct Step {
    /// How many changes of the disk below there were when it began.
    changes: usize,
    /// And when it was over.
    end: usize,
    write: Option<(Range<usize>, Vec<u8>)>,
    /// What there was before it.
    before: Vec<u8>,
}

/// Checks what is found after the first `changes`, of which those from `durable` on may be missing.
fn allowed(steps: &[Step], durable: usize, changes: usize, found: &[u8], last: &[u8]) {
    // The last flush that was over by then; what came after it began later.
    let flushed = steps.iter().rposition(|step| step.write.is_none() && step.end <= durable);
    let base = steps.get(flushed.unwrap_or(0)).map_or(last, |step| &step.before);
    let newer = &steps[flushed.map_or(0, |index| index + 1)..];
    let mut wrong: Vec<usize> = (0..found.len()).filter(|&at| found[at] != base[at]).collect();
    for step in newer.iter().filter(|step| step.changes < changes) {
        if let Some((range, bytes)) = &step.write {
            wrong.retain(|&at| !(range.contains(&at) && bytes[at - range.start] == found[at]));
        }
    }
    assert!(
        wrong.is_empty(),
        "after {changes} changes {} bytes are wrong, from {:?}",
        wrong.len(),
        { wrong.first() }
    );
}

fn survives(seed: u64) {
    let memory = Memory::new(START + LEN + MAP);
    drop(open(&memory, IsNew::Yes));
    let recording = RecordingDisk::new(memory);
    let disk = open(&recording, IsNew::No);
    let mut now = contents(&disk);
    let mut steps = Vec::new();
    let mut random = Random(seed);
    for _ in 0..24 {
        let (changes, before) = (recording.changes().len(), now.clone());
        let range = random.range(LEN, 6_000, BLOCK);
        let at = range.start as usize..range.end as usize;
        let write = match random.below(6) {
            0..4 => Some(random.bytes(range.end - range.start)),
            4 => Some(vec![0; at.len()]),
            _ => None,
        };
        match &write {
            Some(bytes) if bytes.iter().all(|&byte| byte == 0) => disk.write_zeroes(range).unwrap(),
            Some(bytes) => disk.write_at(bytes, range.start).unwrap(),
            None => disk.flush().unwrap(),
        }
        if let Some(bytes) = &write {
            now[at.clone()].copy_from_slice(bytes);
        }
        let end = recording.changes().len();
        steps.push(Step { changes, end, write: write.map(|bytes| (at, bytes)), before });
    }
    assert!(contents(&disk) == now);
    drop(disk);
    let found_after = |left: &Memory| contents(&open(left, IsNew::No));
    for (changes, left) in recording.crashes(Tearing::Sectors) {
        // What is half done counts as begun.
        allowed(&steps, changes, changes + 1, &found_after(&left), &now);
    }
    assert!(found_after(&recording.replay(recording.changes().len())) == now, "an end is no crash");
    reordered(&recording, &steps, &now, &mut random);
}

/// Between two flushes a disk may have done any part of the changes.
fn reordered(recording: &RecordingDisk, steps: &[Step], now: &[u8], random: &mut Random) {
    let changes = recording.changes();
    let flushes = changes.iter().enumerate().filter(|(_, change)| **change == Change::Flush);
    let mut start = 0;
    for end in flushes.map(|(index, _)| index).chain([changes.len()]) {
        for _ in 0..4 {
            let left = recording.replay(start);
            for change in &changes[start..end] {
                if random.below(2) == 0 {
                    change.apply(&left);
                }
            }
            allowed(steps, start, end, &contents(&open(&left, IsNew::No)), now);
        }
        start = end;
    }
}

#[test]
fn a_crash_leaves_old_or_new_data_and_never_what_nobody_can_decrypt() {
    for seed in 1..=12 {
        survives(seed);
    }
}
