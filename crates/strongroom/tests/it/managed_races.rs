//! Two commands on one volume at the same time: whatever the order, what is left opens.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use strongroom::ErrorKind;
use strongroom::managed::{NewestKey, rewrap_file};
use strongroom_crypto::DataKey;
use strongroom_disk::{Disk, Extent, Result};
use strongroom_kms::{Binding, Envelope, KeyProvider, Probe};
use strongroom_luks::Version;
use strongroom_model::KmsKind;

use crate::managed_volume::{Place, RecordingKms, Shared, new_version, on, opens};

/// What happens once, in the middle of something else.
pub(crate) struct Deed<'a>(Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>);

impl<'a> Deed<'a> {
    pub(crate) fn new(deed: impl FnOnce() + Send + 'a) -> Self {
        Self(Mutex::new(Some(Box::new(deed))))
    }

    fn happen(&self) {
        let deed = self.0.lock().unwrap().take();
        if let Some(deed) = deed {
            deed();
        }
    }
}

impl fmt::Debug for Deed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a deed")
    }
}

/// A KMS that takes its time to rewrap: something happens meanwhile.
#[derive(Debug)]
struct Slow<'a> {
    inner: RecordingKms,
    meanwhile: Deed<'a>,
}

impl KeyProvider for Slow<'_> {
    fn kind(&self) -> KmsKind {
        self.inner.kind()
    }

    fn label(&self) -> String {
        self.inner.label()
    }

    fn wrap(&self, key: &DataKey, binding: &Binding) -> strongroom_kms::Result<Envelope> {
        self.inner.wrap(key, binding)
    }

    fn unwrap(&self, envelope: &Envelope, binding: &Binding) -> strongroom_kms::Result<DataKey> {
        self.inner.unwrap(envelope, binding)
    }

    fn verify(&self, envelope: &Envelope) -> strongroom_kms::Result<()> {
        self.inner.verify(envelope)
    }

    fn rewrap(&self, envelope: &Envelope) -> strongroom_kms::Result<Envelope> {
        let rewrapped = self.inner.rewrap(envelope);
        self.meanwhile.happen();
        rewrapped
    }

    fn probe(&self) -> strongroom_kms::Result<Probe> {
        self.inner.probe()
    }
}

/// A disk at whose read number `at` after the first write something happens.
#[derive(Debug)]
pub(crate) struct SlowDisk<'a, D> {
    inner: D,
    at: usize,
    writes: AtomicUsize,
    reads: AtomicUsize,
    meanwhile: Deed<'a>,
}

impl<'a, D> SlowDisk<'a, D> {
    pub(crate) fn new(inner: D, at: usize, meanwhile: Deed<'a>) -> Shared<Self> {
        let [writes, reads] = [const { AtomicUsize::new(0) }; 2];
        Shared(Arc::new(Self { inner, at, writes, reads, meanwhile }))
    }
}

impl<D> SlowDisk<'static, D> {
    /// Returns one at which nothing happens; it counts every read.
    pub(crate) fn counting(inner: D) -> Shared<Self> {
        let disk = Self::new(inner, usize::MAX, Deed::new(|| ()));
        disk.0.writes.store(1, Ordering::SeqCst);
        disk
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl<D: Disk> Disk for SlowDisk<'_, D> {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn label(&self) -> &str {
        self.inner.label()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        if self.writes.load(Ordering::SeqCst) > 0
            && self.reads.fetch_add(1, Ordering::SeqCst) == self.at
        {
            self.meanwhile.happen();
        }
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.write_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.inner.extent_at(offset)
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.inner.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        self.inner.write_zeroes(range)
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
}

/// A way to rewrap the record.
type Way<'a> = &'a dyn Fn(&Slow<'_>) -> strongroom::Result<()>;

#[test]
fn a_rewrap_does_not_take_back_a_rotation_that_was_faster() {
    let place = Place::new(Version::Luks1);
    new_version(place.folder.path(), "kek");
    let (disk, path) = (place.disk(), place.record());
    let ways: [Way<'_>; 2] = [
        &|kms| {
            let newest = NewestKey::ask(kms)?;
            on(disk.clone(), Some(&path), |v| v.rewrap(kms, &newest)).map(drop)
        },
        &|kms| rewrap_file(&path, kms, &NewestKey::default()).map(drop),
    ];
    for rewrap in ways {
        std::fs::write(&path, place.envelope.to_json()).unwrap();
        let fresh = place.disk();
        let rotate = || {
            on(fresh.clone(), Some(&path), |v| v.rotate(&place.kms("kek"))).unwrap();
        };
        let slow = Slow { inner: place.kms("kek"), meanwhile: Deed::new(rotate) };
        let refused = rewrap(&slow).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
        let left = fresh.0.replay(fresh.0.changes().len()).to_vec();
        let record = strongroom::envelopes::read_file(&path).unwrap();
        assert!(opens(&left, Some(&record), &[&place.kms("kek")]));
    }
}

#[test]
fn of_two_rotations_neither_writes_a_record_that_opens_nothing() {
    let mut overtaken = 0;
    for at in 0.. {
        let place = Place::new(Version::Luks1);
        let (disk, path) = (place.disk(), place.record());
        let rotate = &|| on(disk.clone(), Some(&path), |v| v.rotate(&place.kms("kek")));
        let (done, waiting) = mpsc::channel();
        let reached = std::thread::scope(|scope| {
            let other = move || {
                scope.spawn(move || done.send(rotate().is_ok()));
                // Where nothing keeps it, it is faster than this.
                let _ = waiting.recv_timeout(Duration::from_millis(200));
            };
            let slow = SlowDisk::new(disk.clone(), at, Deed::new(other));
            on(slow.clone(), Some(&path), |v| v.rotate(&place.kms("kek"))).unwrap();
            slow.0.meanwhile.0.lock().unwrap().is_none()
        });
        let left = disk.0.replay(disk.0.changes().len()).to_vec();
        let record = strongroom::envelopes::read_file(&path).unwrap();
        assert!(opens(&left, Some(&record), &[&place.kms("kek")]), "at read {at}");
        if !reached {
            break;
        }
        overtaken += 1;
    }
    assert!(overtaken > 4, "{overtaken}");
}
