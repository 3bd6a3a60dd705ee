//! Volumes made by documents, looked at by QEMU.

use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use strongroom_testkit::{Pattern, Tool};

use super::store::{ONE, OTHER, Store, encrypted, volume};
use crate::workplace::has;

fn qemu_info(store: &Store, volume: &str) -> Value {
    let text = store.place.qemu_img(&format!("info --output json pool/{volume}")).ok();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_volume_of_the_documentation_is_what_qemu_would_have_made() {
    if !has("libvirt::twofish", &[Tool::QEMU_IMG]) {
        return;
    }
    let store = Store::new();
    store.secret(ONE, "twofish");
    let cipher = "<cipher name='twofish' size='256' mode='cbc' hash='sha256'/>\
                  <ivgen name='plain64' hash='sha256'/>";
    let document = store.volume("twofish", &encrypted("luks", ONE, cipher)).ok();
    assert!(document.contains(ONE) && document.contains("twofish"), "{document}");
    let details = &qemu_info(&store, "twofish")["format-specific"]["data"];
    assert_eq!(details["cipher-alg"], "twofish-256");
    assert_eq!(
        (&details["cipher-mode"], &details["ivgen-alg"]),
        (&"cbc".into(), &"plain64".into())
    );
    assert_eq!(details["hash-alg"], "sha256");
    store.place.image_of("contents", 4 << 20, &Pattern::dense(7));
    store.qemu_writes("contents", "twofish", "pw");
    store.qemu_reads("luks", "twofish", "pw").ok();
    store.place.same("read", "contents").unwrap();
    assert!(store.qemu_reads("luks", "twofish", "wrong").code != Some(0));
    // And we read what QEMU has written.
    store.copy("plain", "", "twofish").ok();
    store.place.same("pool/plain", "contents").unwrap();
}

#[test]
fn a_key_is_made_where_nobody_has_one_and_it_is_kept() {
    if !has("libvirt::generated", &[Tool::QEMU_IMG]) {
        return;
    }
    let store = Store::new();
    for (name, target, uuid) in [
        ("unnamed", "<encryption format='luks'/>".to_owned(), None),
        ("named", encrypted("luks", OTHER, ""), Some(OTHER)),
    ] {
        let outcome = store.volume(name, &target);
        assert!(outcome.stderr.contains("key was made"), "{}", outcome.describe());
        outcome.ok();
        let secrets = store.json("secret-list");
        let path = store.place.path("pool").canonicalize().unwrap().join(name);
        let usage = path.to_str().unwrap();
        let mut secrets = secrets.as_array().unwrap().iter();
        let secret = secrets.find(|secret| secret["usage"] == usage).unwrap();
        assert_eq!(secret["generated_for"], usage);
        assert!(uuid.is_none_or(|uuid| secret["uuid"] == uuid));
        let file = format!("{name}.value");
        store.value_of(name, &file);
        let value = String::from_utf8(store.place.read(&file)).unwrap();
        assert!(value.len() == 44 && value.is_ascii(), "{value}");
        store.qemu_reads("luks", name, &file).ok();
        let details = &qemu_info(&store, name)["format-specific"]["data"];
        assert_eq!(details["cipher-alg"], "aes-256");
        assert_eq!(
            (&details["cipher-mode"], &details["hash-alg"]),
            (&"xts".into(), &"sha256".into())
        );
    }
    assert_ne!(store.place.read("unnamed.value"), store.place.read("named.value"));
}

#[test]
fn qcow2_has_the_layout_that_its_document_says() {
    if !has("libvirt::qcow2", &[Tool::QEMU_IMG]) {
        return;
    }
    let store = Store::new();
    store.secret(ONE, "a");
    store.place.image("base", 4 << 20);
    let base = store.place.path("base");
    let layout = "<format type='qcow2'/><compat>1.1</compat><clusterSize unit='KiB'>32</clusterSize>\
                  <features><lazy_refcounts/></features>";
    store.volume("a", &format!("{layout}{}", encrypted("luks", ONE, ""))).ok();
    let info = qemu_info(&store, "a");
    assert_eq!((&info["format"], &info["virtual-size"]), (&"qcow2".into(), &(4 << 20).into()));
    assert_eq!(info["cluster-size"], 32 << 10);
    let details = &info["format-specific"]["data"];
    assert_eq!((&details["lazy-refcounts"], &details["compat"]), (&true.into(), &"1.1".into()));
    assert_eq!(details["encrypt"]["format"], "luks");
    store.qemu_reads("qcow2", "a", "pw").ok();
    let old = volume("old", 1 << 20, "<format type='qcow2'/><compat>0.10</compat>");
    store.document(&old);
    store.run("vol-create document.xml --pool pool").ok();
    assert_eq!(qemu_info(&store, "old")["format-specific"]["data"]["compat"], "0.10");
    // Its capacity is that of what it is laid over.
    store.document(&format!(
        "<volume><name>top</name><target><format type='qcow2'/></target><backingStore><path>{}</path>\
         <format type='raw'/></backingStore></volume>",
        base.display()
    ));
    store.run("vol-create document.xml --pool pool").ok();
    store.place.qemu_img("compare -f qcow2 -F raw pool/top base").ok();
}

#[test]
fn capacities_are_rounded_as_libvirt_rounds_them() {
    let store = Store::new();
    for (capacity, target, expected) in [
        (1000, "", 1000),
        (1000, "<format type='qcow2'/>", 1024),
        (1025, "<encryption format='luks'/>", 2048),
        (1 << 20, "<encryption format='luks'/>", 1 << 20),
    ] {
        let name = format!("v{capacity}-{}", target.len());
        store.document(&volume(&name, capacity, target));
        store.run("vol-create document.xml --pool pool").ok();
        let info = store.json(&format!("vol-info {name} --pool pool"));
        assert_eq!(info["capacity_bytes"], expected, "{capacity} {target}");
        let text = store.run(&format!("vol-info pool/{name} --bytes")).ok();
        assert!(text.contains(&format!("{:<15} {expected} bytes", "Capacity:")), "{text}");
    }
}

#[test]
fn a_new_volume_has_the_permissions_and_the_space_of_its_document() {
    let store = Store::new();
    store.document(
        "<volume><name>a</name><capacity>1048576</capacity><allocation>65536</allocation><target>\
         <permissions><mode>0640</mode></permissions></target></volume>",
    );
    let document = store.run("vol-create document.xml --pool pool").ok();
    assert!(document.contains("<mode>0640</mode>"), "{document}");
    let found = store.place.path("pool/a").metadata().unwrap();
    assert_eq!((found.mode() & 0o7777, found.len()), (0o640, 1 << 20));
    assert!(found.blocks() * 512 >= 65536 && found.blocks() * 512 < 1 << 20, "{}", found.blocks());
    // LUKS takes no more than its header, however large it is.
    store.document(&volume("large", 1 << 40, "<encryption format='luks'/>"));
    store.run("vol-create document.xml --pool pool").ok();
    let found = store.place.path("pool/large").metadata().unwrap();
    assert!(found.blocks() * 512 < 4 << 20, "{}", found.blocks());
    assert_eq!(found.mode() & 0o7777, 0o600);
}

#[test]
fn what_is_there_is_never_replaced() {
    let store = Store::new();
    store.secret(ONE, "a");
    store.volume("a", &encrypted("luks", ONE, "")).ok();
    let before = (store.place.read("pool/a"), store.json("secret-list"), store.json("vol-list"));
    for target in ["", "<encryption format='luks'/>", &encrypted("luks2", OTHER, "")] {
        let text = store.volume("a", target).fails(6);
        assert!(text.contains("pool/a exists"), "{text}");
        store.copy("a", target, "a").fails(2);
    }
    let after = (store.place.read("pool/a"), store.json("secret-list"), store.json("vol-list"));
    assert!(before == after, "something has changed");
}

#[test]
fn luks2_is_ours_to_make_and_not_for_a_domain() {
    let store = Store::new();
    store.secret(ONE, "a");
    let document = store.document(&volume("a", 4 << 20, &encrypted("luks2", ONE, "")));
    store
        .run(&format!("vol-create {document} --pool pool --pbkdf pbkdf2 --pbkdf-iterations 1000"))
        .ok();
    store.place.strongroom("luks test-key pool/a --passphrase-file pw").ok();
    let text = store.run("domain-disk pool/a").fails(2);
    assert!(text.contains("LUKS1"), "{text}");
    assert_eq!(store.json("vol-list")[0]["format"], "luks2");
}

#[test]
fn the_disk_of_a_domain_names_the_secret_and_no_cipher() {
    let store = Store::new();
    store.secret(ONE, "a");
    let cipher = "<cipher name='serpent' size='256' mode='xts' hash='sha256'/>";
    store.volume("a", &encrypted("luks", ONE, cipher)).ok();
    let disk = store.run("domain-disk a --pool pool --target vdb").ok();
    assert!(disk.contains(ONE) && disk.contains("vdb") && disk.contains("virtio"), "{disk}");
    assert!(disk.starts_with("<disk") && !disk.contains("cipher"), "{disk}");
    // What is remembered of the cipher is not forgotten.
    let document = store.run("vol-dumpxml a --pool pool").ok();
    assert!(document.contains("serpent") && document.contains(ONE), "{document}");
}

#[test]
fn a_volume_of_others_is_taken_over_by_its_document() {
    if !has("libvirt::adopted", &[Tool::QEMU_IMG]) {
        return;
    }
    let store = Store::new();
    store.secret(ONE, "theirs");
    store.place
        .qemu_img("create -f luks --object secret,id=s,file=pw -o key-secret=s,iter-time=10 pool/theirs 1M")
        .ok();
    let text = store.run("vol-info theirs --pool pool").fails(8);
    assert!(text.contains("vol-define"), "{text}");
    // It is taken for what its document says, and for nothing else.
    for target in ["", "<format type='qcow2'/>", "<encryption format='luks2'/>"] {
        store.document(&volume("theirs", 1 << 20, target));
        store.run("vol-define document.xml --pool pool").fails(4);
    }
    let document = store.document(&volume("theirs", 1 << 20, "<encryption format='luks'/>"));
    store.run(&format!("vol-define {document} --pool pool")).ok();
    assert_eq!(store.json("vol-info theirs --pool pool")["capacity_bytes"], 1 << 20);
    store.copy("plain", "", "theirs").ok();
    store.qemu_reads("luks", "theirs", "pw").ok();
    store.place.same("pool/plain", "read").unwrap();
}

#[test]
fn a_volume_that_is_taken_over_anew_keeps_what_opens_it() {
    let store = Store::new();
    store.secret(ONE, "other");
    store.volume("a", &encrypted("luks", ONE, "")).ok();
    let define = |target: &str| {
        let document = store.document(&volume("a", 4 << 20, target));
        store.run(&format!("vol-define {document} --pool pool"))
    };
    // One that names no secret takes none away.
    define("<encryption format='luks'/>").ok();
    let text = store.run(&format!("secret-undefine {ONE}")).fails(7);
    assert!(text.contains("pool/a"), "{text}");
    // Neither does one that is not there, or opens nothing.
    define(&encrypted("luks", OTHER, "")).fails(8);
    let path = store.place.path("pool").canonicalize().unwrap().join("else");
    let document = store.document(&format!(
        "<secret><uuid>{OTHER}</uuid><usage type='volume'><volume>{}</volume></usage></secret>",
        path.display()
    ));
    store.run(&format!("secret-define {document}")).ok();
    define(&encrypted("luks", OTHER, "")).fails(8);
    store.run(&format!("secret-set-value {OTHER} --file wrong")).ok();
    define(&encrypted("luks", OTHER, "")).fails(3);
    store.run(&format!("secret-undefine {ONE}")).fails(7);
    // The same value opens it under another name.
    store.run(&format!("secret-set-value {OTHER} --file pw")).ok();
    define(&encrypted("luks", OTHER, "")).ok();
    store.run(&format!("secret-undefine {ONE}")).ok();
    store.copy("plain", "", "a").ok();
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let store = Store::new();
    store.secret(ONE, "a");
    let before = store.json("secret-list");
    let luks = |more: &str| encrypted("luks", ONE, more);
    for (target, reason) in [
        ("<format type='vmdk'/>".to_owned(), "raw, qcow2"),
        ("<encryption format='qcow'/>".to_owned(), "4.5.0"),
        ("<encryption format='luks-any'/>".to_owned(), "luks2"),
        (format!("<format type='qcow2'/>{}", encrypted("luks2", ONE, "")), "LUKS1"),
        (luks("<ivgen name='plain64'/>"), "cipher"),
        (luks("<cipher name='des' size='56'/>"), "aes"),
        (luks(&format!("<secret type='passphrase' uuid='{OTHER}'/>")), "one"),
        ("<encryption format='luks'><secret type='passphrase'/></encryption>".to_owned(), "uuid"),
        ("<format type='qcow2'/><compat>2</compat>".to_owned(), "0.10"),
        ("<compat>1.1</compat>".to_owned(), "qcow2"),
    ] {
        let said = store.volume("b", &target).fails(2);
        assert!(said.contains(reason), "{target}: {said}");
    }
    store.document("<volume><name>../b</name><capacity>1</capacity></volume>");
    store.run("vol-create document.xml --pool pool").fails(2);
    store.document("<volume><name>b</name><capacity>1</capacity></volume>");
    assert!(store.run("vol-create document.xml").fails(2).contains("no pool"));
    store.run("vol-create document.xml --pool not-there").fails(8);
    assert_eq!(std::fs::read_dir(store.place.path("pool")).unwrap().count(), 0);
    assert_eq!(store.json("secret-list"), before);
    assert_eq!(store.json("vol-list").as_array().unwrap().len(), 0);
}
