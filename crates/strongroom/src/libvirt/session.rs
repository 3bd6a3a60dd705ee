//! Secrets and volumes in the catalog, while nobody else writes there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strongroom_crypto::{DataKey, Passphrase};
use strongroom_model::dialect::libvirt::{Secret, SecretName, SecretUsage};
use zeroize::Zeroizing;

use super::records::{SecretRecord, VolumeRecord};
use super::{LibvirtProblem, SecretValues};
use crate::audit::{Act, Audit};
use crate::catalog::{Catalog, MemoryCatalog, Record, Records, Stored};
use crate::sealing::Sealer;
use crate::{Error, Result, hexadecimal};

/// A data directory for a moment.
pub(super) struct Session<'a> {
    pub(super) catalog: &'a dyn Catalog,
    /// Where secrets are kept that are written to no medium, if anywhere.
    pub(super) memory: Option<&'a MemoryCatalog>,
    pub(super) sealer: &'a Sealer,
    pub(super) audit: &'a Audit,
    pub(super) actor: &'a str,
    /// Where values come from, if not from here.
    pub(super) values: Option<&'a dyn SecretValues>,
}

/// A secret whose value is there.
pub(super) struct Opened {
    pub(super) uuid: String,
    pub(super) value: Passphrase,
}

impl Session<'_> {
    /// Records an act before it is done.
    pub(super) fn record(&self, verb: &str, subject: &str, detail: &str) -> Result<()> {
        self.audit.record(&Act {
            actor: self.actor.to_owned(),
            verb: verb.to_owned(),
            subject: subject.to_owned(),
            detail: detail.to_owned(),
        })
    }

    /// Returns every secret, those in memory last.
    pub(super) fn secrets(&self) -> Result<Vec<Stored<SecretRecord>>> {
        let mut found = all(self.catalog)?;
        if let Some(memory) = self.memory {
            found.extend(all(memory)?);
        }
        Ok(found)
    }

    /// Returns a secret, `None` when there is none of that name.
    pub(super) fn find(&self, name: &SecretName) -> Result<Option<Stored<SecretRecord>>> {
        for stored in self.secrets()? {
            if stored.record.is_named(name) {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    /// Returns a secret.
    pub(super) fn get(&self, name: &SecretName) -> Result<Stored<SecretRecord>> {
        let missing = || Error::libvirt(LibvirtProblem::NoSecret { name: name.clone() });
        self.find(name)?.ok_or_else(missing)
    }

    /// Returns the catalog in which a secret is kept.
    pub(super) fn place_of(&self, secret: &Secret) -> Result<&dyn Catalog> {
        match (secret.ephemeral, self.memory) {
            (false, _) => Ok(self.catalog),
            (true, Some(memory)) => Ok(memory),
            (true, None) => Err(Error::libvirt(LibvirtProblem::Ephemeral)),
        }
    }

    /// Seals a value and keeps it.
    pub(super) fn set_value(
        &self,
        mut stored: Stored<SecretRecord>,
        value: &Passphrase,
    ) -> Result<()> {
        let uuid = stored.record.uuid.clone();
        self.record("set-value", &subject(&uuid), "")?;
        let catalog = self.place_of(&stored.record.secret()?)?;
        stored.record.sealed = Some(self.sealer.seal(&place(&uuid), value.expose_bytes())?);
        stored.record.generated_for = None;
        Records::of(catalog).replace(stored)?;
        Ok(())
    }

    /// Returns the value of a secret that opens a volume, or will.
    pub(super) fn open(&self, name: &SecretName, volume: &str) -> Result<Opened> {
        if let Some(values) = self.values {
            let (uuid, value) = values.value(name)?;
            self.record("open-key", &subject(&uuid), &format!("of libvirt, for volume {volume}"))?;
            return Ok(Opened { uuid, value });
        }
        let SecretRecord { uuid, sealed, .. } = self.usable(name)?.record;
        let no_value = || Error::libvirt(LibvirtProblem::NoValue { uuid: uuid.clone() });
        let sealed = sealed.ok_or_else(no_value)?;
        self.record("open-key", &subject(&uuid), &format!("for volume {volume}"))?;
        let value = self.unseal(&uuid, &sealed)?;
        Ok(Opened { uuid, value })
    }

    /// Returns a secret that may be used for volumes.
    fn usable(&self, name: &SecretName) -> Result<Stored<SecretRecord>> {
        let stored = self.get(name)?;
        let found = match stored.record.secret()?.usage {
            Some(SecretUsage::Volume(_)) => return Ok(stored),
            Some(other) => format!("for use with {}", super::secrets::described(&other)),
            None => "for no use in particular".to_owned(),
        };
        let uuid = stored.record.uuid;
        Err(Error::libvirt(LibvirtProblem::NotForVolumes { uuid, found }))
    }

    pub(super) fn unseal(&self, uuid: &str, sealed: &str) -> Result<Passphrase> {
        let mut bytes = self.sealer.unseal(&place(uuid), sealed)?;
        Ok(Passphrase::new(std::mem::take(&mut *bytes)))
    }

    /// Makes a secret with a random value for a volume, of which nothing is there yet. The value is text,
    /// since QEMU takes nothing else. It is stored and read back.
    pub(super) fn generate(&self, uuid: Option<&str>, volume: &str) -> Result<Opened> {
        self.generate_for(uuid, volume, volume)
    }

    /// Does the same for a document that names a use.
    pub(super) fn generate_for_usage(&self, usage: &str, volume: &str) -> Result<Opened> {
        self.generate_for(None, usage, volume)
    }

    fn generate_for(&self, uuid: Option<&str>, usage: &str, volume: &str) -> Result<Opened> {
        let uuid = uuid.map_or_else(random_uuid, str::to_owned);
        let secret = Secret {
            ephemeral: false,
            private: false,
            uuid: Some(uuid.clone()),
            description: Some(format!("made for volume {volume}")),
            usage: Some(SecretUsage::Volume(usage.to_owned())),
            unknown: Vec::new(),
            unknown_attributes: Vec::new(),
        };
        self.refuse_taken_usage(&secret)?;
        self.record("generate-key", &subject(&uuid), &format!("for volume {volume}"))?;
        let value = random_text();
        let record = SecretRecord {
            uuid: uuid.clone(),
            document: secret.write(),
            sealed: Some(self.sealer.seal(&place(&uuid), value.expose_bytes())?),
            generated_for: Some(volume.to_owned()),
        };
        let records = Records::<SecretRecord>::of(self.catalog);
        records.insert(record)?;
        // What nobody could read again must not encrypt anything.
        let stored = records.load(&uuid)?.and_then(|stored| stored.record.sealed);
        let read = self.unseal(&uuid, &stored.unwrap_or_default())?;
        if read != value {
            let place = format!("the value of secret {uuid}");
            return Err(Error::Sealed { place, problem: "it is another one than was stored" });
        }
        Ok(Opened { uuid, value: read })
    }

    /// Refuses a second secret for the same use.
    pub(super) fn refuse_taken_usage(&self, secret: &Secret) -> Result<()> {
        let Some(usage) = &secret.usage else { return Ok(()) };
        for stored in self.secrets()? {
            // One that cannot be read is for nothing.
            let Ok(other) = stored.record.secret() else { continue };
            if other.usage.as_ref() == Some(usage) && other.uuid != secret.uuid {
                let uuid = stored.record.uuid;
                let usage = super::secrets::described(usage);
                return Err(Error::libvirt(LibvirtProblem::UsageTaken { uuid, usage }));
            }
        }
        Ok(())
    }

    /// Returns the volumes that a secret opens, by their paths.
    pub(super) fn opened_by(&self, secret: &SecretRecord) -> Result<Vec<String>> {
        let mut users = Vec::new();
        for stored in all::<VolumeRecord>(self.catalog)? {
            if !stored.record.wiped && stored.record.needs(secret) {
                users.push(stored.record.path);
            }
        }
        Ok(users)
    }

    /// Returns what is known of a volume, whether its file is there or not.
    pub(super) fn volume(&self, path: &str) -> Result<Option<Stored<VolumeRecord>>> {
        Ok(Records::of(self.catalog).load(path)?)
    }

    /// Keeps a volume in place of what is known of that path.
    pub(super) fn put_volume(&self, mut record: VolumeRecord) -> Result<()> {
        // What cannot be read again is not kept.
        record.volume()?;
        record.openers = self.openers(&record)?;
        let records = Records::of(self.catalog);
        match records.load(&record.path)? {
            Some(Stored { version, .. }) => records.replace(Stored { version, record })?,
            None => records.insert(record)?,
        };
        Ok(())
    }

    /// Returns the UUIDs of the secrets that a document names, as far as they are kept here.
    fn openers(&self, record: &VolumeRecord) -> Result<Option<Vec<String>>> {
        let mut openers = record.openers.clone().unwrap_or_default();
        for name in record.secrets()? {
            let uuid = match (name, self.values) {
                (SecretName::Uuid(uuid), _) => Some(uuid),
                (name, None) => self.find(&name)?.map(|stored| stored.record.uuid),
                // It is a secret of the daemon's.
                (SecretName::Usage(_), Some(_)) => None,
            };
            openers.extend(uuid.filter(|uuid| !openers.contains(uuid)));
        }
        Ok(Some(openers))
    }

    /// Takes out what is known of a volume.
    pub(super) fn remove_volume(&self, path: &str) -> Result<()> {
        let records = Records::<VolumeRecord>::of(self.catalog);
        if let Some(stored) = records.load(path)? {
            records.remove(&stored)?;
        }
        Ok(())
    }

    /// Takes out a secret.
    pub(super) fn remove_secret(&self, stored: &Stored<SecretRecord>) -> Result<()> {
        let is_in_memory = stored.record.secret().is_ok_and(|secret| secret.ephemeral);
        let catalog = self.memory.filter(|_| is_in_memory).map_or(self.catalog, |memory| memory);
        Ok(Records::of(catalog).remove(stored)?)
    }
}

/// Returns every record of a kind.
pub(super) fn all<T: Record>(catalog: &dyn Catalog) -> Result<Vec<Stored<T>>> {
    let records = Records::<T>::of(catalog);
    let mut found: Vec<Stored<T>> = Vec::new();
    loop {
        let last = found.last().map(|stored| stored.record.id().to_owned());
        let page = records.list(last.as_deref(), PAGE)?;
        let is_last = page.len() < PAGE;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

/// Returns what the audit log calls a secret.
pub(super) fn subject(uuid: &str) -> String {
    format!("libvirt/secrets {uuid}")
}

/// Returns a new UUID (RFC 9562, version 4).
pub fn random_uuid() -> String {
    let mut bytes = [0; 16];
    rand_core::Rng::fill_bytes(&mut crate::system_rng(), &mut bytes);
    let [.., sixth, _, eighth, _, _, _, _, _, _, _] = &mut bytes;
    *sixth = *sixth & 0x0f | 0x40;
    *eighth = *eighth & 0x3f | 0x80;
    let hex = hexadecimal(&bytes);
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// Returns a value with 256 random bits, as text.
fn random_text() -> Passphrase {
    let key = DataKey::random(GENERATED, &mut crate::system_rng());
    let mut text = Zeroizing::new(vec![0; GENERATED.div_ceil(3) * 4]);
    let len = STANDARD
        .encode_slice(key.expose_bytes(), &mut text)
        .expect("four letters hold three bytes");
    text.truncate(len);
    Passphrase::new(text.to_vec())
}

/// Returns the place for which a value is sealed.
fn place(uuid: &str) -> String {
    format!("libvirt-secrets/{uuid}")
}

/// The bytes of a value that is made here.
const GENERATED: usize = 32;

/// How many records are read at once.
const PAGE: usize = 256;
