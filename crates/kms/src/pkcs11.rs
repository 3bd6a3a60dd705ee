//! A key encryption key in a security module or smart card (PKCS #11).
//!
//! The module is a library of the token's maker, and its code runs in this process with everything
//! that this process may do: which file it is comes from whoever configures us, never from an
//! envelope, and must be an absolute path.
//!
//! A login counts for all sessions of a process with a token. A PIN that the token did not take is
//! never tried again, since a few wrong tries lock the token.

mod failures;
mod key_name;
mod module;
mod sessions;
mod uri;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cryptoki::error::Error as CryptokiError;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::TokenInfo;
use strongroom_model::{KmsKind, KmsRequest};
use zeroize::Zeroizing;

use self::key_name::KeyName;
use self::module::Module;
use self::sessions::Sessions;
use self::uri::Uri;
use crate::kek::{CBC, FOREIGN, Kek, Provider};
use crate::{Credentials, Error, ErrorKind, Expiry, KeyProvider, Probe, Result, Wrapped, random};

/// The key in a token.
struct TokenKek {
    label: String,
    /// The key for new data keys.
    key: Option<KeyName>,
    sessions: Sessions,
}

/// How a data key is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cipher {
    Gcm,
    /// For tokens without the other. It does not authenticate: what is wrapped bears a digest, and
    /// the envelope a fingerprint.
    CbcPad,
}

/// What went wrong inside a session.
enum Failure {
    Token(CryptokiError),
    Ours(Error),
}

/// Returns the provider of the token that a request means.
pub(crate) fn open(request: &KmsRequest, credentials: Credentials) -> Result<Box<dyn KeyProvider>> {
    let wrong = |problem: &str| Error::new(ErrorKind::Misconfigured, "pkcs11", problem);
    let [endpoint] = request.endpoints.as_slice() else {
        return Err(wrong("one endpoint is needed, a pkcs11: URI")
            .hinted("write --kms-endpoint 'pkcs11:token=NAME?module-path=/PATH/TO/MODULE.so'"));
    };
    let uri = Uri::parse(endpoint)?;
    let path = uri.module_path.as_deref().ok_or_else(|| {
        wrong("the pkcs11 URI does not name the module")
            .hinted("add ?module-path=/PATH/TO/MODULE.so to --kms-endpoint")
    })?;
    let key = KeyName::chosen(request.key_id.as_deref(), &uri)?;
    let label = match (&key, &uri.token) {
        (Some(key), Some(token)) => format!("pkcs11 key {key} in token {token}"),
        (Some(key), None) => format!("pkcs11 key {key}"),
        (None, Some(token)) => format!("pkcs11 token {token}"),
        (None, None) => "pkcs11".to_owned(),
    };
    let module = Module::load(path, &label)?;
    let sessions = Sessions::new(module, uri, credentials.secret, label.clone());
    Ok(Box::new(Provider::new(TokenKek { label, key, sessions })))
}

impl TokenKek {
    /// Returns the key that new data keys are wrapped under.
    fn own_key(&self) -> Result<&KeyName> {
        self.key.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Misconfigured, &self.label, "the name of the key is missing")
                .hinted("give it with --kms-key-id")
        })
    }

    /// Returns the only key of a name.
    fn find(
        &self,
        session: &Session,
        name: &KeyName,
    ) -> std::result::Result<ObjectHandle, Failure> {
        let not_found = |problem: String| Error::new(ErrorKind::NotFound, &self.label, problem);
        let Some(template) = name.template() else {
            return Err(not_found("the token has no key of such a name".to_owned()).into());
        };
        match session.find_objects(&template)?.as_slice() {
            [key] => Ok(*key),
            [] => Err(not_found(format!("the token has no AES key {name}"))
                .hinted("check --kms-key-id and the token in --kms-endpoint")
                .into()),
            _ => {
                let problem = format!("the token has several AES keys {name}");
                Err(Error::new(ErrorKind::Misconfigured, &self.label, problem)
                    .hinted("name one by its identifier: id=%01 in --kms-endpoint")
                    .into())
            }
        }
    }

    fn encrypt_with(
        &self,
        session: &Session,
        key: ObjectHandle,
        cipher: Cipher,
        plaintext: &[u8],
    ) -> std::result::Result<Parts, Failure> {
        match cipher {
            Cipher::Gcm => {
                let mut iv = [0; GCM_IV_LEN];
                random::fill(&mut iv, &self.label)?;
                let sealed = match encrypt_gcm(session, key, &mut iv, plaintext) {
                    Err(error) if failures::is_about_mechanism(&error) => {
                        // Some modules make the IV and take nothing but zeros in its place.
                        iv = [0; GCM_IV_LEN];
                        let sealed = encrypt_gcm(session, key, &mut iv, plaintext)?;
                        if iv == [0; GCM_IV_LEN] {
                            let problem = "the token takes no IV and makes none";
                            let error = Error::new(ErrorKind::Misconfigured, &self.label, problem);
                            return Err(error.into());
                        }
                        sealed
                    }
                    sealed => sealed?,
                };
                let split = sealed.len().checked_sub(TAG_LEN).ok_or_else(|| {
                    Error::new(ErrorKind::Corrupt, &self.label, "the token gave too few bytes")
                })?;
                let (ciphertext, tag) = sealed.split_at(split);
                let (ciphertext, tag) = (ciphertext.to_vec(), Some(tag.to_vec()));
                Ok(Parts { iv: iv.to_vec(), tag, ciphertext })
            }
            Cipher::CbcPad => {
                let mut iv = [0; CBC_IV_LEN];
                random::fill(&mut iv, &self.label)?;
                let ciphertext = session.encrypt(&Mechanism::AesCbcPad(iv), key, plaintext)?;
                Ok(Parts { iv: iv.to_vec(), tag: None, ciphertext })
            }
        }
    }

    /// Returns whether the key works, after it did not decrypt something.
    fn works(&self, session: &Session, key: ObjectHandle, parts: &Parts, cipher: Cipher) -> bool {
        let tried = self
            .encrypt_with(session, key, cipher, &[0; 32])
            .ok()
            .filter(|own| own.iv.len() == parts.iv.len())
            .and_then(|own| decrypt_with(session, key, cipher, &own).ok());
        tried.is_some_and(|bytes| *bytes == [0; 32])
    }
}

