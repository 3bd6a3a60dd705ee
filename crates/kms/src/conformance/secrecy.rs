//! That nothing which may be seen holds anything of a data key.

use std::error::Error as StdError;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use strongroom_crypto::DataKey;

use super::{Suite, binding, data_key};
use crate::{Envelope, Error, new_data_key};

pub(super) fn check(suite: &Suite<'_>) {
    let random = data_key(64);
    let ours = new_data_key(&mut rand_core::UnwrapErr(getrandom::SysRng));
    for key in [random, ours] {
        let envelope = suite.wrap(&key, &binding());
        check_envelope(&envelope, &key);
        check_envelope(&suite.rewrap(&envelope), &key);
        suite.gives(&envelope, &binding(), &key);
        let provider = format!("{:?} {:#?}", suite.provider, suite.provider);
        assert!(!shows(&provider, &key), "the provider's Debug shows the data key");
        let probe = format!("{:?}", suite.provider.probe());
        assert!(!shows(&probe, &key), "the probe shows the data key");
    }
}

/// Checks that an error can be shown to anybody, on any terminal.
pub(super) fn check_error(error: &Error, key: &DataKey) {
    let text = error.to_string();
    assert!(text.len() <= MAX_TEXT, "an error has {} bytes: {:.200}", text.len(), text);
    assert!(!text.contains(unprintable), "an error has control characters: {text:?}");
    let hint = error.hint().unwrap_or_default();
    assert!(hint.len() <= MAX_TEXT && !hint.contains(unprintable), "a bad hint: {hint:.200?}");
    let mut texts = format!("{text} {hint} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        let repeated = !cause_text.is_empty() && text.contains(&cause_text);
        assert!(!repeated, "an error repeats its source: {text}");
        texts.push_str(&cause_text);
        source = cause.source();
    }
    assert!(!shows(&texts, key), "an error shows the data key");
}

fn check_envelope(envelope: &Envelope, key: &DataKey) {
    let json = envelope.to_json();
    assert!(!shows(&json, key), "the envelope shows the data key");
    assert!(!shows(&format!("{envelope:?}"), key), "the envelope's Debug shows the data key");
    let texts = json.split('"').flat_map(|text| text.split(':'));
    for bytes in texts.filter_map(|text| STANDARD.decode(text).ok()) {
        let window = key.expose_bytes().windows(WINDOW);
        let shown = window.into_iter().any(|part| contains(&bytes, part));
        assert!(!shown, "a part of the envelope holds the data key");
    }
}

/// Returns whether a text holds a piece of a key in any of the usual spellings.
fn shows(text: &str, key: &DataKey) -> bool {
    let text = text.as_bytes();
    let lower = text.to_ascii_lowercase();
    key.expose_bytes().windows(WINDOW).any(|part| {
        let decimal = format!("{part:?}");
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        contains(text, part)
            || contains(text, decimal.trim_matches(['[', ']']).as_bytes())
            || contains(&lower, hex.as_bytes())
            || contains(text, STANDARD.encode(part).as_bytes())
            || contains(text, URL_SAFE.encode(part).as_bytes())
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn unprintable(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes in a row that are no accident. Nine of them are twelve letters of base64, without
/// padding.
const WINDOW: usize = 9;

/// The longest text that an error may have, in bytes.
const MAX_TEXT: usize = 2048;
