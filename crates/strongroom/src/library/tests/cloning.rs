//! Images that are fetched, cloned, listed and deleted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use strongroom_model::ImageFormat;
use strongroom_testkit::{Reply, Server, Tool, skip};

use super::rig::{
    LEN, Rig, cheap, decrypt, encrypt, image_id, key, len_of, library, new, pattern, serve, sha512,
};
use crate::library::{Copying, ImageCondition, NewImage, checksum};
use crate::{Error, ErrorKind, OwnedNewKey, OwnedOpener};

#[test]
fn every_format_is_fetched_as_it_is_and_known() {
    let rig = Rig::new();
    for format in ImageFormat::ALL {
        let file = rig.file(format);
        let image = rig.import(format.name(), &file).unwrap();
        let data = rig.data(format.name());
        assert_eq!(image.format, format.name());
        assert_eq!(image.condition, ImageCondition::Ready);
        assert_eq!((image.len, image.virtual_len), (len_of(&file), LEN), "{format}");
        assert_eq!(image.checksum, Some(sha512(&file)));
        assert_eq!(fs::read(&data).unwrap(), fs::read(&file).unwrap());
        assert_eq!(image.encryption.is_some(), format.luks().is_some());
        if let Some(encryption) = &image.encryption {
            assert_eq!((&*encryption.cipher, encryption.key_size_bits), ("aes-xts-plain64", 512));
            assert!(encryption.uuid.len() == 36 && encryption.digest.len() >= 40);
        }
        assert_eq!(rig.difference(&image), None);
        let folder = data.parent().unwrap();
        assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["data", "origin"]);
        let taken = checksum(&rig.library.file(&image.id).unwrap(), &rig.work()).unwrap();
        assert_eq!(taken.to_string(), format!("sha512:{}", image.checksum.unwrap()));
    }
    let all = rig.library.list(None, 10).unwrap();
    let names: Vec<&str> = all.iter().map(|image| image.id.as_str()).collect();
    assert_eq!(names, ["luks1", "luks2", "qcow2", "qcow2-luks", "raw"]);
    let some = rig.library.list(Some(&image_id("luks2")), 2).unwrap();
    assert_eq!(some[0].id.as_str(), "qcow2");
    assert_eq!(some.len(), 2);
    assert!(rig.library.usage().unwrap().available > 0);
}

#[test]
fn a_server_that_knows_no_ranges_or_no_names_of_states_will_do() {
    let rig = Rig::new();
    let bytes = fs::read(rig.file(ImageFormat::Qcow2)).unwrap();
    let len = bytes.len() as u64;
    let content = bytes.clone();
    let part = move |range: std::ops::Range<u64>| {
        content[range.start as usize..range.end as usize].to_vec()
    };
    let whole = Server::serving(part.clone(), move |_| Reply::whole(len));
    let nameless = Server::serving(part, move |request| Reply::ranged(request, len, ""));
    for (id, server) in [("whole", whole), ("nameless", nameless)] {
        let image = rig.library.fetch(&new(id), &server.url("/i"), &rig.work()).unwrap();
        assert_eq!((image.len, &*image.format), (len, "qcow2"));
        assert_eq!(fs::read(rig.data(id)).unwrap(), bytes);
    }
}

#[test]
fn a_part_that_looks_whole_is_refused_unless_its_checksum_is_known() {
    let rig = Rig::new();
    let file = rig.file(ImageFormat::Raw);
    let bytes = fs::read(&file).unwrap();
    let server = Server::start(move |_| {
        // Nothing tells where it ends.
        let body = strongroom_testkit::Body::Bytes(bytes.clone());
        Reply { body, ..Reply::new(200) }.with("Connection", "close")
    });
    let fetch = |new: &NewImage| rig.library.fetch(new, &server.url("/x"), &rig.work());
    let error = fetch(&new("untold")).unwrap_err();
    assert!(matches!(error, Error::EndUntold { .. }), "{error}");
    let checksum = Some(format!("sha512:{}", sha512(&file)).parse().unwrap());
    let image = fetch(&NewImage { checksum, ..new("told") }).unwrap();
    assert_eq!(image.checksum, Some(sha512(&file)));
}

#[test]
fn a_checksum_that_is_not_met_leaves_nothing_to_use() {
    let rig = Rig::new();
    let file = rig.file(ImageFormat::Raw);
    let right = format!("sha512:{}", sha512(&file));
    for checksum in [format!("sha512:{}", "0".repeat(128)), format!("sha256:{}", "1".repeat(64))] {
        let wanted = NewImage { checksum: Some(checksum.parse().unwrap()), ..new("raw") };
        let error = rig.import_as(&wanted, &file).unwrap_err();
        assert!(matches!(error, Error::Checksum { .. }), "{error}");
        assert!(!rig.data("raw").exists());
        let found = rig.library.image(&image_id("raw")).unwrap();
        assert_eq!(found.condition, ImageCondition::Creating);
        assert_eq!(rig.library.file(&found.id).unwrap_err().kind(), ErrorKind::Busy);
    }
    let wanted = NewImage { checksum: Some(right.parse().unwrap()), ..new("raw") };
    // The origin of a fetch has its host and port: another server is another way to make an image.
    let image = rig.import_as(&wanted, &file).unwrap();
    assert_eq!(image.checksum.as_deref(), right.strip_prefix("sha512:"));
}

