//! LUKS inside of an image (specification: "Full disk encryption header pointer").
//!
//! The image holds a LUKS1 header with its keyslots. Data is encrypted in sectors of 512 bytes
//! whose number is their place in the *file*, so that a cluster that moves is encrypted anew.

use std::sync::{MutexGuard, PoisonError};

use strongroom_crypto::{
    CostBudget, CostPolicy, IvUnit, Passphrase, SectorCipher, SectorSize, VolumeKey,
};
use strongroom_luks::{Header, luks1};

use super::compression::Decompressed;
use super::metadata::invalid;
use super::{ImageEncryption, Qcow2};
use crate::unlock::volume_key;
use crate::{Disk, Error, ErrorKind, Operation, Resizable, Result, Slice};

impl<D: Resizable> Qcow2<D> {
    /// Returns the part of the file with the LUKS header and its keyslots as a disk of its own:
    /// offsets in that header count from its start. `None` when the image is not encrypted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when it lies past the end of the file.
    pub fn luks_area(&self) -> Result<Option<Slice<&D>>> {
        let Some((offset, length)) = self.header.luks_area else { return Ok(None) };
        match offset.checked_add(length) {
            Some(end) if end <= self.file.len() => Slice::new(&self.file, offset..end).map(Some),
            _ => Err(invalid(&self.file, "its LUKS header lies past the end of the file")),
        }
    }

    /// Reads the LUKS header.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when there is none that can be used; the source says why.
    pub fn luks_header(&self) -> Result<luks1::Header> {
        let area = self.luks_area()?.ok_or_else(|| self.not_encrypted())?;
        let mut head = vec![0; area.len().min(HEAD) as usize];
        area.read_at(&mut head, 0)?;
        luks1::Header::parse(&head, area.len()).map_err(|source| self.luks_failed(source))
    }

    /// Opens a keyslot and gives the image its key. `policy` bounds the cost of each keyslot, its
    /// [`unlock_budget`](CostPolicy::unlock_budget) that of all together.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Locked`] when the passphrase opens no keyslot; [`ErrorKind::Invalid`] when the
    /// header cannot be used.
    pub fn unlock(&mut self, passphrase: &Passphrase, policy: &CostPolicy) -> Result<()> {
        self.unlock_with_any(&[passphrase], policy, &mut policy.unlock_budget())
    }

    /// Opens a keyslot with whichever passphrase fits, and gives the image its key. All tries
    /// together cost at most what is left of `budget`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Locked`] when none opens a keyslot; [`ErrorKind::Invalid`] when the header
    /// cannot be used.
    pub fn unlock_with_any(
        &mut self,
        passphrases: &[&Passphrase],
        policy: &CostPolicy,
        budget: &mut CostBudget,
    ) -> Result<()> {
        let header = Header::Luks1(self.luks_header()?);
        let area = self.luks_area()?.ok_or_else(|| self.not_encrypted())?;
        let key = volume_key(&area, &header, passphrases, policy, budget)?;
        self.unlock_with_key(&key)
    }

    /// Gives the image the volume key that its LUKS header is for.
    ///
    /// # Errors
    ///
    /// When the key does not fit the header's cipher. Whether it is the right one is not checked.
    pub fn unlock_with_key(&mut self, key: &VolumeKey) -> Result<()> {
        let header = self.luks_header()?;
        let encryption = header.encryption().map_err(|source| self.luks_failed(source))?;
        let cipher = SectorCipher::new(encryption, key, SectorSize::B512, IvUnit::Bytes512)
            .map_err(|source| {
                Error::new(ErrorKind::Invalid, Operation::Open, self.label()).with_source(source)
            })?;
        self.set_cipher(cipher)
    }

    /// Gives the image the cipher for its data, before its LUKS header is written.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] unless the image is encrypted, in sectors of 512 bytes.
    pub fn set_cipher(&mut self, cipher: SectorCipher) -> Result<()> {
        if !self.is_encrypted() {
            return Err(self.not_encrypted());
        }
        if cipher.sector_size() != SectorSize::B512 {
            return Err(Error::new(ErrorKind::Unsupported, Operation::Open, self.label())
                .because("images are encrypted in sectors of 512 bytes"));
        }
        self.cipher = Some(cipher);
        Ok(())
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.header.encryption != ImageEncryption::None
    }

    pub(super) fn cipher(&self, operation: Operation) -> Result<&SectorCipher> {
        self.cipher.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Locked, operation, self.label())
                .because("it is encrypted, and no keyslot was opened")
        })
    }

    pub(super) fn decompressed_cache(&self) -> MutexGuard<'_, Decompressed> {
        self.decompressed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_encrypted(&self) -> Error {
        Error::new(ErrorKind::Unsupported, Operation::Open, self.label())
            .because("it is not encrypted")
    }

    fn luks_failed(&self, source: strongroom_luks::Error) -> Error {
        Error::new(ErrorKind::Invalid, Operation::Open, self.label()).with_source(source)
    }
}

/// The bytes that hold a LUKS1 header, keyslots' areas apart.
const HEAD: u64 = 4096;
