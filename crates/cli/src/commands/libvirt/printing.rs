//! How secrets and volumes are printed.

use serde_json::{Value, json};
use strongroom::libvirt::{Made, SecretEntry, VolumeEntry, VolumeFacts};
use strongroom_model::dialect::libvirt::Secret;

use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Returns what a secret is for: the kind, and which.
pub(super) fn usage(secret: &Secret) -> (&'static str, &str) {
    secret.usage.as_ref().map_or(("none", ""), |usage| (usage.kind(), usage.id()))
}

/// Returns a secret for scripts.
pub(super) fn secret(entry: &SecretEntry) -> Value {
    let (kind, id) = usage(&entry.secret);
    json!({
        "uuid": entry.uuid,
        "usage_type": kind,
        "usage": id,
        "ephemeral": entry.secret.ephemeral,
        "private": entry.secret.private,
        "description": entry.secret.description,
        "has_value": entry.has_value,
        "generated_for": entry.generated_for,
        "document": entry.secret.write(),
    })
}

/// Returns a volume for scripts.
pub(super) fn volume(entry: &VolumeEntry) -> Value {
    json!({
        "name": entry.name,
        "path": entry.path,
        "format": entry.format.name(),
        "capacity_bytes": entry.facts.map(|facts| facts.capacity),
        "allocation_bytes": entry.facts.map(|facts| facts.allocation),
        "wiped": entry.is_wiped,
    })
}

/// Prints a volume that was made.
pub(super) fn made(ui: &mut Ui, made: &Made, output: Output) -> Result<(), CommandError> {
    for note in &made.notes {
        ui.warning(note);
    }
    if let Some(uuid) = &made.generated {
        ui.status(&format!("its key was made, and is kept as secret {uuid}"));
    }
    let path = made.path.display().to_string();
    let document = made.document.write();
    match output {
        Output::Json => ui.json(&json!({
            "path": path,
            "capacity_bytes": made.document.capacity,
            "allocation_bytes": made.document.allocation,
            "generated_secret": made.generated,
            "warnings": made.notes,
            "document": document,
        })),
        Output::Text => ui.data(document.trim_end()),
    }
}

/// Returns what the file of a volume tells for scripts.
pub(super) fn facts(name: &str, facts: &VolumeFacts) -> Value {
    json!({
        "name": name,
        "type": "file",
        "capacity_bytes": facts.capacity,
        "allocation_bytes": facts.allocation,
        "physical_bytes": facts.physical,
    })
}

/// Returns a number of bytes as virsh prints it.
pub(super) fn pretty(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    format!("{scaled:.2} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_look_as_virsh_prints_them() {
        for (bytes, text) in [
            (0, "0.00 B"),
            (1023, "1023.00 B"),
            (1024, "1.00 KiB"),
            (5 << 30, "5.00 GiB"),
            (10_485_760, "10.00 MiB"),
            (2_068_480, "1.97 MiB"),
        ] {
            assert_eq!(pretty(bytes), text);
        }
    }
}
