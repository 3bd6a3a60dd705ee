//! Who is who.

use std::time::{Duration, SystemTime};

use strongroom_kms::{Credentials, Error, ErrorKind, open};
use strongroom_model::KmsRequest;
use strongroom_testkit::{Authority, KmipClient};

use super::{Place, credentials, round_trip, told};

/// Returns why it fails with these credentials.
fn refused(request: &KmsRequest, credentials: Credentials) -> Error {
    let error = round_trip(&*open(request, credentials).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{}", told(&error));
    error
}

#[test]
fn a_server_that_no_trusted_authority_vouches_for_is_refused() {
    let test = "a_server_that_no_trusted_authority_vouches_for_is_refused";
    let Some(place) = Place::new(test) else { return };
    let other = Authority::new();
    let error = refused(&place.request("kek"), credentials(&other.pem(), &place.client));
    let told = told(&error);
    assert!(told.contains("no trusted CA vouches for the server's certificate"), "{told}");
    assert!(told.contains("--kms-ca-file"), "{told}");
}

#[test]
fn the_name_of_the_server_has_to_be_right() {
    let Some(place) = Place::new("the_name_of_the_server_has_to_be_right") else { return };
    let mut request = place.request("kek");
    request.endpoints = vec![format!("localhost:{}", place.server.port())];
    let error = refused(&request, place.credentials());
    assert!(told(&error).contains("for another name"), "{}", told(&error));
    assert!(told(&error).contains("--kms-server-name"), "{}", told(&error));
    request.server_name = Some("127.0.0.1".to_owned());
    round_trip(&*open(&request, place.credentials()).unwrap()).unwrap();
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let Some(place) = Place::new("a_client_of_another_authority_is_refused") else { return };
    let (certificate, key) = Authority::new().client_pem("tester");
    let client = KmipClient { certificate, key };
    let authority = place.server.authority().pem();
    let error = refused(&place.request("kek"), credentials(&authority, &client));
    assert!(told(&error).contains("--kms-cert-file"), "{}", told(&error));
}

#[test]
fn a_client_whose_certificate_has_expired_is_told_when() {
    let test = "a_client_whose_certificate_has_expired_is_told_when";
    let Some(place) = Place::new(test) else { return };
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let (certificate, key) = place.server.authority().client_pem_until("tester", end);
    let client = KmipClient { certificate, key };
    let authority = place.server.authority().pem();
    let error = refused(&place.request("kek"), credentials(&authority, &client));
    let told = told(&error);
    assert!(told.contains("certificate expired at 2020-09-13T12:26:40Z"), "{told}");
    assert!(told.contains("--kms-cert-file"), "{told}");
}

#[test]
fn what_is_missing_is_named_with_its_flag() {
    let place = KmsRequest {
        endpoints: vec!["127.0.0.1:1".to_owned()],
        ..KmsRequest::new(strongroom_model::KmsKind::Kmip)
    };
    let authority = Authority::new();
    let (certificate, key) = authority.client_pem("tester");
    let all = || {
        credentials(
            &authority.pem(),
            &KmipClient { certificate: certificate.clone(), key: key.clone() },
        )
    };
    let hint = |request: &KmsRequest, credentials| {
        let error = open(request, credentials).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        error.hint().unwrap().to_owned()
    };
    let nowhere = KmsRequest { endpoints: Vec::new(), ..place.clone() };
    assert!(hint(&nowhere, all()).contains("--kms-endpoint"));
    assert!(hint(&place, Credentials { authorities: None, ..all() }).contains("--kms-ca-file"));
    assert!(hint(&place, Credentials { certificate: None, ..all() }).contains("--kms-cert-file"));
    assert!(hint(&place, Credentials { private_key: None, ..all() }).contains("--kms-key-file"));
    let unnamed = KmsRequest { server_name: Some("no name".to_owned()), ..place.clone() };
    assert!(hint(&unnamed, all()).contains("--kms-server-name"));
    let url = KmsRequest { endpoints: vec!["https://kms".to_owned()], ..place.clone() };
    assert!(hint(&url, all()).contains("--kms-endpoint"));
    let unkeyed = KmsRequest { key_id: Some(String::new()), ..place.clone() };
    assert!(hint(&unkeyed, all()).contains("--kms-key-id"));
    assert!(open(&place, all()).is_ok());
}
