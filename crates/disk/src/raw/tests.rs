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

/// A disk that is read and written from pages, so that as much as possible bypasses the cache.
struct Aligned(Raw);

/// Returns where in a buffer that is a page longer than needed the bytes of `offset` may lie.
fn place(buf: &[u8], offset: u64, length: usize) -> Range<usize> {
    let page = rustix::param::page_size();
    let start = buf.as_ptr().align_offset(page) % page + (offset % page as u64) as usize;
    let start = start % page;
    start..start + length
}

impl Disk for Aligned {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn label(&self) -> &str {
        self.0.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut pages = vec![0; buf.len() + 2 * rustix::param::page_size()];
        let place = place(&pages, offset, buf.len());
        self.0.read_at(&mut pages[place.clone()], offset)?;
        buf.copy_from_slice(&pages[place]);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let mut pages = vec![0; buf.len() + 2 * rustix::param::page_size()];
        let place = place(&pages, offset, buf.len());
        pages[place.clone()].copy_from_slice(buf);
        self.0.write_at(&pages[place], offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.0.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.0.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.0.write_zeroes(range)
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }
}

/// Returns a directory on a file system that has direct I/O.
fn direct_directory(name: &str) -> Option<TempDir> {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = file(&directory, &[0; 4096]);
    match Raw::open(path, Access::ReadWrite).unwrap().bypass_cache() {
        Ok(()) => Some(directory),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            strongroom_testkit::skip(name, "/var/tmp has no direct I/O");
            None
        }
    }
}

#[test]
fn passes_the_conformance_suite_past_the_cache() {
    let Some(directory) = direct_directory("passes_the_conformance_suite_past_the_cache") else {
        return;
    };
    // Lengths of all kinds: the last page is rarely whole.
    for granularity in [1, 512, 4096] {
        conformance::run(granularity, &|len| {
            let path = file(&directory, &vec![0x55; len as usize]);
            let mut raw = Raw::open(path, Access::ReadWrite).unwrap();
            raw.bypass_cache().unwrap();
            Box::new(Aligned(raw))
        });
    }
    conformance::run(1, &|len| {
        let path = file(&directory, &vec![0x55; len as usize]);
        let mut raw = Raw::open(path, Access::ReadWrite).unwrap();
        raw.bypass_cache().unwrap();
        Box::new(raw)
    });
}

#[test]
fn both_ways_into_a_file_see_the_same_bytes() {
    let Some(directory) = direct_directory("both_ways_into_a_file_see_the_same_bytes") else {
        return;
    };
    let path = file(&directory, &vec![1; (1 << 20) + 77]);
    let mut raw = Raw::open(&path, Access::ReadWrite).unwrap();
    raw.bypass_cache().unwrap();
    let (direct, buffered) = (Aligned(raw), Raw::open(&path, Access::ReadWrite).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (direct, buffered) = (&direct, &buffered);
            scope.spawn(move || {
                for step in 0..60 {
                    let start = (step * 4 + thread) * 4321;
                    let bytes = vec![(step * 4 + thread) as u8; 4321];
                    let (one, other): (&dyn Disk, &dyn Disk) =
                        if step % 2 == 0 { (direct, buffered) } else { (buffered, direct) };
                    one.write_at(&bytes, start).unwrap();
                    let mut found = vec![0; 4321];
                    other.read_at(&mut found, start).unwrap();
                    assert!(found == bytes);
                }
            });
        }
    });
    direct.flush().unwrap();
    let content = fs::read(&path).unwrap();
    for (index, piece) in content[..240 * 4321].chunks(4321).enumerate() {
        assert!(piece.iter().all(|&byte| byte == index as u8));
    }
    assert!(content[240 * 4321..].iter().all(|&byte| byte == 1));
}

#[test]
fn whole_pages_go_directly_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let page = rustix::param::page_size();
    let len = 10 * page + 100;
    let path = file(&directory, &vec![1; len]);
    let other = directory.path().join("direct");
    fs::write(&other, vec![2; len]).unwrap();
    let mut raw = Raw::open(&path, Access::ReadWrite).unwrap();
    // Another file in place of the second opening shows which way every byte has taken.
    let second = OpenOptions::new().read(true).write(true).open(&other).unwrap();
    raw.direct = Some(Direct { file: second, alignment: page });
    let raw = Aligned(raw);
    let mut bytes = vec![0; len - 50];
    raw.read_at(&mut bytes, 50).unwrap();
    let expected = [vec![1; page - 50], vec![2; 9 * page], vec![1; 100]].concat();
    assert!(bytes == expected);

    raw.write_at(&vec![3; 2 * page], 10).unwrap();
    raw.write_at(&vec![4; page - 1], 5 * page as u64).unwrap();
    let (buffered, direct) = (fs::read(&path).unwrap(), fs::read(&other).unwrap());
    let head = [vec![1; 10], vec![3; page - 10], vec![1; page], vec![3; 10]].concat();
    assert!(buffered[..head.len()] == head && direct[page..2 * page] == vec![3; page]);
    assert!(direct[..page] == vec![2; page] && direct[2 * page..] == vec![2; len - 2 * page]);
    assert!(buffered[5 * page..6 * page - 1] == vec![4; page - 1]);

    // A buffer that does not begin like its offset goes another way altogether.
    let mut bytes = vec![0; 4 * page];
    let place = place(&bytes, 1, 2 * page);
    raw.0.read_at(&mut bytes[place.clone()], page as u64).unwrap();
    assert!(bytes[place][..page] == vec![1; page]);
}

