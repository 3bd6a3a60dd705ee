//! A KMS that fails: no image without a key that it gives back, and nothing left of the attempt.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use strongroom::images::{self, DetachedHeaders, Keys, Work};
use strongroom::new_image::{self, NewImageRequest};
use strongroom::{Error, OwnedNewKey, OwnedOpener};
use strongroom_crypto::{CostPolicy, DataKey};
use strongroom_disk::qcow2::CreateOptions;
use strongroom_kms::{
    Binding, Credentials, Envelope, ErrorKind, KeyProvider, LocalKek, Probe, Result,
};
use strongroom_model::{
    CloneRequest, EncryptionRequest, ExistingTarget, ImageFormat, ImageOperation, ImageSource,
    ImageTarget, KmsKind, KmsRequest, LuksFormat, Resume,
};
use tempfile::TempDir;

/// What the KMS does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It does not answer when it is to wrap.
    Wrap,
    /// It wraps, and does not answer when it is to unwrap.
    Unwrap,
    /// It gives another data key than it got.
    OtherKey,
    /// It writes what cannot be read again.
    Ciphertext,
}

/// A key in a file, behind something that fails. Notes what lies in a directory whenever it is asked.
#[derive(Debug)]
struct Faulty {
    inner: Box<dyn KeyProvider>,
    fault: Fault,
    directory: PathBuf,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Faulty {
    fn look(&self) {
        self.seen.lock().unwrap().push(names(&self.directory));
    }

    fn fail<T>(&self) -> Result<T> {
        Err(strongroom_kms::Error::new(ErrorKind::Unavailable, "the KMS", "it does not answer"))
    }
}

impl KeyProvider for Faulty {
    fn kind(&self) -> KmsKind {
        self.inner.kind()
    }

    fn label(&self) -> String {
        self.inner.label()
    }

    fn wrap(&self, key: &DataKey, binding: &Binding) -> Result<Envelope> {
        self.look();
        match self.fault {
            Fault::Wrap => self.fail(),
            Fault::Ciphertext => {
                let mut envelope = self.inner.wrap(key, binding)?;
                envelope.wrapped.ciphertext.truncate(8);
                Ok(envelope)
            }
            _ => self.inner.wrap(key, binding),
        }
    }

    fn unwrap(&self, envelope: &Envelope, binding: &Binding) -> Result<DataKey> {
        self.look();
        match self.fault {
            Fault::Unwrap => self.fail(),
            Fault::OtherKey => Ok(DataKey::new(vec![b'x'; 43])),
            _ => self.inner.unwrap(envelope, binding),
        }
    }

    fn verify(&self, envelope: &Envelope) -> Result<()> {
        self.look();
        match self.fault {
            Fault::Unwrap => self.fail(),
            _ => self.inner.verify(envelope),
        }
    }

    fn rewrap(&self, envelope: &Envelope) -> Result<Envelope> {
        self.inner.rewrap(envelope)
    }

