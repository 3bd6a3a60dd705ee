//! What the ledger says to each combination of its three witnesses.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use strongroom_crypto::{DataKey, Passphrase};
use strongroom_kms::{Binding, Envelope, KeyProvider, Probe};
use strongroom_model::KmsKind;
use strongroom_pool::{Directory, FormatMark, FormatStage, Item};
use tempfile::TempDir;

use super::stage::{Key, Place, cheap, stage};
use crate::catalog::{Catalog, MemoryCatalog};
use crate::volumes::{FormatState, VolumeOpener, VolumeProblem, Volumes};
use crate::{Error, ErrorKind, Result};

/// A volume, and what opens it.
struct Bench {
    _folder: TempDir,
    place: Place,
    key: Key,
    catalog: Arc<MemoryCatalog>,
    volumes: Volumes,
}

impl Bench {
    fn new(kms: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path());
        let key = Key::of(folder.path(), kms);
        let pool = Directory::open(&folder.path().join("pool")).unwrap();
        let catalog = Arc::new(MemoryCatalog::new());
        let volumes = place.volumes_with(Arc::new(pool), catalog.clone());
        volumes.create(&place.wanted(kms), &()).unwrap();
        Self { _folder: folder, place, key, catalog, volumes }
    }

    fn stage(&self) -> Result<()> {
        stage(&self.volumes, &self.place.id, self.key.opener(&cheap()), |_| {})
    }

    fn problem(&self) -> VolumeProblem {
        match self.stage().unwrap_err() {
            Error::Volume { problem, .. } => *problem,
            other => panic!("{other}"),
        }
    }

    fn item(&self) -> Item {
        Item::Volume(self.place.id.clone())
    }

    fn device(&self) -> fs::File {
        let path = self.volumes.pool.path(&self.item()).unwrap();
        OpenOptions::new().read(true).write(true).open(path).unwrap()
    }

    fn format(&self) -> FormatState {
        self.volumes.volume(&self.place.id).unwrap().format
    }
}

#[test]
fn a_new_volume_is_formatted_once_and_opened_from_then_on() {
    for kms in [false, true] {
        let bench = Bench::new(kms);
        assert_eq!(bench.format(), FormatState::Blank);
        bench.stage().unwrap();
        let formatted = bench.format();
        assert!(matches!(&formatted, FormatState::Formatted { digest: Some(_), .. }));
        bench.stage().unwrap();
        assert_eq!(bench.format(), formatted);
    }
}

#[test]
fn bytes_that_nobody_has_recorded_stay() {
    let bench = Bench::new(false);
    bench.device().write_all_at(b"somebody's", 12 << 20).unwrap();
    assert_eq!(bench.problem(), VolumeProblem::Written);
    bench.device().write_all_at(&[0x53, 0xef], 0x438).unwrap();
    assert!(matches!(bench.problem(), VolumeProblem::ForeignSignature { .. }));
    bench.device().write_all_at(b"LUKS\xba\xbe\0\x01", 0).unwrap();
    assert!(bench.stage().is_err());
    assert_eq!(bench.format(), FormatState::Blank);
}

#[test]
fn a_volume_without_its_header_is_never_formatted_again() {
    let bench = Bench::new(true);
    bench.stage().unwrap();
    let mut saved = vec![0; 1 << 20];
    bench.device().read_exact_at(&mut saved, 0).unwrap();
    bench.device().write_all_at(&vec![0; 1 << 20], 0).unwrap();
    assert!(matches!(bench.problem(), VolumeProblem::HeaderGone { found: None, .. }));
    let len = bench.device().metadata().unwrap().len();
    bench.device().set_len(len - 4096).unwrap();
    assert_eq!(bench.problem(), VolumeProblem::Short { recorded: len, found: len - 4096 });
    bench.device().set_len(len).unwrap();
    bench.device().write_all_at(&saved, 0).unwrap();
    bench.stage().unwrap();
}

#[test]
fn the_header_of_another_volume_is_not_taken_for_its_own() {
    let (one, other) = (Bench::new(false), Bench::new(false));
    one.stage().unwrap();
    other.stage().unwrap();
    let mut header = vec![0; 1 << 20];
    other.device().read_exact_at(&mut header, 0).unwrap();
    one.device().write_all_at(&header, 0).unwrap();
    assert!(matches!(one.problem(), VolumeProblem::OtherHeader { .. }));
}

#[test]
fn an_older_catalog_learns_what_it_missed_from_whoever_opens_the_volume() {
    let bench = Bench::new(false);
    let before = bench.catalog.snapshot();
    bench.stage().unwrap();
    let formatted = bench.format();
    bench.catalog.roll_back_to(&before);
    let wrong = Passphrase::new(b"wrong".to_vec());
    let opener = VolumeOpener::Passphrase { passphrase: &wrong, settings: None };
    let error = stage(&bench.volumes, &bench.place.id, opener, |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongPassphrase);
    assert_eq!(bench.format(), FormatState::Blank);
    bench.stage().unwrap();
    assert_eq!(bench.format(), formatted);
}

