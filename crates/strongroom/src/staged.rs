//! LUKS headers on files that are not whole yet.
//!
//! The header is there from the beginning, since its keyslots hold the key that a later job needs
//! to go on. What makes a reader take it for one is not: the first copy lacks its magic because the
//! file is [`Unfinished`](strongroom_disk::Unfinished), the second one because it is left out here.

use strongroom_crypto::{CostPolicy, Passphrase, VolumeKey};
use strongroom_disk::{Disk, Extents, FormatPermit, Memory};
use strongroom_luks::{FormatOptions, Formatted, Header, head_len};

use crate::device::{self, write_new_header};
use crate::{Error, Opener, Result, derivations, system_rng};

/// A volume whose header is not whole yet.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) header: Header,
    pub(crate) key: VolumeKey,
}

impl Staged {
    /// Formats a new volume. The header is not written anywhere.
    pub(crate) fn format(
        options: &FormatOptions,
        label: &str,
        passphrase: &Passphrase,
        policy: &CostPolicy,
    ) -> Result<Formatted> {
        let _room = derivations::admit(&options.kdf);
        options.format(passphrase, policy, &mut system_rng()).map_err(Error::luks(label))
    }

    /// Writes the header of a new volume, but for what makes it one, and makes it durable: whatever
    /// is encrypted from now on needs it.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub(crate) fn write(
        disk: &dyn Disk,
        formatted: Formatted,
        permit: FormatPermit,
    ) -> Result<Self> {
        // Written whole where nobody sees it, so that not even a moment shows the second magic.
        let memory = Memory::new(formatted.header.backup_len());
        write_new_header(&memory, &formatted, permit)?;
        let Formatted { header, volume_key: key, .. } = formatted;
        if let Some((offset, magic)) = header.second_magic() {
            memory.write_at(&vec![0; magic.len()], offset)?;
        }
        copy(&memory, disk)?;
        disk.flush()?;
        Ok(Self { header, key })
    }

    /// Writes the header of a new volume to a pipe, where it comes first.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub(crate) fn write_through(disk: &dyn Disk, formatted: &Formatted) -> Result<()> {
        let memory = Memory::new(formatted.header.backup_len());
        device::apply(&memory, &formatted.change)?;
        copy(&memory, disk)
    }

    /// Opens the header that an earlier job has written to `disk`, which shows its own first bytes.
    ///
    /// # Errors
    ///
    /// When the passphrase or KMS is not the one with which that job began.
    pub(crate) fn open(disk: &dyn Disk, opener: Opener<'_>, policy: &CostPolicy) -> Result<Self> {
        let header = read(disk)?;
        let key = device::unlock(disk, &header, opener, None, policy)?.key;
        Ok(Self { header, key })
    }

    /// Writes what was left out of the second copy. The volume is one when the first copy has its
    /// magic too, which is up to the disk; but a repair may trust the second copy alone, so the data
    /// must be durable before.
    pub(crate) fn complete(&self, disk: &dyn Disk) -> Result<()> {
        if let Some((offset, magic)) = self.header.second_magic() {
            disk.write_at(magic, offset)?;
        }
        Ok(())
    }
}

/// Reads a header whose second copy is not whole.
fn read(disk: &dyn Disk) -> Result<Header> {
    let mut head = device::read_first(disk, 4096)?;
    while head.len() < head_len(&head) && (head.len() as u64) < disk.len() {
        head = device::read_first(disk, head_len(&head))?;
    }
    let found = Header::parse(&head, disk.len()).map_err(Error::luks(disk.label()))?;
    Ok(found.header)
}

/// Copies what is there, and leaves holes alone.
fn copy(from: &Memory, to: &dyn Disk) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    for extent in Extents::new(from, 0..from.len()) {
        let extent = extent?;
        if extent.kind.reads_as_zeros() {
            continue;
        }
        let mut start = extent.range.start;
        while start < extent.range.end {
            let length = (extent.range.end - start).min(buffer.len() as u64);
            let piece = &mut buffer[..length as usize];
            from.read_at(piece, start)?;
            to.write_at(piece, start)?;
            start += length;
        }
    }
    Ok(())
}
