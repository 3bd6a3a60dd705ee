//! A key in a KMIP server that encrypts and decrypts.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strongroom_model::KmsKind;
use zeroize::Zeroizing;

use super::messages::{Answer, Attributes, Cipher, Failure, Request};
use super::reason::Asked;
use super::session::Session;
use crate::kek::{CBC, Check, Kek};
use crate::{Error, ErrorKind, Probe, Result, Wrapped, random};

/// A key, by its identifier or name.
pub(crate) struct KmipKek {
    pub(super) session: Session,
    /// What people call the key; missing where envelopes alone name one.
    pub(super) key: Option<String>,
    /// When the first of the CA certificates runs out.
    pub(super) authority_expiry: Option<SystemTime>,
    /// What the server has found `key` to be.
    found: Mutex<Option<Found>>,
    /// The first of [`WAYS`] that the server may do.
    way: AtomicUsize,
    /// AES-GCM failed last time, and nobody said why.
    doubtful: AtomicBool,
}

/// What became of an attempt to encrypt.
type Tried = std::result::Result<Option<Wrapped>, Failure>;

/// What people call a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Identifier,
    Name,
}

/// How to encrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    cipher: Cipher,
    maker: Maker,
}

/// Who makes the IV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Server,
    Client,
}

impl KmipKek {
    pub(crate) fn new(
        session: Session,
        key: Option<String>,
        authority_expiry: Option<SystemTime>,
    ) -> Self {
        let (found, way) = (Mutex::default(), AtomicUsize::new(0));
        let doubtful = AtomicBool::new(false);
        Self { session, key, authority_expiry, found, way, doubtful }
    }

    /// Returns the identifier of the key that people have named.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is none, [`ErrorKind::Misconfigured`] when several have
    /// the name.
    pub(super) fn identifier(&self, deadline: Instant) -> Result<String> {
        let Some(key) = &self.key else {
            return Err(self
                .error(ErrorKind::Misconfigured, "nothing says which key is to be used")
                .hinted("give its identifier or name with --kms-key-id"));
        };
        let known = *self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = match known {
            Some(Found::Identifier) => return Ok(key.clone()),
            Some(Found::Name) => None,
            None => match self.session.ask(Request::Attributes { id: key }, deadline)? {
                Ok(_) => {
                    self.remember(Found::Identifier);
                    return Ok(key.clone());
                }
                Err(failure) if failure.refuses_the_client() => {
                    return Err(self.session.refused(failure));
                }
                Err(failure) => Some(failure),
            },
        };
        let mut named = self.locate(key, deadline)?;
        match (named.pop(), failure) {
            (Some(id), _) if named.is_empty() => {
                self.remember(Found::Name);
                Ok(id)
            }
            (Some(id), _) => {
                named.push(id);
                named.truncate(MAX_SHOWN);
                let problem = format!("several keys have that name: {}", named.join(", "));
                Err(self
                    .error(ErrorKind::Misconfigured, &problem)
                    .hinted("give the identifier of one of them with --kms-key-id"))
            }
            (None, Some(failure)) => Err(self.failed(Asked::Other, key, failure, deadline)),
            (None, None) => Err(self
                .error(ErrorKind::NotFound, "no key has that name any more")
                .hinted("name another with --kms-key-id")),
        }
    }

    fn locate(&self, name: &str, deadline: Instant) -> Result<Vec<String>> {
        match self.session.ask(Request::Locate { name }, deadline)? {
            Ok(Answer::Identifiers(found)) => Ok(found),
            Ok(_) => Err(self.session.unfitting()),
            // Whoever may not look finds nothing.
            Err(_) => Ok(Vec::new()),
        }
    }

