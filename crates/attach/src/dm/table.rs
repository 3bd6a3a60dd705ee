//! The table of a dm-crypt mapping: one line of words, of which the key is one.
//!
//! The line, in the order in which cryptsetup writes it too: cipher, key, IV offset, device, start,
//! and the number of options followed by the options (`Documentation/admin-guide/device-mapper/dm-crypt.rst`).

use std::fmt::Write;

use strongroom_crypto::{SectorSize, VolumeKey};
use strongroom_model::Tuning;
use zeroize::Zeroizing;

use super::control::{Parameters, Target, Version};
use super::device::DeviceNumber;
use crate::loop_device::Access;
use crate::{EncryptedContents, Error, ErrorKind, Result};

/// A table without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crypt {
    /// Its length in sectors of 512 bytes.
    pub(super) sectors: u64,
    /// The cipher, as dm-crypt spells it.
    cipher: String,
    /// The IV number of the first sector.
    iv_offset: u64,
    /// What is below; `None` when the kernel has forgotten it.
    pub(super) device: Option<DeviceNumber>,
    /// The sector of the device where the data begins.
    pub(super) start: u64,
    /// The options, in dm-crypt's order.
    options: Vec<String>,
    /// Whether the device below, and so the mapping, may be written to.
    access: Access,
}

/// Where dm-crypt has a key from.
pub(super) enum KeySource {
    /// A key of the kernel's keyrings.
    Keyring {
        /// Its length in bytes.
        len: usize,
        /// By what it is found.
        description: String,
    },
    /// The table itself, in hexadecimal digits.
    Table(Zeroizing<String>),
}

impl Crypt {
    /// Returns the table for `len` bytes of a volume on `device`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Request`] when these are not whole sectors, [`ErrorKind::Unsupported`] when this
    /// version of dm-crypt cannot do it.
    pub(super) fn new(
        device: DeviceNumber,
        contents: &EncryptedContents,
        len: u64,
        tuning: Tuning,
        version: Version,
    ) -> Result<Self> {
        let payload = &contents.payload;
        let whole = len != 0 && len.is_multiple_of(payload.sector_size.bytes() as u64);
        if !whole || !payload.offset.is_multiple_of(SECTOR) {
            let size = payload.sector_size.bytes();
            let problem = format!("{len} bytes are not whole sectors of {size} bytes");
            return Err(Error::new(ErrorKind::Request, problem));
        }
        Ok(Self {
            sectors: len / SECTOR,
            cipher: payload.encryption.spec().to_string(),
            // LUKS counts in units of 512 bytes whatever the sector size, so `iv_large_sectors` is
            // never among the options.
            iv_offset: payload.iv_tweak,
            device: Some(device),
            start: payload.offset / SECTOR,
            options: options(tuning, payload.sector_size, version)?,
            access: device.access(),
        })
    }

    /// Reads a table that the kernel shows; `None` when it is not one of dm-crypt.
    pub(super) fn read(target: &Target) -> Option<(Self, KeySource)> {
        if target.kind != TARGET {
            return None;
        }
        let mut words = target.parameters.0.split(' ');
        let cipher = words.next()?.to_owned();
        let key = KeySource::read(words.next()?)?;
        let iv_offset = words.next()?.parse().ok()?;
        let device = DeviceNumber::parse(words.next()?);
        let start = words.next()?.parse().ok()?;
        let options = words.skip(1).map(str::to_owned).collect();
        let (sectors, access) = (target.sectors, target.access);
        Some((Self { sectors, cipher, iv_offset, device, start, options, access }, key))
    }

    /// Returns it with another length in bytes.
    pub(super) fn with_len(self, len: u64) -> Self {
        Self { sectors: len / SECTOR, ..self }
    }

    /// Returns it as a target with the key.
    pub(super) fn with_key(&self, key: &KeySource) -> Target {
        let mut line = Zeroizing::new(String::with_capacity(LONGEST_LINE));
        let mut write = |arguments: std::fmt::Arguments<'_>| {
            line.write_fmt(arguments).expect("a string takes any text");
        };
        write(format_args!("{} ", self.cipher));
        match key {
            KeySource::Keyring { len, description } => {
                write(format_args!(":{len}:{LOGON}:{description}"));
            }
            KeySource::Table(digits) => write(format_args!("{}", digits.as_str())),
        }
        let device = self.device.map_or_else(|| "-".to_owned(), |device| device.to_string());
        write(format_args!(" {} {device} {}", self.iv_offset, self.start));
        if !self.options.is_empty() {
            write(format_args!(" {} {}", self.options.len(), self.options.join(" ")));
        }
        let (sectors, kind, access) = (self.sectors, TARGET.to_owned(), self.access);
        Target { sectors, kind, parameters: Parameters(line), access }
    }

    /// Returns where on the device the data ends, in bytes.
    pub(super) fn end(&self) -> Option<u64> {
        self.start.checked_add(self.sectors)?.checked_mul(SECTOR)
    }

    /// Returns the bytes of a sector of the encryption.
    pub(super) fn sector_size(&self) -> u64 {
        let size = self.options.iter().find_map(|option| option.strip_prefix(SECTOR_SIZE));
        size.and_then(|size| size.parse().ok()).unwrap_or(SECTOR)
    }

    /// Returns the cipher, as dm-crypt spells it.
    pub(super) fn cipher(&self) -> &str {
        &self.cipher
    }
}

