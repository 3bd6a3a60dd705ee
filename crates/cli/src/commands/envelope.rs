//! Envelopes in words and as JSON. There is nothing secret in them.

use serde_json::{Value, json};
use strongroom_kms::Envelope;

/// Returns a line on the key that has wrapped it.
pub(crate) fn line(envelope: &Envelope) -> String {
    let wrapped = &envelope.wrapped;
    let mut text = format!("{} key {}", envelope.kind, wrapped.key_id);
    if let Some(version) = &wrapped.key_version {
        text.push_str(&format!(" version {version}"));
    }
    if let Some(endpoint) = &wrapped.endpoint {
        text.push_str(&format!(" at {endpoint}"));
    }
    text.push_str(&format!(", made {}", envelope.created));
    // Whoever wrote it may have liked more than one line.
    text.replace('\n', "\\n")
}

/// Returns what scripts want to know.
pub(crate) fn value(envelope: &Envelope) -> Value {
    let wrapped = &envelope.wrapped;
    json!({
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
