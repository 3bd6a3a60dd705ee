//! Secrets: defined, given a value, listed, taken away (libvirt.org/formatsecret.html).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strongroom_crypto::Passphrase;
use strongroom_model::dialect::libvirt::{Secret, SecretName, SecretUsage};
use zeroize::Zeroizing;

use super::records::SecretRecord;
use super::session::{Session, all, random_uuid, subject};
use super::{Libvirt, LibvirtProblem, Place};
use crate::catalog::{Records, Stored};
use crate::{Error, Result};

/// A secret, but for its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEntry {
    /// Its UUID.
    pub uuid: String,
    /// The document.
    pub secret: Secret,
    /// Whether it has a value.
    pub has_value: bool,
    /// The volume for which its value was made here.
    pub generated_for: Option<String>,
}

/// What somebody should know about a value that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueNote {
    /// It is empty, so that everybody can open what is encrypted with it.
    Empty,
    /// It is no text, or has a zero byte in it: QEMU does not take it.
    NotText,
    /// It ends as lines do, and the newline counts.
    EndsWithNewline,
}

/// Whether something is done though somebody needs what goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It is refused then.
    No,
    /// It is done.
    Yes,
}

impl Libvirt {
    /// Defines a secret, or changes what is defined of it; its value stays. Returns its UUID, which is made
    /// where the document has none.
    ///
    /// # Errors
    ///
    /// When it is defined for another use, another one for the same, or was private;
    /// [`LibvirtProblem::Ephemeral`] where nothing lasts in memory. When its value is needed and would from
    /// now on be in memory alone, unless `force` says that it may be lost.
    pub fn define_secret(&self, secret: &Secret, force: Force) -> Result<String> {
        if let (true, Place::Directory(_)) = (secret.ephemeral, &self.place) {
            return Err(Error::libvirt(LibvirtProblem::Ephemeral));
        }
        self.session(|session| define(session, secret, force))
    }

    /// Gives a secret a value, in place of the one that it has. Returns what somebody should know of it.
    ///
    /// # Errors
    ///
    /// When there is no such secret; when the value that it has is needed, unless `force` says that it may
    /// be lost: [`LibvirtProblem::SecretInUse`], [`LibvirtProblem::ValueMade`].
    pub fn set_secret_value(
        &self,
        name: &SecretName,
        value: &Passphrase,
        force: Force,
    ) -> Result<Vec<ValueNote>> {
        self.session(|session| {
            let stored = session.get(name)?;
            if force == Force::No {
                refuse_needed(session, &stored.record)?;
            }
            let notes = notes(&stored.record.secret()?, value);
            session.set_value(stored, value)?;
            Ok(notes)
        })
    }

    /// Returns the value of a secret that is not private, to give it to a libvirt daemon.
    ///
    /// # Errors
    ///
    /// When there is no such secret, it has no value, or is private.
    pub fn secret_value(&self, name: &SecretName) -> Result<Passphrase> {
        self.session(|session| {
            let record = session.get(name)?.record;
            let uuid = record.uuid.clone();
            if record.secret()?.private {
                return Err(Error::libvirt(LibvirtProblem::Private { uuid }));
            }
            let no_value = || Error::libvirt(LibvirtProblem::NoValue { uuid: uuid.clone() });
            let sealed = record.sealed.ok_or_else(no_value)?;
            session.record("read-key", &subject(&uuid), "to be written to a file")?;
            session.unseal(&uuid, &sealed)
        })
    }

    /// Returns every secret, in the order of their UUIDs.
    ///
    /// # Errors
    ///
    /// What the catalog says.
    pub fn secrets(&self) -> Result<Vec<SecretEntry>> {
        let mut found = all::<SecretRecord>(&*self.catalog()?)?;
        if let Place::Held(vault) = &self.place {
            found.extend(all(&vault.memory)?);
        }
        found.sort_by(|one, other| one.record.uuid.cmp(&other.record.uuid));
        Ok(found.into_iter().map(entry).collect())
    }

    /// Returns a secret.
    ///
    /// # Errors
    ///
    /// When there is no such secret.
    pub fn secret(&self, name: &SecretName) -> Result<SecretEntry> {
        let found = self.secrets()?.into_iter().find(|entry| match name {
            SecretName::Uuid(uuid) => entry.uuid == *uuid,
            SecretName::Usage(path) => {
                entry.secret.usage == Some(SecretUsage::Volume(path.clone()))
            }
        });
        found.ok_or_else(|| Error::libvirt(LibvirtProblem::NoSecret { name: name.clone() }))
    }

    /// Takes a secret away, with its value.
    ///
    /// # Errors
    ///
    /// [`LibvirtProblem::SecretInUse`] when it opens volumes, unless `force` says that they may be lost.
    pub fn undefine_secret(&self, name: &SecretName, force: Force) -> Result<String> {
        self.session(|session| {
            let stored = session.get(name)?;
            let uuid = stored.record.uuid.clone();
            let volumes = session.opened_by(&stored.record)?;
            if !volumes.is_empty() && force == Force::No {
                return Err(Error::libvirt(LibvirtProblem::SecretInUse { uuid, volumes }));
            }
            let detail = match volumes.is_empty() {
                true => String::new(),
                false => format!("though it opens {}", volumes.join(", ")),
            };
            session.record("undefine", &subject(&uuid), &detail)?;
            session.remove_secret(&stored)?;
            Ok(uuid)
        })
    }
}

