//! Volumes made from others, in every direction.

use strongroom_testkit::{Pattern, Tool};

use super::store::{ONE, OTHER, Store, encrypted, volume};
use crate::workplace::has;

#[test]
fn a_chain_through_every_format_ends_with_the_same_bytes() {
    if !has("libvirt::chain", &[Tool::QEMU_IMG]) {
        return;
    }
    let store = Store::new();
    store.volume("raw", "").ok();
    store.place.image_of("pool/raw", 4 << 20, &Pattern::sparse(11, 4096));
    store.secret(ONE, "luks");
    let twofish = "<cipher name='twofish' size='256' mode='cbc'/><ivgen name='plain64'/>";
    store.copy("luks", &encrypted("luks", ONE, twofish), "raw").ok();
    store.qemu_reads("luks", "luks", "pw").ok();
    store.place.same("read", "pool/raw").unwrap();
    store.copy("rekeyed", &encrypted("luks", OTHER, ""), "luks").ok();
    store.value_of("rekeyed", "other");
    store.qemu_reads("luks", "rekeyed", "other").ok();
    store.place.same("read", "pool/raw").unwrap();
    assert!(store.qemu_reads("luks", "rekeyed", "pw").code != Some(0));
    let qcow2 = format!("<format type='qcow2'/>{}", encrypted("luks", ONE, ""));
    store.copy("q", &qcow2, "rekeyed").ok();
    store.qemu_reads("qcow2", "q", "pw").ok();
    store.place.same("read", "pool/raw").unwrap();
    store.copy("plain.qcow2", "<format type='qcow2'/>", "q").ok();
    store.place.qemu_img("compare -f qcow2 -F raw pool/plain.qcow2 pool/raw").ok();
    store.copy("back", "", "plain.qcow2").ok();
    store.place.same("pool/back", "pool/raw").unwrap();
    let listed = store.json("vol-list --pool pool");
    assert_eq!(listed.as_array().unwrap().len(), 6);
    assert!(!store.place.names().iter().any(|name| name.contains("partial")));
}

#[test]
fn a_copy_may_be_larger_and_reads_as_zeros_there() {
    let store = Store::new();
    store.volume("raw", "").ok();
    store.place.image_of("pool/raw", 4 << 20, &Pattern::dense(3));
    store.document(&volume("larger", 6 << 20, "<format type='qcow2'/>"));
    store.run("vol-create-from document.xml raw --pool pool --input-pool pool").ok();
    assert_eq!(store.json("vol-info pool/larger")["capacity_bytes"], 6 << 20);
    store.copy("back", "", "larger").ok();
    let bytes = store.place.read("pool/back");
    assert_eq!(bytes.len(), 6 << 20);
    assert_eq!(bytes[..4 << 20], store.place.read("pool/raw"));
    assert!(bytes[4 << 20..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_copy_that_cannot_be_made_leaves_nothing() {
    let store = Store::new();
    store.secret(ONE, "a");
    store.volume("a", &encrypted("luks", ONE, "")).ok();
    store.copy("b", "", "not-there").fails(8);
    let layout =
        "<format type='qcow2'/><compat>0.10</compat><features><lazy_refcounts/></features>";
    assert!(store.copy("b", layout, "a").fails(2).contains("lazy"));
    // Its value is another one by now.
    store.run(&format!("secret-set-value {ONE} --file wrong --force")).ok();
    store.copy("b", &encrypted("luks", OTHER, ""), "a").fails(3);
    assert_eq!(std::fs::read_dir(store.place.path("pool")).unwrap().count(), 1);
    assert!(!store.json("secret-list").to_string().contains(OTHER));
}