    fn remember(&self, found: Found) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }

    /// Returns what the server knows of a key.
    pub(super) fn attributes(
        &self,
        id: &str,
        deadline: Instant,
    ) -> Result<std::result::Result<Attributes, Failure>> {
        match self.session.ask(Request::Attributes { id }, deadline)? {
            Ok(Answer::Attributes(attributes)) => Ok(Ok(attributes)),
            Ok(_) => Err(self.session.unfitting()),
            Err(failure) => Ok(Err(failure)),
        }
    }

    pub(super) fn encrypt_under(
        &self,
        id: &str,
        plaintext: &[u8],
        deadline: Instant,
    ) -> Result<Wrapped> {
        let agreed = self.session.agreed(deadline)?;
        let first = self.way.load(Ordering::Relaxed);
        let (mut refusal, mut vague) = (None, false);
        for (at, way) in WAYS.iter().enumerate().skip(first) {
            if way.cipher == Cipher::Gcm && !agreed.version.has_tags() {
                continue;
            }
            let mut tried = self.encrypt_so(*way, id, plaintext, deadline)?;
            let says_nothing = |tried: &Tried| matches!(tried, Err(it) if it.says_nothing());
            if way.cipher == Cipher::Gcm && says_nothing(&tried) {
                // It may have been an accident, and what follows authenticates nothing.
                tried = self.encrypt_so(*way, id, plaintext, deadline)?;
                vague |= says_nothing(&tried);
            }
            match tried {
                Ok(Some(wrapped)) => {
                    // Who knows whether the server has no AES-GCM: the next data key tries it again.
                    let doubtful = vague && way.cipher == Cipher::Cbc;
                    self.doubtful.store(doubtful, Ordering::Relaxed);
                    if !doubtful {
                        self.way.store(at, Ordering::Relaxed);
                    }
                    let endpoint = Some(self.session.client().endpoint());
                    return Ok(Wrapped { endpoint, key_id: id.to_owned(), ..wrapped });
                }
                Ok(None) => {}
                Err(failure) if failure.refuses_the_cipher() => refusal = Some(failure),
                Err(failure) => return Err(self.failed(Asked::Encrypt, id, failure, deadline)),
            }
        }
        // The key or the server may be another one since a way was found.
        self.way.store(0, Ordering::Relaxed);
        Err(self.no_way(id, refusal, deadline))
    }

    /// Encrypts in one way; `None` when too little comes back to decrypt it again.
    fn encrypt_so(&self, way: Way, id: &str, plaintext: &[u8], deadline: Instant) -> Result<Tried> {
        let iv = match way.maker {
            Maker::Server => None,
            Maker::Client => Some(self.new_iv(way.cipher)?),
        };
        let request =
            Request::Encrypt { id, cipher: way.cipher, data: plaintext, iv: iv.as_deref() };
        match self.session.ask(request, deadline)? {
            Ok(Answer::Encrypted { data, iv: made, tag }) => {
                let whole = Sealed { cipher: way.cipher, data, iv: made.or(iv), tag };
                Ok(Ok(whole.wrapped(plaintext.len())))
            }
            Ok(_) => Err(self.session.unfitting()),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// Returns whether data keys are wrapped with AES-CBC since AES-GCM fails without a reason.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed)
    }

    fn new_iv(&self, cipher: Cipher) -> Result<Vec<u8>> {
        let mut iv = vec![0; cipher.iv_len()];
        random::fill(&mut iv, &self.label())?;
        Ok(iv)
    }

    /// Returns the error when the server encrypts in none of the ways.
    fn no_way(&self, id: &str, refusal: Option<Failure>, deadline: Instant) -> Error {
        let Some(refusal) = refusal else {
            let problem = "the server encrypts, but sends too little back to decrypt it again";
            return self.error(ErrorKind::Misconfigured, problem);
        };
        if let Some(error) = self.unusable(id, deadline) {
            return error.with_source(refusal);
        }
        let kind = refusal.kind(Asked::Encrypt);
        self.error(kind, "the server encrypts neither with AES-GCM nor with AES-CBC")
            .hinted(
                "see that --kms-key-id names an AES key, and that the server may encrypt with it",
            )
            .with_source(refusal)
    }

    /// Returns the error of a request that failed.
    fn failed(&self, asked: Asked, id: &str, failure: Failure, deadline: Instant) -> Error {
        if failure.refuses_the_client() {
            return self.session.refused(failure);
        }
        let kind = failure.kind(asked);
        if kind == ErrorKind::Denied
            && let Some(error) = self.unusable(id, deadline)
        {
            return error.with_source(failure);
        }
        let (problem, hint) = match kind {
            ErrorKind::NotFound => (
                format!("the server has no key {id}"),
                Some(
                    "a key that was destroyed is gone with all that it has wrapped; for another \
                      one give its identifier or name with --kms-key-id",
                ),
            ),
            ErrorKind::Denied => (
                format!("the server does not let this client use the key {id}"),
                Some(
                    "let the owner of the key grant that to the client's certificate, or give the \
                      certificate of the owner with --kms-cert-file",
                ),
            ),
            ErrorKind::Corrupt => {
                ("the server cannot decrypt what the envelope holds".into(), None)
            }
            _ => (format!("the server fails with the key {id}"), None),
        };
        let error = self.error(kind, &problem).of_outage(failure.outage()).with_source(failure);
        match hint {
            Some(hint) => error.hinted(hint),
            None => error,
        }
    }

    /// Returns the error of a key in a state in which it encrypts and decrypts nothing.
    fn unusable(&self, id: &str, deadline: Instant) -> Option<Error> {
        let attributes = self.attributes(id, deadline).ok()?.ok()?;
        let state = state_name(attributes.state?);
        let (kind, hint) = match attributes.state? {
            PRE_ACTIVE => (ErrorKind::Denied, "activate the key in the KMS"),
            DEACTIVATED | COMPROMISED => (
                ErrorKind::Denied,
                "wrap with another key, by --kms-key-id; what this one has wrapped needs it to be \
                 active, or a server that decrypts with it as it is",
            ),
            DESTROYED | DESTROYED_COMPROMISED => {
                (ErrorKind::NotFound, "what it has wrapped is lost with it")
            }
            _ => return None,
        };
        let problem = format!("the key {id} cannot be used: its state is {state}");
        Some(self.error(kind, &problem).hinted(hint))
    }

    /// Returns the identifier of the key that a rewrap is to use, for what `id` has wrapped.
    fn newest(&self, id: &str, deadline: Instant) -> Result<String> {
        let mut id = match &self.key {
            // Re-keying gives the name to the new key.
            Some(_) => self.identifier(deadline)?,
            None => id.to_owned(),
        };
        for _ in 0..MAX_REPLACEMENTS {
            match self.attributes(&id, deadline)? {
                Ok(Attributes { replacement: Some(next), .. }) if next != id => id = next,
                _ => return Ok(id),
            }
        }
        let problem = format!("the key {id} is replaced by others without end");
        Err(self.error(ErrorKind::Misconfigured, &problem))
    }

    fn decrypt_until(&self, wrapped: &Wrapped, deadline: Instant) -> Result<Zeroizing<Vec<u8>>> {
        let sealed = Sealed::read(wrapped, &self.label())?;
        let id = &wrapped.key_id;
        if id.is_empty() || id.len() > MAX_KEY_ID || id.chars().any(char::is_control) {
            return Err(
                self.error(ErrorKind::Corrupt, "the envelope names no key of a KMIP server")
            );
        }
        let request = Request::Decrypt {
            id,
            cipher: sealed.cipher,
            data: &sealed.data,
            iv: sealed.iv.as_deref().unwrap_or_default(),
            tag: sealed.tag.as_deref(),
        };
        match self.session.ask(request, deadline)? {
            Ok(Answer::Decrypted(plaintext)) => Ok(plaintext.0),
            Ok(_) => Err(self.session.unfitting()),
            Err(failure) => {
                let kind = failure.kind(Asked::Decrypt);
                if kind == ErrorKind::Corrupt && sealed.cipher == Cipher::Cbc {
                    // No word on whether it was the padding: who alters ciphertext and learns that
                    // can decrypt it (a padding oracle).
                    return Err(self.error(kind, crate::kek::FOREIGN));
                }
                Err(self.failed(Asked::Decrypt, id, failure, deadline))
            }
        }
    }

    pub(super) fn error(&self, kind: ErrorKind, problem: &str) -> Error {
        Error::new(kind, self.label(), problem)
    }
}

