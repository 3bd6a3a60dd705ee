//! Images that a KMS opens: a key in a file, with which everything but the network can be seen.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use strongroom_testkit::{Tool, run};

use crate::managed::{DEK_FILE, KMS, Managed, OTHER_KMS};
use crate::workplace::{BINARY, CHEAP, CRYPTSETUP_CHEAP, Workplace, has};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn place() -> Workplace {
    let place = Workplace::new();
    place.create_kek("kek");
    place.create_kek("other-kek");
    place.image("plain", 256 << 10);
    place
}

#[test]
fn every_format_is_encrypted_for_a_kms_and_opened_by_it() {
    for (name, format, source) in [
        ("volume", "--format luks2", ""),
        ("volume", "--format luks2 --envelope-file envelope", ""),
        ("volume", "--format luks2 --header head", "--header head"),
        ("volume", "--format luks2 --sector-size 4096 --cipher serpent-xts-plain64", ""),
        ("volume", "--format luks1 --envelope-file envelope", "--envelope-file envelope"),
        (
            "volume",
            "--format luks1 --header head --envelope-file envelope",
            "--header head --envelope-file envelope",
        ),
        ("volume", "--format luks1 --hash sha512 --envelope-file env", "--envelope-file env"),
        ("image.qcow2", "--envelope-file envelope", "--envelope-file envelope"),
    ] {
        let place = place();
        place.strongroom(&format!("image encrypt plain {name} {format} {KMS}")).ok();
        place.strongroom(&format!("image decrypt {name} again --format raw {source} {KMS}")).ok();
        place.same("again", "plain").unwrap();
        for envelope in ["envelope", "env"] {
            if place.exists(envelope) {
                let mode = place.path(envelope).metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o7777, 0o644, "{format}");
            }
        }
        if source.contains("--envelope-file") {
            let file = source.rsplit(' ').next().unwrap();
            let info = format!("image info {name} --envelope-file {file}");
            assert!(place.strongroom(&info).ok().contains("local key "), "{info}");
        }
        // Another KMS of the same kind does not open it.
        let message = place
            .strongroom(&format!("image decrypt {name} no --format raw {source} {OTHER_KMS}"))
            .fails(8);
        assert!(message.contains("made by the key"), "{message}");
        assert!(!place.exists("no"), "{format}");
    }
}

#[test]
fn a_key_that_a_kms_wraps_costs_next_to_nothing_to_use() {
    let place = place();
    let made = place.strongroom(&format!("image encrypt plain volume {KMS} --json")).ok();
    let info = json(&place.strongroom("image info volume --json").ok());
    assert_eq!(info["uuid"], json(&made)["uuid"]);
    assert_eq!(info["opening_needs_kib"], 0);
    let envelope = &info["envelopes"][0];
    assert_eq!((&envelope["kind"], &envelope["key_version"]), (&"local".into(), &"1".into()));
    assert_eq!((&envelope["token"], &envelope["keyslots"][0]), (&0.into(), &0.into()));
    let text = place.strongroom("image info volume").ok();
    let key =
        format!("token 0: local key {} version 1, made 20", envelope["key_id"].as_str().unwrap());
    assert!(text.contains(&key), "{text}");
    let dump = place.strongroom("luks dump volume --json").ok();
    assert_eq!(dump.matches("1000").count(), 2, "keyslot and digest: {dump}");
    assert!(!dump.contains("argon2"), "{dump}");
    // No limit is so low that it would be in the way.
    let limits = "--max-kdf-memory 0 --max-kdf-time 0";
    place.strongroom(&format!("image decrypt volume again {KMS} {limits}")).fails(2);
    place.strongroom(&format!("image decrypt volume again {KMS} --max-kdf-time 1")).ok();
    let limits = "--max-kdf-memory 1 --max-kdf-time 1";
    place.strongroom(&format!("image encrypt plain second {KMS} {limits}")).ok();
    place.strongroom(&format!("image create third.luks 1M {KMS} {limits}")).ok();
}

