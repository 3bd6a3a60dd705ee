//! The envelopes in a header: which KMS opens the image.

use serde_json::{Value, json};
use strongroom::envelopes::{self, Held};
use strongroom_luks::Header;

use crate::command_error::CommandError;

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
                lines.push(("envelope", one_line(&problem)));
                found.push(json!({ "problem": problem }));
            }
        }
    }
    object["envelopes"] = Value::Array(found);
}

fn line(held: &Held) -> String {
    let (envelope, wrapped) = (&held.envelope, &held.envelope.wrapped);
    let mut text = format!("token {}: {} key {}", held.token, envelope.kind, wrapped.key_id);
    if let Some(version) = &wrapped.key_version {
        text.push_str(&format!(" version {version}"));
    }
    if let Some(endpoint) = &wrapped.endpoint {
        text.push_str(&format!(" at {endpoint}"));
    }
    let keyslots: Vec<String> = held.keyslots.iter().map(ToString::to_string).collect();
    text.push_str(&format!(", made {}, for keyslot {}", envelope.created, keyslots.join(", ")));
    one_line(&text)
}

fn value(held: &Held) -> Value {
    let (envelope, wrapped) = (&held.envelope, &held.envelope.wrapped);
    json!({
        "token": held.token,
        "keyslots": held.keyslots,
        "kind": envelope.kind.name(),
        "key_id": wrapped.key_id,
        "key_version": wrapped.key_version,
        "endpoint": wrapped.endpoint,
        "namespace": wrapped.namespace,
        "mount": wrapped.mount,
        "algorithm": wrapped.algorithm,
        "created": envelope.created,
    })
}

/// Returns text that is one line, whatever whoever wrote the header would like.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}
