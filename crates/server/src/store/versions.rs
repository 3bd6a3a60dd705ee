//! The count of changes, which never goes back.

use serde::{Deserialize, Serialize};
use strongroom::catalog::{Catalog, Kind, Record, Records, Stored};

use crate::Result;

/// The count of changes. A block of versions is reserved in the catalog before the first one of it is
/// used, so that a crash leaves a gap and never a version twice.
pub(super) struct Versions {
    newest: u64,
    reserved: Stored<Reserved>,
}

/// Up to which version anything may have been used.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reserved {
    versions: u64,
}

impl Versions {
    /// Goes on where a catalog stands, of which the newest document has this version.
    pub(super) fn open(catalog: &dyn Catalog, newest: u64) -> Result<Self> {
        let records = Records::<Reserved>::of(catalog);
        let reserved = match records.load(ID).map_err(strongroom::Error::from)? {
            Some(reserved) => reserved,
            None => records
                .insert(Reserved { versions: newest.max(FIRST) })
                .map_err(strongroom::Error::from)?,
        };
        let newest = newest.max(reserved.record.versions);
        Ok(Self { newest, reserved })
    }

    /// Returns the newest version that is used.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Returns a version that was never used.
    pub(super) fn next(&mut self, catalog: &dyn Catalog) -> Result<u64> {
        if self.newest >= self.reserved.record.versions {
            let mut more = self.reserved.clone();
            more.record.versions = self.newest + BLOCK;
            let records = Records::<Reserved>::of(catalog);
            self.reserved = records.replace(more).map_err(strongroom::Error::from)?;
        }
        self.newest += 1;
        Ok(self.newest)
    }
}

impl Record for Reserved {
    const KIND: Kind = Kind::Setting;

    fn id(&self) -> &str {
        ID
    }
}

/// The identifier in the catalog.
const ID: &str = "versions";

/// Where a new store begins: 0 has a meaning of its own in Kubernetes' API.
const FIRST: u64 = 1;

/// Versions that are reserved at once.
const BLOCK: u64 = 4096;
