//! Groups of arguments that several commands share.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use strongroom_crypto::{CostPolicy, Hash, Kdf, Passphrase};
use strongroom_luks::Version;
use strongroom_model::{
    CloneRequest, EncryptionRequest, EncryptionSettings, ExistingTarget, ImageOperation,
    LuksFormat, Pbkdf,
};

use crate::command_error::CommandError;
use crate::ui::Output;

/// What becomes of source and target
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The image to read
    source: PathBuf,

    /// The image to make
    target: PathBuf,

    /// Replace the target if it exists
    #[arg(long)]
    force: bool,

    /// Work with this many threads; the result is the same
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// How the target is encrypted
#[derive(Debug, Args)]
pub(crate) struct EncryptionArgs {
    /// The header's format: luks2 or luks1
    #[arg(long, value_name = "FORMAT", default_value = "luks2")]
    format: LuksFormat,

    /// Cipher, mode and IV [default: aes-xts-plain64]
    #[arg(long, value_name = "CIPHER")]
    cipher: Option<String>,

    /// Size of the volume key; aes-xts with 256 bits is AES-128 [default: the cipher's largest]
    #[arg(long, value_name = "BITS")]
    key_size: Option<u32>,

    /// Hash of key digest and PBKDF2 [default: sha256]
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,

    /// Size of an encryption sector in bytes: 512, 1024, 2048 or 4096 [default: 512]
    #[arg(long, value_name = "BYTES")]
    sector_size: Option<u32>,

    /// Where the encrypted data begins [default: 16 MiB for LUKS2, 2 MiB or less for LUKS1]
    #[arg(long, value_name = "BYTES")]
    data_offset: Option<u64>,

    #[command(flatten)]
    derivation: DerivationArgs,

    /// A label for the header (LUKS2)
    #[arg(long)]
    label: Option<String>,

    /// The volume's UUID [default: random]
    #[arg(long)]
    uuid: Option<String>,
}

/// What it costs to try a passphrase
#[derive(Debug, Args)]
#[command(next_help_heading = "Key derivation")]
pub(crate) struct DerivationArgs {
    /// argon2id, argon2i or pbkdf2 [default: argon2id for LUKS2, pbkdf2 for LUKS1]
    #[arg(long)]
    pbkdf: Option<Pbkdf>,

    /// Memory of argon2 [default: 524288, whatever the machine]
    #[arg(long, value_name = "KIB")]
    pbkdf_memory: Option<u32>,

    /// Passes of argon2 [default: 4] or iterations of pbkdf2 [default: 2000000 for sha256]
    #[arg(long, value_name = "N")]
    pbkdf_iterations: Option<u32>,

    /// Lanes of argon2 [default: 4]
    #[arg(long, value_name = "N")]
    pbkdf_parallel: Option<u32>,

    /// Raise the iterations until opening takes this long here; never lowers them
    #[arg(long, value_name = "MS", conflicts_with = "pbkdf_iterations")]
    pbkdf_time: Option<u64>,
}

/// What key derivation may cost at most
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct PolicyArgs {
    /// Refuse key derivation that needs more memory
    #[arg(long, value_name = "KIB", default_value_t = CostPolicy::default().max_memory_kib)]
    max_kdf_memory: u64,

    /// Refuse key derivation that needs more time on a modest machine
    #[arg(long, value_name = "SECONDS", default_value_t = CostPolicy::default().max_time.as_secs())]
    max_kdf_time: u64,
}

/// How the result is printed
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl TargetArgs {
    /// Returns the request to make the target from the source.
    pub(crate) fn request(&self, operation: ImageOperation) -> CloneRequest {
        CloneRequest {
            source: self.source.clone(),
            target: self.target.clone(),
            operation,
            existing_target: if self.force {
                ExistingTarget::Replace
            } else {
                ExistingTarget::Refuse
            },
            threads: self.threads,
        }
    }
}

