//! The checksum that somebody expects of an image.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A checksum as people write it: `sha256:…` or `sha512:…`, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    algorithm: ChecksumAlgorithm,
    digest: Vec<u8>,
}

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChecksumAlgorithm {
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
}

impl Checksum {
    /// Returns how it is computed.
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// Returns the bytes that the computation must give.
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }
}

impl ChecksumAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Returns the name, as hashes are called in LUKS headers too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Returns the length of a digest in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.algorithm.name())?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Checksum {
    type Err = Error;

    /// Reads a name, a colon and hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let failed = |problem| Error::Checksum { problem };
        let (name, digits) = text.split_once(':').ok_or_else(|| failed(UNNAMED))?;
        let algorithm = ChecksumAlgorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| failed(UNNAMED))?;
        if digits.len() != 2 * algorithm.digest_len() {
            return Err(failed(match algorithm {
                ChecksumAlgorithm::Sha256 => "sha256 has 64 hexadecimal digits",
                ChecksumAlgorithm::Sha512 => "sha512 has 128 hexadecimal digits",
            }));
        }
        let nibbles: Option<Vec<u8>> =
            digits.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
        let nibbles = nibbles.ok_or_else(|| failed("its digits are not hexadecimal"))?;
        let digest = nibbles.chunks(2).map(|pair| pair.iter().fold(0, |sum, n| sum << 4 | n));
        Ok(Self { algorithm, digest: digest.collect() })
    }
}

const UNNAMED: &str = "it begins with neither sha256: nor sha512:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_it_was_read() {
        let text = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let checksum: Checksum = text.parse().unwrap();
        assert_eq!(checksum.to_string(), text);
        assert_eq!(checksum.digest()[..3], [0x01, 0x23, 0x45]);
        assert_eq!(text.to_uppercase().replace("SHA", "sha").parse(), Ok(checksum));
    }

    #[test]
    fn what_is_no_checksum_is_refused() {
        for text in
            ["", "sha256", "sha256:", "sha1:00", "00", &format!("sha512:{}", "0".repeat(64))]
        {
            assert!(text.parse::<Checksum>().is_err(), "{text}");
        }
        assert!(format!("sha256:{}", "+f".repeat(32)).parse::<Checksum>().is_err());
    }
}
