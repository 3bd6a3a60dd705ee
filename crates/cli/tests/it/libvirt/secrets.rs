//! Secrets: defined, given a value, never told.

use std::process::Stdio;

use super::store::{ONE, OTHER, Store, encrypted};

fn secret(attributes: &str, uuid: &str, usage: &str) -> String {
    let uuid = if uuid.is_empty() { String::new() } else { format!("<uuid>{uuid}</uuid>") };
    format!("<secret {attributes}>{uuid}{usage}</secret>")
}

fn for_volume(path: &str) -> String {
    format!("<usage type='volume'><volume>{path}</volume></usage>")
}

#[test]
fn a_secret_is_defined_given_a_value_listed_and_taken_away() {
    let store = Store::new();
    store.document(&secret("", "", &for_volume("/images/a")));
    let uuid = store.run("secret-define document.xml").ok().trim().to_owned();
    assert_eq!(uuid.len(), 36, "{uuid}");
    let listed = store.json("secret-list");
    assert_eq!(
        (&listed[0]["uuid"], &listed[0]["usage"]),
        (&uuid.clone().into(), &"/images/a".into())
    );
    assert_eq!(listed[0]["has_value"], false);
    store.run(&format!("secret-get-value {uuid} --out value")).fails(8);
    store.run("secret-set-value --usage /images/a --file pw").ok();
    assert_eq!(store.json("secret-list")[0]["has_value"], true);
    let document = store.run(&format!("secret-dumpxml {}", uuid.to_uppercase())).ok();
    assert!(document.contains("ephemeral=") && document.contains("/images/a"), "{document}");
    // What was printed defines the same.
    store.document(&document);
    assert_eq!(store.run("secret-define document.xml").ok().trim(), uuid);
    store.run(&format!("secret-get-value {uuid} --out value")).ok();
    assert_eq!(store.place.read("value"), store.place.read("pw"));
    store.run(&format!("secret-get-value {uuid} --out value")).fails(6);
    store.run(&format!("secret-undefine {uuid}")).ok();
    store.run(&format!("secret-undefine {uuid}")).fails(8);
    store.run(&format!("secret-set-value {uuid} --file pw")).fails(8);
    assert_eq!(store.json("secret-list").as_array().unwrap().len(), 0);
}

#[test]
fn a_value_that_volumes_need_is_replaced_by_force_alone() {
    let store = Store::new();
    store.secret(ONE, "a");
    store.run(&format!("secret-set-value {ONE} --file pw")).ok();
    store.volume("a", &encrypted("luks", ONE, "")).ok();
    store.volume("made", &encrypted("luks", OTHER, "")).ok();
    for uuid in [ONE, OTHER] {
        let text = store.run(&format!("secret-set-value {uuid} --file wrong")).fails(7);
        assert!(text.contains("--force"), "{text}");
    }
    store.copy("b", "", "made").ok();
    // Copies may need it when the volume is gone.
    store.run("vol-delete pool/made").ok();
    let text = store.run(&format!("secret-set-value {OTHER} --file wrong")).fails(7);
    assert!(text.contains("copies"), "{text}");
    store.run(&format!("secret-set-value {ONE} --file wrong --force")).ok();
    store.copy("c", "", "a").fails(3);
}

#[test]
fn a_definition_changes_only_as_libvirt_lets_it() {
    let store = Store::new();
    let define = |text: &str| {
        store.document(text);
        store.run("secret-define document.xml")
    };
    define(&secret("", ONE, &for_volume("/images/a"))).ok();
    let text = define(&secret("", ONE, &for_volume("/images/b"))).fails(6);
    assert!(text.contains(ONE) && text.contains("/images/a"), "{text}");
    let text = define(&secret("", OTHER, &for_volume("/images/a"))).fails(6);
    assert!(text.contains(ONE) && text.contains("/images/a"), "{text}");
    define(&secret("private='yes'", ONE, &for_volume("/images/a"))).ok();
    assert!(define(&secret("", ONE, &for_volume("/images/a"))).fails(2).contains("private"));
    let text = define(&secret("ephemeral='yes'", OTHER, &for_volume("/images/b"))).fails(2);
    assert!(text.contains("memory") && text.contains("server"), "{text}");
    assert!(!store.json("secret-list").to_string().contains(OTHER));
    store.run(&format!("secret-set-value {ONE} --file pw")).ok();
    let text = store.run(&format!("secret-get-value {ONE} --out value")).fails(2);
    assert!(text.contains("is private"), "{text}");
    assert!(!store.place.exists("value"));
}

