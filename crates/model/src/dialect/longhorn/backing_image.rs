//! Longhorn's images.

use super::super::admission::{Reason, Refused};
use super::super::fields::{Fields, shown};
use super::super::kubernetes::{SecretReference, sha512};
use super::super::object::Object;
use super::super::resource::Resource;
use crate::{Checksum, ImageFormat};

/// A `longhorn.io/v1beta2 BackingImage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingImage {
    /// Its name.
    pub name: String,
    /// Its namespace, empty when it has none yet.
    pub namespace: String,
    /// Its UID, empty when it has none yet.
    pub uid: String,
    /// Where its bytes come from.
    pub origin: ImageOrigin,
    /// The SHA-512 that its stored bytes must have.
    pub checksum: Option<Checksum>,
    /// The Secret that opens it; there is one when it is encrypted, and only then.
    pub secret: Option<SecretReference>,
    /// How many copies Longhorn would keep; 0 when nothing is said.
    pub copies: u32,
    /// In which format it comes, where somebody says so: annotation `strongroom.io/format`.
    pub format: Option<ImageFormat>,
}

/// Where the bytes of an image come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageOrigin {
    /// From a URL, `http` or `https`.
    Download {
        /// The URL.
        url: String,
    },
    /// From whoever uploads them.
    Upload,
    /// From a volume: `export-from-volume`.
    Volume {
        /// The volume.
        name: String,
        /// What it becomes: raw or qcow2.
        format: ImageFormat,
        /// Whether what is encrypted stays so: parameter `encryption`, which is ours here, `ignore` or `decrypt`.
        encryption: CloneEncryption,
    },
    /// From another image.
    Clone {
        /// The name of the image, in the same namespace.
        source: String,
        /// What becomes of its contents.
        encryption: CloneEncryption,
    },
    /// From a backup.
    Restore {
        /// Where the backup is.
        backup_url: String,
        /// What the backup's target is called.
        target: Option<String>,
    },
}

/// What becomes of the contents of an image when it is cloned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CloneEncryption {
    /// The same bytes.
    Ignore,
    /// They are encrypted.
    Encrypt {
        /// Where the passphrase is.
        secret: SecretReference,
    },
    /// They are decrypted.
    Decrypt {
        /// Where the passphrase is.
        secret: SecretReference,
    },
}

impl BackingImage {
    /// The annotation that says in which format an image comes, rather than having its first bytes looked at.
    pub const FORMAT: &'static str = "strongroom.io/format";

    /// Returns the Secret that opens the image once it is there: the one of its `spec`, or the one that it is
    /// cloned with.
    pub fn key(&self) -> Option<&SecretReference> {
        match &self.origin {
            ImageOrigin::Clone { encryption: CloneEncryption::Encrypt { secret }, .. } => {
                Some(secret)
            }
            _ => self.secret.as_ref(),
        }
    }
}

impl CloneEncryption {
    /// Returns Longhorn's word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Encrypt { .. } => "encrypt",
            Self::Decrypt { .. } => "decrypt",
        }
    }

    /// Returns the Secret that is needed.
    pub fn secret(&self) -> Option<&SecretReference> {
        match self {
            Self::Ignore => None,
            Self::Encrypt { secret } | Self::Decrypt { secret } => Some(secret),
        }
    }
}

impl TryFrom<&Object> for BackingImage {
    type Error = Refused;

    fn try_from(object: &Object) -> Result<Self, Refused> {
        let mut fields = Fields::of(object, Resource::BackingImage);
        if fields.text(&["spec", "dataEngine"]).is_some_and(|engine| engine != "v1") {
            let message = "v2 backing image is not supported";
            fields.note(&["spec", "dataEngine"], Reason::NotSupported, message);
        }
        let copies = fields.number(&["spec", "minNumberOfCopies"]).unwrap_or_default();
        let copies = u32::try_from(copies).unwrap_or_else(|_| {
            let message = "there are not so many places to keep copies in";
            fields.note(&["spec", "minNumberOfCopies"], Reason::Invalid, message);
            0
        });
        let image = Self {
            name: fields.required(&["metadata", "name"], "an image needs a name").to_owned(),
            namespace: object.namespace().unwrap_or_default().to_owned(),
            uid: object.uid().to_owned(),
            origin: origin(&mut fields),
            checksum: fields.parsed(&["spec", "checksum"], sha512),
            secret: secret(&mut fields),
            copies,
            format: fields.parsed(&["metadata", "annotations", Self::FORMAT], |name| {
                name.parse().map_err(|error: crate::Error| error.to_string())
            }),
        };
        fields.finish(image)
    }
}

