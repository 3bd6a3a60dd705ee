//! `strongroom volume create`

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde_json::json;
use strongroom::volumes::{NewVolume, Source, VolumeEncryption, Volumes};
use strongroom_model::{KmsKind, SnapshotId, Tuning, VolumeId};

use super::pool::PoolArgs;
use super::tuning::TuningArgs;
use super::watched_copy::WatchedCopy;
use super::{description, report_done};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::CommandError;
use crate::key_arguments::KeyArgs;
use crate::sizes::size;
use crate::ui::{self, Ui};

/// Make a volume
///
/// It takes space as it is written. Nothing is formatted: that is done, once, when it is attached for
/// the first time, with the key that is given then. Say how it is encrypted: --encrypt passphrase, a KMS
/// (--kms or --storage-class-file), or --plain. A copy is encrypted as its source is. The same command
/// again changes nothing.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The name of the volume
    name: VolumeId,

    /// How much of it can be used; K, M, G, T and P are powers of 1024 [default: that of the source]
    #[arg(long, value_parser = size, required_unless_present_any = ["from", "from_snapshot"])]
    size: Option<u64>,

    /// Encrypt it with a passphrase, which is given when it is attached
    #[arg(long, value_name = "WITH")]
    encrypt: Option<Encrypt>,

    /// Do not encrypt it
    #[arg(long, conflicts_with = "encrypt")]
    plain: bool,

    /// Copy this volume, as it is now
    #[arg(long, value_name = "VOLUME", conflicts_with = "from_snapshot")]
    from: Option<VolumeId>,

    /// Copy this snapshot
    #[arg(long, value_name = "SNAPSHOT")]
    from_snapshot: Option<SnapshotId>,

    #[command(flatten)]
    tuning: TuningArgs,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// With what a volume is encrypted, where that is no KMS.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Encrypt {
    Passphrase,
}

/// Makes the volume.
///
/// # Errors
///
/// What went wrong; nothing is left behind then.
pub(crate) fn run(ui: &mut Ui, args: &CreateArgs) -> Result<(), CommandError> {
    let (policy, output) = (args.policy.policy(), args.output.output());
    let (asked, source) = (args.encryption()?, args.source());
    if asked.is_none() && source.is_none() {
        return Err(unsaid(&args.name));
    }
    if let Some(VolumeEncryption::Kms(request)) = &asked {
        for finding in args.key.probe(request, &policy)? {
            ui.warning(&finding);
        }
    } else if args.key.gives_passphrase() {
        // What cannot be read is better told now.
        args.key.read_new(&policy)?;
        ui.warning("the passphrase is not kept: give it when the volume is attached");
    }
    let volumes = args.pool.open_or_make(policy)?;
    let of_source =
        source.as_ref().map(|source| known(&volumes, source, &args.name)).transpose()?;
    let encryption = asked.or_else(|| of_source.as_ref().map(|(_, found)| found.clone()));
    let size = args.size.or(of_source.map(|(size, _)| size));
    let (Some(encryption), Some(size)) = (encryption, size) else {
        return Err(unsaid(&args.name));
    };
    let new = NewVolume {
        id: args.name.clone(),
        size,
        encryption,
        tuning: args.tuning.changed(Tuning::default()),
        source,
        parameters: BTreeMap::new(),
    };
    let existed = volumes.volume(&new.id).is_ok();
    let watch = WatchedCopy::begin(ui, output)?;
    let made = volumes.create(&new, &watch)?;
    watch.bar.finish();
    let words = format!(
        "volume {}: {}, {}, encryption: {}",
        made.id,
        if existed { "there already" } else { "made" },
        ui::bytes(made.size),
        description::encryption(&made.encryption),
    );
    let mut object = description::value(&made);
    object["existed"] = json!(existed);
    report_done(ui, output, &words, &object)
}

impl CreateArgs {
    /// Returns how the volume is to be encrypted, if somebody said so.
    fn encryption(&self) -> Result<Option<VolumeEncryption>, CommandError> {
        let by_key = self.key.volume_encryption()?;
        match (self.plain, self.encrypt, by_key) {
            (true, _, None) => Ok(Some(VolumeEncryption::None)),
            (true, _, Some(_)) => Err(CommandError::request(
                "--plain makes a volume that is not encrypted, but a key was given for it",
            )
            .hinted("leave one of them out")),
            (false, Some(Encrypt::Passphrase), Some(VolumeEncryption::Kms(_))) => {
                Err(CommandError::request("--encrypt passphrase was given, and a KMS")
                    .hinted("leave one of them out"))
            }
            (false, Some(Encrypt::Passphrase), _) => Ok(Some(VolumeEncryption::Passphrase)),
            (false, None, Some(VolumeEncryption::Kms(request)))
                if request.key_id.is_none()
                    && !matches!(request.kind, KmsKind::Local | KmsKind::Passphrase) =>
            {
                let problem = format!("nobody said which key of the KMS ({}) it is", request.kind);
                Err(CommandError::request(problem).hinted("name it with --kms-key-id"))
            }
            (false, None, encryption) => Ok(encryption),
        }
    }

    fn source(&self) -> Option<Source> {
        let volume = self.from.clone().map(Source::Volume);
        volume.or_else(|| self.from_snapshot.clone().map(Source::Snapshot))
    }
}

/// Returns size and encryption of what a volume is to be a copy of.
///
/// # Errors
///
/// When there is no such thing.
pub(super) fn known(
    volumes: &Volumes,
    source: &Source,
    new: &VolumeId,
) -> Result<(u64, VolumeEncryption), CommandError> {
    let of = match source {
        Source::Volume(id) => volumes.volume(id).ok(),
        Source::Snapshot(id) => volumes.snapshot_of(id)?.map(|snapshot| snapshot.of),
    };
    let of = of.ok_or_else(|| {
        let problem =
            strongroom::volumes::VolumeProblem::NoSource { source_name: source.to_string() };
        strongroom::Error::Volume { id: new.to_string(), problem: Box::new(problem) }
    })?;
    Ok((of.size, of.encryption))
}

fn unsaid(name: &VolumeId) -> CommandError {
    CommandError::request(format!("nobody said how volume {name} is to be encrypted")).hinted(
        "say --encrypt passphrase, or name a KMS with --kms or a StorageClass with \
         --storage-class-file; --plain makes one that is not encrypted",
    )
}
