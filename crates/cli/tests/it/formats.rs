//! What was said of a format, what a name says, and what the first bytes say: where they
//! contradict each other, nothing is made.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use strongroom_testkit::{Pattern, Tool, run};

use crate::workplace::{BINARY, CHEAP, Workplace, has};

/// Returns a place with the same contents in every format, under names that say nothing.
fn place() -> Workplace {
    let place = Workplace::new();
    place.image("raw", 256 << 10);
    place.strongroom("image clone raw qcow2 --format qcow2").ok();
    for format in ["luks1", "luks2", "qcow2-luks"] {
        let words =
            format!("image encrypt raw {format} --format {format} --passphrase-file pw {CHEAP}");
        place.strongroom(&words).ok();
    }
    place
}

#[test]
fn bytes_that_contradict_the_format_that_was_said_are_an_error() {
    let place = place();
    let formats = ["raw", "qcow2", "luks1", "luks2", "qcow2-luks"];
    let names = place.names();
    for said in formats {
        for found in formats {
            let plain = matches!(said, "raw" | "qcow2");
            let (command, key) =
                if plain { ("clone", "") } else { ("decrypt", "--passphrase-file pw") };
            let words =
                format!("image {command} {found} out --source-format {said} --format raw {key}");
            let outcome = place.strongroom(&words);
            if said == found {
                outcome.ok();
                place.same("out", "raw").unwrap();
                fs::remove_file(place.path("out")).unwrap();
                continue;
            }
            let message = outcome.fails(4);
            assert!(message.contains(found) && message.contains("hint: "), "{words}: {message}");
            assert_eq!(place.names(), names, "{words}");
        }
    }
}

#[test]
fn bytes_that_contradict_the_name_are_an_error() {
    let place = place();
    for found in ["raw", "luks1", "luks2"] {
        place.copy(found, "a.qcow2");
        for words in [
            "clone a.qcow2 out",
            "decrypt a.qcow2 out --passphrase-file pw",
            "encrypt a.qcow2 out --passphrase-file pw",
        ] {
            let message = place.strongroom(&format!("image {words}")).fails(4);
            assert!(message.contains("hint: ") && message.contains("--source-format"), "{message}");
        }
        place.strongroom("image compare a.qcow2 raw --passphrase-file pw").fails(4);
    }
    for found in ["qcow2", "qcow2-luks"] {
        for name in ["a.raw", "a.img", "a", "a.luks"] {
            place.copy(found, name);
            for words in [
                format!("clone {name} out.qcow2"),
                format!("decrypt {name} out --passphrase-file pw"),
                format!("encrypt {name} out --passphrase-file pw"),
            ] {
                let message = place.strongroom(&format!("image {words}")).fails(4);
                assert!(message.contains("hint: "), "{words}: {message}");
            }
        }
    }
    // What is encrypted is not what a plain copy of the contents needs, nor the other way round.
    place.copy("qcow2", "plain.qcow2");
    place.copy("qcow2-luks", "secret.qcow2");
    for (words, reason) in [
        ("clone secret.qcow2 out", "is encrypted already"),
        ("encrypt secret.qcow2 out --passphrase-file pw", "is encrypted already"),
        ("decrypt plain.qcow2 out --passphrase-file pw", "is not encrypted"),
        ("clone luks2 out.qcow2", "is encrypted already"),
        ("decrypt raw out.qcow2 --passphrase-file pw", "is not encrypted"),
    ] {
        let message = place.strongroom(&format!("image {words}")).fails(4);
        assert!(message.contains(reason) && message.contains("hint: "), "{words}: {message}");
    }
    assert!(!place.exists("out") && !place.exists("out.qcow2"));
}

#[test]
fn formats_that_do_not_go_with_the_command_are_an_error() {
    let place = place();
    let names = place.names();
    for (words, reason) in [
        ("clone raw out --format luks2", "raw or qcow2"),
        ("clone raw out --source-format luks1", "raw or qcow2"),
        ("decrypt luks2 out --format qcow2-luks --passphrase-file pw", "raw or qcow2"),
        ("decrypt luks2 out --source-format raw --passphrase-file pw", "luks1, luks2, qcow2-luks"),
        ("encrypt raw out --format qcow2 --passphrase-file pw", "luks1, luks2, qcow2-luks"),
        ("encrypt raw out --source-format luks1 --passphrase-file pw", "raw or qcow2"),
        (
            "reencrypt luks2 out --format raw --passphrase-file pw --new-passphrase-file new",
            "luks1, luks2, qcow2-luks",
        ),
        ("clone raw out --compress zlib", "compress"),
        ("clone raw out --compress lzo --format qcow2", "zlib, zstd"),
        ("decrypt luks2 out --compress zstd --passphrase-file pw", "compress"),
        ("clone raw - --format qcow2", "standard output"),
        ("encrypt raw - --format qcow2-luks --passphrase-file pw", "standard output"),
        ("clone raw - --resume", "cannot be resumed"),
        ("encrypt - out --resume --passphrase-file pw", "cannot be resumed"),
        ("encrypt raw out.qcow2 --data-offset 4096 --passphrase-file pw", "leave it out"),
        ("encrypt raw out.qcow2 --sector-size 4096 --passphrase-file pw", "512 bytes"),
        ("encrypt raw out.qcow2 --header apart --passphrase-file pw", "header"),
        ("encrypt raw - --header apart --passphrase-file pw", "header"),
    ] {
        let outcome = place.strongroom(&format!("image {words}"));
        assert_eq!(outcome.stdout, "", "{words}");
        let message = outcome.fails(2);
        assert!(message.contains(reason), "{words}: {message}");
        assert_eq!(place.names(), names, "{words}");
    }
    // There is no encryption to compress for: the option is not there.
    place.strongroom("image encrypt raw out --compress zlib --passphrase-file pw").fails(2);
    for words in ["decrypt - out --passphrase-file pw", "clone - out --source-format qcow2"] {
        let message = place.strongroom_reading(&format!("image {words}"), b"QFI\xfb").fails(2);
        assert!(message.contains("standard input") && message.contains("hint: "), "{message}");
    }
    assert_eq!(place.names(), names);
}

