//! A file or block device that bears a LUKS header.

use std::path::Path;
use std::time::{Duration, Instant};

use strongroom_crypto::{CostBudget, CostPolicy, Passphrase, VolumeKey};
use strongroom_disk::{Access, Disk, Encrypted, ErrorKind, FormatPermit, LockGuard, LockMode, Raw};
use strongroom_luks::{Change, Formatted, Found, Header, Payload, RepairScope, Step, head_len};

use crate::{Error, Opener, Result, derivations, envelopes, managed_key, system_rng};

/// A device with a LUKS header, and its data where that lies elsewhere.
///
/// # Guarantees
///
/// Headers are read and written under the locks that `cryptsetup` takes. A change is written only
/// if the header is still the one it was made for.
#[derive(Debug)]
pub struct Device<D = Raw> {
    header: D,
    data: Option<Raw>,
}

/// A disk that can bear a LUKS header which is changed in place.
pub trait HeaderDisk: Disk {
    /// Takes the lock that `cryptsetup` takes on the metadata, without waiting; `None` where nobody
    /// else has the disk.
    ///
    /// # Errors
    ///
    /// Of kind busy when another process holds it.
    fn try_lock(&self, mode: LockMode) -> strongroom_disk::Result<Option<LockGuard>>;

    /// Makes the disk longer: the file of a detached header grows with it.
    ///
    /// # Errors
    ///
    /// When its length is fixed.
    fn grow(&self, len: u64) -> strongroom_disk::Result<()>;
}

impl HeaderDisk for Raw {
    fn try_lock(&self, mode: LockMode) -> strongroom_disk::Result<Option<LockGuard>> {
        self.try_lock(mode).map(Some)
    }

    fn grow(&self, len: u64) -> strongroom_disk::Result<()> {
        self.set_len(len)
    }
}

/// What a passphrase or a KMS has opened.
#[derive(Debug)]
pub struct Unlocked {
    /// The keyslot.
    pub keyslot: u32,
    /// Its key: the volume key, unless the keyslot is unbound.
    pub key: VolumeKey,
}

impl Device {
    /// Opens a device; `header` names a detached header.
    ///
    /// # Errors
    ///
    /// When one of them cannot be opened.
    pub fn open(path: &Path, header: Option<&Path>, access: Access) -> Result<Self> {
        Ok(match header {
            None => Self { header: Raw::open(path, access)?, data: None },
            Some(header) => {
                Self { header: Raw::open(header, access)?, data: Some(Raw::open(path, access)?) }
            }
        })
    }

    /// Returns the disk that bears the data.
    pub fn data_disk(&self) -> &Raw {
        self.data.as_ref().unwrap_or(&self.header)
    }

    /// Returns where the data lies.
    ///
    /// # Errors
    ///
    /// When it cannot be opened here.
    pub fn payload(&self, header: &Header) -> Result<Payload> {
        match &self.data {
            None => payload(header, &self.header, None),
            Some(data) => payload(header, data, Some(self.header.label())),
        }
    }

    /// Returns the plaintext of the data.
    ///
    /// # Errors
    ///
    /// When the data or the key do not fit the header.
    pub fn into_plain(self, header: &Header, key: &VolumeKey) -> Result<Encrypted<Raw>> {
        let payload = self.payload(header)?;
        let cipher = payload.cipher(key).map_err(Error::luks(self.header.label()))?;
        let range = payload.offset..payload.offset + payload.length;
        let data = self.data.unwrap_or(self.header);
        Ok(Encrypted::new(data, range, cipher, payload.iv_tweak)?)
    }
}

impl<D: HeaderDisk> Device<D> {
    /// Returns a device that bears header and data on one disk.
    pub fn on(disk: D) -> Self {
        Self { header: disk, data: None }
    }

    /// Returns the disk that bears the header.
    pub fn header_disk(&self) -> &D {
        &self.header
    }

    /// Reads the header. A damaged copy of it is told of, not repaired.
    ///
    /// # Errors
    ///
    /// [`Error::NotEncrypted`] when there is none, [`Error::Luks`] when it cannot be used.
    pub fn read_header(&self) -> Result<Found> {
        let _lock = self.lock(LockMode::Shared)?;
        read_header(&self.header)
    }

    /// Takes the lock that `cryptsetup` takes, too.
    ///
    /// # Errors
    ///
    /// Of kind busy when another process does not let go of it in time.
    pub(crate) fn lock(&self, mode: LockMode) -> Result<Option<LockGuard>> {
        lock(&self.header, mode)
    }

