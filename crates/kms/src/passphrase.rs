//! A key encryption key that is derived from a passphrase (Argon2id, RFC 9106).
//!
//! The name of the key is authenticated with what is wrapped, but it is only a name: nothing tells
//! a wrong passphrase from an altered envelope.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strongroom_crypto::{
    Argon2Variant, CostBudget, CostPolicy, Error as CryptoError, Kdf, Passphrase,
};
use strongroom_model::{KmsKind, KmsRequest};
use zeroize::Zeroizing;

use crate::envelope::Derivation;
use crate::kek::{Kek, Provider};
use crate::{
    Credentials, Error, ErrorKind, Expiry, KeyProvider, Limits, Probe, Result, Wrapped, random,
};

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
struct Derived {
    /// With what new data keys are wrapped.
    own: Option<Derivation>,
    keys: Vec<(Derivation, Key)>,
    purse: Purse,
}

/// What envelopes that hold nothing may still cost.
struct Purse {
    budget: CostBudget,
    /// When the last derivation ended.
    idle_since: Instant,
}

type Key = Arc<Zeroizing<Vec<u8>>>;

/// Returns the provider of the passphrase that was given.
pub(crate) fn open(
    request: &KmsRequest,
    credentials: Credentials,
    limits: &Limits,
) -> Result<Box<dyn KeyProvider>> {
    let name = request.key_id.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
    let wrong = |problem: &str| Error::new(ErrorKind::Misconfigured, label(&name), problem);
    let passphrase = credentials.passphrase.ok_or_else(|| {
        wrong("the passphrase is missing").hinted("give it with --passphrase-file or --secret-file")
    })?;
    if passphrase.is_empty() {
        return Err(wrong("the passphrase is empty"));
    }
    let (cost, policy) = (Kdf::DEFAULT_ARGON2ID, limits.derivation);
    Ok(Box::new(Provider::new(PassphraseKek::new(passphrase, name, cost, policy))))
}

impl PassphraseKek {
    fn new(passphrase: Passphrase, name: String, cost: Kdf, policy: CostPolicy) -> Self {
        let purse = Purse { budget: policy.unlock_budget(), idle_since: Instant::now() };
        let derived = Derived { own: None, keys: Vec::new(), purse };
        Self { passphrase, name, cost, policy, derived: Mutex::new(derived) }
    }

    /// Returns the key for new data keys, and how it is derived: the salt is drawn once for a
    /// provider, so that wrapping many costs one derivation.
    fn own_key(&self) -> Result<(Derivation, Key)> {
        let mut derived = self.derived();
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
        let key = match derived.find(&own) {
            Some(key) => key,
            None => {
                let key = self.derive_own(&own)?;
                derived.keep(own.clone(), &key);
                key
            }
        };
        Ok((own, key))
    }

    /// Derives the key for new data keys.
    fn derive_own(&self, own: &Derivation) -> Result<Key> {
        self.policy.check(&self.cost, KEY_LEN).map_err(|error| {
            let problem = "to wrap a new data key costs more than is allowed";
            Error::new(ErrorKind::Misconfigured, self.label(), problem)
                .hinted("raise --max-kdf-memory and --max-kdf-time")
                .with_source(error)
        })?;
        self.derive(own).map_err(|error| {
            // Nothing but memory can be missing for costs of our own.
            let problem = "the memory for deriving the key is not there";
            Error::new(ErrorKind::Unavailable, self.label(), problem).with_source(error)
        })
    }

    /// Derives the key that an envelope asks for, or finds it.
    fn key(&self, derivation: &Derivation) -> Result<Key> {
        let mut derived = self.derived();
        if let Some(key) = derived.find(derivation) {
            return Ok(key);
        }
        let kdf = kdf(derivation);
        kdf.checked()
            .and_then(|kdf| self.policy.check(&kdf, KEY_LEN))
            .map_err(|error| self.refused(error))?;
        let purse = &mut derived.purse;
        if purse.idle_since.elapsed() >= REST {
            purse.budget = self.policy.unlock_budget();
        }
        purse.budget.spend(kdf.nominal_time(KEY_LEN)).map_err(|error| {
            let problem = "envelopes that hold nothing have used up the time for deriving keys";
            Error::new(ErrorKind::Corrupt, self.label(), problem)
                .hinted("raise --max-kdf-time, or remove the tokens that are not yours")
                .with_source(error)
        })?;
        let key = self.derive(derivation);
        derived.purse.idle_since = Instant::now();
        let key = key?;
        derived.keep(derivation.clone(), &key);
        Ok(key)
    }

    /// Whoever has made an envelope that authenticates knows the passphrase: it cost us nothing.
    fn refund(&self) {
        self.derived().purse.budget = self.policy.unlock_budget();
    }

