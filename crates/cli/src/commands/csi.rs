//! `strongroom csi`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use strongroom::volumes::Backend;
use strongroom_csi::{Endpoint, Settings};

use super::volume::pool::PoolArgs;
use crate::arguments::PolicyArgs;
use crate::command_error::CommandError;
use crate::ui::Ui;

/// Offer the volumes of a pool to Kubernetes, as the CSI driver of this node
///
/// It serves until SIGTERM, and ends when the calls that are there by then are answered; attached volumes
/// stay. How a volume is encrypted its StorageClass says (encrypted: "true" with a Secret with CRYPTO_…
/// keys, or encryptionEnabled: "true" with encryptionKMS… and the credentials of the KMS); the Secret is
/// named by csi.storage.k8s.io/node-stage-secret-name and -namespace.
#[derive(Debug, Args)]
pub(crate) struct CsiArgs {
    /// The unix socket to serve: unix:///PATH [env: CSI_ENDPOINT]
    #[arg(long, value_name = "SOCKET")]
    endpoint: Option<String>,

    /// The name of this node in the cluster
    #[arg(long, value_name = "NODE")]
    node_id: String,

    /// The name that StorageClasses call the provisioner: driver.longhorn.io, csi.onmetal.de …
    #[arg(long, value_name = "NAME")]
    driver_name: String,

    #[command(flatten)]
    pool: PoolArgs,

    /// The key for volumes with encryptionKMSType: local, as `strongroom kms init-local` makes it
    #[arg(long, value_name = "FILE")]
    kek_file: Option<PathBuf>,

    /// What decrypts: dm (dm-crypt, in the kernel), fuse, or auto for the best that there is
    #[arg(long, value_name = "BACKEND", default_value = "auto")]
    backend: Way,

    /// Answer this user too, besides root and the one that runs this; may be repeated
    #[arg(long, value_name = "UID")]
    allow_uid: Vec<u32>,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// What decrypts volumes.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    Auto,
    Dm,
    Fuse,
}

/// Serves until somebody says that it is enough.
///
/// # Errors
///
/// When the driver cannot begin.
pub(crate) fn run(ui: &mut Ui, args: CsiArgs) -> Result<(), CommandError> {
    let endpoint: Endpoint = match args.endpoint.or_else(|| std::env::var(VARIABLE).ok()) {
        Some(endpoint) => endpoint.parse()?,
        None => {
            return Err(CommandError::request("nothing says at which socket to serve")
                .hinted("name it with --endpoint unix:///PATH, or in CSI_ENDPOINT"));
        }
    };
    let settings = Settings {
        driver_name: args.driver_name,
        node_id: args.node_id,
        kek_file: args.kek_file,
        backend: args.backend.into(),
        allowed_uids: args.allow_uid,
    };
    let volumes = args.pool.open_or_make(args.policy.policy())?;
    let shown = endpoint.path().display().to_string();
    strongroom_csi::serve(volumes, settings, &endpoint, || {
        ui.status(&format!("serving CSI at {shown}"));
    })?;
    Ok(())
}

impl From<Way> for Backend {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::Dm => Self::Dm,
            Way::Fuse => Self::Fuse,
        }
    }
}

/// Names the socket, as CSI wants it.
const VARIABLE: &str = "CSI_ENDPOINT";
