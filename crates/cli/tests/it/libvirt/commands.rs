//! The same documents, given to the daemon and to our own commands.

use strongroom_testkit::Tool;

use super::{Choice, LEN, Rig};
use crate::workplace::{CHEAP, has};

/// Makes a secret known to the daemon and to us, under one UUID.
fn share_secret(rig: &Rig, volume: &str, number: usize) -> String {
    let uuid = rig.secret(volume, number);
    let document = format!(
        "<secret ephemeral='no' private='no'><uuid>{uuid}</uuid>\
         <usage type='volume'><volume>{}</volume></usage></secret>",
        rig.volume(volume)
    );
    rig.place.write("secret.xml", document);
    rig.place.strongroom("libvirt secret-define secret.xml --data data").ok();
    let words = format!("libvirt secret-set-value {uuid} --file pw --data data");
    rig.place.strongroom(&words).ok();
    uuid
}

/// Makes the volume of a document with our own command, and lets the daemon find it.
fn create(rig: &Rig, document: &str) {
    rig.place.write("volume.xml", document);
    let pool = rig.pool.display();
    let words = format!("libvirt vol-create volume.xml --pool {pool} --data data {CHEAP}");
    rig.place.strongroom(&words).ok();
    rig.daemon.virsh(["pool-refresh", "pool"]).ok();
}

/// Returns the lines of a document that tell of a volume, without times, and without what the daemon
/// forgets: the cipher.
fn facts(document: &str) -> Vec<String> {
    const TOLD: [&str; 11] = [
        "<name",
        "<key",
        "<capacity",
        "<allocation",
        "<physical",
        "<path",
        "<format",
        "<mode",
        "<owner",
        "<group",
        "<secret",
    ];
    let lines = document.lines().map(str::trim);
    let told = lines.filter(|line| TOLD.iter().any(|element| line.starts_with(element)));
    told.map(|line| line.replace('"', "'")).collect()
}

