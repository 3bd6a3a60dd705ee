//! Images made longer and shorter.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strongroom_testkit::Tool;

use crate::workplace::{CHEAP, Workplace, has};

const SECRET: &str = "--object secret,id=key,file=pw";

/// Makes `plain`, and each `FORMAT.…` with the same contents of 3 MiB and a bit.
fn place() -> Workplace {
    let place = Workplace::new();
    place.image("plain", (3 << 20) + 512);
    let key = format!("--passphrase-file pw {CHEAP}");
    place.copy("plain", "raw.img");
    place.strongroom("image clone plain plain.qcow2").ok();
    place.strongroom(&format!("image encrypt plain key.qcow2 {key}")).ok();
    place.strongroom(&format!("image encrypt plain one.luks --format luks1 {key}")).ok();
    place.strongroom(&format!("image encrypt plain two.luks {key}")).ok();
    place
}

/// Makes `expected` the first `len` bytes of `plain`, with zeros behind them.
fn expect(place: &Workplace, len: usize) {
    let mut bytes = place.read("plain");
    bytes.resize(len, 0);
    place.write("expected", bytes);
}

/// Compares every image with `expected`.
fn assert_expected(place: &Workplace, name: &str) {
    let command = match name {
        "raw.img" => return place.same("raw.img", "expected").unwrap(),
        "plain.qcow2" => "clone plain.qcow2 found --format raw --force".to_owned(),
        name => format!("decrypt {name} found --force --format raw --passphrase-file pw"),
    };
    place.strongroom(&format!("image {command}")).ok();
    place.same("found", "expected").unwrap();
}

#[test]
fn every_format_grows_by_zeros_and_shrinks() {
    if !has("resizing::every_format", &[Tool::QEMU_IMG, Tool::CRYPTSETUP]) {
        return;
    }
    let place = place();
    for (name, opened) in [
        ("raw.img", "driver=raw"),
        ("plain.qcow2", "driver=qcow2"),
        ("key.qcow2", "driver=qcow2,encrypt.key-secret=key"),
        ("one.luks", "driver=luks,key-secret=key"),
        ("two.luks", ""),
    ] {
        let key = if name.contains('.') && !name.starts_with(['r', 'p']) {
            "--passphrase-file pw"
        } else {
            ""
        };
        let mut kept = (3 << 20) + 512;
        for (change, len, options) in [
            ("5M", 5 << 20, ""),
            ("+2560", (5 << 20) + 2560, ""),
            ("-4M", (1 << 20) + 2560, "--shrink"),
            ("1G", 1 << 30, ""),
            ("2097664", (2 << 20) + 512, "--shrink"),
            ("2097664", (2 << 20) + 512, ""),
        ] {
            let words = format!("image resize {name} {change} {options} {key}");
            place.strongroom(&words).ok();
            // What was cut off stays so when the image grows again.
            kept = kept.min(len);
            let mut bytes = place.read("plain");
            bytes.truncate(kept);
            if len == 1 << 30 {
                continue;
            }
            bytes.resize(len, 0);
            place.write("expected", bytes);
            assert_expected(&place, name);
            if opened.is_empty() {
                place.cryptsetup(&format!("open --test-passphrase --key-file pw {name}")).ok();
                continue;
            }
            let image = format!("{opened},file.filename={name}");
            let raw = "driver=raw,file.filename=expected";
            let info = place.qemu_img(&format!("info --output json {SECRET} --image-opts {image}"));
            assert!(info.ok().contains(&format!("\"virtual-size\": {len},")), "{name} {change}");
            place.qemu_img(&format!("compare {SECRET} --image-opts {image} {raw}")).ok();
            if name.ends_with("qcow2") {
                place.qemu_img(&format!("check {SECRET} --image-opts {image}")).ok();
            }
        }
    }
}

#[test]
fn a_passphrase_is_needed_only_where_zeros_are_encrypted() {
    let place = place();
    for (words, message) in [
        ("one.luks 5M", "no passphrase"),
        ("two.luks 5M", "no passphrase"),
        ("key.qcow2 5M", "no passphrase"),
        ("key.qcow2 1000448 --shrink", "no passphrase"),
    ] {
        let name = words.split(' ').next().unwrap();
        let before = place.read(name);
        let said = place.strongroom(&format!("image resize {words}")).fails(2);
        assert!(said.contains(message), "{words}: {said}");
        place.strongroom(&format!("image resize {words} --passphrase-file wrong")).fails(3);
        assert!(place.read(name) == before, "{words}");
    }
    // At the border of a cluster nothing has to be encrypted.
    place.strongroom("image resize key.qcow2 1M --shrink").ok();
    place.strongroom("image resize key.qcow2 5M").ok();
    let mut bytes = place.read("plain");
    bytes.truncate(1 << 20);
    bytes.resize(5 << 20, 0);
    place.write("expected", bytes);
    assert_expected(&place, "key.qcow2");
    place.strongroom("image resize two.luks 1M --shrink").ok();
    expect(&place, 1 << 20);
    assert_expected(&place, "two.luks");
}

