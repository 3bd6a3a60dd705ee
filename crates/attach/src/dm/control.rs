//! Commands to device-mapper, and the messages that carry them (`include/uapi/linux/dm-ioctl.h`).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::device::DeviceNumber;
use crate::loop_device::Access;
use crate::sys::device_mapper::{HEAD_LEN, call};
use crate::{Error, ErrorKind, Result, Support};

/// The way to device-mapper.
#[derive(Debug)]
pub(super) struct Control(File);

/// What device-mapper says about a mapping.
#[derive(Debug)]
pub(super) struct Status {
    /// The number of its device.
    pub(super) number: DeviceNumber,
    /// Its UUID; empty when it has none.
    pub(super) uuid: String,
    /// How often it is open.
    pub(super) open_count: u32,
    /// Whether it lets nothing through at the moment.
    pub(super) is_suspended: bool,
    /// Whether it has a table, without which it is nothing but a name.
    pub(super) has_table: bool,
}

/// The only target of a mapping. Its parameters may hold a key.
#[derive(Debug)]
pub(super) struct Target {
    /// Its length in sectors of 512 bytes.
    pub(super) sectors: u64,
    /// What it is: `crypt`.
    pub(super) kind: String,
    /// What it works with.
    pub(super) parameters: Parameters,
    /// Whether it may be written to.
    pub(super) access: Access,
}

/// The text of a target's parameters, which is wiped and never printed.
pub(super) struct Parameters(pub(super) Zeroizing<String>);

/// One of the two tables that a mapping can have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Table {
    /// The one in use.
    Live,
    /// One that was loaded, and takes the other's place when the mapping is resumed.
    Inactive,
}

/// The version of a target.
pub(super) type Version = [u32; 3];

