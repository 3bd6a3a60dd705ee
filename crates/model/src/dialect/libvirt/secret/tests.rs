use proptest::prelude::*;

use super::*;

const UUID: &str = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f";

fn read(document: &str) -> Secret {
    Secret::read(document.as_bytes()).unwrap()
}

fn refusal(document: &str) -> String {
    Secret::read(document.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_secret_is_written_as_the_daemon_prints_it() {
    let secret = read(&format!(
        "<secret private='yes'><usage type='volume'><volume>/a &amp; b</volume></usage>\
         <description>Disk of a</description><uuid> {} </uuid></secret>",
        UUID.to_uppercase()
    ));
    assert!(secret.private && !secret.ephemeral);
    assert_eq!(
        secret.write(),
        format!(
            "<secret ephemeral='no' private='yes'>\n  <uuid>{UUID}</uuid>\n  <description>Disk of \
             a</description>\n  <usage type='volume'>\n    <volume>/a &amp; b</volume>\n  \
             </usage>\n</secret>\n"
        )
    );
    assert_eq!(read(&secret.write()), secret);
}

#[test]
fn everything_may_be_left_out() {
    assert_eq!(read("<secret/>"), Secret::default());
    assert_eq!(
        read("<secret><uuid/><description/><usage type='none'/></secret>"),
        Secret::default()
    );
    assert_eq!(read("<secret/>").write(), "<secret ephemeral='no' private='no'/>\n");
}

#[test]
fn flags_are_yes_or_no() {
    for flag in ["ephemeral", "private"] {
        for value in ["", "true", "YES", "1"] {
            let error = refusal(&format!("\n<secret {flag}='{value}'/>"));
            assert_eq!(error, format!("line 2: {flag} of <secret> is not one of yes, no"));
        }
    }
    let secret = read("<secret ephemeral='yes' private='no'/>");
    assert!(secret.ephemeral && !secret.private);
}

#[test]
fn every_usage_has_the_element_that_names_it() {
    for (kind, child) in [
        ("volume", "volume"),
        ("ceph", "name"),
        ("iscsi", "target"),
        ("tls", "name"),
        ("vtpm", "name"),
    ] {
        let usage = format!("<usage type='{kind}'><{child}>x</{child}></usage>");
        let secret = read(&format!("<secret>{usage}</secret>"));
        let read_usage = secret.usage.as_ref().unwrap();
        assert_eq!((read_usage.kind(), read_usage.id()), (kind, "x"));
        assert_eq!(read(&secret.write()), secret);
        for other in ["", "<other>x</other>", &format!("<{child}/>")] {
            let error =
                refusal(&format!("<secret>\n<usage type='{kind}'>{other}</usage></secret>"));
            let problem =
                format!("line 2: <usage type='{kind}'> has no <{child}>, or an empty one");
            assert_eq!(error, problem);
        }
    }
}

#[test]
fn what_is_not_possible_is_refused_without_a_value() {
    for (document, problem) in [
        ("<secret>\n<uuid>hunter2</uuid></secret>", "line 2: <uuid> is not 32 hexadecimal digits"),
        (
            "<secret><usage/></secret>",
            "line 1: <usage> has no type: it is one of volume, ceph, iscsi, tls, vtpm",
        ),
        (
            "<secret><usage type='Volume'/></secret>",
            "line 1: type of <usage> is not one of volume, ceph, iscsi, tls, vtpm",
        ),
        (
            "<secret><description>a<b/></description></secret>",
            "line 1: <b> stands in <description>, which holds text",
        ),
        ("<volume/>", "line 1: the document is 'volume': wanted is one that begins with <secret>"),
    ] {
        assert_eq!(refusal(document), problem);
    }
}

#[test]
fn unknown_things_are_kept_and_told_without_their_values() {
    let document = "<secret later='hunter2'>\n<value>hunter2</value></secret>";
    let (secret, notes) = Secret::read_with_notes(document.as_bytes()).unwrap();
    assert_eq!(notes.len(), 2);
    assert!(notes.iter().all(|note| !note.contains("hunter2")), "{notes:?}");
    assert_eq!(read(&secret.write()), secret);
    assert_eq!(secret.unknown.len(), 1);
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        (ephemeral, private) in any::<(bool, bool)>(),
        uuid in proptest::option::of(Just(UUID.to_owned())),
        description in proptest::option::of("[ -~\u{e4}\n]{1,20}"),
        usage in proptest::option::of((0..5_usize, "[ -~\u{e4}]{1,20}")),
    ) {
        let kinds = [
            SecretUsage::Volume, SecretUsage::Ceph, SecretUsage::Iscsi, SecretUsage::Tls, SecretUsage::Vtpm,
        ];
        let usage = usage.map(|(kind, id)| kinds[kind](id));
        let secret = Secret { ephemeral, private, uuid, description, usage, ..Secret::default() };
        prop_assert_eq!(Secret::read(secret.write().as_bytes()), Ok(secret));
    }
}
