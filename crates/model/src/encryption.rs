//! What someone asks for when something is to be encrypted, and what a Secret asks for.
//!
//! Ciphers and hashes are carried as their names; the floor that joins them with `crypto` decides
//! whether they are possible. Whatever is `None` has not been said, and gets a default there.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The version of a LUKS header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LuksFormat {
    /// LUKS1, whose only key derivation function is PBKDF2.
    Luks1,
    /// LUKS2.
    #[default]
    Luks2,
}

/// A password-based key derivation function, without its costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pbkdf {
    /// Argon2i (RFC 9106).
    Argon2i,
    /// Argon2id (RFC 9106).
    Argon2id,
    /// PBKDF2 with HMAC (RFC 8018).
    Pbkdf2,
}

/// How something is to be encrypted, as far as somebody said so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EncryptionRequest {
    /// The version of the header.
    pub format: LuksFormat,
    /// The cipher specification: `aes-xts-plain64`.
    pub cipher: Option<String>,
    /// The size of the volume key in bits.
    pub key_size_bits: Option<u32>,
    /// The hash of PBKDF2, of the key digest and, in LUKS1, of the anti-forensic splitter.
    pub hash: Option<String>,
    /// The size in bytes of the sectors that are encrypted.
    pub sector_size: Option<u32>,
    /// Where the encrypted data begins, in bytes from the start of the target.
    pub data_offset: Option<u64>,
    /// The key derivation function of the keyslot.
    pub pbkdf: Option<Pbkdf>,
    /// Memory of the key derivation in KiB; only Argon2 has any.
    pub pbkdf_memory_kib: Option<u32>,
    /// Iterations of PBKDF2, or passes over the memory of Argon2.
    pub pbkdf_iterations: Option<u32>,
    /// Lanes of Argon2 that may run side by side.
    pub pbkdf_parallel: Option<u32>,
    /// The label in the header; only LUKS2 has one.
    pub label: Option<String>,
    /// The UUID in the header.
    pub uuid: Option<String>,
}

/// How a Secret wants volumes and images to be encrypted.
///
/// The defaults of the Secret's dialect stand in it already: a dialect that promises
/// `aes-xts-plain64` when nothing is said gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionSettings {
    /// The cipher specification.
    pub cipher: String,
    /// The size of the volume key in bits.
    pub key_size_bits: u32,
    /// The hash.
    pub hash: String,
    /// The key derivation function.
    pub pbkdf: Pbkdf,
    /// Memory of the key derivation in KiB.
    pub pbkdf_memory_kib: Option<u32>,
    /// Iterations of PBKDF2, or passes over the memory of Argon2.
    pub pbkdf_iterations: Option<u32>,
}

impl Pbkdf {
    /// Every function.
    pub const ALL: [Self; 3] = [Self::Argon2id, Self::Argon2i, Self::Pbkdf2];

    /// Returns the name that LUKS2 headers use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Argon2i => "argon2i",
            Self::Argon2id => "argon2id",
            Self::Pbkdf2 => "pbkdf2",
        }
    }
}

impl EncryptionRequest {
    /// Returns the request with its gaps filled from a Secret.
    ///
    /// # Guarantees
    ///
    /// - What the request says wins.
    /// - What belongs to a choice goes with it: the Secret's key size is for the Secret's cipher,
    ///   and its memory and iterations are for its key derivation function. A request that chooses
    ///   another cipher or function takes none of them, since 4 passes of Argon2 are not 4
    ///   iterations of PBKDF2.
    /// - A LUKS1 request takes nothing of Argon2 from a Secret: the format does not have it.
    #[must_use]
    pub fn merged_with(self, settings: &EncryptionSettings) -> Self {
        let secret_cipher = self.cipher.as_ref().is_none_or(|cipher| *cipher == settings.cipher);
        let secret_pbkdf = match (self.pbkdf, self.format) {
            (Some(chosen), _) => chosen == settings.pbkdf,
            (None, LuksFormat::Luks1) => settings.pbkdf == Pbkdf::Pbkdf2,
            (None, LuksFormat::Luks2) => true,
        };
        let pbkdf_memory_kib = settings.pbkdf_memory_kib.filter(|_| secret_pbkdf);
        let pbkdf_iterations = settings.pbkdf_iterations.filter(|_| secret_pbkdf);
        Self {
            cipher: self.cipher.or_else(|| Some(settings.cipher.clone())),
            key_size_bits: self
                .key_size_bits
                .or_else(|| secret_cipher.then_some(settings.key_size_bits)),
            hash: self.hash.or_else(|| Some(settings.hash.clone())),
            pbkdf: self.pbkdf.or_else(|| secret_pbkdf.then_some(settings.pbkdf)),
            pbkdf_memory_kib: self.pbkdf_memory_kib.or(pbkdf_memory_kib),
            pbkdf_iterations: self.pbkdf_iterations.or(pbkdf_iterations),
            ..self
        }
    }
}

