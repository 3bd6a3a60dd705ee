use proptest::prelude::*;
use serde_json::json;

use super::*;

fn good(text: &str) -> Vec<Located> {
    read("file.yaml", text.as_bytes()).unwrap()
}

fn bad(text: &str) -> String {
    let errors = read("file.yaml", text.as_bytes()).unwrap_err();
    errors.iter().map(|error| format!("{error}\n")).collect()
}

const CLASS: &str = "\
# A class.
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: vault
  annotations:
    storageclass.kubernetes.io/is-default-class: \"true\"
parameters:
  encrypted: \"true\"
mountOptions:
- noatime
-
  discard
";

#[test]
fn fields_are_found_on_their_lines() {
    let read = good(&format!("---\n{CLASS}"));
    let class = &read[0];
    assert_eq!(class.line, 3);
    for (path, line) in [
        ("", 3),
        ("kind", 4),
        ("metadata", 5),
        ("metadata.name", 6),
        ("metadata.annotations['storageclass.kubernetes.io/is-default-class']", 8),
        ("metadata.annotations['other']", 7),
        ("parameters.encrypted", 10),
        ("parameters.encryption", 9),
        ("parameters.encrypted.deeper", 10),
        ("mountOptions[0]", 12),
        ("mountOptions[1]", 14),
        ("mountOptions[10]", 11),
        ("status.phase", 3),
    ] {
        assert_eq!(class.line_of(path), line, "{path}");
    }
}

#[test]
fn several_documents_come_in_their_order_and_empty_ones_do_not_count() {
    let read = good(&format!("---\n# nothing\n---\n{CLASS}---\n{CLASS}...\n---\n"));
    assert_eq!(read.len(), 2);
    assert_eq!(
        read[1].line_of("parameters.encrypted"),
        read[0].line_of("parameters.encrypted") + 14
    );
    assert!(good("").is_empty());
}

#[test]
fn json_is_read_too_and_numbers_stay_numbers() {
    let read = good(
        "{\"apiVersion\": \"v1\", \"kind\": \"Secret\",\n\"metadata\": {\"name\": \"a\"},\n \
         \"data\": {\"x\": 256, \"y\": 1.5, \"z\": null, \"t\": true, \"s\": \"256\"}}",
    );
    let data = read[0].object.fields()["data"].clone();
    assert_eq!(data, json!({ "x": 256, "y": 1.5, "z": null, "t": true, "s": "256" }));
    assert_eq!(read[0].line_of("data.x"), 3);
}

#[test]
fn lists_are_unfolded_with_the_lines_of_their_items() {
    let text = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata:
    name: lab
- apiVersion: v1
  kind: SecretList
  items:
  - metadata:
      name: key
";
    let read = good(text);
    assert_eq!(format!("{read:?}"), "[Namespace lab on line 4, Secret key on line 11]");
    assert_eq!(read[0].line_of("metadata.name"), 7);
    assert_eq!(read[1].line_of("metadata.name"), 12);
    assert_eq!(read[1].object.text(&["apiVersion"]), Some("v1"));
}

#[test]
fn what_is_no_document_is_told_with_its_line() {
    let told =
        bad("kind: Secret\nmetadata:\n  name: a\n---\n- a\n- b\n---\nkind: 7\napiVersion: v1\n");
    for line in [
        "file.yaml:1: apiVersion: ",
        "file.yaml:5: a document",
        "file.yaml:8: kind: ",
        "file.yaml:8: metadata: ",
    ] {
        assert!(told.contains(line), "{line} in:\n{told}");
    }
}

#[test]
fn keys_that_stand_twice_are_refused_on_their_line() {
    let told = bad("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nkind: Secret\n");
    assert_eq!(told, "file.yaml:4:1: a key stands twice in one mapping\n");
    assert!(bad("a: 1\n!x a: 2\n").contains("twice"));
    let second = format!("---\n{CLASS}---\n{CLASS}kind: StorageClass\n---\n{CLASS}");
    let told = bad(&second);
    assert_eq!(told, "file.yaml:29:1: a key stands twice in one mapping (in document 2)\n");
}

/// Checks what is told of text that follows three lines of a Secret.
fn told(cases: &[(&str, &str, &str)]) {
    for (rest, place, words) in cases {
        let told = bad(&format!("kind: Secret\nmetadata:\n  name: a\n{rest}"));
        assert!(told.starts_with(&format!("file.yaml:{place}: ")), "{rest:?}: {told}");
        assert!(told.contains(words), "{rest:?}: {told}");
    }
}

#[test]
fn tabs_are_told_in_words() {
    told(&[
        ("spec:\n\tsize: 1\n", "5:2", "a tab stands where only spaces may"),
        ("data:\n  a: |\n\tx\n", "5:6", "a tab stands where only spaces may"),
    ]);
}

#[test]
fn bad_indentation_is_told_in_words() {
    let indentation = "the indentation fits none of the lines above";
    told(&[
        ("data:\n   a: 1\n  b: 2\n", "6:3", indentation),
        ("data:\n  - a\n  b: 1\n", "6:3", indentation),
        ("data:\n  a: 1\n   b: 2\n", "6:5", "else the indentation is not that of the lines above"),
    ]);
}

