//! Hash functions under the names LUKS headers use.

use std::fmt;
use std::str::FromStr;

use digest::Digest;
use hmac::{Hmac, SimpleHmac};

use crate::Error;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hash {
    /// SHA-1 (FIPS 180-4). Only for opening, and where LUKS1 needs it.
    Sha1,
    /// SHA-224 (FIPS 180-4).
    Sha224,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-384 (FIPS 180-4).
    Sha384,
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// SHA3-224 (FIPS 202).
    Sha3_224,
    /// SHA3-256 (FIPS 202).
    Sha3_256,
    /// SHA3-384 (FIPS 202).
    Sha3_384,
    /// SHA3-512 (FIPS 202).
    Sha3_512,
    /// RIPEMD-160 (ISO/IEC 10118-3).
    Ripemd160,
    /// Whirlpool (ISO/IEC 10118-3).
    Whirlpool,
    /// BLAKE2b with 512 bits (RFC 7693).
    Blake2b512,
    /// BLAKE2s with 256 bits (RFC 7693).
    Blake2s256,
}

/// Calls a generic function with the digest type of a hash.
macro_rules! with_digest {
    ($hash:expr, $function:ident($($argument:expr),*)) => {
        match $hash {
            Hash::Sha1 => $function::<sha1::Sha1>($($argument),*),
            Hash::Sha224 => $function::<sha2::Sha224>($($argument),*),
            Hash::Sha256 => $function::<sha2::Sha256>($($argument),*),
            Hash::Sha384 => $function::<sha2::Sha384>($($argument),*),
            Hash::Sha512 => $function::<sha2::Sha512>($($argument),*),
            Hash::Sha3_224 => $function::<sha3::Sha3_224>($($argument),*),
            Hash::Sha3_256 => $function::<sha3::Sha3_256>($($argument),*),
            Hash::Sha3_384 => $function::<sha3::Sha3_384>($($argument),*),
            Hash::Sha3_512 => $function::<sha3::Sha3_512>($($argument),*),
            Hash::Ripemd160 => $function::<ripemd::Ripemd160>($($argument),*),
            Hash::Whirlpool => $function::<whirlpool::Whirlpool>($($argument),*),
            Hash::Blake2b512 => $function::<blake2::Blake2b512>($($argument),*),
            Hash::Blake2s256 => $function::<blake2::Blake2s256>($($argument),*),
        }
    };
}

impl Hash {
    /// Every hash, in the order of [`Hash::NAMES`].
    pub const ALL: [Self; 13] = [
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Sha3_224,
        Self::Sha3_256,
        Self::Sha3_384,
        Self::Sha3_512,
        Self::Ripemd160,
        Self::Whirlpool,
        Self::Blake2b512,
        Self::Blake2s256,
    ];

    /// The names that LUKS headers use.
    pub const NAMES: [&'static str; 13] = [
        "sha1",
        "sha224",
        "sha256",
        "sha384",
        "sha512",
        "sha3-224",
        "sha3-256",
        "sha3-384",
        "sha3-512",
        "ripemd160",
        "whirlpool",
        "blake2b-512",
        "blake2s-256",
    ];