impl KeySource {
    /// Returns the key of the keyrings by which a volume's key is found: cryptsetup's description.
    pub(super) fn in_keyring(contents: &EncryptedContents) -> Self {
        Self::Keyring {
            len: contents.key.len(),
            // The digest of the data is the first one, unless a volume was re-encrypted. cryptsetup
            // takes any number for a volume that is open.
            description: format!("cryptsetup:{}-d0", contents.uuid),
        }
    }

    /// Returns the key itself.
    pub(super) fn in_table(key: &VolumeKey) -> Self {
        let bytes = key.expose_bytes();
        let mut digits = Zeroizing::new(String::with_capacity(2 * bytes.len()));
        for byte in bytes {
            write!(digits, "{byte:02x}").expect("a string takes any text");
        }
        Self::Table(digits)
    }

    /// Returns whether it is not known to be another key than `key`.
    pub(super) fn may_be(&self, contents: &EncryptedContents) -> bool {
        match (self, Self::in_keyring(contents)) {
            (Self::Keyring { len, description }, Self::Keyring { len: l, description: d }) => {
                *len == l && *description == d
            }
            (Self::Table(digits), _) => key_of(digits).is_some_and(|key| key == contents.key),
            (Self::Keyring { .. }, Self::Table(_)) => false,
        }
    }

    fn read(word: &str) -> Option<Self> {
        let Some(described) = word.strip_prefix(':') else {
            return Some(Self::Table(Zeroizing::new(word.to_owned())));
        };
        let mut parts = described.splitn(3, ':');
        let len = parts.next()?.parse().ok()?;
        let is_logon = parts.next()? == LOGON;
        let description = parts.next()?.to_owned();
        is_logon.then_some(Self::Keyring { len, description })
    }
}

/// Reads hexadecimal digits.
fn key_of(digits: &str) -> Option<VolumeKey> {
    let pairs = digits.as_bytes().chunks(2);
    let mut bytes = Vec::with_capacity(pairs.len());
    for pair in pairs {
        match std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => bytes.push(byte),
            None => {
                drop(Zeroizing::new(bytes));
                return None;
            }
        }
    }
    Some(VolumeKey::new(bytes))
}

fn options(tuning: Tuning, sector_size: SectorSize, version: Version) -> Result<Vec<String>> {
    let mut options = Vec::new();
    let mut push = |is_wanted: bool, name: String, since: Version| {
        if !is_wanted {
            return Ok(());
        }
        if version < since {
            let [major, minor, patch] = version;
            let problem =
                format!("dm-crypt {major}.{minor}.{patch} of this kernel has no `{name}`");
            return Err(Error::new(ErrorKind::Unsupported, problem)
                .hinted("use a newer kernel, or do without it"));
        }
        options.push(name);
        Ok(())
    };
    push(tuning.discard, "allow_discards".to_owned(), [1, 11, 0])?;
    push(tuning.no_read_workqueue, "no_read_workqueue".to_owned(), [1, 22, 0])?;
    push(tuning.no_write_workqueue, "no_write_workqueue".to_owned(), [1, 22, 0])?;
    let size = sector_size.bytes();
    push(sector_size != SectorSize::B512, format!("{SECTOR_SIZE}{size}"), [1, 17, 0])?;
    Ok(options)
}

/// The name of the target, and of the kind of key whose bytes no program can read back.
pub(super) const TARGET: &str = "crypt";
pub(super) const LOGON: &str = "logon";

/// What device-mapper counts in.
pub(super) const SECTOR: u64 = 512;

const SECTOR_SIZE: &str = "sector_size:";

