//! The envelopes of an image: which KMS opens it.

use serde_json::{Value, json};
use strongroom::envelopes::{self, Held};
use strongroom_kms::Envelope;
use strongroom_luks::Header;

use crate::command_error::CommandError;
use crate::commands::envelope;

/// Adds what the envelopes in a header say to lines of text and to an object. No KMS is asked.
pub(super) fn describe(
    header: &Header,
    label: &str,
    lines: &mut Vec<(&'static str, String)>,
    object: &mut Value,
) {
    let Header::Luks2(header) = header else { return };
    let mut found = Vec::new();
    for held in envelopes::each(header, label) {
        match held {
            Ok(held) => {
                lines.push(("envelope", line(&held)));
                found.push(value(&held));
            }
            Err(error) => {
                let problem = CommandError::from(error).text();
                lines.push(("envelope", problem.replace('\n', "\\n")));
                found.push(json!({ "problem": problem }));
            }
        }
    }
    object["envelopes"] = Value::Array(found);
}

/// Adds what an envelope in a file of its own says.
pub(super) fn describe_file(
    envelope: &Envelope,
    lines: &mut Vec<(&'static str, String)>,
    object: &mut Value,
) {
    lines.push(("envelope", envelope::line(envelope)));
    object["envelope_file"] = envelope::value(envelope);
}

fn line(held: &Held) -> String {
    let keyslots: Vec<String> = held.keyslots.iter().map(ToString::to_string).collect();
    let (envelope, keyslots) = (envelope::line(&held.envelope), keyslots.join(", "));
    format!("token {}: {envelope}, for keyslot {keyslots}", held.token)
}

fn value(held: &Held) -> Value {
    let mut value = envelope::value(&held.envelope);
    value["token"] = json!(held.token);
    value["keyslots"] = json!(held.keyslots);
    value
}