#[test]
fn an_image_moves_between_passphrases_and_kms() {
    let place = place();
    place.strongroom(&format!("image encrypt plain first --passphrase-file pw {CHEAP}")).ok();
    let new = "--new-kms local --new-kms-kek-file";
    for words in [
        format!("image reencrypt first second --passphrase-file pw {new} kek"),
        format!(
            "image reencrypt second third {KMS} {new} other-kek --format luks1 --new-envelope-file e3"
        ),
        format!("image reencrypt third fourth {OTHER_KMS} --envelope-file e3 {new} kek"),
        format!("image reencrypt fourth fifth {KMS} --new-passphrase-file new {CHEAP}"),
    ] {
        place.strongroom(&words).ok();
    }
    place.strongroom("image decrypt fifth again --passphrase-file new").ok();
    place.same("again", "plain").unwrap();
    let info = json(&place.strongroom("image info fifth --json").ok());
    assert_eq!(info["envelopes"], Value::Array(Vec::new()));
}

#[test]
fn whatever_needs_a_key_takes_that_of_a_kms() {
    let place = place();
    place.strongroom(&format!("image encrypt plain volume {KMS}")).ok();
    place.strongroom(&format!("image create empty.luks 1M {KMS}")).ok();
    place.strongroom(&format!("image create empty.qcow2 1M {KMS} --envelope-file eq")).ok();
    place.sized("zeros", 1 << 20);
    place.strongroom(&format!("image compare empty.luks zeros {KMS}")).ok();
    place.strongroom(&format!("image compare empty.qcow2 zeros {KMS} --envelope-file eq")).ok();
    place.strongroom(&format!("image resize empty.luks 2M {KMS}")).ok();
    place.sized("zeros", 2 << 20);
    place.strongroom(&format!("image compare zeros empty.luks {KMS}")).ok();
    place.strongroom(&format!("image resize empty.qcow2 3M {KMS} --envelope-file eq")).ok();

    place.strongroom("image clone volume copy").ok();
    place.strongroom(&format!("image compare volume copy {KMS}")).ok();
    place.strongroom(&format!("image compare plain copy {KMS}")).ok();
    place.strongroom(&format!("image encrypt plain locked --passphrase-file pw {CHEAP}")).ok();
    let other = "--other-kms local --other-kms-kek-file kek";
    place.strongroom(&format!("image compare locked volume --passphrase-file pw {other}")).ok();
    let pw = "--other-passphrase-file pw";
    place.strongroom(&format!("image compare volume locked {KMS} {pw}")).ok();
    for name in ["one", "two"] {
        let words =
            format!("image encrypt plain {name} --format luks1 --envelope-file e{name} {KMS}");
        place.strongroom(&words).ok();
    }
    let both = "--envelope-file eone --other-envelope-file etwo";
    place.strongroom(&format!("image compare one two {KMS} {both}")).ok();
    place.strongroom(&format!("image compare one two {KMS} --envelope-file eone")).fails(4);
}

#[test]
fn whoever_tries_a_passphrase_where_a_kms_opens_is_told_so() {
    let place = place();
    place.strongroom(&format!("image encrypt plain volume {KMS}")).ok();
    for words in ["image decrypt volume again", "luks test-key volume"] {
        let said = place.strongroom(&format!("{words} --passphrase-file pw")).fails(3);
        assert!(said.contains("volume: no keyslot opens with this passphrase"), "{said}");
        assert!(said.contains("hint: a KMS opens it: say where it is with --kms local"), "{said}");
    }
}

