//! From a volume in the pool to one that is open: formatted first, when it never was.

use std::path::PathBuf;

use strongroom_attach::{EncryptedContents, OpenedVolume};
use strongroom_crypto::{CostPolicy, VolumeKey};
use strongroom_disk::{Access, Disk, FormatPermit, Raw, Unfinished};
use strongroom_luks::{FormatOptions, Formatted, Header};
use strongroom_model::EncryptionRequest;

use super::ledger::{Grant, Ledger, Verdict, digest_of, item};
use super::{FormatState, Volume, VolumeEncryption, VolumeOpener, VolumeProblem, key_record};
use crate::catalog::{Catalog, Stored};
use crate::encryption::format_options;
use crate::managed_key::ProvedDataKey;
use crate::staged::Staged;
use crate::{Device, Error, ErrorKind, ManagedKey, Opener, Result, system_rng};

/// An encrypted volume that is open.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) stored: Stored<Volume>,
    pub(crate) volume: OpenedVolume,
    /// What is left to be done before anybody may use it, when it is new.
    pub(crate) forming: Option<Forming>,
}

/// A volume that is being formatted: it has a header without a magic, and nothing in it yet.
#[derive(Debug)]
pub(crate) struct Forming {
    disk: Unfinished<Raw>,
    staged: Staged,
    digest: Option<String>,
    uuid: String,
    /// The right to fill it.
    pub(crate) contents: FormatPermit,
}

/// Opens an encrypted volume, on the disk that `open_disk` opens. The caller holds its lock.
///
/// # Errors
///
/// What the ledger, the key or the KMS say.
pub(crate) fn open(
    ledger: &Ledger<'_>,
    stored: Stored<Volume>,
    opener: Option<VolumeOpener<'_>>,
    policy: &CostPolicy,
) -> Result<Opening> {
    let opener = check_opener(&stored.record, opener)?;
    let item = item(&stored.record);
    let backing = ledger.pool.path(&item)?;
    let disk = ledger.pool.open(&item, Access::ReadWrite)?;
    let disk = disk.with_label(format!("volume {}", stored.record.id));
    let mut options = options(opener, policy)?;
    let new_uuid = options.settle_uuid(&mut system_rng()).map_err(Error::luks(disk.label()))?;
    match ledger.encrypted(stored, &disk, &new_uuid)? {
        (stored, Verdict::Format(grant)) => {
            options.uuid = Some(grant.uuid.clone());
            let formed = format(ledger.catalog, &stored.record, opener, &mut options, policy)?;
            Forming::begin(disk, formed, grant)?.opening(stored, backing)
        }
        (stored, Verdict::Open { header, unrecorded }) => {
            let header = *header.expect("an encrypted volume that was formatted has a header");
            let device = Device::on(disk);
            let key = unlock(ledger.catalog, &stored.record, &device, &header, opener, policy)?;
            let stored = match unrecorded {
                Some(FormatState::Formatted { uuid, digest }) => {
                    ledger.finished(stored, &uuid, digest)?
                }
                _ => stored,
            };
            let len = device.header_disk().len();
            let volume = opened(&stored.record, backing, &header, key, len)?;
            Ok(Opening { stored, volume, forming: None })
        }
    }
}

impl Forming {
    /// Writes the header of a new volume but for its magic.
    fn begin(disk: Raw, formed: Formatted, grant: Grant) -> Result<Self> {
        let digest = digest_of(&formed.header);
        let disk = Unfinished::new(disk)?;
        let staged = Staged::write(&disk, formed, grant.header)?;
        Ok(Self { disk, staged, digest, uuid: grant.uuid, contents: grant.contents })
    }

    fn opening(self, stored: Stored<Volume>, backing: PathBuf) -> Result<Opening> {
        let key = VolumeKey::new(self.staged.key.expose_bytes().to_vec());
        let volume = opened(&stored.record, backing, &self.staged.header, key, self.disk.len())?;
        Ok(Opening { stored, volume, forming: Some(self) })
    }

    /// Finishes the header once what it describes is filled and durable, and records that it is.
    ///
    /// # Errors
    ///
    /// What disk, pool or catalog say.
    pub(crate) fn finish(
        self,
        ledger: &Ledger<'_>,
        stored: Stored<Volume>,
    ) -> Result<Stored<Volume>> {
        self.disk.flush()?;
        self.staged.complete(&self.disk)?;
        self.disk.finish()?;
        // The permit ends with the formatting.
        drop(self.contents);
        ledger.finished(stored, &self.uuid, self.digest)
    }
}