#[test]
fn what_is_said_of_the_format_counts_and_is_checked() {
    let rig = Rig::new();
    let qcow2 = rig.file(ImageFormat::Qcow2);
    let said = |id: &str, format| NewImage { format: Some(format), ..new(id) };
    let raw = rig.import_as(&said("as-raw", ImageFormat::Raw), &qcow2).unwrap();
    assert_eq!((&*raw.format, raw.virtual_len), ("raw", len_of(&qcow2)));
    let error = rig.import_as(&said("as-luks", ImageFormat::Luks2), &qcow2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "image as-luks is not of the format luks2: it has no LUKS header"
    );
    let luks1 = rig.file(ImageFormat::Luks1);
    assert!(rig.import_as(&said("as-luks2", ImageFormat::Luks2), &luks1).is_err());
    assert!(rig.import_as(&said("as-qcow2", ImageFormat::Qcow2), &luks1).is_err());
    // QEMU calls both qcow2.
    let encrypted = rig.file(ImageFormat::Qcow2Luks);
    let image = rig.import_as(&said("encrypted", ImageFormat::Qcow2), &encrypted).unwrap();
    assert_eq!(image.format, "qcow2-luks");
    assert!(rig.import_as(&said("plain", ImageFormat::Qcow2Luks), &qcow2).is_err());
}

#[test]
fn a_qcow2_image_that_needs_another_file_is_refused() {
    let name = "a_qcow2_image_that_needs_another_file_is_refused";
    if !Tool::QEMU_IMG.available() {
        return skip(name, "qemu-img is missing");
    }
    let rig = Rig::new();
    let (base, overlay) = (rig.file(ImageFormat::Qcow2), rig.at("overlay.qcow2"));
    let mut command = Tool::QEMU_IMG.command();
    command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(&base).arg(&overlay);
    strongroom_testkit::run(command, b"").ok();
    let error = rig.import("overlay", &overlay).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request, "{error}");
    assert_eq!(
        rig.library.image(&image_id("overlay")).unwrap().condition,
        ImageCondition::Creating
    );
}

#[test]
fn encrypting_and_decrypting_gives_the_original_back() {
    let rig = Rig::new();
    let file = rig.file(ImageFormat::Raw);
    let original = rig.import("original", &file).unwrap();
    let encrypted = rig.clone("encrypted", "original", encrypt()).unwrap();
    assert_eq!((&*encrypted.format, encrypted.virtual_len), ("luks2", LEN));
    assert_eq!(encrypted.len, LEN + (16 << 20));
    assert_eq!(rig.difference(&encrypted), None);
    let copy = rig.clone("copy", "encrypted", Copying::Ignore).unwrap();
    assert_eq!((copy.checksum, copy.encryption), (encrypted.checksum, encrypted.encryption));
    let decrypted = rig.clone("decrypted", "copy", decrypt()).unwrap();
    assert_eq!(decrypted.checksum, original.checksum);
    assert_eq!(decrypted.encryption, None);
}

#[test]
fn every_plain_format_is_encrypted_and_every_encrypted_one_decrypted() {
    let rig = Rig::new();
    for format in ImageFormat::ALL {
        rig.import(format.name(), &rig.file(format)).unwrap();
        let to = format!("of-{format}");
        let (how, back) = match format.luks() {
            None => (encrypt(), "luks2"),
            Some(_) => (decrypt(), "raw"),
        };
        let image = rig.clone(&to, format.name(), how).unwrap();
        assert_eq!((&*image.format, image.virtual_len), (back, LEN));
        assert_eq!(rig.difference(&image), None);
        let copy = rig.clone(&format!("copy-{format}"), format.name(), Copying::Ignore).unwrap();
        assert_eq!(copy.format, format.name());
        let folder = rig.data(format.name());
        assert_eq!(fs::read(rig.data(copy.id.as_str())).unwrap(), fs::read(folder).unwrap());
        assert_eq!(pattern().first_difference(&disk(&rig, &to)).unwrap(), None);
    }
}

/// Returns the contents of an image.
fn disk(rig: &Rig, id: &str) -> std::sync::Arc<dyn strongroom_disk::Disk> {
    let image = rig.library.image(&image_id(id)).unwrap();
    let key = key();
    let side = crate::images::Side {
        path: &rig.data(id),
        format: Some(image.format.parse().unwrap()),
        header: None,
        opener: image.encryption.map(|_| (&key).into()),
    };
    crate::images::open(side, &[], &rig.work()).unwrap().into_disk()
}