#[test]
fn what_does_not_belong_to_an_image_is_told_apart() {
    let place = place();
    for name in ["one", "two"] {
        place
            .strongroom(&format!("image encrypt plain {name} {KMS} --envelope-file e-{name}"))
            .ok();
        let token = place.strongroom(&format!("luks token export {name} --token 0")).ok();
        place.write(&format!("t-{name}"), token);
    }
    let decrypt = |words: &str, code: i32, reason: &str| {
        let message = place.strongroom(&format!("image decrypt {words}")).fails(code);
        assert!(message.contains(reason), "{words}: {message}");
        assert!(message.contains("hint: ") || code != 2, "{words}: {message}");
        assert!(!place.exists("no"), "{words}");
    };
    // The envelope of another image, on the command line and in the header.
    let elsewhere = "does not belong to image";
    decrypt(&format!("one no {KMS} --envelope-file e-two"), 4, elsewhere);
    place.copy("one", "swapped");
    place.strongroom("luks token remove swapped --token 0").ok();
    decrypt(&format!("swapped no {KMS}"), 2, "has no envelope");
    place.strongroom(&format!("image decrypt swapped found {KMS} --envelope-file e-one")).ok();
    place.same("found", "plain").unwrap();
    place.strongroom("luks token import swapped t-two").ok();
    decrypt(&format!("swapped no {KMS}"), 4, elsewhere);
    // With its own beside it, in whatever order.
    place.strongroom("luks token import swapped t-one").ok();
    place.strongroom(&format!("image decrypt swapped found2 {KMS}")).ok();
    place.same("found2", "plain").unwrap();

    place.write("garbage", "{");
    decrypt(&format!("one no {KMS} --envelope-file garbage"), 4, "no envelope");
    decrypt(&format!("one no {KMS} --envelope-file missing"), 8, "missing");
    decrypt("one no --kms local --kms-kek-file plain", 2, "key");
    place.write("t-bad", r#"{"type":"strongroom-kms","keyslots":["0"],"envelope":{"version":2}}"#);
    place.strongroom("luks token import one t-bad --token 1").ok();
    place.strongroom(&format!("image decrypt one again {KMS}")).ok();
    let info = place.strongroom("image info one").ok();
    assert!(info.contains("version 2") && info.contains("token 0: local key"), "{info}");
    place.strongroom(&format!("image encrypt plain locked --passphrase-file pw {CHEAP}")).ok();
    decrypt(&format!("locked no {KMS}"), 2, "has no envelope");
    decrypt("one no", 2, "a passphrase or a KMS is needed");
    decrypt("one no --passphrase-file pw", 3, "no keyslot opens");
}

#[test]
fn a_data_key_of_another_keyslot_is_no_mystery() {
    let place = place();
    place.strongroom(&format!("image encrypt plain volume {KMS} --envelope-file envelope")).ok();
    place.write_data_key("volume", "kek");
    let words = format!(
        "luks add-key volume --passphrase-file {DEK_FILE} --new-passphrase-file new {CHEAP}"
    );
    place.strongroom(&words).ok();
    place.strongroom("luks token remove volume --token 0").ok();
    // An envelope from elsewhere may be for any keyslot, one in a token for those that it names.
    place.strongroom(&format!("image decrypt volume again {KMS} --envelope-file envelope")).ok();
    let envelope = String::from_utf8(place.read("envelope")).unwrap();
    let token = |keyslot: u32| {
        format!(r#"{{"type":"strongroom-kms","keyslots":["{keyslot}"],"envelope":{envelope}}}"#)
    };
    place.write("token", token(1));
    place.strongroom("luks token import volume token").ok();
    let message = place.strongroom(&format!("image decrypt volume no {KMS}")).fails(3);
    assert!(message.contains("opens none of its keyslots"), "{message}");
    // That of the right keyslot counts, though it is older.
    place.write("token", token(0));
    place.strongroom("luks token remove volume --token 0").ok();
    place.strongroom("luks token import volume token --token 0").ok();
    place.write("token", token(1));
    place.strongroom("luks token import volume token --token 7").ok();
    place.strongroom(&format!("image decrypt volume again2 {KMS}")).ok();
    // Envelopes of other kinds are left alone.
    place.write("token", token(0).replace("\"local\"", "\"kmip\""));
    place.strongroom("luks token import volume token --token 9").ok();
    place.strongroom(&format!("image decrypt volume again3 {KMS}")).ok();
    place.strongroom("luks token remove volume --token 0").ok();
    place.strongroom("luks token remove volume --token 7").ok();
    let message = place.strongroom(&format!("image decrypt volume no {KMS}")).fails(2);
    assert!(message.contains("--kms kmip"), "{message}");
}

#[test]
fn an_image_whose_uuid_was_changed_says_so() {
    if !has("an_image_whose_uuid_was_changed_says_so", &[Tool::CRYPTSETUP]) {
        return;
    }
    let place = place();
    place.strongroom(&format!("image encrypt plain volume {KMS}")).ok();
    let uuid = "0f3a4e1c-7d2b-4c6a-9e57-112233445566";
    place.cryptsetup(&format!("-q luksUUID volume --uuid {uuid}")).ok();
    let message = place.strongroom(&format!("image decrypt volume again {KMS}")).fails(4);
    assert!(message.contains(uuid) && message.contains("UUID was changed"), "{message}");
}

#[test]
fn an_envelope_is_never_replaced() {
    let place = place();
    place.write("envelope", "something");
    let encrypt = format!("image encrypt plain volume --force --envelope-file envelope {KMS}");
    let message = place.strongroom(&encrypt).fails(6);
    assert!(message.contains("no envelope is ever replaced"), "{message}");
    assert_eq!(place.read("envelope"), b"something");
    place.strongroom(&format!("image create new.luks 1M --envelope-file envelope {KMS}")).fails(6);
    let same = format!("image encrypt plain volume --envelope-file volume {KMS}");
    assert!(place.strongroom(&same).fails(2).contains("cannot be both"));
    let same = format!("image encrypt plain volume --header head --envelope-file head {KMS}");
    assert!(place.strongroom(&same).fails(2).contains("cannot be both"));
    place.strongroom(&format!("{same} --resume")).fails(2);
    let names = ["envelope", "kek", "new", "other-kek", "plain", "pw", "wrong"];
    assert_eq!(place.names(), names);
    // Nor does a job that fails leave one.
    place.write("volume", "something");
    place.strongroom(&format!("image encrypt plain volume --envelope-file e {KMS}")).fails(6);
    place.strongroom(&format!("image encrypt missing v --envelope-file e {KMS}")).fails(8);
    assert!(!place.exists("e") && !place.exists("v"));
    place.strongroom(&format!("image encrypt plain v --format luks1 {KMS}")).fails(2);
    place.strongroom(&format!("image create v.qcow2 1M {KMS}")).fails(2);
    assert!(!place.exists("v") && !place.exists("v.qcow2"));
}

#[test]
fn a_pipe_carries_an_image_and_the_envelope_stands_beside_it() {
    let place = place();
    let piped = |words: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("\"$0\" {words}")]).arg(BINARY).current_dir(place.path("."));
        run(command, b"").ok()
    };
    let words = "image encrypt - - --format luks1 --envelope-file env";
    piped(&format!("{words} {KMS} < plain > luks1"));
    place.strongroom(&format!("image decrypt luks1 again --envelope-file env {KMS}")).ok();
    place.same("again", "plain").unwrap();
    piped(&format!("image encrypt plain - {KMS} > luks2"));
    place.strongroom(&format!("image compare luks2 plain {KMS}")).ok();
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let place = place();
    for (options, reason) in [
        ("--kms nonsense", "nonsense"),
        ("--kms local", "--kms-kek-file"),
        ("--kms-kek-file kek", "--kms"),
        ("--envelope-file e", "no KMS was named"),
        ("--passphrase-file pw --envelope-file e", "no KMS was named"),
        ("--kms local --kms-kek-file kek --kms-endpoint https://[::1]", "does not go with"),
        ("--kms local --kms-kek-file kek --passphrase-file pw", "takes no passphrase"),
        ("--kms local --kms-kek-file kek --pbkdf pbkdf2", "key derivation"),
        ("--kms local --kms-kek-file kek --pbkdf-time 10", "key derivation"),
        ("--kms passphrase", "needs a passphrase"),
        ("--kms transit --kms-auth magic", "approle"),
        ("--kms transit --kms-role r", "--kms-auth"),
        ("--kms transit --kms-auth approle", "--kms-role"),
        ("--kms kmip --kms-token-file pw", "does not go with"),
        ("--new-kms local", "--new-kms"),
    ] {
        let message = place.strongroom(&format!("image encrypt plain volume {options}")).fails(2);
        assert!(message.contains(reason), "{options}: {message}");
        assert!(!place.exists("volume"), "{options}");
    }
    let words = format!("image reencrypt plain volume {KMS} --new-kms-kek-file kek");
    assert!(place.strongroom(&words).fails(2).contains("--new-kms"));
    let words = format!("image reencrypt plain volume {KMS} --new-kms local");
    assert!(place.strongroom(&words).fails(2).contains("--new-kms-kek-file"));
    place.write("open-kek", place.read("kek"));
    let words = "image encrypt plain volume --kms local --kms-kek-file open-kek";
    let message = place.strongroom(words).fails(2);
    assert!(message.contains("chmod 600"), "{message}");
    assert!(!place.exists("volume"));
}

