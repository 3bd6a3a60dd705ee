//! Keys in every state, by identifier and by name.

use strongroom_kms::{ErrorKind, KeyProvider};

use super::{Place, binding, credentials, data_key, round_trip, told};

/// Checks why a provider neither wraps nor unwraps.
#[track_caller]
fn fails(provider: &dyn KeyProvider, kind: ErrorKind, words: &[&str]) {
    let error = round_trip(provider).unwrap_err();
    let told = told(&error);
    assert_eq!(error.kind(), kind, "{told}");
    for words in words {
        assert!(told.contains(words), "{words:?} is not in: {told}");
    }
}

#[test]
fn a_key_is_found_by_its_identifier_and_its_name() {
    let test = "a_key_is_found_by_its_identifier_and_its_name";
    let Some(place) = Place::new(test) else { return };
    for key in [place.id.as_str(), "kek"] {
        let provider = place.provider(key);
        round_trip(&*provider).unwrap();
        round_trip(&*provider).unwrap();
        let envelope = provider.wrap(&data_key(), &binding()).unwrap();
        assert_eq!(envelope.wrapped.key_id, place.id);
    }
}

#[test]
fn a_name_of_several_keys_is_refused() {
    let Some(place) = Place::new("a_name_of_several_keys_is_refused") else { return };
    let second = place.server.create_key(&place.client, "kek");
    let both = [place.id.as_str(), second.as_str(), "several keys", "--kms-key-id"];
    fails(&*place.provider("kek"), ErrorKind::Misconfigured, &both);
    round_trip(&*place.provider(&second)).unwrap();
    let finding = place.provider("kek").probe().unwrap().findings.concat();
    assert!(finding.contains("several keys"), "{finding}");
}

#[test]
fn a_key_that_does_not_exist_is_not_found() {
    let Some(place) = Place::new("a_key_that_does_not_exist_is_not_found") else { return };
    let provider = place.provider("no-such-key");
    fails(&*provider, ErrorKind::NotFound, &["no-such-key", "--kms-key-id"]);
    let probe = provider.probe().unwrap();
    assert!(probe.allowed.is_empty(), "{probe:?}");
    assert!(probe.findings.concat().contains("no key no-such-key"), "{probe:?}");
}

#[test]
fn a_key_that_is_not_active_yet_has_to_be_activated() {
    let test = "a_key_that_is_not_active_yet_has_to_be_activated";
    let Some(place) = Place::new(test) else { return };
    let id = place.server.create_inactive_key(&place.client, "young");
    let provider = place.provider("young");
    fails(&*provider, ErrorKind::Denied, &["Pre-Active", "activate the key"]);
    let findings = provider.probe().unwrap().findings.concat();
    assert!(findings.contains("is Pre-Active: let the KMS activate it"), "{findings}");
    place.server.activate(&place.client, &id);
    round_trip(&*provider).unwrap();
}