/// Reads a value from base64, in which lines may be broken.
///
/// # Errors
///
/// When it is no base64. What it is stands in no text.
pub fn value_of_base64(text: &[u8]) -> Result<Passphrase> {
    let text: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
    let refused = |_| Error::Request { problem: "the value is not base64".to_owned() };
    STANDARD.decode(&*text).map(Passphrase::new).map_err(refused)
}

fn define(session: &Session<'_>, secret: &Secret, force: Force) -> Result<String> {
    let mut secret = secret.clone();
    let uuid = secret.uuid.get_or_insert_with(random_uuid).clone();
    session.refuse_taken_usage(&secret)?;
    let catalog = session.place_of(&secret)?;
    let found = session.find(&SecretName::Uuid(uuid.clone()))?;
    let document = secret.write();
    // What cannot be read again is not kept.
    Secret::read_kept(document.as_bytes())?;
    if let (Some(stored), true, Force::No) = (&found, secret.ephemeral, force)
        && !stored.record.secret()?.ephemeral
    {
        refuse_needed(session, &stored.record)?;
    }
    session.record("define", &subject(&uuid), &use_of(&secret))?;
    let Some(mut stored) = found else {
        let record =
            SecretRecord { uuid: uuid.clone(), document, sealed: None, generated_for: None };
        Records::of(catalog).insert(record)?;
        return Ok(uuid);
    };
    let before = stored.record.secret()?;
    refuse_change(&uuid, &before, &secret)?;
    if before.ephemeral == secret.ephemeral {
        stored.record.document = document;
        Records::of(catalog).replace(stored)?;
        return Ok(uuid);
    }
    // It moves between medium and memory, with its value.
    let record = SecretRecord { document, ..stored.record.clone() };
    Records::of(catalog).insert(record)?;
    Records::of(session.place_of(&before)?).remove(&stored)?;
    Ok(uuid)
}

/// Refuses to lose a value that volumes, or copies of them, need.
fn refuse_needed(session: &Session<'_>, record: &SecretRecord) -> Result<()> {
    if record.sealed.is_none() {
        return Ok(());
    }
    let (uuid, volumes) = (record.uuid.clone(), session.opened_by(record)?);
    match &record.generated_for {
        _ if !volumes.is_empty() => {
            Err(Error::libvirt(LibvirtProblem::SecretInUse { uuid, volumes }))
        }
        Some(volume) => {
            let volume = volume.clone();
            Err(Error::libvirt(LibvirtProblem::ValueMade { uuid, volume }))
        }
        None => Ok(()),
    }
}

/// Refuses what a definition cannot become.
fn refuse_change(uuid: &str, before: &Secret, after: &Secret) -> Result<()> {
    let uuid = uuid.to_owned();
    if before.usage != after.usage {
        let defined = use_of(before);
        return Err(Error::libvirt(LibvirtProblem::OtherUsage { uuid, defined }));
    }
    if before.private && !after.private {
        return Err(Error::libvirt(LibvirtProblem::StaysPrivate { uuid }));
    }
    Ok(())
}

fn use_of(secret: &Secret) -> String {
    match &secret.usage {
        None => "for no use in particular".to_owned(),
        Some(usage) => format!("for use with {}", described(usage)),
    }
}

/// Returns a use as people read it.
pub(super) fn described(usage: &SecretUsage) -> String {
    format!("{} {}", usage.kind(), usage.id())
}

fn notes(secret: &Secret, value: &Passphrase) -> Vec<ValueNote> {
    let mut notes = Vec::new();
    let bytes = value.expose_bytes();
    if bytes.is_empty() {
        notes.push(ValueNote::Empty);
    }
    if matches!(secret.usage, Some(SecretUsage::Volume(_))) && why_no_text(value).is_some() {
        notes.push(ValueNote::NotText);
    }
    if bytes.ends_with(b"\n") {
        notes.push(ValueNote::EndsWithNewline);
    }
    notes
}

/// Returns why QEMU does not take a value, `None` when it does.
pub(super) fn why_no_text(value: &Passphrase) -> Option<&'static str> {
    let bytes = value.expose_bytes();
    if bytes.contains(&0) {
        Some("has a zero byte in it")
    } else if std::str::from_utf8(bytes).is_err() {
        Some("is no UTF-8")
    } else {
        None
    }
}

fn entry(stored: Stored<SecretRecord>) -> SecretEntry {
    // One that cannot be read is shown, too: it can be taken away.
    let secret = stored.record.secret().unwrap_or_else(|error| Secret {
        uuid: Some(stored.record.uuid.clone()),
        description: Some(format!("its document cannot be read: {error}")),
        ..Secret::default()
    });
    let SecretRecord { uuid, sealed, generated_for, .. } = stored.record;
    SecretEntry { uuid, secret, has_value: sealed.is_some(), generated_for }
}