/// A StorageClass with these parameters.
fn class(parameters: &str) -> String {
    format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: encrypted}}\n\
         provisioner: csi.onmetal.de\nparameters: {{{parameters}}}\n"
    )
}

#[test]
fn a_storage_class_and_its_secret_say_all_there_is_to_say() {
    let place = place();
    let transit = "type: fast, encryptionEnabled: \"true\", encryptionKMSType: transit, \
                   encryptionKMSEndpoint: \"https://127.0.0.1:1\", encryptionKMSKeyID: kek";
    place.write("transit.yaml", class(transit));
    place.write("kmip.yaml", class(&transit.replace("transit", "kmip").replace("https://", "")));
    place.write("plain.yaml", class("encryptionEnabled: \"false\""));
    place.write("longhorn.yaml", class("encrypted: \"true\""));
    let secret = |data: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{{data}}}\n")
    };
    place.write("token.yaml", secret("token: word"));
    place.write("empty.yaml", secret("other: word"));
    let iterations = "CRYPTO_PBKDF: pbkdf2, CRYPTO_PBKDF_FORCE_ITERATIONS: \"1000\"";
    place.write("crypto.yaml", secret(&format!("CRYPTO_KEY_VALUE: passphrase, {iterations}")));
    for (options, reason) in [
        ("transit.yaml --secret-file empty.yaml", "token"),
        ("transit.yaml --passphrase-file pw", "takes no passphrase"),
        ("transit.yaml --kms-kek-file kek", "does not go with a KMS of kind transit"),
        ("transit.yaml --kms local", "both say which KMS"),
        ("kmip.yaml --secret-file token.yaml", "ca.crt"),
        ("plain.yaml --secret-file token.yaml", "no encryption"),
        ("longhorn.yaml", "none was given"),
        ("longhorn.yaml --secret-file crypto.yaml --kms-key-id key", "names no KMS"),
        ("longhorn.yaml --secret-file crypto.yaml --envelope-file e", "no KMS was named"),
        ("pw", ""),
    ] {
        let words = format!("image encrypt plain volume --storage-class-file {options}");
        let message = place.strongroom(&words).fails(2);
        assert!(message.contains(reason) && !message.contains("word"), "{options}: {message}");
        assert!(!place.exists("volume"), "{options}");
    }
    // Longhorn's class leads to a passphrase.
    let longhorn = "--storage-class-file longhorn.yaml --secret-file crypto.yaml";
    place.strongroom(&format!("image encrypt plain volume {longhorn}")).ok();
    place.strongroom("luks test-key volume --passphrase-file pw").ok();
    place.strongroom(&format!("image decrypt volume again {longhorn}")).ok();
    place.same("again", "plain").unwrap();
}