fn origin(fields: &mut Fields<'_>) -> ImageOrigin {
    let source_type = ["spec", "sourceType"];
    match fields.required(&source_type, SOURCE_TYPES) {
        "download" => ImageOrigin::Download { url: url(fields) },
        "export-from-volume" => {
            let format =
                fields.choice(&[SPEC, PARAMETERS, "export-type"], &EXPORTS, ImageFormat::Raw);
            ImageOrigin::Volume {
                name: parameter(fields, "volume-name", "name the volume").to_owned(),
                format,
                encryption: encryption(fields),
            }
        }
        "clone" => {
            let message = "invalid parameter for source type clone: name the image";
            ImageOrigin::Clone {
                source: parameter(fields, "backing-image", message).to_owned(),
                encryption: encryption(fields),
            }
        }
        "restore" => ImageOrigin::Restore {
            backup_url: parameter(fields, "backup-url", "say where the backup is").to_owned(),
            target: fields
                .text(&[SPEC, PARAMETERS, "backup-target-name"])
                .map(|target| target.trim().to_owned()),
        },
        "upload" | "" => ImageOrigin::Upload,
        other => {
            let message = format!("{} is no source type: {SOURCE_TYPES}", shown(other));
            fields.note(&source_type, Reason::Invalid, message);
            ImageOrigin::Upload
        }
    }
}

fn encryption(fields: &mut Fields<'_>) -> CloneEncryption {
    let path = [SPEC, PARAMETERS, "encryption"];
    let word = fields.text(&path).unwrap_or_default().trim();
    match word {
        "" | "ignore" => return CloneEncryption::Ignore,
        "encrypt" | "decrypt" => {}
        other => {
            let message = format!(
                "encryption {} is not supported: use encrypt, decrypt or ignore",
                shown(other)
            );
            fields.note(&path, Reason::NotSupported, message);
            return CloneEncryption::Ignore;
        }
    }
    let message = format!("secret is not provided for encryption or decryption: {word} needs it");
    let name = parameter(fields, "secret", &message).to_owned();
    let message = format!("namespace of the secret is not provided: {word} needs it");
    let namespace = parameter(fields, "secret-namespace", &message).to_owned();
    let secret = SecretReference { namespace, name };
    match word {
        "encrypt" => CloneEncryption::Encrypt { secret },
        _ => CloneEncryption::Decrypt { secret },
    }
}

fn secret(fields: &mut Fields<'_>) -> Option<SecretReference> {
    let name = fields.text(&[SPEC, "secret"]).map(str::to_owned);
    let namespace = fields.text(&[SPEC, "secretNamespace"]).map(str::to_owned);
    match (name, namespace) {
        (None, None) => None,
        (Some(name), Some(namespace)) => Some(SecretReference { namespace, name }),
        (Some(_), None) => {
            let message = "say in which namespace the Secret of spec.secret is";
            fields.note(&[SPEC, "secretNamespace"], Reason::Required, message);
            None
        }
        (None, Some(_)) => {
            let message = "name the Secret, or leave spec.secretNamespace out";
            fields.note(&[SPEC, "secret"], Reason::Required, message);
            None
        }
    }
}

/// Returns a URL that can be downloaded from.
fn url(fields: &mut Fields<'_>) -> String {
    let url = parameter(fields, "url", "say where the image is: https://…").to_owned();
    if !url.is_empty()
        && let Err(problem) = check_url(&url)
    {
        fields.note(&[SPEC, PARAMETERS, "url"], Reason::Invalid, problem);
    }
    url
}

