use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

/// Stands wherever a value may stand, and must be in no message.
const CANARY: &str = "canary-7f3a";

fn parse(manifest: &str) -> Result<EncryptionSecret, Error> {
    EncryptionSecret::parse(manifest.as_bytes())
}

/// Returns the message of a refusal, which never quotes the canary.
fn refusal(manifest: &str) -> String {
    let error = parse(manifest).unwrap_err();
    let message = error.to_string();
    assert!(!format!("{message} {error:?}").contains(CANARY), "{error:?}");
    message
}

/// Returns a Secret with the lines, indented already, behind its metadata.
fn secret(lines: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: crypto\n  namespace: longhorn-system\n\
         {lines}\n"
    )
}

fn string_data(lines: &[&str]) -> String {
    secret(&format!("stringData:\n  {}", lines.join("\n  ")))
}

fn data(lines: &[&str]) -> String {
    secret(&format!("data:\n  {}", lines.join("\n  ")))
}

fn passphrase(manifest: &str) -> Vec<u8> {
    parse(manifest).unwrap().into_parts().1.to_vec()
}

#[test]
fn reads_all_eight_keys_under_string_data() {
    let secret = parse(&string_data(&[
        "CRYPTO_KEY_VALUE: correct horse",
        "CRYPTO_KEY_PROVIDER: secret",
        "CRYPTO_KEY_CIPHER: aes-cbc-essiv:sha256",
        "CRYPTO_KEY_HASH: sha512",
        "CRYPTO_KEY_SIZE: \"192\"",
        "CRYPTO_PBKDF: pbkdf2",
        "CRYPTO_PBKDF_FORCE_ITERATIONS: \"200000\"",
        "CRYPTO_PBKDF_MEMORY: \"65536\"",
    ]))
    .unwrap();
    assert_eq!((secret.name(), secret.namespace()), ("crypto", Some("longhorn-system")));
    let expected = EncryptionSettings {
        cipher: "aes-cbc-essiv:sha256".to_owned(),
        key_size_bits: 192,
        hash: "sha512".to_owned(),
        pbkdf: Pbkdf::Pbkdf2,
        pbkdf_memory_kib: Some(65536),
        pbkdf_iterations: Some(200_000),
    };
    assert_eq!(secret.settings(), &expected);
    let (settings, passphrase) = secret.into_parts();
    assert_eq!(settings, expected);
    assert_eq!(*passphrase, b"correct horse");
}

#[test]
fn reads_all_eight_keys_under_data() {
    let lines: Vec<String> = [
        ("CRYPTO_KEY_VALUE", "correct horse"),
        ("CRYPTO_KEY_PROVIDER", "secret"),
        ("CRYPTO_KEY_CIPHER", "serpent-xts-plain64"),
        ("CRYPTO_KEY_HASH", "sha384"),
        ("CRYPTO_KEY_SIZE", "512"),
        ("CRYPTO_PBKDF", "argon2id"),
        ("CRYPTO_PBKDF_FORCE_ITERATIONS", "5"),
        ("CRYPTO_PBKDF_MEMORY", "1024"),
    ]
    .map(|(key, value)| format!("{key}: {}", STANDARD.encode(value)))
    .to_vec();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (settings, passphrase) = parse(&data(&lines)).unwrap().into_parts();
    assert_eq!(*passphrase, b"correct horse");
    let expected = EncryptionSettings {
        cipher: "serpent-xts-plain64".to_owned(),
        key_size_bits: 512,
        hash: "sha384".to_owned(),
        pbkdf: Pbkdf::Argon2id,
        pbkdf_memory_kib: Some(1024),
        pbkdf_iterations: Some(5),
    };
    assert_eq!(settings, expected);
}

#[test]
fn missing_and_empty_values_are_longhorns_defaults() {
    let defaults = EncryptionSettings {
        cipher: "aes-xts-plain64".to_owned(),
        key_size_bits: 256,
        hash: "sha256".to_owned(),
        pbkdf: Pbkdf::Argon2i,
        pbkdf_memory_kib: None,
        pbkdf_iterations: None,
    };
    let missing = string_data(&["CRYPTO_KEY_VALUE: x"]);
    assert_eq!(parse(&missing).unwrap().settings(), &defaults);
    let empty = string_data(&[
        "CRYPTO_KEY_VALUE: x",
        "CRYPTO_KEY_PROVIDER: \"\"",
        "CRYPTO_KEY_CIPHER: ''",
        "CRYPTO_KEY_HASH:",
        "CRYPTO_KEY_SIZE: ~",
        "CRYPTO_PBKDF: null",
        "CRYPTO_PBKDF_FORCE_ITERATIONS: \"0\"",
        "CRYPTO_PBKDF_MEMORY: \"0\"",
    ]);
    assert_eq!(parse(&empty).unwrap().settings(), &defaults);
}

