//! How full a volume is.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use strongroom::volumes::{Attachment, Show};
use tonic::Status;

use crate::capacity::bytes;
use crate::messages::VolumeUsage;

/// Returns what is used of a volume at a path where it appears: bytes and inodes of a file system, the
/// length of a device.
///
/// # Errors
///
/// `INTERNAL` when the system does not say.
pub(crate) fn usage(attachment: &Attachment, path: &Path) -> Result<Vec<VolumeUsage>, Status> {
    let failed = |error: std::io::Error| {
        Status::internal(format!("cannot look at {}: {error}", path.display()))
    };
    match attachment.show {
        Show::Mount { .. } => of_file_system(path).map_err(failed),
        _ => of_device(path).map_err(failed),
    }
}

fn of_file_system(path: &Path) -> std::io::Result<Vec<VolumeUsage>> {
    let found = rustix::fs::statvfs(path)?;
    let blocks = |count: u64| bytes(count.saturating_mul(found.f_frsize));
    Ok(vec![
        VolumeUsage {
            available: blocks(found.f_bavail),
            total: blocks(found.f_blocks),
            used: blocks(found.f_blocks.saturating_sub(found.f_bfree)),
            unit: BYTES,
        },
        VolumeUsage {
            available: bytes(found.f_favail),
            total: bytes(found.f_files),
            used: bytes(found.f_files.saturating_sub(found.f_ffree)),
            unit: INODES,
        },
    ])
}

/// How much of a device its user has written nobody knows: all of it is taken for used.
fn of_device(path: &Path) -> std::io::Result<Vec<VolumeUsage>> {
    let len = bytes(File::open(path)?.seek(SeekFrom::End(0))?);
    Ok(vec![VolumeUsage { available: 0, total: len, used: len, unit: BYTES }])
}

const BYTES: i32 = 1;
const INODES: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_tells_bytes_and_inodes() {
        let usage = of_file_system(Path::new("/")).unwrap();
        let units: Vec<i32> = usage.iter().map(|usage| usage.unit).collect();
        assert_eq!(units, [BYTES, INODES]);
        let space = &usage[0];
        assert!(space.total > 0 && space.used > 0 && space.used <= space.total, "{space:?}");
    }

    #[test]
    fn a_device_has_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device");
        std::fs::write(&path, [0; 4096]).unwrap();
        let usage = of_device(&path).unwrap();
        assert_eq!((usage.len(), usage[0].total, usage[0].unit), (1, 4096, BYTES));
    }
}
