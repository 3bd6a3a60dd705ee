//! Chains that QEMU makes, read through a gate that is open for some directories.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use strongroom_crypto::{CostPolicy, Passphrase};
use strongroom_disk::qcow2::{BackingFormat, BackingName, CreateOptions, Folders, Qcow2, create};
use strongroom_disk::{Access, Disk, Error, ErrorKind, Raw, Result};
use tempfile::TempDir;

use crate::tools::{available, qemu_img, qemu_io, run};

/// A directory with `base` (raw, all 1) in it.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("base"), vec![1; 1 << 20]).unwrap();
    directory
}

fn gate(directory: &Path) -> Folders<'static> {
    Folders::new(&[directory]).unwrap()
}

fn open(path: &Path, gate: &Folders<'_>) -> Result<Qcow2<Raw>> {
    Qcow2::open(Raw::open(path, Access::ReadOnly)?, Access::ReadOnly, gate)
}

fn refused(path: &Path, gate: &Folders<'_>) -> Error {
    open(path, gate).map(|_| ()).unwrap_err()
}

/// Checks that an image reads as `expected`, one byte from each place.
fn reads(image: &dyn Disk, expected: &[(u64, u8)]) {
    for (offset, byte) in expected {
        let mut found = [0];
        image.read_at(&mut found, *offset).unwrap();
        assert_eq!(found[0], *byte, "at {offset}");
    }
}

/// Makes `image` over a backing file, and writes `byte` to the 64 KiB at `offset`.
fn overlay(at: &Path, image: &str, backing: &str, format: &str, byte: u8, offset: u64) {
    run(at, "qemu-img", &["create", "-q", "-f", "qcow2", "-b", backing, "-F", format, image]);
    qemu_io(at, &["-f", "qcow2", image], &[format!("write -P {byte} {offset} 64k")]);
}

/// Records a name without looking whether there is such a file.
fn rename_backing(at: &Path, image: &str, name: &str, format: &str) {
    run(at, "qemu-img", &["rebase", "-q", "-u", "-f", "qcow2", "-b", name, "-F", format, image]);
}

#[test]
fn opens_chains_with_relative_and_absolute_names() {
    if !available("opens_chains_with_relative_and_absolute_names") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    fs::create_dir(at.join("sub")).unwrap();
    overlay(at, "sub/middle", "../base", "raw", 2, 65536);
    overlay(at, "top", "sub/middle", "qcow2", 3, 131_072);
    let expected = [(0, 1), (65536, 2), (131_072, 3)];
    reads(&open(&at.join("top"), &gate(at)).unwrap(), &expected);

    let absolute = at.join("sub/middle").display().to_string();
    for name in [&absolute, &format!("file:{absolute}"), "./sub/middle", "sub/../sub/./middle"] {
        rename_backing(at, "top", name, "qcow2");
        reads(&open(&at.join("top"), &gate(at)).unwrap(), &expected);
    }

    // Through links that stay inside, and with a directory that is named by a link.
    symlink("sub/middle", at.join("link")).unwrap();
    rename_backing(at, "top", "link", "qcow2");
    fs::copy(at.join("base"), at.join("sub/below")).unwrap();
    rename_backing(at, "sub/middle", "../base", "raw");
    let error = refused(&at.join("top"), &gate(at));
    // Names are relative to the directory of the name, as they are to QEMU: not to the target's.
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    rename_backing(at, "sub/middle", "base", "raw");
    reads(&open(&at.join("top"), &gate(at)).unwrap(), &expected);
    let elsewhere = TempDir::new().unwrap();
    let named = elsewhere.path().join("images");
    symlink(at, &named).unwrap();
    rename_backing(at, "top", &named.join("link").display().to_string(), "qcow2");
    reads(&open(&at.join("top"), &gate(&named)).unwrap(), &expected);
}

