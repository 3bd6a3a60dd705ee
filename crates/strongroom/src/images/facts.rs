//! What makes a job the same job when it is taken up again.

use strongroom_disk::qcow2::{CreateOptions, Version};
use strongroom_model::{
    CloneFormats, CloneRequest, EncryptionRequest, ImageFormat, ImageOperation, SourceFormat,
    TargetFormat,
};

use super::DetachedHeaders;
use super::bytes::Identity;
use super::journal::Facts;
use super::source::Source;

/// Returns everything on which the target of a job depends, but for its passphrases: names and
/// values as people read them when a job was changed. What was not said is left out.
pub(super) fn of(
    request: &CloneRequest,
    (formats, layout): (CloneFormats, Option<&CreateOptions>),
    encryption: Option<&EncryptionRequest>,
    headers: DetachedHeaders<'_>,
    source: &Source,
) -> Facts {
    let operation = match &request.operation {
        ImageOperation::Copy => "copy",
        ImageOperation::Encrypt(_) => "encrypt",
        ImageOperation::Decrypt => "decrypt",
        ImageOperation::Reencrypt(_) => "reencrypt",
    };
    let mut facts = vec![
        ("operation", Some(operation.to_owned())),
        ("source format", Some(source_name(formats.source))),
        ("target format", Some(target_name(formats.target).to_owned())),
        ("layout of the target", layout.map(layout_of)),
        ("compression", request.compression.map(|kind| format!("{kind:?}").to_lowercase())),
        ("checksum", request.checksum.as_ref().map(ToString::to_string)),
        ("header of the target", headers.target.map(|path| path.display().to_string())),
    ];
    if let Some(bytes) = source.bytes() {
        let Identity(identity) = &bytes.identity;
        facts.extend(identity.iter().map(|(name, value)| (*name, Some(value.clone()))));
    }
    if let Some(header) = headers.source {
        let Identity(identity) = Identity::of_path(header);
        let names =
            ["header of the source", "length of the header", "modification time of the header"];
        facts.extend(names.into_iter().zip(identity).map(|(name, (_, value))| (name, Some(value))));
    }
    facts.extend(encryption.into_iter().flat_map(of_encryption));
    let facts = facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let chain = source.chain.iter().zip(1..).map(|(named, number)| {
        let Identity(identity) = &named.identity;
        let values: Vec<&str> = identity.iter().map(|(_, value)| value.as_str()).collect();
        (format!("file {number} below the source"), values.join(", "))
    });
    facts.chain(chain).collect()
}

fn layout_of(layout: &CreateOptions) -> String {
    let version = match layout.version {
        Version::V2 => 2,
        Version::V3 => 3,
    };
    let mut text = format!("version {version}, clusters of {} bytes", layout.cluster_size);
    for (is_so, words) in
        [(layout.lazy_refcounts, ", lazy reference counts"), (layout.subclusters, ", subclusters")]
    {
        text.push_str(if is_so { words } else { "" });
    }
    text
}

fn of_encryption(request: &EncryptionRequest) -> Vec<(&'static str, Option<String>)> {
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    vec![
        ("cipher", request.cipher.clone()),
        ("key size", number(request.key_size_bits)),
        ("hash", request.hash.clone()),
        ("sector size", number(request.sector_size)),
        ("data offset", request.data_offset.map(|offset| offset.to_string())),
        ("key derivation", request.pbkdf.map(|pbkdf| pbkdf.to_string())),
        ("memory of key derivation", number(request.pbkdf_memory_kib)),
        ("lanes of key derivation", number(request.pbkdf_parallel)),
        ("label", request.label.clone()),
        ("UUID", request.uuid.clone()),
    ]
}

fn source_name(format: SourceFormat) -> String {
    match format {
        SourceFormat::Bytes => "bytes".to_owned(),
        SourceFormat::Raw => "raw".to_owned(),
        SourceFormat::Qcow2 => "qcow2".to_owned(),
        SourceFormat::Luks(Some(version)) => version.to_string(),
        SourceFormat::Luks(None) => "luks".to_owned(),
        SourceFormat::Qcow2Luks => ImageFormat::Qcow2Luks.to_string(),
    }
}

fn target_name(format: TargetFormat) -> &'static str {
    match format {
        TargetFormat::Bytes => "bytes",
        TargetFormat::Image(format) => format.name(),
    }
}