    /// Opens a keyslot: `keyslot`, or whichever opens. `policy` bounds the cost of each keyslot, its
    /// [`unlock_budget`](CostPolicy::unlock_budget) that of all together.
    ///
    /// # Errors
    ///
    /// [`strongroom_luks::Error::WrongPassphrase`] inside [`Error::Luks`] when a passphrase opens
    /// none; for a KMS what it says, [`Error::NoEnvelope`] and [`Error::DataKey`].
    pub fn unlock<'a>(
        &self,
        header: &Header,
        opener: impl Into<Opener<'a>>,
        keyslot: Option<u32>,
        policy: &CostPolicy,
    ) -> Result<Unlocked> {
        unlock(&self.header, header, opener, keyslot, policy)
    }

    /// Changes the header: `prepare` makes a change for the header that it is given, and is asked
    /// again when somebody else was faster. A damaged copy is written anew before the change, and
    /// only once the change is prepared: whoever cannot open the volume changes nothing. Neither does
    /// an empty change.
    ///
    /// # Errors
    ///
    /// What `prepare` says; [`Error::ChangedMeanwhile`] when others keep being faster.
    pub fn update<T>(&self, mut prepare: impl FnMut(&Header) -> Result<(T, Change)>) -> Result<T> {
        for _ in 0..ATTEMPTS {
            let before = self.read_header()?.header;
            let (result, change) = prepare(&before)?;
            if change.is_empty() {
                return Ok(result);
            }
            let _lock = self.lock(LockMode::Exclusive)?;
            let found = read_header(&self.header)?;
            if found.header == before {
                if let Some(recovery) = found.recovery {
                    apply(&self.header, &found.header.recover(&recovery, &mut system_rng()).1)?;
                }
                // The file of a detached header grows with it.
                if before.is_detached() && change.end() > self.header.len() {
                    self.header.grow(change.end())?;
                }
                apply(&self.header, &change)?;
                return Ok(result);
            }
        }
        Err(Error::ChangedMeanwhile { label: self.header.label().to_owned() })
    }

    /// Repairs what a reader refuses. Returns what was done, nothing when nothing is wrong.
    ///
    /// # Errors
    ///
    /// When the damage is beyond repair, or its repair goes further than `scope`.
    pub fn repair(&self, scope: RepairScope) -> Result<Vec<String>> {
        let _lock = self.lock(LockMode::Exclusive)?;
        let head = read_head(&self.header)?;
        let repaired = Header::repair(&head, self.header.len(), scope, &mut system_rng())
            .map_err(Error::luks(self.header.label()))?;
        let Some((_, change, done)) = repaired else { return Ok(Vec::new()) };
        apply(&self.header, &change)?;
        Ok(done)
    }
}

/// Takes the lock that `cryptsetup` takes on the metadata of a disk, with some patience.
pub(crate) fn lock(disk: &impl HeaderDisk, mode: LockMode) -> Result<Option<LockGuard>> {
    let start = Instant::now();
    loop {
        match HeaderDisk::try_lock(disk, mode) {
            Err(error) if error.kind() == ErrorKind::Busy && start.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PAUSE);
            }
            result => return Ok(result?),
        }
    }
}

/// Returns where on `data` the encrypted data of a header lies; `detached` is the label of a header
/// that lies elsewhere.
pub(crate) fn payload(header: &Header, data: &dyn Disk, detached: Option<&str>) -> Result<Payload> {
    let payload = header.payload(data.len()).map_err(Error::luks(data.label()))?;
    let problem = match (detached, payload.offset) {
        (Some(label), offset) if offset != 0 => {
            format!(
                "{label} is not a detached header: its data begins at byte {offset} of its own device"
            )
        }
        (None, 0) => format!(
            "{} is a detached header: name the data, and this file as its header",
            data.label()
        ),
        _ => return Ok(payload),
    };
    Err(Error::Request { problem })
}

/// Opens a keyslot of a header that lies on `disk`: `keyslot`, or whichever opens.
pub(crate) fn unlock<'a>(
    disk: &dyn Disk,
    header: &Header,
    opener: impl Into<Opener<'a>>,
    keyslot: Option<u32>,
    policy: &CostPolicy,
) -> Result<Unlocked> {
    let ids = match keyslot {
        Some(id) => vec![id],
        None => header.keyslots_to_try().map_err(Error::luks(disk.label()))?,
    };
    let mut budget = policy.unlock_budget();
    let mut trial = Trial { disk, header, policy, budget: &mut budget };
    match opener.into() {
        Opener::Passphrase(passphrase) => {
            trial.open(&ids, passphrase).map_err(|error| managed_instead(header, error))
        }
        Opener::Kms(key) => managed_key::unlock(&mut trial, &ids, key),
    }
}

/// A header of which keyslots are tried.
pub(crate) struct Trial<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) header: &'a Header,
    pub(crate) policy: &'a CostPolicy,
    /// What all tries together may cost.
    pub(crate) budget: &'a mut CostBudget,
}

