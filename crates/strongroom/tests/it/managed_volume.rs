//! A volume whose key a KMS manages, on a disk that records, and a KMS that stops when it is told to.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use strongroom::device::HeaderDisk;
use strongroom::managed::ManagedVolume;
use strongroom::{Device, system_rng};
use strongroom_crypto::{CipherSpec, CostPolicy, DataKey, Encryption, Hash, Kdf, Passphrase};
use strongroom_disk::{Disk, Extent, LockGuard, LockMode, Memory, Result};
use strongroom_kms::{
    Binding, Credentials, Envelope, Error, ErrorKind, KeyProvider, LocalKek, Probe, new_data_key,
};
use strongroom_luks::{Change, FormatOptions, Header, Step, Version, head_len};
use strongroom_model::{KmsKind, KmsRequest};
use strongroom_testkit::RecordingDisk;

/// A disk that several hold, as a device without locks.
#[derive(Debug)]
pub(crate) struct Shared<D>(pub(crate) Arc<D>);

impl<D> Clone for Shared<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Disk> Disk for Shared<D> {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn label(&self) -> &str {
        self.0.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.0.write_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.0.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.0.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.0.write_zeroes(range)
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }
}

impl<D: Disk> HeaderDisk for Shared<D> {
    fn try_lock(&self, _mode: LockMode) -> Result<Option<LockGuard>> {
        Ok(None)
    }

    fn grow(&self, _len: u64) -> Result<()> {
        unreachable!("no header here is detached")
    }
}

/// A KMS that records what it is asked, and does not work from call number `stops_at` on.
#[derive(Debug)]
pub(crate) struct RecordingKms {
    inner: Box<dyn KeyProvider>,
    stops_at: usize,
    denied: Option<&'static str>,
    calls: Mutex<Vec<&'static str>>,
    asked: AtomicUsize,
}

impl RecordingKms {
    /// Returns one over a new key in a file.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        if !path.exists() {
            LocalKek::create(&path).unwrap();
        }
        let request = KmsRequest { kek_file: Some(path), ..KmsRequest::new(KmsKind::Local) };
        let inner = strongroom_kms::open(&request, Credentials::default()).unwrap();
        let calls = Mutex::default();
        Self { inner, stops_at: usize::MAX, denied: None, calls, asked: AtomicUsize::new(0) }
    }

    pub(crate) fn stopping_at(self, stops_at: usize) -> Self {
        Self { stops_at, ..self }
    }

    /// Lets nobody do that.
    pub(crate) fn denying(self, what: &'static str) -> Self {
        Self { denied: Some(what), ..self }
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }

    fn ask(&self, what: &'static str) -> strongroom_kms::Result<()> {
        if self.asked.fetch_add(1, Ordering::SeqCst) >= self.stops_at {
            return Err(Error::new(ErrorKind::Unavailable, "recording", "it does not answer"));
        }
        self.calls.lock().unwrap().push(what);
        if self.denied == Some(what) {
            return Err(Error::new(ErrorKind::Denied, "recording", "permission denied"));
        }
        Ok(())
    }
}

impl KeyProvider for RecordingKms {
    fn kind(&self) -> KmsKind {
        self.inner.kind()
    }

    fn label(&self) -> String {
        self.inner.label()
    }

    fn wrap(&self, key: &DataKey, binding: &Binding) -> strongroom_kms::Result<Envelope> {
        self.ask("wrap")?;
        self.inner.wrap(key, binding)
    }

    fn unwrap(&self, envelope: &Envelope, binding: &Binding) -> strongroom_kms::Result<DataKey> {
        self.ask("unwrap")?;
        self.inner.unwrap(envelope, binding)
    }

    fn verify(&self, envelope: &Envelope) -> strongroom_kms::Result<()> {
        self.ask("unwrap")?;
        self.inner.verify(envelope)
    }

    fn rewrap(&self, envelope: &Envelope) -> strongroom_kms::Result<Envelope> {
        self.ask("rewrap")?;
        self.inner.rewrap(envelope)
    }

    fn probe(&self) -> strongroom_kms::Result<Probe> {
        self.inner.probe()
    }
}

/// Adds a version to the key in a file.
pub(crate) fn new_version(folder: &Path, name: &str) {
    LocalKek::rotate(&folder.join(name)).unwrap();
}

/// A folder with keys and perhaps a record, and what a volume was formatted as.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) bytes: Vec<u8>,
    pub(crate) envelope: Envelope,
    pub(crate) volume_key: Vec<u8>,
}

