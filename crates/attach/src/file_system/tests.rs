use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use strongroom_testkit::{Tool, run};

use super::*;
use crate::mount::{self, Options};
use crate::test_device::TestDevice;

const MIB: u64 = 1 << 20;
const UUID: &str = "6f3d3a2e-0b51-4c7d-9d0c-6a5b8f2b9c11";

fn permit(device: &TestDevice) -> FormatPermit {
    strongroom_disk::Raw::create_new(device.path("permit")).unwrap().1
}

fn made(test: &str, file_system: FileSystem, len: u64) -> Option<TestDevice> {
    let device = TestDevice::new(test, len)?;
    make(device.device(), file_system, Some(UUID), &permit(&device)).unwrap();
    Some(device)
}

fn mounted(device: &TestDevice, file_system: FileSystem) {
    mount::mount(device.device(), &device.target(), file_system, &Options::default()).unwrap();
}

fn room(device: &TestDevice) -> u64 {
    let room = rustix::fs::statvfs(device.target()).unwrap();
    room.f_blocks * room.f_frsize
}

#[test]
fn what_is_made_is_found_checked_and_mounted() {
    for file_system in FileSystem::ALL {
        let Some(device) =
            made("what_is_made_is_found_checked_and_mounted", file_system, 300 * MIB)
        else {
            return;
        };
        assert_eq!(probe(device.device()).unwrap(), Found::FileSystem(file_system));
        check(device.device(), file_system).unwrap();
        mounted(&device, file_system);
        fs::write(device.path("mnt/a"), "b").unwrap();
        mount::unmount(&device.target()).unwrap();
        check(device.device(), file_system).unwrap();
    }
}

#[test]
fn ext4_has_the_uuid_blocks_and_journal_that_were_asked_for() {
    let name = "ext4_has_the_uuid_blocks_and_journal_that_were_asked_for";
    let Some(device) = made(name, FileSystem::Ext4, smallest(FileSystem::Ext4)) else { return };
    let mut command = Tool::DEBUGFS.command();
    command.args(["-R", "stats -h"]).arg(device.device());
    let stats = run(command, b"").ok();
    for words in
        [UUID, "Block size:               4096", "has_journal", "Reserved block count:     0"]
    {
        assert!(stats.contains(words), "{words}: {stats}");
    }
}

#[test]
fn a_device_that_is_too_small_is_named() {
    for file_system in FileSystem::ALL {
        let name = "a_device_that_is_too_small_is_named";
        let Some(device) = TestDevice::new(name, smallest(file_system) - MIB) else { return };
        let error = make(device.device(), file_system, None, &permit(&device)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert_eq!(probe(device.device()).unwrap(), Found::Nothing);
    }
}

#[test]
fn a_program_that_refuses_is_quoted() {
    let Some(device) = TestDevice::new("a_program_that_refuses_is_quoted", 16 * MIB) else {
        return;
    };
    let error =
        make(device.device(), FileSystem::Ext4, Some("no uuid"), &permit(&device)).unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.starts_with("mkfs.ext4: "), "{reason}");
}

#[test]
fn another_file_system_is_not_checked() {
    let Some(device) = made("another_file_system_is_not_checked", FileSystem::Ext4, 16 * MIB)
    else {
        return;
    };
    let error = check(device.device(), FileSystem::Xfs).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contents);
    assert!(error.to_string().contains("holds ext4, not xfs"), "{error}");
    let file = File::options().write(true).open(device.device()).unwrap();
    file.write_all_at(&[0; 4096], 0).unwrap();
    let error = check(device.device(), FileSystem::Ext4).unwrap_err();
    assert!(error.to_string().contains("nothing that is known"), "{error}");
}