    /// Returns the name that LUKS headers use.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .zip(Self::NAMES)
            .find_map(|(hash, name)| (*hash == self).then_some(name))
            .expect("ALL lists every variant")
    }

    /// Returns the length of a digest in bytes.
    pub fn digest_len(self) -> usize {
        fn len<D: Digest>() -> usize {
            <D as Digest>::output_size()
        }
        with_digest!(self, len())
    }

    /// Returns the digest of the parts, one after the other.
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        fn digest<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut state = D::new();
            for part in parts {
                state.update(part);
            }
            state.finalize().to_vec()
        }
        with_digest!(self, digest(parts))
    }

    /// Fills `out` with PBKDF2-HMAC of `passphrase` (RFC 8018, section 5.2).
    pub(crate) fn pbkdf2(self, passphrase: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
        fn eager<D: hmac::EagerHash>(passphrase: &[u8], salt: &[u8], rounds: u32, out: &mut [u8]) {
            pbkdf2::pbkdf2::<Hmac<D>>(passphrase, salt, rounds, out)
                .expect("HMAC takes a key of any length");
        }
        fn lazy<D>(passphrase: &[u8], salt: &[u8], rounds: u32, out: &mut [u8])
        where
            D: Digest + digest::block_api::BlockSizeUser + Clone,
        {
            pbkdf2::pbkdf2::<SimpleHmac<D>>(passphrase, salt, rounds, out)
                .expect("HMAC takes a key of any length");
        }
        let (p, s, n) = (passphrase, salt, iterations);
        match self {
            Self::Sha1 => eager::<sha1::Sha1>(p, s, n, out),
            Self::Sha224 => eager::<sha2::Sha224>(p, s, n, out),
            Self::Sha256 => eager::<sha2::Sha256>(p, s, n, out),
            Self::Sha384 => eager::<sha2::Sha384>(p, s, n, out),
            Self::Sha512 => eager::<sha2::Sha512>(p, s, n, out),
            Self::Sha3_224 => lazy::<sha3::Sha3_224>(p, s, n, out),
            Self::Sha3_256 => lazy::<sha3::Sha3_256>(p, s, n, out),
            Self::Sha3_384 => lazy::<sha3::Sha3_384>(p, s, n, out),
            Self::Sha3_512 => lazy::<sha3::Sha3_512>(p, s, n, out),
            Self::Ripemd160 => eager::<ripemd::Ripemd160>(p, s, n, out),
            Self::Whirlpool => eager::<whirlpool::Whirlpool>(p, s, n, out),
            Self::Blake2b512 => lazy::<blake2::Blake2b512>(p, s, n, out),
            Self::Blake2s256 => lazy::<blake2::Blake2s256>(p, s, n, out),
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Hash {
    type Err = Error;

    /// Reads a name as LUKS headers hold it, in any case (old headers have `SHA1`).
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::NAMES
            .iter()
            .position(|known| known.eq_ignore_ascii_case(name))
            .and_then(|index| Self::ALL.get(index).copied())
            .ok_or_else(|| Error::UnknownHash { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_name_reads_back_in_any_case() {
        for hash in Hash::ALL {
            assert_eq!(hash.name().parse::<Hash>(), Ok(hash));
            assert_eq!(hash.name().to_uppercase().parse::<Hash>(), Ok(hash));
        }
    }

    #[test]
    fn an_unknown_hash_is_named_with_those_that_work() {
        let text = "md5".parse::<Hash>().unwrap_err().to_string();
        assert!(text.contains("\"md5\"") && text.contains("sha256"), "{text}");
    }

    #[test]
    fn digests_of_abc_are_the_published_ones() {
        let abc = |hash: Hash| hex(&hash.digest(&[b"a", b"bc"]));
        assert_eq!(abc(Hash::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            abc(Hash::Sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(abc(Hash::Ripemd160), "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc");
        assert_eq!(
            abc(Hash::Sha3_256),
            "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"
        );
        assert!(abc(Hash::Whirlpool).starts_with("4e2448a4c6f486bb16b6562c73b4020b"));
        assert!(abc(Hash::Blake2b512).starts_with("ba80a53f981c4d0d6a2797b69f12f6e9"));
    }

    #[test]
    fn digest_lengths_match_the_digests() {
        for hash in Hash::ALL {
            assert_eq!(hash.digest(&[]).len(), hash.digest_len(), "{hash}");
        }
    }

    #[test]
    fn pbkdf2_matches_rfc_6070() {
        let mut out = [0; 20];
        Hash::Sha1.pbkdf2(b"password", b"salt", 4096, &mut out);
        assert_eq!(hex(&out), "4b007901b765489abead49d926f721d065a429c1");
    }
}
