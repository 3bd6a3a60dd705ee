//! New images, and what `image info` says of them and of others.

use serde_json::{Value, json};
use strongroom_testkit::Tool;

use crate::workplace::{CHEAP, Workplace, has};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// How QEMU is told to open an encrypted image.
const SECRET: &str = "--object secret,id=key,file=pw";

#[test]
fn every_format_that_is_created_opens_elsewhere_and_reads_as_zeros() {
    if !has("creation::every_format", &[Tool::QEMU_IMG, Tool::CRYPTSETUP]) {
        return;
    }
    let place = Workplace::new();
    place.sized("zeros", 5 << 20);
    let key = format!("--passphrase-file pw {CHEAP}");
    for (name, options, opened) in [
        ("a.img", "", "driver=raw"),
        ("b", "--format raw", "driver=raw"),
        ("c.qcow2", "", "driver=qcow2"),
        ("d", "--format qcow2", "driver=qcow2"),
        ("e.qcow2", "--qcow2-version 2 --cluster-size 4K", "driver=qcow2"),
        ("f.qcow2", "--refcount-bits 64 --lazy-refcounts --compress-type zstd", "driver=qcow2"),
        ("g.qcow2", "--extended-l2 --cluster-size 2M --refcount-bits 1", "driver=qcow2"),
        ("h.qcow2", &key, "driver=qcow2,encrypt.key-secret=key"),
        (
            "i",
            &format!("--format qcow2-luks --cluster-size 512 {key}"),
            "driver=qcow2,encrypt.key-secret=key",
        ),
        ("j", &format!("--format luks1 {key}"), "driver=luks,key-secret=key"),
    ] {
        place.strongroom(&format!("image create {name} 5M {options}")).ok();
        let image = format!("{opened},file.filename={name}");
        if opened.starts_with("driver=qcow2") {
            place.qemu_img(&format!("check {SECRET} --image-opts {image}")).ok();
            place.strongroom(&format!("image check {name}")).ok();
            assert!(place.allocated(name) < 4 << 20, "{name}");
        }
        let info = place.qemu_img(&format!("info --output json {SECRET} --image-opts {image}"));
        assert_eq!(json(&info.ok())["virtual-size"], 5 << 20, "{name}");
        let raw = "driver=raw,file.filename=zeros";
        place.qemu_img(&format!("compare {SECRET} --image-opts {image} {raw}")).ok();
    }
    for (name, options) in
        [("k.luks", ""), ("l", "--format luks2 --sector-size 4096"), ("m", "--format luks1")]
    {
        place.strongroom(&format!("image create {name} 5M {options} {key}")).ok();
        place.cryptsetup(&format!("open --test-passphrase --key-file pw {name}")).ok();
        place.strongroom(&format!("image decrypt {name} plain --force --passphrase-file pw")).ok();
        place.same("plain", "zeros").unwrap();
    }
}

