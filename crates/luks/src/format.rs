//! New headers of either format.

use std::fmt;

use rand_core::CryptoRng;
use strongroom_crypto::{
    CipherSpec, CostPolicy, Encryption, Hash, Kdf, Passphrase, SectorSize, VolumeKey,
};

use crate::luks2::Priority;
use crate::{Change, Error, Header, NewKeyslot, header::Binding, luks1, luks2};

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// LUKS1.
    Luks1,
    /// LUKS2.
    Luks2,
}

/// What a new header shall be like.
#[derive(Debug, Clone)]
pub struct FormatOptions {
    /// The format.
    pub version: Version,
    /// Cipher and key size of the data.
    pub encryption: Encryption,
    /// The hash of splitter and digest; for LUKS1 also that of key derivation.
    pub hash: Hash,
    /// Key derivation of the first keyslot.
    pub kdf: Kdf,
    /// Size of an encryption sector; LUKS1 has 512 bytes only.
    pub sector_size: SectorSize,
    /// Where the data begins, in bytes; `None` for the usual place.
    pub data_offset: Option<u64>,
    /// The bytes of one copy of LUKS2 metadata; `None` for 16 KiB.
    pub metadata_size: Option<u64>,
    /// The bytes of the LUKS2 keyslots area; `None` for all up to the data.
    pub keyslots_size: Option<u64>,
    /// Whether the header lies apart from the data, which then begins at offset 0.
    pub detached: bool,
    /// The LUKS2 label, empty for none.
    pub label: String,
    /// The LUKS2 subsystem, empty for none.
    pub subsystem: String,
    /// The UUID; `None` for a random one.
    pub uuid: Option<String>,
    /// A token, as JSON text, which becomes token 0; LUKS1 has none.
    pub token: Option<String>,
    /// PBKDF2 iterations of the volume key's digest. The key is random, so stretching it adds
    /// nothing; the usual number is what a tool that measures would choose on a modest machine.
    pub digest_iterations: u32,
}

/// A new header, its volume key, and the writes that put it on a device.
#[derive(Debug)]
pub struct Formatted {
    /// The header.
    pub header: Header,
    /// The volume key.
    pub volume_key: VolumeKey,
    /// Everything to write, key material first.
    pub change: Change,
}

impl Version {
    /// What both formats begin with.
    pub(crate) const MAGIC: &'static [u8; 6] = b"LUKS\xba\xbe";

    /// Returns the number of the format.
    pub fn number(self) -> u16 {
        match self {
            Self::Luks1 => 1,
            Self::Luks2 => 2,
        }
    }
}

impl FormatOptions {
    /// Returns the usual choice: AES-256-XTS under SHA-256; Argon2id for LUKS2, PBKDF2 for LUKS1;
    /// sectors of 512 bytes, which the partition table inside a disk image expects.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            encryption: CipherSpec::AES_XTS_PLAIN64.with_largest_key(),
            hash: Hash::Sha256,
            kdf: match version {
                Version::Luks1 => Kdf::default_pbkdf2(Hash::Sha256),
                Version::Luks2 => Kdf::DEFAULT_ARGON2ID,
            },
            sector_size: SectorSize::B512,
            data_offset: None,
            metadata_size: None,
            keyslots_size: None,
            detached: false,
            label: String::new(),
            subsystem: String::new(),
            uuid: None,
            token: None,
            digest_iterations: DIGEST_ITERATIONS,
        }
    }

    /// Settles the UUID before there is a header: the one that was asked for, else a random one.
    /// Returns it as the header will spell it.
    ///
    /// # Errors
    ///
    /// [`Error::Unfit`] when what was asked for is none.
    pub fn settle_uuid(&mut self, rng: &mut dyn CryptoRng) -> Result<String, Error> {
        let uuid = self.uuid_or_random(rng)?;
        self.uuid = Some(uuid.clone());
        Ok(uuid)
    }

    /// Returns a new header with a random volume key in keyslot 0.
    ///
    /// # Errors
    ///
    /// When the options do not fit the format or each other, or `policy` refuses the cost.
    pub fn format(
        &self,
        passphrase: &Passphrase,
        policy: &CostPolicy,
        rng: &mut dyn CryptoRng,
    ) -> Result<Formatted, Error> {
        if let Some(reason) = self.encryption.spec().open_only() {
            return Err(Error::unfit(
                self.version,
                format!("{} is for opening old volumes only: {reason}", self.encryption.spec()),
            ));
        }
        if let (Version::Luks2, Hash::Sha1) = (self.version, self.hash) {
            return Err(Error::unfit(
                self.version,
                "sha1 is for opening old volumes only: it is broken, and whatever reads LUKS2 \
                 has sha256",
            ));
        }
        if let (Version::Luks2, Kdf::Pbkdf2 { hash: Hash::Sha1, .. }) = (self.version, self.kdf) {
            return Err(Error::unfit(
                self.version,
                "pbkdf2 with sha1 is for opening old volumes only: use sha256 or argon2id",
            ));
        }
        self.kdf.checked()?;
        Kdf::Pbkdf2 { hash: self.hash, iterations: self.digest_iterations }.checked()?;
        let volume_key = VolumeKey::random(self.encryption.key_size().bytes(), rng);
        let (header, change) = match self.version {
            Version::Luks1 => {
                let (header, change) = luks1::format(self, &volume_key, passphrase, policy, rng)?;
                (Header::Luks1(header), change)
            }
            Version::Luks2 => {
                let (header, change) = luks2::format(self, &volume_key, passphrase, policy, rng)?;
                (Header::Luks2(header), change)
            }
        };
        Ok(Formatted { header, volume_key, change })
    }

    /// Returns what the first keyslot is like.
    pub(crate) fn first_keyslot(&self) -> NewKeyslot {
        NewKeyslot {
            id: Some(0),
            kdf: self.kdf,
            priority: Priority::Normal,
            af_hash: self.hash,
            area_encryption: self.encryption,
            binding: Binding::Volume,
        }
    }

    /// Returns the UUID asked for, or a random one (RFC 9562, version 4).
    pub(crate) fn uuid_or_random(&self, rng: &mut dyn CryptoRng) -> Result<String, Error> {
        let Some(text) = &self.uuid else {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes);
            return Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string());
        };
        match uuid::Uuid::try_parse(text) {
            Ok(uuid) => Ok(uuid.to_string()),
            Err(_) => Err(Error::unfit(self.version, format!("{text:?} is not a UUID"))),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LUKS{}", self.number())
    }
}

/// The usual PBKDF2 iterations of a new volume key's digest.
pub(crate) const DIGEST_ITERATIONS: u32 = 100_000;

/// What LUKS1 payloads are aligned to, in bytes.
pub(crate) const DATA_ALIGNMENT: u64 = 1 << 20;

/// Where the data of a LUKS2 volume begins, in bytes.
pub(crate) const DEFAULT_DATA_OFFSET: u64 = 16 << 20;