#[test]
fn opens_nothing_outside_of_the_directories() {
    if !available("opens_nothing_outside_of_the_directories") {
        return;
    }
    let (outside, inside) = (directory(), directory());
    let (out, at) = (outside.path(), inside.path());
    overlay(at, "top", "base", "raw", 3, 0);
    let path = at.join("top");
    symlink(out.join("base"), at.join("absolute")).unwrap();
    let up = format!("../{}/base", out.file_name().unwrap().display());
    symlink(&up, at.join("relative")).unwrap();
    symlink(out, at.join("folder")).unwrap();
    symlink(format!("/proc/{}/root{}", std::process::id(), out.display()), at.join("magic"))
        .unwrap();
    let sneaky = format!("{}/../{}/base", at.display(), out.file_name().unwrap().display());
    for name in [
        &out.join("base").display().to_string(),
        &up,
        &sneaky,
        "absolute",
        "relative",
        "folder/base",
        "magic/base",
        "/etc/passwd",
        "/dev/null",
    ] {
        rename_backing(at, "top", name, "raw");
        let error = refused(&path, &gate(at));
        assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {error}");
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains(name), "{text}");
        let nothing = refused(&path, &Folders::new(&[] as &[&Path]).unwrap());
        assert_eq!(nothing.kind(), ErrorKind::Denied, "{nothing}");
        assert!(nothing.to_string().contains("unasked"), "{nothing}");
    }
    // One directory more, and what lies there is opened, but still through no link into it.
    let both = Folders::new(&[at, out]).unwrap();
    for name in [&out.join("base").display().to_string(), &up] {
        rename_backing(at, "top", name, "raw");
        reads(&open(&path, &both).unwrap(), &[(0, 3), (65536, 1)]);
    }
    rename_backing(at, "top", "absolute", "raw");
    assert_eq!(refused(&path, &both).kind(), ErrorKind::Denied);
}

#[test]
fn opens_only_plain_files_that_are_named_by_a_path() {
    if !available("opens_only_plain_files_that_are_named_by_a_path") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    overlay(at, "top", "base", "raw", 3, 0);
    let path = at.join("top");
    for name in [
        "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"base\"}}",
        "nbd://127.0.0.1:10809/disk",
        "nbd:unix:/run/socket",
        "http://127.0.0.1/base",
        "rbd:pool/base",
        "fat:rw:.",
        "base:1",
        "file:base:1",
    ] {
        rename_backing(at, "top", name, "raw");
        let error = refused(&path, &gate(at));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
        assert!(error.to_string().contains("only files are opened"), "{error}");
    }
    fs::create_dir(at.join("folder")).unwrap();
    run(at, "mkfifo", &["pipe"]);
    for (name, kind) in [
        ("folder", ErrorKind::NotADisk),
        ("pipe", ErrorKind::NotADisk),
        ("missing", ErrorKind::NotFound),
        ("missing/base", ErrorKind::NotFound),
    ] {
        rename_backing(at, "top", name, "raw");
        let error = refused(&path, &gate(at));
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
    }
}

#[test]
fn a_format_is_what_the_image_says_and_never_what_the_bytes_look_like() {
    if !available("a_format_is_what_the_image_says_and_never_what_the_bytes_look_like") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    overlay(at, "middle", "base", "raw", 2, 0);
    let bytes = fs::read(at.join("middle")).unwrap();
    qemu_img(at, "create -q -f qcow2 -b middle -F raw top");
    let top = open(&at.join("top"), &gate(at)).unwrap();
    assert_eq!(top.backing().unwrap().len(), bytes.len() as u64);
    reads(&top, &[(0, b'Q'), (1, b'F'), (2, b'I'), (3, 0xfb)]);
    drop(top);

    // Old images need not say it; today's QEMU no longer makes such.
    fs::remove_file(at.join("top")).unwrap();
    let (raw, _permit) = Raw::create_new(at.join("top")).unwrap();
    let backing = Some(BackingName { name: "middle".to_owned(), format: None });
    create(&raw, &CreateOptions { backing, ..CreateOptions::new(1 << 20) }).unwrap();
    let error = refused(&at.join("top"), &gate(at));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("a guest may have written them"), "{error}");
    let raw = gate(at).with_default_format(BackingFormat::Raw);
    reads(&open(&at.join("top"), &raw).unwrap(), &[(0, b'Q')]);
    let qcow2 = gate(at).with_default_format(BackingFormat::Qcow2);
    reads(&open(&at.join("top"), &qcow2).unwrap(), &[(0, 2), (65536, 1)]);

    rename_backing(at, "top", "base", "qcow2");
    let error = refused(&at.join("top"), &raw);
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.contains("base (backing file of") && text.contains("top)"), "{text}");
    rename_backing(at, "top", "base", "vmdk");
    let error = refused(&at.join("top"), &raw);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("vmdk"), "{error}");
}

