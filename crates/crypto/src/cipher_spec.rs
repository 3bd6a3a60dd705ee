//! Cipher specifications as people write them, and the key sizes that go with them.
//!
//! The grammar is dm-crypt's and cryptsetup's `cipher-mode-iv[:hash]`.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Hash};

/// A block cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES (FIPS 197).
    Aes,
    /// Camellia (RFC 3713).
    Camellia,
    /// CAST-128 (RFC 2144), 64-bit blocks.
    Cast5,
    /// Three-key triple DES (SP 800-67), 64-bit blocks.
    Des3,
    /// Serpent.
    Serpent,
    /// Twofish.
    Twofish,
}

/// How blocks of a sector are chained, and where its initialisation vector comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// XEX with ciphertext stealing (IEEE 1619); a sector is a whole number of blocks here.
    Xts(Iv),
    /// Cipher block chaining.
    Cbc(Iv),
    /// Counter mode, the IV being the first value of a big-endian counter.
    Ctr(Iv),
    /// Electronic code book: every block alone. Open only.
    Ecb,
}

/// An initialisation vector generator of dm-crypt. "Sector" counts units of 512 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Iv {
    /// The encrypted sector number, the key being a hash of the volume key.
    Essiv(Hash),
    /// All zero. Open only.
    Null,
    /// The low 32 bits of the sector number, little-endian.
    Plain,
    /// The sector number, little-endian.
    Plain64,
    /// The sector number, big-endian, in the last eight bytes.
    Plain64be,
}

/// A cipher with a mode and IV that fit it: `aes-xts-plain64`.
///
/// The key size is not part of it; see [`Encryption`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CipherSpec {
    cipher: Cipher,
    mode: Mode,
}

/// The size of a volume key, always one that its cipher and mode have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeySize {
    bytes: usize,
}

/// A cipher specification together with a key size that it works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Encryption {
    spec: CipherSpec,
    key_size: KeySize,
}

impl Cipher {
    /// Returns the name that dm-crypt and LUKS headers use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes => "aes",
            Self::Camellia => "camellia",
            Self::Cast5 => "cast5",
            Self::Des3 => "des3_ede",
            Self::Serpent => "serpent",
            Self::Twofish => "twofish",
        }
    }

    /// Returns the block size in bytes: 16 or 8.
    pub fn block_size(self) -> usize {
        match self {
            Self::Cast5 | Self::Des3 => 8,
            Self::Aes | Self::Camellia | Self::Serpent | Self::Twofish => 16,
        }
    }

    /// Returns the sizes in bits of a single key of the cipher.
    fn key_sizes(self) -> &'static [u16] {
        match self {
            Self::Cast5 => &[128],
            Self::Des3 => &[192],
            Self::Aes | Self::Camellia | Self::Serpent | Self::Twofish => &[128, 192, 256],
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "aes" => Self::Aes,
            "camellia" => Self::Camellia,
            "cast5" => Self::Cast5,
            "des3" | "des3_ede" => Self::Des3,
            "serpent" => Self::Serpent,
            "twofish" => Self::Twofish,
            _ => return None,
        })
    }
}

impl Mode {
    /// Returns the IV generator, `None` for ECB, which has none.
    pub fn iv(self) -> Option<Iv> {
        match self {
            Self::Xts(iv) | Self::Cbc(iv) | Self::Ctr(iv) => Some(iv),
            Self::Ecb => None,
        }
    }
}

impl CipherSpec {
    /// What is chosen when nobody says otherwise.
    pub const AES_XTS_PLAIN64: Self = Self { cipher: Cipher::Aes, mode: Mode::Xts(Iv::Plain64) };

    /// Returns the block cipher.
    pub fn cipher(self) -> Cipher {
        self.cipher
    }

    /// Returns mode and IV generator.
    pub fn mode(self) -> Mode {
        self.mode
    }

