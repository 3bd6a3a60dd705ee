//! What an image is, found out once, when all of its bytes are there.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use strongroom_crypto::{Kdf, Passphrase};
use strongroom_disk::qcow2::{self, Closed, Qcow2};
use strongroom_disk::{Access, Disk, Raw};
use strongroom_luks::{Header, Version};
use strongroom_model::{ImageFormat, ImageId};

use super::folder::failed;
use super::problem::refuse_odd;
use super::{ImageEncryption, ImageProblem, Library, format_of, label};
use crate::device::{self, read_first};
use crate::images::{self, Work};
use crate::volumes::digest_of;
use crate::{Error, Opener, Result, qcow2_image};

/// What an image is.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) format: ImageFormat,
    /// The length of its file.
    pub(super) len: u64,
    /// The length of its contents.
    pub(super) virtual_len: u64,
    pub(super) encryption: Option<ImageEncryption>,
}

/// Looks at the file of an image: whether it is what was `said`, or else what its first bytes tell.
///
/// # Errors
///
/// [`ImageProblem::Unfit`], and what the header's own format says.
pub(super) fn examine(path: &Path, id: &ImageId, said: Option<ImageFormat>) -> Result<Facts> {
    let file = Raw::open(path, Access::ReadOnly)?.with_label(format!("image {id}"));
    if file.is_empty() {
        return Err(Error::image(id, ImageProblem::Empty));
    }
    let format = match said {
        Some(format) => format,
        None => probe(&file)?,
    };
    match format {
        ImageFormat::Raw => {
            let len = file.len();
            refuse_odd(id, len)?;
            Ok(Facts { format, len, virtual_len: len, encryption: None })
        }
        ImageFormat::Luks1 | ImageFormat::Luks2 => luks(&file, id, format),
        ImageFormat::Qcow2 | ImageFormat::Qcow2Luks => qcow2(file, id, format),
    }
}

impl Library {
    /// Returns the most bytes of memory that it takes to derive a key for a ready image; `None` when none is
    /// derived, or that takes next to nothing.
    ///
    /// # Errors
    ///
    /// When the image is not ready; what its header says.
    pub fn derivation_memory(&self, id: &ImageId) -> Result<Option<u64>> {
        if self.ready_image(id)?.format != ImageFormat::Luks2.name() {
            return Ok(None);
        }
        let file = Raw::open(self.folder(id).data(), Access::ReadOnly)?.with_label(label(id));
        let keyslots = device::read_header(&file)?.header.keyslots();
        let memory = keyslots.iter().filter_map(|keyslot| match keyslot.kdf {
            Some(Kdf::Argon2 { memory_kib, .. }) => Some(u64::from(memory_kib) << 10),
            _ => None,
        });
        Ok(memory.max())
    }

    /// Opens a keyslot of a ready image with a passphrase, to see that it can be done: nothing is read but
    /// the header. The policy of `work` bounds what it costs.
    ///
    /// Each keyslot of a header that somebody else made may stand for a guess of his. More than two are tried
    /// only if each of them costs as much as an honest one, at least half a nominal second.
    ///
    /// # Errors
    ///
    /// [`ImageProblem::CheapKeyslots`]. Of kind [`WrongPassphrase`](crate::ErrorKind::WrongPassphrase) when no
    /// keyslot opens; when the image is not ready, or not encrypted.
    pub fn check_passphrase(
        &self,
        id: &ImageId,
        passphrase: &Passphrase,
        work: &Work<'_>,
    ) -> Result<()> {
        let image = self.ready_image(id)?;
        let path = self.folder(id).data();
        let opener = Opener::Passphrase(passphrase);
        match format_of(&image)? {
            ImageFormat::Luks1 | ImageFormat::Luks2 => {
                let file = Raw::open(&path, Access::ReadOnly)?.with_label(label(id));
                let header = device::read_header(&file)?.header;
                refuse_guesses(&header, id)?;
                device::unlock(&file, &header, opener, None, &work.policy).map(drop)
            }
            ImageFormat::Qcow2Luks => {
                let file = Raw::open(&path, Access::ReadOnly)?.with_label(label(id));
                let mut image = Qcow2::open(Arc::new(file), Access::ReadOnly, &Closed)?;
                refuse_guesses(&Header::Luks1(image.luks_header()?), id)?;
                images::unlock_qcow2(&mut image, opener, &work.policy)
            }
            ImageFormat::Raw | ImageFormat::Qcow2 => {
                let format = image.format;
                Err(Error::image(id, ImageProblem::NotEncrypted { format }))
            }
        }
    }
}

/// Refuses a header with so many keyslots, and such cheap ones, that they may be guesses at a passphrase.
fn refuse_guesses(header: &Header, id: &ImageId) -> Result<()> {
    let costs: Vec<_> = header
        .keyslots()
        .iter()
        .filter_map(|keyslot| keyslot.kdf.map(|kdf| kdf.nominal_time(KEY_LEN)))
        .collect();
    match costs.len() > FEW_KEYSLOTS && costs.iter().any(|cost| *cost < HONEST_COST) {
        true => Err(Error::image(id, ImageProblem::CheapKeyslots { count: costs.len() })),
        false => Ok(()),
    }
}

/// Returns how many bytes of the medium a file takes.
pub(super) fn allocated(path: &Path) -> Result<u64> {
    let found = std::fs::metadata(path).map_err(|source| failed(path, source))?;
    Ok(found.blocks().saturating_mul(BLOCK))
}

