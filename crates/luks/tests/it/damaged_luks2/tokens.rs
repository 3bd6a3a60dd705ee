//! Tokens (specification, section 3.6).

use serde_json::{Value, json};

use super::{accepts, drop_member, refuses};

fn token() -> Value {
    json!({ "type": "x-other", "keyslots": ["0"], "more": { "kept": [1, null] } })
}

#[test]
fn every_member_is_mandatory() {
    for member in ["type", "keyslots"] {
        refuses(&format!("token 0: {member} is missing"), |json| {
            json["tokens"]["0"] = token();
            drop_member(&mut json["tokens"]["0"], member);
        });
    }
}

#[test]
fn members_of_the_wrong_type_are_refused() {
    for (member, wrong) in [
        ("type", json!(1)),
        ("keyslots", json!("0")),
        ("keyslots", json!([0])),
        ("keyslots", json!(["a"])),
    ] {
        refuses("token 0", |json| {
            json["tokens"]["0"] = token();
            json["tokens"]["0"][member] = wrong;
        });
    }
}

#[test]
fn a_token_that_names_a_missing_keyslot_is_refused() {
    refuses("token 0: names keyslot 1, which is missing", |json| {
        json["tokens"]["0"] = token();
        json["tokens"]["0"]["keyslots"] = json!(["1"]);
    });
}

#[test]
fn the_largest_token_is_31() {
    accepts(|json| json["tokens"]["31"] = token());
    refuses("token 32", |json| json["tokens"]["32"] = token());
}

#[test]
fn an_unknown_token_is_kept_verbatim() {
    let volume = accepts(|json| json["tokens"]["3"] = token());
    assert_eq!(volume.luks2().export_token(3).unwrap(), token().to_string());
}
