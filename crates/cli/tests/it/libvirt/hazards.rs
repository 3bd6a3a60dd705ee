//! What destroys, and what goes wrong.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use strongroom_testkit::{Pattern, Tool, wait};

use super::store::{ONE, OTHER, Store, encrypted};
use crate::workplace::{has, signal, wait_for_target};

#[test]
fn a_wiped_volume_is_opened_by_nobody() {
    if !has("libvirt::wiped", &[Tool::QEMU_IMG]) {
        return;
    }
    let store = Store::new();
    store.secret(ONE, "a");
    for (name, driver, target) in [
        ("a", "luks", encrypted("luks", ONE, "")),
        ("b", "qcow2", format!("<format type='qcow2'/>{}", encrypted("luks", ONE, ""))),
    ] {
        store.volume(name, &target).ok();
        store.qemu_reads(driver, name, "pw").ok();
        store.run(&format!("vol-wipe {name} --pool pool")).ok();
        assert!(store.qemu_reads(driver, name, "pw").code != Some(0), "{name}");
        let text = store.copy("c", "", name).fails(4);
        assert!(text.contains("was wiped"), "{text}");
        assert!(store.run(&format!("vol-info pool/{name}")).fails(4).contains("was wiped"));
        store.run(&format!("domain-disk pool/{name}")).fails(4);
        store.run(&format!("vol-resize pool/{name} 8M")).fails(4);
    }
    let opened = store.place.strongroom("luks test-key pool/a --passphrase-file pw");
    assert!(opened.code != Some(0), "{}", opened.describe());
    // Nothing needs the secret any more.
    store.run(&format!("secret-undefine {ONE}")).ok();
    store.volume("plain", "").ok();
    let text = store.run("vol-wipe plain --pool pool").fails(2);
    assert!(text.contains("--algorithm zero"), "{text}");
    store.place.image_of("pool/plain", 4 << 20, &Pattern::dense(1));
    store.run("vol-wipe plain --pool pool --algorithm zero").ok();
    assert!(store.place.read("pool/plain").iter().all(|byte| *byte == 0));
    store.run("vol-wipe pool/b --algorithm zero").fails(2);
}

#[test]
fn a_volume_goes_before_the_key_that_was_made_for_it() {
    let store = Store::new();
    store.secret(ONE, "given");
    store.volume("given", &encrypted("luks", ONE, "")).ok();
    store.volume("made", &encrypted("luks", OTHER, "")).ok();
    store.volume("kept", "<encryption format='luks'/>").ok();
    store.run("vol-delete given --pool pool --with-secret").ok();
    assert!(store.json("secret-list").to_string().contains(ONE));
    let outcome = store.run("vol-delete kept --pool pool");
    assert!(outcome.stderr.contains("secret-undefine"), "{}", outcome.describe());
    let gone = store.json("vol-delete made --pool pool --with-secret");
    assert_eq!(gone["removed_secret"], OTHER);
    assert!(!store.json("secret-list").to_string().contains(OTHER));
    assert_eq!(std::fs::read_dir(store.place.path("pool")).unwrap().count(), 0);
    store.run("vol-delete made --pool pool").fails(8);
    let log = String::from_utf8(store.place.read("data/audit.log")).unwrap();
    for verb in ["generate-key", "open-key", "delete", "undefine", "define", "set-value"] {
        assert!(log.contains(&format!("\"verb\":\"{verb}\"")), "{verb}: {log}");
    }
    store.place.strongroom("audit verify --data data").ok();
}

#[test]
fn a_volume_becomes_larger_and_smaller() {
    if !has("libvirt::resized", &[Tool::QEMU_IMG]) {
        return;
    }
    let store = Store::new();
    store.secret(ONE, "a");
    for (name, driver, target) in [
        ("a", "luks", encrypted("luks", ONE, "")),
        ("b", "qcow2", format!("<format type='qcow2'/>{}", encrypted("luks", ONE, ""))),
        ("c", "", String::new()),
    ] {
        store.volume(name, &target).ok();
        let capacity = || store.json(&format!("vol-info pool/{name}"))["capacity_bytes"].clone();
        store.run(&format!("vol-resize pool/{name} 5242881")).ok();
        assert_eq!(capacity(), 5_243_392, "{name}");
        store.run(&format!("vol-resize pool/{name} 512 --delta")).ok();
        assert_eq!(capacity(), 5_243_904, "{name}");
        let text = store.run(&format!("vol-resize pool/{name} 1M")).fails(2);
        assert!(text.contains("--shrink"), "{text}");
        assert_eq!(capacity(), 5_243_904, "{name}");
        store.run(&format!("vol-resize pool/{name} 1M --shrink")).ok();
        assert_eq!(capacity(), 1 << 20, "{name}");
        if !driver.is_empty() {
            store.qemu_reads(driver, name, "pw").ok();
            assert_eq!(store.place.read("read").len(), 1 << 20);
        }
    }
}

#[test]
fn a_copy_that_is_killed_leaves_nothing_that_is_taken_for_a_volume() {
    let store = Store::new();
    store.document("<volume><name>raw</name><capacity>536870912</capacity></volume>");
    store.run("vol-create document.xml --pool pool").ok();
    store.place.image_of("pool/raw", 512 << 20, &Pattern::dense(5));
    let document = super::store::volume("new", 0, "<encryption format='luks'/>");
    let document = store.document(&document);
    let words = format!("vol-create-from {document} raw --pool pool --input-pool pool");
    let mut child =
        store.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for_target(&child);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    if store.place.exists("pool/new") {
        // It was faster than the signal: then it is whole.
        store.run("vol-delete new --pool pool --with-secret").ok();
        return;
    }
    assert_eq!(store.json("vol-list").as_array().unwrap().len(), 1);
    store.run("vol-info pool/new").fails(8);
    // Its key was kept before anything was encrypted, and is used by whoever makes it again.
    let secrets = store.json("secret-list");
    assert_eq!(secrets.as_array().unwrap().len(), 1, "{secrets}");
    store.run(&words).ok();
    assert_eq!(store.json("secret-list")[0]["uuid"], secrets[0]["uuid"]);
    store.copy("back", "", "new").ok();
    store.place.same("pool/back", "pool/raw").unwrap();
}

#[test]
fn a_directory_in_which_a_server_works_is_left_to_it() {
    let store = Store::new();
    store.secret(ONE, "a");
    let (mut server, _) = super::served::start(&store);
    let text = store.volume("a", &encrypted("luks", ONE, "")).fails(7);
    assert!(text.contains(&format!("process {} (strongroom)", server.id())), "{text}");
    assert!(text.contains("/v1/libvirt"), "{text}");
    assert!(!store.place.exists("pool/a"));
    // Reading needs nobody's leave.
    assert_eq!(store.json("secret-list")[0]["uuid"], ONE);
    signal(&server, Signal::TERM);
    assert!(wait(&mut server, Duration::from_secs(60)).is_some(), "it does not stop");
    store.volume("a", &encrypted("luks", ONE, "")).ok();
}
