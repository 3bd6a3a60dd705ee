//! Envelopes of wrapped data keys: bounded, never a panic; what was read is written and read the
//! same, and shown without moving a cursor.

#![no_main]

use std::error::Error;

use libfuzzer_sys::fuzz_target;
use strongroom_crypto::DataKey;
use strongroom_kms::{Envelope, ErrorKind};

fuzz_target!(|json: &[u8]| {
    let envelope = match Envelope::parse(json, "fuzz") {
        Ok(envelope) => envelope,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            let text = format!("{error} {cause}");
            assert!(text.len() < 4096 && !text.contains(char::is_control), "{text:?}");
            return;
        }
    };
    let written = envelope.to_json();
    assert!(!written.contains(char::is_control), "{written:?}");
    let again = Envelope::parse(written.as_bytes(), "fuzz").expect("it is what was read");
    assert_eq!(again, envelope);
    assert_eq!(again.to_json(), written);
    assert!(!envelope.fingerprint.matches(&DataKey::new(json.to_vec())), "nobody guesses a key");
});
