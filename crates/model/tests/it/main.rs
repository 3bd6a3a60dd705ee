//! The documents of `examples/libvirt`, each read, written and read again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this binary is tests throughout")]

use std::fs;
use std::path::Path;

use strongroom_model::dialect::libvirt::{Creation, DomainDisk, Secret, Volume, xml};

#[test]
fn every_example_of_libvirt_is_read_and_read_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/libvirt");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let root = xml::read(text.as_bytes()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let notes = match root.name.as_str() {
            "secret" => secret(&text),
            "volume" => volume(&text),
            "disk" => disk(&text),
            other => panic!("{name} is <{other}>"),
        };
        match name {
            "23-volume-documented.xml" => assert!(notes[0].contains("'volume'"), "{notes:?}"),
            "24-volume-luks2.xml" => assert!(notes[0].contains("luks2"), "{notes:?}"),
            _ => assert_eq!(notes, [""; 0], "{name}"),
        }
        count += 1;
    }
    assert!(count >= 11, "{count}");
}

fn secret(text: &str) -> Vec<String> {
    let (secret, notes) = Secret::read_with_notes(text.as_bytes()).unwrap();
    assert_eq!(Secret::read(secret.write().as_bytes()), Ok(secret));
    notes
}

fn volume(text: &str) -> Vec<String> {
    let (volume, mut notes) = Volume::read_with_notes(text.as_bytes()).unwrap();
    notes.extend(volume.check_creation(Creation::New).unwrap());
    let encryption = volume.target.encryption.as_ref().unwrap();
    assert!(encryption.request().unwrap().cipher.is_some());
    assert_eq!(Volume::read(volume.write().as_bytes()), Ok(volume));
    notes
}

fn disk(text: &str) -> Vec<String> {
    let (disk, notes) = DomainDisk::read_with_notes(text.as_bytes()).unwrap();
    assert_eq!(DomainDisk::read(disk.write().as_bytes()), Ok(disk));
    notes
}
