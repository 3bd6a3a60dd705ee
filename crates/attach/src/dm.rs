//! dm-crypt, by the ioctls of device-mapper: the kernel gets a key, and no data passes through us.
//!
//! Mappings are named as cryptsetup names them, so that its `status`, `close` and `resize` know them.

mod control;
mod device;
mod growth;
mod held_key;
mod name;
mod node;
mod table;
mod users;

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_model::Tuning;

use control::{Control, Status, Table};
use device::{DeviceNumber, LockedDevice};
use table::{Crypt, KeySource, SECTOR};

use crate::{EncryptedContents, Error, ErrorKind, Result, Support};

/// A dm-crypt mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its device: `/dev/mapper/NAME`.
    pub path: PathBuf,
    /// Its device-mapper UUID: `CRYPT-LUKS2-…`.
    pub uuid: String,
    /// Its length in bytes.
    pub len: u64,
    /// The block device below it; `None` when that is gone.
    pub device: Option<PathBuf>,
}

impl Mapping {
    /// Returns whether the device below is there.
    pub fn is_live(&self) -> bool {
        self.device.is_some()
    }
}

/// Returns whether this kernel has dm-crypt and lets us use it.
pub fn support() -> Support {
    let control = match Control::open_or_missing() {
        Ok(control) => control,
        Err(missing) => return missing,
    };
    let what = match control.crypt_version() {
        Ok(Some(_)) => return Support::Usable,
        Ok(None) => "the kernel has no dm-crypt".to_owned(),
        Err(error) => format!("device-mapper does not say whether it has dm-crypt: {error}"),
    };
    Support::Missing { what, remedy: LOAD_MODULE.to_owned() }
}

/// Makes the data of a volume on the block device `device` appear as `/dev/mapper/NAME`. `len` is how
/// many bytes of it, whole sectors. It can be written to when the device can.
///
/// A mapping that is exactly this one already is left as it is. What a crash has left of one is removed
/// first, and made anew.
///
/// # Guarantees
///
/// At most one mapping lies over a device, and over the file of a loop device: the kernel would allow
/// more, which destroys data.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when somebody uses the device or the name; [`ErrorKind::Contents`] when the device
/// is too short; [`ErrorKind::Unsupported`] when the kernel cannot do it.
pub fn open(
    name: &str,
    device: &Path,
    contents: &EncryptedContents,
    len: u64,
    tuning: Tuning,
) -> Result<PathBuf> {
    let uuid = name::uuid(name, contents)?;
    let control = Control::open()?;
    let version = control
        .crypt_version()
        .map_err(|error| Error::from_io("device-mapper does not answer", error))?
        .ok_or_else(no_dm_crypt)?;
    let mut device = LockedDevice::open(device)?;
    let table = Crypt::new(device.number(), contents, len, tuning, version)?;
    refuse_short(&table, device.len()?, device.number())?;
    if let Some(number) = take_over(&control, name, &uuid, &table, contents)? {
        return made_node(name, number);
    }
    refuse_shared(&control, name, device.number())?;
    device.refuse_used()?;
    let status = control.create(name, &uuid).map_err(|error| cannot("be made", name, error))?;
    let made = held_key::with_own_keyring(|| {
        load_with_key(&control, name, &table, contents, version)?;
        // Two that passed the first look at the same time are both seen now.
        refuse_shared(&control, name, device.number())?;
        control.resume(name).map_err(|error| cannot("be started", name, error))
    });
    made.and_then(|()| made_node(name, status.number)).inspect_err(|_| {
        // What stays behind is what a crash would leave: the next attempt cleans it.
        drop(close(name));
    })
}

/// Makes a mapping `len` bytes long, while it is in use. The device below must be long enough already.
///
/// # Errors
///
/// [`ErrorKind::Request`] when there is no such mapping, it would get shorter, or the kernel holds its
/// key no more: then [`resize_with_key`] is the way.
pub fn resize(name: &str, len: u64) -> Result<()> {
    growth::grow(name, len, None)
}

/// Makes a mapping longer whose key the kernel holds no more, as after a `cryptsetup luksSuspend`.
///
/// # Errors
///
/// As [`resize`]; and [`ErrorKind::Request`] when these are the contents of another volume.
pub fn resize_with_key(name: &str, len: u64, contents: &EncryptedContents) -> Result<()> {
    growth::grow(name, len, Some(contents))
}

