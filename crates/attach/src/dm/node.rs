//! Nodes below `/dev/mapper`: udev makes them where it runs, and we do where it does not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::device::DeviceNumber;

/// Returns the node of a mapping.
pub(super) fn path(mapping: &str) -> PathBuf {
    Path::new(FOLDER).join(mapping)
}

/// Sees to it that the node of a mapping is there and leads to its device.
pub(super) fn ensure(mapping: &str, number: DeviceNumber) -> io::Result<PathBuf> {
    let node = path(mapping);
    if leads_to(&node, number)? || until_udev_has(|| leads_to(&node, number))? {
        return Ok(node);
    }
    fs::create_dir_all(FOLDER)?;
    // Made aside and renamed: at no time does the name lead to a device that it had before.
    let aside = Path::new(FOLDER).join(format!(".{mapping}.{}", std::process::id()));
    remove_file(&aside)?;
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &aside, FileType::BlockDevice, mode, number.raw())?;
    fs::rename(&aside, &node).inspect_err(|_| drop(fs::remove_file(&aside)))?;
    Ok(node)
}

/// Sees to it that the node of a mapping that is gone is gone too.
pub(super) fn remove(mapping: &str) -> io::Result<()> {
    let node = path(mapping);
    until_udev_has(|| Ok(!node.is_symlink() && !node.exists()))?;
    remove_file(&node)
}

/// Waits for udev, where it runs. Returns whether it has done what `is_done` looks for.
fn until_udev_has(is_done: impl Fn() -> io::Result<bool>) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    while Path::new(UDEV).exists() && Instant::now() < deadline {
        if is_done()? {
            return Ok(true);
        }
        thread::sleep(PAUSE);
    }
    Ok(false)
}

fn leads_to(node: &Path, number: DeviceNumber) -> io::Result<bool> {
    Ok(DeviceNumber::of(node)? == Some(number))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const FOLDER: &str = "/dev/mapper";

/// What is there when udev runs.
const UDEV: &str = "/run/udev/control";

const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);