#[test]
fn other_tools_open_what_is_encrypted() {
    let name = "other_tools_open_what_is_encrypted";
    if !Tool::CRYPTSETUP.available() || !Tool::QEMU_IMG.available() {
        return skip(name, "cryptsetup or qemu-img is missing");
    }
    let rig = Rig::new();
    rig.import("plain", &rig.file(ImageFormat::Qcow2)).unwrap();
    rig.clone("encrypted", "plain", encrypt()).unwrap();
    let mut command = Tool::CRYPTSETUP.command();
    command.args(["open", "--test-passphrase", "--type", "luks2", "--key-file", "-"]);
    command.arg(rig.data("encrypted"));
    strongroom_testkit::run(command, key().expose_bytes()).ok();
    rig.clone("decrypted", "encrypted", decrypt()).unwrap();
    let mut command = Tool::QEMU_IMG.command();
    command.args(["compare", "-f", "raw", "-F", "qcow2"]);
    command.arg(rig.data("decrypted")).arg(rig.data("plain"));
    strongroom_testkit::run(command, b"").ok();
}

#[test]
fn what_does_not_fit_the_operation_is_refused() {
    let rig = Rig::new();
    rig.import("raw", &rig.file(ImageFormat::Raw)).unwrap();
    rig.import("luks2", &rig.file(ImageFormat::Luks2)).unwrap();
    let texts = [
        (rig.clone("a", "luks2", encrypt()), "image luks2 is encrypted already"),
        (rig.clone("b", "raw", decrypt()), "image raw is not encrypted"),
        (rig.clone("c", "none", Copying::Ignore), "image none does not exist"),
        (rig.clone("d", "a", Copying::Ignore), "image a cannot be used: it is still being made"),
    ];
    for (result, text) in texts {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    let wrong = strongroom_crypto::Passphrase::new(b"wrong".to_vec());
    let how = Copying::Decrypt { opener: OwnedOpener::Passphrase(wrong) };
    assert_eq!(rig.clone("e", "luks2", how).unwrap_err().kind(), ErrorKind::WrongPassphrase);
}

#[test]
fn the_same_again_returns_what_is_there_and_another_is_refused() {
    let rig = Rig::new();
    let file = rig.file(ImageFormat::Raw);
    let server = serve(fs::read(&file).unwrap());
    let fetch = |query: &str| {
        let url = server.url(&format!("/raw{query}"));
        rig.library.fetch(&new("raw"), &url, &rig.work())
    };
    let image = fetch("?signature=canary-of-a-url").unwrap();
    let served = server.served();
    assert_eq!(fetch("?signature=another").unwrap(), image);
    assert_eq!(server.served(), served);
    let origin = fs::read_to_string(rig.at("images").join("raw").join("origin")).unwrap();
    assert!(!origin.contains("canary"), "{origin}");
    let error = rig.clone("raw", "raw", Copying::Ignore).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_deleted_image_is_gone_and_so_is_one_whose_deletion_was_interrupted() {
    let rig = Rig::new();
    for id in ["one", "other"] {
        rig.import(id, &rig.file(ImageFormat::Raw)).unwrap();
    }
    let one = image_id("one");
    rig.library.delete(&one).unwrap();
    rig.library.delete(&one).unwrap();
    assert_eq!(rig.library.image(&one).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!rig.data("one").exists());
    let mut stored = rig.library.load(&image_id("other")).unwrap();
    stored.record.condition = ImageCondition::Deleting;
    crate::catalog::Records::of(&*rig.library.catalog).replace(stored).unwrap();
    let again = library(rig.directory.path());
    assert!(again.list(None, 10).unwrap().is_empty());
    assert!(!rig.data("other").exists());
}

#[test]
fn an_interrupted_job_goes_on_with_its_own_key_and_begins_anew_with_another() {
    let rig = Rig::new();
    rig.import("raw", &rig.file(ImageFormat::Raw)).unwrap();
    let how = |passphrase: &[u8]| Copying::Encrypt {
        request: cheap(),
        key: OwnedNewKey::Passphrase(strongroom_crypto::Passphrase::new(passphrase.to_vec())),
    };
    rig.cancel_at_first_bytes(|work| {
        rig.library.clone_image(&new("luks"), &image_id("raw"), how(b"the first key"), work)
    });
    let partial = rig.at("images").join("luks").join(".data.partial");
    assert!(partial.exists(), "nothing was left to go on with");
    assert!(!rig.data("luks").exists());
    let image = rig.clone("luks", "raw", how(key().expose_bytes())).unwrap();
    assert_eq!(rig.difference(&image), None);
    assert!(!partial.exists());
    assert!(!rig.cancelled().load(Ordering::Relaxed));
}

#[test]
fn thirty_encryptions_of_one_image_at_once_all_succeed() {
    let rig = Rig::new();
    rig.import("source", &rig.file(ImageFormat::Qcow2)).unwrap();
    std::thread::scope(|scope| {
        let rig = &rig;
        let clones: Vec<_> = (0..30)
            .map(|number| {
                scope.spawn(move || rig.clone(&format!("c{number}"), "source", encrypt()))
            })
            .collect();
        for clone in clones {
            let image = clone.join().unwrap().unwrap();
            assert_eq!(rig.difference(&image), None);
        }
    });
    let all = rig.library.list(None, 100).unwrap();
    let uuids: std::collections::BTreeSet<_> =
        all.iter().filter_map(|image| image.encryption.as_ref()).map(|it| &it.uuid).collect();
    assert_eq!(uuids.len(), 30);
}
