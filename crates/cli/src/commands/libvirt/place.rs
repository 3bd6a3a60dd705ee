//! Where secrets and volumes are, and which volume a command means.

use std::path::{Path, PathBuf};

use clap::Args;
use strongroom::libvirt::{Libvirt, VolumeName};
use strongroom_crypto::CostPolicy;
use strongroom_model::dialect::libvirt::Volume;

use crate::command_error::CommandError;
use crate::commands::serve::data_directory;
use crate::passphrases::read_file;
use crate::ui::Ui;

/// Where secrets are kept, and what is known of volumes
#[derive(Debug, Args)]
pub(super) struct DataArgs {
    /// The directory in which secrets are kept and volumes are known [env: STRONGROOM_DATA] [default:
    /// /var/lib/strongroom for root, else $XDG_DATA_HOME/strongroom]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Which volume
#[derive(Debug, Args)]
pub(super) struct VolumeArgs {
    /// The path of the volume; with --pool its name
    #[arg(value_name = "VOLUME")]
    volume: String,

    /// The directory in which the volume is
    #[arg(long, value_name = "DIR")]
    pool: Option<PathBuf>,
}

/// The document of a volume
#[derive(Debug, Args)]
pub(super) struct DocumentArgs {
    /// The document, - for standard input
    #[arg(value_name = "VOLUME.xml")]
    file: PathBuf,

    /// The directory into which the volume goes, under the name that the document gives it [default: where
    /// the path of its target is]
    #[arg(long, value_name = "DIR")]
    pub(super) pool: Option<PathBuf>,
}

impl DataArgs {
    /// Returns what is in the directory.
    ///
    /// # Errors
    ///
    /// When nothing says where it is.
    pub(super) fn open(&self, policy: CostPolicy) -> Result<Libvirt, CommandError> {
        let data = data_directory(self.data.as_deref())?;
        let actor = format!("command line uid {}", rustix::process::getuid().as_raw());
        Ok(Libvirt::in_directory(data, actor).with_policy(policy))
    }
}

impl VolumeArgs {
    /// Returns which volume is meant.
    pub(super) fn name(&self) -> VolumeName {
        volume_name(&self.volume, self.pool.as_deref())
    }
}

impl DocumentArgs {
    /// Reads the document, and tells what of it has no effect.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is none of a volume.
    pub(super) fn read(&self, ui: &mut Ui) -> Result<Volume, CommandError> {
        let (volume, notes) = Volume::read_with_notes(&read_file(&self.file)?)?;
        notes.iter().for_each(|note| ui.warning(note));
        Ok(volume)
    }
}

/// Returns which volume is meant by a path, or by a name in a directory.
pub(super) fn volume_name(volume: &str, pool: Option<&Path>) -> VolumeName {
    match pool {
        None => VolumeName::Path(volume.into()),
        Some(pool) => VolumeName::InPool { pool: pool.to_owned(), name: volume.to_owned() },
    }
}