#[test]
fn chains_that_bite_their_tail_or_never_end_are_refused() {
    if !available("chains_that_bite_their_tail_or_never_end_are_refused") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    for name in ["one", "two", "three"] {
        overlay(at, name, "base", "raw", 2, 0);
    }
    fs::hard_link(at.join("one"), at.join("again")).unwrap();
    for (image, backing) in [("one", "two"), ("two", "three"), ("three", "again")] {
        rename_backing(at, image, backing, "qcow2");
    }
    let error = refused(&at.join("one"), &gate(at));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    let order: Vec<_> =
        ["/one", "-> ", "/two", "/three", "/again"].map(|name| text.rfind(name).unwrap()).to_vec();
    assert!(text.contains("lead back") && order[2..].is_sorted(), "{text}");
    rename_backing(at, "one", "one", "qcow2");
    assert_eq!(refused(&at.join("one"), &gate(at)).kind(), ErrorKind::Invalid);
    // An image that is its own data, too.
    let data = at.join("data");
    qemu_img(at, &format!("create -q -f qcow2 -o data_file={} selfish 1M", data.display()));
    fs::remove_file(&data).unwrap();
    fs::hard_link(at.join("selfish"), &data).unwrap();
    assert_eq!(refused(&at.join("selfish"), &gate(at)).kind(), ErrorKind::Invalid);

    let most = Folders::LONGEST_CHAIN;
    overlay(at, "1", "base", "raw", 2, 65536);
    for number in 2..=most {
        let (image, backing) = (number.to_string(), (number - 1).to_string());
        qemu_img(at, &format!("create -q -f qcow2 -u -b {backing} -F qcow2 {image} 1M"));
    }
    // With the base it is as many files as there may be.
    reads(&open(&at.join((most - 1).to_string()), &gate(at)).unwrap(), &[(0, 1), (65536, 2)]);
    let error = refused(&at.join(most.to_string()), &gate(at));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("more than 64 files"), "{error}");
}

#[test]
fn a_data_file_is_opened_like_its_image_and_that_of_a_backing_file_for_reading() {
    let test = "a_data_file_is_opened_like_its_image_and_that_of_a_backing_file_for_reading";
    if !available(test) {
        return;
    }
    let directory = directory();
    let at = directory.path();
    qemu_img(at, "create -q -f qcow2 -o data_file=data.raw,data_file_raw=on image 1M");
    qemu_io(at, &["-f", "qcow2", "image"], &["write -P 5 0 64k".to_owned()]);
    reads(&open(&at.join("image"), &gate(at)).unwrap(), &[(0, 5), (65536, 0)]);
    let raw = Raw::open(at.join("image"), Access::ReadWrite).unwrap();
    let writing = gate(at).with_access(Access::ReadWrite);
    let image = Qcow2::open(raw, Access::ReadWrite, &writing).unwrap();
    image.write_at(&[6; 65536], 65536).unwrap();
    image.close().unwrap();
    assert_eq!(fs::read(at.join("data.raw")).unwrap()[65536], 6);

    overlay(at, "top", "image", "qcow2", 7, 131_072);
    let raw = Raw::open(at.join("top"), Access::ReadWrite).unwrap();
    // Were it opened for writing, a file that nobody may write would say so, but to root.
    let top = Qcow2::open(raw, Access::ReadWrite, &writing).unwrap();
    top.write_at(&[8; 512], 0).unwrap();
    reads(&top, &[(0, 8), (512, 5), (65536, 6), (131_072, 7)]);
    top.close().unwrap();
    assert_eq!(fs::read(at.join("data.raw")).unwrap()[0], 5);

    let outside = TempDir::new().unwrap();
    let name = outside.path().join("data.raw").display().to_string();
    qemu_img(at, &format!("create -q -f qcow2 -o data_file={name} away 1M"));
    let error = refused(&at.join("away"), &writing);
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("external data file"), "{error}");
}