#[test]
fn what_cannot_be_resized_is_refused_and_stays_as_it_is() {
    let place = place();
    place.strongroom("image create top.qcow2 1M --backing plain --backing-format raw").ok();
    place.copy("plain.qcow2", "unnamed");
    place.copy("two.luks", "nameless");
    for (words, code, reason) in [
        ("raw.img 1M", 2, "would lose its end"),
        ("plain.qcow2 -1M", 2, "--shrink"),
        ("two.luks 1M", 2, "would lose its end"),
        ("raw.img 5000000", 2, "4999680 and 5000192"),
        ("raw.img -5M --shrink", 2, "cannot change by that much"),
        ("raw.img 0 --shrink", 2, "no bytes"),
        ("raw.img 1Z", 2, "is no size"),
        ("missing 1M", 8, "missing"),
        ("unnamed 5M", 4, "--source-format qcow2"),
        ("nameless 5M", 4, "encrypted already"),
        ("raw.img 5M --source-format qcow2", 4, "not a qcow2 image"),
        ("raw.img 5M --source-format luks2", 4, "no LUKS header"),
        ("two.luks 5M --source-format luks1", 4, "not a LUKS1 volume"),
        ("plain.qcow2 5M --source-format qcow2-luks", 4, "not encrypted"),
        ("key.qcow2 5M --source-format qcow2", 4, "not a plain one"),
        ("top.qcow2 2M", 2, "--backing-from"),
        ("/dev/null 1M", 2, "character device"),
    ] {
        let name = words.split(' ').next().unwrap();
        let before = place.exists(name).then(|| place.read(name));
        let message = place.strongroom(&format!("image resize {words}")).fails(code);
        assert!(message.contains(reason), "{words}: {message}");
        assert!(place.exists(name).then(|| place.read(name)) == before, "{words}");
    }
    place.strongroom("image resize top.qcow2 2M --backing-from .").ok();
    place.strongroom("image compare top.qcow2 plain --backing-from .").fails(5);
}

#[test]
fn a_volume_that_is_killed_while_it_grows_ends_in_zeros_and_goes_on() {
    let place = place();
    let words = "image resize two.luks 96M --passphrase-file pw";
    let start = place.path("two.luks").metadata().unwrap().len();
    let mut parts = 0;
    for round in 0..40 {
        let mut child = place.start(words);
        let begun = Instant::now();
        let (old, patience) = (place.path("two.luks").metadata().unwrap().len(), round % 4);
        while place.path("two.luks").metadata().unwrap().len() <= old + (patience << 20)
            && child.try_wait().unwrap().is_none()
        {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not begin");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let len = place.path("two.luks").metadata().unwrap().len() - start + (3 << 20) + 512;
        parts += usize::from(len < 96 << 20 && len > (3 << 20) + 512);
        expect(&place, (len / 512 * 512) as usize);
        assert_expected(&place, "two.luks");
        if len == 96 << 20 {
            break;
        }
    }
    assert!(parts > 0, "it was never killed in between");
    place.strongroom(words).ok();
    expect(&place, 96 << 20);
    assert_expected(&place, "two.luks");
}

/// Opens an image with QEMU, and keeps it open until the process is ended.
fn held(place: &Workplace, options: &[&str]) -> Child {
    let mut child = Command::new("qemu-io")
        .args(options)
        .current_dir(place.path("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It asks for commands once the image is open.
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    child
}

#[test]
fn an_image_that_a_program_of_qemus_has_open_is_left_alone() {
    if !has("resizing::held", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = place();
    let before = place.read("plain.qcow2");
    for (options, check) in [(&["-r", "plain.qcow2"][..], 0), (&["plain.qcow2"], 7)] {
        let mut child = held(&place, options);
        let message = place.strongroom("image resize plain.qcow2 +1M").fails(7);
        assert!(message.contains("QEMU"), "{message}");
        place.strongroom("image check plain.qcow2 --repair").fails(7);
        assert_eq!(place.strongroom("image check plain.qcow2").code, Some(check));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(place.read("plain.qcow2") == before);
    }
    place.strongroom("image resize plain.qcow2 +1M").ok();
}
