use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::{Extents, conformance};

fn file(directory: &TempDir, content: &[u8]) -> PathBuf {
    let path = directory.path().join("disk.raw");
    fs::write(&path, content).unwrap();
    path
}

fn passes_the_suite_in(directory: &TempDir) {
    for granularity in [1, 4096] {
        conformance::run(granularity, &|len| {
            let path = file(directory, &vec![0x55; len as usize]);
            Box::new(Raw::open(path, Access::ReadWrite).unwrap())
        });
    }
}

#[test]
fn passes_the_conformance_suite_on_disk() {
    passes_the_suite_in(&tempfile::tempdir_in("/var/tmp").unwrap());
}

#[test]
fn passes_the_conformance_suite_on_tmpfs() {
    passes_the_suite_in(&tempfile::tempdir_in("/dev/shm").unwrap());
}

#[test]
fn holes_are_seen_and_made() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, _permit) = Raw::create_new(directory.path().join("sparse")).unwrap();
    disk.set_len(1 << 30).unwrap();
    disk.write_at(&[1; 65536], 1 << 20).unwrap();
    let extents: Vec<_> = Extents::new(&disk, 0..disk.len()).map(Result::unwrap).collect();
    let data = Extent { range: 1 << 20..(1 << 20) + 65536, kind: ExtentKind::Data };
    assert_eq!(extents.len(), 3);
    assert_eq!(extents[1], data);

    let blocks = || disk.file.metadata().unwrap().blocks();
    assert!(blocks() >= 128);
    disk.discard(1 << 20..(1 << 20) + 32768).unwrap();
    assert!(blocks() <= 72, "{}", blocks());
    disk.write_zeroes(1 << 20..(1 << 20) + 65536).unwrap();
    assert!(blocks() <= 8);
    assert_eq!(disk.len(), 1 << 30);
}

#[test]
fn blocks_that_were_allocated_but_never_written_are_holes() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, _permit) = Raw::create_new(directory.path().join("preallocated")).unwrap();
    disk.set_len(32 << 20).unwrap();
    rustix::fs::fallocate(&disk.file, FallocateFlags::empty(), 0, 32 << 20).unwrap();
    disk.write_at(&[1; 4096], 0).unwrap();
    let extents: Vec<_> = Extents::new(&disk, 0..disk.len()).map(Result::unwrap).collect();
    assert_eq!(extents.len(), 2);
    assert_eq!(extents[1], Extent { range: DENSE_EXTENT..32 << 20, kind: ExtentKind::Unallocated });
}

#[test]
fn a_file_that_became_shorter_is_never_taken_for_zeros() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, &[1; 8192]);
    let disk = Raw::open(&path, Access::ReadOnly).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert_eq!(disk.read_at(&mut [0; 8192], 0).unwrap_err().kind(), ErrorKind::ShortRead);
    assert_eq!(disk.extent_at(4096).unwrap_err().kind(), ErrorKind::ShortRead);
    let last = Extents::new(&disk, 0..8192).last().unwrap();
    assert_eq!(last.unwrap_err().kind(), ErrorKind::ShortRead);
}

#[test]
fn a_disk_opened_for_reading_refuses_changes() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Raw::open(file(&directory, &[1; 512]), Access::ReadOnly).unwrap();
    for result in [
        disk.write_at(&[0], 0),
        disk.write_scratch_at(&mut [0], 0),
        disk.discard(0..512),
        disk.write_zeroes(0..512),
        disk.set_len(5),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnly);
    }
    disk.flush().unwrap();
}

#[test]
fn new_files_are_private_and_never_replace_anything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new");
    let (disk, _permit) = Raw::create_new(&path).unwrap();
    assert_eq!(disk.len(), 0);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Raw::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path().join("nowhere"), &link).unwrap();
    assert_eq!(Raw::create_new(&link).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn what_is_no_disk_is_refused_by_name_and_kind() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for (path, words) in [
        (directory.path(), "it is a directory"),
        (&pipe, "it is a pipe"),
        (Path::new("/dev/null"), "it is a character device"),
    ] {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let error = Raw::open(path, access).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotADisk);
            let text = error.to_string();
            assert!(text.contains(words) && text.contains(&path.display().to_string()), "{text}");
        }
    }
    let error = Raw::open(directory.path().join("missing"), Access::ReadOnly).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn the_lock_of_a_file_is_the_one_of_the_file_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, &[1; 512]);
    let disk = Raw::open(&path, Access::ReadWrite).unwrap();
    let other = Raw::open(&path, Access::ReadOnly).unwrap();
    let shared = (disk.lock(LockMode::Shared).unwrap(), other.try_lock(LockMode::Shared).unwrap());
    let error = other.try_lock(LockMode::Exclusive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().ends_with("another process is using its metadata"), "{error}");
    drop(shared);
    // Renaming changes nothing, nor does a lock that another program takes.
    fs::rename(&path, directory.path().join("renamed")).unwrap();
    let guard = disk.try_lock(LockMode::Exclusive).unwrap();
    let foreign = File::open(directory.path().join("renamed")).unwrap();
    assert!(foreign.try_lock_shared().is_err());
    drop(guard);
    foreign.try_lock().unwrap();
    assert!(disk.try_lock(LockMode::Shared).is_err());
}

#[test]
fn the_same_file_is_known_by_any_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, &[1; 512]);
    let link = directory.path().join("hard link");
    fs::hard_link(&path, &link).unwrap();
    let disk = Raw::open(&path, Access::ReadOnly).unwrap();
    assert!(disk.is_same_file(&Raw::open(&link, Access::ReadOnly).unwrap()).unwrap());
    let (new, _permit) = Raw::create_new(directory.path().join("new")).unwrap();
    assert!(!disk.is_same_file(&new).unwrap());
}

#[test]
fn errors_use_the_label() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Raw::open(file(&directory, &[1; 512]), Access::ReadOnly).unwrap();
    let error = disk.with_label("the source").read_at(&mut [0; 2], 511).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read 2 bytes at offset 511 of the source: the disk ends at 512"
    );
}
