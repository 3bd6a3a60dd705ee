//! Sources and targets of every kind: what is taken, what is refused, what is left behind.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use strongroom_testkit::{Pattern, run, skip, wait};

use crate::workplace::{BINARY, CHEAP, Workplace, signal, wait_for_target};

fn encrypt(place: &Workplace, words: &str) -> strongroom_testkit::Outcome {
    place.strongroom(&format!("image encrypt {words} --passphrase-file pw {CHEAP}"))
}

/// Returns a place with the image `plain` and its encryption `volume` under `pw`.
fn encrypted() -> Workplace {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    encrypt(&place, "plain volume --data-offset 1048576").ok();
    place
}

#[test]
fn odd_sizes_come_back_as_they_were() {
    let place = Workplace::new();
    for (len, sector) in [
        (512, 512),
        (4096, 512),
        (4096, 4096),
        (12_345 * 512, 512),
        ((1 << 20) + 512, 512),
        (3 * 4096, 2048),
        ((8 << 20) - 1024, 1024),
    ] {
        for format in ["luks1", "luks2"] {
            if format == "luks1" && sector != 512 {
                continue;
            }
            place.image("plain", len);
            encrypt(
                &place,
                &format!("plain volume --force --format {format} --sector-size {sector}"),
            )
            .ok();
            place.strongroom("image decrypt volume again --force --passphrase-file pw").ok();
            place.same("again", "plain").unwrap();
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_what_is_read_back() {
    let place = Workplace::new();
    place.image("plain", 9 << 20);
    for threads in [1, 2, 7] {
        encrypt(&place, &format!("plain volume --force --threads {threads}")).ok();
        place
            .strongroom(&format!(
                "image decrypt volume again --force --threads {threads} --passphrase-file pw"
            ))
            .ok();
        place.same("again", "plain").unwrap();
    }
}

#[test]
fn a_source_one_byte_short_of_a_sector_is_refused_with_a_way_out() {
    let place = Workplace::new();
    for (len, sector, padded) in [(65_535, 512, 65_536), (511, 512, 512), (4608, 4096, 8192)] {
        place.image("plain", len);
        let message = encrypt(&place, &format!("plain volume --sector-size {sector}")).fails(4);
        assert!(message.contains(&format!("{len} bytes")), "{message}");
        assert!(message.contains(&format!("hint: pad it with zeros first: truncate -s {padded}")));
        assert!(!place.exists("volume"));
    }
    place.sized("empty", 0);
    let message = encrypt(&place, "empty volume").fails(4);
    assert!(message.contains("empty is empty"), "{message}");
    assert_eq!(place.names(), ["empty", "new", "plain", "pw", "wrong"]);
}

#[test]
fn a_qcow2_image_is_not_taken_for_a_raw_one() {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    place.strongroom("image create disk 1M --format qcow2").ok();
    for command in ["encrypt disk volume --passphrase-file pw", "clone disk volume.qcow2"] {
        let message = place.strongroom(&format!("image {command}")).fails(4);
        assert!(message.contains("a qcow2 image"), "{message}");
        assert!(message.contains("hint: ") && message.contains("--source-format qcow2"));
    }
    // Nor is one that is called so read as anything else.
    fs::rename(place.path("disk"), place.path("disk.qcow2")).unwrap();
    encrypt(&place, "disk.qcow2 volume").ok();
    place.strongroom("image compare disk.qcow2 volume --passphrase-file pw").ok();
    place.copy("plain", "plain.qcow2");
    let message = encrypt(&place, "plain.qcow2 other").fails(4);
    assert!(message.contains("hint: ") && message.contains("--source-format"), "{message}");
    assert!(!place.exists("other") && !place.exists("volume.qcow2"));
}

#[test]
fn what_is_encrypted_is_not_encrypted_again() {
    for (format, name) in [("luks1", "LUKS1"), ("luks2", "LUKS2")] {
        let place = Workplace::new();
        place.image("plain", 64 << 10);
        let uuid = "01234567-89ab-4cde-8f01-23456789abcd";
        encrypt(&place, &format!("plain volume --format {format} --uuid {uuid}")).ok();
        let message = encrypt(&place, "volume twice").fails(4);
        assert!(message.contains(name) && message.contains(uuid), "{message}");
        assert!(message.contains("hint: "), "{message}");
        assert!(!place.exists("twice"));
    }
}

#[test]
fn what_is_plain_is_not_decrypted() {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    for command in ["decrypt", "reencrypt --new-passphrase-file new"] {
        let message =
            place.strongroom(&format!("image {command} plain out --passphrase-file pw")).fails(4);
        assert!(message.contains("not encrypted") && message.contains("hint: "), "{message}");
    }
    assert!(!place.exists("out"));
}

#[test]
fn a_wrong_passphrase_leaves_nothing() {
    let place = encrypted();
    let names = place.names();
    place.strongroom("image decrypt volume out --passphrase-file wrong").fails(3);
    place
        .strongroom("image reencrypt volume out --passphrase-file wrong --new-passphrase-file new")
        .fails(3);
    assert_eq!(place.names(), names);
}

#[test]
fn an_existing_target_stays_until_it_may_go() {
    let place = encrypted();
    place.write("out", "precious");
    let commands = [
        format!("image encrypt plain out --passphrase-file pw {CHEAP}"),
        "image decrypt volume out --passphrase-file pw".to_owned(),
        "image clone plain out".to_owned(),
    ];
    for command in &commands {
        let message = place.strongroom(command).fails(6);
        assert!(message.contains("hint: use --force"), "{message}");
        assert_eq!(place.read("out"), b"precious");
    }
    // A replacement that fails does not cost the old file either.
    place.strongroom("image decrypt volume out --force --passphrase-file wrong").fails(3);
    assert_eq!(place.read("out"), b"precious");
    for command in &commands {
        place.strongroom(&format!("{command} --force")).ok();
    }
    place.same("out", "plain").unwrap();
}

#[test]
fn the_source_is_never_its_own_target() {
    let place = encrypted();
    fs::hard_link(place.path("plain"), place.path("link")).unwrap();
    let before = place.read("plain");
    for target in ["plain", "link"] {
        encrypt(&place, &format!("plain {target} --force")).fails(2);
        place.strongroom(&format!("image clone plain {target} --force")).fails(2);
    }
    place.strongroom("image decrypt volume volume --force --passphrase-file pw").fails(2);
    assert!(place.read("plain") == before);
    place.strongroom("luks test-key volume --passphrase-file pw").ok();
}

#[test]
fn only_plain_files_are_targets() {
    let place = encrypted();
    fs::create_dir(place.path("directory")).unwrap();
    symlink("plain", place.path("symlink")).unwrap();
    symlink("nowhere", place.path("dangling")).unwrap();
    let names = place.names();
    let before = place.read("plain");
    for target in ["directory", "symlink", "dangling", "/dev/null", "directory/.."] {
        encrypt(&place, &format!("plain {target} --force")).fails(2);
        place.strongroom(&format!("image decrypt volume {target} --passphrase-file pw")).fails(2);
    }
    encrypt(&place, "plain missing/out").fails(8);
    assert_eq!(place.names(), names);
    assert!(place.read("plain") == before);
}

#[test]
fn only_files_that_hold_a_disk_are_sources() {
    let place = Workplace::new();
    fs::create_dir(place.path("directory")).unwrap();
    for source in ["directory", "/dev/null"] {
        encrypt(&place, &format!("{source} out")).fails(2);
    }
    encrypt(&place, "missing out").fails(8);
    place.strongroom("image info missing").fails(8);
    place.strongroom("luks dump missing").fails(8);
    assert!(!place.exists("out"));
}

#[test]
fn holes_stay_holes_where_nothing_is_encrypted() {
    let place = Workplace::new();
    place.sized("plain", 64 << 20);
    let disk = strongroom_disk::Raw::open(place.path("plain"), strongroom_disk::Access::ReadWrite);
    strongroom_disk::Disk::write_at(&disk.unwrap(), &[7; 65_536], 40 << 20).unwrap();
    place.strongroom("image clone plain copy").ok();
    encrypt(&place, "plain volume").ok();
    place.strongroom("image decrypt volume again --passphrase-file pw").ok();
    for name in ["copy", "again"] {
        place.same(name, "plain").unwrap();
        assert!(place.allocated(name) < 4 << 20, "{name} takes {}", place.allocated(name));
    }
    assert!(place.allocated("volume") >= 64 << 20, "a hole in ciphertext decrypts to noise");
    place.strongroom("image clone volume volume2").ok();
    place.same("volume2", "volume").unwrap();
}

#[test]
fn a_full_disk_leaves_nothing() {
    let place = encrypted();
    fs::create_dir(place.path("small")).unwrap();
    place.image_of("large", 6 << 20, &Pattern::dense(1));
    encrypt(&place, "large volume2").ok();
    let mounts = ["--mount", "--mount --map-root-user"]
        .into_iter()
        .find(|options| run(mounted(&place, options, "true"), b"").code == Some(0));
    let Some(options) = mounts else {
        return skip("sources::a_full_disk", "no file system may be mounted here");
    };
    for command in [
        format!("image encrypt large small/out --passphrase-file pw {CHEAP} --data-offset 1048576"),
        "image decrypt volume2 small/out --passphrase-file pw".to_owned(),
        "image clone large small/out".to_owned(),
    ] {
        let script = format!("{BINARY} {command}; code=$?; ls -A small; exit $code");
        let outcome = run(mounted(&place, options, &script), b"");
        assert_eq!(outcome.stdout, "", "{}", outcome.describe());
        let message = outcome.fails(1);
        assert!(message.contains("hint: nothing was left behind"), "{message}");
    }
}

/// Returns a command that runs a script with a tiny file system on `small`, which nobody else sees
/// and which ends with it.
fn mounted(place: &Workplace, options: &str, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(options.split(' ')).args(["sh", "-c"]);
    command.arg(format!("mount -t tmpfs -o size=3m tmpfs small || exit 99; {script}"));
    command.current_dir(place.path("."));
    command
}

#[test]
fn a_signal_leaves_nothing_and_ends_with_130() {
    let place = Workplace::new();
    place.sized("plain", 1 << 30);
    for stop in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut child =
            place.start(&format!("image encrypt plain volume --passphrase-file pw {CHEAP}"));
        wait_for_target(&child);
        signal(&child, stop);
        let status = wait(&mut child, Duration::from_secs(60)).unwrap();
        assert_eq!(status.code(), Some(130), "{stop:?}");
        assert_eq!(place.names(), ["new", "plain", "pw", "wrong"], "{stop:?}");
    }
}

#[test]
fn comparing_looks_at_what_is_inside() {
    let place = encrypted();
    encrypt(&place, "plain other --format luks1").ok();
    for pair in ["plain volume", "volume plain", "volume other", "plain plain"] {
        place.strongroom(&format!("image compare {pair} --passphrase-file pw")).ok();
    }
    let mut bytes = place.read("plain");
    bytes[50_000] ^= 1;
    place.write("changed", &bytes);
    let outcome = place.strongroom("image compare volume changed --passphrase-file pw");
    assert!(outcome.stdout.contains("first at byte 50000"), "{}", outcome.describe());
    outcome.fails(5);
    place.write("shorter", &bytes[..4096]);
    place.strongroom("image compare volume shorter --passphrase-file pw").fails(5);
    place.strongroom("image compare volume plain").fails(2);
    place.strongroom("image compare volume plain --passphrase-file wrong").fails(3);
}
