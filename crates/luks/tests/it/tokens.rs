//! Tokens: imported, exported, assigned, removed.

use strongroom_luks::luks2::DigestKind;
use strongroom_luks::{Error, FormatOptions, Header, Version};

use crate::device::{cheap, passphrase, policy, rng};
use crate::volume::Volume;

/// A volume with two keyslots.
fn volume() -> Volume {
    let mut volume = Volume::small(Version::Luks2, 3);
    volume.add("1");
    volume
}

fn import(volume: &mut Volume, id: Option<u32>, text: &str) -> Result<u32, Error> {
    let (id, header, change) = volume.luks2().import_token(id, text)?;
    volume.apply(&change);
    assert_eq!(volume.luks2(), header);
    Ok(id)
}

#[track_caller]
fn refuses(text: &str, reason: &str) {
    let error = volume().luks2().import_token(None, text).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn a_token_of_any_type_is_kept_to_the_letter() {
    let text =
        r#"{"type":"x-tpm","keyslots":["1","0"],"blob":"/+=","deep":{"z":[1,-2,null,true,"é"]}}"#;
    let mut volume = volume();
    assert_eq!(import(&mut volume, None, text), Ok(0));
    assert_eq!(volume.luks2().export_token(0).unwrap(), text);
    volume.add("2");
    assert_eq!(volume.luks2().export_token(0).unwrap(), text);
}

#[test]
fn a_token_gets_the_first_free_number_or_the_one_asked_for() {
    let text = r#"{"type":"x","keyslots":[]}"#;
    let mut volume = volume();
    assert_eq!(import(&mut volume, Some(1), text), Ok(1));
    assert_eq!(import(&mut volume, None, text), Ok(0));
    assert_eq!(import(&mut volume, None, text), Ok(2));
    assert!(matches!(import(&mut volume, Some(1), text), Err(Error::Token { id: 1, .. })));
    assert_eq!(import(&mut volume, Some(31), text), Ok(31));
    assert!(import(&mut volume, Some(32), text).is_err());
}

#[test]
fn there_are_32_tokens_at_most() {
    let mut volume = volume();
    for id in 0..32 {
        assert_eq!(import(&mut volume, None, r#"{"type":"x","keyslots":[]}"#), Ok(id));
    }
    assert!(import(&mut volume, None, r#"{"type":"x","keyslots":[]}"#).is_err());
}

#[test]
fn text_that_is_no_token_is_refused() {
    refuses("", "not valid JSON");
    refuses("{", "not valid JSON");
    refuses(r#"{"type":"x","type":"y","keyslots":[]}"#, "names a member twice");
    refuses("[]", "is not an object");
    refuses(r#""x""#, "is not an object");
    refuses(r#"{"keyslots":[]}"#, "type is missing");
    refuses(r#"{"type":"x"}"#, "keyslots is missing");
    refuses(r#"{"type":1,"keyslots":[]}"#, "type is not a string");
    refuses(r#"{"type":"x","keyslots":[0]}"#, "no number");
    refuses(r#"{"type":"x","keyslots":["0","0"]}"#, "names 0 twice");
    refuses(r#"{"type":"x","keyslots":["7"]}"#, "names keyslot 7, which is missing");
}

#[test]
fn a_token_that_could_not_be_read_again_is_refused() {
    for depth in [40, 100, 120, 1000] {
        let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let text = format!(r#"{{"type":"x","keyslots":[],"a":{nested}}}"#);
        assert!(volume().luks2().import_token(None, &text).is_err());
    }
}

#[test]
fn a_token_that_does_not_fit_the_metadata_is_refused() {
    let text = format!(r#"{{"type":"x","keyslots":[],"a":"{}"}}"#, "a".repeat(12 << 10));
    refuses(&text, "do not fit");
}

#[test]
fn keyring_tokens_have_exactly_three_members() {
    let text = r#"{"type":"luks2-keyring","keyslots":["0"],"key_description":"my:key"}"#;
    assert_eq!(import(&mut volume(), None, text), Ok(0));
    for wrong in [
        r#"{"type":"luks2-keyring","keyslots":["0"]}"#,
        r#"{"type":"luks2-keyring","keyslots":["0"],"key_description":1}"#,
        r#"{"type":"luks2-keyring","keyslots":["0"],"key_description":"a","more":1}"#,
    ] {
        refuses(wrong, "luks2-keyring");
    }
}

#[test]
fn the_prefix_luks2_is_reserved() {
    refuses(r#"{"type":"luks2-x","keyslots":[]}"#, "reserved");
    refuses(r#"{"type":"luks2-","keyslots":[]}"#, "reserved");
}

#[test]
fn a_token_is_assigned_to_exactly_the_keyslots_named() {
    let mut volume = volume();
    import(&mut volume, None, r#"{"type":"x","keyslots":["0"],"a":1}"#).unwrap();
    let header = volume.luks2();
    let (assigned, _) = header.assign_token(0, &[1]).unwrap();
    assert_eq!(assigned.export_token(0).unwrap(), r#"{"type":"x","keyslots":["1"],"a":1}"#);
    let (assigned, _) = header.assign_token(0, &[]).unwrap();
    assert_eq!(assigned.metadata().tokens[&0].keyslots, [] as [u32; 0]);
    assert_eq!(header.assign_token(0, &[5]).unwrap_err(), Error::KeyslotUnused { id: 5 });
    assert!(header.assign_token(0, &[1, 1]).is_err());
    assert!(matches!(header.assign_token(3, &[0]), Err(Error::Token { id: 3, .. })));
}

#[test]
fn a_removed_token_is_gone_and_a_missing_one_is_named() {
    let mut volume = volume();
    import(&mut volume, Some(2), r#"{"type":"x","keyslots":["0"]}"#).unwrap();
    let (header, change) = volume.luks2().remove_token(2).unwrap();
    volume.apply(&change);
    assert_eq!(volume.luks2(), header);
    assert!(header.metadata().tokens.is_empty());
    assert!(matches!(header.remove_token(2), Err(Error::Token { id: 2, .. })));
    assert!(matches!(header.export_token(2), Err(Error::Token { id: 2, .. })));
}

#[test]
fn a_removed_keyslot_is_named_by_no_token() {
    let mut volume = volume();
    import(&mut volume, None, r#"{"type":"x","keyslots":["0","1"]}"#).unwrap();
    volume.remove(1);
    assert_eq!(volume.luks2().metadata().tokens[&0].keyslots, [0]);
}

#[test]
fn a_new_header_has_the_token_that_was_asked_for() {
    let text = r#"{"type":"x","keyslots":["0"],"more":{"b":1,"a":[2]}}"#;
    let options = |version| FormatOptions {
        kdf: cheap(version),
        token: Some(text.to_owned()),
        digest_iterations: 1000,
        ..FormatOptions::new(version)
    };
    let format = |options: &FormatOptions| {
        options
            .format(&passphrase("word"), &policy(), &mut rng(1))
            .map(|formatted| formatted.header)
    };
    let Ok(Header::Luks2(header)) = format(&options(Version::Luks2)) else { panic!("it is LUKS2") };
    assert_eq!(header.export_token(0).unwrap(), text);
    let digest = &header.metadata().digests[&0].kind;
    assert!(matches!(digest, DigestKind::Pbkdf2 { iterations: 1000, .. }), "{digest:?}");

    assert!(matches!(format(&options(Version::Luks1)), Err(Error::Unfit { .. })));
    let plain = FormatOptions { token: None, ..options(Version::Luks1) };
    assert!(matches!(format(&plain), Ok(Header::Luks1(_))));
    for wrong in ["", "[]", r#"{"type":"luks2-x"}"#, r#"{"type":"x","keyslots":["1"]}"#] {
        let options = FormatOptions { token: Some(wrong.to_owned()), ..options(Version::Luks2) };
        assert!(format(&options).is_err(), "{wrong}");
    }
    let weak = FormatOptions { digest_iterations: 999, ..options(Version::Luks2) };
    assert!(format(&weak).unwrap_err().to_string().contains("999"));
}

#[test]
fn a_uuid_that_was_settled_is_that_of_the_header() {
    let mut options =
        FormatOptions { kdf: cheap(Version::Luks2), ..FormatOptions::new(Version::Luks2) };
    let random = options.settle_uuid(&mut rng(1)).unwrap();
    let formatted = options.format(&passphrase("word"), &policy(), &mut rng(2)).unwrap();
    assert_eq!(formatted.header.uuid(), random);
    options.uuid = Some("0F3A4E1C-7D2B-4C6A-9E57-112233445566".to_owned());
    let spelt = options.settle_uuid(&mut rng(1)).unwrap();
    assert_eq!(spelt, "0f3a4e1c-7d2b-4c6a-9e57-112233445566");
    options.uuid = Some("nonsense".to_owned());
    assert!(options.settle_uuid(&mut rng(1)).is_err());
}
