//! The file of a local key.
//!
//! It has a line for each version of the key, the newest last, and mode 0600:
//!
//! ```text
//! strongroom-kek 1 ID BASE64-OF-32-BYTES CHECK
//! strongroom-kek 2 ID BASE64-OF-32-BYTES CHECK
//! ```
//!
//! CHECK is the first four bytes of the SHA-256 of what stands before it, in hexadecimal: a key
//! with a letter wrong is told before it is taken for a damaged envelope. The oldest lines may be
//! taken out once nothing is wrapped under them any more.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result, random};

/// What is in a file.
pub(super) struct Versions {
    pub(super) id: String,
    /// By number, one after the other; never empty. The bytes lie on the heap, so that moving them
    /// leaves no copy.
    keys: Vec<(u64, Zeroizing<Vec<u8>>)>,
}

impl Versions {
    pub(super) fn key(&self, version: &str) -> Option<&[u8]> {
        let found = self.keys.iter().find(|(number, _)| number.to_string() == version);
        found.map(|(_, key)| key.as_slice())
    }

    pub(super) fn newest(&self) -> u64 {
        self.keys.last().expect("a file without a version is not read").0
    }

    pub(super) fn oldest(&self) -> u64 {
        self.keys.first().expect("a file without a version is not read").0
    }
}

pub(super) fn create(path: &Path) -> Result<String> {
    let label = label(path);
    let failed = |problem: &str, error: io::Error| {
        Error::new(ErrorKind::Misconfigured, &label, problem).with_source(error)
    };
    let mut id = [0; 8];
    random::fill(&mut id, &label)?;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = new_line(1, &id, &label)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed("the file of the key cannot be created", error))?;
    fill(path, file, &line)
        .map_err(|error| failed("the file of the key cannot be written", error))?;
    Ok(id)
}

/// Writes a file that was made a moment ago. Where that fails, a piece of a key stays nowhere.
fn fill(path: &Path, mut file: File, content: &[u8]) -> io::Result<()> {
    let written =
        file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| sync_folder(path));
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

pub(super) fn read(path: &Path) -> Result<Versions> {
    parse(&text(&open(path)?, path)?, path)
}

pub(super) fn rotate(path: &Path) -> Result<u64> {
    let label = label(path);
    let failed = |error: io::Error| {
        let problem = "the file of the key cannot be replaced";
        Error::new(ErrorKind::Misconfigured, &label, problem).with_source(error)
    };
    let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
    if is_link {
        let problem = "the path is a symbolic link, which a new file would take the place of";
        return Err(Error::new(ErrorKind::Misconfigured, &label, problem)
            .hinted("name the file itself with --kms-kek-file"));
    }
    let file = locked(path)?;
    let mut content = text(&file, path)?;
    let versions = parse(&content, path)?;
    let version = versions.newest() + 1;
    let line = new_line(version, &versions.id, &label)?;
    let missing_newline = if content.ends_with(b"\n") { 0 } else { 1 };
    if content.len() + missing_newline + line.len() > MAX_LEN {
        let problem = format!("the file of the key is full: it has at most {MAX_LEN} bytes");
        return Err(Error::new(ErrorKind::Misconfigured, &label, problem)
            .hinted("take out the lines of the oldest versions that nothing is wrapped under"));
    }
    content.extend_from_slice(&b"\n"[..missing_newline]);
    content.extend_from_slice(&line);
    replace(path, &file, &content).map_err(failed)?;
    Ok(version)
}

/// Returns what a probe says about the place of a file.
pub(super) fn findings(path: &Path) -> Vec<String> {
    let folder = folder(path);
    let Ok(metadata) = folder.metadata() else {
        return Vec::new();
    };
    // In a sticky folder only the owner of a file replaces it.
    let (mode, sticky) = (metadata.mode(), 0o1000);
    if mode & 0o022 == 0 || mode & sticky != 0 {
        return Vec::new();
    }
    let folder = folder.display();
    vec![format!(
        "others may replace the file of the key: take that from them, chmod go-w {folder}"
    )]
}

pub(super) fn label(path: &Path) -> String {
    format!("local key {}", path.display())
}

/// Opens a file that only its owner may read, and who is either us or root.
fn open(path: &Path) -> Result<File> {
    let label = label(path);
    let wrong = |problem: &str| Error::new(ErrorKind::Misconfigured, &label, problem);
    let mut options = OpenOptions::new();
    // Or a FIFO would have us wait for its writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.read(true).custom_flags(flags).open(path).map_err(|error| {
        let (kind, hint) = match error.kind() {
            io::ErrorKind::NotFound => (ErrorKind::NotFound, NO_FILE),
            _ => (ErrorKind::Misconfigured, "name another one with --kms-kek-file"),
        };
        let problem = "the file of the key cannot be opened";
        Error::new(kind, &label, problem).with_source(error).hinted(hint)
    })?;
    let metadata = file
        .metadata()
        .map_err(|error| wrong("the file of the key cannot be read").with_source(error))?;
    if !metadata.is_file() {
        return Err(wrong("it is no regular file").hinted("name a file with --kms-kek-file"));
    }
    let user = rustix::process::geteuid();
    if metadata.uid() != user.as_raw() && metadata.uid() != 0 {
        let problem = format!("the file of the key belongs to the user {}", metadata.uid());
        let hint = format!("make it yours: chown {} {}", user.as_raw(), path.display());
        return Err(wrong(&problem).hinted(hint));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(wrong("others than the owner may read the file of the key")
            .hinted(format!("take that from them: chmod 600 {}", path.display())));
    }
    Ok(file)
}