/// Refuses what is not the URL of a file in a network. Which hosts a server really talks to is its own affair.
pub(in crate::dialect) fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or("use a URL that begins with https:// or http://")?;
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a URL has no spaces and only ASCII characters: encode the others as %20");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("leave user and password out of the URL: everybody can read this document");
    }
    match authority.starts_with(':') || authority.is_empty() {
        true => Err("the URL names no host"),
        false => Ok(()),
    }
}

fn parameter<'a>(fields: &mut Fields<'a>, key: &str, message: &str) -> &'a str {
    fields.required(&[SPEC, PARAMETERS, key], message).trim()
}

const EXPORTS: [(&str, ImageFormat); 2] =
    [("raw", ImageFormat::Raw), ("qcow2", ImageFormat::Qcow2)];

const SOURCE_TYPES: &str = "use download, upload, export-from-volume, clone or restore";
const SPEC: &str = "spec";
const PARAMETERS: &str = "sourceParameters";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn image(source_type: &str, parameters: Value) -> Result<BackingImage, Refused> {
        let mut object = Object::new(Resource::BackingImage, Some("longhorn-system"), "jammy");
        object.set(&["spec", "sourceType"], source_type);
        object.set(&["spec", "sourceParameters"], parameters);
        BackingImage::try_from(&object)
    }

    #[test]
    fn a_clone_that_encrypts_tells_its_key() {
        let read = image(
            "clone",
            json!({ "backing-image": " plain ", "encryption": "encrypt", "secret": "key",
                    "secret-namespace": "keys" }),
        )
        .unwrap();
        assert_eq!(read.key().unwrap().to_string(), "keys/key");
        let ImageOrigin::Clone { source, encryption } = read.origin else { panic!("no clone") };
        assert_eq!((source.as_str(), encryption.name()), ("plain", "encrypt"));
        let ignored = image("clone", json!({ "backing-image": "a" })).unwrap();
        assert_eq!(ignored.key(), None);
    }

    #[test]
    fn a_clone_lacks_nothing_that_it_needs() {
        let refused = image("clone", json!({ "encryption": "decrypt" })).unwrap_err();
        let told = refused.to_string();
        for key in ["backing-image", "secret:", "secret-namespace"] {
            assert!(told.contains(&format!("spec.sourceParameters.{key}")), "{told}");
        }
        let unknown = image("clone", json!({ "backing-image": "a", "encryption": "rot13" }));
        assert!(unknown.unwrap_err().to_string().contains("is not supported"));
    }

    #[test]
    fn urls_are_of_files_in_a_network() {
        for good in ["https://a.example/x.img", "http://127.0.0.1:8080/x", "http://[::1]/x?y"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "ftp://a/x",
            "file:///etc/shadow",
            "https://",
            "https:///x",
            "http://:80/x",
            "https://me:pass@a.example/x",
            "https://a example/x",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        assert!(image("download", json!({ "url": "" })).is_err());
    }

    #[test]
    fn the_other_sources_are_read() {
        let exported =
            image("export-from-volume", json!({ "volume-name": "v", "export-type": "qcow2" }));
        let ImageOrigin::Volume { name, format, encryption } = exported.unwrap().origin else {
            panic!("no export")
        };
        assert_eq!(
            (&*name, format, encryption),
            ("v", ImageFormat::Qcow2, CloneEncryption::Ignore)
        );
        assert_eq!(image("upload", Value::Null).unwrap().origin, ImageOrigin::Upload);
        assert!(image("restore", json!({ "backup-url": "s3://b@r/?x" })).is_ok());
        assert!(image("", Value::Null).unwrap_err().to_string().contains("download, upload"));
        assert!(image("tape", Value::Null).is_err());
    }

    #[test]
    fn half_of_a_secret_is_refused() {
        let mut object = Object::new(Resource::BackingImage, Some("longhorn-system"), "jammy");
        object.set(&["spec", "sourceType"], "upload");
        object.set(&["spec", "secret"], "key");
        assert!(BackingImage::try_from(&object).is_err());
        object.set(&["spec", "secretNamespace"], "keys");
        object.set(&["metadata", "annotations", BackingImage::FORMAT], "luks2");
        let image = BackingImage::try_from(&object).unwrap();
        assert_eq!(image.format, Some(ImageFormat::Luks2));
        assert_eq!(image.key().unwrap().name, "key");
    }
}