impl Trial<'_> {
    /// Opens one of the keyslots, in this order.
    ///
    /// # Errors
    ///
    /// [`strongroom_luks::Error::WrongPassphrase`] inside [`Error::Luks`] when none opens.
    pub(crate) fn open(&mut self, ids: &[u32], passphrase: &Passphrase) -> Result<Unlocked> {
        let Self { disk, header, policy, budget } = self;
        let luks = Error::luks(disk.label());
        let (mut skipped, mut tried) = (Vec::new(), 0);
        for &id in ids {
            // What cannot be tried, or costs too much by itself, says so itself below.
            let cost = header.keyslot_cost(id).unwrap_or_default();
            if cost <= policy.max_time
                && let Err(error) = budget.spend(cost)
            {
                skipped.push((id, error.into()));
                continue;
            }
            let range = header.keyslot_area(id).map_err(&luks)?;
            let len = usize::try_from(range.end - range.start).expect("areas are at most 128 MiB");
            let mut area = vec![0; len];
            disk.read_at(&mut area, range.start)?;
            let keyslot = header.keyslots().into_iter().find(|keyslot| keyslot.id == id);
            let _room = keyslot.and_then(|keyslot| keyslot.kdf).as_ref().map(derivations::admit);
            match header.open_keyslot(id, &area, passphrase, policy) {
                Ok(key) => return Ok(Unlocked { keyslot: id, key }),
                Err(strongroom_luks::Error::WrongPassphrase { .. }) => tried += 1,
                Err(error) => skipped.push((id, error)),
            }
        }
        // Where no keyslot could even be tried, the passphrase may well be right.
        if tried == 0 && !skipped.is_empty() {
            return Err(luks(skipped.swap_remove(0).1));
        }
        let skipped = skipped.into_iter().map(|(id, error)| (id, error.to_string())).collect();
        Err(luks(strongroom_luks::Error::WrongPassphrase { skipped }))
    }
}

/// Adds to a passphrase that opens nothing that a KMS may.
fn managed_instead(header: &Header, error: Error) -> Error {
    let envelope = match header {
        Header::Luks1(_) => None,
        Header::Luks2(header) => envelopes::each(header, "").find_map(Result::ok),
    };
    match (error, envelope) {
        (
            Error::Luks { label, source: source @ strongroom_luks::Error::WrongPassphrase { .. } },
            Some(held),
        ) => Error::ManagedInstead { label, kms: held.envelope.kind, source },
        (error, _) => error,
    }
}

/// Writes the header of a volume that was just formatted, once its data is durable.
///
/// # Errors
///
/// When the disk fails.
pub fn write_new_header(
    disk: &dyn Disk,
    formatted: &Formatted,
    permit: FormatPermit,
) -> Result<()> {
    // The permit is used up: nobody formats this disk again with it.
    drop(permit);
    apply(disk, &formatted.change)
}

/// Carries a change out.
pub(crate) fn apply(disk: &dyn Disk, change: &Change) -> Result<()> {
    for step in change.steps() {
        match step {
            Step::Write { offset, bytes } => disk.write_at(bytes, *offset)?,
            Step::Flush => disk.flush()?,
        }
    }
    // Each flush costs a round trip to the medium, also the one that has nothing to do.
    if change.steps().last() != Some(&Step::Flush) {
        disk.flush()?;
    }
    Ok(())
}

/// Reads the header of a disk, without locks.
pub(crate) fn read_header(disk: &dyn Disk) -> Result<Found> {
    let head = read_head(disk)?;
    Header::parse(&head, disk.len()).map_err(|error| match error {
        strongroom_luks::Error::NotLuks => Error::NotEncrypted {
            label: disk.label().to_owned(),
            signature: strongroom_luks::other_signature(&head),
        },
        source => Error::Luks { label: disk.label().to_owned(), source },
    })
}

/// Reads as much of the start of a disk as parsing its header needs, at most 8 MiB.
pub(crate) fn read_head(disk: &dyn Disk) -> Result<Vec<u8>> {
    let mut head = read_first(disk, 4096)?;
    loop {
        let more = read_first(disk, head_len(&head))?;
        if more.len() <= head.len() {
            return Ok(head);
        }
        head = more;
    }
}

/// Reads the first `len` bytes of a disk, or all when it has fewer.
pub(crate) fn read_first(disk: &dyn Disk, len: usize) -> Result<Vec<u8>> {
    let len = usize::try_from(disk.len()).unwrap_or(usize::MAX).min(len);
    let mut bytes = vec![0; len];
    disk.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// How often a change is prepared anew because somebody else was faster.
const ATTEMPTS: usize = 8;

/// How long to wait for a lock. Changes take it for milliseconds; key derivation happens outside.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How often to ask for it.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
