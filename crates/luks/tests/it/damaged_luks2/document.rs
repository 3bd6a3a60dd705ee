//! The JSON area as text and as a document (specification, section 3).

use serde_json::json;
use strongroom_luks::Error;

use super::{accepts, drop_member, refused, refuses, volume};
use crate::volume::{BINARY, HDR_SIZE};

const AREA: usize = HDR_SIZE - BINARY;

#[test]
fn text_behind_the_nul_is_refused() {
    let mut volume = volume();
    let mut area = volume.json_text();
    area.resize(AREA, 0);
    area[AREA - 1] = b'x';
    volume.put_json_area(&area);
    refused(&volume, "bytes behind the text");
}

#[test]
fn an_area_without_a_nul_is_refused() {
    let mut volume = volume();
    let mut area = volume.json_text();
    area.resize(AREA, b' ');
    volume.put_json_area(&area);
    refused(&volume, "does not end with a NUL");
}

#[test]
fn text_that_does_not_begin_with_an_object_is_refused() {
    for text in ["", " {}", "\n{}", "[]", "null", "\"{}\"", "7"] {
        let mut volume = volume();
        volume.put_json(text.as_bytes());
        refused(&volume, "does not begin with an object");
    }
}

#[test]
fn text_that_is_not_json_is_refused() {
    for text in ["{", "{}}", "{\"a\":}", "{'a':1}", "{\"a\":1,}", "{\"a\":NaN}", "{\"a\":01}"] {
        let mut volume = volume();
        volume.put_json(text.as_bytes());
        refused(&volume, "not valid JSON");
    }
}

#[test]
fn text_that_is_not_utf_8_is_refused() {
    let mut volume = volume();
    volume.put_json(b"{\"a\":\"\xff\"}");
    refused(&volume, "not valid JSON");
}

#[test]
fn a_member_named_twice_is_refused_wherever_it_is() {
    for (once, twice) in [
        ("{\"keyslots\"", "{\"config\":{},\"keyslots\""),
        ("\"stripes\":4000", "\"stripes\":4000,\"stripes\":4000"),
        ("{\"0\":{\"type\":\"crypt\"", "{\"0\":{},\"0\":{\"type\":\"crypt\""),
    ] {
        let mut volume = volume();
        let text = String::from_utf8(volume.json_text()).unwrap();
        assert!(text.contains(once), "{text}");
        volume.put_json(text.replacen(once, twice, 1).as_bytes());
        refused(&volume, "names a member twice");
    }
}

#[test]
fn endless_nesting_is_refused() {
    let mut volume = volume();
    volume.put_json(&b"{\"a\":".repeat(AREA / 5 - 1));
    refused(&volume, "not valid JSON");
}

#[test]
fn nesting_deeper_than_other_tools_read_is_refused() {
    for (depth, fits) in [(29, true), (30, false), (60, false), (120, false)] {
        let nested = (0..depth).fold(json!(1), |inner, _| json!({ "a": inner }));
        let edit = |json: &mut serde_json::Value| json["config"]["x"] = nested;
        if fits {
            accepts(edit);
        } else {
            refuses("nested", edit);
        }
    }
}

#[test]
fn every_section_is_mandatory() {
    for section in ["keyslots", "tokens", "segments", "digests", "config"] {
        refuses(&format!("{section} is missing"), |json| drop_member(json, section));
    }
}

#[test]
fn every_section_is_an_object() {
    for section in ["keyslots", "tokens", "segments", "digests", "config"] {
        for wrong in [json!([]), json!(1), json!("x"), json!(null), json!(true)] {
            let reason = format!("{section} is not an object");
            refuses(&reason, |json| json[section] = wrong);
        }
    }
}

#[test]
fn every_numbered_object_is_an_object() {
    for (section, part) in [
        ("keyslots", "keyslot 1"),
        ("tokens", "token 1"),
        ("segments", "segment 1"),
        ("digests", "digest 1"),
    ] {
        refuses(&format!("{part}: is not an object"), |json| json[section]["1"] = json!("x"));
    }
}

#[test]
fn objects_are_named_by_plain_decimal_numbers() {
    for section in ["keyslots", "tokens", "segments", "digests"] {
        for name in ["", "x", "1x", "-1", "+1", " 1", "01", "1.0", "0x1", "18446744073709551616"] {
            refuses("is not a plain decimal number", |json| json[section][name] = json!({}));
        }
    }
}

#[test]
fn unknown_members_are_kept() {
    let volume = accepts(|json| {
        json["x-top"] = json!([1, "two"]);
        json["config"]["x-config"] = json!({ "a": null });
        json["keyslots"]["0"]["x-keyslot"] = json!(1.5);
    });
    let header = volume.luks2();
    let (header, _) = header.set_labels(Some("changed"), None).unwrap();
    for kept in ["\"x-top\":[1,\"two\"]", "\"x-config\":{\"a\":null}", "\"x-keyslot\":1.5"] {
        assert!(header.json().contains(kept), "{}", header.json());
    }
}

#[test]
fn metadata_that_do_not_leave_room_for_a_nul_are_refused() {
    let mut volume = volume();
    let json = volume.json();
    let padded = |len: usize| {
        let mut json = json.clone();
        json["x"] = json!("");
        let rest = len - json.to_string().len();
        json["x"] = json!("a".repeat(rest));
        json.to_string()
    };
    volume.put_json(padded(AREA - 1).as_bytes());
    assert!(volume.opens("old"));
    volume.put_json(padded(AREA).as_bytes());
    refused(&volume, "does not end with a NUL");
}

#[test]
fn a_change_that_does_not_fit_the_area_is_refused() {
    let mut volume = volume();
    let rest = AREA - volume.json_text().len();
    volume.edit(|json| json["x"] = json!("a".repeat(rest - 100)));
    assert!(matches!(volume.adding("new", &volume.keyslot()), Err(Error::Invalid { .. })));
}
