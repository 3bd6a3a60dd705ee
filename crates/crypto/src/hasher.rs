//! Digests of what comes piece by piece.

use std::fmt;
use std::ops::Range;

use digest::Digest;
use digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Sha256, Sha512};

use crate::{Error, Hash};

/// A digest in the making, for checksums of public bytes: nothing of it is ever wiped, and its
/// state can be saved. Secrets go through [`Hash::digest`].
#[derive(Clone)]
pub struct Hasher {
    hash: Hash,
    state: State,
}

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
    Other(Box<dyn Stream>),
}

impl Hasher {
    /// Returns the hasher of no bytes yet.
    pub fn new(hash: Hash) -> Self {
        let state = match hash {
            Hash::Sha256 => State::Sha256(Sha256::new()),
            Hash::Sha512 => State::Sha512(Sha512::new()),
            Hash::Sha1 => other::<sha1::Sha1>(),
            Hash::Sha224 => other::<sha2::Sha224>(),
            Hash::Sha384 => other::<sha2::Sha384>(),
            Hash::Sha3_224 => other::<sha3::Sha3_224>(),
            Hash::Sha3_256 => other::<sha3::Sha3_256>(),
            Hash::Sha3_384 => other::<sha3::Sha3_384>(),
            Hash::Sha3_512 => other::<sha3::Sha3_512>(),
            Hash::Ripemd160 => other::<ripemd::Ripemd160>(),
            Hash::Whirlpool => other::<whirlpool::Whirlpool>(),
            Hash::Blake2b512 => other::<blake2::Blake2b512>(),
            Hash::Blake2s256 => other::<blake2::Blake2s256>(),
        };
        Self { hash, state }
    }

    /// Goes on where a [saved](Self::save) hasher was.
    ///
    /// # Errors
    ///
    /// [`Error::HasherState`] when the bytes are no state of that hash.
    pub fn restore(hash: Hash, saved: &[u8]) -> Result<Self, Error> {
        let state = match (hash, saved) {
            (Hash::Sha256, [VERSION, state @ ..]) => deserialize(state, 32..40).map(State::Sha256),
            (Hash::Sha512, [VERSION, state @ ..]) => deserialize(state, 64..80).map(State::Sha512),
            _ => None,
        };
        let state = state.ok_or(Error::HasherState { hash: hash.name() })?;
        Ok(Self { hash, state })
    }

    /// Returns the hash.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(state) => Digest::update(state, bytes),
            State::Sha512(state) => Digest::update(state, bytes),
            State::Other(state) => state.add(bytes),
        }
    }

    /// Returns the digest of all bytes.
    pub fn finish(self) -> Vec<u8> {
        match self.state {
            State::Sha256(state) => state.finalize().to_vec(),
            State::Sha512(state) => state.finalize().to_vec(),
            State::Other(state) => state.finish(),
        }
    }

    /// Returns the state as bytes to [restore](Self::restore) it from, `None` for all but SHA-256
    /// and SHA-512. They hold up to a block of what was added last, as it was.
    pub fn save(&self) -> Option<Vec<u8>> {
        match &self.state {
            State::Sha256(state) => Some(serialize(state)),
            State::Sha512(state) => Some(serialize(state)),
            State::Other(_) => None,
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// A digest of any type.
trait Stream: Send + Sync {
    fn add(&mut self, bytes: &[u8]);

    fn finish(self: Box<Self>) -> Vec<u8>;

    fn boxed(&self) -> Box<dyn Stream>;
}

impl Clone for Box<dyn Stream> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}

impl<D: Digest + Clone + Send + Sync + 'static> Stream for D {
    fn add(&mut self, bytes: &[u8]) {
        Digest::update(self, bytes);
    }

    fn finish(self: Box<Self>) -> Vec<u8> {
        self.finalize().to_vec()
    }

    fn boxed(&self) -> Box<dyn Stream> {
        Box::new(self.clone())
    }
}

fn other<D: Digest + Clone + Send + Sync + 'static>() -> State {
    State::Other(Box::new(D::new()))
}