    fn derived(&self) -> MutexGuard<'_, Derived> {
        self.derived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn derive(&self, derivation: &Derivation) -> Result<Key> {
        let corrupt = |problem: &str| Error::new(ErrorKind::Corrupt, self.label(), problem);
        let salt = STANDARD
            .decode(&derivation.salt)
            .ok()
            .filter(|salt| (8..=64).contains(&salt.len()))
            .ok_or_else(|| corrupt("the salt in the envelope is not 8 to 64 bytes in base64"))?;
        let mut key = Zeroizing::new(vec![0; KEY_LEN]);
        kdf(derivation)
            .checked()
            .and_then(|kdf| kdf.derive(&self.passphrase, &salt, &self.policy, &mut key))
            .map_err(|error| self.refused(error))?;
        Ok(Arc::new(key))
    }

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

impl Derived {
    fn find(&self, derivation: &Derivation) -> Option<Key> {
        let found = self.keys.iter().find(|(held, _)| held == derivation);
        found.map(|(_, key)| Arc::clone(key))
    }

    fn keep(&mut self, derivation: Derivation, key: &Key) {
        if self.keys.len() == MAX_KEYS {
            self.keys.remove(0);
        }
        self.keys.push((derivation, Arc::clone(key)));
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
        self.refund();
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

fn kdf(derivation: &Derivation) -> Kdf {
    Kdf::Argon2 {
        variant: Argon2Variant::Argon2id,
        time: derivation.time,
        memory_kib: derivation.memory,
        lanes: derivation.lanes,
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

/// After how long without a derivation the next one is of another opening.
const REST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use strongroom_crypto::DataKey;

    use super::*;
    use crate::{Binding, conformance};

    /// As cheap as Argon2id of LUKS gets.
    const CHEAP: Kdf =
        Kdf::Argon2 { variant: Argon2Variant::Argon2id, time: 4, memory_kib: 32, lanes: 1 };

    fn provider(passphrase: &[u8], name: &str) -> Box<dyn KeyProvider> {
        let passphrase = Passphrase::new(passphrase.to_vec());
        Box::new(Provider::new(kek(passphrase, name)))
    }

    fn kek(passphrase: Passphrase, name: &str) -> PassphraseKek {
        PassphraseKek::new(passphrase, name.to_owned(), CHEAP, CostPolicy::default())
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
        let kek = kek(passphrase, "secret");
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
        let kek = kek(passphrase, "secret");
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
    fn envelopes_that_hold_nothing_share_one_budget() {
        let policy = CostPolicy { max_memory_kib: 8 << 10, max_time: Duration::from_millis(40) };
        let name = "secret".to_owned();
        let passphrase = Passphrase::new(b"correct horse".to_vec());
        let kek = PassphraseKek::new(passphrase, name, CHEAP, policy);
        let good = kek.encrypt(b"data key").unwrap();
        let hostile = |number: u8| {
            let mut hostile = good.clone();
            let derivation = hostile.derivation.as_mut().unwrap();
            derivation.salt = STANDARD.encode([number; 16]);
            (derivation.time, derivation.memory) = (4, 6 << 10);
            kek.decrypt(&hostile).unwrap_err()
        };
        // As if another provider had wrapped it.
        kek.derived().keys.clear();
        let tried = (0..32).filter(|number| hostile(*number).kind() == ErrorKind::Denied).count();
        assert!((1..=8).contains(&tried), "{tried} derivations");
        let error = hostile(32);
        assert!(error.to_string().contains("used up the time"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        // One that costs what is left still opens, and shows that nobody means harm.
        kek.decrypt(&good).unwrap();
        assert_eq!(hostile(33).kind(), ErrorKind::Denied);
    }

    #[test]
    fn keeps_to_what_was_allowed() {
        let passphrase = || Some(Passphrase::new(b"correct horse".to_vec()));
        let request = KmsRequest::new(KmsKind::Passphrase);
        let open = |limits: &Limits| {
            let credentials = Credentials { passphrase: passphrase(), ..Credentials::default() };
            crate::open_within(&request, credentials, limits).unwrap()
        };
        let key = DataKey::new(b"data key".to_vec());
        let envelope = open(&Limits::default()).wrap(&key, &Binding::volume("pvc-1")).unwrap();
        let derivation = CostPolicy { max_memory_kib: 1024, ..CostPolicy::default() };
        let narrow = open(&Limits { derivation, ..Limits::default() });
        let error = narrow.unwrap(&envelope, &Binding::volume("pvc-1")).unwrap_err();
        assert!(error.to_string().contains("a derivation that is not allowed"), "{error}");
        let error = narrow.wrap(&key, &Binding::volume("pvc-1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.hint().unwrap().contains("--max-kdf-memory"), "{error:?}");
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
