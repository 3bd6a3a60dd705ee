//! `strongroom luks dump`

use clap::Args;
use serde_json::{Value, json};
use strongroom::hexadecimal;
use strongroom_luks::{Binding, Header, luks1, luks2};

use super::DeviceArgs;
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{Output, Ui};

/// Show everything that the header says
///
/// Prints no key material. With --json a LUKS2 header's metadata is printed as it stands.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    device: DeviceArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the header.
///
/// # Errors
///
/// When it cannot be read.
pub(crate) fn run(ui: &mut Ui, args: &DumpArgs) -> Result<(), CommandError> {
    let found = args.device.read()?.read_header()?;
    if let Some(recovery) = &found.recovery {
        ui.warning(&format!(
            "the {} copy of the header is damaged: {}",
            recovery.copy(),
            recovery.reason()
        ));
        ui.hint(&format!("`strongroom luks repair {}` writes it anew", args.device.label()));
    }
    match (args.output.output(), &found.header) {
        (Output::Json, Header::Luks1(header)) => ui.json(&luks1_json(header)),
        (Output::Json, Header::Luks2(header)) => ui.json(&luks2_json(header)),
        (Output::Text, Header::Luks1(header)) => luks1_text(ui, header),
        (Output::Text, Header::Luks2(header)) => luks2_text(ui, &found.header, header),
    }
}

fn luks1_json(header: &luks1::Header) -> Value {
    let keyslots: Vec<Value> = header
        .keyslots
        .iter()
        .map(|keyslot| {
            json!({
                "active": keyslot.active,
                "iterations": keyslot.iterations,
                "salt": hexadecimal(&keyslot.salt),
                "offset_sectors": keyslot.offset,
                "stripes": keyslot.stripes,
            })
        })
        .collect();
    json!({
        "version": 1,
        "uuid": header.uuid,
        "cipher_name": header.cipher_name,
        "cipher_mode": header.cipher_mode,
        "hash": header.hash_spec,
        "payload_offset_sectors": header.payload_offset,
        "key_bytes": header.key_bytes,
        "digest": hexadecimal(&header.digest),
        "digest_salt": hexadecimal(&header.digest_salt),
        "digest_iterations": header.digest_iterations,
        "keyslots": keyslots,
    })
}

fn luks2_json(header: &luks2::Header) -> Value {
    let binary = header.binary();
    let metadata: Value = serde_json::from_str(&header.json()).unwrap_or(Value::Null);
    json!({
        "version": 2,
        "uuid": binary.uuid,
        "label": binary.label,
        "subsystem": binary.subsystem,
        "epoch": binary.seqid,
        "header_bytes": binary.hdr_size,
        "checksum_hash": binary.checksum_hash.name(),
        "metadata": metadata,
    })
}

fn luks1_text(ui: &mut Ui, header: &luks1::Header) -> Result<(), CommandError> {
    ui.data("LUKS header")?;
    row(ui, "Version", "1")?;
    row(ui, "UUID", &header.uuid)?;
    row(ui, "Cipher", &format!("{}-{}", header.cipher_name, header.cipher_mode))?;
    row(ui, "Key", &format!("{} bits", header.key_bytes * 8))?;
    row(ui, "Hash", &header.hash_spec)?;
    row(ui, "Payload offset", &format!("{} sectors", header.payload_offset))?;
    row(ui, "Digest", &format!("{} iterations", header.digest_iterations))?;
    ui.data("")?;
    ui.data("Keyslots")?;
    for (id, keyslot) in header.keyslots.iter().enumerate() {
        let state = if keyslot.active {
            format!("pbkdf2, {} iterations, area at sector {}", keyslot.iterations, keyslot.offset)
        } else {
            "not in use".to_owned()
        };
        row(ui, &id.to_string(), &state)?;
    }
    Ok(())
}

