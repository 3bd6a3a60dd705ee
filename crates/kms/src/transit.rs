//! A key in the Transit engine of OpenBao or HashiCorp Vault.
//!
//! [`requests`](self::requests) and [`answers`](self::answers) are values, [`client`](self::client)
//! carries them, [`login`](self::login) has the token. What is wrapped lies in no header and no
//! additional data: `rewrap` would lose that (`sealed` says what is bound to what).

mod answers;
mod client;
mod denials;
mod login;
mod probe;
mod requests;
mod trouble;

use std::time::Instant;

use strongroom_model::{KmsKind, KmsRequest};
use zeroize::Zeroizing;

use self::answers::{Advice, Ciphertext, KeyInfo, account, judge, judge_text};
use self::client::{Answer, Client};
use self::denials::Denials;
use self::login::Session;
use self::requests::{Key, Request};
use crate::kek::{Check, Kek};
use crate::{Credentials, Error, ErrorKind, Limits, Probe, Result, Wrapped, tls};

/// A key in a Transit engine.
#[derive(Debug)]
pub(crate) struct TransitKek {
    client: Client,
    session: Session,
    namespace: Option<String>,
    /// Where the engine is mounted, as far as somebody has said so.
    mount: Option<String>,
    key_id: Option<String>,
    /// The keys whose properties the policy does not let us read.
    unreadable: Denials,
    /// The keys with which it does not let us rewrap.
    no_rewrap: Denials,
}

/// Returns the key that a request means. Nobody is talked to yet.
///
/// # Errors
///
/// [`ErrorKind::Misconfigured`] when something is missing or does not fit.
pub(crate) fn open(
    request: &KmsRequest,
    credentials: Credentials,
    limits: &Limits,
) -> Result<TransitKek> {
    let tls = tls::config_for(&credentials, request.server_name.as_deref(), "transit")?;
    let client = Client::new(&request.endpoints, request.namespace.as_deref(), tls, *limits)?;
    let session = Session::new(&request.login, credentials.secret)?;
    let kek = TransitKek {
        client,
        session,
        namespace: request.namespace.clone(),
        mount: request.mount.as_deref().map(|mount| mount.trim_matches('/').to_owned()),
        key_id: request.key_id.clone(),
        unreadable: Denials::default(),
        no_rewrap: Denials::default(),
    };
    if kek.key_id.is_some() {
        kek.key()?;
    }
    Ok(kek)
}

impl TransitKek {
    /// Returns the key under which is wrapped.
    fn key(&self) -> Result<Key> {
        let name = self.key_id.as_deref().ok_or_else(|| {
            Error::new(ErrorKind::Misconfigured, self.label(), "the key to wrap with is not named")
                .hinted("name it with --kms-key-id")
        })?;
        Key::new(self.mount.as_deref().unwrap_or(MOUNT), name).map_err(|problem| {
            Error::new(ErrorKind::Misconfigured, self.label(), problem)
                .hinted("look at --kms-key-id and --kms-mount")
        })
    }

    /// Returns the key that an envelope names, and what it has wrapped.
    ///
    /// The envelope may come from anybody: it chooses among the keys of the configured engine, and
    /// nothing else. At another mount may be an engine that keeps whatever is sent to it.
    fn wrapped_by(&self, wrapped: &Wrapped) -> Result<(Key, Ciphertext)> {
        let corrupt = |problem: String| Error::new(ErrorKind::Corrupt, self.label(), problem);
        if wrapped.algorithm != ALGORITHM {
            return Err(corrupt("the envelope is of another algorithm than Transit's".to_owned()));
        }
        let ciphertext = Ciphertext::parse(&wrapped.ciphertext)
            .ok_or_else(|| corrupt("the envelope's ciphertext is none of Transit's".to_owned()))?;
        // Whoever looks for what is to be rewrapped goes by the version that stands outside.
        if wrapped.key_version != Some(ciphertext.version.to_string()) {
            let problem = "the envelope was altered: its ciphertext is of another version";
            return Err(corrupt(problem.to_owned()));
        }
        let mount = self.mount.as_deref().unwrap_or(MOUNT);
        let named = wrapped.mount.as_deref().unwrap_or(mount);
        let key = Key::new(named, &wrapped.key_id)
            .map_err(|problem| corrupt(format!("the envelope was altered: {problem}")))?;
        if named != mount {
            let problem =
                format!("the envelope names a key of the engine at {named}, and not at {mount}");
            return Err(Error::new(ErrorKind::Misconfigured, self.label(), problem)
                .hinted(format!("if that is the Transit engine indeed, add --kms-mount {named}")));
        }
        Ok((key, ciphertext))
    }

    fn call(&self, request: &Request) -> Result<Answer> {
        self.session.call(&self.client, request)
    }

