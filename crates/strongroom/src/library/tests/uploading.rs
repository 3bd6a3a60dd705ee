//! Images that are uploaded.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use strongroom_model::ImageFormat;

use super::rig::{LEN, Rig, decrypt, image_id, key, len_of, library, new, sha512};
use crate::library::{ImageCondition, NewImage};
use crate::{Error, ErrorKind};

/// Gives some bytes and then an error.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(io::Error::other("the connection broke")),
            length => Ok(length),
        }
    }
}

#[test]
fn every_format_comes_in_pieces_and_is_known_at_the_end() {
    let rig = Rig::new();
    for format in ImageFormat::ALL {
        let file = rig.file(format);
        let bytes = fs::read(&file).unwrap();
        let (id, len) = (image_id(format.name()), bytes.len() as u64);
        assert_eq!(rig.library.begin_upload(&new(format.name()), len).unwrap(), 0);
        let mut offset = 0;
        for piece in bytes.chunks(1_234_567) {
            offset = rig.library.append(&id, offset, &mut &*piece).unwrap();
            assert_eq!(rig.library.uploaded(&id).unwrap(), (offset, len));
            // Another process knows as much.
            let again = library(rig.directory.path());
            assert_eq!(again.begin_upload(&new(format.name()), len).unwrap(), offset);
            assert_eq!(again.image(&id).unwrap().condition, ImageCondition::Creating);
        }
        let image = rig.library.finish_upload(&id, &rig.work()).unwrap();
        assert_eq!(image.checksum, Some(sha512(&file)));
        assert_eq!((&*image.format, image.len, image.virtual_len), (format.name(), len, LEN));
        assert_eq!(fs::read(rig.data(id.as_str())).unwrap(), bytes);
        assert_eq!(rig.difference(&image), None);
        assert_eq!(rig.library.finish_upload(&id, &rig.work()).unwrap(), image);
        assert_eq!(rig.library.begin_upload(&new(format.name()), len).unwrap(), len);
        if format == ImageFormat::Raw {
            let blocks = fs::metadata(rig.data("raw")).unwrap().blocks();
            assert!(blocks * 512 < len, "its zeros take room");
        }
    }
    assert_eq!(rig.clone("plain", "luks2", decrypt()).unwrap().checksum, {
        rig.library.image(&image_id("raw")).unwrap().checksum
    });
}

#[test]
fn what_came_before_an_error_stays_and_the_rest_follows() {
    let rig = Rig::new();
    let bytes = fs::read(rig.file(ImageFormat::Raw)).unwrap();
    let id = image_id("raw");
    rig.library.begin_upload(&new("raw"), LEN).unwrap();
    let error = rig.library.append(&id, 0, &mut Broken(&bytes[..3_000_001])).unwrap_err();
    assert!(matches!(error, Error::Clone(_)), "{error}");
    assert_eq!(rig.library.uploaded(&id).unwrap(), (3_000_001, LEN));
    let wrong = rig.library.append(&id, 3_000_000, &mut &bytes[3_000_000..]).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "image raw has come up to byte 3000001, so that byte 3000000 cannot be the next one"
    );
    let incomplete = rig.library.finish_upload(&id, &rig.work()).unwrap_err();
    assert_eq!(incomplete.kind(), ErrorKind::Request);
    assert_eq!(rig.library.append(&id, 3_000_001, &mut &bytes[3_000_001..]).unwrap(), LEN);
    let long = rig.library.append(&id, LEN, &mut &b"x"[..]).unwrap_err();
    assert_eq!(
        long.to_string(),
        format!("image raw was announced with {LEN} bytes, and more have come")
    );
    let image = rig.library.finish_upload(&id, &rig.work()).unwrap();
    assert_eq!(rig.difference(&image), None);
}

#[test]
fn bytes_that_were_never_durable_are_given_up() {
    let rig = Rig::new();
    let bytes = fs::read(rig.file(ImageFormat::Raw)).unwrap();
    let id = image_id("raw");
    rig.library.begin_upload(&new("raw"), LEN).unwrap();
    rig.library.append(&id, 0, &mut &bytes[..1 << 20]).unwrap();
    // As a process that is killed in the middle of a piece leaves them.
    let upload = rig.at("images").join("raw").join("upload");
    let mut longer = fs::read(&upload).unwrap();
    longer.extend([0xff; 12345]);
    fs::write(&upload, longer).unwrap();
    rig.library.append(&id, 1 << 20, &mut &bytes[1 << 20..]).unwrap();
    let image = rig.library.finish_upload(&id, &rig.work()).unwrap();
    assert_eq!((image.checksum, image.len), (Some(sha512(&rig.at("contents.raw"))), LEN));
}