    /// Returns the volume key sizes in bits that work with this specification.
    pub fn key_sizes(self) -> &'static [u16] {
        match (self.mode, self.cipher) {
            // Kernels refuse AES-192 in XTS.
            (Mode::Xts(_), Cipher::Aes) => &[256, 512],
            (Mode::Xts(_), _) => &[256, 384, 512],
            (_, cipher) => cipher.key_sizes(),
        }
    }

    /// Returns the specification with a key size.
    ///
    /// # Errors
    ///
    /// [`Error::KeySize`] lists the sizes that work.
    pub fn with_key_bits(self, bits: usize) -> Result<Encryption, Error> {
        let allowed = self.key_sizes();
        if allowed.iter().any(|&size| usize::from(size) == bits) {
            Ok(Encryption { spec: self, key_size: KeySize { bytes: bits / 8 } })
        } else {
            Err(Error::KeySize { spec: self, bits, allowed })
        }
    }

    /// Returns the specification with the largest key it takes.
    pub fn with_largest_key(self) -> Encryption {
        let bits = self.key_sizes().last().expect("every cipher has a key size");
        Encryption { spec: self, key_size: KeySize { bytes: usize::from(*bits) / 8 } }
    }

    /// Returns why nothing new may be encrypted this way, `None` when it may.
    pub fn open_only(self) -> Option<&'static str> {
        match self.mode {
            Mode::Ecb => Some("in ECB mode equal blocks of the disk are equal in the ciphertext"),
            Mode::Xts(Iv::Null) | Mode::Cbc(Iv::Null) | Mode::Ctr(Iv::Null) => {
                Some("with a null IV equal sectors of the disk are equal in the ciphertext")
            }
            _ => None,
        }
    }

    /// Returns mode and IV as LUKS1 headers hold them: `xts-plain64`.
    pub fn mode_name(self) -> String {
        match self.mode {
            Mode::Xts(iv) => format!("xts-{iv}"),
            Mode::Cbc(iv) => format!("cbc-{iv}"),
            Mode::Ctr(iv) => format!("ctr-{iv}"),
            Mode::Ecb => "ecb".to_owned(),
        }
    }

    fn new(text: &str, cipher: Cipher, mode: Mode) -> Result<Self, Error> {
        let impossible = |reason: String| Error::ImpossibleCipher { spec: text.to_owned(), reason };
        if matches!(mode, Mode::Xts(_)) && cipher.block_size() != 16 {
            return Err(impossible(format!("XTS needs 128-bit blocks, {cipher} has 64-bit ones")));
        }
        if let Some(Iv::Essiv(hash)) = mode.iv() {
            let bits = hash.digest_len() * 8;
            if !cipher.key_sizes().iter().any(|&size| usize::from(size) == bits) {
                return Err(impossible(format!(
                    "ESSIV with {hash} needs a {bits}-bit key, which {cipher} does not have"
                )));
            }
        }
        Ok(Self { cipher, mode })
    }
}

impl KeySize {
    /// Returns the size in bits.
    pub fn bits(self) -> usize {
        self.bytes * 8
    }

    /// Returns the size in bytes.
    pub fn bytes(self) -> usize {
        self.bytes
    }
}

impl Encryption {
    /// Returns the cipher specification.
    pub fn spec(self) -> CipherSpec {
        self.spec
    }

    /// Returns the size of the volume key.
    pub fn key_size(self) -> KeySize {
        self.key_size
    }
}

impl FromStr for CipherSpec {
    type Err = Error;

    /// Reads `cipher-mode-iv[:hash]`, `cipher-ecb`, and cryptsetup's short forms `cipher` and
    /// `cipher-plain`, which mean `cipher-cbc-plain`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let impossible = |reason: &str| Error::ImpossibleCipher {
            spec: text.to_owned(),
            reason: reason.to_owned(),
        };
        if text.starts_with("capi:") {
            return Err(impossible("the kernel's own cipher names are not supported"));
        }
        let (name, mode) = text.split_once('-').unwrap_or((text, "plain"));
        if matches!(name, "cipher_null" | "null") {
            return Err(impossible("the null cipher does not encrypt"));
        }
        let cipher = Cipher::from_name(name).ok_or_else(|| {
            impossible("the cipher is not one of aes, camellia, cast5, des3_ede, serpent, twofish")
        })?;
        let mode = match mode.split_once('-') {
            Some(("xts", iv)) => Mode::Xts(parse_iv(text, iv)?),
            Some(("cbc", iv)) => Mode::Cbc(parse_iv(text, iv)?),
            Some(("ctr", iv)) => Mode::Ctr(parse_iv(text, iv)?),
            // There is no IV in ECB; dm-crypt ignores the one that QEMU writes all the same.
            Some(("ecb", iv)) => parse_iv(text, iv).map(|_| Mode::Ecb)?,
            None if mode == "ecb" => Mode::Ecb,
            None if mode == "plain" => Mode::Cbc(Iv::Plain),
            None if matches!(mode, "xts" | "cbc" | "ctr") => {
                return Err(impossible(
                    "the IV is missing: write for example -plain64 after the mode",
                ));
            }
            _ => return Err(impossible("the mode is not one of xts, cbc, ctr, ecb")),
        };
        Self::new(text, cipher, mode)
    }
}

