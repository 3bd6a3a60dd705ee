//! Where passphrases come from: files, descriptors, the environment, Secrets. Never arguments.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::Args;
use strongroom_crypto::Passphrase;
use strongroom_model::EncryptionSettings;
use zeroize::Zeroizing;

use crate::command_error::CommandError;

/// Where the passphrase comes from. It is the exact bytes, a final newline included
#[derive(Debug, Args)]
#[group(id = "passphrase", required = false, multiple = false)]
pub(crate) struct PassphraseArgs {
    /// Read the passphrase from this file, `-` for standard input
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// Read the passphrase from this open file descriptor
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,

    /// Read the passphrase from the environment variable of this name
    #[arg(long, value_name = "NAME")]
    passphrase_env: Option<String>,

    /// Read passphrase and encryption settings from this Kubernetes Secret manifest
    #[arg(long, value_name = "SECRET.yaml")]
    secret_file: Option<PathBuf>,
}

/// Where the new passphrase comes from. It is the exact bytes, a final newline included
#[derive(Debug, Args)]
#[group(id = "new_passphrase", required = false, multiple = false)]
pub(crate) struct NewPassphraseArgs {
    /// Read the new passphrase from this file, `-` for standard input
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,

    /// Read the new passphrase from this open file descriptor
    #[arg(long, value_name = "N")]
    new_passphrase_fd: Option<u32>,

    /// Read the new passphrase from the environment variable of this name
    #[arg(long, value_name = "NAME")]
    new_passphrase_env: Option<String>,

    /// Read new passphrase and encryption settings from this Kubernetes Secret manifest
    #[arg(long, value_name = "SECRET.yaml")]
    new_secret_file: Option<PathBuf>,
}

/// A passphrase, with the settings of the Secret that it came from.
#[derive(Debug)]
pub(crate) struct Given {
    /// The passphrase.
    pub(crate) passphrase: Passphrase,
    /// What the Secret says on encryption.
    pub(crate) settings: Option<EncryptionSettings>,
}

/// Where a passphrase is, or what stands in its place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// In a file, `-` for standard input.
    File(&'a Path),
    /// Behind an open descriptor.
    Descriptor(u32),
    /// In an environment variable.
    Environment(&'a str),
    /// In a Secret, which may hold credentials for a KMS instead.
    Secret(&'a Path),
}

impl PassphraseArgs {
    /// Reads the passphrase.
    ///
    /// # Errors
    ///
    /// When none was given, or it cannot be read.
    pub(crate) fn read(&self) -> Result<Given, CommandError> {
        self.read_optional()?.ok_or_else(|| {
            CommandError::request("a passphrase is needed").hinted(
                "give one with --passphrase-file, --passphrase-fd, --passphrase-env or --secret-file",
            )
        })
    }

    /// Reads the passphrase, when one was given.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) fn read_optional(&self) -> Result<Option<Given>, CommandError> {
        self.source().map(Source::read).transpose()
    }

    /// Returns where the passphrase is, when somebody said so.
    pub(crate) fn source(&self) -> Option<Source<'_>> {
        let Self { passphrase_file, passphrase_fd, passphrase_env, secret_file } = self;
        Source::of(passphrase_file.as_deref(), *passphrase_fd, passphrase_env, secret_file)
    }
}

impl NewPassphraseArgs {
    /// Reads the passphrase.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) fn read(&self) -> Result<Given, CommandError> {
        self.source().map(Source::read).transpose()?.ok_or_else(|| {
            CommandError::request("a new passphrase is needed").hinted(
                "give one with --new-passphrase-file, --new-passphrase-fd, --new-passphrase-env or \
                 --new-secret-file",
            )
        })
    }

    /// Returns where the passphrase is, when somebody said so.
    pub(crate) fn source(&self) -> Option<Source<'_>> {
        let Self { new_passphrase_file, new_passphrase_fd, new_passphrase_env, new_secret_file } =
            self;
        Source::of(
            new_passphrase_file.as_deref(),
            *new_passphrase_fd,
            new_passphrase_env,
            new_secret_file,
        )
    }
}

