//! The same data key under the newest version of the key that wraps it: no data and no keyslot
//! changes.

use std::path::Path;
use std::sync::OnceLock;

use strongroom_crypto::DataKey;
use strongroom_kms::{Binding, Envelope, ErrorKind as Kms, KeyProvider, Wrapped, new_data_key};
use strongroom_luks::{Change, Header};

use super::{ManagedVolume, binding, record};
use crate::device::HeaderDisk;
use crate::managed_key::Candidate;
use crate::{Error, Result, envelopes, system_rng};

/// What became of a rewrap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrapped {
    /// It was under the newest version already: nothing was written.
    Already {
        /// The version, where the key has versions.
        version: Option<String>,
    },
    /// It is now.
    Done {
        /// The version that it was under.
        from: Option<String>,
        /// The one that it is under.
        to: Option<String>,
        /// How sure it is that the new envelope holds the same data key.
        proof: Proof,
    },
}

/// How sure it is that a new envelope holds the data key of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It was unwrapped, and is the same.
    Unwrapped,
    /// The KMS says so, and does not let us unwrap. Of a record the old envelope is kept beside it, as
    /// `.NAME.old`.
    Told,
}

/// The newest version of a key in a KMS, asked for once for any number of envelopes.
#[derive(Debug, Default)]
pub struct NewestKey(OnceLock<Wrapped>);

impl NewestKey {
    /// Asks which version is the newest, by wrapping a data key that nobody uses. Where the
    /// credentials do not suffice for that, the first envelope that is rewrapped tells.
    ///
    /// # Errors
    ///
    /// What else the KMS says.
    pub fn ask(provider: &dyn KeyProvider) -> Result<Self> {
        let newest = Self::default();
        let key: DataKey = new_data_key(&mut system_rng());
        match provider.wrap(&key, &Binding::volume("nobody")) {
            Ok(envelope) => newest.learn(&envelope),
            Err(error) if error.kind() == Kms::Denied => {}
            Err(error) => return Err(error.into()),
        }
        Ok(newest)
    }

    fn learn(&self, envelope: &Envelope) {
        let Wrapped { endpoint, namespace, mount, key_id, key_version, .. } =
            envelope.wrapped.clone();
        let newest =
            Wrapped { endpoint, namespace, mount, key_id, key_version, ..Wrapped::default() };
        let _ = self.0.set(newest);
    }

    /// Tells whether an envelope is under the newest version, as far as that is known and as far as
    /// names tell: another server may have a key of the same name.
    fn is_that_of(&self, envelope: &Envelope) -> bool {
        let Wrapped { namespace, mount, key_id, key_version, .. } = &envelope.wrapped;
        self.0.get().is_some_and(|newest| {
            (&newest.namespace, &newest.mount, &newest.key_id, &newest.key_version)
                == (namespace, mount, key_id, key_version)
        })
    }

    /// Tells whether an envelope was made by the server that told the newest version.
    fn is_from_where(&self, envelope: &Envelope) -> bool {
        self.0.get().is_some_and(|newest| newest.endpoint == envelope.wrapped.endpoint)
    }
}

impl<D: HeaderDisk> ManagedVolume<'_, D> {
    /// Rewraps the envelopes of the volume, in the header and in the record.
    ///
    /// The new envelope is unwrapped, and compared with the old one by its fingerprint, before it
    /// takes the old one's place. Where the KMS lets us rewrap but not unwrap, what it says is
    /// believed: it holds the key, and would not need to lie. Either envelope opens the same keyslot,
    /// so a crash between header and record leaves both of use.
    ///
    /// # Errors
    ///
    /// What the KMS says; [`Error::NoEnvelope`] when there is nothing to rewrap.
    pub fn rewrap(&self, provider: &dyn KeyProvider, newest: &NewestKey) -> Result<Rewrapped> {
        let header = match self.header() {
            Ok(header) => header,
            Err(error @ Error::KeyslotsFixed { .. }) => {
                return self.record.map_or(Err(error), |path| rewrap_file(path, provider, newest));
            }
            Err(error) => return Err(error),
        };
        let binding = binding(&header);
        let mut fresh: Vec<Fresh> = Vec::new();
        let in_header = match &header {
            Header::Luks1(_) => None,
            Header::Luks2(_) => self.rewrap_tokens(provider, newest, &mut fresh)?,
        };
        let in_record = match (self.record, self.recorded()?) {
            (Some(path), Some(old)) => {
                let known = fresh.iter().find(|fresh| fresh.old.fingerprint == old.fingerprint);
                let work = Work { provider, newest, binding: Some(&binding) };
                Some(work.rewrap_record(path, &old, known)?)
            }
            _ => None,
        };
        match (in_header, in_record) {
            (Some(done @ Rewrapped::Done { .. }), _) | (_, Some(done @ Rewrapped::Done { .. })) => {
                Ok(done)
            }
            (Some(already), _) | (None, Some(already)) => Ok(already),
            (None, None) => Err(Error::NoEnvelope { label: self.label().to_owned() }),
        }
    }

    /// Rewraps what the header holds, in one write; `None` when it holds nothing. Those that are new
    /// go to `fresh`, with what they were.
    fn rewrap_tokens(
        &self,
        provider: &dyn KeyProvider,
        newest: &NewestKey,
        fresh: &mut Vec<Fresh>,
    ) -> Result<Option<Rewrapped>> {
        self.device.update(|header| {
            let Header::Luks2(luks2) = header else {
                return Err(Error::ChangedMeanwhile { label: self.label().to_owned() });
            };
            let binding = binding(header);
            let work = Work { provider, newest, binding: Some(&binding) };
            let (mut luks2, mut change) = (luks2.clone(), Change::default());
            let mut outcome = None;
            let mut refused = None;
            fresh.clear();
            for Candidate { envelope, token, keyslots } in self.held(header)? {
                let Some(token) = token else { continue };
                let (new, rewrapped) = match work.rewrapped(&envelope) {
                    Ok(result) => result,
                    // Of two envelopes one may be of another KMS: what is left of a move.
                    Err(error) => {
                        refused.get_or_insert(error);
                        continue;
                    }
                };
                if let Some(new) = new {
                    let text = envelopes::token_text(&new, &keyslots);
                    (luks2, change) =
                        luks2.replace_token(token, &text).map_err(Error::luks(self.label()))?;
                    if let Rewrapped::Done { proof, .. } = rewrapped {
                        fresh.push(Fresh { old: envelope, new, proof });
                    }
                    outcome = Some(rewrapped);
                } else {
                    outcome.get_or_insert(rewrapped);
                }
            }
            match (outcome, refused) {
                (None, Some(error)) => Err(error),
                (outcome, _) => Ok((outcome, change)),
            }
        })
    }
}