/// Removes a mapping. One that is not there succeeds, and so does a name that belongs to something else
/// than a LUKS volume, which stays.
///
/// # Errors
///
/// [`ErrorKind::Busy`] when somebody uses it; the text says who, where that can be told.
pub fn close(name: &str) -> Result<()> {
    name::check(name)?;
    let control = match Control::open_or_missing() {
        Ok(control) => control,
        // Where there is no device-mapper, there is no mapping either.
        Err(_) if !node::path(name).exists() => return Ok(()),
        Err(_) => Control::open()?,
    };
    match status(&control, name)? {
        Some(status) if is_ours(&status) => remove(&control, name, &status)?,
        Some(_) => return Ok(()),
        None => {}
    }
    // Keyrings may not be for us, but then there is no key of ours in them.
    drop(held_key::forget(name));
    node::remove(name).map_err(|error| cannot("lose its node", name, error))
}

/// Returns a mapping; `None` when there is none for a LUKS volume under that name.
///
/// # Errors
///
/// When device-mapper does not answer.
pub fn find(name: &str) -> Result<Option<Mapping>> {
    name::check(name)?;
    let Ok(control) = Control::open_or_missing() else { return Ok(None) };
    let Some(status) = status(&control, name)?.filter(is_ours) else { return Ok(None) };
    let table = live_table(&control, name, &status)?.map(|(table, _)| table);
    Ok(Some(Mapping {
        path: node::path(name),
        uuid: status.uuid,
        len: table.as_ref().map_or(0, |table| table.sectors * SECTOR),
        device: table.and_then(|table| table.device?.node()),
    }))
}

/// Looks at what has the name already. Returns the device's number when it is just what is wanted, and
/// `None` once the name is free: a mapping that a crash left behind is removed.
fn take_over(
    control: &Control,
    name: &str,
    uuid: &str,
    wanted: &Crypt,
    contents: &EncryptedContents,
) -> Result<Option<DeviceNumber>> {
    let Some(status) = status(control, name)? else { return Ok(None) };
    let busy = |what: &str| Error::new(ErrorKind::Busy, format!("the mapping {name} {what}"));
    if !is_ours(&status) {
        return Err(busy("belongs to no LUKS volume").hinted("choose another name"));
    }
    let found = live_table(control, name, &status)?;
    let live = found.as_ref().and_then(|(table, _)| table.device?.node());
    let is_same_volume = status.uuid == uuid;
    if let (Some((table, key)), Some(_)) = (&found, &live) {
        if is_same_volume && table == wanted && key.may_be(contents) {
            if status.is_suspended {
                control.resume(name).map_err(|error| cannot("be resumed", name, error))?;
            }
            return Ok(Some(status.number));
        }
        if !is_same_volume {
            return Err(busy("belongs to another LUKS volume, which is open")
                .hinted("choose another name, or close that one"));
        }
    }
    if status.open_count > 0 {
        let below = live.map_or_else(
            || "a device that is gone".to_owned(),
            |device| format!("{}, made in another way", device.display()),
        );
        let who = users::of(status.number, &node::path(name)).unwrap_or_default();
        return Err(busy(&format!("is left over from {below}, and is in use"))
            .hinted(format!("close it first: {who}").trim_end_matches(": ").to_owned()));
    }
    close(name)?;
    Ok(None)
}

/// Checks that no other mapping lies over the device, or over the file of a loop device through another
/// one: neither in use nor about to be.
fn refuse_shared(control: &Control, name: &str, device: DeviceNumber) -> Result<()> {
    let failed = |error| Error::from_io("the mappings of this machine cannot be told", error);
    let file = device.loop_file();
    let is_shared =
        |below: &DeviceNumber| *below == device || (file.is_some() && below.loop_file() == file);
    for other in control.names().map_err(failed)?.iter().filter(|other| *other != name) {
        for table in [Table::Live, Table::Inactive] {
            let below = match control.devices(other, table) {
                Ok(below) => below,
                // It has gone meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Vec::new(),
                Err(error) => return Err(failed(error)),
            };
            if below.iter().any(is_shared) {
                let shown = device.node().unwrap_or_else(|| device.to_string().into());
                let problem = format!("{} is in use by the mapping {other}", shown.display());
                return Err(Error::new(ErrorKind::Busy, problem)
                    .hinted(format!("close it first: `cryptsetup close {other}`")));
            }
        }
    }
    Ok(())
}

