//! `strongroom serve`

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use strongroom::ErrorKind;
use strongroom::jobs::Limits;
use strongroom::library::Downloads;
use strongroom_model::Reach;
use strongroom_server::{Error, Log, LogLevel, Settings, TlsFiles};

use super::volume::pool::{absolute, launcher};
use crate::arguments::PolicyArgs;
use crate::command_error::CommandError;
use crate::sizes::size;
use crate::ui::Ui;

/// Keep documents, and do what they ask for: images, volumes, claims
///
/// It serves Kubernetes' API for the kinds of documents that it knows, so that kubectl works with it, until
/// SIGTERM; jobs that are not done by then go on with the next start. Everything is in one directory. The
/// first start writes the token of the admin to DIR/admin.token. Without a certificate it listens on the
/// loopback device alone.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The directory with everything that the server keeps [env: STRONGROOM_DATA] [default:
    /// /var/lib/strongroom for root, else $XDG_DATA_HOME/strongroom]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7480")]
    listen: SocketAddr,

    /// The certificate to show, with those that lead to its root, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,

    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,

    /// Where the volumes of libvirt's documents lie [default: `libvirt` in the data directory]
    #[arg(long, value_name = "DIR")]
    libvirt_pool: Option<PathBuf>,

    /// Let documents name images on this machine, too, or on its own link: whoever may apply documents can
    /// then reach what only this machine can
    #[arg(long)]
    allow_loopback_downloads: bool,

    /// A file with certificates to trust beside the system's own when images are fetched, in PEM
    #[arg(long, value_name = "FILE")]
    download_ca_file: Option<PathBuf>,

    /// How many jobs run at once
    #[arg(long, value_name = "N", default_value = "3")]
    jobs: NonZeroUsize,

    /// How much memory jobs may take together
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    job_memory: u64,

    /// How many bytes a job copies in a second at most; the annotation strongroom.io/rate-limit of a document
    /// says otherwise for its jobs
    #[arg(long, value_name = "SIZE", value_parser = size)]
    job_rate_limit: Option<u64>,

    /// What to say on standard error while serving [env: STRONGROOM_LOG] [default: info]
    #[arg(long, value_enum, value_name = "LEVEL")]
    log_level: Option<Level>,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Nothing
    Off,
    /// What has failed
    Error,
    /// Also what was changed or refused, and how jobs go
    Info,
    /// Also every request
    Debug,
}

/// Serves until somebody says that it is enough.
///
/// # Errors
///
/// When the server cannot begin.
pub(crate) fn run(ui: &mut Ui, args: ServeArgs) -> Result<(), CommandError> {
    let level = log_level(args.log_level)?;
    let tls = args.tls_cert_file.zip(args.tls_key_file);
    let settings = Settings {
        data: data_directory(args.data.as_deref())?,
        listen: args.listen,
        libvirt_pool: args.libvirt_pool.as_deref().map(absolute).transpose()?,
        tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        downloads: Downloads {
            reach: match args.allow_loopback_downloads {
                true => Reach::Anywhere,
                false => Reach::OtherHosts,
            },
            ca_file: args.download_ca_file,
        },
        limits: Limits {
            at_once: args.jobs.get(),
            memory: args.job_memory,
            first_pause: FIRST_PAUSE,
            longest_pause: LONGEST_PAUSE,
            attempts: ATTEMPTS,
        },
        rate_limit: rate_limit(args.job_rate_limit)?,
        policy: args.policy.policy(),
        launcher: launcher()?,
        log: Log::stderr(level),
    };
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    strongroom_server::serve(&settings, |serving| {
        ui.status(&format!("serving {scheme}://{}", serving.address));
        ui.status(&format!("the admin's token is in {}", serving.token_file.display()));
        for aside in &serving.set_aside {
            let problem = &aside.problem;
            ui.warning(&format!("a document is left alone, since it cannot be read: {problem}"));
        }
    })?;
    Ok(())
}

/// Returns how fast jobs may be.
fn rate_limit(named: Option<u64>) -> Result<Option<NonZeroU64>, CommandError> {
    let Some(named) = named else { return Ok(None) };
    let problem = || CommandError::request("--job-rate-limit is 1 or more bytes in a second");
    NonZeroU64::new(named).map(Some).ok_or_else(problem)
}

/// Returns how much is said: what was asked for, else what the environment says.
fn log_level(named: Option<Level>) -> Result<LogLevel, CommandError> {
    let variable = || std::env::var_os(LOG_VARIABLE).filter(|value| !value.is_empty());
    let level = match (named, named.is_none().then(variable).flatten()) {
        (Some(level), _) => level,
        (None, None) => Level::Info,
        (None, Some(value)) => Level::from_str(&value.to_string_lossy(), false).map_err(|_| {
            CommandError::request(format!("{LOG_VARIABLE} is none of off, error, info and debug"))
        })?,
    };
    Ok(match level {
        Level::Off => LogLevel::Off,
        Level::Error => LogLevel::Error,
        Level::Info => LogLevel::Info,
        Level::Debug => LogLevel::Debug,
    })
}

/// Returns the data directory of a server: the one that was named, or the usual one.
///
/// # Errors
///
/// When nothing says where that is.
pub(crate) fn data_directory(named: Option<&Path>) -> Result<PathBuf, CommandError> {
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    if let Some(named) = named {
        return absolute(named);
    }
    if let Some(named) = variable(VARIABLE) {
        return absolute(Path::new(&named));
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(OF_ROOT));
    }
    let data = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|data| data.is_absolute());
    let home = || variable("HOME").map(|home| Path::new(&home).join(".local/share"));
    let data = data.or_else(home).ok_or_else(|| {
        CommandError::request("nothing says where your files lie: HOME is not set")
            .hinted("name the directory with --data DIR, or with STRONGROOM_DATA")
    })?;
    Ok(data.join(BELOW))
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        match error {
            Error::Strongroom(error) => error.into(),
            Error::Settings { problem } => Self::request(problem),
            Error::InUse { .. } => Self::of_kind(ErrorKind::Busy, error.to_string())
                .hinted("stop it, or name another directory with --data DIR"),
            Error::Io { what, source } => Self::io(what, source),
            Error::Exists { .. } => Self::of_kind(ErrorKind::AlreadyExists, error.to_string()),
            Error::NotFound { .. } => Self::of_kind(ErrorKind::NotFound, error.to_string()),
            error => Self::of_kind(ErrorKind::Io, error.to_string()),
        }
    }
}

/// Names how much is said.
const LOG_VARIABLE: &str = "STRONGROOM_LOG";

/// Names the data directory.
const VARIABLE: &str = "STRONGROOM_DATA";

/// The data directory of root.
const OF_ROOT: &str = "/var/lib/strongroom";

/// The data directory of anybody else, where their data lies.
const BELOW: &str = "strongroom";

/// How long a job that has failed waits until it is tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The longest that it waits, after many failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How often a job is tried.
const ATTEMPTS: u32 = 8;
