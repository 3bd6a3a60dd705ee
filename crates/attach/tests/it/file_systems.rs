//! File systems on a loop device of the file in user space.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use strongroom_attach::{ErrorKind, fuse, loop_device};
use strongroom_crypto::SectorSize;
use strongroom_testkit::{Pattern, Tool, run, skip};

use crate::rig::Rig;

#[test]
fn ext4_is_whole_after_it_was_attached_again() {
    let test = "ext4_is_whole_after_it_was_attached_again";
    for size in [SectorSize::B512, SectorSize::B4096] {
        let Some(rig) = Rig::with_device(test, 64 << 20, size) else { return };
        let device = rig.attach();
        run(with(Tool::MKFS_EXT4, &["-q", "-F"], &device), b"").ok();
        write_and_read_again(&rig, &device, "ext4");
        let device = rig.attach();
        run(with(Tool::FSCK_EXT4, &["-f", "-n"], &device), b"").ok();
        rig.detach();
    }
}

#[test]
fn xfs_is_whole_after_it_was_attached_again() {
    let test = "xfs_is_whole_after_it_was_attached_again";
    if !Tool::MKFS_XFS.available() {
        return skip(test, "there is no mkfs.xfs");
    }
    let Some(rig) = Rig::with_device(test, 320 << 20, SectorSize::B4096) else { return };
    let device = rig.attach();
    run(with(Tool::MKFS_XFS, &["-q", "-f"], &device), b"").ok();
    write_and_read_again(&rig, &device, "xfs");
    let device = rig.attach();
    run(with(Tool::XFS_REPAIR, &["-n"], &device), b"").ok();
    rig.detach();
}

#[test]
fn xfs_grows_while_it_is_mounted() {
    let test = "xfs_grows_while_it_is_mounted";
    if !Tool::MKFS_XFS.available() {
        return skip(test, "there is no mkfs.xfs");
    }
    let Some(rig) = Rig::with_device(test, 320 << 20, SectorSize::B512) else { return };
    let device = rig.attach();
    run(with(Tool::MKFS_XFS, &["-q", "-f"], &device), b"").ok();
    rig.mount(&device, "xfs");
    let before = space(&rig.mount_point());
    let backing = OpenOptions::new().write(true).open(rig.backing()).unwrap();
    backing.set_len(backing.metadata().unwrap().len() + (200 << 20)).unwrap();
    loop_device::refresh(&rig.file()).unwrap();
    run(with(Tool::XFS_GROWFS, &["-d"], &rig.mount_point()), b"").ok();
    assert!(space(&rig.mount_point()) >= before + (190 << 20));
    let pattern = Pattern::dense(3);
    let mut bytes = vec![0; 1 << 20];
    let file = File::create(rig.mount_point().join("large")).unwrap();
    for mib in 0..400 {
        pattern.fill(&mut bytes, mib << 20);
        file.write_all_at(&bytes, mib << 20).unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    rig.unmount();
    run(with(Tool::XFS_REPAIR, &["-n"], &device), b"").ok();
    rig.detach();
}

#[test]
fn sectors_that_are_to_be_zeros_are_zeros() {
    let test = "sectors_that_are_to_be_zeros_are_zeros";
    let Some(rig) = Rig::with_device(test, 4 << 20, SectorSize::B512) else { return };
    let device = rig.attach();
    let opened = OpenOptions::new().read(true).write(true).open(&device).unwrap();
    opened.write_all_at(&vec![7; 4 << 20], 0).unwrap();
    opened.sync_all().unwrap();
    use rustix::fs::FallocateFlags;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    // The kernel of a block device asks for a hole first, and writes zeros when it gets none.
    for (mode, at) in
        [(punch, 0), (FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, 2 << 20)]
    {
        let made = rustix::fs::fallocate(&opened, mode, at, 1 << 20);
        let mut bytes = vec![1; 1 << 20];
        opened.read_exact_at(&mut bytes, at).unwrap();
        let expected = if made.is_ok() { 0 } else { 7 };
        assert!(bytes.iter().all(|byte| *byte == expected), "{made:?}");
    }
    opened.sync_all().unwrap();
    drop(opened);
    rig.detach();
    assert!(rig.plaintext()[1 << 20..2 << 20].iter().all(|byte| *byte == 7));
}

#[test]
fn who_uses_a_device_is_named() {
    let Some(rig) = Rig::with_device("who_uses_a_device_is_named", 64 << 20, SectorSize::B512)
    else {
        return;
    };
    let device = rig.attach();
    run(with(Tool::MKFS_EXT4, &["-q", "-F"], &device), b"").ok();
    rig.mount(&device, "ext4");
    let error = loop_device::detach(&rig.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let target = rig.mount_point().display().to_string();
    assert!(error.to_string().ends_with(&format!("is mounted at {target}")), "{error}");
    let error = fuse::stop(&rig.file()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().ends_with(&device.display().to_string()), "{error}");
    rig.unmount();
    rig.detach();
}

/// Writes files, and reads them from a server that knows nothing of the first one.
fn write_and_read_again(rig: &Rig, device: &Path, kind: &str) {
    let pattern = Pattern::dense(1);
    let mut expected = vec![0; 5_000_000];
    pattern.fill(&mut expected, 0);
    rig.mount(device, kind);
    fs::write(rig.mount_point().join("file"), &expected).unwrap();
    rig.unmount();
    rig.detach();
    assert!(!fuse::serves(&rig.file()).unwrap());
    let device = rig.attach();
    rig.mount(&device, kind);
    assert!(fs::read(rig.mount_point().join("file")).unwrap() == expected);
    rig.unmount();
    rig.detach();
}

fn with(tool: Tool, options: &[&str], path: &Path) -> std::process::Command {
    let mut command = tool.command();
    command.args(options).arg(path);
    command
}

fn space(mounted: &Path) -> u64 {
    let found = rustix::fs::statvfs(mounted).unwrap();
    found.f_blocks * found.f_frsize
}