impl Given {
    /// Adds to an error what people should know about the passphrase they gave.
    pub(crate) fn explain(&self, error: CommandError) -> CommandError {
        if self.ends_with_newline() { explain_newline(error) } else { error }
    }

    /// Tells whether the passphrase ends as lines do.
    pub(crate) fn ends_with_newline(&self) -> bool {
        self.passphrase.expose_bytes().ends_with(b"\n")
    }
}

/// Adds to an error that the passphrase ends with a newline, where that may be why it opens nothing.
pub(crate) fn explain_newline(error: CommandError) -> CommandError {
    match error.kind() {
        strongroom::ErrorKind::WrongPassphrase => error.hinted(
            "the passphrase ends with a newline, which counts; write it without one with printf %s",
        ),
        _ => error,
    }
}

impl<'a> Source<'a> {
    fn of(
        file: Option<&'a Path>,
        descriptor: Option<u32>,
        environment: &'a Option<String>,
        secret: &'a Option<PathBuf>,
    ) -> Option<Self> {
        file.map(Self::File)
            .or(descriptor.map(Self::Descriptor))
            .or(environment.as_deref().map(Self::Environment))
            .or(secret.as_deref().map(Self::Secret))
    }

    /// Reads the passphrase.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is empty.
    pub(crate) fn read(self) -> Result<Given, CommandError> {
        let (passphrase, settings) = match self {
            Self::File(path) => (passphrase(read_file(path)?), None),
            Self::Descriptor(number) => {
                // Opening by this name reads on from where the descriptor stands, for a pipe.
                let path = PathBuf::from(format!("/dev/fd/{number}"));
                (passphrase(exact(open(&path)?, &format!("descriptor {number}"))?), None)
            }
            Self::Environment(name) => (from_environment(name)?, None),
            Self::Secret(path) => {
                let manifest = exact(open(path)?, &path.display().to_string())?;
                let (settings, passphrase) =
                    strongroom::encryption::read_secret(&manifest).map_err(CommandError::from)?;
                (passphrase, Some(settings))
            }
        };
        if passphrase.is_empty() {
            return Err(CommandError::request("the passphrase is empty"));
        }
        Ok(Given { passphrase, settings })
    }
}

/// Reads the exact bytes of a file, `-` for standard input. They are wiped in the end.
///
/// # Errors
///
/// When it cannot be read, or is longer than a Secret may be.
pub(crate) fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    if path == Path::new("-") {
        return exact(StandardInput, "standard input");
    }
    exact(open(path)?, &path.display().to_string())
}

/// Standard input without the buffer of the standard library, which would keep a copy.
struct StandardInput;

impl Read for StandardInput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), buf)?)
    }
}

fn open(path: &Path) -> Result<File, CommandError> {
    File::open(path)
        .map_err(|source| CommandError::io(format!("cannot open {}", path.display()), source))
}

/// Reads to the end, every byte.
fn exact(reader: impl Read, name: &str) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    // Grown to its full size at once, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
    reader
        .take(MAX_LEN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| CommandError::io(format!("cannot read {name}"), source))?;
    if bytes.len() > MAX_LEN {
        return Err(CommandError::request(format!("{name} has more than {MAX_LEN} bytes")));
    }
    Ok(bytes)
}

fn passphrase(mut bytes: Zeroizing<Vec<u8>>) -> Passphrase {
    Passphrase::new(std::mem::take(&mut *bytes))
}

fn from_environment(name: &str) -> Result<Passphrase, CommandError> {
    match std::env::var_os(name) {
        Some(value) => Ok(Passphrase::new(value.into_vec())),
        None => Err(CommandError::request(format!("there is no environment variable {name}"))),
    }
}

/// The longest passphrase or manifest in bytes: what a Secret may hold at most.
const MAX_LEN: usize = 1 << 20;
