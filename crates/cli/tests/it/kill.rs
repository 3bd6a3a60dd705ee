//! The process killed at moments that a seed chooses: whatever opens afterwards is whole.

use std::process::Stdio;
use std::time::Instant;

use crate::workplace::{CHEAP, Workplace};

/// Runs a command again and again, killed at a random moment of its usual time. `prepare` makes a
/// place for each round, `check` looks at what is left and says whether the command had its effect.
fn killed(
    seed: u64,
    command: &str,
    prepare: impl Fn(&Workplace),
    check: impl Fn(&Workplace) -> Effect,
) {
    let place = Workplace::new();
    prepare(&place);
    let start = Instant::now();
    place.strongroom(command).ok();
    let usual = start.elapsed();
    assert_eq!(check(&place), Effect::Whole, "{command}");

    let mut random = seed;
    for round in 0..ROUNDS {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Past the end now and then, since the machine is not always as busy.
        let share = (random >> 33) % 1100;
        let moment = usual.mul_f64(share as f64 / 1000.0);
        let place = Workplace::new();
        prepare(&place);
        let mut child = place
            .command(command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(moment);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let effect = check(&place);
        // Only for the moment of replacing another file has a new one a second name.
        let left = place.names().iter().any(|name| name.ends_with(".partial"));
        assert!(!left || command.contains("--force"), "seed {seed}, round {round}: {command}");
        if status.code() == Some(0) {
            let context = format!("seed {seed}, round {round}, {moment:?}: {command}");
            assert_eq!(effect, Effect::Whole, "{context}");
        }
    }
}

/// What a command has done.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    None,
    Whole,
}

/// Makes the image `plain`.
fn plain(place: &Workplace) {
    place.image("plain", LEN);
}

/// Makes the images `plain` and `volume`.
fn volume(place: &Workplace, format: &str) {
    plain(place);
    place
        .strongroom(&format!(
            "image encrypt plain volume --passphrase-file pw --format {format} {CHEAP}"
        ))
        .ok();
}

/// Tells whether `target` is there. Whatever file there is that opens must hold the data, under
/// the target's name or not.
fn new_volume(place: &Workplace, target: &str, passphrase: &str) -> Effect {
    for name in place.names() {
        if !name.contains(target) {
            continue;
        }
        let opens =
            place.strongroom(&format!("luks test-key {name} --passphrase-file {passphrase}"));
        if opens.code == Some(0) {
            assert_holds_data(place, &name, passphrase);
        } else {
            assert_ne!(name, target, "{}", opens.describe());
        }
    }
    if place.exists(target) { Effect::Whole } else { Effect::None }
}

fn assert_holds_data(place: &Workplace, name: &str, passphrase: &str) {
    place
        .strongroom(&format!("image decrypt {name} again --force --passphrase-file {passphrase}"))
        .ok();
    place.same("again", "plain").unwrap();
}

/// Tells whether the new passphrase opens. The old one must where that does not, and the data be
/// whole whichever does.
fn changed_keys(place: &Workplace) -> Effect {
    let opens = ["pw", "new"].map(|file| {
        let outcome = place.strongroom(&format!("luks test-key volume --passphrase-file {file}"));
        match outcome.code {
            Some(0) => {
                assert_holds_data(place, "volume", file);
                true
            }
            Some(3) => false,
            _ => panic!("{}", outcome.describe()),
        }
    });
    match opens {
        [_, true] => Effect::Whole,
        [true, false] => Effect::None,
        [false, false] => panic!("neither passphrase opens any more"),
    }
}

#[test]
fn an_encryption_that_is_killed_leaves_nothing_that_opens_unless_it_is_whole() {
    for (seed, format) in [(1, "luks1"), (2, "luks2")] {
        let command =
            format!("image encrypt plain target --passphrase-file pw --format {format} {CHEAP}");
        killed(seed, &command, plain, |place| new_volume(place, "target", "pw"));
    }
}

#[test]
fn a_decryption_that_is_killed_leaves_no_target_unless_it_is_whole() {
    let command = "image decrypt volume target --passphrase-file pw";
    killed(
        3,
        command,
        |place| volume(place, "luks2"),
        |place| {
            if !place.exists("target") {
                return Effect::None;
            }
            place.same("target", "plain").unwrap();
            Effect::Whole
        },
    );
}

#[test]
fn a_reencryption_that_is_killed_leaves_the_source_and_nothing_half() {
    let command = format!(
        "image reencrypt volume target --passphrase-file pw --new-passphrase-file new {CHEAP}"
    );
    killed(
        4,
        &command,
        |place| volume(place, "luks2"),
        |place| {
            assert_holds_data(place, "volume", "pw");
            new_volume(place, "target", "new")
        },
    );
}

#[test]
fn a_target_being_replaced_is_the_old_one_or_the_new_one() {
    let command = format!("image encrypt plain target --force --passphrase-file pw {CHEAP}");
    killed(
        5,
        &command,
        |place| {
            plain(place);
            place.write("target", "precious");
        },
        |place| {
            if place.read("target") == b"precious" {
                return Effect::None;
            }
            new_volume(place, "target", "pw")
        },
    );
}

#[test]
fn adding_a_key_that_is_killed_keeps_the_old_one() {
    for (seed, format) in [(6, "luks1"), (7, "luks2")] {
        let command =
            format!("luks add-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}");
        killed(
            seed,
            &command,
            |place| volume(place, format),
            |place| {
                place.strongroom("luks test-key volume --passphrase-file pw").ok();
                changed_keys(place)
            },
        );
    }
}

#[test]
fn changing_a_key_that_is_killed_keeps_the_old_one_or_the_new_one() {
    for (seed, format) in [(8, "luks1"), (9, "luks2")] {
        let command = format!(
            "luks change-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}"
        );
        killed(seed, &command, |place| volume(place, format), changed_keys);
    }
}

#[test]
fn restoring_a_header_that_is_killed_keeps_the_old_one_or_the_new_one() {
    for (seed, format) in [(10, "luks1"), (11, "luks2")] {
        killed(
            seed,
            "luks header-restore volume backup",
            |place| {
                volume(place, format);
                let change = "luks change-key volume";
                place
                    .strongroom(&format!(
                        "{change} --passphrase-file pw --new-passphrase-file new {CHEAP}"
                    ))
                    .ok();
                place.strongroom("luks header-backup volume backup").ok();
                place
                    .strongroom(&format!(
                        "{change} --passphrase-file new --new-passphrase-file pw {CHEAP}"
                    ))
                    .ok();
            },
            changed_keys,
        );
    }
}

const ROUNDS: u32 = 20;

const LEN: u64 = 2 << 20;
