//! Images that are made of volumes.

use std::fs;

use strongroom_crypto::Passphrase;
use strongroom_disk::{Access, Disk, Raw};
use strongroom_model::{ImageFormat, SnapshotId};
use strongroom_testkit::{Tool, skip};

use super::rig::{LEN, Rig, kms, new, wanted};
use crate::images::Keys;
use crate::library::{Export, ExportedContents, Image, ImageCondition};
use crate::volumes::VolumeEncryption;
use crate::{ErrorKind, OwnedNewKey, OwnedOpener, Result};

const OPENS: &[u8] = b"of the volume";

fn opener() -> Option<OwnedOpener> {
    Some(OwnedOpener::Passphrase(Passphrase::new(OPENS.to_vec())))
}

fn keys(target: Option<Passphrase>) -> Keys {
    Keys { source: opener(), target: target.map(OwnedNewKey::Passphrase) }
}

fn export(
    rig: &Rig,
    id: &str,
    volume: &str,
    (format, contents): (ImageFormat, ExportedContents),
    keys: Keys,
) -> Result<Image> {
    let how = Export { format, keys, contents };
    let volume = volume.parse().unwrap();
    rig.library.export(&new(id), &rig.volumes(), &volume, how, &rig.work())
}

/// Makes a plain volume `plain` and an encrypted one `encrypted`, each with the contents of every image.
fn volumes(rig: &Rig) {
    rig.import("source", &rig.file(ImageFormat::Raw)).unwrap();
    rig.volume("source", &wanted("plain", LEN, VolumeEncryption::None), Keys::default()).unwrap();
    let encrypted = wanted("encrypted", LEN, VolumeEncryption::Passphrase);
    let target = Some(OwnedNewKey::Passphrase(Passphrase::new(OPENS.to_vec())));
    rig.volume("source", &encrypted, Keys { source: None, target }).unwrap();
}

use ExportedContents::{AsTheyAre, Decrypted};
use ImageFormat::{Luks1, Luks2, Qcow2, Qcow2Luks, Raw as RawFormat};

#[test]
fn every_kind_of_volume_is_exported_in_every_way() {
    let rig = Rig::new();
    volumes(&rig);
    let original = rig.library.image(&"source".parse().unwrap()).unwrap();
    let key = || Some(super::rig::key());
    let cases = [
        ("plain", (RawFormat, AsTheyAre), Keys::default(), RawFormat),
        ("plain", (Qcow2, AsTheyAre), Keys::default(), Qcow2),
        ("plain", (RawFormat, Decrypted), Keys::default(), RawFormat),
        ("encrypted", (RawFormat, Decrypted), keys(None), RawFormat),
        ("encrypted", (Qcow2, Decrypted), keys(None), Qcow2),
        ("encrypted", (Qcow2, AsTheyAre), keys(key()), Qcow2Luks),
    ];
    for (number, (volume, how, keys, format)) in cases.into_iter().enumerate() {
        let image = export(&rig, &format!("i{number}"), volume, how, keys).unwrap();
        assert_eq!((&*image.format, image.virtual_len), (format.name(), LEN));
        assert_eq!(rig.difference(&image), None, "{volume} {how:?}");
        if format == RawFormat {
            assert_eq!(image.checksum, original.checksum);
        }
    }
    assert!(rig.volumes().snapshots(None, 10).unwrap().is_empty());
}

#[test]
fn a_container_is_exported_without_any_key() {
    let rig = Rig::new();
    volumes(&rig);
    let how = (RawFormat, AsTheyAre);
    let image = export(&rig, "container", "encrypted", how, Keys::default()).unwrap();
    assert_eq!((&*image.format, image.len), ("luks2", LEN + (16 << 20)));
    let device = rig.volumes().device_path(&"encrypted".parse().unwrap()).unwrap();
    assert_eq!(fs::read(rig.data("container")).unwrap(), fs::read(&device).unwrap());
    // And back again, opened by the same key.
    let again = wanted("again", LEN, VolumeEncryption::Passphrase);
    rig.volume("container", &again, Keys { source: opener(), target: None }).unwrap();
    assert!(rig.shown("again", OPENS).is_ok());
}

#[test]
fn what_a_guest_has_written_is_never_taken_for_a_format() {
    let rig = Rig::new();
    volumes(&rig);
    let path = rig.volumes().device_path(&"plain".parse().unwrap()).unwrap();
    for head in [&b"QFI\xfb\0\0\0\x03"[..], b"LUKS\xba\xbe\0\x02"] {
        let disk = Raw::open(&path, Access::ReadWrite).unwrap();
        disk.write_at(head, 0).unwrap();
        for format in [RawFormat, Qcow2] {
            let id = format!("{format}-{}", head[0]);
            let image = export(&rig, &id, "plain", (format, AsTheyAre), Keys::default()).unwrap();
            assert_eq!((&*image.format, image.virtual_len), (format.name(), LEN));
            assert_eq!(image.encryption, None);
        }
    }
}

#[test]
fn what_a_volume_never_wrote_takes_no_room_in_an_image_of_it() {
    use std::os::unix::fs::MetadataExt;
    let rig = Rig::new();
    volumes(&rig);
    let size = LEN + (64 << 20);
    let large = wanted("large", size, VolumeEncryption::Passphrase);
    let target = Some(OwnedNewKey::Passphrase(Passphrase::new(OPENS.to_vec())));
    rig.volume("source", &large, Keys { source: None, target }).unwrap();
    let cases = [
        ("raw", (RawFormat, Decrypted), keys(None)),
        ("qcow2", (Qcow2, Decrypted), keys(None)),
        ("qcow2-luks", (Qcow2, AsTheyAre), keys(Some(super::rig::key()))),
        ("luks2", (RawFormat, AsTheyAre), Keys::default()),
    ];
    for (id, how, keys) in cases {
        let image = export(&rig, id, "large", how, keys).unwrap();
        assert_eq!(image.virtual_len, size);
        let taken = fs::metadata(rig.data(id)).unwrap().blocks() * 512;
        assert!(taken < LEN + (24 << 20), "{id} takes {taken} bytes");
        assert_eq!(image.real_len, taken);
    }
}