impl Kek for KmipKek {
    fn kind(&self) -> KmsKind {
        KmsKind::Kmip
    }

    fn label(&self) -> String {
        match &self.key {
            Some(key) => format!("{}, key {key}", self.session.client().label()),
            None => self.session.client().label(),
        }
    }

    fn encrypt(&self, plaintext: &[u8]) -> Result<Wrapped> {
        let deadline = self.session.deadline();
        let id = self.identifier(deadline)?;
        self.encrypt_under(&id, plaintext, deadline)
    }

    fn decrypt(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        self.decrypt_until(wrapped, self.session.deadline())
    }

    fn rewrap(&self, wrapped: &Wrapped, check: &Check<'_>) -> Result<Wrapped> {
        let deadline = self.session.deadline();
        let plaintext = self.decrypt_until(wrapped, deadline)?;
        check(&plaintext)?;
        let id = self.newest(&wrapped.key_id, deadline)?;
        self.encrypt_under(&id, &plaintext, deadline)
    }

    fn probe(&self) -> Result<Probe> {
        super::probe::probe(self)
    }
}

impl fmt::Debug for KmipKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmipKek").field("label", &self.label()).finish_non_exhaustive()
    }
}

/// Ciphertext with what it takes to decrypt it, whole for its cipher.
struct Sealed {
    cipher: Cipher,
    data: Vec<u8>,
    iv: Option<Vec<u8>>,
    tag: Option<Vec<u8>>,
}

