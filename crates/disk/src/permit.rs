//! The right to format.

/// The right to write a new header over whatever a disk holds: once, since using it up moves it.
///
/// A volume is formatted at most once, so nobody can make a permit at will, copy it or keep it
/// after use. [`Raw::create_new`](crate::Raw::create_new) and
/// [`NewFile::create`](crate::NewFile::create) hand one out, because a file that this process has
/// just created exclusively holds nothing that could be lost. So does
/// [`NewFile::reopen`](crate::NewFile::reopen), because a file that bears our own unfinished marker
/// was created like that and never finished. The only other maker is the ledger that records
/// the format state of every volume.
#[derive(Debug)]
#[must_use = "without its permit a new file can never be formatted"]
pub struct FormatPermit(());

impl FormatPermit {
    /// Returns the permit for a file that was created a moment ago, exclusively or without a name.
    pub(crate) fn for_exclusively_created_file() -> Self {
        Self(())
    }

    /// Returns the permit for a file of ours that still bears the marker of unfinished ones.
    pub(crate) fn for_unfinished_file() -> Self {
        Self(())
    }

    /// Returns the permit for a volume that the ledger has never seen formatted. `tidy` lets nobody but
    /// the ledger call this.
    pub fn granted_by_the_ledger() -> Self {
        Self(())
    }
}
