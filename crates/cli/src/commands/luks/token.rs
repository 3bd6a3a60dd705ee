//! `strongroom luks token …`

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom::keys;
use strongroom_luks::Header;

use super::{DeviceArgs, report};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Assign a token to keyslots, and to no others
    Assign(AssignArgs),

    /// Print a token as JSON
    Export(ExportArgs),

    /// Add a token from a JSON file
    Import(ImportArgs),

    /// Remove a token
    Remove(RemoveArgs),
}

/// Assign a token to keyslots
#[derive(Debug, Args)]
pub(crate) struct AssignArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// The token's number
    #[arg(long, value_name = "N")]
    token: u32,

    /// The keyslots; none when left out
    #[arg(long, value_name = "N")]
    keyslot: Vec<u32>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Print a token
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// The token's number
    #[arg(long, value_name = "N")]
    token: u32,
}

/// Add a token
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// The JSON file, `-` for standard input
    file: PathBuf,

    /// The token's number [default: the first free one]
    #[arg(long, value_name = "N")]
    token: Option<u32>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Remove a token
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// The token's number
    #[arg(long, value_name = "N")]
    token: u32,

    #[command(flatten)]
    output: OutputArgs,
}

impl TokenCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<(), CommandError> {
        match self {
            Self::Assign(args) => assign(ui, &args),
            Self::Export(args) => export(ui, &args),
            Self::Import(args) => import(ui, &args),
            Self::Remove(args) => remove(ui, &args),
        }
    }
}

fn assign(ui: &mut Ui, args: &AssignArgs) -> Result<(), CommandError> {
    keys::update_luks2(&args.device.write()?, |header| {
        let (_, change) = header.assign_token(args.token, &args.keyslot)?;
        Ok(((), change))
    })?;
    let words = format!("token {} is assigned", args.token);
    let object = json!({ "token": args.token, "keyslots": args.keyslot });
    report(ui, args.output.output(), &args.device, &words, object)
}

fn export(ui: &mut Ui, args: &ExportArgs) -> Result<(), CommandError> {
    let device = args.device.read()?;
    let Header::Luks2(header) = device.read_header()?.header else {
        return Err(CommandError::request(format!(
            "{} is LUKS1, which has no tokens",
            args.device.label()
        )));
    };
    let token = header.export_token(args.token).map_err(|source| {
        CommandError::from(strongroom::Error::Luks { label: args.device.label(), source })
    })?;
    ui.data(&token)
}

fn import(ui: &mut Ui, args: &ImportArgs) -> Result<(), CommandError> {
    let text = read(&args.file)?;
    let id = keys::update_luks2(&args.device.write()?, |header| {
        let (id, _, change) = header.import_token(args.token, &text)?;
        Ok((id, change))
    })?;
    let words = format!("token {id} is added");
    report(ui, args.output.output(), &args.device, &words, json!({ "token": id }))
}

fn remove(ui: &mut Ui, args: &RemoveArgs) -> Result<(), CommandError> {
    keys::update_luks2(&args.device.write()?, |header| {
        let (_, change) = header.remove_token(args.token)?;
        Ok(((), change))
    })?;
    let words = format!("token {} is removed", args.token);
    report(ui, args.output.output(), &args.device, &words, json!({ "token": args.token }))
}

fn read(path: &Path) -> Result<String, CommandError> {
    let failed = |source| CommandError::io(format!("cannot read {}", path.display()), source);
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_LEN).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_LEN).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}

/// The largest JSON area there is.
const MAX_LEN: u64 = 4 << 20;
