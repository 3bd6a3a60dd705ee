//! `strongroom image info`

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use strongroom::{Device, Error};
use strongroom_disk::{Access, Disk};
use strongroom_luks::Header;

use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{self, Output, Ui};

/// Show what an image is
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// The image
    file: PathBuf,

    /// Its detached header
    #[arg(long, value_name = "FILE")]
    header: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Prints what the image is.
///
/// # Errors
///
/// When it cannot be read, or bears a header that is damaged.
pub(crate) fn run(ui: &mut Ui, args: &InfoArgs) -> Result<(), CommandError> {
    let device = Device::open(&args.file, args.header.as_deref(), Access::ReadOnly)?;
    let len = device.data_disk().len();
    let allocated = std::fs::metadata(&args.file).map(|found| found.blocks() * 512).ok();
    let mut lines = vec![("file", args.file.display().to_string()), ("size", ui::bytes(len))];
    let mut object = json!({ "file": args.file.display().to_string(), "bytes": len });
    if let Some(allocated) = allocated {
        lines.push(("on disk", ui::bytes(allocated)));
        object["allocated_bytes"] = json!(allocated);
    }
    match device.read_header() {
        Ok(found) => {
            if let Some(recovery) = &found.recovery {
                ui.warning(&format!(
                    "the {} copy of the header is damaged: {}",
                    recovery.copy(),
                    recovery.reason()
                ));
            }
            describe(&device, &found.header, &mut lines, &mut object);
        }
        Err(Error::NotEncrypted { signature, .. }) => {
            lines.push(("format", "raw, not encrypted".to_owned()));
            object["format"] = json!("raw");
            if let Some(signature) = signature {
                lines.push(("contents", signature.to_owned()));
                object["contents"] = json!(signature);
            }
        }
        Err(error) => return Err(error.into()),
    }
    match args.output.output() {
        Output::Json => ui.json(&object),
        Output::Text => {
            for (name, value) in lines {
                ui.data(&format!("{name:<16}{value}"))?;
            }
            Ok(())
        }
    }
}

fn describe(
    device: &Device,
    header: &Header,
    lines: &mut Vec<(&'static str, String)>,
    object: &mut Value,
) {
    lines.push(("format", header.version().to_string()));
    lines.push(("UUID", header.uuid().to_owned()));
    object["format"] = json!(header.version().to_string().to_lowercase());
    object["uuid"] = json!(header.uuid());
    if let Header::Luks2(luks2) = header
        && !luks2.binary().label.is_empty()
    {
        lines.push(("label", luks2.binary().label.clone()));
        object["label"] = json!(luks2.binary().label);
    }
    match device.payload(header) {
        Ok(payload) => {
            let (spec, key) = (payload.encryption.spec(), payload.encryption.key_size());
            lines.push(("cipher", format!("{spec}, {}-bit key", key.bits())));
            lines.push(("sector size", format!("{} bytes", payload.sector_size.bytes())));
            lines.push(("data offset", ui::bytes(payload.offset)));
            lines.push(("virtual size", ui::bytes(payload.length)));
            object["cipher"] = json!(spec.to_string());
            object["key_bits"] = json!(key.bits());
            object["sector_size"] = json!(payload.sector_size.bytes());
            object["data_offset"] = json!(payload.offset);
            object["virtual_bytes"] = json!(payload.length);
        }
        Err(error) => {
            let reason = CommandError::from(error).text();
            lines.push(("data", format!("cannot be opened: {reason}")));
            object["problem"] = json!(reason);
        }
    }
    let ids: Vec<u32> = header.keyslots().iter().map(|keyslot| keyslot.id).collect();
    let memory = header
        .keyslots()
        .iter()
        .filter_map(|keyslot| keyslot.kdf)
        .map(|kdf| kdf.memory_kib())
        .max()
        .unwrap_or(0);
    let text: Vec<String> = ids.iter().map(ToString::to_string).collect();
    lines.push(("keyslots", if ids.is_empty() { "none".to_owned() } else { text.join(", ") }));
    lines.push(("opening needs", format!("{memory} KiB of memory")));
    object["keyslots"] = json!(ids);
    object["opening_needs_kib"] = json!(memory);
}
