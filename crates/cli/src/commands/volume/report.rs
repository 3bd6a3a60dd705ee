//! `strongroom volume report`

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};
use strongroom::volumes::{HeaderBackup, HeaderFacts, VolumeReport};
use strongroom_crypto::{CostPolicy, Kdf};
use strongroom_luks::{Binding, KeyslotSummary};
use strongroom_model::VolumeId;
use strongroom_pool::{FormatMark, FormatStage};

use super::pool::PoolArgs;
use super::{description, row};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::commands::envelope;
use crate::times::{rfc3339, span};
use crate::ui::{self, Output, Ui};

/// Prove how a volume is encrypted, and who can open it
///
/// Compares what the catalog says with the mark beside the data and with the header itself. Nobody is
/// asked for a key, and nothing is changed. Where something is not as it should be, each finding is
/// named, and the exit code is 13.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume
    name: VolumeId,

    #[command(flatten)]
    output: OutputArgs,
}

/// Reports on the volume.
///
/// # Errors
///
/// When there is no such volume, or pool or catalog cannot be read.
pub(crate) fn run(ui: &mut Ui, args: &ReportArgs) -> Result<ExitCode, CommandError> {
    let volumes = args.pool.open(CostPolicy::default())?;
    let report = volumes.report(&args.name)?;
    let device = volumes.device_path(&args.name).ok();
    match args.output.output() {
        Output::Json => {
            let mut value = object(&report);
            value["device_file"] = json!(device);
            ui.json(&value)?;
        }
        Output::Text => {
            text(ui, &report)?;
            if let Some(device) = device {
                row(ui, "data in", &device.display().to_string())?;
            }
            for finding in &report.findings {
                row(ui, "finding", finding)?;
            }
        }
    }
    Ok(match report.findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FINDINGS),
    })
}

fn object(report: &VolumeReport) -> Value {
    let header = report.header.as_ref().map(|header| {
        json!({
            "uuid": header.uuid,
            "cipher": header.cipher,
            "key_bits": header.key_bits,
            "sector_bytes": header.sector,
            "keyslots": header.keyslots.iter().map(keyslot_value).collect::<Vec<_>>(),
        })
    });
    let backup = report.header_backup.as_ref().map(|backup| {
        json!({
            "path": backup.path,
            "made": backup.made.map(rfc3339),
            "age_seconds": age(backup),
        })
    });
    let mut value = description::value(&report.volume);
    value["stored_bytes"] = json!(report.bytes.as_ref().map(|bytes| bytes.allocated));
    value["device_bytes"] = json!(report.bytes.as_ref().map(|bytes| bytes.len));
    value["mark"] =
        json!(report.mark.as_ref().map(|mark| json!({ "uuid": mark.uuid, "stage": stage(mark) })));
    value["header"] = json!(header);
    value["envelopes"] = report.envelopes.iter().map(envelope::value).collect();
    value["recorded_envelope"] = json!(report.recorded.as_ref().map(envelope::value));
    value["header_backup"] = json!(backup);
    value["attachment"] = json!(report.attachment.as_ref().map(description::attachment_value));
    value["findings"] = json!(report.findings);
    value
}

fn text(ui: &mut Ui, report: &VolumeReport) -> Result<(), CommandError> {
    for (name, value) in description::lines(&report.volume) {
        row(ui, name, &value)?;
    }
    if let Some(bytes) = &report.bytes {
        row(ui, "device", &ui::bytes(bytes.len))?;
        row(ui, "stored", &ui::bytes(bytes.allocated))?;
    }
    let mark = report.mark.as_ref().map(|mark| format!("{}, {}", stage(mark), mark.uuid));
    row(ui, "mark", &mark.unwrap_or("none".to_owned()))?;
    if let Some(header) = &report.header {
        header_text(ui, header)?;
    }
    for envelope in &report.envelopes {
        row(ui, "envelope", &envelope::line(envelope))?;
    }
    if let Some(recorded) = &report.recorded {
        row(ui, "in the catalog", &envelope::line(recorded))?;
    }
    match &report.header_backup {
        Some(backup) => {
            row(ui, "header backup", &backup.path.display().to_string())?;
            if let (Some(made), Some(age)) = (backup.made, age(backup)) {
                let ago =
                    if age == 0 { "just now".to_owned() } else { format!("{} ago", span(age)) };
                row(ui, "backup made", &format!("{}, {ago}", rfc3339(made)))?;
            }
        }
        None if report.volume.encryption.is_encrypted() => row(ui, "header backup", "none")?,
        None => {}
    }
    let here = report.attachment.as_ref().map(description::attachment_words);
    row(ui, "here", &here.unwrap_or("not attached".to_owned()))
}

fn header_text(ui: &mut Ui, header: &HeaderFacts) -> Result<(), CommandError> {
    row(ui, "header", &format!("LUKS2 {}", header.uuid))?;
    row(ui, "cipher", &format!("{}, {} bits of key", header.cipher, header.key_bits))?;
    row(ui, "sectors", &format!("{} bytes", header.sector))?;
    for slot in &header.keyslots {
        row(ui, &format!("keyslot {}", slot.id), &keyslot_words(slot))?;
    }
    Ok(())
}

fn keyslot_words(slot: &KeyslotSummary) -> String {
    let kdf = match slot.kdf {
        Some(Kdf::Pbkdf2 { hash, iterations }) => {
            format!("pbkdf2 {}, {iterations} iterations", hash.name())
        }
        Some(kdf @ Kdf::Argon2 { time, memory_kib, .. }) => {
            format!("{}, {time} passes, {memory_kib} KiB", kdf.name())
        }
        None => slot.kind.clone(),
    };
    match slot.binding {
        Binding::Volume => kdf,
        Binding::None => format!("{kdf}, does not open the volume"),
    }
}

fn keyslot_value(slot: &KeyslotSummary) -> Value {
    json!({
        "keyslot": slot.id,
        "derivation": keyslot_words(slot),
        "opens_volume": slot.binding == Binding::Volume,
    })
}

fn stage(mark: &FormatMark) -> &'static str {
    match mark.stage {
        FormatStage::Begun => "begun",
        FormatStage::Finished => "finished",
    }
}

/// Returns how many seconds ago a copy was made.
fn age(backup: &HeaderBackup) -> Option<u64> {
    let age = SystemTime::now().duration_since(backup.made?).ok()?;
    Some(age.as_secs())
}

/// The exit code of a report with findings.
const FINDINGS: u8 = 13;