/// Room for a line with a key of 1024 bits, so that no copy of it stays behind when the text grows.
const LONGEST_LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use strongroom_crypto::CipherSpec;
    use strongroom_luks::{Payload, Version as LuksVersion};

    use super::*;

    fn contents(spec: &str, bits: usize, sector_size: SectorSize) -> EncryptedContents {
        let encryption = spec.parse::<CipherSpec>().unwrap().with_key_bits(bits).unwrap();
        EncryptedContents {
            version: LuksVersion::Luks2,
            uuid: "11111111-2222-3333-4444-555555555555".to_owned(),
            payload: Payload {
                offset: 16 << 20,
                length: 1 << 20,
                encryption,
                sector_size,
                iv_tweak: 8,
            },
            key: VolumeKey::new(vec![0xa5; bits / 8]),
        }
    }

    fn loop_device() -> DeviceNumber {
        DeviceNumber::parse("7:3").unwrap()
    }

    fn table(contents: &EncryptedContents, tuning: Tuning) -> Result<Crypt> {
        Crypt::new(loop_device(), contents, 1 << 20, tuning, [1, 24, 0])
    }

    fn line(target: &Target) -> &str {
        target.parameters.0.as_str()
    }

    #[test]
    fn a_line_with_a_key_of_the_keyring_holds_its_description_alone() {
        let contents = contents("aes-xts-plain64", 512, SectorSize::B512);
        let target = table(&contents, Tuning::default())
            .unwrap()
            .with_key(&KeySource::in_keyring(&contents));
        assert_eq!(
            line(&target),
            "aes-xts-plain64 :64:logon:cryptsetup:11111111-2222-3333-4444-555555555555-d0 8 7:3 32768"
        );
        assert_eq!((target.sectors, target.kind.as_str()), (2048, "crypt"));
    }

    #[test]
    fn options_stand_in_the_order_of_dm_crypt_and_never_say_large_sectors() {
        let contents = contents("serpent-cbc-essiv:sha256", 128, SectorSize::B4096);
        let tuning = Tuning { discard: true, no_read_workqueue: true, no_write_workqueue: true };
        let target =
            table(&contents, tuning).unwrap().with_key(&KeySource::in_table(&contents.key));
        let key = "a5".repeat(16);
        assert_eq!(
            line(&target),
            format!(
                "serpent-cbc-essiv:sha256 {key} 8 7:3 32768 \
                 4 allow_discards no_read_workqueue no_write_workqueue sector_size:4096"
            )
        );
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let contents = contents("aes-xts-plain64", 512, SectorSize::B4096);
        let tuning = Tuning { discard: true, ..Tuning::default() };
        let table = table(&contents, tuning).unwrap();
        for key in [KeySource::in_keyring(&contents), KeySource::in_table(&contents.key)] {
            let (read, key) = Crypt::read(&table.with_key(&key)).unwrap();
            assert_eq!(read, table);
            assert!(key.may_be(&contents));
        }
        assert_eq!(table.sector_size(), 4096);
        assert_eq!(table.end(), Some(17 << 20));
    }

    #[test]
    fn another_key_in_a_table_is_seen() {
        let contents = contents("aes-xts-plain64", 256, SectorSize::B512);
        let other = KeySource::in_table(&VolumeKey::new(vec![0xa4; 32]));
        assert!(!other.may_be(&contents));
        let other = KeySource::Keyring { len: 32, description: "cryptsetup:other-d0".to_owned() };
        assert!(!other.may_be(&contents));
        assert!(!KeySource::Table(Zeroizing::new("no digits".to_owned())).may_be(&contents));
    }

    #[test]
    fn a_table_whose_device_is_forgotten_can_still_be_read() {
        let parameters = Zeroizing::new("aes-xts-plain64 00 0 (null) 32768".to_owned());
        let parameters = Parameters(parameters);
        let (kind, access) = ("crypt".to_owned(), Access::ReadWrite);
        let target = Target { sectors: 8, kind, parameters, access };
        assert_eq!(Crypt::read(&target).unwrap().0.device, None);
    }

    #[test]
    fn refuses_part_of_a_sector() {
        let contents = contents("aes-xts-plain64", 512, SectorSize::B4096);
        for len in [0, 512, 4095, 4097] {
            let table = Crypt::new(loop_device(), &contents, len, Tuning::default(), [1, 24, 0]);
            assert_eq!(table.unwrap_err().kind(), ErrorKind::Request);
        }
    }

    #[test]
    fn names_the_option_that_an_old_kernel_lacks() {
        let contents = contents("aes-xts-plain64", 512, SectorSize::B512);
        let tuning = Tuning { no_read_workqueue: true, ..Tuning::default() };
        let table = Crypt::new(loop_device(), &contents, 512, tuning, [1, 21, 9]);
        let error = table.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("1.21.9") && error.to_string().contains("no_read_work"));
    }
}
