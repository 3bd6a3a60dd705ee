//! What a document asks for, in the names of cipher specifications.

use super::super::xml::quoted;
use super::{Encryption, EncryptionFormat, Engine};
use crate::{EncryptionRequest, Error, LuksFormat};

impl Encryption {
    /// Returns how a volume is made that this describes, with what a daemon chooses where nothing is said
    /// (`aes-xts-plain64`, 256 bits of AES, `sha256`). The key size is that of the volume key.
    ///
    /// The engine `librbd` moves the data to 4 MiB, without which librbd opens no volume, and takes only the
    /// ciphers that it has.
    ///
    /// # Errors
    ///
    /// When nobody can make it (`default`, `qcow`, a cipher that there is not), with what there is.
    pub fn request(&self) -> Result<EncryptionRequest, Error> {
        let format = self.luks()?;
        let choice = self.choice(format)?;
        let librbd = self.engine == Some(Engine::Librbd);
        if librbd && !(choice.spec == "aes-xts-plain64" && [128, 256].contains(&choice.size)) {
            return Err(self.line.error(
                "the engine librbd opens aes with 128 or 256 bits, mode xts and ivgen plain64, nothing \
                 else",
            ));
        }
        Ok(EncryptionRequest {
            format,
            key_size_bits: Some(choice.volume_key_bits()),
            cipher: Some(choice.spec),
            hash: Some(choice.hash),
            data_offset: (librbd && format == LuksFormat::Luks1).then_some(LIBRBD_DATA_OFFSET),
            ..EncryptionRequest::default()
        })
    }

    fn luks(&self) -> Result<LuksFormat, Error> {
        match self.format {
            EncryptionFormat::Luks => Ok(LuksFormat::Luks1),
            EncryptionFormat::Luks2 => Ok(LuksFormat::Luks2),
            EncryptionFormat::Default | EncryptionFormat::Qcow => Err(self.line.error(format!(
                "format '{}' of <encryption> can only be opened: since libvirt 4.5.0 nothing creates \
                 qcow2's old encryption, which is broken; write format='luks'",
                self.format.name()
            ))),
            EncryptionFormat::LuksAny => Err(self.line.error(
                "format 'luks-any' of <encryption> opens either version of LUKS and creates none: write \
                 format='luks', or format='luks2', which we create and libvirt's storage driver cannot",
            )),
        }
    }

    fn choice(&self, format: LuksFormat) -> Result<Choice, Error> {
        let cipher = self.cipher.as_ref();
        let name = cipher.map_or("aes", |cipher| &cipher.name);
        let size = cipher.map_or(256, |cipher| cipher.size);
        let sizes = CIPHERS.iter().find(|(known, _)| *known == name).map(|(_, sizes)| *sizes);
        if !sizes.is_some_and(|sizes| sizes.contains(&size)) {
            return Err(self.line.error(format!(
                "cipher {} with {size} bits is not supported: there are aes, serpent and twofish with \
                 128, 192 or 256 bits, and cast5 with 128",
                quoted(name)
            )));
        }
        let mode = cipher.and_then(|cipher| cipher.mode.as_deref()).unwrap_or("xts");
        self.check_mode(name, size, mode)?;
        let hash = cipher.and_then(|cipher| cipher.hash.as_deref()).unwrap_or("sha256");
        let hashes = match format {
            LuksFormat::Luks1 => HASHES.as_slice(),
            // Only what reads LUKS1 alone needs the broken one.
            LuksFormat::Luks2 => HASHES.get(1..).unwrap_or_default(),
        };
        if !hashes.contains(&hash) {
            let (hash, all) = (quoted(hash), hashes.join(", "));
            return Err(self.line.error(format!("hash {hash} of <cipher> is not one of {all}")));
        }
        let ivgen = self.iv_generator(name)?;
        let spec = format!("{name}-{mode}-{ivgen}");
        Ok(Choice { spec, size, xts: mode == "xts", hash: hash.to_owned() })
    }

    fn check_mode(&self, name: &str, size: u32, mode: &str) -> Result<(), Error> {
        let problem = match (mode, name) {
            ("xts", "cast5") => {
                "mode xts needs blocks of 128 bits, cast5 has 64: write mode='cbc' or mode='ctr'"
                    .to_owned()
            }
            ("xts", "aes") if size == 192 => {
                "mode xts of aes has no 192 bits, since kernels refuse them: use 128 or 256 bits, or \
                 mode='cbc' or mode='ctr'"
                    .to_owned()
            }
            ("xts" | "cbc" | "ctr", _) => return Ok(()),
            ("ecb", _) => {
                "mode 'ecb' of <cipher> can only be opened, since equal blocks stay equal in it: for a \
                 new volume there are xts, cbc, ctr"
                    .to_owned()
            }
            _ => format!("mode {} of <cipher> is not one of xts, cbc, ctr", quoted(mode)),
        };
        Err(self.line.error(problem))
    }

    /// Returns the IV generator as cipher specifications have it.
    fn iv_generator(&self, cipher: &str) -> Result<&'static str, Error> {
        let Some(ivgen) = &self.ivgen else { return Ok("plain64") };
        let hash = ivgen.hash.as_deref();
        let problem = match (ivgen.name.as_str(), hash) {
            ("essiv", _) if cipher == "cast5" => {
                "ivgen essiv has keys of 256 bits, cast5 has none: use plain64".to_owned()
            }
            ("essiv", None | Some("sha256")) => return Ok("essiv:sha256"),
            ("essiv", Some(hash)) => format!(
                "hash {} of <ivgen> is not 'sha256': with any other its digest is no key of the cipher, or \
                 the hash is not supported",
                quoted(hash)
            ),
            ("plain" | "plain64", Some(hash)) if !IGNORED_HASHES.contains(&hash) => {
                let all = IGNORED_HASHES.join(", ");
                format!("hash {} of <ivgen> is not one of {all}", quoted(hash))
            }
            // QEMU writes a hash down here, and nobody does anything with it.
            ("plain", _) => return Ok("plain"),
            ("plain64", _) => return Ok("plain64"),
            (name, _) => {
                format!("ivgen {} is not one of plain, plain64, essiv", quoted(name))
            }
        };
        Err(self.line.error(problem))
    }
}

/// What a document chose, all of it possible.
struct Choice {
    spec: String,
    size: u32,
    xts: bool,
    hash: String,
}

impl Choice {
    fn volume_key_bits(&self) -> u32 {
        if self.xts { self.size * 2 } else { self.size }
    }
}

/// Every cipher with the bits of its keys.
const CIPHERS: [(&str, &[u32]); 4] = [
    ("aes", &[128, 192, 256]),
    ("serpent", &[128, 192, 256]),
    ("twofish", &[128, 192, 256]),
    ("cast5", &[128]),
];

/// The hashes of key derivation, the one for LUKS1 alone first.
const HASHES: [&str; 6] = ["sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160"];

/// The hashes that QEMU knows, for where they have no effect.
const IGNORED_HASHES: [&str; 8] =
    ["md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", "sm3"];

/// librbd wants the data at a multiple of the size of its objects, which is 4 MiB unless one says
/// otherwise. That of our LUKS2 volumes is one, too.
const LIBRBD_DATA_OFFSET: u64 = 4 << 20;