impl Control {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`], with what to do, when there is no device-mapper for us.
    pub(super) fn open() -> Result<Self> {
        Self::open_or_missing().map_err(|missing| match missing {
            Support::Missing { what, remedy } => {
                Error::new(ErrorKind::Unsupported, what).hinted(remedy)
            }
            Support::Usable => Error::new(ErrorKind::Unsupported, "device-mapper cannot be used"),
        })
    }

    /// Opens it, or says what is missing.
    pub(super) fn open_or_missing() -> std::result::Result<Self, Support> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL).map(Self);
        let opened = control.and_then(|control| control.version().map(|()| control));
        opened.map_err(|error| missing(&error))
    }

    /// Returns the version of dm-crypt, which is loaded when it is a module; `None` without it.
    pub(super) fn crypt_version(&self) -> io::Result<Option<Version>> {
        let mut message = Message::new("crypt", "", 0);
        match message.send(&self.0, TARGET_VERSION) {
            Ok(()) => Ok(versions(message.data()).find(|(name, _)| name == "crypt").map(|it| it.1)),
            // Kernels before 5.9 only list what is loaded.
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => {
                let mut message = Message::new("", "", 0);
                message.send(&self.0, LIST_VERSIONS)?;
                Ok(versions(message.data()).find(|(name, _)| name == "crypt").map(|it| it.1))
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the names of all mappings.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut message = Message::new("", "", 0);
        message.send(&self.0, LIST_DEVICES)?;
        Ok(names(message.data()))
    }

    /// Returns what is known of a mapping; `None` when there is none of that name.
    pub(super) fn status(&self, name: &str) -> io::Result<Option<Status>> {
        let mut message = Message::new(name, "", 0);
        match message.send(&self.0, DEVICE_STATUS) {
            Ok(()) => Ok(Some(message.status())),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a mapping without a table.
    pub(super) fn create(&self, name: &str, uuid: &str) -> io::Result<Status> {
        let mut message = Message::new(name, uuid, 0);
        message.send(&self.0, DEVICE_CREATE)?;
        Ok(message.status())
    }

    /// Gives a mapping a table of one target, which [`resume`](Self::resume) puts to use.
    pub(super) fn load(&self, name: &str, target: &Target) -> io::Result<()> {
        let read_only = if target.access == Access::ReadOnly { READ_ONLY } else { 0 };
        let mut message = Message::new(name, "", SECURE_DATA | read_only);
        message.push_target(target);
        message.send(&self.0, TABLE_LOAD)
    }

    /// Drops the table that was loaded and not put to use.
    pub(super) fn unload(&self, name: &str) -> io::Result<()> {
        Message::new(name, "", 0).send(&self.0, TABLE_CLEAR)
    }

    /// Puts the table that was loaded to use, and lets requests through. File systems are not frozen
    /// for that: every request is answered from the one table or from the other.
    pub(super) fn resume(&self, name: &str) -> io::Result<()> {
        Message::new(name, "", SKIP_LOCKFS).send(&self.0, DEVICE_SUSPEND)
    }

    /// Returns the only target of a mapping; `None` when it has no table, or several targets.
    pub(super) fn target(&self, name: &str) -> io::Result<Option<Target>> {
        let mut message = Message::new(name, "", STATUS_TABLE | SECURE_DATA);
        message.send(&self.0, TABLE_STATUS)?;
        let is_read_only = message.word(FLAGS) & READ_ONLY != 0;
        let access = if is_read_only { Access::ReadOnly } else { Access::ReadWrite };
        let is_single = message.word(TARGET_COUNT) == 1;
        Ok(if is_single { target(message.data(), access) } else { None })
    }

    /// Returns the devices below a mapping.
    pub(super) fn devices(&self, name: &str, table: Table) -> io::Result<Vec<DeviceNumber>> {
        let flags = match table {
            Table::Live => 0,
            Table::Inactive => QUERY_INACTIVE,
        };
        let mut message = Message::new(name, "", flags);
        message.send(&self.0, TABLE_DEPENDENCIES)?;
        Ok(dependencies(message.data()))
    }

    /// Removes a mapping that nobody has open.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Message::new(name, "", 0).send(&self.0, DEVICE_REMOVE)
    }

    fn version(&self) -> io::Result<()> {
        Message::new("", "", 0).send(&self.0, VERSION)
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parameters")
    }
}

/// A command to the kernel and its answer. It is wiped, because there may be keys in it.
struct Message(Zeroizing<Vec<u8>>);

impl Message {
    fn new(name: &str, uuid: &str, flags: u32) -> Self {
        let mut message = Self(Zeroizing::new(vec![0; FIRST_LEN]));
        // The oldest version of the interface that has all that is used here.
        message.set_word(0, 4);
        message.set_word(DATA_START, HEAD_LEN as u32);
        message.set_word(FLAGS, flags);
        message.set_text(NAME, NAME_LEN, name);
        message.set_text(UUID, UUID_LEN, uuid);
        message
    }

    /// Sends the message; the buffer grows until the answer fits.
    fn send(&mut self, control: &File, command: u8) -> io::Result<()> {
        loop {
            let mut sent = Zeroizing::new(self.0.to_vec());
            let len = u32::try_from(sent.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
            put(&mut sent, DATA_SIZE, &len.to_ne_bytes());
            call(control, command, &mut sent)?;
            let answer = Self(sent);
            if answer.word(FLAGS) & BUFFER_FULL == 0 {
                *self = answer;
                return Ok(());
            }
            if self.0.len() >= MOST_LEN {
                return Err(io::Error::other("device-mapper's answer is too long"));
            }
            let doubled = self.0.len() * 2;
            self.grow(doubled);
        }
    }

    fn push_target(&mut self, target: &Target) {
        let parameters = target.parameters.0.as_bytes();
        // With the zero byte behind the text, in whole eights.
        let len = (TARGET_LEN + parameters.len() + 1).next_multiple_of(8);
        self.grow(HEAD_LEN + len);
        self.set_word(TARGET_COUNT, 1);
        let buffer = &mut self.0;
        put(buffer, HEAD_LEN + 8, &target.sectors.to_ne_bytes());
        put(buffer, HEAD_LEN + 20, &(len as u32).to_ne_bytes());
        put(buffer, HEAD_LEN + 24, target.kind.as_bytes());
        put(buffer, HEAD_LEN + TARGET_LEN, parameters);
    }

    /// Makes the buffer at least `len` bytes long, without leaving a copy behind.
    fn grow(&mut self, len: usize) {
        if len > self.0.len() {
            let mut longer = Zeroizing::new(vec![0; len]);
            put(&mut longer, 0, &self.0);
            self.0 = longer;
        }
    }

    fn status(&self) -> Status {
        let flags = self.word(FLAGS);
        Status {
            number: DeviceNumber::from_kernel(number_at(&self.0, DEVICE).unwrap_or(0)),
            uuid: text_at(&self.0, UUID).unwrap_or_default(),
            open_count: self.word(OPEN_COUNT),
            is_suspended: flags & SUSPENDED != 0,
            has_table: flags & ACTIVE_PRESENT != 0,
        }
    }

    /// Returns what follows the head.
    fn data(&self) -> &[u8] {
        let start = self.word(DATA_START) as usize;
        let end = (self.word(DATA_SIZE) as usize).min(self.0.len());
        self.0.get(start..end).unwrap_or_default()
    }

    fn word(&self, at: usize) -> u32 {
        word_at(&self.0, at).unwrap_or(0)
    }

    fn set_word(&mut self, at: usize, word: u32) {
        put(&mut self.0, at, &word.to_ne_bytes());
    }

    /// Writes a text where one byte must stay zero behind it.
    fn set_text(&mut self, at: usize, len: usize, text: &str) {
        let bytes = text.as_bytes();
        put(&mut self.0, at, bytes.get(..len - 1).unwrap_or(bytes));
    }
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = buffer.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_ne_bytes)
}

/// Returns the text from `at` up to the next zero byte.
fn text_at(bytes: &[u8], at: usize) -> Option<String> {
    let text = bytes.get(at..)?.split(|&byte| byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

/// Reads the one `struct dm_target_spec` that a table's status begins with.
fn target(data: &[u8], access: Access) -> Option<Target> {
    let text = data.get(TARGET_LEN..)?.split(|&byte| byte == 0).next()?;
    let parameters = Zeroizing::new(std::str::from_utf8(text).ok()?.to_owned());
    Some(Target {
        sectors: number_at(data, 8)?,
        kind: text_at(data.get(..TARGET_LEN)?, 24)?,
        parameters: Parameters(parameters),
        access,
    })
}

/// Reads a chain of `struct dm_name_list`, whose first element has no device when it is empty.
fn names(data: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while number_at(data, at).is_some_and(|device| device != 0) {
        names.extend(text_at(data, at + 12));
        match word_at(data, at + 8) {
            Some(next) if next > 0 => at += next as usize,
            _ => break,
        }
    }
    names
}

/// Reads a chain of `struct dm_target_versions`.
fn versions(data: &[u8]) -> impl Iterator<Item = (String, Version)> {
    let mut at = Some(0_usize);
    std::iter::from_fn(move || {
        let here = at?;
        let version =
            [word_at(data, here + 4)?, word_at(data, here + 8)?, word_at(data, here + 12)?];
        at = word_at(data, here).filter(|&next| next > 0).map(|next| here + next as usize);
        Some((text_at(data, here + 16)?, version))
    })
}

/// Reads a `struct dm_target_deps`.
fn dependencies(data: &[u8]) -> Vec<DeviceNumber> {
    let count = word_at(data, 0).unwrap_or(0) as usize;
    let numbers = (0..count).map_while(|index| number_at(data, 8 + 8 * index));
    numbers.map(DeviceNumber::from_kernel).collect()
}

/// Says why device-mapper cannot be used.
fn missing(error: &io::Error) -> Support {
    let (what, remedy) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            "device-mapper may not be used by this process".to_owned(),
            "run as root; a container needs privileges for that (CAP_SYS_ADMIN)",
        ),
        io::ErrorKind::NotFound if knows_device_mapper() => (
            format!("the kernel has device-mapper, but {CONTROL} is not there"),
            "give the container the /dev of its host",
        ),
        _ => (
            "the kernel has no device-mapper".to_owned(),
            "load it with `modprobe dm_crypt`, outside of any container",
        ),
    };
    Support::Missing { what, remedy: remedy.to_owned() }
}

fn knows_device_mapper() -> bool {
    Path::new("/sys/class/misc/device-mapper").exists()
}

const CONTROL: &str = "/dev/mapper/control";

// Commands.
const VERSION: u8 = 0;
const LIST_DEVICES: u8 = 2;
const DEVICE_CREATE: u8 = 3;
const DEVICE_REMOVE: u8 = 4;
const DEVICE_SUSPEND: u8 = 6;
const DEVICE_STATUS: u8 = 7;
const TABLE_LOAD: u8 = 9;
const TABLE_CLEAR: u8 = 10;
const TABLE_DEPENDENCIES: u8 = 11;
const TABLE_STATUS: u8 = 12;
const LIST_VERSIONS: u8 = 13;
const TARGET_VERSION: u8 = 17;

// Flags.
const READ_ONLY: u32 = 1;
const SUSPENDED: u32 = 1 << 1;
const STATUS_TABLE: u32 = 1 << 4;
const ACTIVE_PRESENT: u32 = 1 << 5;
const BUFFER_FULL: u32 = 1 << 8;
const SKIP_LOCKFS: u32 = 1 << 10;
const QUERY_INACTIVE: u32 = 1 << 12;
/// The kernel wipes its copies of the message.
const SECURE_DATA: u32 = 1 << 15;

// Places in the head of a message.
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const OPEN_COUNT: usize = 24;
const FLAGS: usize = 28;
const DEVICE: usize = 40;
const NAME: usize = 48;
const NAME_LEN: usize = 128;
const UUID: usize = 176;
const UUID_LEN: usize = 129;

/// Bytes of a `struct dm_target_spec`.
const TARGET_LEN: usize = 40;

/// How long a message is at first, in bytes, and at most: names of a hundred thousand mappings.
const FIRST_LEN: usize = 16 << 10;
const MOST_LEN: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_bears_name_uuid_and_flags_where_the_kernel_looks() {
        let message = Message::new("vol", "CRYPT-LUKS2-1-vol", SECURE_DATA);
        assert_eq!(message.word(0), 4);
        assert_eq!(message.word(DATA_START), 312);
        assert_eq!(message.word(FLAGS), 1 << 15);
        assert_eq!(text_at(&message.0, NAME).unwrap(), "vol");
        assert_eq!(text_at(&message.0, UUID).unwrap(), "CRYPT-LUKS2-1-vol");
    }

    #[test]
    fn texts_that_are_too_long_leave_the_last_byte_zero() {
        let message = Message::new(&"n".repeat(300), &"u".repeat(300), 0);
        assert_eq!(text_at(&message.0, NAME).unwrap().len(), 127);
        assert_eq!(text_at(&message.0, UUID).unwrap().len(), 128);
    }

    #[test]
    fn a_target_is_read_as_it_was_written() {
        let mut message = Message::new("vol", "", 0);
        let parameters = Parameters(Zeroizing::new("x".repeat(40_000)));
        let (kind, access) = ("crypt".to_owned(), Access::ReadWrite);
        message.push_target(&Target { sectors: 77, kind, parameters, access });
        let read = target(&message.0[HEAD_LEN..], access).unwrap();
        assert_eq!((read.sectors, read.kind.as_str()), (77, "crypt"));
        assert_eq!(read.parameters.0.len(), 40_000);
        assert_eq!(format!("{read:?}").matches('x').count(), 0);
    }

    fn name_entry(device: u64, next: u32, name: &str) -> Vec<u8> {
        let mut entry = device.to_ne_bytes().to_vec();
        entry.extend(next.to_ne_bytes());
        entry.extend(name.as_bytes());
        entry.resize(24, 0);
        entry
    }

    #[test]
    fn reads_the_names_of_all_mappings() {
        let list =
            [name_entry(1, 24, "a"), name_entry(2, 24, "bc"), name_entry(3, 0, "d")].concat();
        assert_eq!(names(&list), ["a", "bc", "d"]);
        assert!(names(&name_entry(0, 0, "")).is_empty());
        assert!(names(&[]).is_empty());
    }

    #[test]
    fn a_chain_that_leads_outside_ends() {
        assert_eq!(names(&name_entry(1, u32::MAX, "a")), ["a"]);
        let mut version = u32::MAX.to_ne_bytes().to_vec();
        version.extend([1, 24, 0].iter().flat_map(|part: &u32| part.to_ne_bytes()));
        version.extend(b"crypt\0");
        assert_eq!(versions(&version).collect::<Vec<_>>(), [("crypt".to_owned(), [1, 24, 0])]);
    }

    #[test]
    fn reads_the_devices_below() {
        let mut data = 2_u64.to_ne_bytes().to_vec();
        data.extend(0x0703_u64.to_ne_bytes());
        data.extend(0xfd00_u64.to_ne_bytes());
        let read: Vec<String> = dependencies(&data).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["7:3", "253:0"]);
        assert!(dependencies(&u64::MAX.to_ne_bytes()).is_empty());
    }
}
