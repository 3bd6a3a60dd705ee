//! Whole headers: backups, conversion, sizes, offsets, labels, detached ones, damage.

use serde_json::Value;
use strongroom_testkit::Tool;

use crate::workplace::{CHEAP, CRYPTSETUP_CHEAP, Workplace, has};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Returns a place with the image `plain` and its encryption `volume` under `pw`.
fn encrypted(options: &str) -> Workplace {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    place
        .strongroom(&format!("image encrypt plain volume --passphrase-file pw {CHEAP} {options}"))
        .ok();
    place
}

fn assert_whole(place: &Workplace, passphrase: &str) {
    place.cryptsetup(&format!("open --test-passphrase --key-file {passphrase} volume")).ok();
    place
        .strongroom(&format!("image decrypt volume again --force --passphrase-file {passphrase}"))
        .ok();
    place.same("again", "plain").unwrap();
}

#[test]
fn backups_of_either_tool_restore_with_the_other() {
    if !has("interop::headers::backups", &[Tool::CRYPTSETUP]) {
        return;
    }
    for format in ["luks1", "luks2"] {
        let place = encrypted(&format!("--format {format}"));
        place.strongroom("luks header-backup volume ours").ok();
        place.cryptsetup("luksHeaderBackup volume --header-backup-file theirs").ok();
        place
            .strongroom(&format!(
                "luks change-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}"
            ))
            .ok();
        place.cryptsetup("luksHeaderRestore -q volume --header-backup-file ours").ok();
        assert_whole(&place, "pw");
        place
            .cryptsetup(&format!("luksChangeKey {CRYPTSETUP_CHEAP} --key-file pw volume new"))
            .ok();
        place.strongroom("luks header-restore volume theirs").ok();
        assert_whole(&place, "pw");
        // A header that is gone altogether is restored when that is asked for.
        let mut bytes = place.read("volume");
        bytes[..1 << 20].fill(0);
        place.write("volume", bytes);
        place.strongroom("luks header-restore volume ours").fails(4);
        place.strongroom("luks header-restore volume ours --force").ok();
        assert_whole(&place, "pw");
    }
}

