//! A key encryption key that is derived from a passphrase (Argon2id, RFC 9106).
//!
//! The name of the key is authenticated with what is wrapped, but it is only a name: nothing tells
//! a wrong passphrase from an altered envelope.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strongroom_crypto::{Argon2Variant, CostPolicy, Error as CryptoError, Kdf, Passphrase};
use strongroom_model::{KmsKind, KmsRequest};
use zeroize::Zeroizing;

use crate::envelope::Derivation;
use crate::kek::{Kek, Provider};
use crate::{Credentials, Error, ErrorKind, Expiry, KeyProvider, Probe, Result, Wrapped, random};

/// What a passphrase derives.
struct PassphraseKek {
    passphrase: Passphrase,
    name: String,
    /// How new data keys are wrapped.
    cost: Kdf,
    policy: CostPolicy,
    derived: Mutex<Derived>,
}

/// The keys that were derived. One derivation at a time, since each takes much memory.
#[derive(Default)]
struct Derived {
    /// With what new data keys are wrapped.
    own: Option<Derivation>,
    keys: Vec<(Derivation, Key)>,
}

type Key = Arc<Zeroizing<Vec<u8>>>;

/// Returns the provider of the passphrase that was given.
pub(crate) fn open(request: &KmsRequest, credentials: Credentials) -> Result<Box<dyn KeyProvider>> {
    let name = request.key_id.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
    let wrong = |problem: &str| Error::new(ErrorKind::Misconfigured, label(&name), problem);
    let passphrase = credentials.passphrase.ok_or_else(|| {
        wrong("the passphrase is missing").hinted("give it with --passphrase-file or --secret-file")
    })?;
    if passphrase.is_empty() {
        return Err(wrong("the passphrase is empty"));
    }
    Ok(Box::new(Provider::new(PassphraseKek::new(passphrase, name, Kdf::DEFAULT_ARGON2ID))))
}

impl PassphraseKek {
    fn new(passphrase: Passphrase, name: String, cost: Kdf) -> Self {
        let policy = CostPolicy::default();
        Self { passphrase, name, cost, policy, derived: Mutex::default() }
    }

    /// Returns the key for new data keys, and how it is derived: the salt is drawn once for a
    /// provider, so that wrapping many costs one derivation.
    fn own_key(&self) -> Result<(Derivation, Key)> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match &derived.own {
            Some(own) => own.clone(),
            None => {
                let mut salt = [0; SALT_LEN];
                random::fill(&mut salt, &self.label())?;
                let own = derivation(self.cost, &salt);
                derived.own = Some(own.clone());
                own
            }
        };
        let key = self.key_in(&mut derived, &own).map_err(|error| {
            // Nothing but memory can be missing for costs of our own.
            let problem = "the memory for deriving the key is not there";
            Error::new(ErrorKind::Unavailable, self.label(), problem).with_source(error)
        })?;
        Ok((own, key))
    }

    fn key(&self, derivation: &Derivation) -> Result<Key> {
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        self.key_in(&mut derived, derivation)
    }

    fn key_in(&self, derived: &mut Derived, derivation: &Derivation) -> Result<Key> {
        if let Some((_, key)) = derived.keys.iter().find(|(held, _)| held == derivation) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(self.derive(derivation)?);
        if derived.keys.len() == MAX_KEYS {
            derived.keys.remove(0);
        }
        derived.keys.push((derivation.clone(), Arc::clone(&key)));
        Ok(key)
    }

    fn derive(&self, derivation: &Derivation) -> Result<Zeroizing<Vec<u8>>> {
        let corrupt = |problem: &str| Error::new(ErrorKind::Corrupt, self.label(), problem);
        let salt = STANDARD
            .decode(&derivation.salt)
            .ok()
            .filter(|salt| (8..=64).contains(&salt.len()))
            .ok_or_else(|| corrupt("the salt in the envelope is not 8 to 64 bytes in base64"))?;
        let kdf = Kdf::Argon2 {
            variant: Argon2Variant::Argon2id,
            time: derivation.time,
            memory_kib: derivation.memory,
            lanes: derivation.lanes,
        };
        let mut key = Zeroizing::new(vec![0; KEY_LEN]);
        kdf.checked()
            .and_then(|kdf| kdf.derive(&self.passphrase, &salt, &self.policy, &mut key))
            .map_err(|error| self.refused(error))?;
        Ok(key)
    }
}

impl PassphraseKek {
    /// Returns why a key is not derived that an envelope asks for.
    fn refused(&self, error: CryptoError) -> Error {
        let problem = match error {
            // How much it is, the envelope says: another one may ask for less.
            CryptoError::OutOfMemory { .. } => "the envelope asks for more memory than there is",
            _ => "the envelope asks for a derivation that is not allowed",
        };
        Error::new(ErrorKind::Corrupt, self.label(), problem).with_source(error)
    }
}