fn refuse_short(table: &Crypt, device_len: u64, device: DeviceNumber) -> Result<()> {
    if table.end().is_some_and(|end| end <= device_len) {
        return Ok(());
    }
    let shown = device.node().unwrap_or_else(|| device.to_string().into());
    let problem = format!(
        "{} has {device_len} bytes, which is too short for {} bytes of data from byte {}",
        shown.display(),
        table.sectors.saturating_mul(SECTOR),
        table.start.saturating_mul(SECTOR)
    );
    Err(Error::new(ErrorKind::Contents, problem))
}

/// Loads a table, with the key in the keyring when the kernel can, else in the table itself.
fn load_with_key(
    control: &Control,
    name: &str,
    table: &Crypt,
    contents: &EncryptedContents,
    version: control::Version,
) -> Result<()> {
    if let KeySource::Keyring { len, description } = KeySource::in_keyring(contents)
        && version >= WITH_KEYRING
        && held_key::hold(name, &description, &contents.key).is_ok()
    {
        match control.load(name, &table.with_key(&KeySource::Keyring { len, description })) {
            Err(error) if is_keyring_refusal(&error) => drop(held_key::forget(name)),
            loaded => return loaded.map_err(|error| cannot_load(name, table, error)),
        }
    }
    let loaded = control.load(name, &table.with_key(&KeySource::in_table(&contents.key)));
    loaded.map_err(|error| cannot_load(name, table, error))
}

/// Removes a mapping; waits a moment for those who look at every new device.
fn remove(control: &Control, name: &str, status: &Status) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match control.remove(name) {
            Ok(()) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let node = node::path(name);
                let is_mounted = users::mounted_at(status.number, &node).is_some();
                if is_mounted || Instant::now() > deadline {
                    let who = users::of(status.number, &node);
                    let who = who.map(|who| format!(": {who}")).unwrap_or_default();
                    let problem = format!("the mapping {name} is in use{who}");
                    return Err(Error::new(ErrorKind::Busy, problem));
                }
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(cannot("be removed", name, error)),
        }
    }
}

fn status(control: &Control, name: &str) -> Result<Option<Status>> {
    control.status(name).map_err(|error| cannot("be looked at", name, error))
}

fn live_table(
    control: &Control,
    name: &str,
    status: &Status,
) -> Result<Option<(Crypt, KeySource)>> {
    if !status.has_table {
        return Ok(None);
    }
    let target = control.target(name).map_err(|error| cannot("be looked at", name, error))?;
    Ok(target.as_ref().and_then(Crypt::read))
}

fn made_node(name: &str, number: DeviceNumber) -> Result<PathBuf> {
    node::ensure(name, number).map_err(|error| cannot("get its node", name, error))
}

fn is_ours(status: &Status) -> bool {
    name::is_of_luks(&status.uuid)
}

fn is_keyring_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOKEY | libc::EACCES | libc::EPERM))
}

fn no_dm_crypt() -> Error {
    Error::new(ErrorKind::Unsupported, "the kernel has no dm-crypt").hinted(LOAD_MODULE)
}

fn cannot(what: &str, name: &str, error: io::Error) -> Error {
    Error::from_io(format!("the mapping {name} cannot {what}"), error)
}

fn cannot_load(name: &str, table: &Crypt, error: io::Error) -> Error {
    if error.raw_os_error() == Some(libc::ENOENT) {
        let problem = format!("the kernel's dm-crypt cannot do {}", table.cipher());
        return Error::new(ErrorKind::Unsupported, problem).with_source(error).hinted(
            "attach the volume with `--backend fuse`, which needs no cipher of the kernel",
        );
    }
    cannot("be given its table", name, error).hinted("the kernel's log says why: see `dmesg`")
}

/// Since when dm-crypt takes keys of the keyring without known errors.
const WITH_KEYRING: control::Version = [1, 18, 1];

const LOAD_MODULE: &str = "load it with `modprobe dm_crypt`, outside of any container";

/// How long a mapping that somebody has open is tried to be removed.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);