fn luks2_text(ui: &mut Ui, whole: &Header, header: &luks2::Header) -> Result<(), CommandError> {
    let (binary, metadata) = (header.binary(), header.metadata());
    let or_none = |text: &str| if text.is_empty() { "(none)".to_owned() } else { text.to_owned() };
    let list = |items: &[String]| or_none(&items.join(", "));
    ui.data("LUKS header")?;
    row(ui, "Version", "2")?;
    row(ui, "Epoch", &binary.seqid.to_string())?;
    row(ui, "UUID", &binary.uuid)?;
    row(ui, "Label", &or_none(&binary.label))?;
    row(ui, "Subsystem", &or_none(&binary.subsystem))?;
    row(ui, "Metadata area", &format!("{} bytes, twice", binary.hdr_size))?;
    row(ui, "Keyslots area", &format!("{} bytes", metadata.config.keyslots_size))?;
    row(ui, "Flags", &list(&metadata.config.flags))?;
    row(ui, "Requirements", &list(&metadata.config.requirements))?;
    ui.data("")?;
    ui.data("Segments")?;
    for (id, segment) in &metadata.segments {
        row(ui, &id.to_string(), &segment_text(segment))?;
    }
    ui.data("")?;
    ui.data("Keyslots")?;
    for keyslot in whole.keyslots() {
        row(ui, &keyslot.id.to_string(), &keyslot_text(header, &keyslot))?;
    }
    ui.data("")?;
    ui.data("Tokens")?;
    for (id, token) in &metadata.tokens {
        row(
            ui,
            &id.to_string(),
            &format!("{}, keyslots {}", token.kind, numbers(&token.keyslots)),
        )?;
    }
    ui.data("")?;
    ui.data("Digests")?;
    for (id, digest) in &metadata.digests {
        let kind = match &digest.kind {
            luks2::DigestKind::Pbkdf2 { hash, iterations, .. } => {
                format!("pbkdf2, {hash}, {iterations} iterations")
            }
            luks2::DigestKind::Unknown { kind } => kind.clone(),
        };
        let (keyslots, segments) = (numbers(&digest.keyslots), numbers(&digest.segments));
        row(ui, &id.to_string(), &format!("{kind}, keyslots {keyslots}, segments {segments}"))?;
    }
    Ok(())
}

fn segment_text(segment: &luks2::Segment) -> String {
    let length = match segment.length {
        luks2::SegmentLength::Bytes(bytes) => format!("{bytes} bytes"),
        luks2::SegmentLength::Dynamic => "to the end of the device".to_owned(),
    };
    let kind = match &segment.kind {
        luks2::SegmentKind::Crypt { iv_tweak, encryption, sector_size, integrity } => {
            let integrity =
                integrity.as_ref().map_or_else(String::new, |kind| format!(", integrity {kind}"));
            let tweak =
                if *iv_tweak == 0 { String::new() } else { format!(", IVs from {iv_tweak}") };
            format!("crypt, {encryption}, sectors of {sector_size} bytes{tweak}{integrity}")
        }
        luks2::SegmentKind::Linear => "linear, not encrypted".to_owned(),
        luks2::SegmentKind::Unknown { kind } => format!("unknown type {kind}"),
    };
    let flags = if segment.flags.is_empty() {
        String::new()
    } else {
        format!(" [{}]", segment.flags.join(", "))
    };
    format!("{kind}, from byte {} {length}{flags}", segment.offset)
}

fn keyslot_text(header: &luks2::Header, summary: &strongroom_luks::KeyslotSummary) -> String {
    let Some(keyslot) = header.metadata().keyslots.get(&summary.id) else { return String::new() };
    let binding = match summary.binding {
        Binding::Volume => "",
        Binding::None => ", unbound",
    };
    let opening = match &keyslot.kind {
        luks2::KeyslotKind::Luks2(luks2) => {
            let kdf = match &luks2.kdf {
                luks2::Kdf::Pbkdf2 { hash, iterations } => {
                    format!("pbkdf2 {hash}, {iterations} iterations")
                }
                luks2::Kdf::Argon2 { kind, time, memory, cpus } => {
                    format!("{kind}, {time} passes, {memory} KiB, {cpus} lanes")
                }
            };
            format!("{kdf}, {} {}-bit", luks2.encryption, luks2.area_key_size * 8)
        }
        luks2::KeyslotKind::Reencrypt { mode, direction } => format!("{mode} {direction}"),
        luks2::KeyslotKind::Unknown { .. } => "unknown".to_owned(),
    };
    format!(
        "{}{binding}, {}-bit key, priority {}, {opening}, area {} bytes at {}",
        summary.kind,
        keyslot.key_size * 8,
        keyslot.priority.name(),
        keyslot.area.size,
        keyslot.area.offset,
    )
}

fn numbers(ids: &[u32]) -> String {
    if ids.is_empty() {
        return "none".to_owned();
    }
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn row(ui: &mut Ui, name: &str, value: &str) -> Result<(), CommandError> {
    ui.data(&format!("  {name:<16}{value}"))
}
