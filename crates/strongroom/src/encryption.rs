//! From a request in names to options that fit each other.

use strongroom_crypto::{Argon2Variant, CipherSpec, CostPolicy, Hash, Kdf, Passphrase, SectorSize};
use strongroom_luks::{FormatOptions, Version};
use strongroom_model::dialect::longhorn::EncryptionSecret;
use strongroom_model::{EncryptionRequest, EncryptionSettings, LuksFormat, Pbkdf};

use crate::{Error, Result};

/// Returns the format options that a request means.
///
/// # Errors
///
/// Names what is not possible, before anything is done.
pub fn format_options(request: &EncryptionRequest, policy: &CostPolicy) -> Result<FormatOptions> {
    let version = match request.format {
        LuksFormat::Luks1 => Version::Luks1,
        LuksFormat::Luks2 => Version::Luks2,
    };
    let spec: CipherSpec = match &request.cipher {
        Some(cipher) => cipher.parse()?,
        None => CipherSpec::AES_XTS_PLAIN64,
    };
    let encryption = match request.key_size_bits {
        Some(bits) => spec.with_key_bits(bits as usize)?,
        None => spec.with_largest_key(),
    };
    let hash: Hash = match &request.hash {
        Some(hash) => hash.parse()?,
        None => Hash::Sha256,
    };
    let sector_size = match request.sector_size {
        None => SectorSize::B512,
        Some(bytes) => SectorSize::from_bytes(u64::from(bytes)).ok_or_else(|| Error::Request {
            problem: format!("sector size {bytes} does not exist: use 512, 1024, 2048, 4096"),
        })?,
    };
    let kdf = derivation(request, version, hash)?.checked()?;
    policy.check(&kdf, encryption.key_size().bytes())?;
    Ok(FormatOptions {
        encryption,
        hash,
        kdf,
        sector_size,
        data_offset: request.data_offset,
        label: request.label.clone().unwrap_or_default(),
        uuid: request.uuid.clone(),
        ..FormatOptions::new(version)
    })
}

/// Returns the key derivation that a request means, its gaps filled with the fixed defaults.
///
/// # Errors
///
/// When the request gives costs that its function does not have.
pub fn derivation(request: &EncryptionRequest, version: Version, hash: Hash) -> Result<Kdf> {
    let pbkdf = request.pbkdf.unwrap_or(match version {
        Version::Luks1 => Pbkdf::Pbkdf2,
        Version::Luks2 => Pbkdf::Argon2id,
    });
    let variant = match pbkdf {
        Pbkdf::Pbkdf2 => return pbkdf2(request, hash),
        Pbkdf::Argon2i => Argon2Variant::Argon2i,
        Pbkdf::Argon2id => Argon2Variant::Argon2id,
    };
    let Kdf::Argon2 { time, memory_kib, lanes, .. } = Kdf::DEFAULT_ARGON2ID else {
        unreachable!("the default is argon2id");
    };
    Ok(Kdf::Argon2 {
        variant,
        time: request.pbkdf_iterations.unwrap_or(time),
        memory_kib: request.pbkdf_memory_kib.unwrap_or(memory_kib),
        lanes: request.pbkdf_parallel.unwrap_or(lanes),
    })
}

/// Returns the request for a key that a KMS wraps: nothing makes guessing a random key any harder, so
/// its derivation is the cheapest there is.
///
/// # Errors
///
/// [`Error::Request`] when somebody asked for a derivation.
pub(crate) fn managed(request: &EncryptionRequest) -> Result<EncryptionRequest> {
    let given = request.pbkdf.is_some()
        || request.pbkdf_memory_kib.is_some()
        || request.pbkdf_iterations.is_some()
        || request.pbkdf_parallel.is_some();
    if given {
        return Err(Error::Request { problem: NOTHING_TO_DERIVE.to_owned() });
    }
    Ok(EncryptionRequest {
        pbkdf: Some(Pbkdf::Pbkdf2),
        pbkdf_iterations: Some(Kdf::MIN_PBKDF2_ITERATIONS),
        ..request.clone()
    })
}

/// Returns a Secret's passphrase and settings.
///
/// # Errors
///
/// When the manifest is not one encryption Secret.
pub fn read_secret(manifest: &[u8]) -> Result<(EncryptionSettings, Passphrase)> {
    let (settings, mut bytes) = EncryptionSecret::parse(manifest)?.into_parts();
    Ok((settings, Passphrase::new(std::mem::take(&mut *bytes))))
}

fn pbkdf2(request: &EncryptionRequest, hash: Hash) -> Result<Kdf> {
    if request.pbkdf_memory_kib.is_some() || request.pbkdf_parallel.is_some() {
        return Err(Error::Request {
            problem: "pbkdf2 takes neither memory nor parallel lanes: only argon2 does".to_owned(),
        });
    }
    Ok(match request.pbkdf_iterations {
        Some(iterations) => Kdf::Pbkdf2 { hash, iterations },
        None => Kdf::default_pbkdf2(hash),
    })
}

/// Why a key that a KMS wraps has no key derivation to choose.
const NOTHING_TO_DERIVE: &str = "the data key that a KMS wraps is random, so nothing makes guessing it \
                                 any harder: leave the key derivation out";