#[test]
fn what_is_on_standard_input_is_raw_and_nothing_else() {
    let place = place();
    let names = place.names();
    for (name, found) in
        [("qcow2", "qcow2"), ("qcow2-luks", "qcow2"), ("luks1", "LUKS1"), ("luks2", "LUKS2")]
    {
        for words in ["encrypt - out --passphrase-file pw", "clone - out.qcow2"] {
            let outcome =
                place.strongroom_reading(&format!("image {words} --json"), &place.read(name));
            let message = outcome.fails(4);
            assert!(message.contains(found) && message.contains("hint: "), "{words}: {message}");
            assert_eq!(place.names(), names, "{words}");
        }
    }
}

#[test]
fn an_image_on_standard_output_is_not_mixed_with_words() {
    let place = place();
    let mut command = Command::new("sh");
    let words = "image decrypt luks2 - --json --passphrase-file pw >again 2>report";
    command.args(["-c", &format!("\"$0\" {words}")]).arg(BINARY).current_dir(place.path("."));
    run(command, b"").ok();
    place.same("again", "raw").unwrap();
    let report: serde_json::Value = serde_json::from_slice(&place.read("report")).unwrap();
    assert_eq!(report["target"], "standard output");
    assert_eq!(report["bytes"], 256 << 10);
}

#[test]
fn an_image_is_not_written_to_a_terminal() {
    if !has("formats::terminal", &[Tool::SCRIPT]) {
        return;
    }
    let place = place();
    let mut command = Tool::SCRIPT.command();
    let words = format!("{BINARY} image decrypt luks2 - --passphrase-file pw");
    command.args(["-qec", &words, "log"]).current_dir(place.path("."));
    let outcome = run(command, b"");
    assert_eq!(outcome.code, Some(2), "{}", outcome.describe());
    let log = String::from_utf8(place.read("log")).unwrap();
    assert!(log.contains("not written to a terminal") && log.contains("hint: "), "{log}");
}

#[test]
fn no_target_is_its_own_source_or_anything_but_a_plain_file() {
    let place = place();
    place.copy("qcow2", "a.qcow2");
    fs::hard_link(place.path("a.qcow2"), place.path("b.qcow2")).unwrap();
    symlink("a.qcow2", place.path("c.qcow2")).unwrap();
    place.strongroom("image create chain.qcow2 1M").ok();
    let before = place.read("a.qcow2");
    let names = place.names();
    for target in ["a.qcow2", "b.qcow2", "c.qcow2", "/dev/null", "."] {
        for words in [
            format!("clone a.qcow2 {target} --format qcow2"),
            format!("clone c.qcow2 {target} --format raw"),
            format!("encrypt a.qcow2 {target} --passphrase-file pw {CHEAP}"),
            format!("encrypt a.qcow2 {target} --passphrase-file pw {CHEAP} --resume"),
        ] {
            place.strongroom(&format!("image {words} --force")).fails(2);
            assert_eq!(place.names(), names, "{words}");
        }
    }
    assert!(place.read("a.qcow2") == before);
}

#[test]
fn a_backing_file_is_never_the_target() {
    if !has("formats::backing", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    place.image_of("base", 1 << 20, &Pattern::dense(1));
    let before = place.read("base");
    place.qemu_img("create -q -f qcow2 -b base -F raw top.qcow2").ok();
    let message = place.strongroom("image clone top.qcow2 out --format raw").fails(2);
    assert!(message.contains("base") && message.contains("--backing-from"), "{message}");
    let outcome = place.strongroom("image clone top.qcow2 base --force --backing-from .");
    assert_eq!(outcome.code, Some(2), "{}", outcome.describe());
    assert!(place.read("base") == before);
    place.strongroom("image clone top.qcow2 out --format raw --backing-from .").ok();
    place.same("out", "base").unwrap();
}
