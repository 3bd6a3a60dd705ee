//! Errors as people see them: what happened, why, and what to do about it.

use std::error::Error as StdError;
use std::path::Path;
use std::process::ExitCode;

use strongroom::{Error, ErrorKind};

use crate::ui::Ui;

/// An error of a command, with hints on what to do.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: ErrorKind,
    error: Box<dyn StdError>,
    hints: Vec<String>,
}

impl CommandError {
    /// Returns an error about what was asked for.
    pub(crate) fn request(problem: impl Into<String>) -> Self {
        Error::Request { problem: problem.into() }.into()
    }

    /// Returns an error of a kind.
    pub(crate) fn of_kind(kind: ErrorKind, problem: impl Into<String>) -> Self {
        Self { kind, ..Self::request(problem) }
    }

    /// Returns an error about a file.
    pub(crate) fn io(what: String, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            _ => ErrorKind::Io,
        };
        Self { kind, error: Box::new(FileError { what, source }), hints: Vec::new() }
    }

    /// Adds a hint.
    pub(crate) fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Names the options for a KMS in the hints as one side of a command does: `new-` for instance.
    pub(crate) fn naming(mut self, prefix: &str) -> Self {
        let named = format!("--{prefix}kms");
        self.hints.iter_mut().for_each(|hint| *hint = hint.replace("--kms", &named));
        self
    }

    /// Lets the commands in the hints work in a pool that is not the usual one.
    pub(crate) fn in_pool(mut self, pool: &Path) -> Self {
        let option = format!(" --pool {}", quoted(&pool.display().to_string()));
        self.hints.iter_mut().for_each(|hint| *hint = with_option(hint, VOLUME_COMMAND, &option));
        self
    }

    /// Lets the hints speak of documents, which say of libvirt's volumes what options say of images.
    pub(crate) fn by_document(mut self) -> Self {
        for hint in &mut self.hints {
            if IMAGE_OPTIONS.iter().any(|option| hint.contains(option)) {
                DOCUMENT_HINT.clone_into(hint);
            }
        }
        self
    }

    /// Takes the hints away, for a command that they would lead back to or that knows better.
    pub(crate) fn unhinted(mut self) -> Self {
        self.hints.clear();
        self
    }

    /// Returns what kind of error this is.
    pub(crate) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns what happened and why.
    pub(crate) fn text(&self) -> String {
        let mut text = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let next = error.to_string();
            // Transparent errors say the same as what they hold.
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }

    /// Prints the error, its causes and the hints.
    pub(crate) fn print(&self, ui: &mut Ui) {
        ui.error(&self.text());
        for hint in &self.hints {
            ui.hint(hint);
        }
    }

    /// Keeps the last error of several, and prints the one before it: what can be done is done whatever cannot.
    pub(crate) fn keep_last(last: &mut Option<Self>, ui: &mut Ui, error: Self) {
        if let Some(before) = last.replace(error) {
            before.print(ui);
        }
    }

    /// Returns the exit code, one for each kind.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            ErrorKind::Request => 2,
            ErrorKind::WrongPassphrase => 3,
            ErrorKind::Image => 4,
            ErrorKind::AlreadyExists => 6,
            ErrorKind::Busy => 7,
            ErrorKind::NotFound => 8,
            ErrorKind::KmsUnavailable => 11,
            ErrorKind::KmsDenied => 12,
            ErrorKind::Interrupted => 130,
            _ => 1,
        })
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let (kind, hints) = (error.kind(), hint_for(&error).into_iter().collect());
        // That something is left is said by the hint.
        let error = match error {
            Error::Stopped { cause, .. } => *cause,
            error => error,
        };
        Self { kind, error: Box::new(error), hints }
    }
}

