//! Envelopes in LUKS2 headers: tokens that tell with which key of a KMS a keyslot opens.
//!
//! ```text
//! {"type": "strongroom-kms", "keyslots": ["0"], "envelope": { … }}
//! ```
//!
//! Other tools keep such a token and print it (LUKS2 specification, section 3.6). The header is where
//! the envelope is at home; a copy elsewhere is for when the header is lost, or has no tokens (LUKS1).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_disk::Operation;
use strongroom_kms::Envelope;
use strongroom_luks::luks2;

use crate::{Error, Result};

/// An envelope in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The number of its token.
    pub token: u32,
    /// The keyslots that the data key in it opens.
    pub keyslots: Vec<u32>,
    /// The envelope.
    pub envelope: Envelope,
}

/// Returns the envelopes in a header, the newest token first. `label` is what errors call it.
///
/// # Errors
///
/// When a token of ours holds no envelope that can be read. Those of others are none of our business.
pub fn held(header: &luks2::Header, label: &str) -> Result<Vec<Held>> {
    each(header, label).collect()
}

/// Returns what [`held`] does, with an error in the place of each that cannot be read.
pub fn each(header: &luks2::Header, label: &str) -> impl Iterator<Item = Result<Held>> {
    by_token(header, label).map(|(_, held)| held)
}

/// Returns what [`each`] does, with the numbers of the tokens.
pub(crate) fn by_token(
    header: &luks2::Header,
    label: &str,
) -> impl Iterator<Item = (u32, Result<Held>)> {
    let ours = header.metadata().tokens.iter().filter(|(_, token)| token.kind == TOKEN_TYPE);
    ours.rev().map(move |(&id, token)| {
        let held = envelope(header, label, id).map(|envelope| Held {
            token: id,
            keyslots: token.keyslots.clone(),
            envelope,
        });
        (id, held)
    })
}

/// Returns the envelope in a token.
fn envelope(header: &luks2::Header, label: &str, token: u32) -> Result<Envelope> {
    let text = header.export_token(token).map_err(Error::luks(label))?;
    let label = format!("{label}, token {token}");
    Ok(match serde_json::from_str::<TokenEnvelope<'_>>(&text) {
        Ok(token) => Envelope::parse(token.envelope.get().as_bytes(), &label)?,
        Err(_) => Envelope::parse(b"", &label)?,
    })
}

/// Reads an envelope from a file of its own.
///
/// # Errors
///
/// When it cannot be read, or holds no envelope.
pub fn read_file(path: &Path) -> Result<Envelope> {
    let label = path.display().to_string();
    let failed = |operation| {
        let label = label.clone();
        move |source| Error::from(strongroom_disk::Error::from_io(operation, label, source))
    };
    let file = File::open(path).map_err(failed(Operation::Open))?;
    let mut json = Vec::new();
    file.take(LONGEST).read_to_end(&mut json).map_err(failed(Operation::Read))?;
    Ok(Envelope::parse(&json, &label)?)
}

/// Returns the token of an envelope as JSON text.
pub(crate) fn token_text(envelope: &Envelope, keyslots: &[u32]) -> String {
    let keyslots = keyslots.iter().map(ToString::to_string).collect();
    serde_json::to_string(&Token { kind: TOKEN_TYPE, keyslots, envelope })
        .expect("strings and numbers are JSON")
}

/// Returns the token that marks the keyslot of a recovery passphrase, as JSON text.
pub(crate) fn recovery_token_text(keyslot: u32) -> String {
    format!(r#"{{"type":"{RECOVERY_TOKEN_TYPE}","keyslots":["{keyslot}"]}}"#)
}

#[derive(Serialize)]
struct Token<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    keyslots: Vec<String>,
    envelope: &'a Envelope,
}

#[derive(Deserialize)]
struct TokenEnvelope<'a> {
    #[serde(borrow)]
    envelope: &'a serde_json::value::RawValue,
}

/// The type of our tokens.
pub(crate) const TOKEN_TYPE: &str = "strongroom-kms";

/// The type of the tokens that mark recovery passphrases.
pub(crate) const RECOVERY_TOKEN_TYPE: &str = "strongroom-recovery";

/// The most bytes that are read of a file: more than any envelope has.
const LONGEST: u64 = 1 << 20;