#[test]
fn quotes_and_brackets_that_are_not_closed_are_told_in_words() {
    let quote = "a quote is opened above and not closed";
    told(&[
        ("data: \"x\nb: 1\n", "5:1", quote),
        ("data: 'x\n", "5:1", quote),
        ("data: 'it's'\n", "4:11", "behind a closing quote"),
        ("data: \"C:\\path\"\n", "4:7", "a backslash within double quotes"),
        ("data: [1, 2\n", "4:7", "a `[` is opened and not closed"),
        ("data: {a: 1\n", "4:7", "a `{` is opened and not closed"),
        ("data: {a: 1]\n", "4:7", "a bracket is closed"),
        ("data: [1, 2\nb: 1\n", "5:2", "a bracket there is not closed"),
    ]);
}

#[test]
fn aliases_and_signs_that_mean_nothing_are_told_in_words() {
    told(&[
        ("data: *none\n", "4:7", "an alias (`*…`) has no anchor"),
        ("data: * none\n", "4:7", "a `&` or `*` has no name"),
        ("data: @x\n", "4:7", "a sign that YAML keeps for itself"),
        ("data: |x\n  a\n", "4:7", "behind `|` or `>`"),
        ("data: !<x\n", "4:7", "a tag (`!…`) is not known"),
        ("data: \"a\"#b\n", "4:10", "a comment needs a space"),
        ("<<: 1\n", "4:5", "what `<<` takes in"),
    ]);
}

#[test]
fn keys_that_are_none_are_told_in_words() {
    told(&[
        ("data\n", "4:1", "no `: ` behind its key"),
        ("data: 1\nspec\nb: 1\n", "5:1", "no `: ` behind its key"),
        ("data: a: b\n", "4:8", "a `: ` stands where no key can be"),
        ("data: - a\n", "4:7", "a list's `- ` stands where no list can begin"),
    ]);
    let later = bad("kind: A\n--- # two\nkind: B\n---\nkind: x: y\n");
    assert!(
        later.starts_with("file.yaml:5:8: ") && later.ends_with(" (in document 3)\n"),
        "{later}"
    );
}

#[test]
fn no_error_quotes_the_file() {
    for text in [
        "data: {CRYPTO_KEY_VALUE: canary\n",
        "data:\n  CRYPTO_KEY_VALUE: \"canary\n",
        "canary",
        "- canary",
        "kind: canary\ndata: canary",
        "a: *canary",
        "a: &canary [*canary]",
        "a: !!binary canary",
        "a: !!int canary",
        "[canary]: x",
        "7: canary",
        "canary: x\ncanary: y",
        "a: 99999999999999999999999999999999999999999999",
    ] {
        let told = bad(text);
        assert!(!told.contains("canary") && !told.contains("999"), "{told}");
    }
}

#[test]
fn what_is_no_text_is_refused() {
    assert!(bad("a: 1\nb: \0").starts_with("file.yaml:2: this is a NUL"));
    let errors = read("x", b"a: 1\n\n\xff").unwrap_err();
    assert_eq!(errors[0].to_string(), "x:3: this is not UTF-8 text");
    assert!(read("x", &vec![b' '; MAX_LEN + 1]).is_err());
}

#[test]
fn aliases_and_depth_are_bounded() {
    let small = good(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: &d {x: eA==}\nstringData: *d\n",
    );
    assert_eq!(small[0].object.text(&["stringData", "x"]), Some("eA=="));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(bad(&bomb).contains("too many aliases"));
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let deep = format!("{}x{}", open.repeat(5000), close.repeat(5000));
        assert!(!bad(&deep).is_empty());
    }
}

#[test]
fn a_file_with_thousands_of_claims_is_read() {
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: c\n  namespace: lab\n\
                 spec:\n  accessModes: [ReadWriteOnce]\n  storageClassName: vault\n  resources:\n    \
                 requests:\n      storage: 1Gi\n";
    let text = vec![claim; 10_000].join("---\n");
    let read = good(&text);
    assert_eq!(read.len(), 10_000);
    assert_eq!(read[9_999].line_of("spec.resources"), 9_999 * 12 + 9);
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,300}") {
        _ = read("x", text.as_bytes());
    }

    #[test]
    fn no_text_of_yamls_characters_panics(
        text in "([a-c]|[-\\[\\]{}:,&*!|>'\"#%@`? \n\t.0-9]|kind: List|items:\n- |apiVersion: v1\n){0,80}"
    ) {
        if let Ok(documents) = read("x", text.as_bytes()) {
            for document in documents {
                prop_assert!(document.line_of("metadata.name") >= document.line);
            }
        }
    }

    #[test]
    fn what_is_written_as_json_is_read_as_it_was(
        texts in proptest::collection::btree_map(".{0,12}", ".{0,12}", 0..6),
        number: i64,
    ) {
        let value = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" },
                            "stringData": texts, "spec": { "number": number } });
        // Characters that only JSON takes as they are.
        let json = serde_json::to_string(&value).unwrap().chars().flat_map(escaped).collect::<String>();
        let read = read("x", json.as_bytes()).unwrap();
        prop_assert_eq!(read[0].object.clone().into_value(), value);
    }
}

fn escaped(letter: char) -> Vec<char> {
    match letter {
        '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
            format!("\\u{:04x}", u32::from(letter)).chars().collect()
        }
        _ => vec![letter],
    }
}