#[test]
fn another_upload_of_that_name_is_refused() {
    let rig = Rig::new();
    let checksum = |digit: &str| Some(format!("sha512:{}", digit.repeat(128)).parse().unwrap());
    let one = NewImage { checksum: checksum("1"), ..new("one") };
    rig.library.begin_upload(&one, 512).unwrap();
    let refused = |new: &NewImage, len| rig.library.begin_upload(new, len).unwrap_err().kind();
    assert_eq!(refused(&one, 1024), ErrorKind::AlreadyExists);
    let other = NewImage { checksum: checksum("2"), ..one.clone() };
    assert_eq!(refused(&other, 512), ErrorKind::AlreadyExists);
    let other = NewImage { format: Some(ImageFormat::Raw), ..one.clone() };
    assert_eq!(refused(&other, 512), ErrorKind::AlreadyExists);
    assert_eq!(rig.library.begin_upload(&one, 512).unwrap(), 0);
    assert_eq!(refused(&new("two"), 0), ErrorKind::Request);
    let none = rig.library.append(&image_id("none"), 0, &mut &b""[..]).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

#[test]
fn an_upload_that_is_not_what_it_should_be_stays_unfinished() {
    let rig = Rig::new();
    let mut bytes = fs::read(rig.file(ImageFormat::Luks2)).unwrap();
    // Both copies of the header.
    for offset in [0, 0x4000] {
        bytes[offset + 448] ^= 1;
    }
    let wrong = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let checked = NewImage { checksum: Some(wrong), ..new("checked") };
    let raw = fs::read(rig.file(ImageFormat::Raw)).unwrap();
    for (new, bytes) in [(new("damaged"), &bytes), (checked, &raw)] {
        rig.library.begin_upload(&new, bytes.len() as u64).unwrap();
        rig.library.append(&new.id, 0, &mut bytes.as_slice()).unwrap();
        let error = rig.library.finish_upload(&new.id, &rig.work()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Image, "{error}");
        let found = rig.library.image(&new.id).unwrap();
        assert_eq!(found.condition, ImageCondition::Creating);
        assert!(!rig.data(new.id.as_str()).exists());
        rig.library.delete(&new.id).unwrap();
    }
    assert!(len_of(&rig.file(ImageFormat::Raw)) == LEN);
}

#[test]
fn an_upload_begins_anew_but_never_over_a_ready_image() {
    let rig = Rig::new();
    let bytes = fs::read(rig.file(ImageFormat::Raw)).unwrap();
    let id = image_id("raw");
    rig.library.restart_upload(&new("raw"), 7).unwrap();
    rig.library.append(&id, 0, &mut &bytes[..3]).unwrap();
    rig.library.restart_upload(&new("raw"), LEN).unwrap();
    assert_eq!(rig.library.uploaded(&id).unwrap(), (0, LEN));
    rig.library.append(&id, 0, &mut &*bytes).unwrap();
    let image = rig.library.finish_upload(&id, &rig.work()).unwrap();
    let error = rig.library.restart_upload(&new("raw"), LEN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(rig.library.image(&id).unwrap(), image);
    assert_eq!(fs::read(rig.data("raw")).unwrap(), bytes);
}

#[test]
fn contents_that_end_within_a_sector_are_refused_with_the_lengths_that_fit() {
    let rig = Rig::new();
    for len in [1000, 1024] {
        let wanted = new(&format!("raw-{len}"));
        rig.library.begin_upload(&wanted, len).unwrap();
        rig.library.append(&wanted.id, 0, &mut io::repeat(7).take(len)).unwrap();
        let ended = rig.library.finish_upload(&wanted.id, &rig.work());
        match len {
            1024 => assert_eq!(ended.unwrap().virtual_len, 1024),
            _ => {
                let error = ended.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Image);
                assert!(error.to_string().contains("make it 512 or 1024 bytes long"), "{error}");
            }
        }
    }
    let said = NewImage { format: Some(ImageFormat::Raw), ..new("said") };
    let error = rig.library.begin_upload(&said, 1000).unwrap_err();
    assert!(error.to_string().contains("has 1000 bytes"), "{error}");
    // Of other formats the file may have any length.
    let other = NewImage { format: Some(ImageFormat::Qcow2), ..new("other") };
    assert_eq!(rig.library.begin_upload(&other, 1000).unwrap(), 0);
}

#[test]
fn a_passphrase_is_tried_on_every_encrypted_format() {
    let rig = Rig::new();
    let other = strongroom_crypto::Passphrase::new(b"another one".to_vec());
    for format in ImageFormat::ALL {
        let image = rig.import(format.name(), &rig.file(format)).unwrap();
        let right = rig.library.check_passphrase(&image.id, &key(), &rig.work());
        let wrong = rig.library.check_passphrase(&image.id, &other, &rig.work());
        let kind = |tried: crate::Result<()>| tried.map_err(|error| error.kind());
        let expected = match image.encryption {
            Some(_) => (Ok(()), Err(ErrorKind::WrongPassphrase)),
            None => (Err(ErrorKind::Image), Err(ErrorKind::Image)),
        };
        assert_eq!((kind(right), kind(wrong)), expected, "{format}");
    }
    let policy =
        strongroom_crypto::CostPolicy { max_time: std::time::Duration::ZERO, ..rig.work().policy };
    let work = crate::images::Work { policy, ..rig.work() };
    let error = rig.library.check_passphrase(&image_id("luks2"), &key(), &work).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::WrongPassphrase, "{error}");
}