#[test]
fn qemu_reads_what_is_exported() {
    let name = "qemu_reads_what_is_exported";
    if !Tool::QEMU_IMG.available() {
        return skip(name, "qemu-img is missing");
    }
    let rig = Rig::new();
    volumes(&rig);
    let raw = rig.file(RawFormat);
    export(&rig, "plain", "plain", (Qcow2, AsTheyAre), Keys::default()).unwrap();
    let mut command = Tool::QEMU_IMG.command();
    command.args(["compare", "-f", "raw", "-F", "qcow2"]).arg(&raw).arg(rig.data("plain"));
    strongroom_testkit::run(command, b"").ok();
    let key = super::rig::key();
    export(&rig, "luks", "encrypted", (Qcow2, AsTheyAre), keys(Some(key))).unwrap();
    let secret = rig.at("secret");
    fs::write(&secret, super::rig::key().expose_bytes()).unwrap();
    let mut command = Tool::QEMU_IMG.command();
    command.args(["compare", "--object"]);
    command.arg(format!("secret,id=s,file={}", secret.display())).arg("--image-opts");
    command.arg(format!("driver=raw,file.filename={}", raw.display()));
    let image = rig.data("luks");
    let encryption = "encrypt.format=luks,encrypt.key-secret=s";
    command.arg(format!("driver=qcow2,{encryption},file.filename={}", image.display()));
    strongroom_testkit::run(command, b"").ok();
}

#[test]
fn an_interrupted_export_goes_on_with_its_moment_and_then_forgets_it() {
    let rig = Rig::new();
    volumes(&rig);
    let (volumes, id) = (rig.volumes(), "plain".parse().unwrap());
    // As a call that was killed leaves it.
    let moment: SnapshotId = "image-export-i".parse().unwrap();
    volumes.snapshot(&id, &moment, &()).unwrap();
    let disk = Raw::open(volumes.device_path(&id).unwrap(), Access::ReadWrite).unwrap();
    disk.write_at(&[0x11; 4096], 0).unwrap();
    let image = export(&rig, "i", "plain", (RawFormat, AsTheyAre), Keys::default()).unwrap();
    assert_eq!(rig.difference(&image), None);
    assert!(volumes.snapshots(None, 10).unwrap().is_empty());
    // Killed after its record was made.
    volumes.snapshot(&id, &moment, &()).unwrap();
    assert_eq!(export(&rig, "i", "plain", (RawFormat, AsTheyAre), Keys::default()).unwrap(), image);
    assert!(volumes.snapshots(None, 10).unwrap().is_empty());
    // Never gone on with.
    volumes.snapshot(&id, &"image-export-gone".parse().unwrap(), &()).unwrap();
    volumes.snapshot(&id, &"mine".parse().unwrap(), &()).unwrap();
    rig.library.clear_exports(&volumes).unwrap();
    let left = volumes.snapshots(None, 10).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id.as_str(), "mine");
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let rig = Rig::new();
    volumes(&rig);
    let blank = wanted("blank", LEN, VolumeEncryption::Passphrase);
    rig.volumes().create(&blank, &()).unwrap();
    let managed = wanted("managed", LEN, kms(rig.directory.path()).1);
    rig.volumes().create(&managed, &()).unwrap();
    let refused = |id: &str, volume: &str, how, keys| {
        let error = export(&rig, id, volume, how, keys).unwrap_err();
        let found = rig.library.image(&id.parse().unwrap()).unwrap();
        assert_eq!(found.condition, ImageCondition::Creating);
        (error.kind(), error.to_string())
    };
    let (_, text) = refused("a", "blank", (RawFormat, AsTheyAre), Keys::default());
    assert!(text.contains("was never formatted"), "{text}");
    let (_, text) = refused("b", "managed", (RawFormat, Decrypted), Keys::default());
    assert!(text.contains("was never formatted"), "{text}");
    let (kind, _) = refused("c", "none", (RawFormat, AsTheyAre), Keys::default());
    assert_eq!(kind, ErrorKind::NotFound);
    let (_, text) = refused("d", "plain", (Luks1, AsTheyAre), Keys::default());
    assert!(text.contains("say raw or qcow2"), "{text}");
    let (_, text) = refused("e", "encrypted", (RawFormat, Decrypted), Keys::default());
    assert!(text.contains("no passphrase was given"), "{text}");
    let wrong = Some(OwnedOpener::Passphrase(Passphrase::new(b"wrong".to_vec())));
    let wrong = Keys { source: wrong, target: None };
    let (kind, _) = refused("f", "encrypted", (Qcow2, Decrypted), wrong);
    assert_eq!(kind, ErrorKind::WrongPassphrase);
    let (_, text) = refused("g", "encrypted", (Luks2, Decrypted), keys(None));
    assert!(text.contains("say raw or qcow2"), "{text}");
}

#[test]
fn an_image_with_the_longest_name_has_a_moment_too() {
    let rig = Rig::new();
    volumes(&rig);
    let id = "x".repeat(128);
    export(&rig, &id, "plain", (RawFormat, AsTheyAre), Keys::default()).unwrap();
    assert_eq!(super::super::exporting::moment(&id.parse().unwrap()).as_str().len(), 13 + 64);
}
