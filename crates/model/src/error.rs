//! What can go wrong in this crate.
//!
//! No variant holds a value from a Secret, not even one of a harmless key: people put passphrases
//! into the wrong line. Names of keys, objects and positions are all that gets out.

/// An error of the crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is no checksum.
    #[error("checksum is not possible: {problem}")]
    Checksum {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A value under `data` is text, but no base64.
    #[error(
        "value of {key} under data is not base64: data holds base64, plain text belongs under \
         stringData"
    )]
    DataNotBase64 {
        /// The key.
        key: &'static str,
    },
    /// A value under `data` is not even text, like an unquoted `256`.
    #[error(
        "value of {key} under data is {found}, not base64: data holds base64, plain text belongs \
         under stringData and in quotes"
    )]
    DataNotText {
        /// The key.
        key: &'static str,
        /// What it is instead, with its article.
        found: &'static str,
    },
    /// A value is outside what the key allows.
    #[error("value of {key} is not possible: {allowed}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// What would be.
        allowed: &'static str,
    },
    /// The manifest is not YAML, or costs more to read than a manifest may.
    #[error("manifest is not readable at line {line}, column {column}: {problem}")]
    Manifest {
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// What is wrong there, without a word of the text.
        problem: &'static str,
    },
    /// The manifest as a whole cannot be text of YAML.
    #[error("manifest is not readable: {problem}")]
    ManifestBytes {
        /// What is wrong.
        problem: &'static str,
    },
    /// The manifest is larger than any that Kubernetes stores.
    #[error("manifest has {len} bytes, the limit is {limit}")]
    ManifestTooLarge {
        /// The bytes that it has.
        len: usize,
        /// The bytes that it may have.
        limit: usize,
    },
    /// A StorageClass lacks a parameter.
    #[error("storage class {class} has no parameter {key}, or an empty one")]
    MissingParameter {
        /// The parameter.
        key: &'static str,
        /// The StorageClass.
        class: String,
    },
    /// A name that no volume or snapshot can have.
    #[error(
        "{name:?} cannot name {what}: use 1 to 128 of the letters, digits, '.', '-' and '_', and \
         begin with a letter or digit"
    )]
    InvalidName {
        /// What was to be named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The Secret has no name.
    #[error("encryption Secret in the manifest has no valid metadata.name")]
    NamelessSecret,
    /// The namespace of the Secret is no namespace's name.
    #[error("encryption Secret {name} has no valid metadata.namespace")]
    InvalidNamespace {
        /// The name of the Secret.
        name: String,
    },
    /// A Secret lacks what a kind of KMS asks for.
    #[error(
        "credentials Secret {secret} has no {key}, or an empty one: a KMS of the kind {kind} needs it"
    )]
    NoCredential {
        /// The key.
        key: &'static str,
        /// The Secret, with its namespace.
        secret: String,
        /// The kind of KMS.
        kind: crate::KmsKind,
    },
    /// No document is a Secret with credentials.
    #[error(
        "manifest holds no Secret with credentials: wanted is a document with apiVersion v1, kind \
         Secret and token, or ca.crt, tls.crt and tls.key, under stringData or data"
    )]
    NoCredentials,
    /// No document is a Secret of encryption.
    #[error(
        "manifest holds no encryption Secret: wanted is a document with apiVersion v1, kind Secret \
         and CRYPTO_KEY_VALUE under stringData or data"
    )]
    NoSecret,
    /// The Secret has no passphrase.
    #[error("encryption Secret {secret} has no passphrase: CRYPTO_KEY_VALUE is missing or empty")]
    NoPassphrase {
        /// The Secret, with its namespace.
        secret: String,
    },
    /// No document is a StorageClass.
    #[error(
        "manifest holds no StorageClass: wanted is a document with apiVersion storage.k8s.io/v1 \
         and kind StorageClass"
    )]
    NoStorageClass,
    /// A parameter of a StorageClass is not text, like an unquoted `true`.
    #[error("parameter {key} is {found}, not text: put it in quotes")]
    ParameterNotText {
        /// The parameter.
        key: &'static str,
        /// What it is instead, with its article.
        found: &'static str,
    },
    /// Several documents are Secrets with credentials.
    #[error("manifest holds more than one Secret with credentials: {}", .secrets.join(", "))]
    SeveralCredentials {
        /// The Secrets, with their namespaces.
        secrets: Vec<String>,
    },
    /// Several documents are Secrets of encryption.
    #[error("manifest holds more than one encryption Secret: {}", .secrets.join(", "))]
    SeveralSecrets {
        /// The Secrets, with their namespaces.
        secrets: Vec<String>,
    },
    /// Several documents are StorageClasses to choose from.
    #[error("manifest holds more than one StorageClass: {}", .classes.join(", "))]
    SeveralStorageClasses {
        /// Their names.
        classes: Vec<String>,
    },
    /// The source cannot be of the format that was said.
    #[error("source format {format} does not go with this: it takes {wanted}")]
    SourceFormat {
        /// What was said.
        format: crate::ImageFormat,
        /// What would do.
        wanted: &'static str,
    },
    /// The target cannot be of the format that was said.
    #[error("target format {format} does not go with this: it makes {wanted}")]
    TargetFormat {
        /// What was said.
        format: crate::ImageFormat,
        /// What would do.
        wanted: &'static str,
    },
    /// Compression was asked for where there is none.
    #[error("format {format} cannot be compressed: only qcow2 that is not encrypted can")]
    Uncompressible {
        /// The format.
        format: crate::ImageFormat,
    },
    /// A value under `stringData` is not text, like an unquoted `256`.
    #[error("value of {key} under stringData is {found}, not text: put it in quotes")]
    StringDataNotText {
        /// The key.
        key: &'static str,
        /// What it is instead, with its article.
        found: &'static str,
    },
    /// A name or a number ends with a newline, which is part of the value.
    #[error(
        "value of {key} ends with a newline: encode it with printf or echo -n, or write it \
         without the | of a block"
    )]
    TrailingNewline {
        /// The key.
        key: &'static str,
    },
    /// A StorageClass asks for the encryption of two dialects at once.
    #[error(
        "storage class {class} says both encryptionEnabled and encrypted: the first means keys of \
         a KMS, the second a passphrase"
    )]
    TwoEncryptions {
        /// The StorageClass.
        class: String,
    },
    /// A header format that nobody knows.
    #[error("format {name:?} is not one of luks2, luks1")]
    UnknownFormat {
        /// The name.
        name: String,
    },
    /// An image format that nobody knows.
    #[error("image format {name:?} is not one of raw, qcow2, luks1, luks2, qcow2-luks")]
    UnknownImageFormat {
        /// The name.
        name: String,
    },
    /// A kind of KMS that nobody knows.
    #[error("KMS {name:?} is not one of passphrase, local, transit, kmip, pkcs11")]
    UnknownKms {
        /// The name.
        name: String,
    },
    /// The Secret has a key that looks like one of encryption and is none.
    #[error("key {key:?} is unknown: the encryption keys are {}", crate::dialect::longhorn::KEYS.join(", "))]
    UnknownKey {
        /// The key, cut when it is very long.
        key: String,
    },
    /// A StorageClass has a parameter that looks like one of encryption and is none.
    #[error(
        "parameter {key:?} is unknown: the parameters of encryption are {}",
        crate::dialect::osc::PARAMETERS.join(", ")
    )]
    UnknownParameter {
        /// The parameter, cut when it is very long.
        key: String,
    },
    /// A volume has a parameter that nobody knows.
    #[error("parameter {key:?} is unknown{}", nearest.map(|name| format!(": {name:?} is meant perhaps")).unwrap_or_default())]
    UnknownVolumeParameter {
        /// The parameter, cut when it is very long.
        key: String,
        /// The known one that reads most alike, if any does.
        nearest: Option<&'static str>,
    },
    /// A parameter of a volume can only be said when the volume is made.
    #[error("parameter {key:?} of a volume that exists cannot be changed: only {} can", crate::dialect::volume_class::TUNABLE.join(", "))]
    FixedParameter {
        /// The parameter.
        key: String,
    },
    /// A parameter of a volume is longer than any that Kubernetes passes on.
    #[error("parameter {key:?} has {len} bytes, the limit is {limit}")]
    ParameterTooLong {
        /// The parameter, cut when it is very long.
        key: String,
        /// The bytes that it has.
        len: usize,
        /// The bytes that it may have.
        limit: usize,
    },
    /// A key derivation function that nobody knows.
    #[error("key derivation function {name:?} is not one of argon2id, argon2i, pbkdf2")]
    UnknownPbkdf {
        /// The name.
        name: String,
    },
    /// A file system that volumes are not made with.
    #[error("file system {name:?} is not one of ext4, xfs")]
    UnknownFileSystem {
        /// The name.
        name: String,
    },
    /// A document in XML is not one, or says what is not possible.
    #[error("{}{problem}", place(*.line, *.column))]
    Xml {
        /// The line, from 1; 0 for what was never read from a document.
        line: u64,
        /// The column in characters, from 1; 0 where only the line is known.
        column: u64,
        /// What is wrong, naming the element.
        problem: String,
    },
}

/// Returns a place of a document with what stands between it and a problem.
fn place(line: u64, column: u64) -> String {
    match (line, column) {
        (0, _) => String::new(),
        (line, 0) => format!("line {line}: "),
        (line, column) => format!("line {line}, column {column}: "),
    }
}
