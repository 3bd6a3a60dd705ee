//! What is known of volumes, as words and as data.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use strongroom::volumes::{
    Attachment, AttachmentState, Backend, Condition, FormatState, Show, Snapshot, Volume,
    VolumeEncryption,
};
use strongroom_attach::nbd::TlsFiles;
use strongroom_model::KmsRequest;

use super::tuning;
use crate::times::rfc3339;
use crate::ui;

/// Returns the lines of a page on a volume.
pub(super) fn lines(volume: &Volume) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("volume", volume.id.to_string()),
        ("size", ui::bytes(volume.size)),
        ("encryption", encryption(&volume.encryption)),
    ];
    if let VolumeEncryption::Kms(request) = &volume.encryption {
        lines.extend(kms_lines(request));
    }
    lines.push(("ledger", format(&volume.format)));
    let file_system = volume.file_system.map_or("none known".to_owned(), |found| found.to_string());
    lines.push(("file system", file_system));
    lines.push(("tuning", tuning::words(volume.tuning)));
    if let Some(source) = &volume.source {
        lines.push(("made from", source.clone()));
    }
    for (key, value) in &volume.parameters {
        lines.push(("parameter", format!("{key}: {value}")));
    }
    lines.push(("made", moment(volume.created)));
    if volume.condition != Condition::Ready {
        lines.push(("condition", condition(volume.condition).to_owned()));
    }
    lines
}

fn kms_lines(request: &KmsRequest) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&str, String)> =
        request.endpoints.iter().map(|endpoint| ("KMS endpoint", endpoint.clone())).collect();
    if let Some(file) = &request.kek_file {
        lines.push(("KMS key file", file.display().to_string()));
    }
    lines
}

/// Returns what scripts want to know of a volume.
pub(super) fn value(volume: &Volume) -> Value {
    let kms = match &volume.encryption {
        VolumeEncryption::Kms(request) => json!({
            "kind": request.kind.name(),
            "endpoints": request.endpoints,
            "key_id": request.key_id,
            "kek_file": request.kek_file,
            "namespace": request.namespace,
            "mount": request.mount,
        }),
        _ => Value::Null,
    };
    json!({
        "volume": volume.id,
        "size": volume.size,
        "encryption": kind(&volume.encryption),
        "kms": kms,
        "ledger": volume.format,
        "file_system": volume.file_system,
        "tuning": volume.tuning,
        "source": volume.source,
        "parameters": volume.parameters,
        "created": moment(volume.created),
        "condition": volume.condition,
    })
}

/// Returns what scripts want to know of a snapshot.
pub(super) fn snapshot_value(snapshot: &Snapshot) -> Value {
    json!({
        "snapshot": snapshot.id,
        "volume": snapshot.of.id,
        "size": snapshot.of.size,
        "encryption": kind(&snapshot.of.encryption),
        "created": moment(snapshot.created),
        "condition": snapshot.condition,
    })
}

/// Returns what scripts want to know of how a volume appears here.
pub(super) fn attachment_value(attachment: &Attachment) -> Value {
    let (mount, options, nbd) = match &attachment.show {
        Show::Mount { target, options, .. } => (Some(target), Some(options), None),
        Show::Nbd { address, tls } => (None, None, Some(nbd_uri(address, tls.as_ref()))),
        Show::Device => (None, None, None),
    };
    json!({
        "volume": attachment.volume,
        "backend": attachment.backend,
        "device": attachment.device,
        "mount": mount,
        "options": options,
        "nbd": nbd,
        "read_only": attachment.read_only,
        "state": attachment.state,
        "published": attachment.published,
    })
}

/// Returns how a volume appears, for people.
pub(super) fn attachment_words(attachment: &Attachment) -> String {
    let by = match attachment.backend {
        Backend::Dm => ", by dm-crypt",
        Backend::Fuse => ", by FUSE",
        Backend::Nbd | Backend::Direct | Backend::Auto => "",
    };
    let state = match attachment.state {
        AttachmentState::Attached => "",
        AttachmentState::Attaching => " (somebody was interrupted while it was attached)",
    };
    format!("{}{by}{state}", attachment.describe())
}

/// Returns the one thing that whoever attaches a volume goes on with: a directory, a device or a URI.
pub(super) fn place(attachment: &Attachment) -> String {
    match (&attachment.show, &attachment.device) {
        (Show::Mount { target, .. }, _) => target.display().to_string(),
        (Show::Nbd { address, tls }, _) => nbd_uri(address, tls.as_ref()),
        (Show::Device, device) => {
            device.as_deref().map_or_else(String::new, |device| device.display().to_string())
        }
    }
}

/// Returns how a volume is encrypted, for people.
pub(super) fn encryption(encryption: &VolumeEncryption) -> String {
    match encryption {
        VolumeEncryption::None => "none".to_owned(),
        VolumeEncryption::Passphrase => "passphrase".to_owned(),
        VolumeEncryption::Kms(request) => match &request.key_id {
            Some(key) => format!("KMS {}, key {key}", request.kind),
            None => format!("KMS {}", request.kind),
        },
    }
}

/// Returns how a volume is encrypted, in one word.
pub(super) fn kind(encryption: &VolumeEncryption) -> &'static str {
    match encryption {
        VolumeEncryption::None => "none",
        VolumeEncryption::Passphrase => "passphrase",
        VolumeEncryption::Kms(_) => "kms",
    }
}

/// Returns what the ledger says of a volume, for people.
pub(super) fn format(state: &FormatState) -> String {
    match state {
        FormatState::Blank => "never formatted".to_owned(),
        FormatState::Formatting { uuid } => format!("being formatted as {uuid}"),
        FormatState::Formatted { uuid, .. } => format!("formatted once, as {uuid}"),
    }
}

/// Returns whether something can be used, for people.
pub(super) fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Creating => "being made",
        Condition::Ready => "ready",
        Condition::Deleting => "being deleted",
    }
}

/// Returns a time in seconds since 1970 as RFC 3339 writes it.
pub(super) fn moment(seconds: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.map_or("the far future".to_owned(), rfc3339)
}

/// Returns the URI of an export, as every client of NBD takes it.
fn nbd_uri(address: &str, tls: Option<&TlsFiles>) -> String {
    let scheme = if tls.is_some() { "nbds" } else { "nbd" };
    if !Path::new(address).is_absolute() {
        return format!("{scheme}://{address}");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    let path: String = address
        .bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    format!("{scheme}+unix:///?socket={path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_have_uris_that_clients_can_read() {
        assert_eq!(nbd_uri("127.0.0.1:10809", None), "nbd://127.0.0.1:10809");
        assert_eq!(nbd_uri("/run/a&b c", None), "nbd+unix:///?socket=/run/a%26b%20c");
    }

    #[test]
    fn times_beyond_the_calendar_are_still_told() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(u64::MAX), "the far future");
    }
}