    fn probe(&self) -> Result<Probe> {
        self.inner.probe()
    }
}

/// A directory with a plain image and the file of a key, which lies elsewhere.
struct Place {
    directory: TempDir,
    keys: TempDir,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Place {
    fn new() -> Self {
        let (directory, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        LocalKek::create(&keys.path().join("kek")).unwrap();
        fs::write(directory.path().join("plain"), vec![7; 64 << 10]).unwrap();
        Self { directory, keys, seen: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn provider(&self, fault: Fault) -> Box<dyn KeyProvider> {
        let kek_file = Some(self.keys.path().join("kek"));
        let request = KmsRequest { kek_file, ..KmsRequest::new(KmsKind::Local) };
        let inner = strongroom_kms::open(&request, Credentials::default()).unwrap();
        let (directory, seen) = (self.directory.path().to_owned(), Arc::clone(&self.seen));
        Box::new(Faulty { inner, fault, directory, seen })
    }

    fn key(&self, fault: Fault, format: LuksFormat) -> OwnedNewKey {
        let envelope_file = (format == LuksFormat::Luks1).then(|| self.path("envelope"));
        OwnedNewKey::Kms { provider: self.provider(fault), envelope_file }
    }

    fn encrypt(&self, fault: Fault, format: LuksFormat, resume: Resume) -> Outcome {
        let source = ImageSource::File(self.path("plain"));
        let target = ImageTarget::File(self.path("target"));
        let encryption = EncryptionRequest { format, ..EncryptionRequest::default() };
        let operation = ImageOperation::Encrypt(encryption);
        let request = CloneRequest { resume, ..CloneRequest::new(source, target, operation) };
        let keys = Keys { source: None, target: Some(self.key(fault, format)) };
        with_work(|work| {
            images::clone(&request, DetachedHeaders::default(), keys, work).map(|_| ())
        })
    }

    fn decrypt(&self, fault: Fault) -> Outcome {
        let source = ImageSource::File(self.path("target"));
        let target = ImageTarget::File(self.path("again"));
        let request = CloneRequest {
            resume: Resume::Allowed,
            ..CloneRequest::new(source, target, ImageOperation::Decrypt)
        };
        let opener = OwnedOpener::Kms { provider: self.provider(fault), envelope: None };
        let keys = Keys { source: Some(opener), target: None };
        with_work(|work| {
            images::clone(&request, DetachedHeaders::default(), keys, work).map(|_| ())
        })
    }

    fn create(&self, fault: Fault, format: ImageFormat) -> Outcome {
        let request = NewImageRequest {
            path: self.path("target"),
            format,
            size: 64 << 10,
            encryption: EncryptionRequest::default(),
            layout: CreateOptions::new(0),
            backing: None,
            existing: ExistingTarget::Refuse,
        };
        let key = self.key(fault, format.luks().unwrap());
        with_work(|work| new_image::create(&request, Some(key), work).map(|_| ()))
    }
}

type Outcome = strongroom::Result<()>;

fn with_work(run: impl FnOnce(&Work<'_>) -> Outcome) -> Outcome {
    let cancelled = Arc::new(AtomicBool::new(false));
    run(&Work { policy: CostPolicy::default(), observer: &(), cancelled: &cancelled })
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const FAULTS: [Fault; 4] = [Fault::Wrap, Fault::Unwrap, Fault::OtherKey, Fault::Ciphertext];

#[test]
fn a_kms_that_fails_leaves_no_target_and_no_envelope() {
    for fault in FAULTS {
        for format in [LuksFormat::Luks2, LuksFormat::Luks1] {
            let place = Place::new();
            for resume in [Resume::Never, Resume::Allowed] {
                let error = place.encrypt(fault, format, resume).unwrap_err();
                assert!(matches!(error, Error::Kms(_)), "{fault:?}: {error}");
                assert_eq!(names(place.directory.path()), ["plain"], "{fault:?}");
            }
        }
        for format in [ImageFormat::Luks2, ImageFormat::Luks1, ImageFormat::Qcow2Luks] {
            let place = Place::new();
            let error = place.create(fault, format).unwrap_err();
            assert!(matches!(error, Error::Kms(_)), "{fault:?}: {error}");
            assert_eq!(names(place.directory.path()), ["plain"], "{fault:?}");
        }
    }
}

#[test]
fn a_kms_is_asked_before_there_is_any_file() {
    for format in [LuksFormat::Luks2, LuksFormat::Luks1] {
        let place = Place::new();
        place.encrypt(Fault::None, format, Resume::Allowed).unwrap();
        // It wrapped, and gave back what it had wrapped.
        assert_eq!(*place.seen.lock().unwrap(), [["plain"], ["plain"]], "{format}");
    }
    let place = Place::new();
    place.create(Fault::None, ImageFormat::Qcow2Luks).unwrap();
    assert_eq!(*place.seen.lock().unwrap(), [["plain"], ["plain"]]);

    let place = Place::new();
    place.encrypt(Fault::None, LuksFormat::Luks2, Resume::Never).unwrap();
    place.seen.lock().unwrap().clear();
    place.decrypt(Fault::Unwrap).unwrap_err();
    place.decrypt(Fault::None).unwrap();
    assert_eq!(*place.seen.lock().unwrap(), [["plain", "target"], ["plain", "target"]]);
    assert_eq!(fs::read(place.path("again")).unwrap(), fs::read(place.path("plain")).unwrap());
}

#[test]
fn a_data_key_that_opens_nothing_is_told_from_a_kms_that_refuses() {
    let place = Place::new();
    place.encrypt(Fault::None, LuksFormat::Luks2, Resume::Never).unwrap();
    let error = place.decrypt(Fault::OtherKey).unwrap_err();
    assert!(matches!(error, Error::DataKey { .. }), "{error}");
    let error = place.decrypt(Fault::Unwrap).unwrap_err();
    assert!(
        matches!(&error, Error::Kms(error) if error.kind() == ErrorKind::Unavailable),
        "{error}"
    );
}
