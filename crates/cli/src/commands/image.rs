//! `strongroom image …`

mod check;
mod clone;
mod compare;
mod create;
mod decrypt;
mod encrypt;
mod info;
mod reencrypt;
mod resize;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use strongroom::images::{self, Cloned, DetachedHeaders, Keys, Work};
use strongroom_crypto::CostPolicy;
use strongroom_model::{CloneRequest, ImageFormat, ImageTarget, TargetFormat};

use super::done;
use crate::command_error::CommandError;
use crate::interruption;
use crate::ui::{self, Output, Ui};

/// What can be done with disk images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Find out what is wrong with a qcow2 image
    Check(check::CheckArgs),

    /// Copy an image, holes kept, or convert it
    Clone(Box<clone::CloneArgs>),

    /// Compare the contents of two images, encrypted or not
    Compare(Box<compare::CompareArgs>),

    /// Make a new image that reads as zeros
    Create(Box<create::CreateArgs>),

    /// Decrypt an image into a new one
    Decrypt(Box<decrypt::DecryptArgs>),

    /// Encrypt a disk image into a new one
    Encrypt(Box<encrypt::EncryptArgs>),

    /// Show what an image is
    Info(info::InfoArgs),

    /// Encrypt an encrypted image anew, under another volume key and passphrase
    Reencrypt(Box<reencrypt::ReencryptArgs>),

    /// Make the disk in an image longer or shorter
    Resize(Box<resize::ResizeArgs>),
}

impl ImageCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<ExitCode, CommandError> {
        match self {
            Self::Check(args) => check::run(ui, &args),
            Self::Clone(args) => done(clone::run(ui, &args)),
            Self::Compare(args) => compare::run(ui, &args),
            Self::Create(args) => done(create::run(ui, &args)),
            Self::Decrypt(args) => done(decrypt::run(ui, &args)),
            Self::Encrypt(args) => done(encrypt::run(ui, &args)),
            Self::Info(args) => done(info::run(ui, &args)),
            Self::Reencrypt(args) => done(reencrypt::run(ui, &args)),
            Self::Resize(args) => done(resize::run(ui, &args)),
        }
    }
}

/// Makes an image and prints what was made.
fn make(
    ui: &mut Ui,
    request: &CloneRequest,
    headers: DetachedHeaders<'_>,
    keys: Keys,
    policy: CostPolicy,
    output: Output,
) -> Result<(), CommandError> {
    if request.target == ImageTarget::StandardOutput && io::stdout().is_terminal() {
        return Err(CommandError::request("an image is not written to a terminal")
            .hinted("send it to a file or a program: … - > FILE, … - | PROGRAM"));
    }
    let cancelled = interruption::flag()?;
    let watch = ui.watch(output);
    let work = Work { policy, observer: &watch, cancelled: &cancelled };
    if let Some(partial) = images::leftover(request) {
        ui.warning(&format!(
            "an interrupted job has left {}; it is not used without --resume",
            partial.display()
        ));
    }
    let cloned = images::clone(request, headers, keys, &work)?;
    let (preparation, copying) = watch.finish();
    print(ui, request, &cloned, preparation, copying, output)
}

fn print(
    ui: &mut Ui,
    request: &CloneRequest,
    cloned: &Cloned,
    preparation: Duration,
    copying: Duration,
    output: Output,
) -> Result<(), CommandError> {
    let report = cloned.report;
    let target = match &request.target {
        ImageTarget::File(path) => path.display().to_string(),
        ImageTarget::StandardOutput => "standard output".to_owned(),
    };
    let format = match cloned.format {
        TargetFormat::Bytes => "raw",
        TargetFormat::Image(format) => format.name(),
    };
    if output == Output::Json {
        let object = json!({
            "target": target,
            "target_bytes": cloned.target_len,
            "format": format,
            "uuid": cloned.header.as_ref().map(|header| header.uuid().to_owned()),
            "bytes": report.bytes,
            "resumed_bytes": report.resumed_bytes,
            "data_bytes": report.data_bytes,
            "zero_bytes": report.zero_bytes,
            "preparation_seconds": preparation.as_secs_f64(),
            "seconds": copying.as_secs_f64(),
        });
        // Standard output is the image then, and nothing else.
        return match &request.target {
            ImageTarget::File(_) => ui.json(&object),
            ImageTarget::StandardOutput => {
                ui.json_beside_data(&object);
                Ok(())
            }
        };
    }
    let what = match (cloned.format, &cloned.header) {
        (TargetFormat::Image(ImageFormat::Qcow2Luks), Some(header)) => {
            format!("qcow2 image with LUKS1 volume {}", header.uuid())
        }
        (_, Some(header)) => format!("{} volume {}", header.version(), header.uuid()),
        (_, None) => format!("{format} image"),
    };
    let derivation = match &cloned.header {
        Some(_) => format!(" after {:.2} s of key derivation", preparation.as_secs_f64()),
        None => String::new(),
    };
    let rate = report.bytes as f64 / copying.as_secs_f64().max(1e-9) / 1e6;
    ui.status(&format!(
        "{target}: {what}, {} in {:.2} s ({rate:.0} MB/s){derivation}",
        ui::bytes(report.bytes),
        copying.as_secs_f64(),
    ));
    Ok(())
}
