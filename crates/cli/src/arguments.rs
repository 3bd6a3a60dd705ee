//! Groups of arguments that several commands share.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use strongroom::OwnedNewKey;
use strongroom_crypto::{CostPolicy, Hash, Kdf, Passphrase};
use strongroom_luks::Version;
use strongroom_model::{
    CacheMode, Checksum, CloneRequest, ClusterCompression, EncryptionRequest, ExistingTarget,
    ImageFormat, ImageOperation, ImageSource, ImageTarget, LuksFormat, Pbkdf, Resume,
    encrypted_target,
};

use crate::command_error::CommandError;
use crate::key_arguments::GivenNewKey;
use crate::ui::Output;

/// What becomes of source and target
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// The image to read: a file, an http:// or https:// address, or - for standard input (raw)
    source: String,

    /// The image to make: a file, or - for standard output (raw and raw LUKS; what --json prints then
    /// goes to standard error)
    target: String,

    /// Replace the target if it exists
    #[arg(long)]
    force: bool,

    /// Format of the source: raw, qcow2, luks1, luks2 or qcow2-luks [default: qcow2 for a name that
    /// ends in .qcow2, else LUKS where something encrypted is needed, else raw]
    #[arg(long, value_name = "FORMAT")]
    source_format: Option<ImageFormat>,

    /// Checksum that the source must have: sha256:HEX or sha512:HEX; otherwise there is no target
    #[arg(long, value_name = "CHECKSUM")]
    checksum: Option<Checksum>,

    /// Read backing and data files that a qcow2 source names, if they lie in this directory; may be
    /// repeated
    #[arg(long, value_name = "DIR")]
    backing_from: Vec<PathBuf>,

    /// Trust the certificates in this PEM file too, for https:// sources
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    #[command(flatten)]
    job: JobArgs,
}

/// How the work is done
#[derive(Debug, Args)]
#[command(next_help_heading = "Job")]
struct JobArgs {
    /// Keep a journal beside the unfinished target, so that an interrupted job can go on; go on
    /// with the one that is there. A server must send ranges, and an ETag or a modification date
    /// by which the source is known again; the query of its URL may be another one
    #[arg(long)]
    resume: bool,

    /// Copy at most so many bytes a second; K, M and G are 1024, 1024² and 1024³
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    rate_limit: Option<NonZeroU64>,

    /// What the system keeps in memory of source and target files: writeback, or none (O_DIRECT)
    #[arg(long, value_name = "MODE", default_value = "writeback", value_parser = cache_mode)]
    cache: CacheMode,

    /// Work with this many threads; the result is the same
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// What a target that is not encrypted is like
#[derive(Debug, Args)]
pub(crate) struct PlainTargetArgs {
    /// Format of the target: raw or qcow2 [default: qcow2 for a name that ends in .qcow2, else raw]
    #[arg(long, value_name = "FORMAT")]
    format: Option<ImageFormat>,

    /// Compress the clusters of a qcow2 target: zlib, or zstd (QEMU 5.1 and later)
    #[arg(long, value_name = "KIND", value_parser = compression)]
    compress: Option<ClusterCompression>,
}

/// How the target is encrypted
#[derive(Debug, Args)]
pub(crate) struct EncryptionArgs {
    /// Format of the target: luks2, luks1 or qcow2-luks [default: qcow2-luks for a name that ends in
    /// .qcow2, else luks2]
    #[arg(long, value_name = "FORMAT")]
    format: Option<ImageFormat>,

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
        let existing_target =
            if self.force { ExistingTarget::Replace } else { ExistingTarget::Refuse };
        CloneRequest {
            source_format: self.source_format,
            checksum: self.checksum.clone(),
            backing_from: self.backing_from.clone(),
            ca_file: self.ca_file.clone(),
            existing_target,
            resume: if self.job.resume { Resume::Allowed } else { Resume::Never },
            rate_limit: self.job.rate_limit,
            cache: self.job.cache,
            threads: self.job.threads,
            ..CloneRequest::new(source(&self.source), self.target(), operation)
        }
    }

    fn target(&self) -> ImageTarget {
        match self.target.as_str() {
            "-" => ImageTarget::StandardOutput,
            path => ImageTarget::File(path.into()),
        }
    }
}

impl PlainTargetArgs {
    /// Adds what was said of the target to a request.
    pub(crate) fn complete(&self, request: CloneRequest) -> CloneRequest {
        CloneRequest { target_format: self.format, compression: self.compress, ..request }
    }
}