#[test]
fn string_data_wins_over_data_even_when_empty() {
    let manifest = secret(
        "data:\n  CRYPTO_KEY_VALUE: b2xk\n  CRYPTO_KEY_SIZE: NTEy\n\
         stringData:\n  CRYPTO_KEY_VALUE: new\n  CRYPTO_KEY_SIZE: \"\"",
    );
    let (settings, passphrase) = parse(&manifest).unwrap().into_parts();
    assert_eq!(*passphrase, b"new");
    assert_eq!(settings.key_size_bits, 256);
}

#[test]
fn reads_json_with_its_own_escapes_and_tabs() {
    let manifest = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Secret\",\n\t\"metadata\": \
                    {\"name\": \"crypto\"},\n\t\"stringData\": {\"CRYPTO_KEY_VALUE\":\n\t\t\
                    \"\\ud83d\\ude00\\/\\u0000\\n\"}\n}\n";
    assert_eq!(passphrase(manifest), "\u{1f600}/\0\n".as_bytes());
    assert_eq!(parse(manifest).unwrap().namespace(), None);
}

#[test]
fn finds_the_one_secret_among_other_documents() {
    let other = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: fast\n\
                 parameters: {encrypted: 'true', weight: .inf}\ndata: [1, {a: b}]\n";
    let plain = "apiVersion: v1\nkind: Secret\nmetadata: {name: other}\nstringData: {token: x}\n";
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n\
                  data: {CRYPTO_KEY_VALUE: y}\n";
    let wanted = string_data(&["CRYPTO_KEY_VALUE: x"]);
    let manifest =
        format!("# keys\n---\n{other}---\n---\n{plain}---\n{config}---\njust text\n---\n{wanted}");
    assert_eq!(parse(&manifest).unwrap().name(), "crypto");
}

#[test]
fn several_secrets_are_listed_with_their_namespaces() {
    let first = string_data(&["CRYPTO_KEY_VALUE: canary-7f3a"]);
    let second = first.replace("  namespace: longhorn-system\n", "").replace("crypto", "spare");
    assert_eq!(
        refusal(&format!("{first}---\n{second}")),
        "manifest holds more than one encryption Secret: longhorn-system/crypto, spare"
    );
}

#[test]
fn a_file_without_such_a_secret_says_what_is_wanted() {
    for manifest in [
        "",
        "---\n",
        "canary-7f3a\n",
        "- canary-7f3a\n",
        "256",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {token: canary-7f3a}\n",
        "apiVersion: v2\nkind: Secret\nstringData: {CRYPTO_KEY_VALUE: canary-7f3a}\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: canary-7f3a\n",
    ] {
        assert!(refusal(manifest).contains("kind Secret and CRYPTO_KEY_VALUE"), "{manifest}");
    }
}

#[test]
fn a_missing_or_empty_passphrase_is_refused() {
    for lines in [
        &["CRYPTO_KEY_CIPHER: aes-xts-plain64"][..],
        &["CRYPTO_KEY_VALUE: \"\""],
        &["CRYPTO_KEY_VALUE:"],
    ] {
        assert_eq!(
            refusal(&string_data(lines)),
            "encryption Secret longhorn-system/crypto has no passphrase: CRYPTO_KEY_VALUE is \
             missing or empty"
        );
    }
}

#[test]
fn a_passphrase_keeps_its_newline() {
    assert_eq!(passphrase(&data(&["CRYPTO_KEY_VALUE: Y29ycmVjdAo="])), b"correct\n");
    assert_eq!(passphrase(&string_data(&["CRYPTO_KEY_VALUE: |", "  correct"])), b"correct\n");
    assert_eq!(passphrase(&string_data(&["CRYPTO_KEY_VALUE: |-", "  correct"])), b"correct");
    assert_eq!(passphrase(&string_data(&["CRYPTO_KEY_VALUE: \"correct\\n\""])), b"correct\n");
    assert_eq!(passphrase(&string_data(&["CRYPTO_KEY_VALUE: \" a b \""])), b" a b ");
}

