//! Envelopes that were lost in one place, and are put back from the other.

use strongroom_kms::KeyProvider;
use strongroom_luks::Header;

use super::{ManagedVolume, loose, record};
use crate::device::HeaderDisk;
use crate::managed_key::{Candidate, Opened};
use crate::{Error, ErrorKind, Result, envelopes};

/// What was found, and done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// The envelope in the header opens it, and there is no record to write or to compare with.
    Header {
        /// The keyslot.
        keyslot: u32,
    },
    /// The record was written anew from the header, whose envelope opens it.
    Record {
        /// The keyslot.
        keyslot: u32,
    },
    /// A token was written anew from the record, which opens the header.
    Token {
        /// The keyslot.
        keyslot: u32,
        /// The number of the token.
        token: u32,
    },
    /// The record opens the header, which has no tokens.
    RecordOpens {
        /// The keyslot.
        keyslot: u32,
    },
    /// Both are there and hold the same data key, which opens the header.
    Agree {
        /// The keyslot.
        keyslot: u32,
    },
    /// Both open the header, with data keys of their own: a rotation was interrupted.
    Differ {
        /// The keyslot that the envelope in the header opens.
        header: u32,
        /// That of the record.
        record: u32,
    },
}

impl<D: HeaderDisk> ManagedVolume<'_, D> {
    /// Proves that an envelope opens the header, and puts it where it is missing or opens nothing:
    /// from the header to the record, or the other way round.
    ///
    /// # Errors
    ///
    /// When neither opens the header: why not.
    pub fn recover(&self, provider: &dyn KeyProvider) -> Result<Recovered> {
        let header = self.header()?;
        let held = self.held(&header)?;
        let from_header = self.found(&header, held, provider)?;
        let envelope = self.recorded()?;
        let recorded: Vec<Candidate> =
            envelope.clone().map(|envelope| loose(&header, envelope)).into_iter().collect();
        let from_record = self.found(&header, recorded, provider)?;
        match (from_header, from_record, self.record) {
            (Ok(one), Ok(other), _) => Ok(compared(&one, &other)),
            (Ok(opened), Err(error), Some(path)) => {
                // One that this KMS does not unwrap may be of use with another.
                if !is_of_no_use(&error) {
                    return Err(error);
                }
                record::swap(path, envelope.as_ref(), &opened.envelope)?;
                Ok(Recovered::Record { keyslot: opened.unlocked.keyslot })
            }
            (Ok(opened), Err(_), None) => {
                Ok(Recovered::Header { keyslot: opened.unlocked.keyslot })
            }
            (Err(_), Ok(opened), _) => self.put_token(&opened),
            (Err(Error::NoEnvelope { .. }), Err(error), _) | (Err(error), Err(_), _) => Err(error),
        }
    }

    /// Opens the header with one of these; the outer error is for a KMS that does not answer.
    fn found(
        &self,
        header: &Header,
        candidates: Vec<Candidate>,
        provider: &dyn KeyProvider,
    ) -> Result<Result<Opened>> {
        match self.open_any(header, candidates, provider) {
            Err(error) if error.kind() == ErrorKind::KmsUnavailable => Err(error),
            Err(error) if error.kind() == ErrorKind::Io => Err(error),
            result => Ok(result),
        }
    }

    /// Adds a token for an envelope that opens the header, where there are tokens.
    fn put_token(&self, opened: &Opened) -> Result<Recovered> {
        let keyslot = opened.unlocked.keyslot;
        if let Header::Luks1(_) = self.header()? {
            return Ok(Recovered::RecordOpens { keyslot });
        }
        let token = self.device.update(|header| {
            let changed = || Error::ChangedMeanwhile { label: self.label().to_owned() };
            let Header::Luks2(luks2) = header else { return Err(changed()) };
            if self.try_keyslot(header, &opened.passphrase, keyslot)?.is_none() {
                return Err(changed());
            }
            let text = envelopes::token_text(&opened.envelope, &[keyslot]);
            let (token, _, change) =
                luks2.import_token(None, &text).map_err(Error::luks(self.label()))?;
            Ok((token, change))
        })?;
        Ok(Recovered::Token { keyslot, token })
    }
}

/// Tells whether there is no envelope, or one that opens nothing.
fn is_of_no_use(error: &Error) -> bool {
    matches!(error, Error::NoEnvelope { .. } | Error::DataKey { .. })
}

/// Returns whether two envelopes that open the same header hold the same data key.
fn compared(header: &Opened, record: &Opened) -> Recovered {
    let (one, other) = (header.unlocked.keyslot, record.unlocked.keyslot);
    if header.passphrase == record.passphrase {
        Recovered::Agree { keyslot: one }
    } else {
        Recovered::Differ { header: one, record: other }
    }
}