impl Sealed {
    /// Reads it from an envelope, which anybody may have written.
    fn read(wrapped: &Wrapped, label: &str) -> Result<Self> {
        let cipher = match wrapped.algorithm.as_str() {
            GCM => Cipher::Gcm,
            CBC => Cipher::Cbc,
            other => {
                let problem = format!("the envelope's algorithm, {other}, is none of KMIP");
                return Err(Error::new(ErrorKind::Corrupt, label, problem));
            }
        };
        let data = wrapped.ciphertext_bytes(label)?;
        let sealed = Self { cipher, data, iv: wrapped.iv.clone(), tag: wrapped.tag.clone() };
        if sealed.is_whole() {
            return Ok(sealed);
        }
        let problem = "the envelope lacks what its algorithm needs";
        Err(Error::new(ErrorKind::Corrupt, label, problem))
    }

    /// Returns what goes into an envelope, when it is enough to decrypt `len` bytes again.
    fn wrapped(self, len: usize) -> Option<Wrapped> {
        let expected = match self.cipher {
            Cipher::Gcm => len,
            Cipher::Cbc => (len + 1).next_multiple_of(16),
        };
        if !self.is_whole() || self.data.len() != expected {
            return None;
        }
        let algorithm = match self.cipher {
            Cipher::Gcm => GCM,
            Cipher::Cbc => CBC,
        };
        Some(Wrapped {
            algorithm: algorithm.to_owned(),
            iv: self.iv,
            tag: self.tag,
            ciphertext: STANDARD.encode(&self.data),
            ..Wrapped::default()
        })
    }

    fn is_whole(&self) -> bool {
        let iv = self.iv.as_ref().map(Vec::len);
        let tag = self.tag.as_ref().map(Vec::len);
        match self.cipher {
            Cipher::Gcm => {
                iv.is_some_and(|len| (12..=64).contains(&len))
                    && tag == Some(Cipher::TAG_LEN)
                    && !self.data.is_empty()
            }
            Cipher::Cbc => {
                iv == Some(16)
                    && tag.is_none()
                    && !self.data.is_empty()
                    && self.data.len().is_multiple_of(16)
            }
        }
    }
}

/// Returns what the specification calls a state (KMIP 1.4, section 9.1.3.2.18).
pub(super) fn state_name(state: u32) -> &'static str {
    match state {
        PRE_ACTIVE => "Pre-Active",
        ACTIVE => "Active",
        DEACTIVATED => "Deactivated",
        COMPROMISED => "Compromised",
        DESTROYED => "Destroyed",
        DESTROYED_COMPROMISED => "Destroyed Compromised",
        _ => "unknown",
    }
}

/// How encryption is tried: the server's IV before ours, as some let nobody else make one, and what
/// authenticates before what does not.
const WAYS: [Way; 4] = [
    Way { cipher: Cipher::Gcm, maker: Maker::Server },
    Way { cipher: Cipher::Gcm, maker: Maker::Client },
    Way { cipher: Cipher::Cbc, maker: Maker::Server },
    Way { cipher: Cipher::Cbc, maker: Maker::Client },
];

const PRE_ACTIVE: u32 = 1;
pub(super) const ACTIVE: u32 = 2;
const DEACTIVATED: u32 = 3;
const COMPROMISED: u32 = 4;
const DESTROYED: u32 = 5;
const DESTROYED_COMPROMISED: u32 = 6;

/// What envelopes call AES-GCM with a tag of 16 bytes.
const GCM: &str = "aes-gcm";

/// How many keys may have replaced each other.
const MAX_REPLACEMENTS: usize = 32;

/// The longest identifier in bytes.
const MAX_KEY_ID: usize = 1024;

/// How many keys an error names.
const MAX_SHOWN: usize = 16;
