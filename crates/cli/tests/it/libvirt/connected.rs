//! Values of secrets from a libvirt daemon (`--connect`), where the program can ask one.

#[test]
#[cfg(feature = "libvirt")]
fn a_value_comes_from_the_daemon_unless_it_is_private() {
    use strongroom_testkit::{Libvirt, Tool, skip};

    use super::store::{ONE, OTHER, Store, encrypted, volume};
    use crate::secrecy::CANARY;
    use crate::workplace::has;

    const TEST: &str = "libvirt::connected";
    if !has(TEST, &[Tool::QEMU_IMG, Tool::VIRSH]) {
        return;
    }
    let Some(daemon) = Libvirt::start() else {
        skip(TEST, "it takes libvirtd, and root to make namespaces");
        return;
    };
    let store = Store::new();
    let path = store.place.path("pool").canonicalize().unwrap().join("a");
    daemon.define_secret(ONE, &path, CANARY.as_bytes());
    let create = |name: &str, target: &str| {
        let document = store.document(&volume(name, 4 << 20, target));
        store.run(&format!(
            "vol-create {document} --pool pool --pbkdf-iterations 1000 --connect {}",
            daemon.uri()
        ))
    };
    create("a", &encrypted("luks", ONE, "")).ok();
    store.qemu_reads("luks", "a", "pw").ok();
    let usage = format!(
        "<encryption format='luks'><secret type='passphrase' usage='{}'/></encryption>",
        path.display()
    );
    create("b", &usage).ok();
    store.qemu_reads("luks", "b", "pw").ok();
    // Nothing of it is kept here.
    assert_eq!(store.json("secret-list").as_array().unwrap().len(), 0);
    let text = create("c", &encrypted("luks", OTHER, "")).fails(2);
    assert!(text.contains(OTHER) && text.contains("virsh secret-list"), "{text}");
    store.place.write(
        "private.xml",
        format!(
            "<secret ephemeral='no' private='yes'><uuid>{OTHER}</uuid><usage type='volume'><volume>/c\
             </volume></usage></secret>"
        ),
    );
    let file = |name: &str| store.place.path(name).display().to_string();
    daemon.virsh(["secret-define".to_owned(), file("private.xml")]).ok();
    let set = ["secret-set-value", OTHER, "--plain", "--file"].map(str::to_owned);
    daemon.virsh(set.into_iter().chain([file("pw")])).ok();
    let text = create("c", &encrypted("luks", OTHER, "")).fails(2);
    assert!(text.contains("private") && text.contains("secret-set-value"), "{text}");
    assert!(!store.place.exists("pool/c"));
}

#[test]
#[cfg(not(feature = "libvirt"))]
fn a_program_without_libvirts_library_says_how_to_do_without() {
    use super::store::{ONE, Store, encrypted, volume};

    let store = Store::new();
    let document = store.document(&volume("a", 4 << 20, &encrypted("luks", ONE, "")));
    let words = format!("vol-create {document} --pool pool --connect qemu:///system");
    let text = store.run(&words).fails(2);
    assert!(text.contains("feature `libvirt`") && text.contains("secret-set-value"), "{text}");
    assert!(!store.place.exists("pool/a"));
}
