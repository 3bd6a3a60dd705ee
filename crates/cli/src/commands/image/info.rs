//! `strongroom image info`

mod envelopes;
mod qcow2;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use strongroom::{Device, Error, qcow2_image};
use strongroom_disk::{Access, Disk};
use strongroom_luks::Header;
use strongroom_model::{ImageFormat, NamedFormat};

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

    /// Format of the image: raw, qcow2, luks1, luks2 or qcow2-luks [default: qcow2 for a name that
    /// ends in .qcow2, else what its first bytes say of LUKS]
    #[arg(long, value_name = "FORMAT")]
    source_format: Option<ImageFormat>,

    /// Show this envelope of it too
    #[arg(long, value_name = "FILE")]
    envelope_file: Option<PathBuf>,

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
    if args.is_qcow2() {
        let image = qcow2_image::describe(&args.file)?;
        qcow2::describe(&image, &mut lines, &mut object);
        if let Some(header) = &image.luks {
            describe_volume(header, &mut lines, &mut object);
            describe_keyslots(header, &mut lines, &mut object);
        }
        args.describe_envelope(&mut lines, &mut object)?;
        return print(ui, lines, &object, args.output.output());
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
                if signature == "a qcow2 image" {
                    ui.warning("its name does not say qcow2; --source-format qcow2 shows more");
                }
                lines.push(("contents", signature.to_owned()));
                object["contents"] = json!(signature);
            }
        }
        Err(error) => return Err(error.into()),
    }
    args.describe_envelope(&mut lines, &mut object)?;
    print(ui, lines, &object, args.output.output())
}

impl InfoArgs {
    fn is_qcow2(&self) -> bool {
        match self.source_format {
            Some(format) => format.is_qcow2(),
            None => NamedFormat::of(&self.file) == NamedFormat::Qcow2,
        }
    }

    /// Adds what the envelope in a file of its own says.
    fn describe_envelope(
        &self,
        lines: &mut Vec<(&'static str, String)>,
        object: &mut Value,
    ) -> Result<(), CommandError> {
        if let Some(path) = &self.envelope_file {
            let envelope = strongroom::envelopes::read_file(path)?;
            envelopes::describe_file(&envelope, lines, object);
        }
        Ok(())
    }
}

fn print(
    ui: &mut Ui,
    lines: Vec<(&'static str, String)>,
    object: &Value,
    output: Output,
) -> Result<(), CommandError> {
    match output {
        Output::Json => ui.json(object),
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
    object["format"] = json!(header.version().to_string().to_lowercase());
    lines.push(("UUID", header.uuid().to_owned()));
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
    describe_keyslots(header, lines, object);
    envelopes::describe(header, device.header_disk().label(), lines, object);
}

/// Adds what the LUKS header inside of a qcow2 image says. Where the data lies, the image says.
fn describe_volume(header: &Header, lines: &mut Vec<(&'static str, String)>, object: &mut Value) {
    lines.push(("encryption", header.version().to_string()));
    lines.push(("UUID", header.uuid().to_owned()));
    object["uuid"] = json!(header.uuid());
    if let Ok(payload) = header.payload(LARGEST) {
        let (spec, key) = (payload.encryption.spec(), payload.encryption.key_size());
        lines.push(("cipher", format!("{spec}, {}-bit key", key.bits())));
        object["cipher"] = json!(spec.to_string());
        object["key_bits"] = json!(key.bits());
    }
}

fn describe_keyslots(header: &Header, lines: &mut Vec<(&'static str, String)>, object: &mut Value) {
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

/// The length of the largest device there is, in whole sectors.
const LARGEST: u64 = u64::MAX / 512 * 512;
