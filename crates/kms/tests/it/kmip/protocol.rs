//! What is agreed on, and the suite that every provider passes.

use strongroom_kms::conformance::{self, Harness};
use strongroom_kms::{Envelope, ErrorKind, KeyProvider};

use super::{Place, binding, data_key, round_trip, told};
use crate::envelope;

/// A key by its name, so that another one can take its place.
struct Named {
    place: Place,
    flips: usize,
}

impl Harness for Named {
    fn provider(&self) -> Box<dyn KeyProvider> {
        self.place.provider("kek")
    }

    fn rotate(&self) -> bool {
        let Place { server, client, id } = &self.place;
        server.replace_key(client, id, "kek");
        true
    }

    fn flips(&self) -> usize {
        self.flips
    }
}

#[test]
fn keeps_the_contract_with_gcm() {
    let Some(place) = Place::new("keeps_the_contract_with_gcm") else { return };
    let envelope = place.provider("kek").wrap(&data_key(), &binding()).unwrap();
    assert_eq!(envelope.wrapped.algorithm, "aes-gcm");
    conformance::run(&Named { place, flips: usize::MAX });
}

#[test]
fn keeps_the_contract_with_cbc() {
    let Some(place) = Place::speaking("keeps_the_contract_with_cbc", &[(1, 3), (1, 2)]) else {
        return;
    };
    let envelope = place.provider("kek").wrap(&data_key(), &binding()).unwrap();
    assert_eq!(envelope.wrapped.algorithm, "aes-cbc-pkcs5");
    conformance::run(&Named { place, flips: usize::MAX });
}

#[test]
fn speaks_every_version_that_the_server_does() {
    for (version, algorithm) in [
        ((1, 2), "aes-cbc-pkcs5"),
        ((1, 3), "aes-cbc-pkcs5"),
        ((1, 4), "aes-gcm"),
        ((2, 0), "aes-gcm"),
    ] {
        // The server's own client, which makes the key, speaks 1.2.
        let versions = [version, (1, 2)];
        let versions = if version == (1, 2) { &versions[1..] } else { &versions[..] };
        let test = "speaks_every_version_that_the_server_does";
        let Some(place) = Place::speaking(test, versions) else { return };
        let provider = place.provider("kek");
        let envelope = provider.wrap(&data_key(), &binding()).unwrap();
        assert_eq!(envelope.wrapped.algorithm, algorithm, "KMIP {version:?}");
        assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key());
        let server = provider.probe().unwrap().server.unwrap();
        let spoken = format!("KMIP {}.{} of", version.0, version.1);
        assert!(server.starts_with("PyKMIP ") && server.contains(&spoken), "{server}");
    }
}

#[test]
fn an_envelope_of_one_version_opens_in_another() {
    let test = "an_envelope_of_one_version_opens_in_another";
    let Some(mut place) = Place::speaking(test, &[(1, 2)]) else { return };
    let old = place.provider("kek").wrap(&data_key(), &binding()).unwrap();
    place.server.speak(&[(2, 0), (1, 4), (1, 2)]);
    let provider = place.provider("kek");
    assert_eq!(provider.unwrap(&old, &binding()).unwrap(), data_key());
    let new = provider.rewrap(&old).unwrap();
    assert_eq!(new.wrapped.algorithm, "aes-gcm");
    place.server.speak(&[(1, 4), (1, 2)]);
    // The same provider finds out that 2.0 is gone.
    assert_eq!(provider.unwrap(&new, &binding()).unwrap(), data_key());
    place.server.speak(&[(1, 3), (1, 2)]);
    let error = provider.unwrap(&new, &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{}", told(&error));
    assert!(told(&error).contains("AES-GCM needs KMIP 1.4 or later"), "{}", told(&error));
}

#[test]
fn refuses_a_server_that_is_too_old() {
    let test = "refuses_a_server_that_is_too_old";
    let Some(mut place) = Place::new(test) else { return };
    place.server.speak(&[(1, 1), (1, 0)]);
    let error = round_trip(&*place.provider("kek")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(told(&error).contains("the server speaks "), "{}", told(&error));
}

#[test]
fn an_envelope_says_what_it_takes_to_open_it() {
    let test = "an_envelope_says_what_it_takes_to_open_it";
    let Some(place) = Place::new(test) else { return };
    let provider = place.provider("kek");
    let envelope = provider.wrap(&data_key(), &binding()).unwrap();
    let wrapped = &envelope.wrapped;
    assert_eq!(wrapped.key_id, place.id, "names may go to other keys");
    assert_eq!(wrapped.key_version, None);
    assert_eq!(wrapped.endpoint.as_deref(), Some(place.server.endpoint().as_str()));
    assert_eq!(wrapped.tag.as_ref().map(Vec::len), Some(16));
    // This server makes IVs of 16 bytes, for GCM as well.
    assert_eq!(wrapped.iv.as_ref().map(Vec::len), Some(16));
    let read = Envelope::parse(envelope.to_json().as_bytes(), "test").unwrap();
    let request = strongroom_model::KmsRequest { key_id: None, ..place.request("") };
    let anybody = strongroom_kms::open(&request, place.credentials()).unwrap();
    assert_eq!(anybody.unwrap(&read, &binding()).unwrap(), data_key());
    let error = anybody.wrap(&data_key(), &binding()).unwrap_err();
    assert!(told(&error).contains("--kms-key-id"), "{}", told(&error));
}

#[test]
fn a_server_opens_the_envelopes_of_earlier_releases() {
    let Some(place) = Place::new("a_server_opens_the_envelopes_of_earlier_releases") else {
        return;
    };
    let id = place.server.import_key(&place.client, &envelope::KEK);
    let provider = place.provider(&id);
    for name in ["kmip-gcm", "kmip-cbc"] {
        let mut fixture = envelope::fixture(name);
        // Identifiers are up to the server.
        fixture.wrapped.key_id.clone_from(&id);
        let opened = provider.unwrap(&fixture, &envelope::binding()).unwrap();
        assert_eq!(opened, envelope::data_key(), "{name}");
        let rewrapped = provider.rewrap(&fixture).unwrap();
        assert_eq!(rewrapped.wrapped.algorithm, "aes-gcm", "{name}");
        assert_eq!(rewrapped.created, fixture.created, "{name}");
    }
}