    /// Makes sure that a key exists. To encrypt with one that does not would create it, where the
    /// token's policy is that wide.
    fn check_exists(&self, key: &Key) -> Result<()> {
        if !self.unreadable.holds(key, Instant::now()) {
            let answer = self.call(&key.read())?;
            if answer.is_success() {
                return self.check_fits(key, &answer.read(answers::key_info)?);
            }
            if !answer.is_denied() {
                return Err(self.refused(&answer, key, "keys"));
            }
            self.unreadable.note(key, Instant::now());
        }
        // Nothing decrypts this; but a key that does not exist is told from that.
        let answer = self.call(&key.decrypt(NOTHING))?;
        if !answer.is_denied() {
            let verdict = judge(answer.status, &answer.body);
            return match verdict.kind {
                // Refused as too old by a key whose `min_decryption_version` was raised, which exists.
                ErrorKind::Corrupt | ErrorKind::Denied => Ok(()),
                _ => Err(self.refused(&answer, key, "decrypt")),
            };
        }
        self.check_cannot_create(key, &answer)
    }

    /// Makes sure that a token which may not decrypt could not create the key either.
    fn check_cannot_create(&self, key: &Key, denied: &Answer) -> Result<()> {
        let path = key.path("encrypt");
        let answer = self.call(&requests::capabilities(std::slice::from_ref(&path)))?;
        if !answer.is_success() {
            return Err(self.denied(denied, key, "decrypt"));
        }
        let allowed = answer.read(answers::capabilities)?.remove(&path).unwrap_or_default();
        let any = |wanted: &[&str]| allowed.iter().any(|it| wanted.contains(&it.as_str()));
        if any(&["deny"]) {
            return Err(self.denied(denied, key, "encrypt"));
        }
        // What is not said may be anything.
        if !any(&["update"]) || any(&["create", "root", "sudo"]) {
            let problem = "nobody says whether the key exists, and to encrypt might create it";
            let hint = format!("add to the policy: {}", key.policy("keys", "read"));
            return Err(Error::new(ErrorKind::Denied, &*denied.label, problem).hinted(hint));
        }
        Ok(())
    }

    fn check_fits(&self, key: &Key, info: &KeyInfo) -> Result<()> {
        let text = match info {
            KeyInfo { soft_deleted: true, .. } => "soft-deleted key",
            KeyInfo { derived: true, .. } => "missing 'context'",
            KeyInfo { supports_encryption: false, .. } => "not supported for key type",
            _ => return Ok(()),
        };
        let verdict = judge_text(400, text);
        let label = format!("transit key {} at {}", key.name(), self.client.endpoint());
        Err(Self::advised(Error::new(verdict.kind, label, verdict.problem), verdict.advice, key))
    }

    /// Encrypts with a key that is known to exist.
    fn encrypt_with(&self, key: &Key, plaintext: &[u8]) -> Result<Wrapped> {
        let answer = self.call(&key.encrypt(plaintext))?;
        if !answer.is_success() {
            return Err(self.refused(&answer, key, "encrypt"));
        }
        Ok(self.wrapped(key, answer.read(answers::ciphertext)?))
    }

    fn decrypt_with(&self, key: &Key, ciphertext: &Ciphertext) -> Result<Zeroizing<Vec<u8>>> {
        let answer = self.call(&key.decrypt(&ciphertext.text))?;
        if !answer.is_success() {
            return Err(self.refused(&answer, key, "decrypt"));
        }
        answer.read(answers::plaintext)
    }

    fn wrapped(&self, key: &Key, ciphertext: Ciphertext) -> Wrapped {
        Wrapped {
            endpoint: Some(self.client.endpoint()),
            namespace: self.namespace.clone(),
            mount: Some(key.mount().to_owned()),
            key_id: key.name().to_owned(),
            key_version: Some(ciphertext.version.to_string()),
            algorithm: ALGORITHM.to_owned(),
            ciphertext: ciphertext.text,
            ..Wrapped::default()
        }
    }

    /// Returns what the refusal of a request means.
    fn refused(&self, answer: &Answer, key: &Key, verb: &str) -> Error {
        if answer.is_denied() {
            return self.denied(answer, key, verb);
        }
        let verdict = judge(answer.status, &answer.body);
        let known = verdict.advice != Advice::None || verdict.kind == ErrorKind::Corrupt;
        let problem = match known {
            true => verdict.problem.to_owned(),
            false => format!("{} ({})", verdict.problem, account(answer.status, &answer.body)),
        };
        let error = Error::new(verdict.kind, &*answer.label, problem);
        Self::advised(error, verdict.advice, key)
    }