#[test]
fn a_passphrase_may_stand_in_for_a_kms() {
    let place = place();
    let kms = "--kms passphrase --passphrase-file pw";
    place.strongroom(&format!("image encrypt plain volume {kms}")).ok();
    let info = json(&place.strongroom("image info volume --json").ok());
    assert_eq!(info["envelopes"][0]["kind"], "passphrase");
    assert_eq!(info["opening_needs_kib"], 0);
    // The passphrase opens no keyslot: only the envelope.
    place.strongroom("luks test-key volume --passphrase-file pw").fails(3);
    place.strongroom(&format!("image decrypt volume again {kms}")).ok();
    place.same("again", "plain").unwrap();
    let wrong = "--kms passphrase --passphrase-file wrong";
    let message = place.strongroom(&format!("image decrypt volume no {wrong}")).fails(12);
    assert!(!place.exists("no"), "{message}");

    place.write("secret.yaml", SECRET);
    let secret = "--kms passphrase --secret-file secret.yaml";
    place.strongroom(&format!("image encrypt plain other {secret}")).ok();
    let info = json(&place.strongroom("image info other --json").ok());
    // What the Secret says of the cipher counts, and nothing of a keyslot.
    assert_eq!((&info["key_bits"], &info["opening_needs_kib"]), (&256.into(), &0.into()));
    place.strongroom(&format!("image decrypt other again2 {secret}")).ok();
    place.same("again2", "plain").unwrap();
}