impl Kek for PassphraseKek {
    fn kind(&self) -> KmsKind {
        KmsKind::Passphrase
    }

    fn label(&self) -> String {
        label(&self.name)
    }

    fn encrypt(&self, plaintext: &[u8]) -> Result<Wrapped> {
        let (derivation, key) = self.own_key()?;
        let mut nonce = [0; 12];
        random::fill(&mut nonce, &self.label())?;
        let mut bytes = Zeroizing::new(plaintext.to_vec());
        let name = self.name.as_bytes();
        let tag = cipher(&key)
            .encrypt_inout_detached(&Nonce::from(nonce), name, bytes.as_mut_slice().into())
            .expect("a data key is short");
        Ok(Wrapped {
            key_id: self.name.clone(),
            algorithm: ALGORITHM.to_owned(),
            derivation: Some(derivation),
            iv: Some(nonce.to_vec()),
            tag: Some(tag.to_vec()),
            ciphertext: STANDARD.encode(&bytes),
            ..Wrapped::default()
        })
    }

    fn decrypt(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        let corrupt = |problem: &str| Error::new(ErrorKind::Corrupt, self.label(), problem);
        let nonce = wrapped.iv.as_deref().and_then(|iv| Nonce::try_from(iv).ok());
        let tag = wrapped.tag.as_deref().and_then(|tag| tag.try_into().ok());
        let (Some(nonce), Some(tag), Some(derivation), ALGORITHM) =
            (nonce, tag, &wrapped.derivation, wrapped.algorithm.as_str())
        else {
            return Err(corrupt("the envelope lacks what its algorithm needs"));
        };
        let mut bytes = Zeroizing::new(wrapped.ciphertext_bytes(&self.label())?);
        let (key, name) = (self.key(derivation)?, wrapped.key_id.as_bytes());
        cipher(&key)
            .decrypt_inout_detached(&nonce, name, bytes.as_mut_slice().into(), &tag)
            .map_err(|_| {
                let problem = "the passphrase is wrong, or the envelope was altered: one cannot be \
                               told from the other";
                Error::new(ErrorKind::Denied, self.label(), problem).hinted(format!(
                    "the envelope names the passphrase {}: give that one",
                    wrapped.key_id
                ))
            })?;
        Ok(bytes)
    }

    fn probe(&self) -> Result<Probe> {
        Ok(Probe {
            credentials: Expiry::Never,
            allowed: ["encrypt", "decrypt", "rewrap"].map(str::to_owned).to_vec(),
            ..Probe::default()
        })
    }
}

impl fmt::Debug for PassphraseKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassphraseKek").field("name", &self.name).finish_non_exhaustive()
    }
}

fn derivation(cost: Kdf, salt: &[u8]) -> Derivation {
    let salt = STANDARD.encode(salt);
    match cost {
        Kdf::Argon2 { time, memory_kib, lanes, .. } => {
            Derivation { salt, time, memory: memory_kib, lanes }
        }
        Kdf::Pbkdf2 { .. } => unreachable!("keys are derived with Argon2id alone"),
    }
}

fn cipher(key: &Key) -> Aes256Gcm {
    Aes256Gcm::new_from_slice(key).expect("a derived key has 32 bytes")
}

fn label(name: &str) -> String {
    if name == DEFAULT_NAME { name.to_owned() } else { format!("passphrase {name}") }
}

/// What a passphrase is called of which nothing else is known.
const DEFAULT_NAME: &str = "passphrase";

const ALGORITHM: &str = "argon2id-aes256-gcm";

const SALT_LEN: usize = 16;

const KEY_LEN: usize = 32;

