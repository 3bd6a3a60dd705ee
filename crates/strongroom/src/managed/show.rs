//! What there is to tell about the keys of a volume, without any key.

use strongroom_kms::Envelope;
use strongroom_luks::{Header, KeyslotSummary, Version};

use super::ManagedVolume;
use crate::device::HeaderDisk;
use crate::envelopes::{self, Held};
use crate::{Error, Result};

/// The keys of a volume.
#[derive(Debug)]
pub struct Shown {
    /// The format of the header; `None` when there is a record alone.
    pub version: Option<Version>,
    /// The volume's UUID, to which its data key is bound.
    pub uuid: Option<String>,
    /// The envelopes in the header, the newest token first.
    pub envelopes: Vec<Held>,
    /// The tokens whose envelopes cannot be read, and why.
    pub damaged: Vec<(u32, Error)>,
    /// The envelope in the record.
    pub record: Option<Envelope>,
    /// The keyslots.
    pub keyslots: Vec<ShownKeyslot>,
}

/// A keyslot and what it is for.
#[derive(Debug, Clone)]
pub struct ShownKeyslot {
    /// What can be told of it.
    pub summary: KeyslotSummary,
    /// What it is for.
    pub role: KeyslotRole,
}

/// What a keyslot is for, as far as the tokens tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyslotRole {
    /// A data key opens it, whose envelope is in this token.
    Managed {
        /// The number of the token.
        token: u32,
    },
    /// A recovery passphrase opens it, which this token marks.
    Recovery {
        /// The number of the token.
        token: u32,
    },
    /// Nothing is said of it.
    Other,
}

impl<D: HeaderDisk> ManagedVolume<'_, D> {
    /// Returns what there is to tell about the keys. Nobody is asked for any.
    ///
    /// # Errors
    ///
    /// When header or record cannot be read. Of a token, that is told with the others.
    pub fn show(&self) -> Result<Shown> {
        let record = self.recorded()?;
        let header = match self.header() {
            Ok(header) => header,
            // The header inside a qcow2 image is none of ours, but the record is.
            Err(Error::KeyslotsFixed { .. }) if record.is_some() => {
                return Ok(Shown {
                    version: None,
                    uuid: None,
                    envelopes: Vec::new(),
                    damaged: Vec::new(),
                    record,
                    keyslots: Vec::new(),
                });
            }
            Err(error) => return Err(error),
        };
        let (mut envelopes, mut damaged) = (Vec::new(), Vec::new());
        if let Header::Luks2(luks2) = &header {
            for (token, held) in envelopes::by_token(luks2, self.label()) {
                match held {
                    Ok(held) => envelopes.push(held),
                    Err(error) => damaged.push((token, error)),
                }
            }
        }
        let keyslots = header.keyslots().into_iter().map(|summary| {
            let role = role(&header, summary.id);
            ShownKeyslot { summary, role }
        });
        Ok(Shown {
            version: Some(header.version()),
            uuid: Some(header.uuid().to_owned()),
            envelopes,
            damaged,
            record,
            keyslots: keyslots.collect(),
        })
    }
}

/// Returns what the tokens say of a keyslot.
fn role(header: &Header, keyslot: u32) -> KeyslotRole {
    let Header::Luks2(luks2) = header else { return KeyslotRole::Other };
    let naming = |kind: &str| {
        let mut tokens = luks2.metadata().tokens.iter();
        let found =
            tokens.find(|(_, token)| token.kind == kind && token.keyslots.contains(&keyslot));
        found.map(|(&id, _)| id)
    };
    match (naming(envelopes::TOKEN_TYPE), naming(envelopes::RECOVERY_TOKEN_TYPE)) {
        (Some(token), _) => KeyslotRole::Managed { token },
        (None, Some(token)) => KeyslotRole::Recovery { token },
        (None, None) => KeyslotRole::Other,
    }
}
