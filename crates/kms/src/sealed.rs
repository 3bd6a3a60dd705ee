//! What is wrapped: the data key, and what it belongs to.
//!
//! ```text
//! offset  bytes
//!      0      4  "SRDK"
//!      4      1  version: 1
//!      5     32  SHA-256 of the binding's name
//!     37      2  length of the data key, big endian
//!     39      …  the data key, to the end
//! ```
//!
//! A KMS that rewraps an envelope keeps these bytes as they are. What it authenticates beside the
//! ciphertext, Transit's `associated_data` for instance, would be lost then.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_core::CryptoRng;
use strongroom_crypto::DataKey;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::Binding;

/// Returns a new data key: 256 random bits as 43 letters of base64url (RFC 4648, section 5), so that
/// every tool takes it for a passphrase.
pub fn new_data_key(rng: &mut dyn CryptoRng) -> DataKey {
    let mut bits = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *bits);
    let mut text = vec![0; TEXT_LEN];
    URL_SAFE_NO_PAD.encode_slice(*bits, &mut text).expect("the room is exactly what it needs");
    DataKey::new(text)
}

/// Why sealed bytes hold no data key for a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// They are not what is sealed here.
    Foreign,
    /// Some later release has sealed them.
    Newer(u8),
    /// They belong to something else.
    BoundElsewhere,
}

/// Returns a data key with its binding.
pub(crate) fn seal(key: &DataKey, binding: &Binding) -> Zeroizing<Vec<u8>> {
    let key = key.expose_bytes();
    let len = u16::try_from(key.len()).expect("data keys are short");
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD + key.len()));
    bytes.extend_from_slice(MAGIC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&binding.digest());
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// Returns the data key that is sealed for a binding.
///
/// # Errors
///
/// Why there is none.
pub(crate) fn open(bytes: &[u8], binding: &Binding) -> Result<DataKey, Flaw> {
    let (digest, key) = take_apart(bytes)?;
    if !bool::from(digest.ct_eq(&binding.digest())) {
        return Err(Flaw::BoundElsewhere);
    }
    Ok(key)
}

/// Returns the data key that is sealed, whatever it belongs to.
///
/// # Errors
///
/// Why there is none.
pub(crate) fn open_unbound(bytes: &[u8]) -> Result<DataKey, Flaw> {
    take_apart(bytes).map(|(_, key)| key)
}

/// Returns the digest of the binding, and the data key.
fn take_apart(bytes: &[u8]) -> Result<(&[u8; 32], DataKey), Flaw> {
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(Flaw::Foreign)?;
    let (&version, rest) = rest.split_first().ok_or(Flaw::Foreign)?;
    if magic != MAGIC {
        return Err(Flaw::Foreign);
    }
    if version != VERSION {
        return Err(Flaw::Newer(version));
    }
    let (digest, rest) = rest.split_first_chunk::<32>().ok_or(Flaw::Foreign)?;
    let (len, key) = rest.split_first_chunk::<2>().ok_or(Flaw::Foreign)?;
    if key.is_empty() || key.len() != usize::from(u16::from_be_bytes(*len)) {
        return Err(Flaw::Foreign);
    }
    Ok((digest, DataKey::new(key.to_vec())))
}

const MAGIC: &[u8; 4] = b"SRDK";
const VERSION: u8 = 1;
const HEAD: usize = 39;

/// 256 bits, six a letter.
const TEXT_LEN: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> DataKey {
        DataKey::new(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFG".to_vec())
    }

    #[test]
    fn opens_for_what_it_was_sealed_for() {
        let binding = Binding::image("0f3a");
        assert_eq!(open(&seal(&key(), &binding), &binding).unwrap(), key());
        assert!(open(&seal(&key(), &binding), &Binding::image("0F3A")).is_ok());
    }

    #[test]
    fn opens_for_nothing_else() {
        let sealed = seal(&key(), &Binding::image("0f3a"));
        let other = open(&sealed, &Binding::image("0f3b"));
        assert_eq!(other.unwrap_err(), Flaw::BoundElsewhere);
        assert_eq!(open_unbound(&sealed).unwrap(), key());
        let other_kind = open(&sealed, &Binding::volume("0f3a"));
        assert_eq!(other_kind.unwrap_err(), Flaw::BoundElsewhere);
    }

    #[test]
    fn takes_no_other_bytes() {
        let binding = Binding::volume("pvc-1");
        let sealed = seal(&key(), &binding);
        for len in 0..sealed.len() {
            assert_eq!(open(&sealed[..len], &binding).unwrap_err(), Flaw::Foreign, "{len} bytes");
            assert_eq!(open_unbound(&sealed[..len]).unwrap_err(), Flaw::Foreign, "{len} bytes");
        }
        let mut longer = sealed.to_vec();
        longer.push(0);
        assert_eq!(open(&longer, &binding).unwrap_err(), Flaw::Foreign);
        let mut newer = sealed.to_vec();
        newer[4] = 2;
        assert_eq!(open(&newer, &binding).unwrap_err(), Flaw::Newer(2));
    }
}