/// How many derived keys are remembered: a hostile series of envelopes costs time, not memory.
const MAX_KEYS: usize = 16;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use strongroom_crypto::DataKey;

    use super::*;
    use crate::{Binding, conformance};

    /// As cheap as Argon2id of LUKS gets.
    const CHEAP: Kdf =
        Kdf::Argon2 { variant: Argon2Variant::Argon2id, time: 4, memory_kib: 32, lanes: 1 };

    fn provider(passphrase: &[u8], name: &str) -> Box<dyn KeyProvider> {
        let passphrase = Passphrase::new(passphrase.to_vec());
        Box::new(Provider::new(PassphraseKek::new(passphrase, name.to_owned(), CHEAP)))
    }

    struct Secret;

    impl conformance::Harness for Secret {
        fn provider(&self) -> Box<dyn KeyProvider> {
            provider(b"correct horse", "longhorn-system/longhorn-crypto")
        }
    }

    fn wrapped() -> crate::Envelope {
        let key = DataKey::new(b"data key".to_vec());
        provider(b"correct horse", "secret").wrap(&key, &Binding::volume("pvc-1")).unwrap()
    }

    #[test]
    fn does_what_every_provider_does() {
        conformance::run(&Secret);
    }

    #[test]
    fn another_passphrase_is_denied_even_by_a_newline() {
        let envelope = wrapped();
        for other in [&b"correct horse\n"[..], b"Correct horse", b"correct hors"] {
            let error =
                provider(other, "secret").unwrap(&envelope, &Binding::volume("pvc-1")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            let text = "passphrase secret: the passphrase is wrong, or the envelope was altered: \
                        one cannot be told from the other";
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn the_name_is_for_people_and_the_same_passphrase_opens_under_another_name() {
        let binding = Binding::volume("pvc-1");
        let key = provider(b"correct horse", "renamed").unwrap(&wrapped(), &binding).unwrap();
        assert_eq!(key.expose_bytes(), b"data key");
    }

    #[test]
    fn an_envelope_cannot_ask_for_more_work_than_the_policy_allows() {
        let binding = Binding::volume("pvc-1");
        for (time, memory, lanes) in [
            (u32::MAX, 32, 1),
            (4, u32::MAX, 1),
            (100_000, 4 << 20, 4),
            (0, 32, 1),
            (4, 0, 1),
            (4, 32, 0),
            (4, 32, u32::MAX),
        ] {
            let mut envelope = wrapped();
            let derivation = envelope.wrapped.derivation.as_mut().unwrap();
            (derivation.time, derivation.memory, derivation.lanes) = (time, memory, lanes);
            let started = Instant::now();
            let error =
                provider(b"correct horse", "secret").unwrap(&envelope, &binding).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(started.elapsed().as_secs() < 5, "it did the work");
        }
    }

    #[test]
    fn an_envelope_that_asks_for_more_memory_than_there_is_is_no_outage() {
        let passphrase = Passphrase::new(b"correct horse".to_vec());
        let kek = PassphraseKek::new(passphrase, "secret".to_owned(), CHEAP);
        let error = kek.refused(CryptoError::OutOfMemory { kdf: "argon2id", needed_kib: 4 << 20 });
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }

    #[test]
    fn a_salt_that_is_none_is_corrupt() {
        for salt in ["", "AAAA", "*", &"AAAA".repeat(30)] {
            let mut envelope = wrapped();
            envelope.wrapped.derivation.as_mut().unwrap().salt = salt.to_owned();
            let opened =
                provider(b"correct horse", "s").unwrap(&envelope, &Binding::volume("pvc-1"));
            assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn many_data_keys_cost_one_derivation_and_hostile_salts_no_memory() {
        let passphrase = Passphrase::new(b"correct horse".to_vec());
        let kek = PassphraseKek::new(passphrase, "secret".to_owned(), CHEAP);
        let wrapped: Vec<_> = (0..40).map(|_| kek.encrypt(b"data key").unwrap()).collect();
        assert_eq!(kek.derived.lock().unwrap().keys.len(), 1);
        let salts: std::collections::HashSet<_> =
            wrapped.iter().map(|wrapped| &wrapped.derivation.as_ref().unwrap().salt).collect();
        assert_eq!(salts.len(), 1);
        for index in 0..40_u8 {
            let mut hostile = wrapped[0].clone();
            hostile.derivation.as_mut().unwrap().salt = STANDARD.encode([index; 16]);
            assert_eq!(kek.decrypt(&hostile).unwrap_err().kind(), ErrorKind::Denied);
        }
        assert_eq!(kek.derived.lock().unwrap().keys.len(), MAX_KEYS);
        assert_eq!(**kek.decrypt(&wrapped[39]).unwrap(), *b"data key");
    }

    #[test]
    fn a_passphrase_is_needed() {
        let request = KmsRequest::new(KmsKind::Passphrase);
        let error = crate::open(&request, Credentials::default()).unwrap_err();
        assert_eq!(error.to_string(), "passphrase: the passphrase is missing");
        let empty = Some(Passphrase::new(Vec::new()));
        let credentials = Credentials { passphrase: empty, ..Credentials::default() };
        let error = crate::open(&request, credentials).unwrap_err();
        assert_eq!(error.to_string(), "passphrase: the passphrase is empty");
    }

    #[test]
    fn new_data_keys_get_the_default_costs() {
        let passphrase = Some(Passphrase::new(b"correct horse".to_vec()));
        let credentials = Credentials { passphrase, ..Credentials::default() };
        let provider = crate::open(&KmsRequest::new(KmsKind::Passphrase), credentials).unwrap();
        let key = DataKey::new(b"data key".to_vec());
        let envelope = provider.wrap(&key, &Binding::volume("pvc-1")).unwrap();
        let derivation = envelope.wrapped.derivation.unwrap();
        let costs = (derivation.time, derivation.memory, derivation.lanes);
        assert_eq!(costs, (4, 512 * 1024, 4));
        assert_eq!(envelope.wrapped.key_id, "passphrase");
    }
}