/// Returns sizes as `vol-info --bytes` prints them.
fn sizes(info: &str) -> Vec<String> {
    let rows = info.lines().filter(|line| line.contains("bytes"));
    rows.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_daemon_tells_of_our_volumes_what_our_own_commands_tell() {
    let test = "libvirt::commands::the_daemon_tells_of_our_volumes_what_our_own_commands_tell";
    let Some(rig) = Rig::new(test) else { return };
    let Rig { daemon, place, .. } = &rig;
    place.image("plain", LEN);
    let twofish = Choice { cipher: Some(("twofish", 256, "cbc")), ..Choice::usual("qcow2") };
    let choices = [Choice::usual("raw"), Choice::usual("qcow2"), twofish];
    for (number, choice) in choices.into_iter().enumerate() {
        let name = format!("volume-{number}");
        let secret = share_secret(&rig, &name, number);
        create(&rig, &Rig::document(&name, LEN, choice, &secret));
        let path = rig.volume(&name);
        let ours =
            |command: &str| place.strongroom(&format!("libvirt {command} {path} --data data")).ok();
        let theirs = |words: &[&str]| {
            daemon.virsh(words.iter().copied().chain(["--pool", "pool", &name])).ok()
        };
        // Something is in it before anybody tells of its size.
        rig.fill_with_qemu(choice, &name).unwrap();
        daemon.virsh(["pool-refresh", "pool"]).ok();
        assert_eq!(
            sizes(&ours("vol-info --bytes")),
            sizes(&theirs(&["vol-info", "--bytes"])),
            "{choice}"
        );
        let (own, other) = (ours("vol-dumpxml"), theirs(&["vol-dumpxml"]));
        assert_eq!(facts(&own), facts(&other), "{choice}\n{own}\n{other}");
        assert!(facts(&own).len() >= 9, "{own}");
        // Both decrypt it to the same.
        rig.read_with_ours(choice, &name, "again").unwrap();
        place.same("again", "plain").unwrap();
        let plain = format!("plain-{number}");
        let document = format!(
            "<volume><name>{plain}</name><capacity unit='bytes'>{LEN}</capacity>\
             <target><format type='raw'/></target></volume>"
        );
        daemon.create_volume_from("pool", "plain.xml", &document, &name).ok();
        assert!(std::fs::read(rig.volume(&plain)).unwrap() == place.read("plain"), "{choice}");
    }
}

#[test]
fn a_volume_of_the_daemons_is_copied_out_by_our_own_commands() {
    let test = "libvirt::commands::a_volume_of_the_daemons_is_copied_out_by_our_own_commands";
    let Some(rig) = Rig::new(test) else { return };
    let Rig { daemon, place, .. } = &rig;
    place.image("plain", LEN);
    let choice = Choice::usual("raw");
    let secret = share_secret(&rig, "theirs", 0);
    let document = Rig::document("theirs", LEN, choice, &secret);
    daemon.create_volume("pool", "theirs.xml", &document).ok();
    rig.fill_with_qemu(choice, "theirs").unwrap();
    let pool = rig.pool.display();
    place.write("theirs.xml", document);
    let words = format!("libvirt vol-define theirs.xml --pool {pool} --data data");
    place.strongroom(&words).ok();
    let copied = Choice { cipher: Some(("serpent", 256, "xts")), ..Choice::usual("qcow2") };
    let secret = share_secret(&rig, "ours", 1);
    place.write("ours.xml", Rig::document("ours", LEN, copied, &secret));
    let words = format!(
        "libvirt vol-create-from ours.xml theirs --input-pool {pool} --pool {pool} --data data {CHEAP}"
    );
    place.strongroom(&words).ok();
    rig.read_with_qemu(copied, "ours", "again").unwrap();
    place.same("again", "plain").unwrap();
}

#[test]
fn a_domain_starts_with_the_disk_that_we_print() {
    let test = "libvirt::commands::a_domain_starts_with_the_disk_that_we_print";
    if !has(test, &[Tool::QEMU_SYSTEM]) {
        return;
    }
    let Some(rig) = Rig::new(test) else { return };
    rig.place.image("plain", LEN);
    for (number, format) in ["raw", "qcow2"].into_iter().enumerate() {
        let name = format!("disk.{format}");
        let secret = share_secret(&rig, &name, number);
        create(&rig, &Rig::document(&name, LEN, Choice::usual(format), &secret));
        let disk = start_domain(&rig, &name);
        assert!(!disk.contains("<backingStore"), "{disk}");
        rig.fill_with_qemu(Choice::usual(format), &name).unwrap();
    }
    // An overlay over each, under a key of its own: each layer names its own secret.
    for (number, (base, format)) in
        [("disk.raw", "raw"), ("disk.qcow2", "qcow2")].iter().enumerate()
    {
        let name = format!("above-{base}");
        let secret = share_secret(&rig, &name, 2 + number);
        let document = Rig::document(&name, LEN, Choice::usual("qcow2"), &secret);
        let below = format!(
            "<backingStore><path>{}</path><format type='{format}'/></backingStore></volume>",
            rig.volume(base)
        );
        create(&rig, &document.replace("</volume>", &below));
        let disk = start_domain(&rig, &name);
        assert_eq!(disk.matches("<secret ").count(), 2, "{disk}");
        assert!(disk.contains("<backingStore"), "{disk}");
        // A copy of it holds what the layer below does, each opened with its own secret.
        let flat = format!("flat-{format}.raw");
        let document =
            format!("<volume><name>{flat}</name><target><format type='raw'/></target></volume>");
        rig.place.write("flat.xml", document);
        let words = format!(
            "libvirt vol-create-from flat.xml {} --pool {} --data data",
            rig.volume(&name),
            rig.pool.display()
        );
        rig.place.strongroom(&words).ok();
        let words = format!("image compare plain {}", rig.volume(&flat));
        rig.place.strongroom(&words).ok();
    }
}

/// Starts a domain with the disk that we print of a volume: the daemon opens each layer with its secret,
/// or does not start it. Returns the disk.
fn start_domain(rig: &Rig, volume: &str) -> String {
    let Rig { daemon, place, .. } = rig;
    let words = format!("libvirt domain-disk {} --data data", rig.volume(volume));
    let disk = place.strongroom(&words).ok();
    let domain = format!(
        "<domain type='qemu'><name>guest</name><memory unit='MiB'>64</memory>\
         <os><type arch='x86_64'>hvm</type></os><devices>{disk}</devices></domain>"
    );
    place.write("domain.xml", domain);
    let path = place.path("domain.xml").display().to_string();
    daemon.virsh(["create", "--paused", &path]).ok();
    let info = daemon.virsh(["domblkinfo", "guest", "vda"]).ok();
    daemon.virsh(["destroy", "guest"]).ok();
    assert!(info.contains(&LEN.to_string()), "{volume}: {info}");
    disk
}