#[test]
fn what_keyslots_may_cost_envelopes_may() {
    let place = place();
    let kms = "--kms passphrase --passphrase-file pw";
    place.strongroom(&format!("image encrypt plain volume {kms}")).ok();
    let narrow = format!("image decrypt volume no {kms} --max-kdf-memory 1000");
    let message = place.strongroom(&narrow).fails(4);
    assert!(message.contains("a derivation that is not allowed"), "{message}");
    let narrow = format!("image encrypt plain no {kms} --max-kdf-memory 1000");
    let message = place.strongroom(&narrow).fails(2);
    assert!(message.contains("--max-kdf-memory"), "{message}");
}

/// A Secret as Longhorn's users have it.
const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: crypto}\nstringData:\n  \
                      CRYPTO_KEY_VALUE: passphrase\n  CRYPTO_KEY_CIPHER: aes-xts-plain64\n  \
                      CRYPTO_KEY_SIZE: \"256\"\n  CRYPTO_PBKDF: argon2i\n";

#[test]
fn other_tools_open_with_the_data_key_and_keep_the_token() {
    let test = "other_tools_open_with_the_data_key_and_keep_the_token";
    if !has(test, &[Tool::CRYPTSETUP, Tool::QEMU_IMG]) {
        return;
    }
    let place = place();
    place.strongroom(&format!("image encrypt plain volume {KMS}")).ok();
    let dump = place.cryptsetup("luksDump volume").ok();
    let token = dump.split("Tokens:").nth(1).unwrap();
    assert!(token.trim_start().starts_with("0: strongroom-kms"), "{dump}");
    place.write_data_key("volume", "kek");
    assert_eq!(place.read(DEK_FILE).len(), 43);
    let test_passphrase = format!("open --test-passphrase volume --key-file {DEK_FILE}");
    place.cryptsetup(&test_passphrase).ok();
    let secret = format!("--object secret,id=s,file={DEK_FILE}");
    let before = place.cryptsetup("token export --token-id 0 volume").ok();
    for words in [
        format!("luksAddKey volume new {CRYPTSETUP_CHEAP} --key-file {DEK_FILE}"),
        format!("luksConvertKey volume --key-slot 1 {CRYPTSETUP_CHEAP} --key-file new"),
        format!("luksChangeKey volume wrong --key-slot 1 {CRYPTSETUP_CHEAP} --key-file new"),
        "luksKillSlot -q volume 1 --key-file ".to_owned() + DEK_FILE,
        "config volume --label name".to_owned(),
        "-q repair volume".to_owned(),
    ] {
        place.cryptsetup(&words).ok();
        let after = place.cryptsetup("token export --token-id 0 volume").ok();
        assert_eq!(after, before, "{words}");
    }
    place.strongroom(&format!("image decrypt volume again {KMS}")).ok();
    place.same("again", "plain").unwrap();

    let luks1 = format!("image encrypt plain luks1 --format luks1 --envelope-file e1 {KMS}");
    place.strongroom(&luks1).ok();
    place.write_data_key_of("luks1", "e1", "kek");
    place.cryptsetup(&format!("open --test-passphrase luks1 --key-file {DEK_FILE}")).ok();
    let options = "driver=luks,key-secret=s,file.filename=luks1";
    place.qemu_img(&format!("convert {secret} --image-opts {options} -O raw by-qemu")).ok();
    place.same("by-qemu", "plain").unwrap();

    place.strongroom(&format!("image encrypt plain image.qcow2 --envelope-file eq {KMS}")).ok();
    place.write_data_key_of("image.qcow2", "eq", "kek");
    let options = "driver=qcow2,encrypt.key-secret=s,file.filename=image.qcow2";
    place.qemu_img(&format!("convert {secret} --image-opts {options} -O raw qcow2")).ok();
    place.same("qcow2", "plain").unwrap();
}
