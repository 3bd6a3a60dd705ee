//! The file in user space.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::process::{Gid, Uid};
use strongroom_attach::loop_device::Access;
use strongroom_attach::{ErrorKind, Launcher, fuse};
use strongroom_crypto::SectorSize;
use strongroom_testkit::{Tool, skip};

use crate::rig::{Aligned, Random, Rig, has, is_root, launcher, open_directly};

#[test]
fn reads_and_writes_of_any_size_agree_with_a_model() {
    let test = "reads_and_writes_of_any_size_agree_with_a_model";
    if !has(test, &fuse::support()) {
        return;
    }
    for sector_size in [None, Some(SectorSize::B512), Some(SectorSize::B4096)] {
        let rig = Rig::new(LEN as u64, sector_size);
        rig.zero();
        rig.start_server();
        let file = open(&rig);
        assert_eq!(file.metadata().unwrap().len(), LEN as u64);
        let mut model = vec![0; LEN];
        let mut random = Random(7);
        for step in 0..600 {
            let offset = random.below(LEN);
            let most = if step % 10 == 0 { LEN } else { 9000 };
            let len = random.below(most.min(LEN - offset)) + 1;
            if random.below(2) == 0 {
                let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + step) as u8).collect();
                file.write_all_at(&bytes, offset as u64).unwrap();
                model[offset..offset + len].copy_from_slice(&bytes);
            } else {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset as u64).unwrap();
                assert!(bytes == model[offset..offset + len], "step {step}");
            }
        }
        drop(file);
        fuse::stop(&rig.file()).unwrap();
        assert!(rig.plaintext() == model, "{sector_size:?}");
    }
}

#[test]
fn threads_that_share_sectors_do_not_disturb_each_other() {
    let test = "threads_that_share_sectors_do_not_disturb_each_other";
    if !has(test, &fuse::support()) {
        return;
    }
    let rig = Rig::new(1 << 20, Some(SectorSize::B4096));
    rig.zero();
    rig.start_server();
    // Pieces of 512 bytes, past the cache of pages, dealt out among the threads like cards.
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let rig = &rig;
            scope.spawn(move || {
                let file = open_directly(&rig.file());
                let mut buffer = Aligned::new(512);
                for piece in (thread..2048).step_by(4) {
                    buffer.bytes().fill(piece as u8);
                    file.write_all_at(buffer.bytes(), piece * 512).unwrap();
                }
            });
        }
    });
    fuse::stop(&rig.file()).unwrap();
    let plaintext = rig.plaintext();
    assert!(plaintext.chunks(512).enumerate().all(|(at, piece)| piece == [at as u8; 512]));
}

#[test]
fn nothing_of_the_plaintext_is_on_the_backing() {
    let test = "nothing_of_the_plaintext_is_on_the_backing";
    if !has(test, &fuse::support()) {
        return;
    }
    let rig = Rig::new(1 << 20, Some(SectorSize::B512));
    rig.start_server();
    let canary = b"a canary that sings on the medium if anything is plain";
    let line: Vec<u8> = canary.iter().copied().cycle().take(1 << 20).collect();
    open(&rig).write_all_at(&line, 0).unwrap();
    fuse::stop(&rig.file()).unwrap();
    let backing = fs::read(rig.backing()).unwrap();
    assert!(!backing.windows(16).any(|window| window == &canary[..16]));
    assert!(rig.plaintext() == line, "it was written there all the same");
}

