//! Pools on file systems of their own.

use std::process::Command;

use strongroom_disk::Disk;
use strongroom_testkit::{Tool, run, skip};

use super::*;

/// A mounted file system; dropped, it goes.
struct Mounted {
    place: tempfile::TempDir,
}

impl Mounted {
    fn path(&self) -> PathBuf {
        self.place.path().join("mount")
    }

    /// Mounts what `arguments` of `mount` say; `None` where that is not allowed.
    fn mount(place: tempfile::TempDir, arguments: &[&str]) -> Option<Self> {
        let target = place.path().join("mount");
        fs::create_dir(&target).unwrap();
        let mut command = Command::new("mount");
        command.args(arguments).arg(&target).current_dir(place.path());
        command.output().unwrap().status.success().then(|| Self { place })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn xfs(name: &str) -> Option<Mounted> {
    if !Tool::MKFS_XFS.available() {
        skip(name, "no mkfs.xfs");
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image");
    fs::File::create(&image).unwrap().set_len(512 << 20).unwrap();
    let mut command = Tool::MKFS_XFS.command();
    command.arg("-q").arg(&image);
    run(command, b"").ok();
    let mounted = Mounted::mount(place, &["-t", "xfs", "-o", "loop", "image"]);
    if mounted.is_none() {
        skip(name, "an image with xfs cannot be mounted");
    }
    mounted
}

#[test]
fn a_pool_on_xfs_shares_blocks() {
    let Some(mounted) = xfs("a_pool_on_xfs_shares_blocks") else { return };
    let pool = Directory::open(&mounted.path()).unwrap();
    assert!(pool.copies_at_once().unwrap());
    let (from, to) = (volume("from"), volume("to"));
    pool.create(&from, 200 << 20).unwrap();
    let disk = pool.open(&from, Access::ReadWrite).unwrap();
    disk.write_at(&vec![7; 64 << 20], 100 << 20).unwrap();
    disk.flush().unwrap();
    let before = pool.space().unwrap().available;
    pool.copy(&from, &to, &()).unwrap();
    let taken = before.saturating_sub(pool.space().unwrap().available);
    assert!(taken < 4 << 20, "the copy takes {taken} bytes");
    let copy = pool.open(&to, Access::ReadWrite).unwrap();
    disk.write_at(&[9; 4096], 100 << 20).unwrap();
    let mut found = [0; 4096];
    copy.read_at(&mut found, 100 << 20).unwrap();
    assert_eq!(found, [7; 4096], "a copy changes with its source");
}

#[test]
fn keeps_every_promise_on_xfs() {
    let Some(mounted) = xfs("keeps_every_promise_on_xfs") else { return };
    conformance::run(&|| Box::new(Directory::open(&mounted.path()).unwrap()));
}

#[test]
fn keeps_every_promise_on_tmpfs_and_says_when_it_is_full() {
    let place = tempfile::tempdir().unwrap();
    let options = ["-t", "tmpfs", "-o", "size=80m", "tmpfs"];
    let Some(mounted) = Mounted::mount(place, &options) else {
        skip("keeps_every_promise_on_tmpfs_and_says_when_it_is_full", "tmpfs cannot be mounted");
        return;
    };
    let open = || Directory::open(&mounted.path()).unwrap();
    conformance::run(&|| Box::new(open()));
    let pool = open();
    assert!(!pool.copies_at_once().unwrap());
    let from = volume("from");
    pool.create(&from, 1 << 40).unwrap();
    pool.open(&from, Access::ReadWrite).unwrap().write_at(&vec![1; 48 << 20], 1 << 39).unwrap();
    let error = pool.copy(&from, &volume("to"), &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(pool.list().unwrap().len(), 1, "a part of a copy is there");
    let space = pool.space().unwrap();
    assert!(space.total == 80 << 20 && space.available > 30 << 20, "{space:?}");
}