fn serialize<D: SerializableState>(state: &D) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&state.serialize());
    bytes
}

/// Reads a state in which the number of blocks stands at `counter`, in little endian.
fn deserialize<D: SerializableState>(bytes: &[u8], counter: Range<usize>) -> Option<D> {
    // The library would count on, and over the end, from any number.
    if bytes.get(counter)?.iter().skip(COUNTER_BYTES).any(|&byte| byte != 0) {
        return None;
    }
    let state: &SerializedState<D> = bytes.try_into().ok()?;
    D::deserialize(state).ok()
}

/// Stands before a saved state: that of the crate `sha2` 0.11. To be changed with it when it lays
/// its state out in another way.
const VERSION: u8 = 1;

/// The bytes of a block counter that may be used: they count 2^48 blocks, 16 PiB and
/// more.
const COUNTER_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_two_hashes_can_be_saved() {
        for hash in Hash::ALL {
            let saved = Hasher::new(hash).save();
            assert_eq!(saved.is_some(), [Hash::Sha256, Hash::Sha512].contains(&hash), "{hash}");
            let restored = Hasher::restore(hash, saved.as_deref().unwrap_or(&[VERSION; 105]));
            assert_eq!(restored.is_ok(), saved.is_some(), "{hash}");
        }
    }

    #[test]
    fn refuses_what_is_no_state_of_that_hash() {
        let mut hasher = Hasher::new(Hash::Sha256);
        hasher.update(b"some bytes");
        let saved = hasher.save().unwrap();
        let refused = |hash, bytes: &[u8]| {
            let error = Hasher::restore(hash, bytes).unwrap_err();
            assert_eq!(error, Error::HasherState { hash: hash.name() });
        };
        refused(Hash::Sha512, &saved);
        refused(Hash::Sha256, &saved[1..]);
        refused(Hash::Sha256, &saved[..saved.len() - 1]);
        refused(Hash::Sha256, &[&saved[..], b"x"].concat());
        refused(Hash::Sha256, &[]);
        refused(Hash::Sha256, &[&[VERSION + 1], &saved[1..]].concat());
        // What a buffer says about its own length.
        let mut bad = saved;
        bad[1 + 40] = 64;
        refused(Hash::Sha256, &bad);
        bad[1 + 40] = 10;
        assert!(Hasher::restore(Hash::Sha256, &bad).is_ok());
        // A number of blocks that nobody has hashed.
        bad[1 + 39] = 0xff;
        refused(Hash::Sha256, &bad);
    }

    #[test]
    fn shows_no_byte_that_was_added() {
        let mut hasher = Hasher::new(Hash::Sha256);
        hasher.update(b"canary");
        assert_eq!(format!("{hasher:?}"), "Hasher { hash: Sha256, .. }");
    }

    proptest! {
        #[test]
        fn pieces_have_the_digest_of_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        ) {
            let parts: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
            for hash in Hash::ALL {
                let mut hasher = Hasher::new(hash);
                for piece in &pieces {
                    hasher.update(piece);
                    let copy = hasher.clone();
                    hasher.update(b"only here");
                    hasher = copy;
                    if let Some(saved) = hasher.save() {
                        hasher = Hasher::restore(hash, &saved).unwrap();
                    }
                }
                prop_assert_eq!(hasher.finish(), hash.digest(&parts));
            }
        }

        #[test]
        fn any_bytes_are_a_state_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..250)) {
            for hash in [Hash::Sha256, Hash::Sha512] {
                for len in [bytes.len(), 105, 209] {
                    let mut saved = bytes.clone();
                    saved.resize(len, 7);
                    if let Some(version) = saved.first_mut() {
                        *version = VERSION;
                    }
                    if let Ok(mut hasher) = Hasher::restore(hash, &saved) {
                        hasher.update(&[1; 300]);
                        prop_assert_eq!(hasher.finish().len(), hash.digest_len());
                    }
                }
            }
        }
    }
}
