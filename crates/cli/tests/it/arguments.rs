//! What the command line takes, refuses and prints.

use std::process::Command;

use serde_json::Value;
use strongroom_testkit::run;

use crate::workplace::{BINARY, CHEAP, Workplace};

fn place() -> Workplace {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    place
}

fn encrypted() -> Workplace {
    let place = place();
    place.strongroom(&format!("image encrypt plain volume --passphrase-file pw {CHEAP}")).ok();
    place
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn combinations_that_do_not_fit_are_refused_with_the_reason() {
    let place = place();
    for (options, reason) in [
        ("--cipher rot13-xts-plain64", "cipher is not one of"),
        ("--cipher aes-xts", "IV is missing"),
        ("--cipher aes-ecb", "for opening old volumes only"),
        ("--cipher aes-cbc-null", "for opening old volumes only"),
        ("--cipher cast5-xts-plain64", "XTS needs 128-bit blocks"),
        ("--cipher aes-cbc-essiv:sha512", "512-bit key"),
        ("--key-size 384", "use 256, 512"),
        ("--cipher aes-cbc-plain64 --key-size 512", "use 128, 192, 256"),
        ("--hash md5", "md5"),
        ("--sector-size 513", "use 512, 1024, 2048, 4096"),
        ("--sector-size 8192", "use 512, 1024, 2048, 4096"),
        ("--format luks3", "raw, qcow2, luks1, luks2, qcow2-luks"),
        ("--format raw", "luks1, luks2, qcow2-luks"),
        ("--format qcow2", "luks1, luks2, qcow2-luks"),
        ("--format luks1 --sector-size 4096", "512 bytes"),
        ("--format luks1 --label name", "no label"),
        ("--format luks1 --pbkdf argon2id", "only key derivation is pbkdf2"),
        ("--pbkdf scrypt", "argon2id, argon2i, pbkdf2"),
        ("--pbkdf pbkdf2 --pbkdf-memory 64", "only argon2 does"),
        ("--pbkdf pbkdf2 --pbkdf-parallel 2", "only argon2 does"),
        ("--pbkdf pbkdf2 --pbkdf-iterations 999", "at least 1000"),
        ("--pbkdf-iterations 3", "at least 4"),
        ("--pbkdf-memory 31", "from 32 to 4194304"),
        ("--pbkdf-parallel 5", "from 1 to 4"),
        ("--pbkdf-memory 65536 --max-kdf-memory 1024", "--max-kdf-memory"),
        ("--pbkdf-iterations 4000000", "full pass over the memory"),
        ("--pbkdf-iterations 4 --pbkdf-time 10", "cannot be used with"),
        ("--uuid nonsense", "not a UUID"),
        ("--data-offset 16777217", "multiple of 4096"),
        ("--threads 0", "invalid value"),
        ("--label averyveryveryverylonglabelthatdoesnotfitintofortyeightbytes", "label"),
    ] {
        let words = format!("image encrypt plain volume --passphrase-file pw {options}");
        let message = place.strongroom(&words).fails(2);
        assert!(message.contains(reason), "{options}: {message}");
        assert!(message.starts_with("error: "), "{message}");
        assert!(!place.exists("volume"), "{options}");
    }
    assert_eq!(place.names(), ["new", "plain", "pw", "wrong"]);
}

#[test]
fn commands_that_do_not_fit_the_header_are_refused() {
    let place = encrypted();
    let before = place.read("volume");
    for (words, code) in [
        ("luks add-key volume --passphrase-file pw", 2),
        ("luks add-key volume --new-passphrase-file new", 2),
        ("luks add-key volume --passphrase-file wrong --new-passphrase-file new", 3),
        ("luks add-key volume --keyslot 0 --passphrase-file pw --new-passphrase-file new", 2),
        ("luks add-key volume --keyslot 32 --passphrase-file pw --new-passphrase-file new", 2),
        ("luks add-key volume --unbound 0 --new-passphrase-file new", 2),
        ("luks add-key volume --unbound 513 --new-passphrase-file new", 2),
        ("luks remove-key volume --passphrase-file pw", 2),
        ("luks remove-key volume --keyslot 0 --passphrase-file pw", 3),
        ("luks remove-key volume --keyslot 7 --passphrase-file pw", 2),
        ("luks change-key volume --passphrase-file wrong --new-passphrase-file new", 3),
        ("luks config volume", 2),
        ("luks config volume --priority prefer", 2),
        ("luks convert volume --to luks2", 2),
        ("luks erase volume", 2),
        ("luks token export volume --token 0", 2),
        ("luks token remove volume --token 0", 2),
        ("luks token import volume plain", 1),
        ("luks token import volume pw", 2),
        ("luks header-restore volume plain", 4),
        ("luks header-backup volume plain", 6),
        ("luks test-key volume --keyslot 1 --passphrase-file pw", 2),
        ("luks test-key plain --passphrase-file pw", 4),
        ("luks nonsense volume", 2),
        ("nonsense", 2),
    ] {
        let outcome = place.strongroom(words);
        let message = outcome.fails(code);
        assert!(message.contains("error: ") || message.contains("Usage"), "{words}: {message}");
        assert!(place.read("volume") == before, "{words}");
    }
}

#[test]
fn every_result_is_one_json_object_when_asked_for() {
    let place = encrypted();
    for (words, key) in [
        ("image encrypt plain volume2 --passphrase-file pw --pbkdf-memory 32", "uuid"),
        ("image decrypt volume again --passphrase-file pw", "bytes"),
        (
            "image reencrypt volume third --passphrase-file pw --new-passphrase-file new \
             --pbkdf-memory 32",
            "format",
        ),
        ("image clone volume copy", "data_bytes"),
        ("image info volume", "virtual_bytes"),
        ("image info plain", "bytes"),
        ("image compare plain volume --passphrase-file pw", "equal"),
        ("luks dump volume", "version"),
        ("luks test-key volume --passphrase-file pw", "keyslot"),
        (
            "luks add-key volume --passphrase-file pw --new-passphrase-file new --pbkdf-memory 32",
            "keyslot",
        ),
        (
            "luks change-key volume --passphrase-file new --new-passphrase-file wrong \
             --pbkdf-memory 32",
            "keyslot",
        ),
        ("luks remove-key volume --passphrase-file wrong", "keyslot"),
        ("luks repair volume", "repaired"),
    ] {
        let outcome = place.strongroom(&format!("{words} --json"));
        assert_eq!(outcome.stderr, "", "{words}");
        let object = json(&outcome.ok());
        assert!(!object[key].is_null(), "{words}: {object}");
    }
    let different = place.strongroom("image compare plain pw --json");
    assert_eq!(json(&different.stdout)["equal"], false);
    different.fails(5);
}

#[test]
fn help_tells_the_exit_codes_and_that_passphrases_are_exact_bytes() {
    let place = Workplace::new();
    let help = place.strongroom("--help").ok();
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "7 ", "8 ", "9 ", "10 ", "130"] {
        let stands = help.lines().any(|line| line.trim_start().starts_with(code));
        assert!(stands, "{code}: {help}");
    }
    let help = place.strongroom("image encrypt --help").ok();
    for option in ["--passphrase-fd", "--secret-file", "--data-offset", "--pbkdf-memory", "--json"]
    {
        assert!(help.contains(option), "{option}");
    }
    assert!(place.strongroom("--version").ok().starts_with("strongroom "));
}