impl EncryptionArgs {
    /// Returns what was asked for, its gaps filled from the Secret of the key, and the format of the
    /// target if somebody said it.
    ///
    /// # Errors
    ///
    /// When the format is not encrypted, or calibration fails.
    pub(crate) fn request(
        &self,
        target: &TargetArgs,
        key: &GivenNewKey,
        policy: &CostPolicy,
    ) -> Result<(EncryptionRequest, Option<ImageFormat>), CommandError> {
        let format = encrypted_target(self.format, &target.target(), LuksFormat::default())?;
        let request = self.encryption(format.luks().unwrap_or_default(), Some(key), policy)?;
        Ok((request, self.format))
    }

    /// Returns the format if somebody said it.
    pub(crate) fn format(&self) -> Option<ImageFormat> {
        self.format
    }

    /// Returns what was asked for, for a header of that version, its gaps filled from the Secret of
    /// the key.
    ///
    /// # Errors
    ///
    /// When calibration fails.
    pub(crate) fn encryption(
        &self,
        format: LuksFormat,
        key: Option<&GivenNewKey>,
        policy: &CostPolicy,
    ) -> Result<EncryptionRequest, CommandError> {
        let is_managed = key.is_some_and(|given| matches!(given.key, OwnedNewKey::Kms { .. }));
        if is_managed && self.derivation.is_given() {
            return Err(CommandError::request(
                "the data key that a KMS wraps is random: no key derivation makes it any stronger",
            )
            .hinted("leave the options for key derivation (--pbkdf…) out"));
        }

        let request = EncryptionRequest {
            format,
            cipher: self.cipher.clone(),
            key_size_bits: self.key_size,
            hash: self.hash.clone(),
            sector_size: self.sector_size,
            data_offset: self.data_offset,
            label: self.label.clone(),
            uuid: self.uuid.clone(),
            ..self.derivation.request()
        };
        let mut request = match key.and_then(|given| given.settings.as_ref()) {
            Some(settings) => request.merged_with(settings),
            None => request,
        };
        if is_managed {
            // What a Secret says of it is about a passphrase in a keyslot.
            request = EncryptionRequest {
                pbkdf: None,
                pbkdf_memory_kib: None,
                pbkdf_iterations: None,
                pbkdf_parallel: None,
                ..request
            };
        }
        if let Some(target) = self.derivation.pbkdf_time {
            let version = match format {
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
        if !self.is_given() {
            return Ok(None);
        }
        let kdf = strongroom::encryption::derivation(&self.request(), version, Hash::Sha256)?;
        match self.pbkdf_time {
            Some(target) => calibrate(kdf, target, policy).map(Some),
            None => Ok(Some(kdf)),
        }
    }

    /// Returns what was asked for of the key derivation of a new volume, measured where a time was asked
    /// for.
    ///
    /// # Errors
    ///
    /// When the costs do not belong to the function.
    pub(crate) fn settled(
        &self,
        version: Version,
        policy: &CostPolicy,
    ) -> Result<EncryptionRequest, CommandError> {
        let request = self.request();
        let kdf = match self.pbkdf_time {
            Some(_) => self.kdf(version, policy)?,
            None => None,
        };
        Ok(EncryptionRequest {
            pbkdf_iterations: kdf.map(iterations).or(request.pbkdf_iterations),
            ..request
        })
    }

    fn is_given(&self) -> bool {
        self.pbkdf.is_some()
            || self.pbkdf_memory.is_some()
            || self.pbkdf_iterations.is_some()
            || self.pbkdf_parallel.is_some()
            || self.pbkdf_time.is_some()
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

/// Returns where an image is read from.
fn source(text: &str) -> ImageSource {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match (text, scheme.as_deref()) {
        ("-", _) => ImageSource::StandardInput,
        (url, Some("http" | "https")) => ImageSource::Url(url.to_owned()),
        (path, _) => ImageSource::File(path.into()),
    }
}

fn compression(name: &str) -> Result<ClusterCompression, &'static str> {
    match name {
        "zlib" => Ok(ClusterCompression::Zlib),
        "zstd" => Ok(ClusterCompression::Zstd),
        _ => Err("it is one of zlib, zstd"),
    }
}

fn cache_mode(name: &str) -> Result<CacheMode, &'static str> {
    match name {
        "writeback" => Ok(CacheMode::Writeback),
        "none" => Ok(CacheMode::None),
        _ => Err("it is one of writeback, none"),
    }
}

/// Reads a number of bytes with a binary unit.
fn rate(text: &str) -> Result<NonZeroU64, &'static str> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .and_then(NonZeroU64::new)
        .ok_or("it is a positive number of bytes, as 1048576 or 100M")
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
