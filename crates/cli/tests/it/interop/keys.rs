//! Keys, tokens and priorities: what one tool changes the other one sees.

use strongroom_testkit::Tool;

use crate::workplace::{CHEAP, CRYPTSETUP_CHEAP, Workplace, has};

const FORMATS: [&str; 2] = ["luks1", "luks2"];

/// Returns a place with the image `plain` and its encryption `volume` under `pw`.
fn encrypted(format: &str) -> Workplace {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    place
        .strongroom(&format!(
            "image encrypt plain volume --passphrase-file pw --format {format} {CHEAP}"
        ))
        .ok();
    place.write("third", "one more");
    place
}

/// Asks both tools whether a passphrase opens the volume, and which keyslot.
fn opens(place: &Workplace, file: &str) -> bool {
    let ours = place.strongroom(&format!("luks test-key volume --passphrase-file {file}"));
    let theirs = place.cryptsetup(&format!("open --test-passphrase --key-file {file} volume")).code;
    let (ours_opens, theirs_opens) = (ours.code == Some(0), theirs == Some(0));
    assert_eq!(ours_opens, theirs_opens, "the tools disagree on {file}: {}", ours.describe());
    assert!(ours_opens || (ours.code == Some(3) && theirs == Some(2)), "{}", ours.describe());
    ours_opens
}

fn assert_opens(place: &Workplace, expected: [(&str, bool); 3]) {
    for (file, expected) in expected {
        assert_eq!(opens(place, file), expected, "{file}");
    }
    let (file, _) = expected.iter().find(|(_, opens)| *opens).unwrap();
    place.strongroom(&format!("image decrypt volume again --force --passphrase-file {file}")).ok();
    place.same("again", "plain").unwrap();
}

#[test]
fn keys_that_we_add_change_and_remove_do_the_same_for_cryptsetup() {
    if !has("interop::keys::ours", &[Tool::CRYPTSETUP]) {
        return;
    }
    for format in FORMATS {
        let place = encrypted(format);
        place
            .strongroom(&format!(
                "luks add-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}"
            ))
            .ok();
        assert_opens(&place, [("pw", true), ("new", true), ("third", false)]);
        place
            .strongroom(&format!(
                "luks change-key volume --passphrase-file pw --new-passphrase-file third {CHEAP}"
            ))
            .ok();
        assert_opens(&place, [("pw", false), ("new", true), ("third", true)]);
        place.strongroom("luks remove-key volume --passphrase-file new").ok();
        assert_opens(&place, [("pw", false), ("new", false), ("third", true)]);
    }
}

#[test]
fn keys_that_cryptsetup_adds_changes_and_removes_do_the_same_for_us() {
    if !has("interop::keys::cryptsetup", &[Tool::CRYPTSETUP]) {
        return;
    }
    for format in FORMATS {
        let place = encrypted(format);
        place.cryptsetup(&format!("luksAddKey {CRYPTSETUP_CHEAP} --key-file pw volume new")).ok();
        assert_opens(&place, [("pw", true), ("new", true), ("third", false)]);
        place
            .cryptsetup(&format!("luksChangeKey {CRYPTSETUP_CHEAP} --key-file pw volume third"))
            .ok();
        assert_opens(&place, [("pw", false), ("new", true), ("third", true)]);
        place.cryptsetup("luksRemoveKey -q volume new").ok();
        assert_opens(&place, [("pw", false), ("new", false), ("third", true)]);
        // And ours once more on what it left.
        place
            .strongroom(&format!(
                "luks add-key volume --passphrase-file third --new-passphrase-file pw {CHEAP}"
            ))
            .ok();
        assert_opens(&place, [("pw", true), ("new", false), ("third", true)]);
    }
}

#[test]
fn qemu_opens_what_the_keys_of_luks1_were_changed_to() {
    if !has("interop::keys::qemu", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = encrypted("luks1");
    let read = |file: &str| {
        place.qemu_img(&format!(
            "convert --object secret,id=key,file={file} --image-opts \
             driver=luks,file.filename=volume,key-secret=key -O raw again"
        ))
    };
    place
        .strongroom(&format!(
            "luks change-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}"
        ))
        .ok();
    assert!(read("pw").fails(1).contains("Invalid password"));
    read("new").ok();
    place.same("again", "plain").unwrap();
}

#[test]
fn tokens_go_to_and_fro_unchanged() {
    if !has("interop::keys::tokens", &[Tool::CRYPTSETUP]) {
        return;
    }
    let place = encrypted("luks2");
    let token = r#"{"type":"acme","keyslots":["0"],"note":"a \"word\"","n":[1,{"deep":null}]}"#;
    place.write("token.json", token);
    place.cryptsetup("token import --json-file token.json --token-id 3 volume").ok();
    let ours = place.strongroom("luks token export volume --token 3").ok();
    let theirs = place.cryptsetup("token export --token-id 3 volume").ok();
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parsed(&ours), parsed(token));
    assert_eq!(parsed(&ours), parsed(&theirs));

    place.strongroom("luks token remove volume --token 3").ok();
    assert_ne!(place.cryptsetup("token export --token-id 3 volume").code, Some(0));
    let answer = place.strongroom("luks token import volume token.json --token 5 --json").ok();
    assert_eq!(parsed(&answer)["token"], 5);
    let theirs = place.cryptsetup("token export --token-id 5 volume").ok();
    assert_eq!(parsed(&theirs), parsed(token));
    place.strongroom("luks token assign volume --token 5").ok();
    let theirs = place.cryptsetup("token export --token-id 5 volume").ok();
    assert_eq!(parsed(&theirs)["keyslots"], serde_json::json!([]));
    // A change of keys leaves a token that we do not know as it is.
    place
        .strongroom(&format!(
            "luks add-key volume --passphrase-file pw --new-passphrase-file new {CHEAP}"
        ))
        .ok();
    assert_eq!(place.cryptsetup("token export --token-id 5 volume").ok(), theirs);
}