impl Kek for TokenKek {
    fn kind(&self) -> KmsKind {
        KmsKind::Pkcs11
    }

    fn label(&self) -> String {
        self.label.clone()
    }

    fn encrypt(&self, plaintext: &[u8]) -> Result<Wrapped> {
        let name = self.own_key()?;
        let (cipher, parts) = self.sessions.run(|session, slot| {
            let key = self.find(session, name)?;
            let mut ciphers = self.sessions.ciphers(slot)?.into_iter().peekable();
            while let Some(cipher) = ciphers.next() {
                match self.encrypt_with(session, key, cipher, plaintext) {
                    Err(Failure::Token(error))
                        if failures::is_about_mechanism(&error) && ciphers.peek().is_some() => {}
                    parts => return parts.map(|parts| (cipher, parts)),
                }
            }
            let problem = "the token has neither AES-GCM nor AES-CBC with padding";
            Err(Error::new(ErrorKind::Misconfigured, &self.label, problem).into())
        })?;
        Ok(Wrapped {
            key_id: name.to_string(),
            algorithm: cipher.name().to_owned(),
            iv: Some(parts.iv),
            tag: parts.tag,
            ciphertext: STANDARD.encode(parts.ciphertext),
            ..Wrapped::default()
        })
    }

    fn decrypt(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        let corrupt = |problem: &str| Error::new(ErrorKind::Corrupt, &self.label, problem);
        let incomplete = || corrupt("the envelope lacks what its algorithm needs");
        let cipher = Cipher::of(&wrapped.algorithm).ok_or_else(incomplete)?;
        let iv = wrapped.iv.clone().filter(|iv| iv.len() == cipher.iv_len());
        let tag_fits = wrapped.tag.as_ref().map(Vec::len) == cipher.tag_len();
        let (Some(iv), true) = (iv, tag_fits) else {
            return Err(incomplete());
        };
        let ciphertext = wrapped.ciphertext_bytes(&self.label)?;
        if ciphertext.len() > MAX_CIPHERTEXT {
            return Err(corrupt(failures::ALTERED));
        }
        let parts = Parts { iv, tag: wrapped.tag.clone(), ciphertext };
        let name = KeyName::parse(&wrapped.key_id);
        self.sessions.run(|session, slot| {
            let key = self.find(session, &name)?;
            match decrypt_with(session, key, cipher, &parts) {
                // No word on whether it was the padding, and nothing else that is done then: see
                // what `Provider` says of AES-CBC.
                Err(error)
                    if cipher == Cipher::CbcPad
                        && (failures::is_vague(&error) || failures::is_about_data(&error)) =>
                {
                    Err(corrupt(FOREIGN).into())
                }
                // Tokens say little about why. If the key works otherwise, it is the envelope.
                Err(error) if failures::is_vague(&error) => {
                    let fresh = self.sessions.open(slot)?;
                    if self.works(&fresh, key, &parts, cipher) {
                        Err(corrupt(failures::ALTERED).into())
                    } else {
                        Err(error.into())
                    }
                }
                bytes => Ok(bytes?),
            }
        })
    }

    fn probe(&self) -> Result<Probe> {
        self.sessions.run(|session, slot| {
            let token = self.sessions.token(slot)?;
            let mut probe = Probe {
                server: Some(description(&token)),
                credentials: Expiry::Unknown,
                ..Probe::default()
            };
            probe.findings.extend(self.sessions.findings().into_iter().map(str::to_owned));
            let ciphers = self.sessions.ciphers(slot)?;
            match ciphers.as_slice() {
                [] => probe.findings.push("the token has no cipher that wraps".to_owned()),
                [Cipher::CbcPad] => probe.findings.push(
                    "the token has no AES-GCM; AES-CBC is used, and alterations are told by the \
                     fingerprint alone"
                        .to_owned(),
                ),
                _ => {}
            }
            match &self.key {
                Some(name) => {
                    let key = self.find(session, name)?;
                    key_findings(session, key, &mut probe)?;
                }
                None => probe.findings.push("no key is named: give --kms-key-id".to_owned()),
            }
            Ok(probe)
        })
    }
}

