//! Mappings that grow while they are in use.

use std::fs;
use std::io;

use super::control::Control;
use super::device::DeviceNumber;
use super::table::{Crypt, KeySource, SECTOR};
use super::{cannot, cannot_load, held_key, is_ours, live_table, name, refuse_short, status};
use crate::{EncryptedContents, Error, ErrorKind, Result};

/// Makes a mapping `len` bytes long. Its key is that of `contents`, or the one that the kernel holds.
///
/// # Errors
///
/// As [`resize`](super::resize) says.
pub(super) fn grow(name: &str, len: u64, contents: Option<&EncryptedContents>) -> Result<()> {
    name::check(name)?;
    let control = Control::open()?;
    let request = |problem: String| Error::new(ErrorKind::Request, problem);
    let found = status(&control, name)?.filter(is_ours);
    let found = match &found {
        Some(status) => live_table(&control, name, status)?,
        None => None,
    };
    let Some((table, key)) = found else {
        return Err(request(format!("there is no mapping {name} of a LUKS volume")));
    };
    if contents.is_some_and(|contents| !key.may_be(contents)) {
        return Err(request(format!("the mapping {name} belongs to another volume")));
    }
    let Some(device) = table.device.filter(|device| device.node().is_some()) else {
        let problem = format!("the device below the mapping {name} is gone");
        return Err(Error::new(ErrorKind::Contents, problem));
    };
    if !len.is_multiple_of(table.sector_size()) {
        let size = table.sector_size();
        return Err(request(format!("{len} bytes are not whole sectors of {size} bytes")));
    }
    if len / SECTOR < table.sectors {
        let now = table.sectors * SECTOR;
        return Err(request(format!("the mapping {name} has {now} bytes, and mappings only grow")));
    }
    let longer = table.with_len(len);
    refuse_short(&longer, device_len(device)?, device)?;
    held_key::with_own_keyring(|| {
        reload(&control, name, &longer, &key, contents)?;
        // This one call swaps the tables and lets requests through again, so that no crash leaves the
        // mapping suspended.
        control.resume(name).map_err(|error| {
            drop(control.unload(name));
            cannot("be given its new length", name, error)
        })
    })
}

/// Loads a table in the place of the one in use.
fn reload(
    control: &Control,
    name: &str,
    table: &Crypt,
    key: &KeySource,
    contents: Option<&EncryptedContents>,
) -> Result<()> {
    let loading = |error| cannot_load(name, table, error);
    if let KeySource::Keyring { description, .. } = key {
        let failed = |error| cannot("have its key in the kernel's keyring", name, error);
        match contents {
            Some(contents) => {
                held_key::hold(name, description, &contents.key).map_err(failed)?;
            }
            None if held_key::borrow(name, description).map_err(failed)? => {}
            None => return Err(key_is_gone(name, description)),
        }
    }
    control.load(name, &table.with_key(key)).map_err(loading)
}

fn key_is_gone(name: &str, description: &str) -> Error {
    let uuid = description.trim_start_matches("cryptsetup:").trim_end_matches("-d0");
    Error::new(
        ErrorKind::Request,
        format!("the kernel holds the key of the mapping {name} no more"),
    )
    .hinted(format!("open the LUKS volume {uuid} with its passphrase or its KMS, and try again"))
}

/// Returns the length of a device in bytes.
fn device_len(device: DeviceNumber) -> Result<u64> {
    let failed = |error| Error::from_io(format!("the length of {device} cannot be told"), error);
    let sectors = fs::read_to_string(device.described_at().join("size")).map_err(failed)?;
    let sectors: u64 =
        sectors.trim().parse().map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
    Ok(sectors.saturating_mul(SECTOR))
}
