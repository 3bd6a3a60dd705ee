//! Loop devices of the kernel.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use strongroom_attach::loop_device::{self, Access};
use strongroom_attach::{ErrorKind, Support};
use strongroom_crypto::SectorSize;
use tempfile::TempDir;

/// A file of a MiB, whose devices are gone at the end whatever happens.
struct Backing {
    _folder: TempDir,
    path: PathBuf,
}

impl Backing {
    /// Returns none where there are no loop devices.
    fn new(test: &str) -> Option<Self> {
        if let Support::Missing { what, .. } = loop_device::support() {
            strongroom_testkit::skip(test, &what);
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backing");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        Some(Self { _folder: folder, path })
    }

    fn attach(&self) -> PathBuf {
        loop_device::attach(&self.path, SectorSize::B512, Access::ReadWrite).unwrap()
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        let _ = loop_device::detach(&self.path);
    }
}

fn attribute(device: &Path, name: &str) -> String {
    let device = device.file_name().unwrap().to_str().unwrap();
    fs::read_to_string(format!("/sys/block/{device}/{name}")).unwrap().trim().to_owned()
}

fn sectors(device: &Path) -> u64 {
    attribute(device, "size").parse().unwrap()
}

#[test]
fn a_device_shows_its_file_until_it_is_detached() {
    let Some(backing) = Backing::new("a_device_shows_its_file_until_it_is_detached") else {
        return;
    };
    assert!(loop_device::of(&backing.path).unwrap().is_empty());
    let device = backing.attach();
    assert_eq!(loop_device::of(&backing.path).unwrap(), std::slice::from_ref(&device));
    File::options().write(true).open(&device).unwrap().write_all_at(b"words", 512).unwrap();
    loop_device::detach(&backing.path).unwrap();
    assert_eq!(&fs::read(&backing.path).unwrap()[512..517], b"words");
    assert!(loop_device::of(&backing.path).unwrap().is_empty());
    loop_device::detach(&backing.path).unwrap();
}

#[test]
fn sectors_and_access_are_as_asked_for() {
    let Some(backing) = Backing::new("sectors_and_access_are_as_asked_for") else { return };
    let large = loop_device::attach(&backing.path, SectorSize::B4096, Access::ReadOnly).unwrap();
    assert_eq!(attribute(&large, "queue/logical_block_size"), "4096");
    assert_eq!(attribute(&large, "ro"), "1");
    loop_device::detach(&backing.path).unwrap();
    let small = backing.attach();
    assert_eq!(attribute(&small, "queue/logical_block_size"), "512");
    assert_eq!(attribute(&small, "ro"), "0");
}

#[test]
fn a_device_grows_with_its_file() {
    let Some(backing) = Backing::new("a_device_grows_with_its_file") else { return };
    let device = backing.attach();
    assert_eq!(sectors(&device), 2048);
    File::options().write(true).open(&backing.path).unwrap().set_len(3 << 20).unwrap();
    loop_device::refresh(&backing.path).unwrap();
    assert_eq!(sectors(&device), 3 * 2048);
}

#[test]
fn a_device_whose_file_was_replaced_is_not_its_own_but_is_cleaned_up() {
    let name = "a_device_whose_file_was_replaced_is_not_its_own_but_is_cleaned_up";
    let Some(backing) = Backing::new(name) else { return };
    let first = backing.attach();
    // Gone, with another one of its name.
    let kept = backing.path.with_extension("kept");
    fs::hard_link(&backing.path, &kept).unwrap();
    fs::remove_file(&backing.path).unwrap();
    File::create(&backing.path).unwrap().set_len(1 << 20).unwrap();
    assert!(loop_device::of(&backing.path).unwrap().is_empty());
    let second = backing.attach();
    assert_ne!(first, second);
    assert_eq!(loop_device::of(&backing.path).unwrap(), [second]);
    loop_device::detach(&backing.path).unwrap();
    let shown = format!("/sys/block/{}/loop", first.file_name().unwrap().to_str().unwrap());
    assert!(!Path::new(&shown).exists(), "{} is still there", first.display());
}

#[test]
fn a_device_in_use_is_not_detached() {
    let Some(backing) = Backing::new("a_device_in_use_is_not_detached") else { return };
    let device = backing.attach();
    let user = File::open(&device).unwrap();
    let error = loop_device::detach(&backing.path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let me = format!("({})", std::process::id());
    assert!(error.to_string().ends_with(&me), "{error}");
    drop(user);
    // That it was refused has not let it go behind our back.
    assert_eq!(loop_device::of(&backing.path).unwrap(), [device]);
    loop_device::detach(&backing.path).unwrap();
}

#[test]
fn many_at_once_each_get_their_own() {
    let Some(first) = Backing::new("many_at_once_each_get_their_own") else { return };
    let others: Vec<_> = (0..12).map(|_| Backing::new("many").unwrap()).collect();
    let all: Vec<&Backing> = others.iter().chain([&first]).collect();
    let mut devices: Vec<PathBuf> = std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|backing| scope.spawn(|| backing.attach())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), all.len());
}