#[test]
fn conversion_goes_both_ways_with_both_tools() {
    if !has("interop::headers::conversion", &[Tool::CRYPTSETUP]) {
        return;
    }
    type Step = (&'static str, fn(&Workplace, &str));
    let ours: Step = ("ours", |place, to| {
        place.strongroom(&format!("luks convert volume --to {to}")).ok();
    });
    let theirs: Step = ("cryptsetup", |place, to| {
        place.cryptsetup(&format!("convert -q --type {to} volume")).ok();
    });
    // `cryptsetup` wants all key material side by side, where its own conversion puts it. Ours moves
    // what it must and no more, so that what we have converted only we convert back.
    for (up, down) in [(ours, ours), (theirs, ours), (theirs, theirs)] {
        let place = encrypted("--format luks1");
        place
            .strongroom(&format!(
                "luks add-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}"
            ))
            .ok();
        let uuid = place.cryptsetup("luksUUID volume").ok();
        for (step, to) in [(up, "luks2"), (down, "luks1"), (ours, "luks2")] {
            step.1(&place, to);
            let info = json(&place.strongroom("image info volume --json").ok());
            assert_eq!(info["format"], to, "{}", step.0);
            assert_eq!(info["uuid"], uuid.trim());
            assert_eq!(info["keyslots"], serde_json::json!([0, 1]));
            place.cryptsetup(&format!("isLuks --type {to} volume")).ok();
            assert_whole(&place, "pw");
            assert_whole(&place, "new");
        }
    }
}

#[test]
fn what_luks1_cannot_hold_is_not_converted_to_it() {
    let place = encrypted("--sector-size 4096");
    let before = place.read("volume");
    place.strongroom("luks convert volume --to luks1").fails(2);
    assert!(place.read("volume") == before);
    let place = encrypted("");
    place
        .strongroom(
            "luks change-key volume --passphrase-file pw --new-passphrase-file new \
             --pbkdf argon2id --pbkdf-memory 32 --pbkdf-iterations 4 --pbkdf-parallel 1",
        )
        .ok();
    place.strongroom("luks convert volume --to luks1").fails(2);
    let message = place.strongroom("luks convert volume --to luks2").fails(2);
    assert!(message.contains("LUKS2 already"), "{message}");
}

#[test]
fn label_subsystem_and_uuid_are_what_was_asked_for() {
    if !has("interop::headers::labels", &[Tool::CRYPTSETUP]) {
        return;
    }
    let uuid = "01234567-89ab-4cde-8f01-23456789abcd";
    let place = encrypted(&format!("--label etikett --uuid {uuid}"));
    assert_eq!(place.cryptsetup("luksUUID volume").ok().trim(), uuid);
    let dump = place.cryptsetup("luksDump volume").ok();
    assert!(dump.contains("etikett"), "{dump}");
    place.strongroom("luks config volume --label other --subsystem storage").ok();
    let dump = place.cryptsetup("luksDump volume").ok();
    assert!(dump.contains("other") && dump.contains("storage"), "{dump}");
    place.cryptsetup("config --label third --subsystem= volume").ok();
    let info = json(&place.strongroom("image info volume --json").ok());
    assert_eq!(info["label"], "third");
    assert_whole(&place, "pw");
}

#[test]
fn data_begins_where_it_was_asked_to() {
    if !has("interop::headers::offsets", &[Tool::CRYPTSETUP]) {
        return;
    }
    for (format, offset) in [
        ("luks1", 2_068_480),
        ("luks1", 4 << 20),
        ("luks2", 294_912),
        ("luks2", 1 << 20),
        ("luks2", 20 << 20),
    ] {
        let place = encrypted(&format!("--format {format} --data-offset {offset}"));
        let info = json(&place.strongroom("image info volume --json").ok());
        assert_eq!(info["data_offset"], offset);
        assert_eq!(place.path("volume").metadata().unwrap().len(), offset + (64 << 10));
        let dump = place.cryptsetup("luksDump volume").ok();
        let theirs = match format {
            "luks1" => format!("Payload offset:\t{}", offset / 512),
            _ => format!("offset: {offset} [bytes]"),
        };
        assert!(dump.contains(&theirs), "{dump}");
        assert_whole(&place, "pw");
    }
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    for (format, offset) in [("luks1", 4096), ("luks2", 100_000), ("luks2", 4096)] {
        let message = place
            .strongroom(&format!(
                "image encrypt plain volume --format {format} --data-offset {offset} \
                 --passphrase-file pw {CHEAP}"
            ))
            .fails(2);
        assert!(message.contains(&offset.to_string()), "{message}");
        assert!(!place.exists("volume"));
    }
}

#[test]
fn reads_every_size_of_metadata_and_sector_that_cryptsetup_writes() {
    if !has("interop::headers::sizes", &[Tool::CRYPTSETUP]) {
        return;
    }
    for metadata in ["16k", "32k", "64k", "128k", "256k", "512k", "1m", "2m", "4m"] {
        let sector = if metadata.ends_with('m') { 4096 } else { 1024 };
        let place = Workplace::new();
        place.sized("volume", 32 << 20);
        place
            .cryptsetup(&format!(
                "luksFormat --type luks2 {CRYPTSETUP_CHEAP} --key-file pw \
                 --luks2-metadata-size {metadata} --luks2-keyslots-size 2m --sector-size {sector} \
                 --label size-{metadata} volume"
            ))
            .ok();
        place.strongroom("luks test-key volume --passphrase-file pw").ok();
        let info = json(&place.strongroom("image info volume --json").ok());
        assert_eq!(info["label"], format!("size-{metadata}"));
        assert_eq!(info["sector_size"], sector);
        place
            .strongroom(&format!(
                "luks add-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}"
            ))
            .ok();
        place.cryptsetup("open --test-passphrase --key-file new volume").ok();
        place.cryptsetup("luksDump volume").ok();
    }
}

#[test]
fn a_detached_header_opens_its_data_and_nothing_without_it() {
    if !has("interop::headers::detached", &[Tool::CRYPTSETUP]) {
        return;
    }
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    place.copy("plain", "data");
    place
        .cryptsetup(&format!(
            "reencrypt --encrypt --type luks2 --header header --key-file pw {CRYPTSETUP_CHEAP} data"
        ))
        .ok();
    place.strongroom("image decrypt data again --passphrase-file pw").fails(4);
    let message = place.strongroom("image decrypt header again --passphrase-file pw").fails(2);
    assert!(message.contains("detached header"), "{message}");
    place.strongroom("image decrypt data again --header header --passphrase-file pw").ok();
    place.same("again", "plain").unwrap();
    place
        .strongroom(&format!(
            "image reencrypt data volume --header header --passphrase-file pw \
             --new-passphrase-file new {CHEAP}"
        ))
        .ok();
    assert_whole(&place, "new");
    // Keys are changed in the header file itself.
    place
        .strongroom(&format!(
            "luks change-key header --passphrase-file pw --new-passphrase-file new {CHEAP}"
        ))
        .ok();
    place.cryptsetup("open --test-passphrase --header header --key-file new data").ok();
}

#[test]
fn one_damaged_copy_of_a_header_is_told_of_and_repaired() {
    if !has("interop::headers::damage", &[Tool::CRYPTSETUP]) {
        return;
    }
    for copy in [0, 16 << 10] {
        let place = encrypted("--data-offset 1048576");
        let mut bytes = place.read("volume");
        bytes[copy + 4096 + 10] ^= 1;
        place.write("volume", &bytes);
        let outcome = place.strongroom("image info volume");
        assert!(outcome.stderr.contains("is damaged"), "{}", outcome.describe());
        assert!(place.read("volume") == bytes, "looking changes nothing");
        place.strongroom("luks repair volume").ok();
        assert_eq!(place.strongroom("image info volume").stderr, "");
        assert_whole(&place, "pw");
    }
}

#[test]
fn an_unfinished_reencryption_is_refused() {
    if !has("interop::headers::reencryption", &[Tool::CRYPTSETUP]) {
        return;
    }
    let place = encrypted("");
    place
        .cryptsetup(&format!(
            "reencrypt --init-only --key-file pw {CRYPTSETUP_CHEAP} --force-offline-reencrypt \
             volume"
        ))
        .ok();
    let message = place.strongroom("image decrypt volume again --passphrase-file pw").fails(4);
    assert!(message.contains("being re-encrypted"), "{message}");
    assert!(!place.exists("again"));
    place.strongroom("luks dump volume").ok();
    place
        .cryptsetup("reencrypt --resume-only --force-offline-reencrypt --key-file pw -q volume")
        .ok();
    assert_whole(&place, "pw");
}
