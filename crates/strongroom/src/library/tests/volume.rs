//! Volumes that are made of images.

use strongroom_crypto::Passphrase;
use strongroom_disk::{Access, Disk, Raw};
use strongroom_model::ImageFormat;
use strongroom_pool::FormatStage;
use strongroom_testkit::{Tool, skip};

use super::rig::{LEN, Rig, encrypt, image_id, key, kms, new, pattern, wanted};
use crate::images::Keys;
use crate::library::{Copying, Image};
use crate::volumes::{Condition, FormatState, Volume, VolumeEncryption};
use crate::{ErrorKind, Opener, OwnedNewKey, OwnedOpener, device};

fn passphrase(text: &[u8]) -> Passphrase {
    Passphrase::new(text.to_vec())
}

fn target(text: &[u8]) -> Keys {
    Keys { source: None, target: Some(OwnedNewKey::Passphrase(passphrase(text))) }
}

fn source() -> Keys {
    Keys { source: Some(OwnedOpener::Passphrase(key())), target: None }
}

fn both(text: &[u8]) -> Keys {
    Keys { source: source().source, ..target(text) }
}

/// Returns where the contents of a disk differ from those of every image.
fn difference(disk: &dyn Disk) -> Option<u64> {
    let contents = strongroom_disk::Slice::new(disk, 0..LEN).unwrap();
    pattern().first_difference(&contents).unwrap()
}

/// Checks that all who know something of a volume say that it is formatted.
fn check_witnesses(rig: &Rig, volume: &Volume) {
    let volumes = rig.volumes();
    let report = volumes.report(&volume.id).unwrap();
    assert_eq!(report.volume.condition, Condition::Ready);
    assert_eq!(report.mark.as_ref().unwrap().stage, FormatStage::Finished);
    let FormatState::Formatted { uuid, digest } = &report.volume.format else {
        panic!("{:?}", report.volume.format)
    };
    assert_eq!(report.mark.as_ref().unwrap().uuid, *uuid);
    assert_eq!(digest.is_some(), volume.encryption.is_encrypted());
    if volume.encryption.is_encrypted() {
        assert_eq!(report.header.as_ref().unwrap().uuid, *uuid);
        assert_eq!(report.findings, Vec::<String>::new());
    }
}

fn import(rig: &Rig, format: ImageFormat) -> Image {
    rig.import(format.name(), &rig.file(format)).unwrap()
}

#[test]
fn a_plain_volume_has_the_contents_and_then_zeros() {
    let rig = Rig::new();
    for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
        import(&rig, format);
        let new = wanted(&format!("v-{format}"), LEN + (3 << 20), VolumeEncryption::None);
        let volume = rig.volume(format.name(), &new, Keys::default()).unwrap();
        assert_eq!(volume.source, Some(format!("image {format}")));
        check_witnesses(&rig, &volume);
        let path = rig.volumes().device_path(&volume.id).unwrap();
        let disk = Raw::open(&path, Access::ReadOnly).unwrap();
        assert_eq!(disk.len(), new.size);
        assert_eq!(difference(&disk), None);
        let mut end = vec![1; 3 << 20];
        disk.read_at(&mut end, LEN).unwrap();
        assert!(end.iter().all(|&byte| byte == 0));
        assert_eq!(disk.extent_at(LEN).unwrap().range.end, new.size, "zeros were written");
        // The same again is the same one.
        assert_eq!(rig.volume(format.name(), &new, Keys::default()).unwrap(), volume);
    }
}

#[test]
fn a_plain_image_is_encrypted_on_the_way() {
    let rig = Rig::new();
    for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
        import(&rig, format);
        let new = wanted(&format!("v-{format}"), LEN + 4096, VolumeEncryption::Passphrase);
        let missing = rig.volume(format.name(), &new, Keys::default()).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Request);
        let volume = rig.volume(format.name(), &new, target(b"of the volume")).unwrap();
        check_witnesses(&rig, &volume);
        let shown = rig.shown(volume.id.as_str(), b"of the volume").unwrap();
        assert_eq!((shown.len(), difference(&shown)), (new.size, None));
        let report = rig.volumes().report(&volume.id).unwrap();
        assert_eq!(report.header.unwrap().key_bits, 256, "the settings were not heard");
    }
}

