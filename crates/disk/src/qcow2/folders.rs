//! A gate that opens plain files below directories which the caller named.

mod resolve;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use strongroom_crypto::{CostBudget, CostPolicy, Passphrase};
use strongroom_luks::Header;

use self::resolve::{Found, Place};
use super::{Gate, ImageEncryption, NamedFile, Qcow2};
use crate::unlock::volume_key;
use crate::{Access, Disk, Encrypted, Error, ErrorKind, Operation, Raw, Resizable, Result};

/// A gate that opens backing files and external data files when they are plain files below one of
/// the directories that the caller named, and nothing else.
///
/// # Guarantees
///
/// - A name is a path, or `file:` and a path: relative to the directory of the image that names
///   it, or absolute. Everything else (`json:`, `nbd:`, `http:`, …) is refused.
/// - No symbolic link and no `..` leads out of the directories; the kernel sees to that.
/// - The format of a backing file is what the image that names it says, or else the default that
///   the caller gave. What the file holds is never asked, since a guest may have written it.
/// - Backing files are opened for reading only, and whatever they name in turn goes through the
///   same gate. A chain has at most [`LONGEST_CHAIN`](Self::LONGEST_CHAIN) files, each of them once.
/// - All keyslots that are tried for one gate cost at most the policy's
///   [`unlock_budget`](CostPolicy::unlock_budget) together.
///
/// # Assumptions
///
/// The label of the image that is opened with this gate is its path, as that of [`Raw::open`] is.
#[derive(Debug)]
pub struct Folders<'a> {
    folders: Vec<resolve::Folder>,
    data_file_access: Access,
    default_format: Option<BackingFormat>,
    passphrases: Vec<&'a Passphrase>,
    policy: CostPolicy,
    budget: Mutex<CostBudget>,
    opened: Mutex<Vec<PathBuf>>,
}

/// The format of a backing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackingFormat {
    /// The disk's bytes, whatever they look like.
    Raw,
    /// An image in QEMU's format, encrypted or not.
    Qcow2,
    /// A LUKS volume of either version.
    Luks,
}

impl<'a> Folders<'a> {
    /// The most files of a chain: an image with all that it is based on.
    pub const LONGEST_CHAIN: usize = 64;

    /// Returns a gate for files below `directories`. Without any it opens nothing.
    ///
    /// # Errors
    ///
    /// When one of them cannot be opened as a directory.
    pub fn new(directories: &[impl AsRef<Path>]) -> Result<Self> {
        let folders = directories.iter().map(|path| resolve::Folder::open(path.as_ref()));
        let policy = CostPolicy::default();
        Ok(Self {
            folders: folders.collect::<Result<_>>()?,
            data_file_access: Access::ReadOnly,
            default_format: None,
            passphrases: Vec::new(),
            policy,
            budget: Mutex::new(policy.unlock_budget()),
            opened: Mutex::default(),
        })
    }

    /// Returns the paths of all files that were opened through the gate, in that order.
    pub fn opened(&self) -> Vec<PathBuf> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what the image is opened for: its external data file is opened for the same. Reading
    /// only, unless this is called.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.data_file_access = access;
        self
    }

    /// Gives the format of backing files whose images do not say it.
    #[must_use]
    pub fn with_default_format(mut self, format: BackingFormat) -> Self {
        self.default_format = Some(format);
        self
    }

    /// Gives passphrases for encrypted backing files. Each is tried for every one of them.
    #[must_use]
    pub fn with_passphrases(mut self, passphrases: &[&'a Passphrase], policy: CostPolicy) -> Self {
        self.passphrases = passphrases.to_vec();
        self.policy = policy;
        self.budget = Mutex::new(policy.unlock_budget());
        self
    }

    /// Returns the end of the chain that consists of the image alone.
    fn first_link(&self, named: &NamedFile<'_>) -> Link<'_> {
        let path = PathBuf::from(named.image);
        let identity = resolve::identity(&path);
        Link { folders: self, files: vec![File { path, identity }], access: self.data_file_access }
    }
}

/// The last file of a chain, which may name another.
struct Link<'a> {
    folders: &'a Folders<'a>,
    files: Vec<File>,
    access: Access,
}

