//! Who uses a mapping: for the text of an error, so what cannot be told is left out.

use std::fs;
use std::path::{Path, PathBuf};

use super::device::DeviceNumber;

/// Returns who uses the block device with this number, which is found at `node`; `None` when that cannot
/// be told: `it is mounted at /mnt`.
pub(super) fn of(number: DeviceNumber, node: &Path) -> Option<String> {
    mounted_at(number, node)
        .map(|target| format!("it is mounted at {target}"))
        .or_else(|| device_above(number).map(|name| format!("the device {name} lies on it")))
        .or_else(|| loop_above(number, node).map(|name| format!("the loop device {name} shows it")))
        .or_else(|| process_of(number).map(|process| format!("{process} has it open")))
}

/// Returns whether it is mounted, which does not go by itself.
pub(super) fn mounted_at(number: DeviceNumber, node: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let number = number.to_string();
    mounts.lines().find_map(|line| mount_target(line, &number, node))
}

/// Returns where a line of mountinfo says that the device is mounted. Some file systems have a number
/// of their own there; their source tells them.
fn mount_target(line: &str, number: &str, node: &Path) -> Option<String> {
    let (front, back) = line.split_once(" - ")?;
    let mut fields = front.split(' ').skip(2);
    let is_number = fields.next()? == number;
    let target = fields.nth(1)?;
    let is_source = back.split(' ').nth(1).is_some_and(|source| Path::new(source) == node);
    (is_number || is_source).then(|| target.replace("\\040", " "))
}

/// Returns a device that is made of this one, by the name that people know.
fn device_above(number: DeviceNumber) -> Option<String> {
    let holders = fs::read_dir(number.described_at().join("holders")).ok()?;
    let holder = holders.flatten().next()?;
    let mapping = fs::read_to_string(holder.path().join("dm/name"));
    Some(mapping.map_or_else(
        |_| holder.file_name().to_string_lossy().into_owned(),
        |name| name.trim().to_owned(),
    ))
}

fn loop_above(number: DeviceNumber, node: &Path) -> Option<String> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        let file = PathBuf::from(file.trim_end_matches('\n'));
        let is_it = file == node || DeviceNumber::of(&file).ok()? == Some(number);
        is_it.then(|| device.file_name().to_string_lossy().into_owned())
    })
}

fn process_of(number: DeviceNumber) -> Option<String> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let id: u32 = process.file_name().to_str()?.parse().ok()?;
        let is_open = fs::read_dir(process.path().join("fd"))
            .ok()?
            .flatten()
            .any(|file| DeviceNumber::of(&file.path()).is_ok_and(|found| found == Some(number)));
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        is_open.then(|| format!("process {id} ({})", name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_mount_by_number_and_by_source() {
        let node = Path::new("/dev/mapper/vol");
        let by_number = "36 35 253:0 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/dm-0 rw";
        assert_eq!(mount_target(by_number, "253:0", node).unwrap(), "/mnt/a b");
        assert_eq!(mount_target(by_number, "253:1", node), None);
        let by_source = "36 35 0:44 / /mnt rw - btrfs /dev/mapper/vol rw";
        assert_eq!(mount_target(by_source, "253:0", node).unwrap(), "/mnt");
        assert_eq!(mount_target("nonsense", "253:0", node), None);
    }
}
