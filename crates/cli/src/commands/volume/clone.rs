//! `strongroom volume clone`

use std::collections::BTreeMap;

use clap::Args;
use strongroom::volumes::{
    FormatState, NewVolume, Source, Volume, VolumeEncryption, VolumeProblem, Volumes, Watch,
};
use strongroom_model::{SnapshotId, VolumeId};

use super::pool::PoolArgs;
use super::rekey::no_key;
use super::tuning::TuningArgs;
use super::watched_copy::WatchedCopy;
use super::{description, report_done};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::key_arguments::{GivenVolumeKey, KeyArgs, NewKeyArgs};
use crate::sizes::size;
use crate::ui::{self, Ui};

/// Make a volume with the contents of another one, or of a snapshot
///
/// Without a new key it is a copy of the ciphertext: the key of the source opens it, and none is needed
/// to make it. With a new key only that opens the clone; the volume key stays the same, so that whoever
/// has both keys may read both. With --reencrypt the clone is encrypted anew under a volume key of its
/// own, which takes as long as it takes to read and write all data.
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume to copy, or with --snapshot the snapshot
    source: String,

    /// The name of the new volume
    new: VolumeId,

    /// The source is a snapshot
    #[arg(long)]
    snapshot: bool,

    /// How much of the clone can be used [default: as much as of the source]
    #[arg(long, value_parser = size)]
    size: Option<u64>,

    /// Encrypt the clone anew, under a volume key of its own
    #[arg(long)]
    reencrypt: bool,

    #[command(flatten)]
    tuning: TuningArgs,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    new_key: NewKeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// What is asked of the key of a clone.
enum Keys {
    /// It stays as it is.
    Kept,
    /// Another one takes its place.
    Changed { from: GivenVolumeKey, to: GivenVolumeKey, encryption: VolumeEncryption },
    /// The clone is encrypted anew, for another key if one was given.
    Anew { from: GivenVolumeKey, to: Option<(GivenVolumeKey, VolumeEncryption)> },
}

/// Makes the clone.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &CloneArgs) -> Result<(), CommandError> {
    let (policy, output) = (args.policy.policy(), args.output.output());
    let volumes = args.pool.open(policy)?;
    let (source, of) = args.source(&volumes)?;
    let keys = args.keys(&of)?;
    if volumes.volume(&args.new).is_ok() {
        let difference = "a clone never takes the place of a volume".to_owned();
        return Err(problem(&args.new, VolumeProblem::Exists { difference }));
    }
    let size = args.size.unwrap_or(of.size);
    if size < of.size {
        let reason = format!("{}, of which it is a copy, has {}", args.source, of.size);
        return Err(problem(&args.new, VolumeProblem::Size { size, reason }));
    }
    let new = NewVolume {
        id: args.new.clone(),
        size,
        encryption: of.encryption.clone(),
        tuning: args.tuning.changed(of.tuning),
        source: Some(source),
        parameters: BTreeMap::new(),
    };
    let watch = WatchedCopy::begin(ui, output)?;
    let made = make(&volumes, new, &of, &keys, &watch)?;
    watch.bar.finish();
    let words = format!(
        "volume {}: made from {}, {}, encryption: {}",
        made.id,
        args.source,
        ui::bytes(made.size),
        description::encryption(&made.encryption)
    );
    report_done(ui, output, &words, &description::value(&made))
}

impl CloneArgs {
    /// Returns what is copied, and what is known of it.
    fn source(&self, volumes: &Volumes) -> Result<(Source, Volume), CommandError> {
        if !self.snapshot {
            let id: VolumeId = self.source.parse()?;
            let volume = volumes.volume(&id)?;
            return Ok((Source::Volume(id), volume));
        }
        let id: SnapshotId = self.source.parse()?;
        let found = volumes.snapshot_of(&id)?.ok_or_else(|| super::snapshots::missing(&id))?;
        Ok((Source::Snapshot(id), found.of))
    }

    fn keys(&self, of: &Volume) -> Result<Keys, CommandError> {
        let policy = self.policy.policy();
        let to = self.new_key.read_for_volume(&policy)?;
        if to.is_none() && !self.reencrypt {
            return Ok(Keys::Kept);
        }
        if !of.encryption.is_encrypted() {
            return Err(problem(
                &self.new,
                VolumeProblem::Mixed {
                    source_name: self.source.clone(),
                    found: "not encrypted".to_owned(),
                    wanted: "encrypted".to_owned(),
                },
            ));
        }
        let from = self.key.read_for_volume(&of.encryption, &policy)?;
        let from = from.ok_or_else(|| no_key(of))?;
        Ok(match to {
            to if self.reencrypt => Keys::Anew { from, to },
            Some((to, encryption)) => Keys::Changed { from, to, encryption },
            None => Keys::Kept,
        })
    }
}

fn make(
    volumes: &Volumes,
    new: NewVolume,
    of: &Volume,
    keys: &Keys,
    watch: &WatchedCopy,
) -> Result<Volume, CommandError> {
    let (from, to, encryption) = match keys {
        Keys::Kept => return Ok(volumes.create(&new, watch)?),
        Keys::Changed { from, to, encryption } => (from, to, encryption),
        Keys::Anew { from, to: Some((to, encryption)) } => (from, to, encryption),
        Keys::Anew { from, to: None } => (from, from, &of.encryption),
    };
    let explain = |error: strongroom::Error| from.advice.explain(error.into());
    let is_formatted = matches!(of.format, FormatState::Formatted { .. });
    if is_formatted && matches!(keys, Keys::Changed { .. }) {
        volumes.create(&new, watch)?;
        return volumes.rekey(&new.id, from.opener(), to.opener(), encryption).map_err(|error| {
            // It was made just now, under a name that nobody had, and has not got the key that it
            // was to have.
            let _ = volumes.delete(&new.id);
            explain(error)
        });
    }
    let new = NewVolume { encryption: encryption.clone(), ..new };
    // At most: what was never written is not copied.
    watch.bar.reach(0, of.size);
    let watch = Watch { progress: &watch.bar, cancelled: &watch.cancelled };
    volumes.copy_anew(&new, from.opener(), to.opener(), watch).map_err(explain)
}

fn problem(id: &VolumeId, problem: VolumeProblem) -> CommandError {
    strongroom::Error::Volume { id: id.to_string(), problem: Box::new(problem) }.into()
}
