//! `strongroom image create`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use strongroom::images::Work;
use strongroom::new_image::{self, NewImage, NewImageRequest};
use strongroom_disk::qcow2::{BackingName, Compression, CreateOptions, RefcountWidth, Version};
use strongroom_model::{EncryptionRequest, ExistingTarget, ImageFormat, LuksFormat, NamedFormat};

use crate::arguments::{EncryptionArgs, OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::interruption;
use crate::key_arguments::KeyArgs;
use crate::sizes::size;
use crate::ui::{self, Output, Ui};

/// Make a new image that reads as zeros
///
/// Of a LUKS volume in a raw file (luks1, luks2) all is written, with encrypted zeros: a hole in it
/// would read as noise. All other formats take next to no space until something is written.
#[derive(Debug, Args)]
#[command(mut_arg("format", |arg| arg.help(
    "Format: raw, qcow2, luks1, luks2 or qcow2-luks [default: qcow2 for a name that ends in .qcow2, \
     qcow2-luks if there is a passphrase or KMS; luks2 for .luks; else raw]"
)))]
pub(crate) struct CreateArgs {
    /// The image to make
    file: PathBuf,

    /// Size of the disk in it; K, M, G, T and P are powers of 1024
    #[arg(value_parser = size)]
    size: u64,

    /// Replace the file if it exists
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    layout: LayoutArgs,

    #[command(flatten)]
    encryption: EncryptionArgs,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// How a qcow2 image is laid out
#[derive(Debug, Args)]
#[command(next_help_heading = "Layout of qcow2")]
struct LayoutArgs {
    /// Bytes of a cluster, from 512 to 2M [default: 64K]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    cluster_size: Option<u64>,

    /// Version of the format: 2 (QEMU's compat=0.10) or 3 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=3))]
    qcow2_version: Option<u32>,

    /// Bits of a reference count: 1, 2, 4, 8, 16, 32 or 64 [default: 16]
    #[arg(long, value_name = "N")]
    refcount_bits: Option<u32>,

    /// Divide clusters into 32 subclusters
    #[arg(long)]
    extended_l2: bool,

    /// Let writers leave reference counts behind while they have the image open
    #[arg(long)]
    lazy_refcounts: bool,

    /// How clusters that will be compressed are compressed [default: zlib]
    #[arg(long, value_name = "KIND")]
    compress_type: Option<CompressType>,

    /// Read what the image does not hold from this file; relative names are relative to the image
    #[arg(long, value_name = "FILE", requires = "backing_format")]
    backing: Option<String>,

    /// Format of the backing file: raw, qcow2 or luks. It is never guessed
    #[arg(long, value_name = "FORMAT", requires = "backing")]
    backing_format: Option<strongroom_disk::qcow2::BackingFormat>,
}

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CompressType {
    Zlib,
    Zstd,
}

/// Makes the image.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &CreateArgs) -> Result<(), CommandError> {
    let policy = args.policy.policy();
    let given = args.key.read_new_optional(&args.policy.policy())?;
    let format = args.format(given.is_some());
    let encryption = match format.luks() {
        Some(luks) => args.encryption.encryption(luks, given.as_ref(), &policy)?,
        None => {
            let asked = args.encryption.encryption(LuksFormat::default(), None, &policy)?;
            let nothing =
                EncryptionRequest { format: asked.format, ..EncryptionRequest::default() };
            if given.is_some() || asked != nothing {
                return Err(CommandError::request(format!(
                    "{format} is not encrypted, but passphrase, KMS or encryption were asked for"
                ))
                .hinted("say --format luks2 or qcow2-luks, or leave them out"));
            }
            asked
        }
    };
    let (layout, backing) = args.layout.options(format)?;
    let existing = if args.force { ExistingTarget::Replace } else { ExistingTarget::Refuse };
    let (path, size) = (args.file.clone(), args.size);
    let request = NewImageRequest { path, format, size, encryption, layout, backing, existing };
    let cancelled = interruption::flag()?;
    let output = args.output.output();
    let watch = ui.watch(output);
    let work = Work { policy, observer: &watch, cancelled: &cancelled };
    let made = new_image::create(&request, given.map(|given| given.key), &work)?;
    watch.finish();
    print(ui, &request, &made, output)
}

fn print(
    ui: &mut Ui,
    request: &NewImageRequest,
    made: &NewImage,
    output: Output,
) -> Result<(), CommandError> {
    let file = request.path.display().to_string();
    let uuid = made.header.as_ref().map(|header| header.uuid().to_owned());
    if output == Output::Json {
        return ui.json(&json!({
            "file": file,
            "format": request.format.name(),
            "virtual_bytes": request.size,
            "bytes": made.len,
            "uuid": uuid,
        }));
    }
    let volume = uuid.map(|uuid| format!(" with volume {uuid}")).unwrap_or_default();
    ui.status(&format!("{file}: {} image{volume}, {}", request.format, ui::bytes(request.size)));
    Ok(())
}

impl CreateArgs {
    fn format(&self, has_passphrase: bool) -> ImageFormat {
        match (self.encryption.format(), NamedFormat::of(&self.file)) {
            (Some(format), _) => format,
            (None, NamedFormat::Qcow2) if has_passphrase => ImageFormat::Qcow2Luks,
            (None, NamedFormat::Qcow2) => ImageFormat::Qcow2,
            (None, NamedFormat::Luks) => ImageFormat::Luks2,
            (None, NamedFormat::Plain) => ImageFormat::Raw,
        }
    }
}

impl LayoutArgs {
    fn options(
        &self,
        format: ImageFormat,
    ) -> Result<(CreateOptions, Option<BackingName>), CommandError> {
        if !format.is_qcow2() && self.is_given() {
            return Err(CommandError::request(format!(
                "{format} images have no clusters and no backing file"
            ))
            .hinted("say --format qcow2 or qcow2-luks, or leave the options for them out"));
        }
        let usual = CreateOptions::new(0);
        let refcount_width = match self.refcount_bits {
            None => usual.refcount_width,
            Some(bits) => RefcountWidth::from_bits(bits).ok_or_else(|| {
                CommandError::request(format!(
                    "reference counts of {bits} bits do not exist: use 1, 2, 4, 8, 16, 32, 64"
                ))
            })?,
        };
        let backing = self.backing.clone().map(|name| BackingName {
            name,
            format: self.backing_format.map(|format| format.name().to_owned()),
        });
        let layout = CreateOptions {
            version: if self.qcow2_version == Some(2) { Version::V2 } else { Version::V3 },
            cluster_size: self.cluster_size.unwrap_or(usual.cluster_size),
            refcount_width,
            subclusters: self.extended_l2,
            lazy_refcounts: self.lazy_refcounts,
            compression: match self.compress_type {
                Some(CompressType::Zstd) => Compression::Zstd,
                Some(CompressType::Zlib) | None => Compression::Zlib,
            },
            ..usual
        };
        Ok((layout, backing))
    }

    fn is_given(&self) -> bool {
        self.cluster_size.is_some()
            || self.qcow2_version.is_some()
            || self.refcount_bits.is_some()
            || self.extended_l2
            || self.lazy_refcounts
            || self.compress_type.is_some()
            || self.backing.is_some()
    }
}
