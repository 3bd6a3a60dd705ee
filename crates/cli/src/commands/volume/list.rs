//! `strongroom volume list`

use clap::Args;
use serde_json::{Value, json};
use strongroom::volumes::{Attachment, Volume, Volumes};
use strongroom_crypto::CostPolicy;

use super::pool::PoolArgs;
use super::{description, table};
use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::ui::{self, Output, Ui};

/// List the volumes of the pool
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Lists the volumes.
///
/// # Errors
///
/// When the catalog cannot be read.
pub(crate) fn run(ui: &mut Ui, args: &ListArgs) -> Result<(), CommandError> {
    let volumes = args.pool.open(CostPolicy::default())?;
    let found = all(&volumes)?;
    if args.output.output() == Output::Json {
        let space = volumes.space()?;
        let values: Vec<Value> = found
            .iter()
            .map(|(volume, attachment)| {
                let mut value = description::value(volume);
                value["attachment"] = json!(attachment.as_ref().map(description::attachment_value));
                value
            })
            .collect();
        let space = json!({ "total": space.total, "available": space.available });
        return ui.json(&json!({ "volumes": values, "space": space }));
    }
    let head = ["VOLUME", "SIZE", "ENCRYPTION", "FILE SYSTEM", "HERE"].map(str::to_owned);
    let rows = found.iter().map(|(volume, attachment)| {
        [
            volume.id.to_string(),
            ui::short_bytes(volume.size),
            description::encryption(&volume.encryption),
            volume.file_system.map_or("-".to_owned(), |found| found.to_string()),
            attachment.as_ref().map_or("-".to_owned(), description::attachment_words),
        ]
    });
    table(ui, &[head].into_iter().chain(rows).collect::<Vec<_>>())
}

fn all(volumes: &Volumes) -> Result<Vec<(Volume, Option<Attachment>)>, CommandError> {
    let mut found: Vec<(Volume, Option<Attachment>)> = Vec::new();
    loop {
        let page = volumes.list(found.last().map(|(volume, _)| &volume.id), PAGE)?;
        if page.is_empty() {
            return Ok(found);
        }
        for volume in page {
            let attachment = volumes.attachment(&volume.id)?;
            found.push((volume, attachment));
        }
    }
}

/// How many volumes are asked for at a time.
const PAGE: usize = 1000;