/// A file of a chain.
#[derive(Debug, Clone)]
struct File {
    path: PathBuf,
    /// Device and inode; `None` when the image is no file of this name.
    identity: Option<(u64, u64)>,
}

impl Gate for Folders<'_> {
    fn backing(&self, named: &NamedFile<'_>) -> Result<Box<dyn Disk>> {
        self.first_link(named).backing(named)
    }

    fn data_file(&self, named: &NamedFile<'_>) -> Result<Box<dyn Resizable>> {
        self.first_link(named).data_file(named)
    }
}

impl Gate for Link<'_> {
    fn backing(&self, named: &NamedFile<'_>) -> Result<Box<dyn Disk>> {
        // What no directory was named for is refused for that, whatever it is.
        let place = self.place(named)?;
        let format = self.format(named)?;
        let (raw, next) = self.open(named, &place, Access::ReadOnly)?;
        match format {
            BackingFormat::Raw => Ok(Box::new(raw)),
            BackingFormat::Qcow2 => {
                let mut image = Qcow2::open(raw, Access::ReadOnly, &next)?;
                if image.header().encryption != ImageEncryption::None {
                    let Folders { passphrases, policy, budget, .. } = self.folders;
                    let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
                    image.unlock_with_any(passphrases, policy, &mut budget)?;
                }
                Ok(Box::new(image))
            }
            BackingFormat::Luks => Ok(Box::new(self.open_luks(raw)?)),
        }
    }

    fn data_file(&self, named: &NamedFile<'_>) -> Result<Box<dyn Resizable>> {
        if named.name.is_empty() {
            let reason = "it has an external data file but does not say which";
            return Err(refused(ErrorKind::Unsupported, named, reason.to_owned()));
        }
        let (raw, _) = self.open(named, &self.place(named)?, self.access)?;
        Ok(Box::new(raw))
    }
}

impl Link<'_> {
    fn path(&self) -> &Path {
        self.files.last().map_or(Path::new(""), |file| &file.path)
    }

    fn place(&self, named: &NamedFile<'_>) -> Result<Place> {
        if self.folders.folders.is_empty() {
            return Err(named.denied());
        }
        Place::of(self.path(), named)
    }

    fn format(&self, named: &NamedFile<'_>) -> Result<BackingFormat> {
        let name = named.name;
        match (named.format, self.folders.default_format) {
            (Some(format), _) => format.parse().map_err(|UnknownFormat| {
                let reason = format!(
                    "it says that its backing file {name:?} has the format {format:?}; only raw, \
                     qcow2 and luks are known here"
                );
                refused(ErrorKind::Unsupported, named, reason)
            }),
            (None, Some(format)) => Ok(format),
            (None, None) => {
                let reason = format!(
                    "it does not say which format its backing file {name:?} has, and the file's \
                     own bytes cannot be trusted to: a guest may have written them"
                );
                Err(refused(ErrorKind::Unsupported, named, reason))
            }
        }
    }

    /// Opens a file and returns it with the chain that ends there.
    fn open(
        &self,
        named: &NamedFile<'_>,
        place: &Place,
        access: Access,
    ) -> Result<(Raw, Link<'_>)> {
        let Found { file, path } = resolve::open(&self.folders.folders, place, named, access)?;
        let raw = Raw::from_file(file, label(&path, named, self.path()), access)?;
        let identity = Some(raw.identity()?);
        let mut files = self.files.clone();
        let is_cycle = files.iter().any(|file| file.identity == identity);
        files.push(File { path, identity });
        if is_cycle {
            let reason = format!("its files lead back to one of them: {}", Chain(&files));
            return Err(refused(ErrorKind::Invalid, named, reason));
        }
        if files.len() > Folders::LONGEST_CHAIN {
            let most = Folders::LONGEST_CHAIN;
            let reason = format!("its chain has more than {most} files: {}", Chain(&files));
            return Err(refused(ErrorKind::Unsupported, named, reason));
        }
        let mut opened = self.folders.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.extend(files.last().map(|file| file.path.clone()));
        drop(opened);
        Ok((raw, Link { folders: self.folders, files, access: Access::ReadOnly }))
    }

    fn open_luks(&self, raw: Raw) -> Result<Encrypted<Raw>> {
        let label = raw.label().to_owned();
        let invalid = |source: strongroom_luks::Error| {
            Error::new(ErrorKind::Invalid, Operation::Open, &label).with_source(source)
        };
        let header = read_luks_header(&raw)?.map_err(invalid)?;
        let payload = header.payload(raw.len()).map_err(invalid)?;
        if payload.offset == 0 {
            return Err(Error::new(ErrorKind::Unsupported, Operation::Open, &label)
                .because("it is a detached LUKS header without its data"));
        }
        let Folders { passphrases, policy, budget, .. } = self.folders;
        let key = {
            let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
            volume_key(&raw, &header, passphrases, policy, &mut budget)?
        };
        let cipher = payload.cipher(&key).map_err(invalid)?;
        let range = payload.offset..payload.offset + payload.length;
        Encrypted::new(raw, range, cipher, payload.iv_tweak)
    }
}