#[test]
fn info_agrees_with_qemu_img() {
    if !has("creation::info", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    place.image("base", 1 << 20);
    let luks = "-o encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=100";
    for (number, options) in [
        "",
        "-o compat=0.10,cluster_size=4k",
        "-o refcount_bits=64,lazy_refcounts=on,compression_type=zstd",
        "-o extended_l2=on,cluster_size=2M",
        "-o backing_file=base,backing_fmt=raw",
        "-o data_file=data.raw,data_file_raw=on",
        &format!("{SECRET} {luks}"),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("{number}.qcow2");
        place.qemu_img(&format!("create -q -f qcow2 {options} {name} 3M")).ok();
        if options.is_empty() {
            for snapshot in ["first", "second"] {
                place.qemu_img(&format!("snapshot -c {snapshot} {name}")).ok();
            }
        }
        let theirs = json(&place.qemu_img(&format!("info --output json -f qcow2 {name}")).ok());
        let details = &theirs["format-specific"]["data"];
        let ours = json(&place.strongroom(&format!("image info {name} --json")).ok());
        assert_eq!(ours["virtual_bytes"], theirs["virtual-size"], "{options}");
        assert_eq!(ours["cluster_size"], theirs["cluster-size"], "{options}");
        assert_eq!(ours["compression"], details["compression-type"], "{options}");
        let version = if details["compat"] == "0.10" { 2 } else { 3 };
        assert_eq!(ours["version"], json!(version), "{options}");
        if version == 3 {
            assert_eq!(ours["refcount_bits"], details["refcount-bits"], "{options}");
            assert_eq!(ours["lazy_refcounts"], details["lazy-refcounts"], "{options}");
            assert_eq!(ours["extended_l2"], details["extended-l2"], "{options}");
            assert_eq!(ours["corrupt"], details["corrupt"], "{options}");
        }
        assert_eq!(ours["backing"]["name"], theirs["backing-filename"], "{options}");
        assert_eq!(ours["backing"]["format"], theirs["backing-filename-format"], "{options}");
        assert_eq!(ours["data_file"]["name"], details["data-file"], "{options}");
        let snapshots = theirs["snapshots"].as_array().cloned().unwrap_or_default();
        assert_eq!(ours["snapshots"].as_array().unwrap().len(), snapshots.len(), "{options}");
        for (ours, theirs) in ours["snapshots"].as_array().unwrap().iter().zip(&snapshots) {
            assert_eq!(ours["id"], theirs["id"]);
            assert_eq!(ours["name"], theirs["name"]);
            assert_eq!(ours["seconds"], theirs["date-sec"]);
        }
        let encrypted = options.contains("luks");
        assert_eq!(ours["format"], if encrypted { "qcow2-luks" } else { "qcow2" });
        if encrypted {
            assert_eq!(ours["uuid"], details["encrypt"]["uuid"]);
            assert_eq!(ours["cipher"], "aes-xts-plain64");
        }
        let text = place.strongroom(&format!("image info {name}")).ok();
        assert!(text.contains("virtual size    3145728 bytes"), "{text}");
    }
    // A name that says nothing: the bytes are told of, and no more.
    place.copy("0.qcow2", "unnamed");
    let ours = json(&place.strongroom("image info unnamed --json").stdout);
    assert_eq!((&ours["format"], &ours["contents"]), (&json!("raw"), &json!("a qcow2 image")));
    let ours = json(&place.strongroom("image info unnamed --source-format qcow2 --json").ok());
    assert_eq!(ours["format"], "qcow2");
    place.strongroom("image info base --source-format qcow2").fails(4);
}

#[test]
fn an_image_with_a_backing_file_reads_as_that_file() {
    if !has("creation::backing", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    place.image("base", 1 << 20);
    place.strongroom("image create top.qcow2 1M --backing base --backing-format raw").ok();
    place.qemu_img("compare -f qcow2 -F raw top.qcow2 base").ok();
    place.strongroom("image compare top.qcow2 base --backing-from .").ok();
    place.strongroom("image compare top.qcow2 base").fails(2);
    let create = "image create new.qcow2 1M";
    place.strongroom(&format!("{create} --backing missing --backing-format raw")).fails(8);
    place.strongroom(&format!("{create} --backing base --backing-format qcow2")).fails(4);
    place.strongroom(&format!("{create} --backing base")).fails(2);
    place
        .strongroom(
            "image create base 1M --force --format qcow2 --backing base --backing-format raw",
        )
        .fails(2);
    assert!(!place.exists("new.qcow2"));
}

#[test]
fn what_cannot_be_created_is_refused_and_leaves_nothing() {
    let place = Workplace::new();
    let before = place.names();
    for (words, reason) in [
        ("a 1000", "the next possible sizes are 512 and 1024"),
        ("a 100", "the next possible size is 512"),
        ("a 0", "no bytes"),
        ("a 9000P", "larger than any file"),
        ("a 8191.9P", "is no whole number"),
        ("a 10X", "is no size"),
        ("a 1M --format vmdk", "raw, qcow2, luks1, luks2, qcow2-luks"),
        ("a 1M --passphrase-file pw", "raw is not encrypted"),
        ("a.qcow2 1M --cipher aes-xts-plain64", "qcow2 is not encrypted"),
        ("a.luks 1M", "no passphrase was given"),
        ("a 1M --format qcow2-luks", "no passphrase was given"),
        ("a 1M --cluster-size 4K", "no clusters"),
        ("a.qcow2 1M --cluster-size 3K", "power of two"),
        ("a.qcow2 1M --refcount-bits 7", "do not exist"),
        ("a.qcow2 1M --qcow2-version 2 --lazy-refcounts", "version 2"),
        ("a.qcow2 1M --qcow2-version 4", "invalid value"),
        ("a.qcow2 1M --extended-l2 --cluster-size 4K", "subclusters"),
        ("a.qcow2 1M --passphrase-file pw --data-offset 4096", "no offset"),
        ("a.luks 1000 --passphrase-file pw", "512 and 1024"),
        ("a.luks 512 --sector-size 4096 --passphrase-file pw", "4096"),
    ] {
        let message = place.strongroom(&format!("image create {words}")).fails(2);
        assert!(message.contains(reason), "{words}: {message}");
        assert_eq!(place.names(), before, "{words}");
    }
    place.strongroom("image create pw 1M").fails(6);
    assert_eq!(place.read("pw"), b"passphrase");
    place.strongroom("image create pw 1M --force").ok();
    assert_eq!(place.read("pw").len(), 1 << 20);
}