/// Opens the file and keeps others from replacing it while it is open.
fn locked(path: &Path) -> Result<File> {
    let label = label(path);
    let failed = |error| {
        Error::new(ErrorKind::Unavailable, &label, "the file of the key cannot be locked")
            .with_source(error)
    };
    loop {
        let file = open(path)?;
        file.lock().map_err(failed)?;
        // Whoever had the lock before may have put another file in its place.
        let held = file.metadata().map_err(failed)?;
        let same = path
            .metadata()
            .is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino()));
        if same {
            return Ok(file);
        }
    }
}

/// Returns the content of an open file, with room for more.
fn text(file: &File, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    // Room is made once: a vector that grows leaves unwiped pieces behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
    Read::take(file, MAX_LEN as u64 + 1).read_to_end(&mut text).map_err(|error| {
        Error::new(ErrorKind::Misconfigured, label(path), "the file of the key cannot be read")
            .with_source(error)
    })?;
    Ok(text)
}

/// Puts a file with this content in the place of `old`, durably, owner and mode kept.
fn replace(path: &Path, old: &File, content: &[u8]) -> io::Result<()> {
    let metadata = old.metadata()?;
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".rotating");
    let new: PathBuf = folder(path).join(name);
    // We have the lock, so nobody is writing it: a crash has left it.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = (|| {
        if rustix::process::geteuid().is_root() {
            fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
        }
        file.set_permissions(std::fs::Permissions::from_mode(metadata.mode() & 0o700))?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        sync_folder(path)
    })();
    if written.is_err() {
        // It holds the key, so it had better not lie about. After the renaming there is none.
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// Reads the text of a file.
fn parse(text: &[u8], path: &Path) -> Result<Versions> {
    let foreign = || {
        let problem = "it is no file that `strongroom kms init-local` makes";
        Error::new(ErrorKind::Misconfigured, label(path), problem)
            .hinted("name the right file with --kms-kek-file")
    };
    if text.len() > MAX_LEN || !text.starts_with(MAGIC.as_bytes()) {
        return Err(foreign());
    }
    let lines = text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n');
    let mut versions =
        Versions { id: String::new(), keys: Vec::with_capacity(lines.clone().count()) };
    for (index, line) in lines.enumerate() {
        let damaged = |problem: &str| {
            let problem = format!("line {} of the file of the key {problem}", index + 1);
            Error::new(ErrorKind::Corrupt, label(path), problem)
                .hinted("put a copy of the file in its place")
        };
        let (number, id, key) = parse_line(line).ok_or_else(|| damaged("is damaged"))?;
        if versions.keys.last().is_some_and(|(last, _)| last.checked_add(1) != Some(number)) {
            return Err(damaged("is not the next version"));
        }
        if index > 0 && id != versions.id {
            return Err(damaged("is of another key"));
        }
        id.clone_into(&mut versions.id);
        versions.keys.push((number, key));
    }
    Ok(versions)
}

/// Returns the version, the identifier and the key of a line.
fn parse_line(line: &[u8]) -> Option<(u64, &str, Zeroizing<Vec<u8>>)> {
    let line = std::str::from_utf8(line).ok()?;
    let (checked, check) = line.rsplit_once(' ')?;
    if check != self::check(checked.as_bytes()) {
        return None;
    }
    let mut words = checked.split(' ');
    let (magic, version, id, key) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let number: u64 = version.parse().ok().filter(|number| *number > 0)?;
    let plain = number.to_string() == version && !id.is_empty() && words.next().is_none();
    if magic != MAGIC || !plain {
        return None;
    }
    // The estimate of the decoder wants a little more than there is.
    let mut bytes = Zeroizing::new(vec![0; KEY_LEN + 4]);
    let len = STANDARD.decode_slice(key, &mut bytes).ok().filter(|len| *len == KEY_LEN)?;
    bytes.truncate(len);
    Some((number, id, bytes))
}

/// Returns the line of a new version.
fn new_line(version: u64, id: &str, label: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    random::fill(&mut *key, label)?;
    let mut base64 = Zeroizing::new([0; KEY_LEN.div_ceil(3) * 4]);
    STANDARD.encode_slice(*key, &mut *base64).expect("the room is exactly what it needs");
    let mut line = Zeroizing::new(Vec::with_capacity(160));
    line.extend_from_slice(format!("{MAGIC} {version} {id} ").as_bytes());
    line.extend_from_slice(&*base64);
    let check = check(&line);
    line.extend_from_slice(format!(" {check}\n").as_bytes());
    Ok(line)
}

fn check(line: &[u8]) -> String {
    Sha256::digest(line).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

const NO_FILE: &str = "look whether --kms-kek-file names the right one; `strongroom kms init-local FILE` \
                       makes a new key, which opens nothing that another one has wrapped";

const MAGIC: &str = "strongroom-kek";

const KEY_LEN: usize = 32;

/// The longest file in bytes: more than 600 versions.
const MAX_LEN: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        std::fs::write(&path, "strongroom-kek 1").unwrap();
        // As on a disk that is full, nothing can be written to it.
        let unwritable = File::open(&path).unwrap();
        fill(&path, unwritable, b"strongroom-kek 1 ...").unwrap_err();
        assert!(!path.exists());
    }
}