impl EncryptionArgs {
    /// Returns what was asked for, its gaps filled from a Secret.
    ///
    /// # Errors
    ///
    /// When calibration fails.
    pub(crate) fn request(
        &self,
        settings: Option<&EncryptionSettings>,
        policy: &CostPolicy,
    ) -> Result<EncryptionRequest, CommandError> {
        let request = EncryptionRequest {
            format: self.format,
            cipher: self.cipher.clone(),
            key_size_bits: self.key_size,
            hash: self.hash.clone(),
            sector_size: self.sector_size,
            data_offset: self.data_offset,
            label: self.label.clone(),
            uuid: self.uuid.clone(),
            ..self.derivation.request()
        };
        let mut request = match settings {
            Some(settings) => request.merged_with(settings),
            None => request,
        };
        if let Some(target) = self.derivation.pbkdf_time {
            let version = match self.format {
                LuksFormat::Luks1 => Version::Luks1,
                LuksFormat::Luks2 => Version::Luks2,
            };
            let hash = hash(request.hash.as_deref())?;
            let kdf = strongroom::encryption::derivation(&request, version, hash)?;
            request.pbkdf_iterations = Some(iterations(calibrate(kdf, target, policy)?));
        }
        Ok(request)
    }
}

impl DerivationArgs {
    /// Returns the key derivation for a keyslot of a header, `None` for the format's default.
    ///
    /// # Errors
    ///
    /// When the costs do not belong to the function.
    pub(crate) fn kdf(
        &self,
        version: Version,
        policy: &CostPolicy,
    ) -> Result<Option<Kdf>, CommandError> {
        let given = self.pbkdf.is_some()
            || self.pbkdf_memory.is_some()
            || self.pbkdf_iterations.is_some()
            || self.pbkdf_parallel.is_some()
            || self.pbkdf_time.is_some();
        if !given {
            return Ok(None);
        }
        let kdf = strongroom::encryption::derivation(&self.request(), version, Hash::Sha256)?;
        match self.pbkdf_time {
            Some(target) => calibrate(kdf, target, policy).map(Some),
            None => Ok(Some(kdf)),
        }
    }

    fn request(&self) -> EncryptionRequest {
        EncryptionRequest {
            pbkdf: self.pbkdf,
            pbkdf_memory_kib: self.pbkdf_memory,
            pbkdf_iterations: self.pbkdf_iterations,
            pbkdf_parallel: self.pbkdf_parallel,
            ..EncryptionRequest::default()
        }
    }
}

impl PolicyArgs {
    /// Returns the limits.
    pub(crate) fn policy(&self) -> CostPolicy {
        CostPolicy {
            max_memory_kib: self.max_kdf_memory,
            max_time: Duration::from_secs(self.max_kdf_time),
        }
    }
}

impl OutputArgs {
    /// Returns how to print.
    pub(crate) fn output(&self) -> Output {
        if self.json { Output::Json } else { Output::Text }
    }
}

/// Raises the iterations so that a derivation takes about `target` milliseconds on this machine.
fn calibrate(kdf: Kdf, target: u64, policy: &CostPolicy) -> Result<Kdf, CommandError> {
    let sample = Passphrase::new(b"a passphrase to measure with".to_vec());
    let start = Instant::now();
    kdf.derive(&sample, &[0; 32], policy, &mut [0; 64])?;
    let kdf = kdf.calibrated(start.elapsed(), Duration::from_millis(target));
    policy.check(&kdf, 64)?;
    Ok(kdf)
}

fn iterations(kdf: Kdf) -> u32 {
    match kdf {
        Kdf::Pbkdf2 { iterations, .. } => iterations,
        Kdf::Argon2 { time, .. } => time,
    }
}

fn hash(name: Option<&str>) -> Result<Hash, CommandError> {
    Ok(name.unwrap_or("sha256").parse::<Hash>()?)
}