#[test]
fn a_kms_opens_a_volume_of_a_plain_image_and_of_an_encrypted_one() {
    let rig = Rig::new();
    import(&rig, ImageFormat::Qcow2);
    rig.clone("encrypted", "qcow2", encrypt()).unwrap();
    let (_, encryption) = kms(rig.directory.path());
    for (from, is_encrypted) in [("qcow2", false), ("encrypted", true)] {
        let new = wanted(&format!("v-{from}"), LEN, encryption.clone());
        let (provider, _) = kms(rig.directory.path());
        let target = Some(OwnedNewKey::Kms { provider, envelope_file: None });
        let source = is_encrypted.then(|| OwnedOpener::Passphrase(key()));
        let volume = rig.volume(from, &new, Keys { source, target }).unwrap();
        check_witnesses(&rig, &volume);
        let report = rig.volumes().report(&volume.id).unwrap();
        assert_eq!(report.recorded.as_ref(), report.envelopes.first());
        assert!(report.recorded.is_some());
        assert_eq!(report.header.unwrap().keyslots.len(), 1);
        let path = rig.volumes().device_path(&volume.id).unwrap();
        let disk = Raw::open(&path, Access::ReadOnly).unwrap();
        let header = device::read_header(&disk).unwrap().header;
        let (provider, _) = kms(rig.directory.path());
        let policy = rig.work().policy;
        let key = device::unlock(&disk, &header, Opener::kms(&*provider), None, &policy).unwrap();
        let plain = crate::Device::on(disk).into_plain(&header, &key.key).unwrap();
        assert_eq!(difference(&plain), None);
        assert!(rig.shown(volume.id.as_str(), b"key of the image").is_err());
    }
}

#[test]
fn a_kms_opens_a_volume_as_it_opens_its_image() {
    let rig = Rig::new();
    import(&rig, ImageFormat::Raw);
    let (provider, encryption) = kms(rig.directory.path());
    let key = OwnedNewKey::Kms { provider, envelope_file: None };
    let request = strongroom_model::EncryptionRequest::default();
    rig.clone("managed", "raw", Copying::Encrypt { request, key }).unwrap();
    let new = wanted("v", LEN, encryption);
    let volume = rig.volume("managed", &new, Keys::default()).unwrap();
    check_witnesses(&rig, &volume);
    let report = rig.volumes().report(&volume.id).unwrap();
    assert_eq!(report.recorded.as_ref(), report.envelopes.first());
    // A passphrase opens no image that only a KMS does.
    let other = wanted("w", LEN, VolumeEncryption::Passphrase);
    let source = Some(OwnedOpener::Kms { provider: kms(rig.directory.path()).0, envelope: None });
    let error = rig.volume("managed", &other, Keys { source, target: None }).unwrap_err();
    assert!(error.to_string().contains("give the new passphrase"), "{error}");
}

#[test]
fn a_volume_of_an_encrypted_image_has_its_bytes_and_its_key() {
    let rig = Rig::new();
    let image = import(&rig, ImageFormat::Luks2);
    let encryption = image.encryption.unwrap();
    for (id, keys) in [("blind", Keys::default()), ("known", source())] {
        let new = wanted(id, LEN + (1 << 20), VolumeEncryption::Passphrase);
        let volume = rig.volume("luks2", &new, keys).unwrap();
        check_witnesses(&rig, &volume);
        let digest = Some(encryption.digest.clone());
        let uuid = encryption.uuid.clone();
        assert_eq!(volume.format, FormatState::Formatted { uuid, digest });
        let shown = rig.shown(id, key().expose_bytes()).unwrap();
        assert_eq!((shown.len(), difference(&shown)), (new.size, None));
    }
    let wrong = Some(OwnedOpener::Passphrase(passphrase(b"wrong")));
    let new = wanted("wrong", LEN, VolumeEncryption::Passphrase);
    let error = rig.volume("luks2", &new, Keys { source: wrong, target: None }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongPassphrase);
    assert!(rig.volumes().volume(&new.id).is_err());
}

#[test]
fn a_key_of_its_own_opens_the_volume_and_that_of_the_image_no_more() {
    let rig = Rig::new();
    import(&rig, ImageFormat::Luks2);
    let new = wanted("own", LEN, VolumeEncryption::Passphrase);
    let alone = rig.volume("luks2", &new, target(b"own")).unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::Request);
    let volume = rig.volume("luks2", &new, both(b"own")).unwrap();
    check_witnesses(&rig, &volume);
    assert_eq!(difference(&*rig.shown("own", b"own").unwrap()), None);
    let error = rig.shown("own", key().expose_bytes()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WrongPassphrase);
}

#[test]
fn other_encrypted_images_are_encrypted_anew() {
    let rig = Rig::new();
    for format in [ImageFormat::Luks1, ImageFormat::Qcow2Luks] {
        import(&rig, format);
        let new = |suffix| wanted(&format!("{format}-{suffix}"), LEN, VolumeEncryption::Passphrase);
        let error = rig.volume(format.name(), &new("none"), Keys::default()).unwrap_err();
        assert!(error.to_string().contains("give what opens it"), "{error}");
        let same = rig.volume(format.name(), &new("same"), source()).unwrap();
        check_witnesses(&rig, &same);
        let shown = rig.shown(same.id.as_str(), key().expose_bytes()).unwrap();
        assert_eq!(difference(&shown), None);
        let own = rig.volume(format.name(), &new("own"), both(b"own")).unwrap();
        assert_eq!(difference(&*rig.shown(own.id.as_str(), b"own").unwrap()), None);
    }
}