#[test]
fn a_keyslot_to_be_ignored_opens_only_by_its_number() {
    if !has("interop::keys::priorities", &[Tool::CRYPTSETUP]) {
        return;
    }
    let place = encrypted("luks2");
    place
        .strongroom(&format!(
            "luks add-key volume --keyslot 4 --priority ignore --passphrase-file pw \
             --new-passphrase-file new {CHEAP}"
        ))
        .ok();
    assert!(!opens(&place, "new"));
    place.strongroom("luks test-key volume --keyslot 4 --passphrase-file new").ok();
    place.cryptsetup("open --test-passphrase --key-slot 4 --key-file new volume").ok();
    place.cryptsetup("config --key-slot 4 --priority prefer volume").ok();
    assert!(opens(&place, "new"));
    let dump = place.strongroom("luks dump volume").ok();
    assert!(dump.contains("priority prefer"), "{dump}");
    place.strongroom("luks config volume --keyslot 4 --priority normal").ok();
    let dump = place.cryptsetup("luksDump volume").ok();
    assert_eq!(dump.matches("Priority:   normal").count(), 2, "{dump}");
}

#[test]
fn an_unbound_keyslot_opens_no_data() {
    if !has("interop::keys::unbound", &[Tool::CRYPTSETUP]) {
        return;
    }
    let place = encrypted("luks2");
    place
        .strongroom(&format!("luks add-key volume --unbound 48 --new-passphrase-file new {CHEAP}"))
        .ok();
    place.cryptsetup("open --test-passphrase --unbound --key-slot 1 --key-file new volume").ok();
    place
        .cryptsetup(&format!("luksAddKey {CRYPTSETUP_CHEAP} --unbound --key-size 256 volume third"))
        .ok();
    for (file, keyslot) in [("new", 1), ("third", 2)] {
        place
            .strongroom(&format!(
                "luks test-key volume --keyslot {keyslot} --passphrase-file {file}"
            ))
            .ok();
        place.strongroom(&format!("image decrypt volume no --passphrase-file {file}")).fails(3);
        assert!(!place.exists("no"));
    }
    place.strongroom("luks remove-key volume --keyslot 1 --passphrase-file pw").ok();
    let dump = place.cryptsetup("luksDump volume").ok();
    assert!(!dump.contains("  1: luks2") && dump.contains("  2: luks2 (unbound)"), "{dump}");
}

#[test]
fn every_keyslot_can_be_filled_and_no_more() {
    if !has("interop::keys::all", &[Tool::CRYPTSETUP]) {
        return;
    }
    for (format, count) in [("luks1", 8), ("luks2", 32)] {
        let place = encrypted(format);
        let add = format!(
            "luks add-key volume --passphrase-file pw --new-passphrase-file new {CHEAP} --json"
        );
        for keyslot in 1..count {
            let answer: serde_json::Value =
                serde_json::from_str(&place.strongroom(&add).ok()).unwrap();
            assert_eq!(answer["keyslot"], keyslot);
        }
        let message = place.strongroom(&add).fails(2);
        assert!(message.contains("hint: remove a key first"), "{message}");
        let last = count - 1;
        place
            .cryptsetup(&format!("open --test-passphrase --key-slot {last} --key-file new volume"))
            .ok();
        assert!(opens(&place, "pw") && opens(&place, "new"));
    }
}

#[test]
fn an_erased_volume_opens_for_nobody() {
    if !has("interop::keys::erase", &[Tool::CRYPTSETUP]) {
        return;
    }
    for format in FORMATS {
        let place = encrypted(format);
        place.strongroom("luks erase volume").fails(2);
        place.strongroom("luks erase volume --force").ok();
        assert_ne!(place.cryptsetup("open --test-passphrase --key-file pw volume").code, Some(0));
        let message = place.strongroom("luks test-key volume --passphrase-file pw").fails(4);
        assert!(message.contains("restore a header backup"), "{message}");
    }
}