#[test]
fn encrypted_layers_open_with_any_of_the_passphrases() {
    if !available("encrypted_layers_open_with_any_of_the_passphrases") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    let secret = |id: &str| format!("secret,id={id},data=key of {id}");
    let (base, middle) = (secret("base"), secret("middle"));
    let objects = ["--object", &base, "--object", &middle];
    let iterations = "iter-time=100";
    let image_opts = "driver=luks,key-secret=base,file.filename=volume";
    let create = ["create", "-q", "-f", "luks", "-o"];
    let options = format!("key-secret=base,{iterations}");
    run(at, "qemu-img", &[&create[..], &[&options, "volume", "1M"], &objects[..]].concat());
    qemu_io(
        at,
        &[&objects[..], &["--image-opts", image_opts]].concat(),
        &["write -P 4 0 1M".to_owned()],
    );
    let options = format!("encrypt.format=luks,encrypt.key-secret=middle,encrypt.{iterations}");
    let create = ["create", "-q", "-u", "-f", "qcow2", "-b", "volume", "-F", "luks", "-o"];
    run(at, "qemu-img", &[&create[..], &[&options, "middle", "1M"], &objects[..]].concat());
    let image_opts = "driver=qcow2,encrypt.key-secret=middle,file.filename=middle,\
                      backing.driver=luks,backing.key-secret=base,backing.file.filename=volume";
    qemu_io(
        at,
        &[&objects[..], &["--image-opts", image_opts]].concat(),
        &["write -P 5 64k 64k".to_owned()],
    );
    qemu_img(at, "create -q -f qcow2 -u -b middle -F qcow2 top 1M");

    let keys: Vec<_> = ["key of middle", "something else", "key of base"]
        .map(|key| Passphrase::new(key.as_bytes().to_vec()))
        .into();
    let keys: Vec<_> = keys.iter().collect();
    let policy = CostPolicy::default();
    let all = gate(at).with_passphrases(&keys, policy);
    reads(&open(&at.join("top"), &all).unwrap(), &[(0, 4), (65536, 5), (131_072, 4)]);

    for (keys, locked) in [(&keys[..0], "volume"), (&keys[..2], "volume"), (&keys[2..], "middle")] {
        let error = refused(&at.join("top"), &gate(at).with_passphrases(keys, policy));
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        assert!(error.to_string().contains(&format!("{locked} (backing file of")), "{error}");
    }
    let thrifty = CostPolicy { max_time: std::time::Duration::ZERO, ..policy };
    let error = refused(&at.join("top"), &gate(at).with_passphrases(&keys, thrifty));
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(std::error::Error::source(&error).is_some(), "{error}");

    // What all layers cost together is bounded, too: here the second is one too many.
    let volume = fs::read(at.join("volume")).unwrap();
    let header = strongroom_luks::Header::parse(&volume, volume.len() as u64);
    let cost = header.unwrap().header.keyslot_cost(0).unwrap();
    let image = open(&at.join("middle"), &gate(at).with_passphrases(&keys[2..], policy)).unwrap();
    let inner =
        strongroom_luks::Header::Luks1(image.luks_header().unwrap()).keyslot_cost(0).unwrap();
    let limit = cost.max(inner);
    let one_layer = CostPolicy { max_time: limit, ..policy };
    assert!(open(&at.join("middle"), &gate(at).with_passphrases(&keys[2..], one_layer)).is_ok());
    let wrong = Passphrase::new(b"wrong".to_vec());
    let many = [&[&wrong; 8][..], &keys[..]].concat();
    let error = refused(&at.join("top"), &gate(at).with_passphrases(&many, one_layer));
    assert_eq!(error.kind(), ErrorKind::Locked);
}
