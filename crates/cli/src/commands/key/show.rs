//! `strongroom key show`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use strongroom::managed::{KeyslotRole, ManagedVolume, Shown, ShownKeyslot};
use strongroom_crypto::{CostPolicy, Kdf};

use super::{FileArgs, envelope, numbers};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Show which KMS opens an image, and what its keyslots are for
///
/// No KMS is asked, and nothing is changed.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    file: FileArgs,

    /// The file of the wrapped key, where it is not in the header (luks1, qcow2-luks)
    #[arg(long, value_name = "FILE")]
    envelope_file: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Shows the keys.
///
/// # Errors
///
/// When image or envelope cannot be read.
pub(crate) fn run(ui: &mut Ui, args: &ShowArgs) -> Result<(), CommandError> {
    let (device, record) = (args.file.read()?, args.envelope_file.as_deref());
    let shown = ManagedVolume::new(&device, record, &CostPolicy::default()).show()?;
    match args.output.output() {
        Output::Json => ui.json(&object(&args.file, shown)),
        Output::Text => text(ui, shown),
    }
}

fn object(file: &FileArgs, shown: Shown) -> Value {
    let envelopes = shown.envelopes.iter().map(|held| {
        let mut value = envelope::value(&held.envelope);
        value["token"] = json!(held.token);
        value["keyslots"] = json!(held.keyslots);
        value
    });
    let keyslots = shown.keyslots.iter().map(|slot| {
        let (role, token) = match slot.role {
            KeyslotRole::Managed { token } => ("kms", Some(token)),
            KeyslotRole::Recovery { token } => ("recovery", Some(token)),
            KeyslotRole::Other => ("other", None),
        };
        let id = slot.summary.id;
        json!({ "keyslot": id, "role": role, "token": token, "derivation": derivation(slot) })
    });
    let damaged = shown.damaged.into_iter().map(
        |(token, error)| json!({ "token": token, "problem": CommandError::from(error).text() }),
    );
    json!({
        "file": file.label(),
        "format": shown.version.map(|version| version.to_string().to_lowercase()),
        "uuid": shown.uuid,
        "envelopes": envelopes.collect::<Vec<_>>(),
        "damaged_envelopes": damaged.collect::<Vec<_>>(),
        "envelope_file": shown.record.as_ref().map(envelope::value),
        "keyslots": keyslots.collect::<Vec<_>>(),
    })
}

fn text(ui: &mut Ui, shown: Shown) -> Result<(), CommandError> {
    if let (Some(version), Some(uuid)) = (&shown.version, &shown.uuid) {
        row(ui, "format", &version.to_string())?;
        row(ui, "UUID", uuid)?;
    }
    for held in &shown.envelopes {
        let (line, keyslots) = (envelope::line(&held.envelope), numbers(&held.keyslots));
        row(ui, "envelope", &format!("token {}: {line}, for keyslot {keyslots}", held.token))?;
    }
    let none = shown.envelopes.is_empty() && shown.damaged.is_empty() && shown.record.is_none();
    for (token, error) in shown.damaged {
        let problem = CommandError::from(error).text();
        row(ui, "envelope", &format!("token {token} cannot be used: {problem}"))?;
    }
    if let Some(record) = &shown.record {
        row(ui, "envelope file", &envelope::line(record))?;
    }
    if none {
        row(ui, "envelope", "none")?;
    }
    for slot in &shown.keyslots {
        let role = match slot.role {
            KeyslotRole::Managed { token } => format!("opened by the KMS, token {token}"),
            KeyslotRole::Recovery { token } => format!("recovery passphrase, token {token}"),
            KeyslotRole::Other => "nothing is said of it".to_owned(),
        };
        row(ui, &format!("keyslot {}", slot.summary.id), &format!("{role}, {}", derivation(slot)))?;
    }
    Ok(())
}

fn derivation(slot: &ShownKeyslot) -> String {
    match slot.summary.kdf {
        Some(Kdf::Pbkdf2 { hash, iterations }) => {
            format!("pbkdf2 {}, {iterations} iterations", hash.name())
        }
        Some(kdf @ Kdf::Argon2 { time, memory_kib, .. }) => {
            format!("{}, {time} passes, {memory_kib} KiB", kdf.name())
        }
        None => slot.summary.kind.clone(),
    }
}

fn row(ui: &mut Ui, name: &str, value: &str) -> Result<(), CommandError> {
    ui.data(&format!("{name:<16}{value}"))
}