#[test]
fn a_hole_is_never_punched() {
    if !has("a_hole_is_never_punched", &fuse::support()) {
        return;
    }
    use rustix::fs::FallocateFlags;
    let rig = Rig::new(1 << 20, Some(SectorSize::B512));
    rig.start_server();
    let file = open(&rig);
    let keep = FallocateFlags::KEEP_SIZE;
    for mode in [FallocateFlags::PUNCH_HOLE | keep, FallocateFlags::ZERO_RANGE | keep, keep] {
        let refused = rustix::fs::fallocate(&file, mode, 0, 4096).unwrap_err();
        assert_eq!(refused, rustix::io::Errno::OPNOTSUPP);
    }
    // Nor is it made longer or shorter.
    assert_eq!(file.set_len(4096).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert!(file.set_len(1 << 21).is_err());
    file.set_len(1 << 20).unwrap();
}

#[test]
fn a_file_to_be_read_only_is_read_only() {
    if !has("a_file_to_be_read_only_is_read_only", &fuse::support()) {
        return;
    }
    let rig = Rig::new(1 << 20, Some(SectorSize::B512));
    rig.zero();
    fuse::start(&launcher(), &rig.volume(), &rig.file(), Access::ReadOnly).unwrap();
    let error = OpenOptions::new().write(true).open(rig.file()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(fs::read(rig.file()).unwrap() == vec![0; 1 << 20]);
    fuse::stop(&rig.file()).unwrap();
}

#[test]
fn a_file_has_one_server_and_goes_with_it() {
    if !has("a_file_has_one_server_and_goes_with_it", &fuse::support()) {
        return;
    }
    let rig = Rig::new(1 << 20, Some(SectorSize::B512));
    assert!(!fuse::serves(&rig.file()).unwrap());
    fuse::stop(&rig.file()).unwrap();
    rig.start_server();
    assert!(fuse::serves(&rig.file()).unwrap());
    let second =
        fuse::start(&launcher(), &rig.volume(), &rig.file(), Access::ReadWrite).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Busy);
    let user = open(&rig);
    let error = fuse::stop(&rig.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(fuse::serves(&rig.file()).unwrap());
    drop(user);
    fuse::stop(&rig.file()).unwrap();
    assert!(!rig.file().exists());
    assert!(!fuse::serves(&rig.file()).unwrap());
}

#[test]
fn a_file_that_holds_something_is_neither_covered_nor_removed() {
    let test = "a_file_that_holds_something_is_neither_covered_nor_removed";
    if !has(test, &fuse::support()) {
        return;
    }
    let rig = Rig::new(1 << 20, None);
    fs::write(rig.file(), "precious").unwrap();
    let error =
        fuse::start(&launcher(), &rig.volume(), &rig.file(), Access::ReadWrite).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    fuse::stop(&rig.file()).unwrap();
    assert_eq!(fs::read(rig.file()).unwrap(), b"precious");
}

#[test]
fn a_server_that_could_not_flush_is_told_of_once() {
    let rig = Rig::new(1 << 20, None);
    // What such a server leaves, since no medium fails on demand here.
    fs::write(rig.file(), "what was written last may be lost\n").unwrap();
    let error = fuse::stop(&rig.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("may be lost"), "{error}");
    fuse::stop(&rig.file()).unwrap();
    assert!(!rig.file().exists());
}

#[test]
fn a_volume_that_is_not_there_is_named() {
    if !has("a_volume_that_is_not_there_is_named", &fuse::support()) {
        return;
    }
    let rig = Rig::new(1 << 20, Some(SectorSize::B512));
    let volume = rig.volume();
    fs::remove_file(rig.backing()).unwrap();
    let error = fuse::start(&launcher(), &volume, &rig.file(), Access::ReadWrite).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("backing"), "{error}: {cause}");
    assert!(!fuse::serves(&rig.file()).unwrap());
    fuse::stop(&rig.file()).unwrap();
    assert!(!rig.file().exists());
}

#[test]
fn a_file_grows_with_its_backing() {
    if !has("a_file_grows_with_its_backing", &fuse::support()) {
        return;
    }
    let rig = Rig::new(1 << 20, Some(SectorSize::B4096));
    rig.start_server();
    let file = open(&rig);
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    let backing = OpenOptions::new().write(true).open(rig.backing()).unwrap();
    let longer = backing.metadata().unwrap().len() + (1 << 20) + 100;
    backing.set_len(longer).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 2 << 20, "whole sectors");
    file.write_all_at(b"new", (2 << 20) - 3).unwrap();
    let mut bytes = [0; 3];
    file.read_exact_at(&mut bytes, (2 << 20) - 3).unwrap();
    assert_eq!(&bytes, b"new");
    assert!(file.write_all_at(b"more", (2 << 20) - 1).is_err());
}

#[test]
fn an_unprivileged_user_has_the_file_alone() {
    let test = "an_unprivileged_user_has_the_file_alone";
    if !has(test, &fuse::support()) || !is_root(test) {
        return;
    }
    if !Tool::FUSERMOUNT3.available() {
        return skip(test, "there is no fusermount3");
    }
    if fs::metadata("/dev/fuse").unwrap().mode() & 0o6 != 0o6 {
        return skip(test, "/dev/fuse is for root alone");
    }
    let rig = Rig::new(1 << 20, Some(SectorSize::B512));
    rig.zero();
    let program = rig.folder().join("service");
    fs::copy(launcher().program, &program).unwrap();
    for path in [rig.folder().to_owned(), rig.backing(), program.clone()] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let launcher = Launcher { program, arguments: Vec::new() };
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            become_nobody();
            fuse::start(&launcher, &rig.volume(), &rig.file(), Access::ReadWrite).unwrap();
            assert!(fuse::serves(&rig.file()).unwrap());
            let file = open(&rig);
            file.write_all_at(b"words", 700).unwrap();
            file.sync_all().unwrap();
            assert_eq!(fuse::stop(&rig.file()).unwrap_err().kind(), ErrorKind::Busy);
            drop(file);
            fuse::stop(&rig.file()).unwrap();
        });
        work.join().unwrap();
    });
    assert!(!rig.file().exists());
    assert_eq!(&rig.plaintext()[700..705], b"words");
}

/// Makes this thread, and what it starts, an ordinary user.
fn become_nobody() {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(group, group, group).unwrap();
    rustix::thread::set_thread_res_uid(user, user, user).unwrap();
}

fn open(rig: &Rig) -> File {
    OpenOptions::new().read(true).write(true).open(rig.file()).unwrap()
}

const NOBODY: u32 = 65534;

const LEN: usize = 3 << 20;
