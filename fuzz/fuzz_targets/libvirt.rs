//! libvirt's XML: bounded, never a panic. What is read is read again as it is from what is written, and
//! what can be made is something that the ciphers of the house do.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_crypto::CipherSpec;
use strongroom_model::Error;
use strongroom_model::dialect::libvirt::{Creation, DomainDisk, Encryption, Secret, Volume, xml};

fuzz_target!(|text: &[u8]| {
    let root = match xml::read(text) {
        Ok(root) => root,
        Err(error) => return placed(&error),
    };
    let written = xml::write(&root);
    assert!(xml::read(written.as_bytes()) == Ok(root.clone()), "{written}");
    match root.name.as_str() {
        "encryption" => encryption(&root),
        "volume" => volume(text),
        "secret" => secret(text),
        "disk" => disk(text),
        _ => {}
    }
});

fn encryption(element: &xml::Element) {
    match Encryption::read(element) {
        Ok(encryption) => {
            assert!(Encryption::read(&encryption.write()).as_ref() == Ok(&encryption));
            possible(&encryption);
        }
        Err(error) => placed(&error),
    }
}

fn volume(text: &[u8]) {
    match Volume::read(text) {
        Ok(volume) => {
            assert!(Volume::read(volume.write().as_bytes()).as_ref() == Ok(&volume));
            for creation in [Creation::New, Creation::From] {
                let made = volume.check_creation(creation);
                if let (Ok(_), Some(encryption)) = (made, &volume.target.encryption) {
                    assert!(encryption.request().is_ok(), "it was checked");
                    possible(encryption);
                }
            }
        }
        Err(error) => placed(&error),
    }
}

fn secret(text: &[u8]) {
    match Secret::read(text) {
        Ok(secret) => assert!(Secret::read(secret.write().as_bytes()) == Ok(secret)),
        Err(error) => placed(&error),
    }
}

fn disk(text: &[u8]) {
    match DomainDisk::read(text) {
        Ok(disk) => assert!(DomainDisk::read(disk.write().as_bytes()) == Ok(disk)),
        Err(error) => placed(&error),
    }
}

/// Checks that what an encryption asks for is something to encrypt with.
fn possible(encryption: &Encryption) {
    let Ok(request) = encryption.request() else { return };
    let spec: CipherSpec = request.cipher.expect("it is said").parse().expect("the cipher exists");
    assert!(spec.open_only().is_none(), "{spec} is for what is new");
    let bits = request.key_size_bits.expect("it is said");
    spec.with_key_bits(bits as usize).expect("the key size exists");
    let hash: Result<strongroom_crypto::Hash, _> = request.hash.expect("it is said").parse();
    hash.expect("the hash exists");
}

fn placed(error: &Error) {
    let Error::Xml { line, problem, .. } = error else { unreachable!("{error}") };
    assert!(*line > 0 && !problem.is_empty(), "{error}");
}
