//! Pools that break one promise each, to prove that the suite notices.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    CallsNewWhatWasWritten,
    CopiesWithoutMark,
    CopiesOver,
    CreatesDense,
    DeletesNothing,
    FillsHoles,
    ForgetsToGrow,
    ListsBackwards,
    LocksNobodyOut,
    MarksTwice,
    NeverStopsCopying,
    ShowsLeftovers,
    ShrinksWhenItGrows,
    SharesNames,
}

#[derive(Debug)]
struct Broken {
    pool: Directory,
    fault: Fault,
}

impl Broken {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn item(&self, item: &Item) -> Item {
        if self.has(Fault::SharesNames) { volume(item.name()) } else { item.clone() }
    }
}

impl Pool for Broken {
    fn label(&self) -> &str {
        self.pool.label()
    }

    fn create(&self, item: &Item, len: u64) -> Result<()> {
        self.pool.create(&self.item(item), len)?;
        if self.has(Fault::CreatesDense) {
            let disk = self.pool.open(item, Access::ReadWrite)?;
            strongroom_disk::Disk::write_at(&disk, &vec![0; len as usize], 0)?;
        }
        Ok(())
    }

    fn entry(&self, item: &Item) -> Result<Option<Entry>> {
        self.pool.entry(&self.item(item))
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let mut entries = self.pool.list()?;
        if self.has(Fault::ListsBackwards) {
            entries.reverse();
        }
        if self.has(Fault::ShowsLeftovers) {
            entries.push(Entry { item: volume("half"), len: 1, allocated: 0 });
        }
        Ok(entries)
    }

    fn path(&self, item: &Item) -> Result<PathBuf> {
        self.pool.path(&self.item(item))
    }

    fn open(&self, item: &Item, access: Access) -> Result<Raw> {
        self.pool.open(&self.item(item), access)
    }

    fn grow(&self, item: &Item, len: u64) -> Result<()> {
        match self.fault {
            Fault::ForgetsToGrow => {
                self.pool.entry(item)?.map(drop).ok_or(Error::NotFound { item: item.clone() })
            }
            Fault::ShrinksWhenItGrows if len < 8192 => {
                Ok(self.pool.open(item, Access::ReadWrite)?.set_len(len)?)
            }
            _ => self.pool.grow(&self.item(item), len),
        }
    }

    fn copy(&self, from: &Item, to: &Item, progress: &dyn CopyProgress) -> Result<()> {
        match self.fault {
            Fault::CopiesWithoutMark => {
                self.pool.copy(from, to, progress)?;
                let mark = self.pool.root().join(to.path_in_pool()).join("format.json");
                let _ = fs::remove_file(mark);
                Ok(())
            }
            Fault::CopiesOver => {
                self.pool.delete(to)?;
                self.pool.copy(from, to, progress)
            }
            Fault::FillsHoles if matches!(to, Item::Snapshot(_)) => {
                self.pool.copy(from, to, progress)?;
                let disk = self.pool.open(to, Access::ReadWrite)?;
                Ok(strongroom_disk::Disk::write_at(&disk, &vec![0; 4 << 20], 8 << 20)?)
            }
            Fault::NeverStopsCopying => self.pool.copy(from, to, &Heedless(progress)),
            _ => self.pool.copy(&self.item(from), &self.item(to), progress),
        }
    }

    fn copies_at_once(&self) -> Result<bool> {
        self.pool.copies_at_once()
    }

    fn delete(&self, item: &Item) -> Result<()> {
        if self.has(Fault::DeletesNothing) { Ok(()) } else { self.pool.delete(&self.item(item)) }
    }

    fn mark_format(&self, item: &Item, mark: &FormatMark) -> Result<()> {
        if self.has(Fault::MarksTwice) {
            let _ = fs::remove_file(self.pool.root().join(item.path_in_pool()).join("format.json"));
        }
        self.pool.mark_format(&self.item(item), mark)
    }

    fn format_mark(&self, item: &Item) -> Result<Option<FormatMark>> {
        self.pool.format_mark(&self.item(item))
    }

    fn is_untouched(&self, item: &Item) -> Result<bool> {
        let untouched = self.pool.is_untouched(&self.item(item))?;
        Ok(untouched || self.has(Fault::CallsNewWhatWasWritten))
    }

    fn try_lock(&self, item: &Item) -> Result<ItemGuard> {
        if self.has(Fault::LocksNobodyOut) {
            return Ok(ItemGuard::new(()));
        }
        self.pool.try_lock(&self.item(item))
    }

    fn space(&self) -> Result<Space> {
        self.pool.space()
    }
}

/// Passes everything on but the wish to stop.
struct Heedless<'a>(&'a dyn CopyProgress);

impl CopyProgress for Heedless<'_> {
    fn copied(&self, done: u64, of: u64) {
        self.0.copied(done, of);
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

trait PathInPool {
    fn path_in_pool(&self) -> String;
}

impl PathInPool for Item {
    fn path_in_pool(&self) -> String {
        match self {
            Self::Volume(id) => format!("volumes/{id}"),
            Self::Snapshot(id) => format!("snapshots/{id}"),
        }
    }
}

fn passes(fault: Fault) -> bool {
    let place = tempfile::tempdir().unwrap();
    let open = || Box::new(Broken { pool: pool_in(&place), fault }) as Box<dyn Pool>;
    catch_unwind(AssertUnwindSafe(|| conformance::run(&open))).is_ok()
}

#[test]
fn the_suite_notices_every_broken_promise() {
    assert!(passes(Fault::None));
    for fault in [
        Fault::CallsNewWhatWasWritten,
        Fault::CopiesWithoutMark,
        Fault::CopiesOver,
        Fault::CreatesDense,
        Fault::DeletesNothing,
        Fault::FillsHoles,
        Fault::ForgetsToGrow,
        Fault::ListsBackwards,
        Fault::LocksNobodyOut,
        Fault::MarksTwice,
        Fault::NeverStopsCopying,
        Fault::ShowsLeftovers,
        Fault::ShrinksWhenItGrows,
        Fault::SharesNames,
    ] {
        assert!(!passes(fault), "the suite does not notice a pool that {fault:?}");
    }
}
