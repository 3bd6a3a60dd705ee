//! `strongroom volume attach`

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};
use strongroom::Error;
use strongroom::volumes::{
    AttachRequest, Backend, FormatState, Show, Volume, VolumeProblem, Volumes,
};
use strongroom_attach::loop_device::Access;
use strongroom_attach::nbd::TlsFiles;
use strongroom_model::{EncryptionSettings, FileSystem, Pbkdf, VolumeId};

use super::description;
use super::pool::{PoolArgs, absolute};
use crate::arguments::{OutputArgs, PolicyArgs};
use crate::command_error::{CommandError, quoted};
use crate::key_arguments::{GivenVolumeKey, KeyArgs};
use crate::ui::{Output, Ui};

/// Let a volume appear on this machine: mounted, as a device, or over NBD
///
/// A volume that was never formatted is formatted now, with the key that is given, and never again. What
/// is printed is the directory, the device or the URI of the export. A volume that is attached in the
/// same way already stays as it is. Of a KMS the catalog knows what was said when the volume was made:
/// only what proves who you are is needed (--kms-token-file, --secret-file …).
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("show").required(true).args(["mount", "device", "nbd"])))]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    pub(super) pool: PoolArgs,

    /// The volume
    name: VolumeId,

    /// Mount its file system at this directory; a new volume gets one first
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,

    /// Show it as a block device; for others than root, as a file
    #[arg(long)]
    device: bool,

    /// Export it over NBD at this unix socket, or at this port of this machine
    #[arg(long, value_name = "SOCKET|HOST:PORT")]
    nbd: Option<String>,

    /// Let NBD clients begin with TLS, and show them this certificate (PEM, with its chain)
    #[arg(long, value_name = "FILE", requires_all = ["nbd", "nbd_key_file"])]
    nbd_cert_file: Option<PathBuf>,

    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "nbd_cert_file")]
    nbd_key_file: Option<PathBuf>,

    /// Serve only NBD clients with a certificate of these authorities (PEM); then the address may be one
    /// of the network
    #[arg(long, value_name = "FILE", requires = "nbd_cert_file")]
    nbd_ca_file: Option<PathBuf>,

    /// The file system to mount, and to make in a new volume: ext4 or xfs [default: the one that it
    /// has, else ext4]
    #[arg(long, value_name = "FS")]
    file_system: Option<FileSystem>,

    /// Options of the mount: noatime, discard …
    #[arg(long, value_name = "OPTION,…", value_delimiter = ',')]
    options: Vec<String>,

    /// What decrypts: dm (dm-crypt, in the kernel), fuse, nbd, or auto for the best that there is
    #[arg(long, value_name = "BACKEND", default_value = "auto")]
    backend: Way,

    /// Allow reads only
    #[arg(long)]
    read_only: bool,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    format: FormatArgs,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// How a volume with a passphrase is encrypted, if it is formatted now
#[derive(Debug, Args)]
#[command(next_help_heading = "Formatting a new volume")]
struct FormatArgs {
    /// Cipher, mode and IV [default: the Secret's, or aes-xts-plain64]
    #[arg(long, value_name = "CIPHER")]
    cipher: Option<String>,

    /// Size of the volume key [default: the Secret's, or 512]
    #[arg(long, value_name = "BITS")]
    key_size: Option<u32>,

    /// Hash of key digest and PBKDF2 [default: the Secret's, or sha256]
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,

    /// argon2id, argon2i or pbkdf2 [default: the Secret's, or argon2id]
    #[arg(long)]
    pbkdf: Option<Pbkdf>,

    /// Memory of argon2 [default: 524288, whatever the machine]
    #[arg(long, value_name = "KIB")]
    pbkdf_memory: Option<u32>,

    /// Passes of argon2 [default: 4] or iterations of pbkdf2 [default: 2000000 for sha256]
    #[arg(long, value_name = "N")]
    pbkdf_iterations: Option<u32>,
}

/// What decrypts a volume.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    Auto,
    Dm,
    Fuse,
    Nbd,
}

/// Attaches the volume.
///
/// # Errors
///
/// What went wrong. Nothing is formatted but what was never used.
pub(crate) fn run(ui: &mut Ui, args: &AttachArgs) -> Result<(), CommandError> {
    args.check()?;
    let policy = args.policy.policy();
    let volumes = args.pool.open(policy)?;
    let volume = volumes.volume(&args.name)?;
    let show = args.show(&volume)?;
    let mut key = args.key.read_for_volume(&volume.encryption, &policy)?;
    args.format.apply(ui, &volume, key.as_mut())?;
    let request = AttachRequest {
        opener: key.as_ref().map(GivenVolumeKey::opener),
        backend: args.backend.into(),
        show,
        access: if args.read_only { Access::ReadOnly } else { Access::ReadWrite },
    };
    let attached = volumes.attach(&args.name, &request).map_err(|error| {
        let error = with_header_backup(&volumes, &args.name, error);
        match &key {
            Some(key) => key.advice.explain(error),
            None => error,
        }
    })?;
    match args.output.output() {
        Output::Json => ui.json(&description::attachment_value(&attached)),
        Output::Text => {
            ui.data(&description::place(&attached))?;
            let words = description::attachment_words(&attached);
            ui.status(&format!("volume {}: {words}", args.name));
            Ok(())
        }
    }
}

impl AttachArgs {
    /// Refuses options for a mount where there is none.
    fn check(&self) -> Result<(), CommandError> {
        let option = match (self.file_system, self.options.is_empty()) {
            (Some(_), _) => "--file-system",
            (None, false) => "--options",
            (None, true) => return Ok(()),
        };
        if self.mount.is_some() {
            return Ok(());
        }
        Err(CommandError::request(format!("{option} says something of a mount, and there is none"))
            .hinted("leave it out, or mount the volume with --mount DIR"))
    }

