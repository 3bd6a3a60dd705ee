use std::fs::File;
use std::os::unix::fs::symlink;
use std::process::Command;

use strongroom_disk::FormatPermit;

use super::*;
use crate::file_system;
use crate::test_device::TestDevice;

const MIB: u64 = 1 << 20;

/// Returns a device with an ext4 on it.
fn ext4(test: &str) -> Option<TestDevice> {
    let device = TestDevice::new(test, 16 * MIB)?;
    file_system::make(device.device(), FileSystem::Ext4, None, &permit(&device)).unwrap();
    Some(device)
}

fn permit(device: &TestDevice) -> FormatPermit {
    strongroom_disk::Raw::create_new(device.path("permit")).unwrap().1
}

fn options(words: &[&str]) -> Options {
    Options { flags: words.iter().map(|word| (*word).to_owned()).collect() }
}

fn mount_ext4(device: &TestDevice, words: &[&str]) -> Result<()> {
    mount(device.device(), &device.target(), FileSystem::Ext4, &options(words))
}

fn line_of(target: &Path) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let word = format!(" {} ", target.display());
    table.lines().rfind(|line| line.contains(&word)).unwrap().to_owned()
}

#[test]
fn mounts_once_and_unmounts_whatever_is_there() {
    let Some(device) = ext4("mounts_once_and_unmounts_whatever_is_there") else { return };
    let target = device.target();
    assert!(!is_mounted(&target).unwrap());
    mount_ext4(&device, &["noatime", "nodev"]).unwrap();
    mount_ext4(&device, &["noatime", "nodev"]).unwrap();
    assert!(is_mounted(&target).unwrap() && answers(&target).unwrap());
    assert_eq!(table::at(&target.canonicalize().unwrap()).unwrap().len(), 1);
    let line = line_of(&target);
    assert!(line.contains("nodev") && line.contains("noatime"), "{line}");
    fs::write(target.join("a"), "b").unwrap();
    // Somebody else has mounted over it.
    bind(&target, &device.path("mnt/lost+found"), &Options::default()).unwrap();
    unmount(&device.path("mnt/lost+found")).unwrap();
    unmount(&target).unwrap();
    unmount(&target).unwrap();
    assert!(!is_mounted(&target).unwrap() && !target.join("a").exists());
}

#[test]
fn unmounts_what_is_stacked() {
    let Some(device) = ext4("unmounts_what_is_stacked") else { return };
    let target = device.target();
    mount_ext4(&device, &[]).unwrap();
    // Past our own check, as another program would.
    let tree =
        open_tree(CWD, device.path("file").parent().unwrap(), OpenTreeFlags::OPEN_TREE_CLONE);
    let there = Place::at(&target).unwrap().unwrap().open().unwrap();
    attach(&tree.unwrap(), &there, &target).unwrap();
    drop(there);
    assert_eq!(table::at(&target.canonicalize().unwrap()).unwrap().len(), 2);
    unmount(&target).unwrap();
    assert!(!is_mounted(&target).unwrap());
}

#[test]
fn what_is_not_there_needs_no_unmounting() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["nothing", "nothing/at/all"] {
        unmount(&directory.path().join(name)).unwrap();
        assert!(!is_mounted(&directory.path().join(name)).unwrap());
    }
    File::create(directory.path().join("file")).unwrap();
    unmount(&directory.path().join("file/below")).unwrap();
    assert_eq!(unmount(Path::new("/")).unwrap_err().kind(), ErrorKind::Request);
}