/// Reads an IV generator. A hash behind `plain…` is ignored, as dm-crypt does: QEMU writes one.
fn parse_iv(text: &str, iv: &str) -> Result<Iv, Error> {
    let (name, hash) = match iv.split_once(':') {
        Some((name, hash)) => (name, Some(hash)),
        None => (iv, None),
    };
    let reason = match (name, hash) {
        ("plain", _) => return Ok(Iv::Plain),
        ("plain64", _) => return Ok(Iv::Plain64),
        ("plain64be", _) => return Ok(Iv::Plain64be),
        ("null", None) => return Ok(Iv::Null),
        ("essiv", Some(hash)) => return Ok(Iv::Essiv(hash.parse()?)),
        ("essiv", None) => "ESSIV needs a hash: write essiv:sha256",
        _ => "the IV is not one of plain, plain64, plain64be, essiv:HASH, null",
    };
    Err(Error::ImpossibleCipher { spec: text.to_owned(), reason: reason.to_owned() })
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Iv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Essiv(hash) => write!(f, "essiv:{hash}"),
            Self::Null => f.write_str("null"),
            Self::Plain => f.write_str("plain"),
            Self::Plain64 => f.write_str("plain64"),
            Self::Plain64be => f.write_str("plain64be"),
        }
    }
}

impl fmt::Display for CipherSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.cipher, self.mode_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> CipherSpec {
        text.parse().unwrap()
    }

    #[test]
    fn reads_and_writes_what_people_write() {
        for text in [
            "aes-xts-plain64",
            "aes-cbc-essiv:sha256",
            "twofish-xts-plain64",
            "serpent-cbc-plain",
            "camellia-ctr-plain64be",
            "cast5-cbc-plain64",
            "des3_ede-cbc-plain",
            "aes-ecb",
            "aes-cbc-null",
        ] {
            assert_eq!(spec(text).to_string(), text);
        }
    }

    #[test]
    fn reads_the_short_forms() {
        assert_eq!(spec("aes").to_string(), "aes-cbc-plain");
        assert_eq!(spec("aes-plain").to_string(), "aes-cbc-plain");
        assert_eq!(spec("des3-cbc-plain").to_string(), "des3_ede-cbc-plain");
    }

    #[test]
    fn ignores_a_hash_behind_a_plain_iv() {
        assert_eq!(spec("twofish-cbc-plain64:sha256").to_string(), "twofish-cbc-plain64");
    }

    #[test]
    fn ignores_an_iv_behind_ecb() {
        for text in ["aes-ecb-plain64", "aes-ecb-null", "aes-ecb-essiv:sha256"] {
            assert_eq!(spec(text).to_string(), "aes-ecb");
        }
        assert!("aes-ecb-nonsense".parse::<CipherSpec>().is_err());
    }

    #[test]
    fn refuses_what_does_not_fit_and_says_why() {
        for (text, reason) in [
            ("cast5-xts-plain64", "128-bit blocks"),
            ("aes-cbc-essiv:sha512", "512-bit key"),
            ("aes-cbc-essiv", "needs a hash"),
            ("aes-xts", "IV is missing"),
            ("aes-gcm-random", "mode is not one of"),
            ("aes-xts-benbi", "IV is not one of"),
            ("cipher_null-ecb", "does not encrypt"),
            ("capi:xts(aes)-plain64", "not supported"),
            ("blowfish-cbc-plain", "cipher is not one of"),
            ("", "cipher is not one of"),
        ] {
            let error = text.parse::<CipherSpec>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_wrong_key_size_names_the_sizes_that_work() {
        let error = spec("aes-xts-plain64").with_key_bits(384).unwrap_err().to_string();
        assert_eq!(error, "aes-xts-plain64 has no 384-bit key: use 256, 512");
        assert!(spec("aes-cbc-plain").with_key_bits(512).is_err());
        assert_eq!(spec("aes-cbc-plain").with_key_bits(192).unwrap().key_size().bytes(), 24);
    }

    #[test]
    fn modes_that_leak_are_for_opening_only() {
        assert!(spec("aes-ecb").open_only().is_some());
        assert!(spec("aes-cbc-null").open_only().is_some());
        assert!(spec("aes-xts-plain64").open_only().is_none());
    }
}