#[test]
fn a_file_without_a_name_can_bypass_the_cache() {
    let Some(directory) = direct_directory("a_file_without_a_name_can_bypass_the_cache") else {
        return;
    };
    let target = directory.path().join("new");
    let (mut new, _permit) =
        crate::NewFile::create(&target, crate::Overwrite::Refuse, &[]).unwrap();
    new.bypass_cache().unwrap();
    new.disk().set_len(10_000).unwrap();
    let mut pages = vec![0; 20_000];
    let place = place(&pages, 0, 10_000);
    pages[place.clone()].fill(9);
    new.disk().write_at(&pages[place], 0).unwrap();
    new.commit().unwrap();
    assert!(fs::read(&target).unwrap() == vec![9; 10_000]);
}

#[test]
fn a_file_system_without_direct_io_is_named_as_the_reason() {
    let mut raw = Raw::open("/proc/version", Access::ReadOnly).unwrap();
    let error = raw.bypass_cache().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("/proc/version: its file system cannot"), "{error}");
}

#[test]
fn nothing_of_a_flushed_file_stays_in_the_cache() {
    let name = "nothing_of_a_flushed_file_stays_in_the_cache";
    let Some(directory) = direct_directory(name) else { return };
    let path = file(&directory, &[]);
    let cached = || {
        let mut command = std::process::Command::new("fincore");
        command.args(["--bytes", "--noheadings", "--output", "RES"]).arg(&path);
        let output = command.output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap().trim().parse::<u64>().unwrap())
    };
    if cached().is_none() {
        return strongroom_testkit::skip(name, "there is no fincore");
    }
    let mut raw = Raw::open(&path, Access::ReadWrite).unwrap();
    raw.set_len((1 << 20) + 77).unwrap();
    raw.write_at(&vec![1; 1 << 20], 77).unwrap();
    raw.flush().unwrap();
    assert!(cached().unwrap() >= 1 << 20);
    raw.bypass_cache().unwrap();
    raw.write_at(&vec![2; 5000], 77).unwrap();
    raw.flush().unwrap();
    assert_eq!(cached().unwrap(), 0);
    // What goes directly does not get there in the first place.
    let raw = Aligned(raw);
    raw.write_at(&vec![3; 1 << 20], 0).unwrap();
    raw.read_at(&mut vec![0; 1 << 20], 0).unwrap();
    assert_eq!(cached().unwrap(), 0);
}

#[test]
fn what_is_appended_makes_the_file_longer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let (raw, _permit) = Raw::create_new(&path).unwrap();
    raw.append(b"abc").unwrap();
    raw.append(b"def").unwrap();
    assert_eq!(raw.len(), 6);
    assert_eq!(fs::read(&path).unwrap(), b"abcdef");
    let error = Raw::open(&path, Access::ReadOnly).unwrap().append(b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    let taken = raw.try_lock_image(LockMode::Exclusive).unwrap();
    let other = Raw::open(&path, Access::ReadOnly).unwrap();
    assert_eq!(other.try_lock_image(LockMode::Shared).unwrap_err().kind(), ErrorKind::Busy);
    drop(taken);
    let _shared = other.try_lock_image(LockMode::Shared).unwrap();
}

#[test]
fn finds_that_somebody_else_has_made_the_file_longer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    let (raw, _permit) = Raw::create_new(&path).unwrap();
    raw.set_len(4096).unwrap();
    let other = Raw::open(&path, Access::ReadWrite).unwrap();
    other.set_len(8192).unwrap();
    assert_eq!((raw.len(), raw.look_for_growth().unwrap(), raw.len()), (4096, 8192, 8192));
    other.set_len(1).unwrap();
    assert_eq!(raw.look_for_growth().unwrap(), 8192);
    assert!(raw.read_at(&mut [0; 16], 4096).is_err());
}