#[test]
fn damage_is_not_mended_blindly() {
    let Some(device) = made("damage_is_not_mended_blindly", FileSystem::Ext4, 16 * MIB) else {
        return;
    };
    mounted(&device, FileSystem::Ext4);
    for number in 0..50 {
        fs::create_dir(device.path(&format!("mnt/{number}"))).unwrap();
    }
    mount::unmount(&device.target()).unwrap();
    // The group descriptors, and with them where inodes lie.
    let file = File::options().write(true).open(device.device()).unwrap();
    file.write_all_at(&[0x5a; 4096], 4096).unwrap();
    file.sync_all().unwrap();
    let error = check(device.device(), FileSystem::Ext4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contents, "{error:?}");
    assert!(error.hint().unwrap().contains("e2fsck"));
}

#[test]
fn a_mounted_file_system_is_not_checked() {
    let Some(device) = made("a_mounted_file_system_is_not_checked", FileSystem::Ext4, 16 * MIB)
    else {
        return;
    };
    mounted(&device, FileSystem::Ext4);
    let error = check(device.device(), FileSystem::Ext4).unwrap_err();
    mount::unmount(&device.target()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}");
}

#[test]
fn a_device_that_fails_is_not_taken_for_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    assert!(probe(&directory.path().join("gone")).is_err());
    assert!(probe(directory.path()).is_err());
}

#[test]
fn xfs_grows_while_it_is_mounted() {
    let Some(device) = made("xfs_grows_while_it_is_mounted", FileSystem::Xfs, 300 * MIB) else {
        return;
    };
    mounted(&device, FileSystem::Xfs);
    let before = room(&device);
    grow(device.device(), FileSystem::Xfs, &device.target()).unwrap();
    assert_eq!(room(&device), before);
    device.grow(600 * MIB);
    grow(device.device(), FileSystem::Xfs, &device.target()).unwrap();
    assert!(room(&device) > before + 250 * MIB);
    mount::unmount(&device.target()).unwrap();
}

#[test]
fn ext4_grows_while_it_is_mounted_or_says_what_is_missing() {
    let name = "ext4_grows_while_it_is_mounted_or_says_what_is_missing";
    let Some(device) = made(name, FileSystem::Ext4, 16 * MIB) else { return };
    mounted(&device, FileSystem::Ext4);
    let before = room(&device);
    // Nothing to do takes no rights.
    grow(device.device(), FileSystem::Ext4, &device.target()).unwrap();
    device.grow(64 * MIB);
    let result = grow(device.device(), FileSystem::Ext4, &device.target());
    let after = room(&device);
    mount::unmount(&device.target()).unwrap();
    if has_sys_resource() {
        result.unwrap();
        assert!(after > before + 30 * MIB, "{after}");
    } else {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(error.hint().unwrap().contains("CAP_SYS_RESOURCE"));
    }
}

fn has_sys_resource() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & 1 << 24 != 0
}

#[test]
fn a_frozen_file_system_holds_writers_up_until_it_thaws() {
    let name = "a_frozen_file_system_holds_writers_up_until_it_thaws";
    let Some(device) = made(name, FileSystem::Ext4, 16 * MIB) else { return };
    mounted(&device, FileSystem::Ext4);
    let frozen = freeze(&device.target()).unwrap();
    assert_eq!(freeze(&device.target()).unwrap_err().kind(), ErrorKind::Busy);
    let (sender, receiver) = mpsc::channel();
    let file = device.path("mnt/a");
    let writer = thread::spawn(move || {
        fs::write(file, "b").unwrap();
        sender.send(()).unwrap();
    });
    assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err());
    frozen.thaw().unwrap();
    receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    writer.join().unwrap();

    drop(freeze(&device.target()).unwrap());
    // As somebody leaves it who was killed.
    let directory = File::open(device.target()).unwrap();
    crate::sys::freezing::freeze(std::os::fd::AsFd::as_fd(&directory)).unwrap();
    drop(directory);
    thaw(&device.target()).unwrap();
    thaw(&device.target()).unwrap();
    fs::write(device.path("mnt/c"), "d").unwrap();
    mount::unmount(&device.target()).unwrap();
}

#[test]
fn what_cannot_be_frozen_is_unsupported() {
    let error = freeze(Path::new("/proc")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
}