/// Rewraps the envelope in a file of its own. To which volume it is bound is not known here, but its
/// fingerprint tells whether the new one holds the same data key.
///
/// # Errors
///
/// What the KMS says; when there is no such file.
pub fn rewrap_file(
    path: &Path,
    provider: &dyn KeyProvider,
    newest: &NewestKey,
) -> Result<Rewrapped> {
    let old = envelopes::read_file(path)?;
    Work { provider, newest, binding: None }.rewrap_record(path, &old, None)
}

/// An envelope that was rewrapped.
struct Fresh {
    old: Envelope,
    new: Envelope,
    proof: Proof,
}

/// What rewrapping needs.
struct Work<'a> {
    provider: &'a dyn KeyProvider,
    newest: &'a NewestKey,
    binding: Option<&'a Binding>,
}

impl Work<'_> {
    /// Returns the new envelope; `None` when the old one is as new.
    fn rewrapped(&self, old: &Envelope) -> Result<(Option<Envelope>, Rewrapped)> {
        let version = |envelope: &Envelope| envelope.wrapped.key_version.clone();
        let already = || Rewrapped::Already { version: version(old) };
        let looks_newest = old.kind == self.provider.kind() && self.newest.is_that_of(old);
        if looks_newest && (self.newest.is_from_where(old) || self.is_unwrapped(old)?) {
            return Ok((None, already()));
        }
        let new = self.provider.rewrap(old)?;
        self.newest.learn(&new);
        // A KMS without versions rewraps under the same key again and again.
        if self.newest.is_that_of(old) {
            return Ok((None, already()));
        }
        let proof = self.proof(&new)?;
        let done = Rewrapped::Done { from: version(old), to: version(&new), proof };
        Ok((Some(new), done))
    }

    /// Makes sure that a new envelope holds what it should, as far as the KMS lets us. Its
    /// fingerprint is that of the old one, and unwrapping compares with it.
    fn proof(&self, new: &Envelope) -> Result<Proof> {
        Ok(if self.is_unwrapped(new)? { Proof::Unwrapped } else { Proof::Told })
    }

    /// Unwraps an envelope, whatever it is bound to where that is not known; `false` when the KMS does
    /// not let us.
    fn is_unwrapped(&self, envelope: &Envelope) -> Result<bool> {
        let unwrapped = match self.binding {
            Some(binding) => self.provider.unwrap(envelope, binding).map(drop),
            None => self.provider.verify(envelope),
        };
        match unwrapped {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == Kms::Denied => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Rewraps a record; `known` is the new envelope of the same data key, where there is one.
    fn rewrap_record(
        &self,
        path: &Path,
        old: &Envelope,
        known: Option<&Fresh>,
    ) -> Result<Rewrapped> {
        let version = |envelope: &Envelope| envelope.wrapped.key_version.clone();
        let (new, outcome) = match known {
            Some(Fresh { new, proof, .. }) if new != old => {
                let (from, to) = (version(old), version(new));
                (Some(new.clone()), Rewrapped::Done { from, to, proof: *proof })
            }
            _ => self.rewrapped(old)?,
        };
        if let Some(new) = new {
            // It may be all that opens the volume.
            if let Rewrapped::Done { proof: Proof::Told, .. } = outcome {
                record::keep(path, old)?;
            }
            record::swap(path, Some(old), &new)?;
        }
        Ok(outcome)
    }
}
