//! What a crash leaves of an image that is written through `Unfinished`.

use strongroom_disk::qcow2::{Closed, CreateOptions, Qcow2, create};
use strongroom_disk::{Access, Disk, Memory, Unfinished};
use strongroom_testkit::{Change, Fault, FaultyDisk, RecordingDisk, Tearing};

const MAGIC: &[u8] = b"QFI\xfb";

fn write_image(file: &Unfinished<&RecordingDisk>) {
    create(file, &CreateOptions::new(300 << 10)).unwrap();
    let image = Qcow2::open(file, Access::ReadWrite, &Closed).unwrap();
    for offset in [0, 70_000, 200_001] {
        image.write_at(&[7; 60_000], offset).unwrap();
    }
    image.write_zeroes(10_000..80_000).unwrap();
    image.flush().unwrap();
}

fn begins_with_magic(file: &Memory) -> bool {
    let mut first = [0; 4];
    file.read_at(&mut first[..file.len().min(4) as usize], 0).unwrap();
    first == MAGIC
}

#[test]
fn no_prefix_of_the_writes_bears_the_magic_before_the_image_is_whole() {
    let recording = RecordingDisk::new(Memory::new(0));
    let file = Unfinished::new(&recording).unwrap();
    write_image(&file);
    assert_eq!(file.first_bytes()[..4], *MAGIC);
    file.finish().unwrap();

    let changes = recording.changes();
    let whole = recording.replay(changes.len());
    assert!(begins_with_magic(&whole));
    let mut seen = 0;
    for tearing in [Tearing::None, Tearing::Sectors] {
        for (count, crashed) in recording.crashes(tearing) {
            if begins_with_magic(&crashed) {
                assert!(count >= changes.len() - 2, "the magic is there after {count} changes");
                assert!(crashed.to_vec() == whole.to_vec());
            } else {
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
    // Nothing is reordered over a flush, so the magic comes last even where the disk reorders.
    let [Change::Flush, Change::Write { offset: 0, bytes }, Change::Flush] =
        &changes[changes.len() - 3..]
    else {
        panic!("{:?}", &changes[changes.len() - 3..]);
    };
    assert_eq!(bytes.len(), 8);
    let image = Qcow2::open(whole, Access::ReadOnly, &Closed).unwrap();
    let mut byte = [0];
    image.read_at(&mut byte, 200_001).unwrap();
    assert_eq!(byte, [7]);
}

#[test]
fn a_job_goes_on_from_any_crash_after_the_marker() {
    let recording = RecordingDisk::new(Memory::new(0));
    let file = Unfinished::new(&recording).unwrap();
    write_image(&file);
    for (count, crashed) in recording.crashes(Tearing::Sectors).skip(3) {
        let resumed = Unfinished::resume(&crashed, file.first_bytes())
            .unwrap_or_else(|error| panic!("after {count} changes: {error}"));
        assert_eq!(resumed.first_bytes()[..4], *MAGIC);
    }
}

#[test]
fn an_error_at_the_end_leaves_the_file_unfinished() {
    let mut operations = 0;
    for ordinal in 0.. {
        let memory = Memory::new(100);
        let file = Unfinished::new(FaultyDisk::new(&memory, Fault::NoSpace, ordinal));
        let Ok(file) = file else { continue };
        if file.write_at(MAGIC, 0).is_err() || file.finish().is_ok() {
            break;
        }
        operations += 1;
        // The last flush fails after the bytes are there.
        assert!(!begins_with_magic(&memory) || operations == 3);
        file.finish().unwrap();
        assert!(begins_with_magic(&memory));
    }
    assert_eq!(operations, 3, "a flush, a write, a flush");
}