#[test]
fn a_value_is_the_exact_bytes_wherever_it_comes_from() {
    let store = Store::new();
    store.document(&secret("", ONE, &for_volume("/images/a")));
    store.run("secret-define document.xml").ok();
    let set = format!("secret-set-value {ONE}");
    let kept = |bytes: &[u8]| {
        store.run(&format!("secret-get-value {ONE} --out value")).ok();
        assert_eq!(store.place.read("value"), bytes);
        std::fs::remove_file(store.place.path("value")).unwrap();
    };
    assert!(store.run_reading(&format!("{set} --file -"), b"a line\n").ok().is_empty());
    kept(b"a line\n");
    let warned = store.run_reading(&format!("{set} --fd 0"), b"a\0b");
    assert!(warned.stderr.contains("QEMU"), "{}", warned.describe());
    warned.ok();
    kept(b"a\0b");
    store.run_reading(&format!("{set} --file - --base64"), b"not base64!").fails(2);
    store.run_reading(&format!("{set} --file - --base64"), b"c2Vj\ncmV0\n").ok();
    kept(b"secret");
    let mut command = store.command(&format!("{set} --env VALUE"));
    command.env("VALUE", "from outside").stdin(Stdio::null());
    assert!(command.output().unwrap().status.success());
    kept(b"from outside");
    let warned = store.run_reading(&format!("{set} --file -"), b"");
    assert!(warned.stderr.contains("empty"), "{}", warned.describe());
    kept(b"");
    store.run(&format!("{set} --env NOT_THERE")).fails(2);
    store.run(&set).fails(2);
    store.run("secret-set-value not-a-uuid --file pw").fails(2);
}

#[test]
fn a_secret_that_opens_a_volume_stays_unless_somebody_insists() {
    let store = Store::new();
    store.secret(ONE, "a");
    store.volume("a", &encrypted("luks", ONE, "")).ok();
    let text = store.run(&format!("secret-undefine {ONE}")).fails(7);
    assert!(text.contains("pool/a") && text.contains("--force"), "{text}");
    let forced = store.run(&format!("secret-undefine {ONE} --force"));
    assert_eq!(forced.code, Some(0), "{}", forced.describe());
    assert!(forced.stderr.contains("cannot be opened any more"), "{}", forced.describe());
    assert_eq!(store.json("secret-list").as_array().unwrap().len(), 0);
}

#[test]
fn a_secret_for_something_else_opens_no_volume() {
    let store = Store::new();
    store.document(&secret("", ONE, "<usage type='ceph'><name>client.a</name></usage>"));
    store.run("secret-define document.xml").ok();
    store.run(&format!("secret-set-value {ONE} --file pw")).ok();
    let text = store.volume("a", &encrypted("luks", ONE, "")).fails(2);
    assert!(text.contains("ceph client.a"), "{text}");
    store.document(&secret("", OTHER, &for_volume("/images/b")));
    store.run("secret-define document.xml").ok();
    let text = store.volume("a", &encrypted("luks", OTHER, "")).fails(8);
    assert!(text.contains("does not have a value"), "{text}");
    assert!(!store.place.exists("pool/a"));
}

#[test]
fn a_document_that_is_wrong_is_refused_with_its_line() {
    let store = Store::new();
    for (text, reason) in [
        ("<secret>\n<usage type='volume'/>\n</secret>", "line 2"),
        ("<secret ephemeral='maybe'/>", "ephemeral"),
        ("<volume/>", "secret"),
        ("", ""),
    ] {
        store.document(text);
        let said = store.run("secret-define document.xml").fails(2);
        assert!(said.contains(reason), "{text}: {said}");
    }
    store.run("secret-define not-there.xml").fails(8);
}
