//! Ways in which people could lose data, each of which must end well.

use std::fs;

use crate::workplace::{CHEAP, Workplace};

/// Returns a place with the image `plain` and its encryption `volume` under `pw`.
fn encrypted() -> Workplace {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    place.strongroom(&format!("image encrypt plain volume --passphrase-file pw {CHEAP}")).ok();
    place
}

#[test]
fn a_detached_header_never_replaces_the_image_that_it_belongs_to() {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    fs::create_dir(place.path("inner")).unwrap();
    for (target, header) in [("t", "t"), ("./t", "t"), ("inner/../t", "t")] {
        for force in ["", "--force"] {
            let words = format!(
                "image encrypt plain {target} --header {header} {force} --passphrase-file pw {CHEAP}"
            );
            let error = place.strongroom(&words).fails(2);
            assert!(error.contains("both the image and its header"), "{error}");
            assert!(!place.exists("t"));
        }
    }
}

#[test]
fn a_pair_that_cannot_be_made_whole_is_not_made_at_all() {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    place.write("h", "somebody's");
    place
        .strongroom(&format!("image encrypt plain t --header h --passphrase-file pw {CHEAP}"))
        .fails(6);
    assert!(!place.exists("t"));
    assert_eq!(place.read("h"), b"somebody's");
}

#[test]
fn a_device_that_is_no_longer_luks_is_not_made_luks_again() {
    let place = encrypted();
    let mut bytes = place.read("volume");
    bytes[..16 << 10].fill(0);
    bytes[1024..1028].copy_from_slice(&[0x10, 0x20, 0xF5, 0xF2]);
    place.write("volume", &bytes);
    for words in [
        "luks remove-key volume --passphrase-file wrong",
        "luks add-key volume --passphrase-file pw --new-passphrase-file new",
        "luks repair volume",
        "image decrypt volume t --passphrase-file pw",
    ] {
        assert!(place.strongroom(words).success().is_err(), "{words}");
        assert!(place.read("volume") == bytes, "{words} wrote to the device");
    }
    place.strongroom("luks repair volume --force").ok();
    place.strongroom("luks test-key volume --passphrase-file pw").ok();
}

#[test]
fn a_wrong_passphrase_changes_nothing_even_where_a_copy_is_damaged() {
    let place = encrypted();
    let mut bytes = place.read("volume");
    bytes[5000] ^= 1;
    place.write("volume", &bytes);
    place.strongroom("luks remove-key volume --passphrase-file wrong").fails(3);
    assert!(place.read("volume") == bytes);
    place
        .strongroom(&format!(
            "luks change-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}"
        ))
        .ok();
    place.strongroom("luks test-key volume --passphrase-file new").ok();
}

#[test]
fn no_hint_ever_cuts_an_encrypted_image() {
    let place = Workplace::new();
    place.image("plain", (64 << 10) + 512);
    place.strongroom(&format!("image encrypt plain volume --passphrase-file pw {CHEAP}")).ok();
    let words = format!(
        "image reencrypt volume t --sector-size 4096 --passphrase-file pw \
         --new-passphrase-file new {CHEAP}"
    );
    let error = place.strongroom(&words).fails(4);
    assert!(error.contains("--sector-size 512") && !error.contains("truncate"), "{error}");
}

#[test]
fn a_backup_of_a_header_with_a_damaged_copy_can_be_restored() {
    let place = encrypted();
    let mut bytes = place.read("volume");
    bytes[(16 << 10) + 5000] ^= 1;
    place.write("volume", &bytes);
    place.strongroom("luks header-backup volume backup").ok();
    place.strongroom("luks header-restore volume backup").ok();
    place.strongroom("luks test-key volume --passphrase-file pw").ok();
}

#[test]
fn small_files_are_plain_files() {
    let place = Workplace::new();
    for len in [100, 511, 513, 2048, 3584, 4095] {
        place.image("small", len);
        let text = place.strongroom("image info small").ok();
        assert!(text.contains("raw, not encrypted"), "{len}: {text}");
    }
}

#[test]
fn offsets_beyond_any_file_are_refused() {
    let place = Workplace::new();
    place.image("plain", 4096);
    for offset in ["18446744073709547520", "9223372036854771712"] {
        place
            .strongroom(&format!(
                "image encrypt plain t --data-offset {offset} --passphrase-file pw {CHEAP}"
            ))
            .fails(2);
        assert!(!place.exists("t"));
    }
}

#[test]
fn what_a_header_says_does_not_reach_the_terminal_raw() {
    let place = encrypted();
    place.write("token", r#"{"type":"x\u001b[31mred\u0007","keyslots":[]}"#);
    place.strongroom("luks token import volume token").ok();
    let text = place.strongroom("luks dump volume").ok();
    assert!(text.contains("red") && !text.contains('\u{1b}') && !text.contains('\u{7}'));
}