#[test]
fn a_passphrase_comes_from_wherever_it_is_kept() {
    let place = encrypted();
    place.strongroom("luks test-key volume --passphrase-file pw").ok();
    let outcome =
        place.strongroom_reading("luks test-key volume --passphrase-file -", b"passphrase");
    outcome.ok();
    let mut command = place.command("luks test-key volume --passphrase-env KEY");
    command.env("KEY", "passphrase");
    run(command, b"").ok();
    place.strongroom("luks test-key volume --passphrase-env NO_SUCH_VARIABLE").fails(2);
    for redirection in ["7<pw", "7<<END\npassphrase\nEND"] {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("\"$0\" luks test-key volume --passphrase-fd 7 {redirection}")]);
        command.arg(BINARY).current_dir(place.path("."));
        let outcome = run(command, b"");
        // What the shell writes here ends with a newline, which belongs to the passphrase.
        let code = if redirection == "7<pw" { 0 } else { 3 };
        assert_eq!(outcome.code, Some(code), "{}", outcome.describe());
    }
    place.strongroom("luks test-key volume --passphrase-fd 77").fails(8);
    place.strongroom("luks test-key volume --passphrase-file missing").fails(8);
    place.strongroom("luks test-key volume").fails(2);
    place.strongroom("luks test-key volume --passphrase-file pw --passphrase-env HOME").fails(2);
    place.write("empty", "");
    place.strongroom("luks test-key volume --passphrase-file empty").fails(2);
}

#[test]
fn a_passphrase_is_its_exact_bytes() {
    let place = place();
    for bytes in [&b"word\n"[..], b"\n", b"\0\xff\xfe binary \r\n\0", &[b'x'; 4096]] {
        place.write("key", bytes);
        place
            .strongroom(&format!(
                "image encrypt plain volume --force --passphrase-file key {CHEAP}"
            ))
            .ok();
        place.strongroom("luks test-key volume --passphrase-file key").ok();
        place.write("shorter", [&bytes[..bytes.len() - 1], b"."].concat());
        place.strongroom("luks test-key volume --passphrase-file shorter").fails(3);
    }
}

