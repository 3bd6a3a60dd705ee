use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::*;
use crate::catalog::MemoryCatalog;

/// A catalog that breaks one promise, to prove that the suite notices.
#[derive(Debug, Clone)]
struct Broken {
    catalog: Arc<MemoryCatalog>,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    CountsFromZero,
    ForgetsOnReopening,
    IgnoresCase,
    IgnoresVersions,
    InsertsOver,
    LimitsNothing,
    ListsBackwards,
    ListsWhatComesBefore,
    LooksThenReplaces,
    LooksThenInserts,
    MixesKinds,
    RemovesAnyVersion,
    TrimsTexts,
}

impl Broken {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn kind(&self, kind: Kind) -> Kind {
        if self.has(Fault::MixesKinds) { Kind::Job } else { kind }
    }

    fn version(&self, kind: Kind, id: &str) -> Option<u64> {
        self.catalog.load(kind, id).unwrap().map(|found| found.version)
    }

    fn id(&self, id: &str) -> String {
        if self.has(Fault::IgnoresCase) { id.to_lowercase() } else { id.to_owned() }
    }
}

fn dawdle() {
    std::thread::sleep(std::time::Duration::from_millis(2));
}

impl Catalog for Broken {
    fn load(&self, kind: Kind, id: &str) -> Result<Option<Document>> {
        let mut found = self.catalog.load(self.kind(kind), &self.id(id))?;
        if let Some(found) = &mut found {
            found.version -= u64::from(self.has(Fault::CountsFromZero));
        }
        Ok(found)
    }

    fn list(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Vec<Document>> {
        let limit = if self.has(Fault::LimitsNothing) { usize::MAX } else { limit };
        let after = after.filter(|_| !self.has(Fault::ListsWhatComesBefore));
        let mut found = self.catalog.list(self.kind(kind), after, limit)?;
        if self.has(Fault::ListsBackwards) {
            found.reverse();
        }
        Ok(found)
    }

    fn insert(&self, kind: Kind, id: &str, json: &str) -> Result<()> {
        let (kind, id) = (self.kind(kind), &self.id(id));
        let json = if self.has(Fault::TrimsTexts) { json.trim() } else { json };
        match (self.fault, self.version(kind, id)) {
            (Fault::InsertsOver, Some(version)) => self.catalog.replace(kind, id, version, json),
            (Fault::LooksThenInserts, None) => {
                dawdle();
                let _ = self.catalog.insert(kind, id, json);
                Ok(())
            }
            _ => self.catalog.insert(kind, id, json),
        }
    }

    fn replace(&self, kind: Kind, id: &str, version: u64, json: &str) -> Result<()> {
        let (kind, id) = (self.kind(kind), &self.id(id));
        match (self.fault, self.version(kind, id)) {
            (Fault::IgnoresVersions, Some(found)) => self.catalog.replace(kind, id, found, json),
            (Fault::LooksThenReplaces, Some(found)) if found == version => {
                dawdle();
                let now = self.version(kind, id).unwrap_or(version);
                self.catalog.replace(kind, id, now, json)
            }
            _ => self.catalog.replace(kind, id, version, json),
        }
    }

    fn remove(&self, kind: Kind, id: &str, version: u64) -> Result<()> {
        let (kind, id) = (self.kind(kind), &self.id(id));
        match (self.fault, self.version(kind, id)) {
            (Fault::RemovesAnyVersion, Some(found)) => self.catalog.remove(kind, id, found),
            _ => self.catalog.remove(kind, id, version),
        }
    }
}

fn passes(fault: Fault) -> bool {
    let kept = Arc::new(MemoryCatalog::new());
    let open = || {
        let catalog = match fault {
            Fault::ForgetsOnReopening => Arc::default(),
            _ => Arc::clone(&kept),
        };
        Box::new(Broken { catalog, fault }) as Box<dyn Catalog>
    };
    catch_unwind(AssertUnwindSafe(|| run(&open))).is_ok()
}

#[test]
fn a_catalog_in_memory_keeps_every_promise() {
    let catalog = Arc::new(MemoryCatalog::new());
    run(&|| Box::new(Arc::clone(&catalog)));
}

#[test]
fn the_suite_notices_every_broken_promise() {
    assert!(passes(Fault::None));
    for fault in [
        Fault::CountsFromZero,
        Fault::ForgetsOnReopening,
        Fault::IgnoresCase,
        Fault::IgnoresVersions,
        Fault::InsertsOver,
        Fault::LimitsNothing,
        Fault::ListsBackwards,
        Fault::ListsWhatComesBefore,
        Fault::LooksThenReplaces,
        Fault::LooksThenInserts,
        Fault::MixesKinds,
        Fault::RemovesAnyVersion,
        Fault::TrimsTexts,
    ] {
        assert!(!passes(fault), "the suite does not notice a catalog that {fault:?}");
    }
}