impl From<strongroom_disk::Error> for CommandError {
    fn from(error: strongroom_disk::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<strongroom_model::Error> for CommandError {
    fn from(error: strongroom_model::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<strongroom_crypto::Error> for CommandError {
    fn from(error: strongroom_crypto::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<strongroom_csi::Error> for CommandError {
    fn from(error: strongroom_csi::Error) -> Self {
        use strongroom_csi::Error as Csi;
        let (kind, hint) = match &error {
            Csi::Endpoint { .. } | Csi::Name { .. } => (ErrorKind::Request, None),
            Csi::InUse { .. } => (ErrorKind::Busy, Some("stop the driver that serves it")),
            Csi::NotASocket { .. } => (ErrorKind::AlreadyExists, Some("name another socket")),
            _ => (ErrorKind::Io, None),
        };
        Self { kind, error: Box::new(error), hints: hint.map(str::to_owned).into_iter().collect() }
    }
}

/// A file that could not be read or written.
#[derive(Debug)]
struct FileError {
    what: String,
    source: std::io::Error,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for FileError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}

/// Returns what to do about an error, where there is something.
fn hint_for(error: &Error) -> Option<String> {
    match error.of_network() {
        Some(fetch) => fetch_hint(fetch).map(str::to_owned),
        None => key_hint(error)
            .map(str::to_owned)
            .or_else(|| volume_hint(error))
            .or_else(|| crate::commands::libvirt::hint(error))
            .or_else(|| hint_for_others(error)),
    }
}

/// Returns what to do when there is no key, or not the right one.
fn key_hint(error: &Error) -> Option<&str> {
    Some(match error {
        Error::NoPassphrase { .. } => {
            "give one with --passphrase-file, --passphrase-fd, --passphrase-env or --secret-file, or \
             name the KMS that opens it with --kms"
        }
        Error::NoEnvelope { .. } => {
            "if it lies elsewhere, name it with --envelope-file; or open the image with a passphrase"
        }
        Error::NoEnvelopeFile { .. } => {
            "say where it is to be kept: --envelope-file FILE, or use --format luks2"
        }
        Error::EnvelopeExists { .. } => {
            "name another file; this one may be all that opens an image"
        }
        Error::DataKey { .. } => {
            "it may belong to a keyslot that was removed; open the image with a passphrase"
        }
        Error::KeyslotsFixed { .. } => {
            "rewrap its envelope by itself: strongroom key rewrap ENVELOPE.json; for another key, encrypt \
             it anew with `strongroom image reencrypt`"
        }
        Error::KeyslotsUnclear { .. } => {
            "name the KMS that it leaves with --kms; or name the file of its envelope with \
             --envelope-file, and remove what else derives with 1000 iterations (`strongroom luks \
             remove-key`)"
        }
        Error::NoOtherKey { .. } => {
            "give a passphrase that opens another keyslot (`strongroom key add-recovery` adds one), or \
             destroy everything with `strongroom key erase`"
        }
        Error::NotMarked { .. } => {
            "name the keyslot that is to go: strongroom luks remove-key FILE --keyslot N"
        }
        Error::Kms(error) => return error.hint(),
        _ => return None,
    })
}

/// Returns what to do about a volume.
fn volume_hint(error: &Error) -> Option<String> {
    use strongroom::volumes::VolumeProblem as Problem;
    let (id, problem) = match error {
        Error::Volume { id, problem } => (id, &**problem),
        Error::Attach(error) => return error.hint().map(str::to_owned),
        Error::Pool(error) if error.kind() == strongroom_pool::ErrorKind::NoSpace => {
            return Some("free some space, then run the command again".to_owned());
        }
        _ => return None,
    };
    Some(match problem {
        Problem::Exists { .. } => {
            format!("choose another name; `strongroom volume show {id}` shows what is there")
        }
        Problem::NotFound => "`strongroom volume list` shows the volumes of the pool".to_owned(),
        Problem::NoSource { .. } => {
            "`strongroom volume list` shows the volumes of the pool, `strongroom volume snapshots` its \
             snapshots"
                .to_owned()
        }
        Problem::NotAttached => format!("attach it first: `strongroom volume attach {id}`"),
        Problem::NotFormatted => {
            format!("attach it with the key that it is to have: `strongroom volume attach {id}`")
        }
        Problem::InUse { .. } => format!(
            "if it is attached: `strongroom volume detach {id}`; if somebody was interrupted while it \
             was being made or deleted: `strongroom volume delete {id} --force`"
        ),
        Problem::NoKey { .. } => {
            "give a passphrase with --passphrase-file, --passphrase-fd, --passphrase-env or \
             --secret-file; what a KMS asks for with --kms-token-file or --secret-file"
                .to_owned()
        }
        Problem::OtherKey { .. } => {
            format!("`strongroom volume show {id}` shows what opens it")
        }
        Problem::Mixed { .. } => {
            "make it as its source is; `strongroom volume clone` gives an encrypted copy another key"
                .to_owned()
        }
        Problem::SnapshotExists { .. } => "choose another name".to_owned(),
        Problem::ForeignSignature { .. } | Problem::Written => format!(
            "look at it with `strongroom volume report {id}`; only if what it holds is worth nothing, \
             delete it with `strongroom volume delete {id} --force` and make it anew"
        ),
        Problem::CatalogBehind { .. } => format!(
            "put the newest copy of the pool's catalog back; `strongroom volume report {id}` shows what \
             the catalog and the volume say"
        ),
        Problem::HeaderGone { .. } | Problem::OtherHeader { .. } => format!(
            "do not write to it; `strongroom volume report {id}` shows where its header was saved, and \
             `strongroom luks header-restore` puts it back"
        ),
        Problem::Short { .. } => {
            "do not write to it; bring its end back, or clone it from a snapshot".to_owned()
        }
        Problem::NoFileSystem { .. } => format!(
            "look at its contents without a file system: `strongroom volume attach {id} --device \
             --read-only`"
        ),
        Problem::OtherFileSystem { found, .. } => format!("say --file-system {found}"),
        Problem::NoWay { .. } => "`strongroom doctor` shows what this machine has".to_owned(),
        _ => return None,
    })
}

fn fetch_hint(error: &strongroom_fetch::Error) -> Option<&'static str> {
    use strongroom_fetch::Error as Fetch;
    Some(match error {
        Fetch::GaveUp { source, .. } => {
            return fetch_hint(source).or(Some("see whether the server works, then try again"));
        }
        Fetch::CaFile { .. } => {
            "--ca-file takes a file of certificates that begin with `-----BEGIN CERTIFICATE-----`"
        }
        Fetch::Certificate { .. } => {
            "if you know who has signed it, give that authority's certificate with --ca-file FILE"
        }
        Fetch::Changed { .. } => "wait until nobody changes it, then start over",
        Fetch::Status { status: 401, .. } => {
            "give user and password in the URL: https://USER:PASSWORD@HOST/PATH"
        }
        Fetch::Status { status: 403, .. } => {
            "the server does not let you read it; a signed URL may have expired: get a new one"
        }
        Fetch::Status { status: 407, .. } => {
            "give user and password of the proxy in its variable, such as HTTPS_PROXY"
        }
        Fetch::Status { status: 404 | 410, .. } => "look whether the URL is right",
        Fetch::Connection { .. } => "see whether the URL is right and the server can be reached",
        _ => return None,
    })
}

fn hint_for_others(error: &Error) -> Option<String> {
    use strongroom_disk::ErrorKind as Disk;
    use strongroom_luks::Error as Luks;
    Some(match error {
        Error::AlreadyEncrypted { .. } => {
            "use `strongroom image reencrypt` to change its keys, or `image clone` to copy it as it is"
                .to_owned()
        }
        Error::NotEncrypted { .. } => {
            "use `strongroom image encrypt` for a plain image, or `image clone` to copy it".to_owned()
        }
        Error::UnalignedLength { label, len, sector } => format!(
            "pad it with zeros first: truncate -s {} {}",
            len.next_multiple_of(*sector as u64),
            quoted(label)
        ),
        Error::UnalignedContents { .. } => "use --sector-size 512".to_owned(),
        Error::SourceChanged { .. } => {
            "nothing was left behind; stop whatever writes to it, or copy a snapshot".to_owned()
        }
        Error::SourceFormat { label, .. } if label == "standard input" => {
            "a pipe carries raw images only: name the file, or decode it first".to_owned()
        }
        Error::SourceFormat { found: "a qcow2 image", .. } => {
            "if you trust where it comes from, say so: --source-format qcow2".to_owned()
        }
        Error::SourceFormat { found: "a LUKS2 volume", .. } => {
            "say so: --source-format luks2".to_owned()
        }
        Error::SourceFormat { found: "a LUKS1 volume", .. } => {
            "say so: --source-format luks1".to_owned()
        }
        Error::SourceFormat { wanted: "a qcow2 image", .. } => {
            "its name does not tell its format: say it with --source-format".to_owned()
        }
        Error::EndUntold { .. } => {
            "say what it must be: --checksum sha256:…, or download it first".to_owned()
        }
        Error::NotSeekable { .. } => "download it first, and name the file".to_owned(),
        Error::Checksum { .. } => "nothing was left behind; fetch the source anew".to_owned(),
        Error::PartialUnfit { partial, .. } => {
            format!("start over: rm {}", quoted(&partial.display().to_string()))
        }
        Error::JobChanged { partial, .. } => format!(
            "undo the change, or start over: rm {}",
            quoted(&partial.display().to_string())
        ),
        Error::Journal { path, .. } => {
            format!("start over without it: rm {}", quoted(&path.display().to_string()))
        }
        Error::Stopped { partial, durable, .. } => format!(
            "{} holds the first {}: run the command again with --resume to go on, or remove it",
            quoted(&partial.display().to_string()),
            crate::ui::bytes(*durable)
        ),
        Error::Interrupted => "nothing was left behind; run the command again to start over".to_owned(),
        Error::Crypto(strongroom_crypto::Error::CostTime { .. })
        | Error::Luks { source: Luks::Crypto(strongroom_crypto::Error::CostTime { .. }), .. } => {
            "ask for fewer iterations, or raise the limit with --max-kdf-time SECONDS".to_owned()
        }
        Error::Crypto(strongroom_crypto::Error::CostMemory { .. })
        | Error::Luks { source: Luks::Crypto(strongroom_crypto::Error::CostMemory { .. }), .. } => {
            "ask for less with --pbkdf-memory KIB, or raise the limit with --max-kdf-memory KIB"
                .to_owned()
        }
        Error::Luks { source, label } => return luks_hint(source, label),
        Error::ManagedInstead { kms, .. } => {
            format!("a KMS opens it: say where it is with --kms {kms} …, or give another passphrase")
        }
        Error::NotResumable { .. } => {
            "leave --resume out, or download it first and name the file".to_owned()
        }
        Error::WouldShrink { .. } => {
            "make what lies on it smaller first, then say --shrink; what is cut off is lost for ever"
                .to_owned()
        }
        Error::Disk(error) => match error.kind() {
            Disk::Denied => {
                "if you trust the image, say where such files may be read: --backing-from DIR"
                    .to_owned()
            }
            Disk::Invalid => format!(
                "look what is wrong with it: strongroom image check {}",
                quoted(error.label().split(" (").next().unwrap_or_default())
            ),
            Disk::Locked => {
                "give a passphrase that opens it, with --passphrase-file for instance".to_owned()
            }
            Disk::AlreadyExists => "use --force to replace it".to_owned(),
            Disk::NoSpace => {
                "nothing was left behind; free some space or choose another place".to_owned()
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn luks_hint(error: &strongroom_luks::Error, label: &str) -> Option<String> {
    use strongroom_luks::Error as Luks;
    Some(match error {
        Luks::NoKeyslots => {
            "if it was being encrypted, do that again; if its keys were erased, restore a header backup"
                .to_owned()
        }
        Luks::LastKeyslot { .. } => {
            "add another key first, or destroy all of them with `strongroom luks erase`".to_owned()
        }
        Luks::NoFreeKeyslot { .. } | Luks::NoRoom { .. } => {
            format!("remove a key first: strongroom luks remove-key {} --keyslot N", quoted(label))
        }
        Luks::BothCopiesDamaged { .. } => {
            format!("restore a backup: strongroom luks header-restore {} BACKUP --force", quoted(label))
        }
        Luks::PrimaryLost { .. } => format!(
            "only if nothing else uses the device now: strongroom luks repair {} --force",
            quoted(label)
        ),
        Luks::Invalid { .. } => format!("try `strongroom luks repair {}`", quoted(label)),
        _ => return None,
    })
}

/// Returns a text in which each command in backticks that begins with `command` has an option more.
fn with_option(text: &str, command: &str, option: &str) -> String {
    let parts: Vec<String> = text
        .split('`')
        .enumerate()
        .map(|(index, part)| match index % 2 == 1 && part.starts_with(command) {
            true => format!("{part}{option}"),
            false => part.to_owned(),
        })
        .collect();
    parts.join("`")
}

/// Returns a path as a shell takes it.
pub(crate) fn quoted(path: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:@%".contains(letter);
    if !path.is_empty() && path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

/// What hints about images say that a document says of a volume of libvirt's.
const IMAGE_OPTIONS: [&str; 5] = [
    "--source-format",
    "--backing-from",
    "--passphrase-file",
    "`strongroom image encrypt`",
    "`strongroom image reencrypt`",
];

const DOCUMENT_HINT: &str = "its document says what it is: <format>, <encryption> with its <secret>, \
                             <backingStore>; `strongroom libvirt vol-define VOLUME.xml` takes one that is right";

/// What commands on volumes begin with.
const VOLUME_COMMAND: &str = "strongroom volume ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_no_option_that_a_command_on_documents_does_not_have() {
        let label = "disk".to_owned();
        for error in [
            Error::NoPassphrase { label: label.clone() },
            Error::NotEncrypted { label: label.clone(), signature: None },
            Error::SourceFormat { label, found: "a LUKS1 volume", wanted: "a LUKS2 volume" },
        ] {
            let error = CommandError::from(error).by_document();
            assert_eq!(error.hints, [DOCUMENT_HINT]);
        }
    }

    #[test]
    fn hints_name_the_pool_in_each_command_on_volumes() {
        let hint = "see `strongroom volume list`, or `strongroom doctor`, not strongroom volume x";
        let named = with_option(hint, VOLUME_COMMAND, " --pool '/a b'");
        let expected = "see `strongroom volume list --pool '/a b'`, or `strongroom doctor`, not \
                        strongroom volume x";
        assert_eq!(named, expected);
    }
}
