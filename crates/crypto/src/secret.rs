//! The secret types: bytes that are wiped when dropped and never printed, copied or serialised.

use rand_core::CryptoRng;
use secrecy::{ExposeSecret, SecretSlice};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Wiped on drop. `Debug` prints the type's name only; equality takes the same time for
        /// any content.
        pub struct $name(SecretSlice<u8>);

        impl $name {
            /// Takes the bytes over without leaving a copy.
            pub fn new(bytes: Vec<u8>) -> Self {
                // `into_boxed_slice` reallocates when capacity is left over and frees the old
                // block unwiped, so such a vector is copied and wiped here.
                if bytes.len() == bytes.capacity() {
                    Self(bytes.into())
                } else {
                    Self(Zeroizing::new(bytes).as_slice().to_vec().into())
                }
            }

            /// Draws `len` random bytes.
            pub fn random(len: usize, rng: &mut (impl CryptoRng + ?Sized)) -> Self {
                let mut bytes = vec![0; len];
                rng.fill_bytes(&mut bytes);
                Self::new(bytes)
            }

            /// Returns the bytes. Every use is a place where the secret may leak: keep it short.
            pub fn expose_bytes(&self) -> &[u8] {
                self.0.expose_secret()
            }

            /// Returns the length in bytes.
            pub fn len(&self) -> usize {
                self.expose_bytes().len()
            }

            /// Returns whether there are no bytes at all.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.expose_bytes().ct_eq(other.expose_bytes()).into()
            }
        }

        impl Eq for $name {}
    };
}

secret! {
    /// What a person or a Secret holds; opens a keyslot. The exact bytes, newline included.
    Passphrase
}
secret! {
    /// Encrypts sectors. Lives in keyslots, encrypted under what opens them.
    VolumeKey
}
secret! {
    /// Random bytes that open a keyslot of a volume whose key a KMS manages.
    DataKey
}
secret! {
    /// Proves to a KMS who is asking.
    Token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_the_type_name_and_no_byte() {
        assert_eq!(format!("{:?}", Passphrase::new(b"canary".to_vec())), "Passphrase");
        assert_eq!(format!("{:?}", VolumeKey::new(b"canary".to_vec())), "VolumeKey");
        assert_eq!(format!("{:?}", DataKey::new(b"canary".to_vec())), "DataKey");
        assert_eq!(format!("{:?}", Token::new(b"canary".to_vec())), "Token");
    }

    #[test]
    fn keeps_the_exact_bytes() {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(b"with newline\n");
        assert_eq!(Passphrase::new(bytes).expose_bytes(), b"with newline\n");
    }

    #[test]
    fn differing_lengths_are_unequal() {
        assert_ne!(VolumeKey::new(vec![0; 32]), VolumeKey::new(vec![0; 33]));
    }
}
