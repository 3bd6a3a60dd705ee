//! From a key encryption key that encrypts and decrypts to a provider.

use std::fmt;

use strongroom_crypto::{DataKey, leaving_no_trace};
use strongroom_model::KmsKind;
use zeroize::Zeroizing;

use crate::sealed::{self, Flaw};
use crate::{
    Binding, Envelope, Error, ErrorKind, Fingerprint, KeyProvider, Probe, Result, Wrapped, random,
};

/// A key encryption key, wherever it is: the part of a provider that differs from KMS to KMS.
pub(crate) trait Kek: fmt::Debug + Send + Sync {
    /// Returns which KMS it is in.
    fn kind(&self) -> KmsKind;

    /// Returns what errors call it.
    fn label(&self) -> String;

    /// Encrypts some hundred bytes at most.
    fn encrypt(&self, plaintext: &[u8]) -> Result<Wrapped>;

    /// Decrypts what it has encrypted.
    fn decrypt(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>>;

    /// Encrypts the same bytes anew, under the newest version of the key that was named, or else of
    /// the same key. What leaves the KMS for that has to pass `check`: an envelope that anybody has
    /// written must not have one key's secrets encrypted under another.
    fn rewrap(&self, wrapped: &Wrapped, check: &Check<'_>) -> Result<Wrapped> {
        let plaintext = self.decrypt(wrapped)?;
        check(&plaintext)?;
        self.encrypt(&plaintext)
    }

    /// Asks how the KMS is.
    fn probe(&self) -> Result<Probe>;
}

/// Refuses bytes that are not what an envelope says is sealed.
pub(crate) type Check<'a> = dyn Fn(&[u8]) -> Result<()> + 'a;

/// A provider over a key encryption key: seals the binding in, and believes the KMS nothing that it
/// can check.
#[derive(Debug)]
pub(crate) struct Provider<K>(K);

impl<K: Kek> Provider<K> {
    pub(crate) fn new(kek: K) -> Self {
        Self(kek)
    }

    /// Refuses an envelope of another kind of KMS.
    fn check_kind(&self, envelope: &Envelope) -> Result<()> {
        if envelope.kind == self.0.kind() {
            return Ok(());
        }
        let problem = format!(
            "the envelope was made by another kind of KMS: {} key {}{}",
            envelope.kind,
            envelope.wrapped.key_id,
            envelope.wrapped.endpoint.as_ref().map_or(String::new(), |at| format!(" at {at}"))
        );
        Err(Error::new(ErrorKind::Misconfigured, self.0.label(), problem)
            .hinted(format!("use it with --kms {}", envelope.kind)))
    }

    /// Refuses sealed bytes that are not what an envelope says, whatever they belong to.
    fn check(&self, envelope: &Envelope, sealed: &[u8]) -> Result<()> {
        self.taken(envelope, sealed, sealed::open_unbound, "belong to this").map(drop)
    }

    /// Returns the data key that `take` takes out of the sealed bytes of an envelope.
    fn taken(
        &self,
        envelope: &Envelope,
        sealed: &[u8],
        take: impl FnOnce(&[u8]) -> std::result::Result<DataKey, Flaw>,
        belongs: &str,
    ) -> Result<DataKey> {
        let corrupt = |problem: String| Error::new(ErrorKind::Corrupt, self.0.label(), problem);
        let key = take(sealed);
        let matches = |key: &DataKey| envelope.fingerprint.matches(key);
        if envelope.wrapped.algorithm == CBC && !key.as_ref().is_ok_and(matches) {
            // Nothing vouches for these bytes. Whoever alters ciphertext and learns what became of
            // it can decrypt it (a padding oracle), so that there is one answer to all of that.
            return Err(corrupt(FOREIGN.to_owned()));
        }
        let key = key.map_err(|flaw| match flaw {
            Flaw::Foreign => corrupt(FOREIGN.to_owned()),
            Flaw::Newer(version) => {
                corrupt(format!("the data key was sealed in version {version}, which is newer"))
                    .hinted("use a newer release")
            }
            Flaw::BoundElsewhere => {
                corrupt(format!("the envelope does not {belongs}, but to something else"))
                    .hinted("its UUID was changed, or it has the envelope of another one")
            }
        })?;
        if !matches(&key) {
            return Err(corrupt(
                "what it unwrapped is another data key than was wrapped".to_owned(),
            ));
        }
        Ok(key)
    }
}

impl<K: Kek> KeyProvider for Provider<K> {
    fn kind(&self) -> KmsKind {
        self.0.kind()
    }

    fn label(&self) -> String {
        self.0.label()
    }

    fn wrap(&self, key: &DataKey, binding: &Binding) -> Result<Envelope> {
        if key.is_empty() || key.len() > MAX_KEY_LEN {
            let problem = format!("a data key has from 1 to {MAX_KEY_LEN} bytes");
            return Err(Error::new(ErrorKind::Misconfigured, self.0.label(), problem));
        }
        let mut salt = [0; 16];
        random::fill(&mut salt, &self.0.label())?;
        let wrapped = leaving_no_trace(|| self.0.encrypt(&sealed::seal(key, binding)))?;
        Ok(Envelope::new(self.0.kind(), wrapped, Fingerprint::of(key, &salt)))
    }

    fn unwrap(&self, envelope: &Envelope, binding: &Binding) -> Result<DataKey> {
        self.check_kind(envelope)?;
        let sealed = leaving_no_trace(|| self.0.decrypt(&envelope.wrapped))?;
        let take = |sealed: &[u8]| sealed::open(sealed, binding);
        self.taken(envelope, &sealed, take, &format!("belong to {binding}"))
    }

    fn verify(&self, envelope: &Envelope) -> Result<()> {
        self.check_kind(envelope)?;
        let sealed = leaving_no_trace(|| self.0.decrypt(&envelope.wrapped))?;
        self.check(envelope, &sealed)
    }

    fn rewrap(&self, envelope: &Envelope) -> Result<Envelope> {
        self.check_kind(envelope)?;
        let check = |sealed: &[u8]| self.check(envelope, sealed);
        let wrapped = leaving_no_trace(|| self.0.rewrap(&envelope.wrapped, &check))?;
        Ok(envelope.rewrapped(wrapped))
    }

    fn probe(&self) -> Result<Probe> {
        leaving_no_trace(|| self.0.probe())
    }
}

/// What envelopes call AES-CBC, padded as PKCS #5 says. It is the one algorithm that authenticates
/// nothing: that what comes out is whole shows by its magic and binding, and by the fingerprint.
pub(crate) const CBC: &str = "aes-cbc-pkcs5";

/// What is said of unwrapped bytes that are not what is sealed here.
pub(crate) const FOREIGN: &str = "what it unwrapped is no data key of ours";

/// The longest data key in bytes: more than any keyslot wants, and what every KMS encrypts.
const MAX_KEY_LEN: usize = 512;