#[test]
fn a_passphrase_under_data_may_be_any_bytes() {
    let bytes: Vec<u8> = (0..=255).collect();
    let line = format!("CRYPTO_KEY_VALUE: {}", STANDARD.encode(&bytes));
    assert_eq!(passphrase(&data(&[&line])), bytes);
}

#[test]
fn base64_is_read_as_kubernetes_reads_it() {
    let folded = ["CRYPTO_KEY_VALUE: |", "  Y29y", "  cmVjdA==", ""];
    assert_eq!(passphrase(&data(&folded)), b"correct");
    // Go's decoder does not look at the bits behind the last byte.
    assert_eq!(passphrase(&data(&["CRYPTO_KEY_VALUE: eB=="])), b"x");
    for text in ["eA", "eA=", "eA==eA==", "e-__", "\" eA==\"", "=", "\"eA==\\0\""] {
        let message = refusal(&data(&[&format!("CRYPTO_KEY_VALUE: {text}")]));
        assert!(message.contains("is not base64"), "{text}: {message}");
    }
}

#[test]
fn plain_text_under_data_is_explained() {
    assert_eq!(
        refusal(&data(&["CRYPTO_KEY_VALUE: canary-7f3a", "CRYPTO_KEY_PROVIDER: secret"])),
        "value of CRYPTO_KEY_VALUE under data is not base64: data holds base64, plain text belongs \
         under stringData"
    );
}

#[test]
fn a_bare_number_is_explained() {
    assert_eq!(
        refusal(&data(&["CRYPTO_KEY_VALUE: eA==", "CRYPTO_KEY_SIZE: 256"])),
        "value of CRYPTO_KEY_SIZE under data is a number, not base64: data holds base64, plain \
         text belongs under stringData and in quotes"
    );
    assert_eq!(
        refusal(&string_data(&["CRYPTO_KEY_VALUE: x", "CRYPTO_KEY_SIZE: 256"])),
        "value of CRYPTO_KEY_SIZE under stringData is a number, not text: put it in quotes"
    );
}

#[test]
fn a_passphrase_that_yaml_takes_for_something_else_is_not_guessed_at() {
    for (value, found) in [
        ("12345678", "a number"),
        ("-1", "a number"),
        ("1e3", "a number"),
        ("yes", "true or false"),
        ("[canary-7f3a]", "a list"),
        ("{canary-7f3a: canary-7f3a}", "a mapping"),
    ] {
        let message = refusal(&string_data(&[&format!("CRYPTO_KEY_VALUE: {value}")]));
        assert!(message.contains(found), "{value}: {message}");
    }
    assert_eq!(passphrase(&string_data(&["CRYPTO_KEY_VALUE: '12345678'"])), b"12345678");
}

#[test]
fn a_bad_value_under_data_is_refused_where_string_data_covers_it_too() {
    let manifest = secret(
        "data:\n  CRYPTO_KEY_VALUE: canary-7f3a\nstringData:\n  CRYPTO_KEY_VALUE: canary-7f3a",
    );
    assert!(refusal(&manifest).contains("under data is not base64"));
}

#[test]
fn a_newline_behind_a_name_or_a_number_is_explained() {
    for key in Key::ALL.into_iter().filter(|key| *key != Key::Value) {
        let encoded = STANDARD.encode("256\n");
        let lines = [&format!("{}: {encoded}", key.name()), "CRYPTO_KEY_VALUE: eA=="];
        let message = refusal(&data(&lines));
        assert!(message.starts_with(&format!("value of {} ends with a newline", key.name())));
        assert!(message.contains("printf or echo -n"));
        let block = [&format!("{}: |", key.name()), "  256", "CRYPTO_KEY_VALUE: x"];
        assert!(refusal(&string_data(&block)).contains("ends with a newline"));
    }
}