#[test]
fn cryptsetup_opens_a_volume_of_an_image() {
    let name = "cryptsetup_opens_a_volume_of_an_image";
    if !Tool::CRYPTSETUP.available() {
        return skip(name, "cryptsetup is missing");
    }
    let rig = Rig::new();
    import(&rig, ImageFormat::Luks2);
    let new = wanted("v", LEN + 4096, VolumeEncryption::Passphrase);
    rig.volume("luks2", &new, both(b"own")).unwrap();
    for (key, code) in [(&b"own"[..], 0), (key().expose_bytes(), 2)] {
        let mut command = Tool::CRYPTSETUP.command();
        command.args(["open", "--test-passphrase", "--type", "luks2", "--key-file", "-"]);
        command.arg(rig.volumes().device_path(&new.id).unwrap());
        assert_eq!(strongroom_testkit::run(command, key).code, Some(code));
    }
}

#[test]
fn what_cannot_be_made_is_refused_before_anything_is() {
    let rig = Rig::new();
    import(&rig, ImageFormat::Raw);
    import(&rig, ImageFormat::Luks2);
    let small = wanted("small", LEN - 4096, VolumeEncryption::None);
    let plain = wanted("plain", LEN, VolumeEncryption::None);
    let cases = [
        (
            rig.volume("raw", &small, Keys::default()),
            format!("image raw, of which it is made, has {LEN}"),
        ),
        (rig.volume("luks2", &plain, Keys::default()), "decrypt the image first".to_owned()),
        (rig.volume("none", &plain, Keys::default()), "image none does not exist".to_owned()),
    ];
    for (result, text) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(&text), "{error}");
    }
    assert!(rig.volumes().list(None, 10).unwrap().is_empty());
    rig.volume("raw", &plain, Keys::default()).unwrap();
    let larger = wanted("plain", LEN + 4096, VolumeEncryption::None);
    let error = rig.volume("raw", &larger, Keys::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_volume_of_which_there_is_only_a_record_is_made_anew() {
    let rig = Rig::new();
    import(&rig, ImageFormat::Raw);
    let new_volume = wanted("v", LEN, VolumeEncryption::Passphrase);
    let made = rig.volume("raw", &new_volume, target(b"own")).unwrap();
    let volumes = rig.volumes();
    volumes.delete(&made.id).unwrap();
    // As a process leaves it that is killed before there are any bytes.
    let format = FormatState::Blank;
    let begun = Volume { condition: Condition::Creating, format, ..made };
    crate::catalog::Records::of(&*volumes.catalog()).insert(begun).unwrap();
    let again = rig.volume("raw", &new_volume, target(b"own")).unwrap();
    check_witnesses(&rig, &again);
    assert_eq!(difference(&*rig.shown("v", b"own").unwrap()), None);
}

#[test]
fn a_volume_of_which_only_the_records_are_missing_stays() {
    let rig = Rig::new();
    import(&rig, ImageFormat::Raw);
    for (id, encryption) in
        [("plain", VolumeEncryption::None), ("encrypted", VolumeEncryption::Passphrase)]
    {
        let new_volume = wanted(id, LEN, encryption);
        let keys = || match &new_volume.encryption {
            VolumeEncryption::None => Keys::default(),
            _ => target(b"own"),
        };
        let made = rig.volume("raw", &new_volume, keys()).unwrap();
        // As a process leaves it that is killed right after it has made the mark.
        let catalog = rig.volumes().catalog();
        let records = crate::catalog::Records::<Volume>::of(&*catalog);
        let mut stored = records.load(id).unwrap().unwrap();
        stored.record.condition = Condition::Creating;
        stored.record.format = FormatState::Blank;
        records.replace(stored).unwrap();
        let again = rig.volume("raw", &new_volume, keys()).unwrap();
        assert_eq!(again, made);
        check_witnesses(&rig, &again);
        assert_eq!(difference(&*rig.shown(id, b"own").unwrap()), None);
    }
}

#[test]
fn a_cancelled_volume_leaves_nothing_and_can_be_made_again() {
    let rig = Rig::new();
    import(&rig, ImageFormat::Raw);
    let new_volume = wanted("v", LEN, VolumeEncryption::Passphrase);
    let (id, volumes) = (image_id("raw"), rig.volumes());
    rig.cancel_at_first_bytes(|work| {
        rig.library.make_volume(&id, &volumes, &new_volume, target(b"own"), work)
    });
    assert!(volumes.list(None, 10).unwrap().is_empty());
    rig.volume("raw", &new_volume, target(b"own")).unwrap();
    assert_eq!(difference(&*rig.shown("v", b"own").unwrap()), None);
    assert!(rig.library.image(&new("raw").id).is_ok());
}