/// Opens a keyslot of a volume's header.
///
/// # Errors
///
/// What the key or the KMS say.
pub(crate) fn unlock(
    catalog: &dyn Catalog,
    volume: &Volume,
    device: &Device<Raw>,
    header: &Header,
    opener: VolumeOpener<'_>,
    policy: &CostPolicy,
) -> Result<VolumeKey> {
    match opener {
        VolumeOpener::Passphrase { passphrase, .. } => {
            Ok(device.unlock(header, passphrase, None, policy)?.key)
        }
        VolumeOpener::Kms(provider) => {
            let in_header = device.unlock(header, Opener::kms(provider), None, policy);
            let Err(error) = in_header else { return Ok(in_header?.key) };
            if error.kind() == ErrorKind::KmsUnavailable {
                return Err(error);
            }
            let Some(envelope) = key_record::load(catalog, &key_record::of_volume(&volume.id))?
            else {
                return Err(error);
            };
            let managed = Opener::Kms(ManagedKey { provider, envelope: Some(&envelope) });
            match device.unlock(header, managed, None, policy) {
                Ok(unlocked) => Ok(unlocked.key),
                // The header's own envelope is the one that people know.
                Err(_) => Err(error),
            }
        }
    }
}

/// Checks that what was given can be what opens a volume.
///
/// # Errors
///
/// [`VolumeProblem::NoKey`] and [`VolumeProblem::OtherKey`].
pub(crate) fn check_opener<'a>(
    volume: &Volume,
    opener: Option<VolumeOpener<'a>>,
) -> Result<VolumeOpener<'a>> {
    let problem = match (&volume.encryption, opener) {
        (VolumeEncryption::Passphrase, Some(opener @ VolumeOpener::Passphrase { .. }))
        | (VolumeEncryption::Kms(_), Some(opener @ VolumeOpener::Kms(_))) => return Ok(opener),
        (VolumeEncryption::Passphrase, None) => VolumeProblem::NoKey { missing: "passphrase" },
        (VolumeEncryption::Kms(_), None) => {
            VolumeProblem::NoKey { missing: "key management system" }
        }
        (VolumeEncryption::Passphrase, Some(_)) => VolumeProblem::OtherKey {
            is: "encrypted with a passphrase",
            given: "a key management system",
        },
        (VolumeEncryption::Kms(_), Some(_)) => VolumeProblem::OtherKey {
            is: "encrypted with a key that a key management system wraps",
            given: "a passphrase",
        },
        (VolumeEncryption::None, _) => {
            VolumeProblem::OtherKey { is: "not encrypted", given: "a key" }
        }
    };
    Err(Error::volume(&volume.id, problem))
}

/// Returns how a new volume is formatted.
fn options(opener: VolumeOpener<'_>, policy: &CostPolicy) -> Result<FormatOptions> {
    let request = EncryptionRequest::default();
    match opener {
        VolumeOpener::Passphrase { settings: Some(settings), .. } => {
            format_options(&request.merged_with(settings), policy)
        }
        VolumeOpener::Passphrase { settings: None, .. } => format_options(&request, policy),
        VolumeOpener::Kms(_) => format_options(&crate::encryption::managed(&request)?, policy),
    }
}

/// Makes the header of a new volume. The envelope of a data key is stored, read back and unwrapped
/// before; nothing is written to the volume.
fn format(
    catalog: &dyn Catalog,
    volume: &Volume,
    opener: VolumeOpener<'_>,
    options: &mut FormatOptions,
    policy: &CostPolicy,
) -> Result<Formatted> {
    let label = format!("volume {}", volume.id);
    match opener {
        VolumeOpener::Passphrase { passphrase, .. } => {
            Staged::format(options, &label, passphrase, policy)
        }
        VolumeOpener::Kms(provider) => {
            let name = key_record::of_volume(&volume.id);
            let store = |envelope: &_| key_record::store(catalog, &name, envelope);
            let key = ProvedDataKey::for_header(provider, options, &label, store)?;
            key.format(options, &label)
        }
    }
}

fn opened(
    volume: &Volume,
    backing: PathBuf,
    header: &Header,
    key: VolumeKey,
    device_len: u64,
) -> Result<OpenedVolume> {
    let label = format!("volume {}", volume.id);
    let payload = header.payload(device_len).map_err(Error::luks(&label))?;
    let (version, uuid) = (header.version(), header.uuid().to_owned());
    let encrypted = Some(EncryptedContents { version, uuid, payload, key });
    Ok(OpenedVolume { name: volume.id.to_string(), backing, encrypted })
}