#[test]
fn values_outside_what_a_key_allows_are_refused_unquoted() {
    for (line, reason) in [
        ("CRYPTO_KEY_PROVIDER: canary-7f3a", "the only provider is secret"),
        ("CRYPTO_PBKDF: canary-7f3a", "use argon2id, argon2i or pbkdf2"),
        ("CRYPTO_PBKDF: Argon2i", "use argon2id, argon2i or pbkdf2"),
        ("CRYPTO_KEY_SIZE: canary-7f3a", "whole number"),
        ("CRYPTO_KEY_SIZE: '+256'", "whole number"),
        ("CRYPTO_KEY_SIZE: '-256'", "whole number"),
        ("CRYPTO_KEY_SIZE: '4294967296'", "whole number"),
        ("CRYPTO_PBKDF_MEMORY: '1_000'", "whole number"),
        ("CRYPTO_PBKDF_FORCE_ITERATIONS: '4.0'", "whole number"),
        ("CRYPTO_KEY_SIZE: ' 256'", "without spaces"),
        ("CRYPTO_KEY_CIPHER: \"canary-7f3a\\0\"", "visible ASCII"),
        ("CRYPTO_KEY_HASH: \"canary-7f3a\u{e9}\"", "visible ASCII"),
    ] {
        let message = refusal(&string_data(&["CRYPTO_KEY_VALUE: canary-7f3a", line]));
        assert!(message.contains(reason), "{line}: {message}");
    }
}

#[test]
fn an_unknown_encryption_key_is_named_with_the_known_ones() {
    for section in ["data", "stringData"] {
        let manifest = secret(&format!(
            "{section}:\n  CRYPTO_KEY_VALEU: canary-7f3a\n  CRYPTO_KEY_VALUE: eA=="
        ));
        let message = refusal(&manifest);
        assert!(message.starts_with("key \"CRYPTO_KEY_VALEU\" is unknown"), "{message}");
        assert!(KEYS.iter().all(|key| message.contains(key)), "{message}");
    }
    let long = format!("CRYPTO_{}: x", "Y".repeat(900));
    assert!(refusal(&string_data(&[&long])).len() < 300);
    let other = ["CRYPTO_KEY_VALUE: x", "note: 5", "crypto_key_size: 5", "7: x"];
    assert_eq!(passphrase(&string_data(&other)), b"x");
}

#[test]
fn names_that_kubernetes_does_not_have_are_refused() {
    let named = |metadata: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {metadata}\n\
             stringData: {{CRYPTO_KEY_VALUE: canary-7f3a}}\n"
        )
    };
    for metadata in [
        "",
        "{}",
        "{name: 5}",
        "{name: ''}",
        "{name: Crypto}",
        "{name: -a}",
        "{name: \"a\\nb\"}",
        "{name: [canary-7f3a]}",
        "canary-7f3a",
    ] {
        assert!(refusal(&named(metadata)).contains("metadata.name"), "{metadata}");
    }
    assert!(refusal(&named("{name: a, namespace: a/b}")).contains("metadata.namespace"));
    assert_eq!(parse(&named("{name: a, namespace: ''}")).unwrap().namespace(), None);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_change_nothing() {
    let manifest = string_data(&[
        "CRYPTO_KEY_CIPHER: aes-xts-plain64",
        "CRYPTO_KEY_SIZE: \"512\"",
        "CRYPTO_KEY_VALUE: |",
        "  one",
        "  two",
    ]);
    let manifest = format!("\u{feff}{}", manifest.replace('\n', "\r\n"));
    let (settings, passphrase) = parse(&manifest).unwrap().into_parts();
    assert_eq!(*passphrase, b"one\ntwo\n");
    assert_eq!((settings.cipher.as_str(), settings.key_size_bits), ("aes-xts-plain64", 512));
}

#[test]
fn aliases_and_merges_are_followed() {
    let manifest = secret(
        "x: &base {CRYPTO_KEY_SIZE: '512', CRYPTO_KEY_HASH: sha1}\ny: &value x\n\
         stringData:\n  <<: *base\n  CRYPTO_KEY_HASH: sha512\n  CRYPTO_KEY_VALUE: *value",
    );
    let (settings, passphrase) = parse(&manifest).unwrap().into_parts();
    assert_eq!(*passphrase, b"x");
    assert_eq!((settings.hash.as_str(), settings.key_size_bits), ("sha512", 512));
}

#[test]
fn keys_that_stand_twice_are_refused() {
    for lines in [
        &["CRYPTO_KEY_VALUE: canary-7f3a", "CRYPTO_KEY_VALUE: canary-7f3a"][..],
        &["CRYPTO_KEY_VALUE: canary-7f3a", "\"CRYPTO_KEY_VALUE\": canary-7f3a"],
        &["CRYPTO_KEY_VALUE: canary-7f3a", "!!str CRYPTO_KEY_VALUE: canary-7f3a"],
        &["CRYPTO_KEY_VALUE: canary-7f3a", "!odd CRYPTO_KEY_VALUE: canary-7f3a"],
    ] {
        let message = refusal(&string_data(lines));
        assert!(message.contains("a key stands twice"), "{message}");
    }
    let sections = "stringData: {CRYPTO_KEY_VALUE: canary-7f3a}\nstringData: {CRYPTO_KEY_VALUE: b}";
    assert!(refusal(&secret(sections)).contains("a key stands twice"));
    let tagged = sections.replacen("\nstring", "\n!odd string", 1);
    assert!(refusal(&secret(&tagged)).contains("a key stands twice"));
}