impl fmt::Display for LuksFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Luks1 => "luks1",
            Self::Luks2 => "luks2",
        })
    }
}

impl FromStr for LuksFormat {
    type Err = Error;

    /// Reads `luks1` or `luks2`.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "luks1" => Ok(Self::Luks1),
            "luks2" => Ok(Self::Luks2),
            _ => Err(Error::UnknownFormat { name: name.to_owned() }),
        }
    }
}

impl fmt::Display for Pbkdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Pbkdf {
    type Err = Error;

    /// Reads `argon2id`, `argon2i` or `pbkdf2`.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|pbkdf| pbkdf.name() == name)
            .ok_or_else(|| Error::UnknownPbkdf { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> EncryptionSettings {
        EncryptionSettings {
            cipher: "aes-xts-plain64".to_owned(),
            key_size_bits: 256,
            hash: "sha256".to_owned(),
            pbkdf: Pbkdf::Argon2i,
            pbkdf_memory_kib: Some(65536),
            pbkdf_iterations: Some(4),
        }
    }

    #[test]
    fn names_read_back() {
        for pbkdf in Pbkdf::ALL {
            assert_eq!(pbkdf.to_string().parse::<Pbkdf>(), Ok(pbkdf));
        }
        for format in [LuksFormat::Luks1, LuksFormat::Luks2] {
            assert_eq!(format.to_string().parse::<LuksFormat>(), Ok(format));
        }
        assert!("scrypt".parse::<Pbkdf>().unwrap_err().to_string().contains("argon2id"));
        assert!("luks3".parse::<LuksFormat>().unwrap_err().to_string().contains("luks1"));
    }

    #[test]
    fn an_empty_request_takes_everything_from_the_secret() {
        let merged = EncryptionRequest::default().merged_with(&settings());
        let expected = EncryptionRequest {
            cipher: Some("aes-xts-plain64".to_owned()),
            key_size_bits: Some(256),
            hash: Some("sha256".to_owned()),
            pbkdf: Some(Pbkdf::Argon2i),
            pbkdf_memory_kib: Some(65536),
            pbkdf_iterations: Some(4),
            ..EncryptionRequest::default()
        };
        assert_eq!(merged, expected);
    }

    #[test]
    fn words_of_the_command_line_win() {
        let request = EncryptionRequest {
            format: LuksFormat::Luks2,
            cipher: Some("serpent-xts-plain64".to_owned()),
            key_size_bits: Some(512),
            hash: Some("sha512".to_owned()),
            sector_size: Some(4096),
            data_offset: Some(1 << 24),
            pbkdf: Some(Pbkdf::Argon2id),
            pbkdf_memory_kib: Some(1024),
            pbkdf_iterations: Some(7),
            pbkdf_parallel: Some(2),
            label: Some("root".to_owned()),
            uuid: Some("8a3b5bd0-5a3c-4fd8-8a3c-000000000000".to_owned()),
        };
        assert_eq!(request.clone().merged_with(&settings()), request);
    }

    #[test]
    fn another_cipher_does_not_take_the_secrets_key_size() {
        let cipher = |name: &str| EncryptionRequest {
            cipher: Some(name.to_owned()),
            ..EncryptionRequest::default()
        };
        assert_eq!(cipher("cast5-cbc-plain64").merged_with(&settings()).key_size_bits, None);
        assert_eq!(cipher("aes-xts-plain64").merged_with(&settings()).key_size_bits, Some(256));
    }

    #[test]
    fn another_function_does_not_take_the_secrets_costs() {
        let request =
            EncryptionRequest { pbkdf: Some(Pbkdf::Pbkdf2), ..EncryptionRequest::default() };
        let merged = request.merged_with(&settings());
        assert_eq!(merged.pbkdf, Some(Pbkdf::Pbkdf2));
        assert_eq!((merged.pbkdf_memory_kib, merged.pbkdf_iterations), (None, None));
    }

    #[test]
    fn luks1_takes_pbkdf2_from_the_secret_but_no_argon2() {
        let luks1 =
            || EncryptionRequest { format: LuksFormat::Luks1, ..EncryptionRequest::default() };
        let merged = luks1().merged_with(&settings());
        assert_eq!((merged.pbkdf, merged.pbkdf_iterations), (None, None));
        assert_eq!(merged.hash.as_deref(), Some("sha256"));

        let pbkdf2 =
            EncryptionSettings { pbkdf: Pbkdf::Pbkdf2, pbkdf_iterations: Some(2000), ..settings() };
        let merged = luks1().merged_with(&pbkdf2);
        assert_eq!((merged.pbkdf, merged.pbkdf_iterations), (Some(Pbkdf::Pbkdf2), Some(2000)));
    }
}
