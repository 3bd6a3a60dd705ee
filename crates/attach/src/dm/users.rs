//! Who uses a mapping: for the text of an error, so what cannot be told is left out.

use std::fs;
use std::path::{Path, PathBuf};

use super::device::DeviceNumber;
use crate::mount::table;

/// Returns who uses the block device with this number, which is found at `node`; `None` when that cannot
/// be told: `it is mounted at /mnt`.
pub(super) fn of(number: DeviceNumber, node: &Path) -> Option<String> {
    mounted_at(number, node)
        .map(|target| format!("it is mounted at {}", target.display()))
        .or_else(|| device_above(number).map(|name| format!("the device {name} lies on it")))
        .or_else(|| loop_above(number, node).map(|name| format!("the loop device {name} shows it")))
        .or_else(|| process_of(number).map(|process| format!("{process} has it open")))
}

/// Returns where it is mounted, which does not go by itself.
pub(super) fn mounted_at(number: DeviceNumber, node: &Path) -> Option<PathBuf> {
    table::of_device(number.major_and_minor(), node).ok().flatten()
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