    /// Returns the files for TLS, by names that a service finds wherever it runs.
    fn tls(&self) -> Result<Option<TlsFiles>, CommandError> {
        let find = |path: &PathBuf| {
            std::fs::canonicalize(path).map_err(|source| {
                CommandError::io(format!("cannot read {}", path.display()), source)
            })
        };
        let (Some(certificates), Some(key)) = (&self.nbd_cert_file, &self.nbd_key_file) else {
            return Ok(None);
        };
        let client_authorities = self.nbd_ca_file.as_ref().map(find).transpose()?;
        Ok(Some(TlsFiles {
            certificates: find(certificates)?,
            key: find(key)?,
            client_authorities,
        }))
    }

    fn show(&self, volume: &Volume) -> Result<Show, CommandError> {
        if let Some(address) = &self.nbd {
            return Ok(Show::Nbd { address: nbd_address(address)?, tls: self.tls()? });
        }
        let Some(directory) = &self.mount else { return Ok(Show::Device) };
        let target = std::fs::canonicalize(directory).map_err(|source| {
            let missing = source.kind() == std::io::ErrorKind::NotFound;
            let error =
                CommandError::io(format!("cannot mount at {}", directory.display()), source);
            if missing {
                let path = quoted(&directory.display().to_string());
                error.hinted(format!("make the directory first: mkdir -p {path}"))
            } else {
                error
            }
        })?;
        let file_system = self.file_system.or(volume.file_system).unwrap_or_default();
        Ok(Show::Mount { target, file_system, options: self.options.clone() })
    }
}

impl FormatArgs {
    /// Adds what was said of a new volume to what its Secret says.
    fn apply(
        &self,
        ui: &mut Ui,
        volume: &Volume,
        key: Option<&mut GivenVolumeKey>,
    ) -> Result<(), CommandError> {
        if !self.is_given() {
            return Ok(());
        }
        if let FormatState::Formatted { .. } = volume.format {
            ui.warning("the volume is formatted already: what was said of a new one is not used");
            return Ok(());
        }
        let Some(key) = key else { return Ok(()) };
        let Some(settings) = key.settings_mut() else {
            return Err(CommandError::request(
                "options for formatting are for volumes with a passphrase",
            )
            .hinted("leave them out"));
        };
        *settings = Some(self.merged(settings.take()));
        Ok(())
    }

    fn merged(&self, of_secret: Option<EncryptionSettings>) -> EncryptionSettings {
        let usual = of_secret.unwrap_or_else(|| EncryptionSettings {
            cipher: "aes-xts-plain64".to_owned(),
            key_size_bits: 512,
            hash: "sha256".to_owned(),
            pbkdf: Pbkdf::Argon2id,
            pbkdf_memory_kib: None,
            pbkdf_iterations: None,
        });
        let pbkdf = self.pbkdf.unwrap_or(usual.pbkdf);
        // The costs of one function are nothing to another.
        let same = pbkdf == usual.pbkdf;
        EncryptionSettings {
            cipher: self.cipher.clone().unwrap_or(usual.cipher),
            key_size_bits: self.key_size.unwrap_or(usual.key_size_bits),
            hash: self.hash.clone().unwrap_or(usual.hash),
            pbkdf,
            pbkdf_memory_kib: self.pbkdf_memory.or(usual.pbkdf_memory_kib.filter(|_| same)),
            pbkdf_iterations: self.pbkdf_iterations.or(usual.pbkdf_iterations.filter(|_| same)),
        }
    }

    fn is_given(&self) -> bool {
        self.cipher.is_some()
            || self.key_size.is_some()
            || self.hash.is_some()
            || self.pbkdf.is_some()
            || self.pbkdf_memory.is_some()
            || self.pbkdf_iterations.is_some()
    }
}

impl From<Way> for Backend {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::Dm => Self::Dm,
            Way::Fuse => Self::Fuse,
            Way::Nbd => Self::Nbd,
        }
    }
}

/// Returns an address that means the same in every directory.
fn nbd_address(text: &str) -> Result<String, CommandError> {
    let is_port = |(host, port): (&str, &str)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    };
    if text.rsplit_once(':').is_some_and(is_port) {
        return Ok(text.to_owned());
    }
    let path = absolute(Path::new(text))?;
    path.into_os_string().into_string().map_err(|_| {
        CommandError::request("the path of the socket is not UTF-8").hinted("choose another one")
    })
}

/// Adds to an error about a header which copy of it can be put back, and how.
fn with_header_backup(volumes: &Volumes, id: &VolumeId, error: Error) -> CommandError {
    let is_of_header = matches!(&error, Error::Volume { problem, .. } if matches!(
        **problem,
        VolumeProblem::HeaderGone { .. } | VolumeProblem::OtherHeader { .. }
    ));
    let error = CommandError::from(error);
    if !is_of_header {
        return error;
    }
    let backup = volumes.report(id).ok().and_then(|report| report.header_backup);
    let (Some(backup), Ok(device)) = (backup, volumes.device_path(id)) else { return error };
    let path = |path: &Path| quoted(&path.display().to_string());
    error.hinted(format!(
        "the saved copy goes back with `strongroom luks header-restore {} {} --force`",
        path(&device),
        path(&backup.path)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ports_of_hosts_or_paths() {
        for port in ["127.0.0.1:10809", "localhost:1", "[::1]:80"] {
            assert_eq!(nbd_address(port).unwrap(), port);
        }
        assert_eq!(nbd_address("/run/x:80").unwrap(), "/run/x:80");
        let relative = nbd_address("x.sock").unwrap();
        assert!(relative.starts_with('/') && relative.ends_with("/x.sock"), "{relative}");
    }
}
