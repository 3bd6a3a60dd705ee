//! Another key for a volume whose data stays as it is.

use strongroom_disk::Access;
use strongroom_kms::{Binding, KeyProvider};
use strongroom_luks::{Header, NewKeyslot, luks2};
use strongroom_model::VolumeId;

use super::ledger::item;
use super::opening::unlock;
use super::{
    FormatState, Volume, VolumeEncryption, VolumeOpener, VolumeProblem, Volumes, key_record,
};
use crate::catalog::Records;
use crate::encryption::derivation;
use crate::managed_key::{ProvedDataKey, as_text};
use crate::{Device, Error, Opener, Result, envelopes, system_rng};

impl Volumes {
    /// Lets another key open a volume, and no other one: its keyslots are changed, its data stays as it
    /// is. `encryption` says what `to` is.
    ///
    /// # Guarantees
    ///
    /// After a crash at any point `from` or `to` opens the volume, and the same call goes on from there.
    /// Nothing is removed before `to` was proved to open.
    ///
    /// # Errors
    ///
    /// When `from` does not open it; [`VolumeProblem::NotFormatted`] when there is nothing to change yet.
    pub fn rekey(
        &self,
        id: &VolumeId,
        from: VolumeOpener<'_>,
        to: VolumeOpener<'_>,
        encryption: &VolumeEncryption,
    ) -> Result<Volume> {
        let _guard = self.lock(id)?;
        let mut stored = self.load_ready(id)?;
        let FormatState::Formatted { .. } = stored.record.format else {
            return Err(Error::volume(id, VolumeProblem::NotFormatted));
        };
        let wanted = Volume { encryption: encryption.clone(), ..stored.record.clone() };
        super::opening::check_opener(&wanted, Some(to))?;
        let disk = self.pool.open(&item(&stored.record), Access::ReadWrite)?;
        let device = Device::on(disk.with_label(format!("volume {id}")));
        let added = self.add_key(&stored.record, &device, from, to)?;
        stored.record.encryption = encryption.clone();
        stored = Records::of(&*self.catalog).replace(stored)?;
        // What was saved of the header before would let the old key open it again.
        self.remove_header_backup(id)?;
        self.keep_only(&stored.record, &device, added)?;
        self.back_up_header(id)?;
        Ok(stored.record)
    }

    /// Adds a keyslot that `to` opens, and returns its number.
    pub(super) fn add_key(
        &self,
        volume: &Volume,
        device: &Device,
        from: VolumeOpener<'_>,
        to: VolumeOpener<'_>,
    ) -> Result<u32> {
        let header = device.read_header()?.header;
        let key = match unlock(&*self.catalog, volume, device, &header, from, &self.policy) {
            Ok(key) => key,
            // An earlier call may have come as far as removing it.
            Err(error) => return self.open_with(device, &header, to, None).or(Err(error)),
        };
        let id = match to {
            VolumeOpener::Passphrase { passphrase, settings } => device.update(|header| {
                let usual = header.default_keyslot().map_err(Error::luks(device_label(device)))?;
                let kdf = match settings {
                    None => usual.kdf,
                    Some(settings) => {
                        let request = strongroom_model::EncryptionRequest::default();
                        let hash = settings.hash.parse()?;
                        derivation(
                            &request.merged_with(settings),
                            strongroom_luks::Version::Luks2,
                            hash,
                        )?
                    }
                };
                let new = NewKeyslot { kdf: kdf.checked()?, ..usual };
                let (id, _, change) = header
                    .add_keyslot(&key, passphrase, &new, &self.policy, &mut system_rng())
                    .map_err(Error::luks(device_label(device)))?;
                Ok((id, change))
            })?,
            VolumeOpener::Kms(provider) => self.add_data_key(volume, device, &key, provider)?,
        };
        self.open_with(device, &device.read_header()?.header, to, Some(id))
    }

    /// Returns the keyslot that something opens: `keyslot`, or whichever does.
    fn open_with(
        &self,
        device: &Device,
        header: &Header,
        opener: VolumeOpener<'_>,
        keyslot: Option<u32>,
    ) -> Result<u32> {
        let opener = match opener {
            VolumeOpener::Passphrase { passphrase, .. } => Opener::Passphrase(passphrase),
            VolumeOpener::Kms(provider) => Opener::kms(provider),
        };
        Ok(device.unlock(header, opener, keyslot, &self.policy)?.keyslot)
    }

    /// Adds a keyslot for a new data key, with its envelope in the header and in the catalog.
    fn add_data_key(
        &self,
        volume: &Volume,
        device: &Device,
        key: &strongroom_crypto::VolumeKey,
        provider: &dyn KeyProvider,
    ) -> Result<u32> {
        let header = luks2(device)?;
        let binding = Binding::image(&header.binary().uuid);
        let label = device_label(device);
        let made = ProvedDataKey::wrap(provider, &binding, |wrapped| as_text(wrapped, label))?;
        let id = device.update(|header| {
            let Header::Luks2(luks2) = header else { return Err(not_luks2(label)) };
            let usual = header.default_keyslot().map_err(Error::luks(label))?;
            let kdf = strongroom_crypto::Kdf::for_random_key(strongroom_crypto::Hash::Sha256);
            let token = |keyslot: u32| envelopes::token_text(&made.envelope, &[keyslot]);
            let added = luks2
                .add_keyslot_with_token(
                    key,
                    &made.passphrase,
                    &NewKeyslot { kdf, ..usual },
                    token,
                    &self.policy,
                    &mut system_rng(),
                )
                .map_err(Error::luks(label))?;
            Ok((added.keyslot, added.change))
        })?;
        key_record::store(&*self.catalog, &key_record::of_volume(&volume.id), &made.envelope)?;
        Ok(id)
    }

    /// Removes every other keyslot, and the tokens of data keys that open nothing any more.
    pub(super) fn keep_only(&self, volume: &Volume, device: &Device, kept: u32) -> Result<()> {
        let label = device_label(device);
        device.update(|header| {
            let Header::Luks2(header) = header else { return Err(not_luks2(label)) };
            let metadata = header.metadata();
            let keyslots: Vec<u32> =
                metadata.keyslots.keys().copied().filter(|&id| id != kept).collect();
            let ours = |kind: &str| {
                [envelopes::TOKEN_TYPE, envelopes::RECOVERY_TOKEN_TYPE].contains(&kind)
            };
            let of_others = metadata
                .tokens
                .iter()
                .filter(|(_, token)| ours(&token.kind) && !token.keyslots.contains(&kept));
            let tokens: Vec<u32> = of_others.map(|(&id, _)| id).collect();
            let (_, change) = header
                .remove_keyslots_and_tokens(&keyslots, &tokens, &mut system_rng())
                .map_err(Error::luks(label))?;
            Ok(((), change))
        })?;
        if !matches!(volume.encryption, VolumeEncryption::Kms(_)) {
            key_record::remove(&*self.catalog, &key_record::of_volume(&volume.id))?;
        }
        Ok(())
    }
}

fn luks2(device: &Device) -> Result<luks2::Header> {
    match device.read_header()?.header {
        Header::Luks2(header) => Ok(header),
        Header::Luks1(_) => Err(not_luks2(device_label(device))),
    }
}

fn not_luks2(label: &str) -> Error {
    Error::Request { problem: format!("{label} is LUKS1, which has no tokens") }
}

fn device_label(device: &Device) -> &str {
    strongroom_disk::Disk::label(device.header_disk())
}