#[test]
fn a_newline_too_many_is_pointed_out() {
    let place = encrypted();
    place.write("pw", "passphrase\n");
    for words in [
        "luks test-key volume --passphrase-file pw",
        "image decrypt volume again --passphrase-file pw",
        "image compare volume volume --passphrase-file pw",
        "luks remove-key volume --passphrase-file pw",
    ] {
        let message = place.strongroom(words).fails(3);
        assert!(message.contains("hint: ") && message.contains("newline"), "{message}");
    }
    let message = place.strongroom("luks test-key volume --passphrase-file wrong").fails(3);
    assert!(!message.contains("newline"), "{message}");
}

const SECRET: &str = r#"apiVersion: v1
kind: Secret
metadata:
  name: longhorn-crypto
  namespace: longhorn-system
stringData:
  CRYPTO_KEY_VALUE: "Your encryption passphrase"
  CRYPTO_KEY_PROVIDER: "secret"
  CRYPTO_KEY_CIPHER: "aes-xts-plain64"
  CRYPTO_KEY_HASH: "sha512"
  CRYPTO_KEY_SIZE: "256"
  CRYPTO_PBKDF: "argon2i"
  CRYPTO_PBKDF_FORCE_ITERATIONS: "5"
  CRYPTO_PBKDF_MEMORY: "64"
"#;

#[test]
fn a_secret_decides_what_the_command_line_leaves_open() {
    let place = place();
    place.write("secret.yaml", SECRET);
    place.strongroom("image encrypt plain volume --secret-file secret.yaml").ok();
    let dump = json(&place.strongroom("luks dump volume --json").ok());
    let metadata = dump.to_string();
    for part in ["argon2i", "sha512", "\"time\":5", "\"memory\":64", "aes-xts-plain64"] {
        assert!(metadata.contains(part), "{part}: {metadata}");
    }
    let info = json(&place.strongroom("image info volume --json").ok());
    assert_eq!(info["key_bits"], 256);
    place.write("key", "Your encryption passphrase");
    place.strongroom("luks test-key volume --passphrase-file key").ok();
    place.strongroom("image decrypt volume again --secret-file secret.yaml").ok();
    place.same("again", "plain").unwrap();
    // Options win over the Secret.
    place
        .strongroom(
            "image encrypt plain volume --force --secret-file secret.yaml --key-size 512 \
             --pbkdf-iterations 4",
        )
        .ok();
    let info = json(&place.strongroom("image info volume --json").ok());
    assert_eq!(info["key_bits"], 512);
}

#[test]
fn a_secret_in_base64_means_the_same() {
    let place = place();
    // The base64 of "Your encryption passphrase" and of the settings.
    place.write(
        "secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: crypto}\ndata:\n  \
         CRYPTO_KEY_VALUE: WW91ciBlbmNyeXB0aW9uIHBhc3NwaHJhc2U=\n  \
         CRYPTO_PBKDF: cGJrZGYy\n  CRYPTO_PBKDF_FORCE_ITERATIONS: MTAwMA==\n",
    );
    place.strongroom("image encrypt plain volume --secret-file secret.yaml").ok();
    place.write("key", "Your encryption passphrase");
    place.strongroom("luks test-key volume --passphrase-file key").ok();
}

#[test]
fn a_secret_that_asks_for_the_impossible_is_refused_with_the_reason() {
    let place = place();
    for (from, to, reason) in [
        ("\"5\"", "\"200000\"", "for argon2 an iteration is a full pass over the memory"),
        ("stringData:", "data:", "base64"),
        ("\"secret\"", "\"vault\"", "the only provider is secret"),
        ("\"256\"", "256", "not text: put it in quotes"),
        ("CRYPTO_KEY_HASH", "CRYPTO_KEY_HASHES", "CRYPTO_KEY_HASHES"),
        ("\"argon2i\"", "\"scrypt\"", "argon2id, argon2i or pbkdf2"),
        ("\"aes-xts-plain64\"", "\"aes-xts\"", "IV is missing"),
        ("CRYPTO_KEY_VALUE", "OTHER", "CRYPTO_KEY_VALUE"),
        ("kind: Secret", "kind: ConfigMap", "Secret"),
    ] {
        place.write("secret.yaml", SECRET.replace(from, to).replace("\"64\"", "\"1048576\""));
        let message =
            place.strongroom("image encrypt plain volume --secret-file secret.yaml").fails(2);
        assert!(message.contains(reason), "{to}: {message}");
        assert!(!message.contains("Your encryption"), "{message}");
        assert!(!place.exists("volume"), "{to}");
    }
}

#[test]
fn output_that_nobody_reads_is_no_error() {
    let place = encrypted();
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\" luks dump volume --json | true"]).arg(BINARY);
    command.current_dir(place.path("."));
    let outcome = run(command, b"");
    assert_eq!(outcome.stderr, "", "{}", outcome.describe());
}