#[test]
fn an_older_catalog_and_a_device_of_zeros_together_format_nothing() {
    let bench = Bench::new(false);
    let before = bench.catalog.snapshot();
    bench.stage().unwrap();
    bench.catalog.roll_back_to(&before);
    let path = bench.volumes.pool.path(&bench.item()).unwrap();
    let len = fs::metadata(&path).unwrap().len();
    fs::rename(&path, path.with_extension("aside")).unwrap();
    // A device of which even the file system says that nothing was ever written.
    OpenOptions::new().write(true).create_new(true).open(&path).unwrap().set_len(len).unwrap();
    assert!(matches!(bench.problem(), VolumeProblem::CatalogBehind { .. }));
    assert_eq!(bench.device().metadata().unwrap().len(), len);
}

#[test]
fn a_mark_of_another_formatting_is_not_written_over() {
    let bench = Bench::new(false);
    let uuid = "11111111-2222-4333-8444-555555555555".to_owned();
    let mark = FormatMark { uuid: uuid.clone(), stage: FormatStage::Finished };
    bench.volumes.pool.mark_format(&bench.item(), &mark).unwrap();
    assert_eq!(bench.problem(), VolumeProblem::CatalogBehind { uuid });
}

#[test]
fn nothing_is_formatted_for_a_key_of_another_kind_or_none() {
    let (passphrase, kms) = (Bench::new(false), Bench::new(true));
    let stage_with = |bench: &Bench, key: &Key| {
        stage(&bench.volumes, &bench.place.id, key.opener(&cheap()), |_| {}).unwrap_err()
    };
    for error in [stage_with(&passphrase, &kms.key), stage_with(&kms, &passphrase.key)] {
        assert!(error.to_string().contains("was given for it"), "{error}");
    }
    for bench in [passphrase, kms] {
        assert_eq!(bench.format(), FormatState::Blank);
        assert!(bench.volumes.pool.is_untouched(&bench.item()).unwrap());
    }
}

#[test]
fn a_kms_that_fails_leaves_a_volume_that_is_formatted_when_it_works_again() {
    let bench = Bench::new(true);
    let error = stage(&bench.volumes, &bench.place.id, VolumeOpener::Kms(&Unreachable), |_| {})
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KmsUnavailable);
    assert!(bench.volumes.pool.is_untouched(&bench.item()).unwrap());
    bench.stage().unwrap();
    bench.stage().unwrap();
}

#[test]
fn the_envelope_in_the_catalog_opens_a_volume_whose_header_has_lost_it() {
    let bench = Bench::new(true);
    bench.stage().unwrap();
    let path = bench.volumes.pool.path(&bench.item()).unwrap();
    let device = crate::Device::open(&path, None, strongroom_disk::Access::ReadWrite).unwrap();
    crate::keys::update_luks2(&device, |header| {
        let (header, change) = header.remove_token(0)?;
        Ok((header, change))
    })
    .unwrap();
    bench.stage().unwrap();
    let name = crate::volumes::key_record::of_volume(&bench.place.id);
    assert_eq!(name, "onmetal-csi-luks-v");
    crate::volumes::key_record::remove(&*bench.catalog as &dyn Catalog, &name).unwrap();
    assert!(matches!(bench.stage().unwrap_err(), Error::NoEnvelope { .. }));
}

/// A KMS that nobody reaches.
#[derive(Debug)]
struct Unreachable;

impl Unreachable {
    fn error<T>() -> strongroom_kms::Result<T> {
        let kind = strongroom_kms::ErrorKind::Unavailable;
        Err(strongroom_kms::Error::new(kind, "test", "nobody is there"))
    }
}

impl KeyProvider for Unreachable {
    fn kind(&self) -> KmsKind {
        KmsKind::Local
    }

    fn label(&self) -> String {
        "test".to_owned()
    }

    fn wrap(&self, _: &DataKey, _: &Binding) -> strongroom_kms::Result<Envelope> {
        Self::error()
    }

    fn unwrap(&self, _: &Envelope, _: &Binding) -> strongroom_kms::Result<DataKey> {
        Self::error()
    }

    fn verify(&self, _: &Envelope) -> strongroom_kms::Result<()> {
        Self::error()
    }

    fn rewrap(&self, _: &Envelope) -> strongroom_kms::Result<Envelope> {
        Self::error()
    }

    fn probe(&self) -> strongroom_kms::Result<Probe> {
        Self::error()
    }
}
