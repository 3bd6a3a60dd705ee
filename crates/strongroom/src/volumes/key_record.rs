//! Envelopes in the catalog: the copy of a volume's wrapped data key that outlives its header.

use serde::{Deserialize, Serialize};
use strongroom_kms::Envelope;
use strongroom_model::{SnapshotId, VolumeId};

use crate::catalog::{Catalog, Kind, Record, Records};
use crate::{Error, Result};

/// The wrapped data key of a volume or snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// Its name, which in a cluster is that of a Secret.
    name: String,
    /// The envelope, as its own JSON text.
    envelope: String,
}

impl Record for KeyRecord {
    const KIND: Kind = Kind::Key;

    fn id(&self) -> &str {
        &self.name
    }
}

/// Stores an envelope under a name, in place of whatever was there, and returns what can be read of it
/// afterwards.
///
/// # Errors
///
/// What the catalog says.
pub(super) fn store(catalog: &dyn Catalog, name: &str, envelope: &Envelope) -> Result<Envelope> {
    let records = Records::<KeyRecord>::of(catalog);
    let record = KeyRecord { name: name.to_owned(), envelope: envelope.to_json() };
    match records.load(&record.name)? {
        None => drop(records.insert(record)?),
        Some(mut stored) => {
            stored.record = record;
            drop(records.replace(stored)?);
        }
    }
    load(catalog, name)?.ok_or_else(|| Error::NoEnvelope { label: label(name) })
}

/// Returns the envelope under a name, `None` when the catalog has none.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn load(catalog: &dyn Catalog, name: &str) -> Result<Option<Envelope>> {
    let Some(stored) = Records::<KeyRecord>::of(catalog).load(name)? else { return Ok(None) };
    Ok(Some(Envelope::parse(stored.record.envelope.as_bytes(), &label(name))?))
}

/// Forgets the envelope under a name.
///
/// # Errors
///
/// What the catalog says.
pub(super) fn remove(catalog: &dyn Catalog, name: &str) -> Result<()> {
    let records = Records::<KeyRecord>::of(catalog);
    match records.load(name)? {
        None => Ok(()),
        Some(stored) => Ok(records.remove(&stored)?),
    }
}

/// Returns what the record of a volume's key is called, which is what OSC calls its Secret.
pub(super) fn of_volume(id: &VolumeId) -> String {
    format!("onmetal-csi-luks-{id}")
}

/// Returns what the record of a snapshot's key is called.
pub(super) fn of_snapshot(id: &SnapshotId) -> String {
    format!("snapshot-luks-{id}")
}

fn label(name: &str) -> String {
    format!("the envelope {name} in the catalog")
}
