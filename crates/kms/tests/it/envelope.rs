//! Envelopes that earlier releases have written stay readable for ever.
//!
//! Never change a file of `tests/fixtures`: a new version of the format adds its own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use strongroom_crypto::{DataKey, Passphrase};
use strongroom_kms::{Binding, Credentials, Envelope, open};
use strongroom_model::{KmsKind, KmsRequest};

/// The key under which the fixtures of servers and tokens are wrapped. Where a server takes it, it
/// opens them.
pub(crate) const KEK: [u8; 32] = *b"fixture kek, not used elsewhere.";

/// What the fixtures hold.
pub(crate) fn data_key() -> DataKey {
    DataKey::new(b"fixture-data-key-0123456789-abcdefghijklmno".to_vec())
}

/// What the fixtures belong to.
pub(crate) fn binding() -> Binding {
    Binding::image("7c9e6679-7425-40de-944b-e07fc1f90ae7")
}

/// Returns the fixture of a kind, in version 1.
pub(crate) fn fixture(name: &str) -> Envelope {
    let json = std::fs::read(path(&format!("envelope-v1-{name}.json"))).unwrap();
    Envelope::parse(&json, name).unwrap()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

#[test]
fn every_fixture_is_read_and_written_the_same() {
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir(path("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let json = std::fs::read_to_string(&path).unwrap();
        let envelope = Envelope::parse(json.as_bytes(), "fixture").unwrap();
        assert_eq!(envelope.to_json(), json.trim_end(), "{}", path.display());
        assert!(envelope.fingerprint.matches(&data_key()), "{}", path.display());
        kinds.push(envelope.kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, KmsKind::ALL, "a kind has no fixture");
}

#[test]
fn a_local_key_opens_the_envelopes_of_earlier_releases() {
    // Git keeps no modes.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kek");
    std::fs::copy(path("kek-v1"), &file).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let request = KmsRequest { kek_file: Some(file), ..KmsRequest::new(KmsKind::Local) };
    let provider = open(&request, Credentials::default()).unwrap();
    let envelope = fixture("local");
    assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key());
    let rewrapped = provider.rewrap(&envelope).unwrap();
    assert_eq!(rewrapped.created, envelope.created);
    assert_eq!(provider.unwrap(&rewrapped, &binding()).unwrap(), data_key());
}

#[test]
fn a_passphrase_opens_the_envelopes_of_earlier_releases() {
    let passphrase = Some(Passphrase::new(b"fixture passphrase\n".to_vec()));
    let credentials = Credentials { passphrase, ..Credentials::default() };
    let provider = open(&KmsRequest::new(KmsKind::Passphrase), credentials).unwrap();
    assert_eq!(provider.unwrap(&fixture("passphrase"), &binding()).unwrap(), data_key());
}