#[test]
fn a_revoked_key_and_a_destroyed_key_open_nothing() {
    let test = "a_revoked_key_and_a_destroyed_key_open_nothing";
    let Some(place) = Place::new(test) else { return };
    let provider = place.provider("kek");
    let envelope = provider.wrap(&data_key(), &binding()).unwrap();
    place.server.revoke(&place.client, &place.id);
    fails(&*provider, ErrorKind::Denied, &["Deactivated", "--kms-key-id"]);
    let error = provider.unwrap(&envelope, &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", told(&error));
    assert!(told(&error).contains("Deactivated"), "{}", told(&error));
    assert!(provider.probe().unwrap().allowed.is_empty());

    place.server.destroy(&place.client, &place.id);
    let error = provider.unwrap(&envelope, &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", told(&error));
    fails(&*provider, ErrorKind::NotFound, &["no key has that name any more"]);
}

#[test]
fn the_key_of_another_client_is_denied() {
    let Some(mut place) = Place::new("the_key_of_another_client_is_denied") else { return };
    let envelope = place.provider("kek").wrap(&data_key(), &binding()).unwrap();
    place.client = place.server.client("somebody-else");
    let provider = place.provider(&place.id);
    fails(&*provider, ErrorKind::Denied, &["does not let this client", "--kms-cert-file"]);
    let error = provider.unwrap(&envelope, &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{}", told(&error));
    // Not even that there is such a name is told.
    fails(&*place.provider("kek"), ErrorKind::NotFound, &["--kms-key-id"]);
}

#[test]
fn a_client_without_the_usage_for_clients_is_told_so() {
    let test = "a_client_without_the_usage_for_clients_is_told_so";
    let Some(place) = Place::new(test) else { return };
    let (certificate, key) = place.server.authority().server_pem("tester");
    let client = strongroom_testkit::KmipClient { certificate, key };
    let credentials = credentials(&place.server.authority().pem(), &client);
    let provider = strongroom_kms::open(&place.request("kek"), credentials).unwrap();
    fails(&*provider, ErrorKind::Denied, &["does not know the client", "extended key usage"]);
}

#[test]
fn rewrapping_moves_on_to_the_key_that_has_the_name() {
    let test = "rewrapping_moves_on_to_the_key_that_has_the_name";
    let Some(place) = Place::new(test) else { return };
    let provider = place.provider("kek");
    let old = provider.wrap(&data_key(), &binding()).unwrap();
    let newer = place.server.replace_key(&place.client, &place.id, "kek");
    assert_eq!(provider.unwrap(&old, &binding()).unwrap(), data_key());
    let new = provider.rewrap(&old).unwrap();
    assert_eq!((old.wrapped.key_id.as_str(), new.wrapped.key_id.as_str()), (&*place.id, &*newer));
    assert_eq!(provider.unwrap(&new, &binding()).unwrap(), data_key());
    assert_eq!(place.provider(&newer).unwrap(&new, &binding()).unwrap(), data_key());
}

#[test]
fn the_probe_says_what_works_and_for_how_long() {
    use std::time::{Duration, SystemTime};
    let test = "the_probe_says_what_works_and_for_how_long";
    let Some(mut place) = Place::new(test) else { return };
    let probe = place.provider("kek").probe().unwrap();
    assert_eq!(probe.allowed, ["encrypt", "decrypt", "rewrap"]);
    assert_eq!(probe.findings, [""; 0]);
    assert_eq!(probe.key_version, None);
    let server = probe.server.unwrap();
    assert!(server.ends_with("KMIP 2.0 of 2.0, 1.4, 1.3, 1.2, 1.1, 1.0"), "{server}");

    let end = SystemTime::now() + Duration::from_secs(3 * 24 * 60 * 60);
    let (certificate, key) = place.server.authority().client_pem_until("tester", end);
    place.client = strongroom_testkit::KmipClient { certificate, key };
    let probe = place.provider("kek").probe().unwrap();
    let strongroom_kms::Expiry::At(told) = probe.credentials else { panic!("{probe:?}") };
    assert!(end.duration_since(told).unwrap() < Duration::from_secs(1));
    assert_eq!(probe.findings.len(), 1, "{probe:?}");
    assert!(probe.findings[0].starts_with("the client's certificate expires at "), "{probe:?}");
    assert!(probe.findings[0].contains(", in 2 days: "), "{probe:?}");
}

#[test]
fn nothing_shows_the_data_key_or_the_key_that_wraps_it() {
    let test = "nothing_shows_the_data_key_or_the_key_that_wraps_it";
    let Some(place) = Place::new(test) else { return };
    let provider = place.provider("kek");
    let envelope = provider.wrap(&data_key(), &binding()).unwrap();
    let kek = place.server.key_bytes(&place.client, &place.id);
    assert_eq!(kek.len(), 32);
    let hex: String = kek.iter().map(|byte| format!("{byte:02x}")).collect();
    let errors = [
        provider.unwrap(&envelope, &strongroom_kms::Binding::volume("pvc-2")).unwrap_err(),
        place
            .provider("other")
            .unwrap(
                &{
                    let mut altered = envelope.clone();
                    altered.wrapped.tag = Some(vec![0; 16]);
                    altered
                },
                &binding(),
            )
            .unwrap_err(),
    ];
    let mut shown = format!("{provider:?} {envelope:?} {:?}", provider.probe());
    for error in &errors {
        shown.push_str(&told(error));
        shown.push_str(&format!("{error:?}"));
    }
    assert!(!shown.contains("canary") && !shown.contains(&hex), "{shown}");
    assert!(!shown.contains(&place.client.key[40..80]), "{shown}");
}
