//! The last entry, as the catalog remembers it.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::catalog::{Catalog, Kind, Record, Records, Stored};

/// The last entry of a log, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Its number; 0 when there is none.
    pub(super) n: u64,
    /// Its hash, in hexadecimal.
    pub(super) hash: String,
}

/// What the catalog remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    id: String,
    n: u64,
    hash: String,
}

impl Head {
    /// Returns the head of a log without entries.
    pub(super) fn of_nothing() -> Self {
        Self { n: 0, hash: "0".repeat(64) }
    }

    /// Returns what a catalog remembers, and of which version that is: 0 when it is not there yet.
    pub(super) fn load(catalog: &dyn Catalog) -> Result<Stored<Remembered>> {
        let found = Records::<Remembered>::of(catalog).load(SETTING)?;
        let none = || Stored { version: 0, record: Self::of_nothing().remembered() };
        Ok(found.unwrap_or_else(none))
    }

    /// Lets a catalog remember this one instead. Returns its version.
    pub(super) fn save(&self, catalog: &dyn Catalog, version: u64) -> Result<u64> {
        let records = Records::<Remembered>::of(catalog);
        let record = self.remembered();
        let stored = match version {
            0 => records.insert(record)?,
            version => records.replace(Stored { version, record })?,
        };
        Ok(stored.version)
    }

    fn remembered(&self) -> Remembered {
        Remembered { id: SETTING.to_owned(), n: self.n, hash: self.hash.clone() }
    }
}

impl Record for Remembered {
    const KIND: Kind = Kind::Setting;

    fn id(&self) -> &str {
        &self.id
    }
}

impl Stored<Remembered> {
    /// Returns the head.
    pub(super) fn head(&self) -> Head {
        Head { n: self.record.n, hash: self.record.hash.clone() }
    }
}

/// The setting in the catalog.
const SETTING: &str = "audit";
