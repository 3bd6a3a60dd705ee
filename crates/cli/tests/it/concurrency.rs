//! Several processes at work on the same header.

use strongroom_testkit::{Outcome, Tool};

use crate::workplace::{CHEAP, CRYPTSETUP_CHEAP, Workplace, has};

/// Returns a place with the image `plain`, its encryption `volume` under `pw` and passphrase files
/// `key0`, `key1` and so on.
fn encrypted(format: &str, keys: usize) -> Workplace {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    place
        .strongroom(&format!(
            "image encrypt plain volume --passphrase-file pw --format {format} {CHEAP}"
        ))
        .ok();
    for key in 0..keys {
        place.write(&format!("key{key}"), format!("passphrase number {key}"));
    }
    place
}

fn add(place: &Workplace, key: usize) -> Outcome {
    place.strongroom(&format!(
        "luks add-key volume --passphrase-file pw --new-passphrase-file key{key} {CHEAP}"
    ))
}

fn add_with_cryptsetup(place: &Workplace, key: usize) -> Outcome {
    place.cryptsetup(&format!("luksAddKey {CRYPTSETUP_CHEAP} --key-file pw volume key{key}"))
}

/// Runs so many pieces of work at once.
fn at_once(count: usize, work: impl Fn(usize) -> Outcome + Sync) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        running.into_iter().map(|work| work.join().unwrap()).collect()
    })
}

fn opens(place: &Workplace, file: &str) -> bool {
    let outcome = place.strongroom(&format!("luks test-key volume --passphrase-file {file}"));
    assert!(matches!(outcome.code, Some(0 | 3)), "{}", outcome.describe());
    outcome.code == Some(0)
}

fn assert_whole(place: &Workplace) {
    let outcome = place.strongroom("image info volume");
    assert_eq!(outcome.stderr, "", "{}", outcome.describe());
    place.strongroom("image decrypt volume again --passphrase-file pw").ok();
    place.same("again", "plain").unwrap();
}

#[test]
fn keys_added_at_once_are_all_there() {
    for format in ["luks1", "luks2"] {
        let place = encrypted(format, 6);
        let outcomes = at_once(6, |key| add(&place, key));
        for (key, outcome) in outcomes.into_iter().enumerate() {
            assert!(matches!(outcome.code, Some(0 | 7)), "{}", outcome.describe());
            assert_eq!(opens(&place, &format!("key{key}")), outcome.code == Some(0));
        }
        assert_whole(&place);
    }
}

#[test]
fn keys_removed_while_others_are_added_are_gone_and_no_others() {
    for format in ["luks1", "luks2"] {
        let place = encrypted(format, 6);
        (0..3).for_each(|key| drop(add(&place, key).ok()));
        let outcomes = at_once(6, |key| {
            if key < 3 {
                place.strongroom(&format!("luks remove-key volume --passphrase-file key{key}"))
            } else {
                add(&place, key)
            }
        });
        for (key, outcome) in outcomes.into_iter().enumerate() {
            assert!(matches!(outcome.code, Some(0 | 7)), "{}", outcome.describe());
            let there = opens(&place, &format!("key{key}"));
            assert_eq!(there, (outcome.code == Some(0)) == (key >= 3), "key{key}");
        }
        assert_whole(&place);
    }
}

#[test]
fn keys_that_cryptsetup_and_we_add_at_once_are_all_there() {
    if !has("concurrency::cryptsetup", &[Tool::CRYPTSETUP]) {
        return;
    }
    // The locks that both take are those of LUKS2: `cryptsetup` takes none for LUKS1.
    for _ in 0..3 {
        let place = encrypted("luks2", 8);
        let outcomes = at_once(8, |key| {
            if key % 2 == 0 { add(&place, key) } else { add_with_cryptsetup(&place, key) }
        });
        for (key, outcome) in outcomes.into_iter().enumerate() {
            // `cryptsetup` gives up when somebody was faster; we try again.
            let allowed = if key % 2 == 0 { [0, 7] } else { [0, 1] };
            let code = outcome.code.unwrap_or(-1);
            assert!(allowed.contains(&code), "{}", outcome.describe());
            assert_eq!(opens(&place, &format!("key{key}")), code == 0, "{}", outcome.describe());
        }
        place.cryptsetup("luksDump volume").ok();
        assert_whole(&place);
    }
}

#[test]
fn a_header_can_be_read_while_it_is_being_changed() {
    let place = encrypted("luks2", 5);
    let outcomes = at_once(10, |key| {
        if key < 5 {
            add(&place, key)
        } else {
            let dump = place.strongroom("luks dump volume --json");
            assert_eq!(dump.stderr, "");
            place.strongroom("luks test-key volume --passphrase-file pw")
        }
    });
    outcomes.into_iter().for_each(|outcome| drop(outcome.ok()));
    assert_whole(&place);
}
