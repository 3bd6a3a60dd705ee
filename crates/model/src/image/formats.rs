//! Which formats a request is about: what was said, else what the files are called.

use std::path::Path;

use super::{CloneRequest, ImageOperation, ImageSource, ImageTarget};
use crate::{Error, ImageFormat, LuksFormat, NamedFormat};

/// The formats on either side of a clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloneFormats {
    /// How the source is read.
    pub source: SourceFormat,
    /// What the target becomes.
    pub target: TargetFormat,
}

/// How the source of a clone is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceFormat {
    /// Byte for byte, whatever it holds.
    Bytes,
    /// As a raw image that is not encrypted.
    Raw,
    /// As an image of QEMU's that is not encrypted.
    Qcow2,
    /// As a LUKS volume: of that version, or of either.
    Luks(Option<LuksFormat>),
    /// As an image of QEMU's that is encrypted.
    Qcow2Luks,
}

/// What the target of a clone becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetFormat {
    /// The same bytes as the source.
    Bytes,
    /// An image of that format with the contents of the source.
    Image(ImageFormat),
}

impl CloneRequest {
    /// Returns the formats that the request is about. No byte of any file is looked at: whoever
    /// opens the source refuses one that contradicts.
    ///
    /// # Guarantees
    ///
    /// - What was said wins. Otherwise a name that ends in `.qcow2` is an image of QEMU's; any
    ///   other is a LUKS volume where the operation needs something encrypted, else a raw image.
    /// - A copy is byte for byte unless another format, or compression, was asked for.
    ///
    /// # Errors
    ///
    /// When a format that was said does not go with the operation.
    pub fn formats(&self) -> Result<CloneFormats, Error> {
        let formats = match &self.operation {
            ImageOperation::Copy => return self.copy_formats(),
            ImageOperation::Encrypt(encryption) => CloneFormats {
                source: self.plain_source()?,
                target: TargetFormat::Image(encrypted_target(
                    self.target_format,
                    &self.target,
                    encryption.format,
                )?),
            },
            ImageOperation::Decrypt => CloneFormats {
                source: self.encrypted_source()?,
                target: TargetFormat::Image(self.plain_target()?),
            },
            ImageOperation::Reencrypt(encryption) => CloneFormats {
                source: self.encrypted_source()?,
                target: TargetFormat::Image(encrypted_target(
                    self.target_format,
                    &self.target,
                    encryption.format,
                )?),
            },
        };
        self.check_compression(formats)
    }

    fn copy_formats(&self) -> Result<CloneFormats, Error> {
        let source = self.plain_source()?;
        let target = self.plain_target()?;
        let same = matches!(
            (source, target),
            (SourceFormat::Raw, ImageFormat::Raw) | (SourceFormat::Qcow2, ImageFormat::Qcow2)
        );
        let asked = self.target_format.is_some() || self.compression.is_some();
        if same && !asked {
            return Ok(CloneFormats { source: SourceFormat::Bytes, target: TargetFormat::Bytes });
        }
        self.check_compression(CloneFormats { source, target: TargetFormat::Image(target) })
    }

    fn plain_source(&self) -> Result<SourceFormat, Error> {
        match (self.source_format, self.source_name()) {
            (Some(ImageFormat::Raw), _) => Ok(SourceFormat::Raw),
            (Some(ImageFormat::Qcow2), _) => Ok(SourceFormat::Qcow2),
            (Some(format), _) => Err(Error::SourceFormat { format, wanted: NOT_ENCRYPTED }),
            (None, NamedFormat::Qcow2) => Ok(SourceFormat::Qcow2),
            (None, NamedFormat::Luks | NamedFormat::Plain) => Ok(SourceFormat::Raw),
        }
    }

    fn encrypted_source(&self) -> Result<SourceFormat, Error> {
        match (self.source_format, self.source_name()) {
            (Some(ImageFormat::Luks1), _) => Ok(SourceFormat::Luks(Some(LuksFormat::Luks1))),
            (Some(ImageFormat::Luks2), _) => Ok(SourceFormat::Luks(Some(LuksFormat::Luks2))),
            (Some(ImageFormat::Qcow2Luks), _) | (None, NamedFormat::Qcow2) => {
                Ok(SourceFormat::Qcow2Luks)
            }
            (Some(format), _) => Err(Error::SourceFormat { format, wanted: ENCRYPTED }),
            (None, NamedFormat::Luks | NamedFormat::Plain) => Ok(SourceFormat::Luks(None)),
        }
    }

    fn plain_target(&self) -> Result<ImageFormat, Error> {
        match (self.target_format, target_name(&self.target)) {
            (Some(format @ (ImageFormat::Raw | ImageFormat::Qcow2)), _) => Ok(format),
            (Some(format), _) => Err(Error::TargetFormat { format, wanted: NOT_ENCRYPTED }),
            (None, NamedFormat::Qcow2) => Ok(ImageFormat::Qcow2),
            (None, NamedFormat::Luks | NamedFormat::Plain) => Ok(ImageFormat::Raw),
        }
    }

    fn source_name(&self) -> NamedFormat {
        match &self.source {
            ImageSource::File(path) => NamedFormat::of(path),
            ImageSource::StandardInput => NamedFormat::Plain,
            ImageSource::Url(url) => {
                // The path of the resource, without query and fragment.
                NamedFormat::of(Path::new(url.split(['?', '#']).next().unwrap_or_default()))
            }
        }
    }