#[test]
fn a_read_only_mount_takes_no_writes() {
    let Some(device) = ext4("a_read_only_mount_takes_no_writes") else { return };
    mount_ext4(&device, &["ro"]).unwrap();
    assert!(fs::write(device.path("mnt/a"), "b").is_err());
    mount_ext4(&device, &["ro"]).unwrap();
    let error = mount_ext4(&device, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    unmount(&device.target()).unwrap();
}

#[test]
fn something_else_at_the_target_is_told_apart() {
    let name = "something_else_at_the_target_is_told_apart";
    let (Some(one), Some(other)) = (ext4(name), ext4(name)) else { return };
    mount_ext4(&one, &[]).unwrap();
    let result = mount(other.device(), &one.target(), FileSystem::Ext4, &Options::default());
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains(&one.device().display().to_string()), "{error}");
    let error = bind(&other.target(), &one.target(), &Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    unmount(&one.target()).unwrap();
}

#[test]
fn an_option_that_nobody_knows_is_named() {
    let Some(device) = ext4("an_option_that_nobody_knows_is_named") else { return };
    let error = mount_ext4(&device, &["noatime", "frobnicate=7"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert!(error.to_string().contains("frobnicate"), "{error}");
    assert!(!is_mounted(&device.target()).unwrap());
}

#[test]
fn a_device_without_the_file_system_is_told_apart() {
    let Some(device) = TestDevice::new("a_device_without_the_file_system_is_told_apart", 16 * MIB)
    else {
        return;
    };
    let error = mount_ext4(&device, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contents, "{error}");
    let file = mount(&device.file(), &device.target(), FileSystem::Ext4, &Options::default());
    assert_eq!(file.unwrap_err().kind(), ErrorKind::Request);
}

#[test]
fn a_symbolic_link_is_not_followed_at_its_end() {
    let Some(device) = ext4("a_symbolic_link_is_not_followed_at_its_end") else { return };
    symlink(device.target(), device.path("link")).unwrap();
    let link = device.path("link");
    let result = mount(device.device(), &link, FileSystem::Ext4, &Options::default());
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Request);
    let result = bind(device.device(), &link, &Options::default());
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Request);
    mount_ext4(&device, &[]).unwrap();
    // The link is no mount, though it leads to one.
    assert!(!is_mounted(&link).unwrap());
    unmount(&link).unwrap();
    assert!(is_mounted(&device.target()).unwrap());
    // A link on the way is fine.
    symlink(device.target().parent().unwrap(), device.path("way")).unwrap();
    assert!(is_mounted(&device.path("way/mnt")).unwrap());
    unmount(&device.path("way/mnt")).unwrap();
    assert!(!is_mounted(&device.target()).unwrap());
}

#[test]
fn directories_files_and_devices_appear_elsewhere() {
    let Some(device) = ext4("directories_files_and_devices_appear_elsewhere") else { return };
    let (directory, file) = (device.path("directory"), device.path("place"));
    fs::create_dir(&directory).unwrap();
    File::create(&file).unwrap();
    mount_ext4(&device, &[]).unwrap();

    bind(&device.target(), &directory, &options(&["ro", "nosuid"])).unwrap();
    bind(&device.target(), &directory, &options(&["ro", "nosuid"])).unwrap();
    assert!(fs::write(directory.join("a"), "b").is_err());
    fs::write(device.path("mnt/a"), "b").unwrap();
    assert_eq!(fs::read(directory.join("a")).unwrap(), b"b");
    assert!(line_of(&directory).contains("nosuid"));
    let error = bind(&device.target(), &directory, &Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);

    bind(device.device(), &file, &Options::default()).unwrap();
    bind(device.device(), &file, &Options::default()).unwrap();
    assert!(fs::metadata(&file).unwrap().file_type().is_block_device());
    unmount(&file).unwrap();
    assert!(fs::metadata(&file).unwrap().is_file());

    for (source, target) in [(&directory, &file), (&file, &device.target())] {
        unmount(&directory).unwrap();
        unmount(&device.target()).unwrap();
        let error = bind(source, target, &Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request, "{error}");
    }
}

#[test]
fn a_writable_bind_of_a_read_only_file_system_can_be_asked_for_twice() {
    let name = "a_writable_bind_of_a_read_only_file_system_can_be_asked_for_twice";
    let Some(device) = ext4(name) else { return };
    mount_ext4(&device, &["ro"]).unwrap();
    let directory = device.path("directory");
    fs::create_dir(&directory).unwrap();
    bind(&device.target(), &directory, &Options::default()).unwrap();
    bind(&device.target(), &directory, &Options::default()).unwrap();
    assert!(fs::write(directory.join("a"), "b").is_err());
    unmount(&directory).unwrap();
    unmount(&device.target()).unwrap();
}

#[test]
fn who_keeps_a_mount_busy_is_named() {
    let Some(device) = ext4("who_keeps_a_mount_busy_is_named") else { return };
    mount_ext4(&device, &[]).unwrap();
    let mut child = Command::new("sleep").arg("60").current_dir(device.target()).spawn().unwrap();
    let error = unmount(&device.target()).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.hint().unwrap().contains(&format!("sleep ({})", child.id())), "{error:?}");
    unmount(&device.target()).unwrap();
}

#[test]
fn a_clone_of_xfs_mounts_beside_its_source() {
    let name = "a_clone_of_xfs_mounts_beside_its_source";
    let Some(source) = TestDevice::new(name, 300 * MIB) else { return };
    file_system::make(source.device(), FileSystem::Xfs, None, &permit(&source)).unwrap();
    let Some(clone) = TestDevice::new(name, 300 * MIB) else { return };
    // The cache of the loop device, not of the file, has what was made.
    let mut from = File::open(source.device()).unwrap();
    io::copy(&mut from, &mut File::options().write(true).open(clone.device()).unwrap()).unwrap();
    mount(source.device(), &source.target(), FileSystem::Xfs, &Options::default()).unwrap();
    mount(clone.device(), &clone.target(), FileSystem::Xfs, &Options::default()).unwrap();
    unmount(&clone.target()).unwrap();
    unmount(&source.target()).unwrap();
}