impl Place {
    /// Formats a volume that only the KMS with the key `kek` opens; its record is there as well.
    pub(crate) fn new(version: Version) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kms = RecordingKms::new(folder.path(), "kek");
        let key = new_data_key(&mut system_rng());
        let envelope = kms.wrap(&key, &Binding::image(UUID)).unwrap();
        let text = Passphrase::new(key.expose_bytes().to_vec());
        let options = FormatOptions {
            encryption: short_key(),
            kdf: CHEAP,
            data_offset: (version == Version::Luks2).then_some((32 << 10) + 5 * (128 << 10)),
            uuid: Some(UUID.to_owned()),
            digest_iterations: 1000,
            ..FormatOptions::new(version)
        };
        let formatted = options.format(&text, &policy(), &mut system_rng()).unwrap();
        let len = formatted.header.backup_len().max(formatted.change.end()) + 4096;
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        apply(&mut bytes, &formatted.change);
        if let Header::Luks2(header) = &formatted.header {
            let text = json!({"type": "strongroom-kms", "keyslots": ["0"], "envelope": envelope});
            apply(&mut bytes, &header.import_token(None, &text.to_string()).unwrap().2);
        }
        let volume_key = formatted.volume_key.expose_bytes().to_vec();
        let place = Self { folder, bytes, envelope, volume_key };
        std::fs::write(place.record(), place.envelope.to_json()).unwrap();
        place
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.folder.path().join("record.json")
    }

    pub(crate) fn kms(&self, name: &str) -> RecordingKms {
        RecordingKms::new(self.folder.path(), name)
    }

    pub(crate) fn disk(&self) -> Shared<RecordingDisk> {
        Shared(Arc::new(RecordingDisk::new(Memory::from(&self.bytes[..]))))
    }

    /// Changes the header by hand, as another tool would.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&Header) -> Change) {
        let header = header(&self.bytes).unwrap();
        apply(&mut self.bytes, &change(&header));
    }

    /// Adds a passphrase as `cryptsetup luksAddKey` does.
    pub(crate) fn add_passphrase(&mut self, text: &str, kdf: Kdf) {
        let key = strongroom_crypto::VolumeKey::new(self.volume_key.clone());
        self.edit(|header| {
            let slot = strongroom_luks::NewKeyslot { kdf, ..header.default_keyslot().unwrap() };
            let text = passphrase(text);
            header.add_keyslot(&key, &text, &slot, &policy(), &mut system_rng()).unwrap().2
        });
    }
}

/// Does something to the volume on a disk.
pub(crate) fn on<D: HeaderDisk, T>(
    disk: D,
    record: Option<&Path>,
    work: impl FnOnce(&ManagedVolume<'_, D>) -> T,
) -> T {
    let device = Device::on(disk);
    work(&ManagedVolume::new(&device, record, &policy()))
}

/// Returns the envelopes in the tokens of a header, with the keyslots that they name.
pub(crate) fn envelopes(header: &Header) -> Vec<(Envelope, Vec<u32>)> {
    let Header::Luks2(luks2) = header else { return Vec::new() };
    let held = strongroom::envelopes::held(luks2, "test").unwrap();
    held.into_iter().map(|held| (held.envelope, held.keyslots)).collect()
}

/// Tells whether one of the KMSes opens a volume, by a token or by a record.
pub(crate) fn opens(bytes: &[u8], record: Option<&Envelope>, kmses: &[&dyn KeyProvider]) -> bool {
    let Some(header) = header(bytes) else { return false };
    let all = header.keyslots().iter().map(|slot| slot.id).collect::<Vec<_>>();
    let recorded = record.map(|envelope| (envelope.clone(), all));
    let candidates = envelopes(&header).into_iter().chain(recorded);
    candidates.into_iter().any(|(envelope, keyslots)| {
        kmses.iter().any(|kms| {
            kms.unwrap(&envelope, &Binding::image(header.uuid())).is_ok_and(|key| {
                keyslots.iter().any(|id| opens_keyslot(&header, *id, bytes, key.expose_bytes()))
            })
        })
    })
}

/// Tells whether a text opens a volume.
pub(crate) fn opens_with(bytes: &[u8], text: &[u8]) -> bool {
    let Some(header) = header(bytes) else { return false };
    header.keyslots().iter().any(|slot| opens_keyslot(&header, slot.id, bytes, text))
}

/// Opening is a function of few bytes, and the crash tests ask for the same ones again and again.
fn opens_keyslot(header: &Header, id: u32, bytes: &[u8], text: &[u8]) -> bool {
    static KNOWN: Mutex<Option<HashMap<u64, bool>>> = Mutex::new(None);
    let Ok(area) = header.keyslot_area(id) else { return false };
    let area = &bytes[area.start as usize..area.end as usize];
    let described = match header {
        Header::Luks1(luks1) => format!("{:?}", luks1.keyslots[id as usize]),
        Header::Luks2(luks2) => format!("{:?}", luks2.metadata().keyslots[&id]),
    };
    let mut hasher = DefaultHasher::new();
    (described, area, text).hash(&mut hasher);
    let question = hasher.finish();
    if let Some(known) = KNOWN.lock().unwrap().get_or_insert_default().get(&question) {
        return *known;
    }
    let text = Passphrase::new(text.to_vec());
    let opened = header.open_keyslot(id, area, &text, &policy()).is_ok();
    KNOWN.lock().unwrap().get_or_insert_default().insert(question, opened);
    opened
}

/// Reads the header, of whichever copy is whole.
pub(crate) fn header(bytes: &[u8]) -> Option<Header> {
    let first = head_len(&bytes[..4096]).min(bytes.len());
    let head = head_len(&bytes[..first]).min(bytes.len());
    Some(Header::parse(&bytes[..head], bytes.len() as u64).ok()?.header)
}

pub(crate) fn apply(bytes: &mut [u8], change: &Change) {
    for step in change.steps() {
        if let Step::Write { offset, bytes: new } = step {
            bytes[*offset as usize..][..new.len()].copy_from_slice(new);
        }
    }
}

pub(crate) fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec())
}

pub(crate) fn policy() -> CostPolicy {
    CostPolicy::default()
}

/// A key of 256 bits has smaller keyslots, so fewer places to tear.
fn short_key() -> Encryption {
    CipherSpec::AES_XTS_PLAIN64.with_key_bits(256).unwrap()
}

pub(crate) const CHEAP: Kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000 };

/// As cheap as a person's passphrase may be in a test.
pub(crate) const PERSONS: Kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1001 };

const UUID: &str = "6f1dbe2c-6f6f-4c63-9ed1-4aa77c5a1b1c";