    /// Refuses compression where there are no clusters, or where they would be noise.
    fn check_compression(&self, formats: CloneFormats) -> Result<CloneFormats, Error> {
        match formats.target {
            TargetFormat::Image(format)
                if self.compression.is_some() && format != ImageFormat::Qcow2 =>
            {
                Err(Error::Uncompressible { format })
            }
            _ => Ok(formats),
        }
    }
}

/// Returns the format of a target that will be encrypted: what was said, else what its name says,
/// else a volume of the version `default`.
///
/// # Errors
///
/// When what was said is not encrypted.
pub fn encrypted_target(
    said: Option<ImageFormat>,
    target: &ImageTarget,
    default: LuksFormat,
) -> Result<ImageFormat, Error> {
    match (said, target_name(target)) {
        (Some(format), _) if format.luks().is_some() => Ok(format),
        (Some(format), _) => Err(Error::TargetFormat { format, wanted: ENCRYPTED }),
        (None, NamedFormat::Qcow2) => Ok(ImageFormat::Qcow2Luks),
        (None, NamedFormat::Luks | NamedFormat::Plain) => Ok(default.into()),
    }
}

fn target_name(target: &ImageTarget) -> NamedFormat {
    match target {
        ImageTarget::File(path) => NamedFormat::of(path),
        ImageTarget::StandardOutput => NamedFormat::Plain,
    }
}

const ENCRYPTED: &str = "one of luks1, luks2, qcow2-luks";

const NOT_ENCRYPTED: &str = "raw or qcow2";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterCompression, EncryptionRequest};

    fn request(source: &str, target: &str, operation: ImageOperation) -> CloneRequest {
        let source = match source {
            "-" => ImageSource::StandardInput,
            url if url.contains("://") => ImageSource::Url(url.to_owned()),
            path => ImageSource::File(path.into()),
        };
        let target = match target {
            "-" => ImageTarget::StandardOutput,
            path => ImageTarget::File(path.into()),
        };
        CloneRequest::new(source, target, operation)
    }

    fn formats(source: &str, target: &str, operation: ImageOperation) -> CloneFormats {
        request(source, target, operation).formats().unwrap()
    }

    fn encrypt() -> ImageOperation {
        ImageOperation::Encrypt(EncryptionRequest::default())
    }

    fn image(source: SourceFormat, target: ImageFormat) -> CloneFormats {
        CloneFormats { source, target: TargetFormat::Image(target) }
    }

    #[test]
    fn names_tell_what_was_not_said() {
        use ImageOperation::{Copy, Decrypt};
        use SourceFormat::{Luks, Qcow2, Qcow2Luks, Raw};
        let cases = [
            ("a.img", "b.luks", encrypt(), image(Raw, ImageFormat::Luks2)),
            ("a.qcow2", "b.img", encrypt(), image(Qcow2, ImageFormat::Luks2)),
            ("a.qcow2", "b.qcow2", encrypt(), image(Qcow2, ImageFormat::Qcow2Luks)),
            ("http://h/a.qcow2?x=.raw", "-", encrypt(), image(Qcow2, ImageFormat::Luks2)),
            ("-", "b.qcow2", encrypt(), image(Raw, ImageFormat::Qcow2Luks)),
            ("a.img", "b", Decrypt, image(Luks(None), ImageFormat::Raw)),
            ("a.qcow2", "b", Decrypt, image(Qcow2Luks, ImageFormat::Raw)),
            ("a.luks", "b.qcow2", Decrypt, image(Luks(None), ImageFormat::Qcow2)),
            ("a.qcow2", "b.raw", Copy, image(Qcow2, ImageFormat::Raw)),
            ("a.raw", "b.qcow2", Copy, image(Raw, ImageFormat::Qcow2)),
        ];
        for (source, target, operation, expected) in cases {
            assert_eq!(formats(source, target, operation.clone()), expected, "{source} {target}");
        }
    }

    #[test]
    fn a_copy_is_byte_for_byte_unless_more_was_asked_for() {
        let bytes = CloneFormats { source: SourceFormat::Bytes, target: TargetFormat::Bytes };
        for (source, target) in [("a.luks", "b.luks"), ("a.qcow2", "b.qcow2"), ("a", "b")] {
            assert_eq!(formats(source, target, ImageOperation::Copy), bytes);
        }
        let mut asked = request("a.qcow2", "b.qcow2", ImageOperation::Copy);
        asked.compression = Some(ClusterCompression::Zlib);
        let converted = image(SourceFormat::Qcow2, ImageFormat::Qcow2);
        assert_eq!(asked.formats(), Ok(converted));
        asked.compression = None;
        asked.target_format = Some(ImageFormat::Qcow2);
        assert_eq!(asked.formats(), Ok(converted));
    }

    #[test]
    fn what_was_said_must_go_with_the_operation() {
        let mut wrong = request("a", "b", encrypt());
        wrong.source_format = Some(ImageFormat::Luks1);
        assert!(wrong.formats().is_err());
        wrong.source_format = None;
        wrong.target_format = Some(ImageFormat::Qcow2);
        assert!(wrong.formats().is_err());
        wrong.target_format = Some(ImageFormat::Qcow2Luks);
        assert!(wrong.formats().is_ok());
        wrong.compression = Some(ClusterCompression::Zstd);
        assert_eq!(wrong.formats(), Err(Error::Uncompressible { format: ImageFormat::Qcow2Luks }));
        let mut wrong = request("a", "b", ImageOperation::Decrypt);
        wrong.source_format = Some(ImageFormat::Raw);
        assert!(wrong.formats().is_err());
    }
}