#[test]
fn broken_text_is_refused_by_position_and_never_quoted() {
    for lines in [
        "stringData:\n  CRYPTO_KEY_VALUE: \"canary-7f3a\n",
        "stringData:\n  CRYPTO_KEY_VALUE: canary-7f3a: canary-7f3a\n",
        "stringData:\n\tCRYPTO_KEY_VALUE: canary-7f3a\n",
        "stringData: {CRYPTO_KEY_VALUE: canary-7f3a\n",
        "stringData:\n  CRYPTO_KEY_VALUE: \"\\canary-7f3a\"\n",
        "stringData:\n  CRYPTO_KEY_VALUE: *canary-7f3a\n",
        "stringData:\n  CRYPTO_KEY_VALUE: !!int canary-7f3a\n",
        "stringData:\n  CRYPTO_KEY_VALUE: !!bool canary-7f3a\n",
        "stringData:\n  CRYPTO_KEY_VALUE: !!float canary-7f3a\n",
        "stringData:\n  CRYPTO_KEY_VALUE: !!binary canary-7f3a\n",
        "stringData:\n  CRYPTO_KEY_VALUE: !!seq canary-7f3a\n",
        "stringData:\n  <<: canary-7f3a\n",
        "stringData:\n  CRYPTO_KEY_VALUE: @canary-7f3a\n",
        "stringData:\n  - canary-7f3a\n  CRYPTO_KEY_VALUE: canary-7f3a\n",
        "stringData:\n  ? [canary-7f3a]\n  : canary-7f3a\n  canary-7f3a\n",
        "stringData: &a {CRYPTO_KEY_VALUE: canary-7f3a, b: *a}\n",
    ] {
        let message = refusal(&secret(lines));
        assert!(message.starts_with("manifest is not readable at line"), "{lines}: {message}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut manifest = string_data(&["CRYPTO_KEY_VALUE: canary-7f3a"]).into_bytes();
    manifest.extend_from_slice(b"---\n\xff\n");
    let message = EncryptionSecret::parse(&manifest).unwrap_err().to_string();
    assert_eq!(message, "manifest is not readable: it is not UTF-8 text");
    // A parser that stops at the NUL would find the first Secret and miss the second.
    let one = string_data(&["CRYPTO_KEY_VALUE: canary-7f3a"]);
    assert_eq!(
        refusal(&format!("{one}\0---\n{one}")),
        "manifest is not readable: it contains a NUL byte"
    );
}

#[test]
fn documents_larger_than_a_secret_can_be_are_refused_unread() {
    let manifest = string_data(&[&format!("CRYPTO_KEY_VALUE: {}", "a".repeat(10 << 20))]);
    let message = parse(&manifest).unwrap_err().to_string();
    assert!(message.ends_with("the limit is 1048576"), "{message}");
    let fits = string_data(&[&format!("CRYPTO_KEY_VALUE: {}", "a".repeat(1_000_000))]);
    assert_eq!(passphrase(&fits).len(), 1_000_000);
}

#[test]
fn hostile_documents_are_refused_before_they_cost_much() {
    let half = "é\\n".repeat(150_000);
    let bombs = [
        format!("a: &a \"{half}\"\nb: [{}]\n", vec!["*a"; 900].join(", ")),
        format!("a: &a \"{half}\"\nb: &b {{c: *a, d: *a}}\n{}", "? {<<: *b}\n: *b\n".repeat(400)),
        format!("a: &a {{k: \"{half}\"}}\nb: {{<<: [{}]}}\n", vec!["*a"; 900].join(", ")),
        format!("{}name: &a \"{half}\"\n", "? *a\n: *a\n".repeat(400)),
        "[".repeat(1 << 20),
        "{".repeat(1 << 20),
        "- ".repeat(1 << 19),
        "? ".repeat(1 << 19),
        "a: ".repeat(1 << 18),
        "&a ".repeat(1 << 18),
        "!".repeat(1 << 20),
        "\"".repeat(1 << 20),
        "---\n".repeat(1 << 18),
        "- a\n".repeat(1 << 18),
        "[a,".repeat(1 << 18),
        "#".repeat(1 << 20),
        " ".repeat(1 << 20),
        "\n".repeat(1 << 20),
        "a\n".repeat(1 << 19),
        "%\n".repeat(1 << 19),
        "|\n".repeat(1 << 19),
        (0..120_000).map(|key| format!("{key}: \n")).collect(),
        (0..60_000).map(|key| format!("? [{key}]\n: \n")).collect(),
    ];
    for bomb in bombs {
        assert!(bomb.len() <= 1 << 20, "{bomb:.20} is refused for its length alone");
        assert!(parse(&bomb).is_err(), "{bomb:.20}");
    }
}

#[test]
fn a_bomb_of_aliases_is_called_one() {
    let bomb = (0..9).fold("a: &l0 [x]\n".to_owned(), |text, level| {
        let aliases = vec![format!("*l{level}"); 9].join(", ");
        format!("{text}a{level}: &l{} [{aliases}]\n", level + 1)
    });
    assert!(refusal(&bomb).contains("too many aliases"));
    assert!(refusal(&"- ".repeat(1000)).contains("too much nesting"));
}

#[test]
fn debug_shows_neither_passphrase_nor_settings() {
    let secret =
        parse(&string_data(&["CRYPTO_KEY_VALUE: canary-7f3a", "CRYPTO_KEY_CIPHER: canary-7f3a"]));
    assert_eq!(
        format!("{:?}", secret.unwrap()),
        "EncryptionSecret { name: \"crypto\", namespace: Some(\"longhorn-system\"), .. }"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = EncryptionSecret::parse(&bytes);
    }

    #[test]
    fn a_damaged_manifest_is_read_or_refused_without_its_passphrase(
        at in 0_usize..400,
        with in "[ -~\n\t]{0,6}",
    ) {
        let mut manifest = secret(
            "data: &d {CRYPTO_KEY_SIZE: NTEy}\nstringData:\n  CRYPTO_PBKDF: argon2id\n  \
             CRYPTO_KEY_VALUE: \"canary-7f3a\"\n  <<: *d\n",
        );
        let at = at % manifest.len();
        manifest.replace_range(at..=at, &with);
        if let Err(error) = parse(&manifest) {
            // A key may be named, and damage may make a key of the value.
            let named = matches!(error, Error::UnknownKey { .. });
            prop_assert!(named || !error.to_string().contains(CANARY));
        }
    }

    #[test]
    fn any_passphrase_comes_back_exactly(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        // In quotes, as everybody writes it for whom base64 of digits alone would be a number.
        let line = format!("CRYPTO_KEY_VALUE: \"{}\"", STANDARD.encode(&bytes));
        prop_assert_eq!(passphrase(&data(&[&line])), bytes);
    }
}

#[test]
fn a_map_is_read_like_the_manifest_that_it_comes_from() {
    let values: [(&str, &[u8]); 4] = [
        ("CRYPTO_KEY_VALUE", b" exact\n"),
        ("CRYPTO_KEY_PROVIDER", b"secret"),
        ("CRYPTO_KEY_SIZE", b"512"),
        ("unrelated", b"x"),
    ];
    let secret = EncryptionSecret::from_values("the one", values).unwrap();
    assert_eq!(secret.settings().key_size_bits, 512);
    assert_eq!(secret.settings().pbkdf, Pbkdf::Argon2i);
    assert_eq!(*secret.into_parts().1, b" exact\n");

    let refusal = |values: &[(&'static str, &'static [u8])]| {
        EncryptionSecret::from_values("the one", values.iter().copied()).unwrap_err().to_string()
    };
    assert!(refusal(&[]).starts_with("encryption Secret the one has no passphrase"));
    assert!(refusal(&[("CRYPTO_KEY_VALUE", b"")]).contains("CRYPTO_KEY_VALUE is missing or empty"));
    assert!(refusal(&[("CRYPTO_KEY_VALU", b"x")]).contains("key \"CRYPTO_KEY_VALU\" is unknown"));
    let vault = [("CRYPTO_KEY_VALUE", &b"x"[..]), ("CRYPTO_KEY_PROVIDER", b"vault")];
    assert!(refusal(&vault).contains("the only provider is secret"));
}
