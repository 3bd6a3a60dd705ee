//! Envelopes and servers that mean harm.

use serde_json::json;
use strongroom_kms::{ErrorKind, open_within};
use strongroom_model::KmsRequest;
use strongroom_testkit::Server;

use super::logins::{json, ours};
use super::{BRISK, binding, request, token};

#[test]
fn an_envelope_sends_nothing_to_an_engine_that_nobody_has_named() {
    let server = Server::start(|_| json(200, &json!({"data": {"ttl": 0}})));
    let mut planted = ours(&server);
    planted.wrapped.mount = Some("cubbyhole".to_owned());
    planted.wrapped.key_id = "planted".to_owned();
    let named = Some("team/transit".to_owned());
    for mount in [None, named] {
        let request = KmsRequest { mount, ..request(&server.url("")) };
        let provider = open_within(&request, token("s.canary"), &BRISK).unwrap();
        for error in [
            provider.unwrap(&planted, &binding()).unwrap_err(),
            provider.verify(&planted).unwrap_err(),
            provider.rewrap(&planted).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
            assert!(error.hint().unwrap().contains("--kms-mount cubbyhole"), "{error:?}");
        }
    }
    assert!(server.requests().is_empty());
}
