//! What a probe says.

use std::time::{Duration, SystemTime};

use serde_json::json;
use strongroom_kms::{Expiry, open_within};
use strongroom_model::KmsRequest;

use super::{BRISK, Vault, request, token};

#[test]
fn says_what_the_narrowest_policy_allows_and_what_it_lacks() {
    let Some(vault) = Vault::start("transit") else { return };
    let probe = vault.provider().probe().unwrap();
    assert!(probe.server.unwrap().starts_with("version 2."));
    assert_eq!(probe.key_version, None);
    assert_eq!(probe.allowed, ["renew", "encrypt", "decrypt"]);
    let Expiry::At(end) = probe.credentials else { panic!("{:?}", probe.credentials) };
    let left = end.duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(23 * 3600) && left < Duration::from_secs(25 * 3600));
    let missing = "path \"transit/rewrap/kek\" { capabilities = [\"update\"] }";
    assert!(probe.findings.iter().any(|it| it.ends_with(missing)), "{:?}", probe.findings);
}

#[test]
fn tries_what_it_may_not_ask() {
    let Some(vault) = Vault::start("transit") else { return };
    let settings = json!({"no_default_policy": true, "ttl": "1h"});
    let text = vault.bao.token(&["pvc-enc"], &settings);
    let provider = open_within(&request(&vault.bao.url()), token(&text), &BRISK).unwrap();
    let probe = provider.probe().unwrap();
    assert_eq!(probe.allowed, ["encrypt", "decrypt"]);
    assert_eq!(probe.credentials, Expiry::Unknown);
    assert!(probe.findings.iter().any(|it| it.contains("lookup-self")), "{:?}", probe.findings);
}

#[test]
fn says_which_versions_there_are_where_it_may() {
    let Some(vault) = Vault::start("transit") else { return };
    let provider = vault.broad("kek");
    vault.bao.rotate_key("kek");
    vault.bao.rotate_key("kek");
    vault.bao.set_min_decryption_version("kek", 2);
    let probe = provider.probe().unwrap();
    assert_eq!(probe.key_version.as_deref(), Some("3"));
    assert_eq!(probe.oldest_key_version.as_deref(), Some("2"));
    assert_eq!(probe.allowed, ["renew", "encrypt", "decrypt", "rewrap"]);
    assert!(probe.findings.iter().any(|it| it.starts_with("what versions 1 to 1")));
}

#[test]
fn says_when_the_key_or_the_token_is_not_there_and_creates_nothing() {
    let Some(vault) = Vault::start("transit") else { return };
    let probe = vault.broad("kekk").probe().unwrap();
    assert!(probe.findings.iter().any(|it| it.contains("no such key")), "{:?}", probe.findings);
    assert!(!vault.bao.has_key("kekk"));
    let stiff = vault.bao.token(&["pvc-enc"], &json!({"ttl": "2h", "renewable": false}));
    let at = |text: &str, key_id| {
        let request = KmsRequest { key_id, ..request(&vault.bao.url()) };
        open_within(&request, token(text), &BRISK).unwrap().probe().unwrap().findings
    };
    let found = at(&stiff, None);
    assert!(found.iter().any(|it| it.ends_with("and cannot be renewed")), "{found:?}");
    assert!(found.iter().any(|it| it.contains("--kms-key-id")), "{found:?}");
    vault.bao.revoke(&vault.token);
    let found = at(&vault.token, Some("kek".to_owned()));
    assert!(found.iter().any(|it| it.contains("not valid (any more)")), "{found:?}");
}