impl fmt::Debug for TokenKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKek").field("label", &self.label).finish_non_exhaustive()
    }
}

/// What comes out of an encryption.
struct Parts {
    iv: Vec<u8>,
    tag: Option<Vec<u8>>,
    ciphertext: Vec<u8>,
}

impl Cipher {
    /// The better one first.
    const ALL: [Self; 2] = [Self::Gcm, Self::CbcPad];

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cipher| cipher.name() == name)
    }

    /// Returns the name that envelopes use.
    fn name(self) -> &'static str {
        match self {
            Self::Gcm => "aes-gcm",
            // What PKCS #11 calls padding according to PKCS #7 is the same for blocks of any size.
            Self::CbcPad => CBC,
        }
    }

    fn mechanism(self) -> MechanismType {
        match self {
            Self::Gcm => MechanismType::AES_GCM,
            Self::CbcPad => MechanismType::AES_CBC_PAD,
        }
    }

    fn iv_len(self) -> usize {
        match self {
            Self::Gcm => GCM_IV_LEN,
            Self::CbcPad => CBC_IV_LEN,
        }
    }

    fn tag_len(self) -> Option<usize> {
        match self {
            Self::Gcm => Some(TAG_LEN),
            Self::CbcPad => None,
        }
    }
}

impl From<CryptokiError> for Failure {
    fn from(error: CryptokiError) -> Self {
        Self::Token(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// Encrypts, and leaves in `iv` what the module has used: it may have made its own.
fn encrypt_gcm(
    session: &Session,
    key: ObjectHandle,
    iv: &mut [u8; GCM_IV_LEN],
    plaintext: &[u8],
) -> std::result::Result<Vec<u8>, CryptokiError> {
    let params = GcmParams::new(iv, &[], TAG_BITS.into())?;
    session.encrypt(&Mechanism::AesGcm(params), key, plaintext)
}

fn decrypt_with(
    session: &Session,
    key: ObjectHandle,
    cipher: Cipher,
    parts: &Parts,
) -> std::result::Result<Zeroizing<Vec<u8>>, CryptokiError> {
    let plaintext = match cipher {
        Cipher::Gcm => {
            let mut iv = parts.iv.clone();
            let params = GcmParams::new(&mut iv, &[], TAG_BITS.into())?;
            let sealed = [&parts.ciphertext, parts.tag.as_deref().unwrap_or_default()].concat();
            session.decrypt(&Mechanism::AesGcm(params), key, &sealed)
        }
        Cipher::CbcPad => {
            let iv = parts.iv.as_slice().try_into()?;
            session.decrypt(&Mechanism::AesCbcPad(iv), key, &parts.ciphertext)
        }
    };
    plaintext.map(Zeroizing::new)
}

fn description(token: &TokenInfo) -> String {
    format!(
        "{} {}, token {}, serial {}, firmware {}",
        token.manufacturer_id(),
        token.model(),
        token.label(),
        token.serial_number(),
        token.firmware_version()
    )
}

fn key_findings(
    session: &Session,
    key: ObjectHandle,
    probe: &mut Probe,
) -> std::result::Result<(), Failure> {
    let asked = [
        AttributeType::Encrypt,
        AttributeType::Decrypt,
        AttributeType::Sensitive,
        AttributeType::Extractable,
        AttributeType::ValueLen,
    ];
    for attribute in session.get_attributes(key, &asked)? {
        match attribute {
            Attribute::Encrypt(true) => probe.allowed.push("encrypt".to_owned()),
            Attribute::Decrypt(true) => probe.allowed.push("decrypt".to_owned()),
            Attribute::Encrypt(false) => {
                probe.findings.push("the key may not wrap: it lacks CKA_ENCRYPT".to_owned());
            }
            Attribute::Decrypt(false) => {
                probe.findings.push("the key may not unwrap: it lacks CKA_DECRYPT".to_owned());
            }
            Attribute::Sensitive(false) => probe
                .findings
                .push("the key can be read: it is not CKA_SENSITIVE, make another".to_owned()),
            Attribute::Extractable(true) => probe
                .findings
                .push("the key can be taken out of the token: it is CKA_EXTRACTABLE".to_owned()),
            Attribute::ValueLen(len) if *len < 32 => {
                probe.findings.push(format!("the key has {} bits only, 256 are usual", *len * 8));
            }
            _ => {}
        }
    }
    if probe.allowed.len() == 2 {
        probe.allowed.push("rewrap".to_owned());
    }
    Ok(())
}

const GCM_IV_LEN: usize = 12;

const CBC_IV_LEN: usize = 16;

const TAG_LEN: usize = 16;

const TAG_BITS: u64 = 128;

/// More than any data key needs, in bytes. Small tokens crash on what is much longer.
const MAX_CIPHERTEXT: usize = 1024;