/// Returns the format that the first bytes tell.
fn probe(file: &Raw) -> Result<ImageFormat> {
    let head = read_first(file, 8)?;
    Ok(match (head.get(..4), head.get(..6), head.get(6..8)) {
        (Some(b"QFI\xfb"), ..) => ImageFormat::Qcow2,
        (_, Some(b"LUKS\xba\xbe"), Some([0, 1])) => ImageFormat::Luks1,
        (_, Some(b"LUKS\xba\xbe"), _) => ImageFormat::Luks2,
        _ => ImageFormat::Raw,
    })
}

fn luks(file: &Raw, id: &ImageId, format: ImageFormat) -> Result<Facts> {
    let unfit =
        |reason: &str| Error::image(id, ImageProblem::Unfit { format, reason: reason.to_owned() });
    let header = match device::read_header(file) {
        Err(Error::NotEncrypted { .. }) => return Err(unfit("it has no LUKS header")),
        header => header?.header,
    };
    match (format, header.version()) {
        (ImageFormat::Luks1, Version::Luks2) => return Err(unfit("its header is one of LUKS2")),
        (ImageFormat::Luks2, Version::Luks1) => return Err(unfit("its header is one of LUKS1")),
        _ => {}
    }
    let virtual_len = device::payload(&header, file, None)?.length;
    if virtual_len == 0 {
        return Err(unfit("it ends where its data should begin"));
    }
    let encryption = Some(encryption(&header, id, format)?);
    Ok(Facts { format, len: file.len(), virtual_len, encryption })
}

fn qcow2(file: Raw, id: &ImageId, said: ImageFormat) -> Result<Facts> {
    qcow2_image::refuse_other(&file)?;
    let len = file.len();
    // All that it is made of is there: a file that it names is none of the library's.
    let image = Qcow2::open(Arc::new(file), Access::ReadOnly, &Closed)?;
    let is_encrypted = image.header().encryption != qcow2::ImageEncryption::None;
    let (format, encryption) = match (is_encrypted, said) {
        (true, _) => {
            let header = Header::Luks1(image.luks_header()?);
            (ImageFormat::Qcow2Luks, Some(encryption(&header, id, ImageFormat::Qcow2Luks)?))
        }
        (false, ImageFormat::Qcow2Luks) => {
            let reason = "it is not encrypted".to_owned();
            return Err(Error::image(id, ImageProblem::Unfit { format: said, reason }));
        }
        (false, _) => (ImageFormat::Qcow2, None),
    };
    refuse_odd(id, image.len())?;
    Ok(Facts { format, len, virtual_len: image.len(), encryption })
}

/// Returns how a header encrypts, and refuses one that nothing opens.
fn encryption(header: &Header, id: &ImageId, format: ImageFormat) -> Result<ImageEncryption> {
    let unfit =
        |reason: &str| Error::image(id, ImageProblem::Unfit { format, reason: reason.to_owned() });
    if header.keyslots().is_empty() {
        return Err(unfit("its LUKS header has no keyslot, so nothing opens it"));
    }
    let payload = header.payload(LARGEST).map_err(Error::luks(&format!("image {id}")))?;
    let digest = digest_of(header)
        .ok_or_else(|| unfit("its LUKS header has no digest of its volume key"))?;
    let bits = u32::try_from(payload.encryption.key_size().bits()).unwrap_or(u32::MAX);
    Ok(ImageEncryption {
        uuid: header.uuid().to_owned(),
        digest,
        cipher: payload.encryption.spec().to_string(),
        key_size_bits: bits,
    })
}

/// So many keyslots are tried whatever they cost.
const FEW_KEYSLOTS: usize = 2;

/// What a keyslot costs at least that was made to be used, in nominal time: the defaults of all tools cost more.
const HONEST_COST: Duration = Duration::from_millis(500);

/// The most bytes of key that a keyslot has, for what its derivation costs.
const KEY_LEN: usize = 64;

/// The unit in which file systems count what a file takes, in bytes.
const BLOCK: u64 = 512;

/// The length of the largest device there is, in whole sectors of any size.
const LARGEST: u64 = u64::MAX - u64::MAX % 4096;

#[cfg(test)]
mod tests {
    use strongroom_crypto::{CostPolicy, Hash};
    use strongroom_luks::FormatOptions;

    use super::*;
    use crate::system_rng;

    /// Returns what is said of a header with so many keyslots, whose PBKDF2 has so many iterations.
    fn tried(count: u32, iterations: u32) -> Result<()> {
        let policy = CostPolicy::default();
        let kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations };
        let passphrase = Passphrase::new(b"a guess".to_vec());
        let options = FormatOptions { kdf, ..FormatOptions::new(Version::Luks1) };
        let formatted = options.format(&passphrase, &policy, &mut system_rng()).unwrap();
        let Header::Luks1(mut header) = formatted.header else { panic!("it is LUKS1") };
        let first = header.keyslots[0].clone();
        (1..count as usize).for_each(|number| header.keyslots[number] = first.clone());
        refuse_guesses(&Header::Luks1(header), &"guessed".parse().unwrap())
    }

    #[test]
    fn many_cheap_keyslots_are_not_tried() {
        assert!(tried(1, 1000).is_ok());
        assert!(tried(2, 1000).is_ok());
        let error = tried(3, 1000).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Image);
        assert!(error.to_string().contains("has 3 keyslots, some of them too cheap"), "{error}");
    }
}