/// Reads the LUKS header at the start of a disk.
fn read_luks_header(
    disk: &dyn Disk,
) -> Result<std::result::Result<Header, strongroom_luks::Error>> {
    let mut head = Vec::new();
    loop {
        let wanted = strongroom_luks::head_len(&head).max(LEAST_HEAD) as u64;
        let len = wanted.min(disk.len()) as usize;
        if len <= head.len() {
            return Ok(Header::parse(&head, disk.len()).map(|found| found.header));
        }
        head.resize(len, 0);
        disk.read_at(&mut head, 0)?;
    }
}

/// Returns what errors call a file: its path, and which image names it.
fn label(path: &Path, named: &NamedFile<'_>, image: &Path) -> String {
    format!("{} ({} of {})", path.display(), named.role, image.display())
}

fn refused(kind: ErrorKind, named: &NamedFile<'_>, reason: String) -> Error {
    Error::new(kind, Operation::Open, named.image).because(reason)
}

/// The paths of a chain's files, from the image on. Of a long one only the ends are told.
struct Chain<'a>(&'a [File]);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.0;
        let left_out = MOST_TOLD / 2..files.len().saturating_sub(MOST_TOLD / 2);
        for (index, file) in files.iter().enumerate() {
            if files.len() > MOST_TOLD && left_out.contains(&index) {
                if index == left_out.start {
                    f.write_str(" -> …")?;
                }
                continue;
            }
            let arrow = if index > 0 { " -> " } else { "" };
            write!(f, "{arrow}{}", file.path.display())?;
        }
        Ok(())
    }
}

impl BackingFormat {
    /// Returns the name that images use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Luks => "luks",
        }
    }
}

impl FromStr for BackingFormat {
    type Err = UnknownFormat;

    /// Reads one of `raw`, `qcow2` and `luks`.
    fn from_str(name: &str) -> std::result::Result<Self, UnknownFormat> {
        [Self::Raw, Self::Qcow2, Self::Luks]
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or(UnknownFormat)
    }
}

/// The name of a format that is not known for backing files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownFormat;

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the format of a backing file is one of raw, qcow2, luks")
    }
}

impl std::error::Error for UnknownFormat {}

/// The bytes that tell which header it is.
const LEAST_HEAD: usize = 4096;

/// How many files of a chain are told; of longer ones as many, half of them from each end.
const MOST_TOLD: usize = 8;