    /// Returns which of the two it is: a token that is no good, or a policy that is too narrow.
    fn denied(&self, answer: &Answer, key: &Key, verb: &str) -> Error {
        let token = self.session.token_info(&self.client);
        let text = account(answer.status, &answer.body);
        let error = |problem: String| Error::new(ErrorKind::Denied, &*answer.label, problem);
        let capability = if verb == "keys" { "read" } else { "update" };
        let line = key.policy(verb, capability);
        if !matches!(token, Ok(None)) {
            return error(format!(
                "the token may not {verb} with it ({text}), or there is no such key"
            ))
            .hinted(format!("look at --kms-key-id, and for this line in the policy: {line}"));
        }
        error(format!("the token is not valid (any more), or may not {verb} with it ({text})"))
            .hinted(format!("give another one with --kms-token-file; its policy needs: {line}"))
    }

    fn advised(error: Error, advice: Advice, key: &Key) -> Error {
        let (mount, name) = (key.mount(), key.name());
        match advice {
            Advice::None => error,
            Advice::KeyName => error.hinted(format!(
                "look at --kms-key-id and --kms-mount; a key is never created here, but with: bao \
                 write -f {mount}/keys/{name}"
            )),
            Advice::Mount => error.hinted(format!(
                "look at --kms-mount and --kms-namespace: there is no Transit engine at {mount}"
            )),
            Advice::OldVersion => error.hinted(format!(
                "lower min_decryption_version of {mount}/keys/{name} for a while, and rewrap with \
                 `strongroom key rewrap` before it is raised again"
            )),
            Advice::Restore => error.hinted(format!(
                "restore it with: bao write -f {mount}/keys/{name}/soft-delete-restore"
            )),
            Advice::OtherKey => error.hinted(format!(
                "make another one with: bao write -f {mount}/keys/NAME type=aes256-gcm96"
            )),
            Advice::Https => error.hinted("begin --kms-endpoint with https://"),
        }
    }

    /// Asks the server to rewrap; `None` when its policy does not let us.
    fn rewrap_there(&self, key: &Key, old: &Ciphertext) -> Result<Option<Ciphertext>> {
        if self.no_rewrap.holds(key, Instant::now()) {
            return Ok(None);
        }
        let answer = self.call(&key.rewrap(&old.text))?;
        if answer.is_denied() {
            self.no_rewrap.note(key, Instant::now());
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(self.refused(&answer, key, "rewrap"));
        }
        let new = answer.read(answers::ciphertext)?;
        if new.version < old.version {
            let problem = "it rewrapped to an older version of the key";
            return Err(Error::new(ErrorKind::Corrupt, answer.label, problem));
        }
        Ok(Some(new))
    }
}

impl Kek for TransitKek {
    fn kind(&self) -> KmsKind {
        KmsKind::Transit
    }

    fn label(&self) -> String {
        let endpoint = self.client.endpoint();
        match &self.key_id {
            Some(key) => format!("transit key {} at {endpoint}", key.escape_debug()),
            None => format!("transit at {endpoint}"),
        }
    }

    fn encrypt(&self, plaintext: &[u8]) -> Result<Wrapped> {
        let key = self.key()?;
        self.check_exists(&key)?;
        self.encrypt_with(&key, plaintext)
    }

    fn decrypt(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        let (key, ciphertext) = self.wrapped_by(wrapped)?;
        self.decrypt_with(&key, &ciphertext)
    }

    /// Lets the server do it, so that the data key does not leave it. Where the policy has no line
    /// for that, or another key was named, decrypts and encrypts.
    fn rewrap(&self, wrapped: &Wrapped, check: &Check<'_>) -> Result<Wrapped> {
        let (key, old) = self.wrapped_by(wrapped)?;
        let other = match self.key_id {
            Some(_) => Some(self.key()?).filter(|named| *named != key),
            None => None,
        };
        match &other {
            // To encrypt with a key that does not exist might create it.
            Some(other) => self.check_exists(other)?,
            None => {
                if let Some(new) = self.rewrap_there(&key, &old)? {
                    return Ok(self.wrapped(&key, new));
                }
            }
        }
        let plaintext = self.decrypt_with(&key, &old)?;
        check(&plaintext)?;
        // What has decrypted exists.
        self.encrypt_with(other.as_ref().unwrap_or(&key), &plaintext)
    }

    fn probe(&self) -> Result<Probe> {
        probe::run(self)
    }
}

/// Where the engine is mounted unless somebody says otherwise.
const MOUNT: &str = "transit";

/// What envelopes say. Which cipher it is, the server alone knows; it may differ from version to
/// version.
const ALGORITHM: &str = "transit";

/// A ciphertext that no key can have made.
const NOTHING: &str = "vault:v1:AAAA";
